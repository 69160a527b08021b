//! Kernel state as Towpath models it: what a node should have ([`Desired`]) and what it has ([`Observed`]).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;

use crate::lease::is_host_interface;
use crate::nft::{Element, Table};

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Target {
    /// To another node, by way of its address.
    Via {
        /// The other node's address.
        gateway: IpAddr,
        /// The link that it is reached by.
        link: String,
    },
    /// To whoever is at the other end of a link.
    Link {
        /// The link.
        link: String,
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
}

/// A route of the main table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
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
            Target::Via { gateway, link } => write!(f, "{to} via {gateway} dev {link}"),
            Target::Link { link } => write!(f, "{to} dev {link}"),
            Target::Blackhole => write!(f, "blackhole {to}"),
            Target::Other => write!(f, "{to}"),
        }
    }
}

/// An address of a link.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Address {
    /// The link.
    pub link: String,
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
}

/// A kernel setting below `/proc/sys`, by its path there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Sysctl(pub String);

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
    /// Addresses of those links.
    pub addresses: BTreeSet<Address>,
    /// Routes by destination.
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
    /// Addresses of those links.
    pub addresses: BTreeSet<Address>,
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
