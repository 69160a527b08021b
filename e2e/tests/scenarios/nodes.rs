//! Nodes come, go, restart and move: the others follow within two seconds, and nothing is left or leaked.

use std::time::Duration;

use crate::cluster::{Cluster, in_url};

/// How soon peers must follow.
const FOLLOWED: Duration = Duration::from_secs(2);

fn routes(cluster: &Cluster, node: &str) -> String {
    cluster.on(node, "ip route show proto 117") + &cluster.on(node, "ip -6 route show proto 117")
}

fn pod_cidr(cluster: &Cluster, node: &str) -> String {
    cluster.field(&format!("nodenetwork/{node}"), ".spec.podCIDRs[0]")
}

/// Waits until `node` has (or no longer has) a route to `cidr`, by way of `gateway` where one is named.
fn wait_for_route(cluster: &Cluster, node: &str, cidr: &str, gateway: Option<&str>) {
    cluster.wait_for(&format!("{node}'s route to {cidr} by {gateway:?}"), FOLLOWED, || {
        let all = routes(cluster, node);
        let line = all.lines().find(|line| line.starts_with(cidr));
        let right = match (line, gateway) {
            (Some(line), Some(gateway)) => line.contains(&format!("via {gateway} ")),
            (line, gateway) => line.is_none() && gateway.is_none(),
        };
        if right { Ok(()) } else { Err(all) }
    });
}

fn assert_reachable(cluster: &Cluster, from: &str, to: &str) {
    let to = cluster.pod_seen(to);
    for address in to.addresses {
        cluster.in_pod(from, &format!("curl -sS -g -m 2 http://{}:8080/hostname", in_url(address)));
    }
}

#[test]
fn peers_follow_nodes_that_come_go_restart_and_move() {
    let cluster = Cluster::up("peers");
    cluster.pod("a", "n1");
    a_node_joins(&cluster);
    a_node_restarts(&cluster);
    a_node_moves(&cluster);
    a_node_object_is_made_anew(&cluster);
    a_node_leaves(&cluster);
}

fn a_node_joins(cluster: &Cluster) {
    let node = cluster.lab.node_add(None).unwrap();
    assert_eq!(node.name.as_str(), "n4");
    cluster.kubectl("wait --for=create nodenetwork/n4 --timeout=180s");
    let cidr = pod_cidr(cluster, "n4");
    let address = cluster.lab.node("n4").unwrap().addresses()[0].to_string();
    wait_for_route(cluster, "n1", &cidr, Some(&address));
    cluster.kubectl("wait --for=condition=Ready node/n4 --timeout=180s");
    cluster.pod("on-n4", "n4");
    assert_reachable(cluster, "a", "on-n4");
}

fn a_node_restarts(cluster: &Cluster) {
    let cidr = pod_cidr(cluster, "n4");
    cluster.lab.node_restart("n4").unwrap();
    cluster.wait_for("n4 to be programmed again", Duration::from_secs(120), || {
        let here = routes(cluster, "n4");
        if here.contains(&pod_cidr(cluster, "n1")) { Ok(()) } else { Err(here) }
    });
    assert_eq!(pod_cidr(cluster, "n4"), cidr, "a restart keeps the node's range");
    cluster.kubectl("delete pod on-n4 --force --grace-period=0");
    cluster.pod("again-on-n4", "n4");
    assert_reachable(cluster, "a", "again-on-n4");
}

fn a_node_moves(cluster: &Cluster) {
    let cidr = pod_cidr(cluster, "n4");
    cluster.lab.node_readdress("n4").unwrap();
    let address = cluster.lab.node("n4").unwrap().addresses()[0].to_string();
    cluster.wait_for("the Node's new address", Duration::from_secs(120), || {
        let seen = cluster.field("node/n4", ".status.addresses[0].address");
        if seen == address { Ok(()) } else { Err(seen) }
    });
    for peer in ["n1", "n2", "n3"] {
        wait_for_route(cluster, peer, &cidr, Some(&address));
    }
    assert_reachable(cluster, "a", "again-on-n4");
}

fn a_node_object_is_made_anew(cluster: &Cluster) {
    let before = cluster.field("nodenetwork/n4", ".metadata.uid");
    let cidr = pod_cidr(cluster, "n4");
    let manifest = cluster.kubectl("get node n4 -o json");
    let mut node: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    // The kubelet tells the new object what it told the old one.
    node.as_object_mut().unwrap().remove("status");
    let metadata = node["metadata"].as_object_mut().unwrap();
    for field in ["uid", "resourceVersion", "creationTimestamp", "managedFields"] {
        metadata.remove(field);
    }
    cluster.kubectl("delete node n4");
    cluster.wait_for("the end of the old NodeNetwork", FOLLOWED, || {
        let seen = cluster.kubectl("get nodenetwork n4 --ignore-not-found -o jsonpath={.metadata.uid}");
        if seen == before { Err(seen) } else { Ok(()) }
    });
    let recreated = cluster.lab.apply(&node.to_string());
    recreated.unwrap_or_else(|error| panic!("{error}"));
    cluster.wait_for("the kubelet's word to the new Node", Duration::from_secs(120), || {
        let seen = cluster.field("node/n4", ".status.addresses[0].address");
        if seen.is_empty() { Err(seen) } else { Ok(()) }
    });
    cluster.wait_for("a range for the new Node", FOLLOWED, || {
        if cluster.kubectl("get nodenetwork n4 --ignore-not-found -o name").is_empty() {
            return Err("no NodeNetwork".to_owned());
        }
        let uid = cluster.field("nodenetwork/n4", ".metadata.ownerReferences[0].uid");
        if uid == cluster.field("node/n4", ".metadata.uid") { Ok(()) } else { Err(uid) }
    });
    let address = cluster.lab.node("n4").unwrap().addresses()[0].to_string();
    let now = pod_cidr(cluster, "n4");
    wait_for_route(cluster, "n1", &now, Some(&address));
    if now != cidr {
        wait_for_route(cluster, "n1", &cidr, None);
    }
    no_range_is_given_twice(cluster, 4);
    cluster.kubectl("wait --for=condition=Ready nodenetwork/n4 --timeout=180s");
}

fn a_node_leaves(cluster: &Cluster) {
    let cidr = pod_cidr(cluster, "n4");
    cluster.lab.node_remove("n4").unwrap();
    for peer in ["n1", "n2", "n3"] {
        wait_for_route(cluster, peer, &cidr, None);
    }
    cluster.wait_for("the end of its NodeNetwork", FOLLOWED, || {
        let left = cluster.kubectl("get nodenetwork n4 --ignore-not-found -o name");
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
    no_range_is_given_twice(cluster, 3);
    cluster.wait_ready();
}

fn no_range_is_given_twice(cluster: &Cluster, nodes: usize) {
    let all = cluster.kubectl("get nodenetworks -o jsonpath={.items[*].spec.podCIDRs[*]}");
    let mut ranges: Vec<&str> = all.split_whitespace().collect();
    assert_eq!(ranges.len(), nodes * 2, "{all}");
    ranges.sort_unstable();
    ranges.dedup();
    assert_eq!(ranges.len(), nodes * 2, "{all}");
}
