//! Which node gets which pod CIDRs.
//!
//! Mode `NodeCIDR`: what a node has, it keeps. A node without any gets what its Node object says (adopt), or the lowest
//! free block of each range (allocate), and either all its families or none. Mode `Pools`: see `allocate/pools.rs`.
//! Nothing is given that overlaps what any node has, or may still use: also one that is gone while its `NodeNetwork` is
//! still there, and what was taken from a node whose agent has not seen that yet.

mod cursor;
mod pools;
mod share;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use crate::facts::{Facts, NodeFacts};
use crate::family::{Family, host_net};
use crate::intent::{Finding, Intent, Ipam, LONGEST_NODE_MASK, Problem, Range, Taken, join, overlap};
use crate::state::{Addressing, NodeName};

use cursor::Cursor;

pub use share::MOST_BLOCKS;

/// Who has what, and who could not be given anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allocations {
    /// The pod CIDRs of each node that has some, in the order of the declared ranges.
    pub blocks: BTreeMap<NodeName, Vec<IpNet>>,
    /// How addresses are given out of them; nothing where it is as usual.
    pub addressing: BTreeMap<NodeName, Addressing>,
    /// The nodes that had none before.
    pub fresh: BTreeSet<NodeName>,
    /// What is wrong, by node.
    pub findings: BTreeMap<NodeName, Vec<Finding>>,
    /// What is odd, and holds nothing up.
    pub remarks: Vec<Finding>,
}

/// Gives every node its pod CIDRs.
pub fn allocate(intent: &Intent, facts: &Facts) -> Allocations {
    let mut out = Allocations::default();
    let mut taken = Taken::default();
    for held in &facts.held {
        for cidr in &held.cidrs {
            taken.take(cidr, &held.by);
        }
    }
    keep_existing(intent, facts, &mut taken, &mut out);
    for (name, node) in &facts.nodes {
        // A block that holds the address of some node would cut that node off.
        for address in node.addresses.iter().chain(&node.reported) {
            taken.take(&host_net(*address), name);
        }
        for cidr in node.promised.iter().chain(&node.report.drained) {
            taken.take(cidr, name);
        }
    }
    let waiting = facts.nodes.iter().filter(|(_, node)| node.existing.is_empty());
    match &intent.ipam {
        Ipam::Adopt { within } => adopt(intent, within, waiting, &mut taken, &mut out),
        Ipam::Allocate { pools } => give(intent, pools, waiting, &mut taken, &mut out),
        Ipam::Pools { pools, grace } => pools::share_out(intent, pools, *grace, facts, &mut taken, &mut out),
    }
    out
}

fn keep_existing(intent: &Intent, facts: &Facts, taken: &mut Taken, out: &mut Allocations) {
    for (name, node) in facts.nodes.iter().filter(|(_, node)| !node.existing.is_empty()) {
        let mut findings = Vec::new();
        let field = "NodeNetwork.spec.podCIDRs";
        for cidr in &node.existing {
            if let Some(other) = taken.holder(cidr) {
                findings.push(Finding::new(field, cidr, Problem::TakenBy { node: other.clone() }));
            }
            taken.take(cidr, name);
        }
        if !matches!(intent.ipam, Ipam::Pools { .. }) {
            findings.extend(node.existing.iter().filter_map(|cidr| outside(intent, field, cidr)));
            findings.extend(missing(intent, field, &node.existing));
            findings.extend(differs(intent, field, node));
        }
        out.blocks.insert(name.clone(), node.existing.clone());
        report(out, name, findings);
    }
}

fn report(out: &mut Allocations, name: &NodeName, findings: Vec<Finding>) {
    if !findings.is_empty() {
        out.findings.entry(name.clone()).or_default().extend(findings);
    }
}

/// That a CIDR is not within the declared ranges, where there are any.
fn outside(intent: &Intent, field: &str, cidr: &IpNet) -> Option<Finding> {
    let ranges = intent.pod_ranges();
    let within = ranges.is_empty() || ranges.iter().any(|range| range.contains(cidr));
    (!within).then(|| Finding::new(field, cidr, Problem::OutsideRange { ranges: join(&ranges) }))
}

