use std::time::Duration;

use super::*;

fn id(number: usize) -> PolicyId {
    let key = Key { namespace: "s".repeat(63), name: format!("{number:0>253}") };
    PolicyId { kind: PolicyKind::NetworkPolicy, key }
}

/// Policies with the longest names that some nodes of the longest names lack since then, of which one refuses them at length.
fn lacking(policies: usize, since: Instant) -> Force {
    let nodes: Vec<NodeName> = (0..3).map(|number| NodeName(format!("{number:0>253}"))).collect();
    let behind: Behind = nodes.iter().map(|node| (node.clone(), Version(1))).collect();
    let mut force = Force::default();
    force.begin();
    for number in 0..policies {
        force.put(id(number), 3, behind.clone(), since);
    }
    force.refused(&nodes[2], Some(&"why ".repeat(250)));
    force
}

#[test]
fn ten_thousand_policies_that_are_late_at_once_are_told_of_in_a_short_message() {
    let start = Instant::now();
    let force = lacking(10_000, start);
    let standing = force.standing(10_000, Vec::new(), start + LATE);
    assert_eq!((standing.policies, standing.late, standing.first.len()), (10_000, 10_000, MOST));
    let message = standing.claim().message;
    assert!(message.contains("(refused: why why "), "{message}");
    assert!(message.contains(" and 9990 more. ") && message.len() < 10 * 1024, "{}", message.len());
    let note = standing.first[0].to_string();
    assert!(note.len() < 600, "an event holds it: {note}");
    assert_eq!(standing.in_force([]), 0);
}

#[test]
fn all_that_were_late_are_told_to_be_in_force_and_of_others_some() {
    let late = Instant::now().checked_sub(LATE).unwrap();
    let mut force = lacking(300, late);
    force.take_news();
    force.put(id(0), 0, Behind::new(), Instant::now());
    for node in force.nodes().cloned().collect::<Vec<_>>() {
        force.left(&node);
    }
    assert_eq!(force.take_news().settled.len(), 300);
    let mut force = lacking(300, Instant::now() + Duration::from_mins(1));
    for node in force.nodes().cloned().collect::<Vec<_>>() {
        force.left(&node);
    }
    assert_eq!(force.take_news().settled.len(), MOST);
}

#[test]
fn a_policy_that_was_late_is_told_to_be_gone_and_others_are_not() {
    let gone = |since| {
        let mut force = lacking(2, since);
        force.take_news();
        force.note(&Change::PolicyGone(id(1).key));
        force.take_news().gone
    };
    assert_eq!(gone(Instant::now().checked_sub(LATE).unwrap()), [id(1)]);
    assert_eq!(gone(Instant::now() + Duration::from_mins(1)), []);
}
