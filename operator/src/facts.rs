//! From API objects to the domain's facts. Pure; client: no.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use kube::ResourceExt;
use towpath_crds::NodeNetwork;
use towpath_net::facts::{Facts, HeldCidrs, NodeFacts, ServiceRange};
use towpath_net::state::NodeName;

use crate::cache::Seen;
use crate::grant::Pending;

/// The facts of a cluster, with what was promised to nodes and is not published yet.
pub fn facts(seen: &Seen, pending: &Pending) -> Facts {
    let mut facts = Facts {
        nodes: seen.nodes.iter().map(|node| node_facts(node)).collect(),
        held: Vec::new(),
        service_ranges: seen.service_ranges.iter().flat_map(|range| service_ranges(range)).collect(),
    };
    for network in &seen.node_networks {
        let name = NodeName(network.name_any());
        if let Some(node) = give(&mut facts, name, owner(network), cidrs(&network.spec.pod_cidrs)) {
            node.published = network.spec.addresses.iter().filter_map(|text| text.parse().ok()).collect();
        }
    }
    for (name, promise) in &pending.0 {
        let published = |node: &NodeFacts| node.uid == promise.uid && !node.existing.is_empty();
        if !facts.nodes.get(name).is_some_and(published) {
            give(&mut facts, name.clone(), Some(&promise.uid), promise.cidrs.clone());
        }
    }
    facts
}

/// To the Node that they were meant for, or to nobody: then they are held.
fn give<'a>(facts: &'a mut Facts, name: NodeName, owner: Option<&str>, cidrs: Vec<IpNet>) -> Option<&'a mut NodeFacts> {
    let node = facts.nodes.get_mut(&name).filter(|node| owner.is_none_or(|uid| uid == node.uid));
    if let Some(node) = node {
        node.existing = cidrs;
        return Some(node);
    }
    facts.held.push(HeldCidrs { by: name, cidrs });
    None
}

/// The uid of the Node that a part belongs to.
pub fn owner(network: &NodeNetwork) -> Option<&str> {
    network.owner_references().iter().find(|owner| owner.kind == "Node").map(|owner| owner.uid.as_str())
}

/// The Nodes by name.
pub fn by_name(nodes: &[Arc<Node>]) -> BTreeMap<String, &Arc<Node>> {
    nodes.iter().map(|node| (node.name_any(), node)).collect()
}

fn node_facts(node: &Node) -> (NodeName, NodeFacts) {
    let addresses = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
    let internal = addresses.filter(|address| address.type_ == "InternalIP");
    let facts = NodeFacts {
        uid: node.uid().unwrap_or_default(),
        addresses: internal.filter_map(|address| address.address.parse::<IpAddr>().ok()).collect(),
        pod_cidrs: cidrs(node.spec.iter().flat_map(|spec| spec.pod_cidrs.iter().flatten())),
        ..NodeFacts::default()
    };
    (NodeName(node.name_any()), facts)
}

/// CIDRs of an object that the API server has checked; what is none all the same is nobody's.
fn cidrs<'a>(texts: impl IntoIterator<Item = &'a String>) -> Vec<IpNet> {
    texts.into_iter().filter_map(|text| text.parse::<IpNet>().ok()).map(|net| net.trunc()).collect()
}

fn service_ranges(range: &ServiceCIDR) -> Vec<ServiceRange> {
    let texts = range.spec.iter().flat_map(|spec| spec.cidrs.iter().flatten());
    cidrs(texts).into_iter().map(|cidr| ServiceRange { object: range.name_any(), cidr }).collect()
}
