//! What of it is not believed, and what is forgotten.

use super::*;

#[test]
fn what_an_agent_said_is_forgotten_with_its_node_and_with_pods_that_have_ended() {
    let mut core = core();
    let own = follow(&mut core, "n1");
    core.attached(&"n1".into(), attached("a", "uid-a", 1, false));
    core.attached(&"n2".into(), attached("b", "uid-b", 2, false));
    core.peer(&"n1".into(), None);
    assert_eq!(core.claims.nodes().count(), 2, "its agent is there: the NodeNetwork may be made anew");
    core.closed(&"n1".into(), &own);
    assert_eq!(core.claims.nodes().collect::<Vec<_>>(), [&NodeName::from("n2")]);
    core.detached(&"n2".into(), "uid-b");
    let Change::Pod(mut ended) = pod("b", "uid-b", "n2") else { return };
    ended.is_ended = true;
    core.change(Change::Pod(ended));
    assert_eq!(core.claims.nodes().count(), 0);
}

#[test]
fn an_agent_that_speaks_of_too_many_pods_is_heard_of_no_more_and_hinders_no_other() {
    let mut core = core();
    let own = follow(&mut core, "n3");
    for number in 0..=claims::MOST {
        core.claim(&"n3".into(), attached("none", &number.to_string(), 3, true));
    }
    assert_eq!((core.claims.unheard(), core.waits.unbound().count()), (1, claims::MOST));
    core.attached(&"n1".into(), attached("a", "uid-a", 1, false));
    assert_eq!(members(&mut core, "n2"), addresses(&[1]));
    core.attachments(&"n3".into(), Vec::new());
    core.closed(&"n3".into(), &own);
    core.attached(&"n3".into(), attached("none", "other", 3, false));
    assert_eq!(core.claims.unheard(), 1, "there is room again");
}

#[test]
fn addresses_of_another_node_are_not_believed_of_a_status() {
    let mut core = core();
    for (address, is_believed) in [([10, 0, 2, 7], false), ([192, 168, 0, 2], false), ([10, 0, 1, 7], true)] {
        core.change(named("a", "uid-a", "n1", address));
        assert_eq!(members(&mut core, "n2").contains(&IpAddr::from(address)), is_believed, "{address:?}");
    }
    assert_eq!(core.doubted(), 0);
    // What another network gave before this one came.
    core.change(named("a", "uid-a", "n1", [10, 244, 0, 9]));
    assert_eq!(members(&mut core, "n2"), BTreeSet::from([[10, 244, 0, 9].into()]));
    core.change(named("a", "uid-a", "n1", [10, 0, 2, 7]));
    assert_eq!(core.doubted(), 1);
    core.change(Change::PodGone(key("a")));
    assert_eq!(core.doubted(), 0);
}

#[test]
fn what_is_believed_of_a_status_follows_the_ranges_of_nodes() {
    let mut core = core();
    core.change(named("a", "uid-a", "n1", [10, 0, 9, 1]));
    core.change(named("b", "uid-b", "n2", [10, 0, 2, 5]));
    let with =
        |ranges: &[&str]| Peer { pod_cidrs: ranges.iter().map(|text| text.parse().unwrap()).collect(), ..peer(3) };
    core.peer(&"n3".into(), Some(with(&["10.0.9.0/24"])));
    assert_eq!(members(&mut core, "n2"), BTreeSet::from([[10, 0, 2, 5].into()]), "it is n3's");
    core.peer(&"n3".into(), Some(with(&["10.0.2.0/28"])));
    assert_eq!(members(&mut core, "n2").len(), 2, "it is nobody's, and the other one is its node's all the same");
    assert_eq!(core.doubted(), 0);
    // The agent's word counts where the status is not believed.
    core.change(named("a", "uid-a", "n1", [10, 0, 2, 1]));
    core.attached(&"n1".into(), attached("a", "uid-a", 1, false));
    core.peer(&"n3".into(), None);
    assert_eq!(members(&mut core, "n2"), BTreeSet::from([[10, 0, 1, 1].into(), [10, 0, 2, 5].into()]));
}

#[test]
fn a_status_that_was_read_before_the_nodes_were_is_judged_when_they_are_known() {
    let mut core = Core::default();
    core.change(Change::Namespace(Namespace { name: "web".to_owned(), labels: Labels::new() }));
    core.change(policy("p"));
    core.change(pod("b", "uid-b", "n2"));
    core.change(named("a", "uid-a", "n1", [10, 0, 2, 7]));
    core.know_policies();
    core.peer(&"n1".into(), Some(peer(1)));
    core.peer(&"n2".into(), Some(peer(2)));
    core.know_peers();
    assert_eq!((members(&mut core, "n2"), core.doubted()), (BTreeSet::new(), 1));
}

