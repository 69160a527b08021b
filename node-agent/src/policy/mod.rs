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
mod denied;
mod explain;
mod gate;
mod in_force;
mod inbox;
mod kept;
mod lasting;
mod leased;
mod policies;
mod receipt;
mod rounds;
mod survey;
mod watch;

use std::sync::Arc;
use std::thread;
use std::time::Instant;

use thiserror::Error;
use tokio::sync::watch::{Receiver, Sender, channel};
use towpath_control::client::Handle;
use towpath_kernel::policy::PolicyTable;
use towpath_net::policy::settings::FlowLog;

use crate::paths::Paths;
use crate::worker::End;

pub use gate::{Admissions, Gate, GateError};
pub use in_force::{InForce, Standing};
pub use inbox::{Inbox, News};
pub use kept::{Remembered, remembered};
pub use receipt::Receipt;
pub use survey::{Survey, Surveyed, Tally};

use cut::Cutter;
use denied::Denials;
use kept::{Kept, Recall};
use policies::Policies;
use rounds::{RETRY, Round, Rounds};
use watch::Watch;

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
    /// What was done.
    pub tally: Tally,
}

impl Worker {
    /// Starts in this network namespace, with what an earlier one was told last.
    pub fn start(paths: &Paths, handle: Handle, remembered: Option<Remembered>) -> Result<Self, PolicyError> {
        let inbox = Inbox::new().map_err(|source| PolicyError::Wait { what: "news", source })?;
        let table = PolicyTable::open()?;
        let watch = Watch::new(table.port()?, paths)?;
        let (tell, in_force) = channel(Arc::default());
        let cutter =
            Cutter::start(inbox.clone()).map_err(|source| PolicyError::Wait { what: "connections", source })?;
        let kept = Kept::start(paths).map_err(|source| PolicyError::Wait { what: "a disk", source })?;
        let policies = Policies::new(table, cutter, (handle, kept), paths, remembered);
        let tally = policies.tally();
        let mut work = Loop { watch, inbox: inbox.clone(), policies, denials: Denials::default(), tell };
        let thread = thread::Builder::new()
            .name("policy".to_owned())
            .spawn(move || work.run())
            .map_err(|source| PolicyError::Wait { what: "a thread", source })?;
        Ok(Self { thread, inbox, in_force, tally })
    }

    /// Waits until the thread has ended.
    pub fn join(self) -> Result<(), PolicyError> {
        self.thread.join().unwrap_or(Err(PolicyError::Panicked))
    }
}

struct Loop {
    watch: Watch,
    inbox: Inbox,
    policies: Policies,
    denials: Denials,
    tell: Sender<Arc<InForce>>,
}

impl Loop {
    fn run(&mut self) -> Result<(), PolicyError> {
        let mut rounds = Rounds::new(Instant::now());
        loop {
            let News { deltas, asked, known, established, log, surveys, look, end } = self.inbox.take();
            if let Some(end) = end {
                match end {
                    End::Leave => self.policies.leave(),
                    End::Stop => self.policies.keep_now(),
                }
                return Ok(());
            }
            self.policies.want(established);
            self.listen(log);
            let recalled = self.policies.recall();
            if recalled == Recall::Now {
                rounds.hurry(Instant::now());
            }
            if let Some(round) = rounds.take(Instant::now(), look) {
                self.go_round(round);
            }
            self.policies.hear(deltas);
            self.policies.know(known);
            if !self.policies.is_settled() {
                rounds.retry(Instant::now());
            }
            for asked in asked {
                // Whoever asked may have gone.
                _ = asked.send(self.policies.digests());
            }
            for asked in surveys {
                _ = asked.send(self.policies.survey());
            }
            self.tell();
            let more = [self.policies.keep(), self.policies.cut(), recalled.at(), self.denials.due()];
            let until = more.into_iter().flatten().fold(rounds.next(), Instant::min);
            let woken = self.watch.wait(&self.inbox, self.denials.fd(), until)?;
            if woken.is_altered {
                rounds.hurry(Instant::now());
            }
            if woken.leases {
                self.policies.look_at_leases();
            }
            self.denials.take().iter().for_each(|denied| self.policies.tell_denied(denied));
        }
    }

    /// Looks at what nothing may have told of. Where the folder of leases is another one, all that is in it is news.
    fn go_round(&mut self, round: Round) {
        if self.watch.renew() || round == Round::All {
            self.policies.look_at_leases();
        }
        if round == Round::All {
            self.policies.compare();
        }
    }

    /// The kernel tells of what is denied for as long as somebody listens.
    fn listen(&mut self, wanted: Option<FlowLog>) {
        if let Some(wanted) = wanted {
            self.denials.want(wanted);
        }
        let log = self.denials.listen();
        self.policies.log(log);
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
