//! What agents and the operator say, checked: read from Protocol Buffers, and written to them.

use std::net::IpAddr;

use bytes::Bytes;
use prost::Message;
use towpath_net::policy::bundle::{ProfileId, SetId};
use towpath_net::policy::digest::{Digest, Digests};
use towpath_net::policy::input::Key;
use towpath_net::state::NodeName;

use crate::digest::BUCKETS;
use crate::malformed::{Fault, Malformed, Within, needed};
use crate::update::Holdings;
use crate::wire::scalar::{address, read_all, read_key, read_name, read_uid, write_address, write_key};
use crate::wire::schema as wire;

/// The version of the protocol. An operator talks to agents of the same one.
pub const VERSION: u32 = 1;

/// The longest reason for a refusal, in bytes.
const LONGEST_REASON: usize = 1024;

/// How many addresses a pod has at most, of all of its attachments.
pub const MOST_ADDRESSES: usize = 64;

/// Names an update on one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nonce(pub u64);

/// What an agent says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromAgent {
    /// Who it is, and what it has: always the first message.
    Hello(Box<Hello>),
    /// All updates up to this one are in the kernel.
    Ack(Nonce),
    /// This update is not, and nothing of it is.
    Nack(Nonce, String),
    /// A pod has addresses now.
    Attached(Attached),
    /// A pod, by its uid as in [`Attached`], has none any more.
    Detached(String),
    /// What it has now, because it was asked.
    Holdings(Box<Holdings>),
    /// What is in its kernel of policies: said to replicas that it does not follow.
    Settled(Settled),
}

/// What is in the kernel of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// Of the policies of its pods ([`Digest::of_pods`]).
    pub pods: Digest,
    /// Why the agent refuses what it was told since, where it does.
    pub refusal: Option<String>,
}

/// Who an agent is, and what it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Its node, as it thinks.
    pub node: NodeName,
    /// The version of the protocol that it speaks.
    pub version: u32,
    /// What it knows.
    pub holdings: Holdings,
    /// The pods of its node that have addresses, all of them.
    pub attached: Vec<Attached>,
    /// What it wants of this replica.
    pub purpose: Purpose,
}

/// What a stream is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// The agent is told all that it must know, and says which pods have addresses.
    Follow,
    /// It follows another replica. This one hears which pods have addresses too, for the nodes that follow it, and says
    /// when these know them.
    Report,
}

/// A pod that has addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// What it is told apart by ([`towpath_net::policy::identity`]).
    pub uid: String,
    /// Its namespace and name.
    pub key: Key,
    /// Those of all of its attachments.
    pub addresses: Vec<IpAddr>,
    /// Whether its start waits until every node that must know its addresses does.
    pub is_waiting: bool,
}

/// Reads what an agent says.
pub fn read_from_agent(bytes: &[u8]) -> Result<FromAgent, Malformed> {
    let message = wire::FromAgent::decode(bytes).map_err(|error| undecodable(&error))?;
    from_agent(message)
}

/// Writes what an agent says.
pub fn write_from_agent(said: &FromAgent) -> Vec<u8> {
    to_operator(said).encode_to_vec()
}

pub(crate) fn undecodable(error: &prost::DecodeError) -> Malformed {
    Malformed::new("message", Fault::Encoding(error.to_string()))
}

pub(crate) fn from_agent(message: wire::FromAgent) -> Result<FromAgent, Malformed> {
    let refusal = message.refusal;
    match needed(message.says, "says")? {
        wire::AgentSays::Hello(hello) => Ok(FromAgent::Hello(Box::new(read_hello(hello).within("hello")?))),
        wire::AgentSays::Answer(answer) => read_answer(answer),
        wire::AgentSays::Attached(attached) => Ok(FromAgent::Attached(read_attached(attached).within("attached")?)),
        wire::AgentSays::Detached(uid) => Ok(FromAgent::Detached(read_uid(uid, "detached")?)),
        wire::AgentSays::Settled(digest) => {
            let refusal = read_refusal(refusal, "refusal")?;
            Ok(FromAgent::Settled(Settled { pods: Digest(digest), refusal }))
        }
        wire::AgentSays::Holdings(holdings) => {
            Ok(FromAgent::Holdings(Box::new(read_holdings(holdings).within("holdings")?)))
        }
    }
}

