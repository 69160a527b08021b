//! A node with pods and an outside, each in a namespace, and packets as they are on the wire.
//!
//! Namespaces of pods have no address: nobody answers, so each packet is judged by itself. What arrives is seen where it
//! arrives, before its kernel looks at it.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::os::fd::OwnedFd;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketType, ipproto, recv, sendto, socket};
use rustix::thread::{CpuSet, sched_setaffinity};
use towpath_kernel::netns::Namespace;

use crate::world::Packet;

/// How many pods the node can have.
pub const SLOTS: u8 = 4;
/// How long a packet may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// `ETH_P_ALL`, as the kernel wants it.
const EVERYTHING: u16 = 0x0003_u16.to_be();
/// Enough for all packets of one turn.
const BUFFER: usize = 8 << 20;
const ETHERNET: usize = 14;
/// The protocols of packets to the node itself that are seen there.
pub const OWN: [u8; 5] = [ICMP, 6, 17, 47, 132];
const ICMP: u8 = 1;
const FAMILIES: [AddressFamily; 2] = [AddressFamily::INET, AddressFamily::INET6];
/// Ethernet addresses: of the node's end of each link, and of the other end.
const NODE_MAC: &str = "02:00:00:00:00:01";
const END_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
/// Where the packet goes behind which nothing is on its way any more.
const LAST: [&str; 2] = ["198.51.100.1", "198.51.100.2"];

/// One of the places that are linked to the node.
struct Place {
    /// Sends whole packets of each family.
    out: [OwnedFd; 2],
    /// Gets whole frames.
    tap: OwnedFd,
}

/// All places, the outside last.
pub struct Lab {
    places: Vec<Place>,
    /// Get what is for the node itself, by protocol and family.
    own: Vec<(u8, AddressFamily, OwnedFd)>,
    last: u16,
}

/// Where an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// That of a pod of the node, by its place.
    Slot(u8),
    /// The node's own.
    Node,
    /// Anywhere else.
    Outside,
}

/// Whose an address is, whether or not there is a pod that has it.
pub fn whose(address: IpAddr) -> Whose {
    match address {
        IpAddr::V4(a) => match a.octets() {
            [10, 0, 1, number @ 1..=SLOTS] => Whose::Slot(number),
            [192, 168, 0 | 1, 1] => Whose::Node,
            _ => Whose::Outside,
        },
        IpAddr::V6(a) => match a.segments() {
            [0xfd00, 0, 0, 0, 0, 0, 1, number] if (1..=u16::from(SLOTS)).contains(&number) => {
                Whose::Slot(u8::try_from(number).unwrap())
            }
            [0xfd01, 0, 0, 0, 0, 0, 0, 1] => Whose::Node,
            _ => Whose::Outside,
        },
    }
}

impl Lab {
    /// Makes the namespace of the caller the node. All that happens, happens on one processor: packets keep their order.
    pub fn make() -> Self {
        let mut one = CpuSet::new();
        one.set(rustix::thread::sched_getcpu());
        sched_setaffinity(None, &one).unwrap();
        for setting in [
            "ipv4.ip_forward=1",
            "ipv6.conf.all.forwarding=1",
            "ipv4.conf.all.rp_filter=0",
            "ipv4.conf.default.rp_filter=0",
            "ipv4.conf.all.send_redirects=0",
            "ipv4.conf.default.send_redirects=0",
            "netfilter.nf_conntrack_checksum=0",
        ] {
            sh(&format!("sysctl -qw net.{setting}"));
        }
        for address in ["192.168.0.1", "192.168.1.1", "fd01::1"] {
            sh(&format!("ip address add {address} dev lo"));
        }
        for number in 1..=SLOTS {
            link(&place(number), &host_link(number));
            for address in [format!("10.0.1.{number}"), format!("fd00::1:{number}")] {
                route(&address, &host_link(number), &address);
            }
        }
        link("outside", "uplink");
        route("default", "uplink", "203.0.113.1");
        route("default", "uplink", "fd02::1");
        let places = (1..=SLOTS).map(place).chain(["outside".to_owned()]).map(|name| Place::open(&name)).collect();
        // The node answers nobody: answers would make connections of packets.
        sh("nft add table inet quiet");
        sh("nft add chain inet quiet output { type filter hook output priority 0 ; policy drop ; }");
        let own = OWN
            .into_iter()
            .flat_map(|protocol| FAMILIES.map(|family| (protocol, family, raw(family, protocol))))
            .collect();
        Self { places, own, last: 0 }
    }

