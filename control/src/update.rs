//! What an agent knows of the other nodes and of policies, and what becomes of it.

use std::collections::BTreeMap;

use towpath_net::policy::bundle::{Bundle, Delta};
use towpath_net::policy::change::Misfit;
use towpath_net::policy::digest::Digests;
use towpath_net::state::{NodeName, Peer};

use crate::digest::{bucket, buckets};

/// What an agent knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The other nodes.
    pub peers: BTreeMap<NodeName, Peer>,
    /// The policies of its own pods.
    pub policy: Bundle,
}

/// What the operator tells at once, to be applied as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Update {
    /// The buckets ([`bucket`]) of which all peers are told: those of them that are not in [`Self::peers`] are gone.
    pub buckets: Vec<u8>,
    /// Peers that are new or different, and (nothing) those that are gone.
    pub peers: BTreeMap<NodeName, Option<Peer>>,
    /// What becomes of policies.
    pub policy: Delta,
}

/// What became different by an update: nothing in it was so before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effect {
    /// Peers that are new or different, and (nothing) those that are gone.
    pub peers: BTreeMap<NodeName, Option<Peer>>,
    /// What became of policies.
    pub policy: Delta,
}

/// Digests of what an agent knows: all that an operator must hear to tell it only what is different.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    /// Of the peers, by bucket; empty where there are no peers.
    pub peers: Vec<u64>,
    /// Of policies.
    pub policy: Digests,
}

impl State {
    /// Applies an update as a whole, and tells what became different; nothing is applied where it does not fit.
    pub fn apply(&mut self, update: Update) -> Result<Effect, Misfit> {
        let policy = self.policy.apply(update.policy)?;
        let mut named = update.peers;
        if !update.buckets.is_empty() {
            let all = self.peers.keys().filter(|name| update.buckets.contains(&bucket(name)));
            let gone: Vec<NodeName> = all.filter(|name| !named.contains_key(*name)).cloned().collect();
            named.extend(gone.into_iter().map(|name| (name, None)));
        }
        named.retain(|name, peer| self.peers.get(name) != peer.as_ref());
        for (name, peer) in &named {
            match peer {
                Some(peer) => _ = self.peers.insert(name.clone(), peer.clone()),
                None => _ = self.peers.remove(name),
            }
        }
        Ok(Effect { peers: named, policy })
    }
}

impl Effect {
    /// Whether nothing became different.
    pub fn is_empty(&self) -> bool {
        self.peers.is_empty() && self.policy.is_empty()
    }
}

impl Holdings {
    /// Of what an agent knows.
    pub fn of(state: &State) -> Self {
        let peers = if state.peers.is_empty() { Vec::new() } else { buckets(&state.peers) };
        Self { peers, policy: Digests::of(&state.policy) }
    }
}
