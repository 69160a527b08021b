//! Objects in few words.

use std::collections::BTreeMap;

use super::super::{Change, Compiler};
use crate::lease::Protocol;
use crate::policy::bundle::{Bundle, Members, Ordered, Peers, Ports};
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

/// A compiler that knows these.
pub fn compiler(changes: impl IntoIterator<Item = Change>) -> Compiler {
    let mut compiler = Compiler::default();
    changes.into_iter().for_each(|change| compiler.apply(change));
    compiler
}

/// What a pod of node `a` may do, by its uid: a line for each rule.
pub fn shown(compiler: &mut Compiler, uid: &str) -> Vec<String> {
    let bundle = compiler.bundle(&"a".into());
    let Some(id) = bundle.pods[uid].profile else { return vec!["no profile".into()] };
    let profile = &bundle.profiles[&id];
    let mut lines = Vec::new();
    for (way, direction) in [("in", &profile.ingress), ("out", &profile.egress)] {
        let mut step = |tier: &str, rule: &Ordered| {
            let ports: Vec<String> = rule.ports.iter().map(|ports| shown_ports(*ports)).collect();
            let (action, peers) = (format!("{:?}", rule.action).to_lowercase(), shown_peers(&bundle, &rule.peers));
            lines.push(format!("{way} {tier} {} {action} {}: {peers}", rule.policy, ports.join(", ")));
        };
        direction.admin.iter().for_each(|rule| step("admin", rule));
        direction.baseline.iter().for_each(|rule| step("baseline", rule));
        if let Some(isolation) = &direction.isolated {
            let names: Vec<&str> = isolation.policies.iter().map(|key| key.name.as_str()).collect();
            lines.push(format!("{way} closed by {}", names.join(", ")));
            for allow in &isolation.allows {
                lines.push(format!("{way} {}: {}", shown_ports(allow.ports), shown_peers(&bundle, &allow.peers)));
            }
        }
    }
    lines
}

fn shown_ports(ports: Ports) -> String {
    match ports {
        Ports::Any => "any".into(),
        Ports::All(protocol) => format!("{protocol:?}").to_lowercase(),
        Ports::Range(protocol, first, last) if first == last => format!("{protocol:?} {first}").to_lowercase(),
        Ports::Range(protocol, first, last) => format!("{protocol:?} {first}-{last}").to_lowercase(),
        Ports::OfPeer => "named".into(),
    }
}

fn shown_peers(bundle: &Bundle, peers: &Peers) -> String {
    let Peers::In(sets) = peers else { return "anyone".into() };
    let mut all: Vec<String> = sets.iter().map(|id| shown_members(&bundle.sets[id])).collect();
    all.sort_unstable();
    all.join(" + ")
}

pub fn shown_members(members: &Members) -> String {
    let all: Vec<String> = match members {
        Members::Addresses(all) => all.iter().map(ToString::to_string).collect(),
        Members::Ports(all) => {
            all.iter().map(|p| format!("{} {:?} {}", p.address, p.protocol, p.port).to_lowercase()).collect()
        }
        Members::Ranges(all) => all.iter().map(|range| format!("{}-{}", range.first, range.last)).collect(),
    };
    if all.is_empty() { "nobody yet".into() } else { all.join(" ") }
}
