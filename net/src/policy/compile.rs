//! The compiler: from all pods, namespaces, nodes and policies of a cluster to what each node must know.
//!
//! ```text
//! Change --apply--> classes (pods that are alike) <--selected by-- atoms (selectors) <--name-- policies
//!                      |                                             |
//!                      +--settle--> recipe (policies of a class)     +--of sets (unions of selectors)
//!                                      |                                      ^
//!                                      +--> profile (content, by hash) --names-+
//!                                                                             |
//! subscribed nodes: views (which profiles, which sets) --deltas--> Delta per node
//! ```
//!
//! What a change costs follows from what it touches: a pod finds its selectors by its labels, a selector its pods by a
//! label that it asks for. Members of sets are not kept: they follow from selectors; only whether somebody was a member
//! when changes were last told is remembered, for those for whom it may be different.
//!
//! The result is a function of the objects alone, whatever the order in which they came.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::bundle::{Bundle, Delta};
use super::digest::Digest;
use super::input::{ClusterPolicy, Key, Namespace, NetworkPolicy, Node, Pod};
use crate::state::NodeName;

mod atoms;
mod blocks;
mod content;
mod hash;
mod ids;
mod index;
mod nodes;
mod pods;
mod policies;
mod profiles;
mod selector;
mod sets;
mod spaces;
mod symbols;
mod views;

#[cfg(test)]
mod tests;

/// What becomes of one object. A change that says what is known already changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A namespace is this.
    Namespace(Namespace),
    /// A namespace is gone: no selector of namespaces chooses it, until it is told of again.
    NamespaceGone(String),
    /// A pod is this.
    Pod(Pod),
    /// A pod is gone.
    PodGone(Key),
    /// A node is this.
    Node(Node),
    /// A node is gone.
    NodeGone(NodeName),
    /// A `NetworkPolicy` is this.
    Policy(NetworkPolicy),
    /// A `NetworkPolicy` is gone.
    PolicyGone(Key),
    /// A `ClusterNetworkPolicy` is this.
    ClusterPolicy(ClusterPolicy),
    /// A `ClusterNetworkPolicy` is gone.
    ClusterPolicyGone(String),
}

/// The name of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyName<'a> {
    /// Of a `NetworkPolicy`.
    Namespaced(&'a Key),
    /// Of a `ClusterNetworkPolicy`.
    Cluster(&'a str),
}

/// Where a pod is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Its namespace and name.
    pub key: Key,
    /// What it is told apart by.
    pub uid: String,
    /// Its node.
    pub node: NodeName,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

/// How much there is of what policies are compiled from, and to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Pods.
    pub pods: usize,
    /// Groups of pods that are alike.
    pub classes: usize,
    /// Policies of both kinds.
    pub policies: usize,
    /// Different selectors.
    pub selectors: usize,
    /// Different contents of what pods are let to do.
    pub profiles: usize,
    /// Sets that profiles name.
    pub sets: usize,
}

/// All objects that matter to policies, and what follows from them.
#[derive(Debug, Default)]
pub struct Compiler {
    symbols: symbols::Symbols,
    spaces: spaces::Spaces,
    atoms: atoms::Atoms,
    pods: pods::Pods,
    nodes: nodes::Nodes,
    policies: policies::Policies,
    profiles: profiles::Profiles,
    sets: sets::Sets,
    /// Subscribed nodes that may have to be told something of their own.
    changed: BTreeSet<ids::NodeId>,
    subscribers: usize,
    was_enforced: bool,
    /// What was to be told when a node was subscribed in between.
    ready: Vec<(NodeName, Delta)>,
}

