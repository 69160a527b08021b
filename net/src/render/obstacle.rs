//! What of the declared cannot be on a node.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::family::Family;
use crate::state::NodeName;

/// Why a part of what was declared cannot be on this node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Obstacle {
    /// None of the node's links holds the address that the cluster knows it by.
    AddressNotHere {
        /// The address.
        address: IpAddr,
    },
    /// The node has no address between which and the others' packets of a family could travel.
    NoAddress {
        /// The family of the packets.
        family: Family,
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
    /// A peer has told no WireGuard key: its pods are not reached, for they must not be in clear.
    PeerWithoutKey {
        /// The peer.
        peer: NodeName,
    },
    /// This node has no WireGuard key.
    NoKey,
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
    /// The kernel has no IPv6 on links with so small an MTU (RFC 8200, section 5).
    MtuBelowIpv6 {
        /// The MTU of pods, in bytes.
        mtu: u32,
    },
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddressNotHere { address } => write!(
                f,
                "no link of this node holds {address}, by which other nodes reach it: let the kubelet's --node-ip name an \
                 address of a link that is up, or see spec.nodeAddress"
            ),
            Self::NoAddress { family } => write!(
                f,
                "this node has {family} pods but no address that their packets could travel from: give its kubelet a \
                 --node-ip of {family}, or see spec.nodeAddress"
            ),
            Self::PeerNotOnLink { peer, address } => write!(
                f,
                "node {peer} ({address}) is in no subnet of this node: transport Direct needs nodes that share a subnet"
            ),
            Self::PeerWithoutAddress { peer, family } => write!(
                f,
                "node {peer} has {family} pods but no {family} address: give its kubelet a --node-ip of that family"
            ),
            Self::NoCommonTransport { peer } => write!(
                f,
                "node {peer} accepts no transport that this node prefers: see the exceptions in spec.exceptions that \
                 select either"
            ),
            Self::PeerWithoutKey { peer } => write!(
                f,
                "node {peer} has told no WireGuard key: until it does, its pods are not reached; see whether its agent runs"
            ),
            Self::NoKey => f.write_str(
                "this node has no WireGuard key: until it has, pods of other nodes are not reached; see the agent's log",
            ),
            Self::Withdrawn { cidr, pods } => write!(
                f,
                "pods of this node still have addresses of {cidr} ({pods} in all), which is this node's no more: other \
                 nodes do not reach them; delete these pods, so that they come up with other addresses"
            ),
            Self::MtuAboveUplink { mtu, uplink } => write!(
                f,
                "mtu {mtu} is more than the {uplink} bytes that the uplink carries: lower spec.mtu or set it to Auto"
            ),
            Self::MtuBelowIpv6 { mtu } => write!(
                f,
                "an mtu of {mtu} is less than the 1280 bytes that IPv6 needs: raise spec.mtu, or the uplink's own"
            ),
        }
    }
}
