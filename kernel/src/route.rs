//! Routes of the main table, and of that of the node's own addresses.

mod kind;

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use towpath_net::Family;
use towpath_net::family::host_net;
use towpath_net::observed::NexthopId;

use crate::address::address_family;
use crate::link::Index;
use crate::netlink::attributes::Attributes;
use crate::netlink::{Error, Message, Operation, Request, Socket};

pub use kind::{Kind, Scope};

/// Messages (`linux/rtnetlink.h`, as all that follows).
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;
/// Attributes.
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RTA_MULTIPATH: u16 = 9;
const RTA_TABLE: u16 = 15;
const RTA_VIA: u16 = 18;
const RTA_NH_ID: u16 = 30;
/// Tables. The local one holds the addresses that the namespace takes packets for.
const RT_TABLE_MAIN: u8 = 254;
const RT_TABLE_LOCAL: u8 = 255;
/// The flag of a route that was learned for one destination, such as a smaller MTU on the way there.
const RTM_F_CLONED: u32 = 0x200;
/// Asks for the route as it is in its table, rather than for what becomes of a packet.
const RTM_F_FIB_MATCH: u32 = 0x2000;

/// Who added a route (`rtm_protocol`, `linux/rtnetlink.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Protocol(pub u8);

/// The protocol of every route that Towpath adds to a node: by it a fresh agent knows its own.
///
/// The number is in the part that the kernel leaves to users, and in no `rt_protos` file known to us.
pub const ROUTE_PROTOCOL: Protocol = Protocol(117);

/// `RTPROT_BOOT`: what `ip route add` writes; what a person would expect in a pod.
pub const BOOT: Protocol = Protocol(3);

/// The metric that the kernel gives an IPv6 route that is added without (`IP6_RT_PRIO_USER`, `net/ip6_route.h`).
const IPV6_DEFAULT_METRIC: u32 = 1024;

/// A route of the main table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Route {
    /// Where to.
    pub destination: IpNet,
    /// What happens to packets.
    pub kind: Kind,
    /// Whom they are given to; nobody where the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// The link that they leave by; none of a blackhole.
    pub link: Option<Index>,
    /// The source address of packets that the node itself sends.
    pub source: Option<IpAddr>,
    /// How far away the destination is.
    pub scope: Scope,
    /// Who added it.
    pub protocol: Protocol,
    /// The preference among routes to the same destination: lower wins.
    pub metric: u32,
    /// The nexthop object that it leads to; then `gateway` and `link` are empty.
    pub nexthop: Option<NexthopId>,
    /// Whether the route has several next hops, which Towpath never makes; then `gateway` and `link` are empty.
    pub complex: bool,
}

impl Route {
    /// To whoever is at the other end of a link.
    pub fn on_link(destination: IpNet, link: Index, protocol: Protocol) -> Self {
        let scope = match Family::of_net(&destination) {
            Family::V4 => Scope::Link,
            Family::V6 => Scope::Global,
        };
        Self { link: Some(link), scope, ..Self::blank(destination, protocol) }
    }

    /// By way of a gateway on a link.
    pub fn via(destination: IpNet, gateway: IpAddr, link: Index, protocol: Protocol) -> Self {
        Self { gateway: Some(gateway), link: Some(link), ..Self::blank(destination, protocol) }
    }

    /// To where a nexthop object leads.
    pub fn by(destination: IpNet, nexthop: NexthopId, protocol: Protocol) -> Self {
        Self { nexthop: Some(nexthop), ..Self::blank(destination, protocol) }
    }

    /// To nowhere.
    pub fn blackhole(destination: IpNet, protocol: Protocol) -> Self {
        Self { kind: Kind::Blackhole, ..Self::blank(destination, protocol) }
    }

    /// To this node itself, by a link.
    pub fn local(destination: IpNet, link: Index, protocol: Protocol) -> Self {
        Self { kind: Kind::Local, link: Some(link), ..Self::blank(destination, protocol) }
    }

    fn blank(destination: IpNet, protocol: Protocol) -> Self {
        Self {
            destination,
            kind: Kind::Unicast,
            gateway: None,
            link: None,
            source: None,
            scope: Scope::Global,
            protocol,
            metric: default_metric(Family::of_net(&destination)),
            nexthop: None,
            complex: false,
        }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kind == Kind::Blackhole {
            f.write_str("blackhole ")?;
        }
        write!(f, "{}", self.destination)?;
        if let Some(gateway) = self.gateway {
            write!(f, " via {gateway}")?;
        }
        if let Some(link) = self.link {
            write!(f, " dev {link}")?;
        }
        if let Some(nexthop) = self.nexthop {
            write!(f, " nhid {}", nexthop.0)?;
        }
        if let Some(source) = self.source {
            write!(f, " src {source}")?;
        }
        Ok(())
    }
}

