//! A blocking netlink socket: requests, dumps, and errors in the kernel's own words.

pub mod attributes;
mod error;
pub mod generic;
mod message;
mod request;
mod transaction;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_ECHO, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer,
};
use netlink_sys::SocketAddr;

pub use error::{Cause, Error, Operation};
pub use message::{Attribute, Content, Message};
pub use request::Request;
pub use transaction::{Batch, Refusal, Step};

/// What a datagram of a dump may hold: the kernel fills at most 32 KiB (`af_netlink.c`), events may be larger.
const DATAGRAM: usize = 64 * 1024;

/// The receive buffer asked for, in bytes: acknowledgements of large batches and bursts of events fit.
const RECEIVE_BUFFER: usize = 8 * 1024 * 1024;

/// How often a dump is begun anew because the kernel's tables changed under it.
const DUMP_ATTEMPTS: usize = 16;

/// What a socket speaks (`linux/netlink.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// `NETLINK_ROUTE`: links, addresses, routes.
    Route,
    /// `NETLINK_NETFILTER`: nftables and connection tracking.
    Netfilter,
    /// `NETLINK_GENERIC`: WireGuard.
    Generic,
}

impl Protocol {
    const fn number(self) -> isize {
        match self {
            Self::Route => netlink_sys::protocols::NETLINK_ROUTE,
            Self::Netfilter => netlink_sys::protocols::NETLINK_NETFILTER,
            Self::Generic => netlink_sys::protocols::NETLINK_GENERIC,
        }
    }
}

/// Whether to wait for a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Until there is one.
    Block,
    /// Only take what is there (`MSG_DONTWAIT`).
    Poll,
}

/// `MSG_DONTWAIT` and `MSG_TRUNC` (`linux/socket.h`).
const MSG_DONTWAIT: i32 = 0x40;
const MSG_TRUNC: i32 = 0x20;

/// A netlink socket of the network namespace that it was opened in.
pub struct Socket {
    inner: netlink_sys::Socket,
    buffer: Vec<u8>,
    sequence: u32,
    writes: u64,
}

impl Socket {
    /// Opens a socket in the calling thread's network namespace.
    ///
    /// Only the kernel is heard. Requests are checked strictly by the kernel (`NETLINK_GET_STRICT_CHK`), and errors come with its explanation
    /// (`NETLINK_EXT_ACK`).
    pub fn open(protocol: Protocol) -> Result<Self, Error> {
        let failed = |source| Error::new(Operation::Open, format!("a {protocol:?} socket"), Cause::Io(source));
        let inner = netlink_sys::Socket::new(protocol.number()).map_err(failed)?;
        inner.connect(&SocketAddr::new(0, 0)).map_err(failed)?;
        inner.set_ext_ack(true).map_err(failed)?;
        inner.set_cap_ack(true).map_err(failed)?;
        if protocol == Protocol::Route {
            inner.set_netlink_get_strict_chk(true).map_err(failed)?;
        }
        // Needs CAP_NET_ADMIN in the first user namespace; without it the system's default has to do.
        _ = rustix::net::sockopt::set_socket_recv_buffer_size_force(&inner, RECEIVE_BUFFER);
        Ok(Self { inner, buffer: Vec::with_capacity(DATAGRAM), sequence: 0, writes: 0 })
    }

    /// How many requests that change something were sent.
    pub const fn writes(&self) -> u64 {
        self.writes
    }

    /// The number by which the kernel knows the socket: events name that of whoever made the change (`nlmsg_pid`).
    pub fn port(&self) -> Result<u32, Error> {
        let mut address = SocketAddr::new(0, 0);
        self.inner
            .get_address(&mut address)
            .map_err(|source| Error::new(Operation::Open, "the number of a socket", Cause::Io(source)))?;
        Ok(address.port_number())
    }

    /// Joins a multicast group: its events arrive with [`Socket::receive`].
    pub fn join(&mut self, group: u32) -> Result<(), Error> {
        self.inner
            .add_membership(group)
            .map_err(|source| Error::new(Operation::Open, format!("multicast group {group}"), Cause::Io(source)))
    }

