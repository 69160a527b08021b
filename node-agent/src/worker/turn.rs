//! One turn: look, read, render, plan, apply, tell.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use towpath_kernel::host::HostKernel;
use towpath_kernel::kernel::{Failure, Kernel as _, KernelError, Report, converge, sysctls_of};
use towpath_kernel::leases::Store;
use towpath_net::lease::{Lease, Phase};
use towpath_net::node_file::NodeFile;
use towpath_net::observed::{Desired, Observed, Surroundings};
use towpath_net::ops::Op;
use towpath_net::render::{Rendered, render, render_nothing};
use tracing::{info, warn};

use crate::cni_files::{self, Binaries};
use crate::drift::Drift;
use crate::memory;
use crate::paths::Paths;
use crate::snapshot::{Applied, Assignment, Snapshot};

/// How often a look is repeated because something changed meanwhile.
const LOOKS: usize = 5;
/// How far two looks for pods that are gone are apart, where nothing speaks for one.
const SWEPT_APART: Duration = Duration::from_secs(30);

/// Does turns, and remembers what the last one left.
pub struct Turns {
    kernel: HostKernel,
    paths: Paths,
    assignment: Option<Assignment>,
    /// What the last turn brought about in full: whatever differs from it now is drift.
    brought_about: Option<Desired>,
    leases: Vec<Lease>,
    binaries: Binaries,
    damaged: Vec<PathBuf>,
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
            kernel,
            paths,
            assignment: None,
            brought_about: None,
            leases: Vec::new(),
            binaries: Binaries::default(),
            damaged: Vec::new(),
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
        let report = converge(&mut self.kernel, &rendered.desired, &seen);
        self.note_drift(&rendered.desired, &report);
        let after = if report.done.is_empty() { seen } else { self.kernel.observe(&sysctls_of(&rendered.desired))? };
        let files = self.write_files(assignment, &rendered, &report);
        let others = [kept.err().map(|error| error.to_string()), files.err().map(|error| error.to_string())];
        self.tell(assignment, &rendered, &after, &report, others.into_iter().flatten());
        let settled = report.failed.is_empty() && self.snapshot.failures.is_empty();
        self.brought_about = settled.then_some(rendered.desired);
        Ok(settled)
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
        let rendered = render(&assignment.state, &self.leases, &seen.surroundings);
        Ok(Look { seen, rendered })
    }

    /// Ends what a killed CNI binary or a vanished pod left, when a pod has no link, and from time to time; tells
    /// whether anything was ended. Runtimes that ask for this themselves are rare.
    fn sweep(&mut self, seen: &Observed) -> bool {
        let unlinked = self.leases.iter().any(|lease| !seen.links.contains_key(&lease.host_interface));
        let due = self.swept.is_none_or(|last| last.elapsed() >= SWEPT_APART);
        if !unlinked && !due {
            return false;
        }
        self.swept = Some(Instant::now());
        let ready = self.leases.iter().filter(|lease| lease.phase == Phase::Ready);
        for lease in ready.filter(|lease| !seen.links.contains_key(&lease.host_interface)) {
            let pod = lease.pod.clone().unwrap_or_default();
            let link = &lease.host_interface;
            warn!(
                namespace = pod.namespace,
                pod = pod.name,
                link,
                "a pod's link is gone: if it still runs, restart it"
            );
        }
        match self.kernel.sweep(&Store::below(&self.paths.state)) {
            Ok(swept) => {
                for attachment in &swept.released {
                    info!(%attachment, "freed the addresses of a pod that is gone");
                }
                for (attachment, error) in &swept.failed {
                    warn!(%attachment, %error, "cannot free the addresses of a pod that is gone");
                }
                !swept.released.is_empty()
            }
            Err(error) => {
                warn!(%error, "cannot look for pods that are gone");
                false
            }
        }
    }

    fn observe(&mut self, assignment: &Assignment) -> Result<Observed, KernelError> {
        let wanted = render(&assignment.state, &[], &Surroundings::default()).desired;
        self.kernel.observe(&sysctls_of(&wanted))
    }

    fn read_leases(&mut self) -> Vec<Lease> {
        match Store::below(&self.paths.state).read_all() {
            Ok(listing) => {
                let damaged: Vec<PathBuf> = listing.broken.iter().map(|broken| broken.path.clone()).collect();
                if damaged != self.damaged {
                    for broken in &listing.broken {
                        warn!(path = %broken.path.display(), reason = broken.reason, "a lease is damaged");
                    }
                    self.damaged = damaged;
                }
                listing.leases
            }
            Err(error) => {
                warn!(%error, "cannot read the leases");
                self.leases.clone()
            }
        }
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

    /// The node file as soon as the MTU is known; the configuration file once the kernel has all that it can have.
    fn write_files(
        &mut self,
        assignment: &Assignment,
        rendered: &Rendered,
        report: &Report,
    ) -> Result<(), cni_files::CniFilesError> {
        let Some(mtu) = rendered.mtu else { return Ok(()) };
        cni_files::write_node_file(&self.paths, &NodeFile::render(&assignment.state, mtu))?;
        if !report.failed.is_empty() {
            return Ok(());
        }
        self.binaries.install(&self.paths)?;
        let had = self.snapshot.cni_installed;
        if cni_files::write_conflist(&self.paths)? {
            let name = self.paths.conflist().file_name().unwrap_or_default().display().to_string();
            let object = format!("file {name}");
            info!(object, "wrote the CNI configuration");
            if had {
                self.snapshot.drift.note_one(Drift {
                    time: SystemTime::now(),
                    object,
                    change: "written anew".to_owned(),
                });
            }
        }
        self.snapshot.cni_installed = true;
        Ok(())
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
        let obstacles: Vec<String> = rendered.obstacles.iter().map(ToString::to_string).chain(conflicts).collect();
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

    /// Brings the node back to how it was before Towpath came.
    pub fn leave(&mut self) {
        info!("Towpath leaves this node");
        if let Err(error) = cni_files::remove_all(&self.paths) {
            warn!(%error, "cannot remove a CNI file");
        }
        let before = memory::settings_before(&self.paths).unwrap_or_else(|error| {
            warn!(%error, "settings stay as they are");
            BTreeMap::new()
        });
        let desired = render_nothing(before);
        // What others change meanwhile, and what goes by itself with a link, is left over after one pass.
        for _ in 0..LOOKS {
            match self.kernel.observe(&sysctls_of(&desired)) {
                Ok(seen) => {
                    let report = converge(&mut self.kernel, &desired, &seen);
                    for Failure { op, error } in report.failed.iter().filter(|failure| !failure.error.is_race()) {
                        warn!(%op, %error, "cannot bring back");
                    }
                    if report.done.is_empty() && report.failed.is_empty() {
                        break;
                    }
                }
                Err(error) => warn!(%error, "cannot look at the kernel"),
            }
        }
        if let Err(error) = cni_files::remove_state(&self.paths) {
            warn!(%error, "cannot empty the agent's folder");
        }
        self.assignment = None;
        self.snapshot = Snapshot::default();
    }
}

fn describe(Failure { op, error }: &Failure) -> String {
    let op: &Op = op;
    format!("{op}: {error}")
}
