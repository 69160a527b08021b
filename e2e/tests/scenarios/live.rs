//! What may be changed of a network while pods run, and what is refused.

use std::time::Duration;

use towpath_e2e::Wire;

use crate::cluster::{Cluster, Pod, eventually};
use crate::reach;
use crate::stream::Stream;

/// How soon every node follows a change.
pub const FOLLOWED: Duration = Duration::from_secs(10);

/// Three nodes with this network; `n2` is in a subnet of its own where there are two.
pub fn cluster(name: &str, subnets: u8, network: &str) -> Cluster {
    let cluster = Cluster::bare_with(name, |config| {
        config.wire = Wire::Dual;
        config.subnets = subnets;
    });
    cluster.install();
    declare(&cluster, network);
    cluster.wait_ready();
    cluster
}

/// Applies a network of /24 and /64 blocks; `rest` is what else its spec has.
pub fn declare(cluster: &Cluster, rest: &str) {
    cluster.apply(&format!(
        "{{apiVersion: towpath.dev/v1alpha1, kind: ClusterNetwork, metadata: {{name: default}}, spec: {{ipam: {{mode: \
         NodeCIDR, allocation: Allocate, podCIDRs: [10.244.0.0/16, 'fd00:10:244::/56']}}, masquerade: {{mode: \
         LeavingCluster}}, {rest}}}}}"
    ));
}

/// Waits until a node's route to another node's pods has all of these words.
#[track_caller]
pub fn wait_for_route(cluster: &Cluster, node: &str, to: &str, words: &str) {
    for (family, index) in [("-4", 0), ("-6", 1)] {
        let block = cluster.field(&format!("nodenetwork/{to}"), &format!(".spec.podCIDRs[{index}]"));
        let words = words.split('|').nth(index).unwrap_or(words);
        cluster.wait_for(&format!("{node}'s route to {block}: {words}"), FOLLOWED, || {
            let route = cluster.on(node, &format!("ip {family} route show {block}"));
            if route.contains(words) { Ok(()) } else { Err(route) }
        });
    }
}

#[test]
fn pods_of_every_attachment_live_on_one_node_and_reach_each_other() {
    let vxlan = "transport: {mode: VXLAN}";
    let cluster = cluster("attachments", 2, &format!("attachment: {{mode: Routed}}, {vxlan}"));
    let mut pods: Vec<Pod> = Vec::new();
    for (mode, letter) in [("Routed", 'r'), ("LinkLocal", 'l'), ("Bridge", 'b')] {
        declare(&cluster, &format!("attachment: {{mode: {mode}}}, {vxlan}"));
        for node in ["n1", "n2", "n3"] {
            eventually(&format!("{mode} on {node}"), FOLLOWED, || {
                let file = cluster.on(node, "cat /run/towpath/node.json");
                if file.contains(&format!("\"{mode}\"")) { Ok(()) } else { Err(file) }
            });
        }
        pods.extend(["n1", "n2"].map(|node| cluster.pod(&format!("{letter}-{node}"), node)));
        let ways = reach::pairs(&cluster, &pods) + reach::outside(&cluster, &pods);
        println!("{mode} added: {ways} ways");
    }
    let address = |pod: &str| cluster.in_pod(pod, "ip -4 -o address show dev eth0");
    assert!(address("r-n1").contains("/24 ") && address("b-n1").contains("/24 "), "{}", address("r-n1"));
    assert!(address("l-n1").contains("/32 "), "{}", address("l-n1"));
    cluster.wait_ready();
    assert_eq!(cluster.field("clusternetwork/default", ".status.attachment"), "Bridge");
    // Those of the first mode go by their own ways, and leave nothing.
    cluster.kubectl("delete pod r-n1 l-n1 --wait");
    let gone = |pod: &&Pod| pod.name == "r-n1" || pod.name == "l-n1";
    for pod in pods.iter().filter(gone) {
        let route = cluster.on("n1", &format!("ip route show {}", pod.addresses[0]));
        assert!(route.is_empty(), "{route}");
    }
    pods.retain(|pod| !gone(&pod));
    reach::pairs(&cluster, &pods);
}

#[test]
fn a_node_that_is_an_exception_has_its_own_transport_and_talks_to_all_others() {
    let rest = "attachment: {mode: Routed}, transport: {mode: Direct}, exceptions: [{name: tunnelled, nodeSelector: \
                {matchLabels: {example.com/tunnelled: 'yes'}}, transport: {mode: VXLAN}}]";
    let cluster = cluster("exceptions", 1, rest);
    let pods = [("a", "n1"), ("b", "n2"), ("c", "n3")].map(|(name, node)| cluster.pod(name, node));
    wait_for_route(&cluster, "n1", "n2", "dev eth0");
    let stream = Stream::start(&cluster, &pods[0], &pods[1], 20);
    cluster.kubectl("label node n2 example.com/tunnelled=yes");
    cluster.wait_for("the exception in the NodeNetwork", FOLLOWED, || {
        let prefers = cluster.field("nodenetwork/n2", ".spec.transport.prefers[0]");
        if prefers == "VXLAN" { Ok(()) } else { Err(prefers) }
    });
    wait_for_route(&cluster, "n1", "n2", "dev towvxlan4|dev towvxlan6");
    wait_for_route(&cluster, "n2", "n1", "dev towvxlan4|dev towvxlan6");
    wait_for_route(&cluster, "n1", "n3", "dev eth0");
    reach::pairs(&cluster, &pods);
    cluster.kubectl("label node n2 example.com/tunnelled-");
    wait_for_route(&cluster, "n1", "n2", "dev eth0");
    wait_for_route(&cluster, "n2", "n1", "dev eth0");
    reach::pairs(&cluster, &pods);
    while stream.is_running() {
        std::thread::park_timeout(Duration::from_millis(100));
    }
    stream.finish().assert_nothing_lost();
    cluster.wait_ready();
    refused(&cluster);
}

/// What would part the nodes from each other is refused, with what to do instead.
fn refused(cluster: &Cluster) {
    let patch = r#"{"spec":{"transport":{"mode":"VXLAN"}}}"#;
    let answer = cluster.lab.kubectl(&["patch", "clusternetwork", "default", "--type=merge", "-p", patch]);
    let message = answer.expect_err("transport.mode was changed under nodes that use it").to_string();
    println!("{message}");
    assert!(message.contains("transport") && message.contains("exceptions"), "{message}");
    assert_eq!(cluster.field("clusternetwork/default", ".spec.transport.mode"), "Direct");
}
