//! Tunnels between two agents, by what this kernel has: VXLAN.

use std::fs;
use std::time::Instant;

use towpath_kernel::testing::isolated;

use super::node::wait_for;
use super::pair::{self, Node, SOON};

const VXLAN: &str = "{prefers: [VXLAN], accepts: [VXLAN]}";

/// Two nodes that reach each other by VXLAN.
fn two() -> (Node, Node) {
    let (mut a, mut b) = pair::make(VXLAN, "[VXLAN]");
    a.start();
    b.start();
    a.wait_until_ready();
    b.wait_until_ready();
    wait_for("the tunnel", SOON, || a.reaches("10.244.2.0"));
    (a, b)
}

#[test]
fn two_nodes_reach_each_other_by_a_tunnel_of_both_families() {
    isolated("tunnels::two_nodes_reach_each_other_by_a_tunnel_of_both_families", || {
        let (a, b) = two();
        assert!(b.reaches("10.244.1.0"));
        let routes = a.run("ip route show proto 117");
        assert!(routes.contains("via 10.244.2.0 dev towvxlan4 onlink"), "{routes}");
        let routes = a.run("ip -6 route show proto 117");
        assert!(routes.contains("fd00:244:0:2::/64") && routes.contains("dev towvxlan6"), "{routes}");
        wait_for("IPv6", SOON, || a.reaches("fd00:244:0:2::"));
        assert!(fs::read_to_string(a.path("towpath-state/node.json")).unwrap().contains("\"mtu\": 1430"));
    });
}

#[test]
fn every_kind_of_object_is_put_right() {
    isolated("tunnels::every_kind_of_object_is_put_right", || {
        let (a, _b) = two();
        let kept = a.kept();
        for change in [
            "ip link set towvxlan4 down",
            "ip link set towvxlan4 mtu 1300",
            "ip link set towvxlan4 address 02:00:00:00:00:01",
            "ip link delete towvxlan4",
            "ip address delete 10.244.1.0/32 dev towvxlan4",
            "ip address add 10.99.0.1/32 dev towvxlan4",
            "ip route delete 10.244.2.0/24",
            "ip route replace 10.244.2.0/24 via 172.16.30.2 proto 117",
            "ip route delete blackhole 10.244.1.0/24",
            "ip -6 route delete fd00:244:0:2::/64",
            "ip nexthop flush proto 117",
            "ip neighbour delete 10.244.2.0 dev towvxlan4",
            "ip neighbour replace 10.244.2.0 lladdr 02:00:00:00:00:01 dev towvxlan4 nud permanent",
            "bridge fdb add 02:00:00:00:00:09 dev towvxlan4 dst 172.16.30.9",
            "sysctl -q -w net.ipv4.conf.towvxlan4.rp_filter=0",
            "sysctl -q -w net.ipv4.ip_forward=0",
            "nft flush set inet towpath nodes-v4",
            "nft flush chain inet towpath input",
            "nft delete table inet towpath",
        ] {
            let drift = a.metric("drift");
            a.run(change);
            wait_for(&format!("what {change:?} altered"), SOON, || a.metric("drift") > drift && a.kept() == kept);
        }
        assert!(a.reaches("10.244.2.0"));
    });
}

#[test]
fn a_fresh_agent_writes_nothing_where_all_is_right() {
    isolated("tunnels::a_fresh_agent_writes_nothing_where_all_is_right", || {
        let (mut a, _b) = two();
        let kept = a.kept();
        a.kill();
        a.start();
        a.wait_until_ready();
        assert_eq!((a.metric("kernel_writes"), a.metric("drift")), (0, 0));
        assert_eq!(a.kept(), kept);
        assert!(a.reaches("10.244.2.0"));
        assert!(a.agent("plan").starts_with("nothing to change"), "{}", a.agent("plan"));
        let dump = a.agent("dump");
        assert!(dump.contains("towvxlan4") && dump.contains("172.16.30.2"), "{dump}");
    });
}

#[test]
fn another_node_comes_moves_and_goes_without_a_look_at_the_rest() {
    isolated("tunnels::another_node_comes_moves_and_goes_without_a_look_at_the_rest", || {
        let (a, b) = two();
        let kept = a.kept();
        let file = a.path("state/peers/n7.yaml");
        let tell = |address: &str| {
            let text = format!("{{addresses: [{address}], podCIDRs: [10.244.7.0/24], accepts: [VXLAN]}}");
            fs::write(&file, text).unwrap();
        };
        wait_for("addresses that hold", SOON, || a.show("ip -6 address show tentative").is_empty());
        let (settled, begun) = (a.metric("turns"), Instant::now());
        tell("172.16.30.7");
        wait_for("the route", SOON, || a.kept().contains("10.244.7.0/24"));
        let with_it = a.kept();
        assert!(with_it.contains("dst 172.16.30.7"), "{with_it}");
        tell("172.16.30.77");
        wait_for("where it went", SOON, || a.kept().contains("dst 172.16.30.77"));
        fs::remove_file(&file).unwrap();
        wait_for("its end", SOON, || a.kept() == kept);
        // The kernel does not say by whom a neighbour was removed, nor when it is done with the start. Looks that nothing
        // speaks for are nine seconds apart at least.
        let (turns, slow) = (a.metric("turns"), begun.elapsed().as_secs().div_ceil(9));
        assert!(turns <= settled + 2 + slow, "{turns} turns after {settled}, of which {slow} may be slow ones");
        assert_eq!(a.metric("drift"), 0);
        assert!(a.reaches("10.244.2.0") && b.reaches("10.244.1.0"));
    });
}

