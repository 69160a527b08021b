//! How packets cross between nodes, as it is declared.

use serde::Serialize;

use crate::transport::Transport;

/// How packets leave nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Crossing {
    /// By what.
    #[serde(rename = "transport")]
    pub mode: Transport,
    /// Whether a tunnel is used only toward nodes of other subnets.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub cross_subnet_only: bool,
}

impl Crossing {
    /// One transport, toward every node.
    pub const fn only(mode: Transport) -> Self {
        Self { mode, cross_subnet_only: false }
    }

    /// Whether packets between pods of two such nodes must never be seen in clear.
    pub fn is_encrypted(self) -> bool {
        self.mode == Transport::WireGuard && !self.cross_subnet_only
    }
}

/// How packets cross, as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DraftTransport {
    /// By what, and toward whom.
    pub crossing: Crossing,
    /// Of VXLAN, where it is written.
    pub vxlan: Option<DraftTunnel>,
    /// Of Geneve, where it is written.
    pub geneve: Option<DraftTunnel>,
    /// Of WireGuard, where it is written.
    pub wire_guard: Option<DraftWireGuard>,
}

impl From<Crossing> for DraftTransport {
    /// Without any option.
    fn from(crossing: Crossing) -> Self {
        Self { crossing, vxlan: None, geneve: None, wire_guard: None }
    }
}

/// The options of VXLAN or Geneve, as they were written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DraftTunnel {
    /// The network identifier.
    pub vni: Option<i64>,
    /// The UDP port.
    pub port: Option<i64>,
}

/// The options of WireGuard, as they were written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DraftWireGuard {
    /// The first of its two UDP ports.
    pub port: Option<i64>,
    /// How old a key becomes.
    pub key_rotation: Option<String>,
}

/// The most that a network identifier can be: 24 bits (RFC 7348, section 5; RFC 8926, section 3.4).
pub const MOST_VNI: u32 = 0xff_ffff;

/// How often keys can be asked to change, in seconds: every minute to every year.
pub const ROTATION: std::ops::RangeInclusive<u32> = 60..=8760 * 3600;
