//! Which of the addresses that the status of a pod names are believed.
//!
//! Kubelets write them, each those of the pods of its node. One that the ranges of another node hold, or that is a node's own,
//! is not the pod's: packets to it go elsewhere. One of no node's range may well be: pods that were there before Towpath came
//! to their node have addresses of the network before.

use std::net::IpAddr;

use towpath_net::policy::compile::Placed;
use towpath_net::policy::input::{Key, Pod};
use towpath_net::state::{NodeName, Peer};
use tracing::warn;

use super::{Core, are_of};
use crate::control::places::Doubt;

/// Whose pods may name addresses that were believed and are not any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doubted<'a> {
    /// Nobody's.
    Nobodys,
    /// Those of this node: it has ranges no more that may well be another's too.
    Of(&'a NodeName),
    /// Everybody's: there are ranges that nobody had.
    Everybodys,
}

impl Core {
    fn is_believed(&self, node: &NodeName, address: IpAddr) -> bool {
        are_of(&self.peers, node, &[address]) || !self.places.holds(address)
    }

    fn believed(&self, node: &NodeName, addresses: &[IpAddr]) -> Vec<IpAddr> {
        addresses.iter().copied().filter(|address| self.is_believed(node, *address)).collect()
    }

    /// Leaves a pod the addresses that are believed.
    pub(super) fn doubt(&mut self, pod: &mut Pod) {
        let Some(node) = pod.node.as_ref().filter(|_| !pod.is_host_network && !pod.is_ended) else {
            self.doubts.remove(&pod.key);
            return;
        };
        let believed = self.believed(node, &pod.addresses);
        if believed.len() == pod.addresses.len() {
            self.doubts.remove(&pod.key);
            return;
        }
        let addresses = std::mem::replace(&mut pod.addresses, believed);
        let doubt = Doubt { uid: pod.uid.clone(), node: node.clone(), addresses };
        self.note_doubt(pod.key.clone(), doubt);
    }

    /// It is told once.
    fn note_doubt(&mut self, key: Key, doubt: Doubt) {
        if self.doubts.get(&key) != Some(&doubt) {
            let Doubt { node, addresses, .. } = &doubt;
            warn!(namespace = key.namespace, pod = key.name, %node, ?addresses,
                "the status of a pod names addresses of another node: they are not believed");
            self.doubts.insert(key, doubt);
        }
    }

    /// What a node is to others is about to become this.
    pub(super) fn place<'a>(&mut self, name: &'a NodeName, now: Option<&Peer>) -> Doubted<'a> {
        let is_new = now.is_some_and(|now| self.places.add(now));
        let Some(before) = self.peers.get(name) else {
            return if is_new { Doubted::Everybodys } else { Doubted::Nobodys };
        };
        self.places.remove(before);
        let has = |range| now.is_some_and(|now| now.pod_cidrs.contains(range));
        if is_new {
            Doubted::Everybodys
        } else if before.pod_cidrs.iter().all(has) {
            Doubted::Nobodys
        } else {
            Doubted::Of(name)
        }
    }

    /// Finds out again which addresses are believed: of what was doubted, and of those pods.
    pub(super) fn judge_places(&mut self, doubted: Doubted<'_>) {
        for (key, doubt) in self.doubts.clone() {
            let believed = self.believed(&doubt.node, &doubt.addresses);
            self.correct(&key, &doubt, &believed);
            if believed.len() == doubt.addresses.len() {
                self.doubts.remove(&key);
            }
        }
        let is_meant = |node: &NodeName| match doubted {
            Doubted::Nobodys => false,
            Doubted::Of(one) => node == one,
            Doubted::Everybodys => true,
        };
        if doubted == Doubted::Nobodys {
            return;
        }
        let placed = self.compiler.pods_with(|node, address| is_meant(node) && !self.is_believed(node, address));
        for Placed { key, uid, node, addresses } in placed {
            let believed = self.believed(&node, &addresses);
            let doubt = Doubt { uid, node, addresses };
            self.correct(&key, &doubt, &believed);
            self.note_doubt(key, doubt);
        }
    }

    /// What the agent says of the pod counts more.
    fn correct(&mut self, key: &Key, doubt: &Doubt, believed: &[IpAddr]) {
        let of = (doubt.node.clone(), doubt.uid.clone());
        if !self.claims.get(&of).is_some_and(|claim| claim.is_bound) {
            self.compiler.set_addresses(key, &doubt.uid, &doubt.node, believed);
        }
    }

    /// How many pods have a status that is not believed.
    pub fn doubted(&self) -> usize {
        self.doubts.len()
    }
}
