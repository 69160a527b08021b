//! Leases: which pod interface holds which addresses of its node.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::bandwidth::Bandwidth;
use crate::device::BRIDGE;
use crate::family::{Family, PerFamily, host_net};
use crate::mac::Mac;
use crate::state::Attachment;

/// The prefix of every link that Towpath makes on a node.
pub const LINK_PREFIX: &str = "tow";
/// Between which beginnings the names of the links of pods are: a hexadecimal digit follows [`LINK_PREFIX`]. So it does for
/// the bridge, and for no tunnel.
pub const POD_LINKS: (&str, &str) = ("tow0", "towf");

/// The node's link-local address on the link of each pod that has an IPv6 address: neighbour discovery of forwarded
/// packets needs one (RFC 4861 section 4.3), and one that everybody knows can be healed.
pub const NODE_LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// A gateway that is the same on every link, and takes no address of the node's blocks: that of every pod of attachment
/// `LinkLocal`. No router forwards to it (RFC 3927 section 7, RFC 4291 section 2.5.6).
pub const LINK_LOCAL_GATEWAY: PerFamily<IpAddr> =
    PerFamily { v4: IpAddr::V4(Ipv4Addr::new(169, 254, 1, 1)), v6: IpAddr::V6(NODE_LINK_LOCAL) };

/// The Ethernet address of that gateway: the same on every link, so that a pod's neighbour table is true after anything
/// that may become of its node.
pub const LINK_LOCAL_MAC: Mac = Mac([0xee; 6]);

/// What names an attachment in CNI: the same for every verb.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttachmentId {
    /// `CNI_CONTAINERID`.
    pub container: String,
    /// `CNI_IFNAME`: the interface's name in the pod.
    pub interface: String,
}

impl fmt::Display for AttachmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.container, self.interface)
    }
}

impl AttachmentId {
    /// The name of the node's end of the pair.
    pub fn host_interface(&self) -> String {
        host_interface(&self.container, &self.interface)
    }

    /// The name of the device that limits what comes from the pod, where it has such a limit.
    pub fn shaper(&self) -> String {
        link_name(&digest(&self.container, &self.interface), 24)
    }

    /// The Ethernet addresses of the node's and of the pod's end where nobody asked for another: set by us, so that no
    /// other program thinks that it has to choose them (as systemd does with those that the kernel chose).
    fn macs(&self) -> Ends<Mac> {
        let digest = digest(&self.container, &self.interface);
        let mac = |from: usize| {
            let mut mac = [0; 6];
            for (to, byte) in mac.iter_mut().zip(digest.iter().skip(from)) {
                *to = *byte;
            }
            // Locally administered, not a group (IEEE 802, section 8.2).
            mac[0] = mac[0] & 0xfc | 0x02;
            Mac(mac)
        };
        Ends { node: mac(8), pod: mac(16) }
    }
}

/// One value for each end of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends<T> {
    /// Of the node's end.
    pub node: T,
    /// Of the pod's end.
    pub pod: T,
}

/// Whether a link has a name that [`host_interface`] gives: no other link is ever touched.
pub fn is_host_interface(name: &str) -> bool {
    name.strip_prefix(LINK_PREFIX).is_some_and(|rest| {
        rest.len() == 12 && rest.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    })
}

/// How far a lease has come. It is written before the kernel is touched and removed after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// The interface is being made; nobody else touches it.
    Joining,
    /// The interface is complete: the agent heals what it finds amiss.
    Ready,
    /// The interface is being removed; nobody else touches it.
    Leaving,
}

/// A transport protocol with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// RFC 9293.
    Tcp,
    /// RFC 768.
    Udp,
    /// RFC 9260.
    Sctp,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Sctp];

    /// The protocol's number in the IP header (IANA).
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
}

/// A port of the node that leads to the pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HostPort {
    /// The node's address that it is opened on; every address of the node where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<IpAddr>,
    /// The node's port.
    pub host_port: u16,
    /// The pod's port.
    pub container_port: u16,
    /// The protocol.
    pub protocol: Protocol,
}

impl HostPort {
    /// Whether both would take the same packets: `0.0.0.0` and `::` stand for every address of their family.
    pub fn overlaps(&self, other: &Self) -> bool {
        let same_port = (self.protocol, self.host_port) == (other.protocol, other.host_port);
        same_port
            && match (self.host_ip, other.host_ip) {
                (Some(a), Some(b)) if Family::of(a) == Family::of(b) => {
                    a == b || a.is_unspecified() || b.is_unspecified()
                }
                (Some(_), Some(_)) => false,
                _ => true,
            }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host_ip {
            Some(address) => write!(f, "{:?} port {} of {address}", self.protocol, self.host_port),
            None => write!(f, "{:?} port {}", self.protocol, self.host_port),
        }
    }
}

