//! What is still to be told to one agent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;
use towpath_net::policy::bundle::{Delta, SetDelta};
use towpath_net::state::NodeName;

use super::Version;
use crate::peers::PeerChange;

/// How many pods, profiles, sets, members and peers are put together before they are forgotten: about 100 kB.
const MOST: usize = 2048;

/// What is still to be told to one agent, all changes of it put together.
///
/// Where they become too many they are forgotten, and the agent is asked what it has.
#[derive(Debug, Default)]
pub struct Outbox {
    content: Mutex<Content>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Content {
    version: Version,
    pending: Pending,
    known: BTreeSet<String>,
    is_closed: bool,
}

#[derive(Debug, Default)]
enum Pending {
    #[default]
    Nothing,
    Changes(Changes),
    /// Something, and nobody remembers what.
    Forgotten,
    /// Nothing is remembered from now on, and there was nothing yet.
    Forgetting,
}

#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) peers: BTreeMap<NodeName, Bytes>,
    pub(super) policy: Delta,
    weight: usize,
}

/// What is to be done next for an agent.
#[derive(Debug)]
pub(super) enum Next {
    Nothing,
    Tell(Version, Changes),
    Ask,
}

impl Outbox {
    /// Puts a change to what is still to be told. `version` is the backend's, and comes back when the agent has it.
    /// Peers must not have the agent's own node among them.
    pub fn push(&self, version: Version, peers: &[PeerChange], policy: Delta) {
        let mut content = self.content();
        content.version = version;
        let pending = std::mem::take(&mut content.pending);
        content.pending = pending.with(peers, policy);
        drop(content);
        self.wake.notify_one();
    }

    /// Every node that must know the addresses of this pod (`metadata.uid`) does.
    pub fn known(&self, uid: String) {
        self.content().known.insert(uid);
        self.wake.notify_one();
    }

    /// The agent is not to be told anything any more: its node is gone, or another stream of it began.
    pub fn close(&self) {
        self.content().is_closed = true;
        self.wake.notify_one();
    }

    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }

    pub(super) fn is_closed(&self) -> bool {
        self.content().is_closed
    }

    /// Whether anything changed since it was last taken from.
    pub(super) fn is_changed(&self) -> bool {
        matches!(self.content().pending, Pending::Changes(_) | Pending::Forgotten)
    }

    /// Takes what is to be told; where it was forgotten, the agent is to be asked.
    pub(super) fn take(&self) -> Next {
        let mut content = self.content();
        match std::mem::take(&mut content.pending) {
            Pending::Nothing => Next::Nothing,
            Pending::Changes(changes) => Next::Tell(content.version, changes),
            Pending::Forgotten | Pending::Forgetting => {
                content.pending = Pending::Forgetting;
                Next::Ask
            }
        }
    }

    /// Remembers nothing any more: the agent will be asked what it has.
    pub(super) fn forget(&self) {
        let mut content = self.content();
        content.pending = match content.pending {
            Pending::Nothing | Pending::Forgetting => Pending::Forgetting,
            Pending::Changes(_) | Pending::Forgotten => Pending::Forgotten,
        };
    }

    /// Takes the pods (`metadata.uid`) of which the agent is to be told that they are known.
    pub fn take_known(&self) -> BTreeSet<String> {
        std::mem::take(&mut self.content().known)
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pending {
    fn with(self, peers: &[PeerChange], policy: Delta) -> Self {
        match self {
            Self::Forgotten | Self::Forgetting => Self::Forgotten,
            // The first change is taken however large it is: whoever made it had to hold it too.
            Self::Nothing => Changes::default().with(peers, policy).map_or(Self::Forgotten, Self::Changes),
            Self::Changes(changes) => match changes.with(peers, policy) {
                Some(changes) if changes.weight <= MOST => Self::Changes(changes),
                _ => Self::Forgotten,
            },
        }
    }
}

impl Changes {
    /// Nothing where the two do not fit together.
    fn with(mut self, peers: &[PeerChange], policy: Delta) -> Option<Self> {
        self.weight += peers.len() + weight(&policy);
        self.peers.extend(peers.iter().map(|change| (change.name.clone(), change.written.clone())));
        self.policy.merge(policy).ok()?;
        Some(self)
    }
}

/// How much there is in a delta: one for each pod, profile, set and member.
fn weight(delta: &Delta) -> usize {
    let of_set = |set: &SetDelta| match set {
        SetDelta::New(all) => 1 + all.len(),
        SetDelta::Change { add, remove } => 1 + add.len() + remove.len(),
        SetDelta::Gone => 1,
    };
    delta.pods.len() + delta.profiles.len() + delta.sets.values().map(of_set).sum::<usize>()
}