/// The metric of routes that are added without one.
pub const fn default_metric(family: Family) -> u32 {
    match family {
        Family::V4 => 0,
        Family::V6 => IPV6_DEFAULT_METRIC,
    }
}

/// Lists the routes of the main table, of both families.
pub fn list(socket: &mut Socket) -> Result<Vec<Route>, Error> {
    let mut routes = Vec::new();
    for family in Family::ALL {
        routes.extend(table(socket, family, RT_TABLE_MAIN)?);
    }
    Ok(routes)
}

/// Tells whether the kernel takes packets for an address of a link. For one of IPv6 it does some time after that was given
/// to its link, when the kernel's own work queue gets to it (`addrconf_dad_work`); for one of IPv4 it does at once.
pub fn is_local(socket: &mut Socket, link: Index, address: impl Into<IpAddr>) -> Result<bool, Error> {
    let address = address.into();
    let net = host_net(address);
    let family = Family::of(address);
    let header = Header {
        family: address_family(family),
        prefix_length: net.prefix_len(),
        flags: RTM_F_FIB_MATCH,
        ..Header::default()
    };
    let mut attributes = Attributes::after(&header.bytes());
    attributes.put_address(RTA_DST, address).put_number(RTA_OIF, link.0);
    match socket.get(&Message { kind: RTM_GETROUTE, body: attributes.into_bytes() }) {
        Ok(reply) => {
            // IPv4 calls all tables of a lookup the main one.
            let mut routes = [RT_TABLE_LOCAL, RT_TABLE_MAIN].into_iter();
            let route = reply.and_then(|reply| routes.find_map(|table| decode(family, table, &reply)));
            Ok(route.is_some_and(|r| (r.kind, r.destination, r.link) == (Kind::Local, net, Some(link))))
        }
        Err(cause) if cause.errno().is_some_and(is_unreachable) => Ok(false),
        Err(cause) => Err(Error::new(Operation::List, format!("the route to {address}"), cause)),
    }
}

fn is_unreachable(errno: rustix::io::Errno) -> bool {
    use rustix::io::Errno;
    matches!(errno, Errno::NETUNREACH | Errno::HOSTUNREACH | Errno::NOENT)
}

/// Lists the routes of a family that lead to this node itself.
pub fn local_routes(socket: &mut Socket, family: Family) -> Result<Vec<Route>, Error> {
    let routes = table(socket, family, RT_TABLE_LOCAL)?;
    Ok(routes.into_iter().filter(|route| route.kind == Kind::Local).collect())
}

fn table(socket: &mut Socket, family: Family, table: u8) -> Result<Vec<Route>, Error> {
    let header = Header { family: address_family(family), ..Header::default() };
    let mut attributes = Attributes::after(&header.bytes());
    attributes.put_number(RTA_TABLE, table.into());
    let request = Message { kind: RTM_GETROUTE, body: attributes.into_bytes() };
    match socket.dump_with(&request, |reply| decode(family, table, reply)) {
        Ok(routes) => Ok(routes),
        // The kernel makes the table with its first route.
        Err(cause) if cause.errno() == Some(rustix::io::Errno::NOENT) => Ok(Vec::new()),
        Err(cause) => Err(Error::new(Operation::List, format!("{family} routes"), cause)),
    }
}

/// Adds a route; refused ([`Error::is_taken`]) where there is one to the same destination with the same metric.
pub fn add(socket: &mut Socket, route: &Route) -> Result<(), Error> {
    socket.execute(&adding(route))
}

/// The request of [`add`].
pub fn adding(route: &Route) -> Request {
    writing(route, Operation::Add, NLM_F_CREATE | NLM_F_EXCL)
}

/// Adds a route beside any that lead to the same destination.
pub fn append(socket: &mut Socket, route: &Route) -> Result<(), Error> {
    socket.execute(&appending(route))
}

/// The request of [`append`].
pub fn appending(route: &Route) -> Request {
    writing(route, Operation::Add, NLM_F_CREATE | NLM_F_APPEND)
}

/// Adds a route in the place of the one to the same destination with the same metric, without a moment in between.
pub fn replace(socket: &mut Socket, route: &Route) -> Result<(), Error> {
    socket.execute(&replacing(route))
}

