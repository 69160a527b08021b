//! Random clusters and packets: what the API's text says of each must be what is compiled.

use crate::generate::Shape;
use crate::search::Search;
use crate::world::{Packet, Way, World, is_local};
use crate::{bundled, encoded, naive};

const SEARCH: Search<'_> =
    Search { cases: 30_000, packets: 20, shape: Shape { is_routable: false, slots: None }, is_wanted: &|_| true };

/// Whether a connection comes about between pods, whatever their nodes: its source may send it, and its destination may
/// get it.
pub fn naive_flow(world: &World, packet: &Packet) -> bool {
    let passes = |address, way| {
        let mut pods = world.pods.iter().filter(|pod| is_local(pod) && pod.addresses.contains(&address));
        pods.all(|pod| naive::passes(world, pod, way, packet))
    };
    !world.is_policed() || passes(packet.source, Way::Egress) && passes(packet.destination, Way::Ingress)
}

/// Whether what is compiled says the same of packets as the text of the API, or which packet differs, and how.
pub fn all(world: &World, packets: &[Packet], seed: u64) -> Option<(Packet, String)> {
    bundled::differs(world, packets, seed).or_else(|| encoded::differs(world, packets, seed))
}

#[test]
fn every_node_is_told_what_the_text_of_the_api_says() {
    SEARCH.run(bundled::differs);
}

#[test]
fn the_rules_of_every_node_do_what_the_text_of_the_api_says() {
    SEARCH.run(encoded::differs);
}
