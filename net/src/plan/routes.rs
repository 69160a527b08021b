//! Routes, and the nexthop objects that they lead to.

use std::collections::BTreeMap;

use super::compare::{join, side_by_side};
use super::{Plan, has_link};
use crate::observed::{Desired, Nexthop, NexthopId, Observed, Route, Target};
use crate::ops::Op;

pub(super) fn plan(desired: &Desired, observed: &Observed, plan: &mut Plan) {
    let nexthops: BTreeMap<NexthopId, Nexthop> =
        desired.routes.values().filter_map(Target::nexthop).map(|nexthop| (nexthop.id, *nexthop)).collect();
    plan_nexthops(&nexthops, desired, observed, plan);
    let seen: Vec<&Route> = observed.routes.iter().collect();
    // In order, and so those to one destination are beside each other.
    let seen = seen.chunk_by(|a, b| a.destination == b.destination);
    let seen = seen.filter_map(|routes| routes.first().map(|first| (&first.destination, routes)));
    for (destination, wanted, seen) in join(desired.routes.iter(), seen) {
        match (wanted, seen) {
            (wanted, Some(seen)) => plan_one(wanted, seen, desired, observed, plan),
            (Some(wanted), None) if exists(wanted, desired, observed) => {
                if observed.foreign_routes.contains(destination) {
                    plan.conflicts.push(*destination);
                } else {
                    plan.ops.push(Op::AddRoute(Route { destination: *destination, target: *wanted }));
                }
            }
            (_, None) => {}
        }
    }
}

/// Plans what becomes of the routes to one destination.
fn plan_one(wanted: Option<&Target>, seen: &[&Route], desired: &Desired, observed: &Observed, plan: &mut Plan) {
    let Some(wanted) = wanted else {
        let unwanted = seen.iter().filter(|route| may_go(&route.target, desired));
        plan.ops.extend(unwanted.map(|route| Op::DeleteRoute(**route)));
        return;
    };
    // A nexthop object that was altered is put right by itself, and with it every route that leads to it.
    let is_wanted = |route: &Route| match (&route.target, wanted) {
        (Target::Via(seen), Target::Via(wanted)) => seen.id == wanted.id,
        (seen, wanted) => seen == wanted,
    };
    // Replacing takes the place of one route; any further one has to go by itself.
    let surplus = seen.iter().filter(|route| !is_wanted(route));
    let kept = usize::from(!seen.iter().any(|route| is_wanted(route)));
    plan.ops.extend(surplus.skip(kept).map(|route| Op::DeleteRoute(**route)));
    if let (1, Some(first)) = (kept, seen.first())
        && exists(wanted, desired, observed)
    {
        plan.ops.push(Op::ReplaceRoute(Route { target: *wanted, ..**first }));
    }
}

fn plan_nexthops(wanted: &BTreeMap<NexthopId, Nexthop>, desired: &Desired, observed: &Observed, plan: &mut Plan) {
    // The kernel removes those of a device with it.
    let goes = |link: &str| observed.devices.contains_key(link) && !desired.devices.contains_key(link);
    for (_, wanted, seen) in side_by_side(wanted, &observed.nexthops) {
        match (wanted, seen) {
            (Some(wanted), seen) if seen != Some(wanted) => plan.ops.push(Op::SetNexthop(*wanted)),
            (None, Some(seen)) if !goes(&seen.link) => plan.ops.push(Op::DeleteNexthop(*seen)),
            _ => {}
        }
    }
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
