//! Which policies are not in force everywhere yet since they were last changed.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use prometheus_client::metrics::histogram::Histogram;
use towpath_control::server::Version;
use towpath_net::policy::compile::Change;
use towpath_net::policy::input::Key;
use towpath_net::state::NodeName;

use super::lacks::{Behind, Lacks};
use super::refusals::Refusals;
use super::standing::{ClusterStanding, LATE, News, Pending, Settled, Standing};
use crate::policy::report::{PolicyId, PolicyKind, Written};

/// How many policies are told of by name.
const MOST: usize = 100;
/// How long it takes until a policy is in force everywhere, in seconds.
const SECONDS: [f64; 9] = [0.002, 0.004, 0.008, 0.015, 0.05, 0.2, 1.0, 5.0, 30.0];

/// The policies that some node lacks as they are now. Those that no node lacks cost nothing, but for those of the cluster.
#[derive(Debug)]
pub struct Force {
    /// Those that changed since agents were last told.
    changed: BTreeSet<PolicyId>,
    lacks: Lacks<PolicyId>,
    refusals: Refusals,
    /// Of those, when the oldest change was told that a node still lacks, and how many nodes were told the last.
    since: BTreeMap<PolicyId, (Instant, usize)>,
    /// All of the cluster.
    cluster: BTreeMap<String, OfCluster>,
    news: News,
    /// Whether what was there at the beginning was told: before that nothing is news.
    is_begun: bool,
    took: Histogram,
}

/// A policy of the cluster.
#[derive(Debug)]
struct OfCluster {
    written: Written,
    /// On how many nodes it had to be when it was changed last.
    nodes: usize,
}

impl Default for Force {
    fn default() -> Self {
        Self {
            changed: BTreeSet::new(),
            lacks: Lacks::default(),
            refusals: Refusals::default(),
            since: BTreeMap::new(),
            cluster: BTreeMap::new(),
            news: News::default(),
            is_begun: false,
            took: Histogram::new(SECONDS),
        }
    }
}

impl Force {
    /// What was there at the beginning was told.
    pub const fn begin(&mut self) {
        self.is_begun = true;
    }

    /// How long it took until policies were in force everywhere that had to be told to somebody.
    pub fn took(&self) -> Histogram {
        self.took.clone()
    }

    /// How a policy of the cluster is written; it was noted before as what that means.
    pub fn written(&mut self, name: String, written: Written) {
        let before = self.cluster.get(&name).map(|of| of.nodes);
        if before.is_none() {
            // It may have been looked at before this was told: on how many nodes it has to be is found out again.
            self.changed.insert(PolicyId::of_cluster(&name));
        }
        let nodes = before.unwrap_or_default();
        self.news.cluster.insert(name.clone());
        self.cluster.insert(name, OfCluster { written, nodes });
    }

    /// Where a policy of the cluster is in force.
    pub fn of_cluster(&self, name: &str, now: Instant) -> Option<ClusterStanding> {
        let of = self.cluster.get(name)?;
        let id = PolicyId::of_cluster(name);
        let pending = self.since.get(&id).map(|(since, nodes)| self.pending(&id, *since, *nodes, now));
        Some(ClusterStanding { written: of.written.clone(), nodes: of.nodes, pending })
    }

    /// The names of all policies of the cluster.
    pub fn all_of_cluster(&self) -> impl Iterator<Item = &String> {
        self.cluster.keys()
    }

    /// What became of policies since this was last asked.
    pub fn take_news(&mut self) -> News {
        std::mem::take(&mut self.news)
    }

