//! The agent as it runs on a node, in namespaces of its own, told its state by a file.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod healing;
mod keys;
mod leaving;
mod node;
mod pair;
mod starting;
mod tunnels;

use std::fs;
use std::path::Path;
use std::time::Duration;

use node::{Node, STATE, everything, metric, routes, run, wait_for, wait_for_metric};
use towpath_kernel::leases::{Request, Store, Wish};
use towpath_kernel::testing::isolated;
use towpath_net::lease::AttachmentId;

/// Within which a change is followed, and an alteration put right: before the first slow look at everything, which comes after
/// ten seconds and would do so too.
const SOON: Duration = Duration::from_secs(8);

#[test]
fn a_node_is_made_as_its_file_says_and_follows_it() {
    isolated("a_node_is_made_as_its_file_says_and_follows_it", || {
        let node = Node::make();
        let _agent = node.start();
        assert_eq!(
            routes(),
            "blackhole 10.244.3.0/24 \n\
             10.244.4.0/24 via 172.16.30.4 dev eth0 \n\
             10.244.5.0/24 via 172.16.30.5 dev eth0 \n\
             blackhole fd00:244:0:3::/64 dev lo metric 1024 pref medium\n\
             fd00:244:0:4::/64 via fd00:30::4 dev eth0 metric 1024 pref medium\n\
             fd00:244:0:5::/64 via fd00:30::5 dev eth0 metric 1024 pref medium\n"
        );
        assert!(fs::read_to_string(node.path("net.d/05-towpath.conflist")).unwrap().contains("\"towpath\""));
        assert!(fs::read_to_string(node.path("towpath-state/node.json")).unwrap().contains("\"mtu\": 1500"));
        assert!(Path::new(&node.path("bin/towpath")).exists() && Path::new(&node.path("bin/loopback")).exists());
        let moved = STATE.replace("172.16.30.4", "172.16.30.44");
        fs::write(node.path("state.yaml"), &moved).unwrap();
        wait_for("the new route", SOON, || routes().contains("via 172.16.30.44"));
        fs::write(node.path("state.yaml"), "node: {").unwrap();
        fs::write(node.path("state.yaml"), moved.replace("172.16.30.44", "172.16.30.45")).unwrap();
        wait_for("the newest route", SOON, || routes().contains("via 172.16.30.45"));
    });
}

#[test]
fn what_is_altered_by_hand_is_healed_without_a_slow_comparison_and_counted() {
    isolated("what_is_altered_by_hand_is_healed_without_a_slow_comparison_and_counted", || {
        let node = Node::make();
        let _agent = node.start();
        let right = everything();
        let mut healed = Vec::new();
        for alteration in [
            "ip route delete 10.244.4.0/24",
            "ip route replace 10.244.4.0/24 via 172.16.30.5 proto 117",
            "ip -6 route delete fd00:244:0:5::/64",
            "ip nexthop flush proto 117",
            "sysctl -q -w net.ipv4.ip_forward=0",
            "sysctl -q -w net.ipv6.conf.all.forwarding=0",
            "nft flush chain inet towpath postrouting",
            "nft delete table inet towpath",
            "nft flush ruleset",
        ] {
            let before = metric("drift");
            run(alteration);
            healed.push(wait_for(alteration, SOON, || everything() == right));
            wait_for("the count", SOON, || metric("drift") > before);
        }
        fs::remove_file(node.path("net.d/05-towpath.conflist")).unwrap();
        wait_for("the configuration file", SOON, || Path::new(&node.path("net.d/05-towpath.conflist")).exists());
        let before = metric("drift");
        fs::remove_file(node.path("bin/loopback")).unwrap();
        wait_for("the binary", SOON, || Path::new(&node.path("bin/loopback")).exists());
        wait_for("the count", SOON, || metric("drift") > before);
        println!("healed and seen to be within {healed:?}");
    });
}