    /// A sequence number that no earlier request of this socket had.
    const fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    /// Takes one datagram; nothing where none is there and `wait` is [`Wait::Poll`].
    ///
    /// `ENOBUFS` means that events were lost: read everything anew.
    pub fn receive(&mut self, wait: Wait) -> io::Result<Option<&[u8]>> {
        let flags = MSG_TRUNC | if wait == Wait::Poll { MSG_DONTWAIT } else { 0 };
        loop {
            self.buffer.clear();
            match self.inner.recv(&mut self.buffer, flags) {
                Ok(length) if length > self.buffer.len() => {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a datagram of {length} bytes")));
                }
                Ok(_) => return Ok(Some(&self.buffer)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if wait == Wait::Poll && error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends a request that changes something, and waits for the kernel's answer.
    pub fn write(&mut self, message: &Message, flags: u16) -> Result<(), Cause> {
        self.writes += 1;
        self.request(message, flags | NLM_F_ACK).map(drop)
    }

    /// The same, and the object as it is now, where the kernel tells that to whom asked (`NLM_F_ECHO`).
    pub fn write_echoed(&mut self, message: &Message, flags: u16) -> Result<Option<Message>, Cause> {
        self.writes += 1;
        Ok(self.request(message, flags | NLM_F_ACK | NLM_F_ECHO)?.into_iter().next())
    }

    /// Asks for one object.
    pub fn get(&mut self, message: &Message) -> Result<Option<Message>, Cause> {
        Ok(self.request(message, NLM_F_ACK)?.into_iter().next())
    }

    /// The same for objects that the kernel tells of as if they had changed: only to whom wants to hear of their own
    /// changes (`NLM_F_ECHO`).
    pub fn get_echoed(&mut self, message: &Message) -> Result<Option<Message>, Cause> {
        Ok(self.request(message, NLM_F_ACK | NLM_F_ECHO)?.into_iter().next())
    }

    /// Asks for all objects. What the kernel marks as torn by a change in between is asked for again.
    pub fn dump(&mut self, message: &Message) -> Result<Vec<Message>, Cause> {
        for _ in 0..DUMP_ATTEMPTS {
            match self.request(message, NLM_F_DUMP) {
                Err(Cause::Torn) => {}
                result => return result,
            }
        }
        Err(Cause::Torn)
    }

    /// The same, each object read as it arrives: nothing of the answer is kept but what `read` makes of it.
    pub fn dump_with<T>(
        &mut self,
        message: &Message,
        mut read: impl FnMut(&Message) -> Option<T>,
    ) -> Result<Vec<T>, Cause> {
        for _ in 0..DUMP_ATTEMPTS {
            let mut found = Vec::new();
            match self.read_dump(message, |object| found.extend(read(object))) {
                Ok(()) => return Ok(found),
                Err(Cause::Torn) => {}
                Err(cause) => return Err(cause),
            }
        }
        Err(Cause::Torn)
    }

    /// The same, once: [`Cause::Torn`] where the kernel's tables changed meanwhile, and then what was taken is worth nothing.
    pub fn dump_once(&mut self, message: &Message, take: impl FnMut(&Message)) -> Result<(), Cause> {
        self.read_dump(message, take)
    }

    fn read_dump(&mut self, message: &Message, mut take: impl FnMut(&Message)) -> Result<(), Cause> {
        let sequence = self.next_sequence();
        let bytes = message.with_header(NLM_F_REQUEST | NLM_F_DUMP, sequence);
        self.inner.send(&bytes, 0).map_err(Cause::Io)?;
        let mut torn = false;
        let mut object = Message { kind: 0, body: Vec::new() };
        loop {
            let mut rest = self.receive(Wait::Block).map_err(Cause::Io)?.unwrap_or_default();
            while !rest.is_empty() {
                let (message, after) = split(rest)?;
                rest = after;
                if message.sequence_number() != sequence {
                    continue;
                }
                torn |= message.flags() & NLM_F_DUMP_INTR != 0;
                if matches!(message.message_type(), NLMSG_ERROR | NLMSG_DONE) {
                    error::outcome(message.flags(), message.payload())?;
                    return if torn { Err(Cause::Torn) } else { Ok(()) };
                }
                object.kind = message.message_type();
                object.body.clear();
                object.body.extend_from_slice(message.payload());
                take(&object);
            }
        }
    }

    fn request(&mut self, message: &Message, flags: u16) -> Result<Vec<Message>, Cause> {
        let sequence = self.next_sequence();
        let bytes = message.with_header(NLM_F_REQUEST | flags, sequence);
        self.inner.send(&bytes, 0).map_err(Cause::Io)?;
        self.answer(sequence)
    }

    /// Collects the answer to one request. It is always read to its end, so that the next one finds nothing of it.
    fn answer(&mut self, sequence: u32) -> Result<Vec<Message>, Cause> {
        let mut answer = Answer::default();
        loop {
            let mut rest = self.receive(Wait::Block).map_err(Cause::Io)?.unwrap_or_default();
            while !rest.is_empty() {
                let (message, after) = split(rest)?;
                rest = after;
                if message.sequence_number() == sequence
                    && let Some(end) = answer.take(&message)
                {
                    return end.and(answer.finish());
                }
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

/// Who made the change that a datagram of events tells of (`nlmsg_pid`); 0 where the kernel does not tell.
pub fn author(datagram: &[u8]) -> u32 {
    NetlinkBuffer::new_checked(datagram).map_or(0, |message| message.port_number())
}

/// The messages of a datagram, up to the first that is malformed.
pub fn messages(mut datagram: &[u8]) -> impl Iterator<Item = Message> {
    std::iter::from_fn(move || {
        let (message, rest) = split(datagram).ok()?;
        datagram = rest;
        Some(Message { kind: message.message_type(), body: message.payload().to_vec() })
    })
}

/// Takes the first message off a datagram.
fn split(datagram: &[u8]) -> Result<(NetlinkBuffer<&[u8]>, &[u8]), Cause> {
    let message = NetlinkBuffer::new_checked(datagram).map_err(|e| Cause::Malformed(e.to_string()))?;
    let length = usize::try_from(message.length()).unwrap_or(usize::MAX).next_multiple_of(4).min(datagram.len());
    let (this, rest) = datagram.split_at(length);
    Ok((NetlinkBuffer::new(this), rest))
}

#[derive(Default)]
struct Answer {
    objects: Vec<Message>,
    torn: bool,
}

impl Answer {
    /// Takes one message; the result of the request where it was the last one.
    fn take(&mut self, message: &NetlinkBuffer<&[u8]>) -> Option<Result<(), Cause>> {
        self.torn |= message.flags() & NLM_F_DUMP_INTR != 0;
        match message.message_type() {
            NLMSG_ERROR | NLMSG_DONE => Some(error::outcome(message.flags(), message.payload())),
            kind => {
                self.objects.push(Message { kind, body: message.payload().to_vec() });
                None
            }
        }
    }

    fn finish(self) -> Result<Vec<Message>, Cause> {
        if self.torn { Err(Cause::Torn) } else { Ok(self.objects) }
    }
}
