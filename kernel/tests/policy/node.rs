//! A node with pods, each in a namespace of its own, and somebody outside. What is sent is real.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketType};
use towpath_kernel::testing::attach;
pub use towpath_kernel::testing::{inside, run};

use crate::bundles::address;

pub const PATIENCE: Duration = Duration::from_secs(30);
/// The node as those outside see it; who is outside.
pub const UPLINK: [&str; 2] = ["172.16.0.1", "fd16::1"];
pub const OUTSIDE: [&str; 2] = ["172.16.0.9", "fd16::9"];

/// The addresses of the pod of this name: a letter from `a` on.
pub fn addresses_of(pod: &str) -> [IpAddr; 2] {
    let number = pod.as_bytes()[0] - b'a' + 2;
    [address(&format!("10.0.0.{number}")), address(&format!("fd00::{number}"))]
}

/// This namespace becomes a node with these pods.
pub fn make(pods: &[&str]) {
    for setting in ["net.ipv4.ip_forward=1", "net.ipv4.conf.all.rp_filter=0", "net.ipv6.conf.all.forwarding=1"] {
        run(&format!("sysctl -qw {setting}"));
    }
    run("ip netns add outside");
    run("ip link add eth0 type veth peer name eth0 netns outside");
    run("ip link set eth0 up");
    run("ip -n outside link set eth0 up");
    run("ip -n outside link set lo up");
    for (node, outside, all) in [(UPLINK[0], OUTSIDE[0], "24"), (UPLINK[1], OUTSIDE[1], "64")] {
        let nodad = if node.contains(':') { "nodad" } else { "" };
        run(&format!("ip address add {node}/{all} dev eth0 {nodad}"));
        run(&format!("ip -n outside address add {outside}/{all} dev eth0 {nodad}"));
        run(&format!("ip -n outside route add default via {node}"));
    }
    for pod in pods {
        attach(None, &format!("tow00000000000{pod}"), pod, &addresses_of(pod));
    }
}

/// What is sent, and to which port.
#[derive(Clone, Copy, Debug)]
pub enum Packet {
    Udp(u16),
    /// Larger than a link carries at once.
    Fragments(u16),
    Tcp(u16),
    /// A protocol above IP that has no ports.
    Bare(u8),
    Echo,
}

/// Whether a packet of somebody to a pod arrives there. `to` may be an address that leads to `at` some other way.
pub fn arrives(from: &str, at: &str, to: IpAddr, packet: Packet) -> bool {
    match packet {
        Packet::Tcp(port) => connects(from, at, SocketAddr::new(to, port)).is_some(),
        Packet::Udp(port) => datagram_arrives(from, at, SocketAddr::new(to, port), 100),
        Packet::Fragments(port) => datagram_arrives(from, at, SocketAddr::new(to, port), 4000),
        Packet::Bare(number) => bare_arrives(from, at, to, i32::from(number)),
        Packet::Echo => bare_arrives(from, at, to, if to.is_ipv4() { 1 } else { 58 }),
    }
}

fn wildcard(like: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(address(if like.is_ipv4() { "0.0.0.0" } else { "::" }), port)
}

fn own_of(at: &str, like: IpAddr) -> IpAddr {
    addresses_of(at)[usize::from(like.is_ipv6())]
}

/// The node always reaches its pods: what it sends comes behind all that arrived at all.
fn datagram_arrives(from: &str, at: &str, to: SocketAddr, length: usize) -> bool {
    let listener = inside(at, || UdpSocket::bind(wildcard(to.ip(), to.port())).unwrap());
    listener.set_read_timeout(Some(PATIENCE)).unwrap();
    let sender = inside(from, || UdpSocket::bind(wildcard(to.ip(), 0)).unwrap());
    _ = sender.send_to(&vec![b'p'; length], to);
    let node = UdpSocket::bind(wildcard(to.ip(), 0)).unwrap();
    node.send_to(b"marker", (own_of(at, to.ip()), to.port())).unwrap();
    let mut buffer = [0; 8000];
    let len = listener.recv(&mut buffer).unwrap();
    &buffer[..len] != b"marker"
}

/// A connection to a pod, both ends; nothing where none came about.
pub fn connects(from: &str, at: &str, to: SocketAddr) -> Option<(TcpStream, TcpStream)> {
    let listener = inside(at, || TcpListener::bind(wildcard(to.ip(), to.port())).unwrap());
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = inside(from, || {
        let socket = rustix::net::socket(family, SocketType::STREAM, None).unwrap();
        rustix::io::ioctl_fionbio(&socket, true).unwrap();
        _ = rustix::net::connect(&socket, &to);
        socket
    });
    // Whoever came before the node came.
    let own = SocketAddr::new(own_of(at, to.ip()), to.port());
    let marker = TcpStream::connect_timeout(&own, PATIENCE).unwrap();
    let (accepted, peer) = listener.accept().unwrap();
    if peer == marker.local_addr().unwrap() {
        return None;
    }
    let stream = TcpStream::from(socket);
    stream.set_nonblocking(false).unwrap();
    Some((stream, accepted))
}

/// Whether words still go through a connection, both ways.
pub fn talks((from, to): &mut (TcpStream, TcpStream)) -> bool {
    let mut buffer = [0; 4];
    from.set_read_timeout(Some(PATIENCE)).unwrap();
    to.set_read_timeout(Some(PATIENCE)).unwrap();
    from.write_all(b"ping").unwrap();
    to.read_exact(&mut buffer).unwrap();
    to.write_all(b"pong").unwrap();
    from.read_exact(&mut buffer).unwrap();
    &buffer == b"pong"
}

fn bare(place: &str, like: IpAddr, protocol: i32) -> OwnedFd {
    let family = if like.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let number = std::num::NonZeroU32::new(protocol.unsigned_abs()).unwrap();
    let protocol = Protocol::from_raw(number);
    let open = || rustix::net::socket(family, SocketType::RAW, Some(protocol)).unwrap();
    if place.is_empty() { open() } else { inside(place, open) }
}

fn bare_arrives(from: &str, at: &str, to: IpAddr, protocol: i32) -> bool {
    let listener = bare(at, to, protocol);
    let send = |place: &str, words: &[u8], to: IpAddr| {
        // An echo request (RFC 792, RFC 4443 section 4.1), and for other protocols just bytes.
        let kind = if to.is_ipv4() { 8 } else { 128 };
        let bytes = [&[kind, 0, 0, 0, 0, 9, 0, 1], words].concat();
        _ = rustix::net::sendto(bare(place, to, protocol), &bytes, SendFlags::empty(), &SocketAddr::new(to, 0));
    };
    send(from, b"packet", to);
    send("", b"marker", own_of(at, to));
    let end = Instant::now() + PATIENCE;
    let mut buffer = [0; 500];
    loop {
        let len = match rustix::net::recv(&listener, &mut buffer, RecvFlags::DONTWAIT) {
            Ok((len, _)) => len,
            Err(error) if std::io::Error::from(error).kind() == ErrorKind::WouldBlock => {
                assert!(Instant::now() < end, "nothing arrives at {at}");
                continue;
            }
            Err(error) => panic!("{error}"),
        };
        match &buffer[..len] {
            bytes if bytes.ends_with(b"marker") => return false,
            bytes if bytes.ends_with(b"packet") => return true,
            // Answers, and neighbours that look for each other.
            _ => {}
        }
    }
}
