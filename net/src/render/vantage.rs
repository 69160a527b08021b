//! What a node needs to know of itself to tell how it reaches another one.

use std::net::IpAddr;

use ipnet::IpNet;

use super::Obstacle;
use crate::family::{Family, PerFamily};
use crate::observed::Surroundings;
use crate::state::{NodeName, NodeSpec, NodeState, Peer};
use crate::transport::{Keys, Transport};

/// A node, as the starting point of its ways to others.
#[derive(Clone, Copy, Debug)]
pub struct Vantage<'a> {
    /// Its part of the network.
    pub spec: &'a NodeSpec,
    /// What it is connected to.
    pub around: &'a Surroundings,
    /// Its own WireGuard keys, where it has any.
    pub keys: Option<&'a Keys>,
    /// By which others reach it.
    pub addresses: PerFamily<Option<IpAddr>>,
    /// What the least of the uplinks carries by which its packets leave, between addresses of each family, in bytes:
    /// that which holds the address, and those in whose subnets other nodes are. Nothing where none holds the address.
    pub carried: PerFamily<Option<u32>>,
}

/// Between which addresses the packets of a family travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Underlay {
    /// This node's.
    pub source: IpAddr,
    /// The other node's.
    pub destination: IpAddr,
}

impl Underlay {
    /// The family of both.
    pub const fn family(self) -> Family {
        Family::of(self.source)
    }
}

impl<'a> Vantage<'a> {
    /// The node of a state.
    pub fn new(state: &'a NodeState, around: &'a Surroundings, keys: Option<&'a Keys>) -> Self {
        let addresses = PerFamily::first_of(state.spec.addresses.iter().copied());
        let carried = PerFamily::from_fn(|family| carried((*addresses.get(family))?, state, around));
        Self { spec: &state.spec, around, keys, addresses, carried }
    }

    /// Every transport that the node sends or takes packets by, each once.
    pub fn transports(&self) -> impl Iterator<Item = Transport> + use<'a> {
        let named = &self.spec.transport;
        let uses = move |transport: &Transport| named.prefers.contains(transport) || named.accepts.contains(transport);
        Transport::ALL.into_iter().filter(uses)
    }

    /// Whether the node sends or takes packets by a transport.
    pub fn uses(&self, transport: Transport) -> bool {
        self.transports().any(|used| used == transport)
    }

    /// The families that the node's pods have addresses of.
    pub fn pods(&self) -> PerFamily<bool> {
        families(self.spec)
    }

    /// The families of node addresses between which packets travel by a transport, as far as this node can tell.
    pub fn outer(&self, transport: Transport) -> PerFamily<bool> {
        let pods = self.pods();
        let plain = PerFamily::from_fn(|family| *pods.get(family) && self.addresses.get(family).is_some());
        // Another node may have no address of the family that both would use.
        let mixes = transport.mixes_families();
        PerFamily::from_fn(|family| *plain.get(family) || mixes && self.addresses.get(family).is_some())
    }

    /// Between which addresses packets of a family travel to and from a peer; of the same family, where both have one.
    pub fn underlay(&self, peer: &Peer, family: Family, mixes: bool) -> Option<Underlay> {
        let theirs = PerFamily::first_of(peer.addresses.iter().copied());
        let between = |family: Family| {
            let (source, destination) = (*self.addresses.get(family), *theirs.get(family));
            Some(Underlay { source: source?, destination: destination? })
        };
        let other = || Family::ALL.into_iter().filter(|_| mixes).find_map(between);
        between(family).or_else(other)
    }

    /// By what this node sends packets of a family to a peer.
    pub fn transport_toward(&self, peer: &Peer, family: Family) -> Option<Transport> {
        let near = peer.addresses.iter().find(|address| Family::of(**address) == family);
        let is_near = near.is_some_and(|address| self.around.reach(*address).is_some());
        self.spec.transport.toward(&peer.accepts, is_near)
    }

    /// By what this node sends packets of a family to a peer, and between which addresses.
    pub fn way(&self, name: &NodeName, peer: &Peer, family: Family) -> Result<(Transport, Underlay), Obstacle> {
        let transport = self.transport_toward(peer, family);
        let transport = transport.ok_or_else(|| Obstacle::NoCommonTransport { peer: name.clone() })?;
        let missing = || match self.addresses.get(family) {
            Some(_) => Obstacle::PeerWithoutAddress { peer: name.clone(), family },
            None => Obstacle::NoAddress { family },
        };
        let underlay = self.underlay(peer, family, transport.mixes_families()).ok_or_else(missing)?;
        Ok((transport, underlay))
    }
}

/// What the least of the uplinks carries that lead to other nodes from an address.
fn carried(address: IpAddr, state: &NodeState, around: &Surroundings) -> Option<u32> {
    let holding = around.holding(address)?.mtu;
    if around.subnets.iter().all(|subnet| subnet.mtu >= holding) {
        return Some(holding);
    }
    let others = state.peers.values().flat_map(|peer| &peer.addresses);
    let like = others.filter(|other| Family::of(**other) == Family::of(address));
    let near = like.filter_map(|other| around.reach(*other)).map(|subnet| subnet.mtu);
    Some(near.fold(holding, u32::min))
}

/// The families that a node's pods have addresses of.
pub fn families(spec: &NodeSpec) -> PerFamily<bool> {
    PerFamily::from_fn(|family| spec.pod_cidrs.iter().any(|cidr| Family::of_net(cidr) == family))
}

/// A node's address on its tunnel devices, of which no pod's is ever one: the first of its first CIDR of a family.
pub fn tunnel_address(pod_cidrs: &[IpNet], family: Family) -> Option<IpAddr> {
    pod_cidrs.iter().find(|cidr| Family::of_net(cidr) == family).map(IpNet::network)
}
