//! Ports of the node that programs of the node use.

use std::net::{IpAddr, SocketAddr};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, ipproto, socket_with, sockopt};
use towpath_net::Family;
use towpath_net::lease::Protocol;

/// Whether no program of this network namespace receives what is sent to a port of an address of its own; also false
/// where that cannot be told.
///
/// The kernel answers that as it would answer a program that wants the port. Nothing is ever received: a TCP port that
/// nobody listens on is free for all, and a UDP port is held for as long as the call takes.
pub fn is_free(address: IpAddr, protocol: Protocol, port: u16) -> bool {
    match try_bind(address, protocol, port) {
        // Nobody can use what the kernel does not have.
        Ok(()) | Err(Errno::AFNOSUPPORT | Errno::PROTONOSUPPORT | Errno::ADDRNOTAVAIL) => true,
        Err(_) => false,
    }
}

fn try_bind(address: IpAddr, protocol: Protocol, port: u16) -> rustix::io::Result<()> {
    let family = match Family::of(address) {
        Family::V4 => AddressFamily::INET,
        Family::V6 => AddressFamily::INET6,
    };
    let (kind, number) = match protocol {
        Protocol::Tcp => (SocketType::STREAM, ipproto::TCP),
        Protocol::Udp => (SocketType::DGRAM, ipproto::UDP),
        Protocol::Sctp => (SocketType::STREAM, ipproto::SCTP),
    };
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC, Some(number))?;
    if protocol != Protocol::Udp {
        // Connections that have ended do not count; listeners do all the same.
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    bind(&socket, &SocketAddr::new(address, port))
}
