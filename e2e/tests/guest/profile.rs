//! `config/samples/calico.yaml` with its own transport, IP in IP, compared row by row with `docs/profiles.md`: on the lab,
//! whose kernel need not have it, the same is done with VXLAN (`e2e/tests/scenarios/profiles`).

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;
use serde_json::Value;
use towpath_crds::ClusterNetwork;
use towpath_e2e::{
    rows::{Rows, exactly, has},
    samples::dual_stack,
};
use towpath_net::{
    allocate::allocate,
    device::IPIP,
    facts::{Facts, NodeFacts},
    family::Family,
    intent::{Draft, validate},
    resolve::resolve,
    state::NodeSpec,
    transport::Transport,
};

use crate::{
    capture::Capture,
    ground::Named,
    matrix::travelled,
    network::{Network, timed},
    node::Pod,
    probe::{self, Outside},
};

const SAMPLE: &str = include_str!("../../../config/samples/calico.yaml");
/// In no subnet of any node.
const OUTSIDE: [&str; 2] = ["192.0.2.1", "2001:db8:1::1"];

/// IPv4 as the sample has it, and what dual stack has besides.
pub fn calico_is_as_profiles_have_it() {
    timed("IPv4", || compare(SAMPLE, Family::V4, 1480));
    timed("dual stack", || compare(&dual_stack(SAMPLE), Family::V6, 1460));
}

/// The rows of one family.
fn compare(sample: &str, family: Family, mtu: usize) {
    let network = Network::make();
    for outside in OUTSIDE {
        network.wire.ip(&format!("address add {outside} dev lo"));
    }
    network.start();
    let specs = declare(&network, sample);
    // Two on the first node, so that the same node is a case too.
    let pods: Vec<_> =
        [(0, "a"), (0, "b"), (1, "c"), (2, "d")].map(|(node, name)| network.nodes[node].attach(name)).into();
    let page = Page { network: &network, specs, pods };
    let mut rows = Rows::new("calico");
    page.node_rows(&mut rows, family);
    page.tunnel_rows(&mut rows, family);
    page.pod_rows(&mut rows, family, mtu);
    page.ping_rows(&mut rows, family, Transport::Ipip);
    page.gateway_rows(&mut rows, family);
    page.outside_rows(&mut rows, family);
    declare(&network, &sample.replace("crossSubnetOnly: false", "crossSubnetOnly: true"));
    page.cross_subnet_rows(&mut rows, family);
    page.ping_rows(&mut rows, family, Transport::Direct);
    rows.finish();
    assert_eq!(network.fragments(), BTreeMap::new(), "there were fragments");
}

/// Makes nodes' parts of a file as the operator does, tells them, and waits until they are brought about.
fn declare(network: &Network, file: &str) -> Vec<NodeSpec> {
    let declared: ClusterNetwork = serde_yaml_ng::from_str(file).unwrap();
    let intent = validate(&Draft::from(&declared.spec)).unwrap();
    let of_node = |node: &crate::node::Node| {
        let addresses = node.spot.addresses().map(|address| address.addr()).into();
        (node.name(), NodeFacts { uid: node.spot.name.to_owned(), addresses, ..NodeFacts::default() })
    };
    let facts = Facts { nodes: network.nodes.iter().map(of_node).collect(), ..Facts::default() };
    let resolved = resolve(&intent, &facts, &allocate(&intent, &facts));
    assert_eq!(resolved.findings, BTreeMap::new());
    let specs: Vec<_> = network.nodes.iter().map(|node| resolved.specs[&node.name()].clone()).collect();
    network.tell_specs(&specs, &BTreeMap::new());
    network.wait(&intent.revision());
    specs
}

/// What the rows are about.
struct Page<'a> {
    network: &'a Network,
    specs: Vec<NodeSpec>,
    pods: Vec<Pod<'a>>,
}

/// Compares what a command shows with patterns of all of its lines.
fn row(rows: &mut Rows, name: &str, place: &Named, command: &str, lines: impl IntoIterator<Item = impl Into<String>>) {
    rows.row(name, command, &exactly(lines), || Ok(place.sh(command)));
}

