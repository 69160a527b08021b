//! All that one node must know of policies: addresses and numbers, no labels and no selectors.
//!
//! A [`Bundle`] is what the operator has for a node, and what its agent has of it; a [`Delta`] leads from one to the next.
//! Sets and profiles are named by hashes of what they mean, so every replica of the operator gives them the same names.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::input::{Action, Key};
use crate::lease::Protocol;
use crate::ranges::Range;

/// Names a set by what it is for: the first 8 bytes of a hash of its definition (not of its members, which change).
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SetId(pub u64);

/// Names a profile by the hash of all that it says.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProfileId(pub u64);

impl fmt::Display for SetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for SetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SetId({self})")
    }
}

impl fmt::Display for ProfileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for ProfileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProfileId({self})")
    }
}

/// What a node must know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bundle {
    /// Whether there is any policy in the cluster. Without one nothing is checked, and no pod waits.
    pub is_enforced: bool,
    /// The pods that were scheduled to this node and have a network of their own, by what they are told apart by
    /// ([`super::identity`]). One that is not here is not known, and gets nothing through.
    pub pods: BTreeMap<String, PodPolicy>,
    /// What the pods of this node may do.
    pub profiles: BTreeMap<ProfileId, Profile>,
    /// The sets that these name.
    pub sets: BTreeMap<SetId, Members>,
}

/// A pod of the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodPolicy {
    /// Its namespace and name.
    pub key: Key,
    /// What it may do; nothing where no policy selects it.
    pub profile: Option<ProfileId>,
    /// Whether a policy may be for pods of its namespace, or name them as peers. Where none does, its start waits for nobody.
    pub is_policed: bool,
}

/// What a pod may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// What may reach it.
    pub ingress: Direction,
    /// What it may reach.
    pub egress: Direction,
}

/// One direction of a profile, in the order in which it is looked at. The first of [`Self::admin`] that matches decides,
/// unless it passes; then, if the direction is isolated, only what is allowed goes through; else the first of
/// [`Self::baseline`] that matches decides; else the packet goes through. Answers, and errors about what was let through,
/// always do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Direction {
    /// Rules of the Admin tier.
    pub admin: Vec<Ordered>,
    /// What policies of `networking.k8s.io` allow; nothing where none of them isolates this direction.
    pub isolated: Option<Isolation>,
    /// Rules of the Baseline tier; empty where the direction is isolated.
    pub baseline: Vec<Ordered>,
}

/// What isolates one direction of a pod, and lets through some all the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Isolation {
    /// The policies that isolate, for messages, in order.
    pub policies: Vec<Key>,
    /// What goes through: any of these. There are as many as there are different ports, however many policies there are.
    pub allows: Vec<Allow>,
}

/// Packets that go through.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Allow {
    /// To these ports.
    pub ports: Ports,
    /// From or to these.
    pub peers: Peers,
}

/// One rule of a tier of `ClusterNetworkPolicy`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ordered {
    /// The name of the policy, for messages.
    pub policy: String,
    /// What becomes of what it matches.
    pub action: Action,
    /// Any of these ports.
    pub ports: Vec<Ports>,
    /// From or to these.
    pub peers: Peers,
}

/// Ports of the destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ports {
    /// Whatever the protocol above IP.
    Any,
    /// Every port of a protocol.
    All(Protocol),
    /// From the first to the last, both included.
    Range(Protocol, u16, u16),
    /// Those that the set of peers names with the address: it is one of [`Members::Ports`].
    OfPeer,
}

/// The other side.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Peers {
    /// Everyone.
    Anyone,
    /// Who is in any of these sets; nobody where there is none.
    In(Vec<SetId>),
}

/// What a set holds. A set never changes its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Members {
    /// Addresses of pods or nodes.
    Addresses(BTreeSet<IpAddr>),
    /// Addresses of pods, each with a port that the pod gives a name.
    Ports(BTreeSet<AddressPort>),
    /// Networks: sorted, disjoint, not adjacent, of both families. They follow from the definition and never change.
    Ranges(Vec<Range>),
}

/// A port of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AddressPort {
    /// The pod's address.
    pub address: IpAddr,
    /// The port's protocol.
    pub protocol: Protocol,
    /// The port.
    pub port: u16,
}

/// What leads from one bundle to the next. Applied as a whole: nobody sees a part of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// Whether policies are enforced, where that is another than before.
    pub is_enforced: Option<bool>,
    /// Pods that are new or different, and (nothing) those that are gone.
    pub pods: BTreeMap<String, Option<PodPolicy>>,
    /// Profiles that are new, and (nothing) those that are gone. None changes: another content is another profile.
    pub profiles: BTreeMap<ProfileId, Option<Profile>>,
    /// Sets that are new, different, or gone.
    pub sets: BTreeMap<SetId, SetDelta>,
}

/// What becomes of a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetDelta {
    /// It is new, or given anew as a whole: these are its members, whatever it held before.
    New(Members),
    /// Some come and some go. No member is in both.
    Change {
        /// Who comes; of the set's kind.
        add: Members,
        /// Who goes; of the set's kind.
        remove: Members,
    },
    /// Nobody names it any more.
    Gone,
}

impl Delta {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.is_enforced.is_none() && self.pods.is_empty() && self.profiles.is_empty() && self.sets.is_empty()
    }
}

impl Members {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Addresses(all) => all.len(),
            Self::Ports(all) => all.len(),
            Self::Ranges(all) => all.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
