//! Links: what is there, pairs of virtual Ethernet devices, and changes.

pub mod device;
pub mod port;

use std::fmt;
use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use towpath_net::device::DeviceKind;
use towpath_net::lease::Ends;
pub use towpath_net::mac::Mac;

use port::Port;

use crate::netlink::attributes::Attributes;
use crate::netlink::{Cause, Error, Message, Operation, Request, Socket};

/// Messages (`linux/rtnetlink.h`).
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_SETLINK: u16 = 19;
/// Attributes (`linux/if_link.h`).
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_EXT_MASK: u16 = 29;
const IFLA_NUM_TX_QUEUES: u16 = 31;
const IFLA_NUM_RX_QUEUES: u16 = 32;
const IFLA_LINK_NETNSID: u16 = 37;
/// Within `IFLA_LINKINFO`.
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
/// `linux/veth.h`.
const VETH_INFO_PEER: u16 = 1;
/// Within `IFLA_AF_SPEC`: `AF_INET`, and in that `IFLA_INET_CONF` with settings by their numbers (`linux/ip.h`).
const AF_INET: u16 = 2;
const IFLA_INET_CONF: u16 = 1;
const IPV4_DEVCONF_PROXY_ARP: u16 = 3;
/// And `AF_INET6`, and in that `IFLA_INET6_ADDR_GEN_MODE`.
const AF_INET6: u16 = 10;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const IN6_ADDR_GEN_MODE_NONE: u8 = 1;
/// `RTEXT_FILTER_SKIP_STATS`: statistics are large, and nobody here reads them.
const SKIP_STATS: u32 = 1 << 3;
/// Flags of a link (`linux/if.h`).
const IFF_UP: u32 = 1;
const IFF_LOOPBACK: u32 = 1 << 3;
const IFF_RUNNING: u32 = 1 << 6;

/// The number of a link in its network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Index(pub u32);

impl fmt::Display for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// What a link is (`IFLA_INFO_KIND`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A real device, or the loopback.
    Plain,
    /// One end of a pair of virtual Ethernet devices.
    Veth,
    /// Anything else, by the kernel's name for it.
    Other(String),
}

/// The other end of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its number in its own namespace.
    pub index: Index,
    /// The id that this namespace has for that of the other end; nothing where both are in the same.
    pub namespace: Option<i32>,
}

/// A link as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub index: Index,
    /// Its name.
    pub name: String,
    /// In bytes.
    pub mtu: u32,
    /// Whether it is administratively up (`IFF_UP`).
    pub up: bool,
    /// Whether packets pass: it is up, so is its other end, and the kernel has taken note (`IFF_RUNNING`, RFC 2863).
    pub running: bool,
    /// Whether it is the loopback (`IFF_LOOPBACK`).
    pub loopback: bool,
    /// What it is.
    pub kind: Kind,
    /// What somebody wrote on it (`IFLA_IFALIAS`).
    pub alias: Option<String>,
    /// Its address, where it has one of Ethernet's size.
    pub mac: Option<Mac>,
    /// The other end, of a pair.
    pub peer: Option<Peer>,
    /// The bridge that it is a port of, or another link that it belongs to.
    pub master: Option<Index>,
    /// What it is like as a port of a bridge, where it is one.
    pub port: Option<Port>,
    /// What it is, of the kinds that a node's own links have; nothing where it has no kind.
    pub device: Option<DeviceKind>,
}

/// A pair of virtual Ethernet devices to be made.
#[derive(Clone, Copy, Debug)]
pub struct VethPair<'a> {
    /// The name of the end in the socket's namespace.
    pub name: &'a str,
    /// The address of that end.
    pub mac: Mac,
    /// The name of the other end.
    pub peer_name: &'a str,
    /// The address of the other end.
    pub peer_mac: Mac,
    /// The namespace of the other end: it is made there, not moved there.
    pub peer_namespace: BorrowedFd<'a>,
    /// Of both ends, in bytes.
    pub mtu: u32,
    /// The bridge that the end in the socket's namespace is born a port of.
    pub bridge: Option<Index>,
}

/// Changes to a link; what is not named stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change<'a> {
    /// What to write on it, for people to read (`IFLA_IFALIAS`).
    pub alias: Option<&'a str>,
    /// Up or down.
    pub up: Option<bool>,
    /// The MTU, in bytes.
    pub mtu: Option<u32>,
    /// Makes the kernel generate no IPv6 address by itself (`IN6_ADDR_GEN_MODE_NONE`). A kernel that was started without
    /// IPv6 refuses to be told.
    pub no_generated_addresses: bool,
    /// Whether the kernel answers for addresses of others that it knows the way to (`proxy_arp`).
    pub proxy_arp: Option<bool>,
    /// The bridge that it is to be a port of; [`NO_MASTER`] where it is to be none of any.
    pub master: Option<Index>,
}

