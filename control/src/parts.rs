//! An update in parts, none so large that it holds up a stream.

use bytes::Bytes;
use prost::Message;

use crate::message::Nonce;
use crate::update::Update;
use crate::wire::peer::write_named;
use crate::wire::{policy, schema as wire};

/// How many peers are written together.
const BATCH: usize = 64;

/// About how large a part becomes, in bytes. A connection keeps a buffer of the size of the largest.
const PART: usize = 16 * 1024;

/// Writes an update: the messages that tell it.
pub fn write(nonce: Nonce, update: &Update) -> Vec<Vec<u8>> {
    let named: Vec<_> = update.peers.iter().map(|(name, peer)| write_named(name, peer.as_ref())).collect();
    let batch = |peers: &[wire::NamedPeer]| Bytes::from(wire::Peers { peers: peers.to_vec() }.encode_to_vec());
    let peers = named.chunks(BATCH).map(batch).collect();
    let parts = parts(nonce, Bytes::from(update.buckets.clone()), peers, policy::write(&update.policy));
    let message = |part| wire::FromOperator { says: Some(wire::OperatorSays::Part(part)) };
    parts.into_iter().map(|part| message(part).encode_to_vec()).collect()
}

/// Makes parts of what was written already. There is always one, though nothing be in it.
pub(crate) fn parts(nonce: Nonce, buckets: Bytes, peers: Vec<Bytes>, policy: Vec<Bytes>) -> Vec<wire::Part> {
    let mut parts = Vec::new();
    let mut open = wire::Part { nonce: nonce.0, is_first: true, buckets, ..wire::Part::default() };
    let mut size = 0;
    let peers = peers.into_iter().map(|bytes| (bytes, true));
    for (bytes, is_peers) in peers.chain(policy.into_iter().map(|bytes| (bytes, false))) {
        if size > 0 && size + bytes.len() > PART {
            let next = wire::Part { nonce: nonce.0, ..wire::Part::default() };
            parts.push(std::mem::replace(&mut open, next));
            size = 0;
        }
        size += bytes.len();
        if is_peers { open.peers.push(bytes) } else { open.policy.push(bytes) }
    }
    open.is_last = true;
    parts.push(open);
    parts
}
