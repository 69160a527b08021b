//! From what a node is told to the kernel state that it should have.

mod nexthops;
mod table;

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::family::{Family, PerFamily};
use crate::lease::{Lease, Phase};
use crate::observed::{Address, Desired, Link, Nexthop, NexthopId, Subnet, Surroundings, Sysctl, Target};
use crate::state::{Mtu, NodeName, NodeState, Peer};
use crate::transport::{Keys, Transport};
use nexthops::Nexthops;

pub use table::{HOSTPORT_SETS, TABLE, hostport_elements};

/// Why a part of what was declared cannot be on this node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Obstacle {
    /// None of the node's links holds the address that the cluster knows it by.
    AddressNotHere {
        /// The address.
        address: IpAddr,
    },
    /// A peer is behind a router, which plain routes cannot cross.
    PeerNotOnLink {
        /// The peer.
        peer: NodeName,
        /// Its address.
        address: IpAddr,
    },
    /// A peer has pods of a family that it has no address of.
    PeerWithoutAddress {
        /// The peer.
        peer: NodeName,
        /// The family.
        family: Family,
    },
    /// This node and a peer have no transport in common.
    NoCommonTransport {
        /// The peer.
        peer: NodeName,
    },
    /// Pods have addresses of a CIDR that the node has no more.
    Withdrawn {
        /// The CIDR.
        cidr: IpNet,
        /// How many of them.
        pods: usize,
    },
    /// The MTU asked for is more than the uplink carries.
    MtuAboveUplink {
        /// What was asked for, in bytes.
        mtu: u32,
        /// What the uplink carries less the transport's overhead, in bytes.
        uplink: u32,
    },
}

impl std::fmt::Display for Obstacle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AddressNotHere { address } => write!(
                f,
                "no link of this node holds {address}, the address in its Node's status: let the kubelet's --node-ip name \
                 an address of a link that is up"
            ),
            Self::PeerNotOnLink { peer, address } => write!(
                f,
                "node {peer} ({address}) is in no subnet of this node: transport Direct needs nodes that share a subnet"
            ),
            Self::PeerWithoutAddress { peer, family } => write!(
                f,
                "node {peer} has {family} pods but no {family} address: give its kubelet a --node-ip of that family"
            ),
            Self::NoCommonTransport { peer } => write!(f, "node {peer} accepts no transport that this node prefers"),
            Self::Withdrawn { cidr, pods } => write!(
                f,
                "pods of this node still have addresses of {cidr} ({pods} in all), which is this node's no more: other \
                 nodes do not reach them; delete these pods, so that they come up with other addresses"
            ),
            Self::MtuAboveUplink { mtu, uplink } => write!(
                f,
                "mtu {mtu} is more than the {uplink} bytes that the uplink carries: lower spec.mtu or set it to Auto"
            ),
        }
    }
}

/// What a node should have, and what of the declared cannot be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rendered {
    /// The kernel state.
    pub desired: Desired,
    /// The MTU of new pods, in bytes; nothing while no uplink is known.
    pub mtu: Option<u32>,
    /// What cannot be.
    pub obstacles: Vec<Obstacle>,
}

/// Renders the kernel state of a node.
///
/// `keys` are the node's own, where it has any.
pub fn render(state: &NodeState, leases: &[Lease], around: &Surroundings, _keys: Option<&Keys>) -> Rendered {
    let mut rendered = Rendered::default();
    rendered.mtu = pod_mtu(state, around, &mut rendered.obstacles);
    rendered.desired.sysctls = settings_of(state, leases);
    rendered.desired.table = Some(table::render(state, leases));
    for pod_cidr in &state.spec.pod_cidrs {
        rendered.desired.routes.insert(*pod_cidr, Target::Blackhole);
    }
    let mut nexthops = Nexthops::default();
    for (name, peer) in &state.peers {
        render_peer(state, name, peer, around, &mut nexthops, &mut rendered);
    }
    rendered.obstacles.extend(withdrawn(&state.spec.pod_cidrs, leases));
    for lease in leases {
        if lease.phase == Phase::Ready {
            render_lease(lease, &mut rendered.desired);
        } else {
            let elements = hostport_elements(lease).into_iter();
            rendered.desired.tolerated.extend(elements.map(|(set, element)| (set.to_owned(), element)));
        }
    }
    rendered
}

/// The kernel state of a node that Towpath has left: settings as they were before it came.
pub fn render_nothing(sysctls_before: BTreeMap<Sysctl, String>) -> Desired {
    Desired { sysctls: sysctls_before, leaving: true, ..Desired::default() }
}

/// The uplink: the link that holds the node's own address.
pub fn uplink<'a>(state: &NodeState, around: &'a Surroundings) -> Option<&'a Subnet> {
    state.spec.addresses.iter().find_map(|address| around.holding(*address))
}