/// The declared families of which a node has no CIDR.
fn missing(intent: &Intent, field: &str, cidrs: &[IpNet]) -> Vec<Finding> {
    let has = |family| cidrs.iter().any(|cidr| Family::of_net(cidr) == family);
    let lacking = intent.families().into_iter().filter(|family| !has(*family));
    let allocating = matches!(intent.ipam, Ipam::Allocate { .. });
    let problem = |family| Problem::FamilyMissing { family, allocating };
    lacking.map(|family| Finding::new(field, join(cidrs), problem(family))).collect()
}

/// That a node keeps something else than its Node object says by now.
fn differs(intent: &Intent, field: &str, node: &NodeFacts) -> Option<Finding> {
    let adopting = matches!(intent.ipam, Ipam::Adopt { .. }) && !node.pod_cidrs.is_empty();
    let problem = || Problem::NotAsAdopted { says: join(&node.pod_cidrs) };
    (adopting && node.pod_cidrs != node.existing).then(|| Finding::new(field, join(&node.existing), problem()))
}

fn adopt<'a>(
    intent: &Intent,
    within: &[IpNet],
    waiting: impl Iterator<Item = (&'a NodeName, &'a NodeFacts)>,
    taken: &mut Taken,
    out: &mut Allocations,
) {
    for (name, node) in waiting {
        let field = "Node.spec.podCIDRs";
        let mut findings = own_address(intent, node);
        if node.pod_cidrs.is_empty() {
            findings.push(Finding::absent(field, Problem::NothingToAdopt));
        } else {
            findings.extend(missing(intent, field, &node.pod_cidrs));
        }
        for cidr in &node.pod_cidrs {
            findings.extend(unfit(intent, within, field, cidr, taken));
        }
        if findings.is_empty() {
            commit(name, node.pod_cidrs.clone(), taken, out);
        }
        report(out, name, findings);
    }
}

/// What speaks against adopting a CIDR.
fn unfit(intent: &Intent, within: &[IpNet], field: &str, cidr: &IpNet, taken: &Taken) -> Option<Finding> {
    let service = intent.service_cidrs.iter().find(|service| overlap(service, cidr));
    let problem = if cidr.prefix_len() > *LONGEST_NODE_MASK.get(Family::of_net(cidr)) {
        Problem::TooSmall
    } else if !within.is_empty() && !within.iter().any(|range| range.contains(cidr)) {
        Problem::OutsideRange { ranges: join(within) }
    } else if let Some(service) = service {
        Problem::Overlap { other: service.to_string(), of: "spec.serviceCIDRs".to_owned() }
    } else {
        Problem::TakenBy { node: taken.holder(cidr)?.clone() }
    };
    Some(Finding::new(field, cidr, problem))
}

/// That a node's own address lies in a range of pods: whatever block it were given, it could not be reached.
fn own_address(intent: &Intent, node: &NodeFacts) -> Vec<Finding> {
    let inside = node.addresses.iter().filter_map(|a| intent.pod_range_of(*a).map(|range| (a, range)));
    inside
        .map(|(address, range)| Finding::new("Node.status.addresses", address, Problem::AddressOfPods { range }))
        .collect()
}

fn commit(name: &NodeName, blocks: Vec<IpNet>, taken: &mut Taken, out: &mut Allocations) {
    for block in &blocks {
        taken.take(block, name);
    }
    out.blocks.insert(name.clone(), blocks);
    out.fresh.insert(name.clone());
}

fn give<'a>(
    intent: &Intent,
    ranges: &[Range],
    waiting: impl Iterator<Item = (&'a NodeName, &'a NodeFacts)>,
    taken: &mut Taken,
    out: &mut Allocations,
) {
    let mut cursors: Vec<Cursor<'_>> = ranges.iter().map(Cursor::new).collect();
    for (name, node) in waiting {
        let mut findings = own_address(intent, node);
        if findings.is_empty() {
            let mut blocks = Vec::with_capacity(cursors.len());
            for (index, cursor) in cursors.iter_mut().enumerate() {
                match cursor.free(taken, |_| true) {
                    Some(block) => blocks.push(block),
                    None => findings.push(exhausted(index, &ranges[index])),
                }
            }
            if findings.is_empty() {
                commit(name, blocks, taken, out);
            }
        }
        report(out, name, findings);
    }
}

fn exhausted(index: usize, range: &Range) -> Finding {
    let problem = Problem::Exhausted { mask: range.node_mask, blocks: range.blocks() };
    Finding::new(format!("spec.ipam.podCIDRs[{index}]"), range.cidr, problem)
}
