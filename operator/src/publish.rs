//! Writing what differs, and nothing else.

use std::collections::BTreeMap;

use futures::{StreamExt, stream};
use ipnet::IpNet;
use kube::ResourceExt;
use towpath_crds::{NodeNetwork, NodeNetworkSpec};
use towpath_net::resolve::without_new_blocks;
use towpath_net::state::{NodeName, NodeSpec};

use crate::cache::Seen;
use crate::cluster::{Cluster, Error};
use crate::facts::{by_name, owner};

/// How many requests are under way at the same time.
const AT_ONCE: usize = 16;

/// Deletes the parts of Nodes that are gone, or were deleted and made again, so that their CIDRs can be given anew.
///
/// The garbage collector would do so too, in its own time. The caches may lag behind, so the API server is asked
/// first whether the Node is really gone.
///
/// What stands in the way of one holds up no other.
pub async fn remove_gone(cluster: &Cluster, seen: &Seen) -> Vec<Error> {
    let mut requests = Vec::new();
    for network in gone(seen) {
        requests.push(remove(cluster, network));
    }
    failures(requests).await
}

async fn failures(requests: Vec<impl Future<Output = Result<(), Error>>>) -> Vec<Error> {
    let done = stream::iter(requests).buffer_unordered(AT_ONCE);
    done.filter_map(async |result| result.err()).collect().await
}

/// The parts whose Node is not among those that were seen. Pure.
fn gone(seen: &Seen) -> Vec<&NodeNetwork> {
    let nodes = by_name(&seen.nodes);
    let alive = |network: &&NodeNetwork| {
        let node = nodes.get(&network.name_any());
        node.is_some_and(|node| owner(network).is_none_or(|uid| node.uid().as_deref() == Some(uid)))
    };
    let all = seen.node_networks.iter().map(|network| &**network);
    all.filter(|network| network.metadata.deletion_timestamp.is_none() && !alive(network)).collect()
}

async fn remove(cluster: &Cluster, network: &NodeNetwork) -> Result<(), Error> {
    let name = network.name_any();
    let uid = cluster.node_uid(&name).await?;
    if uid.is_some() && owner(network).is_none_or(|owner| uid.as_deref() == Some(owner)) {
        return Ok(());
    }
    cluster.delete_node_network(network).await?;
    tracing::info!(node = name, cidrs = network.spec.pod_cidrs.join(","), "Node is gone, pod CIDRs freed");
    Ok(())
}

/// Tells every node that has a part what differs from it, but gives it no CIDR that it does not have.
///
/// What stands in the way of one holds up no other.
pub async fn publish(cluster: &Cluster, seen: &Seen, specs: &BTreeMap<NodeName, NodeSpec>) -> Vec<Error> {
    let mut requests = Vec::new();
    for stale in stale(seen, specs) {
        requests.push(tell(cluster, stale));
    }
    failures(requests).await
}

/// A part that is not what it should be.
struct Stale<'a> {
    network: &'a NodeNetwork,
    node_uid: String,
    spec: NodeNetworkSpec,
}

/// The parts that are not what they should be. Pure.
fn stale<'a>(seen: &'a Seen, specs: &BTreeMap<NodeName, NodeSpec>) -> Vec<Stale<'a>> {
    let nodes = by_name(&seen.nodes);
    let judge = |network: &'a NodeNetwork| {
        let name = network.name_any();
        let existing: Vec<IpNet> = network.spec.pod_cidrs.iter().filter_map(|text| text.parse().ok()).collect();
        let spec = without_new_blocks(specs.get(name.as_str())?.clone(), &existing);
        let spec = NodeNetworkSpec::from(&spec);
        let node_uid = nodes.get(&name)?.uid()?;
        let owner = owner(network);
        let ours = network.metadata.deletion_timestamp.is_none() && owner.is_none_or(|uid| uid == node_uid);
        let differs = network.spec != spec || owner.is_none();
        (ours && differs).then_some(Stale { network, node_uid, spec })
    };
    seen.node_networks.iter().filter_map(|network| judge(network)).collect()
}

async fn tell(cluster: &Cluster, stale: Stale<'_>) -> Result<(), Error> {
    let name = stale.network.name_any();
    cluster.apply_node_network((&name, &stale.node_uid), Some(stale.network), &stale.spec).await?;
    let draining = stale.spec.addressing.iter().flat_map(|addressing| addressing.draining.iter().flatten());
    tracing::info!(
        node = name,
        revision = stale.spec.revision,
        addresses = stale.spec.addresses.join(","),
        cidrs = stale.spec.pod_cidrs.join(","),
        draining = draining.map(String::as_str).collect::<Vec<_>>().join(","),
        "node told"
    );
    Ok(())
}
