//! Giving CIDRs to nodes that have none, so that no two nodes ever get the same.
//!
//! The lock is one `ConfigMap` and its resource version:
//!
//! 1. get the lock, with what was promised and maybe not published;
//! 2. list the `NodeNetwork`s from etcd, after that;
//! 3. compute who gets what, clear of both;
//! 4. write the promises into the lock, on the condition that it is what step 1 got; a conflict ends the attempt;
//! 5. make the `NodeNetwork`s;
//! 6. take the promises that were kept out of the lock again, on the same kind of condition.
//!
//! Why that is safe with any number of operators that all think that they lead: between two writes of the lock that
//! succeed there is an order. The later of two operators read the lock in step 1 after the earlier wrote it in step 4,
//! so it either finds the promises there, or finds them taken out, which happens only after the `NodeNetwork`s are
//! in etcd, where the list of step 2 sees them. Whoever dies between 4 and 5 leaves a promise; the next one keeps it
//! for that very node (same uid). If the node is gone, its CIDRs stay out of use for [`QUARANTINE`], longer than any
//! request of the one who promised can still be under way. A `NodeNetwork` that was freed in the meantime is only seen
//! too late, which wastes nothing but the lowest place.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use kube::api::ObjectMeta;
use serde::{Deserialize, Serialize};
use towpath_crds::{NodeNetwork, NodeNetworkSpec};
use towpath_net::allocate::allocate;
use towpath_net::intent::Intent;
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

/// Gives every node that has no `NodeNetwork` and can have one its CIDRs, and answers what was made.
///
/// # Errors
///
/// A conflict when somebody else wrote the lock: nothing was given by this attempt.
pub async fn grant(cluster: &Cluster, intent: &Intent, seen: &Seen) -> Result<Vec<NodeNetwork>, Error> {
    let mut made = Vec::new();
    loop {
        let (lock, pending) = read(cluster).await?;
        let live = Seen { node_networks: arcs(cluster.node_networks().await?), ..seen.clone() };
        let plan = plan(intent, &live, &pending, Timestamp::now());
        if plan.specs.is_empty() && plan.pending == pending {
            return Ok(made);
        }
        let lock = cluster.write_lock(NAME, &with(lock, &plan.pending)?).await?;
        let uids = uids(seen);
        let mut requests = Vec::with_capacity(plan.specs.len());
        for (name, spec) in &plan.specs {
            requests.extend(uids.get(name).map(|uid| make(cluster, name, uid, spec)));
        }
        let batch: Vec<NodeNetwork> = stream::iter(requests).buffer_unordered(AT_ONCE).try_collect().await?;
        settle(cluster, lock, &plan, &batch).await?;
        made.extend(batch);
        if !plan.more {
            return Ok(made);
        }
    }
}

fn arcs(list: Vec<NodeNetwork>) -> Vec<Arc<NodeNetwork>> {
    list.into_iter().map(Arc::new).collect()
}

fn uids(seen: &Seen) -> BTreeMap<NodeName, String> {
    seen.nodes.iter().map(|node| (NodeName(node.name_any()), node.uid().unwrap_or_default())).collect()
}

async fn make(cluster: &Cluster, name: &NodeName, uid: &str, spec: &NodeSpec) -> Result<NodeNetwork, Error> {
    let made = cluster.apply_node_network((&name.0, uid), None, &NodeNetworkSpec::from(spec)).await?;
    tracing::info!(node = %name, cidrs = ?made.spec.pod_cidrs, "pod CIDRs given");
    Ok(made)
}

/// Who gets what, given everything that is promised and published. Pure.
pub fn plan(intent: &Intent, live: &Seen, pending: &Pending, now: Timestamp) -> Plan {
    let published: BTreeSet<(String, Option<&str>)> =
        live.node_networks.iter().map(|network| (network.name_any(), owner(network))).collect();
    let names: BTreeSet<&str> = published.iter().map(|(name, _)| name.as_str()).collect();
    let uids = uids(live);
    let mut kept = pending.clone();
    kept.0.retain(|name, promise| {
        let is_published = published.contains(&(name.0.clone(), Some(promise.uid.as_str())));
        let node_is_there = uids.get(name) == Some(&promise.uid);
        !is_published && (node_is_there || now.duration_since(promise.at) < QUARANTINE)
    });
    let mut facts = facts(live, &kept);
    // A Node that was made again waits until the part of the old one is gone.
    facts.nodes.retain(|name, node| !node.existing.is_empty() || !names.contains(name.0.as_str()));
    let resolved = resolve(intent, &facts, &allocate(intent, &facts));
    let mut waiting = resolved.specs.into_iter().filter(|(name, _)| !names.contains(name.0.as_str()));
    let specs: BTreeMap<NodeName, NodeSpec> = waiting.by_ref().take(BATCH).collect();
    for (name, spec) in &specs {
        let uid = uids.get(name).cloned().unwrap_or_default();
        let promise = || Promise { uid: uid.clone(), cidrs: spec.pod_cidrs.clone(), at: now };
        let entry = kept.0.entry(name.clone()).or_insert_with(promise);
        if entry.uid != uid {
            *entry = promise();
        }
    }
    Plan { pending: kept, specs, more: waiting.next().is_some() }
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
