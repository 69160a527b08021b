//! Addresses of links.

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use towpath_net::Family;

use crate::link::Index;
use crate::netlink::attributes::Attributes;
use crate::netlink::{Error, Message, Operation, Request, Socket};
use crate::route::{self, ROUTE_PROTOCOL, Route};

/// Messages (`linux/rtnetlink.h`).
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
/// Attributes (`linux/if_addr.h`).
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;
/// Flags of an address.
const IFA_F_NODAD: u32 = 0x02;
const IFA_F_DADFAILED: u32 = 0x08;
const IFA_F_TENTATIVE: u32 = 0x40;
const IFA_F_NOPREFIXROUTE: u32 = 0x200;

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

/// The kernel's number of a family: `AF_INET`, `AF_INET6`.
pub(crate) const fn address_family(family: Family) -> u8 {
    match family {
        Family::V4 => 2,
        Family::V6 => 10,
    }
}

/// The kernel gives `::1` to the loopback alone, and takes packets to it by another link only where that link has a local
/// route to it: such a route is what it means that a link has this address.
fn as_route(link: Index, address: IpNet) -> Option<Route> {
    let is_foreign = matches!(address, IpNet::V6(net) if net.addr().is_loopback());
    is_foreign.then(|| Route::local(address, link, ROUTE_PROTOCOL))
}

/// Lists all addresses of the socket's namespace.
pub fn list(socket: &mut Socket) -> Result<Vec<Address>, Error> {
    let request = Message { kind: RTM_GETADDR, body: header(0, 0, Index(0)).to_vec() };
    let mut addresses =
        socket.dump_with(&request, decode).map_err(|cause| Error::new(Operation::List, "addresses", cause))?;
    let routes = route::local_routes(socket, Family::V6)?.into_iter();
    let loopbacks = routes
        .filter(|route| route.protocol == ROUTE_PROTOCOL)
        .filter_map(|route| Some(Address { link: route.link?, address: route.destination, usable: true }));
    addresses.extend(loopbacks);
    Ok(addresses)
}

/// Gives a link an address, or leaves it as it is where the link has it.
///
/// It can be used at once (`IFA_F_NODAD`), and the kernel adds no route for its prefix (`IFA_F_NOPREFIXROUTE`).
pub fn add(socket: &mut Socket, link: Index, address: IpNet) -> Result<(), Error> {
    match socket.execute(&adding(link, address)) {
        Err(error) if error.is_taken() && as_route(link, address).is_some() => Ok(()),
        other => other,
    }
}

/// The request of [`add`].
pub fn adding(link: Index, address: IpNet) -> Request {
    if let Some(route) = as_route(link, address) {
        return route::appending(&route);
    }
    let mut attributes = identify(link, address);
    attributes.put_number(IFA_FLAGS, IFA_F_NODAD | IFA_F_NOPREFIXROUTE);
    let message = Message { kind: RTM_NEWADDR, body: attributes.into_bytes() };
    let object = format!("address {address} of link {link}");
    Request::new(Operation::Add, object, message, NLM_F_CREATE | NLM_F_REPLACE)
}

/// Takes an address from a link.
pub fn delete(socket: &mut Socket, link: Index, address: IpNet) -> Result<(), Error> {
    socket.execute(&deleting(link, address))
}

/// The request of [`delete`].
pub fn deleting(link: Index, address: IpNet) -> Request {
    if let Some(route) = as_route(link, address) {
        return route::deleting(&route);
    }
    let message = Message { kind: RTM_DELADDR, body: identify(link, address).into_bytes() };
    Request::new(Operation::Delete, format!("address {address} of link {link}"), message, 0)
}

/// `struct ifaddrmsg`: family, prefix length, flags, scope, link.
const HEADER: usize = 8;

fn header(family: u8, prefix_length: u8, link: Index) -> [u8; HEADER] {
    let [a, b, c, d] = link.0.to_ne_bytes();
    [family, prefix_length, 0, 0, a, b, c, d]
}

fn identify(link: Index, address: IpNet) -> Attributes {
    let family = address_family(Family::of_net(&address));
    let mut attributes = Attributes::after(&header(family, address.prefix_len(), link));
    attributes.put_address(IFA_LOCAL, address.addr()).put_address(IFA_ADDRESS, address.addr());
    attributes
}

pub(crate) fn decode(reply: &Message) -> Option<Address> {
    let [_, prefix_length, flags, _, link @ ..] = *reply.header::<HEADER>()?;
    let (mut local, mut remote, mut flags) = (None, None, u32::from(flags));
    for attribute in reply.attributes(HEADER) {
        match attribute.kind {
            IFA_LOCAL => local = attribute.address(),
            IFA_ADDRESS => remote = attribute.address(),
            IFA_FLAGS => flags = attribute.number()?,
            _ => {}
        }
    }
    // Of a point-to-point address, IFA_ADDRESS is the other end's; IPv6 has no IFA_LOCAL otherwise.
    let address = IpNet::new(local.or(remote)?, prefix_length).ok()?;
    let usable = flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED) == 0;
    Some(Address { link: Index(u32::from_ne_bytes(link)), address, usable })
}
