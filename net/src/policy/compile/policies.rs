//! Policies, with numbers in place of selectors.

use std::collections::HashMap;
use std::sync::Arc;

use super::Compiler;
use super::blocks;
use super::ids::{AtomId, GroupId, NamespaceId, PolicyId, Slab, Sym};
use super::sets::PortName;
use crate::policy::bundle::Ports;
use crate::policy::input::{self, Action, ClusterPeer, ClusterPolicy, Key, NetworkPolicy, Peer, Port, Tier};
use crate::policy::objects::Way;
use crate::ranges::Range;

/// All policies.
#[derive(Debug, Default)]
pub struct Policies {
    /// Each in one version: another version is another policy.
    pub all: Slab<PolicyId, Option<Arc<Policy>>>,
    pub cluster: HashMap<Arc<str>, PolicyId>,
    /// How many there are.
    pub count: usize,
}

/// A policy.
#[derive(Debug, PartialEq, Eq)]
pub struct Policy {
    pub subject: AtomId,
    pub body: Body,
}

/// What it says.
#[derive(Debug, PartialEq, Eq)]
pub enum Body {
    /// `NetworkPolicy`: what it lets in and out, where it isolates.
    Network { key: Arc<Key>, ingress: Option<Box<[Rule]>>, egress: Option<Box<[Rule]>> },
    /// `ClusterNetworkPolicy`.
    Cluster { name: Arc<str>, tier: Tier, priority: i32, ingress: Box<[(Action, Rule)]>, egress: Box<[(Action, Rule)]> },
}

/// Peers and ports: both must match.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// Everyone where this is nothing.
    pub peers: Option<Others>,
    /// All of all protocols where this is nothing.
    pub ports: Option<Box<[PortSpec]>>,
}

/// The other side of a rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Others {
    pub atoms: Vec<AtomId>,
    pub groups: Vec<GroupId>,
    /// Disjoint.
    pub ranges: Vec<Range>,
}

/// Ports of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PortSpec {
    Plain(Ports),
    Named(PortName),
}

impl Others {
    /// Sorts, and leaves each only once.
    fn tidied(mut self) -> Self {
        self.atoms.sort_unstable();
        self.atoms.dedup();
        self.groups.sort_unstable();
        self.groups.dedup();
        self.ranges = blocks::united(self.ranges);
        self
    }
}

impl Policy {
    fn rules(&self) -> impl Iterator<Item = &Rule> {
        let allows = Way::ALL.into_iter().filter_map(|way| self.allows(way)).flatten();
        let steps =
            [Tier::Admin, Tier::Baseline].into_iter().flat_map(|tier| Way::ALL.map(|way| self.steps(tier, way)));
        let steps = steps.flatten().map(|(_, rule)| rule);
        allows.chain(steps)
    }

    /// The names of ports that its rules have.
    fn port_names(&self) -> impl Iterator<Item = Sym> {
        let specs = self.rules().filter_map(|rule| rule.ports.as_deref()).flatten();
        specs.filter_map(|spec| match spec {
            PortSpec::Named(port) => Some(port.name),
            PortSpec::Plain(_) => None,
        })
    }

    /// Whether it has names for ports of the pods that it is for.
    fn names_own_ports(&self) -> bool {
        let has_names = |rule: &Rule| {
            let specs = rule.ports.as_deref().unwrap_or_default();
            specs.iter().any(|spec| matches!(spec, PortSpec::Named(_)))
        };
        match &self.body {
            Body::Network { ingress, .. } => ingress.iter().flatten().any(has_names),
            Body::Cluster { ingress, .. } => ingress.iter().any(|(_, rule)| has_names(rule)),
        }
    }

    /// What a `NetworkPolicy` lets through; nothing where it does not isolate.
    pub fn allows(&self, way: Way) -> Option<&[Rule]> {
        match (&self.body, way) {
            (Body::Network { ingress, .. }, Way::Ingress) => ingress.as_deref(),
            (Body::Network { egress, .. }, Way::Egress) => egress.as_deref(),
            (Body::Cluster { .. }, _) => None,
        }
    }

    /// What a `ClusterNetworkPolicy` of a tier does.
    pub fn steps(&self, tier: Tier, way: Way) -> &[(Action, Rule)] {
        match (&self.body, way) {
            (Body::Cluster { tier: own, ingress, .. }, Way::Ingress) if *own == tier => ingress,
            (Body::Cluster { tier: own, egress, .. }, Way::Egress) if *own == tier => egress,
            _ => &[],
        }
    }
}

impl Compiler {
    pub(super) fn set_policy(&mut self, policy: NetworkPolicy) {
        let namespace = self.spaces.get(&policy.key.namespace);
        let scope = self.spaces.own_scope(namespace);
        let subject = self.atom(scope, &policy.pods);
        let known = self.spaces.all[namespace].policies.get(policy.key.name.as_str()).copied();
        let mut rules = |rules: Option<&Vec<input::Rule>>| {
            rules.map(|rules| rules.iter().map(|rule| self.rule(namespace, rule)).collect::<Box<[Rule]>>())
        };
        let (ingress, egress) = (rules(policy.ingress.as_ref()), rules(policy.egress.as_ref()));
        let name: Arc<str> = policy.key.name.as_str().into();
        let body = Body::Network { key: Arc::new(policy.key), ingress, egress };
        if let Some(id) = self.replace_policy(known, Policy { subject, body }) {
            self.spaces.all[namespace].policies.insert(name, id);
        }
    }

