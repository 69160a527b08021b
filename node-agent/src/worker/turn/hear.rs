//! What a source tells. What becomes of other nodes is brought about by itself where the last turn left nothing undone.

use std::collections::BTreeMap;

use towpath_kernel::kernel::Kernel as _;
use towpath_net::mac::Mac;
use towpath_net::ops::Op;
use towpath_net::peer_change::Changes;
use towpath_net::state::{NodeName, Peer};
use tracing::{debug, info, warn};

use super::Turns;
use crate::snapshot::{Assignment, Own};
use crate::worker::News;

/// How many other nodes are changed by themselves at once: a turn is cheaper for more.
const MANY: usize = 256;

/// What comes of news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Nothing: it is all known.
    Nothing,
    /// It is in the kernel.
    BroughtAbout,
    /// A turn has to bring it about.
    TurnDue,
}

impl Turns {
    /// Takes news.
    pub fn hear(&mut self, news: News) -> Heard {
        if news.is_empty() {
            return Heard::Nothing;
        }
        let News { whole, own, peers, is_enforced } = news;
        let mut due = is_enforced.is_some() && is_enforced != self.is_enforced;
        self.is_enforced = is_enforced.or(self.is_enforced);
        let mut before = BTreeMap::new();
        if let Some(whole) = whole {
            if let Some(differences) = self.differences(&whole) {
                self.learn(differences, &mut before);
            } else {
                due |= self.assignment.as_ref() != Some(&*whole);
                self.assignment = Some(*whole);
            }
        }
        due |= own.is_some_and(|own| self.learn_own(*own));
        self.learn(peers, &mut before);
        self.keep(&before, due);
        if due {
            self.basis = None;
            return Heard::TurnDue;
        }
        match before.len() {
            0 => Heard::Nothing,
            1..=MANY if self.bring_about_alone(&before) => Heard::BroughtAbout,
            _ => {
                self.basis = None;
                Heard::TurnDue
            }
        }
    }

    /// The peers that a whole state has otherwise than it was known; nothing where it is not of peers alone.
    fn differences(&self, whole: &Assignment) -> Option<BTreeMap<NodeName, Option<Peer>>> {
        let known = self.assignment.as_ref()?;
        let same = (&known.object, known.generation, &known.state.node, &known.state.spec)
            == (&whole.object, whole.generation, &whole.state.node, &whole.state.spec);
        let (old, new) = (&known.state.peers, &whole.state.peers);
        let changed = || new.iter().filter(|(name, peer)| old.get(*name) != Some(*peer));
        let gone = || old.keys().filter(|name| !new.contains_key(*name));
        (same && changed().count() + gone().count() <= MANY).then(|| {
            let changed = changed().map(|(name, peer)| (name.clone(), Some(peer.clone())));
            changed.chain(gone().map(|name| (name.clone(), None))).collect()
        })
    }

    fn learn_own(&mut self, own: Own) -> bool {
        let Some(assignment) = &mut self.assignment else { return false };
        let same = (&assignment.object, assignment.generation, &assignment.state.spec)
            == (&own.object, own.generation, &own.spec);
        if !same {
            assignment.take_own(own);
        }
        !same
    }

    /// Takes in what is new of other nodes; `before` gets what was known of them.
    fn learn(&mut self, peers: BTreeMap<NodeName, Option<Peer>>, before: &mut BTreeMap<NodeName, Option<Peer>>) {
        let Some(assignment) = &mut self.assignment else { return };
        for (name, peer) in peers {
            if assignment.state.peers.get(&name) != peer.as_ref() {
                let known = assignment.state.set_peer(name.clone(), peer);
                before.entry(name).or_insert(known);
            }
        }
    }

    /// Keeps what is new for the next start.
    fn keep(&mut self, changed: &BTreeMap<NodeName, Option<Peer>>, whole: bool) {
        let Some(assignment) = &self.assignment else { return };
        let mut write = || {
            let mut whole = whole;
            for name in changed.keys() {
                whole = whole || self.journal.note(&self.paths, name, assignment.state.peers.get(name))?;
            }
            if whole { self.journal.keep(&self.paths, assignment) } else { Ok(()) }
        };
        if let Err(error) = write() {
            warn!(%error, "cannot keep the state for the next start");
        }
        if whole {
            let (node, state) = (&assignment.state.node, &assignment.state);
            info!(%node, revision = %state.spec.revision, peers = state.peers.len(), "new state");
        }
    }

    /// Brings about what became of some other nodes, without a look at anything else; tells whether that is all.
    fn bring_about_alone(&mut self, before: &BTreeMap<NodeName, Option<Peer>>) -> bool {
        let (Some(assignment), Some(basis)) = (&self.assignment, &mut self.basis) else { return false };
        let Some(others) = &mut basis.others else { return false };
        let keys = self.keys.keys();
        let changes = Changes { state: &assignment.state, before, around: &basis.around, keys: keys.as_ref() };
        let Some(change) = others.change(&changes) else { return false };
        let wire_guard = assignment.state.spec.transport.tunnels.wire_guard;
        let outcomes = self.kernel.apply_all(&change.ops);
        let mut done = Vec::new();
        let mut failed = false;
        for (op, outcome) in change.ops.into_iter().zip(outcomes) {
            match outcome {
                Ok(()) => done.push(op),
                Err(error) => {
                    info!(%op, %error, "not as it was left: the whole node is looked at");
                    failed = true;
                }
            }
        }
        log(before, &done);
        if failed {
            return false;
        }
        if let Some(applied) = &mut self.snapshot.applied {
            applied.effect.change(changes.peers(), &change.before, &change.after);
        }
        self.keys.greet(&mut self.kernel, &done, wire_guard.rotation_seconds);
        self.stations.extend(done.iter().filter_map(station));
        true
    }
}

/// Tells in one line what was done: whole nodes of a cluster come at once.
fn log(nodes: &BTreeMap<NodeName, Option<Peer>>, done: &[Op]) {
    let node = nodes.keys().next().map(tracing::field::display);
    info!(node, more = nodes.len().saturating_sub(1), operations = done.len(), "applied what became of other nodes");
    for op in done {
        debug!(%op, "applied");
    }
}

fn station(op: &Op) -> Option<Mac> {
    match op {
        Op::SetStation { station, .. } | Op::DeleteStation { station, .. } => Some(station.mac),
        _ => None,
    }
}
