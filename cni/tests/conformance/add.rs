//! ADD: C16 to C21.

use std::collections::BTreeSet;
use std::fs;
use std::process::Child;

use serde_json::{Value, json};
use towpath_kernel::testing::isolated;
use towpath_net::lease::Phase;

use crate::DUAL;
use crate::support::{Call, add, del, leases, lines, netns, node, ping, sh, table, traces, write_node_json};

/// Upstream answers 999 to everything; here each cause has a code.
#[test]
fn c16_an_interface_that_the_pod_has_is_left_as_it_is() {
    isolated("add::c16_an_interface_that_the_pod_has_is_left_as_it_is", || {
        node(&DUAL);
        let path = netns("a");
        sh("ip -n a link add eth0 type veth peer name other");
        let (before, inside) = (traces(), sh("ip -n a link"));
        let message = Call::of("ADD", "a", &path).fail(101);
        assert!(message.contains("the pod has an interface eth0 already"), "{message}");
        assert_eq!((traces(), sh("ip -n a link")), (before.clone(), inside));
        sh("ip -n a link del eth0");
        Call::of("ADD", "a", &path).succeed();
    });
}

#[test]
fn c17_a_second_attachment_of_the_same_name_is_refused_and_harms_nothing() {
    isolated("add::c17_a_second_attachment_of_the_same_name_is_refused_and_harms_nothing", || {
        node(&DUAL);
        add("a");
        let before = traces();
        let message = Call::of("ADD", "a", "/run/netns/a").fail(102);
        assert!(message.contains("a/eth0 is attached already"), "{message}");
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

/// Upstream's `ptp` fails with a second interface, and leaves its link.
#[test]
fn c18_another_namespace_is_refused_and_another_interface_is_not() {
    isolated("add::c18_another_namespace_is_refused_and_another_interface_is_not", || {
        node(&DUAL);
        let before = traces();
        add("a");
        let one = traces();
        let message = Call::of("ADD", "a", &netns("other")).fail(102);
        assert!(message.contains("namespace /run/netns/a"), "{message}");
        assert_eq!(traces(), one);
        Call::of("ADD", "a", "/run/netns/a").with("CNI_IFNAME", "eth1").succeed();
        ping("", "10.244.1.2");
        assert_eq!(lines("ip -n a route show default").len(), 2);
        Call::of("DEL", "a", "/run/netns/a").with("CNI_IFNAME", "eth1").succeed();
        ping("", "10.244.1.2");
        del("a");
        assert_eq!(traces(), before);
    });
}

/// Upstream's `bridge` of Debian leaves `eth0` and its link each time.
#[test]
fn c19_a_full_block_refuses_pods_and_leaves_nothing() {
    isolated("add::c19_a_full_block_refuses_pods_and_leaves_nothing", || {
        node(&["10.244.1.0/30", "fd00:10:244:1::/64"]);
        add("a");
        let path = netns("b");
        let before = traces();
        let message = Call::of("ADD", "b", &path).fail(11);
        assert!(message.contains("all addresses of 10.244.1.0/30 are taken"), "{message}");
        assert_eq!(traces(), before);
        assert!(!sh("ip -n b -o link").contains("eth0"));
        del("a");
        Call::of("ADD", "b", &path).succeed();
    });
}

#[test]
fn c19_what_fails_half_way_is_undone() {
    isolated("add::c19_what_fails_half_way_is_undone", || {
        node(&DUAL);
        let path = netns("a");
        // A setting that the pod needs cannot be written.
        sh("mount --bind /proc/sys /proc/sys && mount -o remount,ro,bind /proc/sys");
        sh("true");
        let before = traces();
        let message = Call::of("ADD", "a", &path).fail(104);
        assert!(message.contains("Read-only file system"), "{message}");
        assert_eq!(traces(), before);
        assert!(!sh("ip -n a -o link").contains("eth0"));
        sh("mount -o remount,rw,bind /proc/sys");
        Call::of("ADD", "a", &path).succeed();
    });
}

#[test]
fn c20_fifty_at_once_get_addresses_of_their_own_and_all_go_again() {
    isolated("add::c20_fifty_at_once_get_addresses_of_their_own_and_all_go_again", || {
        node(&DUAL);
        let before = traces();
        let paths: Vec<String> = (0..50).map(|i| netns(&format!("p{i}"))).collect();
        let each = |verb: &str| -> Vec<Child> {
            paths.iter().enumerate().map(|(i, path)| Call::of(verb, &format!("p{i}"), path).start()).collect()
        };
        let mut addresses = BTreeSet::new();
        for child in each("ADD") {
            let output = child.wait_with_output().unwrap();
            let result: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert!(output.status.success(), "{result}");
            for address in result["ips"].as_array().unwrap() {
                addresses.insert(address["address"].to_string());
            }
        }
        assert_eq!(addresses.len(), 100);
        assert!(leases().iter().all(|lease| lease.phase == Phase::Ready));
        for child in each("DEL") {
            assert!(child.wait_with_output().unwrap().status.success());
        }
        assert_eq!(traces(), before);
    });
}

#[test]
fn c21_what_may_work_later_says_so() {
    isolated("add::c21_what_may_work_later_says_so", || {
        table();
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
        Call::of("ADD", "a", &path).succeed();
    });
}