    /// Whether anything became of them.
    pub fn has_news(&self) -> bool {
        !self.news.is_empty()
    }

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
        self.news.is_counted = true;
        if let Some(of) = self.cluster.get_mut(&id.key.name).filter(|_| id.key.namespace.is_empty()) {
            of.nodes = nodes;
        }
        self.lacks.put(id.clone(), behind);
        if self.lacks.of(&id).is_some() {
            self.since.entry(id).or_insert((now, nodes)).1 = nodes;
        } else {
            let was_late = self.since.remove(&id).is_some_and(|(since, _)| is_late(since, now));
            self.settled(Settled { id, nodes, took: None }, was_late);
        }
    }

    /// A policy is in force everywhere.
    fn settle(&mut self, id: PolicyId, now: Instant) {
        let Some((since, nodes)) = self.since.remove(&id) else { return };
        let took = now.saturating_duration_since(since);
        if self.is_begun {
            self.took.observe(took.as_secs_f64());
        }
        self.settled(Settled { id, nodes, took: Some(took) }, took >= LATE);
    }

    fn settled(&mut self, settled: Settled, was_late: bool) {
        match settled.id.kind {
            PolicyKind::ClusterNetworkPolicy => _ = self.news.cluster.insert(settled.id.key.name),
            // What was late may have been told to be so, and then it is told that it is not any more.
            PolicyKind::NetworkPolicy if self.is_begun && (self.news.settled.len() < MOST || was_late) => {
                self.news.settled.push(settled);
            }
            PolicyKind::NetworkPolicy => {}
        }
    }

    fn gone(&mut self, id: &PolicyId) {
        self.news.is_counted = true;
        self.changed.remove(id);
        let since = self.since.remove(id);
        self.lacks.end(id);
        match id.kind {
            PolicyKind::ClusterNetworkPolicy => {
                self.cluster.remove(&id.key.name);
                self.news.cluster.insert(id.key.name.clone());
            }
            // It may have been told to be late, which the next one of its name is not.
            PolicyKind::NetworkPolicy if since.is_some_and(|(since, _)| is_late(since, Instant::now())) => {
                self.news.gone.push(id.clone());
            }
            PolicyKind::NetworkPolicy => {}
        }
    }

    /// The agent of a node refuses what it was told, or (nothing) does not any more.
    pub fn refused(&mut self, node: &NodeName, reason: Option<&str>) {
        match reason {
            Some(reason) => {
                self.refusals.begin(node, reason);
                self.news.is_counted |= self.concerns(node);
            }
            None => self.refusals.end(node),
        }
    }

    /// Whether the agent of a node refuses what it was told.
    pub fn is_refused_by(&self, node: &NodeName) -> bool {
        self.refusals.contains(node)
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
        let (settled, now) = (self.lacks.acknowledged(node, version), Instant::now());
        for id in settled {
            self.settle(id, now);
        }
    }

    /// A node has everything, or is no more.
    pub fn left(&mut self, node: &NodeName) {
        let (settled, now) = (self.lacks.left(node), Instant::now());
        for id in settled {
            self.settle(id, now);
        }
    }

    /// The oldest policies that are late, and no more than so many.
    pub fn late(&self, now: Instant, most: usize) -> Vec<PolicyId> {
        let mut late: Vec<(Instant, &PolicyId)> = self.since.iter().map(|(id, (since, _))| (*since, id)).collect();
        late.retain(|(since, _)| is_late(*since, now));
        late.sort_unstable();
        late.into_iter().take(most).map(|(_, id)| id.clone()).collect()
    }

    /// Of the nodes that lack a policy, only these have pods of it still.
    pub fn keep(&mut self, id: &PolicyId, nodes: &BTreeSet<NodeName>) {
        let Some(behind) = self.lacks.of(id) else { return };
        if behind.keys().all(|node| nodes.contains(node)) {
            return;
        }
        let behind: Behind = behind.clone().into_iter().filter(|(node, _)| nodes.contains(node)).collect();
        let is_settled = behind.is_empty();
        if let Some((_, told)) = self.since.get_mut(id) {
            *told = nodes.len();
        }
        self.lacks.put(id.clone(), behind);
        if is_settled {
            self.settle(id.clone(), Instant::now());
        }
    }

    /// Where policies are in force, of so many; agents of these nodes are away.
    pub fn standing(&self, compiled: usize, away: Vec<NodeName>, now: Instant) -> Standing {
        let mut all: Vec<(&Instant, &PolicyId, usize)> =
            self.since.iter().map(|(id, (since, nodes))| (since, id, *nodes)).collect();
        all.sort_unstable();
        let age = |since: Instant| now.saturating_duration_since(since);
        Standing {
            policies: compiled + self.cluster.values().filter(|of| of.written.is_for_nobody).count(),
            pending: all.len(),
            late: all.iter().take_while(|(since, ..)| is_late(**since, now)).count(),
            oldest: all.first().map(|(since, ..)| age(**since)).unwrap_or_default(),
            first: all.iter().take(MOST).map(|(since, id, nodes)| self.pending(id, **since, *nodes, now)).collect(),
            away,
            refusing: self.refusals.len(),
        }
    }

    fn pending(&self, id: &PolicyId, since: Instant, nodes: usize, now: Instant) -> Pending {
        let behind = self.lacks.of(id);
        let refused = behind.and_then(|behind| self.refusals.first_of(behind));
        let first = refused.map(|(node, _)| node).or_else(|| behind?.keys().next());
        Pending {
            id: id.clone(),
            nodes,
            lacking: behind.map_or(0, BTreeMap::len),
            first: first.cloned(),
            why: refused.map(|(_, why)| why.to_owned()),
            age: now.saturating_duration_since(since),
        }
    }
}

fn is_late(since: Instant, now: Instant) -> bool {
    now.saturating_duration_since(since) >= LATE
}
