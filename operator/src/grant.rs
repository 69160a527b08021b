//! Giving CIDRs to nodes that have none or too few, so that no two nodes ever have the same.
//!
//! The lock is one `ConfigMap` and its resource version:
//!
//! 1. get the lock, with what was promised and maybe not published;
//! 2. list the `NodeNetwork`s from etcd, after that;
//! 3. compute who gets what, clear of both;
//! 4. write the promises into the lock, on the condition that it is what step 1 got; a conflict ends the attempt;
//! 5. make the `NodeNetwork`s, or change them on the condition that they are what step 2 listed;
//! 6. take the promises that were kept out of the lock again, on the same kind of condition.
//!
//! Why that is safe with any number of operators that all think that they lead: between two writes of the lock that
//! succeed there is an order. The later of two operators read the lock in step 1 after the earlier wrote it in step 4,
//! so it either finds the promises there, or finds them taken out, which happens only after the `NodeNetwork`s are
//! in etcd, where the list of step 2 sees them. Whoever dies between 4 and 5 leaves a promise; the next one keeps it
//! for that very node (same uid). If the node is gone, its CIDRs stay out of use for [`QUARANTINE`], longer than any
//! request of the one who promised can still be under way. A promise to a node that has a `NodeNetwork` names the
//! version that is to be changed: once there is another version, no request that is under way can keep the promise any
//! more, and it is void. A CIDR that was freed in the meantime is only seen too late, which wastes nothing but the
//! lowest place.
//!
//! Taking CIDRs from a node needs no lock ([`crate::publish`]): it is conditional on the version that was seen, the
//! API server refuses it before the agent reported the CIDR as drained, and until the agent has seen what was done,
//! that report stays in the status and counts as a use of the CIDR.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::{StreamExt, stream};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use kube::api::ObjectMeta;
use serde::{Deserialize, Serialize};
use towpath_crds::{NodeNetwork, NodeNetworkSpec};
use towpath_net::allocate::allocate;
use towpath_net::intent::{Intent, join};
use towpath_net::resolve::resolve;
use towpath_net::state::{NodeName, NodeSpec};

use crate::cache::Seen;
use crate::cluster::{Cluster, Error};
use crate::facts::{facts, owner};

/// The name of the lock.
pub const NAME: &str = "towpath-allocation";

/// How many nodes are given CIDRs by one write of the lock: few enough for the object to stay small (12 kB).
pub const BATCH: usize = 64;

/// How many `NodeNetwork`s are made at the same time.
const AT_ONCE: usize = 16;

/// How long a promise to a node that is gone keeps its CIDRs out of use: a request lasts a minute at most
/// (`kube-apiserver --request-timeout`), and clocks may differ by some.
pub const QUARANTINE: SignedDuration = SignedDuration::from_mins(10);

const KEY: &str = "pending";

/// What was promised to one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promise {
    /// The very Node.
    pub uid: String,
    /// What it gets.
    pub cidrs: Vec<IpNet>,
    /// When it was promised, by the clock of the operator that did.
    pub at: Timestamp,
    /// The version of the `NodeNetwork` that it is added to; nothing where there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<String>,
}

/// What was promised and maybe not published yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pending(pub BTreeMap<NodeName, Promise>);

/// What one attempt writes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// All promises, old and new.
    pub pending: Pending,
    /// The parts to make.
    pub specs: BTreeMap<NodeName, NodeSpec>,
    /// Whether there are nodes that have to wait for the next attempt.
    pub more: bool,
}

/// What came of giving.
#[derive(Debug, Default)]
pub struct Granted {
    /// The parts that were made or changed, as they are now.
    pub made: Vec<NodeNetwork>,
    /// What stood in the way of others.
    pub errors: Vec<Error>,
}

/// Gives every node that has no `NodeNetwork` and can have one its CIDRs, and those that run short more of them.
///
/// # Errors
///
/// A conflict when somebody else wrote the lock: nothing was given by this attempt. What stood in the way of single
/// nodes is in the answer.
pub async fn grant(cluster: &Cluster, intent: &Intent, seen: &Seen) -> Result<Granted, Error> {
    let mut granted = Granted::default();
    let mut tried = BTreeSet::new();
    loop {
        let (lock, pending) = read(cluster).await?;
        let live = Seen { node_networks: arcs(cluster.node_networks().await?), ..seen.clone() };
        let plan = plan(intent, &live, &pending, &tried, Timestamp::now());
        if plan.specs.is_empty() && plan.pending == pending {
            return Ok(granted);
        }
        let lock = cluster.write_lock(NAME, &with(lock, &plan.pending)?).await?;
        let uids = uids(seen);
        let mut requests = Vec::with_capacity(plan.specs.len());
        for (name, spec) in &plan.specs {
            let part = live.node_networks.iter().find(|network| network.name_any() == name.0);
            requests.extend(uids.get(name).map(|uid| make(cluster, name, uid, part.map(|part| &**part), spec)));
        }
        let mut batch = Vec::with_capacity(requests.len());
        let mut done = stream::iter(requests).buffer_unordered(AT_ONCE);
        while let Some(result) = done.next().await {
            match result {
                Ok(made) => batch.push(made),
                Err(error) => granted.errors.push(error),
            }
        }
        tried.extend(plan.specs.keys().cloned());
        settle(cluster, lock, &plan, &batch).await?;
        granted.made.extend(batch);
        if !plan.more {
            return Ok(granted);
        }
    }
}

fn arcs(list: Vec<NodeNetwork>) -> Vec<Arc<NodeNetwork>> {
    list.into_iter().map(Arc::new).collect()
}

