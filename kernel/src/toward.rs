//! Which address packets of the node itself would leave with.

use std::net::IpAddr;

use ipnet::IpNet;
use rustix::io::Errno;
use towpath_net::Family;

use crate::address::address_family;
use crate::netlink::attributes::Attributes;
use crate::netlink::{Error, Message, Operation, Socket};

/// `RTM_GETROUTE` (`linux/rtnetlink.h`, as all that follows).
const RTM_GETROUTE: u16 = 26;
const RTA_DST: u16 = 1;
const RTA_PREFSRC: u16 = 7;
/// `struct rtmsg`.
const HEADER: usize = 12;

/// The source address that the kernel would choose for packets to `address`; nothing where no route leads there.
pub fn source(socket: &mut Socket, address: IpAddr) -> Result<Option<IpAddr>, Error> {
    let mut header = [0; HEADER];
    [header[0], header[1]] = [address_family(Family::of(address)), IpNet::from(address).max_prefix_len()];
    let mut attributes = Attributes::after(&header);
    attributes.put_address(RTA_DST, address);
    let answer = socket.get(&Message { kind: RTM_GETROUTE, body: attributes.into_bytes() });
    match answer {
        Ok(answer) => Ok(answer.and_then(|route| route.content(HEADER).get(RTA_PREFSRC)?.address())),
        Err(cause) if matches!(cause.errno(), Some(Errno::NETUNREACH | Errno::HOSTUNREACH | Errno::INVAL)) => Ok(None),
        Err(cause) => Err(Error::new(Operation::List, format!("route to {address}"), cause)),
    }
}
