//! A cluster as a person reads it: nearly the YAML of its objects.

use std::fmt::{self, Display};

use towpath_net::policy::input::{
    Action, Block, ClusterPeer, ClusterPolicy, ClusterRule, Labels, NetworkPolicy, Operator, Peer, Pod, Port, Rule,
    Selector, Subject,
};

use crate::world::{Packet, World};

impl Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for namespace in &self.namespaces {
            writeln!(f, "namespace {}: {{labels: {}}}", namespace.name, labels(&namespace.labels))?;
        }
        for node in &self.nodes {
            let addresses = list(&node.addresses);
            writeln!(f, "node {}: {{labels: {}, addresses: {addresses}}}", node.name, labels(&node.labels))?;
        }
        self.pods.iter().try_for_each(|pod| writeln!(f, "{}", pod_text(pod)))?;
        self.policies.iter().try_for_each(|policy| policy_text(f, policy))?;
        self.cluster_policies.iter().try_for_each(|policy| cluster_text(f, policy))
    }
}

impl Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "packet: {{from: {}, to: {}, protocol: {}", self.source, self.destination, self.protocol)?;
        if let Some(port) = self.port {
            write!(f, ", port: {port}")?;
        }
        f.write_str("}")
    }
}

fn pod_text(pod: &Pod) -> String {
    let mut fields = vec![format!("uid: {}", pod.uid)];
    fields.extend(pod.node.iter().map(|node| format!("node: {node}")));
    fields.push(format!("labels: {}, addresses: {}", labels(&pod.labels), list(&pod.addresses)));
    if !pod.ports.is_empty() {
        let ports = pod.ports.iter().map(|port| format!("{} {:?} {}", port.name, port.protocol, port.port));
        fields.push(format!("ports: {}", list(ports)));
    }
    fields.extend(pod.is_host_network.then(|| "hostNetwork: true".to_owned()));
    fields.extend(pod.is_ended.then(|| "phase: Succeeded".to_owned()));
    format!("pod {}/{}: {{{}}}", pod.key.namespace, pod.key.name, fields.join(", "))
}

fn policy_text(f: &mut fmt::Formatter<'_>, policy: &NetworkPolicy) -> fmt::Result {
    writeln!(f, "NetworkPolicy {}/{}:", policy.key.namespace, policy.key.name)?;
    writeln!(f, "  podSelector: {}", selector(&policy.pods))?;
    for (way, other_side, rules) in [("ingress", "from", &policy.ingress), ("egress", "to", &policy.egress)] {
        match rules.as_deref() {
            None => {}
            Some([]) => writeln!(f, "  {way}: []")?,
            Some(rules) => {
                writeln!(f, "  {way}:")?;
                rules.iter().try_for_each(|rule| rule_text(f, rule, other_side))?;
            }
        }
    }
    Ok(())
}

fn rule_text(f: &mut fmt::Formatter<'_>, rule: &Rule, other_side: &str) -> fmt::Result {
    let mut parts = Vec::new();
    if let Some(peers) = &rule.peers {
        let peers: Vec<String> = peers.iter().map(|peer| format!("    - {}\n", peer_text(peer))).collect();
        parts.push(format!("{other_side}:\n{}", peers.concat()));
    }
    if let Some(ports) = &rule.ports {
        parts.push(format!("ports: {}\n", list(ports.iter().map(port_text))));
    }
    entry(f, parts)
}

fn cluster_text(f: &mut fmt::Formatter<'_>, policy: &ClusterPolicy) -> fmt::Result {
    writeln!(f, "ClusterNetworkPolicy {}:", policy.name)?;
    writeln!(f, "  tier: {:?}\n  priority: {}", policy.tier, policy.priority)?;
    writeln!(f, "  subject: {}", subject(&policy.subject))?;
    for (way, other_side, rules) in [("ingress", "from", &policy.ingress), ("egress", "to", &policy.egress)] {
        if !rules.is_empty() {
            writeln!(f, "  {way}:")?;
            rules.iter().try_for_each(|rule| cluster_rule_text(f, rule, other_side))?;
        }
    }
    Ok(())
}

