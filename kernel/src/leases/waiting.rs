//! Attachments that wait for an address.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use towpath_net::lease::AttachmentId;
use towpath_net::{Family, PerFamily};

use super::choose::Shortage;
use super::claims::make_folder;
use super::error::{Error, Hope};
use super::{Held, Request, Store, names};
use crate::fs::{Error as FileError, Lock, Operation};

/// How long to wait before looking again. Not by events: a process of each of hundreds of pods would need a watch, of
/// which a user has few (`fs.inotify.max_user_instances`).
const PAUSE: Duration = Duration::from_millis(20);

/// How long to trust that nothing changed where no file shows a change: times of files are coarse.
const TRUST: Duration = Duration::from_millis(500);

/// What shows that an address may have become free: the agent's file, and the folder of claims.
#[derive(Debug, PartialEq, Eq)]
struct Glimpse([Option<(u64, i64, i64)>; 2]);

/// A file that tells the agent of a pod that waits, locked while its process lives.
struct Marker {
    path: PathBuf,
    families: PerFamily<bool>,
    lock: Lock,
}

impl Drop for Marker {
    fn drop(&mut self) {
        if self.lock.is_at(&self.path).unwrap_or(false) {
            // Without its lock it counts for nothing, and is tidied.
            _ = fs::remove_file(&self.path);
        }
    }
}

impl Store {
    /// The folder of those that wait: it changes whenever one begins or ends to.
    pub fn waiters(&self) -> PathBuf {
        self.folder.join("waiting")
    }

    /// How many attachments wait for an address of each family, that the operator may give the node.
    pub fn waiting(&self) -> Result<PerFamily<u64>, FileError> {
        let mut count = PerFamily::default();
        for name in names::list(&self.waiters())? {
            let path = self.waiters().join(name);
            if is_alive(&path)? {
                let text = crate::fs::read_optional(&path)?.unwrap_or_default();
                for family in Family::ALL {
                    *count.get_mut(family) += u64::from(tells(&text, family));
                }
            }
        }
        Ok(count)
    }

    /// Makes a lease as soon as there is an address of each family, or gives up.
    pub(super) fn wait(&self, request: &Request<'_>, mut short: Shortage) -> Result<Held, Error> {
        let begun = Instant::now();
        let end = begun + request.patience;
        let mut marker: Option<Marker> = None;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || !(short.growing || short.rest.is_some_and(|rest| rest < left)) {
                return Err(short.give_up(begun.elapsed()));
            }
            if !short.growing {
                marker = None;
            } else if marker.as_ref().is_none_or(|marker| marker.families != short.families) {
                marker = Some(self.mark(&request.attachment, short.families)?);
            }
            let seen = self.glimpse();
            short = match self.attempt(request)? {
                Ok(held) => return Ok(held),
                Err(short) => short,
            };
            self.wait_for_change(&seen, short.rest.unwrap_or(TRUST).min(TRUST).min(left));
        }
    }

    fn wait_for_change(&self, seen: &Glimpse, longest: Duration) {
        let end = Instant::now() + longest;
        while Instant::now() < end && self.glimpse() == *seen {
            thread::sleep(PAUSE.min(end.saturating_duration_since(Instant::now())));
        }
    }

    fn glimpse(&self) -> Glimpse {
        let look = |path: &Path| fs::metadata(path).ok().map(|m| (m.ino(), m.mtime(), m.mtime_nsec()));
        Glimpse([look(&self.node_file()), look(&self.claims())])
    }

    fn mark(&self, attachment: &AttachmentId, families: PerFamily<bool>) -> Result<Marker, FileError> {
        make_folder(&self.waiters())?;
        let _names = self.lock_names()?;
        let path = self.waiters().join(super::record_name(attachment));
        let failed = |source| FileError::new(Operation::Write, &path, source);
        let lines = super::lines(families.iter().filter(|(_, lacking)| **lacking).map(|(family, _)| family));
        let aside = super::aside(&path);
        let lock = crate::fs::write_new(&aside, lines.as_bytes(), 0o600).and_then(Lock::take).map_err(failed)?;
        fs::rename(&aside, &path).map_err(failed)?;
        Ok(Marker { path, families, lock })
    }

    /// Removes what processes left that died while they waited. Only under the lock.
    pub(super) fn tidy_waiters(&self) -> Result<(), FileError> {
        names::remove_unfinished(&self.waiters())?;
        for name in names::list(&self.waiters())? {
            let path = self.waiters().join(name);
            if !is_alive(&path)? {
                crate::fs::remove(&path)?;
            }
        }
        Ok(())
    }
}

impl Shortage {
    /// The error of a wait that ended in vain.
    pub(super) fn give_up(self, waited: Duration) -> Error {
        let hope = match self.rest {
            _ if self.growing => Hope::Block { waited },
            Some(left) => Hope::Rest { left },
            None => Hope::None,
        };
        Error::Exhausted { blocks: self.blocks, hope }
    }
}

fn tells(text: &[u8], family: Family) -> bool {
    String::from_utf8_lossy(text).lines().any(|line| line == family.to_string())
}

/// Whether the process lives whose marker this is.
fn is_alive(path: &Path) -> Result<bool, FileError> {
    let Some(file) = super::open(path)? else { return Ok(false) };
    let lock = Lock::try_take(file).map_err(|source| FileError::new(Operation::Lock, path, source))?;
    Ok(lock.is_none())
}
