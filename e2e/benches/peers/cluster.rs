//! A cluster on paper: this node and as many others as are wanted, all on VXLAN.

use std::{collections::BTreeMap, net::Ipv4Addr};

use towpath_net::{
    device::tunnel_mac,
    mac::Mac,
    state::{NodeName, NodeSpec, NodeState, Peer},
    transport::{Transport, Transports},
};

/// The first node's address and the first pod address of all: nodes and their /24 are counted on from there.
const NODES: u32 = u32::from_be_bytes([172, 16, 0, 1]);
const PODS: u32 = u32::from_be_bytes([10, 0, 0, 0]);

/// A node of the cluster; the one that is measured is number 0.
#[derive(Debug, Clone, Copy)]
pub struct Node(pub u32);

impl Node {
    /// Its name.
    pub fn name(self) -> NodeName {
        NodeName(format!("node-{}", self.0))
    }

    /// Its address.
    pub fn address(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(NODES + self.0)
    }

    /// The first address of its pods' CIDR: that of its tunnel.
    pub fn tunnel(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(PODS + self.0 * 256)
    }

    /// The Ethernet address of its tunnel.
    pub fn mac(self) -> Mac {
        tunnel_mac(&self.name())
    }

    /// What it is told.
    pub fn spec(self) -> NodeSpec {
        let pods = format!("{}/24", self.tunnel()).parse().unwrap();
        NodeSpec {
            transport: Transports::only(Transport::Vxlan),
            ..NodeSpec::plain(vec![self.address().into()], vec![pods])
        }
    }

    /// What others are told of it.
    pub fn peer(self) -> Peer {
        Peer::new(&self.spec(), None)
    }
}

/// What the first node is told of itself and of `peers` others.
pub fn state(peers: u32) -> NodeState {
    let peers: BTreeMap<NodeName, Peer> = (1..=peers).map(|n| (Node(n).name(), Node(n).peer())).collect();
    NodeState { node: Node(0).name(), spec: Node(0).spec(), peers }
}