pub(crate) fn to_operator(said: &FromAgent) -> wire::FromAgent {
    let says = match said {
        FromAgent::Hello(hello) => wire::AgentSays::Hello(wire::Hello {
            node: hello.node.0.clone(),
            version: hello.version,
            holdings: Some(write_holdings(&hello.holdings)),
            attached: hello.attached.iter().map(write_attached).collect(),
            reports_only: hello.purpose == Purpose::Report,
        }),
        FromAgent::Ack(nonce) => wire::AgentSays::Answer(wire::Answer { nonce: nonce.0, refusal: String::new() }),
        FromAgent::Nack(nonce, reason) => {
            wire::AgentSays::Answer(wire::Answer { nonce: nonce.0, refusal: shortened(reason) })
        }
        FromAgent::Attached(attached) => wire::AgentSays::Attached(write_attached(attached)),
        FromAgent::Detached(uid) => wire::AgentSays::Detached(uid.clone()),
        FromAgent::Holdings(holdings) => wire::AgentSays::Holdings(write_holdings(holdings)),
        FromAgent::Settled(settled) => wire::AgentSays::Settled(settled.pods.0),
    };
    let refusal = match said {
        FromAgent::Settled(settled) => settled.refusal.as_deref().map(shortened).unwrap_or_default(),
        _ => String::new(),
    };
    wire::FromAgent { says: Some(says), refusal }
}

/// As much of a reason as is let through; never nothing.
fn shortened(reason: &str) -> String {
    let end = reason.floor_char_boundary(LONGEST_REASON);
    match reason.get(..end) {
        None | Some("") => "no reason was given".to_owned(),
        Some(reason) => reason.to_owned(),
    }
}

fn read_answer(answer: wire::Answer) -> Result<FromAgent, Malformed> {
    let nonce = Nonce(answer.nonce);
    let refusal = read_refusal(answer.refusal, "answer.refusal")?;
    Ok(refusal.map_or(FromAgent::Ack(nonce), |reason| FromAgent::Nack(nonce, reason)))
}

fn read_refusal(reason: String, field: &str) -> Result<Option<String>, Malformed> {
    match reason.len() {
        0 => Ok(None),
        1..=LONGEST_REASON => Ok(Some(reason)),
        long => Err(Malformed::new(field, Fault::Length(long))),
    }
}

fn read_hello(hello: wire::Hello) -> Result<Hello, Malformed> {
    Ok(Hello {
        node: NodeName(read_name(hello.node, "node")?),
        version: hello.version,
        holdings: read_holdings(needed(hello.holdings, "holdings")?).within("holdings")?,
        attached: read_all(hello.attached, "attached", read_attached)?,
        purpose: if hello.reports_only { Purpose::Report } else { Purpose::Follow },
    })
}

fn write_attached(attached: &Attached) -> wire::Attached {
    wire::Attached {
        uid: attached.uid.clone(),
        key: Some(write_key(&attached.key)),
        addresses: attached.addresses.iter().map(|address| write_address(*address)).collect(),
        is_waiting: attached.is_waiting,
    }
}

fn read_attached(attached: wire::Attached) -> Result<Attached, Malformed> {
    let read = |bytes: Bytes| address(&bytes).ok_or_else(|| Malformed::new("address", Fault::Length(bytes.len())));
    let addresses = match attached.addresses.len() {
        0 => return Err(Malformed::new("addresses", Fault::Missing)),
        1..=MOST_ADDRESSES => read_all(attached.addresses, "addresses", read)?,
        many => return Err(Malformed::new("addresses", Fault::Length(many))),
    };
    Ok(Attached {
        uid: read_uid(attached.uid, "uid")?,
        key: read_key(needed(attached.key, "key")?).within("key")?,
        addresses,
        is_waiting: attached.is_waiting,
    })
}

fn write_holdings(holdings: &Holdings) -> wire::Holdings {
    let policy = &holdings.policy;
    wire::Holdings {
        peers: holdings.peers.clone(),
        is_enforced: policy.is_enforced,
        pods: policy.pods.iter().map(|(uid, pod)| wire::PodHeld { uid: uid.clone(), digest: pod.0 }).collect(),
        profiles: policy.profiles.iter().map(|id| id.0).collect(),
        sets: policy.sets.keys().map(|id| id.0).collect(),
        set_digests: policy.sets.values().map(|digest| digest.0).collect(),
    }
}

fn read_holdings(holdings: wire::Holdings) -> Result<Holdings, Malformed> {
    if !matches!(holdings.peers.len(), 0 | BUCKETS) {
        return Err(Malformed::new("peers", Fault::Length(holdings.peers.len())));
    }
    if holdings.sets.len() != holdings.set_digests.len() {
        return Err(Malformed::new("setDigests", Fault::Length(holdings.set_digests.len())));
    }
    let pods = read_all(holdings.pods, "pods", |pod| Ok((read_uid(pod.uid, "uid")?, Digest(pod.digest))))?;
    let sets = holdings.sets.into_iter().map(SetId).zip(holdings.set_digests.into_iter().map(Digest));
    let policy = Digests {
        is_enforced: holdings.is_enforced,
        pods: pods.into_iter().collect(),
        profiles: holdings.profiles.into_iter().map(ProfileId).collect(),
        sets: sets.collect(),
    };
    Ok(Holdings { peers: holdings.peers, policy })
}