/// Compares what a command shows with a pattern of one of its lines.
fn row_with(rows: &mut Rows, name: &str, place: &Named, command: &str, line: impl Into<String>) {
    rows.row(name, command, &has(line), || Ok(place.sh(command)));
}

/// What `ip` is told for a family, and how an address of it reads there.
fn words(family: Family) -> (&'static str, &'static str) {
    match family {
        Family::V4 => ("ip -4", "inet"),
        Family::V6 => ("ip -6", "inet6"),
    }
}

impl Page<'_> {
    fn block(&self, node: usize, family: Family) -> IpNet {
        *self.specs[node].pod_cidrs.iter().find(|block| Family::of_net(block) == family).unwrap()
    }

    fn node_address(&self, node: usize, family: Family) -> IpAddr {
        *self.specs[node].addresses.iter().find(|address| Family::of(**address) == family).unwrap()
    }

    fn address(&self, pod: usize, family: Family) -> IpAddr {
        self.pods[pod].addresses.get(family).unwrap()
    }

    fn node(&self) -> &Named {
        &self.network.nodes[0].ground
    }

    /// The node's end of a pod's pair, as the pod's end names it.
    fn veth(&self, pod: usize) -> String {
        let list = |ground: &Named, line: &str| serde_json::from_str::<Value>(&ground.sh(line)).unwrap();
        let end = list(&self.pods[pod].ground, "ip -j link show dev eth0")[0]["link_index"].clone();
        let links = list(self.node(), "ip -j link show");
        let link = links.as_array().unwrap().iter().find(|link| link["ifindex"] == end).unwrap();
        link["ifname"].as_str().unwrap().to_owned()
    }

    fn node_rows(&self, rows: &mut Rows, family: Family) {
        let (node, (ip, _)) = (self.node(), words(family));
        let block = self.block(0, family);
        let length = if family == Family::V4 { 26 } else { 122 };
        rows.note("a block of the pool", &block.to_string(), told(block.prefix_len() == length));
        for (pod, place) in [(0, 1), (1, 2)] {
            let (veth, address) = (self.veth(pod), self.address(pod, family));
            let given = family.address(towpath_net::family::bits(block.network()) + place);
            rows.note("addresses from the block's second on", &address.to_string(), told(address == given));
            let fixed = "link/ether ee:ee:ee:ee:ee:ee";
            row_with(rows, "the veth's fixed address", node, &format!("ip -o link show dev {veth}"), fixed);
            row(
                rows,
                "no address on the veth",
                node,
                &format!("{ip} -o address show dev {veth} scope global"),
                [""; 0],
            );
            let scope = if family == Family::V4 { "scope link" } else { "" };
            let route = format!("{address} dev {veth} proto 117 {scope}");
            row(rows, "a host route to the pod", node, &format!("{ip} route show {address}"), [route]);
        }
        let ends = format!("blackhole {block}");
        row(rows, "own block ends here", node, &format!("{ip} route show proto 117 type blackhole"), [ends]);
    }

    fn tunnel_rows(&self, rows: &mut Rows, family: Family) {
        let (node, (ip, inet)) = (self.node(), words(family));
        let (device, local) = (IPIP.get(family), self.node_address(0, family));
        let kind = match family {
            Family::V4 => format!("mtu 1480 link/ipip {local} ipip remote any local {local}"),
            Family::V6 => "mtu 1460 link/tunnel6 ip6tnl external".to_owned(),
        };
        row_with(rows, "tunnel device", node, &format!("ip -d -o link show dev {device}"), kind);
        let first = IpNet::from(self.block(0, family).network());
        let addresses = format!("{ip} -o address show dev {device} scope global");
        row(rows, "tunnel address", node, &addresses, [format!("{inet} {first}")]);
        for peer in [1, 2] {
            let (block, address) = (self.block(peer, family), self.node_address(peer, family));
            let route = match family {
                Family::V4 => format!("{block} via {address} dev {device} proto 117 onlink"),
                Family::V6 => format!("{block} encap ip6 src {local} dst {address} via dev {device} proto 117 onlink"),
            };
            row(rows, "a route to the peer's block", node, &format!("{ip} route show {block}"), [route]);
        }
    }

    fn pod_rows(&self, rows: &mut Rows, family: Family, mtu: usize) {
        let (pod, (ip, inet)) = (&self.pods[0].ground, words(family));
        let own = format!("{inet} {}", IpNet::from(self.address(0, family)));
        row(rows, "pod's address", pod, &format!("{ip} -o address show dev eth0 scope global"), [own]);
        let routes = format!("{ip} route show");
        match family {
            Family::V4 => {
                let lines = ["default via 169.254.1.1 dev eth0", "169.254.1.1 dev eth0 scope link"];
                row(rows, "pod's routes", pod, &routes, lines);
            }
            Family::V6 => row_with(rows, "pod's routes", pod, &routes, "default via fe80::1 dev eth0"),
        }
        row_with(rows, "pod's MTU", pod, "ip -o link show dev eth0", format!("mtu {mtu}"));
    }

    /// By how many hops pings come, and by what they travel to the node that shares a subnet.
    fn ping_rows(&self, rows: &mut Rows, family: Family, near: Transport) {
        for (to, name, ttl) in [(1, "same node", 63), (2, "same subnet", 62), (3, "other subnet", 62)] {
            let command = format!("ping -c 1 -W 2 {}", self.address(to, family));
            row_with(rows, &format!("ttl, {name}"), &self.pods[0].ground, &command, format!("ttl={ttl}"));
        }
        for (to, by) in [(2, near), (3, Transport::Ipip)] {
            let capture = Capture::of_pods(&self.network.wire, self.specs[0].pod_ranges.clone());
            let done = probe::settle(&self.pods[0], &self.pods[to], family);
            let verdict = done.and_then(|()| travelled(&capture, by));
            rows.note(
                &format!("{by} alone on the wire"),
                &format!("{family} to {}", self.address(to, family)),
                verdict,
            );
        }
    }

    /// What a pod knows of its gateway is set for good; without it the node still answers.
    fn gateway_rows(&self, rows: &mut Rows, family: Family) {
        let (pod, (ip, _)) = (&self.pods[0].ground, words(family));
        let gateway = if family == Family::V4 { "169.254.1.1" } else { "fe80::1" };
        let known = format!("{ip} neighbour show dev eth0");
        let mac = format!("{gateway} lladdr ee:ee:ee:ee:ee:ee");
        row_with(rows, "the pod knows its gateway", pod, &known, format!("{mac} PERMANENT"));
        assert_eq!(pod.sh(&format!("{ip} neighbour delete {gateway} dev eth0")), "");
        let ping = format!("ping -c 1 -W 2 {}", self.address(2, family));
        row_with(rows, "the way there without that", pod, &ping, "1 received,");
        row_with(rows, "the node answers for the gateway", pod, &known, mac);
    }

    /// `natOutgoing`.
    fn outside_rows(&self, rows: &mut Rows, family: Family) {
        let outside = Outside::open(&self.network.wire);
        let node = self.node_address(0, family);
        for to in OUTSIDE.map(|address| address.parse().unwrap()).into_iter().filter(|to| Family::of(*to) == family) {
            let seen = outside.hears(&self.pods[0], to);
            let verdict = if seen == node { Ok(()) } else { Err(format!("{seen}, not {node}")) };
            rows.note("the outside sees the node", &to.to_string(), verdict);
        }
    }

    fn cross_subnet_rows(&self, rows: &mut Rows, family: Family) {
        let (node, (ip, _)) = (self.node(), words(family));
        let [near, far] = [1, 2].map(|peer| self.block(peer, family));
        let plain = format!("{near} via {} dev eth0 proto 117", self.node_address(1, family));
        row(rows, "near: plain", node, &format!("{ip} route show {near}"), [plain]);
        let tunnel = format!("{far} dev {} proto 117", IPIP.get(family));
        row(rows, "far: by tunnel", node, &format!("{ip} route show {far}"), [tunnel]);
    }
}

fn told(right: bool) -> Result<(), String> {
    if right { Ok(()) } else { Err("it is another".to_owned()) }
}
