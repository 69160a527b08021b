//! One change to the kernel.

use std::fmt;

use crate::nft::{Element, Table};
use crate::observed::{Address, Link, Route, Sysctl};

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
    /// Sets a link of ours up or down, and its MTU.
    SetLink {
        /// Its name.
        name: String,
        /// As it should be.
        link: Link,
    },
    /// Gives a link of ours an address.
    AddAddress(Address),
    /// Adds a route; refused by the kernel where somebody else has one of the same key.
    AddRoute(Route),
    /// Changes where a route of ours leads, without a moment in between.
    ReplaceRoute(Route),
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
    /// The place in a plan: removals come first, dependents before what they depend on; then additions,
    /// what others depend on before its dependents. The only place that knows the order.
    pub const fn rank(&self) -> u8 {
        match self {
            Self::DeleteRoute(_) => 0,
            Self::DeleteAddress(_) => 1,
            Self::DeleteLink(_) => 2,
            Self::DeleteTable => 3,
            Self::SetSysctl { .. } => 4,
            Self::ReplaceTable(_) => 5,
            Self::ChangeSet { .. } => 6,
            Self::SetLink { .. } => 7,
            Self::AddAddress(_) => 8,
            Self::AddRoute(_) | Self::ReplaceRoute(_) => 9,
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
            Self::DeleteLink(name) | Self::SetLink { name, .. } => format!("link {name}"),
            Self::ReplaceTable(_) | Self::DeleteTable => "table inet towpath".to_owned(),
            Self::ChangeSet { set, .. } => format!("set inet towpath {set}"),
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DeleteRoute(route) => write!(f, "delete route {route}"),
            Self::DeleteLink(name) => write!(f, "delete link {name}"),
            Self::DeleteAddress(address) => write!(f, "delete address {address}"),
            Self::SetSysctl { key, value } => write!(f, "set sysctl {key} = {value}"),
            Self::SetLink { name, link } => {
                write!(f, "set link {name} {} mtu {}", if link.up { "up" } else { "down" }, link.mtu)
            }
            Self::AddAddress(address) => write!(f, "add address {address}"),
            Self::AddRoute(route) => write!(f, "add route {route}"),
            Self::ReplaceRoute(route) => write!(f, "replace route {route}"),
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
