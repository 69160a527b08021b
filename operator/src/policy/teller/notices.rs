//! Which events are told of policies whose kind has no status, and how many.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use towpath_net::budget::Budget;

use crate::control::{News, Settled, Standing};
use crate::events;
use crate::policy::report::{PolicyId, PolicyKind};

/// What was told, and how much more may be.
#[derive(Debug, Default)]
pub(super) struct Notices {
    /// Policies of which it was told that they are late.
    late: BTreeSet<PolicyId>,
    budget: Budget,
}

impl Notices {
    /// Nothing was told so far: another replica did.
    pub fn forget(&mut self) {
        self.late.clear();
    }

    /// What is told of what became of policies. Of one that was told to be late it is always told when it is in force.
    pub fn choose(&mut self, standing: &Standing, news: News, now: Instant) -> Vec<(PolicyId, events::News)> {
        for id in news.gone {
            self.late.remove(&id);
        }
        let late = standing.late().filter(|policy| policy.id.kind == PolicyKind::NetworkPolicy);
        let late: BTreeMap<&PolicyId, String> =
            late.map(|policy| (&policy.id, format!("in force {policy} that have pods of it"))).collect();
        let mut chosen = Vec::new();
        for settled in news.settled {
            let is_owed = self.late.remove(&settled.id);
            if self.has_room(now) || is_owed {
                let note = in_force(&settled);
                chosen.push((settled.id, events::News { bad: false, reason: "InForce".to_owned(), note }));
            }
        }
        for (id, note) in late {
            if !self.late.contains(id) && self.has_room(now) {
                self.late.insert(id.clone());
                chosen.push((id.clone(), events::News { bad: true, reason: "NotInForce".to_owned(), note }));
            }
        }
        chosen
    }

    fn has_room(&mut self, now: Instant) -> bool {
        self.budget.take(events::EVENTS, now)
    }
}

fn in_force(settled: &Settled) -> String {
    let after = settled.took.map(|took| format!(", {} ms after it was read", took.as_millis())).unwrap_or_default();
    match settled.nodes {
        0 => "no node has pods of it; pods that start have it in force first".to_owned(),
        nodes => format!("in force on {nodes} of {nodes} nodes that have pods of it{after}"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use towpath_net::policy::input::Key;

    use super::*;
    use crate::control::{LATE, Pending};

    fn id(number: usize) -> PolicyId {
        let key = Key { namespace: "web".to_owned(), name: format!("p{number:05}") };
        PolicyId { kind: PolicyKind::NetworkPolicy, key }
    }

    fn late(number: usize) -> Pending {
        let (first, why) = (Some("n3".into()), Some("no space".to_owned()));
        Pending { id: id(number), nodes: 5, lacking: 1, first, why, age: LATE }
    }

    fn standing(late: Vec<Pending>) -> Standing {
        Standing { policies: 9, pending: late.len(), late: late.len(), first: late, ..Standing::default() }
    }

    fn settled(number: usize) -> Settled {
        Settled { id: id(number), nodes: 5, took: Some(LATE) }
    }

    /// The names and reasons of what is told.
    fn told(
        notices: &mut Notices,
        late: Vec<Pending>,
        settled: Vec<Settled>,
        gone: Vec<PolicyId>,
    ) -> Vec<(String, String)> {
        let news = News { settled, gone, ..News::default() };
        let chosen = notices.choose(&standing(late), news, Instant::now());
        chosen.into_iter().map(|(id, news)| (id.key.name, news.reason)).collect()
    }

    #[test]
    fn what_is_late_is_told_once_with_the_reason_and_when_it_is_in_force() {
        let mut notices = Notices::default();
        let chosen = notices.choose(&standing(vec![late(1)]), News::default(), Instant::now());
        assert_eq!((chosen.len(), chosen[0].1.bad, chosen[0].1.reason.as_str()), (1, true, "NotInForce"));
        assert!(chosen[0].1.note.contains("missing on n3 (refused: no space)"), "{}", chosen[0].1.note);
        assert!(told(&mut notices, vec![late(1)], vec![], vec![]).is_empty());
        let is = told(&mut notices, vec![], vec![settled(1)], vec![]);
        assert_eq!(is, [("p00001".to_owned(), "InForce".to_owned())]);
    }

    #[test]
    fn a_policy_that_was_deleted_while_it_was_late_leaves_nothing_to_the_next_one_of_its_name() {
        let mut notices = Notices::default();
        assert_eq!(told(&mut notices, vec![late(1)], vec![], vec![]).len(), 1);
        assert!(told(&mut notices, vec![], vec![], vec![id(1)]).is_empty());
        assert!(notices.late.is_empty());
        let again = told(&mut notices, vec![late(1)], vec![], vec![]);
        assert_eq!(again, [("p00001".to_owned(), "NotInForce".to_owned())]);
    }

    #[test]
    fn ten_thousand_policies_that_are_late_and_in_force_at_once_are_not_ten_thousand_events() {
        let (mut notices, start) = (Notices::default(), Instant::now());
        let all = standing((0..100).map(late).collect());
        let mut events = 0;
        for second in 0..60 {
            events += notices.choose(&all, News::default(), start + Duration::from_secs(second)).len();
        }
        assert_eq!((events, notices.late.len()), (79, 79));
        let news = News { settled: (0..10_000).map(settled).collect(), ..News::default() };
        let chosen = notices.choose(&Standing::default(), news, start + Duration::from_mins(2));
        assert!(chosen.len() <= 79 + 20, "{}", chosen.len());
        let owed = (0..79).filter(|number| chosen.iter().any(|(chosen, _)| *chosen == id(*number))).count();
        assert_eq!((owed, notices.late.len()), (79, 0), "all that were told to be late");
    }
}
