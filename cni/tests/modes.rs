//! Every way to attach pods: what is on the node and in the pod, whom pods reach, and what is healed, checked and removed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

#[macro_use]
mod support;

use support::{Call, add, config_after, del, leases, lines, node_of, ping, sh, table, traces};
use towpath_kernel::testing::isolated;
use towpath_net::lease::host_interface;
use towpath_net::state::Attachment;

const DUAL: [&str; 2] = ["10.244.1.0/24", "fd00:10:244:1::/64"];

/// Lines about global addresses: the kernel's own link-local ones are no part of a table.
fn global(line: &str) -> Vec<String> {
    lines(line).into_iter().filter(|line| !line.starts_with("fe80::/") && !line.contains("multicast")).collect()
}

#[test]
fn a_pod_with_a_gateway_that_is_the_same_everywhere_is_as_the_table_says_line_by_line() {
    isolated("a_pod_with_a_gateway_that_is_the_same_everywhere_is_as_the_table_says_line_by_line", || {
        node_of(Attachment::LinkLocal, &["10.244.205.192/26", "fd00::/122"]);
        let result = add("a");
        let veth = host_interface("a", "eth0");
        assert_eq!(lines("ip -n a route"), ["default via 169.254.1.1 dev eth0", "169.254.1.1 dev eth0 scope link"]);
        assert_eq!(
            global("ip -n a -6 route"),
            ["fe80::1 dev eth0 metric 1024 pref medium", "default via fe80::1 dev eth0 metric 1024 pref medium",]
        );
        assert_eq!(lines("ip -n a -o -4 addr show eth0 | awk '{print $4}'"), ["10.244.205.193/32"]);
        assert_eq!(lines("ip -n a -o -6 addr show eth0 scope global | awk '{print $4}'"), ["fd00::1/128"]);
        assert!(!sh("ip -n a addr show scope global").contains("tentative"));
        assert_eq!(
            lines("ip -n a neigh show nud permanent | sort"),
            [
                "169.254.1.1 dev eth0 lladdr ee:ee:ee:ee:ee:ee PERMANENT",
                "fe80::1 dev eth0 lladdr ee:ee:ee:ee:ee:ee PERMANENT",
            ]
        );
        assert_eq!(lines("ip route"), [format!("10.244.205.193 dev {veth} proto 117 scope link")]);
        assert_eq!(lines("ip -6 route"), [format!("fd00::1 dev {veth} proto 117 metric 1024 pref medium")]);
        assert_eq!(lines(&format!("ip -o addr show {veth} | awk '{{print $4}}'")), ["fe80::1/128"]);
        assert!(sh(&format!("ip link show {veth}")).contains("link/ether ee:ee:ee:ee:ee:ee"));
        assert_eq!(sh(&format!("cat /proc/sys/net/ipv4/conf/{veth}/proxy_arp")), "1\n");
        assert_eq!(sh("ip netns exec a cat /proc/sys/net/ipv6/conf/eth0/accept_ra"), "0\n");
        assert_eq!(result["ips"][0]["address"], "10.244.205.193/32");
        assert_eq!(result["ips"][0]["gateway"], "169.254.1.1");
        assert_eq!(result["ips"][1]["gateway"], "fe80::1");
        assert_eq!(result["routes"][0]["gw"], "169.254.1.1");
    });
}

