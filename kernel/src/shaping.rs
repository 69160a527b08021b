//! Limits on what passes between a pod and its node.
//!
//! ```text
//! to the pod:    token bucket on the node's end of the pair
//! from the pod:  node's end --redirect--> a device of its own (ifb) with a token bucket --> on into the node
//! ```
//!
//! Both are on the node, where no pod reaches them, whatever its privileges. A token bucket works on what leaves a
//! device: what comes from the pod has to leave one first.

use towpath_net::bandwidth::{Bucket, Limit};
use towpath_net::lease::Lease;

use crate::link::{self, Change, Index};
use crate::netlink::attributes::Attributes;
use crate::netlink::{Cause, Content, Error as NetlinkError, Message, Operation, Socket};
use crate::release;
use crate::sysctl::{self, Sysctls};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use rustix::io::Errno;
use towpath_net::observed::Sysctl;

/// Messages (`linux/rtnetlink.h`, as are the attributes of every queue and filter).
const RTM_NEWQDISC: u16 = 36;
const RTM_DELQDISC: u16 = 37;
const RTM_GETQDISC: u16 = 38;
const RTM_NEWTFILTER: u16 = 44;
const RTM_GETTFILTER: u16 = 46;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
/// Places of queues (`linux/pkt_sched.h`): what leaves a device, what arrives on it, and the filters of that.
const ROOT: u32 = 0xffff_ffff;
const ARRIVING: u32 = 0xffff_fff1;
const ARRIVING_FILTERS: u32 = 0xffff_fff2;
const ARRIVING_HANDLE: u32 = 0xffff_0000;
/// `tc-tbf(8)` (`linux/pkt_sched.h`).
const TBF: &str = "tbf";
const TCA_TBF_PARMS: u16 = 1;
const TCA_TBF_RATE64: u16 = 4;
const TCA_TBF_BURST: u16 = 6;
/// `TC_LINKLAYER_ETHERNET`: the kernel then needs no table of times.
const ETHERNET: u8 = 1;
/// `PSCHED_SHIFT` (`net/pkt_sched.h`): so many bits of a nanosecond count are not told.
const TICK: u32 = 6;
/// A filter that can match bytes, and here matches everything (`linux/pkt_cls.h`).
const U32: &str = "u32";
const TCA_U32_SEL: u16 = 5;
const TCA_U32_ACT: u16 = 7;
const TC_U32_TERMINAL: u8 = 1;
/// `ETH_P_ALL` in network byte order, and the priority of the only filter.
const EVERYTHING: u32 = 0x0003_u16.to_be() as u32 | 1 << 16;
/// The action that sends a packet by another device (`linux/tc_act/tc_mirred.h`).
const MIRRED: &str = "mirred";
const TCA_ACT_KIND: u16 = 1;
const TCA_ACT_OPTIONS: u16 = 2;
const TCA_MIRRED_PARMS: u16 = 2;
const TC_ACT_STOLEN: u32 = 4;
const TCA_EGRESS_REDIR: u32 = 1;
/// The kind of device that gives what it is sent back to where it was taken from.
const IFB: &str = "ifb";

/// Why a limit could not be set.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused something.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// A setting could not be read.
    #[error(transparent)]
    Sysctl(#[from] sysctl::Error),
    /// The kernel cannot do it at all.
    #[error(
        "the kernel of this node cannot limit what {direction} a pod: it has no {lacking}; load its module, or take the \
         limit from the pod"
    )]
    Lacking {
        /// Of which direction the limit is.
        direction: Direction,
        /// What is not there.
        lacking: &'static str,
    },
    /// A link that was just made has gone.
    #[error("link {0} was removed while it was limited")]
    Gone(String),
}

/// A direction, seen from the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To the pod.
    Ingress,
    /// From the pod.
    Egress,
}

impl std::fmt::Display for Direction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Ingress => "goes to",
            Self::Egress => "comes from",
        })
    }
}

/// Sets the limits of a lease, whose links must be there.
pub fn apply(socket: &mut Socket, lease: &Lease) -> Result<(), Error> {
    let Some(bandwidth) = lease.bandwidth else { return Ok(()) };
    let veth = find(socket, &lease.host_interface)?.ok_or_else(|| Error::Gone(lease.host_interface.clone()))?;
    if let Some(limit) = bandwidth.ingress {
        limit_ingress(socket, lease, veth, limit)?;
    }
    if let Some(limit) = bandwidth.egress {
        limit_egress(socket, lease, veth, limit)?;
    }
    Ok(())
}

