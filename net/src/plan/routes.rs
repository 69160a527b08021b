//! Routes, and the nexthop objects that they lead to.

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::{Plan, has_link};
use crate::observed::{Desired, Nexthop, NexthopId, Observed, Route, Target};
use crate::ops::Op;

pub(super) fn plan(desired: &Desired, observed: &Observed, plan: &mut Plan) {
    let nexthops: BTreeMap<NexthopId, &Nexthop> =
        desired.routes.values().filter_map(Target::nexthop).map(|nexthop| (nexthop.id, nexthop)).collect();
    plan_nexthops(&nexthops, desired, observed, plan);
    let seen = routes_by_destination(observed);
    for (destination, targets) in &seen {
        let Some(wanted) = desired.routes.get(destination) else {
            let targets = targets.iter().filter(|target| may_go(target, desired));
            plan.ops.extend(targets.map(|target| Op::DeleteRoute(route(*destination, target))));
            continue;
        };
        // A nexthop object that was altered is put right by itself, and with it every route that leads to it.
        let is_wanted = |target: &Target| match (target, wanted) {
            (Target::Via(seen), Target::Via(wanted)) => seen.id == wanted.id,
            _ => target == wanted,
        };
        // Replacing takes the place of one route; any further one has to go by itself.
        let surplus = targets.iter().filter(|target| !is_wanted(target));
        let kept = usize::from(!targets.iter().any(|target| is_wanted(target)));
        plan.ops.extend(surplus.skip(kept).map(|target| Op::DeleteRoute(route(*destination, target))));
        if kept == 1 && exists(wanted, desired, observed) {
            plan.ops.push(Op::ReplaceRoute(route(*destination, wanted)));
        }
    }
    for (destination, wanted) in &desired.routes {
        if seen.contains_key(destination) || !exists(wanted, desired, observed) {
            continue;
        }
        if observed.foreign_routes.contains(destination) {
            plan.conflicts.push(*destination);
        } else {
            plan.ops.push(Op::AddRoute(route(*destination, wanted)));
        }
    }
}

fn plan_nexthops(wanted: &BTreeMap<NexthopId, &Nexthop>, desired: &Desired, observed: &Observed, plan: &mut Plan) {
    for (id, nexthop) in wanted {
        if observed.nexthops.get(id) != Some(*nexthop) {
            plan.ops.push(Op::SetNexthop((*nexthop).clone()));
        }
    }
    // The kernel removes those of a device with it.
    let goes = |link: &str| observed.devices.contains_key(link) && !desired.devices.contains_key(link);
    let surplus = observed.nexthops.values().filter(|nexthop| !wanted.contains_key(&nexthop.id));
    plan.ops.extend(surplus.filter(|nexthop| !goes(&nexthop.link)).cloned().map(Op::DeleteNexthop));
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
fn exists(target: &Target, desired: &Desired, observed: &Observed) -> bool {
    match target {
        Target::Link { link } => has_link(desired, observed, link),
        Target::Via(_) | Target::Blackhole | Target::Other => true,
    }
}
