//! By which address a node is reached, where a rule finds it: peers and status follow what becomes of it.

use crate::cluster::{Cluster, Pod};
use crate::live::{FOLLOWED, cluster, declare, wait_for_route};
use crate::reach;

/// Each node gets addresses of another range on its uplink, and is reached by those where they are chosen.
#[test]
fn the_address_of_a_node_is_the_one_that_a_rule_finds() {
    let cluster = cluster("node-address", 1, &network(""));
    for (node, last) in [("n1", 11), ("n2", 12), ("n3", 13)] {
        cluster.on(node, &format!("ip address add 10.77.0.{last}/24 dev eth0"));
        cluster.on(node, &format!("ip address add fd00:77::{last}/64 dev eth0 nodad"));
    }
    let pods = [("a", "n1"), ("b", "n2"), ("c", "n3")].map(|(name, node)| cluster.pod(name, node));
    wait_for_route(&cluster, "n1", "n2", "via 172.30.0.12|via fd00:172:30::c");
    let (other, usual) = ("via 10.77.0.12|via fd00:77::12", "via 172.30.0.12|via fd00:172:30::c");
    for (rule, words) in [
        (", nodeAddress: {mode: CIDR, cidrs: [10.77.0.0/24, 'fd00:77::/64']}", other),
        // The address that it has is on that interface: there is no reason to take another.
        (", nodeAddress: {mode: Interface, interfaces: ['eth*']}", other),
        (", nodeAddress: {mode: CanReach, canReach: [172.30.255.2, 'fd00:172:30:ff::2']}", usual),
        (", nodeAddress: {mode: CIDR, cidrs: [10.77.0.0/24, 'fd00:77::/64']}", other),
        (", nodeAddress: {mode: InternalIP}", usual),
    ] {
        declare(&cluster, &network(rule));
        wait_for_route(&cluster, "n1", "n2", words);
        cluster.wait_ready();
        reach::pairs(&cluster, &pods);
        println!("{rule}: {}", cluster.field("nodenetwork/n2", ".spec.addresses"));
    }
    the_link_goes_and_another_one_serves(&cluster, &pods);
    nothing_is_left_that_fits(&cluster);
    the_way_changes(&cluster, &pods);
}

fn network(rule: &str) -> String {
    format!("attachment: {{mode: Routed}}, transport: {{mode: Direct}}{rule}")
}

/// Waits until `n2` has told these addresses, and `n1` reaches it by them.
#[track_caller]
fn follows(cluster: &Cluster, what: &str, addresses: [&str; 2]) {
    let begin = std::time::Instant::now();
    let wanted = format!("[\"{}\",\"{}\"]", addresses[0], addresses[1]);
    for field in [".status.nodeAddresses", ".spec.addresses"] {
        cluster.wait_for(&format!("{what}: {field}"), FOLLOWED, || {
            let seen = cluster.field("nodenetwork/n2", field);
            if seen == wanted { Ok(()) } else { Err(seen) }
        });
    }
    wait_for_route(cluster, "n1", "n2", &format!("via {}|via {}", addresses[0], addresses[1]));
    println!("{what}: followed within {:?}", begin.elapsed());
    cluster.wait_ready();
}

/// Plugs another link of `n2` into the wire.
fn plug(cluster: &Cluster) {
    let pid = cluster.lab.node("n2").unwrap().space().unwrap().pid();
    let wire = cluster.lab.space("wire").unwrap();
    let lines =
        [format!("link add e-stor type veth peer name stor0 netns {pid}"), "link set e-stor master br0 up".into()];
    wire.ip(&lines).unwrap();
    cluster.on("n2", "ip link set stor0 up");
    give(cluster, "n2", "stor0", 12);
}

/// Gives a node addresses of a range that nothing else uses.
fn give(cluster: &Cluster, node: &str, link: &str, last: u8) {
    cluster.on(node, &format!("ip address add 10.78.0.{last}/24 dev {link}"));
    cluster.on(node, &format!("ip address add fd00:78::{last}/64 dev {link} nodad"));
}

/// The chosen link has another address, then is gone, then is there again.
fn the_link_goes_and_another_one_serves(cluster: &Cluster, pods: &[Pod]) {
    plug(cluster);
    give(cluster, "n1", "eth0", 11);
    give(cluster, "n3", "eth0", 13);
    declare(cluster, &network(", nodeAddress: {mode: Interface, interfaces: ['stor*', 'eth*']}"));
    follows(cluster, "another link is chosen", ["10.78.0.12", "fd00:78::12"]);
    give(cluster, "n2", "stor0", 22);
    cluster.on("n2", "ip address delete 10.78.0.12/24 dev stor0");
    cluster.on("n2", "ip address delete fd00:78::12/64 dev stor0");
    follows(cluster, "the link has another address", ["10.78.0.22", "fd00:78::22"]);
    reach::pairs(cluster, &pods[..2]);
    cluster.on("n2", "ip link delete stor0");
    // The lowest of the link that fits next.
    follows(cluster, "the link is gone", ["10.77.0.12", "fd00:77::12"]);
    reach::pairs(cluster, &pods[..2]);
    plug(cluster);
    follows(cluster, "the link is there again", ["10.78.0.12", "fd00:78::12"]);
}

/// No address is in the ranges any more: the node says so, and is reached by what it was told last.
fn nothing_is_left_that_fits(cluster: &Cluster) {
    declare(cluster, &network(", nodeAddress: {mode: CIDR, cidrs: [10.78.0.0/24, 'fd00:78::/64']}"));
    follows(cluster, "by ranges", ["10.78.0.12", "fd00:78::12"]);
    cluster.on("n2", "ip link set stor0 down");
    cluster.wait_for("what n2 says of that", FOLLOWED, || {
        let said = cluster.field("nodenetwork/n2", ".status.conditions[?(@.status==\"False\")].message");
        let told = cluster.field("nodenetwork/n2", ".status.nodeAddresses");
        if said.contains("spec.nodeAddress.cidrs") && told.is_empty() { Ok(()) } else { Err(said + &told) }
    });
    let kept = cluster.field("nodenetwork/n2", ".spec.addresses");
    assert_eq!(kept, "[\"10.78.0.12\",\"fd00:78::12\"]");
    cluster.on("n2", "ip link set stor0 up");
    // The kernel took it away when the link went down.
    cluster.on("n2", "ip address replace fd00:78::12/64 dev stor0 nodad");
    follows(cluster, "the ranges hold an address again", ["10.78.0.12", "fd00:78::12"]);
}

/// The way toward an outside address leads from another of the node's own.
fn the_way_changes(cluster: &Cluster, pods: &[Pod]) {
    declare(cluster, &network(", nodeAddress: {mode: CanReach, canReach: [172.30.255.2, 'fd00:172:30:ff::2']}"));
    let usual = ["172.30.0.12", "fd00:172:30::c"];
    follows(cluster, "by the way to an address", usual);
    let ways = [
        ("-4", "172.30.255.2/32 via 172.30.0.1 src 10.77.0.12"),
        ("-6", "fd00:172:30:ff::2/128 via fd00:172:30::1 src fd00:77::12"),
    ];
    for (family, way) in ways {
        cluster.on("n2", &format!("ip {family} route add {way} dev eth0"));
    }
    follows(cluster, "the way leads from another address", ["10.77.0.12", "fd00:77::12"]);
    reach::pairs(cluster, &pods[..2]);
    for (family, way) in ways {
        cluster.on("n2", &format!("ip {family} route delete {way} dev eth0"));
    }
    follows(cluster, "the way is as it was", usual);
}
