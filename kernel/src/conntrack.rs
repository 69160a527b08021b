//! Connection tracking: forgetting flows that were rewritten by rules which no longer hold.

use std::net::IpAddr;

use towpath_net::Family;
use towpath_net::lease::{HostPort, Lease, Protocol};

use crate::address::address_family;
use crate::netlink::attributes::Attributes;
use crate::netlink::{self, Error, Message, Operation, Socket};

/// `NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE` (`linux/netfilter/nfnetlink_conntrack.h`).
const CT_DELETE: u16 = 1 << 8 | 2;

/// `CTA_TUPLE_ORIG`, `CTA_FILTER`.
const TUPLE_ORIG: u16 = 1;
const FILTER: u16 = 25;
/// `CTA_TUPLE_IP`, `CTA_TUPLE_PROTO`.
const TUPLE_IP: u16 = 1;
const TUPLE_PROTO: u16 = 2;
/// `CTA_PROTO_NUM`, `CTA_PROTO_DST_PORT`.
const PROTO_NUM: u16 = 1;
const PROTO_DST_PORT: u16 = 3;
/// `CTA_IP_V4_DST`, `CTA_IP_V6_DST`.
const IP_V4_DST: u16 = 2;
const IP_V6_DST: u16 = 4;
/// `CTA_FILTER_ORIG_FLAGS`.
const FILTER_ORIG_FLAGS: u16 = 1;
/// `CTA_FILTER_FLAG_CTA_IP_DST`, `_PROTO_NUM`, `_PROTO_DST_PORT` (`net/netfilter/nf_internals.h`).
const BY_DESTINATION: u32 = 1 << 1;
const BY_PROTOCOL: u32 = 1 << 3;
const BY_PORT: u32 = 1 << 5;

/// Forgets the UDP flows to the host ports of a lease. A flow of TCP or SCTP ends by itself; one of UDP lives as long
/// as its client sends, and keeps going where it went when it began (the kernel rewrites only a flow's first packet).
pub fn forget_host_ports(lease: &Lease) -> Result<(), Error> {
    let ports: Vec<&HostPort> = lease.host_ports.iter().filter(|port| port.protocol == Protocol::Udp).collect();
    if ports.is_empty() {
        return Ok(());
    }
    let mut socket = Socket::open(netlink::Protocol::Netfilter)?;
    for port in ports {
        let named = port.host_ip.map(Family::of);
        for family in Family::ALL.into_iter().filter(|family| named.is_none_or(|named| named == *family)) {
            forget(&mut socket, family, port)?;
        }
    }
    Ok(())
}

fn forget(socket: &mut Socket, family: Family, port: &HostPort) -> Result<(), Error> {
    let destination = port.host_ip.filter(|address| !address.is_unspecified());
    let message = Message { kind: CT_DELETE, body: filter(family, destination, port) };
    match socket.write(&message, 0) {
        Ok(()) => Ok(()),
        Err(cause) => match Error::new(Operation::Delete, format!("{family} flows to {port}"), cause) {
            error if error.is_missing() => Ok(()),
            error => Err(error),
        },
    }
}

fn filter(family: Family, destination: Option<IpAddr>, port: &HostPort) -> Vec<u8> {
    let mut message = Attributes::after(&[address_family(family), 0, 0, 0]);
    message.nest(TUPLE_ORIG, |tuple| {
        if let Some(address) = destination {
            let kind = if address.is_ipv4() { IP_V4_DST } else { IP_V6_DST };
            tuple.nest(TUPLE_IP, |ip| _ = ip.put_address(kind, address));
        }
        tuple.nest(TUPLE_PROTO, |proto| {
            proto.put(PROTO_NUM, &[port.protocol.number()]);
            proto.put(PROTO_DST_PORT, &port.host_port.to_be_bytes());
        });
    });
    let flags = BY_PROTOCOL | BY_PORT | if destination.is_some() { BY_DESTINATION } else { 0 };
    // The only number of netfilter that is in the machine's byte order.
    message.nest(FILTER, |filter| _ = filter.put_number(FILTER_ORIG_FLAGS, flags));
    message.into_bytes()
}
