//! All that agents are told, and how far each has come.

mod doubts;
mod policies;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use towpath_control::message::{Attached, Settled};
use towpath_control::peers::{PeerChange, PeerTable};
use towpath_control::server::{Opening, Outbox, Unready, Version};
use towpath_control::update::Holdings;
use towpath_net::policy::bundle::Delta;
use towpath_net::policy::compile::{Change, Compiler, Sizes};
use towpath_net::state::{NodeName, Peer};

use self::doubts::Doubted;
use super::away::Away;
use super::claims::Claims;
use super::force::Force;
use super::lacks::Behind;
use super::places::{Doubts, Places};
use super::waits::{PodOf, Waits};

/// An agent that is followed.
#[derive(Debug)]
struct Session {
    outbox: Arc<Outbox>,
    /// What it was told last.
    told: Version,
    /// What it has in its kernel.
    acknowledged: Version,
}

/// An agent that follows another replica.
#[derive(Debug)]
struct Reporter {
    outbox: Arc<Outbox>,
    /// What it has in its kernel, and why it refuses what it was told since, once it said so.
    settled: Option<Settled>,
}

/// What a replica knows and tells.
#[derive(Debug, Default)]
pub struct Core {
    compiler: Compiler,
    peers: PeerTable,
    places: Places,
    doubts: Doubts,
    claims: Claims,
    waits: Waits,
    force: Force,
    away: Away,
    sessions: BTreeMap<NodeName, Session>,
    /// Where agents that follow another replica are told that pods are known.
    reporters: BTreeMap<NodeName, Reporter>,
    /// The last of them that was looked at.
    looked: Option<NodeName>,
    version: Version,
    are_policies_known: bool,
    /// Whether those that were known at the beginning were looked at.
    are_policies_judged: bool,
    are_peers_known: bool,
}

impl Core {
    /// Takes in a change of what policies are compiled from. What follows from it is told by [`Self::tell`].
    pub fn change(&mut self, change: Change) {
        self.force.note(&change);
        match change {
            Change::Pod(mut pod) => {
                self.doubt(&mut pod);
                let peers = &self.peers;
                self.claims.overlay(&mut pod, |node, addresses| are_of(peers, node, addresses));
                self.compiler.apply(Change::Pod(pod));
            }
            Change::PodGone(key) => {
                self.doubts.remove(&key);
                self.claims.gone(&key);
                self.compiler.apply(Change::PodGone(key));
            }
            other => self.compiler.apply(other),
        }
    }

    /// All that policies are compiled from was told.
    pub const fn know_policies(&mut self) {
        self.are_policies_known = true;
    }

    /// All nodes were told.
    pub fn know_peers(&mut self) {
        if std::mem::replace(&mut self.are_peers_known, true) {
            return;
        }
        let named: Vec<NodeName> = self.claims.nodes().cloned().collect();
        for node in &named {
            self.mind(node);
        }
        self.judge_places(Doubted::Everybodys);
    }

    /// Takes in what a node is to others, or that it is gone, and tells all agents but its own.
    pub fn peer(&mut self, name: &NodeName, peer: Option<Peer>) {
        let doubted = self.place(name, peer.as_ref());
        let Some(change) = self.peers.set(name.clone(), peer) else { return };
        self.version.0 += 1;
        let change: [PeerChange; 1] = [change];
        for (node, session) in self.sessions.iter_mut().filter(|(node, _)| *node != name) {
            debug_assert!(node != name, "no agent is told of its own node");
            session.outbox.push(self.version, &change, Delta::default());
            session.told = self.version;
        }
        self.claims.of_node(name).iter().for_each(|pod| self.bind(pod));
        self.judge_places(if self.are_peers_known { doubted } else { Doubted::Nobodys });
        self.mind(name);
        self.tell();
    }

    /// Tells every agent what became different for it.
    pub fn tell(&mut self) {
        let deltas = self.compiler.deltas();
        if !deltas.is_empty() {
            self.version.0 += 1;
        }
        for (node, delta) in deltas {
            if let Some(session) = self.sessions.get_mut(&node) {
                session.outbox.push(self.version, &[], delta);
                session.told = self.version;
            }
        }
        self.judge_policies();
        self.judge_waits();
    }

