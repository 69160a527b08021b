//! Policies about SCTP, with real connections: what upstream's suites ask for, where the kernel has such sockets. The
//! lists of what is left out elsewhere name these tests as what is run instead.

mod exchange;
mod steps;
mod world;

use std::collections::BTreeSet;

pub use self::steps::Tests;
use self::world::World;

/// Some of upstream's tests, and the test here that does the same.
pub struct Group {
    /// The test's name in this program.
    pub test: &'static str,
    /// What is done, by upstream's names of tests.
    tests: fn() -> Tests,
}

macro_rules! group {
    ($test:literal, $kind:ident, $file:literal) => {
        Group { test: concat!("inside::", $test), tests: || Tests::$kind(include_str!($file)) }
    };
}

pub const EGRESS: Group = group!("cluster_policies_of_egress_hold_for_sctp", cluster, "egress.yaml");
pub const INGRESS: Group = group!("cluster_policies_of_ingress_hold_for_sctp", cluster, "ingress.yaml");
pub const BOTH: Group = group!("cluster_policies_of_both_ways_hold_for_sctp_udp_and_tcp", cluster, "both.yaml");
pub const PEERS: Group = group!("addresses_and_nodes_as_peers_hold_for_sctp", cluster, "peers.yaml");
pub const PORTS: Group = group!("ports_of_sctp_are_those_of_no_other_protocol", cluster, "ports.yaml");
pub const NAMESPACED: Group = group!("network_policies_hold_for_sctp", namespaced, "netpol.yaml");

/// All of them.
pub const GROUPS: [Group; 6] = [EGRESS, INGRESS, BOTH, PEERS, PORTS, NAMESPACED];

impl Group {
    /// Does it.
    pub fn run(&self) {
        let mut world = World::make();
        let checks = (self.tests)().run(&mut world);
        println!("{checks} connections as they should be");
    }

    /// Upstream's names of what is done, as the lists of what is left out have them.
    fn names(&self) -> BTreeSet<String> {
        (self.tests)().names()
    }
}

/// The lists of what this kernel cannot run, and where they are.
const LEFT_OUT: [(&str, &str); 2] = [
    ("policy-api-left-out.txt", include_str!("../../../policy-api-left-out.txt")),
    ("policies-left-out.txt", include_str!("../../../policies-left-out.txt")),
];

/// Whatever is left out for lack of SCTP names the test here that does the same, and that test does.
pub fn everything_left_out_is_done_here() {
    for (file, text) in LEFT_OUT {
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (name, reason) = line.split_once('\t').unwrap();
            let group = GROUPS.iter().find(|group| group.names().contains(name));
            let group = group.unwrap_or_else(|| panic!("e2e/{file}: nothing does the same: {name}"));
            assert!(reason.ends_with(group.test), "e2e/{file}: {} does the same, and is not named: {line}", group.test);
        }
    }
}
