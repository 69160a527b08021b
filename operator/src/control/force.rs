//! Which policies are not in force everywhere yet since they were last changed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use towpath_control::server::Version;
use towpath_net::policy::compile::{Change, PolicyName};
use towpath_net::policy::input::Key;
use towpath_net::state::NodeName;

use super::lacks::{Behind, Lacks};
use super::standing::{Pending, Standing};
pub use crate::policy::report::PolicyId;
use crate::policy::report::PolicyKind;

/// How many policies are told of by name.
const MOST: usize = 100;

/// The policies that some node lacks as they are now. Those that no node lacks cost nothing.
#[derive(Debug, Default)]
pub struct Force {
    /// Those that changed since agents were last told.
    changed: BTreeSet<PolicyId>,
    lacks: Lacks<PolicyId>,
    /// Of those, when the oldest change was told that a node still lacks, and how many nodes were told the last.
    since: BTreeMap<PolicyId, (Instant, usize)>,
}

impl Force {
    /// Notes a policy that changes.
    pub fn note(&mut self, change: &Change) {
        let id = |kind, namespace: &str, name: &str| PolicyId {
            kind,
            key: Key { namespace: namespace.to_owned(), name: name.to_owned() },
        };
        match change {
            Change::Policy(policy) => {
                let key = &policy.key;
                self.changed.insert(id(PolicyKind::NetworkPolicy, &key.namespace, &key.name));
            }
            Change::ClusterPolicy(policy) => {
                self.changed.insert(id(PolicyKind::ClusterNetworkPolicy, "", &policy.name));
            }
            Change::PolicyGone(key) => self.gone(&id(PolicyKind::NetworkPolicy, &key.namespace, &key.name)),
            Change::ClusterPolicyGone(name) => self.gone(&id(PolicyKind::ClusterNetworkPolicy, "", name)),
            _ => {}
        }
    }

    /// The policies that changed since this was last asked.
    pub fn take_changed(&mut self) -> BTreeSet<PolicyId> {
        std::mem::take(&mut self.changed)
    }

    /// Of so many nodes, these lack a policy as it is now.
    pub fn put(&mut self, id: PolicyId, nodes: usize, behind: Behind, now: Instant) {
        if behind.is_empty() {
            self.since.remove(&id);
        } else {
            self.since.entry(id.clone()).or_insert((now, nodes)).1 = nodes;
        }
        self.lacks.put(id, behind);
    }

    fn gone(&mut self, id: &PolicyId) {
        self.changed.remove(id);
        self.since.remove(id);
        self.lacks.end(id);
    }

    /// Whether a node lacks any policy.
    pub fn concerns(&self, node: &NodeName) -> bool {
        self.lacks.concerns(node)
    }

    /// The nodes that lack any policy.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeName> {
        self.lacks.nodes()
    }

    /// A node has everything up to this version.
    pub fn acknowledged(&mut self, node: &NodeName, version: Version) {
        for id in self.lacks.acknowledged(node, version) {
            self.since.remove(&id);
        }
    }

    /// A node has everything, or is not told anything any more.
    pub fn left(&mut self, node: &NodeName) {
        for id in self.lacks.left(node) {
            self.since.remove(&id);
        }
    }

    /// Where policies are in force.
    pub fn standing(&self, now: Instant) -> Standing {
        let mut all: Vec<(&Instant, &PolicyId, usize)> =
            self.since.iter().map(|(id, (since, nodes))| (since, id, *nodes)).collect();
        all.sort_unstable();
        let age = |since: Instant| now.saturating_duration_since(since);
        let pending = |(since, id, nodes): &(&Instant, &PolicyId, usize)| {
            let behind = self.lacks.of(id);
            Pending {
                id: PolicyId::clone(id),
                nodes: *nodes,
                lacking: behind.map_or(0, BTreeMap::len),
                first: behind.and_then(|behind| behind.keys().next()).cloned(),
                age: age(**since),
            }
        };
        Standing {
            pending: all.len(),
            oldest: all.first().map(|(since, ..)| age(**since)).unwrap_or_default(),
            policies: all.iter().take(MOST).map(pending).collect(),
        }
    }
}

impl PolicyId {
    /// How the compiler names it.
    pub const fn name(&self) -> PolicyName<'_> {
        match self.kind {
            PolicyKind::NetworkPolicy => PolicyName::Namespaced(&self.key),
            PolicyKind::ClusterNetworkPolicy => PolicyName::Cluster(self.key.name.as_str()),
        }
    }
}
