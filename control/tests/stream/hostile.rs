//! Who means no good, and who does not notice.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use towpath_control::metrics::Refusal;
use towpath_control::server::Limits;
use towpath_net::policy::bundle::{Delta, Members, SetDelta, SetId};

use crate::harness::{Map, Operator, Start, good_token, soon};
use crate::raw::{Raw, framed, hello, tcp, tls};

const FOLLOW: &str = "/towpath.control.v1.Control/Follow";

/// Patience that tests can wait for, each in what it is about alone: all else takes as long as a busy machine wants.
fn handshake() -> Limits {
    Limits { handshake: Duration::from_secs(1), ..Limits::default() }
}

fn call() -> Limits {
    Limits { call: Duration::from_secs(3), ..Limits::default() }
}

fn first_message() -> Limits {
    Limits { hello: Duration::from_secs(2), ..Limits::default() }
}

fn stall() -> Limits {
    Limits { stall: Duration::from_millis(500), ..Limits::default() }
}

/// An agent is served, whatever others do.
async fn serves(operator: &mut Operator, node: &str) {
    let version = operator.cluster.change(node, Delta { is_enforced: Some(true), ..Delta::default() });
    let agent = Start::new(node).go(&Map::of(&[operator]));
    operator.acknowledged(version).await;
    agent.stop().await;
}

#[tokio::test]
async fn those_who_dribble_their_handshake_are_dropped_and_hold_up_nobody() {
    let mut operator = Operator::with(handshake()).await;
    let mut slow = Vec::new();
    for number in 0..100 {
        let mut stream = tcp([127, 0, 0, 10 + number], operator.address).await.unwrap();
        stream.write_all(&[22, 3]).await.unwrap();
        slow.push(stream);
    }
    serves(&mut operator, "n1").await;
    soon(operator.metrics.reach_refused(Refusal::Handshake, 100)).await;
    serves(&mut operator, "n2").await;
}

#[tokio::test]
async fn what_is_no_tls_ends_at_once() {
    let mut operator = Operator::start().await;
    for text in [b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(), vec![0xff; 100_000], b"PRI * HTTP/2.0\r\n\r\n".to_vec()]
    {
        let mut stream = tcp([127, 0, 0, 1], operator.address).await.unwrap();
        _ = stream.write_all(&text).await;
        // TLS may say why, and then it is over.
        _ = soon(stream.read_to_end(&mut Vec::new())).await;
    }
    assert_eq!(operator.metrics.refused(Refusal::Handshake), 3);
    serves(&mut operator, "n1").await;
}

#[tokio::test]
async fn who_speaks_another_protocol_inside_or_nothing_at_all_is_dropped() {
    let operator = Operator::with(call()).await;
    assert!(tls(&operator, b"http/1.1").await.is_err());
    let mut silent = tls(&operator, b"h2").await.unwrap();
    _ = soon(silent.read_to_end(&mut Vec::new())).await;
    assert_eq!(operator.metrics.refused(Refusal::Late), 1);
    let mut babbling = tls(&operator, b"h2").await.unwrap();
    _ = babbling.write_all(&[0x55; 4096]).await;
    _ = soon(babbling.read_to_end(&mut Vec::new())).await;
    soon(operator.metrics.connections.come_to(0)).await;
}

#[tokio::test]
async fn calls_of_something_else_are_answered_and_do_not_count_as_an_agent() {
    let operator = Operator::with(call()).await;
    let mut raw = Raw::connect(&operator).await;
    let response = raw.send("/grpc.health.v1.Health/Check", "", Vec::new()).await.unwrap();
    assert_eq!(response.headers().get("grpc-status").unwrap(), "12", "unimplemented");
    raw.ended().await;
    assert_eq!(operator.metrics.refused(Refusal::Call), 1);
    assert_eq!(operator.metrics.refused(Refusal::Late), 1);
}

#[tokio::test]
async fn an_agent_that_never_finishes_its_first_message_is_dropped() {
    let operator = Operator::with(first_message()).await;
    let mut raw = Raw::connect(&operator).await;
    let half = hello("n1").split_at(4).0.to_vec();
    _ = raw.send(FOLLOW, &good_token("n1"), half).await;
    soon(operator.metrics.reach_refused(Refusal::Late, 1)).await;
    raw.ended().await;
    soon(operator.metrics.connections.come_to(0)).await;
}

#[tokio::test]
async fn messages_that_cannot_be_meant_end_the_stream() {
    let mut operator = Operator::start().await;
    let huge = [&[0], u32::MAX.to_be_bytes().as_slice(), &[0; 64]].concat();
    let nobody = framed(&[]);
    let unknown = framed(&[0xff; 64]);
    for (number, bytes) in (1..).zip([huge, nobody, unknown, [hello("n1"), hello("n1")].concat()]) {
        let mut raw = Raw::connect(&operator).await;
        _ = raw.send(FOLLOW, &good_token("n1"), bytes).await;
        raw.ended().await;
        assert_eq!(operator.metrics.refused(Refusal::Malformed), number);
    }
    serves(&mut operator, "n1").await;
}

#[tokio::test]
async fn thousands_of_connections_from_one_address_take_nobody_elses_place() {
    let mut operator = Operator::start().await;
    let mut held = Vec::new();
    for _ in 0..3000 {
        if let Ok(stream) = tcp([127, 0, 0, 9], operator.address).await {
            held.push(stream);
        }
        if held.len() > 200 {
            held.remove(0);
        }
    }
    assert!(operator.metrics.connections.get() <= 16);
    serves(&mut operator, "n1").await;
    assert!(operator.metrics.refused(Refusal::ConnectionsOfAddress) > 1000);
}

#[tokio::test]
async fn no_more_connections_are_taken_than_there_may_be() {
    let operator = Operator::with(Limits { connections: 8, unknown: 4, ..Limits::default() }).await;
    let mut held = Vec::new();
    for number in 0..20 {
        held.push(tcp([127, 0, 1, number], operator.address).await.unwrap());
    }
    soon(operator.metrics.reach_refused(Refusal::Unknown, 16)).await;
    soon(operator.metrics.connections.come_to(0)).await;
    let mut operator = operator;
    serves(&mut operator, "n1").await;
}

#[tokio::test]
async fn an_agent_that_reads_nothing_is_cut_off_and_others_are_told() {
    let mut operator = Operator::with(stall()).await;
    let address = |number: u32| std::net::Ipv4Addr::from_bits(number).into();
    let all = Members::Addresses((0..1_000_000).map(address).collect());
    let large = Delta { sets: BTreeMap::from([(SetId(1), SetDelta::New(all))]), ..Delta::default() };
    operator.cluster.change("n1", large);
    let mut raw = Raw::connect(&operator).await;
    let _unread = raw.send(FOLLOW, &good_token("n1"), hello("n1")).await.unwrap();
    serves(&mut operator, "n2").await;
    soon(operator.metrics.reach_refused(Refusal::Stalled, 1)).await;
    raw.ended().await;
    soon(operator.metrics.agents.come_to(0)).await;
}

#[tokio::test]
async fn an_agent_that_never_answers_costs_nobody_anything() {
    let mut operator = Operator::start().await;
    let mut silent = Start::new("n1").lazy().go(&Map::of(&[&operator]));
    silent.update().await;
    for _ in 0..100 {
        operator.cluster.change("n1", Delta { is_enforced: Some(true), ..Delta::default() });
    }
    serves(&mut operator, "n2").await;
    assert_eq!(operator.metrics.updates.get(), 2, "one to each");
}
