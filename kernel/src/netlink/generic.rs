//! Generic netlink: families of messages, whose numbers the kernel gives out as they are loaded (`linux/genetlink.h`).
//!
//! What goes through here may hold secrets: it is not left behind in memory.

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR};
use zeroize::{Zeroize as _, Zeroizing};

use super::attributes::Attributes;
use super::{Attribute, Cause, Content, Error, Message, Operation, Protocol, Socket, Wait, error, split};

/// `GENL_ID_CTRL`: the family that knows the others.
const CONTROL: u16 = 0x10;
/// `CTRL_CMD_GETFAMILY`.
const GET_FAMILY: u8 = 3;
/// `CTRL_ATTR_FAMILY_ID`.
const FAMILY_ID: u16 = 1;
/// `CTRL_ATTR_FAMILY_NAME`.
const FAMILY_NAME: u16 = 2;
/// The only version of the families that are used here.
const VERSION: u8 = 1;
/// The length of `struct genlmsghdr`: command, version, padding.
const HEADER: usize = 4;

/// The number of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FamilyId(u16);

/// A socket for generic netlink.
pub struct Generic(Socket);

impl Generic {
    /// Opens a socket in the calling thread's network namespace.
    pub fn open() -> Result<Self, Error> {
        Socket::open(Protocol::Generic).map(Self)
    }

    /// How many requests that change something were sent.
    pub const fn writes(&self) -> u64 {
        self.0.writes
    }

    /// The number of a family, whose module the kernel loads where it has it; an error that [`Error::is_missing`] where
    /// there is none.
    pub fn family(&mut self, name: &str) -> Result<FamilyId, Error> {
        let failed = |cause| Error::new(Operation::List, format!("generic netlink family {name}"), cause);
        let mut body = attributes(GET_FAMILY);
        body.put_text(FAMILY_NAME, name);
        let mut id = None;
        let request = Message { kind: CONTROL, body: body.into_bytes() };
        self.ask(request, NLM_F_ACK, |content| {
            id = content.get(FAMILY_ID).and_then(|found| found.value.first_chunk().map(|b| u16::from_ne_bytes(*b)));
        })
        .map_err(failed)?;
        id.map(FamilyId).ok_or_else(|| failed(Cause::Malformed("it does not tell its number".to_owned())))
    }

    /// Asks a family for all objects, and hands the attributes of each message to `take`. What was taken is worth nothing
    /// where it is [`Cause::Torn`] in the end.
    pub fn dump(&mut self, family: FamilyId, body: Attributes, take: impl FnMut(Content<'_>)) -> Result<(), Cause> {
        self.ask(Message { kind: family.0, body: body.into_bytes() }, NLM_F_DUMP, take)
    }

    /// Sends a family a request that changes something, and waits for the kernel's answer.
    pub fn write(&mut self, family: FamilyId, body: Attributes) -> Result<(), Cause> {
        self.0.writes += 1;
        self.ask(Message { kind: family.0, body: body.into_bytes() }, NLM_F_ACK, |_| {})
    }

    fn ask(&mut self, mut request: Message, flags: u16, take: impl FnMut(Content<'_>)) -> Result<(), Cause> {
        let sequence = self.0.next_sequence();
        let bytes = Zeroizing::new(request.with_header(NLM_F_REQUEST | flags, sequence));
        request.body.zeroize();
        self.0.inner.send(&bytes, 0).map_err(Cause::Io)?;
        let answered = self.answer(sequence, take);
        self.0.buffer.zeroize();
        answered
    }

    /// Reads the answer to one request, to its end.
    fn answer(&mut self, sequence: u32, mut take: impl FnMut(Content<'_>)) -> Result<(), Cause> {
        let mut torn = false;
        loop {
            let mut rest = self.0.receive(Wait::Block).map_err(Cause::Io)?.unwrap_or_default();
            while !rest.is_empty() {
                let (message, after) = split(rest)?;
                rest = after;
                if message.sequence_number() != sequence {
                    continue;
                }
                torn |= message.flags() & NLM_F_DUMP_INTR != 0;
                match message.message_type() {
                    NLMSG_ERROR | NLMSG_DONE => {
                        let outcome = error::outcome(message.flags(), message.payload());
                        return outcome.and(if torn { Err(Cause::Torn) } else { Ok(()) });
                    }
                    kind => {
                        let value = message.payload().get(HEADER..).unwrap_or_default();
                        take(Attribute { kind, value }.content());
                    }
                }
            }
        }
    }
}

/// A message of a family, without attributes yet.
pub fn attributes(command: u8) -> Attributes {
    Attributes::after(&[command, VERSION, 0, 0])
}
