//! Clusters in few words, and what must be true of them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use towpath_net::lease::Protocol;
use towpath_net::policy::input::{
    Action, Block, ClusterPeer, ClusterPolicy, ClusterRule, Key, Labels, NamedPort, Namespace, NetworkPolicy, Node,
    Operator, Peer, Pod, Port, Requirement, Rule, Selector, Subject, Tier,
};
use towpath_net::state::NodeName;

use crate::differential;
use crate::world::{Packet, World};

/// A cluster, and what must be true of it.
#[derive(Default)]
pub struct Story {
    pub world: World,
}

impl Story {
    pub fn new(namespaces: &[(&str, &str)]) -> Self {
        let namespaces =
            namespaces.iter().map(|(name, text)| Namespace { name: (*name).into(), labels: labels(text) }).collect();
        let nodes = vec![node("n1", "", "192.168.0.1"), node("n2", "zone=east", "192.168.0.2")];
        Self { world: World { namespaces, nodes, ..World::default() } }
    }

    pub fn pod(mut self, name: &str, text: &str, address: &str) -> Self {
        let key = key(name);
        let addresses = vec![address.parse().unwrap()];
        let node = Some(NodeName("n1".into()));
        self.world.pods.push(Pod {
            uid: name.to_owned(),
            key,
            labels: labels(text),
            node,
            addresses,
            ports: Vec::new(),
            is_host_network: false,
            is_ended: false,
        });
        self
    }

    pub fn last(mut self, change: impl FnOnce(&mut Pod)) -> Self {
        change(self.world.pods.last_mut().unwrap());
        self
    }

    pub fn with_port(self, name: &str, protocol: Protocol, port: u16) -> Self {
        self.last(|pod| pod.ports.push(NamedPort { name: name.into(), protocol, port }))
    }

    pub fn policy(mut self, name: &str, pods: Selector, ingress: Option<Vec<Rule>>, egress: Option<Vec<Rule>>) -> Self {
        self.world.policies.push(NetworkPolicy { key: key(name), pods, ingress, egress });
        self
    }

    pub fn cluster(
        mut self,
        tier: Tier,
        priority: i32,
        subject: Subject,
        ingress: Vec<ClusterRule>,
        egress: Vec<ClusterRule>,
    ) -> Self {
        let name = format!("cnp{}", self.world.cluster_policies.len());
        self.world.cluster_policies.push(ClusterPolicy { name, tier, priority, subject, ingress, egress });
        self
    }

    pub fn address(&self, end: &str) -> IpAddr {
        let pod = self.world.pods.iter().find(|pod| pod.uid == end);
        pod.map_or_else(|| end.parse().unwrap(), |pod| pod.addresses[0])
    }

    /// Whether a connection comes about, by the naive judge and by what is tested.
    #[track_caller]
    pub fn expect(&self, rows: &[(&str, &str, Protocol, u16, bool)]) {
        for (from, to, protocol, port, passes) in rows {
            let packet = Packet {
                source: self.address(from),
                destination: self.address(to),
                protocol: protocol.number(),
                port: Some(*port),
            };
            let seen = differential::naive_flow(&self.world, &packet);
            assert_eq!(seen, *passes, "from {from} to {to}: {packet}\n{}", self.world);
            let difference = differential::all(&self.world, &[packet], 0);
            assert_eq!(difference, None, "from {from} to {to}: {packet}\n{}", self.world);
        }
    }
}

pub fn node(name: &str, text: &str, address: &str) -> Node {
    Node { name: NodeName(name.into()), labels: labels(text), addresses: vec![address.parse().unwrap()] }
}

pub fn key(name: &str) -> Key {
    let (namespace, name) = name.split_once('/').unwrap();
    Key { namespace: namespace.into(), name: name.into() }
}

/// `a=b,c=d`.
pub fn labels(text: &str) -> Labels {
    let pairs = text.split(',').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap());
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

pub fn with(text: &str) -> Selector {
    Selector { labels: labels(text), expressions: Vec::new() }
}

pub fn requires(key: &str, operator: Operator) -> Selector {
    Selector { labels: Labels::new(), expressions: vec![Requirement { key: key.into(), operator }] }
}

pub fn values(list: &[&str]) -> BTreeSet<String> {
    list.iter().map(|value| (*value).to_owned()).collect()
}

pub fn all() -> Selector {
    Selector::default()
}

pub fn own(text: &str) -> Peer {
    Peer::Pods { namespaces: None, pods: with(text) }
}

pub fn of(namespaces: &str, pods: &str) -> Peer {
    Peer::Pods { namespaces: Some(with(namespaces)), pods: with(pods) }
}

pub fn block(cidr: &str, except: &[&str]) -> Peer {
    let except = except.iter().map(|net| net.parse().unwrap()).collect();
    Peer::Block(Block { cidr: cidr.parse().unwrap(), except })
}

pub fn rule(peers: &[Peer], ports: &[Port]) -> Rule {
    Rule { peers: (!peers.is_empty()).then(|| peers.to_vec()), ports: (!ports.is_empty()).then(|| ports.to_vec()) }
}

pub fn port(protocol: Protocol, number: u16) -> Port {
    Port::Range(protocol, number, number)
}

pub fn subject(namespaces: &str) -> Subject {
    Subject { namespaces: with(namespaces), pods: all() }
}

pub fn cluster_rule(action: Action, peers: &[ClusterPeer], ports: &[Port]) -> ClusterRule {
    ClusterRule {
        name: String::new(),
        action,
        peers: peers.to_vec(),
        ports: (!ports.is_empty()).then(|| ports.to_vec()),
    }
}

pub fn pods_of(namespaces: &str) -> ClusterPeer {
    ClusterPeer::Pods(subject(namespaces))
}
