//! Properties of the planner, on a kernel in memory: wherever it starts and whatever fails, it arrives.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod strategies;

use std::collections::BTreeSet;

use ipnet::IpNet;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::subsequence;
use strategies::{desired, observed, own_settings};
use towpath_kernel::fake::FakeKernel;
use towpath_kernel::kernel::{Kernel, Report, converge, sysctls_of};
use towpath_net::observed::{Desired, Observed, Route, Target};
use towpath_net::ops::Op;
use towpath_net::plan::plan;

/// Per property.
const CASES: u32 = 3_000;

fn step(kernel: &mut FakeKernel, desired: &Desired) -> Report {
    let seen = kernel.observe(&sysctls_of(desired)).unwrap();
    converge(kernel, desired, &seen)
}

/// Whether the kernel has all that is wanted, but for what a foreign route or a missing link stands in the way of.
fn has_arrived(kernel: &FakeKernel, desired: &Desired) -> Result<(), TestCaseError> {
    let state = &kernel.state;
    let left = plan(desired, &Observed { sysctls: state.sysctls.clone(), ..state.clone() });
    prop_assert_eq!(&left.ops, &[]);
    for (to, wanted) in &desired.routes {
        let there = state.routes.contains(&Route { destination: *to, target: *wanted });
        let no_link = wanted.pod_link().is_some_and(|link| !state.links.contains_key(link));
        prop_assert!(there || no_link || state.foreign_routes.contains(to), "no route to {}", to);
    }
    for route in &state.routes {
        let cni = route.target.pod_link().is_some_and(|link| !desired.links.contains_key(link));
        let waits = desired
            .routes
            .get(&route.destination)
            .and_then(Target::pod_link)
            .is_some_and(|l| !state.links.contains_key(l));
        prop_assert!(cni || waits || desired.routes.contains_key(&route.destination), "surplus {}", route);
    }
    for (name, wanted) in &desired.links {
        prop_assert!(state.links.get(name).is_none_or(|link| link == wanted));
    }
    prop_assert_eq!(&state.devices, &desired.devices);
    prop_assert_eq!(&state.neighbours, &desired.neighbours);
    for (name, wanted) in &desired.ciphers {
        let seen = state.ciphers.get(name);
        prop_assert!(seen.is_some_and(|seen| seen.peers == wanted.peers));
    }
    for (station, to) in &desired.stations {
        prop_assert!(state.stations.get(station) == Some(to) || !state.links.contains_key(&*station.link));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, ..ProptestConfig::default() })]

    #[test]
    fn one_pass_arrives_and_the_next_writes_nothing(desired in desired(), observed in observed()) {
        let mut kernel = FakeKernel::with(observed);
        let report = step(&mut kernel, &desired);
        prop_assert!(report.failed.is_empty(), "{:?}", report.failed);
        has_arrived(&kernel, &desired)?;
        let writes = kernel.writes();
        step(&mut kernel, &desired);
        prop_assert_eq!(kernel.writes(), writes);
    }

    #[test]
    fn what_is_foreign_stays(desired in desired(), observed in observed()) {
        let foreign = observed.foreign_routes.clone();
        let pods: Vec<Route> = observed
            .routes
            .iter()
            .filter(|r| r.target.pod_link().is_some_and(|l| !desired.links.contains_key(l)))
            .filter(|r| !desired.routes.contains_key(&r.destination))
            .copied()
            .collect();
        let links: BTreeSet<String> = observed.links.keys().cloned().collect();
        let mut kernel = FakeKernel::with(observed);
        step(&mut kernel, &desired);
        prop_assert_eq!(&kernel.state.foreign_routes, &foreign);
        prop_assert!(pods.iter().all(|route| kernel.state.routes.contains(route)));
        prop_assert_eq!(kernel.state.links.keys().cloned().collect::<BTreeSet<_>>(), links);
    }

    #[test]
    fn killed_after_any_operation_a_fresh_one_arrives(desired in desired(), observed in observed(), at in 0..12u64) {
        let mut kernel = FakeKernel::with(observed);
        kernel.dies_at = Some(at);
        step(&mut kernel, &desired);
        let mut fresh = FakeKernel::with(kernel.state);
        let report = step(&mut fresh, &desired);
        prop_assert!(report.failed.is_empty(), "{:?}", report.failed);
        has_arrived(&fresh, &desired)?;
    }

    #[test]
    fn when_any_one_operation_fails_the_next_pass_arrives(desired in desired(), observed in observed(), at in 0..12u64) {
        let mut kernel = FakeKernel::with(observed);
        kernel.fails_at = Some(at);
        step(&mut kernel, &desired);
        kernel.fails_at = None;
        step(&mut kernel, &desired);
        has_arrived(&kernel, &desired)?;
    }

    #[test]
    fn from_one_network_to_another_and_back_is_where_it_was(a in desired(), b in desired(), observed in observed()) {
        let mut kernel = FakeKernel::with(observed);
        step(&mut kernel, &a);
        let (routes, table, addresses) = (kernel.state.routes.clone(), kernel.state.table.clone(), kernel.state.addresses.clone());
        step(&mut kernel, &b);
        step(&mut kernel, &a);
        has_arrived(&kernel, &a)?;
        let own = |routes: &BTreeSet<Route>| -> BTreeSet<Route> {
            routes.iter().filter(|r| a.routes.get(&r.destination) == Some(&r.target)).copied().collect()
        };
        prop_assert_eq!(own(&kernel.state.routes), own(&routes));
        if a.table.is_some() && a.tolerated.is_empty() && b.tolerated.is_empty() {
            prop_assert_eq!(&kernel.state.table, &table);
        }
        prop_assert!(addresses.iter().filter(|x| a.links.contains_key(&*x.link)).all(|x| kernel.state.addresses.contains(x)));
    }

    #[test]
    fn a_node_that_is_left_keeps_nothing_of_ours(desired in desired(), observed in observed(), before in own_settings()) {
        let mut kernel = FakeKernel::with(observed);
        step(&mut kernel, &desired);
        let nothing = towpath_net::render::render_nothing(before.clone());
        step(&mut kernel, &nothing);
        let state = &kernel.state;
        prop_assert!(state.routes.is_empty() && state.links.is_empty() && state.addresses.is_empty());
        prop_assert!(state.devices.is_empty() && state.nexthops.is_empty() && state.ciphers.is_empty());
        prop_assert!(state.neighbours.is_empty() && state.stations.is_empty());
        prop_assert_eq!(&kernel.state.table, &None);
        prop_assert!(before.iter().all(|(key, value)| kernel.state.sysctls.get(key) == Some(value)));
    }

    #[test]
    fn no_destination_is_without_a_route_while_routes_move(desired in desired(), observed in observed()) {
        // What leads to a device that has to be made anew goes with the old one.
        let plan = plan(&desired, &observed);
        if plan.ops.iter().any(|op| matches!(op, Op::MakeDevice { anew: true, .. })) {
            return Ok(());
        }
        let mut kernel = FakeKernel::with(observed.clone());
        let kept: Vec<&IpNet> = observed
            .routes
            .iter()
            .map(|route| &route.destination)
            .filter(|to| desired.routes.get(*to).is_some_and(|target| target.pod_link().is_none()))
            .collect();
        for op in &plan.ops {
            kernel.apply_all(std::slice::from_ref(op));
            for to in &kept {
                prop_assert!(kernel.state.routes.iter().any(|route| route.destination == **to), "{to} after {op}");
            }
        }
    }

    #[test]
    fn a_plan_is_in_the_order_of_its_operations(desired in desired(), observed in observed()) {
        let ranks: Vec<u8> = plan(&desired, &observed).ops.iter().map(Op::rank).collect();
        prop_assert!(ranks.is_sorted());
    }

    #[test]
    fn the_order_in_which_peers_and_leases_come_does_not_matter(order in subsequence((0..6u8).collect::<Vec<_>>(), 6), swap in vec(0..6usize, 6)) {
        let mut shuffled = order.clone();
        for (i, j) in swap.into_iter().enumerate() {
            shuffled.swap(i, j);
        }
        prop_assert_eq!(rendered(&order), rendered(&shuffled));
    }
}