/// One address of a lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LeasedAddress {
    /// The pod's address with the prefix length of its subnet: its block, or nothing but itself.
    pub address: IpNet,
    /// Whom the pod sends to what is not in its subnet: the node's end of the pair, or the bridge.
    pub gateway: IpAddr,
}

impl LeasedAddress {
    /// The pod's address as a CIDR of its own.
    pub fn host(&self) -> IpNet {
        host_net(self.address.addr())
    }
}

/// The pod that an interface belongs to, where the runtime told it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PodReference {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its unique id; empty where the runtime did not tell it.
    pub uid: String,
}

/// One interface of one pod: everything to heal it, check it or remove it, without the runtime.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Lease {
    /// The name of the CNI network.
    pub network: String,
    /// `CNI_CONTAINERID`.
    pub container_id: String,
    /// `CNI_IFNAME`: the interface's name in the pod.
    pub interface: String,
    /// `CNI_NETNS`: the path of the pod's network namespace.
    pub netns: String,
    /// The node's end of the pair.
    pub host_interface: String,
    /// How far it has come.
    pub phase: Phase,
    /// How the pod was attached: it stays so, whatever new pods get.
    #[serde(default)]
    pub mode: Attachment,
    /// At most one of each family.
    pub addresses: Vec<LeasedAddress>,
    /// The MTU of both ends, in bytes.
    pub mtu: u32,
    /// The Ethernet address that the pod asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// Ports of the node that lead to the pod.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub host_ports: Vec<HostPort>,
    /// Those of them that also lead to the pod on the node's loopback, by the address there: no program of the node
    /// listened on it when the pod came.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub loopback_ports: Vec<HostPort>,
    /// How much of its traffic may pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<Bandwidth>,
    /// Whose interface it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodReference>,
}

impl Lease {
    /// What names the attachment.
    pub fn attachment(&self) -> AttachmentId {
        AttachmentId { container: self.container_id.clone(), interface: self.interface.clone() }
    }

    /// The Ethernet addresses of both ends.
    pub fn macs(&self) -> Ends<Mac> {
        let macs = self.attachment().macs();
        let node = if self.mode == Attachment::LinkLocal { LINK_LOCAL_MAC } else { macs.node };
        Ends { node, pod: self.mac.unwrap_or(macs.pod) }
    }

    /// The node's link that packets to and from the pod pass: the bridge, or the node's end of the pair.
    pub fn node_link(&self) -> &str {
        if self.mode == Attachment::Bridge { BRIDGE } else { &self.host_interface }
    }

    /// What little is known of an attachment whose record is lost: enough to remove its link.
    pub fn unknown(attachment: &AttachmentId) -> Self {
        Self {
            network: String::new(),
            container_id: attachment.container.clone(),
            interface: attachment.interface.clone(),
            netns: String::new(),
            host_interface: attachment.host_interface(),
            phase: Phase::Leaving,
            mode: Attachment::default(),
            addresses: Vec::new(),
            mtu: 0,
            mac: None,
            host_ports: Vec::new(),
            loopback_ports: Vec::new(),
            bandwidth: None,
            pod: None,
        }
    }

    /// The device that limits what comes from the pod, where there is or may be one: nobody knows of a lost record.
    pub fn shaper(&self) -> Option<String> {
        let limited = self.bandwidth.is_some_and(|bandwidth| bandwidth.egress.is_some());
        (limited || self.network.is_empty()).then(|| self.attachment().shaper())
    }

    /// Every port of the node that leads to the pod, those on its loopback among them.
    pub fn opened_ports(&self) -> impl Iterator<Item = &HostPort> {
        self.host_ports.iter().chain(&self.loopback_ports)
    }

    /// The loopback address of a family, where a port of it leads to the pod.
    pub fn loopback(&self, family: Family) -> Option<IpAddr> {
        let has_address = self.addresses.iter().any(|leased| Family::of(leased.gateway) == family);
        let mut loopbacks = self.opened_ports().filter_map(|port| port.host_ip).filter(IpAddr::is_loopback);
        loopbacks.find(|address| has_address && Family::of(*address) == family)
    }

    /// The addresses of the node's end: the gateways, and for IPv6 a link-local one. A gateway of IPv4 that is the same on
    /// every link is no address of any, and a bridge has its own. Where a port of the loopback leads to the pod, `::1` is
    /// among them: the kernel takes answers to it only by a link that has it.
    pub fn node_addresses(&self) -> Vec<IpNet> {
        let gateways = self.addresses.iter().map(|leased| leased.gateway);
        let has_ipv6 = self.addresses.iter().any(|leased| Family::of(leased.gateway) == Family::V6);
        let link_local = has_ipv6.then(|| NODE_LINK_LOCAL.into());
        let mut own: Vec<IpAddr> = match self.mode {
            Attachment::Routed => gateways.chain(link_local).collect(),
            Attachment::LinkLocal => link_local.into_iter().collect(),
            Attachment::Bridge => return Vec::new(),
        };
        // The gateway itself may be the link-local address.
        own.dedup();
        own.into_iter().chain(self.loopback(Family::V6)).map(host_net).collect()
    }
}

