//! One turn: look, read, render, plan, apply, tell.

mod files;
mod hear;
mod keys;
mod leaving;
mod limits;
mod sweep;
mod tell;

use std::collections::BTreeMap;
use std::time::{Instant, SystemTime};

use towpath_kernel::host::HostKernel;
use towpath_kernel::kernel::{Kernel as _, KernelError, converge};
use towpath_net::lease::Lease;
use towpath_net::mac::Mac;
use towpath_net::observed::{Observed, Surroundings, Sysctl};
use towpath_net::ops::Op;
use towpath_net::peer_change::Others;
use towpath_net::render::{Rendered, render, settings_of};
use tracing::{debug, info, warn};

use crate::addresses::Tracker;
use crate::cni_files::{self, Binaries};
use crate::keys::Keeper;
use crate::memory::{self, Journal, MemoryError};
use crate::paths::Paths;
use crate::rivals::Asides;
use crate::snapshot::{Assignment, Snapshot};

pub use hear::Heard;

/// How often a look is repeated because something changed meanwhile.
const LOOKS: usize = 5;
/// How many operations are told one by one.
const TOLD: usize = 32;

/// What a turn came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing is left to be tried again soon.
    Settled,
    /// What could be done is done, and something is left.
    Partial,
    /// The kernel could not be looked at: nothing was done.
    Blind,
}

/// Does turns, and remembers what the last one left.
pub struct Turns {
    kernel: HostKernel,
    paths: Paths,
    journal: Journal,
    assignment: Option<Assignment>,
    /// What a turn brought about in full rests on this; nothing where none did, or where anything else that is rendered has
    /// changed since. Equal input gives an equal desired state: what differs from it now is drift.
    basis: Option<Basis>,
    leases: Vec<Lease>,
    binaries: Binaries,
    /// Leases that cannot be read, in words.
    damaged: Vec<String>,
    asides: Asides,
    tracker: Tracker,
    keys: Keeper,
    swept: Option<Instant>,
    /// Whether there are policies; nothing before anybody told.
    is_enforced: Option<bool>,
    snapshot: Snapshot,
    /// Entries of forwarding tables that were set or removed since the last turn.
    stations: Vec<Mac>,
    /// Settings of which the kernel does not tell when they change, as they should be.
    silent: BTreeMap<Sysctl, String>,
    done: u64,
}

/// What a desired state was rendered from, besides the assignment and the leases.
struct Basis {
    around: Surroundings,
    /// What must be known of all nodes to change one alone; nothing where that cannot be.
    others: Option<Others>,
}

/// The node at one moment: the leases are those that the kernel state belongs to.
struct Look {
    seen: Observed,
    rendered: Rendered,
}

impl Turns {
    /// No turn was done yet. The last state is good until a source says otherwise: the node heals before any API server
    /// answers. Where the node started since, there is nothing to heal, and its ranges may be another's now: it waits for a
    /// source.
    pub fn remembering(kernel: HostKernel, paths: Paths) -> Result<Self, MemoryError> {
        let mut journal = Journal::default();
        let assignment = match journal.read(&paths) {
            Ok(assignment) => assignment.filter(|_| paths.is_node_known()),
            Err(error @ MemoryError::Damaged { .. }) => {
                warn!(%error, "the last state is lost");
                None
            }
            Err(error) => return Err(error),
        };
        if let Some(last) = &assignment {
            info!(revision = %last.state.spec.revision, "starting from the last state");
        } else {
            info!("waiting for this node's state");
        }
        Ok(Self {
            asides: Asides::load(&paths),
            keys: Keeper::new(paths.wireguard_keys()),
            kernel,
            paths,
            journal,
            assignment,
            basis: None,
            leases: Vec::new(),
            binaries: Binaries::default(),
            damaged: Vec::new(),
            tracker: Tracker::default(),
            swept: None,
            is_enforced: None,
            snapshot: Snapshot::default(),
            stations: Vec::new(),
            silent: BTreeMap::new(),
            done: 0,
        })
    }

    /// How the node is.
    pub const fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// The kernel.
    pub const fn kernel(&self) -> &HostKernel {
        &self.kernel
    }

    /// The Ethernet addresses of entries that were set or removed for other nodes alone: the kernel tells of them, and
    /// does not tell by whom.
    pub fn stations(&self) -> &[Mac] {
        &self.stations
    }

    /// Whether settings were altered of which the kernel does not tell; `None` where there are none to be looked at.
    pub fn silently_altered(&self) -> Option<bool> {
        (!self.silent.is_empty()).then(|| !self.kernel.are_set(&self.silent))
    }

    /// How many turns were done.
    pub const fn done(&self) -> u64 {
        self.done
    }

