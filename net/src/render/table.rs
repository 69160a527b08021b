//! The table `inet towpath`.

mod elements;
mod fences;
mod networks;
mod senders;
mod tunnels;
mod untracked;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};

use crate::family::{Family, PerFamily, host_net};
use crate::lease::{HostPort, Lease, Phase};
use crate::nft::build::{RuleBuilder, Side, filter_chain, nat_chain};
use crate::nft::{Chain, Element, FieldType, Hook, Rule, Set, Table, Value};
use crate::ranges::{Range, merge};
use crate::state::Attachment;
use crate::state::{MasqueradeMode, NodeName, Peer};

use super::leases::is_bridged;
use super::vantage::Vantage;
use networks::{Length, Networks};
use tunnels::Shape;

pub use senders::sender_elements;

/// The name of the table; its family is `inet`.
pub const TABLE: &str = "towpath";

/// `NF_IP_PRI_RAW`: before connection tracking sees the packet.
const RAW: i32 = -300;
/// `NF_IP_PRI_FILTER`.
const FILTER: i32 = 0;
/// `NF_IP_PRI_NAT_DST` (`linux/netfilter_ipv4.h`).
const DESTINATION_NAT: i32 = -100;
/// `NF_IP_PRI_NAT_SRC`.
const SOURCE_NAT: i32 = 100;

/// The names of one family's sets.
#[derive(Clone, Copy, Debug)]
pub struct HostPortSets {
    /// `protocol . port` of any address of the node, to `address . port` of the pod.
    pub any: &'static str,
    /// `address . protocol . port`, to `address . port` of the pod.
    pub one: &'static str,
    /// `source . destination` of pods that reach themselves through a port of their node.
    pub hairpin: &'static str,
}

/// The sets that host ports are kept in: the CNI binary adds to them and takes from them.
pub const HOSTPORT_SETS: PerFamily<HostPortSets> = PerFamily {
    v4: HostPortSets { any: "hostports-v4", one: "hostports-by-address-v4", hairpin: "hairpin-v4" },
    v6: HostPortSets { any: "hostports-v6", one: "hostports-by-address-v6", hairpin: "hairpin-v6" },
};

/// This node's pods.
const PODS: PerFamily<&str> = PerFamily { v4: "pods-v4", v6: "pods-v6" };
/// Addresses of nodes, this one's among them.
const NODES: PerFamily<&str> = PerFamily { v4: "nodes-v4", v6: "nodes-v6" };
/// Those of them that see a pod's own address: this one, and others to which packets go without a tunnel. Who needs a
/// tunnel has a network between the nodes that may not carry packets with pods' addresses, and answers would come by
/// another way than the questions took.
const NEAR: PerFamily<&str> = PerFamily { v4: "near-v4", v6: "near-v6" };
/// Pods of the cluster, where what they are sent must be encrypted.
const ENCRYPTED: PerFamily<&str> = PerFamily { v4: "encrypted-v4", v6: "encrypted-v6" };
/// Destinations that see the pod's own address, but for nodes, and for pods of other nodes of which no range is declared.
const CLUSTER: PerFamily<&str> = PerFamily { v4: "cluster-v4", v6: "cluster-v6" };

/// Where programs of the node listen for each other: a host port of every address does not cover these.
const LOOPBACK: PerFamily<&str> = PerFamily { v4: "loopback-v4", v6: "loopback-v6" };

/// `127.0.0.0/8` (RFC 1122 section 3.2.1.3) or `::1` (RFC 4291 section 2.5.3).
fn loopback(family: Family) -> IpNet {
    match family {
        Family::V4 => Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8).into(),
        Family::V6 => host_net(Ipv6Addr::LOCALHOST.into()),
    }
}

