//! How pod packets cross between nodes: the transports, what they add to packets, and what both ends must agree on.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::family::Family;

/// How pod packets cross between nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Transport {
    /// Plain routes by way of the other node's address; nodes share a subnet.
    Direct,
    /// IP in IP (RFC 2003), and for IPv6 its counterpart (RFC 2473).
    #[serde(rename = "IPIP")]
    Ipip,
    /// Virtual Ethernet over UDP (RFC 7348).
    #[serde(rename = "VXLAN")]
    Vxlan,
    /// Virtual Ethernet over UDP with room for options (RFC 8926).
    Geneve,
    /// Encrypted, over UDP.
    WireGuard,
}

impl Transport {
    /// All that there are, in the order in which everything lists them.
    pub const ALL: [Self; 5] = [Self::Direct, Self::Ipip, Self::Vxlan, Self::Geneve, Self::WireGuard];

    /// What the transport adds to each packet between node addresses of a family, in bytes.
    ///
    /// VXLAN and Geneve without options: outer header, UDP (8), their own (8), inner Ethernet (14). WireGuard: outer
    /// header, UDP (8), type, receiver and counter (16), authentication tag (16).
    pub const fn overhead(self, outer: Family) -> u32 {
        let header = match outer {
            Family::V4 => 20,
            Family::V6 => 40,
        };
        match self {
            Self::Direct => 0,
            Self::Ipip => header,
            Self::Vxlan | Self::Geneve => header + 8 + 8 + 14,
            Self::WireGuard => header + 8 + 16 + 16,
        }
    }

    /// Whether packets are wrapped, so that nodes need share no subnet.
    pub const fn is_tunnel(self) -> bool {
        !matches!(self, Self::Direct)
    }

    /// Whether packets of one family may travel between node addresses of the other.
    pub const fn mixes_families(self) -> bool {
        matches!(self, Self::Vxlan | Self::Geneve | Self::WireGuard)
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Direct => "Direct",
            Self::Ipip => "IPIP",
            Self::Vxlan => "VXLAN",
            Self::Geneve => "Geneve",
            Self::WireGuard => "WireGuard",
        })
    }
}

/// What both ends of tunnels must agree on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Tunnels {
    /// Of VXLAN.
    pub vxlan: Vxlan,
    /// Of Geneve.
    pub geneve: Geneve,
    /// Of WireGuard.
    pub wire_guard: WireGuard,
}

/// What both ends of VXLAN must agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Vxlan {
    /// The network identifier, 24 bits.
    pub vni: u32,
    /// The UDP port.
    pub port: u16,
}

impl Default for Vxlan {
    /// The port is IANA's (RFC 7348, section 8).
    fn default() -> Self {
        Self { vni: 4096, port: 4789 }
    }
}

/// What both ends of Geneve must agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Geneve {
    /// The network identifier, 24 bits.
    pub vni: u32,
    /// The UDP port.
    pub port: u16,
}

impl Default for Geneve {
    /// The port is IANA's (RFC 8926, section 12).
    fn default() -> Self {
        Self { vni: 4096, port: 6081 }
    }
}

/// What both ends of WireGuard must agree on, and how often keys change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WireGuard {
    /// The UDP port of the first of a node's two devices; the second has the next one.
    pub port: u16,
    /// How old a key becomes, in seconds; nothing where it is never changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation_seconds: Option<u32>,
}

impl WireGuard {
    /// The UDP port of one of a node's devices.
    pub const fn port_of(self, slot: Slot) -> u16 {
        match slot {
            Slot::First => self.port,
            Slot::Second => self.port.saturating_add(1),
        }
    }
}

impl Default for WireGuard {
    /// The port that WireGuard's own documentation uses.
    fn default() -> Self {
        Self { port: 51820, rotation_seconds: None }
    }
}

/// One of the two WireGuard devices of a node: while peers move from one key to the next, both are in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Slot {
    /// The device that a node begins with.
    #[default]
    First,
    /// The other one.
    Second,
}

impl Slot {
    /// Both.
    pub const ALL: [Self; 2] = [Self::First, Self::Second];

    /// The one that is not this.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }
}

/// A WireGuard public key: a point of Curve25519 (RFC 7748), written in base64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey(pub [u8; 32]);

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

/// A text that is not a public key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a WireGuard public key: 32 bytes in base64, as `wg pubkey` prints them")]
pub struct NotAKey(String);

impl FromStr for PublicKey {
    type Err = NotAKey;

