//! Transactions of netfilter: many messages, all of which hold or none (`linux/netfilter/nfnetlink.h`).

use std::io;

use netlink_packet_core::{NLM_F_REQUEST, NLMSG_ERROR};
use rustix::net::sockopt;

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

impl Socket {
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
