//! What holds whatever a node is told.

use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::*;
use crate::device::is_device;
use crate::family::host_net;
use crate::state::{Attachment, Peer};
use crate::transport::{Keys, PublicKey, Slot, Transport, Transports};

fn transports() -> impl Strategy<Value = Transports> {
    let some = || subsequence(Transport::ALL.to_vec(), 1..5).prop_shuffle();
    (some(), some(), any::<bool>()).prop_map(|(prefers, accepts, cross_subnet_only)| Transports {
        prefers,
        accepts,
        cross_subnet_only,
        ..Transports::only(Transport::Direct)
    })
}

/// Addresses near and far, none or one of each family.
fn addresses(last: u8) -> impl Strategy<Value = Vec<IpAddr>> {
    let of = move |texts: [&str; 2]| texts.map(|text| text.replace('N', &last.to_string()).parse().unwrap()).to_vec();
    let of_v4 = subsequence(of(["172.16.30.N", "172.16.99.N"]), 0..2);
    let of_v6 = subsequence(of(["fd00:30::N", "fd00:99::N"]), 0..2);
    (of_v4, of_v6).prop_map(|(v4, v6)| [v4, v6].concat())
}

/// CIDRs that may overlap, contain others, or be everything.
fn cidr() -> impl Strategy<Value = IpNet> {
    let net = |address: &'static str| move |length| IpNet::new(address.parse().unwrap(), length).unwrap().trunc();
    prop_oneof![
        8 => (select(vec!["10.244.3.0", "10.244.4.0", "10.244.4.64", "10.9.0.0"]), 16..=32_u8)
            .prop_map(move |(address, length)| net(address)(length)),
        8 => (select(vec!["fd00:244:0:3::", "fd00:244:0:4::", "fd00:9::"]), 48..=128_u8)
            .prop_map(move |(address, length)| net(address)(length)),
        1 => select(Family::ALL.to_vec()).prop_map(Family::everything),
    ]
}

fn keys() -> impl Strategy<Value = Option<Keys>> {
    let key = || proptest::option::of((0..4_u8).prop_map(|byte| PublicKey([byte; 32])));
    let keys = (key(), key(), select(Slot::ALL.to_vec()));
    proptest::option::of(keys.prop_map(|(first, second, active)| Keys { first, second, active }))
}

fn peer() -> impl Strategy<Value = Peer> {
    (addresses(4), vec(cidr(), 0..3), transports(), keys()).prop_map(|(addresses, pod_cidrs, transports, keys)| Peer {
        addresses,
        pod_cidrs,
        accepts: transports.accepts,
        keys,
    })
}

fn modes() -> impl Strategy<Value = Attachment> {
    select(vec![Attachment::Routed, Attachment::LinkLocal, Attachment::Bridge])
}

fn states() -> impl Strategy<Value = NodeState> {
    let peers = btree_map(select(vec!["n4", "n5", "n6"]).prop_map(NodeName::from), peer(), 0..3);
    let own = (addresses(3), vec(cidr(), 0..3), vec(cidr(), 0..2), vec(cidr(), 0..2), transports(), modes());
    (own, peers, 500..9000_u32).prop_map(
        |((addresses, pod_cidrs, pod_ranges, excluded, transport, attachment), peers, mtu)| {
            let masquerade = Masquerade { mode: MasqueradeMode::LeavingCluster, excluded };
            let mtu = Mtu::Bytes(mtu);
            let plain = NodeSpec::plain(addresses, pod_cidrs);
            NodeState {
                node: "n3".into(),
                spec: NodeSpec { pod_ranges, attachment, transport, mtu, masquerade, ..plain },
                peers,
            }
        },
    )
}

fn surroundings() -> impl Strategy<Value = Surroundings> {
    btree_set((select(vec!["172.16.30.3/24", "172.16.99.3/24", "fd00:30::3/64"]), 600..9000_u32), 0..3).prop_map(
        |subnets| Surroundings {
            subnets: subnets
                .into_iter()
                .map(|(address, mtu)| Subnet { link: "eth0".to_owned(), address: address.parse().unwrap(), mtu })
                .collect(),
        },
    )
}