#[test]
fn an_agent_that_is_killed_and_started_again_writes_nothing_to_a_correct_kernel() {
    isolated("an_agent_that_is_killed_and_started_again_writes_nothing_to_a_correct_kernel", || {
        let node = Node::make();
        let agent = node.start();
        let right = everything();
        agent.signal("KILL");
        assert_eq!(everything(), right);
        // Without its file the agent starts from its memory.
        fs::rename(node.path("state.yaml"), node.path("away.yaml")).unwrap();
        let agent = node.start();
        assert_eq!(metric("kernel_writes"), 0, "{}", node.log());
        agent.signal("TERM");
        assert_eq!(everything(), right);
        assert!(Path::new(&node.path("net.d/05-towpath.conflist")).exists());
    });
}

#[test]
fn plan_shows_what_would_change_and_changes_nothing() {
    isolated("plan_shows_what_would_change_and_changes_nothing", || {
        let node = Node::make();
        let plan = |node: &Node| String::from_utf8(node.command("plan").output().unwrap().stdout).unwrap();
        let before = everything();
        let planned = plan(&node);
        assert!(planned.contains("add route 10.244.4.0/24 via 172.16.30.4 dev eth0\n"), "{planned}");
        assert!(planned.contains("set sysctl net/ipv4/ip_forward = 1\n"), "{planned}");
        assert_eq!(everything(), before);
        let agent = node.start();
        assert_eq!(plan(&node), "nothing to change: the kernel is as it should be\n");
        let dump = String::from_utf8(node.command("dump").output().unwrap().stdout).unwrap();
        assert!(dump.starts_with("desired:\n") && dump.contains("observed:\n"), "{dump}");
        drop(agent);
        run("ip route delete 10.244.4.0/24");
        assert_eq!(plan(&node), "add route 10.244.4.0/24 via 172.16.30.4 dev eth0\n");
    });
}

#[test]
fn a_file_that_is_no_state_is_refused_with_its_place() {
    isolated("a_file_that_is_no_state_is_refused_with_its_place", || {
        let node = Node::make();
        fs::write(node.path("state.yaml"), STATE.replace("10.244.3.0/24", "10.244.300.0/24")).unwrap();
        let output = node.command("plan").output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && error.contains("state.yaml") && error.contains("podCIDRs"), "{error}");
    });
}

#[test]
fn the_addresses_of_a_pod_that_is_gone_are_freed_without_any_runtime() {
    isolated("the_addresses_of_a_pod_that_is_gone_are_freed_without_any_runtime", || {
        let node = Node::make();
        let _agent = node.start();
        let store = Store::below(Path::new(&node.path("towpath-state")));
        // What a CNI binary leaves that is killed before it made the link.
        wait_for("the node file", SOON, || store.node().is_ok());
        let held = store.create(&Request {
            network: "towpath",
            attachment: AttachmentId { container: "5b1f".to_owned(), interface: "eth0".to_owned() },
            netns: "/run/netns/gone",
            loopback_ports: Vec::new(),
            bandwidth: None,
            pod: None,
            mac: None,
            host_ports: Vec::new(),
            wish: Wish::default(),
            patience: Duration::ZERO,
        });
        drop(held.unwrap());
        run("ip route delete 10.244.4.0/24");
        wait_for("the free address", SOON, || store.read_all().unwrap().leases.is_empty());
    });
}

const PODMAN: &str = r#"{"cniVersion": "0.4.0", "name": "podman", "plugins": [{"type": "bridge"}]}"#;