    /// Gives a pod the addresses that its node's agent says it has, where there is such a pod.
    fn bind(&mut self, pod: &PodOf) {
        let Some(claim) = self.claims.get(pod) else { return };
        let is_bound = are_of(&self.peers, &pod.0, &claim.addresses)
            && self.compiler.set_addresses(&claim.pod, &pod.1, &pod.0, &claim.addresses);
        self.claims.bind(pod, is_bound);
    }

    /// Those of some nodes that were told something that they do not have in their kernels yet.
    fn behind(&self, nodes: impl IntoIterator<Item = NodeName>) -> Behind {
        let lacks = |node: NodeName| {
            let session = self.sessions.get(&node)?;
            (session.acknowledged < session.told).then_some((node, session.told))
        };
        nodes.into_iter().filter_map(lacks).collect()
    }

    /// Pods that wait and are known now: who has to acknowledge them is known too.
    fn judge_waits(&mut self) {
        let is_ready = self.is_ready();
        let due: Vec<PodOf> = self.waits.unbound().filter(|pod| self.is_heard(&pod.0)).cloned().collect();
        for pod in due {
            let bound = self.claims.get(&pod).filter(|claim| claim.is_bound);
            let behind = match bound {
                Some(claim) => {
                    let mut holders = self.compiler.holders(&claim.pod);
                    holders.retain(|node| !self.force.is_refused_by(node));
                    self.behind(holders)
                }
                // Nobody follows a replica that does not know the cluster yet, and whoever does later is told of the pod.
                None if !is_ready => Behind::new(),
                None => continue,
            };
            if self.waits.bind(&pod, behind) {
                self.tell_known(pod);
            }
        }
    }

    /// Whether the agent of a node hears what it is told.
    fn is_heard(&self, node: &NodeName) -> bool {
        self.sessions.contains_key(node) || self.reporters.contains_key(node)
    }

    fn tell_known(&self, (node, uid): PodOf) {
        if let Some(reporter) = self.reporters.get(&node) {
            reporter.outbox.known(uid.clone());
        }
        if let Some(session) = self.sessions.get(&node) {
            session.outbox.known(uid);
        }
    }

    const fn is_ready(&self) -> bool {
        self.are_policies_known && self.are_peers_known
    }

    /// The agent of a node came that follows another replica.
    pub fn report(&mut self, node: &NodeName, outbox: &Arc<Outbox>) {
        let reporter = Reporter { outbox: Arc::clone(outbox), settled: None };
        if let Some(before) = self.reporters.insert(node.clone(), reporter) {
            before.outbox.close();
        }
        self.mind(node);
    }

    /// The agent of a node came.
    pub fn open(&mut self, node: &NodeName, holdings: &Holdings, outbox: &Arc<Outbox>) -> Result<Opening, Unready> {
        if !self.is_ready() {
            return Err(Unready);
        }
        // What others are owed is told before this node is looked at, so that its deltas begin here.
        self.tell();
        let bundle = self.compiler.subscribe(node);
        self.version.0 += 1;
        let session = Session { outbox: Arc::clone(outbox), told: self.version, acknowledged: Version::default() };
        if let Some(before) = self.sessions.insert(node.clone(), session)
            && !Arc::ptr_eq(&before.outbox, outbox)
        {
            before.outbox.close();
        }
        self.mind(node);
        // Its pods that waited while nobody could be told.
        self.judge_waits();
        let peers = self.peers.difference(&holdings.peers, node);
        Ok(Opening { version: self.version, peers, policy: holdings.policy.delta_to(&bundle) })
    }

