//! Waiting for anything that makes a turn due.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use towpath_kernel::events::Events;
use towpath_kernel::leases::Store;
use towpath_net::mac::Mac;

use super::Inbox;
use crate::folders::Folders;
use crate::paths::Paths;

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Only what comes by the inbox: all else is the next turn's, which waits for its time.
    News,
    /// Anything that makes a turn due, as well.
    Anything,
}

/// What ended a wait.
#[derive(Clone, Copy, Debug)]
struct Woken {
    news: bool,
    turn_due: bool,
}

/// The kernel's events, and those of our folders.
pub struct Watch {
    events: Events,
    folders: Folders,
}

impl Watch {
    /// Watches the folders of leases and of pods that wait for one, of the node file, and of the runtime.
    pub fn new(events: Events, paths: &Paths) -> io::Result<Self> {
        let leases = Store::below(&paths.state);
        let ours = [leases.records(), leases.waiters(), paths.state.clone()];
        let all = ours.into_iter().chain([paths.cni_conf.clone(), paths.cni_bin.clone()]);
        Ok(Self { events, folders: Folders::watch(all.collect())? })
    }

    /// Watches the folders that there are now.
    pub fn renew(&mut self) {
        self.folders.renew();
    }

    /// Events that only tell of entries that the worker itself set or removed last are of no interest.
    pub fn overlook(&mut self, stations: &[Mac]) {
        self.events.overlook(stations);
    }

    /// Waits for what is wished for until a moment; tells whether a turn is due.
    pub fn wait(&mut self, inbox: &Inbox, wish: Wish, until: Instant) -> io::Result<bool> {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            let woken = self.poll(inbox, wish, left)?;
            if woken.turn_due || woken.news {
                return Ok(woken.turn_due);
            }
        }
    }

    /// Waits for any event.
    fn poll(&mut self, inbox: &Inbox, wish: Wish, left: Duration) -> io::Result<Woken> {
        let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
        let [routes, nftables] = self.events.fds();
        let mut fds =
            [inbox.fd(), routes, nftables, self.folders.as_fd()].map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
        let wished = match wish {
            Wish::News => &mut fds[..1],
            Wish::Anything => &mut fds[..],
        };
        match poll(wished, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let [news, kernel_a, kernel_b, folders] = fds.map(|fd| !fd.revents().is_empty());
        if news {
            inbox.silence();
        }
        let mut turn_due = false;
        if kernel_a || kernel_b {
            turn_due |= self.events.drain()?;
        }
        if folders {
            turn_due |= self.folders.drain()?;
        }
        Ok(Woken { news, turn_due })
    }
}
