//! Leases on disk: which pod interface holds which addresses.
//!
//! ```text
//! leases/lock                      held while names come and go
//! leases/cursor.IPv4, .IPv6        the address given last
//! leases/attachments/ID:IFNAME     the record: a Lease as JSON; replaced whole when its phase changes
//! leases/addresses/10.244.1.2      the claim: another name of the file that the record was born as
//! ```
//!
//! A record is complete from birth: it is written aside and then linked, record first, claims after, and removed the
//! other way round. So a claim always has its record, and a process that dies in between leaves a record that names
//! everything there is to clean. Whoever works on an attachment holds a lock (`flock(2)`) on its record, from before
//! the record has a name: a record that is not locked has nobody working on it, however its last worker ended.
//! The folder is on tmpfs: after a reboot there are no pods and no leases.

mod names;
#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use towpath_net::bandwidth::Bandwidth;
use towpath_net::lease::{AttachmentId, HostPort, Lease, LeasedAddress, Phase, PodReference};
use towpath_net::mac::Mac;
use towpath_net::{Family, pick};

use crate::fs::{Error as FileError, Lock, Operation};

/// Why a lease could not be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file failed.
    #[error(transparent)]
    File(#[from] FileError),
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
    /// Every address is taken.
    #[error("all addresses of {0} are taken on this node: remove pods from it, or give its nodes larger pod CIDRs")]
    Exhausted(IpNet),
    /// Another pod has the port.
    #[error("{port} of this node is taken by {holder}")]
    PortTaken {
        /// The port asked for.
        port: HostPort,
        /// The attachment that has it.
        holder: AttachmentId,
    },
}

/// A record that could not be read.
#[derive(Debug, thiserror::Error)]
#[error("lease {path}: {reason}")]
pub struct Broken {
    /// Where it is.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

/// All leases of a node.
#[derive(Debug, Default)]
pub struct Listing {
    /// Those that could be read, by their attachments' order.
    pub leases: Vec<Lease>,
    /// The others.
    pub broken: Vec<Broken>,
}

/// What a lease is asked for with.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The name of the CNI network.
    pub network: &'a str,
    /// The attachment.
    pub attachment: AttachmentId,
    /// The path of the pod's network namespace.
    pub netns: &'a str,
    /// Whose interface it is.
    pub pod: Option<PodReference>,
    /// Of both ends, in bytes.
    pub mtu: u32,
    /// The Ethernet address that the pod asked for.
    pub mac: Option<Mac>,
    /// Ports of the node that shall lead to the pod.
    pub host_ports: Vec<HostPort>,
    /// Those of them that also lead to the pod on the node's loopback.
    pub loopback_ports: Vec<HostPort>,
    /// How much of its traffic may pass.
    pub bandwidth: Option<Bandwidth>,
    /// Out of each of which the pod gets an address.
    pub pools: &'a [IpNet],
}

/// The leases of a node.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
}

/// A lease that this process works on: nobody else does.
#[derive(Debug)]
pub struct Held {
    /// The lease.
    pub lease: Lease,
    store: Store,
    lock: Lock,
}

/// Whether a lease could be taken to be worked on.
#[derive(Debug)]
pub enum Attempt {
    /// It is ours now.
    Held(Box<Held>),
    /// Somebody else works on it.
    Busy,
    /// There is none.
    None,
}

impl Store {
    /// The leases of the node whose state is in `state`, such as `/run/towpath`.
    pub fn below(state: &Path) -> Self {
        Self { folder: state.join("leases") }
    }

    /// The folder of the records: it changes whenever a lease does.
    pub fn records(&self) -> PathBuf {
        self.folder.join("attachments")
    }

    /// Reads all leases. There are none where there is no folder.
    pub fn read_all(&self) -> Result<Listing, FileError> {
        let mut listing = Listing::default();
        for name in names::list(&self.records())? {
            let path = self.records().join(name);
            match fs::read(&path) {
                Ok(content) => match serde_json::from_slice(&content) {
                    Ok(lease) => listing.leases.push(lease),
                    Err(error) => listing.broken.push(Broken { path, reason: error.to_string() }),
                },
                // Released meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => listing.broken.push(Broken { path, reason: error.to_string() }),
            }
        }
        Ok(listing)
    }