#[test]
fn another_networks_configuration_is_noticed_within_a_second_and_left_alone() {
    isolated("another_networks_configuration_is_noticed_within_a_second_and_left_alone", || {
        let node = Node::make();
        fs::create_dir(node.path("net.d")).unwrap();
        fs::write(node.path("net.d/87-podman-bridge.conflist"), PODMAN).unwrap();
        let _agent = node.start();
        wait_for_metric("foreign_configurations", 0, SOON);
        let turns = metric("turns");
        fs::write(node.path("net.d/.aside"), PODMAN).unwrap();
        fs::rename(node.path("net.d/.aside"), node.path("net.d/00-podman.conflist")).unwrap();
        let seen = wait_for_metric("foreign_configurations", 1, SOON);
        fs::write(node.path("net.d/01-damaged.conf"), "{").unwrap();
        wait_for_metric("foreign_configurations", 2, SOON);
        assert_eq!(fs::read_to_string(node.path("net.d/00-podman.conflist")).unwrap(), PODMAN);
        fs::remove_file(node.path("net.d/00-podman.conflist")).unwrap();
        fs::remove_file(node.path("net.d/01-damaged.conf")).unwrap();
        wait_for_metric("foreign_configurations", 0, SOON);
        assert!(Path::new(&node.path("net.d/87-podman-bridge.conflist")).exists());
        println!("seen within {seen:?}, after {} turns", metric("turns") - turns);
    });
}

