//! Nexthop objects: ways to other nodes, each of which any number of routes may take.

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use towpath_net::Family;
use towpath_net::observed::{Encapsulation, NexthopId};

use crate::address::address_family;
use crate::link::Index;
use crate::netlink::attributes::Attributes;
use crate::netlink::{Content, Error, Message, Operation, Request, Socket};
use crate::route::{Protocol, ROUTE_PROTOCOL};

/// Messages (`linux/rtnetlink.h`).
const RTM_NEWNEXTHOP: u16 = 104;
const RTM_DELNEXTHOP: u16 = 105;
const RTM_GETNEXTHOP: u16 = 106;
/// Attributes (`linux/nexthop.h`).
const NHA_ID: u16 = 1;
const NHA_GROUP: u16 = 2;
const NHA_BLACKHOLE: u16 = 4;
const NHA_OIF: u16 = 5;
const NHA_GATEWAY: u16 = 6;
const NHA_ENCAP_TYPE: u16 = 7;
const NHA_ENCAP: u16 = 8;
const NHA_FDB: u16 = 11;
/// A flag of a nexthop (`linux/rtnetlink.h`).
const RTNH_F_ONLINK: u32 = 4;
/// Kinds of outer headers (`linux/lwtunnel.h`), and the attributes of both, which have the same numbers.
const LWTUNNEL_ENCAP_IP: u16 = 2;
const LWTUNNEL_ENCAP_IP6: u16 = 4;
const LWTUNNEL_IP_ID: u16 = 1;
const LWTUNNEL_IP_DST: u16 = 2;
const LWTUNNEL_IP_SRC: u16 = 3;
const LWTUNNEL_IP_TTL: u16 = 4;
const LWTUNNEL_IP_FLAGS: u16 = 6;
/// `TUNNEL_CSUM` (`linux/if_tunnel.h`): UDP with a checksum, which IPv6 wants (RFC 8200, section 8.1).
const TUNNEL_CSUM: u16 = 1;
/// Where the kernel takes the outer header from the route, it does so with a TTL of nothing at all.
const TTL: u8 = 64;

/// The way that a nexthop object stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// The link that packets leave by.
    pub link: Index,
    /// The address that they are given to.
    pub gateway: IpAddr,
    /// Whether the gateway is taken to be on the link whatever the link's addresses are.
    pub on_link: bool,
    /// The outer header that they get.
    pub encapsulation: Option<Encapsulation>,
}

/// A nexthop object as the kernel has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nexthop {
    /// Its number.
    pub id: NexthopId,
    /// Who made it.
    pub protocol: Protocol,
    /// What it stands for; nothing where that is something that Towpath never makes.
    pub way: Option<Way>,
    /// Whether it is for several ways or for a forwarding table: the kernel makes no ordinary one of such.
    pub special: bool,
}

/// Lists the nexthop objects of the socket's namespace.
pub fn list(socket: &mut Socket) -> Result<Vec<Nexthop>, Error> {
    let request = Message { kind: RTM_GETNEXTHOP, body: vec![0; HEADER] };
    socket.dump_with(&request, decode).map_err(|cause| Error::new(Operation::List, "nexthops", cause))
}

/// The request that makes a nexthop object, or changes where it leads for all routes that take it.
pub fn setting(id: NexthopId, way: &Way) -> Request {
    let flags = if way.on_link { RTNH_F_ONLINK } else { 0 };
    let mut attributes = Attributes::after(&header(Some(Family::of(way.gateway)), flags));
    attributes.put_number(NHA_ID, id.0).put_number(NHA_OIF, way.link.0).put_address(NHA_GATEWAY, way.gateway);
    if let Some(encapsulation) = way.encapsulation {
        put_encapsulation(&mut attributes, encapsulation);
    }
    let message = Message { kind: RTM_NEWNEXTHOP, body: attributes.into_bytes() };
    Request::new(Operation::Replace, format!("nexthop {}", id.0), message, NLM_F_CREATE | NLM_F_REPLACE)
}

/// The request that removes a nexthop object, and with it every route that takes it.
pub fn deleting(id: NexthopId) -> Request {
    let mut attributes = Attributes::after(&header(None, 0));
    attributes.put_number(NHA_ID, id.0);
    let message = Message { kind: RTM_DELNEXTHOP, body: attributes.into_bytes() };
    Request::new(Operation::Delete, format!("nexthop {}", id.0), message, 0)
}

