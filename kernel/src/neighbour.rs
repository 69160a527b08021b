//! Neighbours: which Ethernet address the kernel believes an address on a link to have.

use std::net::IpAddr;

use crate::link::{Index, Mac};
use crate::netlink::{Error, Message, Operation, Socket};

/// Messages (`linux/rtnetlink.h`).
const RTM_GETNEIGH: u16 = 30;
/// Attributes (`linux/neighbour.h`, as all that follows).
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
/// States of an entry that say nothing: nobody answered, or has yet.
const NUD_INCOMPLETE: u16 = 0x01;
const NUD_FAILED: u16 = 0x20;

/// A neighbour that the kernel knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// The link that it is on.
    pub link: Index,
    /// Its address.
    pub address: IpAddr,
    /// Its Ethernet address.
    pub mac: Mac,
}

/// `struct ndmsg`: family, padding, link, state, flags, type.
const HEADER: usize = 12;

/// Lists the neighbours of the socket's namespace, without those that did not answer.
pub fn list(socket: &mut Socket) -> Result<Vec<Neighbour>, Error> {
    let request = Message { kind: RTM_GETNEIGH, body: vec![0; HEADER] };
    let replies = socket.dump(&request).map_err(|cause| Error::new(Operation::List, "neighbours", cause))?;
    Ok(replies.iter().filter_map(decode).collect())
}

fn decode(reply: &Message) -> Option<Neighbour> {
    let [_, _, _, _, a, b, c, d, state @ .., _, _] = *reply.header::<HEADER>()?;
    if u16::from_ne_bytes(state) & (NUD_INCOMPLETE | NUD_FAILED) != 0 {
        return None;
    }
    let (mut address, mut mac) = (None, None);
    for attribute in reply.attributes(HEADER) {
        match attribute.kind {
            NDA_DST => address = attribute.address(),
            NDA_LLADDR => mac = <[u8; 6]>::try_from(attribute.value).ok().map(Mac),
            _ => {}
        }
    }
    Some(Neighbour { link: Index(u32::from_ne_bytes([a, b, c, d])), address: address?, mac: mac? })
}