#[test]
fn another_networks_configuration_is_moved_aside_where_declared_and_nobody_is_fought() {
    isolated("another_networks_configuration_is_moved_aside_where_declared_and_nobody_is_fought", || {
        let node = Node::make();
        fs::create_dir(node.path("net.d")).unwrap();
        let [podman, multus] = ["net.d/87-podman-bridge.conflist", "net.d/00-multus.conf"].map(|name| node.path(name));
        fs::write(&podman, PODMAN).unwrap();
        fs::write(&multus, r#"{"name": "multus-cni-network", "type": "multus"}"#).unwrap();
        let state = STATE.replace("  masquerade", "  cniConflict: Rename\n  masquerade");
        fs::write(node.path("state.yaml"), state).unwrap();
        let _agent = node.start();
        let aside = format!("{podman}.disabled-by-towpath");
        wait_for("the file aside", SOON, || !Path::new(&podman).exists());
        assert_eq!(fs::read_to_string(&aside).unwrap(), PODMAN);
        for text in ["second", "third"] {
            fs::write(node.path("net.d/.new"), PODMAN.replace("podman", text)).unwrap();
            fs::rename(node.path("net.d/.new"), &podman).unwrap();
            wait_for("the file aside again", SOON, || !Path::new(&podman).exists());
            assert!(fs::read_to_string(&aside).unwrap().contains(text));
        }
        let insisting = node.path("net.d/00-podman.conflist");
        for _ in 0..3 {
            fs::write(node.path("net.d/.new"), PODMAN).unwrap();
            fs::rename(node.path("net.d/.new"), &insisting).unwrap();
            wait_for("the file aside", SOON, || !Path::new(&insisting).exists());
        }
        fs::write(node.path("net.d/.new"), PODMAN).unwrap();
        fs::rename(node.path("net.d/.new"), &insisting).unwrap();
        wait_for_metric("foreign_configurations", 1, SOON);
        assert!(Path::new(&insisting).exists() && Path::new(&multus).exists());
    });
}

#[test]
fn a_range_comes_before_it_is_offered_and_goes_once_it_is_drained() {
    isolated("a_range_comes_before_it_is_offered_and_goes_once_it_is_drained", || {
        let node = Node::make();
        let _agent = node.start();
        let store = Store::below(Path::new(&node.path("towpath-state")));
        let addresses = |family: &str, state: &str| format!("addresses{{family=\"{family}\",state=\"{state}\"}}");
        wait_for_metric(&addresses("IPv4", "Free"), 253, SOON);
        let first: ipnet::IpNet = "10.244.3.0/24".parse().unwrap();
        let two = STATE.replace(r#"["10.244.3.0/24", "#, r#"["10.244.3.0/24", "10.244.9.0/24", "#);
        fs::write(node.path("state.yaml"), &two).unwrap();
        wait_for("the offer", SOON, || store.node().unwrap().pod_cidrs.len() == 3);
        assert!(routes().contains("blackhole 10.244.9.0/24"), "offered before its blackhole: {}", routes());
        wait_for_metric(&addresses("IPv4", "Free"), 506, SOON);
        let draining = two.replace("  attachment", "  addressing: {draining: [\"10.244.3.0/24\"]}\n  attachment");
        assert!(!store.drained(&first).unwrap());
        fs::write(node.path("state.yaml"), &draining).unwrap();
        wait_for("the drained range", SOON, || store.drained(&first).unwrap());
        wait_for_metric(&addresses("IPv4", "Free"), 253, SOON);
        fs::write(node.path("state.yaml"), STATE.replace("10.244.3.0/24", "10.244.9.0/24")).unwrap();
        wait_for("the end of its route", SOON, || !routes().contains("blackhole 10.244.3.0/24"));
        assert!(!store.node().unwrap().pod_cidrs.contains(&first), "still offered without its blackhole");
        assert!(metric("obstacles") == 0 && metric("drift") == 0);
    });
}

#[test]
fn a_pod_whose_range_was_withdrawn_is_told_of_and_one_that_waits_is_seen_at_once() {
    isolated("a_pod_whose_range_was_withdrawn_is_told_of_and_one_that_waits_is_seen_at_once", || {
        let node = Node::make();
        let small = STATE
            .replace(r#"["10.244.3.0/24", "fd00:244:0:3::/64"]"#, r#"["10.244.3.0/30"]"#)
            .replace("  attachment", "  addressing: {growing: true}\n  attachment");
        fs::write(node.path("state.yaml"), &small).unwrap();
        let _agent = node.start();
        let store = Store::below(Path::new(&node.path("towpath-state")));
        wait_for("the node file", SOON, || store.node().is_ok());
        let create = |container: &str, patience| {
            store.create(&Request {
                network: "towpath",
                attachment: AttachmentId { container: container.to_owned(), interface: "eth0".to_owned() },
                netns: "/run/netns/none",
                loopback_ports: Vec::new(),
                bandwidth: None,
                pod: None,
                mac: None,
                host_ports: Vec::new(),
                wish: Wish::default(),
                patience,
            })
        };
        // Held for as long as the test lasts: what is worked on is not swept.
        let first = create("first", Duration::ZERO).unwrap();
        std::thread::scope(|scope| {
            let second = scope.spawn(|| create("second", Duration::from_secs(60)));
            wait_for_metric("addresses{family=\"IPv4\",state=\"Wanted\"}", 1, SOON);
            fs::write(node.path("state.yaml"), small.replace("/30\"", "/30\", \"10.244.3.64/30\"")).unwrap();
            let second = second.join().unwrap().unwrap();
            assert_eq!(second.lease.addresses[0].address.addr().to_string(), "10.244.3.66");
            wait_for_metric("addresses{family=\"IPv4\",state=\"Wanted\"}", 0, Duration::from_secs(12));
            fs::write(node.path("state.yaml"), small.replace("10.244.3.0/30", "10.244.3.64/30")).unwrap();
            wait_for_metric("obstacles", 1, SOON);
            assert!(node.log().contains("addresses of 10.244.3.0/30 (1 in all)"), "{}", node.log());
        });
        drop(first);
    });
}

#[test]
fn a_damaged_lease_is_told_of_until_it_is_removed() {
    isolated("a_damaged_lease_is_told_of_until_it_is_removed", || {
        let node = Node::make();
        let _agent = node.start();
        let damaged = Store::below(Path::new(&node.path("towpath-state"))).records().join("damaged");
        fs::write(&damaged, "{").unwrap();
        wait_for_metric("obstacles", 1, SOON);
        assert!(node.log().contains("attachments/damaged"), "{}", node.log());
        fs::remove_file(damaged).unwrap();
        wait_for_metric("obstacles", 0, SOON);
    });
}
