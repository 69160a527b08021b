//! Clusters, made up.

use std::net::{IpAddr, Ipv4Addr};

use towpath_net::lease::Protocol;
use towpath_net::policy::compile::Change;
use towpath_net::policy::input::{
    Block, Key, Labels, NamedPort, Namespace, NetworkPolicy, Node, Peer, Pod, Port, Rule, Selector,
};
use towpath_net::state::NodeName;

/// How many changes are made up before the compiler has them.
const PART: usize = 10_000;

/// A cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cluster {
    /// As large as they are said to be at most.
    Large,
    /// Very many small namespaces with several policies each (the case of Antrea's own benchmark).
    Small,
    /// One namespace whose pods are all selected by all policies (another of them).
    One,
}

impl Cluster {
    pub const ALL: [Self; 3] = [Self::Large, Self::Small, Self::One];

    pub fn name(self) -> &'static str {
        match self {
            Self::Large => "large",
            Self::Small => "small-namespaces",
            Self::One => "one-namespace",
        }
    }

    pub fn says(self) -> &'static str {
        match self {
            Self::Large => "5,000 nodes, 150,000 pods, 10,000 namespaces, 10,000 policies",
            Self::Small => "1,000 nodes, 100,000 pods, 25,000 namespaces, 75,000 policies",
            Self::One => "100 nodes, 10,000 pods, 1 namespace, 10,000 policies, each for all pods",
        }
    }

    pub fn has_bars(self) -> bool {
        self != Self::One
    }

    fn shape(self) -> Shape {
        match self {
            Self::Large => Shape { nodes: 5_000, namespaces: 10_000, pods: 15, policies: 1 },
            Self::Small => Shape { nodes: 1_000, namespaces: 25_000, pods: 4, policies: 3 },
            Self::One => Shape { nodes: 100, namespaces: 1, pods: 10_000, policies: 10_000 },
        }
    }

    pub fn nodes(self) -> Vec<NodeName> {
        (0..self.shape().nodes).map(node_name).collect()
    }

    /// Gives all objects as a watch does when it begins: kind after kind.
    pub fn for_each_part(self, mut take: impl FnMut(&'static str, Vec<Change>)) {
        let shape = self.shape();
        let all = || 0..shape.namespaces;
        let mut give = |kind, objects: &mut dyn Iterator<Item = Change>| loop {
            let part: Vec<Change> = objects.take(PART).collect();
            if part.is_empty() {
                break;
            }
            take(kind, part);
        };
        give("nodes", &mut (0..shape.nodes).map(node));
        give("namespaces", &mut all().map(|of| Change::Namespace(namespace(of))));
        give("pods", &mut all().flat_map(|of| (0..shape.pods).map(move |nth| Change::Pod(self.pod(of, nth)))));
        give(
            "policies",
            &mut all().flat_map(|of| (0..shape.policies).map(move |nth| Change::Policy(self.policy(of, nth)))),
        );
    }

    /// One pod of a namespace. Replicas are on different nodes.
    pub fn pod(self, of: u32, nth: u32) -> Pod {
        let shape = self.shape();
        let number = of * shape.pods + nth;
        let labels = match self {
            Self::Large => {
                let app = APPS[nth as usize % APPS.len()];
                text_labels(&[("app", app), ("pod-template-hash", &format!("{of:x}-{app}")), ("tier", "web")])
            }
            Self::Small => {
                let kind = if nth < 2 { ("app-1", "scale-1") } else { ("app-2", "scale-2") };
                text_labels(&[kind, ("pod", &number.to_string())])
            }
            Self::One => text_labels(&[("app", "all"), ("unique", &nth.to_string())]),
        };
        Pod {
            key: Key { namespace: namespace_name(of), name: format!("workload-7d9c5b8f6-{number:06}") },
            uid: format!("00000000-0000-4000-8000-{number:012}"),
            labels,
            node: Some(node_name(number.wrapping_mul(2_654_435_761) % shape.nodes)),
            addresses: vec![IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + number))],
            ports: vec![NamedPort { name: "http".into(), protocol: Protocol::Tcp, port: 8080 }],
            is_host_network: false,
            is_ended: false,
        }
    }

    /// One policy of a namespace.
    pub fn policy(self, of: u32, nth: u32) -> NetworkPolicy {
        let key = Key { namespace: namespace_name(of), name: format!("policy-{nth}") };
        let only = |pods: Selector, ingress: Vec<Rule>| NetworkPolicy {
            key: key.clone(),
            pods,
            ingress: Some(ingress),
            egress: None,
        };
        match self {
            Self::Large => of_tiers(key, of),
            Self::Small => match nth {
                0 => NetworkPolicy { egress: Some(Vec::new()), ..only(Selector::default(), Vec::new()) },
                1 => only(selector("app-1", "scale-1"), vec![near(selector("app-1", "scale-1"))]),
                _ => only(selector("app-2", "scale-2"), vec![near(selector("app-2", "scale-2"))]),
            },
            Self::One => only(Selector::default(), vec![near(selector("unique", &nth.to_string()))]),
        }
    }
}

