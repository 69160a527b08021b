//! One pass over the whole cluster, as named steps.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use towpath_crds::{CLUSTER_NETWORK, ClusterNetwork, ClusterNetworkStatus};
use towpath_net::allocate::{Allocations, allocate};
use towpath_net::facts::Facts;
use towpath_net::intent::{Draft, Finding, Intent, Problem, validate};
use towpath_net::resolve::{Resolved, conflicts, resolve};
use towpath_net::state::NodeName;

use crate::cache::{Caches, Seen};
use crate::cluster::{Cluster, Error};
use crate::events::{Herald, kept, news, reference};
use crate::facts::{by_name, facts};
use crate::grant::{Pending, grant};
use crate::metrics::NodeState;
use crate::publish::{publish, remove_gone};
use crate::status::{Judgement, assess};

/// How often mere counts are written: while many nodes come up, each changes them.
const BETWEEN_COUNTS: Duration = Duration::from_secs(1);

/// For how long a Node may lack what others fill in.
const YOUNG: SignedDuration = SignedDuration::from_secs(30);

/// What is wrong, by node.
type Findings = BTreeMap<NodeName, Vec<Finding>>;

/// What passes need.
#[derive(Debug)]
pub struct Context {
    /// What is watched.
    pub caches: Caches,
    /// Where things are written.
    pub cluster: Cluster,
    /// Where events are written.
    pub herald: Herald,
}

/// What one pass leaves to the next.
#[derive(Debug, Default)]
pub struct Memory {
    /// The network that was there.
    network: Option<ObjectReference>,
    /// When a status was last written.
    written: Option<Instant>,
}

/// What is to happen after a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Wait for a change.
    Wait,
    /// Look again after that time.
    Again(Duration),
}

/// Makes the cluster as it should be.
///
/// # Errors
///
/// What the API server did not do. Nothing is half done that the next pass would not finish.
pub async fn reconcile(context: &Context, memory: &mut Memory) -> Result<Next, Error> {
    let Context { caches, cluster, herald } = context;
    let mut seen = caches.seen(); //                                                   fetch;    client: no
    remove_gone(cluster, &seen).await?; //                                             remove;   client: yes
    let Some(network) = current(&seen) else {
        farewell(herald, memory).await; //                                             client: only when it went
        return Ok(Next::Wait);
    };
    memory.network = Some(reference(&network));
    let now = Timestamp::now();
    let judgement = match accept(&network, &facts(&seen, &Pending::default())) {
        //                                                                             validate; client: no
        Err(findings) => Judgement::Refused(findings),
        Ok(intent) => {
            give(cluster, &intent, &mut seen).await?; //                               allocate; client: only to give
            let resolved = settle(&intent, &seen).1; //                                resolve;  client: no
            publish(cluster, &seen, &resolved.specs).await?; //                        publish;  client: yes
            let findings = lasting(resolved.findings, &seen, now); //                  ripen;    client: no
            Judgement::Accepted { intent: Box::new(intent), findings }
        }
    };
    let status = assess(&network, &judgement, &seen, now); //                          assess;   client: no
    measure(cluster, &judgement, &status);
    report(context, memory, &network, status).await //                                 status;   client: yes
}

fn current(seen: &Seen) -> Option<Arc<ClusterNetwork>> {
    seen.networks.iter().find(|network| network.name_any() == CLUSTER_NETWORK).cloned()
}

async fn farewell(herald: &Herald, memory: &mut Memory) {
    if let Some(network) = memory.network.take() {
        tracing::warn!("ClusterNetwork deleted, the running network is kept");
        herald.tell(&network, kept()).await;
    }
}

/// What the spec means in this cluster, or what is wrong with it.
fn accept(network: &ClusterNetwork, facts: &Facts) -> Result<Intent, Vec<Finding>> {
    let intent = validate(&Draft::from(&network.spec))?;
    let conflicts = conflicts(&intent, facts);
    if conflicts.is_empty() { Ok(intent) } else { Err(conflicts) }
}

/// Without what will mend itself: a Node gets its addresses and CIDRs within seconds of being made.
fn lasting(mut findings: Findings, seen: &Seen, now: Timestamp) -> Findings {
    let nodes = by_name(&seen.nodes);
    let is_young = |name: &NodeName| {
        let made = nodes.get(&name.0).and_then(|node| node.metadata.creation_timestamp.as_ref());
        made.is_some_and(|made| now.duration_since(made.0) < YOUNG)
    };
    let mends = |problem: &Problem| matches!(problem, Problem::NothingToAdopt | Problem::NoInternalIp { .. });
    for (name, list) in &mut findings {
        if is_young(name) {
            list.retain(|finding| !mends(&finding.problem));
        }
    }
    findings.retain(|_, list| !list.is_empty());
    findings
}

fn settle(intent: &Intent, seen: &Seen) -> (Allocations, Resolved) {
    let facts = facts(seen, &Pending::default());
    let allocations = allocate(intent, &facts);
    let resolved = resolve(intent, &facts, &allocations);
    (allocations, resolved)
}

/// Gives CIDRs where some node has none and could have; otherwise the lock is not even read.
async fn give(cluster: &Cluster, intent: &Intent, seen: &mut Seen) -> Result<(), Error> {
    let (allocations, resolved) = settle(intent, seen);
    let published: BTreeSet<String> = seen.node_networks.iter().map(|network| network.name_any()).collect();
    let waits = |name: &NodeName| resolved.specs.contains_key(name) && !published.contains(&name.0);
    if allocations.fresh.iter().any(waits) {
        let made = grant(cluster, intent, seen).await?;
        seen.node_networks.extend(made.into_iter().map(Arc::new));
    }
    Ok(())
}

fn measure(cluster: &Cluster, judgement: &Judgement, status: &ClusterNetworkStatus) {
    let metrics = cluster.metrics();
    if let Some(nodes) = &status.nodes {
        metrics.count(NodeState::Desired, nodes.desired);
        metrics.count(NodeState::Updated, nodes.updated);
        metrics.count(NodeState::Ready, nodes.ready);
    }
    metrics.found(match judgement {
        Judgement::Refused(findings) => findings.len(),
        Judgement::Accepted { findings, .. } => findings.values().map(Vec::len).sum(),
    });
}

/// Writes the status if it differs, and tells what is new in it.
async fn report(
    context: &Context,
    memory: &mut Memory,
    network: &ClusterNetwork,
    status: ClusterNetworkStatus,
) -> Result<Next, Error> {
    let before = network.status.as_ref();
    if before == Some(&status) {
        return Ok(Next::Wait);
    }
    let since = memory.written.map(|written| written.elapsed());
    if let Some(since) = since.filter(|since| *since < BETWEEN_COUNTS)
        && !verdict_changed(before, &status)
    {
        return Ok(Next::Again(BETWEEN_COUNTS.saturating_sub(since)));
    }
    context.cluster.apply_status(&status).await?;
    memory.written = Some(Instant::now());
    for news in news(before, &status) {
        tracing::info!(reason = news.reason, note = news.note, "ClusterNetwork");
        context.herald.tell(&reference(network), news).await;
    }
    Ok(Next::Wait)
}

/// Whether anything but counts and words is new.
fn verdict_changed(before: Option<&ClusterNetworkStatus>, after: &ClusterNetworkStatus) -> bool {
    let verdicts = |status: &ClusterNetworkStatus| {
        status.conditions.iter().map(|c| (c.type_.clone(), c.status.clone(), c.reason.clone())).collect::<Vec<_>>()
    };
    before.is_none_or(|before| {
        before.observed_generation != after.observed_generation || verdicts(before) != verdicts(after)
    })
}
