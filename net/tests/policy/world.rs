//! A cluster as a test sees it: objects of the API, and packets.

use std::net::IpAddr;

use towpath_net::policy::input::{ClusterPolicy, Namespace, NetworkPolicy, Node, Pod};

/// All objects of a cluster.
#[derive(Clone, Debug, Default)]
pub struct World {
    pub namespaces: Vec<Namespace>,
    pub nodes: Vec<Node>,
    pub pods: Vec<Pod>,
    pub policies: Vec<NetworkPolicy>,
    pub cluster_policies: Vec<ClusterPolicy>,
}

/// The first packet of a connection, as it is behind destination NAT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub protocol: u8,
    /// Of the destination, where the protocol has ports.
    pub port: Option<u16>,
}

/// Which way a packet goes, seen from a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Ingress,
    Egress,
}

impl World {
    /// Whether there is any policy.
    pub fn is_policed(&self) -> bool {
        !self.policies.is_empty() || !self.cluster_policies.is_empty()
    }
}

/// Whether a pod is on a node, with a network of its own.
pub fn is_local(pod: &Pod) -> bool {
    pod.node.is_some() && !pod.is_host_network && !pod.is_ended
}
