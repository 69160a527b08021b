//! The policies of the node, and how they come into the kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::take;
use std::sync::Arc;
use std::time::Instant;

use towpath_control::client::Handle;
use towpath_control::message::Attached;
use towpath_kernel::conntrack::Connection;
use towpath_kernel::leases::Store;
use towpath_kernel::policy::{AnswersEnded, Error, PolicyTable, Repair, Written};
use towpath_net::policy::admission::Progress;
use towpath_net::policy::bind::{LeaseChanges, Leases, View};
use towpath_net::policy::bundle::{Bundle, Delta};
use towpath_net::policy::digest::Digests;
use towpath_net::policy::flows::{Suspects, is_forbidden};
use towpath_net::policy::program::{self, Program};
use towpath_net::policy::settings::{Established, LogDenied};
use tracing::{debug, info, warn};

use super::cut::Cutter;
use super::kept::{Kept, Recall};
use super::leased::{self, Leased};
use super::survey::Tally;
use super::{InForce, RETRY, Receipt, Remembered, Standing};
use crate::paths::Paths;

#[cfg(test)]
mod tests;

/// The policies of the node.
pub struct Policies {
    pub(super) table: PolicyTable,
    cutter: Cutter,
    handle: Handle,
    store: Store,
    kept: Kept,
    /// What was told last, were it an earlier agent: by its digests an operator tells what is different.
    pub(super) bundle: Bundle,
    /// Whether that holds: before an operator says so, or is waited for no longer, nothing is done.
    is_told: bool,
    /// From when on what an operator told an earlier agent is used, unless one tells something by then.
    patience: Option<Instant>,
    pub(super) leases: BTreeMap<String, Leased>,
    known: BTreeSet<String>,
    in_force: Arc<InForce>,
    /// Receipts of what is not in the kernel yet.
    owed: Vec<Receipt>,
    /// When the kernel first failed to take that.
    failed: Option<Instant>,
    is_settled: bool,
    tally: Tally,
}

impl Policies {
    /// Nothing was told yet; [`Self::recall`] goes on from what was told earlier.
    pub fn new(
        table: PolicyTable,
        cutter: Cutter,
        (handle, kept): (Handle, Kept),
        paths: &Paths,
        remembered: Option<Remembered>,
    ) -> Self {
        let (bundle, patience) = remembered.map(|Remembered { bundle, patience }| (bundle, patience)).unzip();
        let mut policies = Self {
            table,
            cutter,
            handle,
            known: BTreeSet::new(),
            store: Store::below(&paths.state),
            kept,
            is_told: false,
            bundle: bundle.unwrap_or_default(),
            patience: patience.map(|patience| Instant::now() + patience),
            leases: BTreeMap::new(),
            in_force: Arc::default(),
            owed: Vec::new(),
            failed: None,
            is_settled: true,
            tally: Tally::default(),
        };
        let leases = policies.read_leases();
        for (uid, pod) in &leases {
            policies.tell_operator(uid, Some(pod));
        }
        policies.leases = leases;
        if patience.is_some_and(|patience| patience.is_zero()) {
            // What changes from now on goes on from it.
            policies.kept.change();
            policies.keep_now();
        }
        policies
    }

    /// Whether the kernel has everything, as far as is known.
    pub const fn is_settled(&self) -> bool {
        self.is_settled
    }

    /// Which pods are in force.
    pub const fn in_force(&self) -> &Arc<InForce> {
        &self.in_force
    }

    /// What the node has.
    pub fn digests(&self) -> Digests {
        Digests::of(&self.bundle)
    }

    /// Goes on from what was told earlier, when it is time.
    pub fn recall(&mut self) -> Recall {
        match self.patience.filter(|_| !self.is_told) {
            None => Recall::Never,
            Some(at) if at > Instant::now() => Recall::At(at),
            Some(_) => {
                self.is_told = true;
                Recall::Now
            }
        }
    }

    /// Makes the kernel as it should be, whatever it has. What is right is not written.
    pub fn compare(&mut self) {
        if !self.is_told {
            return;
        }
        self.kept.look();
        let outcome = self.table.repair(&self.bundle, &self.addresses());
        match &outcome {
            Ok(Repair::Nothing) => {}
            Ok(repair) => {
                info!(?repair, "policies put right");
                self.tally.repaired();
                // Meanwhile anybody may have begun anything.
                self.cutter.suspect_everyone();
            }
            Err(error) => {
                warn!(%error, "policies are not in the kernel");
                self.give_up(error);
            }
        }
        self.settle(outcome.is_ok());
    }

