//! Links: what is there, pairs of virtual Ethernet devices, and changes.

use std::fmt;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::str::FromStr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, InfoVeth, LinkAttribute, LinkExtentMask, LinkFlags,
    LinkInfo, LinkMessage,
};

use crate::netlink::{Cause, Error, Operation, Socket};

/// The number of a link in its network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Index(pub u32);

impl fmt::Display for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// An Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for byte in self.0 {
            write!(f, "{separator}{byte:02x}")?;
            separator = ":";
        }
        Ok(())
    }
}

/// A text that is not an Ethernet address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an Ethernet address such as 02:00:5e:10:00:01")]
pub struct NotAMac(String);

impl FromStr for Mac {
    type Err = NotAMac;

    fn from_str(text: &str) -> Result<Self, NotAMac> {
        let byte = |part: &str| u8::from_str_radix(part, 16).ok().filter(|_| part.len() == 2 && !part.starts_with('+'));
        let bytes: Option<Vec<u8>> = text.split(':').map(byte).collect();
        let mac = bytes.and_then(|bytes| <[u8; 6]>::try_from(bytes).ok());
        mac.map(Self).ok_or_else(|| NotAMac(text.to_owned()))
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
    /// The bridge that it is a port of.
    pub controller: Option<Index>,
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
    /// Makes the kernel generate no IPv6 address by itself (`IN6_ADDR_GEN_MODE_NONE`).
    pub no_generated_addresses: bool,
}

/// Lists the links of the socket's namespace.
pub fn list(socket: &mut Socket) -> Result<Vec<Link>, Error> {
    let failed = |cause| Error::new(Operation::List, "links", cause);
    let replies = socket.dump(&RouteNetlinkMessage::GetLink(query())).map_err(failed)?;
    Ok(replies.into_iter().filter_map(decode).collect())
}

/// Finds a link by its name.
pub fn find(socket: &mut Socket, name: &str) -> Result<Option<Link>, Error> {
    let mut message = query();
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    get(socket, message, || format!("link {name}"))
}

/// Finds a link by its number.
pub fn by_index(socket: &mut Socket, index: Index) -> Result<Option<Link>, Error> {
    let mut message = query();
    message.header.index = index.0;
    get(socket, message, || format!("link {index}"))
}

fn get(socket: &mut Socket, message: LinkMessage, object: impl Fn() -> String) -> Result<Option<Link>, Error> {
    match socket.get(RouteNetlinkMessage::GetLink(message)) {
        Ok(reply) => Ok(reply.and_then(decode)),
        Err(cause) => match Error::new(Operation::List, object(), cause) {
            error if error.is_missing() => Ok(None),
            error => Err(error),
        },
    }
}

fn query() -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    message
}

/// Makes a pair, both ends complete and down, in one message: after it there are both ends or none.
pub fn create_veth(socket: &mut Socket, pair: &VethPair<'_>) -> Result<(), Error> {
    let mut peer = LinkMessage::default();
    peer.attributes = vec![
        LinkAttribute::IfName(pair.peer_name.to_owned()),
        LinkAttribute::Address(pair.peer_mac.0.to_vec()),
        LinkAttribute::Mtu(pair.mtu),
        LinkAttribute::NetNsFd(pair.peer_namespace.as_raw_fd()),
    ];
    let mut message = LinkMessage::default();
    message.attributes = vec![
        LinkAttribute::IfName(pair.name.to_owned()),
        LinkAttribute::Address(pair.mac.0.to_vec()),
        LinkAttribute::Mtu(pair.mtu),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]),
    ];
    let object = || format!("pair of links {} and {}", pair.name, pair.peer_name);
    socket
        .write(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL)
        .map_err(|cause| Error::new(Operation::Add, object(), cause))
}

/// Changes a link.
pub fn change(socket: &mut Socket, index: Index, change: Change<'_>) -> Result<(), Error> {
    let mut message = LinkMessage::default();
    message.header.index = index.0;
    if let Some(up) = change.up {
        message.header.change_mask = LinkFlags::Up;
        message.header.flags = if up { LinkFlags::Up } else { LinkFlags::empty() };
    }
    message.attributes.extend(change.alias.map(|alias| LinkAttribute::IfAlias(alias.to_owned())));
    message.attributes.extend(change.mtu.map(LinkAttribute::Mtu));
    if change.no_generated_addresses {
        let mode = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
        message.attributes.push(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![mode])]));
    }
    socket
        .write(RouteNetlinkMessage::SetLink(message), 0)
        .map_err(|cause| Error::new(Operation::Change, format!("link {index}"), cause))
}

/// Deletes a link, and with it the other end of a pair. Returns when both are gone.
pub fn delete(socket: &mut Socket, name: &str) -> Result<(), Error> {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    socket
        .write(RouteNetlinkMessage::DelLink(message), 0)
        .map_err(|cause: Cause| Error::new(Operation::Delete, format!("link {name}"), cause))
}

fn decode(reply: RouteNetlinkMessage) -> Option<Link> {
    let RouteNetlinkMessage::NewLink(message) = reply else { return None };
    let mut link = Link {
        index: Index(message.header.index),
        name: String::new(),
        mtu: 0,
        up: message.header.flags.contains(LinkFlags::Up),
        running: message.header.flags.contains(LinkFlags::Running),
        loopback: message.header.flags.contains(LinkFlags::Loopback),
        kind: Kind::Plain,
        alias: None,
        mac: None,
        peer: None,
        controller: None,
    };
    let mut namespace = None;
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::IfAlias(alias) => link.alias = Some(alias),
            LinkAttribute::Address(bytes) => link.mac = <[u8; 6]>::try_from(bytes).ok().map(Mac),
            LinkAttribute::Link(index) => link.peer = Some(Peer { index: Index(index), namespace: None }),
            LinkAttribute::LinkNetNsId(id) => namespace = Some(id),
            LinkAttribute::Controller(index) => link.controller = Some(Index(index)),
            LinkAttribute::LinkInfo(infos) => link.kind = kind(&infos),
            _ => {}
        }
    }
    // IFLA_LINK also says by which device a tunnel sends; only a pair's is its other end.
    link.peer = link.peer.filter(|_| link.kind == Kind::Veth).map(|peer| Peer { namespace, ..peer });
    Some(link)
}

fn kind(infos: &[LinkInfo]) -> Kind {
    let kind = infos.iter().find_map(|info| match info {
        LinkInfo::Kind(kind) => Some(kind),
        _ => None,
    });
    match kind {
        None => Kind::Plain,
        Some(InfoKind::Veth) => Kind::Veth,
        Some(other) => Kind::Other(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_survives_the_way_through_its_text() {
        let mac = Mac([2, 0, 0x5e, 0x10, 0, 0xff]);
        assert_eq!(mac.to_string().parse(), Ok(mac));
        for text in ["", "02:00:5e:10:00", "02:00:5e:10:00:01:02", "02:00:5e:10:00:+1", "x"] {
            assert!(text.parse::<Mac>().is_err(), "{text}");
        }
    }
}
