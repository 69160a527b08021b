//! What sets have of each node.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::tunnels::{self, Pair};
use super::{NEAR, NODES};
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

/// Every pod of the cluster.
pub(super) fn pod_ranges(spec: &NodeSpec, peers: &BTreeMap<NodeName, Peer>, family: Family) -> Vec<Range> {
    ranges(family, spec.pod_ranges.iter().chain(&spec.pod_cidrs), peers)
}

/// Destinations of a family that see a pod's own address, but for the nodes.
pub(super) fn cluster_ranges(spec: &NodeSpec, peers: &BTreeMap<NodeName, Peer>, family: Family) -> Vec<Range> {
    let groups = multicast(family);
    let known = spec.pod_ranges.iter().chain(&spec.pod_cidrs).chain(&spec.masquerade.excluded);
    ranges(family, known.chain([&groups]), peers)
}

/// The ranges of a family that what is known and the CIDRs of all peers make up. Those of peers stay apart, so that each
/// comes and goes by itself; what lies in something known is not there at all.
fn ranges<'a>(family: Family, known: impl Iterator<Item = &'a IpNet>, peers: &BTreeMap<NodeName, Peer>) -> Vec<Range> {
    let known = merge(family, known);
    let is_covered = |range: &Range| {
        let after = known.partition_point(|one| one.first <= range.first);
        after.checked_sub(1).and_then(|at| known.get(at)).is_some_and(|one| one.covers(range))
    };
    let theirs = peers.values().flat_map(|peer| &peer.pod_cidrs).filter(|cidr| Family::of_net(cidr) == family);
    let mut all: Vec<Range> = theirs.map(Range::from).filter(|range| !is_covered(range)).collect();
    all.extend(&known);
    disjoint(all)
}

/// A node's address, as the sets of nodes have it.
pub(super) fn node_elements(address: IpAddr, is_near: bool) -> impl Iterator<Item = (String, Element)> {
    let sets = [&NODES, &NEAR].into_iter().take(if is_near { 2 } else { 1 });
    let element = Element::Key { key: vec![Value::Address(address)], data: Vec::new() };
    sets.map(move |set| ((*set.get(Family::of(address))).to_owned(), element.clone()))
}

/// What other sets have of a peer: its addresses, and from where its pods' packets come by tunnels.
pub fn peer_elements(own: &Vantage<'_>, peer: &Peer) -> BTreeSet<(String, Element)> {
    let is_near = |address| own.transport_toward(peer, Family::of(address)) == Some(Transport::Direct);
    let nodes = peer.addresses.iter().flat_map(|address| node_elements(*address, is_near(*address)));
    let pairs =
        tunnels::pairs(own, peer).map(|Pair { shape, key }| (shape.set(), Element::Key { key, data: Vec::new() }));
    nodes.chain(pairs).collect()
}
