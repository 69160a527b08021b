//! The parts of an update, until it is whole.

use prost::Message;
use towpath_net::state::{NodeName, Peer};

use crate::malformed::{Fault, Malformed, Within, needed};
use crate::message::{Nonce, undecodable};
use crate::update::Update;
use crate::wire::schema as wire;
use crate::wire::{peer, policy, scalar};

/// The largest update that an agent takes, in bytes as it travels: nothing that is larger can have been meant.
pub const LARGEST: usize = 256 * 1024 * 1024;

/// What the operator says, when it is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromOperator {
    /// What changes, all of it.
    Update(Nonce, Box<Update>),
    /// Every node that must know this pod (`metadata.uid`) does.
    Known(String),
    /// It wants to know what the agent has.
    Tell,
}

/// Puts the parts of an update together.
#[derive(Debug, Default)]
pub struct Assembly {
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    nonce: Nonce,
    size: usize,
    update: Update,
}

impl Assembly {
    /// Takes a message, and gives what is whole by it.
    pub fn take(&mut self, bytes: &[u8]) -> Result<Option<FromOperator>, Malformed> {
        let message = wire::FromOperator::decode(bytes).map_err(|error| undecodable(&error))?;
        self.take_message(message)
    }

    pub(crate) fn take_message(&mut self, message: wire::FromOperator) -> Result<Option<FromOperator>, Malformed> {
        match needed(message.says, "says")? {
            wire::OperatorSays::Part(part) => self.take_part(&part).within("part"),
            wire::OperatorSays::Known(uid) => Ok(Some(FromOperator::Known(scalar::read_uid(uid, "known")?))),
            wire::OperatorSays::Tell(wire::Tell {}) => Ok(Some(FromOperator::Tell)),
        }
    }

    fn take_part(&mut self, part: &wire::Part) -> Result<Option<FromOperator>, Malformed> {
        let nonce = Nonce(part.nonce);
        if part.is_first != self.open.is_none() {
            return Err(Malformed::new("isFirst", Fault::Contradiction));
        }
        let open = self.open.get_or_insert_with(|| Open { nonce, size: 0, update: Update::default() });
        if open.nonce != nonce {
            return Err(Malformed::new("nonce", Fault::Contradiction));
        }
        open.size += part.encoded_len();
        if open.size > LARGEST {
            return Err(Malformed::new("peers and policy", Fault::Length(open.size)));
        }
        open.update.take(part)?;
        let whole = if part.is_last { self.open.take() } else { None };
        Ok(whole.map(|open| FromOperator::Update(open.nonce, Box::new(open.update))))
    }
}

impl Update {
    pub(crate) fn take(&mut self, part: &wire::Part) -> Result<(), Malformed> {
        self.buckets.extend_from_slice(&part.buckets);
        for bytes in &part.peers {
            for (name, peer) in read_peers(bytes)? {
                self.peers.insert(name, peer);
            }
        }
        for bytes in &part.policy {
            let piece = wire::Policy::decode(bytes.as_ref()).map_err(|error| undecodable(&error)).within("policy")?;
            let piece = policy::read(piece).within("policy")?;
            self.policy.merge(piece).map_err(|_| Malformed::new("policy.sets", Fault::Contradiction))?;
        }
        Ok(())
    }
}

/// Reads a batch of peers.
fn read_peers(bytes: &[u8]) -> Result<Vec<(NodeName, Option<Peer>)>, Malformed> {
    let batch = wire::Peers::decode(bytes).map_err(|error| undecodable(&error)).within("peers")?;
    scalar::read_all(batch.peers, "peers", peer::read_named)
}
