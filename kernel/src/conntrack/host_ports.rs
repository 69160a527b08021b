//! Flows that were rewritten by host ports which no longer are.

use std::collections::BTreeSet;
use std::net::IpAddr;

use towpath_net::Family;
use towpath_net::lease::{Lease, Protocol};

use super::{
    BY_PORT, BY_PROTOCOL, CT_DELETE, CT_GET, FILTER, FILTER_ORIG_FLAGS, HEADER, PROTO_DST_PORT, PROTO_NUM, TUPLE_ORIG,
    TUPLE_PROTO, TUPLE_REPLY, destination, family_header, identity, source,
};
use crate::netlink::{self, Content, Error, Message, Operation, Socket};
use crate::route;

/// Forgets the UDP flows that went through the host ports of a lease to its pod. A flow of TCP or SCTP ends by itself;
/// one of UDP lives as long as its client sends, and keeps going where it went when it began (the kernel rewrites only a
/// flow's first packet).
pub fn forget_host_ports(lease: &Lease) -> Result<(), Error> {
    let ports = udp_ports(lease);
    if ports.is_empty() {
        return Ok(());
    }
    let mut socket = Socket::open(netlink::Protocol::Netfilter)?;
    for (family, pod) in pods(lease) {
        for port in &ports {
            forget(&mut socket, family, *port, |flow| flow.nested(TUPLE_REPLY).and_then(source) == Some(pod))?;
        }
    }
    Ok(())
}

/// Forgets the UDP flows to host ports of a lease that began before they were opened, and so go to the node itself. Flows
/// to the same port of other hosts pass through this node too: those are left alone.
pub fn forget_earlier(lease: &Lease) -> Result<(), Error> {
    let ports = udp_ports(lease);
    if ports.is_empty() {
        return Ok(());
    }
    let mut socket = Socket::open(netlink::Protocol::Netfilter)?;
    let mut routes = Socket::open(netlink::Protocol::Route)?;
    for (family, _) in pods(lease) {
        let own = route::local_routes(&mut routes, family)?;
        let is_own = |address: IpAddr| own.iter().any(|route| route.destination.contains(&address));
        for port in &ports {
            forget(&mut socket, family, *port, |flow| {
                flow.nested(TUPLE_ORIG).and_then(destination).is_some_and(is_own)
            })?;
        }
    }
    Ok(())
}

fn udp_ports(lease: &Lease) -> BTreeSet<u16> {
    lease.opened_ports().filter(|port| port.protocol == Protocol::Udp).map(|port| port.host_port).collect()
}

fn pods(lease: &Lease) -> impl Iterator<Item = (Family, IpAddr)> {
    lease.addresses.iter().map(|leased| (Family::of(leased.gateway), leased.address.addr()))
}

/// Forgets those flows to a UDP port that are meant.
fn forget(socket: &mut Socket, family: Family, port: u16, is_meant: impl Fn(Content<'_>) -> bool) -> Result<(), Error> {
    let failed = |operation, cause| Error::new(operation, format!("{family} flows to UDP port {port}"), cause);
    let all = socket.dump(&to_port(family, port)).map_err(|cause| failed(Operation::List, cause))?;
    for flow in all.iter().map(|flow| flow.content(HEADER)).filter(|flow| is_meant(*flow)) {
        let request = Message { kind: CT_DELETE, body: identity(family, flow).into_bytes() };
        match socket.write(&request, 0).map_err(|cause| failed(Operation::Delete, cause)) {
            Err(error) if !error.is_missing() => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// Asks for the flows to a UDP port.
fn to_port(family: Family, port: u16) -> Message {
    let mut message = family_header(family);
    message.nest(TUPLE_ORIG, |tuple| {
        tuple.nest(TUPLE_PROTO, |proto| {
            proto.put(PROTO_NUM, &[Protocol::Udp.number()]).put(PROTO_DST_PORT, &port.to_be_bytes());
        });
    });
    // The only numbers of netfilter that are in the machine's byte order.
    message.nest(FILTER, |filter| _ = filter.put_number(FILTER_ORIG_FLAGS, BY_PROTOCOL | BY_PORT));
    Message { kind: CT_GET, body: message.into_bytes() }
}
