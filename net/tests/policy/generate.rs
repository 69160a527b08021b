//! Random clusters, made so that things match: few labels, few addresses, few ports, and all of them at their borders.

#[path = "generate/packet.rs"]
mod packet;

use std::collections::BTreeSet;
use std::net::IpAddr;

use fastrand::Rng;
use ipnet::IpNet;
use towpath_net::family::{Family, bits};
use towpath_net::lease::Protocol;
use towpath_net::policy::input::{
    Action, Block, ClusterPeer, ClusterPolicy, ClusterRule, Key, Labels, NamedPort, Namespace, NetworkPolicy, Node,
    Operator, Peer, Pod, Port, Requirement, Rule, Selector, Subject, Tier,
};
use towpath_net::state::NodeName;

use crate::world::World;

use packet::ends;
pub use packet::packet;

const KEYS: [&str; 2] = ["app", "tier"];
const VALUES: [&str; 3] = ["web", "db", ""];
const NAMESPACES: [&str; 3] = ["red", "green", "blue"];
const PORT_NAMES: [&str; 3] = ["http", "dns", "metrics"];
const PORTS: [u16; 8] = [1, 53, 80, 81, 443, 8080, 32_768, 65_535];
const PROTOCOLS: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
const PRIORITIES: [i32; 6] = [i32::MIN, 0, 0, 5, 1000, i32::MAX];

/// What clusters may be like.
#[derive(Clone, Copy)]
pub struct Shape {
    /// Whether the addresses are such as packets of a real kernel can have.
    pub is_routable: bool,
    /// How many pods are on the first node: these, and no others. Anywhere, where this is nothing.
    pub slots: Option<u8>,
}

/// A random cluster with policies.
pub fn world(rng: &mut Rng, shape: Shape) -> World {
    let mut make = Maker { rng, shape };
    let nodes: Vec<Node> = (1..=make.rng.u8(1..=3)).map(|number| make.node(number)).collect();
    let names = &NAMESPACES[..make.rng.usize(1..=NAMESPACES.len())];
    let namespaces: Vec<Namespace> =
        names.iter().map(|name| Namespace { name: (*name).to_owned(), labels: make.labels() }).collect();
    let pods = (1..=make.rng.u8(2..=8)).map(|number| make.pod(number, names, &nodes)).collect();
    let mut world = World { namespaces, nodes, pods, ..World::default() };
    if !make.one_in(24) {
        world.policies = (0..make.rng.usize(0..=4)).map(|number| make.policy(number, names, &world)).collect();
        let least = usize::from(world.policies.is_empty());
        world.cluster_policies =
            (0..make.few(4).max(least)).map(|number| make.cluster_policy(number, &world)).collect();
    }
    world
}

struct Maker<'r> {
    rng: &'r mut Rng,
    shape: Shape,
}

