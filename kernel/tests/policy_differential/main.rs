//! Real packets between namespaces, judged by the text of the policies' APIs: the tests of `towpath-net` judge the same
//! rules in memory.
//!
//! `TOWPATH_SEED` and `TOWPATH_CASES` choose the first cluster and how many packets are sent.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../../../net/tests/policy/compiled.rs"]
mod compiled;
#[path = "../../../net/tests/policy/generate.rs"]
mod generate;
mod lab;
#[path = "../../../net/tests/policy/naive.rs"]
mod naive;
#[path = "../../../net/tests/policy/node.rs"]
mod node;
#[path = "../../../net/tests/policy/search.rs"]
mod search;
#[path = "../../../net/tests/policy/shrink.rs"]
mod shrink;
#[path = "../../../net/tests/policy/text.rs"]
mod text;
#[path = "../../../net/tests/policy/world.rs"]
mod world;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::IpAddr;

use fastrand::Rng;
use generate::Shape;
use lab::{Lab, SLOTS, Whose, whose};
use node::Local;
use search::Search;
use towpath_kernel::policy::{Meanwhile, PolicyTable, Repair};
use towpath_kernel::testing::isolated;
use towpath_net::policy::bind::{LeaseChanges, Leases};
use towpath_net::policy::bundle::{Bundle, Delta};
use towpath_net::policy::input::Pod;
use towpath_net::state::NodeName;
use world::{Packet, World, is_local};

const NODE: &str = "n1";
const SEARCH: Search<'_> = Search {
    cases: 20_000,
    packets: 200,
    shape: Shape { is_routable: true, slots: Some(SLOTS) },
    is_wanted: &can_be_sent,
};
/// The protocols whose connections every kernel tells apart by ports: each packet has another one of its source.
const HAVE_PORTS: [u8; 2] = [6, 17];
/// What the kernel takes for headers between that of IPv6 and the packet's content, or ends there (IANA).
const NOT_BEHIND_IPV6: [u8; 10] = [0, 43, 44, 50, 51, 59, 60, 135, 139, 140];

#[test]
fn real_packets_meet_what_the_text_of_the_api_says() {
    isolated("real_packets_meet_what_the_text_of_the_api_says", || {
        let node = RefCell::new(Node { lab: Lab::make(), table: PolicyTable::open().unwrap() });
        SEARCH.run(|world, packets, seed| node.borrow_mut().differs(world, packets, seed));
    });
}

/// What can be sent from where it comes from, and seen where it goes, and has to do with a pod of the node.
fn can_be_sent(packet: &Packet) -> bool {
    let (source, destination) = (whose(packet.source), whose(packet.destination));
    let is_plain = packet.source.is_ipv4() || !NOT_BEHIND_IPV6.contains(&packet.protocol);
    packet.source != packet.destination
        && source != Whose::Node
        && (destination != Whose::Node || lab::OWN.contains(&packet.protocol))
        && (source, destination) != (Whose::Outside, Whose::Outside)
        && is_plain
}

struct Node {
    lab: Lab,
    table: PolicyTable,
}

impl Node {
    /// The first packet that arrives though the text of the API says otherwise, or the other way round.
    fn differs(&mut self, world: &World, packets: &[Packet], seed: u64) -> Option<(Packet, String)> {
        self.program(world, seed);
        let again = self.table.repair(&bundle(world, seed), &leases(world)).unwrap();
        if again != Repair::Nothing {
            return Some((*packets.first()?, format!("what was made is not what should be: {again:?}")));
        }
        lab::forget_connections();
        let packets = without_answers(packets);
        let arrived = self.lab.pass(&packets);
        packets.into_iter().zip(arrived).find_map(|(packet, arrived)| {
            let expected = !world.is_policed() || arrives(world, &packet)?;
            (arrived != expected)
                .then(|| (packet, format!("the API says that it arrives: {expected}; it did: {arrived}")))
        })
    }

    /// Gives the kernel an earlier state first, and then makes of that what there is: anew or from what the last cluster
    /// left, and by a change or by a look at what is there.
    fn program(&mut self, world: &World, seed: u64) {
        let earlier = if seed & 32 == 0 { half(world, seed) } else { another(seed) };
        let (before, after) = (bundle(&earlier, seed), bundle(world, seed));
        let (early, late) = (leases(&earlier), leases(world));
        if seed & 4 == 0 {
            self.table.load(&before, &early, Meanwhile::Closed).unwrap();
        } else {
            self.table.repair(&before, &early).unwrap();
        }
        if seed & 8 == 0 {
            self.table.repair(&after, &late).unwrap();
        } else {
            self.table.change(&before, &Delta::between(&before, &after), &changes(&early, late)).unwrap();
        }
    }
}

/// The addresses of the node's pods, where they have any.
fn leases(world: &World) -> Leases {
    let here =
        |pod: &&Pod| is_local(pod) && !pod.addresses.is_empty() && pod.node.as_ref().is_some_and(|node| node.0 == NODE);
    world.pods.iter().filter(here).map(|pod| (pod.uid.clone(), pod.addresses.clone())).collect()
}

/// What leads from some leases to others.
fn changes(early: &Leases, late: Leases) -> LeaseChanges {
    let gone = early.keys().filter(|uid| !late.contains_key(*uid)).map(|uid| (uid.clone(), None)).collect();
    let new = late.into_iter().filter(|(uid, addresses)| early.get(uid) != Some(addresses));
    let mut changes: LeaseChanges = gone;
    changes.extend(new.map(|(uid, addresses)| (uid, Some(addresses))));
    changes
}

/// What the node is told; of a node that there is not, nothing.
fn bundle(world: &World, seed: u64) -> Bundle {
    compiled::bundles(world, seed).remove(&NodeName(NODE.to_owned())).unwrap_or_default()
}

/// The cluster with every other policy or none, and with no labels, or no address, of some pods.
fn half(world: &World, seed: u64) -> World {
    let mut rng = Rng::with_seed(seed);
    let mut half = world.clone();
    let has_policies = rng.u8(0..4) > 0;
    half.policies.retain(|_| has_policies && rng.bool());
    half.cluster_policies.retain(|_| has_policies && rng.bool());
    for pod in &mut half.pods {
        match rng.u8(0..4) {
            0 => pod.labels.clear(),
            1 if !pod.is_host_network => pod.addresses.clear(),
            _ => {}
        }
    }
    half
}

/// Some other cluster with pods of the same names.
fn another(seed: u64) -> World {
    generate::world(&mut Rng::with_seed(!seed), SEARCH.shape)
}

/// Whether a packet arrives, by the text of the API: nothing does of an address, or to it, that no pod has there.
fn arrives(world: &World, packet: &Packet) -> Option<bool> {
    let end = |address: IpAddr| {
        let is_slot = matches!(whose(address), Whose::Slot(_));
        let local = Local::at(world, &NodeName(NODE.to_owned()), address)?;
        Some((local, is_slot && !matches!(local, Local::Pod(_))))
    };
    let (source, no_source) = end(packet.source)?;
    let (destination, no_destination) = end(packet.destination)?;
    Some(!no_source && !no_destination && node::passes(world, source, destination, packet))
}

/// Leaves out packets that the kernel would take for answers to earlier ones.
fn without_answers(packets: &[Packet]) -> Vec<Packet> {
    let mut sent = BTreeSet::new();
    let is_new = |packet: &&Packet| {
        sent.insert((packet.source, packet.destination, packet.protocol));
        HAVE_PORTS.contains(&packet.protocol) || !sent.contains(&(packet.destination, packet.source, packet.protocol))
    };
    packets.iter().filter(is_new).copied().collect()
}
