//! Routes of the main table.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteScope, RouteType,
};
use towpath_net::Family;

use crate::address::address_family;
use crate::link::Index;
use crate::netlink::{Error, Operation, Socket};

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

/// What happens to a packet that takes a route (`rtm_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// It is sent on.
    Unicast,
    /// It is dropped in silence.
    Blackhole,
    /// Something that Towpath never makes.
    Other(u8),
}

/// How far away the destination is (`rtm_scope`); IPv6 knows only one scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Anywhere (`RT_SCOPE_UNIVERSE`).
    Global,
    /// On the link (`RT_SCOPE_LINK`).
    Link,
    /// Something that Towpath never makes.
    Other(u8),
}

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
    /// Whether the route has several next hops or a nexthop object, which Towpath never makes; then `gateway` and
    /// `link` are empty.
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

    /// To nowhere.
    pub fn blackhole(destination: IpNet, protocol: Protocol) -> Self {
        Self { kind: Kind::Blackhole, ..Self::blank(destination, protocol) }
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
        routes.extend(table(socket, family, RouteHeader::RT_TABLE_MAIN)?);
    }
    Ok(routes)
}

/// `RT_TABLE_LOCAL`: the addresses that the namespace takes packets for.
const LOCAL: u8 = 255;

/// Lists the addresses of a family that the kernel takes packets for. An IPv6 address becomes one some time after it
/// was given to its link, when the kernel's own work queue gets to it (`addrconf_dad_work`).
pub fn local_addresses(socket: &mut Socket, family: Family) -> Result<Vec<IpAddr>, Error> {
    let local = u8::from(RouteType::Local);
    let routes = table(socket, family, LOCAL)?;
    Ok(routes.into_iter().filter(|r| r.kind == Kind::Other(local)).map(|r| r.destination.addr()).collect())
}

fn table(socket: &mut Socket, family: Family, table: u8) -> Result<Vec<Route>, Error> {
    let mut message = RouteMessage::default();
    message.header.address_family = address_family(family);
    message.attributes.push(RouteAttribute::Table(table.into()));
    match socket.dump(&RouteNetlinkMessage::GetRoute(message)) {
        Ok(replies) => Ok(replies.into_iter().filter_map(|reply| decode(family, table, reply)).collect()),
        // The kernel makes the table with its first route.
        Err(cause) if cause.errno() == Some(rustix::io::Errno::NOENT) => Ok(Vec::new()),
        Err(cause) => Err(Error::new(Operation::List, format!("{family} routes"), cause)),
    }
}

/// Adds a route; refused ([`Error::is_taken`]) where there is one to the same destination with the same metric.
pub fn add(socket: &mut Socket, route: &Route) -> Result<(), Error> {
    write(socket, route, Operation::Add, NLM_F_CREATE | NLM_F_EXCL)
}

/// Adds a route beside any that lead to the same destination.
pub fn append(socket: &mut Socket, route: &Route) -> Result<(), Error> {
    write(socket, route, Operation::Add, NLM_F_CREATE | NLM_F_APPEND)
}

/// Adds a route in the place of the one to the same destination with the same metric, without a moment in between.
pub fn replace(socket: &mut Socket, route: &Route) -> Result<(), Error> {
    write(socket, route, Operation::Replace, NLM_F_CREATE | NLM_F_REPLACE)
}

fn write(socket: &mut Socket, route: &Route, operation: Operation, flags: u16) -> Result<(), Error> {
    socket
        .write(RouteNetlinkMessage::NewRoute(encode(route)), flags)
        .map_err(|cause| Error::new(operation, format!("route {route}"), cause))
}

/// Deletes exactly this route, and no other to the same destination.
pub fn delete(socket: &mut Socket, route: &Route) -> Result<(), Error> {
    socket
        .write(RouteNetlinkMessage::DelRoute(encode(route)), 0)
        .map_err(|cause| Error::new(Operation::Delete, format!("route {route}"), cause))
}

fn encode(route: &Route) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = address_family(Family::of_net(&route.destination));
    message.header.destination_prefix_length = route.destination.prefix_len();
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = route.protocol.0.into();
    message.header.scope = match route.scope {
        Scope::Global => RouteScope::Universe,
        Scope::Link => RouteScope::Link,
        Scope::Other(number) => number.into(),
    };
    message.header.kind = match route.kind {
        Kind::Unicast => RouteType::Unicast,
        Kind::Blackhole => RouteType::BlackHole,
        Kind::Other(number) => number.into(),
    };
    let attributes = &mut message.attributes;
    if route.destination.prefix_len() > 0 {
        attributes.push(RouteAttribute::Destination(route.destination.network().into()));
    }
    attributes.extend(route.gateway.map(|gateway| RouteAttribute::Gateway(gateway.into())));
    attributes.extend(route.link.map(|link| RouteAttribute::Oif(link.0)));
    attributes.extend(route.source.map(|source| RouteAttribute::PrefSource(source.into())));
    if route.metric != 0 {
        attributes.push(RouteAttribute::Priority(route.metric));
    }
    message
}

fn decode(family: Family, wanted: u8, reply: RouteNetlinkMessage) -> Option<Route> {
    let RouteNetlinkMessage::NewRoute(message) = reply else { return None };
    let header = &message.header;
    if header.flags.contains(RouteFlags::Cloned) {
        return None;
    }
    let mut route = Route::blank(family.everything(), Protocol(header.protocol.into()));
    route.metric = 0;
    route.kind = match header.kind {
        RouteType::Unicast => Kind::Unicast,
        RouteType::BlackHole => Kind::Blackhole,
        other => Kind::Other(other.into()),
    };
    route.scope = match header.scope {
        RouteScope::Universe => Scope::Global,
        RouteScope::Link => Scope::Link,
        other => Scope::Other(other.into()),
    };
    let mut table = u32::from(header.table);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::Destination(address) => {
                route.destination = IpNet::new(plain(address)?, header.destination_prefix_length).ok()?;
            }
            RouteAttribute::Gateway(address) => route.gateway = plain(address),
            RouteAttribute::PrefSource(address) => route.source = plain(address),
            RouteAttribute::Oif(index) => route.link = Some(Index(*index)),
            RouteAttribute::Priority(metric) => route.metric = *metric,
            // A gateway of the other family, several next hops, or a nexthop object.
            RouteAttribute::Via(_) | RouteAttribute::MultiPath(_) | RouteAttribute::NhId(_) => route.complex = true,
            _ => {}
        }
    }
    if route.complex {
        (route.gateway, route.link) = (None, None);
    }
    // The kernel shows the loopback as the device of an IPv6 route to nowhere.
    if route.kind != Kind::Unicast {
        route.link = None;
    }
    (table == u32::from(wanted)).then_some(route)
}

const fn plain(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    }
}