    pub(super) fn set_cluster_policy(&mut self, policy: &ClusterPolicy) {
        let subject = self.subject(&policy.subject);
        let known = self.policies.cluster.get(policy.name.as_str()).copied();
        let mut steps = |rules: &[input::ClusterRule]| -> Box<[(Action, Rule)]> {
            rules.iter().map(|rule| (rule.action, self.cluster_rule(rule))).collect()
        };
        let (ingress, egress) = (steps(&policy.ingress), steps(&policy.egress));
        let name: Arc<str> = policy.name.as_str().into();
        let body =
            Body::Cluster { name: Arc::clone(&name), tier: policy.tier, priority: policy.priority, ingress, egress };
        if let Some(id) = self.replace_policy(known, Policy { subject, body }) {
            self.policies.cluster.insert(name, id);
        }
    }

    pub(super) fn drop_policy(&mut self, key: &Key) {
        let Some(namespace) = self.spaces.find(&key.namespace) else { return };
        if let Some(id) = self.spaces.all[namespace].policies.remove(key.name.as_str()) {
            self.remove_policy(id);
        }
        self.spaces.tidy(namespace);
    }

    pub(super) fn drop_cluster_policy(&mut self, name: &str) {
        if let Some(id) = self.policies.cluster.remove(name) {
            self.remove_policy(id);
        }
    }

    /// Puts a policy in the place of its version before. Nothing where it says the same.
    fn replace_policy(&mut self, known: Option<PolicyId>, policy: Policy) -> Option<PolicyId> {
        let before = known.and_then(|id| self.policies.all[id].as_deref());
        if before == Some(&policy) {
            policy.port_names().for_each(|name| self.symbols.release(name));
            return None;
        }
        for rule in policy.rules() {
            let peers = rule.peers.iter();
            peers.clone().flat_map(|peers| &peers.atoms).for_each(|atom| self.hold_for_policy(*atom));
            peers.flat_map(|peers| &peers.groups).for_each(|group| self.nodes.hold_group(*group));
        }
        let subject = policy.subject;
        self.hold_for_policy(subject);
        let is_naming = policy.names_own_ports();
        let id = self.policies.all.insert(Some(Arc::new(policy)));
        self.atoms.all[subject].policies.insert(id);
        self.atoms.all[subject].naming += u32::from(is_naming);
        self.atoms.renew(subject);
        self.policies.count += 1;
        if let Some(id) = known {
            self.remove_policy(id);
        }
        Some(id)
    }

    fn remove_policy(&mut self, id: PolicyId) {
        let Some(policy) = self.policies.all.remove(id) else { return };
        self.atoms.all[policy.subject].policies.remove(id);
        self.atoms.all[policy.subject].naming -= u32::from(policy.names_own_ports());
        self.atoms.renew(policy.subject);
        self.policies.count -= 1;
        self.release_for_policy(policy.subject);
        for rule in policy.rules() {
            let peers = rule.peers.iter();
            peers.clone().flat_map(|peers| &peers.atoms).for_each(|atom| self.release_for_policy(*atom));
            peers.flat_map(|peers| &peers.groups).for_each(|group| self.nodes.release_group(*group));
        }
        policy.port_names().for_each(|name| self.symbols.release(name));
    }

    fn subject(&mut self, subject: &input::Subject) -> AtomId {
        let scope = self.spaces.chosen_scope(&mut self.symbols, &subject.namespaces);
        self.atom(scope, &subject.pods)
    }

    fn rule(&mut self, namespace: NamespaceId, rule: &input::Rule) -> Rule {
        let peers = rule.peers.as_ref().map(|peers| {
            let mut others = Others::default();
            for peer in peers {
                match peer {
                    Peer::Block(block) => others.ranges.extend(blocks::of_block(block)),
                    Peer::Pods { namespaces: None, pods } => {
                        let scope = self.spaces.own_scope(namespace);
                        others.atoms.push(self.atom(scope, pods));
                    }
                    Peer::Pods { namespaces: Some(namespaces), pods } => {
                        let scope = self.spaces.chosen_scope(&mut self.symbols, namespaces);
                        others.atoms.push(self.atom(scope, pods));
                    }
                }
            }
            others.tidied()
        });
        Rule { peers, ports: rule.ports.as_deref().map(|ports| self.ports(ports)) }
    }

    fn cluster_rule(&mut self, rule: &input::ClusterRule) -> Rule {
        let mut others = Others::default();
        for peer in &rule.peers {
            match peer {
                ClusterPeer::Pods(subject) => others.atoms.push(self.subject(subject)),
                ClusterPeer::Nodes(selector) => others.groups.push(self.group(selector)),
                ClusterPeer::Network(net) => others.ranges.push(blocks::of_net(net)),
            }
        }
        Rule { peers: Some(others.tidied()), ports: rule.ports.as_deref().map(|ports| self.ports(ports)) }
    }

    fn ports(&mut self, ports: &[Port]) -> Box<[PortSpec]> {
        let mut specs: Vec<PortSpec> = Vec::with_capacity(ports.len());
        for port in ports {
            specs.push(match port {
                Port::All(protocol) => PortSpec::Plain(Ports::All(*protocol)),
                Port::Range(_, first, last) if first > last => continue,
                Port::Range(protocol, first, last) => PortSpec::Plain(Ports::Range(*protocol, *first, *last)),
                Port::Named(protocol, name) => {
                    PortSpec::Named(PortName { protocol: Some(*protocol), name: self.symbols.acquire(name) })
                }
                Port::NamedOfAny(name) => {
                    PortSpec::Named(PortName { protocol: None, name: self.symbols.acquire(name) })
                }
            });
        }
        specs.into()
    }

    /// Whether a selector that a policy has may select pods of a namespace.
    pub(super) fn is_scoped(&self, namespace: NamespaceId) -> bool {
        self.spaces.all[namespace].scopes().any(|scope| self.spaces.scopes[scope].policed > 0)
    }
}