#[test]
fn a_change_that_was_not_written_down_as_a_whole_outlives_the_agent() {
    isolated("tunnels::a_change_that_was_not_written_down_as_a_whole_outlives_the_agent", || {
        let (mut a, _b) = two();
        let text = "{addresses: [172.16.30.7], podCIDRs: [10.244.7.0/24], accepts: [VXLAN]}";
        fs::write(a.path("state/peers/n7.yaml"), text).unwrap();
        wait_for("the route", SOON, || a.kept().contains("10.244.7.0/24"));
        let kept = a.kept();
        a.kill();
        fs::rename(a.path("state"), a.path("lost")).unwrap();
        fs::create_dir(a.path("state")).unwrap();
        a.start();
        a.wait_until_ready();
        assert_eq!((a.kept(), a.metric("kernel_writes")), (kept, 0));
    });
}

#[test]
fn attachment_and_transport_change_under_way() {
    isolated("tunnels::attachment_and_transport_change_under_way", || {
        let (a, b) = two();
        let node_file = || fs::read_to_string(a.path("towpath-state/node.json")).unwrap();
        assert!(node_file().contains("\"Routed\""));
        a.tell(&pair::Part { attachment: "LinkLocal", ..a.part(VXLAN) });
        wait_for("the new attachment", SOON, || node_file().contains("\"LinkLocal\""));
        // One node after the other takes packets by both, then sends by the new one.
        let both = "{prefers: [VXLAN, Direct], accepts: [VXLAN, Direct]}";
        let direct = "{prefers: [Direct, VXLAN], accepts: [VXLAN, Direct]}";
        for (node, other) in [(&a, &b), (&b, &a)] {
            node.tell(&node.part(both));
            node.tell_of(other, "[VXLAN, Direct]", &other.part(both).addresses);
        }
        a.tell(&a.part(direct));
        wait_for("the direct route", SOON, || {
            a.run("ip route show 10.244.2.0/24").contains("via 172.16.30.2 dev eth0")
        });
        assert!(b.run("ip route show 10.244.1.0/24").contains("dev towvxlan4"));
        wait_for("both ways", SOON, || a.reaches("10.244.2.0") && b.reaches("10.244.1.0"));
    });
}

#[test]
fn the_mtu_and_the_address_of_the_uplink_are_followed() {
    isolated("tunnels::the_mtu_and_the_address_of_the_uplink_are_followed", || {
        let (a, b) = two();
        let node_file = || fs::read_to_string(a.path("towpath-state/node.json")).unwrap();
        a.run("ip link set eth0 mtu 1400");
        wait_for("the new MTU of pods", SOON, || node_file().contains("\"mtu\": 1330"));
        wait_for("the new MTU of the tunnel", SOON, || a.show("ip link show towvxlan4").contains("mtu 1350"));
        a.run("ip address delete 172.16.30.1/24 dev eth0");
        a.run("ip address add 172.16.30.11/24 dev eth0");
        let moved = r#"["172.16.30.11", "fd00:30::1"]"#;
        a.tell(&pair::Part { addresses: moved.to_owned(), ..a.part(VXLAN) });
        b.tell_of(&a, "[VXLAN]", moved);
        wait_for("the new address", SOON, || a.show("ip -d link show towvxlan4").contains("local 172.16.30.11"));
        wait_for("the tunnel between the new addresses", SOON, || a.reaches("10.244.2.0") && b.reaches("10.244.1.0"));
    });
}

#[test]
fn a_transport_that_the_kernel_lacks_is_named_and_nothing_leaves_in_clear() {
    isolated("tunnels::a_transport_that_the_kernel_lacks_is_named_and_nothing_leaves_in_clear", || {
        let (mut a, _b) = pair::make("{prefers: [WireGuard], accepts: [WireGuard]}", "[WireGuard]");
        a.start();
        let why = || a.get("/readyz");
        let named = "transport WireGuard is not effective: this kernel has no WireGuard (module wireguard)";
        wait_for("why it is not ready", SOON, || why().contains(named));
        assert!(a.run("ip route show proto 117").contains("blackhole 10.244.2.0/24"));
        assert!(!a.run("ip route show").contains("10.244.2.0/24 via"));
    });
}
