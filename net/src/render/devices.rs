//! The node's own links: tunnels, and the bridge.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::leases::{has_bridge, is_bridged};
use super::mtu::ETHERNET;
use super::vantage::{Vantage, tunnel_address};
use crate::device::{BRIDGE, Device, DeviceKind, GENEVE, IPIP, VXLAN, tunnel_mac, wireguard};
use crate::family::{Family, host_net};
use crate::lease::Lease;
use crate::observed::{Address, Cipher, Desired, Surroundings};
use crate::state::{NodeName, NodeState};
use crate::transport::{Slot, Transport};

/// A tunnel device, and the families of packets that travel by it.
struct Tunnel {
    name: &'static str,
    device: Device,
    carries: Vec<Family>,
}

/// Renders the tunnels, with the node's addresses on them and with what WireGuard is to be.
pub fn render_tunnels(own: &Vantage<'_>, node: &NodeName, desired: &mut Desired) {
    for Tunnel { name, device, carries } in tunnels(own, node) {
        for family in carries {
            let address = tunnel_address(&own.spec.pod_cidrs, family).map(host_net);
            desired.addresses.extend(address.map(|address| Address { link: name.into(), address }));
        }
        desired.devices.insert(name.to_owned(), device);
    }
    for (slot, name) in Slot::ALL.map(|slot| (slot, wireguard(slot))) {
        if desired.devices.contains_key(name) {
            let public_key = own.keys.and_then(|keys| keys.of(slot));
            let port = own.spec.transport.tunnels.wire_guard.port_of(slot);
            desired.ciphers.insert(name.to_owned(), Cipher { public_key, port, peers: BTreeMap::new() });
        }
    }
}

/// Renders the bridge. It carries no more than the least of its pods: what is larger than a port's MTU is lost on a bridge.
pub fn render_bridge_device(node: &NodeName, pod_mtu: Option<u32>, leases: &[Lease], desired: &mut Desired) {
    let taken = leases.iter().filter(|lease| is_bridged(lease)).map(|lease| lease.mtu).filter(|mtu| *mtu > 0);
    let mtu = taken.chain(pod_mtu).min().unwrap_or(ETHERNET);
    let device = Device { kind: DeviceKind::Bridge, mac: Some(tunnel_mac(node)), mtu, up: true };
    desired.devices.insert(BRIDGE.to_owned(), device);
}

/// The names of all that the node will have, whatever it is connected to.
pub fn device_names(state: &NodeState, leases: &[Lease]) -> BTreeSet<&'static str> {
    let nowhere = Surroundings::default();
    let tunnels = tunnels(&Vantage::new(state, &nowhere, None), &state.node);
    let bridge = has_bridge(state, leases).then_some(BRIDGE);
    tunnels.into_iter().map(|tunnel| tunnel.name).chain(bridge).collect()
}

fn tunnels(own: &Vantage<'_>, node: &NodeName) -> Vec<Tunnel> {
    own.transports().flat_map(|transport| tunnels_of(own, node, transport)).collect()
}

fn tunnels_of(own: &Vantage<'_>, node: &NodeName, transport: Transport) -> Vec<Tunnel> {
    let outer = own.outer(transport);
    let here = |family: Family| own.addresses.get(family).filter(|_| *outer.get(family));
    let each = || Family::ALL.into_iter().filter_map(|family| here(family).map(|address| (family, address)));
    let tunnels = own.spec.transport.tunnels;
    let mac = Some(tunnel_mac(node));
    let make = |name, kind, mac, outer: Vec<Family>, carries: Vec<Family>| {
        let device = Device { kind, mac, mtu: own.device_mtu(transport, outer), up: true };
        Tunnel { name, device, carries }
    };
    match transport {
        Transport::Direct => Vec::new(),
        Transport::Ipip => {
            let kind = |address| match address {
                IpAddr::V4(local) => DeviceKind::Ipip { local },
                IpAddr::V6(_) => DeviceKind::Ip6Tnl,
            };
            each().map(|(f, address)| make(IPIP.get(f), kind(address), None, vec![f], vec![f])).collect()
        }
        Transport::Vxlan => {
            let kind = |local| DeviceKind::Vxlan { vni: tunnels.vxlan.vni, port: tunnels.vxlan.port, local };
            let carries = |family| carried(own, family);
            each().map(|(f, address)| make(VXLAN.get(f), kind(address), mac, vec![f], carries(f))).collect()
        }
        Transport::Geneve => {
            let kind = DeviceKind::Geneve { port: tunnels.geneve.port };
            let any = each().next().map(|_| {
                let usual = own.usual_outer(transport).collect();
                make(GENEVE, kind, mac, usual, Family::ALL.into())
            });
            any.into_iter().collect()
        }
        Transport::WireGuard => {
            let usual = || own.usual_outer(transport).collect();
            let any = each().next().map(|_| Slot::ALL);
            let device = |slot| make(wireguard(slot), DeviceKind::WireGuard, None, usual(), Family::ALL.into());
            any.into_iter().flatten().map(device).collect()
        }
    }
}

/// The families of packets that travel between addresses of one: its own, and those that the node has no address of.
fn carried(own: &Vantage<'_>, outer: Family) -> Vec<Family> {
    Family::ALL.into_iter().filter(|family| *family == outer || own.addresses.get(*family).is_none()).collect()
}
