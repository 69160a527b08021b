use std::time::Duration;

use ipnet::IpNet;
use towpath_net::policy::bundle::{Members, SetDelta};
use towpath_net::policy::digest::Digest;
use towpath_net::policy::input::{Key, Labels, Namespace, NetworkPolicy, Peer as From, Pod, Rule, Selector};
use towpath_net::transport::Transport;

use super::*;
use crate::control::claims;

fn key(name: &str) -> Key {
    Key { namespace: "web".to_owned(), name: name.to_owned() }
}

fn peer(number: u8) -> Peer {
    Peer {
        addresses: vec![[192, 168, 0, number].into()],
        pod_cidrs: vec![format!("10.0.{number}.0/24").parse::<IpNet>().unwrap()],
        accepts: vec![Transport::Direct],
        keys: None,
    }
}

fn pod(name: &str, uid: &str, node: &str) -> Change {
    Change::Pod(Pod {
        key: key(name),
        uid: uid.to_owned(),
        labels: [("app".to_owned(), name.to_owned())].into(),
        node: Some(node.into()),
        addresses: Vec::new(),
        ports: Vec::new(),
        is_host_network: false,
        is_ended: false,
    })
}

/// Of a pod, on the node of this number.
fn attached(name: &str, uid: &str, node: u8, is_waiting: bool) -> Attached {
    Attached { uid: uid.to_owned(), key: key(name), addresses: vec![[10, 0, node, 1].into()], is_waiting }
}

/// Lets every pod of the namespace be reached by all others of it, and by nobody else.
fn policy(name: &str) -> Change {
    let everyone = Selector::default();
    let peer = From::Pods { namespaces: None, pods: everyone.clone() };
    Change::Policy(NetworkPolicy {
        key: key(name),
        pods: everyone,
        ingress: Some(vec![Rule { ports: None, peers: Some(vec![peer]) }]),
        egress: None,
    })
}

/// Isolates the pod of this name.
fn isolation(name: &str, pod: &str) -> Change {
    Change::Policy(NetworkPolicy {
        key: key(name),
        pods: Selector { labels: [("app".to_owned(), pod.to_owned())].into(), ..Selector::default() },
        ingress: Some(Vec::new()),
        egress: Some(Vec::new()),
    })
}

/// A replica that knows three nodes, a pod on the first two, and a policy for both.
fn core() -> Core {
    let mut core = Core::default();
    core.change(Change::Namespace(Namespace { name: "web".to_owned(), labels: Labels::new() }));
    for (number, node) in [(1, "n1"), (2, "n2"), (3, "n3")] {
        core.peer(&node.into(), Some(peer(number)));
    }
    core.change(pod("a", "uid-a", "n1"));
    core.change(pod("b", "uid-b", "n2"));
    core.change(policy("p"));
    core.know_policies();
    core.know_peers();
    core.tell();
    core
}

/// The agent of a node comes, and has all that it is told.
fn follow(core: &mut Core, node: &str) -> Arc<Outbox> {
    let outbox = Arc::new(Outbox::default());
    let version = core.open(&node.into(), &Holdings::default(), &outbox).unwrap().version;
    core.acknowledged(&node.into(), version);
    outbox
}

/// The addresses in the sets of a node.
fn members(core: &mut Core, node: &str) -> BTreeSet<IpAddr> {
    let sets = core.compiler.bundle(&node.into()).sets;
    let all = sets.into_values().filter_map(|set| if let Members::Addresses(all) = set { Some(all) } else { None });
    all.flatten().collect()
}

fn addresses(nodes: &[u8]) -> BTreeSet<IpAddr> {
    nodes.iter().map(|node| IpAddr::from([10, 0, *node, 1])).collect()
}

/// Whether this pod was told to be known, since it was last asked.
fn is_known(outbox: &Outbox, uid: &str) -> bool {
    outbox.take_known().contains(uid)
}

/// The agent of a node has everything that it was told so far.
fn acknowledge(core: &mut Core, node: &str) {
    let version = core.sessions[&NodeName::from(node)].told;
    core.acknowledged(&node.into(), version);
}

#[test]
fn an_agents_word_on_a_pod_counts_before_and_after_the_pod_is_known() {
    let mut core = core();
    core.attached(&"n1".into(), attached("a", "uid-a", 1, false));
    assert_eq!(members(&mut core, "n2"), addresses(&[1]));
    core.attached(&"n2".into(), attached("c", "uid-c", 2, false));
    assert_eq!(members(&mut core, "n2"), addresses(&[1]));
    core.change(pod("c", "uid-c", "n2"));
    assert_eq!(members(&mut core, "n2"), addresses(&[1, 2]));
    // The status of the pod does not name the address yet.
    core.change(pod("a", "uid-a", "n1"));
    assert_eq!(members(&mut core, "n2"), addresses(&[1, 2]));
}

