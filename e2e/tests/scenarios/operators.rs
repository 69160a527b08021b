//! Operators: one leads, another takes over, two at once give nothing twice, and a full range is told of.

use std::time::{Duration, Instant};

use crate::cluster::{Cluster, kill};

fn leader(cluster: &Cluster) -> String {
    cluster.kubectl("-n towpath-system get lease towpath-operator -o jsonpath={.spec.holderIdentity}")
}

/// The node of the pod that leads.
fn node_of_leader(cluster: &Cluster) -> String {
    let holder = leader(cluster);
    let pods = cluster.kubectl("-n towpath-system get pods -l app.kubernetes.io/name=towpath-operator -o jsonpath={range.items[*]}{.metadata.name}={.spec.nodeName},{end}");
    let pod = pods.split(',').find_map(|pod| pod.split_once('=').filter(|(name, _)| holder.starts_with(name)));
    pod.unwrap_or_else(|| panic!("{holder} leads, but there are {pods}")).1.to_owned()
}

#[test]
fn a_second_replica_takes_over_in_seconds() {
    let cluster = Cluster::up("leader");
    let before = leader(&cluster);
    let pid = cluster.pid_of(&node_of_leader(&cluster), "towpath-operator").unwrap();
    let start = Instant::now();
    kill(pid);
    cluster.wait_for("another leader", Duration::from_secs(120), || {
        let now = leader(&cluster);
        if now == before || now.is_empty() { Err(now) } else { Ok(()) }
    });
    println!("took over after {:?}", start.elapsed());
    let node = cluster.lab.node_add(None).unwrap();
    cluster.kubectl(&format!("wait --for=create nodenetwork/{} --timeout=180s", node.name));
    cluster.wait_ready();
}

#[test]
fn running_out_of_ranges_names_the_node_and_frees_with_it() {
    let cluster = Cluster::bare_with("full", |config| config.nodes = 3);
    cluster.install();
    // Two blocks for three nodes.
    cluster.apply(
        "{apiVersion: towpath.dev/v1alpha1, kind: ClusterNetwork, metadata: {name: default}, spec: {ipam: {mode: \
         NodeCIDR, allocation: Allocate, podCIDRs: ['10.244.0.0/23'], nodeMaskSize: {ipv4: 24}}, attachment: {mode: \
         Routed}, transport: {mode: Direct}, masquerade: {mode: LeavingCluster}}}",
    );
    let message = || cluster.field("clusternetwork/default", ".status.conditions[?(@.type==\"Ready\")].message");
    let names = ["n1", "n2", "n3"];
    cluster.wait_for("a condition that names a node", Duration::from_secs(120), || {
        let text = message();
        if names.iter().any(|name| text.contains(name)) && text.contains("10.244.0.0/23") { Ok(()) } else { Err(text) }
    });
    let has = |name: &str| !cluster.kubectl(&format!("get nodenetwork {name} --ignore-not-found -o name")).is_empty();
    let without: Vec<&&str> = names.iter().filter(|name| !has(name)).collect();
    assert_eq!(without.len(), 1, "{without:?} have no range");
    let with = names.iter().find(|name| has(name)).unwrap();
    cluster.lab.node_remove(with).unwrap();
    cluster.kubectl(&format!("wait --for=create nodenetwork/{} --timeout=180s", without[0]));
    cluster.wait_ready();
}

/// Counts follow the pods within seconds: what changes them has not changed nothing.
fn every_pod_is_counted(cluster: &Cluster) {
    cluster.kubectl("-n kube-system rollout status deployment coredns --timeout=150s");
    let pods = cluster.kubectl("-n kube-system get pods -l k8s-app=kube-dns -o name").lines().count();
    let path = "jsonpath={.items[*].status.addresses[?(@.family==\"IPv4\")].used}";
    cluster.wait_for("the count of every pod", Duration::from_secs(120), || {
        let used =
            cluster.lab.kubectl(&["get", "nodenetworks", "--output", path]).map_err(|error| error.to_string())?;
        let sum: usize = used.split_whitespace().filter_map(|number| number.parse::<usize>().ok()).sum();
        if sum == pods { Ok(()) } else { Err(format!("{used}, and there are {pods} pods")) }
    });
}

/// What something is when it has been so for twice as long as counts are held back.
fn settled(cluster: &Cluster, read: impl Fn() -> String) -> String {
    let (mut last, mut since) = (read(), Instant::now());
    cluster.wait_for("nothing to be written any more", Duration::from_secs(120), || {
        let now = read();
        if now != last {
            (last, since) = (now, Instant::now());
        }
        if since.elapsed() > Duration::from_secs(12) { Ok(()) } else { Err(last.clone()) }
    });
    last
}

#[test]
fn nothing_is_written_when_nothing_changed() {
    let cluster = Cluster::up("quiet");
    every_pod_is_counted(&cluster);
    let versions =
        || cluster.kubectl("get clusternetworks,nodenetworks -o jsonpath={.items[*].metadata.resourceVersion}");
    let before = settled(&cluster, versions);
    // Both replicas start anew, and so do the agents.
    cluster.kubectl("-n towpath-system rollout restart deployment/towpath-operator daemonset/towpath-agent");
    cluster.kubectl("-n towpath-system rollout status deployment/towpath-operator --timeout=120s");
    cluster.kubectl("-n towpath-system rollout status daemonset/towpath-agent --timeout=120s");
    cluster.wait_ready();
    assert_eq!(versions(), before);
}
