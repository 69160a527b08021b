//! Addresses of links.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use towpath_net::Family;

use crate::link::Index;
use crate::netlink::{Error, Operation, Socket};

/// An address as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The link.
    pub link: Index,
    /// The address with its prefix length.
    pub address: IpNet,
    /// Whether it may be used: it is not waiting for duplicate address detection, and was not found to be a duplicate.
    pub usable: bool,
}

/// The kernel's name for a family.
pub(crate) const fn address_family(family: Family) -> AddressFamily {
    match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    }
}

/// Lists all addresses of the socket's namespace.
pub fn list(socket: &mut Socket) -> Result<Vec<Address>, Error> {
    let message = AddressMessage::default();
    let replies = socket
        .dump(&RouteNetlinkMessage::GetAddress(message))
        .map_err(|cause| Error::new(Operation::List, "addresses", cause))?;
    Ok(replies.into_iter().filter_map(decode).collect())
}

/// Gives a link an address, or leaves it as it is where the link has it.
///
/// It can be used at once (`IFA_F_NODAD`), and the kernel adds no route for its prefix (`IFA_F_NOPREFIXROUTE`).
pub fn add(socket: &mut Socket, link: Index, address: IpNet) -> Result<(), Error> {
    let mut message = identify(link, address);
    message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad | AddressFlags::Noprefixroute));
    socket
        .write(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_REPLACE)
        .map_err(|cause| Error::new(Operation::Add, format!("address {address} of link {link}"), cause))
}

/// Takes an address from a link.
pub fn delete(socket: &mut Socket, link: Index, address: IpNet) -> Result<(), Error> {
    socket
        .write(RouteNetlinkMessage::DelAddress(identify(link, address)), 0)
        .map_err(|cause| Error::new(Operation::Delete, format!("address {address} of link {link}"), cause))
}

fn identify(link: Index, address: IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = address_family(Family::of_net(&address));
    message.header.prefix_len = address.prefix_len();
    message.header.index = link.0;
    message.attributes = vec![AddressAttribute::Local(address.addr()), AddressAttribute::Address(address.addr())];
    message
}

fn decode(reply: RouteNetlinkMessage) -> Option<Address> {
    let RouteNetlinkMessage::NewAddress(message) = reply else { return None };
    let mut local: Option<IpAddr> = None;
    let mut remote: Option<IpAddr> = None;
    let mut flags = AddressFlags::from_bits_retain(u32::from(message.header.flags.bits()));
    for attribute in message.attributes {
        match attribute {
            AddressAttribute::Local(address) => local = Some(address),
            AddressAttribute::Address(address) => remote = Some(address),
            AddressAttribute::Flags(all) => flags = all,
            _ => {}
        }
    }
    // Of a point-to-point address, IFA_ADDRESS is the other end's; IPv6 has no IFA_LOCAL otherwise.
    let address = IpNet::new(local.or(remote)?, message.header.prefix_len).ok()?;
    let usable = !flags.intersects(AddressFlags::Tentative | AddressFlags::Dadfailed);
    Some(Address { link: Index(message.header.index), address, usable })
}
