//! A node as the text of the API sees it.

use std::net::IpAddr;

use towpath_net::policy::input::Pod;
use towpath_net::state::NodeName;

use crate::naive;
use crate::world::{Packet, Way, World, is_local};

/// What is at an address, seen from a node.
#[derive(Clone, Copy, Debug)]
pub enum Local<'a> {
    Pod(&'a Pod),
    Node,
    Elsewhere,
}

impl<'a> Local<'a> {
    /// Nothing where several pods of the node claim the address.
    pub fn at(world: &'a World, node: &NodeName, address: IpAddr) -> Option<Self> {
        let here = |pod: &&Pod| is_local(pod) && pod.node.as_ref() == Some(node) && pod.addresses.contains(&address);
        let pods: Vec<&Pod> = world.pods.iter().filter(here).collect();
        let own = world.nodes.iter().any(|one| one.name == *node && one.addresses.contains(&address));
        match (pods.as_slice(), own) {
            ([], true) => Some(Self::Node),
            ([], false) => Some(Self::Elsewhere),
            ([one], false) => Some(Self::Pod(one)),
            _ => None,
        }
    }
}

/// Whether a packet passes a node, by the text of the API.
pub fn passes(world: &World, source: Local<'_>, destination: Local<'_>, packet: &Packet) -> bool {
    let passes_pod = |end, way| match end {
        Local::Pod(pod) => naive::passes(world, pod, way, packet),
        Local::Node | Local::Elsewhere => true,
    };
    let reaches = matches!(source, Local::Node) || passes_pod(destination, Way::Ingress);
    !world.is_policed() || passes_pod(source, Way::Egress) && reaches
}
