//! What the operator counts.

use std::sync::atomic::AtomicU64;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, text::encode};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// What a write was of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Kind {
    /// A `NodeNetwork`.
    NodeNetwork,
    /// The status of the `ClusterNetwork`.
    ClusterNetworkStatus,
    /// The status of a `ClusterNetworkPolicy`.
    ClusterNetworkPolicyStatus,
    /// The allocation lock.
    AllocationLock,
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Verb {
    /// Created or changed.
    Apply,
    /// Deleted.
    Delete,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Write {
    kind: Kind,
    verb: Verb,
}

/// How a pass ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Outcome {
    /// Everything is as it should be.
    Done,
    /// Somebody else wrote at the same time; the next pass sees it.
    Conflict,
    /// The API server did not do what it was asked for.
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Pass {
    outcome: Outcome,
}

/// Which nodes are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum NodeState {
    /// All of them.
    Desired,
    /// Those on the current revision.
    Updated,
    /// Those that are ready.
    Ready,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Nodes {
    state: NodeState,
}

/// All counters, and where they are read.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    writes: Family<Write, Counter>,
    passes: Family<Pass, Counter>,
    seconds: Histogram,
    leading: Gauge,
    nodes: Family<Nodes, Gauge<i64>>,
    findings: Gauge<i64>,
    time: Gauge<f64, AtomicU64>,
    compiled: Counter,
    compile: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("towpath_operator"),
            writes: Family::default(),
            passes: Family::default(),
            seconds: Histogram::new([0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0]),
            leading: Gauge::default(),
            nodes: Family::default(),
            findings: Gauge::default(),
            time: Gauge::default(),
            compiled: Counter::default(),
            compile: Histogram::new([0.000_05, 0.000_2, 0.001, 0.005, 0.02, 0.1, 0.5, 2.0]),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("writes", "Writes to the API server that were carried out", self.writes.clone());
        registry.register("passes", "Passes over the whole cluster, by how they ended", self.passes.clone());
        let help = "How long passes took";
        registry.register_with_unit("pass", help, Unit::Seconds, self.seconds.clone());
        registry.register("leading", "1 on the replica that leads", self.leading.clone());
        registry.register("nodes", "Nodes of the cluster, by what they have", self.nodes.clone());
        registry.register("findings", "Things that somebody has to do something about", self.findings.clone());
        let help = "Changes of what policies are compiled from";
        registry.register("policy_changes", help, self.compiled.clone());
        let help = "How long it took to compile changes that came together";
        registry.register_with_unit("policy_compile", help, Unit::Seconds, self.compile.clone());
        let help = "When the last pass ended without failure";
        registry.register_with_unit("last_success_timestamp", help, Unit::Seconds, self.time.clone());
    }

    /// With what somebody else tells when it is asked for.
    #[must_use]
    pub fn collecting(mut self, collector: Box<dyn Collector>) -> Self {
        self.registry.register_collector(collector);
        self
    }

    /// So many changes were compiled into policies, and told.
    pub fn compiled(&self, changes: usize, took: std::time::Duration) {
        self.compiled.inc_by(changes as u64);
        self.compile.observe(took.as_secs_f64());
    }

    /// A write was carried out.
    pub fn wrote(&self, kind: Kind, verb: Verb) {
        self.writes.get_or_create(&Write { kind, verb }).inc();
    }

    /// A pass ended.
    pub fn passed(&self, outcome: Outcome, took: std::time::Duration) {
        self.passes.get_or_create(&Pass { outcome }).inc();
        self.seconds.observe(took.as_secs_f64());
        if outcome != Outcome::Failed {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            self.time.set(now.as_secs_f64());
        }
    }

    /// Whether this replica leads.
    pub fn leads(&self, leading: bool) {
        self.leading.set(leading.into());
    }

    /// How many nodes there are in a state.
    pub fn count(&self, state: NodeState, nodes: i32) {
        self.nodes.get_or_create(&Nodes { state }).set(nodes.into());
    }

    /// How many things are wrong.
    pub fn found(&self, findings: usize) {
        self.findings.set(i64::try_from(findings).unwrap_or(i64::MAX));
    }

    /// Everything, in the `OpenMetrics` text format.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a text cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
