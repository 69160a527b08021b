//! What travels: the messages of `towpath.control.v1`, in Protocol Buffers.
//!
//! The types here are the schema. A number is never given to another field; fields that a reader does not know are
//! skipped, so both sides may be one version apart. What is read here is believed nowhere: [`crate::message`] makes the
//! domain's types of it, or an error that names the field.

use bytes::Bytes;
use prost::{Message, Oneof};

/// The path of the one call: agents stream to the operator, and it streams to them.
#[cfg(feature = "transport")]
pub const FOLLOW: &str = "/towpath.control.v1.Control/Follow";

/// What an agent says.
#[derive(Clone, PartialEq, Message)]
pub struct FromAgent {
    #[prost(oneof = "AgentSays", tags = "1, 2, 3, 4, 5, 6")]
    pub says: Option<AgentSays>,
    /// With `Settled`: why what the agent was told since is not in its kernel; empty where nothing was refused. It stands
    /// beside, so that a replica which does not know it takes the rest.
    #[prost(string, tag = "7")]
    pub refusal: String,
}

#[derive(Clone, PartialEq, Oneof)]
pub enum AgentSays {
    /// The first message.
    #[prost(message, tag = "1")]
    Hello(Hello),
    /// An update was taken, or refused.
    #[prost(message, tag = "2")]
    Answer(Answer),
    /// A pod has addresses now.
    #[prost(message, tag = "3")]
    Attached(Attached),
    /// A pod has none any more.
    #[prost(string, tag = "4")]
    Detached(String),
    /// What the agent has: the answer to `Tell`.
    #[prost(message, tag = "5")]
    Holdings(Holdings),
    /// A digest of which profile each pod of the node has, in the kernel.
    #[prost(fixed64, tag = "6")]
    Settled(u64),
}

#[derive(Clone, PartialEq, Message)]
pub struct Hello {
    #[prost(string, tag = "1")]
    pub node: String,
    /// The version of the protocol.
    #[prost(uint32, tag = "2")]
    pub version: u32,
    #[prost(message, optional, tag = "3")]
    pub holdings: Option<Holdings>,
    /// The pods that have addresses.
    #[prost(message, repeated, tag = "4")]
    pub attached: Vec<Attached>,
    /// Whether the agent follows another replica, and only says here which pods have addresses.
    #[prost(bool, tag = "5")]
    pub reports_only: bool,
}

