//! Random packets, aimed at what policies name, and at what is just beside it.

use std::net::IpAddr;

use fastrand::Rng;
use towpath_net::family::{Family, bits};
use towpath_net::lease::Protocol;
use towpath_net::policy::input::{ClusterPeer, Peer, Port};

use super::{PROTOCOLS, Shape};
use crate::world::{Packet, World};

/// Addresses that no pod and no node has.
const OUTSIDE: [&str; 8] = [
    "192.0.2.1",
    "10.0.1.200",
    "255.255.255.255",
    "0.0.0.0",
    "2001:db8::1",
    "fd00::1:200",
    "::",
    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
];

/// A random packet that has to do with what is in the cluster.
pub fn packet(rng: &mut Rng, world: &World, shape: Shape) -> Packet {
    let family = if rng.bool() { Family::V4 } else { Family::V6 };
    let ends: Vec<IpAddr> = ends(world, shape).into_iter().filter(|end| Family::of(*end) == family).collect();
    let borders: Vec<IpAddr> =
        borders(world, shape).into_iter().filter(|border| Family::of(*border) == family).collect();
    let pods: Vec<IpAddr> = pods(world).filter(|end| Family::of(*end) == family).collect();
    let mut one = |own: bool| match rng.u8(0..10) {
        0..=5 if !pods.is_empty() => pods[rng.usize(..pods.len())],
        _ if own && !pods.is_empty() => pods[rng.usize(..pods.len())],
        6..=7 if !borders.is_empty() => borders[rng.usize(..borders.len())],
        _ => ends[rng.usize(..ends.len())],
    };
    let (own, other) = (one(true), one(false));
    let (source, destination) = if rng.bool() { (own, other) } else { (other, own) };
    let (protocol, port) = content(rng, world, destination);
    let has_ports = PROTOCOLS.iter().any(|known| number(*known) == protocol);
    Packet { source, destination, protocol, port: has_ports.then_some(port) }
}

/// A protocol and a port: such as the destination gives names, such as policies name, or any.
fn content(rng: &mut Rng, world: &World, destination: IpAddr) -> (u8, u16) {
    let of_pod = world.pods.iter().filter(|pod| pod.addresses.contains(&destination)).flat_map(|pod| &pod.ports);
    let own: Vec<(Protocol, u16)> = of_pod.map(|port| (port.protocol, port.port)).collect();
    let ports = ports(world);
    let any = PROTOCOLS[rng.usize(..PROTOCOLS.len())];
    let (protocol, port) = match rng.u8(0..10) {
        0..=2 if !own.is_empty() => own[rng.usize(..own.len())],
        0..=6 => ports[rng.usize(..ports.len())],
        7 => (any, ports[rng.usize(..ports.len())].1),
        8 => (any, rng.u16(..)),
        _ => return ([0, 1, 33, 47, 58, 136, 255, rng.u8(..)][rng.usize(..8)], 80),
    };
    (number(protocol), port)
}

/// IANA's number of a protocol.
fn number(protocol: Protocol) -> u8 {
    [6, 17, 132][PROTOCOLS.iter().position(|known| *known == protocol).unwrap()]
}

/// The addresses of pods.
fn pods(world: &World) -> impl Iterator<Item = IpAddr> {
    world.pods.iter().flat_map(|pod| pod.addresses.iter().copied())
}

/// Every address that somebody has, and some that nobody has.
pub(super) fn ends(world: &World, shape: Shape) -> Vec<IpAddr> {
    let nodes = world.nodes.iter().flat_map(|node| node.addresses.iter().copied());
    let outside = OUTSIDE.iter().map(|text| text.parse().unwrap());
    pods(world).chain(nodes).chain(outside).filter(|address| !shape.is_routable || is_routable(*address)).collect()
}

/// The first and last addresses of all networks that policies name, and the addresses beside these.
fn borders(world: &World, shape: Shape) -> Vec<IpAddr> {
    let rules = world.policies.iter().flat_map(|policy| policy.ingress.iter().chain(&policy.egress).flatten());
    let blocks = rules.flat_map(|rule| rule.peers.iter().flatten()).filter_map(|peer| match peer {
        Peer::Block(block) => Some(block),
        Peer::Pods { .. } => None,
    });
    let of_blocks = blocks.flat_map(|block| block.except.iter().chain([&block.cidr]).copied());
    let cluster = world.cluster_policies.iter().flat_map(|policy| policy.egress.iter().flat_map(|rule| &rule.peers));
    let of_cluster = cluster.filter_map(|peer| match peer {
        ClusterPeer::Network(net) => Some(*net),
        _ => None,
    });
    of_blocks
        .chain(of_cluster)
        .flat_map(|net| {
            let (first, last) = (bits(net.network()), bits(net.broadcast()));
            let family = Family::of_net(&net);
            let most = if family == Family::V4 { u128::from(u32::MAX) } else { u128::MAX };
            [first, last, first.saturating_sub(1), last.saturating_add(1).min(most)]
                .map(move |value| family.address(value))
        })
        .filter(|address| !shape.is_routable || is_routable(*address))
        .collect()
}

/// Whether a packet from and to it can be sent in a namespace.
fn is_routable(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => {
            let [first, ..] = a.octets();
            (1..224).contains(&first) && first != 127 && !a.is_link_local()
        }
        IpAddr::V6(a) => matches!(a.segments()[0], 0x2000..=0x3fff | 0xfc00..=0xfdff),
    }
}

/// The ports that policies and pods name, and those beside them.
fn ports(world: &World) -> Vec<(Protocol, u16)> {
    let rules = world.policies.iter().flat_map(|policy| policy.ingress.iter().chain(&policy.egress).flatten());
    let cluster = world.cluster_policies.iter().flat_map(|policy| policy.ingress.iter().chain(&policy.egress));
    let ports = rules.flat_map(|rule| &rule.ports).chain(cluster.flat_map(|rule| &rule.ports)).flatten();
    let borders = ports.flat_map(|port| match port {
        Port::Range(protocol, first, last) => vec![(*protocol, *first), (*protocol, *last)],
        Port::All(protocol) => vec![(*protocol, 1)],
        Port::Named(..) | Port::NamedOfAny(_) => Vec::new(),
    });
    let named = world.pods.iter().flat_map(|pod| pod.ports.iter().map(|port| (port.protocol, port.port)));
    borders
        .chain(named)
        .chain([(Protocol::Tcp, 80)])
        .flat_map(|(protocol, port)| {
            [port, port, port, port.saturating_sub(1), port.saturating_add(1)].map(|port| (protocol, port))
        })
        .collect()
}