/// The request of [`replace`].
pub fn replacing(route: &Route) -> Request {
    writing(route, Operation::Replace, NLM_F_CREATE | NLM_F_REPLACE)
}

fn writing(route: &Route, operation: Operation, flags: u16) -> Request {
    Request::new(operation, format!("route {route}"), encode(RTM_NEWROUTE, route), flags)
}

/// Deletes exactly this route, and no other to the same destination.
pub fn delete(socket: &mut Socket, route: &Route) -> Result<(), Error> {
    socket.execute(&deleting(route))
}

/// The request of [`delete`].
pub fn deleting(route: &Route) -> Request {
    Request::new(Operation::Delete, format!("route {route}"), encode(RTM_DELROUTE, route), 0)
}

/// `struct rtmsg`, less what is always nothing here.
#[derive(Clone, Copy, Debug, Default)]
struct Header {
    family: u8,
    prefix_length: u8,
    table: u8,
    protocol: u8,
    scope: u8,
    kind: u8,
    flags: u32,
}

impl Header {
    const LENGTH: usize = 12;

    const fn bytes(self) -> [u8; Self::LENGTH] {
        let [a, b, c, d] = self.flags.to_ne_bytes();
        [self.family, self.prefix_length, 0, 0, self.table, self.protocol, self.scope, self.kind, a, b, c, d]
    }

    fn of(message: &Message) -> Option<Self> {
        let [family, prefix_length, _, _, table, protocol, scope, kind, flags @ ..] =
            *message.header::<{ Self::LENGTH }>()?;
        Some(Self { family, prefix_length, table, protocol, scope, kind, flags: u32::from_ne_bytes(flags) })
    }
}

fn encode(kind: u16, route: &Route) -> Message {
    let header = Header {
        family: address_family(Family::of_net(&route.destination)),
        prefix_length: route.destination.prefix_len(),
        table: if route.kind == Kind::Local { RT_TABLE_LOCAL } else { RT_TABLE_MAIN },
        protocol: route.protocol.0,
        scope: route.scope.number(),
        kind: route.kind.number(),
        flags: 0,
    };
    let mut attributes = Attributes::after(&header.bytes());
    if route.destination.prefix_len() > 0 {
        attributes.put_address(RTA_DST, route.destination.network());
    }
    if let Some(gateway) = route.gateway {
        attributes.put_address(RTA_GATEWAY, gateway);
    }
    if let Some(link) = route.link {
        attributes.put_number(RTA_OIF, link.0);
    }
    if let Some(nexthop) = route.nexthop {
        attributes.put_number(RTA_NH_ID, nexthop.0);
    }
    if let Some(source) = route.source {
        attributes.put_address(RTA_PREFSRC, source);
    }
    if route.metric != 0 {
        attributes.put_number(RTA_PRIORITY, route.metric);
    }
    Message { kind, body: attributes.into_bytes() }
}

pub(crate) fn decode(family: Family, wanted: u8, reply: &Message) -> Option<Route> {
    let header = Header::of(reply)?;
    // A kernel without one family answers with what it has of the others.
    if header.family != address_family(family) || header.flags & RTM_F_CLONED != 0 {
        return None;
    }
    let mut route = Route::blank(family.everything(), Protocol(header.protocol));
    (route.metric, route.kind, route.scope) = (0, Kind::numbered(header.kind), Scope::numbered(header.scope));
    let mut table = u32::from(header.table);
    for attribute in reply.attributes(Header::LENGTH) {
        match attribute.kind {
            RTA_TABLE => table = attribute.number()?,
            RTA_DST => route.destination = IpNet::new(attribute.address()?, header.prefix_length).ok()?,
            RTA_GATEWAY => route.gateway = attribute.address(),
            RTA_PREFSRC => route.source = attribute.address(),
            RTA_OIF => route.link = attribute.number().map(Index),
            RTA_PRIORITY => route.metric = attribute.number()?,
            RTA_NH_ID => route.nexthop = attribute.number().map(NexthopId),
            // A gateway of the other family, or several next hops.
            RTA_VIA | RTA_MULTIPATH => route.complex = true,
            _ => {}
        }
    }
    // Beside the number of a nexthop object the kernel shows what it stands for.
    if route.nexthop.is_some() {
        route.complex = false;
    }
    if route.complex || route.nexthop.is_some() {
        (route.gateway, route.link) = (None, None);
    }
    // The kernel shows the loopback as the device of an IPv6 route to nowhere.
    if !matches!(route.kind, Kind::Unicast | Kind::Local) {
        route.link = None;
    }
    (table == u32::from(wanted)).then_some(route)
}
