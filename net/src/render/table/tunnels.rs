//! From whom tunnels take packets.
//!
//! They are looked at where the kernel hands them to the node itself, as it does before any tunnel takes them. There they are
//! what the tunnel will see, whatever rules of others made of their addresses on the way, and nothing that the
//! node passes on is looked at.
//!
//! A packet in a tunnel is taken where it comes from a node of the cluster, and from an address of that node's pods or of
//! the node itself: where the pair of (source outside, network of the source inside) is in a set. WireGuard sees to that
//! itself (allowed IPs).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::family::{Family, PerFamily, host_net};
use crate::nft::build::{Either, RuleBuilder, inner_chain};
use crate::nft::{Chain, FieldType, Rule, Set, Value};
use crate::render::vantage::Vantage;
use crate::state::Peer;
use crate::transport::{Transport, Tunnels};

/// The headers of UDP and of VXLAN or Geneve, which are as long.
const UDP: u32 = 8;
/// Where the network identifier stands in the headers of VXLAN and of Geneve (RFC 7348 section 5, RFC 8926 section 3.4).
const VNI: u32 = UDP + 4;
/// Where the type of the frame inside stands: behind two Ethernet addresses.
const ETHER_TYPE: u32 = UDP + 8 + 12;
/// Where the packet in the frame begins.
const FRAME: u32 = ETHER_TYPE + 2;
/// How many options follow the header of Geneve: six bits of its first byte (RFC 8926, section 3.4).
const GENEVE_OPTIONS: u8 = 0x3f;

/// The type of frames with packets of a family (IANA, `EtherType` numbers).
const fn ether_type(family: Family) -> [u8; 2] {
    match family {
        Family::V4 => [0x08, 0x00],
        Family::V6 => [0x86, 0xdd],
    }
}

/// The number of a packet of a family inside another (IANA, protocol numbers).
const fn encapsulated(family: Family) -> u8 {
    match family {
        Family::V4 => 4,
        Family::V6 => 41,
    }
}

/// The short name of a family in names of chains and sets.
const SHORT: PerFamily<&str> = PerFamily { v4: "v4", v6: "v6" };

/// What pairs have in common that are in one set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Shape {
    outer: Family,
    inner: Family,
    length: u8,
}

/// A node's address, and a network of its pods.
pub(super) struct Pair {
    pub shape: Shape,
    pub key: Vec<Value>,
}

impl Shape {
    /// The name of the set.
    pub(super) fn name(self) -> String {
        format!("tunnels-{}-{}-{}", SHORT.get(self.outer), SHORT.get(self.inner), self.length)
    }

    /// The set, still empty.
    pub(super) fn set(self) -> Set {
        Set::new(&[FieldType::Address(self.outer), FieldType::Address(self.inner)], &[])
    }
}

/// Whether a transport's packets have to be looked at.
fn is_checked(transport: Transport) -> bool {
    matches!(transport, Transport::Ipip | Transport::Vxlan | Transport::Geneve)
}

/// The pairs of a peer: its pods' networks, and itself, for its answers to pods of others are from its own address.
pub(super) fn pairs(own: &Vantage<'_>, peer: &Peer) -> impl Iterator<Item = Pair> {
    let checked = own.transports().any(is_checked);
    let mixes = own.transports().any(|transport| is_checked(transport) && transport.mixes_families());
    let pods = own.pods();
    let itself = peer.addresses.iter().copied().filter(move |address| *pods.get(Family::of(*address))).map(host_net);
    let sources = peer.pod_cidrs.iter().copied().chain(itself);
    sources.filter(move |_| checked).filter_map(move |source| {
        let inner = Family::of_net(&source);
        let address = own.underlay(peer, inner, mixes)?.destination;
        let shape = Shape { outer: Family::of(address), inner, length: source.prefix_len() };
        Some(Pair { shape, key: vec![Value::Address(address), Value::Address(source.network())] })
    })
}

