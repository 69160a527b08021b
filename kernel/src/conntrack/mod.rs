//! Connection tracking: forgetting flows that were let through, or rewritten, by rules which no longer hold.

mod flows;
mod host_ports;

use std::net::IpAddr;

use towpath_net::Family;

use crate::address::address_family;
use crate::netlink::Content;
use crate::netlink::attributes::Attributes;

pub use flows::{Connection, Tracker};
pub use host_ports::{forget_earlier, forget_host_ports};

/// `NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET` and `_DELETE` (`linux/netfilter/nfnetlink_conntrack.h`).
const CT_GET: u16 = 1 << 8 | 1;
const CT_DELETE: u16 = 1 << 8 | 2;
/// `struct nfgenmsg`.
const HEADER: usize = 4;

/// `CTA_TUPLE_ORIG`, `CTA_TUPLE_REPLY`, `CTA_ID`, `CTA_ZONE`, `CTA_FILTER`.
const TUPLE_ORIG: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const ID: u16 = 12;
const ZONE: u16 = 18;
const FILTER: u16 = 25;
/// `NLA_F_NESTED`.
const NESTED: u16 = 0x8000;
/// `CTA_TUPLE_IP`, `CTA_TUPLE_PROTO`.
const TUPLE_IP: u16 = 1;
const TUPLE_PROTO: u16 = 2;
/// `CTA_PROTO_NUM`, `CTA_PROTO_SRC_PORT`, `CTA_PROTO_DST_PORT`.
const PROTO_NUM: u16 = 1;
const PROTO_SRC_PORT: u16 = 2;
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

/// The header of messages about flows of a family.
fn family_header(family: Family) -> Attributes {
    Attributes::after(&[address_family(family), 0, 0, 0])
}

/// Where the packets of a tuple come from.
fn source(tuple: Content<'_>) -> Option<IpAddr> {
    let ip = tuple.nested(TUPLE_IP)?;
    ip.get(IP_V4_SRC).or_else(|| ip.get(IP_V6_SRC))?.address()
}

/// Where they go.
fn destination(tuple: Content<'_>) -> Option<IpAddr> {
    let ip = tuple.nested(TUPLE_IP)?;
    ip.get(IP_V4_DST).or_else(|| ip.get(IP_V6_DST))?.address()
}

/// What names one flow.
fn identity(family: Family, flow: Content<'_>) -> Attributes {
    let mut message = family_header(family);
    if let Some(tuple) = flow.get(TUPLE_ORIG) {
        message.put(TUPLE_ORIG | NESTED, tuple.value);
    }
    if let Some(zone) = flow.get(ZONE) {
        message.put(ZONE, zone.value);
    }
    message
}