impl Maker<'_> {
    fn one_in(&mut self, many: u32) -> bool {
        self.rng.u32(0..many) == 0
    }

    /// Zero to `most`, the small numbers more often.
    fn few(&mut self, most: usize) -> usize {
        self.rng.usize(0..=most).min(self.rng.usize(0..=most))
    }

    fn choose<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.rng.usize(..from.len())]
    }

    fn labels(&mut self) -> Labels {
        let count = self.rng.usize(0..=2);
        (0..count).map(|_| (self.choose(&KEYS).to_owned(), self.choose(&VALUES).to_owned())).collect()
    }

    fn node(&mut self, number: u8) -> Node {
        let mut addresses = vec![v4([192, 168, 0, number])];
        if self.rng.bool() {
            addresses.push(format!("fd01::{number}").parse().unwrap());
        }
        if self.one_in(6) {
            addresses.push(v4([192, 168, 1, number]));
        }
        Node { name: NodeName(format!("n{number}")), labels: self.labels(), addresses }
    }

    fn pod(&mut self, number: u8, namespaces: &[&str], nodes: &[Node]) -> Pod {
        let choice = match self.shape.slots {
            None => nodes,
            Some(slots) if number <= slots => &nodes[..1],
            Some(_) => &nodes[1.min(nodes.len() - 1)..],
        };
        let node = choice[self.rng.usize(..choice.len())].clone();
        let is_elsewhere = self.shape.slots.is_some_and(|slots| number > slots) && nodes.len() == 1;
        let is_host_network = self.one_in(10);
        let mut pod = Pod {
            key: Key { namespace: self.choose(namespaces).to_owned(), name: format!("p{number}") },
            uid: format!("u{number}"),
            labels: self.labels(),
            node: (!is_elsewhere && !self.one_in(16)).then_some(node.name),
            addresses: self.addresses(number),
            ports: Vec::new(),
            is_host_network,
            is_ended: self.one_in(12),
        };
        for _ in 0..self.few(4) {
            pod.ports.push(self.named_port());
        }
        if is_host_network {
            pod.addresses = node.addresses;
        }
        pod
    }

    /// None, one, or one of each family; some are the same as another pod's, and some have the bits of one of another
    /// family.
    fn addresses(&mut self, number: u8) -> Vec<IpAddr> {
        let number = if self.one_in(8) && !self.shape.is_routable { 1 } else { number };
        let v4 = v4([10, 0, 1, number]);
        let v6 = match self.rng.u8(0..4) {
            0 if !self.shape.is_routable => Family::V6.address(bits(v4)),
            _ => format!("fd00::1:{number:x}").parse().unwrap(),
        };
        match self.rng.u8(0..8) {
            0 => Vec::new(),
            1 => vec![v4],
            2 => vec![v6],
            3 => vec![v6, v4],
            _ => vec![v4, v6],
        }
    }

    fn named_port(&mut self) -> NamedPort {
        NamedPort {
            name: self.choose(&PORT_NAMES).to_owned(),
            protocol: self.choose(&PROTOCOLS),
            port: self.choose(&PORTS),
        }
    }

    fn selector(&mut self) -> Selector {
        let mut selector = Selector::default();
        if self.one_in(3) {
            return selector;
        }
        if !self.one_in(3) {
            selector.labels.insert(self.choose(&KEYS).to_owned(), self.choose(&VALUES).to_owned());
        }
        for _ in 0..self.few(2) {
            let values: BTreeSet<String> =
                (0..self.rng.usize(1..=2)).map(|_| self.choose(&VALUES).to_owned()).collect();
            let operator = match self.rng.u8(0..4) {
                0 => Operator::In(values),
                1 => Operator::NotIn(values),
                2 => Operator::Exists,
                _ => Operator::DoesNotExist,
            };
            selector.expressions.push(Requirement { key: self.choose(&KEYS).to_owned(), operator });
        }
        selector
    }

    fn subject(&mut self) -> Subject {
        let pods = if self.rng.bool() { self.selector() } else { Selector::default() };
        Subject { namespaces: self.selector(), pods }
    }

    fn policy(&mut self, number: usize, namespaces: &[&str], world: &World) -> NetworkPolicy {
        let key = Key { namespace: self.choose(namespaces).to_owned(), name: format!("np{number}") };
        let pods = self.selector();
        let direction = |make: &mut Self| {
            (!make.one_in(3)).then(|| (0..make.few(3)).map(|_| make.rule(world)).collect::<Vec<Rule>>())
        };
        NetworkPolicy { key, pods, ingress: direction(self), egress: direction(self) }
    }

    fn rule(&mut self, world: &World) -> Rule {
        let peers = (!self.one_in(5)).then(|| (0..self.rng.usize(1..=3)).map(|_| self.peer(world)).collect());
        let ports = self.ports(false);
        Rule { peers, ports }
    }

    fn peer(&mut self, world: &World) -> Peer {
        if self.one_in(3) {
            return Peer::Block(self.block(world));
        }
        let namespaces = self.rng.bool().then(|| self.selector());
        Peer::Pods { namespaces, pods: self.selector() }
    }

    /// Every way of taking something from a network: nothing, a part, parts that overlap, all of it, more than it.
    fn block(&mut self, world: &World) -> Block {
        let cidr = self.network(world);
        let mut except = Vec::new();
        for _ in 0..self.few(3) {
            except.push(match self.rng.u8(0..8) {
                0 => cidr,
                1 => self.network(world),
                2 => Family::of_net(&cidr).everything(),
                3 => self.inside(cidr, 1),
                _ => {
                    let longer = self.rng.u8(0..=8);
                    self.inside(cidr, longer)
                }
            });
        }
        Block { cidr, except }
    }

    /// A part of a network with up to so many more bits.
    fn inside(&mut self, net: IpNet, longer: u8) -> IpNet {
        let length = net.prefix_len().saturating_add(longer).min(net.max_prefix_len());
        let host = u32::from(net.max_prefix_len() - net.prefix_len());
        let random = self.rng.u128(..).checked_shr(128 - host).unwrap_or(0);
        let address = Family::of_net(&net).address(bits(net.network()) | random);
        IpNet::new(address, length).unwrap()
    }

    /// Around an address that somebody has, of any length; its other bits are not always zero.
    fn network(&mut self, world: &World) -> IpNet {
        let shape = Shape { is_routable: false, ..self.shape };
        let ends = ends(world, shape);
        let address = self.choose(&ends);
        let most = Family::of(address).bits();
        let length = match self.rng.u8(0..6) {
            0 => 0,
            1 => most,
            2 => most - 1,
            3 => most - self.rng.u8(0..=8),
            4 => most / 4 * self.rng.u8(0..=3),
            _ => self.rng.u8(0..=most),
        };
        let net = IpNet::new(address, length).unwrap();
        if self.rng.bool() { net.trunc() } else { net }
    }

    fn ports(&mut self, of_cluster: bool) -> Option<Vec<Port>> {
        if self.one_in(3) {
            return None;
        }
        Some((0..self.rng.usize(1..=3)).map(|_| self.port(of_cluster)).collect())
    }

    fn port(&mut self, of_cluster: bool) -> Port {
        let protocol = self.choose(&PROTOCOLS);
        let (one, other) = (self.choose(&PORTS), self.choose(&PORTS));
        let name = if self.one_in(8) { "absent" } else { self.choose(&PORT_NAMES) };
        match self.rng.u8(0..8) {
            0 => Port::All(protocol),
            1..=3 => Port::Range(protocol, one, one),
            4 | 5 => Port::Range(protocol, one.min(other), one.max(other)),
            _ if of_cluster => Port::NamedOfAny(name.to_owned()),
            _ => Port::Named(protocol, name.to_owned()),
        }
    }

    fn cluster_policy(&mut self, number: usize, world: &World) -> ClusterPolicy {
        let mut policy = ClusterPolicy {
            name: format!("cnp{number}"),
            tier: if self.one_in(3) { Tier::Baseline } else { Tier::Admin },
            priority: self.choose(&PRIORITIES),
            subject: self.subject(),
            ingress: Vec::new(),
            egress: Vec::new(),
        };
        for _ in 0..self.few(4) {
            policy.ingress.push(self.cluster_rule(world, false));
        }
        for _ in 0..self.few(4) {
            policy.egress.push(self.cluster_rule(world, true));
        }
        policy
    }

    fn cluster_rule(&mut self, world: &World, goes_out: bool) -> ClusterRule {
        let mut peers = Vec::new();
        if !self.one_in(12) {
            for _ in 0..self.rng.usize(1..=3) {
                peers.push(self.cluster_peer(world, goes_out));
            }
        }
        let action = self.choose(&[Action::Accept, Action::Deny, Action::Pass]);
        ClusterRule { name: String::new(), action, peers, ports: self.ports(true) }
    }

    fn cluster_peer(&mut self, world: &World, goes_out: bool) -> ClusterPeer {
        match self.rng.u8(0..4) {
            0 if goes_out => ClusterPeer::Nodes(self.selector()),
            1 if goes_out => ClusterPeer::Network(self.network(world)),
            _ => ClusterPeer::Pods(self.subject()),
        }
    }
}

fn v4(octets: [u8; 4]) -> IpAddr {
    IpAddr::from(octets)
}
