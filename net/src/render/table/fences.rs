//! What pods must not reach, and what must not leave the node in clear.

use crate::family::Family;
use crate::lease::LINK_PREFIX;
use crate::nft::build::{RuleBuilder, Side};
use crate::nft::{Element, FieldType, Rule, Set, Value};
use crate::render::vantage::Vantage;
use crate::transport::{Slot, Transport};

use super::{ENCRYPTED, NODES, tunnels};

/// The UDP ports of tunnels.
pub(super) const PORTS: &str = "tunnel-ports";
/// How the names of those devices of ours begin that send in clear.
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

/// Which nodes pods are kept from.
#[derive(Clone, Copy)]
pub(super) enum Node {
    /// This one.
    This,
    /// Another.
    Another,
}

/// Pods reach no tunnel of any node: what a service has led there is seen as well, for its address is rewritten by now.
pub(super) fn closed(own: &Vantage<'_>, node: Node) -> Vec<Rule> {
    let mut rules = Vec::new();
    for family in Family::ALL {
        let rule = || {
            let rule = RuleBuilder::new(family, format!("{family} packets of pods to tunnels")).from_links(LINK_PREFIX);
            match node {
                Node::This => rule,
                Node::Another => rule.address_in(Side::Destination, NODES.get(family), false),
            }
        };
        if ports(own).is_some() {
            rules.push(rule().udp_port_in(PORTS).drop().done());
        }
        if own.uses(Transport::Ipip) {
            rules
                .extend(tunnels::protocols(family).into_iter().map(|protocol| rule().protocol(protocol).drop().done()));
        }
    }
    rules
}

/// Connections of pods begin with segments that fit what is on their way: those of pods that are older than an MTU, too.
pub(super) fn segments() -> [Rule; 2] {
    Family::ALL.map(|family| {
        let what = format!("{family} connections of pods, in segments that fit their way");
        RuleBuilder::new(family, what).from_links(LINK_PREFIX).lower_segment().done()
    })
}

/// What is for a pod leaves by WireGuard or to a pod of this node, whatever routes there are.
pub(super) fn encrypted() -> Vec<Rule> {
    let rule = |family: Family| RuleBuilder::new(family, format!("{family} packets to pods, in clear"));
    let inside =
        |rule: RuleBuilder, family| rule.address_in(Side::Destination, ENCRYPTED.get(family), false).drop().done();
    let mut rules = Vec::new();
    for family in Family::ALL {
        rules.push(inside(rule(family).not_to_links(LINK_PREFIX).not_to_link(LOOPBACK), family));
        rules.extend(CLEAR.map(|prefix| inside(rule(family).to_links(prefix), family)));
    }
    rules
}
