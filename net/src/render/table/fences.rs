//! What pods must not reach, and what must not leave the node in clear.

use crate::family::Family;
use crate::lease::LINK_PREFIX;
use crate::nft::build::{RuleBuilder, Side, inner_chain};
use crate::nft::{Chain, Element, FieldType, Rule, Set, Value};
use crate::render::vantage::Vantage;
use crate::transport::{Slot, Transport};

use super::{ENCRYPTED, NODES, tunnels};

/// The UDP ports of tunnels.
pub(super) const PORTS: &str = "tunnel-ports";
/// The chain for packets of pods that go to another node by its tunnel's port or protocol, if they are for one.
pub(super) const TO_TUNNELS: &str = "to-tunnels";
/// What pods are kept from.
const CLOSED: &str = "packets of pods to tunnels";
/// How the names of the devices begin that encrypt, and of those of ours that send in clear.
const ENCRYPTS: &str = "towwg";
const CLEAR: [&str; 3] = ["towip", "towvx", "towge"];
/// The loopback.
const LOOPBACK: &str = "lo";

/// The ports that this node's tunnels listen on.
pub(super) fn ports(own: &Vantage<'_>) -> Option<Set> {
    let tunnels = own.spec.transport.tunnels;
    let of = |transport| match transport {
        Transport::Vxlan => vec![tunnels.vxlan.port],
        Transport::Geneve => vec![tunnels.geneve.port],
        Transport::WireGuard => Slot::ALL.map(|slot| tunnels.wire_guard.port_of(slot)).into(),
        Transport::Direct | Transport::Ipip => Vec::new(),
    };
    let element = |port| Element::Key { key: vec![Value::Port(port)], data: Vec::new() };
    let elements = own.transports().flat_map(of).map(element).collect();
    let set = Set { elements, ..Set::new(&[FieldType::Port], &[]) };
    (!set.elements.is_empty()).then_some(set)
}

/// Protocols above IP that are tunnels, by the family of what they are in.
fn protocols(own: &Vantage<'_>) -> Vec<(Family, u8)> {
    let of = |family: Family| tunnels::protocols(family).into_iter().map(move |protocol| (family, protocol));
    if own.uses(Transport::Ipip) { Family::ALL.into_iter().flat_map(of).collect() } else { Vec::new() }
}

/// Pods reach no tunnel of this node: what a service has led there is seen as well, for its address is rewritten by now.
pub(super) fn to_this_node(own: &Vantage<'_>) -> Vec<Rule> {
    let rule = || RuleBuilder::either(CLOSED).from_links(LINK_PREFIX);
    let ports = ports(own).map(|_| rule().udp_port_in(PORTS).drop().done());
    let protocols = protocols(own).into_iter();
    let protocols = protocols.map(|(family, protocol)| rule().protocol(protocol).of_family(family).drop().done());
    ports.into_iter().chain(protocols).collect()
}

/// The same for other nodes: the rules, and the chain that they jump to. Most packets of pods are for none, so
/// it is looked at first what they are.
pub(super) fn to_other_nodes(own: &Vantage<'_>) -> (Vec<Rule>, Option<Chain>) {
    let ports = ports(own).map(|_| RuleBuilder::either(CLOSED).udp_port_in(PORTS).from_links(LINK_PREFIX));
    let ports = ports.map(|rule| rule.jump(TO_TUNNELS).done());
    let protocols = protocols(own).into_iter().map(|(family, protocol)| {
        let rule = RuleBuilder::either(CLOSED).protocol(protocol).of_family(family).from_links(LINK_PREFIX);
        rule.jump(TO_TUNNELS).done()
    });
    let rules: Vec<Rule> = ports.into_iter().chain(protocols).collect();
    let nodes = Family::ALL.map(|family| {
        let rule = RuleBuilder::new(family, format!("{family} {CLOSED} of nodes"));
        rule.address_in(Side::Destination, NODES.get(family), false).drop().done()
    });
    let chain = (!rules.is_empty()).then(|| inner_chain(nodes.into()));
    (rules, chain)
}

/// Connections of pods begin with segments that fit what is on their way: those of pods that are older than an MTU, too.
pub(super) fn segments() -> Rule {
    let rule = RuleBuilder::either("connections of pods, in segments that fit their way");
    rule.begins_connection().from_links(LINK_PREFIX).lower_segment().done()
}

/// What is for a pod leaves by WireGuard or to a pod of this node, whatever routes there are.
pub(super) fn encrypted() -> Vec<Rule> {
    let encrypting = RuleBuilder::either("packets that are encrypted").to_links(ENCRYPTS).accept().done();
    let pods = RuleBuilder::either("packets to pods of this node").to_links(LINK_PREFIX);
    let pods = CLEAR.into_iter().fold(pods, RuleBuilder::not_to_links).accept().done();
    let itself = RuleBuilder::either("packets of the node to itself").to_link(LOOPBACK).accept().done();
    let clear = Family::ALL.map(|family| {
        let rule = RuleBuilder::new(family, format!("{family} packets to pods, in clear"));
        rule.address_in(Side::Destination, ENCRYPTED.get(family), false).drop().done()
    });
    [encrypting, pods, itself].into_iter().chain(clear).collect()
}
