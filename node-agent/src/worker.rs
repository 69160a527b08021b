//! The one thread that owns the kernel.
//!
//! Each turn: look, read the leases, render, plan, apply, tell. A turn is due when the kernel, a lease or one of our
//! files changed, when a new assignment came, and from time to time because an event can be lost.

mod inbox;
mod turn;
mod watch;

use std::thread;
use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::sync::watch::{Receiver, Sender};
use towpath_kernel::events::Events;
use towpath_kernel::host::HostKernel;
use towpath_kernel::kernel::{Kernel as _, KernelError};
use towpath_kernel::leases::Store;
use towpath_kernel::sysctl::Sysctls;

use crate::paths::Paths;
use crate::snapshot::Snapshot;

pub use inbox::{Inbox, Task};
use turn::Turns;
use watch::Watch;

/// How long a turn may wait for an event: the full comparison that makes up for lost ones.
const SLOW: Duration = Duration::from_secs(10);
/// How soon what failed is tried again.
const RETRY: Duration = Duration::from_millis(250);
/// How far two turns are apart at least: whatever happens meanwhile is one turn's work.
const APART: Duration = Duration::from_millis(2);
/// How far they are apart at most, however long one takes: what is altered is healed well within a second.
const FAR_APART: Duration = Duration::from_millis(250);

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
}

/// A worker that runs.
pub struct Worker {
    thread: thread::JoinHandle<Result<(), WorkerError>>,
    /// Where assignments go.
    pub inbox: Inbox,
    /// How the node is.
    pub snapshots: Receiver<Snapshot>,
    /// What was done.
    pub counts: Receiver<Counts>,
}

impl Worker {
    /// Starts a worker in this network namespace.
    pub fn start(paths: Paths) -> Result<Self, WorkerError> {
        let inbox = Inbox::new().map_err(|source| WorkerError::Wait { what: "assignments", source })?;
        let (snapshot, snapshots) = tokio::sync::watch::channel(Snapshot::default());
        let (count, counts) = tokio::sync::watch::channel(Counts::default());
        Store::below(&paths.state).make_folders()?;
        let kernel = HostKernel::open(Sysctls::below(&paths.sysctls))?;
        let watch =
            Watch::new(Events::open()?, &paths).map_err(|source| WorkerError::Wait { what: "folders", source })?;
        let mut work = Loop { watch, inbox: inbox.clone(), snapshot, count, turns: Turns::new(kernel, paths) };
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
}

impl Loop {
    fn run(&mut self) -> Result<(), WorkerError> {
        loop {
            match self.inbox.take() {
                Some(Task::Stop) => return Ok(()),
                Some(Task::Leave) => {
                    self.turns.leave();
                    self.tell();
                    return Ok(());
                }
                Some(Task::Assign(assignment)) => self.turns.assign(*assignment),
                None => {}
            }
            let start = Instant::now();
            let settled = self.turns.turn();
            self.tell();
            // A long turn means large tables: at least as much time goes to others.
            thread::sleep((start.elapsed() * 2).clamp(APART, FAR_APART));
            let wait = if settled { SLOW } else { RETRY };
            self.watch.wait(&self.inbox, wait).map_err(|source| WorkerError::Wait { what: "events", source })?;
        }
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
        });
    }
}