/// Renders the table of a node.
pub fn render(own: &Vantage<'_>, peers: &BTreeMap<NodeName, Peer>, leases: &[Lease]) -> Table {
    let pairs = elements::pairs(own, peers);
    let shapes: BTreeSet<Shape> = pairs.keys().copied().collect();
    let cluster = PerFamily::from_fn(|family| elements::cluster_ranges(own.spec, family));
    let networks = Networks::of(peers, &cluster);
    let lengths = networks.lengths();
    let mut sets: BTreeMap<String, Set> = Family::ALL.into_iter().flat_map(|f| family_sets(own, peers, f)).collect();
    for (family, ranges) in cluster.iter() {
        sets.insert((*CLUSTER.get(family)).to_owned(), Set::of_ranges(family, ranges.clone()));
    }
    sets.extend(networks.sets());
    sets.extend(pairs.into_iter().map(|(shape, elements)| (shape.name(), Set { elements, ..shape.set() })));
    let has_bridge = own.spec.attachment == Attachment::Bridge || leases.iter().any(is_bridged);
    sets.extend(senders::sets(has_bridge));
    sets.extend(fences::ports(own).map(|set| (fences::PORTS.to_owned(), set)));
    for (name, element) in leases.iter().filter(|lease| lease.phase == Phase::Ready).flat_map(lease_elements) {
        if let Some(set) = sets.get_mut(name) {
            set.elements.insert(element);
        }
    }
    Table { flags: 0, sets, chains: chains(own, &shapes, &lengths, has_bridge) }
}

fn chains(
    own: &Vantage<'_>,
    shapes: &BTreeSet<Shape>,
    lengths: &[Length],
    has_bridge: bool,
) -> BTreeMap<String, Chain> {
    let mode = own.spec.masquerade.mode;
    let (arriving, mut chains) = tunnels::render(own, shapes);
    let (leaving, to_tunnels) = fences::to_other_nodes(own);
    let mut add = |name: &str, chain| _ = chains.insert(name.to_owned(), chain);
    // What tunnels take has no need of the guard.
    let guarding = untracked::arriving(own).into_iter().chain([senders::arriving()]).collect();
    add("guard", filter_chain(Hook::Prerouting, RAW, guarding));
    for (name, chain) in senders::chains(has_bridge) {
        add(name, chain);
    }
    let sending = untracked::leaving(own);
    if !sending.is_empty() {
        add("untracked", filter_chain(Hook::Output, RAW, sending));
    }
    add("postrouting", nat_chain(Hook::Postrouting, SOURCE_NAT, postrouting(mode, lengths)));
    add("prerouting", nat_chain(Hook::Prerouting, DESTINATION_NAT, hostport_rules(Hook::Prerouting)));
    add("output", nat_chain(Hook::Output, DESTINATION_NAT, hostport_rules(Hook::Output)));
    // What pods are kept from comes before what is accepted of nodes.
    let input: Vec<Rule> = fences::to_this_node(own).into_iter().chain(arriving).collect();
    if !input.is_empty() {
        add("input", filter_chain(Hook::Input, FILTER, input));
    }
    add("forward", filter_chain(Hook::Forward, FILTER, [fences::segments()].into_iter().chain(leaving).collect()));
    if let Some(chain) = to_tunnels {
        add(fences::TO_TUNNELS, chain);
    }
    if own.spec.transport.is_encrypted() {
        add("encrypted", filter_chain(Hook::Postrouting, FILTER, fences::encrypted()));
    }
    chains
}

/// The sets of a family that every node has.
fn family_sets(own: &Vantage<'_>, peers: &BTreeMap<NodeName, Peer>, family: Family) -> Vec<(String, Set)> {
    let spec = own.spec;
    let nodes = |name: &PerFamily<&str>, only_near| {
        let elements = elements::nodes(own, peers, family, only_near);
        ((*name.get(family)).to_owned(), Set { elements, ..Set::new(&[FieldType::Address(family)], &[]) })
    };
    let ranges = |name: &PerFamily<&str>, ranges| ((*name.get(family)).to_owned(), Set::of_ranges(family, ranges));
    let mut sets = vec![
        ranges(&PODS, merge(family, &spec.pod_cidrs)),
        ranges(&LOOPBACK, vec![Range::from(&loopback(family))]),
        nodes(&NODES, false),
        nodes(&NEAR, true),
    ];
    if spec.transport.is_encrypted() {
        sets.push(ranges(&ENCRYPTED, elements::pod_ranges(spec, peers, family)));
    }
    sets.extend(hostport_sets(family));
    sets
}

/// What a lease puts into sets: the name of the set with each element.
pub fn lease_elements(lease: &Lease) -> Vec<(&'static str, Element)> {
    let mut elements = hostport_elements(lease);
    elements.extend(sender_elements(lease));
    elements
}

