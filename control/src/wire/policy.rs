//! Deltas of policy.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::Message;
use towpath_net::policy::bundle::{Delta, Members, PodPolicy, Profile, ProfileId, SetDelta, SetId};

use super::scalar::{read_key, read_uid, write_key};
use super::schema as wire;
use super::{members, profile};
use crate::malformed::{Fault, Malformed, Within, needed};

/// Of the schema: these numbers never change.
const NEW: u32 = 1;
const CHANGE: u32 = 2;
const GONE: u32 = 3;

/// How many members of a set go into one message at most.
const MEMBERS: usize = 1024;

/// About how large a piece becomes, in bytes.
const PIECE: usize = 8 * 1024;

/// Writes a delta in pieces, of which each is a delta too; read one after the other they say the same.
pub fn write(delta: &Delta) -> Vec<Bytes> {
    let mut pieces = Pieces::default();
    if delta.is_enforced.is_some() {
        pieces.open.is_enforced = delta.is_enforced;
        pieces.grow(2);
    }
    for (id, members) in &delta.sets {
        write_set(*id, members, |set| {
            let size = set.encoded_len();
            pieces.open.sets.push(set);
            pieces.grow(size);
        });
    }
    for (id, profile) in &delta.profiles {
        let named = write_profile(*id, profile.as_ref());
        let size = named.encoded_len();
        pieces.open.profiles.push(named);
        pieces.grow(size);
    }
    for (uid, pod) in &delta.pods {
        let pod = write_pod(uid, pod.as_ref());
        let size = pod.encoded_len();
        pieces.open.pods.push(pod);
        pieces.grow(size);
    }
    pieces.finish()
}

/// Pieces, and the one that is being filled.
#[derive(Default)]
struct Pieces {
    full: Vec<Bytes>,
    open: wire::Policy,
    size: usize,
}

impl Pieces {
    fn grow(&mut self, by: usize) {
        self.size += by;
        if self.size >= PIECE {
            self.close();
        }
    }

    fn close(&mut self) {
        self.full.push(Bytes::from(std::mem::take(&mut self.open).encode_to_vec()));
        self.size = 0;
    }

    fn finish(mut self) -> Vec<Bytes> {
        if self.size > 0 {
            self.close();
        }
        self.full
    }
}

/// Reads one piece.
pub fn read(policy: wire::Policy) -> Result<Delta, Malformed> {
    let mut delta = Delta { is_enforced: policy.is_enforced, ..Delta::default() };
    for set in policy.sets {
        let id = SetId(set.id);
        let change = read_set(&set).within("sets")?;
        put_set(&mut delta, id, change)?;
    }
    for named in policy.profiles {
        let profile = named.profile.map(profile::read).transpose().within("profiles")?;
        put_once(&mut delta.profiles, ProfileId(named.id), profile, "profiles")?;
    }
    for pod in policy.pods {
        let uid = read_uid(pod.uid, "uid").within("pods")?;
        let policy = read_pod(pod.key, pod.profile, pod.is_policed).within("pods")?;
        put_once(&mut delta.pods, uid, policy, "pods")?;
    }
    Ok(delta)
}

fn put_once<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: V, field: &str) -> Result<(), Malformed> {
    if map.insert(key, value).is_some() { Err(Malformed::new(field, Fault::Twice)) } else { Ok(()) }
}

/// A set may be told of more than once, in parts.
fn put_set(delta: &mut Delta, id: SetId, change: SetDelta) -> Result<(), Malformed> {
    if let Entry::Vacant(place) = delta.sets.entry(id) {
        place.insert(change);
        return Ok(());
    }
    let later = Delta { sets: BTreeMap::from([(id, change)]), ..Delta::default() };
    delta.merge(later).map_err(|_| Malformed::new("sets", Fault::Contradiction))
}

fn write_pod(uid: &str, pod: Option<&PodPolicy>) -> wire::Pod {
    wire::Pod {
        uid: uid.to_owned(),
        key: pod.map(|pod| write_key(&pod.key)),
        profile: pod.and_then(|pod| pod.profile).map(|id| id.0),
        is_policed: pod.is_some_and(|pod| pod.is_policed),
    }
}

fn read_pod(key: Option<wire::Key>, profile: Option<u64>, is_policed: bool) -> Result<Option<PodPolicy>, Malformed> {
    match (key, profile) {
        (Some(key), profile) => {
            let key = read_key(key).within("key")?;
            Ok(Some(PodPolicy { key, profile: profile.map(ProfileId), is_policed }))
        }
        (None, None) if !is_policed => Ok(None),
        (None, _) => Err(Malformed::new("key", Fault::Missing)),
    }
}

fn write_profile(id: ProfileId, profile: Option<&Profile>) -> wire::NamedProfile {
    wire::NamedProfile { id: id.0, profile: profile.map(profile::write) }
}

/// Writes what becomes of a set in as many messages as it takes: what comes behind the first one is a change of it.
fn write_set(id: SetId, set: &SetDelta, mut put: impl FnMut(wire::Set)) {
    let blank = wire::Set { id: id.0, change: CHANGE, add: None, remove: None };
    match set {
        SetDelta::New(all) => {
            let mut change = NEW;
            for piece in members::write(all, MEMBERS) {
                put(wire::Set { change, add: Some(piece), ..blank.clone() });
                change = CHANGE;
            }
        }
        SetDelta::Change { add, remove } => {
            let (added, removed) = (members::write(add, MEMBERS), members::write(remove, MEMBERS));
            for number in 0..added.len().max(removed.len()) {
                let (add, remove) = (added.get(number).cloned(), removed.get(number).cloned());
                put(wire::Set { add, remove, ..blank.clone() });
            }
        }
        SetDelta::Gone => put(wire::Set { change: GONE, ..blank }),
    }
}

fn read_set(set: &wire::Set) -> Result<SetDelta, Malformed> {
    let add = set.add.as_ref().map(members::read).transpose().within("add")?;
    let remove = set.remove.as_ref().map(members::read).transpose().within("remove")?;
    match (set.change, add, remove) {
        (NEW, add, None) => Ok(SetDelta::New(needed(add, "add")?)),
        (CHANGE, add, remove) => read_change(add, remove),
        (GONE, None, None) => Ok(SetDelta::Gone),
        (NEW | GONE, ..) => Err(Malformed::new("change", Fault::Contradiction)),
        (other, ..) => Err(Malformed::new("change", Fault::Number(u64::from(other)))),
    }
}

fn read_change(add: Option<Members>, remove: Option<Members>) -> Result<SetDelta, Malformed> {
    let (add, remove) = match (add, remove) {
        (None, None) => return Err(Malformed::new("add", Fault::Missing)),
        (Some(add), None) => {
            let remove = none_like(&add);
            (add, remove)
        }
        (None, Some(remove)) => (none_like(&remove), remove),
        (Some(add), Some(remove)) => (add, remove),
    };
    if matches!(add, Members::Ranges(_)) || !is_alike(&add, &remove) {
        return Err(Malformed::new("remove", Fault::Contradiction));
    }
    Ok(SetDelta::Change { add, remove })
}

fn none_like(members: &Members) -> Members {
    match members {
        Members::Addresses(_) => Members::Addresses(BTreeSet::new()),
        Members::Ports(_) => Members::Ports(BTreeSet::new()),
        Members::Ranges(_) => Members::Ranges(Vec::new()),
    }
}

fn is_alike(one: &Members, other: &Members) -> bool {
    std::mem::discriminant(one) == std::mem::discriminant(other)
}