    /// Sends packets, and tells of each whether it arrived. They come from where their source is.
    pub fn pass(&mut self, packets: &[Packet]) -> Vec<bool> {
        let first = self.last;
        for packet in packets {
            self.send(packet);
        }
        let [from, to] = LAST.map(|text| text.parse().unwrap());
        self.send(&Packet { source: from, destination: to, protocol: 17, port: Some(9) });
        let end = self.last;
        let outside = self.places.len() - 1;
        let mut arrived = self.arrivals(outside);
        let deadline = Instant::now() + PATIENCE;
        while !arrived.contains(&(end, to)) {
            assert!(Instant::now() < deadline, "the last packet does not arrive");
            arrived.extend(self.arrivals(outside));
        }
        for place in 0..outside {
            arrived.extend(self.arrivals(place));
        }
        let own = self.own_arrivals();
        let is_there = |(at, packet): (usize, &Packet)| {
            let number = first + u16::try_from(at).unwrap() + 1;
            match whose(packet.destination) {
                Whose::Node => own.contains(&number),
                Whose::Slot(_) | Whose::Outside => arrived.contains(&(number, packet.destination)),
            }
        };
        let seen = packets.iter().enumerate().map(is_there).collect();
        self.last = if end > 30_000 { 0 } else { end };
        seen
    }

    fn send(&mut self, packet: &Packet) {
        self.last += 1;
        let place = match whose(packet.source) {
            Whose::Slot(number) => usize::from(number) - 1,
            Whose::Node | Whose::Outside => self.places.len() - 1,
        };
        let bytes = wire(packet, self.last);
        let out = &self.places[place].out[usize::from(packet.destination.is_ipv6())];
        let sent = sendto(out, &bytes, SendFlags::empty(), &SocketAddr::new(packet.destination, 0));
        assert!(sent.is_ok(), "{packet}: {sent:?}");
    }

    /// The numbers of packets that came to the node itself.
    fn own_arrivals(&self) -> Vec<u16> {
        let mut buffer = [0; 2048];
        let mut found = Vec::new();
        for (protocol, family, socket) in &self.own {
            let header = if *family == AddressFamily::INET { 20 } else { 0 };
            let at = header + if *protocol == ICMP { 4 } else { 0 };
            while let Ok((_, length)) = recv(socket, &mut buffer[..], RecvFlags::DONTWAIT) {
                let number = buffer[..length].get(at..at + 2);
                found.extend(number.map(|number| u16::from_be_bytes([number[0], number[1]])));
            }
        }
        found
    }

    /// The numbers and destinations of packets that came to a place.
    fn arrivals(&self, place: usize) -> Vec<(u16, IpAddr)> {
        let mut buffer = [0; 2048];
        let mut found = Vec::new();
        while let Ok((_, length)) = recv(&self.places[place].tap, &mut buffer[..], RecvFlags::DONTWAIT) {
            found.extend(number(&buffer[..length]));
        }
        found
    }
}

impl Place {
    fn open(name: &str) -> Self {
        let namespace = Namespace::open(format!("/run/netns/{name}")).unwrap();
        let open = || {
            let everything = Protocol::from_raw(NonZeroU32::new(u32::from(EVERYTHING)).unwrap());
            let tap = socket(AddressFamily::PACKET, SocketType::RAW, Some(everything)).unwrap();
            set_socket_recv_buffer_size_force(&tap, BUFFER).unwrap();
            let out = FAMILIES.map(|family| socket(family, SocketType::RAW, Some(ipproto::RAW)).unwrap());
            Self { out, tap }
        };
        namespace.run(open).unwrap()
    }
}

/// What gets the packets of a protocol that are for the node of the caller.
fn raw(family: AddressFamily, protocol: u8) -> OwnedFd {
    let protocol = Protocol::from_raw(NonZeroU32::new(u32::from(protocol)).unwrap());
    let socket = socket(family, SocketType::RAW, Some(protocol)).unwrap();
    set_socket_recv_buffer_size_force(&socket, BUFFER).unwrap();
    socket
}

/// The name of a pod's link on the node.
pub fn host_link(number: u8) -> String {
    format!("tow{number:012x}")
}