/// The rules for what arrives by tunnels, and the chains that they jump to; no rules where nothing can arrive so.
pub(super) fn render(own: &Vantage<'_>, shapes: &BTreeSet<Shape>) -> (Vec<Rule>, BTreeMap<String, Chain>) {
    let (mut rules, mut chains) = (Vec::new(), BTreeMap::new());
    for transport in own.transports().filter(|transport| is_checked(*transport)) {
        let outer = own.outer(transport);
        for (family, address) in own.addresses.iter().filter(|(family, _)| *outer.get(*family)) {
            let Some(address) = *address else { continue };
            let name = format!("from-{}-{}", transport.to_string().to_lowercase(), SHORT.get(family));
            let arriving = arriving(own, transport, family).map(|arriving| arriving.of_family(family));
            rules.extend(arriving.map(|arriving| entrance(arriving, address, &name)).into_iter().flatten());
            if (transport, family) == (Transport::Ipip, Family::V6) {
                rules.push(foreign_inside());
            }
            let of_family = shapes.iter().copied().filter(|shape| shape.outer == family);
            let tunnels = &own.spec.transport.tunnels;
            chains.insert(name, inner_chain(accepting(transport, family, tunnels, of_family)));
        }
    }
    (rules, chains)
}

/// What a packet that a tunnel device would take looks like from outside.
fn arriving(own: &Vantage<'_>, transport: Transport, family: Family) -> Option<RuleBuilder<Either>> {
    let tunnels = own.spec.transport.tunnels;
    let rule = || RuleBuilder::either(format!("{family} packets of {transport}"));
    match transport {
        Transport::Vxlan => Some(rule().udp_port(tunnels.vxlan.port).behind_ip(VNI, &vni(tunnels.vxlan.vni))),
        Transport::Geneve => Some(rule().udp_port(tunnels.geneve.port)),
        Transport::Ipip => Some(rule().protocol(encapsulated(family))),
        Transport::Direct | Transport::WireGuard => None,
    }
}

/// The device for IPv6 takes IPv4 as well, which nobody sends so.
fn foreign_inside() -> Rule {
    let (outer, inner) = (Family::V6, Family::V4);
    let rule = RuleBuilder::new(outer, format!("{outer} packets of {} with {inner}", Transport::Ipip));
    rule.protocol(encapsulated(inner)).drop().done()
}

/// The numbers in the header of a family by which IPIP is told.
pub(super) fn protocols(family: Family) -> Vec<u8> {
    match family {
        Family::V4 => vec![encapsulated(Family::V4)],
        Family::V6 => vec![encapsulated(Family::V6), encapsulated(Family::V4)],
    }
}

/// To the node's own address they are looked into; its others, and those of groups that it is in, are none that tunnels are
/// to be reached by.
fn entrance(arriving: RuleBuilder, address: IpAddr, chain: &str) -> [Rule; 2] {
    let other = arriving.clone().drop().done();
    [arriving.to_address(address).jump(chain).done(), other]
}

fn accepting(transport: Transport, outer: Family, tunnels: &Tunnels, shapes: impl Iterator<Item = Shape>) -> Vec<Rule> {
    let rule = |what: &str| RuleBuilder::new(outer, format!("{outer} {transport} {what}"));
    let mut rules = Vec::new();
    if transport == Transport::Geneve {
        rules.push(rule("with options").any_bit_behind_ip(UDP, GENEVE_OPTIONS).drop().done());
        rules.push(rule("of another network").not_behind_ip(VNI, &vni(tunnels.geneve.vni)).drop().done());
    }
    for shape in shapes {
        let Shape { inner, length, .. } = shape;
        let known = rule(&format!("with {inner} from a node's own /{length}"));
        let (known, at) = match transport {
            Transport::Vxlan | Transport::Geneve => (known.behind_ip(ETHER_TYPE, &ether_type(inner)), FRAME),
            // That this is the protocol is known from the way here. Were it compared again, `nft` would take what follows
            // for a packet of its own, and fail (1.0.6).
            Transport::Ipip if inner == outer => (known, 0),
            Transport::Ipip | Transport::Direct | Transport::WireGuard => continue,
        };
        rules.push(known.tunnelled_from(inner, at, length, &shape.name()).accept().done());
    }
    rules.push(rule("from anybody else").drop().done());
    rules
}

/// A network identifier as the headers have it.
fn vni(number: u32) -> [u8; 3] {
    let [_, a, b, c] = number.to_be_bytes();
    [a, b, c]
}