/// The ranges of every interval set, in order.
fn ranges(desired: &Desired) -> Vec<Vec<crate::ranges::Range>> {
    let sets = desired.table.iter().flat_map(|table| table.sets.values()).filter(|set| set.interval);
    let range = |element: &Element| match element {
        Element::Range(range) => Some(*range),
        Element::Key { .. } => None,
    };
    sets.map(|set| set.elements.iter().filter_map(range).collect()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn whatever_a_node_is_told_comes_to_something_that_fits_together(
        state in states(), around in surroundings(), own in keys(), mode in modes(), leased in any::<bool>(),
    ) {
        let leases: Vec<Lease> = leased.then(|| Lease { mode, ..lease() }).into_iter().collect();
        let rendered = render(&state, &leases, &around, own.as_ref());
        prop_assert_eq!(&rendered, &render(&state, &leases, &around, own.as_ref()));
        let desired = &rendered.desired;
        prop_assert_eq!(&desired.sysctls, &settings_of(&state, &leases), "read before anything is rendered");
        let there = |link: &str| !is_device(link) || desired.devices.contains_key(link);
        let links = desired.routes.values().filter_map(Target::link);
        let links = links.chain(desired.addresses.iter().map(|address| address.link.as_str()));
        let links = links.chain(desired.neighbours.keys().map(|neighbour| neighbour.link.as_str()));
        let links = links.chain(desired.stations.keys().map(|station| station.link.as_str()));
        let links = links.chain(desired.ciphers.keys().map(String::as_str));
        let mut links = links.chain(desired.sysctls.keys().filter_map(Sysctl::link));
        prop_assert!(links.all(there), "{desired:#?}");
        let table = desired.table.as_ref().unwrap();
        for expr in table.chains.values().flat_map(|chain| &chain.rules).flat_map(|rule| &rule.exprs) {
            match expr {
                crate::nft::Expr::Lookup { set, .. } => prop_assert!(table.sets.contains_key(set), "{set}"),
                crate::nft::Expr::Jump { chain } => prop_assert!(table.chains.contains_key(chain), "{chain}"),
                _ => {}
            }
        }
        for ranges in ranges(desired) {
            prop_assert!(ranges.windows(2).all(|pair| pair[0].last < pair[1].first), "{ranges:?}");
        }
    }

    #[test]
    fn what_must_be_encrypted_leaves_by_wireguard_or_not_at_all(
        state in states(), around in surroundings(), own in keys(),
    ) {
        let mut state = state;
        state.spec.transport.prefers = vec![Transport::WireGuard];
        state.spec.transport.cross_subnet_only = false;
        state.spec.attachment = Attachment::Routed;
        let desired = render(&state, &[], &around, own.as_ref()).desired;
        let encrypted = |target: &Target| match target {
            Target::Blackhole => true,
            target => target.link().is_some_and(|link| link.starts_with("towwg")),
        };
        prop_assert!(desired.routes.values().all(encrypted), "{:?}", desired.routes);
        let peers = state.peers.values().flat_map(|peer| &peer.pod_cidrs);
        for cidr in state.spec.pod_ranges.iter().chain(peers) {
            prop_assert!(desired.routes.contains_key(cidr), "{cidr}");
        }
        let table = desired.table.unwrap();
        prop_assert!(table.chains.contains_key("encrypted"));
        for cidr in &state.spec.pod_ranges {
            let name = if Family::of_net(cidr) == Family::V4 { "encrypted-v4" } else { "encrypted-v6" };
            let range = crate::ranges::Range::from(cidr);
            let covered = |element: &Element| matches!(element, Element::Range(held) if held.covers(&range));
            prop_assert!(table.sets[name].elements.iter().any(covered), "{cidr}");
        }
    }

    #[test]
    fn the_number_of_rules_is_the_same_however_many_nodes_and_pods_there_are(nodes in 1..40_u8, pods in 0..40_u8) {
        let state = |count: u8| {
            let specs: Vec<_> = (3..=3 + count).map(|n| {
                let transport = Transports::only(Transport::Vxlan);
                (NodeName(format!("n{n}")), NodeSpec { transport, ..spec(n) })
            }).collect();
            NodeState::assemble(&"n3".into(), specs.iter().map(|(name, spec)| (name, spec, None))).unwrap()
        };
        let leases: Vec<Lease> = (0..pods).map(|n| Lease { container_id: n.to_string(), ..lease() }).collect();
        let chains = |rendered: Rendered| rendered.desired.table.unwrap().chains;
        let few = chains(render(&state(1), &[], &around(), None));
        prop_assert_eq!(chains(render(&state(nodes), &leases, &around(), None)), few);
    }
}

/// The families alike: what there is for IPv4 alone is there for IPv6 alone.
#[test]
fn a_node_of_one_family_has_as_much_as_one_of_the_other() {
    for transport in Transport::ALL {
        let of = |family: Family| {
            let specs = [3, 4].map(|n| {
                let mut spec = NodeSpec { transport: Transports::only(transport), ..spec(n) };
                spec.addresses.retain(|address| Family::of(*address) == family);
                spec.pod_cidrs.retain(|cidr| Family::of_net(cidr) == family);
                (NodeName(format!("n{n}")), spec)
            });
            let keys = Keys { first: Some(PublicKey([1; 32])), ..Keys::default() };
            let state = NodeState::assemble(&"n3".into(), specs.iter().map(|(name, spec)| (name, spec, Some(keys))));
            let Rendered { desired, obstacles, mtu } = render(&state.unwrap(), &[], &around(), Some(&keys));
            assert_eq!(obstacles, [], "{transport}");
            assert_eq!(mtu, Some(1500 - transport.overhead(family)));
            let Desired { devices, addresses, neighbours, stations, ciphers, routes, .. } = desired;
            let hosts = addresses.iter().filter(|address| address.address == host_net(address.address.addr())).count();
            [devices.len(), addresses.len(), hosts, neighbours.len(), stations.len(), ciphers.len(), routes.len()]
        };
        assert_eq!(of(Family::V4), of(Family::V6), "{transport}");
    }
}