/// Makes every packet the first one of its connection.
pub fn forget_connections() {
    sh("conntrack -F");
}

fn place(number: u8) -> String {
    format!("p{number}")
}

fn sh(line: &str) {
    let mut words = line.split_whitespace();
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A place, linked to the node, from which everything goes to the node.
fn link(name: &str, host: &str) {
    let mac = END_MAC.map(|byte| format!("{byte:02x}")).join(":");
    sh(&format!("ip netns add {name}"));
    sh(&format!("ip link add {host} address {NODE_MAC} type veth peer name eth0 address {mac} netns {name}"));
    sh(&format!("ip link set {host} up"));
    for link in ["lo", "eth0"] {
        sh(&format!("ip -n {name} link set {link} up"));
    }
    for gateway in ["203.0.113.1", "fd02::1"] {
        sh(&format!("ip -n {name} neighbour add {gateway} lladdr {NODE_MAC} dev eth0 nud permanent"));
        sh(&format!("ip -n {name} route add default via {gateway} dev eth0 onlink"));
    }
}

/// A route of the node, by a neighbour that need not be asked for.
fn route(to: &str, device: &str, neighbour: &str) {
    let mac = END_MAC.map(|byte| format!("{byte:02x}")).join(":");
    sh(&format!("ip neighbour add {neighbour} lladdr {mac} dev {device} nud permanent"));
    if to == "default" {
        sh(&format!("ip route add default via {neighbour} dev {device} onlink"));
    } else {
        sh(&format!("ip route add {to} dev {device}"));
    }
}

/// A packet as it is on the wire. Its number is where routers leave it alone: IPv4's identification, IPv6's flow label.
fn wire(packet: &Packet, number: u16) -> Vec<u8> {
    let body = transport(packet, number);
    let length = u16::try_from(body.len()).unwrap();
    let mut bytes = Vec::new();
    match (packet.source, packet.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            bytes.extend([0x45, 0]);
            bytes.extend((20 + length).to_be_bytes());
            bytes.extend(number.to_be_bytes());
            bytes.extend([0x40, 0, 64, packet.protocol, 0, 0]);
            bytes.extend(source.octets());
            bytes.extend(destination.octets());
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            bytes.extend([0x60, 0]);
            bytes.extend(number.to_be_bytes());
            bytes.extend(length.to_be_bytes());
            bytes.extend([packet.protocol, 64]);
            bytes.extend(source.octets());
            bytes.extend(destination.octets());
        }
        _ => panic!("both ends of {packet} must be of one family"),
    }
    bytes.extend(body);
    bytes
}

/// What follows the IP header: the beginning of a connection, where the protocol has such.
fn transport(packet: &Packet, number: u16) -> Vec<u8> {
    let port = packet.port.unwrap_or(80);
    let mut bytes = Vec::new();
    bytes.extend(number.to_be_bytes());
    bytes.extend(port.to_be_bytes());
    match packet.protocol {
        // SYN, with a header of 20 bytes and a window.
        6 => bytes.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0x20, 0, 0, 0, 0, 0]),
        // 16 bytes in all, without a checksum.
        17 => bytes.extend([0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        // INIT: tag, credit, streams, sequence number.
        132 => bytes.extend([0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 20, 0, 0, 0, 1, 0, 0, 0x80, 0, 0, 1, 0, 1, 0, 0, 0, 1]),
        // Echo request of ICMP and ICMPv6.
        1 | 58 => {
            bytes = vec![if packet.protocol == 1 { 8 } else { 128 }, 0, 0, 0];
            bytes.extend(number.to_be_bytes());
            bytes.extend([0, 1]);
        }
        _ => bytes.extend([0; 16]),
    }
    bytes
}

/// The number and the destination of a packet that came by a link; nothing of what was sent from here.
fn number(frame: &[u8]) -> Option<(u16, IpAddr)> {
    if frame.get(..6)? != END_MAC {
        return None;
    }
    let packet = frame.get(ETHERNET..)?;
    let (number, destination): (&[u8], IpAddr) = match packet.first()? >> 4 {
        4 => (packet.get(4..6)?, <[u8; 4]>::try_from(packet.get(16..20)?).ok()?.into()),
        6 => (packet.get(2..4)?, <[u8; 16]>::try_from(packet.get(24..40)?).ok()?.into()),
        _ => return None,
    };
    Some((u16::from_be_bytes([number[0], number[1]]), destination))
}
