//! Whom the start of a pod waits for.

use super::*;

#[test]
fn a_pod_waits_for_every_agent_that_must_know_it() {
    let mut core = core();
    let (own, _other) = (follow(&mut core, "n1"), follow(&mut core, "n2"));
    core.attached(&"n1".into(), attached("a", "uid-a", 1, true));
    assert!(!is_known(&own, "uid-a"));
    acknowledge(&mut core, "n1");
    assert!(!is_known(&own, "uid-a"), "n2 has not said so");
    acknowledge(&mut core, "n2");
    assert!(is_known(&own, "uid-a"));
}

#[test]
fn a_pod_waits_until_it_is_known_itself() {
    let mut core = core();
    let own = follow(&mut core, "n3");
    core.attached(&"n3".into(), attached("c", "uid-c", 3, true));
    assert!(!is_known(&own, "uid-c"));
    core.change(pod("c", "uid-c", "n3"));
    core.tell();
    acknowledge(&mut core, "n3");
    assert!(is_known(&own, "uid-c"));
}

#[test]
fn nobody_waits_for_an_agent_that_left_and_it_is_told_everything_when_it_comes_back() {
    let mut core = core();
    let (own, other) = (follow(&mut core, "n1"), follow(&mut core, "n2"));
    acknowledge(&mut core, "n1");
    core.attached(&"n1".into(), attached("a", "uid-a", 1, true));
    acknowledge(&mut core, "n1");
    core.closed(&"n2".into(), &Arc::default());
    assert!(!is_known(&own, "uid-a"), "another stream of it ended");
    core.closed(&"n2".into(), &other);
    assert!(is_known(&own, "uid-a"));
    let opening = core.open(&"n2".into(), &Holdings::default(), &Arc::default()).unwrap();
    let told = opening
        .policy
        .sets
        .into_values()
        .any(|set| matches!(set, SetDelta::New(Members::Addresses(all)) if all == addresses(&[1])));
    assert!(told);
    // Pods that come now wait for it again.
    core.attached(&"n1".into(), attached("a", "uid-a", 1, true));
    assert!(!is_known(&own, "uid-a"));
    acknowledge(&mut core, "n2");
    assert!(is_known(&own, "uid-a"));
}

#[test]
fn an_agent_that_comes_is_told_that_its_waiting_pods_are_known() {
    let mut core = core();
    core.attachments(&"n1".into(), vec![attached("a", "uid-a", 1, true)]);
    let own = follow(&mut core, "n1");
    assert!(is_known(&own, "uid-a"));
}

#[test]
fn an_agent_that_follows_another_replica_is_told_of_the_nodes_that_follow_this_one() {
    let mut core = core();
    let (_holder, reports) = (follow(&mut core, "n2"), Arc::new(Outbox::default()));
    core.report(&"n1".into(), &reports);
    core.attachments(&"n1".into(), vec![attached("a", "uid-a", 1, true)]);
    assert_eq!(members(&mut core, "n2"), addresses(&[1]));
    assert!(!is_known(&reports, "uid-a"));
    acknowledge(&mut core, "n2");
    assert!(is_known(&reports, "uid-a"));
    // It follows this one from now on, and what it waits for goes on.
    core.change(pod("d", "uid-d", "n1"));
    core.attached(&"n1".into(), Attached { addresses: vec![[10, 0, 1, 2].into()], ..attached("d", "uid-d", 1, true) });
    let own = follow(&mut core, "n1");
    core.closed(&"n1".into(), &reports);
    acknowledge(&mut core, "n2");
    assert!(is_known(&own, "uid-d"));
}

#[test]
fn a_replica_that_does_not_know_the_cluster_holds_up_nobody() {
    let mut core = Core::default();
    let reports = Arc::new(Outbox::default());
    core.report(&"n1".into(), &reports);
    core.attachments(&"n1".into(), vec![attached("a", "uid-a", 1, true)]);
    assert!(is_known(&reports, "uid-a"));
    assert!(core.open(&"n2".into(), &Holdings::default(), &Arc::default()).is_err());
    core.peer(&"n1".into(), Some(peer(1)));
    core.change(pod("a", "uid-a", "n1"));
    core.change(pod("b", "uid-b", "n2"));
    core.change(policy("p"));
    assert_eq!(members(&mut core, "n2"), addresses(&[1]), "what it heard counts");
}
