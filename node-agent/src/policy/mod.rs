//! Who may talk to whom on this node: the one thread that owns the table of policies.
//!
//! ```text
//! operator --Delta--> inbox --+
//! leases (folder) ------------+--> Policies: Bundle, Leases --change--> kernel --> receipt, pods in force
//! kernel: altered by others --+                          \--repair--/
//!                                                         \--what is forbidden--> Cutter --> connections end
//! ```
//!
//! It is apart from the thread that owns the rest of the kernel, for a change of policies must not wait for a look at
//! thousands of routes.

mod cut;
mod gate;
mod in_force;
mod inbox;
mod policies;
mod receipt;
mod watch;

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::sync::watch::{Receiver, Sender, channel};
use towpath_control::client::Handle;
use towpath_control::snapshot;
use towpath_kernel::policy::PolicyTable;
use towpath_net::policy::bundle::Bundle;

use crate::paths::Paths;

pub use gate::{Admissions, Gate, GateError};
pub use in_force::{InForce, Standing};
pub use inbox::{Inbox, News};
pub use receipt::Receipt;

use cut::Cutter;
use policies::Policies;
use watch::Watch;

/// How often everything is compared with the kernel although nothing was heard of: an event can be lost.
const COMPARE: Duration = Duration::from_mins(5);
/// How soon what failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Why policies cannot be kept in force.
#[derive(Debug, Error)]
pub enum PolicyError {
    /// The kernel's socket could not be opened.
    #[error(transparent)]
    Table(#[from] towpath_kernel::policy::Error),
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
    /// The thread ended without a word.
    #[error("the thread that owns the policies panicked")]
    Panicked,
}

/// The thread, where it runs.
pub struct Worker {
    thread: thread::JoinHandle<Result<(), PolicyError>>,
    /// Where news goes.
    pub inbox: Inbox,
    /// Which pods have their policies in the kernel.
    pub in_force: Receiver<Arc<InForce>>,
}

impl Worker {
    /// Starts in this network namespace, with what an earlier one was told last.
    pub fn start(paths: &Paths, handle: Handle, remembered: Option<Bundle>) -> Result<Self, PolicyError> {
        let inbox = Inbox::new().map_err(|source| PolicyError::Wait { what: "news", source })?;
        let table = PolicyTable::open()?;
        let watch = Watch::new(table.port()?, paths)?;
        let (tell, in_force) = channel(Arc::default());
        let cutter =
            Cutter::start(inbox.clone()).map_err(|source| PolicyError::Wait { what: "connections", source })?;
        let policies = Policies::new(table, cutter, handle, paths, remembered);
        let mut work = Loop { watch, inbox: inbox.clone(), policies, tell };
        let thread = thread::Builder::new()
            .name("policy".to_owned())
            .spawn(move || work.run())
            .map_err(|source| PolicyError::Wait { what: "a thread", source })?;
        Ok(Self { thread, inbox, in_force })
    }

    /// Waits until the thread has ended.
    pub fn join(self) -> Result<(), PolicyError> {
        self.thread.join().unwrap_or(Err(PolicyError::Panicked))
    }
}

/// What the operator told last, where it is known.
pub fn remembered(paths: &Paths) -> Option<Bundle> {
    snapshot::load(&paths.policies()).map(|snapshot| snapshot.state.policy)
}

struct Loop {
    watch: Watch,
    inbox: Inbox,
    policies: Policies,
    tell: Sender<Arc<InForce>>,
}

impl Loop {
    fn run(&mut self) -> Result<(), PolicyError> {
        let mut due = Instant::now();
        loop {
            let News { deltas, asked, known, established, end } = self.inbox.take();
            if let Some(end) = end {
                if end == crate::worker::End::Leave {
                    self.policies.leave();
                }
                return Ok(());
            }
            self.policies.want(established);
            if due <= Instant::now() {
                self.policies.compare();
                due = Instant::now() + COMPARE;
            }
            self.policies.hear(deltas);
            self.policies.know(known);
            if !self.policies.is_settled() {
                due = due.min(Instant::now() + RETRY);
            }
            for asked in asked {
                // Whoever asked may have gone.
                _ = asked.send(self.policies.digests());
            }
            self.tell();
            let more = [self.policies.keep(), self.policies.cut()];
            let until = more.into_iter().flatten().fold(due, Instant::min);
            let woken = self.watch.wait(&self.inbox, until)?;
            if woken.is_altered {
                due = Instant::now();
            }
            if woken.leases {
                self.policies.look_at_leases();
            }
        }
    }

    fn tell(&self) {
        let now = self.policies.in_force();
        self.tell.send_if_modified(|last| {
            let changed = !Arc::ptr_eq(last, now);
            if changed {
                *last = Arc::clone(now);
            }
            changed
        });
    }
}
