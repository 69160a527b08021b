//! Links of the node itself: tunnels to other nodes and the bridge of its pods, with all that they have from the start.

use std::net::{IpAddr, Ipv4Addr};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use towpath_net::device::{Device, DeviceKind};

use super::{
    IFF_UP, IFLA_ADDRESS, IFLA_IFNAME, IFLA_INFO_DATA, IFLA_INFO_KIND, IFLA_LINKINFO, IFLA_MTU, Index, Link,
    RTM_NEWLINK, RTM_SETLINK, header, message,
};
use crate::netlink::attributes::Attributes;
use crate::netlink::{Content, Operation, Request};

/// Of a bridge, within `IFLA_INFO_DATA` (`linux/if_link.h`, as all that follows).
const IFLA_BR_STP_STATE: u16 = 5;
const IFLA_BR_VLAN_FILTERING: u16 = 7;
const IFLA_BR_MCAST_SNOOPING: u16 = 23;
const IFLA_BR_NF_CALL_IPTABLES: u16 = 36;
const IFLA_BR_NF_CALL_IP6TABLES: u16 = 37;
/// Of IP in IP, in both families (`linux/if_tunnel.h`).
const IFLA_IPTUN_LINK: u16 = 1;
const IFLA_IPTUN_LOCAL: u16 = 2;
const IFLA_IPTUN_REMOTE: u16 = 3;
const IFLA_IPTUN_TTL: u16 = 4;
const IFLA_IPTUN_FLAGS: u16 = 8;
const IFLA_IPTUN_PROTO: u16 = 9;
const IFLA_IPTUN_PMTUDISC: u16 = 10;
const IFLA_IPTUN_COLLECT_METADATA: u16 = 19;
/// `IPPROTO_IPIP`; anything is 0.
const IPPROTO_IPIP: u8 = 4;
const ANY_PROTOCOL: u8 = 0;
/// `IP6_TNL_F_IGN_ENCAP_LIMIT` (`linux/ip6_tunnel.h`): no option that says how deep packets may be wrapped, which takes
/// eight bytes.
const NO_ENCAP_LIMIT: u32 = 1;
/// Hops of the outer header: with 0 it would have those of the packet inside, and packets that are small enough for that
/// would come in pieces (`iptunnel`, `nopmtudisc`).
const TTL: u8 = 64;
/// Of VXLAN.
const IFLA_VXLAN_ID: u16 = 1;
const IFLA_VXLAN_GROUP: u16 = 2;
const IFLA_VXLAN_LINK: u16 = 3;
const IFLA_VXLAN_LOCAL: u16 = 4;
const IFLA_VXLAN_LEARNING: u16 = 7;
const IFLA_VXLAN_PROXY: u16 = 11;
const IFLA_VXLAN_PORT: u16 = 15;
const IFLA_VXLAN_GROUP6: u16 = 16;
const IFLA_VXLAN_LOCAL6: u16 = 17;
const IFLA_VXLAN_UDP_ZERO_CSUM6_TX: u16 = 19;
const IFLA_VXLAN_COLLECT_METADATA: u16 = 25;
/// Of Geneve.
const IFLA_GENEVE_PORT: u16 = 5;
const IFLA_GENEVE_COLLECT_METADATA: u16 = 6;

/// The request that makes a device as it should be; nothing where that is not known. A bridge has to be set
/// ([`setting`]) next: only then its MTU stays as it is.
pub fn making(name: &str, device: &Device) -> Option<Request> {
    let kind = kernels_name(&device.kind)?;
    let flags = if device.up { IFF_UP } else { 0 };
    let mut attributes = Attributes::after(&header(Index(0), flags, IFF_UP));
    attributes.put_text(IFLA_IFNAME, name).put_number(IFLA_MTU, first_mtu(device));
    if let Some(mac) = device.mac {
        attributes.put(IFLA_ADDRESS, &mac.0);
    }
    attributes.nest(IFLA_LINKINFO, |info| {
        info.put_text(IFLA_INFO_KIND, kind);
        info.nest(IFLA_INFO_DATA, |data| put_settings(data, &device.kind));
    });
    let object = format!("link {name} of kind {kind}");
    Some(Request::new(Operation::Add, object, message(RTM_NEWLINK, attributes), NLM_F_CREATE | NLM_F_EXCL))
}

