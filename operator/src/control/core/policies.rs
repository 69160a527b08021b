//! On which nodes policies are in force.

use std::collections::BTreeSet;
use std::time::Instant;

use prometheus_client::metrics::histogram::Histogram;
use towpath_control::message::Settled;
use towpath_control::server::Version;
use towpath_net::state::NodeName;

use super::{Core, Reporter};
use crate::control::standing::{AWAY, ClusterStanding, News, Standing};
use crate::policy::report::{PolicyId, Written};

/// How many nodes that follow other replicas are looked at behind a change of policies, and when somebody asks: what each
/// must know of its pods is computed for that, in some 50 us.
const LOOKED_AT: (usize, usize) = (16, 256);

/// How many of the policies that are late are looked at when somebody asks: whether nodes still have pods of them.
const LATE_LOOKED_AT: usize = 16;

/// Stands for what another replica told, or what nobody was told yet.
const UNTOLD: Version = Version(u64::MAX);

impl Core {
    /// Policies that changed: which nodes have to acknowledge them is known now.
    pub(super) fn judge_policies(&mut self) {
        // Before all pods are known nobody can tell which nodes have some of a policy.
        if !self.are_policies_known {
            return;
        }
        let changed = self.force.take_changed();
        let is_changed = !changed.is_empty();
        for id in changed {
            let nodes: Vec<NodeName> = self.compiler.nodes_of_policy(id.name()).collect();
            let (count, now) = (nodes.len(), Instant::now());
            let untold: Vec<NodeName> =
                nodes.iter().filter(|node| !self.sessions.contains_key(*node)).cloned().collect();
            let mut behind = self.behind(nodes);
            // What the agents had that are away when this replica begins, it cannot know.
            let is_owed = |node: &NodeName| self.are_policies_judged || self.reporters.contains_key(node);
            behind.extend(untold.into_iter().filter(is_owed).map(|node| (node, UNTOLD)));
            self.force.put(id, count, behind, now);
        }
        if !std::mem::replace(&mut self.are_policies_judged, true) {
            self.force.begin();
        }
        if is_changed {
            self.look_elsewhere(LOOKED_AT.0);
        }
    }

    /// Looks at some of the nodes that follow another replica and lack policies, as far as is known: they may have said
    /// before what is expected of them only now. The next look is at the next ones.
    fn look_elsewhere(&mut self, most: usize) {
        let last = self.looked.take();
        let is_next = |node: &&NodeName| last.as_ref() < Some(*node) && !self.sessions.contains_key(*node);
        let nodes: Vec<NodeName> = self.force.nodes().filter(is_next).take(most).cloned().collect();
        for node in &nodes {
            self.look_at(node);
        }
        self.looked = nodes.into_iter().last();
    }

    fn look_at(&mut self, node: &NodeName) {
        let Some(Reporter { settled: Some(settled), .. }) = self.reporters.get(node) else { return };
        if self.compiler.digest_of_pods(node) == settled.pods {
            self.force.left(node);
        }
    }

    /// This is in the kernel of a node that follows another replica.
    pub fn settled(&mut self, node: &NodeName, settled: Settled) {
        if let Some(reporter) = self.reporters.get_mut(node) {
            reporter.settled = Some(settled);
        }
        // While it follows this replica too, its answers here count.
        if !self.sessions.contains_key(node) {
            self.heed_report(node);
        }
    }

    /// What the agent of a node said last that follows another replica, if it said anything.
    pub(super) fn heed_report(&mut self, node: &NodeName) {
        let Some(Reporter { settled: Some(settled), .. }) = self.reporters.get(node) else { return };
        self.force.refused(node, settled.refusal.as_deref());
        if self.force.concerns(node) {
            self.look_at(node);
        }
    }

    /// The agent of a node refuses what it was told here. Until it takes it no pod waits for it, as for none that is away:
    /// it goes on with what it had, and whoever waits for it may do so for ever.
    pub fn refused(&mut self, node: &NodeName, reason: &str) {
        if self.sessions.contains_key(node) {
            self.force.refused(node, Some(reason));
            self.waits.left(node).into_iter().for_each(|pod| self.tell_known(pod));
        }
    }

    /// Whether the agent of a node is away, from now on.
    pub(super) fn mind(&mut self, node: &NodeName) {
        let is_there = self.peers.get(node).is_some();
        if is_there && !self.is_heard(node) {
            self.away.went(node, Instant::now());
        } else {
            self.away.ended(node);
        }
        if !self.is_heard(node) {
            self.force.refused(node, None);
        }
        if !is_there && !self.is_heard(node) {
            self.force.left(node);
            if self.are_peers_known {
                self.claims.forget(node);
            }
        }
    }

    /// Where policies are in force.
    pub fn standing(&mut self) -> Standing {
        let now = Instant::now();
        self.look_elsewhere(LOOKED_AT.1);
        for id in self.force.late(now, LATE_LOOKED_AT) {
            let nodes = self.compiler.nodes_of_policy(id.name()).collect();
            self.force.keep(&id, &nodes);
        }
        self.force.standing(self.compiler.sizes().policies, self.away.longer(AWAY, now), now)
    }

    /// How a policy of the cluster is written whose change was told before.
    pub fn written(&mut self, name: String, written: Written) {
        self.force.written(name, written);
    }

    /// What became of policies since this was last asked.
    pub fn take_news(&mut self) -> News {
        self.force.take_news()
    }

    /// Whether anything became of them.
    pub fn has_news(&self) -> bool {
        self.force.has_news()
    }

    /// Where a policy of the cluster is in force.
    pub fn of_cluster(&self, name: &str) -> Option<ClusterStanding> {
        self.force.of_cluster(name, Instant::now())
    }

    /// The names of all policies of the cluster.
    pub fn all_of_cluster(&self) -> Vec<String> {
        self.force.all_of_cluster().cloned().collect()
    }

    /// The nodes that have pods of a policy, and whose agents have been away for a while.
    pub fn away_of(&self, id: &PolicyId) -> Vec<NodeName> {
        let mut away = self.away.longer(AWAY, Instant::now());
        if !away.is_empty() {
            let nodes: BTreeSet<NodeName> = self.compiler.nodes_of_policy(id.name()).collect();
            away.retain(|node| nodes.contains(node));
        }
        away
    }

    /// Whether every agent is connected to some replica, and has what this one told it; not before all nodes are known.
    pub fn is_heard_of_all(&self) -> bool {
        self.is_ready() && self.away.is_empty() && self.agents().1 == 0
    }

    /// How long it took until policies were in force everywhere.
    pub fn took(&self) -> Histogram {
        self.force.took()
    }
}
