//! What becomes of a few other nodes, planned without a look at all the others.
//!
//! The node's own part and those few are rendered as they were and as they are now; the way from the one to the other is
//! the same whatever else there is, but for what [`Others`] keeps: which numbers nexthop objects have, and which sets the
//! table has. Where nodes contend for something, only a look at all of them tells who has it; the kernel refuses what
//! somebody else has, so that this comes to light.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use crate::nft::{Element, Set, Table};
use crate::observed::{Desired, NexthopId, Observed, Surroundings, Target};
use crate::ops::Op;
use crate::plan::plan;
use crate::render::{Rendered, render};
use crate::state::{NodeName, NodeState, Peer};
use crate::transport::Keys;

/// What is new of a few nodes.
#[derive(Clone, Copy, Debug)]
pub struct Changes<'a> {
    /// The state as it is now.
    pub state: &'a NodeState,
    /// The nodes that are otherwise than they were, as they were: nothing where they are new.
    pub before: &'a BTreeMap<NodeName, Option<Peer>>,
    /// What the node is connected to, as it was when all was rendered.
    pub around: &'a Surroundings,
    /// The node's own keys, as they were then.
    pub keys: Option<&'a Keys>,
}

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// In this order.
    pub ops: Vec<Op>,
    /// The routes of these nodes, and the node's own, as they were.
    pub before: BTreeMap<IpNet, Target>,
    /// The same as they are to be.
    pub after: BTreeMap<IpNet, Target>,
}

/// What must be known of all nodes to change a few.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Others {
    nexthops: BTreeSet<NexthopId>,
    sets: BTreeMap<String, Kept>,
}

/// What is kept of a set of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kept {
    elements: usize,
    /// Whether it is there without any.
    always: bool,
}

impl Changes<'_> {
    /// The nodes as they were, and as they are.
    pub fn peers(&self) -> impl Iterator<Item = (Option<&Peer>, Option<&Peer>)> {
        self.before.iter().map(|(name, before)| (before.as_ref(), self.state.peers.get(name)))
    }

    fn as_they_were(&self) -> BTreeMap<NodeName, Peer> {
        self.before.iter().filter_map(|(name, peer)| Some((name.clone(), peer.clone()?))).collect()
    }

    fn as_they_are(&self) -> BTreeMap<NodeName, Peer> {
        let peers = self.before.keys().filter_map(|name| self.state.peers.get_key_value(name));
        peers.map(|(name, peer)| (name.clone(), peer.clone())).collect()
    }

    fn render(&self, peers: BTreeMap<NodeName, Peer>) -> Rendered {
        let NodeState { node, spec, .. } = self.state;
        let state = NodeState { node: node.clone(), spec: spec.clone(), peers };
        render(&state, &[], self.around, self.keys)
    }
}

impl Others {
    /// What must be kept of what was rendered for a state; nothing where nodes contend for an address or a CIDR.
    pub fn of(state: &NodeState, around: &Surroundings, keys: Option<&Keys>, rendered: &Rendered) -> Option<Self> {
        if contend(state) {
            return None;
        }
        let none = BTreeMap::new();
        let own = Changes { state, before: &none, around, keys }.render(BTreeMap::new()).desired.table?;
        let sets = rendered.desired.table.as_ref()?.sets.iter();
        let kept =
            |name: &String, set: &Set| Kept { elements: set.elements.len(), always: own.sets.contains_key(name) };
        Some(Self {
            nexthops: rendered.desired.routes.values().filter_map(Target::nexthop).map(|nexthop| nexthop.id).collect(),
            sets: sets.map(|(name, set)| (name.clone(), kept(name, set))).collect(),
        })
    }

    /// What is to be done about a few nodes; nothing where that takes a look at all.
    pub fn change(&mut self, changes: &Changes<'_>) -> Option<Change> {
        let before = changes.render(changes.as_they_were());
        let after = changes.render(changes.as_they_are());
        // A node behind a lesser uplink makes packets to all others smaller.
        let same = before.obstacles == after.obstacles && before.mtu == after.mtu;
        if !same || !self.number(&before.desired, &after.desired) {
            return None;
        }
        let (mut before, mut after) = (before.desired, after.desired);
        let (tables, routes) = ((before.table.take()?, after.table.take()?), before.routes.clone());
        let mut ops = plan(&after, &as_observed(before)).ops;
        if !ops.iter().all(is_of_peers) {
            return None;
        }
        ops.extend(self.change_sets(&tables.0, &tables.1)?);
        ops.sort_by_key(Op::rank);
        Some(Change { ops, before: routes, after: after.routes })
    }