    /// Makes a lease in [`Phase::Joining`], held by this process.
    pub fn create(&self, request: Request<'_>) -> Result<Held, Error> {
        for folder in [self.records(), self.claims()] {
            fs::create_dir_all(&folder).map_err(|source| FileError::new(Operation::Write, folder, source))?;
        }
        let _names = self.lock_names()?;
        self.refuse_duplicate(&request.attachment)?;
        self.refuse_taken_ports(&request.host_ports)?;
        let addresses = self.pick(request.pools)?;
        let lease = Lease {
            network: request.network.to_owned(),
            host_interface: request.attachment.host_interface(),
            container_id: request.attachment.container,
            interface: request.attachment.interface,
            netns: request.netns.to_owned(),
            phase: Phase::Joining,
            addresses,
            mtu: request.mtu,
            mac: request.mac,
            host_ports: request.host_ports,
            loopback_ports: request.loopback_ports,
            bandwidth: request.bandwidth,
            pod: request.pod,
        };
        let lock = self.link(&lease)?;
        for leased in &lease.addresses {
            let address = leased.address.addr();
            crate::fs::write_volatile(&self.cursor(Family::of(address)), address.to_string().as_bytes(), 0o600)?;
        }
        Ok(Held { lease, store: self.clone(), lock })
    }

    /// Takes the lease of an attachment, as soon as nobody else works on it; nothing where there is none.
    pub fn hold(&self, attachment: &AttachmentId) -> Result<Option<Held>, FileError> {
        let path = self.record(attachment);
        let failed = |source| FileError::new(Operation::Lock, &path, source);
        loop {
            let Some(file) = open(&path)? else {
                return self.remove_unborn(&path).map(|()| None);
            };
            let lock = Lock::take(file).map_err(failed)?;
            // Whoever had it may have replaced or removed it.
            if lock.is_at(&path).map_err(failed)? {
                return self.held(attachment, lock).map(Some);
            }
        }
    }

    /// Takes the lease of an attachment where nobody else works on it.
    pub fn try_hold(&self, attachment: &AttachmentId) -> Result<Attempt, FileError> {
        let path = self.record(attachment);
        let failed = |source| FileError::new(Operation::Lock, &path, source);
        let Some(file) = open(&path)? else { return Ok(Attempt::None) };
        match Lock::try_take(file).map_err(failed)? {
            Some(lock) if lock.is_at(&path).map_err(failed)? => {
                Ok(Attempt::Held(Box::new(self.held(attachment, lock)?)))
            }
            _ => Ok(Attempt::Busy),
        }
    }

    /// Removes what no process works on and no record names: claims that lost their record, and files that a dead
    /// process was still writing. `is_linked` tells whether an attachment's link is there: while it is, its address
    /// is in use.
    pub fn tidy(&self, is_linked: impl Fn(&AttachmentId) -> bool) -> Result<(), FileError> {
        if !self.folder.exists() {
            return Ok(());
        }
        let _names = self.lock_names()?;
        for folder in [self.records(), self.claims(), self.folder.clone()] {
            names::remove_unfinished(&folder)?;
        }
        for name in names::list(&self.claims())? {
            let path = self.claims().join(name);
            let owner = read(&path).map(|lease| lease.attachment());
            if owner.is_some_and(|owner| !self.record(&owner).exists() && !is_linked(&owner)) {
                crate::fs::remove(&path)?;
            }
        }
        Ok(())
    }

    /// Tells whether each pool has a free address, without taking it.
    pub fn vacancy(&self, pools: &[IpNet]) -> Result<(), Error> {
        self.pick(pools).map(drop)
    }

    fn claims(&self) -> PathBuf {
        self.folder.join("addresses")
    }

    fn cursor(&self, family: Family) -> PathBuf {
        self.folder.join(format!("cursor.{family}"))
    }

    fn claim(&self, address: IpAddr) -> PathBuf {
        self.claims().join(address.to_string())
    }

    /// A colon is in no container id and in no interface name, so no two attachments share a file.
    fn record(&self, attachment: &AttachmentId) -> PathBuf {
        self.records().join(format!("{}:{}", attachment.container, attachment.interface))
    }

    fn lock_names(&self) -> Result<Lock, FileError> {
        Lock::wait(&self.folder.join("lock"))
    }

    /// Removes what a process was writing that died before its record had a name.
    fn remove_unborn(&self, record: &Path) -> Result<(), FileError> {
        let unborn = aside(record);
        if !unborn.exists() {
            return Ok(());
        }
        let _names = self.lock_names()?;
        crate::fs::remove(&unborn)
    }

    fn refuse_duplicate(&self, attachment: &AttachmentId) -> Result<(), Error> {
        let path = self.record(attachment);
        if !path.exists() {
            return Ok(());
        }
        let lease = read(&path).unwrap_or_else(|| Lease::unknown(attachment));
        Err(Error::Attached { attachment: attachment.clone(), network: lease.network, netns: lease.netns })
    }

    fn refuse_taken_ports(&self, ports: &[HostPort]) -> Result<(), Error> {
        if ports.is_empty() {
            return Ok(());
        }
        for lease in self.read_all()?.leases {
            let taken = ports.iter().find(|port| lease.host_ports.iter().any(|other| other.overlaps(port)));
            if let Some(port) = taken {
                return Err(Error::PortTaken { port: port.clone(), holder: lease.attachment() });
            }
        }
        Ok(())
    }

