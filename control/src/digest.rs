//! Digests of the peers that an agent has: any replica computes the same ones of the same content.

use std::collections::BTreeMap;

use prost::Message;
use sha2::{Digest, Sha256};
use towpath_net::state::{NodeName, Peer};

use crate::wire::peer::write_named;

/// How many buckets peers fall into, by their names. When an agent comes back, only the buckets that changed are told.
pub const BUCKETS: usize = 256;

/// The bucket of a node.
pub fn bucket(name: &NodeName) -> u8 {
    Sha256::digest(name.0.as_bytes()).first().copied().unwrap_or_default()
}

/// The digest of a peer, with its name. That of a bucket is the wrapping sum of its peers'.
pub fn peer(name: &NodeName, peer: &Peer) -> u64 {
    of_bytes(&write_named(name, Some(peer)).encode_to_vec())
}

/// The digest of each bucket.
pub fn buckets(peers: &BTreeMap<NodeName, Peer>) -> Vec<u64> {
    let mut sums = vec![0_u64; BUCKETS];
    for (name, known) in peers {
        if let Some(sum) = sums.get_mut(usize::from(bucket(name))) {
            *sum = sum.wrapping_add(peer(name, known));
        }
    }
    sums
}

fn of_bytes(bytes: &[u8]) -> u64 {
    let digest = Sha256::digest(bytes);
    digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}
