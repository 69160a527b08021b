//! Which connections a change of policies forbids: whose are to be looked at, and which of those are to end.
//!
//! Packets of a connection that was let through are not judged again. So behind a change that may forbid some, the
//! connections of the pods that may have lost something are judged as if they began now. A change that only permits
//! more leads to no look at all.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::bind::{Bound, LeaseChanges, Leases, View};
use super::bundle::{Allow, Bundle, Direction, Members, Ordered, Peers, Ports, Profile, ProfileId, SetDelta, SetId};
use super::evaluate::{Packet, Place};
use super::input::Action;
use super::objects::Way;

#[cfg(test)]
mod tests;

/// Up to how many members two sets are compared. Of larger ones it is taken that members went: a look costs less.
const COMPARED: usize = 1024;
/// The `metadata.uid` of no pod.
const NOBODY: &str = "";

/// The addresses that are known, with their pods.
pub type Known = BTreeMap<IpAddr, Bound>;
/// Addresses of pods, each with the way in which something may have been taken from it.
pub type Suspects = BTreeSet<(IpAddr, Way)>;

/// What changes took away, put together until somebody looks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Suspicion {
    everyone: bool,
    suspects: Suspects,
    /// Sets that somebody went from, and sets that somebody came to.
    left: BTreeSet<SetId>,
    joined: BTreeSet<SetId>,
}

impl Suspicion {
    /// Anything may have been let through.
    pub const fn everyone() -> Self {
        Self { everyone: true, suspects: Suspects::new(), left: BTreeSet::new(), joined: BTreeSet::new() }
    }

    /// Whether nothing was taken from anybody.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Puts a change behind the earlier ones. `known` is from before it; the delta is the effect that it has
    /// ([`Bundle::preview`]).
    pub fn change(&mut self, view: View<'_>, known: &Known, leases: &LeaseChanges) {
        match (view.before.is_enforced, view.delta.is_enforced) {
            (_, Some(false)) => return *self = Self::default(),
            (false, Some(true)) => return *self = Self::everyone(),
            (false, None) => return,
            (true, _) => {}
        }
        // Before the sets: what went from them earlier counts for who named them until now.
        if !view.delta.pods.is_empty() || !leases.is_empty() {
            for (address, bound) in known {
                self.change_known(view, *address, bound, leases);
            }
        }
        for (id, change) in &view.delta.sets {
            self.change_set(view, *id, change);
        }
        for (uid, addresses) in leases {
            let others = |address: &&IpAddr| known.get(*address).is_none_or(|bound| bound.uid != *uid);
            for address in addresses.iter().flatten().filter(others) {
                // Whoever had it before may have been reached by others.
                self.change_owner(view, *address, uid);
            }
        }
    }

    fn change_set(&mut self, view: View<'_>, id: SetId, change: &SetDelta) {
        let (comes, goes) = match change {
            SetDelta::Change { add, remove } => (!add.is_empty(), !remove.is_empty()),
            SetDelta::New(members) => (!members.is_empty(), !view.before(id).is_empty()),
            SetDelta::Gone => (false, true),
        };
        if comes {
            self.joined.insert(id);
        }
        if goes {
            self.left.insert(id);
        }
    }

    fn change_known(&mut self, view: View<'_>, address: IpAddr, bound: &Bound, leases: &LeaseChanges) {
        let is_touched = view.delta.pods.contains_key(&bound.uid);
        let is_released = leases.get(&bound.uid).is_some_and(|now| !now.iter().flatten().any(|one| *one == address));
        let after = if is_released { None } else { view.pod(&bound.uid) };
        let Some(after) = after else {
            // Nobody's address: whoever gets it next is to find nothing of what was.
            if is_touched || is_released {
                self.suspects.extend(Way::ALL.map(|way| (address, way)));
            }
            return;
        };
        if after.profile == bound.profile {
            return;
        }
        for way in Way::ALL {
            let now = direction(after.profile.and_then(|id| view.profile(id)), way);
            let then = direction(bound.profile.and_then(|id| view.before.profiles.get(&id)), way);
            if self.may_lose(then) || !is_kept(view, then, now) {
                self.suspects.insert((address, way));
            }
        }
    }

    /// Where a pod is not known, it gets nothing through.
    fn change_owner(&mut self, view: View<'_>, address: IpAddr, uid: &str) {
        let pod = view.pod(uid);
        let profile = pod.and_then(|pod| pod.profile).and_then(|id| view.profile(id));
        let ways = Way::ALL.into_iter().filter(|way| pod.is_none() || !direction(profile, *way).is_open());
        self.suspects.extend(ways.map(|way| (address, way)));
    }

