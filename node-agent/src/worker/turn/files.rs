//! The files by which the runtime and the CNI binary are told.

use std::io;

use towpath_kernel::kernel::Report;
use towpath_net::observed::Target;
use towpath_net::ops::Op;
use towpath_net::render::Rendered;
use towpath_net::state::CniConflict;
use tracing::{info, warn};

use super::Turns;
use crate::cni_files::{self, NETWORK};
use crate::drift::Drift;
use crate::paths::CONFLIST;
use crate::rivals::{self, Rival, Rivals};
use crate::snapshot::Assignment;

impl Turns {
    /// The node file as soon as the MTU is known; the configuration file once the kernel has all that it can have.
    pub(super) fn write_files(
        &mut self,
        assignment: &Assignment,
        rendered: &Rendered,
        report: &Report,
    ) -> Result<(), cni_files::CniFilesError> {
        let Some(mtu) = rendered.mtu else { return Ok(()) };
        // A CIDR whose unused addresses are not dropped yet is not offered yet.
        let open = report.failed.iter().filter_map(|failure| match &failure.op {
            Op::AddRoute(route) | Op::ReplaceRoute(route) if route.target == Target::Blackhole => {
                Some(route.destination)
            }
            _ => None,
        });
        let open = open.collect::<Vec<_>>();
        cni_files::write_node_file(&self.paths, &assignment.state, mtu, &open, self.is_enforced)?;
        if !self.paths.is_node_known() {
            // It waits until somebody says whether there are policies.
            return Ok(());
        }
        if !report.failed.is_empty() {
            return Ok(());
        }
        for binary in self.binaries.install(&self.paths)? {
            info!(binary, "installed the CNI binary anew");
            self.snapshot.drift.note_one(Drift::now(format!("binary {binary}"), "installed anew"));
        }
        let had = self.snapshot.cni_installed;
        if cni_files::write_conflist(&self.paths)? {
            let object = format!("file {CONFLIST}");
            info!(object, "wrote the CNI configuration");
            if had {
                self.snapshot.drift.note_one(Drift::now(object, "written anew"));
            }
        }
        self.snapshot.cni_installed = true;
        Ok(())
    }

    /// Looks for CNI configurations of other networks, and moves them aside where that was declared; tells whether
    /// that is all for now.
    pub(super) fn look_for_rivals(&mut self, assignment: &Assignment) -> bool {
        match self.rivals(assignment) {
            Ok((rivals, finished)) => {
                let is_new = |rival: &&Rival| !self.snapshot.rivals.list.contains(rival);
                for Rival { file, content, standing, .. } in rivals.list.iter().filter(is_new) {
                    warn!(file, ?content, ?standing, "a CNI configuration of another network");
                }
                if let Some(failure) =
                    rivals.failure.as_ref().filter(|_| rivals.failure != self.snapshot.rivals.failure)
                {
                    warn!(failure, "cannot move another network's CNI configuration aside");
                }
                self.snapshot.rivals = rivals;
                finished
            }
            Err(error) => {
                warn!(%error, "cannot look for CNI configurations of other networks");
                true
            }
        }
    }

    fn rivals(&mut self, assignment: &Assignment) -> io::Result<(Rivals, bool)> {
        let folder = rivals::read(&self.paths.cni_conf)?;
        let moves = self.snapshot.cni_installed && assignment.state.spec.cni_conflict == CniConflict::Rename;
        let mut found = Rivals::default();
        for mut rival in rivals::judge(&folder.candidates, CONFLIST, NETWORK) {
            match if moves { self.asides.put_aside(&self.paths, &rival) } else { Ok(false) } {
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => found.failure = Some(error.to_string()),
            }
            rival.put_back = self.asides.put_back(&rival);
            found.list.push(rival);
        }
        found.aside = rivals::aside(&self.paths.cni_conf)?;
        Ok((found, !folder.unfinished))
    }
}
