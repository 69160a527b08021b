//! One change to the kernel.

use std::fmt;

use crate::device::Device;
use crate::mac::Mac;
use crate::nft::{Element, Table};
use crate::observed::{Address, CipherPeer, Forwarding, Link, Neighbour, Nexthop, Route, Station, Sysctl};
use crate::transport::PublicKey;

/// One change to the kernel, complete: whoever executes it has no choice left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Removes a route of ours.
    DeleteRoute(Route),
    /// Removes a link of ours, and with it the pod's end.
    DeleteLink(String),
    /// Removes an address of a link of ours.
    DeleteAddress(Address),
    /// Writes a setting.
    SetSysctl {
        /// Which.
        key: Sysctl,
        /// Its new value.
        value: String,
    },
    /// Makes a link of the node's own; where there is something of that name, that goes first.
    MakeDevice {
        /// Its name.
        name: String,
        /// As it should be.
        device: Device,
        /// Whether something of that name is there.
        anew: bool,
    },
    /// Changes what can be changed of a link of the node's own: its Ethernet address, its MTU, up or down.
    SetDevice {
        /// Its name.
        name: String,
        /// As it should be.
        device: Device,
    },
    /// Sets a link of ours up or down, its MTU, and whether it is a port of the bridge.
    SetLink {
        /// Its name.
        name: String,
        /// As it should be.
        link: Link,
    },
    /// Gives a link of ours an address.
    AddAddress(Address),
    /// Sets a neighbour for good, whatever was known of it.
    SetNeighbour {
        /// Which.
        neighbour: Neighbour,
        /// Its Ethernet address.
        mac: Mac,
    },
    /// Sets where frames to an Ethernet address go, whatever was known of it.
    SetStation {
        /// Which.
        station: Station,
        /// Where they go.
        to: Forwarding,
    },
    /// Gives a WireGuard device the private key that belongs to this public one, and its UDP port.
    SetCipher {
        /// The device.
        link: String,
        /// The key.
        key: PublicKey,
        /// The port.
        port: u16,
    },
    /// Adds a peer to a WireGuard device, or changes it.
    SetCipherPeer {
        /// The device.
        link: String,
        /// Its key.
        key: PublicKey,
        /// As it should be.
        peer: CipherPeer,
    },
    /// Makes a nexthop object, or changes where it leads: without a moment in between, for all its routes.
    SetNexthop(Nexthop),
    /// Adds a route; refused by the kernel where somebody else has one of the same key.
    AddRoute(Route),
    /// Changes where a route of ours leads, without a moment in between.
    ReplaceRoute(Route),
    /// Removes a nexthop object that no route needs.
    DeleteNexthop(Nexthop),
    /// Forgets a neighbour.
    DeleteNeighbour(Neighbour),
    /// Forgets where frames to an Ethernet address went.
    DeleteStation {
        /// Which.
        station: Station,
        /// Where they went.
        to: Forwarding,
    },
    /// Removes a peer of a WireGuard device.
    DeleteCipherPeer {
        /// The device.
        link: String,
        /// Its key.
        key: PublicKey,
    },
    /// Removes a link of the node's own.
    DeleteDevice(String),
    /// Makes the table anew, whatever there was, in one transaction.
    ReplaceTable(Table),
    /// Adds and removes elements of a set of the table, in one transaction.
    ChangeSet {
        /// The set's name.
        set: String,
        /// Elements to be added.
        add: Vec<Element>,
        /// Elements to be removed.
        remove: Vec<Element>,
    },
    /// Removes the table.
    DeleteTable,
}

impl Op {
    /// The place in a plan. What nothing depends on goes first, dependents before what they depend on; then comes what is
    /// added or changed, what others depend on before its dependents; and last goes what routes were just led away from:
    /// the kernel removes a route with the nexthop or the device that it leads to. The only place that knows the order.
    pub fn rank(&self) -> u8 {
        match self {
            Self::DeleteRoute(_) => 0,
            Self::DeleteAddress(_) => 1,
            Self::DeleteLink(_) => 2,
            Self::DeleteTable => 3,
            Self::SetSysctl { key, .. } if key.link().is_none() => 4,
            Self::ReplaceTable(_) => 5,
            Self::ChangeSet { .. } => 6,
            Self::MakeDevice { .. } => 7,
            // A link takes its place in the bridge, and settings with it, before it is of use.
            Self::SetDevice { .. } | Self::SetLink { .. } => 8,
            Self::SetSysctl { .. } => 9,
            Self::AddAddress(_) => 10,
            Self::SetCipher { .. } => 11,
            Self::SetNeighbour { .. } | Self::SetStation { .. } | Self::SetCipherPeer { .. } => 12,
            Self::SetNexthop(_) => 13,
            Self::AddRoute(_) | Self::ReplaceRoute(_) => 14,
            Self::DeleteNexthop(_) => 15,
            Self::DeleteNeighbour(_) | Self::DeleteStation { .. } | Self::DeleteCipherPeer { .. } => 16,
            Self::DeleteDevice(_) => 17,
        }
    }

