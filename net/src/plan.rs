//! From what a node has to what it should have: the operations, in order.

mod compare;
mod devices;
mod links;
mod routes;

use std::collections::BTreeSet;

use ipnet::IpNet;

use crate::nft::{Element, Table};
use crate::observed::{Desired, Observed};
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
    let remaining = devices::plan(desired, observed, &mut plan);
    let observed = remaining.as_ref();
    plan_sysctls(desired, observed, &mut plan);
    links::plan(desired, observed, &mut plan);
    routes::plan(desired, observed, &mut plan);
    plan_table(desired, observed.table.as_ref(), &mut plan);
    plan.ops.sort_by_key(Op::rank);
    plan
}

/// Whether a link of ours is there, or will be.
fn has_link(desired: &Desired, observed: &Observed, name: &str) -> bool {
    observed.links.contains_key(name) || desired.devices.contains_key(name)
}

fn plan_sysctls(desired: &Desired, observed: &Observed, plan: &mut Plan) {
    for (key, value) in &desired.sysctls {
        let there = key.link().is_none_or(|link| has_link(desired, observed, link));
        if there && observed.sysctls.get(key) != Some(value) {
            plan.ops.push(Op::SetSysctl { key: key.clone(), value: value.clone() });
        }
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
