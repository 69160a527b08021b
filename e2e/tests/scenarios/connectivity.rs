//! Who reaches whom, from which address, by which way.

use std::net::IpAddr;

use crate::cluster::{Cluster, Pod, in_url};

/// Which source the server at `url` sees.
fn seen_source(cluster: &Cluster, from: &Pod, url: &str) -> IpAddr {
    let answer = cluster.in_pod(&from.name, &format!("curl -sS -g -m 3 {url}/clientip"));
    let address: std::net::SocketAddr = answer.trim().parse().unwrap_or_else(|_| panic!("{url}: {answer}"));
    address.ip().to_canonical()
}

fn node_addresses(cluster: &Cluster, node: &str) -> Vec<IpAddr> {
    cluster.lab.node(node).unwrap().addresses()
}

#[test]
fn every_pair_talks_and_is_seen_by_its_own_address() {
    let cluster = Cluster::up("connect");
    let pods = [("a", "n1"), ("b", "n1"), ("c", "n2"), ("d", "n3")].map(|(name, node)| cluster.pod(name, node));
    let mut pairs = 0;
    for from in &pods {
        assert_eq!(from.addresses.len(), 2, "{from:?} has no address of each family");
        for to in pods.iter().filter(|to| to.name != from.name) {
            for address in &to.addresses {
                let source = seen_source(&cluster, from, &format!("http://{}:8080", in_url(*address)));
                assert!(from.addresses.contains(&source), "{} to {address} came from {source}", from.name);
                pairs += 1;
            }
        }
        for address in cluster.lab.outside_addresses() {
            let source = seen_source(&cluster, from, &format!("http://{}:8080", in_url(address)));
            assert!(node_addresses(&cluster, &from.node).contains(&source), "outside saw {source} of {}", from.name);
            pairs += 1;
        }
    }
    assert_eq!(pairs, 4 * 3 * 2 + 4 * 2);
    a_service_by_name(&cluster, &pods[0]);
    nodes_and_pods_reach_each_other(&cluster, &pods);
    the_path_is_two_hops(&cluster, &pods);
    the_kernel_is_that_of_the_profile(&cluster, &pods);
}

fn a_service_by_name(cluster: &Cluster, from: &Pod) {
    cluster.kubectl("expose pod c --name=greeter --port=80 --target-port=8080");
    let answer = cluster.in_pod(&from.name, "curl -sS -m 3 http://greeter.default.svc.cluster.local/hostname");
    assert_eq!(answer, "c");
}

fn nodes_and_pods_reach_each_other(cluster: &Cluster, pods: &[Pod]) {
    for node in ["n1", "n2", "n3"] {
        for pod in pods {
            for address in &pod.addresses {
                cluster.on(node, &format!("ping -c 1 -W 2 {address}"));
            }
            for address in node_addresses(cluster, node) {
                cluster.in_pod(&pod.name, &format!("ping -c 1 -W 2 {address}"));
            }
        }
    }
}

fn the_path_is_two_hops(cluster: &Cluster, pods: &[Pod]) {
    let (from, to) = (&pods[0], &pods[2]);
    for address in &to.addresses {
        let answer = cluster.in_pod(&from.name, &format!("ping -c 1 -W 2 {address}"));
        assert!(answer.contains("ttl=62"), "{answer}");
    }
    let near = cluster.in_pod(&from.name, &format!("ping -c 1 -W 2 {}", pods[1].addresses[0]));
    assert!(near.contains("ttl=63"), "{near}");
}

