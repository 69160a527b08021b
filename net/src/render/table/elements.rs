//! What sets have of each node.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::tunnels::{self, Pair};
use super::{CLUSTER, ENCRYPTED, NODES};
use crate::family::Family;
use crate::nft::{Element, Value};
use crate::ranges::{Range, disjoint, merge};
use crate::render::vantage::Vantage;
use crate::state::{NodeName, NodeSpec, Peer};

/// Groups of hosts (RFC 1112; RFC 4291, section 2.7).
fn multicast(family: Family) -> IpNet {
    match family {
        Family::V4 => Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 4).into(),
        Family::V6 => Ipv6Net::new_assert(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8).into(),
    }
}

/// Where pods are, as far as that is known without the peers.
fn pod_nets(spec: &NodeSpec) -> Vec<IpNet> {
    spec.pod_ranges.iter().chain(&spec.pod_cidrs).copied().collect()
}

/// Destinations that see a pod's own address, as far as they are known without the peers.
fn unmasked(spec: &NodeSpec) -> Vec<IpNet> {
    let mut nets = pod_nets(spec);
    nets.extend(&spec.masquerade.excluded);
    nets.extend(Family::ALL.map(multicast));
    nets
}

/// The ranges of a family that `nets` and the CIDRs of all peers make up.
fn ranges<'a>(family: Family, nets: &[IpNet], peers: impl Iterator<Item = &'a Peer>) -> Vec<Range> {
    let known = merge(family, nets);
    let theirs = peers.flat_map(|peer| &peer.pod_cidrs).filter(|cidr| Family::of_net(cidr) == family).map(Range::from);
    let mut all: Vec<Range> = theirs.filter(|range| !is_covered(&known, range)).collect();
    all.extend(known);
    disjoint(all)
}

fn is_covered(known: &[Range], range: &Range) -> bool {
    let after = known.partition_point(|one| one.first <= range.first);
    after.checked_sub(1).and_then(|at| known.get(at)).is_some_and(|one| one.covers(range))
}

/// Destinations of a family that see a pod's own address, but for the nodes.
pub(super) fn cluster_ranges(spec: &NodeSpec, peers: &BTreeMap<NodeName, Peer>, family: Family) -> Vec<Range> {
    ranges(family, &unmasked(spec), peers.values())
}

/// Every pod of the cluster.
pub(super) fn pod_ranges(spec: &NodeSpec, peers: &BTreeMap<NodeName, Peer>, family: Family) -> Vec<Range> {
    ranges(family, &pod_nets(spec), peers.values())
}

/// What interval sets have of a peer, and whether something else has a part in that.
pub fn cluster_elements(spec: &NodeSpec, peer: &Peer) -> (BTreeSet<(String, Element)>, bool) {
    let unmasked = unmasked(spec);
    let inside = |cidr: &IpNet| unmasked.iter().any(|net| cidr.contains(net));
    let entangled = peer.pod_cidrs.iter().any(inside);
    let mut elements = BTreeSet::new();
    let mut enter = |name: &str, nets: &[IpNet], family: Family| {
        let known = merge(family, nets);
        let cidrs = peer.pod_cidrs.iter().filter(|cidr| Family::of_net(cidr) == family).map(Range::from);
        let own = cidrs.filter(|range| !is_covered(&known, range)).map(Element::Range);
        elements.extend(own.map(|element| (name.to_owned(), element)));
    };
    for family in Family::ALL {
        enter(CLUSTER.get(family), &unmasked, family);
        if spec.transport.is_encrypted() {
            enter(ENCRYPTED.get(family), &pod_nets(spec), family);
        }
    }
    (elements, entangled)
}

/// A node's address, as the sets of nodes have it.
pub(super) fn node_element(address: IpAddr) -> (String, Element) {
    let key = vec![Value::Address(address)];
    ((*NODES.get(Family::of(address))).to_owned(), Element::Key { key, data: Vec::new() })
}

/// What other sets have of a peer: its addresses, and from where its pods' packets come by tunnels.
pub fn peer_elements(own: &Vantage<'_>, peer: &Peer) -> BTreeSet<(String, Element)> {
    let nodes = peer.addresses.iter().copied().map(node_element);
    let pairs =
        tunnels::pairs(own, peer).map(|Pair { shape, key }| (shape.set(), Element::Key { key, data: Vec::new() }));
    nodes.chain(pairs).collect()
}