    fn pick(&self, pools: &[IpNet]) -> Result<Vec<LeasedAddress>, Error> {
        let mut addresses = Vec::with_capacity(pools.len());
        for pool in pools {
            let cursor = crate::fs::read_optional(&self.cursor(Family::of_net(pool)))?;
            let last = cursor.and_then(|text| String::from_utf8(text).ok()).and_then(|text| text.trim().parse().ok());
            let chosen = pick::next(&[*pool], &[], last, |address| self.claim(address).exists());
            let chosen = chosen.and_then(|address| IpNet::new(address, pool.prefix_len()).ok());
            let address = chosen.ok_or(Error::Exhausted(*pool))?;
            addresses.push(LeasedAddress { address, gateway: pick::gateway(pool) });
        }
        Ok(addresses)
    }

    /// Gives a new lease its names: all of them, or none where one cannot be had.
    fn link(&self, lease: &Lease) -> Result<Lock, FileError> {
        let record = self.record(&lease.attachment());
        let (aside, lock) = write_locked(&record, lease)?;
        let names = std::iter::once(record).chain(lease.addresses.iter().map(|l| self.claim(l.address.addr())));
        let mut linked: Vec<PathBuf> = Vec::new();
        let mut result = Ok(());
        for name in names {
            match fs::hard_link(&aside, &name) {
                Ok(()) => linked.push(name),
                Err(source) => {
                    result = Err(FileError::new(Operation::Write, &name, source));
                    linked.iter().rev().for_each(|path| _ = crate::fs::remove(path));
                    break;
                }
            }
        }
        _ = crate::fs::remove(&aside);
        result.map(|()| lock)
    }

    /// The lease of a locked record. Where the record cannot be read, its claims tell what it was born as.
    fn held(&self, attachment: &AttachmentId, lock: Lock) -> Result<Held, FileError> {
        let lease = match read(&self.record(attachment)) {
            Some(lease) => lease,
            None => self.born_as(attachment)?.unwrap_or_else(|| Lease::unknown(attachment)),
        };
        Ok(Held { lease, store: self.clone(), lock })
    }

    fn born_as(&self, attachment: &AttachmentId) -> Result<Option<Lease>, FileError> {
        let claims = names::list(&self.claims())?;
        let mut leases = claims.into_iter().filter_map(|name| read(&self.claims().join(name)));
        Ok(leases.find(|lease| lease.attachment() == *attachment))
    }
}

impl Held {
    /// Goes on to another phase: readers see the old record or the new one.
    pub fn advance(&mut self, phase: Phase) -> Result<(), FileError> {
        let _names = self.store.lock_names()?;
        let lease = Lease { phase, ..self.lease.clone() };
        let record = self.store.record(&lease.attachment());
        let (aside, lock) = write_locked(&record, &lease)?;
        fs::rename(&aside, &record).map_err(|source| FileError::new(Operation::Write, &record, source))?;
        (self.lease, self.lock) = (lease, lock);
        Ok(())
    }

    /// Ends the lease: its addresses are free for others. Only when the kernel has nothing of it any more.
    pub fn release(self) -> Result<(), FileError> {
        let _names = self.store.lock_names()?;
        let attachment = self.lease.attachment();
        for leased in &self.lease.addresses {
            let claim = self.store.claim(leased.address.addr());
            if read(&claim).is_none_or(|lease| lease.attachment() == attachment) {
                crate::fs::remove(&claim)?;
            }
        }
        let record = self.store.record(&attachment);
        crate::fs::remove(&aside(&record))?;
        crate::fs::remove(&record)
    }
}

/// The hidden name that a record is written under: one is enough, for names come and go under a lock.
fn aside(record: &Path) -> PathBuf {
    record.with_file_name(format!(".{}", record.file_name().unwrap_or_default().to_string_lossy()))
}

/// Writes a lease under its hidden name, locked before anybody can find it.
fn write_locked(record: &Path, lease: &Lease) -> Result<(PathBuf, Lock), FileError> {
    let aside = aside(record);
    let failed = |source| FileError::new(Operation::Write, &aside, source);
    let content = serde_json::to_vec(lease).map_err(|error| failed(error.into()))?;
    _ = crate::fs::remove(&aside);
    let lock = crate::fs::write_new(&aside, &content, 0o600).and_then(Lock::take).map_err(failed)?;
    Ok((aside, lock))
}

fn open(path: &Path) -> Result<Option<File>, FileError> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(FileError::new(Operation::Read, path, source)),
    }
}

fn read(path: &Path) -> Option<Lease> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}
