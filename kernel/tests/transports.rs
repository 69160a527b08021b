//! From each transport to each other on the real kernel: every operation is taken, and nothing is left to be done.
//!
//! `TOWPATH_KINDS` names what the kernel has, with commas: `vxlan` where nobody says otherwise.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use towpath_kernel::host::HostKernel;
use towpath_kernel::kernel::{Kernel, converge, sysctls_of};
use towpath_kernel::sysctl::{ROOT, Sysctls};
use towpath_kernel::testing::{isolated, run};
use towpath_net::render::render;
use towpath_net::state::{Attachment, NodeName, NodeSpec, NodeState};
use towpath_net::transport::{Transport, Transports};

/// WireGuard needs keys, and has tests of its own.
fn transports() -> Vec<Transport> {
    let kinds = std::env::var("TOWPATH_KINDS").unwrap_or_else(|_| "vxlan".to_owned());
    let has = |kind: &str| kinds.split(',').any(|one| one == kind);
    let named = [("vxlan", Transport::Vxlan), ("geneve", Transport::Geneve), ("ipip", Transport::Ipip)];
    let there = named.into_iter().filter(|(kind, _)| has(kind)).map(|(_, transport)| transport);
    std::iter::once(Transport::Direct).chain(there).collect()
}

/// Six nodes, seen from the third; new pods are attached as `attachment` says.
fn state(transport: Transport, attachment: Attachment) -> NodeState {
    let spec = |n: u8| {
        let text = |text: &str| text.replace('N', &n.to_string());
        let addresses = ["172.16.30.N", "fd00:30::N"].map(|address| text(address).parse().unwrap());
        let cidrs = ["10.244.N.0/24", "fd00:244:0:N::/64"].map(|cidr| text(cidr).parse().unwrap());
        let transport = Transports::only(transport);
        NodeSpec { attachment, transport, ..NodeSpec::plain(addresses.into(), cidrs.into()) }
    };
    let nodes: Vec<(NodeName, NodeSpec)> = (1..7).map(|n| (NodeName(format!("n{n}")), spec(n))).collect();
    NodeState::assemble(&"n3".into(), nodes.iter().map(|(name, spec)| (name, spec, None))).unwrap()
}

#[test]
fn a_node_goes_from_each_transport_to_each_other_and_needs_nothing_more() {
    isolated("a_node_goes_from_each_transport_to_each_other_and_needs_nothing_more", || {
        run("ip link add eth0 type veth peer name wire");
        run("ip address add 172.16.30.3/24 dev eth0");
        run("ip address add fd00:30::3/64 dev eth0 nodad");
        run("ip link set wire up");
        run("ip link set eth0 up");
        let mut kernel = HostKernel::open(Sysctls::below(ROOT)).unwrap();
        let mut to = |transport: Transport, attachment| {
            let around = kernel.observe(&BTreeSet::new()).unwrap().surroundings;
            let rendered = render(&state(transport, attachment), &[], &around, None);
            assert_eq!(rendered.obstacles, [], "{transport}");
            let keys = sysctls_of(&rendered.desired);
            let seen = kernel.observe(&keys).unwrap();
            let report = converge(&mut kernel, &rendered.desired, &seen);
            assert!(report.failed.is_empty() && report.conflicts.is_empty(), "{transport}: {report:#?}");
            let seen = kernel.observe(&keys).unwrap();
            let again = converge(&mut kernel, &rendered.desired, &seen);
            assert!(again.done.is_empty() && again.is_complete(), "{transport}: {again:#?}");
        };
        for from in transports() {
            for other in transports() {
                to(from, Attachment::Routed);
                to(other, Attachment::Bridge);
            }
        }
    });
}
