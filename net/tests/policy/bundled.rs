//! What the bundles of nodes say of a packet.

use std::collections::BTreeMap;

use towpath_net::policy::bundle::Bundle;
use towpath_net::policy::evaluate::{self, Place};
use towpath_net::policy::input::Pod;
use towpath_net::policy::objects;
use towpath_net::state::NodeName;

use crate::compiled::bundles;
use crate::naive;
use crate::node::{Local, passes};
use crate::world::{Packet, Way, World, is_local};

/// The first packet of which a node's bundle says something else than the text of the API, and what.
pub fn differs(world: &World, packets: &[Packet], seed: u64) -> Option<(Packet, String)> {
    let bundles = bundles(world, seed);
    packets.iter().find_map(|packet| {
        let one = world.pods.iter().find_map(|pod| differs_for(world, &bundles, pod, packet));
        let why = one.or_else(|| bundles.iter().find_map(|(node, bundle)| differs_at(world, node, bundle, packet)));
        Some((*packet, why?))
    })
}

/// For one pod and each direction.
fn differs_for(world: &World, bundles: &BTreeMap<NodeName, Bundle>, pod: &Pod, packet: &Packet) -> Option<String> {
    let bundle = bundles.get(pod.node.as_ref().filter(|_| is_local(pod))?)?;
    [(Way::Egress, packet.source), (Way::Ingress, packet.destination)].into_iter().find_map(|(way, own)| {
        if !pod.addresses.contains(&own) {
            return None;
        }
        let expected = !world.is_policed() || naive::passes(world, pod, way, packet);
        let verdict = bundle.judge_pod(&pod.uid, of(way), &to(packet));
        (verdict.passes() != expected).then(|| {
            format!("{way:?} of {}: the API says that it passes: {expected}; the bundle says {verdict:?}", pod.uid)
        })
    })
}

/// For a node as a whole, where it can be told which pods are meant.
fn differs_at(world: &World, node: &NodeName, bundle: &Bundle, packet: &Packet) -> Option<String> {
    let source = Local::at(world, node, packet.source)?;
    let destination = Local::at(world, node, packet.destination)?;
    let expected = passes(world, source, destination, packet);
    let place = |address| if address == packet.source { place_of(source) } else { place_of(destination) };
    let flow = bundle.judge(&to(packet), place);
    (flow.passes() != expected)
        .then(|| format!("at {node}: the API says that it passes: {expected}; the bundle says {flow:?}"))
}

fn place_of(local: Local<'_>) -> Place<'_> {
    match local {
        Local::Pod(pod) => Place::Pod(&pod.uid),
        Local::Node => Place::Node,
        Local::Elsewhere => Place::Elsewhere,
    }
}

fn of(way: Way) -> objects::Way {
    match way {
        Way::Ingress => objects::Way::Ingress,
        Way::Egress => objects::Way::Egress,
    }
}

fn to(packet: &Packet) -> evaluate::Packet {
    let Packet { source, destination, protocol, port } = *packet;
    evaluate::Packet { source, destination, protocol, port }
}