/// Stands for no link at all.
pub const NO_MASTER: Index = Index(0);

/// Lists the links of the socket's namespace.
pub fn list(socket: &mut Socket) -> Result<Vec<Link>, Error> {
    let request = message(RTM_GETLINK, query());
    socket.dump_with(&request, decode).map_err(|cause| Error::new(Operation::List, "links", cause))
}

/// Finds a link by its name.
pub fn find(socket: &mut Socket, name: &str) -> Result<Option<Link>, Error> {
    let mut attributes = query();
    attributes.put_text(IFLA_IFNAME, name);
    match socket.get(&message(RTM_GETLINK, attributes)) {
        Ok(reply) => Ok(reply.as_ref().and_then(decode)),
        Err(cause) => match Error::new(Operation::List, format!("link {name}"), cause) {
            error if error.is_missing() => Ok(None),
            error => Err(error),
        },
    }
}

fn query() -> Attributes {
    let mut attributes = Attributes::after(&header(Index(0), 0, 0));
    attributes.put_number(IFLA_EXT_MASK, SKIP_STATS);
    attributes
}

fn message(kind: u16, attributes: Attributes) -> Message {
    Message { kind, body: attributes.into_bytes() }
}

/// Makes a pair, both ends down, in one message: after it there are both ends or none. Returns their numbers, each in
/// its own namespace.
///
/// Each end has one queue: packets go through a pair without waiting in one. Left to itself, the kernel makes as many as
/// the machine has processors, each with its files in `/sys`, and takes them away again with the pod.
pub fn create_veth(socket: &mut Socket, pair: &VethPair<'_>) -> Result<Ends<Index>, Error> {
    let mut peer = Attributes::after(&header(Index(0), 0, 0));
    peer.put_text(IFLA_IFNAME, pair.peer_name).put(IFLA_ADDRESS, &pair.peer_mac.0).put_number(IFLA_MTU, pair.mtu);
    peer.put_number(IFLA_NUM_TX_QUEUES, 1).put_number(IFLA_NUM_RX_QUEUES, 1);
    peer.put(IFLA_NET_NS_FD, &pair.peer_namespace.as_raw_fd().to_ne_bytes());
    let mut attributes = Attributes::after(&header(Index(0), 0, 0));
    attributes.put_text(IFLA_IFNAME, pair.name).put(IFLA_ADDRESS, &pair.mac.0).put_number(IFLA_MTU, pair.mtu);
    attributes.put_number(IFLA_NUM_TX_QUEUES, 1).put_number(IFLA_NUM_RX_QUEUES, 1);
    if let Some(bridge) = pair.bridge {
        attributes.put_number(IFLA_MASTER, bridge.0);
    }
    attributes.nest(IFLA_LINKINFO, |info| {
        info.put_text(IFLA_INFO_KIND, "veth");
        info.nest(IFLA_INFO_DATA, |data| _ = data.put(VETH_INFO_PEER, &peer.into_bytes()));
    });
    let failed =
        |cause| Error::new(Operation::Add, format!("pair of links {} and {}", pair.name, pair.peer_name), cause);
    let made = socket.write_echoed(&message(RTM_NEWLINK, attributes), NLM_F_CREATE | NLM_F_EXCL).map_err(failed)?;
    let ends = |link: Link| Some(Ends { node: link.index, pod: link.peer?.index });
    match made.as_ref().and_then(decode).and_then(ends) {
        Some(ends) => Ok(ends),
        // Linux before 6.2 does not tell.
        None => find(socket, pair.name)?.and_then(ends).ok_or_else(|| failed(Cause::Malformed("no pair".to_owned()))),
    }
}

/// Makes a device of a kind that needs no more than its name (`IFLA_INFO_KIND`), down.
pub fn create(socket: &mut Socket, kind: &str, name: &str, mtu: u32) -> Result<(), Error> {
    let mut attributes = Attributes::after(&header(Index(0), 0, 0));
    attributes.put_text(IFLA_IFNAME, name).put_number(IFLA_MTU, mtu);
    attributes.nest(IFLA_LINKINFO, |info| _ = info.put_text(IFLA_INFO_KIND, kind));
    socket
        .write(&message(RTM_NEWLINK, attributes), NLM_F_CREATE | NLM_F_EXCL)
        .map_err(|cause| Error::new(Operation::Add, format!("link {name} of kind {kind}"), cause))
}

/// Changes a link.
pub fn change(socket: &mut Socket, index: Index, change: Change<'_>) -> Result<(), Error> {
    socket.execute(&changing(index, change))
}

