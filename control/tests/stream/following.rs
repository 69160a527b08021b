//! What agents are told, and when.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::atomic::Ordering;

use towpath_control::message::Attached;
use towpath_control::server::Version;
use towpath_net::policy::bundle::{Delta, Members, PodPolicy, SetDelta, SetId};

use crate::harness::agent::Heard;
use crate::harness::{Agent, Map, Operator, Said, Start, attached, key, peer, soon};

fn address(number: u32) -> IpAddr {
    std::net::Ipv4Addr::from_bits(0x0a00_0000 + number).into()
}

fn addresses(numbers: impl IntoIterator<Item = u32>) -> Members {
    Members::Addresses(numbers.into_iter().map(address).collect())
}

fn set(id: u64, set: SetDelta) -> Delta {
    Delta { sets: BTreeMap::from([(SetId(id), set)]), ..Delta::default() }
}

fn joins(id: u64, number: u32) -> Delta {
    set(id, SetDelta::Change { add: addresses([number]), remove: addresses([]) })
}

fn pod(uid: &str) -> Delta {
    let policy = PodPolicy { key: key(uid), profile: None, is_policed: false };
    Delta { pods: BTreeMap::from([(uid.to_owned(), Some(policy))]), ..Delta::default() }
}

fn has_all(agent: &Agent, operator: &Operator, node: &str) -> bool {
    agent.state.lock().unwrap().policy == operator.cluster.bundle(node)
}

#[tokio::test]
async fn an_agent_is_told_everything_and_then_what_changes() {
    let mut operator = Operator::start().await;
    operator.cluster.set_peer("n1", Some(peer(1)));
    operator.cluster.set_peer("n2", Some(peer(2)));
    operator.cluster.change("n1", pod("a"));
    let agent = Start::new("n1").go(&Map::of(&[&operator]));
    let version = operator.cluster.change("n1", set(7, SetDelta::New(addresses(1..=10))));
    operator.acknowledged(version).await;
    assert!(has_all(&agent, &operator, "n1"));
    assert_eq!(agent.state.lock().unwrap().peers, BTreeMap::from([("n2".into(), peer(2))]), "not of its own node");

    operator.cluster.set_peer("n2", None);
    operator.cluster.set_peer("n3", Some(peer(3)));
    let version = operator.cluster.change("n1", joins(7, 99));
    operator.acknowledged(version).await;
    assert!(has_all(&agent, &operator, "n1"));
    assert_eq!(agent.state.lock().unwrap().peers, BTreeMap::from([("n3".into(), peer(3))]));
}

#[tokio::test]
async fn what_changes_while_an_update_is_under_way_comes_as_one() {
    let operator = Operator::start().await;
    operator.cluster.change("n1", set(7, SetDelta::New(addresses([1]))));
    let mut agent = Start::new("n1").lazy().go(&Map::of(&[&operator]));
    let (first, _) = agent.update().await;
    for number in 2..=50 {
        operator.cluster.change("n1", joins(7, number));
    }
    operator.cluster.change("n1", set(7, SetDelta::Change { add: addresses([]), remove: addresses([2]) }));
    agent.handle.acknowledge(first);
    let (_, update) = agent.update().await;
    let expected = SetDelta::Change { add: addresses(3..=50), remove: addresses([]) };
    assert_eq!(update.policy.sets, BTreeMap::from([(SetId(7), expected)]));
    assert!(has_all(&agent, &operator, "n1"));
}