fn cluster_rule_text(f: &mut fmt::Formatter<'_>, rule: &ClusterRule, other_side: &str) -> fmt::Result {
    let peers: Vec<String> = rule.peers.iter().map(|peer| format!("    - {}\n", cluster_peer_text(peer))).collect();
    let action = match rule.action {
        Action::Accept => "Accept",
        Action::Deny => "Deny",
        Action::Pass => "Pass",
    };
    let mut parts = vec![format!("action: {action}\n"), format!("{other_side}:\n{}", peers.concat())];
    if let Some(ports) = &rule.ports {
        parts.push(format!("protocols: {}\n", list(ports.iter().map(port_text))));
    }
    entry(f, parts)
}

/// One entry of a list, of some fields.
fn entry(f: &mut fmt::Formatter<'_>, mut fields: Vec<String>) -> fmt::Result {
    if fields.is_empty() {
        fields.push("{}\n".to_owned());
    }
    write!(f, "  - {}", fields.join("    "))
}

fn peer_text(peer: &Peer) -> String {
    match peer {
        Peer::Pods { namespaces: None, pods } => format!("{{podSelector: {}}}", selector(pods)),
        Peer::Pods { namespaces: Some(namespaces), pods } => {
            format!("{{namespaceSelector: {}, podSelector: {}}}", selector(namespaces), selector(pods))
        }
        Peer::Block(Block { cidr, except }) => format!("{{ipBlock: {{cidr: {cidr}, except: {}}}}}", list(except)),
    }
}

fn cluster_peer_text(peer: &ClusterPeer) -> String {
    match peer {
        ClusterPeer::Pods(pods) => subject(pods),
        ClusterPeer::Nodes(nodes) => format!("{{nodes: {}}}", selector(nodes)),
        ClusterPeer::Network(net) => format!("{{networks: [{net}]}}"),
    }
}

fn port_text(port: &Port) -> String {
    match port {
        Port::All(protocol) => format!("{{protocol: {protocol:?}}}"),
        Port::Range(protocol, first, last) => format!("{{protocol: {protocol:?}, port: {first}, endPort: {last}}}"),
        Port::Named(protocol, name) => format!("{{protocol: {protocol:?}, port: {name}}}"),
        Port::NamedOfAny(name) => format!("{{destinationNamedPort: {name}}}"),
    }
}

fn subject(subject: &Subject) -> String {
    format!(
        "{{pods: {{namespaceSelector: {}, podSelector: {}}}}}",
        selector(&subject.namespaces),
        selector(&subject.pods)
    )
}

fn selector(selector: &Selector) -> String {
    let mut fields = Vec::new();
    if !selector.labels.is_empty() {
        fields.push(format!("matchLabels: {}", labels(&selector.labels)));
    }
    if !selector.expressions.is_empty() {
        let expressions = selector.expressions.iter().map(|requirement| {
            let operator = match &requirement.operator {
                Operator::In(values) => format!("In, values: {}", list(values)),
                Operator::NotIn(values) => format!("NotIn, values: {}", list(values)),
                Operator::Exists => "Exists".to_owned(),
                Operator::DoesNotExist => "DoesNotExist".to_owned(),
            };
            format!("{{key: {}, operator: {operator}}}", requirement.key)
        });
        fields.push(format!("matchExpressions: {}", list(expressions)));
    }
    format!("{{{}}}", fields.join(", "))
}

fn labels(labels: &Labels) -> String {
    let pairs: Vec<String> = labels.iter().map(|(key, value)| format!("{key}: {}", quoted(value))).collect();
    format!("{{{}}}", pairs.join(", "))
}

fn list<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| quoted(&item.to_string()).to_owned()).collect();
    format!("[{}]", items.join(", "))
}

/// An empty text would not be seen.
fn quoted(text: &str) -> &str {
    if text.is_empty() { "''" } else { text }
}
