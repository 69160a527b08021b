//! Attaching and detaching pods, against the real kernel.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod support;

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};
use support::{
    Call, add, config, config_after, del, leases, lines, netns, node, ping, sh, table, traces, write_node_json,
};
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
fn the_result_says_what_was_made() {
    isolated("the_result_says_what_was_made", || {
        node(&DUAL);
        let result = add("a");
        let mac = |line: &str| sh(line).split_whitespace().nth(1).unwrap().to_owned();
        let veth = host_interface("a", "eth0");
        let expected = json!({
            "cniVersion": "1.1.0",
            "interfaces": [
                {"name": veth, "mac": mac(&format!("ip link show {veth} | grep ether")), "mtu": 1450},
                {"name": "eth0", "mac": mac("ip -n a link show eth0 | grep ether"), "mtu": 1450, "sandbox": "/run/netns/a"},
            ],
            "ips": [
                {"interface": 1, "address": "10.244.1.2/24", "gateway": "10.244.1.1"},
                {"interface": 1, "address": "fd00:10:244:1::2/64", "gateway": "fd00:10:244:1::1"},
            ],
            "routes": [{"dst": "0.0.0.0/0", "gw": "10.244.1.1"}, {"dst": "::/0", "gw": "fd00:10:244:1::1"}],
        });
        assert_eq!(result, expected);
    });
}

#[test]
fn results_have_the_shape_of_the_configurations_version() {
    isolated("results_have_the_shape_of_the_configurations_version", || {
        node(&DUAL);
        for (index, version) in ["0.3.1", "0.4.0", "1.0.0", "1.1.0"].iter().enumerate() {
            let name = format!("pod{index}");
            let mut config = config();
            config["cniVersion"] = json!(version);
            let result = Call::of("ADD", &name, &netns(&name)).config(&config).succeed().document;
            assert_eq!(result["cniVersion"], *version);
            let old = version.starts_with('0');
            let families = if old { [json!("4"), json!("6")] } else { [Value::Null, Value::Null] };
            assert_eq!([&result["ips"][0]["version"], &result["ips"][1]["version"]], families.each_ref());
            assert_eq!(result["interfaces"][1]["mtu"].is_null(), *version != "1.1.0");
            assert_eq!(result["interfaces"][0]["sandbox"], Value::Null);
        }
    });
}

