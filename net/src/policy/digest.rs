//! Digests of what a node has, so that it is told only what is different when it comes back, to whichever replica.
//!
//! A set's digest is the sum of its members' hashes, so that it follows changes without a look at the other members. Every
//! replica computes the same; nothing depends on an order of events.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use sha2::{Digest as _, Sha256};

use super::bundle::{AddressPort, Bundle, Delta, Members, PodPolicy, ProfileId, SetDelta, SetId};
use crate::family::{Family, bits};
use crate::ranges::Range;

#[cfg(test)]
mod tests;

/// 64 bits that tell contents apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub u64);

/// What a node has, by digests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Digests {
    /// Whether policies are enforced.
    pub is_enforced: bool,
    /// Of each pod's entry, by `metadata.uid`.
    pub pods: BTreeMap<String, Digest>,
    /// The profiles: their names say what is in them.
    pub profiles: BTreeSet<ProfileId>,
    /// Of the members of each set.
    pub sets: BTreeMap<SetId, Digest>,
}

impl Digest {
    /// Of a pod's entry.
    pub fn of_pod(uid: &str, pod: &PodPolicy) -> Self {
        let profile = pod.profile.map(|id| id.0.to_be_bytes());
        let policed = [u8::from(pod.is_policed)];
        let parts = [uid.as_bytes(), pod.key.namespace.as_bytes(), pod.key.name.as_bytes(), &policed];
        let parts = parts.into_iter().chain(profile.as_ref().map(<[u8; 8]>::as_slice));
        Self(hash(parts))
    }

    /// Of all pods of a node, from those of each.
    pub fn of_pods(pods: impl Iterator<Item = Self>) -> Self {
        Self(sum(pods.map(|pod| pod.0)))
    }

    /// Of a set's members.
    pub fn of_members(members: &Members) -> Self {
        Self(match members {
            Members::Addresses(all) => sum(all.iter().map(|address| of_address(*address))),
            Members::Ports(all) => sum(all.iter().map(of_port)),
            Members::Ranges(all) => sum(all.iter().map(of_range)),
        })
    }

    fn changed(self, add: &Members, remove: &Members) -> Self {
        Self(self.0.wrapping_add(Self::of_members(add).0).wrapping_sub(Self::of_members(remove).0))
    }
}

impl Digests {
    /// Of all that a bundle has.
    pub fn of(bundle: &Bundle) -> Self {
        Self {
            is_enforced: bundle.is_enforced,
            pods: bundle.pods.iter().map(|(uid, pod)| (uid.clone(), Digest::of_pod(uid, pod))).collect(),
            profiles: bundle.profiles.keys().copied().collect(),
            sets: bundle.sets.iter().map(|(id, members)| (*id, Digest::of_members(members))).collect(),
        }
    }

    /// One digest of all of it.
    pub fn whole(&self) -> Digest {
        let pods = self.pods.iter().map(|(uid, pod)| mix(1, hash([uid.as_bytes()]), pod.0));
        let profiles = self.profiles.iter().map(|id| mix(2, id.0, 0));
        let sets = self.sets.iter().map(|(id, set)| mix(3, id.0, set.0));
        Digest(sum(pods.chain(profiles).chain(sets)).wrapping_add(mix(4, u64::from(self.is_enforced), 0)))
    }

    /// What leads from what the digests are of to a bundle. A set that differs is given anew as a whole.
    pub fn delta_to(&self, bundle: &Bundle) -> Delta {
        let now = Self::of(bundle);
        Delta {
            is_enforced: (self.is_enforced != now.is_enforced).then_some(now.is_enforced),
            pods: different(&self.pods, &now.pods, |uid| bundle.pods.get(uid).cloned()),
            profiles: different_profiles(&self.profiles, bundle),
            sets: different(&self.sets, &now.sets, |id| {
                Some(bundle.sets.get(id).map_or(SetDelta::Gone, |members| SetDelta::New(members.clone())))
            })
            .into_iter()
            .filter_map(|(id, change)| Some((id, change?)))
            .collect(),
        }
    }

    /// Follows a change that tells exactly what became different, as [`Bundle::apply`] does.
    pub fn follow(&mut self, effect: &Delta) {
        self.is_enforced = effect.is_enforced.unwrap_or(self.is_enforced);
        for (uid, pod) in &effect.pods {
            match pod {
                Some(pod) => self.pods.insert(uid.clone(), Digest::of_pod(uid, pod)),
                None => self.pods.remove(uid),
            };
        }
        for (id, profile) in &effect.profiles {
            if profile.is_some() {
                self.profiles.insert(*id)
            } else {
                self.profiles.remove(id)
            };
        }
        for (id, change) in &effect.sets {
            match change {
                SetDelta::Gone => {
                    self.sets.remove(id);
                }
                SetDelta::New(members) => {
                    self.sets.insert(*id, Digest::of_members(members));
                }
                SetDelta::Change { add, remove } => {
                    let set = self.sets.entry(*id).or_default();
                    *set = set.changed(add, remove);
                }
            }
        }
    }
}

/// Whoever is only on one side, or has another digest, with what it is now.
fn different<K: Ord + Clone, V>(
    before: &BTreeMap<K, Digest>,
    now: &BTreeMap<K, Digest>,
    get: impl Fn(&K) -> Option<V>,
) -> BTreeMap<K, Option<V>> {
    let gone = before.keys().filter(|key| !now.contains_key(*key));
    let new = now.iter().filter(|(key, digest)| before.get(*key) != Some(digest)).map(|(key, _)| key);
    gone.chain(new).map(|key| (key.clone(), get(key))).collect()
}

fn different_profiles(
    before: &BTreeSet<ProfileId>,
    bundle: &Bundle,
) -> BTreeMap<ProfileId, Option<super::bundle::Profile>> {
    let gone = before.iter().filter(|id| !bundle.profiles.contains_key(id)).map(|id| (*id, None));
    let new = bundle.profiles.iter().filter(|(id, _)| !before.contains(id));
    gone.chain(new.map(|(id, profile)| (*id, Some(profile.clone())))).collect()
}

fn sum(hashes: impl Iterator<Item = u64>) -> u64 {
    hashes.fold(0, u64::wrapping_add)
}

fn of_address(address: IpAddr) -> u64 {
    let (high, low) = halves(address);
    mix(family(address), high, low)
}

fn of_port(member: &AddressPort) -> u64 {
    mix(of_address(member.address), u64::from(member.protocol.number()), u64::from(member.port))
}

fn of_range(range: &Range) -> u64 {
    mix(2, of_address(range.first), of_address(range.last))
}

fn family(address: IpAddr) -> u64 {
    match Family::of(address) {
        Family::V4 => 4,
        Family::V6 => 6,
    }
}

fn halves(address: IpAddr) -> (u64, u64) {
    let bytes = bits(address).to_be_bytes();
    let [high, low] =
        [&bytes[..8], &bytes[8..]].map(|half| half.iter().fold(0, |all, byte| all << 8 | u64::from(*byte)));
    (high, low)
}

/// Three numbers as one, by the finalizer of `SplitMix64` (Steele, Lea, Flood: Fast splittable pseudorandom number
/// generators, 2014): every bit of each decides about every bit.
fn mix(a: u64, b: u64, c: u64) -> u64 {
    [b, c].into_iter().fold(finalize(a), |all, next| finalize(all.wrapping_add(next)))
}

fn finalize(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}

/// The first 8 bytes of the SHA-256 of the parts, each behind its length.
fn hash<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    hasher.finalize().iter().take(8).fold(0, |all, byte| all << 8 | u64::from(*byte))
}
