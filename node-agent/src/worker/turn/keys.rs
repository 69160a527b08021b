//! Looking after the node's WireGuard keys: what of that is due between turns needs none.

use std::time::{Duration, Instant};

use towpath_kernel::kernel::Report;

use super::Turns;
use crate::keys::Tended;
use crate::snapshot::Assignment;

impl Turns {
    /// Does what is due about the keys when a turn has done what it could; tells whether the kernel has to be brought
    /// to match others now.
    pub(super) fn tend_keys_after(&mut self, assignment: &Assignment, report: &Report) -> bool {
        let period = assignment.state.spec.transport.tunnels.wire_guard.rotation_seconds;
        self.keys.greet(&mut self.kernel, &report.done, period);
        let tended = self.keys.tend(&mut self.kernel, period);
        self.snapshot.keys = self.keys.told();
        tended == Tended::Changed
    }

    /// When the keys have to be looked after next.
    pub fn keys_due(&self) -> Option<Instant> {
        self.keys.due_in().and_then(|left| Instant::now().checked_add(left))
    }

    /// Does what is due about the keys; tells whether a turn has to bring it about.
    pub fn tend_keys(&mut self) -> bool {
        let is_due = self.keys.due_in() == Some(Duration::ZERO);
        let Some(assignment) = self.assignment.as_ref().filter(|_| is_due) else { return false };
        let period = assignment.state.spec.transport.tunnels.wire_guard.rotation_seconds;
        let changed = self.keys.tend(&mut self.kernel, period) == Tended::Changed;
        if changed {
            self.basis = None;
        }
        changed
    }
}