    /// Whether the numbers of new nexthop objects are free; takes them where they are.
    fn number(&mut self, before: &Desired, after: &Desired) -> bool {
        let ids = |desired: &Desired| -> BTreeSet<NexthopId> {
            desired.routes.values().filter_map(Target::nexthop).map(|nexthop| nexthop.id).collect()
        };
        let (before, after) = (ids(before), ids(after));
        if after.difference(&before).any(|id| self.nexthops.contains(id)) {
            return false;
        }
        for id in before.difference(&after) {
            self.nexthops.remove(id);
        }
        self.nexthops.extend(after);
        true
    }

    fn change_sets(&mut self, before: &Table, after: &Table) -> Option<Vec<Op>> {
        let names: BTreeSet<&String> = before.sets.keys().chain(after.sets.keys()).collect();
        let mut ops = Vec::new();
        for name in names {
            let (was, is) = (before.sets.get(name), after.sets.get(name));
            let (add, remove) = self.sets.get_mut(name)?.change(was, is)?;
            if !(add.is_empty() && remove.is_empty()) {
                ops.push(Op::ChangeSet { set: name.clone(), add, remove });
            }
        }
        Some(ops)
    }
}

impl Kept {
    /// What is to be added and removed where a part of the set is otherwise; nothing where that takes a look at all.
    fn change(&mut self, was: Option<&Set>, is: Option<&Set>) -> Option<(Vec<Element>, Vec<Element>)> {
        let none = BTreeSet::new();
        let (was, is) = (was.map_or(&none, |set| &set.elements), is.map_or(&none, |set| &set.elements));
        let add: Vec<Element> = is.difference(was).cloned().collect();
        let remove: Vec<Element> = was.difference(is).cloned().collect();
        self.elements = (self.elements + add.len()).checked_sub(remove.len())?;
        // Without elements the set itself would go, and the rule that uses it.
        (self.elements > 0 || self.always).then_some((add, remove))
    }
}

/// Whether an address or a CIDR is of two nodes.
fn contend(state: &NodeState) -> bool {
    let peers = state.peers.values();
    let mut addresses: Vec<_> = peers.clone().flat_map(|peer| &peer.addresses).chain(&state.spec.addresses).collect();
    addresses.sort_unstable();
    let mut cidrs: Vec<_> = peers.flat_map(|peer| &peer.pod_cidrs).chain(&state.spec.pod_cidrs).collect();
    cidrs.sort_unstable();
    let twice = addresses.array_windows().any(|[a, b]| a == b);
    // What lies in another one is next to it, or next to others that do.
    twice || cidrs.array_windows().any(|[wide, narrow]| wide.contains(*narrow))
}

/// The kernel as it is where all that was desired is there.
fn as_observed(desired: Desired) -> Observed {
    let nexthops = desired.routes.values().filter_map(Target::nexthop).map(|nexthop| (nexthop.id, *nexthop));
    Observed {
        nexthops: nexthops.collect(),
        routes: desired
            .routes
            .into_iter()
            .map(|(destination, target)| crate::observed::Route { destination, target })
            .collect(),
        sysctls: desired.sysctls,
        links: desired.links,
        devices: desired.devices,
        addresses: desired.addresses,
        neighbours: desired.neighbours,
        stations: desired.stations,
        ciphers: desired.ciphers,
        ..Observed::default()
    }
}

/// Whether an operation is about other nodes, and about nothing that the node has for all of them.
const fn is_of_peers(op: &Op) -> bool {
    matches!(
        op,
        Op::AddRoute(_)
            | Op::ReplaceRoute(_)
            | Op::DeleteRoute(_)
            | Op::SetNexthop(_)
            | Op::DeleteNexthop(_)
            | Op::SetNeighbour { .. }
            | Op::DeleteNeighbour(_)
            | Op::SetStation { .. }
            | Op::DeleteStation { .. }
            | Op::SetCipherPeer { .. }
            | Op::DeleteCipherPeer { .. }
    )
}

#[cfg(test)]
mod tests;
