//! As much of SCTP (RFC 9260) as connection tracking looks at: no kernel is needed that speaks it.

use std::net::IpAddr;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, ipproto, recvfrom, sendto, socket, sockopt};
use towpath_kernel::netns::Namespace;

use super::support::DEADLINE;

/// The ports of a packet.
#[derive(Debug, PartialEq, Eq)]
pub struct Ports {
    /// Of its source.
    pub from: u16,
    /// Of its destination.
    pub to: u16,
}

/// A socket that takes packets as they are.
pub struct Raw(OwnedFd);

impl Raw {
    /// Opens a socket in a namespace.
    pub fn open(namespace: &Namespace) -> Self {
        let raw = namespace.run(|| socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::SCTP)).unwrap()).unwrap();
        sockopt::set_socket_timeout(&raw, sockopt::Timeout::Recv, Some(DEADLINE)).unwrap();
        Self(raw)
    }

    /// Sends a packet.
    pub fn send(&self, to: &str, packet: &[u8]) {
        let to = SocketAddr::new(to.parse().unwrap(), 0);
        assert_eq!(sendto(&self.0, packet, SendFlags::empty(), &to).unwrap(), packet.len());
    }

    /// Takes one packet, whose checksum must be right: where it came from, and its ports.
    pub fn receive(&self) -> (IpAddr, Ports) {
        let mut buffer = [0; 256];
        let (_, length, from) = recvfrom(&self.0, &mut buffer[..], RecvFlags::empty()).unwrap();
        let ip = usize::from(buffer[0] & 15) * 4;
        let sctp = &buffer[ip..length];
        assert_eq!(sctp, with_checksum(sctp.to_vec()), "its checksum is wrong");
        let port = |at: usize| u16::from_be_bytes([sctp[at], sctp[at + 1]]);
        let from = SocketAddr::try_from(from.unwrap()).unwrap().ip();
        (from, Ports { from: port(0), to: port(2) })
    }
}

/// The first packet of an association: INIT (section 3.3.2).
pub fn initiation(from: u16, to: u16) -> Vec<u8> {
    packet(from, to, 0, 1)
}

/// Its answer: INIT ACK (section 3.3.3).
pub fn acknowledgement(from: u16, to: u16) -> Vec<u8> {
    packet(from, to, TAG, 2)
}

/// What both sides call the association.
const TAG: u32 = 0x0746_6f77;

fn packet(from: u16, to: u16, verification: u32, chunk: u8) -> Vec<u8> {
    let mut bytes = [from.to_be_bytes(), to.to_be_bytes()].concat();
    bytes.extend(verification.to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend([chunk, 0, 0, 20]);
    bytes.extend(TAG.to_be_bytes());
    // The window, and the numbers of streams to and fro.
    bytes.extend([0, 1, 0, 0, 0, 1, 0, 1]);
    bytes.extend(1_u32.to_be_bytes());
    with_checksum(bytes)
}

/// The CRC32 of Castagnoli over the packet without its checksum (appendix A).
fn with_checksum(mut packet: Vec<u8>) -> Vec<u8> {
    packet[8..12].fill(0);
    let mut sum = u32::MAX;
    for byte in &packet {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            sum = if sum & 1 == 1 { sum >> 1 ^ 0x82f6_3b78 } else { sum >> 1 };
        }
    }
    packet[8..12].copy_from_slice(&(!sum).to_le_bytes());
    packet
}
