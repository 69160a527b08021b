//! Pods of the network that was there before.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod support;

use std::fs;

use support::{Call, netns, node, sh};
use towpath_kernel::testing::isolated;

const DUAL: [&str; 2] = ["10.244.1.0/24", "fd00:10:244:1::/64"];
const RESERVATIONS: &str = "/var/lib/cni/networks/podman";

/// A pod as another network attached it.
fn foreign(name: &str, link: &str) -> String {
    let path = netns(name);
    sh(&format!("ip link add {link} type veth peer name eth0 netns {name}"));
    path
}

fn links() -> String {
    sh("ip -o link")
}

#[test]
fn pods_that_another_network_attached_are_detached_as_it_would() {
    isolated("pods_that_another_network_attached_are_detached_as_it_would", || {
        node(&DUAL);
        sh("mkdir -p /run/lib && mount --bind /run/lib /var/lib");
        fs::create_dir_all(RESERVATIONS).unwrap();
        let reserve = |address: &str, content: &str| fs::write(format!("{RESERVATIONS}/{address}"), content).unwrap();
        for (address, content) in [
            ("10.88.0.5", "old\r\neth0"),
            ("fd00:88::5", "old"),
            ("10.88.0.6", "older\r\neth0"),
            ("last_reserved_ip.0", "old"),
            ("lock", ""),
        ] {
            reserve(address, content);
        }
        sh("ip link add cni0 type bridge");
        for link in ["cali0123456789a", "veth01234567", "knet0123456"] {
            let path = foreign("old", link);
            sh(&format!("ip link set {link} master cni0"));
            assert_eq!(Call::of("DEL", "old", &path).succeed().stdout, "");
            assert!(!links().contains(link));
            assert!(!sh("ip -n old -o link").contains("eth0"));
            Call::of("DEL", "old", &path).succeed();
            sh("ip netns del old");
        }
        assert_eq!(sh(&format!("ls {RESERVATIONS}")), "10.88.0.6\nlast_reserved_ip.0\nlock\n");
        assert!(links().contains("cni0"));
    });
}

#[test]
fn what_is_no_pair_of_another_network_is_left_alone() {
    isolated("what_is_no_pair_of_another_network_is_left_alone", || {
        node(&DUAL);
        let path = foreign("a", "mine0");
        Call::of("DEL", "a", &path).succeed();
        assert!(links().contains("mine0"));
        // The name that is asked for is another's, and the namespace is the node's.
        sh("ip link add vethx type veth peer name vethy");
        Call::of("DEL", "a", "/proc/self/ns/net").with("CNI_IFNAME", "vethy").succeed();
        Call::of("DEL", "a", &path).with("CNI_IFNAME", "eth9").succeed();
        assert!(links().contains("vethx") && links().contains("vethy"));
    });
}
