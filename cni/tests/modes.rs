//! Every way to attach pods: what is on the node and in the pod, whom pods reach, and what is healed, checked and removed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

#[macro_use]
mod support;

use support::{
    Call, MODES, add, config_after, converge_to, del, leases, lines, node_of, node_state_of, ping, sh, table, traces,
};
use towpath_kernel::testing::isolated;
use towpath_net::lease::host_interface;
use towpath_net::state::Attachment;

const DUAL: [&str; 2] = ["10.244.1.0/24", "fd00:10:244:1::/64"];

/// Routes, without the kernel's own to link-local addresses, and whether the kernel has taken note that a link is down.
fn routes(line: &str) -> Vec<String> {
    let routes = lines(line).into_iter().filter(|line| !line.starts_with("fe80::/"));
    routes.map(|line| line.replace(" linkdown", "")).collect()
}

#[test]
fn a_pod_with_a_gateway_that_is_the_same_everywhere_is_as_the_table_says_line_by_line() {
    isolated("a_pod_with_a_gateway_that_is_the_same_everywhere_is_as_the_table_says_line_by_line", || {
        node_of(Attachment::LinkLocal, &["10.244.205.192/26", "fd00::/122"]);
        let result = add("a");
        let veth = host_interface("a", "eth0");
        assert_eq!(lines("ip -n a route"), ["default via 169.254.1.1 dev eth0", "169.254.1.1 dev eth0 scope link"]);
        assert_eq!(
            routes("ip -n a -6 route"),
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
        let before = (routes("ip route"), routes("ip -6 route"));
        let result = add("a");
        let veth = host_interface("a", "eth0");
        assert_eq!(
            lines("ip -n a route"),
            ["default via 10.42.1.1 dev eth0", "10.42.1.0/24 dev eth0 scope link src 10.42.1.2"]
        );
        assert_eq!(
            routes("ip -n a -6 route"),
            [
                "fd00::/64 dev eth0 src fd00::2 metric 1024 pref medium",
                "default via fd00::1 dev eth0 metric 1024 pref medium",
            ]
        );
        assert_eq!(lines("ip -n a -o -4 addr show eth0 | awk '{print $4}'"), ["10.42.1.2/24"]);
        assert!(!sh("ip -n a addr show scope global").contains("tentative"));
        assert_eq!((routes("ip route"), routes("ip -6 route")), before, "a pod has no route of its own");
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
    // With its first pod, a bridge gets an address of the kernel's own.
    add("first");
    del("first");
    let before = (traces(), neighbours());
    for name in ["a", "b"] {
        let result = add(name);
        let check = Call::of("CHECK", name, &format!("/run/netns/{name}")).config(&config_after(&result));
        check.succeed();
    }
    assert_eq!(leases().iter().map(|lease| lease.mode).collect::<Vec<_>>(), [mode, mode]);
    del("a");
    Call::of("DEL", "b", "").succeed();
    let after = (traces(), neighbours());
    let came: Vec<&str> = after.0.lines().filter(|line| !before.0.contains(line)).collect();
    assert!(after == before, "came {came:#?}");
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

/// The node's end of a pod's pair, and what of it may be bent.
fn bend(mode: Attachment, veth: &str) -> Vec<String> {
    let of_mode: &[&str] = match mode {
        Attachment::Routed => &["ip addr del 10.244.1.1/32 dev VETH", "ip route del 10.244.1.2"],
        Attachment::LinkLocal => {
            &["echo 0 >/proc/sys/net/ipv4/conf/VETH/proxy_arp", "ip addr del fe80::1/128 dev VETH"]
        }
        Attachment::Bridge => &[
            "ip link set VETH nomaster",
            "ip link set VETH type bridge_slave locked off hairpin off",
            "bridge fdb del MAC dev VETH master",
            "ip neigh del 10.244.1.2 dev towbr0",
            "ip addr del 10.244.1.1/24 dev towbr0",
            "ip route del 10.244.1.0/24",
        ],
    };
    let all = ["ip link set VETH down", "ip link set VETH mtu 1400"].iter().chain(of_mode);
    let mac = sh("ip -n a -br link show eth0 | awk '{print $3}'");
    all.map(|line| line.replace("VETH", veth).replace("MAC", mac.trim())).collect()
}

fn is_healed(mode: Attachment) {
    let state = node_state_of(mode, &DUAL);
    node_of(mode, &DUAL);
    sh("ip addr add 192.0.2.1/32 dev lo; ip addr add 2001:db8::1/128 dev lo");
    converge_to(&state);
    let result = add("a");
    assert_eq!(converge_to(&state), [] as [&str; 0], "there is nothing to heal of a pod just attached");
    let [address, sixth] =
        [0, 1].map(|at| result["ips"][at]["address"].as_str().unwrap().split('/').next().unwrap().to_owned());
    let veth = host_interface("a", "eth0");
    for bent in bend(mode, &veth) {
        let bent = if mode == Attachment::LinkLocal { bent.replace("10.244.1.2", &address) } else { bent };
        sh(&bent);
        assert_ne!(converge_to(&state), [] as [&str; 0], "{bent}");
        ping("", &address);
        ping("ip netns exec a", "192.0.2.1");
        ping("", &sixth);
        Call::of("CHECK", "a", "/run/netns/a").config(&config_after(&result)).succeed();
    }
    del("a");
    assert_eq!(converge_to(&state), [] as [&str; 0], "there is nothing left of a pod just detached");
}
in_every_mode!(the_agent_finds_nothing_to_heal_of_a_pod_just_attached_and_heals_what_is_bent, "", is_healed);

/// The attachment changes while a pod of the one before runs: it stays as it is, and is reached.
fn change(from: Attachment, to: Attachment) {
    sh("ip link del towbr0 2>/dev/null; ip addr replace 192.0.2.1/32 dev lo; ip addr replace 2001:db8::1/128 dev lo");
    node_of(from, &DUAL);
    converge_to(&node_state_of(from, &DUAL));
    let old = add("old");
    let state = node_state_of(to, &DUAL);
    node_of(to, &DUAL);
    converge_to(&state);
    let new = add("new");
    assert_eq!(converge_to(&state), [] as [&str; 0], "{from} to {to}");
    let of = |name: &str| leases().into_iter().find(|lease| lease.container_id == name).unwrap();
    // A pod has the address that was to be the bridge's gateway: the next one is not attached to the bridge.
    let is_lent = from == Attachment::LinkLocal && to == Attachment::Bridge;
    assert_eq!((of("old").mode, of("new").mode), (from, if is_lent { Attachment::Routed } else { to }));
    let address = |result: &serde_json::Value, at: usize| {
        result["ips"][at]["address"].as_str().unwrap().split('/').next().unwrap().to_owned()
    };
    for (name, result, other) in [("old", &old, &new), ("new", &new, &old)] {
        Call::of("CHECK", name, &format!("/run/netns/{name}")).config(&config_after(result)).succeed();
        for (at, outside) in [(0, "192.0.2.1"), (1, "2001:db8::1")] {
            ping("", &address(result, at));
            ping(&format!("ip netns exec {name}"), outside);
            ping(&format!("ip netns exec {name}"), &address(other, at));
        }
    }
    sh("ip -n old link set lo up");
    del("old");
    assert_eq!(leases().len(), 1, "{from} to {to}");
    converge_to(&state);
    ping("ip netns exec new", "192.0.2.1");
    del("new");
    assert!(converge_to(&state).iter().all(|op| op.contains("towbr0")), "{from} to {to}");
    sh("ip netns del old; ip netns del new; rm -r /run/towpath/leases");
}

#[test]
fn pods_stay_as_they_are_when_the_attachment_changes_and_all_reach_each_other() {
    isolated("pods_stay_as_they_are_when_the_attachment_changes_and_all_reach_each_other", || {
        for from in MODES {
            for to in MODES.into_iter().filter(|to| *to != from) {
                change(from, to);
            }
        }
    });
}
