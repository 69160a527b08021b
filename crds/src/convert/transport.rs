//! Transports, how nodes' addresses are found, and exceptions: between the API and the domain.

use std::net::IpAddr;

use towpath_net::intent::{
    AddressMode, Crossing, DraftException, DraftMtu, DraftNodeAddress, DraftTransport, DraftTunnel, DraftWireGuard,
};
use towpath_net::state::AddressRule;
use towpath_net::transport::{Geneve, Transport, Transports, Tunnels, Vxlan, WireGuard};

use super::{SpecError, cidrs, texts};
use crate::cluster_network::Mtu;
use crate::node_transport::{NodeAddressRule, NodeTransport, NodeTunnel, NodeTunnels, NodeWireGuard};
use crate::transport::{self, Exception, NodeAddress, NodeAddressMode, TransportMode};

impl From<TransportMode> for Transport {
    fn from(mode: TransportMode) -> Self {
        match mode {
            TransportMode::Direct => Self::Direct,
            TransportMode::IPIP => Self::Ipip,
            TransportMode::VXLAN => Self::Vxlan,
            TransportMode::Geneve => Self::Geneve,
            TransportMode::WireGuard => Self::WireGuard,
        }
    }
}

impl From<Transport> for TransportMode {
    fn from(transport: Transport) -> Self {
        match transport {
            Transport::Direct => Self::Direct,
            Transport::Ipip => Self::IPIP,
            Transport::Vxlan => Self::VXLAN,
            Transport::Geneve => Self::Geneve,
            Transport::WireGuard => Self::WireGuard,
        }
    }
}

impl From<NodeAddressMode> for AddressMode {
    fn from(mode: NodeAddressMode) -> Self {
        match mode {
            NodeAddressMode::InternalIP => Self::InternalIp,
            NodeAddressMode::Interface => Self::Interface,
            NodeAddressMode::CIDR => Self::Cidr,
            NodeAddressMode::CanReach => Self::CanReach,
        }
    }
}

fn crossing(mode: TransportMode, cross_subnet_only: Option<bool>) -> Crossing {
    Crossing { mode: mode.into(), cross_subnet_only: cross_subnet_only.unwrap_or_default() }
}

impl From<&transport::Transport> for DraftTransport {
    fn from(written: &transport::Transport) -> Self {
        let tunnel =
            |vni: Option<i32>, port: Option<i32>| DraftTunnel { vni: vni.map(Into::into), port: port.map(Into::into) };
        Self {
            crossing: crossing(written.mode, written.cross_subnet_only),
            vxlan: written.vxlan.as_ref().map(|options| tunnel(options.vni, options.port)),
            geneve: written.geneve.as_ref().map(|options| tunnel(options.vni, options.port)),
            wire_guard: written.wire_guard.as_ref().map(|options| DraftWireGuard {
                port: options.port.map(Into::into),
                key_rotation: options.key_rotation.clone(),
            }),
        }
    }
}

impl From<&NodeAddress> for DraftNodeAddress {
    fn from(written: &NodeAddress) -> Self {
        let list = |texts: &Option<Vec<String>>| texts.clone().unwrap_or_default();
        Self {
            mode: written.mode.into(),
            interfaces: list(&written.interfaces),
            cidrs: list(&written.cidrs),
            can_reach: list(&written.can_reach),
        }
    }
}

impl From<&Exception> for DraftException {
    fn from(written: &Exception) -> Self {
        Self {
            name: written.name.clone(),
            selector: (&written.node_selector).into(),
            attachment: written.attachment.as_ref().map(|attachment| attachment.mode.into()),
            transport: written.transport.map(|own| crossing(own.mode, own.cross_subnet_only)),
            mtu: written.mtu.as_ref().map(Into::into),
        }
    }
}

impl From<&Mtu> for DraftMtu {
    fn from(mtu: &Mtu) -> Self {
        match mtu {
            Mtu::Bytes(bytes) => Self::Bytes(*bytes),
            Mtu::Word(word) => Self::Word(word.clone()),
        }
    }
}

impl From<&Transports> for NodeTransport {
    fn from(transports: &Transports) -> Self {
        let modes = |list: &[Transport]| list.iter().map(|t| (*t).into()).collect();
        Self {
            prefers: modes(&transports.prefers),
            accepts: modes(&transports.accepts),
            cross_subnet_only: transports.cross_subnet_only.then_some(true),
            tunnels: tunnels(transports),
        }
    }
}

