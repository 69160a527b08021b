//! Leases on disk: which pod interface holds which addresses.
//!
//! ```text
//! node.json                        the agent's: what addresses there are, and how they are given
//! leases/lock                      held while names come and go
//! leases/cursor                    the addresses given last, one of each family
//! leases/attachments/ID:IFNAME     the record: a Lease as JSON; replaced whole when its phase changes
//! leases/addresses/10.244.1.2      the claim: another name of the file that the record was born as
//! leases/ports/tcp-8080/any        the same for a host port; or ADDRESS for the one that it is opened on
//! leases/freed/10.244.1.2          what was the claim, while the address rests
//! leases/waiting/ID:IFNAME         an attachment that waits for an address; locked while its process lives
//! ```
//!
//! A record is complete from birth: it is written aside and then linked, record first, claims after, and removed the
//! other way round. So a claim always has its record, and a process that dies in between leaves a record that names
//! everything there is to clean. Whoever works on an attachment holds a lock (`flock(2)`) on its record, from before
//! the record has a name: a record that is not locked has nobody working on it, however its last worker ended.
//! The agent's file is read under the lock of names: what it no longer offers when that lock is had is given to nobody.
//! The folder is on tmpfs: after a reboot there are no pods and no leases.

mod choose;
mod claims;
mod error;
mod freed;
mod names;
mod taken;
#[cfg(test)]
mod tests;
mod tidy;
mod usage;
mod waiting;

use std::fmt::Display;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use towpath_net::bandwidth::Bandwidth;
use towpath_net::lease::{AttachmentId, HostPort, Lease, Phase, PodReference};
use towpath_net::mac::Mac;
use towpath_net::state::Attachment;

use crate::fs::{Error as FileError, Lock, Operation};
use choose::{Choice, Shortage};
use claims::{link_all, make_folder};

pub use choose::Wish;
pub use error::{Broken, Error, Holder, Hope, NodeError, Refusal};

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
    /// The Ethernet address that the pod asked for.
    pub mac: Option<Mac>,
    /// Ports of the node that shall lead to the pod.
    pub host_ports: Vec<HostPort>,
    /// Those of them that also lead to the pod on the node's loopback.
    pub loopback_ports: Vec<HostPort>,
    /// How much of its traffic may pass.
    pub bandwidth: Option<Bandwidth>,
    /// Which addresses it shall have.
    pub wish: Wish,
    /// How long to wait where no address is free, but one may be before long.
    pub patience: Duration,
}

