//! What of a bundle the kernel of a node has, and the way from there to what it should have.
//!
//! An address of a pod uses the chains of the pod's profile; these use gates and sets; gates use sets. What is used first
//! is made, and what nobody uses any more is dropped: a change touches what it is about and nothing else. Who makes what
//! a [`Change`] lists first, and drops what it lists last, changes nothing for any packet by that: only [`Change::unbind`],
//! [`Change::bind`] and [`Change::members`] do.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use thiserror::Error;

use super::bind::{Binding, Bound, LeaseChanges, Leases, View};
use super::bundle::{Bundle, Delta, Profile, ProfileId, SetDelta, SetId};
use super::chains::{self, Rendered, Verdict};
use super::objects::{Kind, Object, Way};
use crate::family::Family;

#[cfg(test)]
mod tests;

/// A bundle, or a change of one, that does not say what the kernel should have.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Error {
    /// A pod has a profile that is not there.
    #[error("pod {pod} has the profile {profile:?}, which the bundle lacks")]
    NoProfile {
        /// `metadata.uid` of the pod.
        pod: String,
        /// Its profile.
        profile: ProfileId,
    },
    /// Something looks into a set that is not there.
    #[error("{user} looks into {set:?}, which the bundle lacks")]
    NoSet {
        /// What looks.
        user: Object,
        /// Into which set.
        set: SetId,
    },
    /// Something looks into a set of a kind that it cannot look into.
    #[error(
        "{user} looks into {set:?}, which holds {kind:?}: named ports are looked up in egress alone, and nothing else there"
    )]
    WrongKind {
        /// What looks.
        user: Object,
        /// Into which set.
        set: SetId,
        /// What the set holds.
        kind: Kind,
    },
    /// A rule leaves the port to the peer, and names no peer.
    #[error("a rule of {profile:?} leaves the port to its peer, and everyone is its peer")]
    Portless {
        /// The profile.
        profile: ProfileId,
    },
    /// A set is to go, or a profile, that something still uses.
    #[error("{object} is gone from the bundle, and still used")]
    Used {
        /// What is used.
        object: Object,
    },
    /// A profile is to say something else than its number stands for.
    #[error("{profile:?} is there, and is to be another: what says something else has another number")]
    Altered {
        /// The profile.
        profile: ProfileId,
    },
    /// A set is to hold something else than its definition says.
    #[error("{set:?} is used, and is to hold members of another kind, or other networks: neither ever changes")]
    Constant {
        /// The set.
        set: SetId,
    },
}

/// Something that the kernel has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// How many use it.
    users: u32,
    /// What it uses; the sets of a gate in their order.
    pub uses: Box<[Object]>,
    /// How many chains it is, and whether it has a map.
    pub parts: Parts,
}

/// What a profile's direction consists of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// Whether it has a second chain, for what the Admin tier passes.
    pub has_second: bool,
    /// Its map of ports, where it has one.
    pub map: Option<MapOf>,
}

/// Which of its chains a map of ports belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapOf {
    /// The chain where packets come in.
    First,
    /// The one behind the Admin tier.
    Second,
}

/// What is in the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Program {
    leases: Leases,
    bound: BTreeMap<IpAddr, Bound>,
    objects: BTreeMap<Object, Entry>,
}

/// What is to be done, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// What is to be there that was not: each behind all that it uses.
    pub make: Vec<Object>,
    /// Addresses that are no longer known.
    pub unbind: Vec<IpAddr>,
    /// Addresses that are known, or lead elsewhere (and then are unbound before).
    pub bind: Vec<Binding>,
    /// Sets that stay and whose members come and go, as the delta says; of kind [`Object::Set`].
    pub members: Vec<Object>,
    /// What nobody uses any more, with what it was: each behind all that used it.
    pub drop: Vec<(Object, Entry)>,
}

impl Program {
    /// A program of nothing, and what is to be done for a bundle.
    pub fn of(bundle: &Bundle, leases: &Leases) -> Result<(Self, Change), Error> {
        let mut program = Self::default();
        let all = leases.iter().map(|(uid, addresses)| (uid.clone(), Some(addresses.clone()))).collect();
        let change = program.advance(View { before: bundle, delta: &Delta::default() }, &all)?;
        Ok((program, change))
    }

