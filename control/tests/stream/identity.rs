//! Whose calls are answered.

use std::sync::atomic::Ordering;
use std::time::Instant;

use tonic::Code;
use towpath_control::metrics::Refusal;
use towpath_control::server::Version;

use crate::harness::{AGENT, Map, Operator, Start, good_token, soon, token};
use crate::raw::Raw;

const AUDIENCE: &str = "towpath-control";

async fn code(operator: &Operator, token: &str) -> Code {
    Raw::connect(operator).await.call(token, "n1").await
}

#[tokio::test]
async fn only_tokens_of_agents_bound_to_a_node_are_taken() {
    let operator = Operator::start().await;
    let cases = [
        (good_token("n1"), Code::Ok),
        (String::new(), Code::Unauthenticated),
        ("garbage".to_owned(), Code::Unauthenticated),
        ("a.b.c".to_owned(), Code::Unauthenticated),
        (token(AGENT, Some("n1"), "https://kubernetes.default.svc", 3600), Code::Unauthenticated),
        (token(AGENT, Some("n1"), AUDIENCE, -1), Code::Unauthenticated),
        (token(AGENT, None, AUDIENCE, 3600), Code::Unauthenticated),
        (token("system:serviceaccount:default:default", Some("n1"), AUDIENCE, 3600), Code::PermissionDenied),
        (token("kubernetes-admin", Some("n1"), AUDIENCE, 3600), Code::PermissionDenied),
    ];
    let refused = cases.iter().filter(|(_, expected)| *expected != Code::Ok).count() as u64;
    for (token, expected) in cases {
        assert_eq!(code(&operator, &token).await, expected, "{token}");
    }
    assert_eq!(operator.metrics.refused(Refusal::Token), refused);
    assert_eq!(
        operator.judge.asked.load(Ordering::Relaxed),
        4,
        "what is no token for this audience is not asked about"
    );
}

#[tokio::test]
async fn the_node_of_the_token_decides_whatever_the_agent_says() {
    let operator = Operator::start().await;
    let agent = Start { token: good_token("n2"), ..Start::new("n1") }.go(&Map::of(&[&operator]));
    soon(operator.metrics.reach_refused(Refusal::Node, 1)).await;
    assert_eq!(agent.metrics.streams.get(), 0);
    assert!(operator.cluster.outbox("n1").is_none() && operator.cluster.outbox("n2").is_none());
}

#[tokio::test]
async fn a_token_is_asked_about_once_while_it_is_remembered() {
    let operator = Operator::start().await;
    let (good, bad) = (good_token("n1"), token("someone", Some("n1"), AUDIENCE, 3600));
    let begun = Instant::now();
    for _ in 0..5 {
        assert_eq!(code(&operator, &good).await, Code::Ok);
        assert_eq!(code(&operator, &bad).await, Code::PermissionDenied);
    }
    // A bad one is remembered for ten seconds.
    let forgotten = begun.elapsed().as_secs() / 10;
    let asked = operator.judge.asked.load(Ordering::Relaxed) as u64;
    assert!((2..=2 + forgotten).contains(&asked), "asked {asked} times in {:?}", begun.elapsed());
}

#[tokio::test]
async fn without_the_api_server_those_that_are_remembered_go_on() {
    let mut operator = Operator::start().await;
    let map = Map::of(&[&operator]);
    let agent = Start::new("n1").go(&map);
    operator.acknowledged(Version(0)).await;
    operator.judge.is_away.store(true, Ordering::Relaxed);
    map.go_away();
    let (state, folder) = agent.stop().await;
    let token = std::fs::read_to_string(folder.path().join("token")).unwrap();
    let _again = Start { token, state, folder, ..Start::new("n1") }.go(&map);
    operator.acknowledged(Version(0)).await;
    assert_eq!(code(&operator, &good_token("n9")).await, Code::Unavailable);
    assert_eq!(operator.metrics.refused(Refusal::Review), 1);
}
