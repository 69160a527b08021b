//! Why a lease could not be had.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use towpath_net::Family;
use towpath_net::lease::{AttachmentId, HostPort};
use towpath_net::node_file::Unusable;
use towpath_net::pick::Role;

use crate::fs::Error as FileError;

/// Why a lease could not be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// The agent has not said yet how pods are attached.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The attachment has a lease.
    #[error("{attachment} is attached already (network {network}, namespace {netns})")]
    Attached {
        /// The attachment.
        attachment: AttachmentId,
        /// The CNI network of its lease.
        network: String,
        /// The namespace of its lease.
        netns: String,
    },
    /// No address is free.
    #[error("all addresses of {} are taken on this node{hope}", listed(blocks))]
    Exhausted {
        /// The blocks that none is free of.
        blocks: Vec<IpNet>,
        /// What could have helped.
        hope: Hope,
    },
    /// Another pod has the port.
    #[error("{port} of this node is taken by {holder}")]
    PortTaken {
        /// The port asked for.
        port: HostPort,
        /// Who has it.
        holder: Holder,
    },
    /// The pod cannot have the address that it asked for.
    #[error("the pod cannot have {address}, the address that it asked for: {reason}")]
    Refused {
        /// The address.
        address: IpAddr,
        /// Why not.
        reason: Refusal,
    },
}

/// Why the agent's file cannot be used. All of it is for the agent to mend, so a runtime should try again.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// It is not there.
    #[error("{0} is missing: the node agent has not said yet how pods are attached; is its pod running on this node?")]
    Missing(PathBuf),
    /// It cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// It is not what it should be.
    #[error("{path} is unusable: {reason}; the node agent writes it anew when it starts")]
    Unusable {
        /// Where it is.
        path: PathBuf,
        /// What is wrong with it.
        reason: Unusable,
    },
}

/// What could make an address free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hope {
    /// Nothing but the end of a pod, or people.
    None,
    /// The operator would have given the node another block.
    Block {
        /// How long it was waited for.
        waited: Duration,
    },
    /// Freed addresses that may be given again before long.
    Rest {
        /// When the first may be given.
        left: Duration,
    },
}

impl fmt::Display for Hope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str(": remove pods from it, or give its nodes larger pod CIDRs"),
            Self::Block { waited } => write!(
                f,
                ", and it was given no further block within {} s: does the ClusterNetwork's status name a pool that is \
                 used up, and is the operator running?",
                waited.as_secs()
            ),
            Self::Rest { left } => {
                write!(f, " or were freed just now: the next is given in {} s", left.as_secs().saturating_add(1))
            }
        }
    }
}

/// Why a pod cannot have an address that it asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is in none of the node's blocks.
    Outside {
        /// The node's blocks of that family.
        family: Family,
        /// What the node has.
        blocks: Vec<IpNet>,
    },
    /// Its block is about to be taken from the node.
    Draining(IpNet),
    /// Another pod has it.
    Taken(Holder),
    /// Something on the node uses it, though no lease says so.
    InUse,
    /// No pod may have it.
    Role(Role, IpNet),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Outside { family, blocks } if blocks.is_empty() => write!(f, "pods of this node have no {family}"),
            Self::Outside { blocks, .. } => write!(f, "this node's pods have addresses of {}", listed(blocks)),
            Self::Draining(block) => write!(f, "its block {block} is being taken from this node"),
            Self::Taken(holder) => write!(f, "it is taken by {holder}"),
            Self::InUse => f.write_str("a route of this node leads to it already"),
            Self::Role(role, block) => write!(f, "it is the {role} of {block}"),
        }
    }
}

/// Who has an address or a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The attachment; nothing where its record is damaged.
    pub attachment: Option<AttachmentId>,
    /// The pod, as namespace and name, where the runtime told.
    pub pod: Option<String>,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.attachment, &self.pod) {
            (Some(attachment), Some(pod)) => write!(f, "pod {pod} ({attachment})"),
            (Some(attachment), None) => write!(f, "{attachment}"),
            (None, _) => f.write_str("an attachment whose lease is damaged"),
        }
    }
}

fn listed(blocks: &[IpNet]) -> String {
    blocks.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// A record that could not be read.
#[derive(Debug, thiserror::Error)]
#[error("lease {path}: {reason}")]
pub struct Broken {
    /// Where it is.
    pub path: PathBuf,
    /// Of which attachment, as its name tells.
    pub attachment: Option<AttachmentId>,
    /// What is wrong with it.
    pub reason: String,
}
