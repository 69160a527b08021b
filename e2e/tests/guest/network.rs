//! Three nodes with their agents, told what to be.

use std::{
    collections::BTreeMap,
    fs,
    sync::atomic::{AtomicU32, Ordering},
    time::Instant,
};

use towpath_net::{
    state::{NodeName, NodeSpec, Peer, Revision},
    transport::{Keys, Transport},
};

use crate::{
    ground::{Named, Spot, spots, wire},
    node::{Node, Setting},
};

/// Three nodes on one wire.
pub struct Network {
    pub nodes: Vec<Node>,
    pub wire: Named,
    revisions: AtomicU32,
}

impl Network {
    pub fn make() -> Self {
        Self::of(spots())
    }

    pub fn of(spots: [Spot; 3]) -> Self {
        let wire = wire();
        let nodes = spots.into_iter().map(|spot| Node::make(&wire, spot)).collect();
        Self { nodes, wire, revisions: AtomicU32::new(0) }
    }

    pub fn start(&self) {
        for node in &self.nodes {
            node.start();
        }
    }

    /// Tells all agents a setting, and waits until they have brought it about. Keys go from each node to its peers, as
    /// they do over the API.
    pub fn settle(&self, setting: &Setting) {
        let revision = self.tell(setting, &BTreeMap::new());
        self.wait(&revision);
        if setting.transport.prefers.contains(&Transport::WireGuard) {
            let keys = timed("  keys", || self.keys());
            let revision = self.tell(setting, &keys);
            self.wait(&revision);
        }
    }

    /// Tells all agents a setting and the keys of their peers.
    pub fn tell(&self, setting: &Setting, keys: &BTreeMap<NodeName, Keys>) -> Revision {
        let revision = Revision(format!("r{}", self.revisions.fetch_add(1, Ordering::Relaxed)));
        let specs: Vec<_> = self.nodes.iter().map(|node| setting.spec(&node.spot, &revision)).collect();
        self.tell_specs(&specs, keys);
        revision
    }

    /// Tells each agent its own part, and what it must know of the others.
    pub fn tell_specs(&self, specs: &[NodeSpec], keys: &BTreeMap<NodeName, Keys>) {
        for (own, node) in self.nodes.iter().enumerate() {
            let mut peers = BTreeMap::new();
            for (other, spec) in specs.iter().enumerate().filter(|(other, _)| *other != own) {
                // A route without a tunnel leads to neighbours alone.
                let reached = specs[own].transport.prefers != [Transport::Direct] || self.near(own, other);
                if reached {
                    let name = self.nodes[other].name();
                    let keys = keys.get(&name).copied();
                    peers.insert(name, Peer::new(spec, keys));
                }
            }
            node.tell(specs[own].clone(), peers);
        }
    }

    pub fn wait(&self, revision: &Revision) {
        for node in &self.nodes {
            node.wait_applied(revision);
        }
    }

    pub fn keys(&self) -> BTreeMap<NodeName, Keys> {
        self.nodes.iter().map(|node| (node.name(), node.keys())).collect()
    }

    /// Whether the addresses by which `b` is reached are in subnets of `a`.
    pub fn near(&self, a: usize, b: usize) -> bool {
        let addresses = self.nodes[b].spot.addresses();
        let subnets = || self.nodes[a].spot.uplinks.iter().flat_map(|uplink| uplink.addresses);
        addresses.iter().all(|address| subnets().any(|subnet| subnet.contains(&address.addr())))
    }

    /// Everything, for a test that fails.
    pub fn tell_all(&self) -> String {
        self.nodes.iter().map(Node::tell_all).collect()
    }

    /// How many fragments were made, wanted or put together, by name, on all nodes and on the wire: none, if all is
    /// well.
    pub fn fragments(&self) -> BTreeMap<String, u64> {
        let mut all = BTreeMap::new();
        for ground in self.nodes.iter().map(|node| &node.ground).chain([&self.wire]) {
            for (name, count) in ground.namespace.run(counters).unwrap() {
                *all.entry(name).or_default() += count;
            }
        }
        all
    }
}

/// Counters of fragments of the calling thread's namespace that are not zero (proc(5), RFC 1213, RFC 2465).
fn counters() -> Vec<(String, u64)> {
    let four = fs::read_to_string("/proc/thread-self/net/snmp").unwrap();
    let mut lines = four.lines().filter(|line| line.starts_with("Ip:"));
    let (names, values) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let pairs = names.split_whitespace().zip(values.split_whitespace());
    let four = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let six = fs::read_to_string("/proc/thread-self/net/snmp6").unwrap();
    let six = six.lines().filter_map(|line| line.split_once(char::is_whitespace));
    let six = six.map(|(name, value)| (name.to_owned(), value.trim().to_owned()));
    let fragments = four.chain(six).filter(|(name, _)| name.contains("Frag") || name.contains("Reasm"));
    fragments.filter_map(|(name, value)| Some((name, value.parse().ok()?))).filter(|(_, value)| *value > 0).collect()
}

/// Tells how long something took.
pub fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    println!("{what}: {:.1} s", start.elapsed().as_secs_f64());
    result
}