/// What a lease puts into the sets of host ports: the name of the set with each element.
pub fn hostport_elements(lease: &Lease) -> Vec<(&'static str, Element)> {
    let mut elements = Vec::new();
    for leased in &lease.addresses {
        let pod = leased.address.addr();
        let family = Family::of(pod);
        let names = HOSTPORT_SETS.get(family);
        let here = lease.opened_ports().filter(|port| applies(port, family));
        let before = elements.len();
        for port in here {
            let data = vec![Value::Address(pod), Value::Port(port.container_port)];
            let mut key = vec![Value::Protocol(port.protocol), Value::Port(port.host_port)];
            let set = match port.host_ip {
                Some(address) if !address.is_unspecified() => {
                    key.insert(0, Value::Address(address));
                    names.one
                }
                _ => names.any,
            };
            elements.push((set, Element::Key { key, data }));
        }
        if elements.len() > before {
            let key = vec![Value::Address(pod); 2];
            elements.push((names.hairpin, Element::Key { key, data: Vec::new() }));
        }
    }
    elements
}

/// Whether a host port leads to the pod's address of this family: `0.0.0.0` and `::` name a family each.
fn applies(port: &HostPort, family: Family) -> bool {
    port.host_ip.is_none_or(|address| Family::of(address) == family)
}

fn hostport_sets(family: Family) -> [(String, Set); 3] {
    let names = HOSTPORT_SETS.get(family);
    let address = FieldType::Address(family);
    let port = [FieldType::Protocol, FieldType::Port];
    let pod = [address, FieldType::Port];
    [
        (names.any.to_owned(), Set::new(&port, &pod)),
        (names.one.to_owned(), Set::new(&[address, FieldType::Protocol, FieldType::Port], &pod)),
        (names.hairpin.to_owned(), Set::new(&[address, address], &[])),
    ]
}

fn postrouting(mode: MasqueradeMode, lengths: &[Length]) -> Vec<Rule> {
    let mut rules = Vec::new();
    for family in Family::ALL {
        rules.push(
            RuleBuilder::new(family, format!("{family} pods that reach themselves through a host port"))
                .destination_rewritten()
                .addresses_in(HOSTPORT_SETS.get(family).hairpin)
                .masquerade()
                .done(),
        );
        rules.push(
            RuleBuilder::new(family, format!("{family} packets from the loopback to a pod"))
                .destination_rewritten()
                .address_in(Side::Source, LOOPBACK.get(family), false)
                .address_in(Side::Destination, PODS.get(family), false)
                .masquerade()
                .done(),
        );
        if mode == MasqueradeMode::LeavingCluster {
            let leaving = RuleBuilder::new(family, format!("{family} packets of pods that leave the cluster"))
                .address_in(Side::Source, PODS.get(family), false)
                .address_in(Side::Destination, CLUSTER.get(family), true)
                .address_in(Side::Destination, NEAR.get(family), true);
            rules.push(networks::outside(leaving, family, lengths).masquerade().done());
        }
    }
    rules
}

/// What arrives by a link and names a loopback address is not rewritten: the kernel drops it as no host may send it
/// (RFC 1122, section 3.2.1.3), but only once it sees that address, and neighbours would reach what is open on the loopback.
fn hostport_rules(hook: Hook) -> Vec<Rule> {
    let mut rules = Vec::new();
    for family in Family::ALL {
        let names = HOSTPORT_SETS.get(family);
        let (what, arrives) = match hook {
            Hook::Prerouting => ("one address of the node but the loopback", true),
            Hook::Input | Hook::Forward | Hook::Output | Hook::Postrouting => ("one address of the node", false),
        };
        let one = RuleBuilder::new(family, format!("{family} ports of {what}")).to_this_node();
        let one = if arrives { one.address_in(Side::Destination, LOOPBACK.get(family), true) } else { one };
        rules.push(one.rewrite_by_address_and_port(names.one).done());
        rules.push(
            RuleBuilder::new(family, format!("{family} ports of every address of the node but the loopback"))
                .to_this_node()
                .address_in(Side::Destination, LOOPBACK.get(family), true)
                .rewrite_by_port(names.any)
                .done(),
        );
    }
    rules
}
