//! Attaching and detaching pods, against the real kernel.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod support;

use std::collections::BTreeSet;

use serde_json::json;
use support::{Call, add, config_after, del, leases, lines, netns, node, ping, sh, table, traces};
use towpath_kernel::host::HostKernel;
use towpath_kernel::kernel::{Kernel, converge};
use towpath_kernel::sysctl::{ROOT, Sysctls};
use towpath_kernel::testing::isolated;
use towpath_net::lease::{Phase, host_interface};
use towpath_net::render::render;

const DUAL: [&str; 2] = ["10.244.1.0/24", "fd00:10:244:1::/64"];

#[test]
fn an_attached_pod_is_as_the_table_says_line_by_line() {
    isolated("an_attached_pod_is_as_the_table_says_line_by_line", || {
        node(&DUAL);
        add("a");
        let veth = host_interface("a", "eth0");
        assert_eq!(
            lines("ip -n a route"),
            [
                "default via 10.244.1.1 dev eth0",
                "10.244.1.0/24 via 10.244.1.1 dev eth0 src 10.244.1.2",
                "10.244.1.1 dev eth0 scope link",
            ]
        );
        let inside: Vec<String> = lines("ip -n a -6 route").into_iter().filter(|l| !l.starts_with("fe80")).collect();
        assert_eq!(
            inside,
            [
                "fd00:10:244:1::1 dev eth0 metric 1024 pref medium",
                "fd00:10:244:1::/64 via fd00:10:244:1::1 dev eth0 src fd00:10:244:1::2 metric 1024 pref medium",
                "default via fd00:10:244:1::1 dev eth0 metric 1024 pref medium",
            ]
        );
        assert_eq!(lines("ip -n a -o -4 addr show eth0 | awk '{print $4}'"), ["10.244.1.2/24"]);
        let inet6 = lines("ip -n a -o -6 addr show eth0 scope global");
        assert!(inet6[0].contains("fd00:10:244:1::2/64") && !inet6[0].contains("tentative"), "{inet6:?}");
        assert_eq!(lines("ip route"), [format!("10.244.1.2 dev {veth} proto 117 scope link")]);
        assert_eq!(lines("ip -6 route"), [format!("fd00:10:244:1::2 dev {veth} proto 117 metric 1024 pref medium")]);
        assert_eq!(
            lines(&format!("ip -o addr show {veth} | awk '{{print $4}}'")),
            ["10.244.1.1/32", "fd00:10:244:1::1/128", "fe80::1/128"]
        );
        let link = sh(&format!("ip -d link show {veth}"));
        for part in [" mtu 1450 ", "alias towpath:a/eth0", "veth", "addrgenmode none", ",UP,"] {
            assert!(link.contains(part), "{part}: {link}");
        }
        let index = sh("ip -n a -o link show eth0").split(':').next().unwrap().to_owned();
        assert!(link.contains(&format!("{veth}@if{index}:")), "the name shows the number of the pod's end: {link}");
        assert!(sh("ip -n a -d link show eth0").contains(" mtu 1450 "));
        assert_eq!(sh("ip netns exec a cat /proc/sys/net/ipv6/conf/eth0/accept_ra"), "0\n");
        assert!(!sh("ip -d link").contains("bridge"));
    });
}

#[test]
fn pods_and_their_node_reach_each_other_at_once() {
    isolated("pods_and_their_node_reach_each_other_at_once", || {
        node(&DUAL);
        add("a");
        ping("", "10.244.1.2");
        ping("", "fd00:10:244:1::2");
        add("b");
        for (from, to) in [("a", "10.244.1.3"), ("b", "10.244.1.2"), ("a", "10.244.1.1")] {
            let ttl = if to.ends_with(".1") { "ttl=64" } else { "ttl=63" };
            let answer = ping(&format!("ip netns exec {from}"), to);
            assert!(answer.contains(ttl), "{answer}");
        }
        for (from, to) in [("a", "fd00:10:244:1::3"), ("b", "fd00:10:244:1::2"), ("b", "fd00:10:244:1::1")] {
            ping(&format!("ip netns exec {from}"), to);
        }
    });
}

#[test]
fn a_detached_pod_leaves_nothing() {
    isolated("a_detached_pod_leaves_nothing", || {
        node(&DUAL);
        table();
        let before = traces();
        add("a");
        add("b");
        assert_ne!(traces(), before);
        assert_eq!(leases().iter().map(|lease| lease.phase).collect::<Vec<_>>(), [Phase::Ready, Phase::Ready]);
        del("a");
        assert_eq!(leases().len(), 1);
        assert!(!sh("ip -n a -o link").contains("eth0"));
        del("b");
        assert_eq!(traces(), before);
        assert_eq!(add("c")["ips"][0]["address"], "10.244.1.4/24", "an address just freed was given again");
    });
}

#[test]
fn one_family_alone_works() {
    isolated("one_family_alone_works", || {
        for (cidr, gateway) in [("10.244.1.0/24", "10.244.1.1"), ("fd00:10:244:1::/64", "fd00:10:244:1::1")] {
            node(&[cidr]);
            let result = add("a");
            assert_eq!(result["ips"].as_array().unwrap().len(), 1);
            ping("ip netns exec a", gateway);
            let config = config_after(&result);
            Call::of("CHECK", "a", "/run/netns/a").config(&config).succeed();
            del("a");
            sh("ip netns del a");
        }
    });
}

#[test]
fn the_agent_finds_nothing_to_heal_of_a_pod_just_attached_and_heals_what_is_bent() {
    isolated("the_agent_finds_nothing_to_heal_of_a_pod_just_attached_and_heals_what_is_bent", || {
        node(&DUAL);
        table();
        let ports = json!([{"hostPort": 8080, "containerPort": 80}]);
        Call::of("ADD", "a", &netns("a")).config(&support::config_with_ports(&ports)).succeed();
        let veth = host_interface("a", "eth0");
        let mut kernel = HostKernel::open(Sysctls::below(ROOT)).unwrap();
        let state = support::node_state();
        let mut plan_again = || {
            let observed = kernel.observe(&BTreeSet::new()).unwrap();
            let mut desired = render(&state, &leases(), &observed.surroundings, None).desired;
            desired.sysctls.clear();
            let report = converge(&mut kernel, &desired, &observed);
            assert!(report.failed.is_empty(), "{report:?}");
            report.done.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        // The own blocks' routes are the agent's alone.
        assert_eq!(plan_again(), ["add route blackhole 10.244.1.0/24", "add route blackhole fd00:10:244:1::/64"]);
        assert_eq!(plan_again(), [] as [&str; 0]);
        sh(&format!("ip link set {veth} down"));
        assert_eq!(plan_again().len(), 6, "the link, three addresses of IPv6 and two routes");
        ping("", "fd00:10:244:1::2");
        ping("ip netns exec a", "fd00:10:244:1::1");
        ping("", "10.244.1.2");
        assert_eq!(plan_again(), [] as [&str; 0]);
        del("a");
        assert_eq!(plan_again(), [] as [&str; 0]);
    });
}
