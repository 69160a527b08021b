//! The wire: one bridge per subnet in a space of its own, which routes between them.
//!
//! ```text
//!   outside        control-plane          n1      n2      n3
//!      |            |         |            |       |       |
//!   [br255] ------ [br0]    [br1]        (br0)   (br1)   (br0)     bridges and router: space "wire"
//! ```
//! The router knows the wire and nothing else: a packet to a pod's address that reaches it is lost, as on any
//! network that was not told of pods. The control plane has a leg in each subnet, so that every node is its
//! neighbour and can be its way to that node's pods.

use std::net::IpAddr;

use ipnet::IpNet;
use sha2::{Digest as _, Sha256};

use crate::{
    address::{Family, HostNumber, Subnet},
    config::LabConfig,
    space::{Space, SpaceError},
};

/// A machine's place on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Port {
    /// The number of its link: it is `eth0`, `eth1` and so on in the machine.
    pub index: u8,
    /// The subnet that the link is in.
    pub subnet: Subnet,
    /// The machine's number in the subnet.
    pub host: HostNumber,
}

impl Port {
    /// The only link of a machine.
    pub fn only(subnet: Subnet, host: HostNumber) -> Self {
        Self { index: 0, subnet, host }
    }

    /// Its addresses, the primary family first.
    pub fn addresses(self, config: &LabConfig) -> Vec<IpNet> {
        config.wire.families().iter().map(|family| family.address(self.subnet, self.host)).collect()
    }

    /// Its addresses without the length of the subnet.
    pub fn hosts(self, config: &LabConfig) -> Vec<IpAddr> {
        self.addresses(config).iter().map(IpNet::addr).collect()
    }

    fn link(self) -> String {
        format!("eth{}", self.index)
    }

    /// The other end of the machine's link, on the wire.
    fn peer(self, space: &str) -> String {
        let short = if space == CONTROL_PLANE { "cp" } else { space };
        if self.index == 0 { format!("e-{short}") } else { format!("e-{short}{}", self.index) }
    }

    fn address_lines(self, config: &LabConfig) -> Vec<String> {
        let link = self.link();
        let add = |address| format!("address add {address} dev {link}{}", no_dad(&address));
        self.addresses(config).into_iter().map(add).collect()
    }

    /// The way to everything else leads over the router of the first link's subnet.
    fn route_lines(self, config: &LabConfig) -> Vec<String> {
        let families = config.wire.families().iter().filter(|_| self.index == 0);
        let router = |family: &Family| family.address(self.subnet, HostNumber::ROUTER).addr();
        families.map(|family| format!("route add {} via {}", family.any(), router(family))).collect()
    }
}

/// The space of bridges and router.
pub const WIRE: &str = "wire";
/// The space of the control plane.
pub const CONTROL_PLANE: &str = "control-plane";
/// The space of the host outside of the cluster.
pub const OUTSIDE: &str = "outside";

/// All subnets of a lab, that of the outside host last.
pub fn subnets(config: &LabConfig) -> impl Iterator<Item = Subnet> {
    (0..config.subnets).map(Subnet).chain([Subnet::OUTSIDE])
}

/// Duplicate address detection would hold a new address back for a second (RFC 4862 section 5.4); the plan has no duplicates.
fn no_dad(address: &IpNet) -> &'static str {
    match Family::of(address.addr()) {
        Family::V4 => "",
        Family::V6 => " nodad",
    }
}

/// What every machine of the lab begins with, whatever the host's defaults are: a fresh machine that neither forwards
/// nor filters by reverse path, and takes no address from a router's advertisement.
fn fresh(families: &[Family]) -> Vec<(&'static str, &'static str)> {
    families
        .iter()
        .flat_map(|family| match family {
            Family::V4 => vec![
                ("net/ipv4/ip_forward", "0"),
                ("net/ipv4/conf/all/rp_filter", "0"),
                ("net/ipv4/conf/default/rp_filter", "0"),
                // Or a second address of a subnet goes when the first one does, and takes its routes along.
                ("net/ipv4/conf/all/promote_secondaries", "1"),
            ],
            Family::V6 => vec![
                ("net/ipv6/conf/all/disable_ipv6", "0"),
                ("net/ipv6/conf/default/disable_ipv6", "0"),
                ("net/ipv6/conf/all/forwarding", "0"),
                ("net/ipv6/conf/default/accept_ra", "0"),
            ],
        })
        .collect()
}

