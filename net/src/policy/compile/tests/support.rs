//! Objects in few words.

use std::collections::BTreeMap;

use super::super::{Change, Compiler};
use crate::lease::Protocol;
use crate::policy::input::{
    ClusterPolicy, Key, Labels, NamedPort, Namespace, NetworkPolicy, Node, Operator, Peer, Pod, Requirement, Rule,
    Selector, Subject, Tier,
};
use crate::state::NodeName;

pub fn key(namespace: &str, name: &str) -> Key {
    Key { namespace: namespace.into(), name: name.into() }
}

/// `"app=web,tier=front"`.
pub fn labels(text: &str) -> Labels {
    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    pairs.map(|(key, value)| (key.into(), value.into())).collect()
}

pub fn namespace(name: &str, text: &str) -> Namespace {
    Namespace { name: name.into(), labels: labels(text) }
}

/// With a uid that follows from its name, on node `a`.
pub fn pod(namespace: &str, name: &str, text: &str, addresses: &[&str]) -> Pod {
    Pod {
        key: key(namespace, name),
        uid: format!("{namespace}-{name}"),
        labels: labels(text),
        node: Some("a".into()),
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        ports: Vec::new(),
        is_host_network: false,
        is_ended: false,
    }
}

pub fn node(name: &str, text: &str, addresses: &[&str]) -> Node {
    let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
    Node { name: NodeName::from(name), labels: labels(text), addresses }
}

pub fn port(name: &str, protocol: Protocol, port: u16) -> NamedPort {
    NamedPort { name: name.into(), protocol, port }
}

/// By labels alone.
pub fn selector(text: &str) -> Selector {
    Selector { labels: labels(text), expressions: Vec::new() }
}

/// By one expression alone.
pub fn expression(key: &str, operator: Operator) -> Selector {
    Selector { labels: BTreeMap::new(), expressions: vec![Requirement { key: key.into(), operator }] }
}

pub fn subject(namespaces: &str, pods: &str) -> Subject {
    Subject { namespaces: selector(namespaces), pods: selector(pods) }
}

/// Isolates for ingress what has these labels, and lets these rules through.
pub fn ingress(namespace: &str, name: &str, pods: &str, rules: Vec<Rule>) -> NetworkPolicy {
    NetworkPolicy { key: key(namespace, name), pods: selector(pods), ingress: Some(rules), egress: None }
}

pub fn from(peers: Vec<Peer>) -> Rule {
    Rule { peers: Some(peers), ports: None }
}

/// Pods of the policy's own namespace.
pub fn near(pods: &str) -> Peer {
    Peer::Pods { namespaces: None, pods: selector(pods) }
}

/// Pods of these namespaces.
pub fn far(namespaces: &str, pods: &str) -> Peer {
    Peer::Pods { namespaces: Some(selector(namespaces)), pods: selector(pods) }
}

/// Without rules.
pub fn cluster_policy(name: &str, tier: Tier, priority: i32, subject: Subject) -> ClusterPolicy {
    ClusterPolicy { name: name.into(), tier, priority, subject, ingress: Vec::new(), egress: Vec::new() }
}

/// What is left of objects behind all changes.
#[derive(Clone, Debug, Default)]
pub struct Objects(BTreeMap<(u8, String), Change>);

impl Objects {
    pub fn apply(&mut self, change: &Change) {
        let shown = |key: &Key| format!("{}/{}", key.namespace, key.name);
        let (kind, name, is_gone) = match change {
            Change::Namespace(namespace) => (0, namespace.name.clone(), false),
            Change::NamespaceGone(name) => (0, name.clone(), true),
            Change::Pod(pod) => (1, shown(&pod.key), false),
            Change::PodGone(key) => (1, shown(key), true),
            Change::Node(node) => (2, node.name.0.clone(), false),
            Change::NodeGone(name) => (2, name.0.clone(), true),
            Change::Policy(policy) => (3, shown(&policy.key), false),
            Change::PolicyGone(key) => (3, shown(key), true),
            Change::ClusterPolicy(policy) => (4, policy.name.clone(), false),
            Change::ClusterPolicyGone(name) => (4, name.clone(), true),
        };
        if is_gone {
            self.0.remove(&(kind, name))
        } else {
            self.0.insert((kind, name), change.clone())
        };
    }

    pub fn all(&self) -> Vec<Change> {
        self.0.values().cloned().collect()
    }
}

impl Compiler {
    /// How many things it keeps.
    pub fn left(&self) -> usize {
        let kept = [
            self.symbols.len(),
            self.spaces.len(),
            self.atoms.all.len(),
            self.pods.all.len(),
            self.pods.classes.len(),
            self.nodes.all.len(),
            self.nodes.groups.len(),
            self.policies.all.len(),
            self.profiles.recipes.len(),
            self.profiles.all.len(),
            self.sets.all.len(),
        ];
        kept.into_iter().sum()
    }
}