/// The request of [`change`].
pub fn changing(index: Index, change: Change<'_>) -> Request {
    let flags = if change.up == Some(true) { IFF_UP } else { 0 };
    let mask = if change.up.is_some() { IFF_UP } else { 0 };
    let mut attributes = Attributes::after(&header(index, flags, mask));
    if let Some(alias) = change.alias {
        attributes.put(IFLA_IFALIAS, alias.as_bytes());
    }
    if let Some(mtu) = change.mtu {
        attributes.put_number(IFLA_MTU, mtu);
    }
    if let Some(master) = change.master {
        attributes.put_number(IFLA_MASTER, master.0);
    }
    if change.no_generated_addresses || change.proxy_arp.is_some() {
        attributes.nest(IFLA_AF_SPEC, |families| change.put_families(families));
    }
    Request::new(Operation::Change, format!("link {index}"), message(RTM_SETLINK, attributes), 0)
}

impl Change<'_> {
    fn put_families(self, families: &mut Attributes) {
        if let Some(answers) = self.proxy_arp {
            families.nest(AF_INET, |inet| {
                inet.nest(IFLA_INET_CONF, |settings| _ = settings.put_number(IPV4_DEVCONF_PROXY_ARP, answers.into()));
            });
        }
        if self.no_generated_addresses {
            families.nest(AF_INET6, |inet6| _ = inet6.put(IFLA_INET6_ADDR_GEN_MODE, &[IN6_ADDR_GEN_MODE_NONE]));
        }
    }
}

/// Deletes a link, and with it the other end of a pair. Returns when both are gone.
pub fn delete(socket: &mut Socket, name: &str) -> Result<(), Error> {
    let mut attributes = Attributes::after(&header(Index(0), 0, 0));
    attributes.put_text(IFLA_IFNAME, name);
    socket
        .write(&message(RTM_DELLINK, attributes), 0)
        .map_err(|cause: Cause| Error::new(Operation::Delete, format!("link {name}"), cause))
}

/// `struct ifinfomsg`: family, type, index, flags, which flags to change.
const HEADER: usize = 16;

fn header(index: Index, flags: u32, mask: u32) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    for (to, number) in bytes.chunks_exact_mut(4).skip(1).zip([index.0, flags, mask]) {
        to.copy_from_slice(&number.to_ne_bytes());
    }
    bytes
}

/// What an event tells of a link: its name, or that it is gone; nothing where it is about something else.
pub(crate) fn told(event: &Message) -> Option<(Index, Option<String>)> {
    let [family, _, _, _, a, b, c, d, ..] = *event.header::<HEADER>()?;
    // A bridge tells of its ports as if they were links.
    if family != 0 || ![RTM_NEWLINK, RTM_DELLINK].contains(&event.kind) {
        return None;
    }
    let name = (event.kind == RTM_NEWLINK).then(|| event.content(HEADER).text(IFLA_IFNAME)).flatten();
    Some((Index(u32::from_ne_bytes([a, b, c, d])), name))
}

pub(crate) fn decode(reply: &Message) -> Option<Link> {
    let header = reply.header::<HEADER>()?;
    let number = |at: usize| header.get(at..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes));
    let flags = number(8)?;
    let mut link = Link {
        index: Index(number(4)?),
        name: String::new(),
        mtu: 0,
        up: flags & IFF_UP != 0,
        running: flags & IFF_RUNNING != 0,
        loopback: flags & IFF_LOOPBACK != 0,
        kind: Kind::Plain,
        alias: None,
        mac: None,
        peer: None,
        master: None,
        port: None,
        device: None,
    };
    let mut namespace = None;
    for attribute in reply.attributes(HEADER) {
        match attribute.kind {
            IFLA_IFNAME => link.name = attribute.text(),
            IFLA_MTU => link.mtu = attribute.number()?,
            IFLA_IFALIAS => link.alias = Some(attribute.text()),
            IFLA_ADDRESS => link.mac = <[u8; 6]>::try_from(attribute.value).ok().map(Mac),
            IFLA_LINK => link.peer = Some(Peer { index: Index(attribute.number()?), namespace: None }),
            IFLA_MASTER => link.master = attribute.number().map(Index),
            IFLA_LINK_NETNSID => namespace = attribute.number().map(u32::cast_signed),
            IFLA_LINKINFO => {
                let name = attribute.nested().find(|info| info.kind == IFLA_INFO_KIND).map(|info| info.text());
                link.kind = name.map_or(Kind::Plain, Kind::named);
                link.port = Port::decode(attribute.content());
                link.device = device::kind_of(attribute.content());
            }
            _ => {}
        }
    }
    // IFLA_LINK also says by which device a tunnel sends; only a pair's is its other end.
    link.peer = link.peer.filter(|_| link.kind == Kind::Veth).map(|peer| Peer { namespace, ..peer });
    Some(link)
}

impl Kind {
    fn named(name: String) -> Self {
        if name == "veth" { Self::Veth } else { Self::Other(name) }
    }
}
