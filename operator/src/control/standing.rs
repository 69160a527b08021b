//! Where policies are in force, and what is said of that.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use towpath_crds::conditions::{Claim, ConditionType, Verdict};
use towpath_net::state::NodeName;

use crate::policy::report::{PolicyId, Written};
use crate::status::names;

/// How long a policy may be on its way before that is said of it.
pub const LATE: Duration = Duration::from_secs(5);

/// For how long an agent may be away before that is said of it: those of a cluster come back to a new leader within that.
pub const AWAY: Duration = Duration::from_secs(30);

/// How many policies a message names.
const MOST_NAMED: usize = 10;

/// Where policies are in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// How many policies there are.
    pub policies: usize,
    /// How many of them some node lacks.
    pub pending: usize,
    /// How many of these are late.
    pub late: usize,
    /// For how long the oldest of them.
    pub oldest: Duration,
    /// The oldest of them, at most a hundred.
    pub first: Vec<Pending>,
    /// Nodes whose agents have been away for a while: what they have of policies is not known.
    pub away: Vec<NodeName>,
    /// How many agents refuse what they were told.
    pub refusing: usize,
}

/// A policy that some node lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// The policy.
    pub id: PolicyId,
    /// On how many nodes it is to be in force: those that have pods of it.
    pub nodes: usize,
    /// How many of them lack it.
    pub lacking: usize,
    /// The first of these, and before all others one whose agent refuses what it was told.
    pub first: Option<NodeName>,
    /// Why that one refuses it.
    pub why: Option<String>,
    /// For how long.
    pub age: Duration,
}

/// Where a policy of the cluster is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterStanding {
    /// How it is written.
    pub written: Written,
    /// How many nodes had pods of it when it was changed last.
    pub nodes: usize,
    /// What is missing where, where some node lacks it.
    pub pending: Option<Pending>,
}

/// A policy that is in force everywhere as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// The policy.
    pub id: PolicyId,
    /// On how many nodes.
    pub nodes: usize,
    /// How long that took; nothing where no node had to be told.
    pub took: Option<Duration>,
}

/// What became of policies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Those that are in force everywhere and were not: a hundred, and all that were late.
    pub settled: Vec<Settled>,
    /// Those that were late, and are gone.
    pub gone: Vec<PolicyId>,
    /// Those of the cluster of which something else is to be said, by name; they may be gone.
    pub cluster: BTreeSet<String>,
    /// Whether any came, went, or changed.
    pub is_counted: bool,
}

impl News {
    /// Whether it is none.
    pub fn is_empty(&self) -> bool {
        self.settled.is_empty() && self.gone.is_empty() && self.cluster.is_empty() && !self.is_counted
    }
}

impl Standing {
    /// What the condition of the network says. It stays the same while policies that change are in force within moments.
    pub fn claim(&self) -> Claim {
        let about = ConditionType::PoliciesInForce;
        if self.late > 0 {
            let named: Vec<String> =
                self.late().take(MOST_NAMED).map(|policy| format!("{} ({policy})", policy.id)).collect();
            let others = self.late.saturating_sub(named.len());
            let more = if others > 0 { format!(" and {others} more") } else { String::new() };
            let message = format!(
                "not in force everywhere {} s after a change: {}{more}. Look at the agents of the named nodes",
                LATE.as_secs(),
                named.join(", "),
            );
            return Claim::new(about, false, "PoliciesPending", message);
        }
        if self.policies > 0 && !self.away.is_empty() {
            let message = format!(
                "nobody knows of nodes whose agents are not connected, which go on with what they were told last: {}",
                names(self.away.iter().map(|node| node.0.as_str())),
            );
            return Claim::new(about, Verdict::Unknown, "AgentsAway", message);
        }
        Claim::new(about, true, "AllInForce", "every network policy is in force on every node that has pods of it")
    }

    /// The oldest of those that are late.
    pub fn late(&self) -> impl Iterator<Item = &Pending> {
        self.first.iter().filter(|policy| policy.age >= LATE)
    }

    /// How many are in force, where these cannot be honoured. What is on its way counts.
    pub fn in_force<'a>(&self, not_honoured: impl IntoIterator<Item = &'a PolicyId>) -> usize {
        let late: BTreeSet<&PolicyId> = self.late().map(|policy| &policy.id).collect();
        let others = not_honoured.into_iter().filter(|id| !late.contains(id)).count();
        self.policies.saturating_sub(self.late + others)
    }
}

impl fmt::Display for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { nodes, lacking, first, why, .. } = self;
        write!(f, "on {} of {nodes} nodes", nodes.saturating_sub(*lacking))?;
        if let Some(first) = first {
            write!(f, ", missing on {first}")?;
        }
        if let Some(why) = why {
            write!(f, " (refused: {why})")?;
        }
        if *lacking > 1 { write!(f, " and {} more", lacking - 1) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use towpath_net::policy::input::Key;

    use super::*;
    use crate::policy::report::PolicyKind;

    fn pending(name: &str, lacking: usize, age: u64) -> Pending {
        let key = Key { namespace: "web".to_owned(), name: name.to_owned() };
        Pending {
            id: PolicyId { kind: PolicyKind::NetworkPolicy, key },
            nodes: 5,
            lacking,
            first: Some("n3".into()),
            why: None,
            age: Duration::from_secs(age),
        }
    }

    fn standing(pending: Vec<Pending>) -> Standing {
        let late = pending.iter().filter(|policy| policy.age >= LATE).count();
        Standing { policies: 12, pending: pending.len(), late, first: pending, ..Standing::default() }
    }

    #[test]
    fn what_is_on_its_way_for_a_moment_is_not_told() {
        let standing = standing(vec![pending("p", 5, 1)]);
        assert_eq!(standing.claim(), Standing::default().claim());
        assert_eq!((standing.claim().reason, standing.in_force([])), ("AllInForce", 12));
    }

    #[test]
    fn policies_that_are_late_are_told_with_what_is_missing_where() {
        let mut standing = standing(vec![pending("p", 1, 9), pending("q", 3, 9), pending("r", 3, 1)]);
        let claim = standing.claim();
        assert_eq!((claim.verdict.to_string().as_str(), claim.reason), ("False", "PoliciesPending"));
        let expected = "NetworkPolicy web/p (on 4 of 5 nodes, missing on n3), \
                        NetworkPolicy web/q (on 2 of 5 nodes, missing on n3 and 2 more). ";
        assert!(claim.message.contains(expected), "{}", claim.message);
        assert!(!claim.message.contains("web/r"));
        standing.late = 500;
        assert!(standing.claim().message.contains("and 2 more) and 498 more. "), "{}", standing.claim().message);
    }

    #[test]
    fn nothing_is_claimed_of_nodes_whose_agents_are_away() {
        let away = Standing { away: vec!["n1".into(), "n2".into()], ..standing(Vec::new()) };
        let claim = away.claim();
        assert_eq!((claim.verdict, claim.reason), (Verdict::Unknown, "AgentsAway"));
        assert!(claim.message.ends_with(": n1, n2"), "{}", claim.message);
        assert_eq!(Standing { policies: 0, ..away }.claim().reason, "AllInForce", "there is nothing to know");
    }

    #[test]
    fn a_policy_that_is_late_and_not_honoured_counts_once() {
        let standing = standing(vec![pending("p", 1, 9), pending("r", 1, 1)]);
        let [p, r, other] = ["p", "r", "other"].map(|name| pending(name, 0, 0).id);
        assert_eq!(standing.in_force([&p, &r, &other]), 9);
    }
}