/// Line by line what `profiles.md` says of kindnet, and one line more: unused addresses of a node's own block are
/// dropped there (a blackhole), instead of following the default route out and back.
fn the_kernel_is_that_of_the_profile(cluster: &Cluster, pods: &[Pod]) {
    let cidr = |node: &str| cluster.field(&format!("nodenetwork/{node}"), ".spec.podCIDRs[0]");
    let on_n1: Vec<&Pod> = pods.iter().filter(|p| p.node == "n1").collect();
    let own = cidr("n1");
    let prefix = own.trim_end_matches("0/24");
    let gateway = format!("{prefix}1");
    let mut expected: Vec<String> = vec![format!("blackhole {own} proto 117")];
    for node in ["n2", "n3"] {
        expected.push(format!("{} via {} dev eth0 proto 117", cidr(node), node_addresses(cluster, node)[0]));
    }
    let links = cluster.on("n1", "ip -o link show");
    let veths: Vec<&str> = links
        .lines()
        .filter_map(|line| line.split(": ").nth(1)?.split('@').next())
        .filter(|name| name.starts_with("tow"))
        .collect();
    let pod_routes: Vec<String> = cluster
        .on("n1", "ip route show proto 117")
        .lines()
        .filter(|line| line.contains("dev tow"))
        .map(|line| line.trim_end().to_owned())
        .collect();
    assert_eq!(veths.len(), pod_routes.len(), "a veth and a route for each pod of the node: {links}");
    for pod in &on_n1 {
        let route = pod_routes.iter().find(|line| line.starts_with(&format!("{} dev tow", pod.addresses[0])));
        assert!(route.is_some_and(|r| r.ends_with("scope link")), "{pod_routes:?}");
    }
    for veth in &veths {
        let addresses = cluster.on("n1", &format!("ip -4 -o address show dev {veth}"));
        assert!(addresses.contains(&format!("inet {gateway}/32")), "{addresses}");
        let link = cluster.on("n1", &format!("ip -o link show dev {veth}"));
        assert!(link.contains("mtu 1500") && !link.contains("master"), "{link}");
    }
    let between: Vec<String> = cluster
        .on("n1", "ip route show proto 117")
        .lines()
        .filter(|line| !line.contains("dev tow"))
        .map(|line| line.replace("  ", " ").trim_end().to_owned())
        .collect();
    let expected: Vec<String> = expected.iter().map(|line| line.replace(" proto 117", "")).collect();
    assert_eq!(sorted(between), sorted(expected));
    let pod = on_n1[0];
    let address = pod.addresses[0];
    assert_eq!(
        cluster.in_pod(&pod.name, "ip -4 route").lines().map(str::trim_end).collect::<Vec<_>>(),
        [
            format!("default via {gateway} dev eth0"),
            format!("{own} via {gateway} dev eth0 src {address}"),
            format!("{gateway} dev eth0 scope link"),
        ]
    );
    let inside = cluster.in_pod(&pod.name, "ip -4 -o address show dev eth0");
    assert!(inside.contains(&format!("inet {address}/24")), "{inside}");
}

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}

#[test]
fn host_ports_lead_to_their_pod_from_inside_and_outside() {
    let cluster = Cluster::up("hostports");
    let client = cluster.pod("client", "n2");
    cluster.start_pod("server", "n1", ", hostPort: 8088");
    cluster.kubectl("wait --for=condition=Ready pod/server --timeout=60s");
    for address in node_addresses(&cluster, "n1") {
        let url = format!("http://{}:8088/hostname", in_url(address));
        assert_eq!(cluster.in_pod(&client.name, &format!("curl -sS -g -m 3 {url}")), "server");
        assert_eq!(cluster.in_pod("server", &format!("curl -sS -g -m 3 {url}")), "server", "a pod by its own port");
        let outside = cluster.lab.outside().unwrap().exec(&["curl", "-sS", "-g", "-m", "3", &url]).unwrap();
        assert_eq!(String::from_utf8_lossy(&outside.stdout), "server");
    }
    cluster.kubectl("delete pod server --wait");
    let left = cluster.on("n1", "nft list map inet towpath hostports-v4");
    assert!(!left.contains("8088"), "{left}");
}

#[test]
fn a_cluster_of_ipv6_alone_talks() {
    let cluster = Cluster::bare_with("sixes", |config| {
        config.wire = towpath_e2e::Wire::Ipv6;
        config.nodes = 2;
    });
    cluster.install();
    cluster.apply(
        "{apiVersion: towpath.dev/v1alpha1, kind: ClusterNetwork, metadata: {name: default}, spec: {ipam: {mode: \
         NodeCIDR, allocation: Allocate, podCIDRs: ['fd00:10:244::/56'], nodeMaskSize: {ipv6: 64}}, attachment: {mode: \
         Routed}, transport: {mode: Direct}, masquerade: {mode: LeavingCluster}}}",
    );
    cluster.wait_ready();
    let (a, b) = (cluster.pod("a", "n1"), cluster.pod("b", "n2"));
    let source = seen_source(&cluster, &a, &format!("http://{}:8080", in_url(b.addresses[0])));
    assert_eq!(source, a.addresses[0]);
    let outside = cluster.lab.outside_addresses()[0];
    let source = seen_source(&cluster, &a, &format!("http://{}:8080", in_url(outside)));
    assert_eq!(source, node_addresses(&cluster, "n1")[0]);
}

#[test]
fn pod_cidrs_of_the_nodes_are_adopted() {
    let cluster = Cluster::bare_with("adopt", |config| {
        config.nodes = 2;
        config.pod_cidrs = vec!["10.200.0.0/16".parse().unwrap(), "fd00:10:200::/56".parse().unwrap()];
    });
    cluster.install();
    cluster.declare("config/samples/adopt.yaml");
    cluster.wait_ready();
    for node in ["n1", "n2"] {
        let given = cluster.field(&format!("node/{node}"), ".spec.podCIDRs");
        assert_eq!(cluster.field(&format!("nodenetwork/{node}"), ".spec.podCIDRs"), given);
        assert!(given.contains("10.200."), "{given}");
    }
    let (a, b) = (cluster.pod("a", "n1"), cluster.pod("b", "n2"));
    assert_eq!(seen_source(&cluster, &a, &format!("http://{}:8080", in_url(b.addresses[0]))), a.addresses[0]);
}
