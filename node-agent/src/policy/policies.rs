//! The policies of the node, and how they come into the kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use towpath_control::snapshot;
use towpath_control::update::State;
use towpath_kernel::leases::Store;
use towpath_kernel::policy::{Error, PolicyTable, Repair};
use towpath_net::policy::bind::{LeaseChanges, Leases};
use towpath_net::policy::bundle::{Bundle, Delta};
use towpath_net::policy::digest::Digests;
use tracing::{info, warn};

use super::Receipt;
use crate::paths::Paths;

/// Which pods have their policies in the kernel.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct InForce {
    /// Whether there is any policy.
    pub is_enforced: bool,
    /// The pods with addresses whose packets are judged, by `metadata.uid`.
    pub pods: BTreeSet<String>,
}

/// The policies of the node.
pub struct Policies {
    table: PolicyTable,
    store: Store,
    file: PathBuf,
    pace: snapshot::Pace,
    bundle: Bundle,
    /// Whether an operator ever told anything: before that nothing is known, and nothing is done.
    is_told: bool,
    leases: Leases,
    in_force: Arc<InForce>,
    /// Receipts of what is not in the kernel yet.
    owed: Vec<Arc<Receipt>>,
    is_settled: bool,
}

impl Policies {
    /// The policies that the operator told last, where it is known.
    pub fn new(table: PolicyTable, paths: &Paths, remembered: Option<Bundle>) -> Self {
        let mut policies = Self {
            table,
            store: Store::below(&paths.state),
            file: paths.policies(),
            pace: snapshot::Pace::default(),
            is_told: remembered.is_some(),
            bundle: remembered.unwrap_or_default(),
            leases: Leases::new(),
            in_force: Arc::default(),
            owed: Vec::new(),
            is_settled: true,
        };
        policies.leases = policies.read_leases();
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

    /// Makes the kernel as it should be, whatever it has. What is right is not written.
    pub fn compare(&mut self) {
        if !self.is_told {
            return;
        }
        let outcome = self.table.repair(&self.bundle, &self.leases);
        match &outcome {
            Ok(Repair::Nothing) => {}
            Ok(repair) => info!(?repair, "policies put right"),
            Err(error) => warn!(%error, "policies are not in the kernel"),
        }
        self.settle(outcome.is_ok());
    }

    /// Takes what the operator told.
    pub fn hear(&mut self, deltas: Vec<(Delta, Arc<Receipt>)>) {
        let mut together = Delta::default();
        let mut receipts = Vec::new();
        for (delta, receipt) in deltas {
            match together.merge(delta) {
                Ok(()) => receipts.push(receipt),
                Err(misfit) => receipt.refuse(misfit.to_string()),
            }
        }
        if receipts.is_empty() {
            return;
        }
        match self.bundle.preview(&together) {
            Ok(effect) => self.go_on(effect, &LeaseChanges::new(), receipts),
            Err(misfit) => receipts.iter().for_each(|receipt| receipt.refuse(misfit.to_string())),
        }
    }

    /// Pods came or went.
    pub fn look_at_leases(&mut self) {
        let now = self.read_leases();
        let changed = now.iter().filter(|(uid, addresses)| self.leases.get(*uid) != Some(*addresses));
        let changed = changed.map(|(uid, addresses)| (uid.clone(), Some(addresses.clone())));
        let gone = self.leases.keys().filter(|uid| !now.contains_key(*uid)).map(|uid| (uid.clone(), None));
        let changes: LeaseChanges = changed.chain(gone).collect();
        if changes.is_empty() {
            return;
        }
        self.leases = now;
        self.go_on(Delta::default(), &changes, Vec::new());
    }

    /// Brings the table of the node back to nothing.
    pub fn leave(&mut self) {
        if let Err(error) = self.table.remove() {
            warn!(%error, "the table of policies stays");
        }
    }

    /// Goes on by what became different.
    fn go_on(&mut self, effect: Delta, leases: &LeaseChanges, receipts: Vec<Arc<Receipt>>) {
        let first = !std::mem::replace(&mut self.is_told, self.is_told || !receipts.is_empty());
        self.owed.extend(receipts);
        if !self.is_told {
            return;
        }
        let begun = Instant::now();
        let changed = if first { Err(Error::Unknown) } else { self.table.change(&self.bundle, &effect, leases) };
        self.pace.change();
        // It fits: it was previewed.
        _ = self.bundle.apply(effect);
        match changed {
            Ok(written) if written.transactions > 0 => {
                let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
                info!(transactions = written.transactions, operations = written.operations, micros, "policies changed");
                self.settle(true);
            }
            Ok(_) => self.settle(true),
            // An earlier attempt failed, or there was none: what the kernel has is found out.
            Err(Error::Unknown) => self.compare(),
            Err(error) => {
                warn!(%error, "a change of policies failed: all of them are compared");
                self.compare();
            }
        }
        self.keep();
    }

    fn settle(&mut self, is_settled: bool) {
        self.is_settled = is_settled;
        if !is_settled {
            return;
        }
        self.owed.clear();
        let known = self.leases.keys().filter(|uid| self.bundle.pods.contains_key(*uid));
        let now = InForce { is_enforced: self.bundle.is_enforced, pods: known.cloned().collect() };
        if now != *self.in_force {
            self.in_force = Arc::new(now);
        }
    }

    /// Keeps what was told for the next start, where it is time.
    fn keep(&mut self) {
        let now = Instant::now();
        if self.pace.due(now).is_none_or(|left| !left.is_zero()) {
            return;
        }
        let state = State { peers: BTreeMap::new(), policy: std::mem::take(&mut self.bundle) };
        if let Err(error) = snapshot::save(&self.file, &[], &state) {
            warn!(%error, "cannot keep the policies for the next start");
        }
        self.bundle = state.policy;
        self.pace.written(now);
    }

    /// The addresses of pods, whether their interfaces are complete or not: a pod is judged before it can send.
    fn read_leases(&self) -> Leases {
        let listing = match self.store.read_all() {
            Ok(listing) => listing,
            Err(error) => {
                warn!(%error, "cannot read the leases");
                return self.leases.clone();
            }
        };
        let mut leases = Leases::new();
        for lease in listing.leases {
            let Some(pod) = lease.pod.filter(|pod| !pod.uid.is_empty()) else { continue };
            let addresses: Vec<IpAddr> = lease.addresses.iter().map(|leased| leased.address.addr()).collect();
            leases.entry(pod.uid).or_default().extend(addresses);
        }
        leases
    }
}