    /// Goes on to what a delta and other leases make of it, and says what is to be done. After an error it is worth nothing.
    pub fn advance(&mut self, view: View<'_>, leases: &LeaseChanges) -> Result<Change, Error> {
        let is_altered = |(id, new): &(&ProfileId, &Option<Profile>)| matches!((view.before.profiles.get(id), new), (Some(old), Some(new)) if old != new);
        if let Some((profile, _)) = view.delta.profiles.iter().find(is_altered) {
            return Err(Error::Altered { profile: *profile });
        }
        let mut change = Change::default();
        let touched: BTreeSet<&String> = view.delta.pods.keys().chain(leases.keys()).collect();
        for (uid, addresses) in leases {
            match addresses {
                Some(addresses) => _ = self.leases.insert(uid.clone(), addresses.clone()),
                None => _ = self.leases.remove(uid),
            }
        }
        let (old, new) = self.rebind(view, &touched)?;
        for (address, bound) in &new {
            change.bind.push(self.lead(view, *address, bound, &mut change.make)?);
        }
        for (address, bound) in old {
            change.unbind.push(address);
            self.leave(view, address, bound.profile, &mut change.drop);
        }
        self.bound.extend(new);
        // What was dropped and is needed all the same was made before, so nothing is in both.
        self.members(view, &mut change)?;
        match view.delta.sets.iter().find_map(|(id, set)| self.still_used(*id, set)) {
            Some(object) => Err(Error::Used { object }),
            None => Ok(change),
        }
    }

    /// Takes the addresses away that are no longer those of their pods, and says which ones come.
    #[expect(clippy::type_complexity, reason = "addresses that go and addresses that come")]
    fn rebind(
        &mut self,
        view: View<'_>,
        touched: &BTreeSet<&String>,
    ) -> Result<(Vec<(IpAddr, Bound)>, BTreeMap<IpAddr, Bound>), Error> {
        let mut wanted: BTreeMap<IpAddr, Bound> = BTreeMap::new();
        for uid in touched {
            let (Some(pod), Some(addresses)) = (view.pod(uid), self.leases.get(*uid)) else { continue };
            if let Some(profile) = pod.profile
                && view.profile(profile).is_none()
            {
                return Err(Error::NoProfile { pod: (*uid).clone(), profile });
            }
            let bound = Bound { uid: (*uid).clone(), profile: pod.profile };
            wanted.extend(addresses.iter().map(|address| (*address, bound.clone())));
        }
        let goes = |address: &IpAddr, bound: &Bound| match wanted.get(address) {
            Some(other) => other != bound,
            None => touched.contains(&bound.uid),
        };
        let old: Vec<_> = self.bound.extract_if(.., |address, bound| goes(address, bound)).collect();
        wanted.retain(|address, _| !self.bound.contains_key(address));
        Ok((old, wanted))
    }

    /// Makes what an address needs.
    fn lead(
        &mut self,
        view: View<'_>,
        address: IpAddr,
        bound: &Bound,
        make: &mut Vec<Object>,
    ) -> Result<Binding, Error> {
        let mut binding = Binding { address, egress: None, ingress: None };
        let Some(id) = bound.profile else { return Ok(binding) };
        let Some(profile) = view.profile(id) else { return Ok(binding) };
        for way in Way::ALL.into_iter().filter(|way| !profile.direction(*way).is_open()) {
            match way {
                Way::Ingress => binding.ingress = Some(id),
                Way::Egress => binding.egress = Some(id),
            }
            let object = Object::Profile { id, way, family: binding.family() };
            if self.is_used_once_more(object) {
                continue;
            }
            let rendered = render(view, object)?;
            let parts = parts_of(object, &rendered);
            for (gate, sets) in &rendered.gates {
                self.hold_gate(*gate, sets, make);
            }
            for set in &rendered.sets {
                self.hold(*set, Box::default(), Parts::default(), make);
            }
            let uses = rendered.gates.keys().chain(&rendered.sets).copied().collect();
            self.hold(object, uses, parts, make);
        }
        Ok(binding)
    }

    fn hold_gate(&mut self, gate: Object, sets: &[Object], make: &mut Vec<Object>) {
        if self.is_used_once_more(gate) {
            return;
        }
        for set in sets {
            self.hold(*set, Box::default(), Parts::default(), make);
        }
        self.hold(gate, sets.into(), Parts::default(), make);
    }

    fn hold(&mut self, object: Object, uses: Box<[Object]>, parts: Parts, make: &mut Vec<Object>) {
        if !self.is_used_once_more(object) {
            self.objects.insert(object, Entry { users: 1, uses, parts });
            make.push(object);
        }
    }

    fn is_used_once_more(&mut self, object: Object) -> bool {
        self.objects.get_mut(&object).is_some_and(|entry| {
            entry.users += 1;
            true
        })
    }

