//! What is said of a policy of the cluster in its status. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;
use towpath_crds::conditions::{Claim, ConditionType, Verdict, find, set};
use towpath_net::state::NodeName;

use crate::control::{ClusterStanding, LATE};
use crate::policy::report::{NOT_HONOURED, said};
use crate::status::names;

/// What conditions are about: the others of a policy are somebody else's.
const OURS: [ConditionType; 3] = [ConditionType::Ready, ConditionType::Accepted, ConditionType::InForce];

/// What was said of a policy.
#[derive(Debug)]
pub(super) struct Said {
    /// Its `metadata.uid`.
    pub uid: String,
    /// What was said.
    pub conditions: Vec<Condition>,
}

/// Those that this operator writes.
pub(super) fn ours(mut conditions: Vec<Condition>) -> Vec<Condition> {
    conditions.retain(|condition| OURS.iter().any(|about| about.to_string() == condition.type_));
    conditions
}

/// Whether something was said of this `metadata.generation`, and not that it is not known.
pub(super) fn is_of(conditions: &[Condition], generation: i64) -> bool {
    find(conditions, ConditionType::InForce)
        .is_some_and(|said| said.observed_generation == Some(generation) && said.status != "Unknown")
}

/// What is to be said after something was. It is the same while a change is on its way that is not late.
pub(super) fn after(
    before: &[Condition],
    standing: &ClusterStanding,
    away: &[NodeName],
    now: Timestamp,
) -> Vec<Condition> {
    let mut conditions = before.to_vec();
    let Some(in_force) = in_force(standing, away) else { return conditions };
    let generation = Some(standing.written.generation);
    // What was in force of another generation went while this one was on its way: it came with this one anew.
    conditions.retain(|said| said.observed_generation == generation || said.type_ == "Accepted");
    let accepted = accepted(standing);
    let first = [&accepted, &in_force].into_iter().find(|claim| claim.verdict != Verdict::True).unwrap_or(&in_force);
    let ready = Claim::new(ConditionType::Ready, first.verdict, first.reason, first.message.clone());
    for claim in [&ready, &accepted, &in_force] {
        set(&mut conditions, claim, generation, now);
    }
    conditions.sort_by(|one, other| one.type_.cmp(&other.type_));
    conditions
}

fn accepted(standing: &ClusterStanding) -> Claim {
    let about = ConditionType::Accepted;
    match &standing.written.findings[..] {
        [] => Claim::new(about, true, "Valid", "all of it is understood"),
        findings => Claim::new(about, false, NOT_HONOURED, said(findings)),
    }
}

/// Nothing while a change is on its way.
fn in_force(standing: &ClusterStanding, away: &[NodeName]) -> Option<Claim> {
    let about = ConditionType::InForce;
    let on = match standing.nodes {
        0 => "no node had pods of it when it was changed".to_owned(),
        nodes => format!("in force on {nodes} of {nodes} nodes that had pods of it when it was changed"),
    };
    if standing.written.is_for_nobody {
        let message = "in force nowhere: whom it is for is not understood";
        return Some(Claim::new(about, false, NOT_HONOURED, message));
    }
    if let Some(pending) = &standing.pending {
        let message = format!("in force {pending} that have pods of it. Look at the agents of the nodes that lack it");
        return (pending.age >= LATE).then(|| Claim::new(about, false, "Pending", message));
    }
    if !away.is_empty() {
        let names = names(away.iter().map(|node| node.0.as_str()));
        let message =
            format!("nobody knows of nodes that have pods of it, and whose agents are not connected: {names}");
        return Some(Claim::new(about, Verdict::Unknown, "AgentsAway", message));
    }
    if !standing.written.findings.is_empty() {
        let message = format!("what is not understood lets nothing through, and denies where it is to; {on}");
        return Some(Claim::new(about, false, NOT_HONOURED, message));
    }
    Some(Claim::new(about, true, "AllInForce", format!("{on}; pods that start have it in force first")))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::control::Pending;
    use crate::policy::finding::{Finding, Problem};
    use crate::policy::report::{PolicyId, Written};

    fn standing(generation: i64) -> ClusterStanding {
        let written = Written { uid: "u".to_owned(), generation, ..Written::default() };
        ClusterStanding { written, nodes: 3, pending: None }
    }

    fn lacking(age: u64) -> Pending {
        let (id, first) = (PolicyId::of_cluster("p"), Some("n2".into()));
        Pending { id, nodes: 3, lacking: 2, first, why: None, age: Duration::from_secs(age) }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// Verdict, reason, message and second of the transition.
    fn read(conditions: &[Condition], about: ConditionType) -> (&str, &str, &str, i64) {
        let said = find(conditions, about).unwrap();
        (&said.status, &said.reason, &said.message, said.last_transition_time.0.as_second())
    }

    #[test]
    fn a_policy_is_in_force_since_its_last_change_was() {
        let first = after(&[], &standing(1), &[], at(1));
        let (status, reason, message, since) = read(&first, ConditionType::InForce);
        assert_eq!((status, reason, since), ("True", "AllInForce", 1));
        assert!(message.starts_with("in force on 3 of 3 nodes"), "{message}");
        assert_eq!(after(&first, &standing(1), &[], at(2)), first);
        let pending = |age| ClusterStanding { pending: Some(lacking(age)), ..standing(2) };
        assert_eq!(after(&first, &pending(1), &[], at(3)), first, "it is on its way");
        let late = after(&first, &pending(9), &[], at(4));
        let (status, reason, message, since) = read(&late, ConditionType::Ready);
        assert_eq!((status, reason, since), ("False", "Pending", 4));
        assert!(message.starts_with("in force on 1 of 3 nodes, missing on n2 and 1 more"), "{message}");
        let done = after(&first, &standing(2), &[], at(5));
        assert_eq!(read(&done, ConditionType::InForce).3, 5);
        assert_eq!(read(&done, ConditionType::Accepted).3, 1);
        assert!(is_of(&done, 2) && !is_of(&first, 2));
    }

    #[test]
    fn what_is_not_understood_is_neither_accepted_nor_in_force() {
        let finding =
            Finding { field: "spec.tier".to_owned(), value: "High".to_owned(), problem: Problem::NotUnderstood };
        let mut policy = standing(1);
        policy.written.findings = vec![finding];
        let conditions = after(&[], &policy, &[], at(1));
        for about in OURS {
            assert_eq!((read(&conditions, about).0, read(&conditions, about).1), ("False", NOT_HONOURED));
        }
        assert!(read(&conditions, ConditionType::Ready).2.contains("spec.tier \"High\""));
        policy.written.is_for_nobody = true;
        let conditions = after(&[], &policy, &[], at(1));
        assert!(read(&conditions, ConditionType::InForce).2.starts_with("in force nowhere"));
    }

    #[test]
    fn what_agents_have_that_are_away_is_not_known() {
        let conditions = after(&[], &standing(1), &["n3".into()], at(1));
        let (status, reason, message, _) = read(&conditions, ConditionType::Ready);
        assert_eq!((status, reason), ("Unknown", "AgentsAway"));
        assert!(message.ends_with(": n3"), "{message}");
        assert!(!is_of(&conditions, 1), "it is asked again");
        assert_eq!(read(&after(&conditions, &standing(1), &[], at(2)), ConditionType::InForce).0, "True");
    }
}