/// What is told of tunnels: of those that the node uses, and whatever else is not as usual.
fn tunnels(transports: &Transports) -> Option<NodeTunnels> {
    let (told, usual) = (transports.tunnels, Tunnels::default());
    let uses = |mode: Transport| transports.prefers.contains(&mode) || transports.accepts.contains(&mode);
    let tunnel = |vni: u32, port: u16| NodeTunnel { vni: number(vni), port: port.into() };
    let vxlan = (uses(Transport::Vxlan) || told.vxlan != usual.vxlan).then(|| tunnel(told.vxlan.vni, told.vxlan.port));
    let geneve =
        (uses(Transport::Geneve) || told.geneve != usual.geneve).then(|| tunnel(told.geneve.vni, told.geneve.port));
    let wire_guard = (uses(Transport::WireGuard) || told.wire_guard != usual.wire_guard).then(|| NodeWireGuard {
        port: told.wire_guard.port.into(),
        rotation_seconds: told.wire_guard.rotation_seconds.map(number),
    });
    let all = NodeTunnels { vxlan, geneve, wire_guard };
    (all != NodeTunnels::default()).then_some(all)
}

fn number(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

impl TryFrom<&NodeTransport> for Transports {
    type Error = SpecError;

    fn try_from(written: &NodeTransport) -> Result<Self, SpecError> {
        let modes = |list: &[TransportMode]| list.iter().map(|t| (*t).into()).collect();
        let mut tunnels = Tunnels::default();
        if let Some(told) = &written.tunnels {
            if let Some(NodeTunnel { vni, port }) = told.vxlan {
                tunnels.vxlan = Vxlan { vni: fit("vxlan.vni", vni)?, port: fit("vxlan.port", port)? };
            }
            if let Some(NodeTunnel { vni, port }) = told.geneve {
                tunnels.geneve = Geneve { vni: fit("geneve.vni", vni)?, port: fit("geneve.port", port)? };
            }
            if let Some(NodeWireGuard { port, rotation_seconds }) = told.wire_guard {
                let rotation_seconds = rotation_seconds.map(|s| fit("wireGuard.rotationSeconds", s)).transpose()?;
                tunnels.wire_guard = WireGuard { port: fit("wireGuard.port", port)?, rotation_seconds };
            }
        }
        Ok(Self {
            prefers: modes(&written.prefers),
            accepts: modes(&written.accepts),
            cross_subnet_only: written.cross_subnet_only.unwrap_or_default(),
            tunnels,
        })
    }
}

fn fit<T: TryFrom<i32>>(field: &'static str, value: i32) -> Result<T, SpecError> {
    T::try_from(value).map_err(|_| SpecError::Number { field, value })
}

impl From<&AddressRule> for NodeAddressRule {
    fn from(rule: &AddressRule) -> Self {
        match rule {
            AddressRule::Interfaces(patterns) => Self { interfaces: Some(patterns.clone()), ..Self::default() },
            AddressRule::Cidrs(cidrs) => Self { cidrs: Some(texts(cidrs)), ..Self::default() },
            AddressRule::CanReach(addresses) => Self { can_reach: Some(texts(addresses)), ..Self::default() },
        }
    }
}

impl TryFrom<&NodeAddressRule> for AddressRule {
    type Error = SpecError;

    fn try_from(written: &NodeAddressRule) -> Result<Self, SpecError> {
        match (&written.interfaces, &written.cidrs, &written.can_reach) {
            (Some(patterns), None, None) => Ok(Self::Interfaces(patterns.clone())),
            (None, Some(texts), None) => Ok(Self::Cidrs(cidrs("addressRule.cidrs", texts)?)),
            (None, None, Some(texts)) => Ok(Self::CanReach(addresses("addressRule.canReach", texts)?)),
            _ => Err(SpecError::AddressRule),
        }
    }
}

pub(super) fn addresses(field: &'static str, texts: &[String]) -> Result<Vec<IpAddr>, SpecError> {
    let read = |text: &String| text.parse().map_err(|_| SpecError::Address { field, value: text.clone() });
    texts.iter().map(read).collect()
}
