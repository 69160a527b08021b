//! What is claimed of a node, in the words of its conditions.

use towpath_crds::conditions::{Claim, ConditionType};

use super::contest;
use crate::snapshot::Snapshot;
use crate::strangers::Strangers;

/// The claims about a node; none about other networks while nothing is known of their pods: what was said of them last
/// stays.
pub fn of(snapshot: &Snapshot, strangers: Option<&Strangers>) -> Vec<Claim> {
    let ready = snapshot.programmed && snapshot.cni_installed;
    let stalled = !snapshot.obstacles.is_empty();
    let trouble = trouble(snapshot);
    let contest = strangers.map(|strangers| contest::claim(&snapshot.rivals, strangers));
    let claims = [
        kernel(snapshot),
        cni(snapshot),
        match (ready, stalled) {
            (true, _) => Claim::new(ConditionType::Ready, true, "Programmed", "the kernel is as declared"),
            (false, true) => Claim::new(ConditionType::Ready, false, "Obstacle", trouble.clone()),
            (false, false) => Claim::new(ConditionType::Ready, false, "InProgress", trouble.clone()),
        },
        Claim::new(
            ConditionType::Reconciling,
            !ready && !stalled,
            if ready || stalled { "Settled" } else { "InProgress" },
            if ready || stalled { String::new() } else { trouble.clone() },
        ),
        Claim::new(
            ConditionType::Stalled,
            !ready && stalled,
            if stalled { "Obstacle" } else { "Settled" },
            if stalled { trouble } else { String::new() },
        ),
    ];
    claims.into_iter().chain(contest).collect()
}

fn kernel(snapshot: &Snapshot) -> Claim {
    let about = ConditionType::KernelProgrammed;
    match (snapshot.programmed, snapshot.obstacles.is_empty()) {
        (true, _) => Claim::new(about, true, "Programmed", "the kernel is as declared"),
        (false, false) => Claim::new(about, false, "Obstacle", snapshot.obstacles.join("; ")),
        (false, true) => Claim::new(about, false, "Failing", snapshot.failures.join("; ")),
    }
}

fn cni(snapshot: &Snapshot) -> Claim {
    let about = ConditionType::CNIConfigured;
    if snapshot.cni_installed {
        Claim::new(about, true, "Installed", "the runtime's configuration file is in place")
    } else {
        let message = "the configuration file is written once the kernel is as declared, and the operator told which policies there are";
        Claim::new(about, false, "Waiting", message)
    }
}

/// What is wrong, the worst first.
fn trouble(snapshot: &Snapshot) -> String {
    let all: Vec<&str> = snapshot.obstacles.iter().chain(&snapshot.failures).map(String::as_str).collect();
    if all.is_empty() { "the kernel is being changed".to_owned() } else { all.join("; ") }
}
