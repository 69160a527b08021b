//! Transactions of netfilter: many messages, all of which hold or none (`linux/netfilter/nfnetlink.h`).

use std::io;

use netlink_packet_core::{NLM_F_REQUEST, NLMSG_ERROR};
use rustix::net::sockopt;

use super::attributes::Attributes;
use super::{Cause, DATAGRAM, Message, Socket, Wait, error, split};

/// `NFNL_MSG_BATCH_BEGIN`.
const BEGIN: u16 = 0x10;
/// `NFNL_MSG_BATCH_END`.
const END: u16 = 0x11;

/// One message of a transaction.
#[derive(Clone, Debug)]
pub struct Step {
    /// What is to be done.
    pub message: Message,
    /// `nlmsg_flags` besides those of every request.
    pub flags: u16,
}

/// Why a transaction does not hold.
#[derive(Debug)]
pub struct Refusal {
    /// The first step that was refused; nothing where the transaction as a whole was.
    pub step: Option<usize>,
    /// The kernel's word.
    pub cause: Cause,
}

/// A transaction that is written as it is sent, in one piece: for many messages, of which nothing else is kept.
pub struct Batch {
    subsystem: u8,
    content: Attributes,
    messages: u32,
}

impl Batch {
    /// An empty transaction of a subsystem of netfilter (`NFNL_SUBSYS_*`).
    pub fn new(subsystem: u8) -> Self {
        Self { subsystem, content: Attributes::default(), messages: 0 }
    }

    /// How many messages it has.
    pub const fn messages(&self) -> u32 {
        self.messages
    }

    /// How long it is, in bytes.
    pub fn length(&self) -> usize {
        self.content.length()
    }

    /// Adds a message: its type, its flags besides those of every request, the header of its protocol, its attributes.
    pub fn message(&mut self, kind: u16, flags: u16, header: &[u8], fill: impl FnOnce(&mut Attributes)) {
        if self.messages == 0 {
            self.border(BEGIN);
        }
        self.messages += 1;
        self.put(kind, flags, header, fill);
    }

    fn border(&mut self, kind: u16) {
        let header = [0, 0, 0, self.subsystem];
        self.put(kind, 0, &header, |_| {});
    }

    /// The number of a message is its sequence number; the first has 1.
    fn put(&mut self, kind: u16, flags: u16, header: &[u8], fill: impl FnOnce(&mut Attributes)) {
        let sequence = self.messages;
        let start = self.content.length();
        let prefix = Message { kind, body: Vec::new() };
        prefix.append_to(self.content.bytes(), NLM_F_REQUEST | flags, sequence);
        self.content.bytes().extend_from_slice(header);
        fill(&mut self.content);
        let length = u32::try_from(self.content.length() - start).unwrap_or(u32::MAX);
        if let Some(written) = self.content.bytes().get_mut(start..start + 4) {
            written.copy_from_slice(&length.to_ne_bytes());
        }
    }

    fn clear(&mut self) {
        self.content.bytes().clear();
        self.messages = 0;
    }
}

impl Socket {
    /// Sends a transaction, and waits for what becomes of it; the batch is empty afterwards. Without messages nothing
    /// happens.
    pub fn commit_batch(&mut self, batch: &mut Batch) -> Result<(), Refusal> {
        if batch.messages == 0 {
            return Ok(());
        }
        let steps = usize::try_from(batch.messages).unwrap_or(usize::MAX);
        batch.border(END);
        self.writes += 1;
        let sent = self.make_room(batch.length()).and_then(|()| self.inner.send(batch.content.bytes(), 0));
        batch.clear();
        sent.map_err(|source| Refusal { step: None, cause: Cause::Io(source) })?;
        self.first_refusal(1, steps)
    }

    /// Sends a transaction to a subsystem of netfilter (`NFNL_SUBSYS_*`), and waits for what becomes of it.
    ///
    /// Steps ask for no acknowledgements: those of a large transaction would not fit the receive buffer.
    pub fn commit(&mut self, subsystem: u8, steps: &[Step]) -> Result<(), Refusal> {
        let whole = |cause| Refusal { step: None, cause };
        self.writes += 1;
        let border = |kind| Message { kind, body: vec![0, 0, 0, subsystem] };
        let mut bytes = border(BEGIN).with_header(NLM_F_REQUEST, self.next_sequence());
        let first = self.sequence.wrapping_add(1);
        for step in steps {
            bytes.extend(step.message.with_header(NLM_F_REQUEST | step.flags, self.next_sequence()));
        }
        bytes.extend(border(END).with_header(NLM_F_REQUEST, self.next_sequence()));
        self.make_room(bytes.len()).map_err(|source| whole(Cause::Io(source)))?;
        self.inner.send(&bytes, 0).map_err(|source| whole(Cause::Io(source)))?;
        self.first_refusal(first, steps.len())
    }

    /// The kernel answers within `send`: what is not there by now is no refusal.
    fn first_refusal(&mut self, first: u32, steps: usize) -> Result<(), Refusal> {
        let mut refusal = None;
        while let Some(mut rest) =
            self.receive(Wait::Poll).map_err(|source| Refusal { step: None, cause: Cause::Io(source) })?
        {
            while let Ok((message, after)) = split(rest) {
                rest = after;
                if message.message_type() == NLMSG_ERROR
                    && let Err(cause) = error::outcome(message.flags(), message.payload())
                {
                    let index = usize::try_from(message.sequence_number().wrapping_sub(first)).ok();
                    refusal.get_or_insert(Refusal { step: index.filter(|index| *index < steps), cause });
                }
            }
        }
        refusal.map_or(Ok(()), Err)
    }

    /// A transaction is one datagram: the default buffer takes some 200 KiB of it.
    fn make_room(&self, length: usize) -> io::Result<()> {
        let wanted = length + DATAGRAM;
        if sockopt::socket_send_buffer_size(&self.inner)? < wanted {
            sockopt::set_socket_send_buffer_size_force(&self.inner, wanted)?;
        }
        Ok(())
    }
}