/// Sets the limits anew that somebody altered, and tells which. Only for whoever holds the lease.
pub fn mend(socket: &mut Socket, lease: &Lease) -> Result<Vec<Direction>, Error> {
    let differing = differences(socket, lease)?;
    let (Some(bandwidth), Some(veth)) = (lease.bandwidth, find(socket, &lease.host_interface)?) else {
        return Ok(Vec::new());
    };
    for direction in &differing {
        match (direction, bandwidth.ingress, bandwidth.egress) {
            (Direction::Ingress, Some(limit), _) => limit_ingress(socket, lease, veth, limit)?,
            (Direction::Egress, _, Some(limit)) => {
                release::delete_link(socket, &lease.attachment().shaper())?;
                leave_arriving(socket, veth)?;
                limit_egress(socket, lease, veth, limit)?;
            }
            (Direction::Ingress | Direction::Egress, ..) => {}
        }
    }
    Ok(differing)
}

/// The directions whose limit the kernel does not have as the lease says.
pub fn differences(socket: &mut Socket, lease: &Lease) -> Result<Vec<Direction>, NetlinkError> {
    let Some(bandwidth) = lease.bandwidth else { return Ok(Vec::new()) };
    let Some(veth) = find(socket, &lease.host_interface)? else { return Ok(Vec::new()) };
    let mut differing = Vec::new();
    if let Some(limit) = bandwidth.ingress
        && !has_bucket(socket, veth, limit.bucket(lease.mtu))?
    {
        differing.push(Direction::Ingress);
    }
    if let Some(limit) = bandwidth.egress {
        let shaper = link::find(socket, &lease.attachment().shaper())?.filter(|shaper| shaper.up);
        let right = match shaper {
            Some(shaper) => {
                redirected(socket, veth)? == Some(shaper.index)
                    && has_bucket(socket, shaper.index, limit.bucket(lease.mtu))?
            }
            None => false,
        };
        if !right {
            differing.push(Direction::Egress);
        }
    }
    Ok(differing)
}

fn limit_ingress(socket: &mut Socket, lease: &Lease, veth: Index, limit: Limit) -> Result<(), Error> {
    put_bucket(socket, veth, limit.bucket(lease.mtu)).map_err(|error| lacking(error, Direction::Ingress, TBF))
}

fn limit_egress(socket: &mut Socket, lease: &Lease, veth: Index, limit: Limit) -> Result<(), Error> {
    let direction = Direction::Egress;
    let name = lease.attachment().shaper();
    link::create(socket, IFB, &name, lease.mtu).map_err(|error| lacking(error, direction, IFB))?;
    let shaper = find(socket, &name)?.ok_or(Error::Gone(name.clone()))?;
    // A kernel that was started without IPv6 refuses to be told about it.
    let ipv6 = Sysctl(format!("net/ipv6/conf/{name}/accept_ra"));
    let no_generated_addresses = Sysctls::below(sysctl::ROOT).read(&ipv6)?.is_some();
    link::change(socket, shaper, Change { no_generated_addresses, ..Change::default() })?;
    put_bucket(socket, shaper, limit.bucket(lease.mtu)).map_err(|error| lacking(error, direction, TBF))?;
    link::change(socket, shaper, Change { up: Some(true), ..Change::default() })?;
    take_arriving(socket, veth).map_err(|error| lacking(error, direction, "clsact"))?;
    redirect(socket, veth, shaper).map_err(|error| lacking(error, direction, "u32 or mirred"))
}

fn find(socket: &mut Socket, name: &str) -> Result<Option<Index>, NetlinkError> {
    Ok(link::find(socket, name)?.map(|link| link.index))
}

/// What the kernel answers where it has not what is asked for.
fn lacking(error: NetlinkError, direction: Direction, lacking: &'static str) -> Error {
    match error.cause.errno() {
        Some(Errno::NOENT | Errno::OPNOTSUPP) => Error::Lacking { direction, lacking },
        _ => Error::Netlink(error),
    }
}