struct Shape {
    nodes: u32,
    namespaces: u32,
    /// Of each namespace.
    pods: u32,
    /// Of each namespace.
    policies: u32,
}

const APPS: [&str; 3] = ["front", "api", "db"];

/// What many namespaces have: the one tier from the next, from namespaces of the same team, to the cluster's DNS, and to the
/// outside.
fn of_tiers(key: Key, of: u32) -> NetworkPolicy {
    let port = |port| Some(vec![Port::Range(Protocol::Tcp, port, port)]);
    let far = |namespaces: Selector, pods: Selector| Peer::Pods { namespaces: Some(namespaces), pods };
    let team = selector("team", &format!("team-{}", of % 500));
    let dns = far(selector("kubernetes.io/metadata.name", &namespace_name(0)), selector("app", "api"));
    let outside = Block { cidr: "0.0.0.0/0".parse().unwrap(), except: vec!["10.0.0.0/8".parse().unwrap()] };
    let tier = APPS[of as usize % 2];
    let next = APPS[of as usize % 2 + 1];
    NetworkPolicy {
        key,
        pods: selector("app", tier),
        ingress: Some(vec![
            Rule {
                peers: Some(vec![Peer::Pods { namespaces: None, pods: selector("tier", "web") }]),
                ports: port(8080),
            },
            Rule {
                peers: Some(vec![far(team, selector("app", "front"))]),
                ports: Some(vec![Port::Named(Protocol::Tcp, "http".into())]),
            },
        ]),
        egress: Some(vec![
            Rule { peers: Some(vec![Peer::Pods { namespaces: None, pods: selector("app", next) }]), ports: port(5432) },
            Rule {
                peers: Some(vec![dns]),
                ports: Some(vec![Port::Range(Protocol::Udp, 53, 53), Port::Range(Protocol::Tcp, 53, 53)]),
            },
            Rule { peers: Some(vec![Peer::Block(outside)]), ports: port(443) },
        ]),
    }
}

fn near(pods: Selector) -> Rule {
    Rule { peers: Some(vec![Peer::Pods { namespaces: None, pods }]), ports: None }
}

pub fn namespace(of: u32) -> Namespace {
    let name = namespace_name(of);
    let team = format!("team-{}", of % 500);
    Namespace { labels: text_labels(&[("kubernetes.io/metadata.name", &name), ("team", &team)]), name }
}

fn namespace_name(of: u32) -> String {
    format!("namespace-{of:05}")
}

fn node(nth: u32) -> Change {
    let name = node_name(nth);
    let labels = text_labels(&[("kubernetes.io/hostname", &name.0), ("topology.kubernetes.io/zone", "a")]);
    Change::Node(Node { name, labels, addresses: vec![IpAddr::V4(Ipv4Addr::from_bits(0xac10_0000 + nth))] })
}

fn node_name(nth: u32) -> NodeName {
    NodeName(format!("node-{nth:04}"))
}

fn selector(key: &str, value: &str) -> Selector {
    Selector { labels: text_labels(&[(key, value)]), expressions: Vec::new() }
}

fn text_labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}
