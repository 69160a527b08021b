//! Waiting for anything that makes a turn due.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use inotify::{Inotify, WatchMask};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use towpath_kernel::events::Events;
use towpath_kernel::leases::Store;

use super::Inbox;
use crate::memory::make_folder;
use crate::paths::Paths;

/// The kernel's events, and those of our folders.
pub struct Watch {
    events: Events,
    folders: Inotify,
}

impl Watch {
    /// Watches the folders of leases and of pods that wait for one, of the node file, and of the runtime.
    pub fn new(events: Events, paths: &Paths) -> io::Result<Self> {
        let folders = Inotify::init()?;
        let mask = WatchMask::CLOSE_WRITE | WatchMask::CREATE | WatchMask::DELETE | WatchMask::MOVE;
        let leases = Store::below(&paths.state);
        let ours = [leases.records(), leases.waiters(), paths.state.clone()];
        for folder in ours.into_iter().chain([paths.cni_conf.clone(), paths.cni_bin.clone()]) {
            make_folder(&folder).map_err(io::Error::other)?;
            folders.watches().add(folder, mask)?;
        }
        Ok(Self { events, folders })
    }

    /// Waits until a turn is due, or for `longest`.
    pub fn wait(&mut self, inbox: &Inbox, longest: Duration) -> io::Result<()> {
        let deadline = Instant::now() + longest;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || self.poll(inbox, left)? {
                return Ok(());
            }
        }
    }

    /// Waits for any event; tells whether it concerns us.
    fn poll(&mut self, inbox: &Inbox, left: Duration) -> io::Result<bool> {
        let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
        let [routes, nftables] = self.events.fds();
        let mut fds =
            [routes, nftables, self.folders.as_fd(), inbox.fd()].map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let [kernel_a, kernel_b, folders, bell] = fds.map(|fd| !fd.revents().is_empty());
        let mut due = false;
        if kernel_a || kernel_b {
            due |= self.events.drain()?;
        }
        if folders {
            due |= self.drain_folders()?;
        }
        if bell {
            inbox.silence();
            due = true;
        }
        Ok(due)
    }

    fn drain_folders(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 4096];
        let mut any = false;
        loop {
            match self.folders.read_events(&mut buffer) {
                Ok(events) => any |= events.count() > 0,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(any),
                Err(error) => return Err(error),
            }
        }
    }
}