fn forwarding(families: &[Family]) -> Vec<(&'static str, &'static str)> {
    let key = |family: &Family| match family {
        Family::V4 => ("net/ipv4/ip_forward", "1"),
        Family::V6 => ("net/ipv6/conf/all/forwarding", "1"),
    };
    families.iter().map(key).collect()
}

/// Makes the bridges and lets their space route between them.
///
/// # Errors
/// What the kernel refused.
pub fn build(wire: &Space, config: &LabConfig) -> Result<(), SpaceError> {
    let families = config.wire.families();
    wire.sysctl(&fresh(families))?;
    wire.sysctl(&forwarding(families))?;
    let mut lines = Vec::new();
    for subnet in subnets(config) {
        let bridge = format!("br{}", subnet.0);
        lines.push(format!("link add {bridge} mtu {} type bridge stp_state 0 mcast_snooping 0", config.mtu));
        for family in families {
            let address = family.address(subnet, HostNumber::ROUTER);
            lines.push(format!("address add {address} dev {bridge}{}", no_dad(&address)));
        }
        lines.push(format!("link set {bridge} up"));
    }
    wire.ip(&lines)
}

/// Plugs a machine in, with addresses and the way to the other subnets.
///
/// # Errors
/// What the kernel refused.
pub fn attach(wire: &Space, machine: &Space, port: Port, config: &LabConfig) -> Result<(), SpaceError> {
    machine.sysctl(&fresh(config.wire.families()))?;
    let (peer, link, mtu) = (port.peer(&machine.name), port.link(), config.mtu);
    wire.ip(&[
        format!(
            "link add {peer} mtu {mtu} type veth peer name {link} mtu {mtu} address {} netns {}",
            hardware_address(&machine.name),
            machine.pid()
        ),
        format!("link set {peer} master br{} up", port.subnet.0),
    ])?;
    let mut lines = port.address_lines(config);
    lines.push(format!("link set {link} up"));
    lines.extend(port.route_lines(config));
    machine.ip(&lines)
}

/// A machine keeps its network card when it restarts: neighbours that know its address go on reaching it. The first
/// byte says that the address is administered here, and that it is one machine's (IEEE 802, clause 8).
fn hardware_address(machine: &str) -> String {
    let digest = Sha256::digest(machine);
    digest.iter().take(5).fold("02".to_owned(), |address, byte| format!("{address}:{byte:02x}"))
}

/// Unplugs a machine that has ended, at once: the kernel takes its time to clear a namespace away, and its link's other
/// end would be in the way of a successor's. That it is gone already is what is wanted.
pub fn detach(wire: &Space, machine: &str, port: Port) {
    let unplugged = wire.ip(&[format!("link del {}", port.peer(machine))]);
    tracing::debug!(machine, gone_before = unplugged.is_err(), "Machine unplugged");
}

/// Gives a machine other addresses on the same link.
///
/// # Errors
/// What the kernel refused.
pub fn readdress(machine: &Space, old: Port, new: Port, config: &LabConfig) -> Result<(), SpaceError> {
    // The new ones come first, but the kernel drops routes with their preferred source: they are made again.
    let mut lines = new.address_lines(config);
    lines.extend(old.addresses(config).iter().map(|address| format!("address del {address} dev {}", old.link())));
    lines.extend(new.route_lines(config).iter().map(|line| line.replacen("route add", "route replace", 1)));
    machine.ip(&lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Wire;

    #[test]
    fn every_link_has_a_name_that_the_kernel_takes() {
        // linux/if.h: IFNAMSIZ is 16 with the final zero.
        let port = Port { index: 15, subnet: Subnet(15), host: HostNumber::FIRST };
        for space in [CONTROL_PLANE, OUTSIDE] {
            assert!(port.peer(space).len() < 16, "{space}");
        }
        let longest = "n-2345678901".parse::<crate::config::NodeName>().unwrap();
        assert!(Port { index: 0, ..port }.peer(longest.as_str()).len() < 16);
    }

    #[test]
    fn only_the_first_link_leads_to_everything() {
        let config = LabConfig { wire: Wire::Dual, ..LabConfig::new("t".parse().unwrap()) };
        let first = Port::only(Subnet(1), HostNumber::node(2));
        assert_eq!(
            first.route_lines(&config),
            ["route add 0.0.0.0/0 via 172.30.1.1", "route add ::/0 via fd00:172:30:1::1"]
        );
        assert!(Port { index: 1, ..first }.route_lines(&config).is_empty());
    }
}