    /// What the kernel still refuses when it is tried again it may refuse for ever. The operator hears why, for it tells nothing
    /// more before it has an answer, and so not what would undo it. It goes on being tried.
    fn give_up(&mut self, error: &Error) {
        let now = Instant::now();
        if !self.owed.is_empty() && *self.failed.get_or_insert(now) + RETRY <= now {
            refuse(take(&mut self.owed), error);
        }
    }

    /// Takes what the operator told.
    pub fn hear(&mut self, deltas: Vec<(Delta, Receipt)>) {
        let mut together = Delta::default();
        let mut receipts = Vec::new();
        for (delta, receipt) in deltas {
            match together.merge(delta) {
                Ok(()) => receipts.push(receipt),
                Err(misfit) => refuse(vec![receipt], &misfit),
            }
        }
        if receipts.is_empty() {
            return;
        }
        match self.bundle.preview(together) {
            Ok(effect) => self.go_on(effect, &LeaseChanges::new(), receipts),
            Err(misfit) => refuse(receipts, &misfit),
        }
    }

    /// Pods came or went.
    pub fn look_at_leases(&mut self) {
        let now = self.read_leases();
        let mut changes = LeaseChanges::new();
        for (uid, pod) in &now {
            let before = self.leases.get(uid);
            if before.is_none_or(|before| before.addresses != pod.addresses) {
                // Whoever knew it did not know all of these.
                self.known.remove(uid);
                changes.insert(uid.clone(), Some(pod.addresses.clone()));
            }
            if before != Some(pod) {
                self.tell_operator(uid, Some(pod));
            }
        }
        let gone: Vec<String> = self.leases.keys().filter(|uid| !now.contains_key(*uid)).cloned().collect();
        for uid in gone {
            self.tell_operator(&uid, None);
            self.known.remove(&uid);
            changes.insert(uid, None);
        }
        self.leases = now;
        if !changes.is_empty() {
            self.go_on(Delta::default(), &changes, Vec::new());
        }
    }

    /// The operator is told before the kernel: others need longer to know the pod than this node.
    fn tell_operator(&self, uid: &str, pod: Option<&Leased>) {
        match pod {
            Some(pod) => self.handle.attach(Attached {
                uid: uid.to_owned(),
                key: pod.key.clone(),
                addresses: pod.addresses.clone(),
                is_waiting: pod.is_joining,
            }),
            None => self.handle.detach(uid),
        }
    }

    /// Pods that are known wherever they must be.
    pub fn know(&mut self, known: Vec<String>) {
        if known.is_empty() {
            return;
        }
        self.known.extend(known.into_iter().filter(|uid| self.leases.contains_key(uid)));
        self.settle(self.is_settled);
    }

    /// Brings the table of the node back to nothing.
    pub fn leave(&mut self) {
        if let Err(error) = self.table.remove() {
            warn!(%error, "the table of policies stays");
        }
    }

    /// Goes on by what became different.
    fn go_on(&mut self, effect: Delta, leases: &LeaseChanges, receipts: Vec<Receipt>) {
        if !self.is_told && receipts.is_empty() {
            return;
        }
        let begun = Instant::now();
        self.kept.note(&effect);
        self.cutter.suspect(View { before: &self.bundle, delta: &effect }, self.table.program(), leases);
        let changed = self.table.change(&self.bundle, &effect, leases);
        if let Some(error) = self.unfit(&changed, &effect) {
            refuse(receipts, &error);
            self.kept.keep_now(&mut self.bundle);
            // What it would have taken away is as it was.
            self.cutter.suspect_everyone();
            return self.compare();
        }
        self.is_told = true;
        if !receipts.is_empty() {
            // What failed before says nothing of what came now.
            self.failed = None;
            self.owed.extend(receipts);
        }
        // It fits: it was previewed.
        _ = self.bundle.apply(effect);
        match changed {
            Ok(written) if written.transactions > 0 => {
                self.tally.changed(begun.elapsed(), &written);
                let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
                debug!(
                    transactions = written.transactions,
                    operations = written.operations,
                    micros,
                    "policies changed"
                );
                self.settle(true);
            }
            Ok(_) => self.settle(true),
            // An earlier attempt failed, or there was none yet: what the kernel has is found out.
            Err(Error::Unknown) => self.compare(),
            Err(error) => {
                warn!(%error, "a change of policies failed: all of them are compared");
                self.compare();
            }
        }
    }

