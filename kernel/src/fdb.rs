//! Forwarding tables: to which node a tunnel sends frames to an Ethernet address, and behind which port of a bridge it is.

use std::collections::BTreeSet;
use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};

use crate::link::{Index, Mac};
use crate::netlink::attributes::Attributes;
use crate::netlink::{Error, Message, Operation, Request, Socket};

/// Messages (`linux/rtnetlink.h`).
const RTM_NEWNEIGH: u16 = 28;
const RTM_DELNEIGH: u16 = 29;
const RTM_GETNEIGH: u16 = 30;
/// The family of forwarding tables (`linux/socket.h`).
const AF_BRIDGE: u8 = 7;
/// Attributes (`linux/neighbour.h`, as all that follows).
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NDA_MASTER: u16 = 9;
/// Whose table: the link's own, or that of the bridge that it is a port of.
const NTF_SELF: u8 = 0x02;
const NTF_MASTER: u8 = 0x04;
/// States of an entry. One of a bridge that somebody set is `NUD_NOARP`: what is `NUD_PERMANENT` as well is an address of
/// the bridge itself.
const NUD_NOARP: u16 = 0x40;
const NUD_PERMANENT: u16 = 0x80;

/// An entry that somebody set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The tunnel, or the port of the bridge.
    pub link: Index,
    /// The Ethernet address.
    pub mac: Mac,
    /// The node that a tunnel sends frames to; nobody where it is a port of a bridge.
    pub to: Option<IpAddr>,
}

/// Whose table an entry is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// A tunnel's own.
    Tunnel,
    /// That of the bridge that a link is a port of.
    Bridge,
}

impl Table {
    const fn flag(self) -> u8 {
        match self {
            Self::Tunnel => NTF_SELF,
            Self::Bridge => NTF_MASTER,
        }
    }
}

/// `struct ndmsg`: family, padding, link, state, flags, type.
const HEADER: usize = 12;

fn header(link: Index, state: u16, flags: u8) -> [u8; HEADER] {
    let ([a, b, c, d], [low, high]) = (link.0.to_ne_bytes(), state.to_ne_bytes());
    [AF_BRIDGE, 0, 0, 0, a, b, c, d, low, high, flags, 0]
}

/// Lists the entries of a tunnel. One that sends to several nodes comes several times.
pub fn of_tunnel(socket: &mut Socket, tunnel: Index) -> Result<Vec<Entry>, Error> {
    let request = Message { kind: RTM_GETNEIGH, body: header(tunnel, 0, 0).to_vec() };
    let read = |reply: &Message| decode(reply).filter(|(table, entry)| (*table, entry.link) == (Table::Tunnel, tunnel));
    let entries = socket.dump_with(&request, |reply| read(reply).map(|(_, entry)| entry));
    entries.map_err(|cause| Error::new(Operation::List, format!("fdb of link {tunnel}"), cause))
}

/// Lists the entries of a bridge, by its ports.
pub fn of_bridge(socket: &mut Socket, bridge: Index) -> Result<Vec<Entry>, Error> {
    let mut attributes = Attributes::after(&header(Index(0), 0, 0));
    attributes.put_number(NDA_MASTER, bridge.0);
    let request = Message { kind: RTM_GETNEIGH, body: attributes.into_bytes() };
    let read = |reply: &Message| decode(reply).filter(|(table, _)| *table == Table::Bridge).map(|(_, entry)| entry);
    let entries = socket.dump_with(&request, read);
    entries.map_err(|cause| Error::new(Operation::List, format!("fdb of bridge {bridge}"), cause))
}

/// The request that has a tunnel send frames to a node, whatever was known of their address.
pub fn setting(tunnel: Index, mac: Mac, to: IpAddr) -> Request {
    let mut attributes = Attributes::after(&header(tunnel, NUD_PERMANENT | NUD_NOARP, NTF_SELF));
    attributes.put(NDA_LLADDR, &mac.0).put_address(NDA_DST, to);
    let message = Message { kind: RTM_NEWNEIGH, body: attributes.into_bytes() };
    Request::new(Operation::Replace, format!("fdb {mac} of link {tunnel}"), message, NLM_F_CREATE | NLM_F_REPLACE)
}

/// The request that forgets all that is known of an Ethernet address.
pub fn deleting(link: Index, mac: Mac, table: Table) -> Request {
    let mut attributes = Attributes::after(&header(link, 0, table.flag()));
    attributes.put(NDA_LLADDR, &mac.0);
    let message = Message { kind: RTM_DELNEIGH, body: attributes.into_bytes() };
    Request::new(Operation::Delete, format!("fdb {mac} of link {link}"), message, 0)
}

/// An entry that somebody set, and whose table it is in; nothing of what was learned or is the kernel's own.
pub(crate) fn decode(reply: &Message) -> Option<(Table, Entry)> {
    let [family, _, _, _, a, b, c, d, low, high, flags, _] = *reply.header::<HEADER>()?;
    let state = u16::from_ne_bytes([low, high]);
    let (mut mac, mut to) = (None, None);
    for attribute in reply.attributes(HEADER) {
        match attribute.kind {
            NDA_LLADDR => mac = <[u8; 6]>::try_from(attribute.value).ok().map(Mac),
            NDA_DST => to = attribute.address(),
            _ => {}
        }
    }
    let (table, is_set) = if flags & NTF_SELF != 0 {
        (Table::Tunnel, state & NUD_PERMANENT != 0)
    } else {
        (Table::Bridge, state & (NUD_NOARP | NUD_PERMANENT) == NUD_NOARP)
    };
    let entry = Entry { link: Index(u32::from_ne_bytes([a, b, c, d])), mac: mac?, to };
    (family == AF_BRIDGE && is_set).then_some((table, entry))
}

/// Whether an event is about an entry for one of these Ethernet addresses.
pub(crate) fn is_about(event: &Message, stations: &BTreeSet<Mac>) -> bool {
    let is_entry = [RTM_NEWNEIGH, RTM_DELNEIGH].contains(&event.kind);
    is_entry && decode(event).is_some_and(|(_, entry)| stations.contains(&entry.mac))
}