fn pod_mtu(state: &NodeState, around: &Surroundings, obstacles: &mut Vec<Obstacle>) -> Option<u32> {
    for address in &state.spec.addresses {
        if around.holding(*address).is_none() {
            obstacles.push(Obstacle::AddressNotHere { address: *address });
        }
    }
    let outer = state.spec.addresses.iter().copied().map(Family::of).max().unwrap_or(Family::V6);
    let overhead = state.spec.transport.prefers.iter().map(|transport| transport.overhead(outer)).max().unwrap_or(0);
    let carried = uplink(state, around)?.mtu.saturating_sub(overhead);
    match state.spec.mtu {
        Mtu::Auto => Some(carried),
        Mtu::Bytes(mtu) => {
            if mtu > carried {
                obstacles.push(Obstacle::MtuAboveUplink { mtu, uplink: carried });
            }
            Some(mtu.min(carried))
        }
    }
}

/// The settings that a node should have: what must be read before its state is rendered. Those of its links come and go
/// with them; only the others are the node's own, which has them back when Towpath leaves.
pub fn settings_of(state: &NodeState, _leases: &[Lease]) -> BTreeMap<Sysctl, String> {
    let present = families(state);
    let keys = PerFamily { v4: "net/ipv4/ip_forward", v6: "net/ipv6/conf/all/forwarding" };
    let wanted = Family::ALL.into_iter().filter(|family| *present.get(*family));
    wanted.map(|family| (Sysctl((*keys.get(family)).to_owned()), "1".to_owned())).collect()
}

/// The families that this node's pods have addresses of.
fn families(state: &NodeState) -> PerFamily<bool> {
    PerFamily::from_fn(|family| state.spec.pod_cidrs.iter().any(|cidr| Family::of_net(cidr) == family))
}

fn render_peer(
    state: &NodeState,
    name: &NodeName,
    peer: &Peer,
    around: &Surroundings,
    nexthops: &mut Nexthops,
    rendered: &mut Rendered,
) {
    let is_near = peer.addresses.iter().all(|address| around.reach(*address).is_some());
    let Some(transport) = state.spec.transport.toward(&peer.accepts, is_near) else {
        rendered.obstacles.push(Obstacle::NoCommonTransport { peer: name.clone() });
        return;
    };
    let addresses = PerFamily::first_of(peer.addresses.iter().copied());
    for pod_cidr in &peer.pod_cidrs {
        let family = Family::of_net(pod_cidr);
        let Some(address) = *addresses.get(family) else {
            rendered.obstacles.push(Obstacle::PeerWithoutAddress { peer: name.clone(), family });
            continue;
        };
        match target_toward(transport, address, around, nexthops) {
            Some(target) => _ = rendered.desired.routes.insert(*pod_cidr, target),
            None => rendered.obstacles.push(Obstacle::PeerNotOnLink { peer: name.clone(), address }),
        }
    }
}

/// CIDRs that are not this node's any more, and that pods have addresses of. What these pods have on the node stays.
fn withdrawn(pod_cidrs: &[IpNet], leases: &[Lease]) -> Vec<Obstacle> {
    let mut pods: BTreeMap<IpNet, usize> = BTreeMap::new();
    for leased in leases.iter().flat_map(|lease| &lease.addresses) {
        if !pod_cidrs.iter().any(|cidr| cidr.contains(&leased.address.addr())) {
            *pods.entry(leased.address.trunc()).or_default() += 1;
        }
    }
    pods.into_iter().map(|(cidr, pods)| Obstacle::Withdrawn { cidr, pods }).collect()
}

fn target_toward(
    transport: Transport,
    gateway: IpAddr,
    around: &Surroundings,
    nexthops: &mut Nexthops,
) -> Option<Target> {
    if transport != Transport::Direct {
        return None;
    }
    let link = around.reach(gateway)?.link.clone();
    Some(nexthops.target(Nexthop { id: NexthopId(0), gateway, link, on_link: false, encapsulation: None }))
}

fn render_lease(lease: &Lease, desired: &mut Desired) {
    let link = &lease.host_interface;
    desired.links.insert(link.clone(), Link { up: true, mtu: lease.mtu, bridged: false });
    if let Some(shaper) = lease.shaper() {
        desired.links.insert(shaper, Link { up: true, mtu: lease.mtu, bridged: false });
    }
    let held = lease.node_addresses().into_iter().map(|address| Address { link: link.clone(), address });
    desired.addresses.extend(held);
    for leased in &lease.addresses {
        desired.routes.insert(leased.host(), Target::Link { link: link.clone() });
    }
}

#[cfg(test)]
mod tests;
