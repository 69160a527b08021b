//! What agents say of the addresses of their pods: earlier than the status of the pods says it.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use towpath_control::message::Attached;
use towpath_net::policy::input::{Key, Pod};
use towpath_net::state::NodeName;

/// What an agent says of one pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// `metadata.uid`.
    pub uid: String,
    /// The agent's node.
    pub node: NodeName,
    /// The pod's addresses; none where it has none any more.
    pub addresses: Vec<IpAddr>,
    /// Whether there is such a pod on that node.
    pub is_bound: bool,
}

/// The last word of agents on each pod.
#[derive(Debug, Default)]
pub struct Claims {
    by_pod: HashMap<Key, Claim>,
    by_node: HashMap<NodeName, BTreeSet<Key>>,
}

impl Claims {
    /// Takes a word on a pod.
    pub fn put(&mut self, pod: Key, claim: Claim) {
        if let Some(before) = self.by_pod.get(&pod)
            && before.node != claim.node
        {
            self.remove(&pod);
        }
        self.by_node.entry(claim.node.clone()).or_default().insert(pod.clone());
        self.by_pod.insert(pod, claim);
    }

    /// The word on a pod.
    pub fn get_mut(&mut self, pod: &Key) -> Option<&mut Claim> {
        self.by_pod.get_mut(pod)
    }

    /// The pod of this uid that a node's agent spoke of.
    pub fn find(&self, node: &NodeName, uid: &str) -> Option<&Key> {
        self.of_node(node).find(|pod| self.by_pod.get(*pod).is_some_and(|claim| claim.uid == uid))
    }

    /// The pods that a node's agent spoke of.
    pub fn of_node(&self, node: &NodeName) -> impl Iterator<Item = &Key> {
        self.by_node.get(node).into_iter().flatten()
    }

    /// Forgets a word.
    pub fn remove(&mut self, pod: &Key) {
        let Some(claim) = self.by_pod.remove(pod) else { return };
        if let Some(pods) = self.by_node.get_mut(&claim.node) {
            pods.remove(pod);
            if pods.is_empty() {
                self.by_node.remove(&claim.node);
            }
        }
    }

    /// Gives a pod the addresses that its node's agent says it has.
    pub fn overlay(&mut self, pod: &mut Pod, is_allowed: impl Fn(&NodeName, &[IpAddr]) -> bool) {
        let Some(claim) = self.by_pod.get_mut(&pod.key) else { return };
        claim.is_bound = claim.uid == pod.uid
            && pod.node.as_ref() == Some(&claim.node)
            && is_allowed(&claim.node, &claim.addresses);
        if claim.is_bound {
            pod.addresses.clone_from(&claim.addresses);
        }
    }
}

/// What an agent says when a pod has addresses.
pub fn claim(node: &NodeName, attached: Attached) -> (Key, Claim) {
    let Attached { uid, key, addresses, is_waiting: _ } = attached;
    (key, Claim { uid, node: node.clone(), addresses, is_bound: false })
}
