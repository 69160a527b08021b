//! The seam to the kernel: read what there is, do things. [`converge`] does a whole plan.

use std::collections::BTreeSet;

use ipnet::IpNet;
use thiserror::Error;
use towpath_net::observed::{Desired, Observed, Sysctl};
use towpath_net::ops::Op;
use towpath_net::plan::plan;

use crate::nft::NftError;

/// A kernel that can be read and changed: that of this network namespace, or one made up for tests.
pub trait Kernel {
    /// Reads everything that is Towpath's or stands in its way, and the settings asked for.
    fn observe(&mut self, sysctls: &BTreeSet<Sysctl>) -> Result<Observed, KernelError>;

    /// Does operations in order, each wholly or not at all, and tells what became of each. One that fails does not keep
    /// the rest from being done.
    fn apply_all(&mut self, ops: &[Op]) -> Vec<Result<(), KernelError>>;

    /// How often anything was written.
    fn writes(&self) -> u64;
}

/// What the kernel refused, and which object it was about.
#[derive(Debug, Error)]
pub enum KernelError {
    /// A route, address or link.
    #[error(transparent)]
    Netlink(#[from] crate::netlink::Error),
    /// The table.
    #[error(transparent)]
    Nft(#[from] NftError),
    /// A WireGuard device.
    #[error(transparent)]
    WireGuard(crate::wireguard::Error),
    /// A setting.
    #[error(transparent)]
    Sysctl(#[from] crate::sysctl::Error),
    /// The kernel lacks what an operation needs.
    #[error("this kernel has no {feature} (module {module})")]
    Unsupported {
        /// What it lacks.
        feature: &'static str,
        /// The module that has it.
        module: &'static str,
    },
    /// An operation names something that is not there (any more).
    #[error("{0} is not there")]
    Gone(String),
    /// An operation would take the place of something that is there.
    #[error("{0} is there already")]
    Exists(String),
    /// Made up by a test, to see what comes of it.
    #[error("failed on purpose: {0}")]
    Injected(String),
}

impl KernelError {
    /// Whether what was to be changed had changed already: somebody was faster, and a new look tells what is left.
    pub fn is_race(&self) -> bool {
        match self {
            Self::Netlink(error) => error.is_taken() || error.is_missing(),
            Self::Nft(error) => error.is_missing(),
            Self::WireGuard(error) => error.is_missing(),
            Self::Gone(_) | Self::Exists(_) => true,
            Self::Sysctl(_) | Self::Unsupported { .. } | Self::Injected(_) => false,
        }
    }
}

impl From<crate::wireguard::Error> for KernelError {
    fn from(error: crate::wireguard::Error) -> Self {
        match error {
            crate::wireguard::Error::Unsupported => Self::Unsupported { feature: "WireGuard", module: "wireguard" },
            error => Self::WireGuard(error),
        }
    }
}

/// An operation that failed.
#[derive(Debug)]
pub struct Failure {
    /// The operation.
    pub op: Op,
    /// Why.
    pub error: KernelError,
}

/// What became of a plan.
#[derive(Debug, Default)]
pub struct Report {
    /// Operations that were done, in order.
    pub done: Vec<Op>,
    /// Operations that failed; the rest was done all the same.
    pub failed: Vec<Failure>,
    /// Destinations that somebody else has a route for.
    pub conflicts: Vec<IpNet>,
}

impl Report {
    /// Whether the kernel now has all that was wanted, as far as it could be told.
    pub const fn is_complete(&self) -> bool {
        self.failed.is_empty() && self.conflicts.is_empty()
    }
}

/// Does what leads from `observed` to `desired`. A failure does not keep the rest from being done: what depends on it
/// fails as well, and is planned again next time.
pub fn converge(kernel: &mut impl Kernel, desired: &Desired, observed: &Observed) -> Report {
    let plan = plan(desired, observed);
    let mut report = Report { conflicts: plan.conflicts, ..Report::default() };
    let outcomes = kernel.apply_all(&plan.ops);
    for (op, outcome) in plan.ops.into_iter().zip(outcomes) {
        match outcome {
            Ok(()) => report.done.push(op),
            Err(error) => report.failed.push(Failure { op, error }),
        }
    }
    report
}

/// The settings that must be read to plan the way to `desired`.
pub fn sysctls_of(desired: &Desired) -> BTreeSet<Sysctl> {
    desired.sysctls.keys().cloned().collect()
}
