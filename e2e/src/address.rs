//! The wire's addresses, as arithmetic.
//!
//! Every lab uses the same ranges: a lab's namespaces have no link to the host, so labs never meet.
//! A range is cut into subnets of equal size, one per bridge of the wire:
//!
//! | host number | who |
//! |---|---|
//! | 1 | the router |
//! | 2 | the control plane, which has a leg in each subnet; in the last subnet the host outside of the cluster |
//! | 11 and up | nodes, by ordinal; 75 and up after an odd number of `readdress` |

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Index of a subnet of the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet(pub u8);

/// Number of a host within its subnet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostNumber(pub u8);

impl Subnet {
    /// Where the host outside of the cluster lives.
    pub const OUTSIDE: Self = Self(255);
}

impl HostNumber {
    /// The router, in every subnet.
    pub const ROUTER: Self = Self(1);
    /// The control plane, or the outside host in its own subnet.
    pub const FIRST: Self = Self(2);
    const NODES: u8 = 10;
    const MOVED: u8 = 64;

    /// A node's number when it is created; ordinals go from 1 to 64.
    pub fn node(ordinal: u8) -> Self {
        Self(Self::NODES + ordinal)
    }

    /// The other number that belongs to the same node, for a node that changes its address.
    #[must_use]
    pub fn other(self) -> Self {
        if self.0 > Self::NODES + Self::MOVED { Self(self.0 - Self::MOVED) } else { Self(self.0 + Self::MOVED) }
    }
}

/// What one family's wire looks like.
struct Range {
    wire: &'static str,
    subnet_length: u8,
    services: &'static str,
}

impl Family {
    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    fn range(self) -> Range {
        match self {
            Self::V4 => Range { wire: "172.30.0.0/16", subnet_length: 24, services: "10.96.0.0/16" },
            Self::V6 => Range { wire: "fd00:172:30::/48", subnet_length: 64, services: "fd00:10:96::/112" },
        }
    }

    /// The range of Service addresses when none is asked for.
    pub fn services(self) -> IpNet {
        fixed(self.range().services)
    }

    /// The whole wire, all subnets.
    pub fn wire(self) -> IpNet {
        fixed(self.range().wire)
    }

    /// A host's address with the length of its subnet.
    pub fn address(self, subnet: Subnet, host: HostNumber) -> IpNet {
        let range = self.range();
        let wire = self.wire();
        let shift = u32::from(wire.max_prefix_len() - range.subnet_length);
        let offset = (u128::from(subnet.0) << shift) + u128::from(host.0);
        let length = range.subnet_length;
        IpNet::new(nth(wire.network(), offset), length).unwrap_or(wire)
    }

    /// The address of everything, `0.0.0.0/0` or its sibling.
    pub fn any(self) -> IpNet {
        fixed(match self {
            Self::V4 => "0.0.0.0/0",
            Self::V6 => "::/0",
        })
    }
}

/// The address `offset` places after `base`.
pub fn nth(base: IpAddr, offset: u128) -> IpAddr {
    match base {
        IpAddr::V4(v4) => IpAddr::V4((u32::from(v4).wrapping_add(u32::try_from(offset).unwrap_or(u32::MAX))).into()),
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6).wrapping_add(offset)).into()),
    }
}

#[expect(clippy::expect_used, reason = "the ranges above are constants, parsed by the tests below")]
fn fixed(cidr: &'static str) -> IpNet {
    cidr.parse().expect("the ranges of the wire are CIDRs")
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

    #[test]
    fn every_address_lies_in_its_wire_and_its_subnet() {
        for family in FAMILIES {
            let router = family.address(Subnet(3), HostNumber::ROUTER);
            let node = family.address(Subnet(3), HostNumber::node(64).other());
            assert!(router.contains(&node.addr()));
            assert!(family.wire().contains(&node.addr()));
            assert!(!router.contains(&family.address(Subnet(4), HostNumber::ROUTER).addr()));
            assert!(!family.services().contains(&node.addr()));
        }
    }

    #[test]
    fn addresses_read_as_the_documentation_says() {
        assert_eq!(Family::V4.address(Subnet(0), HostNumber::node(1)).to_string(), "172.30.0.11/24");
        assert_eq!(Family::V6.address(Subnet::OUTSIDE, HostNumber::FIRST).to_string(), "fd00:172:30:ff::2/64");
        assert_eq!(Family::V4.any().prefix_len(), 0);
        assert_eq!(Family::V6.any().prefix_len(), 0);
    }

    #[test]
    fn a_node_that_moves_twice_is_back_where_it_was_and_meets_nobody() {
        let all: Vec<_> = (1..=64).map(HostNumber::node).collect();
        for host in &all {
            assert_eq!(host.other().other(), *host);
            assert!(!all.contains(&host.other()));
        }
    }
}