/// Makes a token bucket the only way out of a link.
fn put_bucket(socket: &mut Socket, link: Index, bucket: Bucket) -> Result<(), NetlinkError> {
    let mut attributes = Attributes::after(&header(link, 0, ROOT, 0));
    attributes.put_text(TCA_KIND, TBF).nest(TCA_OPTIONS, |options| {
        options.put(TCA_TBF_PARMS, &parameters(bucket)).put_number(TCA_TBF_BURST, bucket.burst);
        if u32::try_from(bucket.rate).is_err() {
            options.put(TCA_TBF_RATE64, &bucket.rate.to_ne_bytes());
        }
    });
    write(socket, RTM_NEWQDISC, attributes, NLM_F_CREATE | NLM_F_REPLACE, link, "token bucket")
}

/// `struct tc_tbf_qopt`: rate, peak rate, queue, burst as a time, MTU. The burst is told in bytes by an attribute.
fn parameters(bucket: Bucket) -> Vec<u8> {
    let mut bytes = vec![0, ETHERNET, 0, 0, 0, 0, 0, 0];
    bytes.extend(u32::try_from(bucket.rate).unwrap_or(u32::MAX).to_ne_bytes());
    bytes.resize(24, 0);
    bytes.extend(bucket.queue.to_ne_bytes());
    bytes.resize(36, 0);
    bytes
}

/// What the kernel tells of a token bucket: rate in bytes per second, queue in bytes, burst in ticks.
fn told(content: Content<'_>) -> Option<(u64, u32, u32)> {
    let options = content.nested(TCA_OPTIONS).filter(|_| content.text(TCA_KIND).as_deref() == Some(TBF))?;
    let parameters = options.get(TCA_TBF_PARMS)?.value;
    let number = |at: usize| parameters.get(at..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes));
    let large = options.get(TCA_TBF_RATE64).and_then(|rate| rate.value.first_chunk());
    let rate = match large {
        Some(bytes) => u64::from_ne_bytes(*bytes),
        None => number(8)?.into(),
    };
    Some((rate, number(24)?, number(28)?))
}

fn has_bucket(socket: &mut Socket, link: Index, bucket: Bucket) -> Result<bool, NetlinkError> {
    let request = Message { kind: RTM_GETQDISC, body: header(link, 0, ROOT, 0).to_vec() };
    let reply = match socket.get_echoed(&request) {
        Ok(reply) => reply,
        // A link without any queue has nothing to tell.
        Err(Cause::Refused { errno: Errno::INVAL | Errno::NOENT, .. }) => None,
        Err(cause) => return Err(NetlinkError::new(Operation::List, format!("queue of link {link}"), cause)),
    };
    let Some((rate, queue, ticks)) = reply.as_ref().and_then(|reply| told(reply.content(HEADER))) else {
        return Ok(false);
    };
    let time = u128::from(bucket.burst) * 1_000_000_000 / u128::from(bucket.rate.max(1));
    let expected = time >> TICK;
    Ok(rate == bucket.rate && queue == bucket.queue && is_near(ticks, expected))
}

/// Whether a count of ticks is the expected one, as far as the kernel tells: it divides by a factor that it has rounded,
/// and has 32 bits for what is minutes at the lowest rates.
fn is_near(ticks: u32, expected: u128) -> bool {
    let low = u32::try_from(expected & u128::from(u32::MAX)).unwrap_or_default();
    let apart = ticks.wrapping_sub(low);
    u128::from(apart.min(apart.wrapping_neg())) <= 2 + expected / 128
}

/// Has the kernel look at what arrives by a link.
fn take_arriving(socket: &mut Socket, link: Index) -> Result<(), NetlinkError> {
    let mut attributes = Attributes::after(&header(link, ARRIVING_HANDLE, ARRIVING, 0));
    attributes.put_text(TCA_KIND, "clsact");
    write(socket, RTM_NEWQDISC, attributes, NLM_F_CREATE | NLM_F_EXCL, link, "filters")
}

/// Takes all filters from what arrives by a link; there may be none.
fn leave_arriving(socket: &mut Socket, link: Index) -> Result<(), NetlinkError> {
    let request = Message { kind: RTM_DELQDISC, body: header(link, 0, ARRIVING, 0).to_vec() };
    match socket.write(&request, 0) {
        Ok(()) | Err(Cause::Refused { errno: Errno::INVAL | Errno::NOENT, .. }) => Ok(()),
        Err(cause) => Err(NetlinkError::new(Operation::Delete, format!("filters of link {link}"), cause)),
    }
}

