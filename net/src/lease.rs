//! Leases: which pod interface holds which addresses of its node.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::family::host_net;

/// The prefix of every link that Towpath makes on a node.
pub const LINK_PREFIX: &str = "tow";

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

/// One address of a lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LeasedAddress {
    /// The pod's address with the prefix length of its subnet.
    pub address: IpNet,
    /// The gateway in that subnet: the node's end of the pair.
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
    /// At most one of each family.
    pub addresses: Vec<LeasedAddress>,
    /// The MTU of both ends, in bytes.
    pub mtu: u32,
    /// Ports of the node that lead to the pod.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub host_ports: Vec<HostPort>,
    /// Whose interface it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodReference>,
}

/// The name of the node's end of the pair for an attachment: a function of the attachment alone, so that
/// it is found again without any record. 15 characters, the most that the kernel takes (`IFNAMSIZ`).
pub fn host_interface(container_id: &str, interface: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(container_id);
    hash.update([0]);
    hash.update(interface);
    let digest = hash.finalize();
    digest.iter().take(6).fold(LINK_PREFIX.to_owned(), |name, byte| format!("{name}{byte:02x}"))
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
}
