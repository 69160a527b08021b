//! The end of Towpath on a node.

use std::collections::BTreeMap;

use towpath_kernel::kernel::{Failure, Kernel as _, converge, sysctls_of};
use towpath_net::render::render_nothing;
use tracing::{info, warn};

use super::{LOOKS, Turns};
use crate::snapshot::Snapshot;
use crate::{cni_files, memory, rivals};

impl Turns {
    /// Brings the node back to how it was before Towpath came.
    pub fn leave(&mut self) {
        info!("Towpath leaves this node");
        if let Err(error) = cni_files::remove_all(&self.paths) {
            warn!(%error, "cannot remove a CNI file");
        }
        if let Err(error) = rivals::restore(&self.paths) {
            warn!(%error, "cannot put another network's CNI configuration back");
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
