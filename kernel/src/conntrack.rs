//! Connection tracking: forgetting flows that were rewritten by rules which no longer hold.

use std::collections::BTreeSet;
use std::net::IpAddr;

use towpath_net::Family;
use towpath_net::lease::{Lease, Protocol};

use crate::address::address_family;
use crate::netlink::attributes::Attributes;
use crate::netlink::{self, Content, Error, Message, Operation, Socket};
use crate::route;

/// `NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET` and `_DELETE` (`linux/netfilter/nfnetlink_conntrack.h`).
const CT_GET: u16 = 1 << 8 | 1;
const CT_DELETE: u16 = 1 << 8 | 2;
/// `struct nfgenmsg`.
const HEADER: usize = 4;

/// `CTA_TUPLE_ORIG`, `CTA_TUPLE_REPLY`, `CTA_ZONE`, `CTA_FILTER`.
const TUPLE_ORIG: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const ZONE: u16 = 18;
const FILTER: u16 = 25;
/// `NLA_F_NESTED`.
const NESTED: u16 = 0x8000;
/// `CTA_TUPLE_IP`, `CTA_TUPLE_PROTO`.
const TUPLE_IP: u16 = 1;
const TUPLE_PROTO: u16 = 2;
/// `CTA_PROTO_NUM`, `CTA_PROTO_DST_PORT`.
const PROTO_NUM: u16 = 1;
const PROTO_DST_PORT: u16 = 3;
/// `CTA_IP_V4_SRC`, `CTA_IP_V4_DST`, `CTA_IP_V6_SRC`, `CTA_IP_V6_DST`.
const IP_V4_SRC: u16 = 1;
const IP_V4_DST: u16 = 2;
const IP_V6_SRC: u16 = 3;
const IP_V6_DST: u16 = 4;
/// `CTA_FILTER_ORIG_FLAGS`, `CTA_FILTER_REPLY_FLAGS`.
const FILTER_ORIG_FLAGS: u16 = 1;
const FILTER_REPLY_FLAGS: u16 = 2;
/// `CTA_FILTER_FLAG_CTA_IP_SRC`, `_PROTO_NUM`, `_PROTO_DST_PORT` (`net/netfilter/nf_internals.h`).
const BY_SOURCE: u32 = 1;
const BY_PROTOCOL: u32 = 1 << 3;
const BY_PORT: u32 = 1 << 5;

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
            let object = || format!("{family} flows to UDP port {port} of {pod}");
            forget(&mut socket, filter(family, *port, Some(pod)), object)?;
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
            let object = || format!("{family} flows to UDP port {port}");
            let request = Message { kind: CT_GET, body: filter(family, *port, None).into_bytes() };
            let flows = socket.dump(&request).map_err(|cause| Error::new(Operation::List, object(), cause))?;
            let stray =
                flows.iter().map(|flow| flow.content(HEADER)).filter(|flow| destination(*flow).is_some_and(is_own));
            for flow in stray {
                forget(&mut socket, identity(family, flow), object)?;
            }
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

fn forget(socket: &mut Socket, which: Attributes, object: impl Fn() -> String) -> Result<(), Error> {
    match socket.write(&Message { kind: CT_DELETE, body: which.into_bytes() }, 0) {
        Ok(()) => Ok(()),
        Err(cause) => match Error::new(Operation::Delete, object(), cause) {
            error if error.is_missing() => Ok(()),
            error => Err(error),
        },
    }
}

/// Flows to a UDP port, where `from` is given only those that it answers.
fn filter(family: Family, port: u16, from: Option<IpAddr>) -> Attributes {
    let mut message = Attributes::after(&[address_family(family), 0, 0, 0]);
    message.nest(TUPLE_ORIG, |tuple| {
        tuple.nest(TUPLE_PROTO, |proto| {
            proto.put(PROTO_NUM, &[Protocol::Udp.number()]).put(PROTO_DST_PORT, &port.to_be_bytes());
        });
    });
    if let Some(pod) = from {
        let kind = if pod.is_ipv4() { IP_V4_SRC } else { IP_V6_SRC };
        message.nest(TUPLE_REPLY, |tuple| _ = tuple.nest(TUPLE_IP, |ip| _ = ip.put_address(kind, pod)));
    }
    // The only numbers of netfilter that are in the machine's byte order.
    message.nest(FILTER, |filter| {
        filter.put_number(FILTER_ORIG_FLAGS, BY_PROTOCOL | BY_PORT);
        if from.is_some() {
            filter.put_number(FILTER_REPLY_FLAGS, BY_SOURCE);
        }
    });
    message
}

/// Where a flow was sent.
fn destination(flow: Content<'_>) -> Option<IpAddr> {
    let ip = flow.nested(TUPLE_ORIG)?.nested(TUPLE_IP)?;
    ip.get(IP_V4_DST).or_else(|| ip.get(IP_V6_DST))?.address()
}

/// What names one flow.
fn identity(family: Family, flow: Content<'_>) -> Attributes {
    let mut message = Attributes::after(&[address_family(family), 0, 0, 0]);
    if let Some(tuple) = flow.get(TUPLE_ORIG) {
        message.put(TUPLE_ORIG | NESTED, tuple.value);
    }
    if let Some(zone) = flow.get(ZONE) {
        message.put(ZONE, zone.value);
    }
    message
}