    /// Who is to be looked at, with the bundle and the addresses as they are now.
    pub fn suspects(mut self, bundle: &Bundle, known: &Known, leases: &Leases) -> Suspects {
        if !bundle.is_enforced {
            return Suspects::new();
        }
        if self.everyone {
            let unknown = leases.values().flatten().filter(|address| !known.contains_key(*address));
            self.suspects.extend(unknown.flat_map(|address| Way::ALL.map(|way| (*address, way))));
        }
        let mut lost: BTreeMap<(ProfileId, Way), bool> = BTreeMap::new();
        for (address, bound) in known {
            let Some(id) = bound.profile else { continue };
            let profile = bundle.profiles.get(&id);
            for way in Way::ALL {
                let direction = direction(profile, way);
                let is_lost = *lost
                    .entry((id, way))
                    .or_insert_with(|| if self.everyone { !direction.is_open() } else { self.may_lose(direction) });
                if is_lost {
                    self.suspects.insert((*address, way));
                }
            }
        }
        self.suspects
    }

    /// Whether who came to sets and went from them may have taken something. Who goes from what allows loses that, who
    /// comes to what denies too; what a rule passes on may meet anything behind it.
    fn may_lose(&self, direction: &Direction) -> bool {
        let names = |peers: &Peers, sets: &BTreeSet<SetId>| match peers {
            Peers::Anyone => false,
            Peers::In(all) => !sets.is_empty() && all.iter().any(|id| sets.contains(id)),
        };
        let by_rule = |rule: &Ordered| {
            let (by_coming, by_going) = match rule.action {
                Action::Accept => (false, true),
                Action::Deny => (true, false),
                Action::Pass => (true, true),
            };
            (by_coming && names(&rule.peers, &self.joined)) || (by_going && names(&rule.peers, &self.left))
        };
        direction.admin.iter().chain(&direction.baseline).any(by_rule)
            || direction.isolated.iter().flat_map(|isolation| &isolation.allows).any(|a| names(&a.peers, &self.left))
    }
}

/// Whether a connection with this first packet is one of those that are looked at.
pub fn concerns(suspects: &Suspects, packet: &Packet) -> bool {
    suspects.contains(&(packet.source, Way::Egress)) || suspects.contains(&(packet.destination, Way::Ingress))
}

/// Whether a connection with this first packet could not begin now. It is none that the node itself began: the node always
/// reaches its pods.
pub fn is_forbidden(bundle: &Bundle, known: &Known, suspects: &Suspects, packet: &Packet) -> bool {
    let place = |address: IpAddr| match known.get(&address) {
        Some(bound) => Place::Pod(&bound.uid),
        None if Way::ALL.into_iter().any(|way| suspects.contains(&(address, way))) => Place::Pod(NOBODY),
        None => Place::Elsewhere,
    };
    !bundle.judge(packet, place).passes()
}

static OPEN: Direction = Direction { admin: Vec::new(), isolated: None, baseline: Vec::new() };

fn direction(profile: Option<&Profile>, way: Way) -> &Direction {
    profile.map_or(&OPEN, |profile| profile.direction(way))
}

/// Whether all that went through still does, but for what becomes of members of sets that both name.
fn is_kept(view: View<'_>, then: &Direction, now: &Direction) -> bool {
    if now.is_open() {
        return true;
    }
    if then.admin != now.admin {
        return false;
    }
    match (&then.isolated, &now.isolated) {
        (_, None) => now.baseline.is_empty() || (then.isolated.is_none() && then.baseline == now.baseline),
        (None, Some(_)) => false,
        (Some(then), Some(now)) => then.allows.iter().all(|old| now.allows.iter().any(|new| covers(view, old, new))),
    }
}

fn covers(view: View<'_>, old: &Allow, new: &Allow) -> bool {
    let (old_peers, new_peers) = match (&old.peers, &new.peers) {
        (Peers::In(old), Peers::In(new)) => (old, new),
        (Peers::In(_) | Peers::Anyone, Peers::Anyone) => return holds_all(old.ports, new.ports),
        (Peers::Anyone, Peers::In(_)) => return false,
    };
    holds_all(old.ports, new.ports)
        && old_peers
            .iter()
            .all(|set| new_peers.contains(set) || new_peers.iter().any(|new| is_within(view, *set, *new)))
}

/// Whether the second hold all of the first.
fn holds_all(old: Ports, new: Ports) -> bool {
    match (old, new) {
        (Ports::OfPeer, new) => matches!(new, Ports::OfPeer | Ports::Any),
        (_, Ports::Any) => true,
        (Ports::All(old) | Ports::Range(old, ..), Ports::All(new)) => old == new,
        (Ports::Range(old, first, last), Ports::Range(new, low, high)) => old == new && low <= first && last <= high,
        (_, _) => false,
    }
}

/// Whether all who were in a set are in another one.
fn is_within(view: View<'_>, old: SetId, new: SetId) -> bool {
    let (stay, go, come) = view.after(new);
    let is_in = |address: &IpAddr| (stay.holds(*address) && !go.holds(*address)) || come.holds(*address);
    match view.before(old) {
        Members::Addresses(all) => all.len() <= COMPARED && all.iter().all(is_in),
        Members::Ports(all) => all.is_empty(),
        Members::Ranges(all) => all.is_empty() || (go.is_empty() && come.is_empty() && stay == view.before(old)),
    }
}
