//! What sets have of each node.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::networks::is_covered;
use super::tunnels::{self, Pair, Shape};
use crate::family::Family;
use crate::nft::{Element, Value};
use crate::ranges::{Range, disjoint, merge};
use crate::render::vantage::Vantage;
use crate::state::{NodeName, NodeSpec, Peer};
use crate::transport::Transport;

/// Groups of hosts (RFC 1112; RFC 4291, section 2.7).
fn multicast(family: Family) -> IpNet {
    match family {
        Family::V4 => Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 4).into(),
        Family::V6 => Ipv6Net::new_assert(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8).into(),
    }
}

/// Every pod of the cluster. The CIDRs of peers stay apart, so that each comes and goes by itself; what lies in something
/// known is not there at all.
pub(super) fn pod_ranges(spec: &NodeSpec, peers: &BTreeMap<NodeName, Peer>, family: Family) -> Vec<Range> {
    let known = merge(family, spec.pod_ranges.iter().chain(&spec.pod_cidrs));
    let theirs = peers.values().flat_map(|peer| &peer.pod_cidrs).filter(|cidr| Family::of_net(cidr) == family);
    let mut all: Vec<Range> = theirs.map(Range::from).filter(|range| !is_covered(&known, range)).collect();
    all.extend(&known);
    disjoint(all)
}

/// Destinations of a family that see a pod's own address, as far as they are known without any other node.
pub(super) fn cluster_ranges(spec: &NodeSpec, family: Family) -> Vec<Range> {
    let groups = multicast(family);
    let known = spec.pod_ranges.iter().chain(&spec.pod_cidrs).chain(&spec.masquerade.excluded);
    merge(family, known.chain([&groups]))
}

/// The addresses of nodes: of all, or only of those that see the addresses of pods.
pub(super) fn nodes(
    own: &Vantage<'_>,
    peers: &BTreeMap<NodeName, Peer>,
    family: Family,
    only_near: bool,
) -> BTreeSet<Element> {
    let is_near = |peer: &Peer| own.transport_toward(peer, family) == Some(Transport::Direct);
    let theirs = peers.values().filter(|peer| !only_near || is_near(peer)).flat_map(|peer| &peer.addresses);
    let all = own.spec.addresses.iter().chain(theirs).filter(|address| Family::of(**address) == family);
    all.map(|address| Element::Key { key: vec![Value::Address(*address)], data: Vec::new() }).collect()
}

/// From where packets of peers come by tunnels, by the shape of the set.
pub(super) fn pairs(own: &Vantage<'_>, peers: &BTreeMap<NodeName, Peer>) -> BTreeMap<Shape, BTreeSet<Element>> {
    let mut pairs: BTreeMap<Shape, Vec<Element>> = BTreeMap::new();
    for Pair { shape, key } in peers.values().flat_map(|peer| tunnels::pairs(own, peer)) {
        pairs.entry(shape).or_default().push(Element::Key { key, data: Vec::new() });
    }
    pairs.into_iter().map(|(shape, elements)| (shape, elements.into_iter().collect())).collect()
}
