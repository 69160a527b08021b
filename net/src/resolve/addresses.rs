//! By which addresses a node is reached.

use std::net::IpAddr;

use ipnet::IpNet;

use super::of_family;
use crate::facts::NodeFacts;
use crate::family::{Family, PerFamily};
use crate::intent::{Finding, Intent, Problem, join, reserved};
use crate::transport::{Transport, Transports};

/// The field that a node's addresses come from.
const FROM_NODE: &str = "Node.status.addresses";

/// The field that they come from where the node finds them.
const FROM_AGENT: &str = "NodeNetwork.status.nodeAddresses";

/// The node's address of each family that its pods have; where its packets may travel between addresses of the other
/// family too, one of either will do.
///
/// Where a node has none that can be used, what it was told before stays: a running network is not torn down because
/// somebody erred.
pub(super) fn addresses(
    intent: &Intent,
    node: &NodeFacts,
    blocks: &[IpNet],
    transport: &Transports,
) -> (Vec<IpAddr>, Vec<Finding>) {
    let chosen = PerFamily::first_of(candidates(intent, node));
    let before = PerFamily::first_of(node.published.iter().copied());
    if intent.address_rule.is_some() && chosen == PerFamily::default() {
        return (found(&before), Vec::new());
    }
    let needed = Family::ALL.into_iter().filter(|family| blocks.iter().any(|b| Family::of_net(b) == *family));
    let mut addresses = Vec::new();
    let mut findings = Vec::new();
    let mut lacking = Vec::new();
    for family in needed {
        match chosen.get(family) {
            Some(address) => {
                findings.extend(of_pods(intent, *address, blocks));
                addresses.push(*address);
            }
            None => lacking.push(family),
        }
    }
    if !lacking.is_empty() && mixes_families(transport) && chosen != PerFamily::default() {
        return (found(&chosen), findings);
    }
    for family in lacking {
        findings.push(none_of(intent, node, family));
        addresses.extend(*before.get(family));
    }
    addresses.sort_by_key(|address| Family::of(*address));
    (addresses, findings)
}

fn found(addresses: &PerFamily<Option<IpAddr>>) -> Vec<IpAddr> {
    addresses.iter().filter_map(|(_, address)| *address).collect()
}

/// The addresses that others may reach a node by.
fn candidates<'a>(intent: &'a Intent, node: &'a NodeFacts) -> impl Iterator<Item = IpAddr> + 'a {
    let by_rule = intent.address_rule.is_some();
    let list = if by_rule { &node.reported } else { &node.addresses };
    list.iter().copied().filter(move |address| if by_rule { is_usable(*address) } else { eligible(intent, *address) })
}

/// Whether packets of every family go between any addresses, whatever the other node is. That packets to neighbours take
/// plain routes changes nothing: those are neighbours of a family only where both have an address of it.
fn mixes_families(transport: &Transports) -> bool {
    transport.prefers.iter().copied().all(Transport::mixes_families)
}

/// That an address is one that a pod could get.
fn of_pods(intent: &Intent, address: IpAddr, blocks: &[IpNet]) -> Option<Finding> {
    let block = blocks.iter().find(|block| block.contains(&address)).copied();
    // An InternalIP in what other nodes have is told of where they are given it.
    let (field, range) = match intent.address_rule {
        Some(_) => (FROM_AGENT, block.or_else(|| intent.pod_range_of(address))),
        None => (FROM_NODE, block),
    };
    range.map(|range| Finding::new(field, address, Problem::AddressOfPods { range }))
}

fn none_of(intent: &Intent, node: &NodeFacts, family: Family) -> Finding {
    let text = |list: &[IpAddr]| list.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    if intent.address_rule.is_some() {
        return Finding::new(FROM_AGENT, text(&node.reported), Problem::NoneFound { family });
    }
    let within = join(&of_family(&intent.node_cidrs, family));
    Finding::new(FROM_NODE, text(&node.addresses), Problem::NoInternalIp { family, within })
}

/// Whether others may reach a node by this address: ranges restrict the families that they are of.
pub(super) fn eligible(intent: &Intent, address: IpAddr) -> bool {
    let ranges = of_family(&intent.node_cidrs, Family::of(address));
    is_usable(address) && (ranges.is_empty() || ranges.iter().any(|r| r.contains(&address)))
}

fn is_usable(address: IpAddr) -> bool {
    reserved(&IpNet::from(address)).is_none()
}
