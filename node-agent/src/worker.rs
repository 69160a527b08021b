//! The one thread that owns the kernel.
//!
//! Each turn: look, read the leases, render, plan, apply, tell. A turn is due when the kernel, a lease or one of our
//! files changed, when the node's own part did, and from time to time because an event can be lost. What becomes of one
//! other node is brought about by itself, without a look at everything else.

mod inbox;
mod owed;
mod pace;
mod turn;
mod watch;

use std::thread;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use thiserror::Error;
use tokio::sync::watch::{Receiver, Sender};
use towpath_kernel::events::Events;
use towpath_kernel::host::{Handshakes, HostKernel};
use towpath_kernel::kernel::{Kernel as _, KernelError};
use towpath_kernel::leases::Store;
use towpath_kernel::sysctl::Sysctls;
use towpath_net::device::WIREGUARD;

use crate::memory::MemoryError;
use crate::paths::Paths;
use crate::policy::Receipt;
use crate::snapshot::Snapshot;

use inbox::Mail;
pub use inbox::{End, Inbox, News};
use owed::Owed;
use pace::Pace;
use turn::{Heard, Outcome, Turns};
use watch::{Watch, Wish};

/// How long settings can be altered without being looked at of which the kernel does not tell.
const SILENT: Duration = Duration::from_millis(400);

/// Why the worker cannot go on.
#[derive(Debug, Error)]
pub enum WorkerError {
    /// The kernel's sockets could not be opened.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The kernel's events could not be listened to.
    #[error("cannot listen to the kernel's events: {0}")]
    Events(#[from] towpath_kernel::netlink::Error),
    /// Folders could not be watched, or the thread not be woken.
    #[error("cannot wait for {what}: {source}")]
    Wait {
        /// What was waited for.
        what: &'static str,
        /// Why not.
        source: std::io::Error,
    },
    /// The folders of leases could not be made.
    #[error(transparent)]
    Leases(#[from] towpath_kernel::fs::Error),
    /// What the agent must remember could not be read.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The thread ended without a word.
    #[error("the thread that owns the kernel panicked")]
    Panicked,
}

/// What the worker counts, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Turns done.
    pub turns: u64,
    /// Writes to the kernel.
    pub writes: u64,
    /// Pods that have leases.
    pub pods: u64,
    /// Handshakes with peers on each WireGuard device; nothing where it is not there.
    pub handshakes: [Option<Handshakes>; 2],
}

/// A worker that runs.
pub struct Worker {
    thread: thread::JoinHandle<Result<(), WorkerError>>,
    /// Where news goes.
    pub inbox: Inbox,
    /// How the node is.
    pub snapshots: Receiver<Snapshot>,
    /// What was done.
    pub counts: Receiver<Counts>,
}

impl Worker {
    /// Starts a worker in this network namespace, with the state that an earlier one was given last.
    pub fn start(paths: Paths) -> Result<Self, WorkerError> {
        let inbox = Inbox::new().map_err(|source| WorkerError::Wait { what: "news", source })?;
        let (snapshot, snapshots) = tokio::sync::watch::channel(Snapshot::default());
        let (count, counts) = tokio::sync::watch::channel(Counts::default());
        Store::below(&paths.state).make_folders()?;
        let kernel = HostKernel::open(Sysctls::below(&paths.sysctls))?;
        let events = Events::open(kernel.ports()?)?;
        let watch = Watch::new(events, &paths).map_err(|source| WorkerError::Wait { what: "folders", source })?;
        let turns = Turns::remembering(kernel, paths)?;
        let mut work = Loop { watch, inbox: inbox.clone(), snapshot, count, turns, owed: Owed::new() };
        let thread = thread::Builder::new()
            .name("kernel".to_owned())
            .spawn(move || work.run())
            .map_err(|source| WorkerError::Wait { what: "a thread", source })?;
        Ok(Self { thread, inbox, snapshots, counts })
    }

    /// Whether the thread has ended.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits until the thread has ended.
    pub fn join(self) -> Result<(), WorkerError> {
        self.thread.join().unwrap_or(Err(WorkerError::Panicked))
    }
}

struct Loop {
    watch: Watch,
    inbox: Inbox,
    snapshot: Sender<Snapshot>,
    count: Sender<Counts>,
    turns: Turns,
    owed: Owed,
}

impl Loop {
    fn run(&mut self) -> Result<(), WorkerError> {
        let mut pace = Pace::new(Instant::now());
        loop {
            let Mail { news, receipts, look, end } = self.inbox.take();
            match end {
                Some(End::Stop) => return Ok(()),
                Some(End::Leave) => {
                    self.turns.leave();
                    self.tell();
                    return Ok(());
                }
                None => {}
            }
            let heard = self.turns.hear(news);
            self.owed.hear(receipts, heard);
            if heard == Heard::BroughtAbout {
                self.watch.overlook(self.turns.stations());
                self.tell();
            }
            if look || heard == Heard::TurnDue || self.turns.tend_keys() {
                pace.hurry();
            }
            if pace.next() <= Instant::now() {
                self.turn(&mut pace);
            }
            let wish = if pace.hurries() { Wish::News } else { Wish::Anything };
            let until = self.turns.keys_due().map_or(pace.next(), |due| due.min(pace.next()));
            let altered = if pace.is_settled() { self.turns.silently_altered() } else { None };
            let until = altered.map_or(until, |_| until.min(Instant::now() + SILENT));
            if altered == Some(true) && wish == Wish::Anything || self.wait(wish, until)? {
                pace.hurry();
            }
        }
    }

    fn turn(&mut self, pace: &mut Pace) {
        let (start, before) = (Instant::now(), processor_time());
        self.watch.renew();
        let outcome = self.turns.turn();
        self.owed.turned(outcome);
        self.tell();
        let settled = outcome == Outcome::Settled;
        pace.done(Instant::now(), start.elapsed(), processor_time().saturating_sub(before), settled);
    }

    fn wait(&mut self, wish: Wish, until: Instant) -> Result<bool, WorkerError> {
        self.watch.wait(&self.inbox, wish, until).map_err(|source| WorkerError::Wait { what: "events", source })
    }

    fn tell(&self) {
        let snapshot = self.turns.snapshot();
        self.snapshot.send_if_modified(|last| {
            let changed = last != snapshot;
            if changed {
                last.clone_from(snapshot);
            }
            changed
        });
        self.count.send_replace(Counts {
            turns: self.turns.done(),
            writes: self.turns.kernel().writes(),
            pods: self.turns.pods(),
            handshakes: WIREGUARD.map(|link| self.turns.kernel().handshakes(link)),
        });
    }
}

/// What this thread has had of the processor (`CLOCK_THREAD_CPUTIME_ID`).
fn processor_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}