    /// Why what comes of a change can be brought about on no kernel.
    fn unfit(&self, changed: &Result<Written, Error>, effect: &Delta) -> Option<program::Error> {
        match changed {
            Err(Error::Program(error)) => Some(error.clone()),
            // Nobody has looked at it.
            Err(Error::Unknown) => {
                let mut after = self.bundle.clone();
                after.apply(effect.clone()).ok()?;
                Program::of(&after, &self.addresses()).err()
            }
            _ => None,
        }
    }

    fn addresses(&self) -> Leases {
        self.leases.iter().map(|(uid, pod)| (uid.clone(), pod.addresses.clone())).collect()
    }

    fn settle(&mut self, is_settled: bool) {
        self.is_settled = is_settled;
        if !(is_settled && self.is_told) {
            return;
        }
        self.owed.drain(..).for_each(Receipt::done);
        let standing = |(uid, pod): (&String, &Leased)| {
            (uid.clone(), Standing { addresses: pod.addresses.clone(), progress: self.progress(uid) })
        };
        let pods = self.leases.iter().map(standing).collect();
        let now = InForce { is_enforced: Some(self.bundle.is_enforced), pods };
        if now != *self.in_force {
            if now.is_enforced != self.in_force.is_enforced {
                let what = if self.bundle.is_enforced { "policies are in force" } else { "no policies are in force" };
                info!(pods = now.pods.len(), "{what}");
            }
            self.in_force = Arc::new(now);
        }
    }

    /// How far a pod has come whose addresses the kernel knows.
    fn progress(&self, uid: &str) -> Progress {
        match self.bundle.pods.get(uid) {
            None => Progress::Bound,
            Some(pod) if pod.is_policed && !self.known.contains(uid) => Progress::InForce,
            Some(_) => Progress::Known,
        }
    }

    /// What was done, counted from now on by who is told of it.
    pub fn tally(&self) -> Tally {
        self.tally.clone()
    }

    /// Has the kernel tell of packets that are denied, or not.
    pub fn log(&mut self, log: LogDenied) {
        if let Err(error) = self.table.log(log) {
            warn!(%error, "the log of denied flows could not be changed: all policies are compared");
            self.compare();
        }
    }

    /// What users want of connections that a change forbids, where that is told.
    pub fn want(&mut self, established: Option<Established>) {
        if let Some(established) = established {
            self.cutter.want(established);
        }
    }

    /// Goes on with ending what is forbidden; tells when there is more to do. It comes behind the receipts: who waits for
    /// policies waits for what may begin, and not for what ends.
    pub fn cut(&mut self) -> Option<Instant> {
        if let Some((connections, suspects)) = self.cutter.found() {
            self.judge(connections, &suspects);
            return Some(Instant::now());
        }
        let program = self.table.program().filter(|_| self.is_settled && self.is_told)?;
        self.cutter.begin(&self.bundle, program)
    }

    fn judge(&mut self, mut connections: Vec<Connection>, suspects: &Suspects) {
        let Some(program) = self.table.program() else {
            // They are looked at when it is known again what the kernel has.
            return self.cutter.suspect_everyone();
        };
        connections.retain(|one| is_forbidden(&self.bundle, program.bound(), suspects, &one.packet));
        if connections.is_empty() {
            return;
        }
        match self.table.end_answers(&connections) {
            Ok(AnswersEnded { left_out: 0, .. }) => {}
            Ok(AnswersEnded { left_out, .. }) => {
                warn!(left_out, "more connections are cut than are remembered: whoever answers may begin them anew");
            }
            Err(error) => warn!(%error, "whoever answers on connections that are cut may begin them anew"),
        }
        self.cutter.cut(connections);
    }

    /// Keeps what was told for the next start; tells when that is due, where there is something to keep.
    pub fn keep(&mut self) -> Option<Instant> {
        self.kept.keep(&mut self.bundle)
    }

    /// Keeps what was told without waiting.
    pub fn keep_now(&mut self) {
        self.kept.keep_now(&mut self.bundle);
    }

    fn read_leases(&self) -> BTreeMap<String, Leased> {
        leased::read(&self.store).unwrap_or_else(|error| {
            warn!(%error, "cannot read the leases");
            self.leases.clone()
        })
    }
}

/// Nothing comes of these.
fn refuse(receipts: Vec<Receipt>, error: &impl ToString) {
    let reason = error.to_string();
    warn!(reason, "a change of policies is refused");
    for receipt in receipts {
        receipt.refuse(reason.clone());
    }
}
