//! The node's ends of pods' pairs, and the addresses of all links of ours.

use super::{Plan, has_link};
use crate::observed::{Desired, Observed};
use crate::ops::Op;

pub(super) fn plan(desired: &Desired, observed: &Observed, plan: &mut Plan) {
    if desired.leaving {
        plan.ops.extend(observed.links.keys().cloned().map(Op::DeleteLink));
    }
    for (name, link) in &desired.links {
        if observed.links.get(name).is_some_and(|seen| seen != link) {
            plan.ops.push(Op::SetLink { name: name.clone(), link: *link });
        }
    }
    for surplus in observed.addresses.difference(&desired.addresses) {
        if desired.links.contains_key(&*surplus.link) || desired.devices.contains_key(&*surplus.link) {
            plan.ops.push(Op::DeleteAddress(*surplus));
        }
    }
    for missing in desired.addresses.difference(&observed.addresses) {
        if has_link(desired, observed, &missing.link) {
            plan.ops.push(Op::AddAddress(*missing));
        }
    }
}
