//! What is said about the network as a whole. Pure; client: no.

mod pools;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use towpath_crds::conditions::{Claim, ConditionType, Verdict, find, is_true, set};
use towpath_crds::{ClusterNetwork, ClusterNetworkStatus, Encryption, NodeCounts, NodeNetwork, NodeNetworkStatus};
use towpath_net::intent::{Finding, Intent, Problem};
use towpath_net::state::{Attachment, NodeName};
use towpath_net::transport::Transport;

use crate::cache::Seen;
use crate::facts::{by_name, owner};

/// Why a network is not ready whose nodes say that they are not.
pub const NODES_NOT_READY: &str = "NodesNotReady";

/// How many names a message holds.
const MOST_NAMES: usize = 10;

/// What came of reading the spec.
#[derive(Clone, Debug)]
pub enum Judgement {
    /// It makes sense in this cluster.
    Accepted {
        /// What it means.
        intent: Box<Intent>,
        /// What is wrong with some nodes.
        findings: BTreeMap<NodeName, Vec<Finding>>,
        /// Exceptions that no node is under.
        unused: Vec<Finding>,
        /// What else is odd, and holds nothing up.
        remarks: Vec<Finding>,
    },
    /// It does not; nothing of it is done.
    Refused(Vec<Finding>),
}

/// What the nodes have.
struct Census<'a> {
    desired: usize,
    without: Vec<String>,
    unaddressed: Vec<String>,
    behind: Vec<String>,
    unready: Vec<(String, String)>,
    stalled: Vec<(String, String)>,
    contested: Vec<(String, String)>,
    current: Vec<&'a NodeNetwork>,
    ready: usize,
}

fn census<'a>(seen: &'a Seen, revision: Option<&str>) -> Census<'a> {
    let parts: BTreeMap<String, &NodeNetwork> = seen.node_networks.iter().map(|n| (n.name_any(), &**n)).collect();
    let mut census = Census {
        desired: seen.nodes.len(),
        without: Vec::new(),
        unaddressed: Vec::new(),
        behind: Vec::new(),
        unready: Vec::new(),
        stalled: Vec::new(),
        contested: Vec::new(),
        current: Vec::new(),
        ready: 0,
    };
    for (name, node) in by_name(&seen.nodes) {
        let part = parts.get(&name).filter(|part| owner(part).is_none_or(|uid| node.uid().as_deref() == Some(uid)));
        let Some(part) = part else {
            census.without.push(name);
            continue;
        };
        count(&mut census, name, part, revision);
    }
    census
}

fn count<'a>(census: &mut Census<'a>, name: String, part: &'a NodeNetwork, revision: Option<&str>) {
    let status = part.status.as_ref();
    let conditions = status.map(|status| status.conditions.as_slice()).unwrap_or_default();
    let says = |about| find(conditions, about).map(|c| c.message.clone()).unwrap_or_default();
    if part.spec.addresses.is_empty() {
        census.unaddressed.push(name.clone());
    }
    if status.is_some_and(|s| s.observed_revision.is_some() && s.observed_revision.as_deref() == revision) {
        census.current.push(part);
    } else {
        census.behind.push(name.clone());
    }
    if is_true(conditions, ConditionType::Stalled) {
        census.stalled.push((name.clone(), says(ConditionType::Stalled)));
    }
    if find(conditions, ConditionType::CNIUncontested).is_some_and(|c| c.status == "False") {
        census.contested.push((name.clone(), says(ConditionType::CNIUncontested)));
    }
    if is_true(conditions, ConditionType::Ready) {
        census.ready += 1;
    } else {
        census.unready.push((name, says(ConditionType::Ready)));
    }
}

/// Some names and how many more.
pub(crate) fn names<'a>(list: impl IntoIterator<Item = &'a str>) -> String {
    let all: Vec<&str> = list.into_iter().collect();
    let shown = all.iter().take(MOST_NAMES).copied().collect::<Vec<_>>().join(", ");
    match all.len().saturating_sub(MOST_NAMES) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

fn refs(list: &[String]) -> impl Iterator<Item = &str> {
    list.iter().map(String::as_str)
}

/// The same finding about many nodes is said once.
fn grouped(findings: &BTreeMap<NodeName, Vec<Finding>>) -> String {
    let mut groups: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (node, list) in findings {
        for finding in list {
            groups.entry(finding.to_string()).or_default().push(&node.0);
        }
    }
    let said = groups.iter().map(|(finding, nodes)| format!("node {}: {finding}", names(nodes.iter().copied())));
    said.collect::<Vec<_>>().join(". ")
}

/// The messages of some nodes, grouped as findings are.
fn messages(list: &[(String, String)]) -> String {
    let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (node, message) in list {
        groups.entry(message).or_default().push(node);
    }
    let say = |(message, nodes): (&&str, &Vec<&str>)| match *message {
        "" => names(nodes.iter().copied()),
        message => format!("{}: {message}", names(nodes.iter().copied())),
    };
    groups.iter().map(say).collect::<Vec<_>>().join(". ")
}

const fn reason(problem: &Problem) -> &'static str {
    match problem {
        Problem::Exhausted { .. } => "RangeExhausted",
        Problem::PoolsExhausted { .. } => "PoolsExhausted",
        Problem::NodeFull { .. } => "NodeFull",
        Problem::NoPoolSelects => "NoPoolSelects",
        Problem::NothingToAdopt => "NothingToAdopt",
        Problem::NoInternalIp { .. } => "NoInternalIP",
        Problem::NoneFound { .. } => "NoNodeAddress",
        Problem::AddressOfPods { .. } => "AddressInPodRange",
        Problem::TakenBy { .. } => "RangesOverlap",
        Problem::OutsideRange { .. } | Problem::FamilyMissing { .. } | Problem::NotAsAdopted { .. } => "RangeMismatch",
        _ => "NodeRefused",
    }
}

