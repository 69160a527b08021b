//! Which address belongs to which pod, as the leases of the node say it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::bundle::{Bundle, Delta, Direction, Members, PodPolicy, Profile, ProfileId, SetDelta, SetId};
use super::objects::{Kind, Way};
use crate::family::Family;

/// The addresses of the pods of this node, by what they are told apart by ([`super::identity`]).
pub type Leases = BTreeMap<String, Vec<IpAddr>>;
/// What became of them: pods with the addresses that they have now, and (nothing) those that have gone.
pub type LeaseChanges = BTreeMap<String, Option<Vec<IpAddr>>>;

/// A bundle and what is about to become of it.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The bundle as the kernel has it.
    pub before: &'a Bundle,
    /// The change.
    pub delta: &'a Delta,
}

/// A pod whose address is to be known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// `metadata.uid` of the pod.
    pub uid: String,
    /// What it may do; everything, where this is nothing.
    pub profile: Option<ProfileId>,
}

/// What becomes of the packets of an address, and of those to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The address.
    pub address: IpAddr,
    /// Whose chains its packets go through; none where nothing is said of them.
    pub egress: Option<ProfileId>,
    /// Whose chains packets to it go through.
    pub ingress: Option<ProfileId>,
}

impl Binding {
    /// Whose chains packets of this way go through.
    pub const fn of(&self, way: Way) -> Option<ProfileId> {
        match way {
            Way::Ingress => self.ingress,
            Way::Egress => self.egress,
        }
    }

    /// The family of the address.
    pub const fn family(&self) -> Family {
        Family::of(self.address)
    }
}

impl Profile {
    /// What it says of one direction.
    pub const fn direction(&self, way: Way) -> &Direction {
        match way {
            Way::Ingress => &self.ingress,
            Way::Egress => &self.egress,
        }
    }
}

impl Direction {
    /// Whether everything goes through.
    pub const fn is_open(&self) -> bool {
        self.admin.is_empty() && self.isolated.is_none() && self.baseline.is_empty()
    }
}

impl<'a> View<'a> {
    /// A pod, as it will be.
    pub fn pod(&self, uid: &str) -> Option<&'a PodPolicy> {
        self.delta.pods.get(uid).map_or_else(|| self.before.pods.get(uid), Option::as_ref)
    }

    /// A profile, as it will be.
    pub fn profile(&self, id: ProfileId) -> Option<&'a Profile> {
        self.delta.profiles.get(&id).map_or_else(|| self.before.profiles.get(&id), Option::as_ref)
    }

    /// The kind of a set that will be there.
    pub fn kind(&self, id: SetId) -> Option<Kind> {
        match self.delta.sets.get(&id) {
            Some(SetDelta::Gone) => None,
            Some(SetDelta::New(members)) => Some(Kind::of(members)),
            Some(SetDelta::Change { .. }) | None => self.before.sets.get(&id).map(Kind::of),
        }
    }

    /// Who is in a set before the change.
    pub fn before(&self, id: SetId) -> &'a Members {
        self.before.sets.get(&id).unwrap_or(&NOBODY)
    }

    /// Who will be in a set: those of the first, but for those of the second, and those of the third. Nobody is in the first
    /// and in the third.
    pub fn after(&self, id: SetId) -> (&'a Members, &'a Members, &'a Members) {
        match self.delta.sets.get(&id) {
            Some(SetDelta::New(members)) => (members, &NOBODY, &NOBODY),
            Some(SetDelta::Change { add, remove }) => (self.before(id), remove, add),
            Some(SetDelta::Gone) => (&NOBODY, &NOBODY, &NOBODY),
            None => (self.before(id), &NOBODY, &NOBODY),
        }
    }
}

static NOBODY: Members = Members::Addresses(BTreeSet::new());
