//! Waiting for anything that concerns policies.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use towpath_kernel::leases::Store;
use towpath_kernel::policy::Events;

use super::{Inbox, PolicyError};
use crate::folders::Folders;
use crate::paths::Paths;

/// What ended a wait.
#[derive(Clone, Copy, Debug, Default)]
pub struct Woken {
    /// Leases came or went.
    pub leases: bool,
    /// Somebody else altered the table.
    pub is_altered: bool,
}

/// The kernel's events about the table, and the folder of leases.
pub struct Watch {
    events: Events,
    leases: Folders,
}

impl Watch {
    /// Watches from now on; what the socket of this number does is of no interest.
    pub fn new(ours: u32, paths: &Paths) -> Result<Self, PolicyError> {
        let events = Events::open(ours)?;
        let leases = Folders::watch(vec![Store::below(&paths.state).records()])
            .map_err(|source| PolicyError::Wait { what: "leases", source })?;
        Ok(Self { events, leases })
    }

    /// Watches the folder of leases that there is now; tells whether leases may have come or gone unseen.
    pub fn renew(&mut self) -> bool {
        self.leases.renew()
    }

    /// Waits for anything until a moment; also for packets that are denied, where the kernel tells of them.
    pub fn wait(
        &mut self,
        inbox: &Inbox,
        denied: Option<BorrowedFd<'_>>,
        until: Instant,
    ) -> Result<Woken, PolicyError> {
        let failed = |source| PolicyError::Wait { what: "events", source };
        let left = until.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).map_err(|error| failed(io::Error::other(error)))?;
        // What is there already wakes for the same again.
        let all = [inbox.fd(), self.events.as_fd(), self.leases.as_fd(), denied.unwrap_or_else(|| inbox.fd())];
        let mut fds = all.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(failed(error.into())),
        }
        let [news, kernel, leases, _] = fds.map(|fd| !fd.revents().is_empty());
        if news {
            inbox.silence();
        }
        let is_altered = kernel && self.events.drain().map_err(failed)?;
        let leases = leases && self.leases.drain().map_err(failed)?;
        Ok(Woken { leases, is_altered })
    }
}