impl Compiler {
    /// Takes in a change. What follows from it is found when it is asked for.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Namespace(namespace) => self.set_namespace(&namespace.name, Some(&namespace.labels)),
            Change::NamespaceGone(name) => self.set_namespace(&name, None),
            Change::Pod(pod) => self.set_pod(pod),
            Change::PodGone(key) => self.drop_pod(&key),
            Change::Node(node) => self.set_node(node),
            Change::NodeGone(name) => self.drop_node(&name),
            Change::Policy(policy) => self.set_policy(policy),
            Change::PolicyGone(key) => self.drop_policy(&key),
            Change::ClusterPolicy(policy) => self.set_cluster_policy(&policy),
            Change::ClusterPolicyGone(name) => self.drop_cluster_policy(&name),
        }
    }

    /// Takes in the addresses of the pod of this name, `metadata.uid` and node, before any object of the API tells them.
    /// Nothing happens where there is no such pod; tells whether there is. The next [`Change::Pod`] has its own word on them.
    pub fn set_addresses(&mut self, pod: &Key, uid: &str, node: &NodeName, addresses: &[IpAddr]) -> bool {
        self.set_pod_addresses(pod, uid, node, addresses)
    }

    /// The addresses of the pod of this name, `metadata.uid` and node, as far as they are known.
    pub fn addresses(&self, pod: &Key, uid: &str, node: &NodeName) -> &[IpAddr] {
        self.find_pod_of(pod, uid, node).map_or(&[], |id| &*self.pods.all[id].addresses)
    }

    /// The pods with an address of which this holds, and of their node. It looks at all that there are.
    pub fn pods_with(&self, is: impl Fn(&NodeName, IpAddr) -> bool) -> Vec<Placed> {
        let pods = self.nodes.iter().flat_map(|node| node.pods.iter().map(move |pod| (node, pod)));
        let chosen = pods.filter(|(node, pod)| self.pods.all[*pod].addresses.iter().any(|one| is(&node.name, *one)));
        let placed = chosen.map(|(node, pod)| {
            let pod = &self.pods.all[pod];
            let namespace = &self.spaces.all[self.pods.classes[pod.class].traits.namespace].name;
            Placed {
                key: Key { namespace: namespace.to_string(), name: pod.name.to_string() },
                uid: pod.uid.to_string(),
                node: node.name.clone(),
                addresses: pod.addresses.to_vec(),
            }
        });
        placed.collect()
    }

    /// What became different for subscribed nodes since the last call (or since they were subscribed), by name. Nodes for
    /// which nothing did are not among them; one for which something did before another was subscribed may be there
    /// several times, in the order in which to apply. Call it behind every round of changes, subscribed nodes or not: it
    /// lets go of what nothing means any more.
    pub fn deltas(&mut self) -> Vec<(NodeName, Delta)> {
        self.make_ready();
        let mut deltas = std::mem::take(&mut self.ready);
        deltas.sort_by(|(one, _), (other, _)| one.cmp(other));
        deltas
    }

    /// All that a node must know. From now on, [`Self::deltas`] tells what becomes different for it.
    pub fn subscribe(&mut self, name: &NodeName) -> Bundle {
        self.make_ready();
        self.ready.retain(|(other, _)| other != name);
        let node = self.nodes.get(name);
        self.close_view(node);
        self.open_view(node);
        self.bundle_of(node)
    }

    /// Has [`Self::deltas`] no longer tell about a node.
    pub fn unsubscribe(&mut self, name: &NodeName) {
        self.make_ready();
        self.ready.retain(|(other, _)| other != name);
        if let Some(node) = self.nodes.find(name) {
            self.close_view(node);
            self.nodes.tidy(Some(node));
        }
    }

    /// All that a node must know, whether it is subscribed or not.
    pub fn bundle(&mut self, name: &NodeName) -> Bundle {
        self.settle();
        match self.nodes.find(name) {
            Some(node) => self.bundle_of(node),
            None => Bundle { is_enforced: self.is_enforced(), ..Bundle::default() },
        }
    }

    /// A digest of what a node must know of its pods: which profile each has. It is the same as that of what an agent has
    /// ([`Digest::of_pods`]) where the policies of all of its pods are as they are to be.
    pub fn digest_of_pods(&mut self, name: &NodeName) -> Digest {
        self.settle();
        self.nodes.find(name).map(|node| self.pods_digest(node)).unwrap_or_default()
    }

    /// How much there is.
    pub fn sizes(&self) -> Sizes {
        Sizes {
            pods: self.pods.all.len(),
            classes: self.pods.classes.len(),
            policies: self.policies.count,
            selectors: self.atoms.all.len(),
            profiles: self.profiles.all.len(),
            sets: self.sets.all.len(),
        }
    }

    /// Whether there is any policy.
    pub fn is_enforced(&self) -> bool {
        self.policies.count > 0
    }

    /// The subscribed nodes that must know a pod's addresses: they have a set that the pod belongs to.
    pub fn holders(&mut self, pod: &Key) -> Vec<NodeName> {
        self.settle();
        let Some(pod) = self.find_pod(pod) else { return Vec::new() };
        let atoms = &self.pods.classes[self.pods.all[pod].class].atoms;
        let sets = atoms.iter().flat_map(|atom| self.atoms.all[*atom].sets.iter());
        let nodes: BTreeSet<ids::NodeId> = sets.flat_map(|set| self.sets.all[set].holders.iter()).collect();
        let mut names: Vec<NodeName> = nodes.into_iter().map(|node| self.nodes.all[node].name.clone()).collect();
        names.sort_unstable();
        names
    }

    /// Whether any policy is for a pod: it has a profile.
    pub fn is_selected(&self, pod: &Key) -> bool {
        self.find_pod(pod).is_some_and(|pod| {
            let class = &self.pods.classes[self.pods.all[pod].class];
            class.atoms.iter().any(|atom| !self.atoms.all[*atom].policies.is_empty())
        })
    }

    /// Whether any policy may be for pods of a namespace, or name them as peers: whether there can be something to wait for.
    pub fn is_policed(&self, namespace: &str) -> bool {
        self.spaces.find(namespace).is_some_and(|namespace| self.is_scoped(namespace))
    }

    /// How many pods a policy is for.
    pub fn pods_of_policy(&self, name: PolicyName<'_>) -> usize {
        self.classes_of_policy(name).map(|class| self.pods.classes[class].pods.len()).sum()
    }

    /// The nodes of the pods that a policy is for, subscribed or not, by name: where it must be in force.
    pub fn nodes_of_policy(&self, name: PolicyName<'_>) -> impl Iterator<Item = NodeName> + use<> {
        let pods = self.classes_of_policy(name).flat_map(|class| self.pods.classes[class].pods.iter());
        let nodes: BTreeSet<ids::NodeId> = pods.filter_map(|pod| self.pods.all[pod].node).collect();
        let names: BTreeSet<NodeName> = nodes.into_iter().map(|node| self.nodes.all[node].name.clone()).collect();
        names.into_iter()
    }

    fn classes_of_policy(&self, name: PolicyName<'_>) -> impl Iterator<Item = ids::ClassId> {
        let policy = match name {
            PolicyName::Namespaced(key) => self
                .spaces
                .find(&key.namespace)
                .and_then(|namespace| self.spaces.all[namespace].policies.get(key.name.as_str())),
            PolicyName::Cluster(name) => self.policies.cluster.get(name),
        };
        let subject = policy.and_then(|id| self.policies.all[*id].as_ref()).map(|policy| policy.subject);
        subject.into_iter().flat_map(|atom| self.atoms.all[atom].classes.iter())
    }

    /// Puts what is new to be told behind what already is.
    fn make_ready(&mut self) {
        let deltas = self.flush();
        self.ready.extend(deltas);
        self.drop_idle();
    }
}