    /// Drops what an address needed and nothing else does.
    fn leave(&mut self, view: View<'_>, address: IpAddr, profile: Option<ProfileId>, drop: &mut Vec<(Object, Entry)>) {
        let Some(id) = profile else { return };
        // Before the change: what it was bound to may be gone by it.
        let Some(profile) = view.before.profiles.get(&id) else { return };
        for way in Way::ALL.into_iter().filter(|way| !profile.direction(*way).is_open()) {
            self.release(Object::Profile { id, way, family: Family::of(address) }, drop);
        }
    }

    fn release(&mut self, object: Object, drop: &mut Vec<(Object, Entry)>) {
        let Some(entry) = self.objects.get_mut(&object) else { return };
        entry.users -= 1;
        if entry.users > 0 {
            return;
        }
        if let Some(entry) = self.objects.remove(&object) {
            let uses = entry.uses.clone();
            drop.push((object, entry));
            uses.into_iter().for_each(|used| self.release(used, drop));
        }
    }

    /// Which sets stay and change.
    fn members(&self, view: View<'_>, change: &mut Change) -> Result<(), Error> {
        let made: BTreeSet<Object> = change.make.iter().copied().collect();
        for (id, delta) in &view.delta.sets {
            let Some(kind) = view.before.sets.get(id).map(Kind::of) else { continue };
            let objects = Family::ALL.map(|family| Object::Set { id: *id, kind, family });
            let kept = objects.into_iter().filter(|set| self.objects.contains_key(set) && !made.contains(set));
            let before = change.members.len();
            change.members.extend(kept);
            let is_other = match delta {
                SetDelta::Change { .. } => kind == Kind::Ranges,
                SetDelta::New(members) => Kind::of(members) != kind,
                SetDelta::Gone => false,
            };
            if is_other && change.members.len() > before {
                return Err(Error::Constant { set: *id });
            }
        }
        Ok(())
    }

    fn still_used(&self, id: SetId, delta: &SetDelta) -> Option<Object> {
        if *delta != SetDelta::Gone {
            return None;
        }
        let kinds = [Kind::Addresses, Kind::Ports, Kind::Ranges];
        let all = kinds.into_iter().flat_map(|kind| Family::ALL.map(|family| Object::Set { id, kind, family }));
        all.into_iter().find(|object| self.objects.contains_key(object))
    }

    /// All that there is to be, each with what it uses.
    pub const fn objects(&self) -> &BTreeMap<Object, Entry> {
        &self.objects
    }

    /// The addresses that pods have, whether they are known or not.
    pub const fn leases(&self) -> &Leases {
        &self.leases
    }

    /// The addresses that are known.
    pub const fn bound(&self) -> &BTreeMap<IpAddr, Bound> {
        &self.bound
    }

    /// Where the packets of each known address go.
    pub fn bindings(&self) -> impl Iterator<Item = Binding> {
        self.bound.iter().map(|(address, bound)| {
            let led = |way| {
                let id = bound.profile?;
                self.objects.contains_key(&Object::Profile { id, way, family: Family::of(*address) }).then_some(id)
            };
            Binding { address: *address, egress: led(Way::Egress), ingress: led(Way::Ingress) }
        })
    }
}

/// The chains of one direction of a profile; none for any other object.
pub fn render(view: View<'_>, object: Object) -> Result<Rendered, Error> {
    let Object::Profile { id, way, family } = object else { return Ok(Rendered::default()) };
    let Some(profile) = view.profile(id) else { return Ok(Rendered::default()) };
    chains::profile(id, way, family, profile.direction(way), &|set| view.kind(set))
}

fn parts_of(object: Object, rendered: &Rendered) -> Parts {
    let map = rendered.ports.as_ref().map(
        |(name, _)| {
            if *name == object.behind_admin() { MapOf::Second } else { MapOf::First }
        },
    );
    Parts { has_second: rendered.chains.len() > 1, map }
}

impl Parts {
    /// The names of an object's chains, the one where packets come in first.
    pub fn chains(self, object: Object) -> Vec<String> {
        let second = self.has_second.then(|| object.behind_admin());
        std::iter::once(object.to_string()).chain(second).collect()
    }

    /// The name of its map.
    pub fn map(self, object: Object) -> Option<String> {
        self.map.map(|of| match of {
            MapOf::First => object.to_string(),
            MapOf::Second => object.behind_admin(),
        })
    }
}

impl Binding {
    /// What the map of this way says of the address.
    pub fn verdict(&self, way: Way) -> Verdict {
        let chain = |id| Verdict::Goto(Object::Profile { id, way, family: self.family() });
        self.of(way).map_or(Verdict::Return, chain)
    }
}
