//! Words that go there and back, over connections and in datagrams; and how it is known that they do not.
//!
//! What is sent on one processor is handled in the order in which it was sent, in all namespaces. So who waits until
//! enough of its own has gone round has waited until all that was sent before has come as far as it will.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::{Errno, ioctl_fionbio};
use rustix::net::{
    self, AddressFamily, RecvFlags, SendFlags, SocketType, acceptfrom, ipproto, recvfrom,
    sockopt::{set_socket_linger, set_socket_reuseaddr, socket_error},
};
use towpath_kernel::netns::Namespace;
use towpath_net::lease::Protocol;

use super::steps::Attempt;

/// More packets than there are on all legs of an exchange: at most five, of at most six packets, with neighbours that are
/// looked for.
const ROUNDS: usize = 64;
const PATIENCE: Duration = Duration::from_secs(30);
const BACKLOG: i32 = 16;
const WORD: &[u8] = b"word";
const ANSWER: &[u8] = b"answer";

/// Where somebody is, and the address there.
type At<'a> = (&'a Namespace, IpAddr);

/// All who listen. Each listens at one address: an association has no more then.
pub struct Servers {
    listening: HashMap<(SocketAddr, u8), OwnedFd>,
    /// No two attempts are from the same port: what the kernel remembers of one says nothing of another.
    last_port: u16,
    round: UdpSocket,
}

impl Default for Servers {
    fn default() -> Self {
        let round = UdpSocket::bind("127.0.0.1:0").unwrap();
        round.connect(round.local_addr().unwrap()).unwrap();
        round.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { listening: HashMap::new(), last_port: 20_000, round }
    }
}

impl Servers {
    /// Whether words of somebody come to somebody else, and answers back.
    pub fn reached(&mut self, (from, own): At<'_>, (to, theirs): At<'_>, attempt: &Attempt) -> bool {
        self.last_port += 1;
        let (source, target) = (SocketAddr::new(own, self.last_port), SocketAddr::new(theirs, attempt.port));
        let key = (target, attempt.protocol.number());
        let server = self.listening.entry(key).or_insert_with(|| listen(to, target, attempt.protocol));
        let client = open(from, source, attempt.protocol);
        match net::connect(&client, &target) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => panic!("{attempt:?}: {error}"),
        }
        let heard = match attempt.protocol {
            Protocol::Udp => datagram(&self.round, server, &client, source),
            Protocol::Tcp | Protocol::Sctp => connection(&self.round, server, &client, source),
        };
        // Nobody is refused: what is forbidden is dropped.
        assert!(heard || socket_error(&client).unwrap() == Ok(()), "{attempt:?} is refused");
        heard
    }
}

fn connection(round: &UdpSocket, server: &OwnedFd, client: &OwnedFd, source: SocketAddr) -> bool {
    go_round(round);
    let Some(accepted) = accepted(server, source) else { return false };
    set_socket_linger(&accepted, Some(Duration::ZERO)).unwrap();
    ioctl_fionbio(&accepted, true).unwrap();
    net::send(client, WORD, SendFlags::NOSIGNAL).unwrap();
    go_round(round);
    assert_eq!(word(&accepted).map(|(word, _)| word), Some(WORD.to_vec()), "{source} is connected");
    net::send(&accepted, ANSWER, SendFlags::NOSIGNAL).unwrap();
    go_round(round);
    assert_eq!(word(client).map(|(word, _)| word), Some(ANSWER.to_vec()), "{source} is connected");
    true
}

fn datagram(round: &UdpSocket, server: &OwnedFd, client: &OwnedFd, source: SocketAddr) -> bool {
    net::send(client, WORD, SendFlags::empty()).unwrap();
    go_round(round);
    let Some((_, from)) = word(server) else { return false };
    assert_eq!(from, Some(source));
    net::sendto(server, ANSWER, SendFlags::empty(), &source).unwrap();
    go_round(round);
    assert_eq!(word(client).map(|(word, _)| word), Some(ANSWER.to_vec()), "{source} is answered");
    true
}

/// The connection of somebody, where it came about.
fn accepted(server: &OwnedFd, source: SocketAddr) -> Option<OwnedFd> {
    match acceptfrom(server) {
        Ok((accepted, from)) => {
            let from = from.and_then(|from| SocketAddr::try_from(from).ok());
            assert_eq!(from, Some(source), "somebody else is connected");
            Some(accepted)
        }
        Err(Errno::AGAIN) => None,
        Err(error) => panic!("{source}: {error}"),
    }
}

/// What has come, and, in a datagram, of whom.
fn word(socket: &OwnedFd) -> Option<(Vec<u8>, Option<SocketAddr>)> {
    let mut buffer = [0; 100];
    match recvfrom(socket, &mut buffer[..], RecvFlags::DONTWAIT) {
        Ok((_, length, from)) => Some((buffer[..length].to_vec(), from.and_then(|from| from.try_into().ok()))),
        Err(Errno::AGAIN) => None,
        Err(error) => panic!("{error}"),
    }
}

/// Waits until all that was sent is where it will be.
fn go_round(round: &UdpSocket) {
    let mut buffer = [0; 1];
    for _ in 0..ROUNDS {
        round.send(b".").unwrap();
        round.recv(&mut buffer).unwrap();
    }
}

fn listen(at: &Namespace, address: SocketAddr, protocol: Protocol) -> OwnedFd {
    let server = open(at, address, protocol);
    if protocol != Protocol::Udp {
        net::listen(&server, BACKLOG).unwrap();
    }
    server
}

/// A socket that waits for nothing, and is gone without a word when it is closed.
fn open(at: &Namespace, own: SocketAddr, protocol: Protocol) -> OwnedFd {
    let family = if own.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let open = || match protocol {
        Protocol::Tcp => net::socket(family, SocketType::STREAM, Some(ipproto::TCP)),
        Protocol::Udp => net::socket(family, SocketType::DGRAM, Some(ipproto::UDP)),
        Protocol::Sctp => net::socket(family, SocketType::STREAM, Some(ipproto::SCTP)),
    };
    let socket = at.run(open).unwrap().unwrap();
    ioctl_fionbio(&socket, true).unwrap();
    set_socket_reuseaddr(&socket, true).unwrap();
    set_socket_linger(&socket, Some(Duration::ZERO)).unwrap();
    net::bind(&socket, &own).unwrap();
    socket
}