#[test]
fn a_pod_behind_the_bridge_is_as_the_table_says_line_by_line() {
    isolated("a_pod_behind_the_bridge_is_as_the_table_says_line_by_line", || {
        node_of(Attachment::Bridge, &["10.42.1.0/24", "fd00::/64"]);
        let before = (lines("ip route"), global("ip -6 route"));
        let result = add("a");
        let veth = host_interface("a", "eth0");
        assert_eq!(
            lines("ip -n a route"),
            ["default via 10.42.1.1 dev eth0", "10.42.1.0/24 dev eth0 scope link src 10.42.1.2"]
        );
        assert_eq!(
            global("ip -n a -6 route"),
            [
                "fd00::/64 dev eth0 src fd00::2 metric 1024 pref medium",
                "default via fd00::1 dev eth0 metric 1024 pref medium",
            ]
        );
        assert_eq!(lines("ip -n a -o -4 addr show eth0 | awk '{print $4}'"), ["10.42.1.2/24"]);
        assert!(!sh("ip -n a addr show scope global").contains("tentative"));
        assert_eq!((lines("ip route"), global("ip -6 route")), before, "a pod has no route of its own");
        assert_eq!(lines(&format!("ip -o addr show {veth}")), [] as [&str; 0]);
        let port = sh(&format!("ip -d link show {veth}"));
        for part in ["master towbr0", "hairpin on", "learning off", " flood off", "locked on", "state forwarding"] {
            assert!(port.contains(part), "{part}: {port}");
        }
        let mac = result["interfaces"][1]["mac"].as_str().unwrap().to_owned();
        assert_eq!(lines(&format!("bridge fdb show dev {veth} | grep {mac}")), [format!("{mac} master towbr0 static")]);
        assert_eq!(
            lines("ip neigh show dev towbr0 nud permanent | sort"),
            [format!("10.42.1.2 lladdr {mac} PERMANENT"), format!("fd00::2 lladdr {mac} PERMANENT")]
        );
        assert_eq!(result["ips"][0]["address"], "10.42.1.2/24");
        assert_eq!(result["ips"][0]["gateway"], "10.42.1.1");
    });
}

fn reaches(mode: Attachment) {
    node_of(mode, &DUAL);
    // A node has addresses of its own, though nothing here leads anywhere else.
    sh("ip addr add 192.0.2.1/32 dev lo; ip addr add 2001:db8::1/128 dev lo");
    let first = add("a");
    let address = |result: &serde_json::Value, at: usize| {
        result["ips"][at]["address"].as_str().unwrap().split('/').next().unwrap().to_owned()
    };
    // At once, and the node before anybody else.
    for at in [0, 1] {
        ping("", &address(&first, at));
    }
    let second = add("b");
    for at in [0, 1] {
        let answer = ping("ip netns exec a", &address(&second, at));
        let hops = if mode == Attachment::Bridge { "ttl=64" } else { "ttl=63" };
        assert!(answer.contains(hops), "{answer}");
        ping("ip netns exec b", &address(&first, at));
    }
    for (from, to) in [("a", "192.0.2.1"), ("b", "2001:db8::1")] {
        ping(&format!("ip netns exec {from}"), to);
    }
}
in_every_mode!(pods_and_their_node_reach_each_other_at_once, "", reaches);

fn leaves_nothing(mode: Attachment) {
    node_of(mode, &DUAL);
    table();
    let neighbours = || lines("ip neigh show nud permanent");
    let before = (traces(), neighbours());
    for name in ["a", "b"] {
        let result = add(name);
        let check = Call::of("CHECK", name, &format!("/run/netns/{name}")).config(&config_after(&result));
        check.succeed();
    }
    assert_eq!(leases().iter().map(|lease| lease.mode).collect::<Vec<_>>(), [mode, mode]);
    del("a");
    Call::of("DEL", "b", "").succeed();
    assert_eq!((traces(), neighbours()), before);
    Call::of("DEL", "b", "").succeed();
}
in_every_mode!(a_detached_pod_leaves_nothing, "", leaves_nothing);

fn one_family(mode: Attachment) {
    let outside = ["192.0.2.1/32", "2001:db8::1/128"];
    for (cidr, outside) in DUAL.into_iter().zip(outside) {
        sh(&format!("ip addr add {outside} dev lo; ip link del towbr0 2>/dev/null; true"));
        node_of(mode, &[cidr]);
        let result = add("a");
        assert_eq!(result["ips"].as_array().unwrap().len(), 1);
        ping("ip netns exec a", outside.split('/').next().unwrap());
        Call::of("CHECK", "a", "/run/netns/a").config(&config_after(&result)).succeed();
        del("a");
        sh("ip netns del a");
    }
}
in_every_mode!(one_family_alone_works, "", one_family);
