//! Many attachments at once, processes that are killed, and what is collected after them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod support;

use std::collections::BTreeSet;
use std::process::Child;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{Call, add, config, config_with_ports, del, leases, netns, node, sh, table, traces, wait_until};
use towpath_kernel::leases::Store;
use towpath_kernel::link;
use towpath_kernel::netlink::{Protocol, Socket};
use towpath_kernel::release::{Sight, sweep_node};
use towpath_kernel::testing::isolated;
use towpath_net::lease::{LINK_PREFIX, Phase};
use towpath_net::sweep::Scope;

const DUAL: [&str; 2] = ["10.244.1.0/24", "fd00:10:244:1::/64"];

fn collect(listed: Option<&[&str]>) -> Call {
    let mut config = config();
    if let Some(listed) = listed {
        let entry = |container: &&str| json!({"containerID": container, "ifname": "eth0"});
        config["cni.dev/valid-attachments"] = listed.iter().map(entry).collect::<Vec<Value>>().into();
    }
    Call::new("GC").config(&config)
}

/// How many links of ours the node has.
fn pairs() -> usize {
    let links = link::list(&mut Socket::open(Protocol::Route).unwrap()).unwrap();
    links.iter().filter(|link| link.name.starts_with(LINK_PREFIX)).count()
}

fn remove_namespace(name: &str) {
    sh(&format!("ip netns del {name}"));
}

#[test]
fn fifty_at_once_get_addresses_of_their_own_and_all_go_again() {
    isolated("fifty_at_once_get_addresses_of_their_own_and_all_go_again", || {
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

/// Starts an ADD and kills it after a while; tells whether it was killed.
fn kill_after(call: &Call, pause: Duration) -> bool {
    let mut child = call.start();
    let end = Instant::now() + pause;
    while Instant::now() < end {
        std::hint::spin_loop();
    }
    child.kill().unwrap();
    !child.wait().unwrap().success()
}

#[test]
fn what_killed_processes_leave_is_detached_or_collected() {
    isolated("what_killed_processes_leave_is_detached_or_collected", || {
        node(&DUAL);
        table();
        let before = traces();
        let started = Instant::now();
        add("whole");
        let whole = started.elapsed();
        del("whole");
        let mut killed = 0;
        for round in 0..60_u32 {
            let name = format!("p{round}");
            let path = netns(&name);
            let mut ports = json!([{"hostPort": 8000 + round, "containerPort": 80, "protocol": "udp"}]);
            if round % 2 == 0 {
                ports = json!([]);
            }
            let call = Call::of("ADD", &name, &path).config(&config_with_ports(&ports));
            killed += u32::from(kill_after(&call, whole * round / 50));
            if round % 3 == 0 {
                Call::of("DEL", &name, &path).succeed();
                assert!(!sh(&format!("ip -n {name} -o link")).contains("eth0"));
            }
            // Of the others the namespace dies, and the runtime never calls again.
            remove_namespace(&name);
        }
        assert!(killed > 10, "only {killed} of 60 were killed");
        collect(Some(&[])).succeed();
        wait_until("the kernel removed the last links", || pairs() == 0);
        collect(Some(&[])).succeed();
        assert_eq!(traces(), before);
        add("next");
        del("next");
    });
}

#[test]
fn a_detach_that_is_killed_can_be_repeated() {
    isolated("a_detach_that_is_killed_can_be_repeated", || {
        node(&DUAL);
        let before = traces();
        let started = Instant::now();
        add("whole");
        del("whole");
        let whole = started.elapsed();
        for round in 0..20_u32 {
            add("a");
            let mut child = Call::of("DEL", "a", "/run/netns/a").start();
            let end = Instant::now() + whole * round / 20;
            while Instant::now() < end {
                std::hint::spin_loop();
            }
            child.kill().unwrap();
            child.wait().unwrap();
            // An address is never free while its link is there.
            assert!(!leases().is_empty() || pairs() == 0);
            del("a");
            assert_eq!(traces(), before);
            remove_namespace("a");
        }
    });
}

#[test]
fn a_runtime_collects_what_it_does_not_list_and_nothing_else() {
    isolated("a_runtime_collects_what_it_does_not_list_and_nothing_else", || {
        node(&DUAL);
        for name in ["listed", "dead", "alive"] {
            add(name);
        }
        let mut other = config();
        other["name"] = json!("another");
        Call::of("ADD", "foreign", &netns("foreign")).config(&other).succeed();
        remove_namespace("dead");
        remove_namespace("foreign");
        let containers = || leases().into_iter().map(|lease| lease.container_id).collect::<Vec<_>>();
        collect(None).succeed();
        assert_eq!(containers(), ["alive", "dead", "foreign", "listed"], "no list is not an empty list");
        assert_eq!(collect(Some(&["listed"])).succeed().stdout, "");
        assert_eq!(containers(), ["alive", "foreign", "listed"], "a pod that lives may be another runtime's");
        collect(Some(&[])).succeed();
        assert_eq!(containers(), ["alive", "foreign", "listed"]);
        remove_namespace("alive");
        collect(Some(&["listed"])).succeed();
        assert_eq!(containers(), ["foreign", "listed"]);
    });
}

#[test]
fn the_agent_sweeps_by_itself_even_where_it_sees_no_namespaces() {
    isolated("the_agent_sweeps_by_itself_even_where_it_sees_no_namespaces", || {
        node(&DUAL);
        add("alive");
        add("dead");
        remove_namespace("dead");
        wait_until("the kernel removed the link", || pairs() == 1);
        let mut socket = Socket::open(Protocol::Route).unwrap();
        let store = Store::below(support::STATE.as_ref());
        // As from a container that has mounts of its own.
        sh(
            "mount --bind /run/netns /run/netns && mkdir /run/hidden && mount --move /run/netns /run/hidden 2>/dev/null; true",
        );
        let swept = sweep_node(&store, &mut socket, &Scope::Node, Sight::Own).unwrap();
        assert_eq!(swept.released.iter().map(|id| id.container.as_str()).collect::<Vec<_>>(), ["dead"]);
        assert!(swept.failed.is_empty() && swept.broken.is_empty());
        assert_eq!(leases().len(), 1);
    });
}

#[test]
fn what_somebody_works_on_is_not_swept() {
    isolated("what_somebody_works_on_is_not_swept", || {
        node(&DUAL);
        add("a");
        let store = Store::below(support::STATE.as_ref());
        let held = store.hold(&leases()[0].attachment()).unwrap().unwrap();
        remove_namespace("a");
        collect(Some(&[])).succeed();
        assert_eq!(leases().len(), 1);
        drop(held);
        collect(Some(&[])).succeed();
        assert!(leases().is_empty());
    });
}