/// The leases of a node.
#[derive(Clone, Debug)]
pub struct Store {
    state: PathBuf,
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
        Self { state: state.to_owned(), folder: state.join("leases") }
    }

    /// The folder of the records: it changes whenever a lease does.
    pub fn records(&self) -> PathBuf {
        self.folder.join("attachments")
    }

    /// Reads all leases. There are none where there is no folder.
    pub fn read_all(&self) -> Result<Listing, FileError> {
        let mut listing = Listing::default();
        for name in names::list(&self.records())? {
            let path = self.records().join(&name);
            let attachment = name.to_str().and_then(attachment_named);
            let content = match fs::read(&path) {
                // Released meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                content => content.map_err(|error| error.to_string()),
            };
            match content.and_then(|content| serde_json::from_slice(&content).map_err(|error| error.to_string())) {
                Ok(lease) => listing.leases.push(lease),
                Err(reason) => listing.broken.push(Broken { path, attachment, reason }),
            }
        }
        Ok(listing)
    }

    /// Makes the folders that leases are in.
    pub fn make_folders(&self) -> Result<(), FileError> {
        let folders = [self.records(), self.claims(), self.ports(), self.freed(), self.waiters()];
        folders.iter().try_for_each(|folder| make_folder(folder))
    }

    /// Makes a lease in [`Phase::Joining`], held by this process. Waits for an address where one may become free before
    /// long.
    pub fn create(&self, request: &Request<'_>) -> Result<Held, Error> {
        let attempt = match self.attempt(request) {
            // The first of all pods, or somebody has cleared the folder.
            Err(Error::File(error)) if error.source.kind() == io::ErrorKind::NotFound => {
                self.make_folders()?;
                self.attempt(request)
            }
            other => other,
        };
        attempt?.or_else(|short| self.wait(request, short))
    }

    fn attempt(&self, request: &Request<'_>) -> Result<Result<Held, Shortage>, Error> {
        let _names = self.lock_names()?;
        let node = self.node()?;
        self.refuse_duplicate(&request.attachment)?;
        self.refuse_taken_ports(&request.host_ports)?;
        let (addresses, mode, cursor) = match self.choose(&node, &request.wish)? {
            Choice::Chosen { addresses, mode, cursor } => (addresses, mode, cursor),
            Choice::Short(short) => return Ok(Err(short)),
        };
        // First: where it cannot be written, nothing has been made.
        if let Some(cursor) = cursor {
            self.write_cursor(&cursor)?;
        }
        let lease = Lease {
            network: request.network.to_owned(),
            host_interface: request.attachment.host_interface(),
            container_id: request.attachment.container.clone(),
            interface: request.attachment.interface.clone(),
            netns: request.netns.to_owned(),
            phase: Phase::Joining,
            mode,
            addresses,
            mtu: node.mtu,
            mac: request.mac,
            host_ports: request.host_ports.clone(),
            loopback_ports: loopback_ports(mode, &request.loopback_ports),
            bandwidth: request.bandwidth,
            pod: request.pod.clone(),
        };
        let lock = self.link(&lease)?;
        Ok(Ok(Held { lease, store: self.clone(), lock }))
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

    fn node_file(&self) -> PathBuf {
        self.state.join("node.json")
    }

    fn record(&self, attachment: &AttachmentId) -> PathBuf {
        self.records().join(record_name(attachment))
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
        if !self.has_record(attachment) {
            return Ok(());
        }
        let lease = self.what_is_known(attachment)?;
        Err(Error::Attached { attachment: attachment.clone(), network: lease.network, netns: lease.netns })
    }

    /// Gives a new lease its names: all of them, or none where one cannot be had.
    fn link(&self, lease: &Lease) -> Result<Lock, FileError> {
        let record = self.record(&lease.attachment());
        let (aside, lock) = write_locked(&record, lease)?;
        let claims = self.claims_of(lease);
        let linked = claims.and_then(|claims| link_all(&aside, std::iter::once(record).chain(claims)));
        _ = crate::fs::remove(&aside);
        if linked.is_err() {
            self.leave_ports(lease);
        }
        linked.map(|()| lock)
    }

    /// Whether an attachment has a record, readable or not.
    pub fn has_record(&self, attachment: &AttachmentId) -> bool {
        self.record(attachment).exists()
    }

    /// The lease of an attachment that has a record. Where that cannot be read, its claims tell what it was born as; it
    /// counts as complete, for nobody knows that it is not.
    pub fn what_is_known(&self, attachment: &AttachmentId) -> Result<Lease, FileError> {
        if let Some(lease) = read(&self.record(attachment)) {
            return Ok(lease);
        }
        let lease = self.born_as(attachment)?.unwrap_or_else(|| Lease::unknown(attachment));
        Ok(Lease { phase: Phase::Ready, ..lease })
    }

    /// The lease of a locked record.
    fn held(&self, attachment: &AttachmentId, lock: Lock) -> Result<Held, FileError> {
        Ok(Held { lease: self.what_is_known(attachment)?, store: self.clone(), lock })
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

    /// The lease, less the ports that it has no claim to: a process that died before it had linked all claims named ports
    /// that another pod may have by now.
    pub fn claimed(&self) -> Lease {
        let mut lease = self.lease.clone();
        lease.host_ports.retain(|port| self.store.has_port(&self.lease, port));
        lease.loopback_ports.retain(|port| lease.host_ports.iter().any(|own| own.overlaps(port)));
        lease
    }

    /// Ends the lease: its addresses rest, and are then free for others. Only when the kernel has nothing of it any more.
    pub fn release(self) -> Result<(), FileError> {
        let _names = self.store.lock_names()?;
        self.store.unclaim_ports(&self.lease)?;
        self.store.free_addresses(&self.lease)?;
        self.remove()
    }

    /// Ends a lease that the kernel never had anything of: its addresses are free at once.
    pub fn discard(self) -> Result<(), FileError> {
        let _names = self.store.lock_names()?;
        self.store.unclaim_ports(&self.lease)?;
        self.store.unclaim_addresses(&self.lease)?;
        self.remove()
    }

    /// Last, when nothing is claimed. Ports are given up before addresses: a process that dies in between must not leave
    /// a lease that closes its ports to addresses which are another's by then.
    fn remove(&self) -> Result<(), FileError> {
        let record = self.store.record(&self.lease.attachment());
        crate::fs::remove(&aside(&record))?;
        crate::fs::remove(&record)
    }
}

/// The ports of the loopback that can lead to a pod. What answers from behind a bridge has its addresses written back
/// before IPv6 sees it, which then takes no packet for `::1` from a link.
fn loopback_ports(mode: Attachment, asked: &[HostPort]) -> Vec<HostPort> {
    let is_answered = |port: &&HostPort| mode != Attachment::Bridge || !port.host_ip.is_some_and(|at| at.is_ipv6());
    asked.iter().filter(is_answered).cloned().collect()
}

/// A colon is in no container id and in no interface name, so no two attachments share a file.
fn record_name(attachment: &AttachmentId) -> String {
    format!("{}:{}", attachment.container, attachment.interface)
}

fn attachment_named(name: &str) -> Option<AttachmentId> {
    let (container, interface) = name.rsplit_once(':')?;
    Some(AttachmentId { container: container.to_owned(), interface: interface.to_owned() })
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
    match crate::fs::write_new(&aside, &content, 0o600).and_then(Lock::take) {
        Ok(lock) => Ok((aside, lock)),
        Err(error) => {
            _ = crate::fs::remove(&aside);
            Err(failed(error))
        }
    }
}

/// Each on a line of its own.
fn lines(items: impl Iterator<Item = impl Display>) -> String {
    items.fold(String::new(), |text, item| text + &item.to_string() + "\n")
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