#[derive(Clone, PartialEq, Message)]
pub struct Answer {
    #[prost(uint64, tag = "1")]
    pub nonce: u64,
    /// Empty where the update was taken.
    #[prost(string, tag = "2")]
    pub refusal: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct Attached {
    #[prost(string, tag = "1")]
    pub uid: String,
    #[prost(message, optional, tag = "2")]
    pub key: Option<Key>,
    #[prost(bytes = "bytes", repeated, tag = "3")]
    pub addresses: Vec<Bytes>,
    /// Whether somebody waits for it to be known.
    #[prost(bool, tag = "4")]
    pub is_waiting: bool,
}

/// Digests of what an agent has.
#[derive(Clone, PartialEq, Message)]
pub struct Holdings {
    /// One for each bucket of peers.
    #[prost(fixed64, repeated, tag = "1")]
    pub peers: Vec<u64>,
    #[prost(bool, tag = "2")]
    pub is_enforced: bool,
    #[prost(message, repeated, tag = "3")]
    pub pods: Vec<PodHeld>,
    #[prost(fixed64, repeated, tag = "4")]
    pub profiles: Vec<u64>,
    /// The sets, and in the same order their digests.
    #[prost(fixed64, repeated, tag = "5")]
    pub sets: Vec<u64>,
    #[prost(fixed64, repeated, tag = "6")]
    pub set_digests: Vec<u64>,
}

#[derive(Clone, PartialEq, Message)]
pub struct PodHeld {
    #[prost(string, tag = "1")]
    pub uid: String,
    #[prost(fixed64, tag = "2")]
    pub digest: u64,
}

/// What the operator says.
#[derive(Clone, PartialEq, Message)]
pub struct FromOperator {
    #[prost(oneof = "OperatorSays", tags = "1, 2, 3")]
    pub says: Option<OperatorSays>,
}

#[derive(Clone, PartialEq, Oneof)]
pub enum OperatorSays {
    #[prost(message, tag = "1")]
    Part(Part),
    /// Every node that must know this pod's address does (`metadata.uid`).
    #[prost(string, tag = "2")]
    Known(String),
    /// The agent is asked for its holdings.
    #[prost(message, tag = "3")]
    Tell(Tell),
}

#[derive(Clone, PartialEq, Message)]
pub struct Tell {}

/// A part of an update; nothing of it counts before the last one is there.
#[derive(Clone, PartialEq, Message)]
pub struct Part {
    #[prost(uint64, tag = "1")]
    pub nonce: u64,
    #[prost(bool, tag = "2")]
    pub is_first: bool,
    #[prost(bool, tag = "3")]
    pub is_last: bool,
    /// The buckets, one a byte, of which the update holds all peers: those that it does not name are gone.
    #[prost(bytes = "bytes", tag = "4")]
    pub buckets: Bytes,
    /// `Peers` each, written once for all agents.
    #[prost(bytes = "bytes", repeated, tag = "5")]
    pub peers: Vec<Bytes>,
    /// `Policy` each; later ones add to earlier ones.
    #[prost(bytes = "bytes", repeated, tag = "6")]
    pub policy: Vec<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Peers {
    #[prost(message, repeated, tag = "1")]
    pub peers: Vec<NamedPeer>,
}

#[derive(Clone, PartialEq, Message)]
pub struct NamedPeer {
    #[prost(string, tag = "1")]
    pub name: String,
    /// Nothing where it is gone.
    #[prost(message, optional, tag = "2")]
    pub peer: Option<Peer>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Peer {
    /// 4 or 16 bytes each.
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub addresses: Vec<Bytes>,
    /// The address, and the length of the prefix in the byte behind it.
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub pod_cidrs: Vec<Bytes>,
    #[prost(uint32, repeated, tag = "3")]
    pub accepts: Vec<u32>,
    #[prost(message, optional, tag = "4")]
    pub keys: Option<Keys>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Keys {
    /// 32 bytes, or none.
    #[prost(bytes = "bytes", tag = "1")]
    pub first: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub second: Bytes,
    /// 1 or 2.
    #[prost(uint32, tag = "3")]
    pub active: u32,
}

#[derive(Clone, PartialEq, Message)]
pub struct Policy {
    #[prost(bool, optional, tag = "1")]
    pub is_enforced: Option<bool>,
    #[prost(message, repeated, tag = "2")]
    pub pods: Vec<Pod>,
    #[prost(message, repeated, tag = "3")]
    pub profiles: Vec<NamedProfile>,
    #[prost(message, repeated, tag = "4")]
    pub sets: Vec<Set>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Key {
    #[prost(string, tag = "1")]
    pub namespace: String,
    #[prost(string, tag = "2")]
    pub name: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct Pod {
    #[prost(string, tag = "1")]
    pub uid: String,
    /// Nothing where it is gone.
    #[prost(message, optional, tag = "2")]
    pub key: Option<Key>,
    #[prost(fixed64, optional, tag = "3")]
    pub profile: Option<u64>,
    #[prost(bool, tag = "4")]
    pub is_policed: bool,
}

#[derive(Clone, PartialEq, Message)]
pub struct NamedProfile {
    #[prost(fixed64, tag = "1")]
    pub id: u64,
    /// Nothing where it is gone.
    #[prost(message, optional, tag = "2")]
    pub profile: Option<Profile>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Profile {
    #[prost(message, optional, tag = "1")]
    pub ingress: Option<Direction>,
    #[prost(message, optional, tag = "2")]
    pub egress: Option<Direction>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Direction {
    #[prost(message, repeated, tag = "1")]
    pub admin: Vec<Ordered>,
    #[prost(message, optional, tag = "2")]
    pub isolated: Option<Isolation>,
    #[prost(message, repeated, tag = "3")]
    pub baseline: Vec<Ordered>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Isolation {
    #[prost(message, repeated, tag = "1")]
    pub policies: Vec<Key>,
    #[prost(message, repeated, tag = "2")]
    pub allows: Vec<Allow>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Allow {
    #[prost(message, optional, tag = "1")]
    pub ports: Option<Ports>,
    #[prost(message, optional, tag = "2")]
    pub peers: Option<Side>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Ordered {
    #[prost(string, tag = "1")]
    pub policy: String,
    /// 1 accepts, 2 denies, 3 passes.
    #[prost(uint32, tag = "2")]
    pub action: u32,
    #[prost(message, repeated, tag = "3")]
    pub ports: Vec<Ports>,
    #[prost(message, optional, tag = "4")]
    pub peers: Option<Side>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub struct Ports {
    /// 1 any, 2 all of the protocol, 3 from first to last, 4 of the peer.
    #[prost(uint32, tag = "1")]
    pub kind: u32,
    /// The number in the IP header.
    #[prost(uint32, tag = "2")]
    pub protocol: u32,
    #[prost(uint32, tag = "3")]
    pub first: u32,
    #[prost(uint32, tag = "4")]
    pub last: u32,
}

/// The other side of a rule.
#[derive(Clone, PartialEq, Message)]
pub struct Side {
    #[prost(bool, tag = "1")]
    pub is_anyone: bool,
    #[prost(fixed64, repeated, tag = "2")]
    pub sets: Vec<u64>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Set {
    #[prost(fixed64, tag = "1")]
    pub id: u64,
    /// 1 begins anew with what is added, 2 changes, 3 is gone.
    #[prost(uint32, tag = "2")]
    pub change: u32,
    #[prost(message, optional, tag = "3")]
    pub add: Option<Members>,
    #[prost(message, optional, tag = "4")]
    pub remove: Option<Members>,
}

/// Members of fixed size, one behind the other.
#[derive(Clone, PartialEq, Message)]
pub struct Members {
    /// 1 addresses; 2 addresses, each with protocol and port (1 and 2 bytes); 3 first and last addresses of ranges.
    #[prost(uint32, tag = "1")]
    pub kind: u32,
    #[prost(bytes = "bytes", tag = "2")]
    pub v4: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    pub v6: Bytes,
}

/// All that an agent keeps on disk.
#[cfg(feature = "client")]
#[derive(Clone, PartialEq, Message)]
pub struct Saved {
    #[prost(bytes = "bytes", tag = "1")]
    pub own: Bytes,
    /// `Peers` each.
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub peers: Vec<Bytes>,
    /// `Policy` each.
    #[prost(bytes = "bytes", repeated, tag = "3")]
    pub policy: Vec<Bytes>,
}
