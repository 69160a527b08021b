//! Errors of netlink requests.

use std::fmt;
use std::io;

use netlink_packet_core::{NLM_F_ACK_TLVS, NLM_F_CAPPED};

use super::message;

/// What was being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Opening a socket or joining a group.
    Open,
    /// Reading objects.
    List,
    /// Adding an object that must not exist.
    Add,
    /// Changing an object that exists, or adding it.
    Replace,
    /// Changing an object that exists.
    Change,
    /// Removing an object.
    Delete,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::List => "list",
            Self::Add => "add",
            Self::Replace => "replace",
            Self::Change => "change",
            Self::Delete => "delete",
        })
    }
}

/// A request that failed.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {object}: {cause}")]
pub struct Error {
    /// What was being done.
    pub operation: Operation,
    /// To which object.
    pub object: String,
    /// Why it failed.
    pub cause: Cause,
}

impl Error {
    /// An error of `operation` on `object`.
    pub fn new(operation: Operation, object: impl Into<String>, cause: Cause) -> Self {
        Self { operation, object: object.into(), cause }
    }

    /// Whether the object that was to be added is there already (`EEXIST`).
    pub fn is_taken(&self) -> bool {
        self.cause.errno() == Some(rustix::io::Errno::EXIST)
    }

    /// Whether the kernel does not know how (`EOPNOTSUPP`).
    pub fn is_unsupported(&self) -> bool {
        self.cause.errno() == Some(rustix::io::Errno::OPNOTSUPP)
    }

    /// Whether what was read changed meanwhile.
    pub const fn is_torn(&self) -> bool {
        matches!(self.cause, Cause::Torn)
    }

    /// Whether the object that was to be read, changed or removed is not there.
    pub fn is_missing(&self) -> bool {
        use rustix::io::Errno;
        matches!(self.cause.errno(), Some(Errno::NODEV | Errno::NOENT | Errno::SRCH | Errno::ADDRNOTAVAIL))
    }
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// The socket failed.
    #[error("{0}")]
    Io(#[source] io::Error),
    /// The kernel refused it.
    #[error("{}{}", io::Error::from(*errno), explanation.as_deref().map(|e| format!(" ({e})")).unwrap_or_default())]
    Refused {
        /// Its error number.
        errno: rustix::io::Errno,
        /// Its explanation, where it gave one (`NLMSGERR_ATTR_MSG`).
        explanation: Option<String>,
    },
    /// The kernel's tables changed during each of many attempts to read them (`NLM_F_DUMP_INTR`).
    #[error("the kernel's tables changed while they were read; try again")]
    Torn,
    /// The socket failed before the kernel's answer was read: whether the change was made is not known.
    #[error("no answer of the kernel: {0}")]
    Unanswered(String),
    /// The answer is not what the protocol says.
    #[error("cannot read the kernel's answer: {0}")]
    Malformed(String),
}

impl Cause {
    /// The kernel's error number, where it refused.
    pub const fn errno(&self) -> Option<rustix::io::Errno> {
        match self {
            Self::Refused { errno, .. } => Some(*errno),
            Self::Io(_) | Self::Torn | Self::Unanswered(_) | Self::Malformed(_) => None,
        }
    }
}

/// `NLMSGERR_ATTR_MSG` (`linux/netlink.h`).
const NLMSGERR_ATTR_MSG: u16 = 1;
/// The length of a netlink header, which an error message repeats from the request.
const HEADER: usize = 16;

/// The result that the payload of an `NLMSG_ERROR` or `NLMSG_DONE` message tells.
pub(crate) fn outcome(flags: u16, payload: &[u8]) -> Result<(), Cause> {
    let Some(code) = payload.first_chunk().map(|bytes| i32::from_ne_bytes(*bytes)) else { return Ok(()) };
    if code == 0 {
        return Ok(());
    }
    let errno = rustix::io::Errno::from_raw_os_error(code.unsigned_abs().cast_signed());
    Err(Cause::Refused { errno, explanation: explanation(flags, payload) })
}

fn explanation(flags: u16, payload: &[u8]) -> Option<String> {
    if flags & NLM_F_ACK_TLVS == 0 {
        return None;
    }
    // The request follows the code, unless capped: then just its header.
    let request_length = payload.get(4..8).and_then(|b| b.first_chunk()).map(|b| u32::from_ne_bytes(*b))?;
    let skipped = if flags & NLM_F_CAPPED != 0 { HEADER } else { usize::try_from(request_length).ok()? };
    let attributes = payload.get(4 + skipped.next_multiple_of(4)..)?;
    message::attributes(attributes).find(|attribute| attribute.kind == NLMSGERR_ATTR_MSG).map(|text| text.text())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_explanation_is_part_of_the_error() {
        let mut payload = (-17i32).to_ne_bytes().to_vec();
        payload.extend([0; HEADER]);
        payload.extend([9, 0, 1, 0]);
        payload.extend(b"nope\0\0\0\0");
        let error = outcome(NLM_F_CAPPED | NLM_F_ACK_TLVS, &payload).unwrap_err();
        assert_eq!(error.to_string(), "File exists (os error 17) (nope)");
        assert!(Error::new(Operation::Add, "x", error).is_taken());
    }

    #[test]
    fn an_empty_end_of_a_dump_is_a_success() {
        assert!(outcome(0, &[]).is_ok());
        assert!(outcome(0, &[0; 4]).is_ok());
    }
}