/// The name of the node's end of the pair for an attachment: a function of the attachment alone, so that
/// it is found again without any record. 15 characters, the most that the kernel takes (`IFNAMSIZ`).
pub fn host_interface(container_id: &str, interface: &str) -> String {
    link_name(&digest(container_id, interface), 0)
}

fn link_name(digest: &[u8; 32], from: usize) -> String {
    digest.iter().skip(from).take(6).fold(LINK_PREFIX.to_owned(), |name, byte| format!("{name}{byte:02x}"))
}

fn digest(container_id: &str, interface: &str) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(container_id);
    hash.update([0]);
    hash.update(interface);
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_interface_depends_on_the_attachment_alone_and_fits_the_kernel() {
        let name = host_interface("5b1f", "eth0");
        assert_eq!(name, host_interface("5b1f", "eth0"));
        assert_eq!(name.len(), 15);
        assert_ne!(name, host_interface("5b1f", "eth1"));
        assert_ne!(host_interface("ab", "c"), host_interface("a", "bc"));
    }

    fn lease(mode: Attachment, addresses: &[(&str, &str)]) -> Lease {
        let id = AttachmentId { container: "5b1f".to_owned(), interface: "eth0".to_owned() };
        let leased = |(address, gateway): &(&str, &str)| LeasedAddress {
            address: address.parse().unwrap(),
            gateway: gateway.parse().unwrap(),
        };
        Lease { mode, addresses: addresses.iter().map(leased).collect(), ..Lease::unknown(&id) }
    }

    #[test]
    fn what_the_node_has_for_a_pod_depends_on_how_it_was_attached() {
        let node = |mode, addresses: &[_]| {
            let lease = lease(mode, addresses);
            let held: Vec<String> = lease.node_addresses().iter().map(ToString::to_string).collect();
            (held.join(" "), lease.node_link() == BRIDGE, lease.macs().node == LINK_LOCAL_MAC)
        };
        let own = [("10.244.1.2/24", "10.244.1.1"), ("fd00::2/64", "fd00::1")];
        let anywhere = [("10.244.1.1/32", "169.254.1.1"), ("fd00::1/128", "fe80::1")];
        let all = "10.244.1.1/32 fd00::1/128 fe80::1/128".to_owned();
        assert_eq!(node(Attachment::Routed, &own), (all, false, false));
        assert_eq!(node(Attachment::LinkLocal, &anywhere), ("fe80::1/128".to_owned(), false, true));
        assert_eq!(node(Attachment::Bridge, &own), (String::new(), true, false));
        let borrowed = "169.254.1.1/32 fe80::1/128".to_owned();
        assert_eq!(node(Attachment::Routed, &anywhere), (borrowed, false, false));
    }

    #[test]
    fn the_macs_are_unicast_local_and_different() {
        let id = AttachmentId { container: "5b1f".to_owned(), interface: "eth0".to_owned() };
        let macs = id.macs();
        assert_ne!(macs.node, macs.pod);
        for mac in [macs.node, macs.pod] {
            assert_eq!(mac.0[0] & 0x03, 0x02);
        }
    }

    fn port(host_ip: &str, host_port: u16, protocol: Protocol) -> HostPort {
        HostPort { host_ip: host_ip.parse().ok(), host_port, container_port: 80, protocol }
    }

    #[test]
    fn host_ports_overlap_where_a_packet_could_be_for_either() {
        let taken = port("", 8080, Protocol::Tcp);
        for other in ["", "0.0.0.0", "::", "10.0.0.1", "fd00::1"] {
            assert!(taken.overlaps(&port(other, 8080, Protocol::Tcp)), "{other}");
            assert!(port(other, 8080, Protocol::Tcp).overlaps(&taken), "{other}");
        }
        assert!(!taken.overlaps(&port("", 8081, Protocol::Tcp)));
        assert!(!taken.overlaps(&port("", 8080, Protocol::Udp)));
        let any = port("0.0.0.0", 8080, Protocol::Tcp);
        assert!(any.overlaps(&port("10.0.0.1", 8080, Protocol::Tcp)));
        assert!(!any.overlaps(&port("::", 8080, Protocol::Tcp)));
        let one = port("10.0.0.1", 8080, Protocol::Tcp);
        assert!(!one.overlaps(&port("10.0.0.2", 8080, Protocol::Tcp)));
    }
}
