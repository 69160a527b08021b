//! Conditions as the Kubernetes API conventions and kstatus have them, for whoever writes a status.
//!
//! `Reconciling` and `Stalled` are abnormal when true, and never both; [`Ready`](ConditionType::Ready) sums up.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

/// The longest message that is kept, in characters: an object stays small whatever went wrong.
pub const LONGEST_MESSAGE: usize = 1024;

/// What a condition is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConditionType {
    /// All kinds: the sum of the others.
    Ready,
    /// Both kinds: on the way, nobody has to do anything.
    Reconciling,
    /// Both kinds: somebody has to do something.
    Stalled,
    /// `ClusterNetwork`: the spec makes sense in this cluster. `ClusterNetworkPolicy`: all of it is understood.
    Accepted,
    /// `ClusterNetwork`: every node has pod CIDRs and an address.
    CIDRsAllocated,
    /// `ClusterNetwork`: every node is on the current revision.
    NodesUpdated,
    /// `NodeNetwork`: the kernel holds what the node is told.
    KernelProgrammed,
    /// `NodeNetwork`: the CNI binaries and their configuration file are in place.
    CNIConfigured,
    /// Both kinds: no other network's CNI configuration takes pods, and none did that still run.
    CNIUncontested,
    /// `ClusterNetwork`: every network policy can be honoured in full.
    PoliciesHonoured,
    /// `ClusterNetwork`: every network policy is in the kernels of the nodes that have pods of it.
    PoliciesInForce,
    /// `ClusterNetworkPolicy`: it is in the kernels of the nodes that have pods of it.
    InForce,
}

impl fmt::Display for ConditionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Whether it is so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is.
    True,
    /// It is not.
    False,
    /// Nobody can say.
    Unknown,
}

impl From<bool> for Verdict {
    fn from(so: bool) -> Self {
        if so { Self::True } else { Self::False }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// One condition to be said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// What it is about.
    pub about: ConditionType,
    /// Whether it is so.
    pub verdict: Verdict,
    /// Why, in one word of letters and digits.
    pub reason: &'static str,
    /// Why, for people, and what to do next.
    pub message: String,
}

impl Claim {
    /// A claim.
    pub fn new(
        about: ConditionType,
        verdict: impl Into<Verdict>,
        reason: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Self { about, verdict: verdict.into(), reason, message: message.into() }
    }
}

/// The condition about something, where there is one.
pub fn find(conditions: &[Condition], about: ConditionType) -> Option<&Condition> {
    let name = about.to_string();
    conditions.iter().find(|condition| condition.type_ == name)
}

/// Whether a condition is there and true.
pub fn is_true(conditions: &[Condition], about: ConditionType) -> bool {
    find(conditions, about).is_some_and(|condition| condition.status == "True")
}

/// Says something, keeping the time of the last transition where the verdict stays.
///
/// Answers whether the verdict changed, or is new.
pub fn set(conditions: &mut Vec<Condition>, claim: &Claim, generation: Option<i64>, now: Timestamp) -> bool {
    let type_ = claim.about.to_string();
    let status = claim.verdict.to_string();
    let at = conditions.iter().position(|condition| condition.type_ == type_);
    let before = at.map(|at| &conditions[at]).filter(|condition| condition.status == status);
    let transition = before.is_none();
    let said = Condition {
        last_transition_time: before.map_or(Time(now), |before| before.last_transition_time.clone()),
        message: shortened(&claim.message, LONGEST_MESSAGE),
        observed_generation: generation,
        reason: claim.reason.to_owned(),
        status,
        type_,
    };
    match at {
        Some(at) => conditions[at] = said,
        None => conditions.push(said),
    }
    transition
}

/// A text of so many characters at most; where more was said, it ends with an ellipsis.
pub fn shortened(text: &str, longest: usize) -> String {
    if text.chars().nth(longest).is_none() {
        return text.to_owned();
    }
    text.chars().take(longest.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(conditions: &mut Vec<Condition>, so: bool, message: &str, second: i64) -> bool {
        let claim = Claim::new(ConditionType::Ready, so, "Because", message);
        set(conditions, &claim, Some(second), Timestamp::from_second(second).unwrap())
    }

    #[test]
    fn the_time_of_the_last_transition_stays_while_the_verdict_does() {
        let mut list = Vec::new();
        assert!(said(&mut list, false, "one", 1));
        assert!(!said(&mut list, false, "two", 2));
        assert_eq!(list[0].last_transition_time.0.as_second(), 1);
        assert_eq!((list[0].message.as_str(), list[0].observed_generation), ("two", Some(2)));
        assert!(said(&mut list, true, "three", 3));
        assert_eq!(list[0].last_transition_time.0.as_second(), 3);
        assert!(is_true(&list, ConditionType::Ready) && list.len() == 1);
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let mut list = Vec::new();
        said(&mut list, true, &"ä".repeat(5000), 1);
        assert_eq!(list[0].message.chars().count(), LONGEST_MESSAGE);
        assert!(list[0].message.ends_with("ä…"));
        assert_eq!((shortened("abc", 3), shortened("abcd", 3)), ("abc".to_owned(), "ab…".to_owned()));
    }
}