    /// How many pods have leases.
    pub fn pods(&self) -> u64 {
        u64::try_from(self.leases.len()).unwrap_or(u64::MAX)
    }

    /// Does one turn.
    pub fn turn(&mut self) -> Outcome {
        let Some(assignment) = self.assignment.take() else { return Outcome::Settled };
        self.done += 1;
        self.stations.clear();
        let outcome = self.bring_about(&assignment);
        self.assignment = Some(assignment);
        match outcome {
            Ok(true) => Outcome::Settled,
            Ok(false) => Outcome::Partial,
            Err(error) => {
                warn!(%error, "cannot look at the kernel");
                self.basis = None;
                self.snapshot.programmed = false;
                self.snapshot.failures = vec![error.to_string()];
                Outcome::Blind
            }
        }
    }

    /// Tells whether nothing is left to be tried again soon.
    fn bring_about(&mut self, assignment: &Assignment) -> Result<bool, KernelError> {
        let Look { seen, mut rendered } = self.look(assignment)?;
        let own = seen.sysctls.iter().filter(|(key, _)| key.link().is_none());
        let kept = memory::keep_settings(&self.paths, own.map(|(key, value)| (key.clone(), value.clone())).collect());
        if kept.is_err() {
            // Without this record the node could not be brought back to how it was: settings wait, the rest does not.
            rendered.desired.sysctls.clear();
        }
        let retracted = cni_files::retract(&self.paths, &assignment.state.spec);
        let report = converge(&mut self.kernel, &rendered.desired, &seen);
        let is_drift = self.basis.as_ref().is_some_and(|basis| basis.around == seen.surroundings);
        self.note(&report.done, is_drift);
        let after = if report.done.is_empty() {
            seen
        } else {
            // Both may be large.
            drop(seen);
            self.observe(assignment)?
        };
        let silent = rendered.desired.sysctls.iter().filter(|(key, _)| key.is_silent());
        self.silent = silent.map(|(key, value)| (key.clone(), value.clone())).collect();
        let files = retracted.and_then(|()| self.write_files(assignment, &rendered, &report));
        let others = [kept.err().map(|error| error.to_string()), files.err().map(|error| error.to_string())];
        self.tell(assignment, &rendered, &after, &report, others.into_iter().flatten());
        self.count_addresses(assignment, &after);
        let settled = report.failed.is_empty() && self.snapshot.failures.is_empty();
        let keys = self.keys.keys();
        let others = Others::of(&assignment.state, &after.surroundings, keys.as_ref(), &rendered);
        let others = others.filter(|_| report.conflicts.is_empty());
        // What others are told of the keys does not wait for what failed.
        let keys_changed = self.tend_keys_after(assignment, &report);
        let settled = settled && !keys_changed;
        // What failed was drift, and is no less so when it is tried again.
        let before = self.basis.take().filter(|_| is_drift && !keys_changed);
        self.basis = if settled {
            Some(Basis { around: after.surroundings, others })
        } else {
            before.map(|Basis { around, .. }| Basis { around, others: None })
        };
        Ok(self.look_for_rivals(assignment) && settled)
    }

    /// Looks at the kernel, then reads the leases; again where pods came or went in between, for the CNI binary writes
    /// leases before it touches the kernel, and removes them after.
    fn look(&mut self, assignment: &Assignment) -> Result<Look, KernelError> {
        let mut seen = self.observe(assignment)?;
        for _ in 0..LOOKS {
            if !self.learn_leases() {
                break;
            }
            seen = self.observe(assignment)?;
        }
        if self.sweep(&seen) {
            self.learn_leases();
        }
        let keys = self.keys.ready(&mut self.kernel, &assignment.state.spec.transport);
        let rendered = render(&assignment.state, &self.leases, &seen.surroundings, keys.as_ref());
        Ok(Look { seen, rendered })
    }

    /// Reads the leases; tells whether they are others than before.
    fn learn_leases(&mut self) -> bool {
        let leases = self.read_leases();
        if leases == self.leases {
            return false;
        }
        self.leases = leases;
        self.basis = None;
        true
    }

    fn observe(&mut self, assignment: &Assignment) -> Result<Observed, KernelError> {
        self.kernel.observe(&settings_of(&assignment.state, &self.leases).into_keys().collect())
    }

    fn note(&mut self, done: &[Op], is_drift: bool) {
        if is_drift {
            log(done, "put right what was altered by others");
            self.snapshot.drift.note(SystemTime::now(), done);
        } else {
            log(done, "applied");
        }
    }
}

/// Tells what was done; of many operations only how many they were.
fn log(done: &[Op], what: &'static str) {
    if done.len() <= TOLD {
        for op in done {
            info!(%op, "{what}");
        }
        return;
    }
    info!(operations = done.len(), "{what}");
    for op in done {
        debug!(%op, "{what}");
    }
}
