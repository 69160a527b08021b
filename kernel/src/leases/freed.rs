//! Freed addresses rest before they are given again.
//!
//! A claim that is given up becomes `freed/ADDRESS`: a rename, which needs no room on a full disk. When it was freed is
//! in the file's time of modification, by the clock that counts from the start of the system (`CLOCK_BOOTTIME`), which
//! nobody sets and which goes on while the system sleeps.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
use rustix::time::{ClockId, clock_gettime};
use towpath_net::lease::Lease;
use towpath_net::usage::Freed;

use super::claims::{is_of, make_folder};
use super::{Store, names};
use crate::fs::{Error as FileError, Operation};

impl Store {
    pub(super) fn freed(&self) -> PathBuf {
        self.folder.join("freed")
    }

    /// How long an address still rests; nothing where it may be given.
    pub(super) fn rest_left(&self, address: IpAddr, rest: Duration) -> Option<Duration> {
        let path = self.freed().join(address.to_string());
        match age(&path) {
            Ok(age) => rest.checked_sub(age?).filter(|left| !left.is_zero()),
            // It cannot be told, so it is not given; ADD could write nothing there either.
            Err(_) => Some(rest),
        }
    }

    /// Lets the addresses of a lease rest that are its own.
    pub(super) fn free_addresses(&self, lease: &Lease) -> Result<(), FileError> {
        let attachment = lease.attachment();
        for leased in &lease.addresses {
            let address = leased.address.addr();
            let claim = self.claim(address);
            if claim.exists() && is_of(&claim, &attachment) {
                self.free(&claim, address)?;
            }
        }
        Ok(())
    }

    fn free(&self, claim: &Path, address: IpAddr) -> Result<(), FileError> {
        stamp(claim, now())?;
        let freed = self.freed().join(address.to_string());
        let failed = |source| FileError::new(Operation::Write, &freed, source);
        match fs::rename(claim, &freed) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make_folder(&self.freed())?;
                fs::rename(claim, &freed).map_err(failed)
            }
            other => other.map_err(failed),
        }
    }

    /// Gives the addresses of a lease up that no packet was ever sent to.
    pub(super) fn unclaim_addresses(&self, lease: &Lease) -> Result<(), FileError> {
        let attachment = lease.attachment();
        let claims = lease.addresses.iter().map(|leased| self.claim(leased.address.addr()));
        claims.filter(|claim| is_of(claim, &attachment)).try_for_each(|claim| crate::fs::remove(&claim))
    }

    /// All freed addresses that are remembered.
    pub(super) fn all_freed(&self, rest: Duration) -> Result<Vec<Freed>, FileError> {
        let mut all = Vec::new();
        for name in names::list(&self.freed())? {
            let path = self.freed().join(&name);
            if let (Some(address), Some(age)) = (name.to_str().and_then(|text| text.parse().ok()), age(&path)?) {
                all.push(Freed { address, age, resting: age < rest });
            }
        }
        Ok(all)
    }

    /// Forgets addresses that have rested, but for the last one of each block: it tells how long the block is unused.
    pub(super) fn forget_rested(&self, blocks: &[IpNet], rest: Duration) -> Result<(), FileError> {
        let freed = self.all_freed(rest)?;
        let last = |block: &IpNet| freed.iter().filter(|f| block.contains(&f.address)).min_by_key(|f| f.age);
        let kept: Vec<IpAddr> = blocks.iter().filter_map(last).map(|freed| freed.address).collect();
        for old in freed.iter().filter(|freed| !freed.resting && !kept.contains(&freed.address)) {
            crate::fs::remove(&self.freed().join(old.address.to_string()))?;
        }
        Ok(())
    }
}

/// How long ago a file was stamped; nothing where there is none. A stamp that cannot be true is set right: counted from
/// now, an address is neither given too early nor kept for ever.
pub(super) fn age(path: &Path) -> Result<Option<Duration>, FileError> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(FileError::new(Operation::Read, path, source)),
    };
    let now = now();
    let stamped = u64::try_from(metadata.mtime()).ok().zip(u32::try_from(metadata.mtime_nsec()).ok());
    match stamped.and_then(|(seconds, rest)| now.checked_sub(Duration::new(seconds, rest))) {
        Some(age) => Ok(Some(age)),
        None => stamp(path, now).map(|()| Some(Duration::ZERO)),
    }
}

pub(super) fn stamp(path: &Path, at: Duration) -> Result<(), FileError> {
    let failed = |errno: rustix::io::Errno| FileError::new(Operation::Write, path, errno.into());
    let time = Timespec { tv_sec: at.as_secs().cast_signed(), tv_nsec: at.subsec_nanos().into() };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)
}

/// Since the system started.
pub(super) fn now() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(time.tv_sec.try_into().unwrap_or_default(), time.tv_nsec.try_into().unwrap_or_default())
}
