//! Kernel state as Towpath models it: what a node should have ([`Desired`]) and what it has ([`Observed`]).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use serde::Serialize;

use crate::device::{Device, is_device};
use crate::family::Family;
use crate::lease::is_host_interface;
use crate::link_name::LinkName;
use crate::mac::Mac;
use crate::nft::{Element, Table};
use crate::transport::PublicKey;

/// The number by which the kernel knows a nexthop object (`NHA_ID`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct NexthopId(pub u32);

impl NexthopId {
    /// The lowest number of ours: routing daemons count from 1 upwards.
    pub const FIRST: u32 = 1 << 31;

    /// Whether only one of ours has such a number.
    pub const fn is_ours(self) -> bool {
        self.0 >= Self::FIRST
    }
}

/// An outer header that routes add to packets (`LWTUNNEL_ENCAP_IP`, `LWTUNNEL_ENCAP_IP6`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Encapsulation {
    /// The network identifier; 0 where the transport has none.
    pub vni: u32,
    /// The outer source: the kernel would choose any address of the uplink, and the other node takes packets from the
    /// node's own address alone.
    pub source: IpAddr,
    /// The outer destination.
    pub destination: IpAddr,
}

/// A way to another node, shared by all routes that take it: a nexthop object of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Nexthop {
    /// Its number: a function of everything else, but where two would have the same.
    pub id: NexthopId,
    /// The address that packets are given to.
    pub gateway: IpAddr,
    /// The link that they leave by.
    pub link: LinkName,
    /// Whether the gateway is taken to be on the link whatever the link's addresses are (`RTNH_F_ONLINK`).
    pub on_link: bool,
    /// The outer header that they get, where the device takes it from the route.
    pub encapsulation: Option<Encapsulation>,
}

impl fmt::Display for Nexthop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Encapsulation { vni, source, destination }) = self.encapsulation {
            write!(f, "encap id {vni} src {source} dst {destination} ")?;
        }
        write!(f, "via {} dev {}", self.gateway, self.link)?;
        if self.on_link { f.write_str(" onlink") } else { Ok(()) }
    }
}

/// Where a route leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Target {
    /// To another node.
    Via(Nexthop),
    /// To whoever is at the other end of a link.
    Link {
        /// The link.
        link: LinkName,
    },
    /// Nowhere: packets are dropped in silence (`RTN_BLACKHOLE`).
    Blackhole,
    /// Something that Towpath never makes; only observed.
    Other,
}

impl Target {
    /// The link of a pod that the route leads to.
    pub fn pod_link(&self) -> Option<&str> {
        match self {
            Self::Link { link } if is_host_interface(link) => Some(link),
            _ => None,
        }
    }

    /// The link that packets leave by.
    pub fn link(&self) -> Option<&str> {
        match self {
            Self::Via(nexthop) => Some(&nexthop.link),
            Self::Link { link } => Some(link),
            Self::Blackhole | Self::Other => None,
        }
    }

    /// The nexthop object that the route leads to.
    pub const fn nexthop(&self) -> Option<&Nexthop> {
        match self {
            Self::Via(nexthop) => Some(nexthop),
            Self::Link { .. } | Self::Blackhole | Self::Other => None,
        }
    }
}

/// A route of the main table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    /// Where to.
    pub destination: IpNet,
    /// By which way.
    pub target: Target,
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let to = self.destination;
        match &self.target {
            Target::Via(nexthop) => write!(f, "{to} {nexthop}"),
            Target::Link { link } => write!(f, "{to} dev {link}"),
            Target::Blackhole => write!(f, "blackhole {to}"),
            Target::Other => write!(f, "{to}"),
        }
    }
}

/// An address of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Address {
    /// The link.
    pub link: LinkName,
    /// The address with its prefix length.
    pub address: IpNet,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} dev {}", self.address, self.link)
    }
}

/// What matters of a link that Towpath made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Link {
    /// Whether it is administratively up (`IFF_UP`).
    pub up: bool,
    /// In bytes.
    pub mtu: u32,
    /// Whether it is a port of the bridge of pods, with the settings of such a port: what arrives may leave by it again
    /// (hairpin), and only what comes from an address of its own entries is taken (locked).
    pub bridged: bool,
}

/// An address on a link, of which the Ethernet address is known for good (`NUD_PERMANENT`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Neighbour {
    /// The link.
    pub link: LinkName,
    /// The address.
    pub address: IpAddr,
}

impl fmt::Display for Neighbour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} dev {}", self.address, self.link)
    }
}

/// An Ethernet address that frames are forwarded to by an entry that was set for good (`NUD_PERMANENT`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Station {
    /// The tunnel, or the port of the bridge.
    pub link: LinkName,
    /// The Ethernet address.
    pub mac: Mac,
}

impl fmt::Display for Station {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} dev {}", self.mac, self.link)
    }
}

/// Where frames to a [`Station`] go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Forwarding {
    /// Through the tunnel to the node of this address.
    To(IpAddr),
    /// Out of the port of the bridge.
    Port,
}

