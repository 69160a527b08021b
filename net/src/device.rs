//! Links that belong to the node itself: tunnels to other nodes, and the bridge of its pods.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::family::PerFamily;
use crate::lease::LINK_PREFIX;
use crate::mac::Mac;
use crate::state::NodeName;
use crate::transport::{Slot, Transport};

/// The bridge that pods of attachment `Bridge` are ports of.
pub const BRIDGE: &str = "towbr0";
/// IP in IP, for packets of each family between addresses of the same.
pub const IPIP: PerFamily<&str> = PerFamily { v4: "towipip4", v6: "towipip6" };
/// VXLAN between node addresses of each family.
pub const VXLAN: PerFamily<&str> = PerFamily { v4: "towvxlan4", v6: "towvxlan6" };
/// Geneve, between node addresses of either family.
pub const GENEVE: &str = "towgeneve";
/// The devices of WireGuard.
pub const WIREGUARD: [&str; 2] = ["towwg0", "towwg1"];

/// Every name that a device of ours can have.
const NAMES: [&str; 8] = [BRIDGE, IPIP.v4, IPIP.v6, VXLAN.v4, VXLAN.v6, GENEVE, WIREGUARD[0], WIREGUARD[1]];

/// The name of a WireGuard device.
pub const fn wireguard(slot: Slot) -> &'static str {
    match slot {
        Slot::First => WIREGUARD[0],
        Slot::Second => WIREGUARD[1],
    }
}

/// Whether a link has the name of a device of ours: no other is ever touched, but for the node's ends of pods' pairs.
pub fn is_device(name: &str) -> bool {
    NAMES.contains(&name)
}

/// By which transport packets travel that leave by a device; nothing where it is none of ours, or the bridge.
pub fn transport_of(name: &str) -> Option<Transport> {
    match name {
        name if [IPIP.v4, IPIP.v6].contains(&name) => Some(Transport::Ipip),
        name if [VXLAN.v4, VXLAN.v6].contains(&name) => Some(Transport::Vxlan),
        GENEVE => Some(Transport::Geneve),
        name if WIREGUARD.contains(&name) => Some(Transport::WireGuard),
        _ => None,
    }
}

/// The Ethernet address of a node's tunnel devices: of its name alone, so that nobody has to be told.
pub fn tunnel_mac(node: &NodeName) -> Mac {
    let mut hash = Sha256::new();
    hash.update(LINK_PREFIX);
    hash.update([0]);
    hash.update(&node.0);
    let mut mac = [0; 6];
    for (to, byte) in mac.iter_mut().zip(hash.finalize()) {
        *to = byte;
    }
    // Locally administered, not a group (IEEE 802, section 8.2).
    mac[0] = mac[0] & 0xfc | 0x02;
    Mac(mac)
}

/// The IPv6 gateway that stands for a node on a tunnel device: the link-local address that belongs to its
/// [`tunnel_mac`] (RFC 4291, appendix A). An address of its pods would not do: while routes move from one transport to
/// another, that leads to another link, and the kernel refuses it (`ip6_route_check_nh_onlink`).
pub fn tunnel_gateway(node: &NodeName) -> Ipv6Addr {
    let Mac([first, vendor @ .., x, y, z]) = tunnel_mac(node);
    let [second, third] = vendor;
    let identifier = [first ^ 0x02, second, third, 0xff, 0xfe, x, y, z];
    Ipv6Addr::from_bits(0xfe80 << 112 | u128::from(u64::from_be_bytes(identifier)))
}

/// A link of the node itself, complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Device {
    /// What it is: where that differs, it is made anew.
    pub kind: DeviceKind,
    /// Its Ethernet address, where it has any.
    pub mac: Option<Mac>,
    /// In bytes.
    pub mtu: u32,
    /// Whether it is administratively up (`IFF_UP`).
    pub up: bool,
}

/// What a device is, with all that cannot be changed while it is in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum DeviceKind {
    /// A bridge without spanning tree; packets between its ports pass the filters of IP (`nf_call_iptables`,
    /// `nf_call_ip6tables`), as Services between pods of one node need.
    Bridge,
    /// IPv4 in IPv4 (`ipip`), to whatever gateway a route names.
    Ipip {
        /// The node's address.
        local: Ipv4Addr,
    },
    /// Anything in IPv6 (`ip6tnl`) whose routes say from where and where to (`external`): the kernel takes no gateway that
    /// another link leads to (`ip6_route_check_nh_onlink`), as one of IPv4 would be.
    Ip6Tnl,
    /// VXLAN that learns nothing and floods nothing.
    Vxlan {
        /// The network identifier.
        vni: u32,
        /// The UDP port.
        port: u16,
        /// The node's address.
        local: IpAddr,
    },
    /// Geneve whose routes say where to (`external`).
    Geneve {
        /// The UDP port.
        port: u16,
    },
    /// WireGuard.
    WireGuard,
    /// Something else under a name of ours; only observed.
    Other,
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bridge => f.write_str("bridge"),
            Self::Ipip { local } => write!(f, "ipip local {local}"),
            Self::Ip6Tnl => f.write_str("ip6tnl external"),
            Self::Vxlan { vni, port, local } => write!(f, "vxlan id {vni} port {port} local {local}"),
            Self::Geneve { port } => write!(f, "geneve external port {port}"),
            Self::WireGuard => f.write_str("wireguard"),
            Self::Other => f.write_str("something else"),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} mtu {}", self.kind, self.mtu)?;
        if let Some(mac) = self.mac {
            write!(f, " address {mac}")?;
        }
        if self.up { Ok(()) } else { f.write_str(" down") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::is_host_interface;

    #[test]
    fn no_device_has_the_name_of_a_pods_link_and_all_fit_the_kernel() {
        for name in NAMES {
            assert!(name.len() <= 15 && is_device(name) && !is_host_interface(name), "{name}");
        }
        assert!(!is_device("tow000000000000") && !is_device("eth0"));
    }

    #[test]
    fn the_mac_of_a_node_is_unicast_local_and_its_own() {
        let mac = tunnel_mac(&"n1".into());
        assert_eq!(mac.0[0] & 0x03, 0x02);
        assert_ne!(mac, tunnel_mac(&"n2".into()));
    }
}
