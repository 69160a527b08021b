//! One turn: look, read, render, plan, apply, tell.

mod files;
mod leaving;
mod limits;
mod sweep;

use std::time::{Instant, SystemTime};

use towpath_kernel::host::HostKernel;
use towpath_kernel::kernel::{Failure, Kernel as _, KernelError, Report, converge, sysctls_of};
use towpath_net::lease::Lease;
use towpath_net::observed::{Desired, Observed};
use towpath_net::ops::Op;
use towpath_net::render::{Rendered, render, settings_of};
use tracing::{info, warn};

use crate::addresses::Tracker;
use crate::cni_files::{self, Binaries};
use crate::memory;
use crate::paths::Paths;
use crate::rivals::Asides;
use crate::snapshot::{Applied, Assignment, Snapshot};

/// How often a look is repeated because something changed meanwhile.
const LOOKS: usize = 5;

/// Does turns, and remembers what the last one left.
pub struct Turns {
    kernel: HostKernel,
    paths: Paths,
    assignment: Option<Assignment>,
    /// What the last turn brought about in full: whatever differs from it now is drift.
    brought_about: Option<Desired>,
    leases: Vec<Lease>,
    binaries: Binaries,
    /// Leases that cannot be read, in words.
    damaged: Vec<String>,
    asides: Asides,
    tracker: Tracker,
    swept: Option<Instant>,
    snapshot: Snapshot,
    done: u64,
}

/// The node at one moment: the leases are those that the kernel state belongs to.
struct Look {
    seen: Observed,
    rendered: Rendered,
}

impl Turns {
    /// No turn was done yet.
    pub fn new(kernel: HostKernel, paths: Paths) -> Self {
        Self {
            asides: Asides::load(&paths),
            kernel,
            paths,
            assignment: None,
            brought_about: None,
            leases: Vec::new(),
            binaries: Binaries::default(),
            damaged: Vec::new(),
            tracker: Tracker::default(),
            swept: None,
            snapshot: Snapshot::default(),
            done: 0,
        }
    }

    /// What the next turn is to bring about.
    pub fn assign(&mut self, assignment: Assignment) {
        if let Err(error) = memory::keep_state(&self.paths, &assignment) {
            warn!(%error, "cannot keep the state for the next start");
        }
        self.assignment = Some(assignment);
    }

    /// How the node is.
    pub const fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// The kernel.
    pub const fn kernel(&self) -> &HostKernel {
        &self.kernel
    }

    /// How many turns were done.
    pub const fn done(&self) -> u64 {
        self.done
    }

    /// How many pods have leases.
    pub fn pods(&self) -> u64 {
        u64::try_from(self.leases.len()).unwrap_or(u64::MAX)
    }

    /// Does one turn; tells whether nothing is left to be tried again soon.
    pub fn turn(&mut self) -> bool {
        let Some(assignment) = self.assignment.clone() else { return true };
        self.done += 1;
        match self.bring_about(&assignment) {
            Ok(settled) => settled,
            Err(error) => {
                warn!(%error, "cannot look at the kernel");
                self.snapshot.programmed = false;
                self.snapshot.failures = vec![error.to_string()];
                false
            }
        }
    }

    fn bring_about(&mut self, assignment: &Assignment) -> Result<bool, KernelError> {
        let Look { seen, mut rendered } = self.look(assignment)?;
        let kept = memory::keep_settings(&self.paths, &seen.sysctls);
        if kept.is_err() {
            // Without this record the node could not be brought back to how it was: settings wait, the rest does not.
            rendered.desired.sysctls.clear();
        }
        let retracted = cni_files::retract(&self.paths, &assignment.state.spec);
        let report = converge(&mut self.kernel, &rendered.desired, &seen);
        self.note_drift(&rendered.desired, &report);
        let after = if report.done.is_empty() { seen } else { self.kernel.observe(&sysctls_of(&rendered.desired))? };
        let files = retracted.and_then(|()| self.write_files(assignment, &rendered, &report));
        let others = [kept.err().map(|error| error.to_string()), files.err().map(|error| error.to_string())];
        self.tell(assignment, &rendered, &after, &report, others.into_iter().flatten());
        self.count_addresses(assignment, &after);
        let settled = report.failed.is_empty() && self.snapshot.failures.is_empty();
        self.brought_about = settled.then_some(rendered.desired);
        Ok(self.look_for_rivals(assignment) && settled)
    }

    /// Looks at the kernel, then reads the leases; again where pods came or went in between, for the CNI binary writes
    /// leases before it touches the kernel, and removes them after.
    fn look(&mut self, assignment: &Assignment) -> Result<Look, KernelError> {
        let mut seen = self.observe(assignment)?;
        for _ in 0..LOOKS {
            let leases = self.read_leases();
            if leases == self.leases {
                break;
            }
            self.leases = leases;
            seen = self.observe(assignment)?;
        }
        if self.sweep(&seen) {
            self.leases = self.read_leases();
        }
        let rendered = render(&assignment.state, &self.leases, &seen.surroundings, None);
        Ok(Look { seen, rendered })
    }

    fn observe(&mut self, assignment: &Assignment) -> Result<Observed, KernelError> {
        self.kernel.observe(&settings_of(&assignment.state, &self.leases).into_keys().collect())
    }

    fn note_drift(&mut self, desired: &Desired, report: &Report) {
        if self.brought_about.as_ref() != Some(desired) {
            for op in &report.done {
                info!(%op, "applied");
            }
            return;
        }
        for op in &report.done {
            info!(%op, "put right what was altered by others");
        }
        self.snapshot.drift.note(SystemTime::now(), &report.done);
    }

    fn tell(
        &mut self,
        assignment: &Assignment,
        rendered: &Rendered,
        after: &Observed,
        report: &Report,
        others: impl Iterator<Item = String>,
    ) {
        let failures = report.failed.iter().filter(|failure| !failure.error.is_race()).map(describe);
        let conflicts = report.conflicts.iter().map(|to| {
            format!(
                "route {to}: somebody else has a route to the same destination; remove that route, or move spec.ipam"
            )
        });
        let obstacles = rendered.obstacles.iter().map(ToString::to_string).chain(conflicts);
        let obstacles: Vec<String> = obstacles.chain(self.damaged.iter().cloned()).collect();
        let failures: Vec<String> = failures.chain(others).collect();
        for failure in failures.iter().filter(|f| !self.snapshot.failures.contains(f)) {
            warn!(failure, "cannot apply");
        }
        for obstacle in obstacles.iter().filter(|o| !self.snapshot.obstacles.contains(o)) {
            warn!(obstacle, "cannot be as declared");
        }
        self.snapshot.programmed = report.is_complete() && obstacles.is_empty() && failures.is_empty();
        self.snapshot.applied = Some(Applied::new(assignment, rendered.mtu, after));
        self.snapshot.obstacles = obstacles;
        self.snapshot.failures = failures;
    }
}

fn describe(Failure { op, error }: &Failure) -> String {
    let op: &Op = op;
    format!("{op}: {error}")
}
