//! Nodes that are to be other than the rest.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;

use super::{Crossing, DraftMtu, Selector};
use crate::state::{Attachment, Mtu};

/// The most exceptions of a network.
pub const MOST_EXCEPTIONS: usize = 16;

/// What is other on some nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Exception {
    /// By which people know it.
    pub name: String,
    /// On which nodes.
    pub selector: Selector,
    /// How pods are attached, where that is other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attachment: Option<Attachment>,
    /// How packets cross, where that is other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transport: Option<Crossing>,
    /// The MTU of pods, where that is other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<Mtu>,
}

/// An exception as it was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DraftException {
    /// By which people know it.
    pub name: String,
    /// On which nodes.
    pub selector: Selector,
    /// How pods are attached.
    pub attachment: Option<Attachment>,
    /// How packets cross.
    pub transport: Option<Crossing>,
    /// The MTU of pods.
    pub mtu: Option<DraftMtu>,
}

/// How a node's address is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum AddressMode {
    /// It is the `InternalIP` of its Node.
    #[default]
    InternalIp,
    /// By the name of its interface.
    Interface,
    /// By the range that it is in.
    Cidr,
    /// By the address that the node would use toward another.
    CanReach,
}

impl AddressMode {
    /// All that there are.
    pub const ALL: [Self; 4] = [Self::InternalIp, Self::Interface, Self::Cidr, Self::CanReach];

    /// The field that only this mode has; nothing for the one without any.
    pub const fn field(self) -> Option<&'static str> {
        match self {
            Self::InternalIp => None,
            Self::Interface => Some("interfaces"),
            Self::Cidr => Some("cidrs"),
            Self::CanReach => Some("canReach"),
        }
    }
}

impl std::fmt::Display for AddressMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::InternalIp => "InternalIP",
            Self::Interface => "Interface",
            Self::Cidr => "CIDR",
            Self::CanReach => "CanReach",
        })
    }
}

/// How a node's address is found, as it was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DraftNodeAddress {
    /// In which way.
    pub mode: AddressMode,
    /// Patterns of interface names.
    pub interfaces: Vec<String>,
    /// Ranges.
    pub cidrs: Vec<String>,
    /// Addresses to be reached.
    pub can_reach: Vec<String>,
}

/// The most interface patterns or ranges of a rule for node addresses.
pub const MOST_PLACES: usize = 16;

/// Whether a text can be a pattern of interface names: what the kernel takes as a name (`dev_valid_name`), at most 15
/// bytes, with `*` for anything.
pub fn is_interface_pattern(text: &str) -> bool {
    let legal = |c: char| !c.is_whitespace() && c != '/' && c != ':';
    (1..=15).contains(&text.len()) && text != "." && text != ".." && text.chars().all(legal)
}

/// Where an address lies in one of some ranges.
pub(super) fn holding(ranges: &[IpNet], address: IpAddr) -> Option<&IpNet> {
    ranges.iter().find(|range| range.contains(&address))
}