fn put_encapsulation(attributes: &mut Attributes, outer: Encapsulation) {
    let kind = match Family::of(outer.destination) {
        Family::V4 => LWTUNNEL_ENCAP_IP,
        Family::V6 => LWTUNNEL_ENCAP_IP6,
    };
    attributes.put(NHA_ENCAP_TYPE, &kind.to_ne_bytes()).nest(NHA_ENCAP, |header| {
        header.put(LWTUNNEL_IP_ID, &u64::from(outer.vni).to_be_bytes());
        header.put_address(LWTUNNEL_IP_DST, outer.destination).put_address(LWTUNNEL_IP_SRC, outer.source);
        header.put(LWTUNNEL_IP_TTL, &[TTL]);
        if outer.destination.is_ipv6() {
            header.put(LWTUNNEL_IP_FLAGS, &TUNNEL_CSUM.to_be_bytes());
        }
    });
}

/// `struct nhmsg`: family, scope, protocol, nothing, flags.
const HEADER: usize = 8;

fn header(family: Option<Family>, flags: u32) -> [u8; HEADER] {
    let [a, b, c, d] = flags.to_ne_bytes();
    // Removing takes no protocol.
    let protocol = if family.is_some() { ROUTE_PROTOCOL.0 } else { 0 };
    [family.map_or(0, address_family), 0, protocol, 0, a, b, c, d]
}

/// Whether an event is about a nexthop object.
pub(crate) const fn is_event(message: &Message) -> bool {
    matches!(message.kind, RTM_NEWNEXTHOP | RTM_DELNEXTHOP)
}

/// Whether an event about a nexthop object can be about one of ours: by its protocol, or by a number that only ours have.
pub(crate) fn concerns(message: &Message) -> bool {
    let ours = message.header::<HEADER>().is_none_or(|header| header[2] == ROUTE_PROTOCOL.0);
    ours || message.content(HEADER).get(NHA_ID).and_then(|id| id.number()).is_none_or(|id| NexthopId(id).is_ours())
}

pub(crate) fn decode(reply: &Message) -> Option<Nexthop> {
    let [_, _, protocol, _, flags @ ..] = *reply.header::<HEADER>()?;
    let flags = u32::from_ne_bytes(flags);
    let (mut id, mut link, mut gateway, mut special, mut blackhole) = (None, None, None, false, false);
    let (mut kind, mut outer) = (None, None);
    for attribute in reply.attributes(HEADER) {
        match attribute.kind {
            NHA_ID => id = attribute.number(),
            NHA_OIF => link = attribute.number().map(Index),
            NHA_GATEWAY => gateway = attribute.address(),
            NHA_ENCAP_TYPE => kind = attribute.value.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes)),
            NHA_ENCAP => outer = Some(attribute.content()),
            NHA_GROUP | NHA_FDB => special = true,
            NHA_BLACKHOLE => blackhole = true,
            _ => {}
        }
    }
    let encapsulation = kind.zip(outer).map(|(kind, outer)| decode_encapsulation(kind, outer));
    let way = match (link, gateway, encapsulation) {
        (Some(link), Some(gateway), None | Some(Some(_))) if !special && !blackhole => {
            let on_link = flags & RTNH_F_ONLINK != 0;
            Some(Way { link, gateway, on_link, encapsulation: encapsulation.flatten() })
        }
        _ => None,
    };
    Some(Nexthop { id: NexthopId(id?), protocol: Protocol(protocol), way, special })
}

fn decode_encapsulation(kind: u16, outer: Content<'_>) -> Option<Encapsulation> {
    let vni = outer.get(LWTUNNEL_IP_ID)?.value.first_chunk().map(|bytes| u64::from_be_bytes(*bytes))?;
    let (source, destination) = (outer.get(LWTUNNEL_IP_SRC)?.address()?, outer.get(LWTUNNEL_IP_DST)?.address()?);
    let expected = if destination.is_ipv4() { LWTUNNEL_ENCAP_IP } else { LWTUNNEL_ENCAP_IP6 };
    (kind == expected).then_some(Encapsulation { vni: u32::try_from(vni).ok()?, source, destination })
}