#[tokio::test]
async fn an_agent_that_comes_back_to_another_replica_is_told_only_what_is_different() {
    let mut first = Operator::start().await;
    let mut second = Operator::start().await;
    for operator in [&first, &second] {
        for number in 0..1000 {
            operator.cluster.set_peer(&format!("n{number}"), Some(peer(number)));
        }
        operator.cluster.change("n1", pod("a"));
        operator.cluster.change("n1", set(7, SetDelta::New(addresses(1..=5000))));
        operator.cluster.change("n1", set(8, SetDelta::New(addresses(1..=5000))));
    }
    let agent = Start::new("n1").go(&Map::of(&[&first]));
    first.acknowledged(Version(3)).await;
    let (state, _) = agent.stop().await;
    assert_eq!(state.peers.len(), 999);

    second.cluster.set_peer("n500", None);
    second.cluster.change("n1", joins(8, 6000));
    let mut agent = Start { state, ..Start::new("n1") }.go(&Map::of(&[&second]));
    let (_, update) = agent.update().await;
    second.acknowledged(Version(4)).await;
    assert_eq!(update.buckets.len(), 1);
    assert!(update.peers.len() < 20, "{}", update.peers.len());
    assert_eq!(update.policy.sets.keys().collect::<Vec<_>>(), [&SetId(8)]);
    assert_eq!(update.policy.pods, BTreeMap::new());
    assert!(has_all(&agent, &second, "n1"));
    assert_eq!(agent.state.lock().unwrap().peers.len(), 998);
}

#[tokio::test]
async fn an_agent_that_has_everything_is_told_nothing_but_asked_for_its_word() {
    let mut operator = Operator::start().await;
    operator.cluster.set_peer("n2", Some(peer(2)));
    let version = operator.cluster.change("n1", pod("a"));
    let agent = Start::new("n1").go(&Map::of(&[&operator]));
    operator.acknowledged(version).await;
    let (state, _) = agent.stop().await;
    let mut agent = Start { state, ..Start::new("n1") }.lazy().go(&Map::of(&[&operator]));
    let (ticket, update) = agent.update().await;
    assert_eq!(update, towpath_control::update::Update::default());
    agent.handle.acknowledge(ticket);
    operator.acknowledged(version).await;
}

#[tokio::test]
async fn a_large_update_comes_in_parts_and_is_applied_at_once() {
    let mut operator = Operator::start().await;
    let v6: BTreeSet<IpAddr> =
        (0..50_000_u128).map(|number| std::net::Ipv6Addr::from_bits(0xfd00 << 112 | number).into()).collect();
    operator.cluster.change("n1", set(1, SetDelta::New(Members::Addresses(v6))));
    let version = operator.cluster.change("n1", set(2, SetDelta::New(addresses(1..=100_000))));
    let mut agent = Start::new("n1").go(&Map::of(&[&operator]));
    let (_, update) = agent.update().await;
    assert_eq!(update.policy.sets.len(), 2);
    operator.acknowledged(version).await;
    assert!(has_all(&agent, &operator, "n1"));
    assert!(agent.metrics.received_bytes.get() < 50_000 * 17 + 100_000 * 5, "{:?}", agent.metrics.received_bytes);
}

#[tokio::test]
async fn what_becomes_too_much_for_a_slow_agent_is_forgotten_and_it_is_asked_what_it_has() {
    let mut operator = Operator::start().await;
    operator.cluster.change("n1", set(7, SetDelta::New(addresses([0]))));
    let mut slow = Start::new("n1").lazy().go(&Map::of(&[&operator]));
    let (first, _) = slow.update().await;
    for number in 1..=20_000 {
        operator.cluster.change("n1", joins(7, number));
    }
    // Others are told meanwhile.
    let version = operator.cluster.change("n2", pod("b"));
    let _other = Start::new("n2").go(&Map::of(&[&operator]));
    operator.acknowledged(version).await;

    slow.handle.acknowledge(first);
    let (last, update) = slow.update().await;
    assert_eq!(operator.metrics.asked.get(), 1);
    assert_eq!(update.policy.sets, BTreeMap::from([(SetId(7), SetDelta::New(addresses(0..=20_000)))]));
    assert!(has_all(&slow, &operator, "n1"));
    slow.handle.acknowledge(last);
    operator.cluster.change("n1", joins(7, 20_001));
    let (_, update) = slow.update().await;
    let expected = SetDelta::Change { add: addresses([20_001]), remove: addresses([]) };
    assert_eq!(update.policy.sets, BTreeMap::from([(SetId(7), expected)]));
}

