//! Packets that rules tell of (`nfnetlink_log`): heads of packets, each with a word of the rule's.
//!
//! Whoever listens to a group is the only one in its network namespace. Without somebody who listens, rules that tell cost
//! next to nothing, and packets go on alike.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use towpath_net::policy::evaluate::Packet;

use crate::netlink::attributes::Attributes;
use crate::netlink::{Error, Message, Operation, Protocol, Socket, Wait, messages};

mod head;

/// `NFNL_SUBSYS_ULOG << 8`, with `NFULNL_MSG_PACKET` and `NFULNL_MSG_CONFIG` (`linux/netfilter/nfnetlink_log.h`).
const PACKET: u16 = 4 << 8;
const CONFIG: u16 = 4 << 8 | 1;
/// `struct nfgenmsg`.
const HEADER: usize = 4;
/// `NFULA_CFG_CMD` with `NFULNL_CFG_CMD_BIND`, `NFULA_CFG_MODE` with `NFULNL_COPY_PACKET`, `NFULA_CFG_TIMEOUT`.
const CONFIG_COMMAND: u16 = 1;
const BIND: u8 = 1;
const CONFIG_MODE: u16 = 2;
const COPY_PACKET: u8 = 2;
const CONFIG_TIMEOUT: u16 = 4;
/// How long the kernel gathers packets before it tells of them, in hundredths of a second.
const GATHER: u32 = 10;
/// `NFULA_PAYLOAD`, `NFULA_PREFIX`.
const PAYLOAD: u16 = 9;
const PREFIX: u16 = 10;

/// What a rule told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The rule's word.
    pub word: String,
    /// The packet, as rules about pods see it.
    pub packet: Packet,
    /// The port that it comes from, where it has ports.
    pub source_port: Option<u16>,
}

/// A group of packets that rules tell of, in the network namespace that it was opened in.
pub struct Log {
    socket: Socket,
}

impl Log {
    /// Listens to a group from now on; of each packet come `length` bytes at most. Another one who listens is an error, and
    /// a kernel without `nfnetlink_log` too.
    pub fn open(group: u16, length: u32) -> Result<Self, Error> {
        let mut log = Self { socket: Socket::open(Protocol::Netfilter)? };
        log.configure(group, |a| _ = a.put(CONFIG_COMMAND, &[BIND]))?;
        let [a, b, c, d] = length.to_be_bytes();
        log.configure(group, |attributes| {
            attributes.put(CONFIG_MODE, &[a, b, c, d, COPY_PACKET, 0]).put_number_be(CONFIG_TIMEOUT, GATHER);
        })?;
        Ok(log)
    }

    fn configure(&mut self, group: u16, fill: impl FnOnce(&mut Attributes)) -> Result<(), Error> {
        let [high, low] = group.to_be_bytes();
        let mut attributes = Attributes::after(&[0, 0, high, low]);
        fill(&mut attributes);
        let message = Message { kind: CONFIG, body: attributes.into_bytes() };
        let failed = |cause| Error::new(Operation::Open, format!("group {group} of nfnetlink_log"), cause);
        self.socket.write(&message, 0).map_err(failed)
    }

    /// Takes all that there is. Tells whether the kernel had more than there was place for: what was lost is not told.
    pub fn drain(&mut self, mut tell: impl FnMut(Told)) -> io::Result<bool> {
        let mut lost = false;
        loop {
            match self.socket.receive(Wait::Poll) {
                Ok(None) => return Ok(lost),
                Ok(Some(datagram)) => messages(datagram).filter_map(|message| told(&message)).for_each(&mut tell),
                Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NOBUFS.raw_os_error()) => lost = true,
                Err(error) => return Err(error),
            }
        }
    }
}

impl AsFd for Log {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// What is no packet of IP that can be read is nothing.
fn told(message: &Message) -> Option<Told> {
    if message.kind != PACKET {
        return None;
    }
    let content = message.content(HEADER);
    let (packet, source_port) = head::read(content.get(PAYLOAD)?.value)?;
    Some(Told { word: content.text(PREFIX).unwrap_or_default(), packet, source_port })
}
