//! What is seen on the wire.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    num::NonZeroU32,
    os::fd::OwnedFd,
};

use ipnet::IpNet;
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SocketType, recv, socket, sockopt::set_socket_recv_buffer_size_force,
};
use towpath_net::transport::{Transport, Tunnels};

use crate::ground::{Named, pod_ranges};

/// `ETH_P_ALL`, as the kernel wants it.
const EVERYTHING: u16 = 0x0003_u16.to_be();
/// Enough for all packets of one cell.
const BUFFER: usize = 64 << 20;
const ETHERNET: usize = 14;

/// A socket that gets every frame of the wire.
pub struct Capture {
    socket: OwnedFd,
    /// Out of which pods have their addresses.
    pods: Vec<IpNet>,
}

impl Capture {
    pub fn begin(wire: &Named) -> Self {
        Self::of_pods(wire, pod_ranges().into())
    }

    pub fn of_pods(wire: &Named, pods: Vec<IpNet>) -> Self {
        let protocol = Protocol::from_raw(NonZeroU32::new(u32::from(EVERYTHING)).unwrap());
        let open = || socket(AddressFamily::PACKET, SocketType::RAW, Some(protocol)).unwrap();
        let socket = wire.namespace.run(open).unwrap();
        set_socket_recv_buffer_size_force(&socket, BUFFER).unwrap();
        Self { socket, pods }
    }

    /// How many packets there were since the beginning, by what they travelled by: `Direct` are packets of pods in
    /// clear.
    pub fn seen(&self) -> BTreeMap<Transport, usize> {
        let mut seen = BTreeMap::new();
        let mut buffer = vec![0; 65536];
        while let Ok((_, length)) = recv(&self.socket, &mut buffer[..], RecvFlags::DONTWAIT) {
            if let Some(transport) = transport(&buffer[..length], &self.pods) {
                *seen.entry(transport).or_default() += 1;
            }
        }
        seen
    }
}

/// By what a frame travels; nothing where it is none of a pod's.
fn transport(frame: &[u8], pods: &[IpNet]) -> Option<Transport> {
    let packet = frame.get(ETHERNET..)?;
    let (protocol, start, ends): (u8, usize, [IpAddr; 2]) = match frame.get(12..14)? {
        [0x08, 0x00] => {
            let address = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?));
            let start = usize::from(packet.first()? & 0x0f) * 4;
            (*packet.get(9)?, start, [address(12)?.into(), address(16)?.into()])
        }
        [0x86, 0xdd] => {
            let address = |at: usize| Some(Ipv6Addr::from(<[u8; 16]>::try_from(packet.get(at..at + 16)?).ok()?));
            (*packet.get(6)?, 40, [address(8)?.into(), address(24)?.into()])
        }
        _ => return None,
    };
    if ends.iter().any(|end| pods.iter().any(|range| range.contains(end))) {
        return Some(Transport::Direct);
    }
    let port = || Some(u16::from_be_bytes([*packet.get(start + 2)?, *packet.get(start + 3)?]));
    match protocol {
        4 | 41 => Some(Transport::Ipip),
        17 => of_port(port()?),
        _ => None,
    }
}

fn of_port(port: u16) -> Option<Transport> {
    let tunnels = Tunnels::default();
    let first = tunnels.wire_guard.port;
    match port {
        port if port == tunnels.vxlan.port => Some(Transport::Vxlan),
        port if port == tunnels.geneve.port => Some(Transport::Geneve),
        port if port == first || port == first + 1 => Some(Transport::WireGuard),
        _ => None,
    }
}