/// The MTU that a device is made with. That of a bridge follows its ports until somebody changes it, which is done next.
const fn first_mtu(device: &Device) -> u32 {
    match device.kind {
        DeviceKind::Bridge => device.mtu.saturating_sub(1),
        _ => device.mtu,
    }
}

/// The request that makes a device as it should be in what can be changed of it: nothing else is named, for the kernel
/// forgets the neighbours of a device whose address is set, even to what it was.
pub fn setting(seen: &Link, device: &Device) -> Request {
    let flags = if device.up { IFF_UP } else { 0 };
    let mut attributes = Attributes::after(&header(seen.index, flags, IFF_UP));
    if let Some(mac) = device.mac.filter(|mac| seen.mac != Some(*mac)) {
        attributes.put(IFLA_ADDRESS, &mac.0);
    }
    if device.mtu != seen.mtu {
        attributes.put_number(IFLA_MTU, device.mtu);
    }
    Request::new(Operation::Change, format!("link {}", seen.name), message(RTM_SETLINK, attributes), 0)
}

/// What a kernel lacks that refuses to make a device of a kind: what people call it, and its module.
pub const fn module(kind: &DeviceKind) -> Option<(&'static str, &'static str)> {
    Some(match kind {
        DeviceKind::Bridge => ("bridges", "bridge"),
        DeviceKind::Ipip { .. } => ("IP in IP", "ipip"),
        DeviceKind::Ip6Tnl => ("IP in IPv6", "ip6_tunnel"),
        DeviceKind::Vxlan { .. } => ("VXLAN", "vxlan"),
        DeviceKind::Geneve { .. } => ("Geneve", "geneve"),
        DeviceKind::WireGuard => ("WireGuard", "wireguard"),
        DeviceKind::Other => return None,
    })
}

const fn kernels_name(kind: &DeviceKind) -> Option<&'static str> {
    Some(match kind {
        DeviceKind::Bridge => "bridge",
        DeviceKind::Ipip { .. } => "ipip",
        DeviceKind::Ip6Tnl => "ip6tnl",
        DeviceKind::Vxlan { .. } => "vxlan",
        DeviceKind::Geneve { .. } => "geneve",
        DeviceKind::WireGuard => "wireguard",
        DeviceKind::Other => return None,
    })
}

fn put_settings(data: &mut Attributes, kind: &DeviceKind) {
    match kind {
        DeviceKind::Bridge => {
            // That VLANs are not told apart is how a bridge is born; a kernel that cannot refuses to be told.
            data.put_number(IFLA_BR_STP_STATE, 0).put(IFLA_BR_MCAST_SNOOPING, &[0]);
            data.put(IFLA_BR_NF_CALL_IPTABLES, &[1]).put(IFLA_BR_NF_CALL_IP6TABLES, &[1]);
        }
        DeviceKind::Ipip { local } => {
            data.put(IFLA_IPTUN_LOCAL, &local.octets()).put(IFLA_IPTUN_TTL, &[TTL]);
            data.put(IFLA_IPTUN_PROTO, &[IPPROTO_IPIP]).put(IFLA_IPTUN_PMTUDISC, &[1]);
        }
        DeviceKind::Ip6Tnl => {
            data.put(IFLA_IPTUN_COLLECT_METADATA, &[]).put(IFLA_IPTUN_PROTO, &[ANY_PROTOCOL]);
            data.put_number(IFLA_IPTUN_FLAGS, NO_ENCAP_LIMIT).put(IFLA_IPTUN_TTL, &[TTL]);
        }
        DeviceKind::Vxlan { vni, port, local } => {
            let local_kind = if local.is_ipv4() { IFLA_VXLAN_LOCAL } else { IFLA_VXLAN_LOCAL6 };
            data.put_number(IFLA_VXLAN_ID, *vni).put(IFLA_VXLAN_PORT, &port.to_be_bytes());
            data.put_address(local_kind, *local).put(IFLA_VXLAN_LEARNING, &[0]);
            data.put(IFLA_VXLAN_UDP_ZERO_CSUM6_TX, &[0]);
        }
        DeviceKind::Geneve { port } => {
            data.put(IFLA_GENEVE_PORT, &port.to_be_bytes()).put(IFLA_GENEVE_COLLECT_METADATA, &[]);
        }
        DeviceKind::WireGuard | DeviceKind::Other => {}
    }
}