#[test]
fn a_range_that_two_nodes_had_for_a_moment_is_judged_when_one_lets_go() {
    let mut core = core();
    core.change(named("a", "uid-a", "n1", [10, 0, 1, 7]));
    core.change(named("b", "uid-b", "n2", [10, 0, 2, 5]));
    let own = BTreeSet::from([[10, 0, 2, 5].into()]);
    let with = |range: &str| Peer { pod_cidrs: vec![range.parse().unwrap()], ..peer(3) };
    // The same range, one around it, and one within it.
    for range in ["10.0.1.0/24", "10.0.0.0/23", "10.0.1.0/28"] {
        for now in [Some(Peer { pod_cidrs: Vec::new(), ..peer(1) }), None] {
            core.peer(&"n3".into(), Some(with(range)));
            assert_eq!((members(&mut core, "n2").len(), core.doubted()), (2, 0), "{range} is n1's as well");
            core.peer(&"n1".into(), now);
            assert_eq!((members(&mut core, "n2"), core.doubted()), (own.clone(), 1), "{range} is n3's alone");
            core.peer(&"n1".into(), Some(peer(1)));
            core.peer(&"n3".into(), Some(peer(3)));
        }
    }
}

#[test]
fn of_an_agent_that_names_new_addresses_again_and_again_the_newest_of_its_node_are_remembered() {
    let mut core = core();
    core.peer(&"n1".into(), Some(Peer { pod_cidrs: vec!["10.1.0.0/16".parse().unwrap()], ..peer(1) }));
    core.change(named("a", "uid-a", "n1", [10, 244, 0, 9]));
    let of = |round: u8, second: u8| (0..32).map(move |last| IpAddr::from([10, second, round, last]));
    for round in 0..100 {
        let addresses = of(round, 1).chain(of(round, 77)).collect();
        core.attached(&"n1".into(), Attached { addresses, ..attached("a", "uid-a", 1, false) });
    }
    core.detached(&"n1".into(), "uid-a");
    let past = core.claims.get(&("n1".into(), "uid-a".to_owned())).map(|claim| claim.past.clone()).unwrap();
    assert!(past.len() <= 128, "{}", past.len());
    assert!(of(99, 1).chain(of(98, 1)).chain(of(97, 1)).all(|address| past.contains(&address)), "{past:?}");
    assert!(past.contains(&[10, 244, 0, 9].into()), "what its status names: {past:?}");
    assert!((97..100).all(|round| !of(round, 77).any(|address| past.contains(&address))), "what is not its node's");
    for round in 0..100 {
        core.attached(&"n1".into(), Attached { addresses: of(round, 1).collect(), ..attached("a", "uid-a", 1, false) });
        core.detached(&"n1".into(), "uid-a");
    }
    let past = core.claims.get(&("n1".into(), "uid-a".to_owned())).map(|claim| claim.past.clone()).unwrap();
    assert_eq!((past.len(), past.iter().collect::<BTreeSet<_>>().len()), (128, 128), "each is remembered once");
}

#[test]
fn nobody_waits_for_an_agent_that_refuses_until_it_takes_what_it_is_told() {
    let mut core = core();
    let (own, _other) = (follow(&mut core, "n1"), follow(&mut core, "n2"));
    core.attached(&"n1".into(), attached("a", "uid-a", 1, true));
    acknowledge(&mut core, "n1");
    assert!(!is_known(&own, "uid-a"));
    core.refused(&"n2".into(), "no space");
    assert!(is_known(&own, "uid-a"), "it waited when n2 refused");
    core.attached(&"n1".into(), attached("a", "uid-a", 1, true));
    assert!(is_known(&own, "uid-a"), "n2 refused before it waited");
    // It is told again, all at once.
    core.open(&"n2".into(), &Holdings::default(), &Arc::default()).unwrap();
    core.attached(&"n1".into(), attached("a", "uid-a", 1, true));
    assert!(is_known(&own, "uid-a"), "n2 has not taken it yet");
    core.change(isolation("r", "b"));
    core.tell();
    assert_eq!(core.standing().pending, 1, "policies are missing on a node that refuses them");
    acknowledge(&mut core, "n2");
    core.attached(&"n1".into(), Attached { addresses: vec![[10, 0, 1, 2].into()], ..attached("a", "uid-a", 1, true) });
    acknowledge(&mut core, "n1");
    assert!(!is_known(&own, "uid-a"), "n2 counts again");
    acknowledge(&mut core, "n2");
    assert!(is_known(&own, "uid-a"));
}

#[test]
fn what_an_agent_says_of_another_replica_counts_as_soon_as_its_stream_here_ends() {
    let mut core = core();
    let (own, reports) = (follow(&mut core, "n2"), Arc::new(Outbox::default()));
    let told = |core: &mut Core| core.standing().first.first().map(ToString::to_string).unwrap_or_default();
    let before = core.compiler.digest_of_pods(&"n2".into());
    core.report(&"n2".into(), &reports);
    core.change(isolation("r", "b"));
    core.tell();
    core.settled(&"n2".into(), Settled { pods: before, refusal: Some("too large".to_owned()) });
    assert!(told(&mut core).ends_with("missing on n2"), "{}", told(&mut core));
    core.take_news();
    core.closed(&"n2".into(), &own);
    assert!(told(&mut core).ends_with("missing on n2 (refused: too large)"), "{}", told(&mut core));
    assert!(core.has_news());
    // What is refused here may be taken there.
    let own = Arc::new(Outbox::default());
    core.open(&"n2".into(), &Holdings::default(), &own).unwrap();
    core.refused(&"n2".into(), "no space");
    let expected = core.compiler.digest_of_pods(&"n2".into());
    core.settled(&"n2".into(), settled(expected));
    assert_eq!((core.standing().refusing, core.standing().pending), (1, 1));
    core.closed(&"n2".into(), &own);
    assert_eq!((core.standing().refusing, core.standing().pending), (0, 0));
}
