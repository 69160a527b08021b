//! One pass over the whole cluster, as named steps.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use tokio::sync::watch;
use towpath_crds::conditions::{ConditionType, find, set};
use towpath_crds::{CLUSTER_NETWORK, ClusterNetwork, ClusterNetworkStatus, NodeNetwork, PolicyCounts};
use towpath_net::allocate::allocate;
use towpath_net::facts::Facts;
use towpath_net::intent::{Draft, Finding, Intent, Problem, validate};
use towpath_net::resolve::{Resolved, conflicts, resolve};
use towpath_net::state::{NodeName, NodeSpec};

use crate::cache::{Caches, Seen};
use crate::cluster::{Cluster, Error};
use crate::control::{LATE, Shared, Standing};
use crate::events::{Herald, kept, news, reference};
use crate::facts::{by_name, facts};
use crate::grant::{Granted, Pending, grant, is_due, uids};
use crate::metrics::NodeState;
use crate::policy::report::{Report, Told};
use crate::publish::{publish, remove_gone};
use crate::status::{Judgement, assess};

/// How often mere counts are written: while many nodes come up, each changes them.
const BETWEEN_COUNTS: Duration = Duration::from_secs(1);

/// The same where policies come, go and change.
const BETWEEN_POLICY_COUNTS: Duration = Duration::from_secs(5);

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
    /// What of policies cannot be honoured.
    pub policies: watch::Receiver<Report>,
    /// What agents are told, and how far each has come.
    pub control: Arc<Shared>,
}

/// What one pass leaves to the next.
#[derive(Debug, Default)]
pub struct Memory {
    /// The network that was there.
    network: Option<ObjectReference>,
    /// When a status was last written.
    written: Option<Instant>,
    /// What was told of policies.
    told: Told,
}

/// What is to happen after a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Wait for a change.
    Wait,
    /// Look again after that time.
    Again(Duration),
}

impl Next {
    /// At the latest after that time.
    fn within(self, most: Duration) -> Self {
        match self {
            Self::Wait => Self::Again(most),
            Self::Again(after) => Self::Again(after.min(most)),
        }
    }
}

/// Makes the cluster as it should be.
///
/// # Errors
///
/// What the API server did not do. Nothing is half done that the next pass would not finish.
pub async fn reconcile(context: &Context, memory: &mut Memory) -> Result<Next, Error> {
    let Context { caches, cluster, herald, policies, control } = context;
    let mut seen = caches.seen(); //                                                   fetch;    client: no
    let mut errors = remove_gone(cluster, &seen).await; //                             remove;   client: yes
    let Some(network) = current(&seen) else {
        farewell(herald, memory).await; //                                             client: only when it went
        return Error::all(errors).map(|()| Next::Wait);
    };
    memory.network = Some(reference(&network));
    let now = Timestamp::now();
    let judgement = match accept(&network, &facts(&seen, &Pending::default())) {
        //                                                                             validate; client: no
        Err(findings) => Judgement::Refused(findings),
        Ok(intent) => {
            errors.extend(give(cluster, &intent, &mut seen).await); //                 allocate; client: only to give
            let settled = settle(&intent, &seen); //                                   resolve;  client: no
            errors.extend(publish(cluster, &seen, &settled.resolved.specs).await); //  publish;  client: yes
            let findings = lasting(settled.resolved.findings, &seen, now); //          ripen;    client: no
            let unused = settled.resolved.unused;
            Judgement::Accepted { intent: Box::new(intent), findings, unused, remarks: settled.remarks }
        }
    };
    let mut status = assess(&network, &judgement, &seen, now); //                      assess;   client: no
    let standing = control.core().standing();
    say(&mut status, (&policies.borrow(), &standing), network.metadata.generation, now);
    measure(cluster, &judgement, &status);
    let next = report(context, memory, &network, status).await; //                     status;   client: yes
    let next = if standing.pending > 0 { next.map(|next| next.within(LATE)) } else { next };
    complain(context, memory).await; //                                                client: only what is new
    Error::all(errors).and(next)
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
    let mends = |problem: &Problem| {
        matches!(problem, Problem::NothingToAdopt | Problem::NoInternalIp { .. } | Problem::NoneFound { .. })
    };
    for (name, list) in &mut findings {
        if is_young(name) {
            list.retain(|finding| !mends(&finding.problem));
        }
    }
    findings.retain(|_, list| !list.is_empty());
    findings
}