/// What a link is, of the kinds that Towpath makes and with the settings that it gives them; nothing where it has no kind.
pub(super) fn kind_of(info: Content<'_>) -> Option<DeviceKind> {
    let name = info.text(IFLA_INFO_KIND)?;
    let settings = Settings(info.nested(IFLA_INFO_DATA).unwrap_or(Content::EMPTY));
    let kind = match name.as_str() {
        "bridge" => settings.bridge(),
        "ipip" => settings.ipip(),
        "ip6tnl" => settings.ip6tnl(),
        "vxlan" => settings.vxlan(),
        "geneve" => settings.geneve(),
        "wireguard" => Some(DeviceKind::WireGuard),
        _ => None,
    };
    Some(kind.unwrap_or(DeviceKind::Other))
}

/// The settings of a link; each method tells what it is, where it is as we make it.
#[derive(Clone, Copy)]
struct Settings<'a>(Content<'a>);

impl Settings<'_> {
    fn byte(self, kind: u16) -> u8 {
        self.0.get(kind).and_then(|attribute| attribute.value.first().copied()).unwrap_or(0)
    }

    fn number(self, kind: u16) -> u32 {
        self.0.get(kind).and_then(|attribute| attribute.number()).unwrap_or(0)
    }

    fn port(self, kind: u16) -> Option<u16> {
        self.0.get(kind)?.value.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
    }

    fn address(self, kind: u16) -> Option<IpAddr> {
        self.0.get(kind)?.address()
    }

    /// Whether an address is named that is not that of nobody.
    fn names(self, kind: u16) -> bool {
        self.address(kind).is_some_and(|address| !address.is_unspecified())
    }

    fn bridge(self) -> Option<DeviceKind> {
        let off = self.number(IFLA_BR_STP_STATE) == 0
            && self.byte(IFLA_BR_VLAN_FILTERING) == 0
            && self.byte(IFLA_BR_MCAST_SNOOPING) == 0;
        let on = [IFLA_BR_NF_CALL_IPTABLES, IFLA_BR_NF_CALL_IP6TABLES].iter().all(|kind| self.byte(*kind) == 1);
        (off && on).then_some(DeviceKind::Bridge)
    }

    fn ipip(self) -> Option<DeviceKind> {
        let IpAddr::V4(local) = self.address(IFLA_IPTUN_LOCAL).unwrap_or(Ipv4Addr::UNSPECIFIED.into()) else {
            return None;
        };
        let plain = !self.names(IFLA_IPTUN_REMOTE)
            && self.number(IFLA_IPTUN_LINK) == 0
            && self.0.get(IFLA_IPTUN_COLLECT_METADATA).is_none();
        let set = (self.byte(IFLA_IPTUN_TTL), self.byte(IFLA_IPTUN_PMTUDISC), self.byte(IFLA_IPTUN_PROTO));
        (plain && set == (TTL, 1, IPPROTO_IPIP)).then_some(DeviceKind::Ipip { local })
    }

    fn ip6tnl(self) -> Option<DeviceKind> {
        let external = self.0.get(IFLA_IPTUN_COLLECT_METADATA).is_some();
        let anything = self.byte(IFLA_IPTUN_PROTO) == ANY_PROTOCOL;
        (external && anything).then_some(DeviceKind::Ip6Tnl)
    }

    fn vxlan(self) -> Option<DeviceKind> {
        let local = self.address(IFLA_VXLAN_LOCAL).or_else(|| self.address(IFLA_VXLAN_LOCAL6))?;
        let off = [IFLA_VXLAN_LEARNING, IFLA_VXLAN_PROXY, IFLA_VXLAN_COLLECT_METADATA, IFLA_VXLAN_UDP_ZERO_CSUM6_TX];
        let plain = off.iter().all(|kind| self.byte(*kind) == 0)
            && self.number(IFLA_VXLAN_LINK) == 0
            && !self.names(IFLA_VXLAN_GROUP)
            && !self.names(IFLA_VXLAN_GROUP6);
        let (vni, port) = (self.number(IFLA_VXLAN_ID), self.port(IFLA_VXLAN_PORT)?);
        plain.then_some(DeviceKind::Vxlan { vni, port, local })
    }

    fn geneve(self) -> Option<DeviceKind> {
        self.0.get(IFLA_GENEVE_COLLECT_METADATA)?;
        Some(DeviceKind::Geneve { port: self.port(IFLA_GENEVE_PORT)? })
    }
}
