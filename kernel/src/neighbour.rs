//! Neighbours: which Ethernet address the kernel believes an address on a link to have.

use std::collections::BTreeSet;
use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use towpath_net::Family;

use crate::address::address_family;
use crate::link::{Index, Mac};
use crate::netlink::attributes::Attributes;
use crate::netlink::{Error, Message, Operation, Request, Socket};

/// Messages (`linux/rtnetlink.h`).
const RTM_NEWNEIGH: u16 = 28;
const RTM_DELNEIGH: u16 = 29;
const RTM_GETNEIGH: u16 = 30;
/// Attributes (`linux/neighbour.h`, as all that follows).
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NDA_IFINDEX: u16 = 8;
/// The family of forwarding tables (`linux/socket.h`).
const AF_BRIDGE: u8 = 7;
/// States of an entry that say nothing: nobody answered, or has yet.
const NUD_INCOMPLETE: u16 = 0x01;
const NUD_FAILED: u16 = 0x20;
/// And of one that somebody set for good.
const NUD_PERMANENT: u16 = 0x80;

/// A neighbour that the kernel knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// The link that it is on.
    pub link: Index,
    /// Its address.
    pub address: IpAddr,
    /// Its Ethernet address.
    pub mac: Mac,
    /// Whether somebody set it for good (`NUD_PERMANENT`).
    pub permanent: bool,
}

/// `struct ndmsg`: family, padding, link, state, flags, type.
const HEADER: usize = 12;
const FLAGS: usize = 10;
/// The flag of an entry that says for whom this node answers.
const NTF_PROXY: u8 = 0x08;

/// Lists the neighbours of the socket's namespace, without those that did not answer.
pub fn list(socket: &mut Socket) -> Result<Vec<Neighbour>, Error> {
    let request = Message { kind: RTM_GETNEIGH, body: vec![0; HEADER] };
    socket.dump_with(&request, decode).map_err(|cause| Error::new(Operation::List, "neighbours", cause))
}

/// Lists those of a link that somebody set for good.
pub fn permanent_of(socket: &mut Socket, link: Index) -> Result<Vec<Neighbour>, Error> {
    let mut attributes = Attributes::after(&[0; HEADER]);
    attributes.put_number(NDA_IFINDEX, link.0);
    let request = Message { kind: RTM_GETNEIGH, body: attributes.into_bytes() };
    // A kernel without the filter answers with all.
    let read = |reply: &Message| decode(reply).filter(|neighbour| neighbour.permanent && neighbour.link == link);
    let failed = |cause| Error::new(Operation::List, format!("neighbours of link {link}"), cause);
    socket.dump_with(&request, read).map_err(failed)
}

/// Finds a neighbour of a link by its address.
pub fn find(socket: &mut Socket, link: Index, address: IpAddr) -> Result<Option<Neighbour>, Error> {
    match socket.get(&Message { kind: RTM_GETNEIGH, body: identify(link, address, 0).into_bytes() }) {
        Ok(reply) => Ok(reply.as_ref().and_then(decode)),
        Err(cause) => match Error::new(Operation::List, format!("neighbour {address} of link {link}"), cause) {
            error if error.is_missing() => Ok(None),
            error => Err(error),
        },
    }
}

/// The addresses that this node answers for on a link, in place of those who have them (`NTF_PROXY`).
pub fn answered_for(socket: &mut Socket, link: Index) -> Result<BTreeSet<IpAddr>, Error> {
    let mut header = [0; HEADER];
    header[FLAGS] = NTF_PROXY;
    let request = Message { kind: RTM_GETNEIGH, body: header.to_vec() };
    let read = |reply: &Message| {
        let [_, _, _, _, a, b, c, d, ..] = *reply.header::<HEADER>()?;
        let address = reply.attributes(HEADER).find(|attribute| attribute.kind == NDA_DST)?.address()?;
        (u32::from_ne_bytes([a, b, c, d]) == link.0).then_some(address)
    };
    let failed = |cause| Error::new(Operation::List, format!("who is answered for on link {link}"), cause);
    Ok(socket.dump(&request).map_err(failed)?.iter().filter_map(read).collect())
}

