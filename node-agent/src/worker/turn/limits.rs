//! Limits of pods' traffic: looked at from time to time, for no plan holds them.

use towpath_kernel::leases::Store;
use tracing::{info, warn};

use super::Turns;
use crate::drift::Drift;

impl Turns {
    /// Sets limits anew that were altered.
    pub(super) fn mend_limits(&mut self) {
        let store = Store::below(&self.paths.state);
        for lease in self.leases.iter().filter(|lease| lease.bandwidth.is_some()) {
            let attachment = lease.attachment();
            match self.kernel.mend_limits(&store, lease) {
                Ok(mended) => {
                    for direction in mended {
                        info!(%attachment, %direction, "set a limit anew that was altered by others");
                        let object = format!("limit of what {direction} {attachment}");
                        self.snapshot.drift.note_one(Drift::now(object, "set anew"));
                    }
                }
                Err(error) => warn!(%attachment, %error, "cannot look after the limits of a pod"),
            }
        }
    }
}
