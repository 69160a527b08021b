//! Metrics about policies: what the kernel counted is read when somebody asks for it.

use std::collections::BTreeMap;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family as Labelled;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use towpath_kernel::policy::{Count, Error, PolicyTable};
use towpath_net::policy::objects::Way;
use tracing::warn;

use crate::policy::{Inbox, Survey, Surveyed, Tally};

/// How long the thread of policies, and the kernel, are each waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where what is told comes from.
#[derive(Clone)]
pub struct Source {
    /// The thread of policies.
    pub inbox: Inbox,
    /// What it did.
    pub tally: Tally,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Source")
    }
}

/// What was counted: packets of pods by what became of them, and packets that rules decided about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    survey: Survey,
    /// Allowed and denied, in the order of the survey's pods.
    pods: Vec<(u64, u64)>,
    /// By policy, direction, and whether it let them through.
    rules: BTreeMap<(String, Way, bool), u64>,
}

impl Counted {
    /// As it is now; nothing where nobody answers in time.
    pub async fn now(source: &Source) -> Option<Self> {
        let survey = timeout(PATIENCE, source.inbox.survey()).await.ok()??;
        let counted = timeout(PATIENCE, spawn_blocking(|| Self::read(survey))).await.ok()?.ok()?;
        counted.inspect_err(|error| warn!(%error, "what policies counted cannot be read")).ok()
    }

    fn read(survey: Survey) -> Result<Self, Error> {
        let mut counted = Self { survey, ..Self::default() };
        if counted.survey.pods.is_empty() {
            return Ok(counted);
        }
        let mut table = PolicyTable::open()?;
        let all = table.counts()?;
        let of = |pod: &Surveyed| {
            let counts = pod.addresses.iter().filter_map(|address| all.get(address));
            counts.fold((0, 0), |(allowed, denied), count| {
                let (seen, ended) = seen(count, pod.way);
                (allowed + seen.saturating_sub(ended), denied + ended)
            })
        };
        counted.pods = counted.survey.pods.iter().map(of).collect();
        for (way, chain) in &counted.survey.chains {
            for rule in table.rule_counts(chain)? {
                *counted.rules.entry((rule.policy, *way, rule.passes)).or_default() += rule.packets;
            }
        }
        Ok(counted)
    }
}

/// How many packets were looked at, and how many of them ended.
const fn seen(count: &Count, way: Way) -> (u64, u64) {
    match way {
        Way::Ingress => (count.ingress, count.denied_ingress),
        Way::Egress => (count.egress, count.denied_egress),
    }
}

/// Adds what is told of policies.
pub fn register(registry: &mut Registry, tally: &Tally, counted: Option<Counted>) {
    let Tally { seconds, bytes, changes, repairs, last } = tally.clone();
    registry.register("policy_change_seconds", "How long a change of policies took, up to the kernel", seconds);
    registry.register("policy_change_bytes", "How much a change of policies gave to the kernel, in bytes", bytes);
    registry.register("policy_changes", "Changes of policies that the kernel was told of", changes);
    registry.register("policy_repairs", "How often policies were put right that others had altered", repairs);
    registry.register("policy_last_change_seconds", "When the kernel was last told of policies, since 1970", last);
    let Some(counted) = counted else { return };
    let sizes: Labelled<Vec<(&'static str, &'static str)>, Gauge> = Labelled::default();
    for (kind, size) in &counted.survey.sizes {
        sizes.get_or_create_owned(&vec![("kind", *kind)]).set(i64::try_from(*size).unwrap_or(i64::MAX));
    }
    registry.register("policy_objects", "What the node was told of policies, by kind", sizes);
    let (allowed, denied) = (Counters::default(), Counters::default());
    for (pod, counts) in counted.survey.pods.iter().zip(&counted.pods) {
        let labels = vec![
            ("namespace", pod.key.namespace.clone()),
            ("pod", pod.key.name.clone()),
            ("direction", pod.way.to_string()),
            ("policy", pod.policies.clone()),
        ];
        allowed.get_or_create_owned(&labels).inc_by(counts.0);
        denied.get_or_create_owned(&labels).inc_by(counts.1);
    }
    registry.register("policy_allowed_packets", "Packets that began something and passed, by pod", allowed);
    registry.register("policy_denied_packets", "Packets that were denied, by pod", denied);
    let rules = Counters::default();
    for ((policy, way, passes), packets) in counted.rules {
        let action = if passes { "Accept" } else { "Deny" };
        let labels = vec![("policy", policy), ("direction", way.to_string()), ("action", action.to_owned())];
        rules.get_or_create_owned(&labels).inc_by(packets);
    }
    let help = "Packets that began something and that rules of ClusterNetworkPolicies decided about, of all pods";
    registry.register("policy_rule_packets", help, rules);
}

type Counters = Labelled<Vec<(&'static str, String)>, Counter>;
