//! Errors as a runtime reads them (CNI specification, section 5, "Error").

use std::io;

use serde_json::{Value, json};
use towpath_kernel::leases::Error as LeaseError;
use towpath_kernel::nft::NftError;
use towpath_kernel::{fs, netlink, netns, release, shaping, sysctl};
use towpath_net::render::TABLE;

use crate::admission::Missing;
use crate::check::Mismatch;
use crate::version::SpecVersion;
use crate::{config, environment, hostports, wire};

/// The error codes of the specification, and from 100 up our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The configuration's version is not spoken.
    IncompatibleVersion = 1,
    /// The container is unknown.
    UnknownContainer = 3,
    /// The environment cannot be used.
    InvalidEnvironment = 4,
    /// Reading or writing failed.
    Io = 5,
    /// The input cannot be decoded.
    Decoding = 6,
    /// The configuration cannot be used.
    InvalidConfig = 7,
    /// The network namespace cannot be used.
    InvalidNamespace = 8,
    /// It may work later.
    TryAgain = 11,
    /// ADD would not work.
    NotAvailable = 50,
    /// ADD would not work, and pods that run may be cut off.
    Limited = 51,
    /// The pod has a link of that name.
    InterfaceTaken = 101,
    /// The attachment exists.
    Attached = 102,
    /// A host port has another holder.
    PortTaken = 103,
    /// The kernel refused.
    Kernel = 104,
    /// The attachment is not as it should be.
    Mismatch = 105,
    /// The pod cannot have an address that it asked for.
    AddressRefused = 106,
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The environment cannot be used.
    #[error(transparent)]
    Environment(#[from] environment::Error),
    /// The standard input cannot be read.
    #[error("read the network configuration from stdin: {0}")]
    Input(#[source] io::Error),
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// CHECK needs what ADD returned.
    #[error("prevResult is missing: CHECK compares with what ADD returned")]
    NoPreviousResult,
    /// The network namespace cannot be used.
    #[error(transparent)]
    Namespace(#[from] netns::Error),
    /// The network namespace is the node's.
    #[error("CNI_NETNS {0} is the namespace that the plugin runs in: it would take the node's own links")]
    OwnNamespace(String),
    /// There is no lease.
    #[error("{0} is not attached")]
    NotAttached(towpath_net::lease::AttachmentId),
    /// A lease could not be had.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// The pod could not be wired.
    #[error(transparent)]
    Wire(#[from] wire::Error),
    /// An attachment could not be ended.
    #[error(transparent)]
    Release(#[from] release::Error),
    /// ADD failed, and so did undoing it.
    #[error("{cause}; undoing it failed too: {undo}")]
    NotUndone {
        /// Why ADD failed.
        cause: Box<Error>,
        /// Why it was not undone.
        undo: Box<Error>,
    },
    /// The kernel could not be asked.
    #[error(transparent)]
    Netlink(#[from] netlink::Error),
    /// A setting of the kernel could not be read or written.
    #[error(transparent)]
    Sysctl(#[from] sysctl::Error),
    /// The host ports could not be read or written.
    #[error(transparent)]
    Nft(#[from] NftError),
    /// The host ports cannot be had on this node.
    #[error(transparent)]
    HostPorts(#[from] hostports::Error),
    /// The pod's traffic could not be limited.
    #[error(transparent)]
    Shaping(#[from] shaping::Error),
    /// An attachment is not as it should be.
    #[error("{} differences, the first: {}", .0.len(), .0.first().map(ToString::to_string).unwrap_or_default())]
    Mismatch(Vec<Mismatch>),
    /// The agent's table is gone.
    #[error("the table inet {TABLE} is missing, and with it masquerading and host ports: is the node agent running?")]
    NoTable,
    /// ADD would not work.
    #[error("no pod can be attached: {0}")]
    NotAvailable(Box<Error>),
    /// ADD would not work, and pods that run may be cut off.
    #[error("no pod can be attached, and pods that run may be cut off: {0}")]
    Limited(Box<Error>),
    /// The pod's policies are not in force, and it is not to start without.
    #[error("the policies of the pod are not in force, and policy.startup is Strict: {0}")]
    NotInForce(Missing),
    /// What an earlier pod could do by the pod's addresses could not be taken from them.
    #[error("take the addresses from an earlier pod: {0}")]
    Policy(#[from] towpath_kernel::policy::Error),
    /// Something could not be collected.
    #[error("{} things could not be collected, the first: {}", .0.len(), .0.first().map_or("", |first| first))]
    Uncollected(Vec<String>),
}

impl From<fs::Error> for Error {
    fn from(error: fs::Error) -> Self {
        Self::Lease(LeaseError::File(error))
    }
}

impl Error {
    /// The code of the specification.
    pub fn code(&self) -> Code {
        match self {
            Self::Environment(_) => Code::InvalidEnvironment,
            Self::Input(_) => Code::Io,
            Self::Config(config::Error::NotJson(_)) => Code::Decoding,
            Self::Config(config::Error::Version { .. } | config::Error::VerbOfLaterVersion { .. }) => {
                Code::IncompatibleVersion
            }
            Self::Config(config::Error::Field { .. }) | Self::NoPreviousResult => Code::InvalidConfig,
            Self::Namespace(_) | Self::OwnNamespace(_) | Self::Wire(wire::Error::Namespace(_)) => {
                Code::InvalidNamespace
            }
            Self::NotAttached(_) => Code::UnknownContainer,
            Self::Lease(error) => lease_code(error),
            Self::Wire(wire::Error::InterfaceTaken(_)) => Code::InterfaceTaken,
            Self::Wire(wire::Error::LinkTaken(_)) => Code::Attached,
            // Without the agent's table there is nowhere to put a host port yet, without its bridge none for the pod.
            Self::Wire(wire::Error::NoBridge | wire::Error::NoGateway(_))
            | Self::NoTable
            | Self::NotInForce(_)
            | Self::Nft(NftError::NoSet(_)) => Code::TryAgain,
            Self::Wire(_)
            | Self::Release(_)
            | Self::Netlink(_)
            | Self::Sysctl(_)
            | Self::Nft(_)
            | Self::HostPorts(_)
            | Self::Shaping(_)
            | Self::Policy(_)
            | Self::Uncollected(_) => Code::Kernel,
            Self::NotUndone { cause, .. } => cause.code(),
            Self::Mismatch(_) => Code::Mismatch,
            Self::NotAvailable(_) => Code::NotAvailable,
            Self::Limited(_) => Code::Limited,
        }
    }

    /// More than the message says, for people.
    fn details(&self) -> String {
        match self {
            Self::Mismatch(all) => all.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
            Self::Uncollected(all) => all.join("; "),
            _ => String::new(),
        }
    }

    /// The document that a runtime reads.
    pub fn document(&self, version: SpecVersion) -> Value {
        let mut document = json!({"cniVersion": version.text(), "code": self.code() as u32, "msg": self.to_string()});
        let details = self.details();
        if !details.is_empty() {
            document["details"] = details.into();
        }
        document
    }
}

const fn lease_code(error: &LeaseError) -> Code {
    match error {
        LeaseError::File(_) => Code::Io,
        // For the agent to mend, or for the pods to end: it may work later.
        LeaseError::Node(_) | LeaseError::Exhausted { .. } => Code::TryAgain,
        LeaseError::Attached { .. } => Code::Attached,
        LeaseError::Refused { .. } => Code::AddressRefused,
        LeaseError::PortTaken { .. } => Code::PortTaken,
    }
}