#[test]
fn no_agent_speaks_for_pods_or_addresses_of_another_node() {
    let mut core = core();
    core.attached(&"n3".into(), attached("a", "uid-a", 3, false));
    core.attached(&"n1".into(), attached("a", "uid-a", 2, false));
    assert_eq!(members(&mut core, "n2"), addresses(&[]));
    core.attached(&"n1".into(), attached("a", "uid-a", 1, false));
    core.attached(&"n3".into(), attached("a", "uid-a", 3, false));
    core.detached(&"n3".into(), "uid-a");
    core.change(pod("a", "uid-a", "n1"));
    assert_eq!(members(&mut core, "n2"), addresses(&[1]));
}

#[test]
fn addresses_count_once_the_range_of_their_node_is_known() {
    let mut core = core();
    core.peer(&"n1".into(), None);
    core.attached(&"n1".into(), attached("a", "uid-a", 1, false));
    assert_eq!(members(&mut core, "n2"), addresses(&[]));
    core.peer(&"n1".into(), Some(peer(1)));
    assert_eq!(members(&mut core, "n2"), addresses(&[1]));
}

#[test]
fn a_pod_of_the_same_name_does_not_inherit_the_word_on_its_predecessor() {
    let mut core = core();
    core.attached(&"n1".into(), attached("a", "uid-a", 1, false));
    core.change(pod("a", "uid-next", "n2"));
    assert_eq!(members(&mut core, "n2"), addresses(&[]));
    core.attached(&"n2".into(), attached("a", "uid-next", 2, false));
    assert_eq!(members(&mut core, "n2"), addresses(&[2]));
    // What comes late of the one before changes nothing.
    core.detached(&"n1".into(), "uid-a");
    assert_eq!(members(&mut core, "n2"), addresses(&[2]));
    core.change(Change::PodGone(key("a")));
    assert_eq!(members(&mut core, "n2"), addresses(&[]));
}

#[test]
fn a_pod_that_is_detached_has_no_addresses_whatever_its_status_says() {
    let mut core = core();
    core.attached(&"n1".into(), attached("a", "uid-a", 1, false));
    core.detached(&"n1".into(), "uid-a");
    assert_eq!(members(&mut core, "n2"), addresses(&[]));
    let Change::Pod(mut late) = pod("a", "uid-a", "n1") else { return };
    late.addresses = vec![[10, 0, 1, 1].into()];
    core.change(Change::Pod(late));
    assert_eq!(members(&mut core, "n2"), addresses(&[]));
    core.attached(&"n1".into(), attached("a", "uid-a", 1, false));
    core.attachments(&"n1".into(), Vec::new());
    assert_eq!(members(&mut core, "n2"), addresses(&[]), "the agent that came anew does not name it");
}

/// The object of a pod, with a status that names this address.
fn named(name: &str, uid: &str, node: &str, address: [u8; 4]) -> Change {
    match pod(name, uid, node) {
        Change::Pod(pod) => Change::Pod(Pod { addresses: vec![address.into()], ..pod }),
        other => other,
    }
}

#[test]
fn a_status_that_names_what_the_agent_never_named_is_later_than_its_word() {
    let mut core = core();
    let is = |core: &mut Core, last: &[u8]| {
        let expected: BTreeSet<IpAddr> = last.iter().map(|last| IpAddr::from([10, 0, 1, *last])).collect();
        assert_eq!(members(core, "n2"), expected);
    };
    core.change(named("a", "uid-a", "n1", [10, 0, 1, 7]));
    is(&mut core, &[7]);
    // Its sandbox was made anew; the status follows later.
    core.attached(&"n1".into(), attached("a", "uid-a", 1, false));
    core.change(named("a", "uid-a", "n1", [10, 0, 1, 7]));
    is(&mut core, &[1]);
    core.change(named("a", "uid-a", "n1", [10, 0, 1, 1]));
    is(&mut core, &[1]);
    // And again, while the agent is away.
    core.change(named("a", "uid-a", "n1", [10, 0, 1, 7]));
    is(&mut core, &[7]);
    core.change(named("a", "uid-a", "n1", [10, 0, 1, 8]));
    is(&mut core, &[8]);
    // The agent comes back, and the node's pods are others after it has gone again.
    core.attachments(
        &"n1".into(),
        vec![Attached { addresses: vec![[10, 0, 1, 8].into()], ..attached("a", "uid-a", 1, false) }],
    );
    is(&mut core, &[8]);
    core.change(named("a", "uid-a", "n1", [10, 0, 1, 9]));
    is(&mut core, &[9]);
    core.change(named("a", "uid-next", "n1", [10, 0, 1, 10]));
    is(&mut core, &[10]);
}

#[test]
fn a_pod_that_was_detached_has_the_addresses_that_its_status_names_newly() {
    let mut core = core();
    core.attached(&"n1".into(), attached("a", "uid-a", 1, false));
    core.detached(&"n1".into(), "uid-a");
    core.change(named("a", "uid-a", "n1", [10, 0, 1, 1]));
    assert_eq!(members(&mut core, "n2"), addresses(&[]));
    core.change(named("a", "uid-a", "n1", [10, 0, 1, 2]));
    assert_eq!(members(&mut core, "n2"), BTreeSet::from([[10, 0, 1, 2].into()]));
}

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

/// What is in the kernel of a node whose agent refuses nothing.
const fn settled(pods: Digest) -> Settled {
    Settled { pods, refusal: None }
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
