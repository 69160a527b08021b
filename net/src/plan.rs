//! From what a node has to what it should have: the operations, in order.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use crate::nft::{Element, Table};
use crate::observed::{Desired, Observed, Route, Target};
use crate::ops::Op;

/// The operations from observed to desired, and what stands in the way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In the order in which they are to be done.
    pub ops: Vec<Op>,
    /// Destinations that somebody else has a route for: left alone, and reported.
    pub conflicts: Vec<IpNet>,
}

/// Plans the way from `observed` to `desired`. What is foreign is never touched, what is right is not written again.
pub fn plan(desired: &Desired, observed: &Observed) -> Plan {
    let mut plan = Plan::default();
    plan_sysctls(desired, observed, &mut plan);
    plan_links(desired, observed, &mut plan);
    plan_addresses(desired, observed, &mut plan);
    plan_routes(desired, observed, &mut plan);
    plan_table(desired, observed.table.as_ref(), &mut plan);
    plan.ops.sort_by_key(Op::rank);
    plan
}

fn plan_sysctls(desired: &Desired, observed: &Observed, plan: &mut Plan) {
    for (key, value) in &desired.sysctls {
        if observed.sysctls.get(key) != Some(value) {
            plan.ops.push(Op::SetSysctl { key: key.clone(), value: value.clone() });
        }
    }
}

fn plan_links(desired: &Desired, observed: &Observed, plan: &mut Plan) {
    if desired.leaving {
        plan.ops.extend(observed.links.keys().cloned().map(Op::DeleteLink));
    }
    for (name, link) in &desired.links {
        if observed.links.get(name).is_some_and(|seen| seen != link) {
            plan.ops.push(Op::SetLink { name: name.clone(), link: *link });
        }
    }
}

fn plan_addresses(desired: &Desired, observed: &Observed, plan: &mut Plan) {
    for surplus in observed.addresses.difference(&desired.addresses) {
        if desired.links.contains_key(&surplus.link) {
            plan.ops.push(Op::DeleteAddress(surplus.clone()));
        }
    }
    for missing in desired.addresses.difference(&observed.addresses) {
        if observed.links.contains_key(&missing.link) {
            plan.ops.push(Op::AddAddress(missing.clone()));
        }
    }
}

fn plan_routes(desired: &Desired, observed: &Observed, plan: &mut Plan) {
    let seen = routes_by_destination(observed);
    for (destination, targets) in &seen {
        let Some(wanted) = desired.routes.get(destination) else {
            let targets = targets.iter().filter(|target| may_go(target, desired));
            plan.ops.extend(targets.map(|target| Op::DeleteRoute(route(*destination, target))));
            continue;
        };
        // Replacing takes the place of one route; any further one has to go by itself.
        let surplus = targets.iter().filter(|t| **t != wanted);
        let kept = usize::from(!targets.contains(&wanted));
        plan.ops.extend(surplus.skip(kept).map(|target| Op::DeleteRoute(route(*destination, target))));
        if kept == 1 && exists(wanted, observed) {
            plan.ops.push(Op::ReplaceRoute(route(*destination, wanted)));
        }
    }
    for (destination, wanted) in &desired.routes {
        if seen.contains_key(destination) || !exists(wanted, observed) {
            continue;
        }
        if observed.foreign_routes.contains(destination) {
            plan.conflicts.push(*destination);
        } else {
            plan.ops.push(Op::AddRoute(route(*destination, wanted)));
        }
    }
}

fn routes_by_destination(observed: &Observed) -> BTreeMap<IpNet, Vec<&Target>> {
    let mut seen: BTreeMap<IpNet, Vec<&Target>> = BTreeMap::new();
    for route in &observed.routes {
        seen.entry(route.destination).or_default().push(&route.target);
    }
    seen
}

fn route(destination: IpNet, target: &Target) -> Route {
    Route { destination, target: target.clone() }
}

/// Whether a route that is not wanted may be removed: that of a pod that is joining or leaving is the CNI binary's.
fn may_go(target: &Target, desired: &Desired) -> bool {
    desired.leaving || target.pod_link().is_none_or(|link| desired.links.contains_key(link))
}

/// Whether the link that a route needs is there: a pod's may have gone since its lease was read.
fn exists(target: &Target, observed: &Observed) -> bool {
    match target {
        Target::Link { link } => observed.links.contains_key(link),
        Target::Via { .. } | Target::Blackhole | Target::Other => true,
    }
}

fn plan_table(desired: &Desired, observed: Option<&Table>, plan: &mut Plan) {
    match (&desired.table, observed) {
        (Some(wanted), Some(seen)) if wanted.same_structure(seen) => {
            plan_elements(wanted, seen, &desired.tolerated, plan);
        }
        (Some(wanted), _) => plan.ops.push(Op::ReplaceTable(wanted.clone())),
        (None, Some(_)) => plan.ops.push(Op::DeleteTable),
        (None, None) => {}
    }
}

fn plan_elements(desired: &Table, observed: &Table, tolerated: &BTreeSet<(String, Element)>, plan: &mut Plan) {
    for (name, wanted) in &desired.sets {
        let Some(seen) = observed.sets.get(name) else { continue };
        let add: Vec<_> = wanted.elements.difference(&seen.elements).cloned().collect();
        let surplus = seen.elements.difference(&wanted.elements);
        let remove: Vec<_> = surplus.filter(|e| !tolerated.contains(&(name.clone(), (*e).clone()))).cloned().collect();
        if !add.is_empty() || !remove.is_empty() {
            plan.ops.push(Op::ChangeSet { set: name.clone(), add, remove });
        }
    }
}