#[tokio::test]
async fn a_refused_update_is_told_of_and_told_again_when_something_is_new() {
    let mut operator = Operator::start().await;
    let start = Start::new("n1").lazy();
    let says_no = start.refuses.clone();
    let mut agent = start.go(&Map::of(&[&operator]));
    let (ticket, _) = agent.update().await;
    agent.handle.acknowledge(ticket);
    operator.acknowledged(Version(0)).await;

    says_no.store(true, Ordering::Relaxed);
    let version = operator.cluster.change("n1", pod("a"));
    let (ticket, _) = agent.update().await;
    agent.handle.refuse(ticket, "no space left".to_owned());
    let told = operator.hear_of(|said| if let Said::Refused(at, why) = said { Some((*at, why.clone())) } else { None });
    assert_eq!(told.await, (version, "no space left".to_owned()));

    says_no.store(false, Ordering::Relaxed);
    let version = operator.cluster.change("n1", pod("b"));
    let (ticket, update) = agent.update().await;
    assert_eq!(update.policy.pods.len(), 2, "what was refused is told again");
    agent.handle.acknowledge(ticket);
    operator.acknowledged(version).await;
    assert!(has_all(&agent, &operator, "n1"));
}

#[tokio::test]
async fn pods_that_have_addresses_are_told_of_at_once_and_again_to_the_next_replica() {
    let mut first = Operator::start().await;
    let mut second = Operator::start().await;
    let map = Map::of(&[&first]);
    let mut agent = Start::new("n1").go(&map);
    first.acknowledged(Version(0)).await;
    agent.handle.attach(attached("a", 1, true));
    agent.handle.attach(attached("b", 2, false));
    agent.handle.detach("b");
    assert_eq!(first.hear().await.1, Said::Attached(attached("a", 1, true)));
    assert_eq!(first.hear().await.1, Said::Attached(attached("b", 2, false)));
    assert_eq!(first.hear().await.1, Said::Detached("b".to_owned()));
    first.cluster.outbox("n1").unwrap().known("a".to_owned());
    while !matches!(agent.hear().await, Heard::Known(uid) if uid == "a") {}

    first.stop();
    while !matches!(agent.hear().await, Heard::Connected(false)) {}
    agent.handle.attach(attached("c", 3, true));
    map.set(&[&second]);
    let said: Vec<Attached> =
        second.hear_of(|said| if let Said::Attachments(all) = said { Some(all.clone()) } else { None }).await;
    assert_eq!(said, [attached("a", 1, false), attached("c", 3, true)]);
}

#[tokio::test]
async fn the_last_stream_of_a_node_counts() {
    let mut operator = Operator::start().await;
    let map = Map::of(&[&operator]);
    let mut first = Start::new("n1").go(&map);
    operator.acknowledged(Version(0)).await;
    let version = operator.cluster.change("n1", pod("a"));
    operator.acknowledged(version).await;
    let mut second = Start::new("n1").go(&map);
    while !matches!(first.hear().await, Heard::Connected(false)) {}
    second.update().await;
    first.stop().await;
    soon(operator.metrics.agents.come_to(1)).await;
}

#[tokio::test]
async fn a_replica_that_does_not_know_the_cluster_yet_sends_agents_on() {
    let unready = Operator::start().await;
    unready.cluster.is_unready.store(true, Ordering::Relaxed);
    let mut ready = Operator::start().await;
    let _agent = Start::new("n1").go(&Map::of(&[&unready, &ready]));
    ready.acknowledged(Version(0)).await;
}

#[tokio::test]
async fn a_stream_that_the_backend_closes_ends() {
    let mut operator = Operator::start().await;
    let mut agent = Start::new("n1").go(&Map::of(&[&operator]));
    operator.acknowledged(Version(0)).await;
    operator.cluster.outbox("n1").unwrap().close();
    while !matches!(agent.hear().await, Heard::Connected(false)) {}
}
