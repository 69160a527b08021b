//! A blocking nfnetlink socket: transactions and dumps.

use std::io;

use netlink_sys::{Socket as Raw, SocketAddr, protocols::NETLINK_NETFILTER};
use rustix::net::{RecvFlags, sockopt};

use super::numbers as n;
use super::wire::{Message, Writer, messages};

/// `NLM_F_REQUEST`.
pub const REQUEST: u16 = 1;
/// `NLM_F_DUMP`.
pub const DUMP: u16 = 0x300;
/// `NLM_F_DUMP_INTR`: what was dumped changed meanwhile.
const INTERRUPTED: u16 = 0x10;
/// `NLMSG_ERROR`.
const ERROR: u16 = 2;
/// `NLMSG_DONE`.
const DONE: u16 = 3;
/// `NFNL_MSG_BATCH_BEGIN` and `NFNL_MSG_BATCH_END` (`linux/netfilter/nfnetlink.h`).
const BATCH: (u16, u16) = (0x10, 0x11);
/// `NFNL_SUBSYS_NFTABLES`, as the resource of a batch.
const SUBSYSTEM: u16 = 10;
/// The kernel sends dumps in pieces of at most 32 KiB.
const BUFFER: usize = 64 * 1024;

/// What the kernel said to message `index` of a transaction.
pub struct Refusal {
    /// Which message; nothing where the transaction as a whole was refused.
    pub index: Option<usize>,
    /// The kernel's word.
    pub error: io::Error,
}

/// A socket of `NETLINK_NETFILTER`, bound to the network namespace that it was opened in.
pub struct Socket {
    raw: Raw,
    sequence: u32,
}

impl Socket {
    /// Opens a socket in the current network namespace.
    pub fn open() -> io::Result<Self> {
        let mut raw = Raw::new(NETLINK_NETFILTER)?;
        raw.bind_auto()?;
        raw.connect(&SocketAddr::new(0, 0))?;
        raw.set_ext_ack(true)?;
        Ok(Self { raw, sequence: 1 })
    }

    /// Sends one transaction: all of it holds, or nothing. The messages are numbered from 1 up.
    pub fn commit(&mut self, body: &[u8]) -> Result<(), Refusal> {
        let whole = |error| Refusal { index: None, error };
        let mut batch = Writer::default();
        batch.message(BATCH.0, REQUEST, (0, SUBSYSTEM), 0, |_| {});
        let mut bytes = batch.finish();
        bytes.extend(body);
        let mut end = Writer::default();
        end.message(BATCH.1, REQUEST, (0, SUBSYSTEM), 0, |_| {});
        bytes.extend(end.finish());
        self.make_room(bytes.len()).map_err(whole)?;
        self.raw.send(&bytes, 0).map_err(whole)?;
        self.first_refusal()
    }

    /// The kernel answers within `send`: whatever is not there by now is no error.
    fn first_refusal(&mut self) -> Result<(), Refusal> {
        let mut refusal = None;
        loop {
            let answer = match self.receive(RecvFlags::DONTWAIT) {
                Ok(answer) => answer,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(Refusal { index: None, error }),
            };
            for message in messages(&answer).filter(|m| m.kind == ERROR) {
                if let Some(error) = error_of(&message) {
                    let index = usize::try_from(message.sequence).ok().and_then(|s| s.checked_sub(1));
                    refusal.get_or_insert(Refusal { index, error });
                }
            }
        }
        refusal.map_or(Ok(()), Err)
    }

    /// Asks for a list. Each message of the answer is handed to `each`; one that changed meanwhile is an error of kind
    /// [`io::ErrorKind::Interrupted`].
    pub fn dump(
        &mut self,
        kind: u16,
        body: impl FnOnce(&mut Writer),
        mut each: impl FnMut(Message<'_>),
    ) -> io::Result<()> {
        let sequence = self.request(kind, DUMP, body)?;
        let mut interrupted = false;
        loop {
            let answer = self.receive(RecvFlags::empty())?;
            for message in messages(&answer).filter(|m| m.sequence == sequence) {
                interrupted |= message.flags & INTERRUPTED != 0;
                match message.kind {
                    DONE if interrupted => return Err(io::ErrorKind::Interrupted.into()),
                    DONE => return Ok(()),
                    ERROR => return error_of(&message).map_or(Ok(()), Err),
                    _ => each(message),
                }
            }
        }
    }

    /// Asks for one thing.
    pub fn get<T>(
        &mut self,
        kind: u16,
        body: impl FnOnce(&mut Writer),
        read: impl FnOnce(Message<'_>) -> Option<T>,
    ) -> io::Result<Option<T>> {
        let sequence = self.request(kind, 0, body)?;
        let answer = self.receive(RecvFlags::empty())?;
        let Some(message) = messages(&answer).find(|m| m.sequence == sequence) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        match error_of(&message) {
            Some(error) => Err(error),
            None => Ok(read(message)),
        }
    }

    fn request(&mut self, kind: u16, flags: u16, body: impl FnOnce(&mut Writer)) -> io::Result<u32> {
        self.sequence = self.sequence.wrapping_add(1).max(1);
        let mut writer = Writer::default();
        writer.message(n::SUBSYSTEM | kind, REQUEST | flags, (n::INET, 0), self.sequence, body);
        self.raw.send(&writer.finish(), 0)?;
        Ok(self.sequence)
    }

    fn receive(&self, flags: RecvFlags) -> io::Result<Vec<u8>> {
        let mut buffer = Vec::with_capacity(BUFFER);
        self.raw.recv(&mut buffer, i32::try_from(flags.bits()).unwrap_or_default())?;
        Ok(buffer)
    }

    /// A transaction is one datagram: the default buffer takes some 200 KiB of it.
    fn make_room(&self, len: usize) -> io::Result<()> {
        let wanted = len + BUFFER;
        if sockopt::socket_send_buffer_size(&self.raw)? < wanted {
            sockopt::set_socket_send_buffer_size_force(&self.raw, wanted)?;
        }
        Ok(())
    }
}

fn error_of(message: &Message<'_>) -> Option<io::Error> {
    let code = message.payload.first_chunk().filter(|_| message.kind == ERROR).map(|b| i32::from_ne_bytes(*b))?;
    (code != 0).then(|| io::Error::from_raw_os_error(-code))
}