    /// The link without which it cannot be; nothing where there is none.
    pub fn link(&self) -> Option<&str> {
        match self {
            Self::DeleteRoute(route) | Self::AddRoute(route) | Self::ReplaceRoute(route) => route.target.link(),
            Self::DeleteAddress(Address { link, .. })
            | Self::AddAddress(Address { link, .. })
            | Self::SetNexthop(Nexthop { link, .. })
            | Self::DeleteNexthop(Nexthop { link, .. })
            | Self::SetNeighbour { neighbour: Neighbour { link, .. }, .. }
            | Self::DeleteNeighbour(Neighbour { link, .. })
            | Self::SetStation { station: Station { link, .. }, .. }
            | Self::DeleteStation { station: Station { link, .. }, .. } => Some(link),
            Self::SetCipher { link, .. }
            | Self::SetCipherPeer { link, .. }
            | Self::DeleteCipherPeer { link, .. }
            | Self::DeleteLink(link)
            | Self::DeleteDevice(link)
            | Self::SetLink { name: link, .. }
            | Self::MakeDevice { name: link, .. }
            | Self::SetDevice { name: link, .. } => Some(link),
            Self::SetSysctl { key, .. } => key.link(),
            Self::ReplaceTable(_) | Self::ChangeSet { .. } | Self::DeleteTable => None,
        }
    }

    /// What is changed: the same words for whatever is done to it.
    pub fn object(&self) -> String {
        match self {
            Self::DeleteRoute(route) | Self::AddRoute(route) | Self::ReplaceRoute(route) => {
                format!("route {}", route.destination)
            }
            Self::DeleteAddress(address) | Self::AddAddress(address) => format!("address {address}"),
            Self::SetSysctl { key, .. } => format!("sysctl {key}"),
            Self::DeleteLink(name)
            | Self::DeleteDevice(name)
            | Self::SetLink { name, .. }
            | Self::MakeDevice { name, .. }
            | Self::SetDevice { name, .. } => format!("link {name}"),
            Self::SetNeighbour { neighbour, .. } | Self::DeleteNeighbour(neighbour) => format!("neighbour {neighbour}"),
            Self::SetStation { station, .. } | Self::DeleteStation { station, .. } => format!("fdb {station}"),
            Self::SetCipher { link, .. } => format!("wireguard {link}"),
            Self::SetCipherPeer { link, key, .. } | Self::DeleteCipherPeer { link, key } => {
                format!("wireguard {link} peer {key}")
            }
            Self::SetNexthop(nexthop) | Self::DeleteNexthop(nexthop) => format!("nexthop {nexthop}"),
            Self::ReplaceTable(_) | Self::DeleteTable => "table inet towpath".to_owned(),
            Self::ChangeSet { set, .. } => format!("set inet towpath {set}"),
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DeleteRoute(route) => write!(f, "delete route {route}"),
            Self::DeleteLink(name) | Self::DeleteDevice(name) => write!(f, "delete link {name}"),
            Self::DeleteAddress(address) => write!(f, "delete address {address}"),
            Self::SetSysctl { key, value } => write!(f, "set sysctl {key} = {value}"),
            Self::MakeDevice { name, device, anew: false } => write!(f, "add link {name} {device}"),
            Self::MakeDevice { name, device, anew: true } => write!(f, "make link {name} anew {device}"),
            Self::SetDevice { name, device } => write!(f, "set link {name} {device}"),
            Self::SetLink { name, link } => {
                let port = if link.bridged { " master towbr0" } else { "" };
                write!(f, "set link {name} {} mtu {}{port}", if link.up { "up" } else { "down" }, link.mtu)
            }
            Self::AddAddress(address) => write!(f, "add address {address}"),
            Self::SetNeighbour { neighbour, mac } => write!(f, "set neighbour {neighbour} lladdr {mac}"),
            Self::SetStation { station, to: Forwarding::To(node) } => write!(f, "set fdb {station} dst {node}"),
            Self::SetStation { station, to: Forwarding::Port } => write!(f, "set fdb {station} master"),
            Self::SetCipher { link, key, port } => write!(f, "set wireguard {link} key {key} port {port}"),
            Self::SetCipherPeer { link, key, peer } => {
                write!(f, "set wireguard {link} peer {key}")?;
                if let Some(endpoint) = peer.endpoint {
                    write!(f, " endpoint {endpoint}")?;
                }
                peer.allowed.iter().try_for_each(|allowed| write!(f, " allowed {allowed}"))
            }
            Self::SetNexthop(nexthop) => write!(f, "set nexthop {nexthop}"),
            Self::AddRoute(route) => write!(f, "add route {route}"),
            Self::ReplaceRoute(route) => write!(f, "replace route {route}"),
            Self::DeleteNexthop(nexthop) => write!(f, "delete nexthop {nexthop}"),
            Self::DeleteNeighbour(neighbour) => write!(f, "delete neighbour {neighbour}"),
            Self::DeleteStation { station, .. } => write!(f, "delete fdb {station}"),
            Self::DeleteCipherPeer { link, key } => write!(f, "delete wireguard {link} peer {key}"),
            Self::ReplaceTable(table) => {
                write!(f, "replace table inet towpath ({} chains, {} sets)", table.chains.len(), table.sets.len())
            }
            Self::ChangeSet { set, add, remove } => {
                write!(f, "change set inet towpath {set} (+{} -{})", add.len(), remove.len())
            }
            Self::DeleteTable => f.write_str("delete table inet towpath"),
        }
    }
}
