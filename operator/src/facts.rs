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

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::grant::Promise;

    fn seen() -> Seen {
        let node = json!({
            "metadata": {"name": "n1", "uid": "new"}, "spec": {"podCIDRs": ["10.1.0.0/24"]},
            "status": {"addresses": [
                {"type": "Hostname", "address": "n1"}, {"type": "ExternalIP", "address": "192.0.2.1"},
                {"type": "InternalIP", "address": "172.30.0.1"}, {"type": "InternalIP", "address": "fd00::1"},
            ]},
        });
        let range = json!({"metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["10.96.0.0/16", "fd00:96::/112"]}});
        Seen {
            nodes: vec![Arc::new(serde_json::from_value(node).unwrap())],
            service_ranges: vec![Arc::new(serde_json::from_value(range).unwrap())],
            ..Seen::default()
        }
    }

    fn part(uid: &str) -> Arc<NodeNetwork> {
        let owner = json!({"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": uid});
        let part = json!({
            "apiVersion": "towpath.dev/v1alpha1", "kind": "NodeNetwork",
            "metadata": {"name": "n1", "ownerReferences": [owner]},
            "spec": {
                "revision": "1", "addresses": ["172.30.0.9"], "podCIDRs": ["10.2.0.0/24"], "attachment": "Routed",
                "mtu": "Auto", "transport": {"prefers": [], "accepts": []}, "masquerade": {"mode": "Off"},
            },
        });
        Arc::new(serde_json::from_value(part).unwrap())
    }

    #[test]
    fn internal_addresses_pod_cidrs_and_service_ranges_are_read() {
        let facts = facts(&seen(), &Pending::default());
        let node = &facts.nodes["n1"];
        assert_eq!(node.addresses, ["172.30.0.1", "fd00::1"].map(|a| a.parse::<IpAddr>().unwrap()));
        assert_eq!(node.pod_cidrs, ["10.1.0.0/24".parse::<IpNet>().unwrap()]);
        assert_eq!(facts.service_ranges.len(), 2);
    }

    #[test]
    fn a_part_is_of_the_very_node_or_held() {
        let mut mine = seen();
        mine.node_networks = vec![part("new")];
        let facts_of_mine = facts(&mine, &Pending::default());
        assert_eq!(facts_of_mine.nodes["n1"].existing.len(), 1);
        assert_eq!(facts_of_mine.nodes["n1"].published, ["172.30.0.9".parse::<IpAddr>().unwrap()]);
        let mut others = seen();
        others.node_networks = vec![part("old")];
        let facts_of_others = facts(&others, &Pending::default());
        assert!(facts_of_others.nodes["n1"].existing.is_empty());
        assert_eq!(facts_of_others.held[0].cidrs, ["10.2.0.0/24".parse::<IpNet>().unwrap()]);
    }

    #[test]
    fn a_promise_counts_until_it_is_published() {
        let promise = |uid: &str| {
            let cidrs = vec!["10.3.0.0/24".parse().unwrap()];
            Pending([("n1".into(), Promise { uid: uid.to_owned(), cidrs, at: Timestamp::UNIX_EPOCH })].into())
        };
        assert_eq!(facts(&seen(), &promise("new")).nodes["n1"].existing, ["10.3.0.0/24".parse::<IpNet>().unwrap()]);
        assert_eq!(facts(&seen(), &promise("old")).held.len(), 1);
        let mut published = seen();
        published.node_networks = vec![part("new")];
        let facts = facts(&published, &promise("new"));
        assert_eq!(facts.nodes["n1"].existing, ["10.2.0.0/24".parse::<IpNet>().unwrap()]);
    }
}