/// What matters of a WireGuard device besides the link. The private key never leaves the part that talks to the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cipher {
    /// Its public key; nothing while it has none.
    pub public_key: Option<PublicKey>,
    /// Its UDP port.
    pub port: u16,
    /// The peers.
    pub peers: BTreeMap<PublicKey, CipherPeer>,
}

/// A peer of a WireGuard device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CipherPeer {
    /// Where it is.
    pub endpoint: Option<SocketAddr>,
    /// What it may send from, and is sent to.
    pub allowed: BTreeSet<IpNet>,
}

/// A kernel setting below `/proc/sys`, by its path there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Sysctl(pub String);

impl Sysctl {
    /// A setting of one link: `net/FAMILY/conf/LINK/NAME`.
    pub fn of_link(family: Family, link: &str, name: &str) -> Self {
        let family = match family {
            Family::V4 => "ipv4",
            Family::V6 => "ipv6",
        };
        Self(format!("net/{family}/conf/{link}/{name}"))
    }

    /// Whether the kernel tells nobody when it changes (`RTM_NEWNETCONF` has few of them).
    pub fn is_silent(&self) -> bool {
        self.0.ends_with("/accept_ra")
    }

    /// The link of ours that the setting is of: it comes and goes with that.
    pub fn link(&self) -> Option<&str> {
        let link = self.0.split('/').nth(3)?;
        (is_host_interface(link) || is_device(link)).then_some(link)
    }
}

impl fmt::Display for Sysctl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The kernel state that a node should have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Desired {
    /// Settings, and what they should be.
    pub sysctls: BTreeMap<Sysctl, String>,
    /// The node's ends of pods' pairs. Only the CNI binary makes and removes them: where one is missing, so is its pod.
    pub links: BTreeMap<String, Link>,
    /// The node's own links.
    pub devices: BTreeMap<String, Device>,
    /// Addresses of all those links.
    pub addresses: BTreeSet<Address>,
    /// Neighbours that are known for good, on the node's own links.
    pub neighbours: BTreeMap<Neighbour, Mac>,
    /// Where frames go, on the node's own links and on pods' ports of the bridge.
    pub stations: BTreeMap<Station, Forwarding>,
    /// The WireGuard devices among the links.
    pub ciphers: BTreeMap<String, Cipher>,
    /// Routes by destination; with them the nexthop objects that they lead to.
    pub routes: BTreeMap<IpNet, Target>,
    /// The table `inet towpath`.
    pub table: Option<Table>,
    /// Elements of its sets that belong to pods that are joining or leaving: neither added nor removed.
    pub tolerated: BTreeSet<(String, Element)>,
    /// Whether Towpath leaves this node: then every link of its own goes too.
    pub leaving: bool,
}

/// The kernel state that a node has, as far as it is Towpath's or stands in its way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Observed {
    /// The settings that were asked for.
    pub sysctls: BTreeMap<Sysctl, String>,
    /// Links with Towpath's prefix.
    pub links: BTreeMap<String, Link>,
    /// Links with the name of one of the node's own.
    pub devices: BTreeMap<String, Device>,
    /// Addresses of all those links.
    pub addresses: BTreeSet<Address>,
    /// Neighbours of those devices that somebody set.
    pub neighbours: BTreeMap<Neighbour, Mac>,
    /// Entries of their forwarding tables, and of pods' ports of the bridge, that somebody set.
    pub stations: BTreeMap<Station, Forwarding>,
    /// The WireGuard devices among them.
    pub ciphers: BTreeMap<String, Cipher>,
    /// Nexthop objects of Towpath's protocol.
    pub nexthops: BTreeMap<NexthopId, Nexthop>,
    /// Routes of Towpath's protocol.
    pub routes: BTreeSet<Route>,
    /// Destinations that somebody else has a route of the same metric for.
    pub foreign_routes: BTreeSet<IpNet>,
    /// The table `inet towpath`.
    pub table: Option<Table>,
    /// What the node is connected to.
    pub surroundings: Surroundings,
}

/// A subnet that the node has an address in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Subnet {
    /// The link.
    pub link: String,
    /// The node's address there, with the subnet's prefix length.
    pub address: IpNet,
    /// The link's MTU, in bytes.
    pub mtu: u32,
}

/// The links and addresses of the node that are not Towpath's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Surroundings {
    /// Subnets that the node has an address in, of links that are up.
    pub subnets: BTreeSet<Subnet>,
}

impl Surroundings {
    /// The smallest subnet with this address in it: the link by which it is reached without a router.
    pub fn reach(&self, address: IpAddr) -> Option<&Subnet> {
        self.subnets.iter().filter(|s| s.address.contains(&address)).max_by_key(|s| s.address.prefix_len())
    }

    /// The subnet of the node's own address.
    pub fn holding(&self, address: IpAddr) -> Option<&Subnet> {
        self.subnets.iter().find(|s| s.address.addr() == address)
    }
}
