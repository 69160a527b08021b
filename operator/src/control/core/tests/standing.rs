//! Where policies are in force, and why not.

use super::*;

#[test]
fn a_policy_is_pending_until_every_agent_with_pods_of_it_has_it() {
    let mut core = core();
    let _agents = ["n1", "n2", "n3"].map(|node| follow(&mut core, node));
    assert_eq!((core.standing().policies, core.standing().pending), (1, 0));
    core.change(policy("q"));
    // The same policy over again is told to nobody.
    core.change(isolation("r", "a"));
    core.tell();
    let standing = core.standing();
    let named: Vec<_> = standing.first.iter().map(|it| (it.id.to_string(), it.nodes, it.lacking)).collect();
    assert!(named.contains(&("NetworkPolicy web/r".to_owned(), 1, 1)), "{named:?}");
    for node in ["n1", "n2"] {
        acknowledge(&mut core, node);
    }
    let standing = core.standing();
    assert_eq!((standing.pending, standing.oldest), (0, Duration::ZERO));
    assert_eq!(core.agents().0, 3);
}

#[test]
fn why_an_agent_refuses_a_policy_is_told_until_it_takes_it() {
    let mut core = core();
    let _agents = ["n1", "n2"].map(|node| follow(&mut core, node));
    let told = |core: &mut Core| core.standing().first.first().map(ToString::to_string).unwrap_or_default();
    core.change(policy("p"));
    core.change(isolation("r", "b"));
    core.tell();
    core.take_news();
    core.refused(&"n2".into(), "no space");
    assert!(core.has_news());
    assert!(told(&mut core).ends_with("missing on n2 (refused: no space)"), "{}", told(&mut core));
    assert_eq!(core.standing().refusing, 1);
    acknowledge(&mut core, "n2");
    assert_eq!((core.standing().refusing, core.standing().pending), (0, 0));
    // Of one that follows another replica.
    let (reports, before) = (Arc::new(Outbox::default()), core.compiler.digest_of_pods(&"n3".into()));
    core.report(&"n3".into(), &reports);
    core.change(pod("c", "uid-c", "n3"));
    core.change(isolation("s", "c"));
    core.tell();
    core.settled(&"n3".into(), Settled { pods: before, refusal: Some("too large".to_owned()) });
    assert!(told(&mut core).ends_with("missing on n3 (refused: too large)"), "{}", told(&mut core));
    core.closed(&"n3".into(), &reports);
    assert!(told(&mut core).ends_with("missing on n3"), "{}", told(&mut core));
}

#[test]
fn a_policy_of_the_cluster_that_is_gone_is_told_to_be() {
    let mut core = core();
    core.change(Change::ClusterPolicyGone("q".to_owned()));
    assert!(core.take_news().cluster.contains("q"));
}

#[test]
fn a_policy_is_pending_until_agents_that_follow_another_replica_say_that_they_have_it() {
    let (mut core, mut later) = (self::core(), self::core());
    later.change(isolation("r", "b"));
    let expected = later.compiler.digest_of_pods(&"n2".into());
    let reports = Arc::new(Outbox::default());
    core.report(&"n2".into(), &reports);
    let before = core.compiler.digest_of_pods(&"n2".into());
    core.settled(&"n2".into(), settled(before));
    core.change(isolation("r", "b"));
    core.tell();
    let standing = core.standing();
    assert_eq!((standing.pending, standing.first[0].first.clone()), (1, Some("n2".into())));
    core.settled(&"n2".into(), settled(expected));
    assert_eq!(core.standing().pending, 0);
    // Here it changes later than where the agent was told.
    core.settled(&"n2".into(), settled(before));
    core.change(Change::PolicyGone(key("r")));
    core.change(policy("p"));
    core.tell();
    let first = core.standing().first.into_iter().next().map(|policy| (policy.lacking, policy.first));
    assert_eq!(first, Some((1, Some("n1".into()))), "whose agent never came");
    core.peer(&"n1".into(), None);
    assert_eq!(core.standing().pending, 0, "there is no such node");
    core.change(isolation("r", "b"));
    core.tell();
    core.closed(&"n2".into(), &reports);
    assert_eq!(core.standing().pending, 1, "nobody speaks for the node");
}

#[test]
fn a_policy_that_changes_while_an_agent_is_away_is_missing_on_its_node_until_it_is_back() {
    let mut core = core();
    let (_one, other) = (follow(&mut core, "n1"), follow(&mut core, "n2"));
    core.closed(&"n2".into(), &other);
    assert!(!core.is_heard_of_all());
    assert_eq!(core.standing().pending, 0, "what it has was told before");
    core.take_news();
    core.change(isolation("r", "b"));
    core.tell();
    let missing = |core: &mut Core| core.standing().first.first().map(ToString::to_string);
    assert_eq!(missing(&mut core).as_deref(), Some("on 0 of 1 nodes, missing on n2"));
    assert!(core.take_news().settled.is_empty());
    let again = Arc::new(Outbox::default());
    let version = core.open(&"n2".into(), &Holdings::default(), &again).unwrap().version;
    assert!(missing(&mut core).is_some(), "it was only told");
    core.acknowledged(&"n2".into(), version);
    assert_eq!(missing(&mut core), None);
    let settled = core.take_news().settled;
    assert_eq!((settled.len(), settled[0].id.to_string(), settled[0].nodes), (1, "NetworkPolicy web/r".to_owned(), 1));
}

#[test]
fn what_there_was_at_the_beginning_is_no_news_and_is_not_held_against_agents_that_come_later() {
    let mut core = core();
    assert_eq!(core.standing().pending, 0);
    let news = core.take_news();
    assert!(news.settled.is_empty() && news.is_counted);
    assert!(!core.has_news());
}
