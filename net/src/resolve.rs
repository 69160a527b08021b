//! From a network and the cluster's facts to each node's part.

mod addresses;
mod transports;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use ipnet::IpNet;

use crate::allocate::Allocations;
use crate::facts::{Facts, NodeFacts};
use crate::family::Family;
use crate::intent::{Exception, Finding, Intent, Problem, join, overlap};
use crate::state::{Masquerade, NodeName, NodeSpec, Revision};
use addresses::{addresses, eligible};
use transports::transports;

/// Each node's part, and what is wrong with some.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolved {
    /// The part of each node that can have one.
    pub specs: BTreeMap<NodeName, NodeSpec>,
    /// What is wrong, by node; such a node may still have a part that works in some family.
    pub findings: BTreeMap<NodeName, Vec<Finding>>,
    /// Exceptions that no node is under.
    pub unused: Vec<Finding>,
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
    let elsewhere =
        intent.address_rule.is_none() && !ranges.is_empty() && !addresses.any(|address| eligible(intent, *address));
    elsewhere.then(|| Finding::new("spec.nodeCIDRs", join(&ranges), Problem::NoNodeWithin { family }))
}

/// Makes each node's part of what it was allocated.
pub fn resolve(intent: &Intent, facts: &Facts, allocations: &Allocations) -> Resolved {
    let common = Common { intent, revision: intent.revision(), masquerade: masquerade(intent) };
    let mut out =
        Resolved { specs: BTreeMap::new(), findings: allocations.findings.clone(), unused: unused(intent, facts) };
    for (name, blocks) in &allocations.blocks {
        let Some(node) = facts.nodes.get(name) else { continue };
        let mut spec = common.part(node, blocks);
        let (addresses, findings) = addresses(intent, node, blocks, &spec.transport);
        if !findings.is_empty() {
            out.findings.entry(name.clone()).or_default().extend(findings);
        }
        if addresses.is_empty() && spec.address_rule.is_none() {
            continue;
        }
        spec.addresses = addresses;
        spec.addressing = allocations.addressing.get(name).cloned().unwrap_or_default();
        out.specs.insert(name.clone(), spec);
    }
    out
}

/// What is the same for every node.
struct Common<'a> {
    intent: &'a Intent,
    revision: Revision,
    masquerade: Masquerade,
}

impl Common<'_> {
    /// A node's part, but for its addresses.
    fn part(&self, node: &NodeFacts, blocks: &[IpNet]) -> NodeSpec {
        let intent = self.intent;
        let exception = intent.exception(&node.labels);
        NodeSpec {
            revision: self.revision.clone(),
            address_rule: intent.address_rule.clone(),
            pod_ranges: intent.pod_ranges(),
            attachment: exception.and_then(|e| e.attachment).unwrap_or(intent.attachment),
            transport: transports(intent, exception.and_then(|e| e.transport)),
            mtu: exception.and_then(|e| e.mtu).unwrap_or(intent.mtu),
            masquerade: self.masquerade.clone(),
            cni_conflict: intent.cni_conflict,
            policy: intent.policy,
            ..NodeSpec::plain(Vec::new(), blocks.to_vec())
        }
    }
}

/// That no node is under an exception: none has its labels, or all that do are under an earlier one.
fn unused(intent: &Intent, facts: &Facts) -> Vec<Finding> {
    let used: Vec<&Exception> = facts.nodes.values().filter_map(|node| intent.exception(&node.labels)).collect();
    let listed = intent.exceptions.iter().enumerate();
    let idle = listed.filter(|(_, exception)| !used.iter().any(|used| std::ptr::eq(*used, *exception)));
    idle.map(|(index, e)| Finding::new(format!("spec.exceptions[{index}]"), &e.name, Problem::SelectsNoNode)).collect()
}

/// A node's part without pod CIDRs that it does not have yet: those are given by who makes sure that nobody else is.
pub fn without_new_blocks(mut spec: NodeSpec, existing: &[IpNet]) -> NodeSpec {
    spec.pod_cidrs.retain(|cidr| existing.contains(cidr));
    spec.addressing.reserved.retain(|reserved| spec.pod_cidrs.iter().any(|cidr| overlap(cidr, reserved)));
    spec
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
