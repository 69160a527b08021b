//! The kernel of this network namespace.

mod ciphers;
mod observe;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use towpath_net::lease::{Lease, Phase};
use towpath_net::observed::{NexthopId, Observed, Station, Sysctl};
use towpath_net::ops::Op;
use towpath_net::sweep::Scope;

use crate::kernel::{Kernel, KernelError};
use crate::leases::{Attempt, Store};
use crate::link::Index;
use crate::netlink::{Protocol, Socket};
use crate::nft::Nft;
use crate::release::{self, Sight, Swept};
use crate::shaping::{self, Direction};
use crate::sysctl::Sysctls;
use crate::toward;
use ciphers::Ciphers;

pub use ciphers::Handshakes;

/// The kernel of the network namespace that it was opened in.
pub struct HostKernel {
    routes: Socket,
    nft: Nft,
    sysctls: Sysctls,
    sysctl_writes: u64,
    ciphers: Ciphers,
    /// The numbers of links, as far as the plan at hand named them.
    indexes: BTreeMap<String, Index>,
    /// Nexthop objects of others, when last looked at.
    foreign: BTreeSet<NexthopId>,
    /// Nexthop objects of ours that somebody made something of that cannot be put right but by making them anew.
    bent: BTreeSet<NexthopId>,
    /// Entries of tunnels' forwarding tables that lead to several nodes, or to none by its address: the same.
    spread: BTreeSet<Station>,
}

impl HostKernel {
    /// Opens the kernel of the current network namespace, with the settings below `sysctls`.
    pub fn open(sysctls: Sysctls) -> Result<Self, KernelError> {
        Ok(Self {
            routes: Socket::open(Protocol::Route)?,
            nft: Nft::open()?,
            sysctls,
            sysctl_writes: 0,
            ciphers: Ciphers::open()?,
            indexes: BTreeMap::new(),
            foreign: BTreeSet::new(),
            bent: BTreeSet::new(),
            spread: BTreeSet::new(),
        })
    }

    /// The numbers of the sockets that changes are made by: of the routing tables, and of netfilter.
    pub fn ports(&self) -> Result<[u32; 2], KernelError> {
        Ok([self.routes.port()?, self.nft.port()?])
    }

    /// The source address that the kernel would choose for packets to `address`; nothing where no route leads there.
    pub fn source_toward(&mut self, address: IpAddr) -> Result<Option<IpAddr>, KernelError> {
        Ok(toward::source(&mut self.routes, address)?)
    }

    /// Whether settings are as they should be, those that there are.
    pub fn are_set(&self, settings: &BTreeMap<Sysctl, String>) -> bool {
        settings.iter().all(
            |(key, value)| matches!(self.sysctls.read(key), Ok(seen) if seen.as_ref().is_none_or(|seen| seen == value)),
        )
    }

    /// Ends every attachment of this node that nobody needs any more and nobody works on.
    pub fn sweep(&mut self, leases: &Store) -> Result<Swept, release::Error> {
        release::sweep_node(leases, &mut self.routes, &Scope::Node, Sight::Own)
    }

    /// Sets the limits of a pod anew that somebody altered, and tells which; those of a pod that somebody works on are
    /// left alone.
    pub fn mend_limits(&mut self, leases: &Store, lease: &Lease) -> Result<Vec<Direction>, shaping::Error> {
        match leases.try_hold(&lease.attachment()) {
            Ok(Attempt::Held(held)) if held.lease == *lease && lease.phase == Phase::Ready => {
                shaping::mend(&mut self.routes, lease)
            }
            _ => Ok(Vec::new()),
        }
    }
}

impl Kernel for HostKernel {
    fn observe(&mut self, sysctls: &BTreeSet<Sysctl>) -> Result<Observed, KernelError> {
        self.read(sysctls)
    }

    fn apply_all(&mut self, ops: &[Op]) -> Vec<Result<(), KernelError>> {
        self.execute_all(ops)
    }

    fn writes(&self) -> u64 {
        self.routes.writes() + self.nft.writes() + self.ciphers.writes() + self.sysctl_writes
    }
}