/// Sends everything that arrives by a link out of another one.
fn redirect(socket: &mut Socket, link: Index, to: Index) -> Result<(), NetlinkError> {
    let mut attributes = Attributes::after(&header(link, 0, ARRIVING_FILTERS, EVERYTHING));
    attributes.put_text(TCA_KIND, U32).nest(TCA_OPTIONS, |options| {
        options.put(TCA_U32_SEL, &selector());
        options.nest(TCA_U32_ACT, |actions| {
            actions.nest(1, |action| {
                action.put_text(TCA_ACT_KIND, MIRRED);
                action.nest(TCA_ACT_OPTIONS, |options| _ = options.put(TCA_MIRRED_PARMS, &mirred(to)));
            });
        });
    });
    write(socket, RTM_NEWTFILTER, attributes, NLM_F_CREATE | NLM_F_EXCL, link, "redirection")
}

/// `struct tc_u32_sel` with one key that matches every packet: a mask of nothing.
fn selector() -> [u8; 32] {
    let mut bytes = [0; 32];
    (bytes[0], bytes[2]) = (TC_U32_TERMINAL, 1);
    bytes
}

/// `struct tc_mirred`: index, capabilities, action, two counts, kind, device.
fn mirred(to: Index) -> Vec<u8> {
    [0, 0, TC_ACT_STOLEN, 0, 0, TCA_EGRESS_REDIR, to.0].iter().flat_map(|number| number.to_ne_bytes()).collect()
}

/// Where everything that arrives by a link is sent.
fn redirected(socket: &mut Socket, link: Index) -> Result<Option<Index>, NetlinkError> {
    let request = Message { kind: RTM_GETTFILTER, body: header(link, 0, ARRIVING_FILTERS, 0).to_vec() };
    let filters = match socket.dump(&request) {
        Ok(filters) => filters,
        Err(Cause::Refused { errno: Errno::INVAL | Errno::NOENT, .. }) => return Ok(None),
        Err(cause) => return Err(NetlinkError::new(Operation::List, format!("filters of link {link}"), cause)),
    };
    Ok(filters.iter().find_map(|filter| target(filter.content(HEADER))))
}

fn target(content: Content<'_>) -> Option<Index> {
    let options = content.nested(TCA_OPTIONS).filter(|_| content.text(TCA_KIND).as_deref() == Some(U32))?;
    if options.get(TCA_U32_SEL)?.value.get(16..24)? != [0; 8] {
        return None;
    }
    let action = options.nested(TCA_U32_ACT)?.nested(1)?;
    let parameters = action.nested(TCA_ACT_OPTIONS)?.get(TCA_MIRRED_PARMS)?.value;
    parameters.get(24..)?.first_chunk().map(|bytes| Index(u32::from_ne_bytes(*bytes)))
}

fn write(
    socket: &mut Socket,
    kind: u16,
    attributes: Attributes,
    flags: u16,
    link: Index,
    what: &str,
) -> Result<(), NetlinkError> {
    socket
        .write(&Message { kind, body: attributes.into_bytes() }, flags)
        .map_err(|cause| NetlinkError::new(Operation::Add, format!("{what} of link {link}"), cause))
}

/// `struct tcmsg`: family, link, handle, parent, and of filters priority and protocol.
const HEADER: usize = 20;

fn header(link: Index, handle: u32, parent: u32, info: u32) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    for (to, number) in bytes.chunks_exact_mut(4).skip(1).zip([link.0, handle, parent, info]) {
        to.copy_from_slice(&number.to_ne_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_has_not_is_named() {
        let refused = |errno| {
            let cause = Cause::Refused { errno, explanation: None };
            lacking(NetlinkError::new(Operation::Add, "link x", cause), Direction::Egress, IFB).to_string()
        };
        for errno in [Errno::NOENT, Errno::OPNOTSUPP] {
            let message = refused(errno);
            assert!(message.contains("cannot limit what comes from a pod: it has no ifb"), "{message}");
        }
        assert!(refused(Errno::PERM).contains("link x"));
    }

    #[test]
    fn the_highest_and_the_lowest_rates_are_told_in_the_kernels_terms() {
        assert!(is_near(1_024_000, 1_024_000) && is_near(1_030_000, 1_024_000));
        assert!(!is_near(1_100_000, 1_024_000));
        assert!(is_near(3, (1 << 33) + 1) && !is_near(1 << 31, 1 << 33));
    }
}
