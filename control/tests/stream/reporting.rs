//! Which pods have addresses is told to every replica, for the nodes that follow it.

use std::collections::BTreeMap;
use std::time::SystemTime;

use towpath_control::message::Attached;
use towpath_control::metrics::Refusal;
use towpath_control::server::{Limits, Version};
use towpath_net::policy::bundle::{Delta, PodPolicy};
use towpath_net::policy::digest::Digest;

use crate::harness::agent::Heard;
use crate::harness::{AGENT, Agent, Map, Operator, Said, Start, attached, good_token, key, soon, token};

/// Another replica of the same operator.
async fn beside(one: &Operator) -> Operator {
    Operator::signed_by(one.authorities.clone(), SystemTime::now(), Limits::default()).await
}

/// Two replicas and an agent: first the replica that it follows, then that to which it only reports.
async fn two_replicas(map: &Map) -> (Operator, Operator, Agent) {
    two_replicas_of(Start::new("n1"), map).await
}

/// The same with an agent that comes up so.
async fn two_replicas_of(start: Start, map: &Map) -> (Operator, Operator, Agent) {
    let one = Operator::start().await;
    let other = beside(&one).await;
    map.set(&[&one, &other]);
    let agent = start.go(map);
    soon(agent.metrics.reporting.come_to(1)).await;
    soon(agent.metrics.connected.come_to(1)).await;
    let is_first = one.cluster.outbox("n1").is_some();
    if is_first { (one, other, agent) } else { (other, one, agent) }
}

async fn attachments(operator: &mut Operator) -> Vec<Attached> {
    operator.hear_of(|said| if let Said::Attachments(all) = said { Some(all.clone()) } else { None }).await
}

async fn attached_one(operator: &mut Operator) -> Attached {
    operator.hear_of(|said| if let Said::Attached(one) = said { Some(one.clone()) } else { None }).await
}

#[tokio::test]
async fn a_pod_is_told_of_to_every_replica_and_known_when_all_say_so() {
    let (mut followed, mut other, mut agent) = two_replicas(&Map::default()).await;
    assert_eq!(attachments(&mut other).await, []);
    agent.handle.attach(attached("a", 1, true));
    assert_eq!(attached_one(&mut followed).await, attached("a", 1, true));
    assert_eq!(attached_one(&mut other).await, attached("a", 1, true));
    followed.cluster.outbox("n1").unwrap().known("a".to_owned());
    agent.handle.attach(attached("b", 2, false));
    assert_eq!(attached_one(&mut other).await.uid, "b");
    other.cluster.reports("n1").unwrap().known("a".to_owned());
    while !matches!(agent.hear().await, Heard::Known(uid) if uid == "a") {}
    agent.handle.detach("a");
    other.hear_of(|said| (*said == Said::Detached("a".to_owned())).then_some(())).await;
}

#[tokio::test]
async fn a_replica_that_goes_is_waited_for_no_longer() {
    let (followed, other, mut agent) = two_replicas(&Map::default()).await;
    agent.handle.attach(attached("a", 1, true));
    followed.cluster.outbox("n1").unwrap().known("a".to_owned());
    other.stop();
    while !matches!(agent.hear().await, Heard::Known(uid) if uid == "a") {}
}

#[tokio::test]
async fn a_replica_that_comes_later_is_reported_to() {
    let map = Map::default();
    let mut first = Operator::start().await;
    map.set(&[&first]);
    let agent = Start::new("n1").go(&map);
    first.acknowledged(Version(0)).await;
    agent.handle.attach(attached("a", 1, false));
    let mut second = beside(&first).await;
    map.set(&[&first, &second]);
    assert_eq!(attachments(&mut second).await, [attached("a", 1, false)]);
    assert!(second.cluster.outbox("n1").is_none(), "it follows the first one");
}

#[tokio::test]
async fn an_agent_whose_replica_goes_follows_the_one_that_it_reported_to() {
    let (followed, mut other, agent) = two_replicas(&Map::default()).await;
    followed.stop();
    other.acknowledged(Version(0)).await;
    other.cluster.until(|now| now.reports("n1").is_none() && now.outbox("n1").is_some()).await;
    assert_eq!(agent.metrics.connected.get(), 1);
}

#[tokio::test]
async fn a_stream_ends_when_its_token_expires_and_the_agent_comes_again() {
    let mut operator = Operator::start().await;
    // Long enough to be connected by then.
    let short = token(AGENT, Some("n1"), "towpath-control", 8);
    let agent = Start { token: short, ..Start::new("n1") }.go(&Map::of(&[&operator]));
    operator.acknowledged(Version(0)).await;
    std::fs::write(agent.folder.path().join("token"), good_token("n1")).unwrap();
    operator.hear_of(|said| (*said == Said::Closed).then_some(())).await;
    operator.acknowledged(Version(0)).await;
    assert_eq!(operator.metrics.refused(Refusal::Expired), 1);
    assert_eq!(operator.metrics.agents.get(), 1);
}

#[tokio::test]
async fn a_replica_that_is_not_followed_hears_what_of_pods_is_in_the_kernel() {
    let (mut followed, mut other, _agent) = two_replicas(&Map::default()).await;
    let settled = |said: &Said| if let Said::Settled(settled) = said { Some(settled.pods) } else { None };
    let policy = PodPolicy { key: key("a"), profile: None, is_policed: true };
    let delta = Delta { pods: BTreeMap::from([("a".to_owned(), Some(policy.clone()))]), ..Delta::default() };
    let version = followed.cluster.change("n1", delta);
    followed.acknowledged(version).await;
    let expected = Digest::of_pods([Digest::of_pod("a", &policy)].into_iter());
    while other.hear_of(settled).await != expected {}
}

#[tokio::test]
async fn a_replica_that_is_not_followed_hears_why_an_update_is_not_in_the_kernel() {
    let (_followed, mut other, mut agent) = two_replicas_of(Start::new("n1").lazy(), &Map::default()).await;
    let (ticket, _) = agent.update().await;
    agent.handle.refuse(ticket, "no space left".to_owned());
    let refusal = |said: &Said| if let Said::Settled(settled) = said { settled.refusal.clone() } else { None };
    assert_eq!(other.hear_of(refusal).await, "no space left");
}
