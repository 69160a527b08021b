//! Ports of a bridge that pods are behind.

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};

use super::{IFLA_LINKINFO, Index, Mac, RTM_NEWLINK, header, message};
use crate::netlink::attributes::Attributes;
use crate::netlink::{Content, Error, Message, Operation, Request, Socket};

/// Within `IFLA_LINKINFO` (`linux/if_link.h`, as is all that follows).
pub(super) const IFLA_INFO_SLAVE_KIND: u16 = 4;
pub(super) const IFLA_INFO_SLAVE_DATA: u16 = 5;
/// Within `IFLA_INFO_SLAVE_DATA`.
const IFLA_BRPORT_MODE: u16 = 4;
const IFLA_BRPORT_LEARNING: u16 = 8;
const IFLA_BRPORT_UNICAST_FLOOD: u16 = 9;
const IFLA_BRPORT_LOCKED: u16 = 39;
/// Messages of forwarding tables (`linux/rtnetlink.h`), and what is in them (`linux/neighbour.h`).
const RTM_NEWNEIGH: u16 = 28;
const RTM_GETNEIGH: u16 = 30;
const ENTRY: usize = 12;
const AF_BRIDGE: u8 = 7;
const NTF_MASTER: u8 = 0x04;
const NDA_LLADDR: u16 = 2;
/// Somebody set it, and it does not age. `NUD_PERMANENT` would make the address the bridge's own.
const NUD_NOARP: u16 = 0x40;
/// The kind of a bridge.
const BRIDGE: &str = "bridge";

/// What matters of a port of a bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a setting of the kernel's, on or off")]
pub struct Port {
    /// Whether a frame may leave by the port that it came by, as when a pod reaches itself through a Service.
    pub hairpin: bool,
    /// Whether a frame is taken only from an Ethernet address that the bridge knows to be behind the port.
    pub locked: bool,
    /// Whether the bridge learns who is behind the port by what comes from there.
    pub learning: bool,
    /// Whether the port gets frames to addresses that the bridge knows nothing of.
    pub flooded: bool,
}

impl Port {
    /// A pod's: nobody but the pod is behind it, by the address that it was given.
    pub const OF_POD: Self = Self { hairpin: true, locked: true, learning: false, flooded: false };

    /// The request that sets up a link as such a port; it must be one of a bridge.
    pub fn setting(self, link: Index) -> Request {
        let mut attributes = Attributes::after(&header(link, 0, 0));
        attributes.nest(IFLA_LINKINFO, |info| {
            info.put_text(IFLA_INFO_SLAVE_KIND, BRIDGE);
            info.nest(IFLA_INFO_SLAVE_DATA, |data| {
                let settings = [
                    (IFLA_BRPORT_MODE, self.hairpin),
                    (IFLA_BRPORT_LEARNING, self.learning),
                    (IFLA_BRPORT_UNICAST_FLOOD, self.flooded),
                    (IFLA_BRPORT_LOCKED, self.locked),
                ];
                for (kind, on) in settings {
                    data.put(kind, &[on.into()]);
                }
            });
        });
        Request::new(Operation::Change, format!("port {link}"), message(RTM_NEWLINK, attributes), 0)
    }

    /// Reads what a link tells of itself as a port; nothing where it is no port of a bridge.
    pub(super) fn decode(info: Content<'_>) -> Option<Self> {
        let is_bridge = info.text(IFLA_INFO_SLAVE_KIND).as_deref() == Some(BRIDGE);
        let data = info.nested(IFLA_INFO_SLAVE_DATA).filter(|_| is_bridge)?;
        let is_on = |kind| data.get(kind).is_some_and(|attribute| attribute.value.first() == Some(&1));
        Some(Self {
            hairpin: is_on(IFLA_BRPORT_MODE),
            locked: is_on(IFLA_BRPORT_LOCKED),
            learning: is_on(IFLA_BRPORT_LEARNING),
            flooded: is_on(IFLA_BRPORT_UNICAST_FLOOD),
        })
    }
}

/// The request that tells the bridge of a port who is behind it, for good.
pub fn placing(link: Index, mac: Mac) -> Request {
    let message = Message { kind: RTM_NEWNEIGH, body: entry(link, mac, NUD_NOARP).into_bytes() };
    Request::new(Operation::Add, format!("{mac} behind port {link}"), message, NLM_F_CREATE | NLM_F_REPLACE)
}

/// Whether the bridge of a port has an Ethernet address behind that port.
pub fn is_behind(socket: &mut Socket, link: Index, mac: Mac) -> Result<bool, Error> {
    match socket.get(&Message { kind: RTM_GETNEIGH, body: entry(link, mac, 0).into_bytes() }) {
        Ok(reply) => {
            let header = reply.as_ref().and_then(Message::header::<ENTRY>);
            Ok(header.is_some_and(|[_, _, _, _, a, b, c, d, ..]| u32::from_ne_bytes([*a, *b, *c, *d]) == link.0))
        }
        Err(cause) => match Error::new(Operation::List, format!("{mac} behind port {link}"), cause) {
            error if error.is_missing() => Ok(false),
            error => Err(error),
        },
    }
}

/// `struct ndmsg` of an entry of a bridge's forwarding table, and its Ethernet address.
fn entry(link: Index, mac: Mac, state: u16) -> Attributes {
    let ([a, b, c, d], [low, high]) = (link.0.to_ne_bytes(), state.to_ne_bytes());
    let header: [u8; ENTRY] = [AF_BRIDGE, 0, 0, 0, a, b, c, d, low, high, NTF_MASTER, 0];
    let mut attributes = Attributes::after(&header);
    attributes.put(NDA_LLADDR, &mac.0);
    attributes
}