    /// The agent of a node says which of its pods have addresses; it has no others.
    pub fn attachments(&mut self, node: &NodeName, attached: Vec<Attached>) {
        let named: BTreeSet<&str> = attached.iter().map(|attached| attached.uid.as_str()).collect();
        let mut gone = self.claims.of_node(node);
        gone.retain(|pod| !named.contains(pod.1.as_str()));
        for pod in &gone {
            self.withdraw(pod);
        }
        for attached in attached {
            self.claim(node, attached);
        }
        self.tell();
    }

    /// A pod of a node has addresses.
    pub fn attached(&mut self, node: &NodeName, attached: Attached) {
        self.claim(node, attached);
        self.tell();
    }

    fn claim(&mut self, node: &NodeName, attached: Attached) {
        let pod = (node.clone(), attached.uid.clone());
        if !self.claims.has_room(&pod) {
            return;
        }
        if attached.is_waiting {
            self.waits.begin(pod.clone());
        } else {
            self.waits.end(&pod);
        }
        let known = self.compiler.addresses(&attached.key, &attached.uid, node);
        let is_own = |address| may_be_of(&self.peers, node, address);
        self.claims.put(node, attached, known, is_own);
        self.bind(&pod);
    }

    /// A pod of a node has no addresses any more.
    pub fn detached(&mut self, node: &NodeName, uid: &str) {
        self.withdraw(&(node.clone(), uid.to_owned()));
        self.tell();
    }

    /// The status of the pod goes on to name its addresses until the pod is gone, and counts no more.
    fn withdraw(&mut self, pod: &PodOf) {
        self.waits.end(pod);
        let is_own = |address| may_be_of(&self.peers, &pod.0, address);
        if self.claims.withdraw(pod, is_own) {
            self.bind(pod);
        }
    }

    /// Everything up to this version is in the node's kernel.
    pub fn acknowledged(&mut self, node: &NodeName, version: Version) {
        if let Some(session) = self.sessions.get_mut(node) {
            session.acknowledged = session.acknowledged.max(version);
        }
        self.force.refused(node, None);
        self.force.acknowledged(node, version);
        if self.sessions.get(node).is_some_and(|session| session.acknowledged == session.told) {
            self.force.left(node);
        }
        self.waits.acknowledged(node, version).into_iter().for_each(|pod| self.tell_known(pod));
    }

    /// The stream of a node has ended, which may not be its last one.
    pub fn closed(&mut self, node: &NodeName, outbox: &Arc<Outbox>) {
        if self.reporters.get(node).is_some_and(|reporter| Arc::ptr_eq(&reporter.outbox, outbox)) {
            self.reporters.remove(node);
        }
        if self.sessions.get(node).is_some_and(|session| Arc::ptr_eq(&session.outbox, outbox)) {
            self.sessions.remove(node);
            self.compiler.unsubscribe(node);
            self.waits.left(node).into_iter().for_each(|pod| self.tell_known(pod));
            self.heed_report(node);
        }
        if !self.is_heard(node) {
            self.waits.end_of(node);
        }
        self.mind(node);
    }

    /// How often an agent was not heard, for it speaks of more pods than a node can have.
    pub const fn unheard(&self) -> u64 {
        self.claims.unheard()
    }

    /// How much policies are compiled from, and to.
    pub fn sizes(&self) -> Sizes {
        self.compiler.sizes()
    }

    /// The agents that this replica is followed by, and how many of them have to acknowledge something.
    pub fn agents(&self) -> (usize, usize) {
        let behind = self.sessions.values().filter(|session| session.acknowledged < session.told).count();
        (self.sessions.len(), behind)
    }
}

/// Whether all addresses are of a node's own ranges: no agent speaks for another's.
fn are_of(peers: &PeerTable, node: &NodeName, addresses: &[IpAddr]) -> bool {
    let of = |address: &IpAddr| {
        peers.get(node).is_some_and(|peer| peer.pod_cidrs.iter().any(|range| range.contains(address)))
    };
    addresses.iter().all(of)
}

/// The same of one address; and any may be of a node whose ranges are not known yet.
fn may_be_of(peers: &PeerTable, node: &NodeName, address: IpAddr) -> bool {
    peers.get(node).is_none() || are_of(peers, node, &[address])
}