#[test]
fn a_plugin_before_keeps_what_it_returned() {
    isolated("a_plugin_before_keeps_what_it_returned", || {
        node(&DUAL);
        let mut config = config();
        config["prevResult"] = json!({
            "cniVersion": "1.1.0", "interfaces": [{"name": "x0"}], "dns": {"nameservers": ["192.0.2.1"]},
        });
        let result = Call::of("ADD", "a", &netns("a")).config(&config).succeed().document;
        assert_eq!(result["interfaces"][0]["name"], "x0");
        assert_eq!(result["interfaces"][2]["name"], "eth0");
        assert_eq!(result["ips"][0]["interface"], 2);
        assert_eq!(result["dns"]["nameservers"][0], "192.0.2.1");
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
fn detaching_succeeds_whatever_is_left() {
    isolated("detaching_succeeds_whatever_is_left", || {
        node(&DUAL);
        let before = traces();
        let path = "/run/netns/a";
        for undo in [
            Call::of("DEL", "a", path),
            Call::of("DEL", "a", ""),
            Call::of("DEL", "a", "/run/netns/none"),
            Call::of("DEL", "a", "/run/towpath/node.json"),
            Call::of("DEL", "a", path)
                .config(&json!({"cniVersion": "0.3.1", "name": "other", "stateDir": "/run/towpath"})),
        ] {
            add("a");
            assert_eq!(undo.succeed().stdout, "");
            assert_eq!(traces(), before);
            assert_eq!(undo.succeed().stdout, "");
            sh("ip netns del a");
        }
        // The namespace went first, as after a reboot of the runtime.
        add("a");
        sh("ip netns del a");
        Call::of("DEL", "a", path).succeed();
        assert_eq!(traces(), before);
        // The agent's file went too.
        add("a");
        fs::remove_file("/run/towpath/node.json").unwrap();
        Call::of("DEL", "a", path).succeed();
        assert_eq!(traces(), before);
        node(&DUAL);
        // The leases are lost: the link is found by its name.
        sh("ip netns del a");
        add("a");
        fs::remove_dir_all("/run/towpath/leases").unwrap();
        Call::of("DEL", "a", path).succeed();
        assert_eq!(traces(), before);
        Call::of("DEL", "unknown", "").succeed();
        // The record is damaged: what the lease was born as is in its claims.
        sh("ip netns del a");
        add("a");
        fs::write("/run/towpath/leases/attachments/a:eth0", "{").unwrap();
        Call::of("DEL", "a", path).succeed();
        assert_eq!(traces(), before);
    });
}

#[test]
fn a_second_attachment_of_the_same_name_is_refused_and_harms_nothing() {
    isolated("a_second_attachment_of_the_same_name_is_refused_and_harms_nothing", || {
        node(&DUAL);
        add("a");
        let before = traces();
        let message = Call::of("ADD", "a", "/run/netns/a").fail(102);
        assert!(message.contains("a/eth0 is attached already"), "{message}");
        Call::of("ADD", "a", &netns("other")).fail(102);
        // Its leases lost, the pod is still there: by the name of its link.
        fs::rename("/run/towpath/leases", "/run/kept").unwrap();
        let message = Call::of("ADD", "a", "/run/netns/a").fail(102);
        assert!(message.contains("exists without a lease"), "{message}");
        fs::remove_dir_all("/run/towpath/leases").unwrap();
        fs::rename("/run/kept", "/run/towpath/leases").unwrap();
        assert_eq!(traces(), before);
        ping("", "10.244.1.2");
    });
}

#[test]
fn an_interface_that_the_pod_has_is_left_as_it_is() {
    isolated("an_interface_that_the_pod_has_is_left_as_it_is", || {
        node(&DUAL);
        let path = netns("a");
        sh("ip -n a link add eth0 type veth peer name other");
        let (before, inside) = (traces(), sh("ip -n a link"));
        let message = Call::of("ADD", "a", &path).fail(101);
        assert!(message.contains("the pod has an interface eth0 already"), "{message}");
        assert_eq!((traces(), sh("ip -n a link")), (before, inside));
    });
}

#[test]
fn a_pod_may_have_two_interfaces() {
    isolated("a_pod_may_have_two_interfaces", || {
        node(&DUAL);
        let before = traces();
        add("a");
        Call::of("ADD", "a", "/run/netns/a").with("CNI_IFNAME", "eth1").succeed();
        ping("", "10.244.1.2");
        assert_eq!(lines("ip -n a route show default").len(), 2);
        Call::of("DEL", "a", "/run/netns/a").with("CNI_IFNAME", "eth1").succeed();
        ping("", "10.244.1.2");
        del("a");
        assert_eq!(traces(), before);
    });
}

#[test]
fn the_nodes_own_namespace_and_what_is_none_are_refused_before_anything_is_made() {
    isolated("the_nodes_own_namespace_and_what_is_none_are_refused_before_anything_is_made", || {
        node(&DUAL);
        let before = traces();
        let message = Call::of("ADD", "a", "/proc/self/ns/net").fail(8);
        assert!(message.contains("the namespace that the plugin runs in"), "{message}");
        let message = Call::of("ADD", "a", "/run/netns/none").fail(8);
        assert!(message.contains("there is nothing at this path"), "{message}");
        Call::of("ADD", "a", "/run/towpath/node.json").fail(8);
        Call::of("ADD", "a", "/proc/self/ns/mnt").fail(8);
        assert_eq!(traces(), before);
        // Who insists gets the kernel's word: a gateway cannot be on the pod's own side.
        let insisting = Call::of("ADD", "a", "/proc/self/ns/net").with("CNI_NETNS_OVERRIDE", "TRUE");
        assert!(insisting.fail(104).contains("in the pod: add route"));
        assert_eq!(traces(), before);
    });
}

#[test]
fn a_full_pool_refuses_pods_and_leaves_nothing() {
    isolated("a_full_pool_refuses_pods_and_leaves_nothing", || {
        node(&["10.244.1.0/30", "fd00:10:244:1::/64"]);
        Call::new("STATUS").succeed();
        add("a");
        let before = traces();
        let message = Call::of("ADD", "b", &netns("b")).fail(100);
        assert!(message.contains("all addresses of 10.244.1.0/30 are taken"), "{message}");
        assert_eq!(traces(), before);
        let message = Call::new("STATUS").fail(50);
        assert!(message.contains("10.244.1.0/30"), "{message}");
        del("a");
        Call::new("STATUS").succeed();
        Call::of("ADD", "b", "/run/netns/b").succeed();
    });
}

#[test]
fn without_the_agents_file_pods_wait_and_the_status_says_why() {
    isolated("without_the_agents_file_pods_wait_and_the_status_says_why", || {
        let path = netns("a");
        let message = Call::of("ADD", "a", &path).fail(11);
        assert!(message.contains("/run/towpath/node.json is missing"), "{message}");
        assert!(Call::new("STATUS").fail(50).contains("/run/towpath/node.json is missing"));
        for (content, named) in [
            (json!({"version": 2}), "its format is 2, and this plugin reads 1"),
            (json!({"version": 1}), "missing field"),
            (json!([]), "its format is null"),
            (
                json!({"version": 1, "revision": "x", "attachment": "Routed", "mtu": 1500, "podCIDRs": []}),
                "no pod CIDRs",
            ),
        ] {
            write_node_json(&content);
            let message = Call::new("STATUS").fail(50);
            assert!(message.contains(named), "{message}");
            assert!(Call::of("ADD", "a", &path).fail(11).contains(named));
        }
        assert!(leases().is_empty());
        node(&DUAL);
        Call::new("STATUS").succeed();
    });
}

#[test]
fn what_fails_half_way_is_undone() {
    isolated("what_fails_half_way_is_undone", || {
        node(&DUAL);
        let path = netns("a");
        // A foreign route to the pod's address is in the way.
        sh("ip route add blackhole 10.244.1.2/32");
        let before = traces();
        let message = Call::of("ADD", "a", &path).fail(104);
        assert!(message.contains("on the node: add route 10.244.1.2/32"), "{message}");
        assert_eq!(traces(), before);
        assert!(!sh("ip -n a -o link").contains("eth0"));
        // The next address is free.
        assert_eq!(Call::of("ADD", "a", &path).succeed().document["ips"][0]["address"], "10.244.1.3/24");
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
            let mut desired = render(&state, &leases(), &observed.surroundings).desired;
            desired.sysctls.clear();
            let report = converge(&mut kernel, &desired, &observed);
            assert!(report.failed.is_empty(), "{report:?}");
            report.done.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        // The own blocks' routes are the agent's alone.
        assert_eq!(plan_again(), ["add route blackhole 10.244.1.0/24", "add route blackhole fd00:10:244:1::/64"]);
        assert_eq!(plan_again(), [] as [&str; 0]);
        sh(&format!("ip link set {veth} down"));
        assert_eq!(plan_again().len(), 5, "the link, two addresses of IPv6 and two routes");
        ping("", "fd00:10:244:1::2");
        ping("ip netns exec a", "fd00:10:244:1::1");
        ping("", "10.244.1.2");
        assert_eq!(plan_again(), [] as [&str; 0]);
        del("a");
        assert_eq!(plan_again(), [] as [&str; 0]);
    });
}