/// What is to be, as far as the caches know.
struct Settled {
    resolved: Resolved,
    remarks: Vec<Finding>,
}

fn settle(intent: &Intent, seen: &Seen) -> Settled {
    let facts = facts(seen, &Pending::default());
    let allocations = allocate(intent, &facts);
    Settled { resolved: resolve(intent, &facts, &allocations), remarks: allocations.remarks }
}

/// Gives CIDRs where some node has none or too few; otherwise the lock is not even read.
async fn give(cluster: &Cluster, intent: &Intent, seen: &mut Seen) -> Vec<Error> {
    let resolved = settle(intent, seen).resolved;
    let parts: BTreeMap<String, &Arc<NodeNetwork>> = seen.node_networks.iter().map(|n| (n.name_any(), n)).collect();
    let uids = uids(seen);
    let waits = |(name, spec): (&NodeName, &NodeSpec)| {
        let uid = uids.get(name).map(String::as_str).unwrap_or_default();
        is_due(parts.get(&name.0).map(|part| &***part), uid, spec)
    };
    if !resolved.specs.iter().any(waits) {
        return Vec::new();
    }
    match grant(cluster, intent, seen).await {
        Ok(Granted { made, errors }) => {
            let names: BTreeSet<String> = made.iter().map(ResourceExt::name_any).collect();
            seen.node_networks.retain(|network| !names.contains(&network.name_any()));
            seen.node_networks.extend(made.into_iter().map(Arc::new));
            errors
        }
        Err(error) => vec![error],
    }
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

/// How it is with policies; nothing before all of them were read: what was said before stays until then.
fn say(
    status: &mut ClusterNetworkStatus,
    (policies, standing): (&Report, &Standing),
    generation: Option<i64>,
    now: Timestamp,
) {
    if !policies.is_whole() {
        return;
    }
    for claim in [policies.claim(), standing.claim()] {
        set(&mut status.conditions, &claim, generation, now);
    }
    let since = find(&status.conditions, ConditionType::PoliciesInForce).map(|said| said.last_transition_time.clone());
    let in_force = standing.in_force(policies.complaints().map(|(id, _)| id));
    status.policies = Some(PolicyCounts::new(standing.policies, in_force, policies.complaints().len(), since));
}

/// Tells of policies that cannot be honoured in full, each on itself.
async fn complain(context: &Context, memory: &mut Memory) {
    let news = memory.told.news(&context.policies.borrow(), Instant::now());
    for (policy, news) in news {
        tracing::warn!(
            kind = policy.kind,
            namespace = policy.namespace,
            name = policy.name,
            note = news.note,
            "policy"
        );
        context.herald.tell(&policy, news).await;
    }
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
    let between = if is_of_policies(before, &status) { BETWEEN_POLICY_COUNTS } else { BETWEEN_COUNTS };
    if let Some(since) = since.filter(|since| *since < between)
        && !verdict_changed(before, &status)
    {
        return Ok(Next::Again(between.saturating_sub(since)));
    }
    context.cluster.apply_status(&status).await?;
    memory.written = Some(Instant::now());
    for news in news(before, &status) {
        tracing::info!(reason = news.reason, note = news.note, "ClusterNetwork");
        context.herald.tell(&reference(network), news).await;
    }
    Ok(Next::Wait)
}

/// Whether nothing is new but counts of policies.
fn is_of_policies(before: Option<&ClusterNetworkStatus>, after: &ClusterNetworkStatus) -> bool {
    before.is_some_and(|before| *after == ClusterNetworkStatus { policies: after.policies.clone(), ..before.clone() })
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
