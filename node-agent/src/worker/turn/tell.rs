//! What a turn tells of the node.

use std::collections::BTreeSet;
use std::net::IpAddr;

use towpath_kernel::kernel::{Failure, KernelError, Report};
use towpath_net::device::transport_of;
use towpath_net::node_address;
use towpath_net::observed::{Observed, Surroundings};
use towpath_net::ops::Op;
use towpath_net::render::Rendered;
use towpath_net::state::{AddressRule, NodeSpec};
use tracing::warn;

use super::Turns;
use crate::snapshot::{Applied, Assignment};

/// How many things that are amiss are named.
const NAMED: usize = 32;

impl Turns {
    /// Tells what came of a turn.
    pub(super) fn tell(
        &mut self,
        assignment: &Assignment,
        rendered: &Rendered,
        after: &Observed,
        report: &Report,
        others: impl Iterator<Item = String>,
    ) {
        let (missing, failed): (Vec<&Failure>, Vec<&Failure>) =
            report.failed.iter().partition(|failure| matches!(failure.error, KernelError::Unsupported { .. }));
        let unmade: BTreeSet<&str> = missing.iter().filter_map(|failure| failure.op.link()).collect();
        let is_alone = |failure: &&Failure| !failure.error.is_race() && !follows(failure, &unmade);
        let failures = failed.into_iter().filter(is_alone);
        let failures: Vec<String> = failures.map(|Failure { op, error }| format!("{op}: {error}")).collect();
        let conflicts = report.conflicts.iter().map(|to| {
            format!(
                "route {to}: somebody else has a route to the same destination; remove that route, or move spec.ipam"
            )
        });
        let found = self.find_addresses(&assignment.state.spec, &after.surroundings);
        let unfound = unfound(&assignment.state.spec, &found);
        let missing: BTreeSet<String> = missing.iter().copied().map(not_effective).collect();
        let obstacles = missing.into_iter().chain(unfound).chain(rendered.obstacles.iter().map(ToString::to_string));
        let obstacles = some(obstacles.chain(conflicts).chain(self.damaged.iter().cloned()));
        let failures = some(failures.into_iter().chain(others));
        for failure in failures.iter().filter(|f| !self.snapshot.failures.contains(f)) {
            warn!(failure, "cannot apply");
        }
        for obstacle in obstacles.iter().filter(|o| !self.snapshot.obstacles.contains(o)) {
            warn!(obstacle, "cannot be as declared");
        }
        self.snapshot.programmed = report.is_complete() && obstacles.is_empty() && failures.is_empty();
        self.snapshot.applied = Some(Applied::new(assignment, rendered.mtu, after));
        self.snapshot.node_addresses = found;
        self.snapshot.obstacles = obstacles;
        self.snapshot.failures = failures;
    }

    /// The addresses that the rule finds by which others are to reach this node; none where there is no rule.
    fn find_addresses(&mut self, spec: &NodeSpec, around: &Surroundings) -> Vec<IpAddr> {
        let Some(rule) = &spec.address_rule else { return Vec::new() };
        let mut sources = Vec::new();
        if let AddressRule::CanReach(addresses) = rule {
            for address in addresses {
                match self.kernel.source_toward(*address) {
                    Ok(source) => sources.extend(source),
                    Err(error) => warn!(%address, %error, "cannot tell which address packets would leave with"),
                }
            }
        }
        node_address::find(rule, around, &sources, &spec.addresses)
    }
}

/// What to do where a rule finds no address.
fn unfound(spec: &NodeSpec, found: &[IpAddr]) -> Option<String> {
    let rule = spec.address_rule.as_ref().filter(|_| found.is_empty())?;
    Some(match rule {
        AddressRule::Interfaces(names) => {
            let names = names.join(" or ");
            format!("no interface {names} of this node is up and has an address: see spec.nodeAddress.interfaces")
        }
        AddressRule::Cidrs(cidrs) => {
            format!("no address of this node is in {}: see spec.nodeAddress.cidrs", list(cidrs))
        }
        AddressRule::CanReach(to) => {
            format!("no route of this node leads to {}: see spec.nodeAddress.canReach", list(to))
        }
    })
}

/// The first of what may be as many as there are nodes, and how many more there are.
fn some(all: impl Iterator<Item = String>) -> Vec<String> {
    let mut all = all.fuse();
    let mut named: Vec<String> = all.by_ref().take(NAMED).collect();
    let more = all.count();
    named.extend((more > 0).then(|| format!("{more} more of this kind")));
    named
}

fn list(items: &[impl ToString]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ")
}

/// Whether what failed is about a link that could not be made: why it could not is told, and is all there is to say.
fn follows(failure: &Failure, unmade: &BTreeSet<&str>) -> bool {
    failure.op.link().is_some_and(|link| unmade.contains(link))
}

/// What cannot be on this kernel, in words.
fn not_effective(Failure { op, error }: &Failure) -> String {
    let transport = match op {
        Op::MakeDevice { name, .. }
        | Op::SetDevice { name, .. }
        | Op::SetCipher { link: name, .. }
        | Op::SetCipherPeer { link: name, .. } => transport_of(name),
        _ => None,
    };
    match transport {
        Some(transport) => format!("transport {transport} is not effective: {error}"),
        None => format!("{op}: {error}"),
    }
}
