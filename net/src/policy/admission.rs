//! What the CNI binary and the agent of its node say to each other while a pod starts: lines over a socket.
//!
//! ```text
//! binary: lease ------- question --> agent        the agent reads the lease, and has the elements of the pod written
//!         links up <------- bound ---             nothing of whoever had the address before is in the kernel
//!         ADD ends <------- known ---             the pod's policies are in the kernel, and every node that must knows it
//! ```

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Where the agent listens, below the node's state.
pub const SOCKET: &str = "agent/admission.sock";

/// The longest line, in bytes.
pub const LONGEST: usize = 4096;

/// A pod that starts, as one line of JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Question {
    /// Its attachment, as people know it: for messages.
    pub attachment: String,
    /// What it is told apart by ([`super::identity`]).
    pub uid: String,
    /// The addresses that the attachment has by its lease.
    pub addresses: Vec<IpAddr>,
}

/// How far a pod has come. The agent says each once, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Progress {
    /// Its addresses are nobody else's in the kernel of its node: no rule lets pass by them what one of an earlier pod did.
    Bound,
    /// Its own policies are in the kernel of its node.
    InForce,
    /// And every node that must know its addresses does.
    Known,
}

impl Progress {
    /// All of them, in order.
    pub const ALL: [Self; 3] = [Self::Bound, Self::InForce, Self::Known];

    /// The line that says so, without its end.
    pub const fn line(self) -> &'static str {
        match self {
            Self::Bound => "bound",
            Self::InForce => "in force",
            Self::Known => "known",
        }
    }

    /// Reads a line without its end; nothing where it says nothing that is known here.
    pub fn parse(line: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|progress| progress.line() == line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_understood_and_nothing_else_is() {
        for progress in Progress::ALL {
            assert_eq!(Progress::parse(progress.line()), Some(progress));
        }
        assert_eq!(Progress::parse("bound "), None);
        let question = Question {
            attachment: "c1/eth0".into(),
            uid: "u-1".into(),
            addresses: vec!["10.244.1.2".parse().unwrap(), "fd00::2".parse().unwrap()],
        };
        let line = serde_json::to_string(&question).unwrap();
        assert!(!line.contains('\n') && line.len() < LONGEST);
        assert_eq!(serde_json::from_str::<Question>(&line).unwrap(), question);
    }
}