/// What stands in the way of readiness, the first thing first.
struct Verdicts {
    accepted: Claim,
    allocated: Claim,
    updated: Claim,
    uncontested: Claim,
    /// Somebody has to do something.
    stalled: Option<(&'static str, String)>,
    /// Nodes are not there yet.
    waiting: Option<(&'static str, String)>,
}

fn verdicts(judgement: &Judgement, census: &Census<'_>, revision: &str) -> Verdicts {
    use ConditionType::{Accepted, CIDRsAllocated, NodesUpdated};
    let updated = if census.without.is_empty() && census.behind.is_empty() {
        let message = format!("{} of {} nodes are on revision {revision}", census.current.len(), census.desired);
        Claim::new(NodesUpdated, true, "AllUpdated", message)
    } else {
        let late = names(refs(&census.without).chain(refs(&census.behind)));
        Claim::new(NodesUpdated, false, "Updating", format!("not on revision {revision} yet: {late}"))
    };
    let uncontested = uncontested(census);
    match judgement {
        Judgement::Refused(findings) => {
            let said = findings.iter().map(ToString::to_string).collect::<Vec<_>>().join(". ");
            let message = format!("{said}. The running network is left as it is");
            Verdicts {
                accepted: Claim::new(Accepted, false, "Invalid", message.clone()),
                allocated: Claim::new(
                    CIDRsAllocated,
                    Verdict::Unknown,
                    "NotAccepted",
                    "nothing is given until the spec is accepted",
                ),
                updated,
                uncontested,
                stalled: Some(("Invalid", message)),
                waiting: None,
            }
        }
        Judgement::Accepted { findings, unused, remarks, .. } => Verdicts {
            accepted: Claim::new(Accepted, true, "Valid", with("the spec makes sense in this cluster", unused)),
            allocated: allocated(findings, remarks, census),
            updated,
            uncontested,
            stalled: stalled(findings, census),
            waiting: waiting(census, revision),
        },
    }
}

/// Whether any node's agent says that another network takes pods.
fn uncontested(census: &Census<'_>) -> Claim {
    let about = ConditionType::CNIUncontested;
    if census.contested.is_empty() {
        return Claim::new(about, true, "Uncontested", "no node says that another network takes pods");
    }
    Claim::new(about, false, "NodesContested", format!("node {}", messages(&census.contested)))
}

fn allocated(findings: &BTreeMap<NodeName, Vec<Finding>>, remarks: &[Finding], census: &Census<'_>) -> Claim {
    let about = ConditionType::CIDRsAllocated;
    if let Some(first) = findings.values().flatten().next() {
        return Claim::new(about, false, reason(&first.problem), grouped(findings));
    }
    if !census.without.is_empty() {
        let message = format!("no pod CIDRs or no InternalIP yet: {}", names(refs(&census.without)));
        return Claim::new(about, false, "Allocating", message);
    }
    if !census.unaddressed.is_empty() {
        return Claim::new(about, false, "Addressing", unaddressed(census));
    }
    let all = format!("{} of {0} nodes have pod CIDRs and an address", census.desired);
    Claim::new(about, true, "AllAllocated", with(&all, remarks))
}

/// A sentence, and then what is odd.
fn with(sentence: &str, odd: &[Finding]) -> String {
    let said = std::iter::once(sentence.to_owned()).chain(odd.iter().map(ToString::to_string));
    said.collect::<Vec<_>>().join(". ")
}

fn unaddressed(census: &Census<'_>) -> String {
    format!("waiting for nodes to find their address by spec.nodeAddress: {}", names(refs(&census.unaddressed)))
}

fn stalled(findings: &BTreeMap<NodeName, Vec<Finding>>, census: &Census<'_>) -> Option<(&'static str, String)> {
    if let Some(first) = findings.values().flatten().next() {
        return Some((reason(&first.problem), grouped(findings)));
    }
    (!census.stalled.is_empty()).then(|| ("NodesStalled", format!("node {}", messages(&census.stalled))))
}

fn waiting(census: &Census<'_>, revision: &str) -> Option<(&'static str, String)> {
    if census.desired == 0 {
        return Some(("NoNodes", "the cluster has no Nodes yet".to_owned()));
    }
    let late: Vec<&str> = refs(&census.without).chain(refs(&census.behind)).collect();
    if !late.is_empty() {
        return Some(("NodesUpdating", format!("waiting for nodes to be on revision {revision}: {}", names(late))));
    }
    if !census.unaddressed.is_empty() {
        return Some(("NodesAddressing", unaddressed(census)));
    }
    let unready = || format!("waiting for nodes to be ready: {}", messages(&census.unready));
    (!census.unready.is_empty()).then(|| (NODES_NOT_READY, unready()))
}

/// The status that says it all. What was said before is kept where it stays true.
pub fn assess(network: &ClusterNetwork, judgement: &Judgement, seen: &Seen, now: Timestamp) -> ClusterNetworkStatus {
    let before = network.status.clone().unwrap_or_default();
    let revision = match judgement {
        Judgement::Accepted { intent, .. } => Some(intent.revision().0),
        Judgement::Refused(_) => before.revision.clone(),
    };
    let census = census(seen, revision.as_deref());
    let verdicts = verdicts(judgement, &census, revision.as_deref().unwrap_or("none"));
    let (pod_cidrs, pools) = match judgement {
        Judgement::Accepted { intent, .. } => pools::ranges(intent, &before.pools, seen),
        Judgement::Refused(_) => (before.pod_cidrs.clone(), before.pools.clone()),
    };
    let mut conditions = before.conditions;
    claim_all(&mut conditions, verdicts, network.metadata.generation, now);
    let statuses = || census.current.iter().filter_map(|part| part.status.as_ref());
    ClusterNetworkStatus {
        observed_generation: network.metadata.generation,
        conditions,
        revision,
        transport: several(Transport::ALL, statuses().flat_map(crosses)),
        encryption: encryption(statuses().filter_map(|status| status.encryption)),
        attachment: several(Attachment::ALL, census.current.iter().map(|part| part.spec.attachment.into())),
        mtu: statuses().filter_map(|status| status.mtu).min(),
        pod_cidrs,
        pools,
        nodes: Some(NodeCounts::new(census.desired, census.current.len(), census.ready)),
        policies: before.policies,
    }
}

/// By what packets leave a node: one text, or some with commas.
fn crosses(status: &NodeNetworkStatus) -> Vec<Transport> {
    let text = status.transport.as_deref().unwrap_or_default();
    Transport::ALL.into_iter().filter(|mode| text.split(',').any(|name| name == mode.to_string())).collect()
}

/// Those of `all` that are in use, in one text; nothing where none is.
fn several<T: PartialEq + ToString>(all: impl IntoIterator<Item = T>, used: impl Iterator<Item = T>) -> Option<String> {
    let used: Vec<T> = used.collect();
    let names: Vec<String> = all.into_iter().filter(|one| used.contains(one)).map(|one| one.to_string()).collect();
    (!names.is_empty()).then(|| names.join(","))
}

/// What nodes that differ come to together.
fn encryption(mut nodes: impl Iterator<Item = Encryption>) -> Option<Encryption> {
    let first = nodes.next()?;
    Some(if nodes.all(|other| other == first) { first } else { Encryption::Partial })
}

fn claim_all(conditions: &mut Vec<Condition>, verdicts: Verdicts, generation: Option<i64>, now: Timestamp) {
    use ConditionType::{Ready, Reconciling, Stalled};
    let Verdicts { accepted, allocated, updated, uncontested, stalled, waiting } = verdicts;
    let fine = || ("NetworkReady", updated.message.clone() + " and ready");
    let (reason, message) = stalled.clone().or_else(|| waiting.clone()).unwrap_or_else(fine);
    let is_stalled = stalled.is_some();
    let is_waiting = !is_stalled && waiting.is_some();
    let ready = !is_stalled && !is_waiting;
    let only_if = |so: bool| if so { message.clone() } else { String::new() };
    let claims = [
        Claim::new(Ready, ready, reason, message.clone()),
        Claim::new(Reconciling, is_waiting, reason, only_if(is_waiting)),
        Claim::new(Stalled, is_stalled, reason, only_if(is_stalled)),
        accepted,
        allocated,
        updated.clone(),
        uncontested,
    ];
    for claim in &claims {
        set(conditions, claim, generation, now);
    }
}