/// The request that makes this node answer for an address on a link.
pub fn answering_for(link: Index, address: IpAddr) -> Request {
    let message = Message { kind: RTM_NEWNEIGH, body: flagged(link, address, NTF_PROXY).into_bytes() };
    let object = format!("answers for {address} on link {link}");
    Request::new(Operation::Add, object, message, NLM_F_CREATE | NLM_F_REPLACE)
}

/// The request that makes it answer no more.
pub fn not_answering_for(link: Index, address: IpAddr) -> Request {
    let message = Message { kind: RTM_DELNEIGH, body: flagged(link, address, NTF_PROXY).into_bytes() };
    Request::new(Operation::Delete, format!("answers for {address} on link {link}"), message, 0)
}

/// The request that sets a neighbour for good, whatever was known of it.
pub fn setting(link: Index, address: IpAddr, mac: Mac) -> Request {
    let mut attributes = identify(link, address, NUD_PERMANENT);
    attributes.put(NDA_LLADDR, &mac.0);
    let message = Message { kind: RTM_NEWNEIGH, body: attributes.into_bytes() };
    Request::new(Operation::Add, format!("neighbour {address} of link {link}"), message, NLM_F_CREATE | NLM_F_REPLACE)
}

/// The request that forgets a neighbour.
pub fn deleting(link: Index, address: IpAddr) -> Request {
    let message = Message { kind: RTM_DELNEIGH, body: identify(link, address, 0).into_bytes() };
    Request::new(Operation::Delete, format!("neighbour {address} of link {link}"), message, 0)
}

/// What matters of an event about a neighbour or a forwarding entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    /// The link.
    pub link: Index,
    /// Whether it is about a forwarding entry.
    pub entry: bool,
    /// Whether it is for good (`NUD_PERMANENT`), or goes: what it was before nobody tells.
    pub lasting: bool,
    /// Whether the address is that of a group.
    pub group: bool,
}

/// Reads an event about a neighbour or a forwarding entry; nothing where it is about something else.
pub(crate) fn told(event: &Message) -> Option<Told> {
    if ![RTM_NEWNEIGH, RTM_DELNEIGH].contains(&event.kind) {
        return None;
    }
    let [family, _, _, _, a, b, c, d, low, high, ..] = *event.header::<HEADER>()?;
    let address = event.content(HEADER).get(NDA_DST).and_then(|address| address.address());
    Some(Told {
        link: Index(u32::from_ne_bytes([a, b, c, d])),
        entry: family == AF_BRIDGE,
        lasting: event.kind == RTM_DELNEIGH || u16::from_ne_bytes([low, high]) & NUD_PERMANENT != 0,
        group: address.is_some_and(|address| address.is_multicast()),
    })
}

fn identify(link: Index, address: IpAddr, state: u16) -> Attributes {
    with_header(link, address, state, 0)
}

fn flagged(link: Index, address: IpAddr, flags: u8) -> Attributes {
    with_header(link, address, 0, flags)
}

fn with_header(link: Index, address: IpAddr, state: u16, flags: u8) -> Attributes {
    let ([a, b, c, d], [low, high]) = (link.0.to_ne_bytes(), state.to_ne_bytes());
    let header: [u8; HEADER] = [address_family(Family::of(address)), 0, 0, 0, a, b, c, d, low, high, flags, 0];
    let mut attributes = Attributes::after(&header);
    attributes.put_address(NDA_DST, address);
    attributes
}

pub(crate) fn decode(reply: &Message) -> Option<Neighbour> {
    let [_, _, _, _, a, b, c, d, state @ .., _, _] = *reply.header::<HEADER>()?;
    let state = u16::from_ne_bytes(state);
    if state & (NUD_INCOMPLETE | NUD_FAILED) != 0 {
        return None;
    }
    let (mut address, mut mac) = (None, None);
    for attribute in reply.attributes(HEADER) {
        match attribute.kind {
            NDA_DST => address = attribute.address(),
            NDA_LLADDR => mac = <[u8; 6]>::try_from(attribute.value).ok().map(Mac),
            _ => {}
        }
    }
    Some(Neighbour {
        link: Index(u32::from_ne_bytes([a, b, c, d])),
        address: address?,
        mac: mac?,
        permanent: state & NUD_PERMANENT != 0,
    })
}
