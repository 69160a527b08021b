//! Packets as somebody would forge them.

use std::net::{IpAddr, SocketAddr};

use towpath_net::mac::Mac;

/// The port that inner packets are for.
pub const PORT: u16 = 7777;

/// Headers of a tunnel before an Ethernet frame.
#[derive(Clone, Copy)]
pub enum Wrapping {
    Vxlan {
        vni: u32,
    },
    Geneve {
        vni: u32,
        options: bool,
    },
    /// None: the packet is in the IP header itself.
    Ipip,
}

/// A UDP packet with its IP header.
pub fn packet(source: IpAddr, destination: IpAddr, words: &str) -> Vec<u8> {
    let len = u16::try_from(8 + words.len()).unwrap();
    let mut udp = [PORT.to_be_bytes(), PORT.to_be_bytes(), len.to_be_bytes(), [0; 2]].concat();
    udp.extend(words.as_bytes());
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let [high, low] = (20 + len).to_be_bytes();
            let mut header = vec![0x45, 0, high, low, 0, 0, 0x40, 0, 64, 17, 0, 0];
            header.extend(source.octets());
            header.extend(destination.octets());
            let sum = checksum(&header);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            [header, udp].concat()
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let addresses = [source.octets(), destination.octets()].concat();
            let pseudo = [&addresses[..], &[0, 0], &len.to_be_bytes(), &[0, 0, 0, 17], &udp].concat();
            udp[6..8].copy_from_slice(&checksum(&pseudo).to_be_bytes());
            let [high, low] = len.to_be_bytes();
            [&[0x60, 0, 0, 0, high, low, 17, 64], &addresses[..], &udp].concat()
        }
        _ => unreachable!("one family"),
    }
}

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low)));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap()
}

/// What goes behind the outer IP and UDP headers.
pub fn wrapped(wrapping: Wrapping, to: Mac, packet: &[u8]) -> Vec<u8> {
    let kind: [u8; 2] = if packet[0] >> 4 == 4 { [0x08, 0x00] } else { [0x86, 0xdd] };
    let frame = [&to.0[..], &[2, 0, 0, 0, 0, 9], &kind, packet].concat();
    let number = |vni: u32| (vni << 8).to_be_bytes();
    match wrapping {
        Wrapping::Vxlan { vni } => [&[0x08, 0, 0, 0], &number(vni)[..], &frame].concat(),
        Wrapping::Geneve { vni, options: false } => [&[0, 0, 0x65, 0x58], &number(vni)[..], &frame].concat(),
        Wrapping::Geneve { vni, options: true } => {
            [&[1, 0, 0x65, 0x58], &number(vni)[..], &[0, 0, 1, 0], &frame].concat()
        }
        Wrapping::Ipip => packet.to_vec(),
    }
}

/// Where a tunnel is reached.
pub const fn port(wrapping: Wrapping) -> u16 {
    match wrapping {
        Wrapping::Vxlan { .. } => 4789,
        Wrapping::Geneve { .. } => 6081,
        Wrapping::Ipip => 0,
    }
}

/// Sends from the namespace of the caller, with an address that need not be its own.
pub fn send(from: IpAddr, to: SocketAddr, wrapping: Wrapping, content: &[u8]) {
    use rustix::net::{AddressFamily, SendFlags, SocketType, bind, ipproto, sendto, socket, sockopt};
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let (kind, protocol) = match (wrapping, to) {
        (Wrapping::Vxlan { .. } | Wrapping::Geneve { .. }, _) => (SocketType::DGRAM, ipproto::UDP),
        (Wrapping::Ipip, SocketAddr::V4(_)) => (SocketType::RAW, ipproto::IPIP),
        (Wrapping::Ipip, SocketAddr::V6(_)) => (SocketType::RAW, ipproto::IPV6),
    };
    let socket = socket(family, kind, Some(protocol)).unwrap();
    if from.is_ipv4() {
        sockopt::set_ip_freebind(&socket, true).unwrap();
        sockopt::set_socket_broadcast(&socket, true).unwrap();
    } else {
        sockopt::set_ipv6_freebind(&socket, true).unwrap();
    }
    bind(&socket, &SocketAddr::new(from, 0)).unwrap();
    let sent = sendto(&socket, content, SendFlags::empty(), &to);
    assert!(sent.is_ok(), "from {from}: {sent:?}");
}
