//! A cluster of one node that is looked at, and all of its peers elsewhere.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use towpath_net::lease::Protocol;
use towpath_net::policy::bind::Leases;
use towpath_net::policy::bundle::Bundle;
use towpath_net::policy::compile::{Change, Compiler};
use towpath_net::policy::input::{Key, Labels, Namespace, NetworkPolicy, Peer, Pod, Port, Rule, Selector};
use towpath_net::state::NodeName;

/// How many pods the node has: what Kubernetes lets it have.
pub const PODS: usize = 110;
const NAMESPACE: &str = "load";

/// One policy, as it is also written by hand: some peers may reach one port of one pod.
pub struct Policy {
    pub pod: usize,
    pub peers: Vec<Ipv4Addr>,
    pub port: u16,
}

/// What is measured.
pub struct Scene {
    pub policies: Vec<Policy>,
    pub bundle: Bundle,
    pub leases: Leases,
    compiler: Compiler,
}

/// A pod of the node.
pub fn local(pod: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(10, 0, 0, 1).to_bits() + u32::try_from(pod).unwrap())
}

fn remote(peer: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(10, 64, 0, 1).to_bits() + u32::try_from(peer).unwrap())
}

fn labels(key: &str, value: usize) -> Labels {
    BTreeMap::from([(key.to_owned(), value.to_string())])
}

fn selector(key: &str, value: usize) -> Selector {
    Selector { labels: labels(key, value), expressions: Vec::new() }
}

fn pod(name: &str, labels: Labels, node: &str, address: Ipv4Addr) -> Pod {
    Pod {
        key: Key { namespace: NAMESPACE.into(), name: name.into() },
        uid: name.into(),
        labels,
        node: Some(NodeName::from(node)),
        addresses: vec![IpAddr::V4(address)],
        ports: Vec::new(),
        is_host_network: false,
        is_ended: false,
    }
}

impl Scene {
    /// So many policies, over so many peers, each with its own share of them; the policies of a pod are for so many ports.
    pub fn new(policies: usize, peers: usize, ports: usize) -> Self {
        let mut compiler = Compiler::default();
        let namespace = Namespace { name: NAMESPACE.into(), labels: Labels::new() };
        compiler.apply(Change::Namespace(namespace));
        let mut leases = Leases::new();
        for at in 0..PODS {
            let name = format!("pod-{at}");
            leases.insert(name.clone(), vec![local(at).into()]);
            compiler.apply(Change::Pod(pod(&name, labels("app", at), "here", local(at))));
        }
        for at in 0..peers {
            compiler.apply(Change::Pod(peer(at, at % policies.max(1))));
        }
        let mut all = Vec::new();
        for at in 0..policies {
            let port = 8000 + u16::try_from(at / PODS % ports).unwrap();
            all.push(Policy { pod: at % PODS, peers: (at..peers).step_by(policies).map(remote).collect(), port });
            compiler.apply(Change::Policy(policy(at, port)));
        }
        let bundle = compiler.subscribe(&NodeName::from("here"));
        Self { policies: all, bundle: Bundle { is_enforced: true, ..bundle }, leases, compiler }
    }

    /// A peer gets the labels of another group: what the node is told of it.
    pub fn relabel(&mut self, at: usize, group: usize) -> towpath_net::policy::bundle::Delta {
        self.compiler.apply(Change::Pod(peer(at, group)));
        self.compiler.deltas().into_iter().map(|(_, delta)| delta).next().unwrap_or_default()
    }
}

fn peer(at: usize, group: usize) -> Pod {
    pod(&format!("peer-{at}"), labels("group", group), "elsewhere", remote(at))
}

fn policy(at: usize, port: u16) -> NetworkPolicy {
    let from = Peer::Pods { namespaces: None, pods: selector("group", at) };
    let rule = Rule { peers: Some(vec![from]), ports: Some(vec![Port::Range(Protocol::Tcp, port, port)]) };
    NetworkPolicy {
        key: Key { namespace: NAMESPACE.into(), name: format!("policy-{at}") },
        pods: selector("app", at % PODS),
        ingress: Some(vec![rule]),
        egress: None,
    }
}
