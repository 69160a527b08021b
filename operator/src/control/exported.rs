//! What is counted of agents and policies, as it is when somebody asks.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use towpath_control::metrics::{Refusal, ServerMetrics, Sizes};
use towpath_control::process::resident_bytes;
use towpath_net::policy::compile::Sizes as Compiled;

use super::serve::Shared;
use super::standing::Standing;

/// Tells what is counted.
#[derive(Debug)]
pub struct Exported {
    /// What is known and told.
    pub shared: Arc<Shared>,
    /// What the server counts.
    pub server: Arc<ServerMetrics>,
}

#[derive(Clone, Copy, Debug, EncodeLabelSet)]
struct Of {
    kind: &'static str,
}

#[derive(Clone, Copy, Debug, EncodeLabelSet)]
struct Why {
    reason: &'static str,
}

#[derive(Clone, Copy, Debug, EncodeLabelSet)]
struct State {
    state: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet)]
struct PolicyNodes {
    kind: String,
    namespace: String,
    name: String,
    state: &'static str,
}

impl Collector for Exported {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (sizes, agents, (unheard, doubted), standing, took) = {
            let mut core = self.shared.core();
            (core.sizes(), core.agents(), (core.unheard(), core.doubted()), core.standing(), core.took())
        };
        self.streams(&mut encoder, agents)?;
        let help = "What agents said of pods beyond as many as a node can have, of which they are not heard";
        let metric = encoder.encode_descriptor("agent_pods_refused", help, None, MetricType::Counter)?;
        ConstCounter::new(unheard).encode(metric)?;
        let help = "Pods whose status names addresses of another node, which are not believed";
        gauge(&mut encoder, "pods_not_believed", help, number(doubted))?;
        self.traffic(&mut encoder)?;
        compiled(&mut encoder, sizes)?;
        in_force(&mut encoder, &standing)?;
        let help = "How long it took until policies that changed were in the kernels of all nodes that had to be told";
        let name = "policy_in_force";
        took.encode(encoder.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?)?;
        resident(&mut encoder)
    }
}

impl Exported {
    fn streams(&self, encoder: &mut DescriptorEncoder<'_>, (followed, behind): (usize, usize)) -> fmt::Result {
        let server = &self.server;
        let help =
            "Agents that have a stream to this replica, by what for; Behind are those that follow and lack something";
        let values = [
            (State { state: "Following" }, number(followed)),
            (State { state: "Behind" }, number(behind)),
            (State { state: "Reporting" }, signed(server.reporters.get())),
        ];
        gauges(encoder, "agents", help, values)?;
        gauge(encoder, "agent_connections", "Connections of agents", signed(server.connections.get()))?;
        let mut metric = encoder.encode_descriptor(
            "agents_refused",
            "Agents that were not, or no longer, served",
            None,
            MetricType::Counter,
        )?;
        for why in Refusal::ALL {
            ConstCounter::new(server.refused(why)).encode(metric.encode_family(&Why { reason: why.label() })?)?;
        }
        Ok(())
    }

    fn traffic(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let server = &self.server;
        let counters = [
            ("agent_connections_accepted", "Connections of agents that were taken", &server.accepted),
            ("agent_updates", "Updates that were sent to agents", &server.updates),
            ("agent_updates_acknowledged", "Updates that agents have in their kernels", &server.acknowledged),
            ("agent_updates_refused", "Updates that agents refused", &server.refused_updates),
            ("agents_asked", "How often an agent was asked what it has", &server.asked),
            ("agent_sent_bytes", "Bytes of messages to agents", &server.sent_bytes),
            ("agent_received_bytes", "Bytes of messages from agents", &server.received_bytes),
        ];
        for (name, help, counter) in counters {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(counter.get()).encode(metric)?;
        }
        let help = "How large updates to agents were";
        let metric = encoder.encode_descriptor("agent_update", help, Some(&Unit::Bytes), MetricType::Histogram)?;
        sizes(metric, &server.update_bytes)
    }
}

/// Classes are told by what they hold, the last one by infinity.
#[allow(clippy::cast_precision_loss, reason = "bounds are small, and of a sum nobody reads the last digits")]
fn sizes(mut metric: MetricEncoder<'_>, sizes: &Sizes) -> fmt::Result {
    let counts = sizes.counts();
    let bounds = Sizes::BOUNDS.iter().map(|bound| *bound as f64).chain([f64::MAX]);
    let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
    metric.encode_histogram::<NoLabelSet>(sizes.sum() as f64, counts.iter().sum(), &buckets, None)
}

fn resident(encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let Some(bytes) = resident_bytes() else { return Ok(()) };
    let help = "Memory of this process that is in the machine's";
    let metric = encoder.encode_descriptor("resident_memory", help, Some(&Unit::Bytes), MetricType::Gauge)?;
    ConstGauge::new(signed(bytes)).encode(metric)
}

fn compiled(encoder: &mut DescriptorEncoder<'_>, sizes: Compiled) -> fmt::Result {
    let Compiled { pods, classes, policies, selectors, profiles, sets } = sizes;
    let all = [
        ("Pod", pods),
        ("PodClass", classes),
        ("Policy", policies),
        ("Selector", selectors),
        ("Profile", profiles),
        ("Set", sets),
    ];
    let help = "How much policies are compiled from, and to";
    gauges(encoder, "policy_objects", help, all.map(|(kind, count)| (Of { kind }, number(count))))
}

/// Only of policies that are not in force everywhere, and not of all of them where they are many.
fn in_force(encoder: &mut DescriptorEncoder<'_>, standing: &Standing) -> fmt::Result {
    let help = "Policies, by whether every connected node with pods of them has them as they are now";
    let values = [
        (State { state: "InForce" }, number(standing.policies.saturating_sub(standing.pending))),
        (State { state: "Pending" }, number(standing.pending)),
    ];
    gauges(encoder, "policies", help, values)?;
    let help = "For how long the policy that is pending for longest is";
    let metric = encoder.encode_descriptor("policies_oldest_pending", help, Some(&Unit::Seconds), MetricType::Gauge)?;
    ConstGauge::new(standing.oldest.as_secs_f64()).encode(metric)?;
    let help = "Connected nodes with pods of a policy that is pending, by whether they have it as it is now";
    let nodes = standing.first.iter().flat_map(|policy| {
        let of = |state| PolicyNodes {
            kind: format!("{:?}", policy.id.kind),
            namespace: policy.id.key.namespace.clone(),
            name: policy.id.key.name.clone(),
            state,
        };
        [(of("InForce"), number(policy.nodes.saturating_sub(policy.lacking))), (of("Pending"), number(policy.lacking))]
    });
    gauges(encoder, "policy_nodes", help, nodes)
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: i64) -> fmt::Result {
    ConstGauge::new(value).encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
}

fn gauges<L: EncodeLabelSet>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: impl IntoIterator<Item = (L, i64)>,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in values {
        ConstGauge::new(value).encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
