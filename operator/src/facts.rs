//! From API objects to the domain's facts. Pure; client: no.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use kube::ResourceExt;
use towpath_crds::{AddressCount, AddressFamily, NodeNetwork};
use towpath_net::PerFamily;
use towpath_net::facts::{Count, Facts, HeldCidrs, NodeFacts, Report, ServiceRange};
use towpath_net::state::NodeName;

use crate::cache::Seen;
use crate::grant::{Pending, Promise};

/// The facts of a cluster, with what was promised to nodes and is not published yet.
pub fn facts(seen: &Seen, pending: &Pending) -> Facts {
    let mut facts = Facts {
        nodes: seen.nodes.iter().map(|node| node_facts(node)).collect(),
        held: Vec::new(),
        service_ranges: seen.service_ranges.iter().flat_map(|range| service_ranges(range)).collect(),
    };
    for network in &seen.node_networks {
        let name = NodeName(network.name_any());
        let report = report(network);
        let mut all = cidrs(&network.spec.pod_cidrs);
        let node = facts.nodes.get_mut(&name).filter(|node| owner(network).is_none_or(|uid| uid == node.uid));
        if let Some(node) = node {
            let addressing = network.spec.addressing.as_ref();
            node.existing = all;
            node.draining = cidrs(addressing.iter().flat_map(|addressing| addressing.draining.iter().flatten()));
            node.published = network.spec.addresses.iter().filter_map(|text| text.parse().ok()).collect();
            node.reported = reported(network);
            node.report = report;
        } else {
            all.extend(report.drained);
            facts.held.push(HeldCidrs { by: name, cidrs: all });
        }
    }
    for (name, promise) in &pending.0 {
        give(&mut facts, name, promise);
    }
    facts
}

/// What was promised, to the Node that it was meant for, or to nobody: then it is held.
fn give(facts: &mut Facts, name: &NodeName, promise: &Promise) {
    let cidrs = promise.cidrs.clone();
    match facts.nodes.get_mut(name).filter(|node| node.uid == promise.uid) {
        Some(node) if promise.seen.is_some() => node.promised = cidrs,
        Some(node) if node.existing.is_empty() => node.existing = cidrs,
        Some(_) => {}
        None => facts.held.push(HeldCidrs { by: name.clone(), cidrs }),
    }
}

/// What a node's agent said of its addresses.
fn report(network: &NodeNetwork) -> Report {
    let Some(status) = &network.status else { return Report::default() };
    let family = |family| match family {
        towpath_net::Family::V4 => AddressFamily::IPv4,
        towpath_net::Family::V6 => AddressFamily::IPv6,
    };
    let of = |wanted: AddressFamily| status.addresses.iter().find(|count| count.family == wanted).map(count);
    Report {
        current: status.observed_generation.is_some() && status.observed_generation == network.metadata.generation,
        counts: PerFamily::from_fn(|f| of(family(f))),
        idle: cidrs(&status.idle),
        drained: cidrs(&status.drained),
    }
}

/// The addresses that a node's agent found.
fn reported(network: &NodeNetwork) -> Vec<IpAddr> {
    network.status.iter().flat_map(|status| &status.node_addresses).filter_map(|text| text.parse().ok()).collect()
}

fn count(count: &AddressCount) -> Count {
    let number = |number: i64| if number == i64::MAX { u64::MAX } else { u64::try_from(number).unwrap_or_default() };
    Count {
        capacity: number(count.capacity),
        free: number(count.free),
        wanted: number(count.wanted.unwrap_or_default()),
    }
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
        labels: node.labels().clone(),
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
            "status": {"nodeAddresses": ["192.0.2.9"]},
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
        assert_eq!(facts_of_mine.nodes["n1"].reported, ["192.0.2.9".parse::<IpAddr>().unwrap()]);
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
            Pending(
                [("n1".into(), Promise { uid: uid.to_owned(), cidrs, at: Timestamp::UNIX_EPOCH, seen: None })].into(),
            )
        };
        assert_eq!(facts(&seen(), &promise("new")).nodes["n1"].existing, ["10.3.0.0/24".parse::<IpNet>().unwrap()]);
        assert_eq!(facts(&seen(), &promise("old")).held.len(), 1);
        let mut published = seen();
        published.node_networks = vec![part("new")];
        let facts = facts(&published, &promise("new"));
        assert_eq!(facts.nodes["n1"].existing, ["10.2.0.0/24".parse::<IpNet>().unwrap()]);
    }
}