    fn from_str(text: &str) -> Result<Self, NotAKey> {
        let bytes = STANDARD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| NotAKey(text.to_owned()))
    }
}

impl TryFrom<String> for PublicKey {
    type Error = NotAKey;

    fn try_from(text: String) -> Result<Self, NotAKey> {
        text.parse()
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> Self {
        key.to_string()
    }
}

/// The public keys of a node's WireGuard devices, as its agent tells them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Keys {
    /// Of the first device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<PublicKey>,
    /// Of the second device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub second: Option<PublicKey>,
    /// The device that the node sends by; it takes packets by both.
    #[serde(default)]
    pub active: Slot,
}

impl Keys {
    /// The key of one device.
    pub const fn of(&self, slot: Slot) -> Option<PublicKey> {
        match slot {
            Slot::First => self.first,
            Slot::Second => self.second,
        }
    }

    /// By which device the node of these keys sends to that of others: the active one, or else the one for which both have
    /// a key.
    ///
    /// The sender chooses, for its own key is the one that it knows to be known: it makes the one anew that it does not
    /// send by, and changes over when the others have taken note ([`crate::rotation`]).
    pub fn toward(&self, peer: &Self) -> Option<Slot> {
        let both = |slot: &Slot| self.of(*slot).is_some() && peer.of(*slot).is_some();
        [self.active, self.active.other()].into_iter().find(both)
    }
}

/// What a node accepts from its peers, and what it prefers to send by.
///
/// A node sends to a peer by the first of its own preferences that the peer accepts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Transports {
    /// In the order of preference; never empty.
    pub prefers: Vec<Transport>,
    /// Everything that this node takes packets by.
    pub accepts: Vec<Transport>,
    /// Whether packets to a peer in a subnet of this node go without a tunnel; then the peer takes them so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cross_subnet_only: bool,
    /// What both ends of tunnels must agree on.
    #[serde(default)]
    pub tunnels: Tunnels,
}

impl Transports {
    /// One transport, preferred and accepted.
    pub fn only(transport: Transport) -> Self {
        Self {
            prefers: vec![transport],
            accepts: vec![transport],
            cross_subnet_only: false,
            tunnels: Tunnels::default(),
        }
    }

    /// By what this node sends to a peer that accepts `accepted`; nothing where the two share none. `is_near` tells
    /// whether the peer is in a subnet of this node.
    pub fn toward(&self, accepted: &[Transport], is_near: bool) -> Option<Transport> {
        let chosen = self.prefers.iter().copied().find(|t| accepted.contains(t));
        let direct = self.cross_subnet_only && is_near && accepted.contains(&Transport::Direct);
        if direct && chosen.is_some() { Some(Transport::Direct) } else { chosen }
    }

    /// Whether a packet between pods of two nodes must never be seen in clear: WireGuard, and nothing else.
    pub fn is_encrypted(&self) -> bool {
        !self.cross_subnet_only && self.prefers == [Transport::WireGuard]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_transport_adds_is_what_its_headers_take() {
        use Transport::{Direct, Geneve, Ipip, Vxlan, WireGuard};
        let of = |family: Family| [Direct, Ipip, Vxlan, Geneve, WireGuard].map(|t| t.overhead(family));
        assert_eq!(of(Family::V4), [0, 20, 50, 50, 60]);
        assert_eq!(of(Family::V6), [0, 40, 70, 70, 80]);
    }

    #[test]
    fn a_node_sends_by_the_first_that_both_know_and_directly_to_a_neighbour_where_that_is_wanted() {
        use Transport::{Direct, Ipip, Vxlan};
        let mut node = Transports { prefers: vec![Vxlan, Ipip], ..Transports::only(Vxlan) };
        assert_eq!(node.toward(&[Ipip, Vxlan], true), Some(Vxlan));
        assert_eq!(node.toward(&[Ipip, Direct], true), Some(Ipip));
        assert_eq!(node.toward(&[Direct], true), None);
        node.cross_subnet_only = true;
        assert_eq!(node.toward(&[Ipip, Direct], true), Some(Direct));
        assert_eq!(node.toward(&[Ipip, Direct], false), Some(Ipip));
        assert_eq!(node.toward(&[Ipip], true), Some(Ipip));
    }

    #[test]
    fn a_key_survives_its_text_and_nothing_else_is_one() {
        let text = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";
        let key: PublicKey = text.parse().unwrap();
        assert_eq!(key.to_string(), text);
        for bad in ["", "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg", "AAAA", "?"] {
            assert!(bad.parse::<PublicKey>().is_err(), "{bad}");
        }
    }
}
