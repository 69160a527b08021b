//! What is wrong with how packets are to cross between nodes.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::family::Family;
use crate::intent::AddressMode;
use crate::transport::Transport;

/// What can be wrong with transports, exceptions, and rules by which nodes find their addresses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum CrossingProblem {
    /// A way around tunnels where there is none.
    #[error("has no effect: mode Direct has no tunnel")]
    NoTunnel,
    /// Options of a transport that nobody uses.
    #[error("has no effect: neither the cluster nor an exception has mode {mode}")]
    ModeUnused {
        /// The transport.
        mode: Transport,
    },
    /// A number that cannot be.
    #[error("is not a number from 1 to {most}")]
    NumberOutside {
        /// The most that it can be.
        most: u32,
    },
    /// A UDP port of two tunnels.
    #[error("is a UDP port of {other} too")]
    PortTwice {
        /// The other transport.
        other: Transport,
    },
    /// A time after which no key can be changed.
    #[error("is not a time from 1m to 8760h")]
    Rotation,
    /// An exception that is none.
    #[error("has neither attachment nor transport nor mtu")]
    ExceptsNothing,
    /// An exception from encryption.
    #[error("would let packets be seen in clear that the cluster's mode WireGuard encrypts")]
    InClear,
    /// A field of another way to find nodes' addresses.
    #[error("belongs to mode {of}, and this is mode {mode}")]
    OtherAddressMode {
        /// The mode that has the field.
        of: AddressMode,
        /// The mode that was chosen.
        mode: AddressMode,
    },
    /// A way to find nodes' addresses that says not where.
    #[error("is missing: mode {mode} needs it")]
    AddressRuleMissing {
        /// The mode.
        mode: AddressMode,
    },
    /// A pattern that no interface's name can match.
    #[error("is not a pattern of interface names")]
    InterfacePattern,
    /// Not an address.
    #[error("is not an IP address")]
    NotAddress,
    /// A second address of a family that may have one.
    #[error("is a second {family} address beside {first}")]
    SecondAddress {
        /// The family.
        family: Family,
        /// The address that came first.
        first: IpAddr,
    },
    /// An address that is to lie outside and does not.
    #[error("lies in {range}, which is of the cluster itself")]
    ReachedInside {
        /// The range.
        range: IpNet,
    },
}

impl CrossingProblem {
    /// What to do about it.
    pub fn remedy(&self) -> String {
        match self {
            Self::NoTunnel => "remove it, or choose a tunnel as mode".to_owned(),
            Self::NumberOutside { .. } => "write one, or leave the field out".to_owned(),
            Self::PortTwice { .. } => {
                "choose another port: each tunnel has one of its own, and WireGuard the next one too".to_owned()
            }
            Self::Rotation => "write one as in 24h or 720h".to_owned(),
            Self::ExceptsNothing => "say what is other on these nodes, or remove it".to_owned(),
            Self::ModeUnused { .. } | Self::InClear => "remove it".to_owned(),
            Self::OtherAddressMode { of, .. } => format!("remove it, or set spec.nodeAddress.mode to {of}"),
            Self::AddressRuleMissing { .. } => "give at least one entry, or choose another mode".to_owned(),
            Self::InterfacePattern => {
                "write 1 to 15 characters without blanks, slashes and colons, as in eth1 or bond*".to_owned()
            }
            Self::NotAddress => "write one as in 192.0.2.1 or 2001:db8::1".to_owned(),
            Self::SecondAddress { family, .. } => format!("leave one {family} address"),
            Self::ReachedInside { .. } => "write an address outside of the cluster, as that of a router".to_owned(),
        }
    }
}
