//! Which packets are no matter for connection tracking: those between nodes with packets of a tunnel in them.
//!
//! Nobody rewrites them, each is judged by itself, and what is inside is tracked anyway. They are told so narrowly that
//! nothing else is among them: what pods send to such a port outside is masqueraded, and what the node
//! sends to a service of such a port is led to where it is served.

use std::net::IpAddr;

use crate::family::Family;
use crate::nft::Rule;
use crate::nft::build::{Either, RuleBuilder, Side};
use crate::render::vantage::Vantage;
use crate::transport::Transport;

use super::NODES;

/// The rules for what tunnels of this node take. From pods come such packets too, and none of them gets any further.
pub(super) fn arriving(own: &Vantage<'_>) -> Vec<Rule> {
    let rule = |(rule, family, address): Outer| rule.of_family(family).to_address(address).untracked().accept().done();
    outer(own, "that arrive").into_iter().map(rule).collect()
}

/// The rules for what tunnels of this node send to others.
pub(super) fn leaving(own: &Vantage<'_>) -> Vec<Rule> {
    let rule = |(rule, family, address): Outer| {
        let rule = rule.of_family(family).from_address(address);
        rule.address_in(Side::Destination, NODES.get(family), false).untracked().done()
    };
    outer(own, "to other nodes").into_iter().map(rule).collect()
}

/// A rule for what goes to a tunnel's port, the family that it is for, and this node's address of it.
type Outer = (RuleBuilder<Either>, Family, IpAddr);

fn outer(own: &Vantage<'_>, what: &str) -> Vec<Outer> {
    let mut found = Vec::new();
    for transport in own.transports() {
        let Some(port) = port(own, transport) else { continue };
        let families = own.outer(transport);
        for (family, address) in own.addresses.iter().filter(|(family, _)| *families.get(*family)) {
            let rule = RuleBuilder::either(format!("{family} packets of {transport} {what}"));
            found.extend(address.map(|address| (rule.certain_udp_port(port), family, address)));
        }
    }
    found
}

/// Where a tunnel listens whose packets all name that port, whoever began. Those of `WireGuard` go from port to port, and
/// those of IPIP from address to address, so that a firewall may know them by what the node has sent.
fn port(own: &Vantage<'_>, transport: Transport) -> Option<u16> {
    let tunnels = own.spec.transport.tunnels;
    match transport {
        Transport::Vxlan => Some(tunnels.vxlan.port),
        Transport::Geneve => Some(tunnels.geneve.port),
        Transport::Direct | Transport::Ipip | Transport::WireGuard => None,
    }
}
