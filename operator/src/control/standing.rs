//! Where policies are in force, and what is said of that.

use std::time::Duration;

use towpath_crds::conditions::{Claim, ConditionType};
use towpath_net::state::NodeName;

use crate::policy::report::PolicyId;
use crate::status::names;

/// How long a policy may be on its way before that is said of it.
pub const LATE: Duration = Duration::from_secs(5);

/// Where policies are in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// How many policies some node lacks.
    pub pending: usize,
    /// For how long the oldest of them.
    pub oldest: Duration,
    /// The oldest of them, at most a hundred.
    pub policies: Vec<Pending>,
}

/// A policy that some node lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// The policy.
    pub id: PolicyId,
    /// On how many nodes it is to be in force, of those whose agents are connected.
    pub nodes: usize,
    /// How many of them lack it.
    pub lacking: usize,
    /// The first of these.
    pub first: Option<NodeName>,
    /// For how long.
    pub age: Duration,
}

impl Standing {
    /// What the condition of the network says. It stays the same while policies that change are in force within moments.
    pub fn claim(&self) -> Claim {
        let about = ConditionType::PoliciesInForce;
        let late: Vec<String> = self.policies.iter().filter(|policy| policy.age >= LATE).map(describe).collect();
        if late.is_empty() {
            let message = "every network policy is in force on every connected node that has pods of it";
            return Claim::new(about, true, "AllInForce", message);
        }
        let message = format!(
            "not in force everywhere {} s after a change: {}. Look at the agents of the named nodes",
            LATE.as_secs(),
            names(late.iter().map(String::as_str)),
        );
        Claim::new(about, false, "PoliciesPending", message)
    }
}

fn describe(policy: &Pending) -> String {
    let Pending { id, nodes, lacking, first, .. } = policy;
    let missing = first.as_ref().map_or("", |node| node.0.as_str());
    let others = if *lacking > 1 { format!(" and {} more", lacking - 1) } else { String::new() };
    format!("{id} (on {} of {nodes} nodes, missing on {missing}{others})", nodes.saturating_sub(*lacking))
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
            age: Duration::from_secs(age),
        }
    }

    #[test]
    fn what_is_on_its_way_for_a_moment_is_not_told() {
        let standing = Standing { pending: 1, oldest: Duration::from_secs(1), policies: vec![pending("p", 5, 1)] };
        assert_eq!(standing.claim(), Standing::default().claim());
        assert_eq!(standing.claim().reason, "AllInForce");
    }

    #[test]
    fn policies_that_are_late_are_told_with_what_is_missing_where() {
        let policies = vec![pending("p", 1, 9), pending("q", 3, 9), pending("r", 3, 1)];
        let standing = Standing { pending: 3, oldest: Duration::from_secs(9), policies };
        let claim = standing.claim();
        assert_eq!((claim.verdict.to_string().as_str(), claim.reason), ("False", "PoliciesPending"));
        let expected = "NetworkPolicy web/p (on 4 of 5 nodes, missing on n3), \
                        NetworkPolicy web/q (on 2 of 5 nodes, missing on n3 and 2 more). ";
        assert!(claim.message.contains(expected), "{}", claim.message);
        assert!(!claim.message.contains("web/r"));
    }
}
