//! What the table of policies has, and what it is called there.

use std::fmt;
use std::net::IpAddr;

use super::bundle::{AddressPort, Members, ProfileId, SetId};
use crate::family::Family;

/// The name of the table; its family is `inet`.
pub const TABLE: &str = "towpath-policy";

/// Which packets of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Way {
    /// Those to it.
    Ingress,
    /// Those of it.
    Egress,
}

impl Way {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Ingress, Self::Egress];
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        })
    }
}

/// What kind of members a set has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// [`Members::Addresses`].
    Addresses,
    /// [`Members::Ports`].
    Ports,
    /// [`Members::Ranges`].
    Ranges,
}

impl Kind {
    /// The kind of these members.
    pub const fn of(members: &Members) -> Self {
        match members {
            Members::Addresses(_) => Self::Addresses,
            Members::Ports(_) => Self::Ports,
            Members::Ranges(_) => Self::Ranges,
        }
    }
}

/// Names a list of sets: by the set where there is one, otherwise by a hash of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GateId(pub u64);

/// Something that the table has for as long as it is used: by a pod, or by something that a pod uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Object {
    /// A set of a bundle. Those of addresses and ports are elements of one set for all, behind the number of theirs: the
    /// kernel finds a set by going through the names of all, so that many would take it time with their square.
    Set {
        /// Which.
        id: SetId,
        /// Of what.
        kind: Kind,
        /// Its members of this family.
        family: Family,
    },
    /// A chain that goes back for who is in any of some sets, and denies all others.
    Gate {
        /// Which sets.
        id: GateId,
        /// Whether it looks at where packets come from, or go to.
        way: Way,
        /// Packets of this family.
        family: Family,
    },
    /// The chains of one direction of a profile, with the map of its ports.
    Profile {
        /// Which.
        id: ProfileId,
        /// The direction.
        way: Way,
        /// Packets of this family.
        family: Family,
    },
}

/// How a family is called in names.
pub const fn suffix(family: Family) -> &'static str {
    match family {
        Family::V4 => "v4",
        Family::V6 => "v6",
    }
}

impl fmt::Display for Object {
    /// The name of the set of blocks, or of the (first) chain; of other sets what stands before their members.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Set { id, kind: Kind::Ranges, family } => write!(f, "blocks-{}-{id}", suffix(family)),
            Self::Set { id, kind, family } => write!(f, "{id} in {}", common_set(kind, family)),
            Self::Gate { id, way: Way::Ingress, family } => write!(f, "from-{}-{:016x}", suffix(family), id.0),
            Self::Gate { id, way: Way::Egress, family } => write!(f, "to-{}-{:016x}", suffix(family), id.0),
            Self::Profile { id, way, family } => write!(f, "{way}-{}-{id}", suffix(family)),
        }
    }
}

/// The set that has the members of all sets of a kind.
pub const fn common_set(kind: Kind, family: Family) -> &'static str {
    match (kind, family) {
        (Kind::Ports, Family::V4) => "ports-v4",
        (Kind::Ports, Family::V6) => "ports-v6",
        (_, Family::V4) => "peers-v4",
        (_, Family::V6) => "peers-v6",
    }
}

/// The map from the address of a pod to what becomes of its packets.
pub const fn pods_map(way: Way, family: Family) -> &'static str {
    match (way, family) {
        (Way::Ingress, Family::V4) => "ingress-v4",
        (Way::Ingress, Family::V6) => "ingress-v6",
        (Way::Egress, Family::V4) => "egress-v4",
        (Way::Egress, Family::V6) => "egress-v6",
    }
}

/// The chain that ends packets, and the set that counts them by pod.
pub const fn denied(way: Way, family: Family) -> &'static str {
    match (way, family) {
        (Way::Ingress, Family::V4) => "denied-ingress-v4",
        (Way::Ingress, Family::V6) => "denied-ingress-v6",
        (Way::Egress, Family::V4) => "denied-egress-v4",
        (Way::Egress, Family::V6) => "denied-egress-v6",
    }
}

/// The pairs of each pod's address with itself.
pub const fn self_set(family: Family) -> &'static str {
    match family {
        Family::V4 => "self-v4",
        Family::V6 => "self-v6",
    }
}

/// What stands before the members of a set in the common one: its number in two halves, which `nft` shows in the host's
/// byte order.
pub fn set_key(id: SetId) -> [u8; 8] {
    let mut key = id.0.to_be_bytes();
    in_halves(&mut key);
    key
}

/// The inverse of [`set_key`].
pub fn set_of_key(mut key: [u8; 8]) -> SetId {
    in_halves(&mut key);
    SetId(u64::from_be_bytes(key))
}

/// Turns each half from network byte order into the host's, or back.
fn in_halves(key: &mut [u8; 8]) {
    if cfg!(target_endian = "little") {
        key.chunks_exact_mut(4).for_each(<[u8]>::reverse);
    }
}

impl Object {
    /// The name of the second chain of a profile: what is looked at where the Admin tier passes.
    pub fn behind_admin(self) -> String {
        format!("{self}-passed")
    }
}

impl Members {
    /// The addresses of a family, where it holds addresses.
    pub fn addresses(&self, family: Family) -> impl Iterator<Item = IpAddr> {
        let all = if let Self::Addresses(all) = self { Some(all) } else { None };
        let bounds = family.address(0)..=family.address(u128::MAX);
        all.into_iter().flat_map(move |all| all.range(bounds.clone()).copied())
    }

    /// The ports of addresses of a family, where it holds ports.
    pub fn ports(&self, family: Family) -> impl Iterator<Item = AddressPort> {
        let all = if let Self::Ports(all) = self { Some(all) } else { None };
        all.into_iter().flatten().filter(move |one| Family::of(one.address) == family).copied()
    }
}

/// The answers of TCP connections that were cut: source, destination, and the ports of both.
pub const fn cut_set(family: Family) -> &'static str {
    match family {
        Family::V4 => "cut-v4",
        Family::V6 => "cut-v6",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_a_set_leads_back_to_it() {
        for id in [0, 1, 0x1234_5678_9abc_def0, u64::MAX] {
            assert_eq!(set_of_key(set_key(SetId(id))), SetId(id));
        }
    }

    #[test]
    fn members_of_each_family_are_found_apart() {
        let all = ["10.0.0.1", "255.255.255.255", "0.0.0.0", "::", "fd00::1", "ffff::"].map(|a| a.parse().unwrap());
        let members = Members::Addresses(all.into());
        let found = Family::ALL.map(|family| members.addresses(family).count());
        assert_eq!(found, [3, 3]);
        assert_eq!(members.ports(Family::V4).count(), 0);
    }
}
