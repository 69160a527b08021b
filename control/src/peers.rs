//! All nodes as peers of each other, written once for all agents.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;
use towpath_net::state::{NodeName, Peer};

use crate::digest::{BUCKETS, bucket, peer as digest};
use crate::wire::peer::write_named;
use crate::wire::schema as wire;

/// All nodes, by bucket.
#[derive(Debug)]
pub struct PeerTable {
    buckets: Vec<Bucket>,
}

#[derive(Debug, Default)]
struct Bucket {
    peers: BTreeMap<NodeName, Entry>,
    digest: u64,
    /// All of it, once somebody asked for it.
    written: Option<Bytes>,
}

#[derive(Debug)]
struct Entry {
    peer: Peer,
    digest: u64,
}

/// What became of one node, for any number of agents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerChange {
    pub(crate) name: NodeName,
    pub(crate) written: Bytes,
}

/// What an agent must be told of its peers when it comes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerDifference {
    pub(crate) buckets: Bytes,
    pub(crate) written: Vec<Bytes>,
}

impl Default for PeerTable {
    fn default() -> Self {
        Self { buckets: std::iter::repeat_with(Bucket::default).take(BUCKETS).collect() }
    }
}

impl PeerTable {
    /// Takes note of a node, or that it is gone; gives what is to be told of it to every agent but its own, and nothing
    /// where it is as it was.
    pub fn set(&mut self, name: NodeName, peer: Option<Peer>) -> Option<PeerChange> {
        let bucket = self.buckets.get_mut(usize::from(bucket(&name)))?;
        if bucket.peers.get(&name).map(|entry| &entry.peer) == peer.as_ref() {
            return None;
        }
        let change = PeerChange { written: write([(&name, peer.as_ref())]), name: name.clone() };
        bucket.set(name, peer);
        Some(change)
    }

    /// One node.
    pub fn get(&self, name: &NodeName) -> Option<&Peer> {
        self.buckets.get(usize::from(bucket(name)))?.peers.get(name).map(|entry| &entry.peer)
    }

    /// What the agent of `own` must be told, which has peers of these digests ([`crate::update::Holdings::peers`]).
    pub fn difference(&mut self, held: &[u64], own: &NodeName) -> PeerDifference {
        let mut buckets = Vec::new();
        let mut written = Vec::new();
        for (number, bucket) in (0..=u8::MAX).zip(&mut self.buckets) {
            let held = held.get(usize::from(number)).copied().unwrap_or_default();
            if held == bucket.digest_without(own) {
                continue;
            }
            buckets.push(number);
            let bytes = bucket.write_without(own);
            if !bytes.is_empty() {
                written.push(bytes);
            }
        }
        PeerDifference { buckets: Bytes::from(buckets), written }
    }
}

impl PeerDifference {
    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }
}

impl Bucket {
    fn set(&mut self, name: NodeName, peer: Option<Peer>) {
        self.written = None;
        let before = match peer {
            Some(peer) => {
                let digest = digest(&name, &peer);
                self.digest = self.digest.wrapping_add(digest);
                self.peers.insert(name, Entry { peer, digest })
            }
            None => self.peers.remove(&name),
        };
        self.digest = self.digest.wrapping_sub(before.map(|entry| entry.digest).unwrap_or_default());
    }

    fn digest_without(&self, own: &NodeName) -> u64 {
        let of_own = self.peers.get(own).map(|entry| entry.digest).unwrap_or_default();
        self.digest.wrapping_sub(of_own)
    }

    /// No agent is told of its own node; only for that one the bucket is written apart.
    fn write_without(&mut self, own: &NodeName) -> Bytes {
        if self.peers.contains_key(own) {
            return write(all(&self.peers).filter(|(name, _)| *name != own));
        }
        let peers = &self.peers;
        self.written.get_or_insert_with(|| write(all(peers))).clone()
    }
}

fn all(peers: &BTreeMap<NodeName, Entry>) -> impl Iterator<Item = (&NodeName, Option<&Peer>)> {
    peers.iter().map(|(name, entry)| (name, Some(&entry.peer)))
}

fn write<'a>(peers: impl IntoIterator<Item = (&'a NodeName, Option<&'a Peer>)>) -> Bytes {
    let peers = peers.into_iter().map(|(name, peer)| write_named(name, peer)).collect();
    Bytes::from(wire::Peers { peers }.encode_to_vec())
}