/// What is rendered for a node with the leases of `pods` in that order.
fn rendered(pods: &[u8]) -> towpath_net::render::Rendered {
    use towpath_net::lease::{HostPort, Lease, LeasedAddress, Phase, Protocol, host_interface};
    use towpath_net::observed::{Subnet, Surroundings};
    use towpath_net::state::{Attachment, Masquerade, MasqueradeMode, NodeName, NodeSpec, NodeState};
    let spec = |n: u8| NodeSpec {
        masquerade: Masquerade { mode: MasqueradeMode::LeavingCluster, excluded: Vec::new() },
        ..NodeSpec::plain(vec![[172, 16, 30, n].into()], vec![format!("10.244.{n}.0/24").parse().unwrap()])
    };
    let nodes: Vec<(NodeName, NodeSpec)> = pods.iter().map(|n| (NodeName(format!("n{n}")), spec(*n))).collect();
    let state =
        NodeState::assemble(&NodeName::from("n0"), nodes.iter().map(|(name, spec)| (name, spec, None))).unwrap();
    let lease = |n: u8| Lease {
        network: "towpath".to_owned(),
        container_id: n.to_string(),
        interface: "eth0".to_owned(),
        netns: String::new(),
        host_interface: host_interface(&n.to_string(), "eth0"),
        phase: Phase::Ready,
        mode: Attachment::Routed,
        addresses: vec![LeasedAddress {
            address: format!("10.244.0.{}/24", n + 2).parse().unwrap(),
            gateway: [10, 244, 0, 1].into(),
        }],
        mtu: 1500,
        mac: None,
        host_ports: vec![HostPort {
            host_ip: None,
            host_port: 8000 + u16::from(n),
            container_port: 80,
            protocol: Protocol::Udp,
        }],
        loopback_ports: Vec::new(),
        bandwidth: None,
        pod: None,
    };
    let leases: Vec<Lease> = pods.iter().map(|n| lease(*n)).collect();
    let subnet = Subnet { link: "eth0".to_owned(), address: "172.16.30.0/24".parse().unwrap(), mtu: 1500 };
    towpath_net::render::render(&state, &leases, &Surroundings { subnets: BTreeSet::from([subnet]) }, None)
}
