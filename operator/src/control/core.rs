//! All that agents are told, and how far each has come.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use towpath_control::message::Attached;
use towpath_control::peers::{PeerChange, PeerTable};
use towpath_control::server::{Opening, Outbox, Unready, Version};
use towpath_control::update::Holdings;
use towpath_net::policy::bundle::Delta;
use towpath_net::policy::compile::{Change, Compiler};
use towpath_net::policy::input::Key;
use towpath_net::state::{NodeName, Peer};

use super::claims::{Claims, claim};
use super::waits::Waits;

/// An agent that is followed.
#[derive(Debug)]
struct Session {
    outbox: Arc<Outbox>,
    /// What it was told last.
    told: Version,
    /// What it has in its kernel.
    acknowledged: Version,
}

/// What a replica knows and tells.
#[derive(Debug, Default)]
pub struct Core {
    compiler: Compiler,
    peers: PeerTable,
    claims: Claims,
    waits: Waits,
    sessions: BTreeMap<NodeName, Session>,
    version: Version,
    are_policies_known: bool,
    are_peers_known: bool,
}

impl Core {
    /// Takes in a change of what policies are compiled from. What follows from it is told by [`Self::tell`].
    pub fn change(&mut self, change: Change) {
        match change {
            Change::Pod(mut pod) => {
                let peers = &self.peers;
                self.claims.overlay(&mut pod, |node, addresses| are_of(peers, node, addresses));
                self.compiler.apply(Change::Pod(pod));
            }
            Change::PodGone(key) => {
                // A word on a pod of the same name that is not known yet stays.
                if self.claims.get_mut(&key).is_some_and(|claim| claim.is_bound) {
                    self.claims.remove(&key);
                }
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
    pub const fn know_peers(&mut self) {
        self.are_peers_known = true;
    }

    /// Takes in what a node is to others, or that it is gone, and tells all agents but its own.
    pub fn peer(&mut self, name: NodeName, peer: Option<Peer>) {
        let Some(change) = self.peers.set(name.clone(), peer) else { return };
        self.version.0 += 1;
        let change: [PeerChange; 1] = [change];
        for (node, session) in self.sessions.iter_mut().filter(|(node, _)| **node != name) {
            debug_assert!(*node != name, "no agent is told of its own node");
            session.outbox.push(self.version, &change, Delta::default());
            session.told = self.version;
        }
        let pods: Vec<Key> = self.claims.of_node(&name).cloned().collect();
        pods.iter().for_each(|pod| self.bind(pod));
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
        self.judge_waits();
    }

    /// Gives a pod the addresses that its node's agent says it has, where there is such a pod.
    fn bind(&mut self, pod: &Key) {
        let Some(claim) = self.claims.get_mut(pod) else { return };
        claim.is_bound = are_of(&self.peers, &claim.node, &claim.addresses)
            && self.compiler.set_addresses(pod, &claim.uid, &claim.node, &claim.addresses);
    }

    /// Pods that wait and are known now: who has to acknowledge them is known too.
    fn judge_waits(&mut self) {
        let due: Vec<(String, Key)> =
            self.waits.unbound().map(|(uid, _, pod)| (uid.clone(), pod.clone())).collect();
        for (uid, pod) in due {
            if !self.claims.get_mut(&pod).is_some_and(|claim| claim.is_bound && claim.uid == uid) {
                continue;
            }
            let holders = self.compiler.holders(&pod);
            let lack = |holder: NodeName| {
                let session = self.sessions.get(&holder)?;
                (session.acknowledged < session.told).then_some((holder, session.told))
            };
            let lacks = holders.into_iter().filter_map(lack).collect();
            if let Some(node) = self.waits.bind(&uid, lacks) {
                self.tell_known(&node, uid);
            }
        }
    }

    fn tell_known(&self, node: &NodeName, uid: String) {
        if let Some(session) = self.sessions.get(node) {
            session.outbox.known(uid);
        }
    }

    /// The agent of a node came.
    pub fn open(&mut self, node: &NodeName, holdings: &Holdings, outbox: &Arc<Outbox>) -> Result<Opening, Unready> {
        if !self.are_policies_known || !self.are_peers_known {
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
        let peers = self.peers.difference(&holdings.peers, node);
        Ok(Opening { version: self.version, peers, policy: holdings.policy.delta_to(&bundle) })
    }

    /// The agent of a node says which of its pods have addresses; it has no others.
    pub fn attachments(&mut self, node: &NodeName, attached: Vec<Attached>) {
        let named: BTreeSet<Key> = attached.iter().map(|attached| attached.key.clone()).collect();
        let gone: Vec<Key> = self.claims.of_node(node).filter(|pod| !named.contains(*pod)).cloned().collect();
        gone.iter().for_each(|pod| self.withdraw(pod));
        attached.into_iter().for_each(|attached| self.claim(node, attached));
        self.tell();
    }

    /// A pod of a node has addresses.
    pub fn attached(&mut self, node: &NodeName, attached: Attached) {
        self.claim(node, attached);
        self.tell();
    }

    fn claim(&mut self, node: &NodeName, attached: Attached) {
        if attached.is_waiting {
            self.waits.begin(attached.uid.clone(), node.clone(), attached.key.clone());
        }
        let (pod, claim) = claim(node, attached);
        self.claims.put(pod.clone(), claim);
        self.bind(&pod);
    }

    /// A pod of a node has no addresses any more.
    pub fn detached(&mut self, node: &NodeName, uid: &str) {
        self.waits.end(uid);
        if let Some(pod) = self.claims.find(node, uid).cloned() {
            self.withdraw(&pod);
            self.tell();
        }
    }

    /// The status of the pod goes on to name its addresses until the pod is gone, and counts no more.
    fn withdraw(&mut self, pod: &Key) {
        if let Some(claim) = self.claims.get_mut(pod) {
            claim.addresses.clear();
        }
        self.bind(pod);
    }

    /// Everything up to this version is in the node's kernel.
    pub fn acknowledged(&mut self, node: &NodeName, version: Version) {
        if let Some(session) = self.sessions.get_mut(node) {
            session.acknowledged = session.acknowledged.max(version);
        }
        for (node, uid) in self.waits.acknowledged(node, version) {
            self.tell_known(&node, uid);
        }
    }

    /// The stream of a node has ended, which may not be its last one.
    pub fn closed(&mut self, node: &NodeName, outbox: &Arc<Outbox>) {
        if self.sessions.get(node).is_some_and(|session| Arc::ptr_eq(&session.outbox, outbox)) {
            self.sessions.remove(node);
            self.compiler.unsubscribe(node);
            self.waits.end_of(node);
        }
    }
}

/// Whether all addresses are of a node's own ranges: no agent speaks for another's.
fn are_of(peers: &PeerTable, node: &NodeName, addresses: &[IpAddr]) -> bool {
    let of = |address: &IpAddr| {
        peers.get(node).is_some_and(|peer| peer.pod_cidrs.iter().any(|range| range.contains(address)))
    };
    addresses.iter().all(of)
}
