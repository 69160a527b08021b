//! What pods have on the node.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::{Obstacle, lease_elements};
use crate::device::BRIDGE;
use crate::family::{Family, host_net};
use crate::lease::{Lease, NODE_LINK_LOCAL, Phase};
use crate::link_name::LinkName;
use crate::observed::{Address, Desired, Forwarding, Link, Neighbour, Station, Target};
use crate::pick::gateway;
use crate::state::{Attachment, NodeSpec, NodeState};

/// Whether a pod is a port of the bridge.
pub fn is_bridged(lease: &Lease) -> bool {
    lease.mode == Attachment::Bridge
}

/// Whether the node has a bridge: for new pods, or for those that are there.
pub fn has_bridge(state: &NodeState, leases: &[Lease]) -> bool {
    state.spec.attachment == Attachment::Bridge || leases.iter().any(is_bridged)
}

/// Renders what the node has of a pod.
pub fn render_lease(lease: &Lease, desired: &mut Desired) {
    if is_bridged(lease) && lease.phase != Phase::Leaving {
        // Also while ADD is at it: it sets them itself, and what is not wanted here would go.
        let known = |address| (Neighbour { link: BRIDGE.into(), address }, lease.macs().pod);
        desired.neighbours.extend(lease.addresses.iter().map(|leased| known(leased.address.addr())));
    }
    if lease.phase != Phase::Ready {
        let elements = lease_elements(lease).into_iter();
        desired.tolerated.extend(elements.map(|(set, element)| (set.to_owned(), element)));
        return;
    }
    let (link, bridged) = (LinkName::from(lease.host_interface.as_str()), is_bridged(lease));
    desired.links.insert(lease.host_interface.clone(), Link { up: true, mtu: lease.mtu, bridged });
    if let Some(shaper) = lease.shaper() {
        desired.links.insert(shaper, Link { up: true, mtu: lease.mtu, bridged: false });
    }
    if bridged {
        let station = Station { link, mac: lease.macs().pod };
        desired.stations.insert(station, Forwarding::Port);
        return;
    }
    let held = lease.node_addresses().into_iter().map(|address| Address { link, address });
    desired.addresses.extend(held);
    for leased in &lease.addresses {
        desired.routes.insert(leased.host(), Target::Link { link });
    }
}

/// Renders what leads to the bridge: the gateway of each block, and the block itself.
pub fn render_bridge(spec: &NodeSpec, leases: &[Lease], desired: &mut Desired) {
    let on_bridge = |address| Address { link: BRIDGE.into(), address };
    // Where pods had no gateway in their block, one may have that address; while it has, no other pod is on the bridge.
    let is_pods =
        |address| leases.iter().flat_map(|lease| &lease.addresses).any(|leased| leased.address.addr() == address);
    let mut has_ipv6 = false;
    for block in blocks(spec, leases) {
        if let Ok(address) = IpNet::new(gateway(&block), block.prefix_len())
            && !is_pods(address.addr())
        {
            desired.addresses.insert(on_bridge(address));
        }
        has_ipv6 |= Family::of_net(&block) == Family::V6;
        desired.routes.insert(block, Target::Link { link: BRIDGE.into() });
    }
    if has_ipv6 {
        desired.addresses.insert(on_bridge(host_net(NODE_LINK_LOCAL.into())));
    }
}

/// The blocks that pods on the bridge have their addresses of, those that were taken from the node among them.
fn blocks(spec: &NodeSpec, leases: &[Lease]) -> BTreeSet<IpNet> {
    let new = spec.pod_cidrs.iter().filter(|_| spec.attachment == Attachment::Bridge).copied();
    let held = leases.iter().filter(|lease| is_bridged(lease)).flat_map(|lease| &lease.addresses);
    new.chain(held.map(|leased| leased.address.trunc())).collect()
}

/// CIDRs that are not this node's any more, and that pods have addresses of. What these pods have on the node stays.
pub fn withdrawn(pod_cidrs: &[IpNet], leases: &[Lease]) -> Vec<Obstacle> {
    let mut pods: BTreeMap<IpNet, usize> = BTreeMap::new();
    for leased in leases.iter().flat_map(|lease| &lease.addresses) {
        if !pod_cidrs.iter().any(|cidr| cidr.contains(&leased.address.addr())) {
            *pods.entry(leased.address.trunc()).or_default() += 1;
        }
    }
    pods.into_iter().map(|(cidr, pods)| Obstacle::Withdrawn { cidr, pods }).collect()
}
