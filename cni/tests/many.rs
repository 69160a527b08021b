//! Many attachments at once, processes that are killed, and what is collected after them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod support;

use std::time::{Duration, Instant};

use serde_json::json;
use support::{Call, add, collect, config_with_ports, del, leases, netns, node, sh, table, traces, wait_until};
use towpath_kernel::leases::Store;
use towpath_kernel::link;
use towpath_kernel::netlink::{Protocol, Socket};
use towpath_kernel::release::{Sight, sweep_node};
use towpath_kernel::testing::isolated;
use towpath_net::lease::LINK_PREFIX;
use towpath_net::sweep::Scope;

const DUAL: [&str; 2] = ["10.244.1.0/24", "fd00:10:244:1::/64"];

/// How many links of ours the node has.
fn pairs() -> usize {
    let links = link::list(&mut Socket::open(Protocol::Route).unwrap()).unwrap();
    links.iter().filter(|link| link.name.starts_with(LINK_PREFIX)).count()
}

fn remove_namespace(name: &str) {
    sh(&format!("ip netns del {name}"));
}

/// How long an ADD and a DEL take. On a busy machine each may take long for once, but not all of them.
fn times() -> [Duration; 2] {
    let once = |number: u32| {
        let name = format!("whole{number}");
        let path = netns(&name);
        let time = |verb| {
            let started = Instant::now();
            Call::of(verb, &name, &path).succeed();
            started.elapsed()
        };
        let times = ["ADD", "DEL"].map(time);
        remove_namespace(&name);
        times
    };
    (0..5).map(once).reduce(|[add, del], [other_add, other_del]| [add.min(other_add), del.min(other_del)]).unwrap()
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
        let [whole, _] = times();
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
        let [_, whole] = times();
        for round in 0..20_u32 {
            add("a");
            let mut child = Call::of("DEL", "a", "/run/netns/a").start();
            let end = Instant::now() + whole * round / 16;
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