/// The uid of each Node.
pub fn uids(seen: &Seen) -> BTreeMap<NodeName, String> {
    seen.nodes.iter().map(|node| (NodeName(node.name_any()), node.uid().unwrap_or_default())).collect()
}

async fn make(
    cluster: &Cluster,
    name: &NodeName,
    uid: &str,
    seen: Option<&NodeNetwork>,
    spec: &NodeSpec,
) -> Result<NodeNetwork, Error> {
    let made = cluster.apply_node_network((&name.0, uid), seen, &NodeNetworkSpec::from(spec)).await?;
    tracing::info!(node = %name, cidrs = join(&spec.pod_cidrs), "pod CIDRs given");
    Ok(made)
}

/// Who gets what, given everything that is promised and published, but for those who were tried already. Pure.
pub fn plan(intent: &Intent, live: &Seen, pending: &Pending, tried: &BTreeSet<NodeName>, now: Timestamp) -> Plan {
    let parts: BTreeMap<String, &NodeNetwork> = live.node_networks.iter().map(|n| (n.name_any(), &**n)).collect();
    let uids = uids(live);
    let mut kept = pending.clone();
    kept.0.retain(|name, promise| {
        let node_is_there = uids.get(name) == Some(&promise.uid);
        let expired = now.duration_since(promise.at) >= QUARANTINE;
        is_open(promise, parts.get(&name.0).copied()) && (node_is_there || !expired)
    });
    let mut facts = facts(live, &kept);
    // A Node that was made again waits until the part of the old one is gone.
    facts.nodes.retain(|name, node| !node.existing.is_empty() || !parts.contains_key(&name.0));
    let resolved = resolve(intent, &facts, &allocate(intent, &facts));
    let is_due = |(name, spec): &(NodeName, NodeSpec)| {
        let uid = uids.get(name).map(String::as_str).unwrap_or_default();
        !tried.contains(name) && is_due(parts.get(&name.0).copied(), uid, spec)
    };
    let mut waiting = resolved.specs.into_iter().filter(is_due);
    let specs: BTreeMap<NodeName, NodeSpec> = waiting.by_ref().take(BATCH).collect();
    for (name, spec) in &specs {
        let part = parts.get(&name.0).copied();
        let uid = uids.get(name).cloned().unwrap_or_default();
        let promise =
            Promise { uid, cidrs: gains(part, spec), at: now, seen: part.and_then(ResourceExt::resource_version) };
        match kept.0.get(name).filter(|old| old.uid == promise.uid && old.seen == promise.seen) {
            Some(old) if promise.cidrs == old.cidrs => {}
            _ => drop(kept.0.insert(name.clone(), promise)),
        }
    }
    Plan { pending: kept, specs, more: waiting.next().is_some() }
}

/// Whether a node is to be given CIDRs, and can be: nobody else's part has its name.
pub fn is_due(part: Option<&NodeNetwork>, node_uid: &str, spec: &NodeSpec) -> bool {
    let is_its_own = |part: &NodeNetwork| {
        part.metadata.deletion_timestamp.is_none() && owner(part).is_none_or(|uid| uid == node_uid)
    };
    part.is_none_or(is_its_own) && !gains(part, spec).is_empty()
}

/// The CIDRs that a node does not have yet.
fn gains(part: Option<&NodeNetwork>, spec: &NodeSpec) -> Vec<IpNet> {
    let has = |cidr: &IpNet| part.is_some_and(|part| part.spec.pod_cidrs.contains(&cidr.to_string()));
    spec.pod_cidrs.iter().copied().filter(|cidr| !has(cidr)).collect()
}

/// Whether a promise may still be kept by the one who gave it, and was not yet.
fn is_open(promise: &Promise, part: Option<&NodeNetwork>) -> bool {
    match (&promise.seen, part) {
        (None, part) => part.is_none_or(|part| owner(part) != Some(promise.uid.as_str())),
        (Some(seen), part) => part.and_then(ResourceExt::resource_version).as_ref() == Some(seen),
    }
}

async fn read(cluster: &Cluster) -> Result<(ConfigMap, Pending), Error> {
    let lock = cluster.lock(NAME).await?.unwrap_or_else(|| ConfigMap {
        metadata: ObjectMeta { name: Some(NAME.to_owned()), ..ObjectMeta::default() },
        ..ConfigMap::default()
    });
    let text = lock.data.as_ref().and_then(|data| data.get(KEY));
    let pending = text.map_or(Ok(Pending::default()), |text| serde_json::from_str(text));
    let pending = pending.map_err(|source| Error::Lock { name: NAME, source })?;
    Ok((lock, pending))
}

fn with(mut lock: ConfigMap, pending: &Pending) -> Result<ConfigMap, Error> {
    let text = serde_json::to_string(pending).map_err(|source| Error::Lock { name: NAME, source })?;
    lock.data.get_or_insert_default().insert(KEY.to_owned(), text);
    Ok(lock)
}

/// Takes out the promises that were kept. That somebody else wrote the lock in the meantime is fine: they will do it.
async fn settle(cluster: &Cluster, lock: ConfigMap, plan: &Plan, made: &[NodeNetwork]) -> Result<(), Error> {
    let mut left = plan.pending.clone();
    for network in made {
        left.0.remove(network.name_any().as_str());
    }
    match cluster.write_lock(NAME, &with(lock, &left)?).await {
        Err(error) if !error.is_conflict() => Err(error),
        _ => Ok(()),
    }
}
