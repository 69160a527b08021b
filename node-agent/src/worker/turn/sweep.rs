//! Leases: reading them, and ending those that nobody needs any more.

use std::time::{Duration, Instant};

use ipnet::IpNet;
use towpath_kernel::leases::{Broken, Store};
use towpath_net::lease::{Lease, Phase};
use towpath_net::observed::Observed;
use towpath_net::state::NodeSpec;
use tracing::{info, warn};

use super::Turns;
use crate::drift::Drift;
use crate::snapshot::Assignment;

/// How far two looks for pods that are gone are apart, where nothing speaks for one.
const SWEPT_APART: Duration = Duration::from_secs(30);
/// How many damaged leases are named.
const DAMAGED: usize = 3;

impl Turns {
    /// Ends what a killed CNI binary or a vanished pod left, when a pod has no link, and from time to time; tells
    /// whether anything was ended. Runtimes that ask for this themselves are rare.
    pub(super) fn sweep(&mut self, seen: &Observed) -> bool {
        let unlinked = self.leases.iter().any(|lease| !seen.links.contains_key(&lease.host_interface));
        let due = self.swept.is_none_or(|last| last.elapsed() >= SWEPT_APART);
        if !unlinked && !due {
            return false;
        }
        self.swept = Some(Instant::now());
        self.mend_limits();
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
                for attachment in &swept.adopted {
                    warn!(%attachment, "made a lost lease anew: the pod's host ports and limits are lost");
                    self.snapshot.drift.note_one(Drift::now(format!("lease {attachment}"), "made anew"));
                }
                if let Some(error) = &swept.untidy {
                    warn!(%error, "cannot tidy the leases");
                }
                !(swept.released.is_empty() && swept.adopted.is_empty())
            }
            Err(error) => {
                warn!(%error, "cannot look for pods that are gone");
                false
            }
        }
    }

    /// Counts the node's addresses. What drains may go to another node once the CNI binary cannot give an address of it
    /// any more, for which the store looks itself, and no route leads to a pod that lost its lease.
    pub(super) fn count_addresses(&mut self, assignment: &Assignment, seen: &Observed) {
        let store = Store::below(&self.paths.state);
        let NodeSpec { pod_cidrs, attachment, addressing, .. } = &assignment.state.spec;
        let grace = addressing.grace_seconds.map(|seconds| Duration::from_secs(seconds.into()));
        let counted = store.usage(pod_cidrs, *attachment, addressing).and_then(|usages| Ok((usages, store.waiting()?)));
        match counted {
            Ok((usages, waiting)) => {
                self.snapshot.addresses = self.tracker.look(&usages, &waiting, grace, Instant::now());
            }
            Err(error) => warn!(%error, "cannot count the addresses that pods have"),
        }
        let pods = seen.routes.iter().filter(|route| route.target.pod_link().is_some());
        let routed: Vec<IpNet> = pods.map(|route| route.destination).collect();
        let has_pods = |cidr: &IpNet| routed.iter().any(|pod| cidr.contains(pod));
        let is_drained = |cidr: &&IpNet| {
            !has_pods(cidr)
                && store.drained(cidr).unwrap_or_else(|error| {
                    warn!(%cidr, %error, "cannot tell whether a range is drained");
                    false
                })
        };
        self.snapshot.addresses.drained = addressing.draining.iter().filter(is_drained).copied().collect();
    }

    pub(super) fn read_leases(&mut self) -> Vec<Lease> {
        match Store::below(&self.paths.state).read_all() {
            Ok(listing) => {
                self.damaged = damaged(&listing.broken);
                listing.leases
            }
            Err(error) => {
                warn!(%error, "cannot read the leases");
                self.leases.clone()
            }
        }
    }
}

/// The first few damaged leases in words, and how many more there are.
fn damaged(broken: &[Broken]) -> Vec<String> {
    let named = broken.iter().take(DAMAGED).map(|lease| {
        format!(
            "{lease}: its pod's addresses and host ports are no longer healed; delete the pod, then remove that file"
        )
    });
    let more = broken.len().saturating_sub(DAMAGED);
    named.chain((more > 0).then(|| format!("{more} more leases are damaged"))).collect()
}
