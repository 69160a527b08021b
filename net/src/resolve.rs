//! From a network and the cluster's facts to each node's part.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::allocate::Allocations;
use crate::facts::{Facts, NodeFacts};
use crate::family::{Family, PerFamily};
use crate::intent::{Finding, Intent, Problem, join, overlap, reserved};
use crate::state::{Masquerade, NodeName, NodeSpec};
use crate::transport::Transports;

/// The field that a node's addresses come from.
const ADDRESSES: &str = "Node.status.addresses";

/// Each node's part, and what is wrong with some.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolved {
    /// The part of each node that can have one.
    pub specs: BTreeMap<NodeName, NodeSpec>,
    /// What is wrong, by node; such a node may still have a part that works in some family.
    pub findings: BTreeMap<NodeName, Vec<Finding>>,
}

/// What of a network cannot be in this cluster, whatever its nodes are.
pub fn conflicts(intent: &Intent, facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    for range in &facts.service_ranges {
        let pods = intent.pod_ranges();
        for (index, pods) in pods.iter().enumerate().filter(|(_, pods)| overlap(pods, &range.cidr)) {
            let problem =
                Problem::Overlap { other: range.cidr.to_string(), of: format!("ServiceCIDR {}", range.object) };
            found.push(Finding::new(intent.pod_range_field(index), pods, problem));
        }
        let declared = &intent.service_cidrs;
        if !declared.is_empty() && !declared.iter().any(|cidr| cidr.contains(&range.cidr)) {
            let problem = Problem::ServicesElsewhere { cidr: range.cidr, object: range.object.clone() };
            found.push(Finding::new("spec.serviceCIDRs", join(declared), problem));
        }
    }
    found.extend(Family::ALL.into_iter().filter_map(|family| nodes_elsewhere(intent, facts, family)));
    found
}

/// That the ranges of nodes hold the address of no node at all.
fn nodes_elsewhere(intent: &Intent, facts: &Facts, family: Family) -> Option<Finding> {
    let mut addresses =
        facts.nodes.values().flat_map(|n| &n.addresses).filter(|a| Family::of(**a) == family).peekable();
    addresses.peek()?;
    let ranges = of_family(&intent.node_cidrs, family);
    let elsewhere = !ranges.is_empty() && !addresses.any(|address| eligible(intent, *address));
    elsewhere.then(|| Finding::new("spec.nodeCIDRs", join(&ranges), Problem::NoNodeWithin { family }))
}

/// Makes each node's part of what it was allocated.
pub fn resolve(intent: &Intent, facts: &Facts, allocations: &Allocations) -> Resolved {
    let revision = intent.revision();
    let masquerade = masquerade(intent);
    let mut out = Resolved { specs: BTreeMap::new(), findings: allocations.findings.clone() };
    for (name, blocks) in &allocations.blocks {
        let Some(node) = facts.nodes.get(name) else { continue };
        let (addresses, findings) = addresses(intent, node, blocks);
        if !findings.is_empty() {
            out.findings.entry(name.clone()).or_default().extend(findings);
        }
        if addresses.is_empty() {
            continue;
        }
        let spec = NodeSpec {
            revision: revision.clone(),
            addresses,
            address_rule: None,
            pod_ranges: intent.pod_ranges(),
            pod_cidrs: blocks.clone(),
            addressing: allocations.addressing.get(name).cloned().unwrap_or_default(),
            attachment: intent.attachment,
            transport: Transports::only(intent.transport),
            mtu: intent.mtu,
            masquerade: masquerade.clone(),
            cni_conflict: intent.cni_conflict,
        };
        out.specs.insert(name.clone(), spec);
    }
    out
}

/// A node's part without pod CIDRs that it does not have yet: those are given by who makes sure that nobody else is.
pub fn without_new_blocks(mut spec: NodeSpec, existing: &[IpNet]) -> NodeSpec {
    spec.pod_cidrs.retain(|cidr| existing.contains(cidr));
    spec.addressing.reserved.retain(|reserved| spec.pod_cidrs.iter().any(|cidr| overlap(cidr, reserved)));
    spec
}

/// The node's address of each family that its pods have.
///
/// Where a Node has none that can be used, what the node was told before stays: a running network is not torn down
/// because somebody erred.
fn addresses(intent: &Intent, node: &NodeFacts, blocks: &[IpNet]) -> (Vec<IpAddr>, Vec<Finding>) {
    let before = PerFamily::first_of(node.published.iter().copied());
    let chosen = PerFamily::first_of(node.addresses.iter().copied().filter(|address| eligible(intent, *address)));
    let mut addresses = Vec::new();
    let mut findings = Vec::new();
    for (family, address) in chosen.iter().filter(|(family, _)| blocks.iter().any(|b| Family::of_net(b) == *family)) {
        let Some(address) = address else {
            findings.push(no_address(intent, node, family));
            addresses.extend(*before.get(family));
            continue;
        };
        if let Some(range) = blocks.iter().find(|block| block.contains(address)) {
            findings.push(Finding::new(ADDRESSES, address, Problem::AddressOfPods { range: *range }));
        }
        addresses.push(*address);
    }
    (addresses, findings)
}

fn no_address(intent: &Intent, node: &NodeFacts, family: Family) -> Finding {
    let written = node.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let within = join(&of_family(&intent.node_cidrs, family));
    Finding::new(ADDRESSES, written, Problem::NoInternalIp { family, within })
}

/// Whether others may reach a node by this address: ranges restrict the families that they are of.
fn eligible(intent: &Intent, address: IpAddr) -> bool {
    let ranges = of_family(&intent.node_cidrs, Family::of(address));
    reserved(&IpNet::from(address)).is_none() && (ranges.is_empty() || ranges.iter().any(|r| r.contains(&address)))
}

fn of_family(cidrs: &[IpNet], family: Family) -> Vec<IpNet> {
    cidrs.iter().copied().filter(|cidr| Family::of_net(cidr) == family).collect()
}

/// What the user excluded, and every range that is known to be of the cluster: a packet to a pod whose node is
/// not known yet keeps its source too.
fn masquerade(intent: &Intent) -> Masquerade {
    let mut excluded = intent.masquerade.excluded.clone();
    excluded.extend(intent.pod_ranges());
    excluded.extend(&intent.service_cidrs);
    excluded.extend(&intent.node_cidrs);
    excluded.sort_unstable();
    excluded.dedup();
    Masquerade { mode: intent.masquerade.mode, excluded }
}
