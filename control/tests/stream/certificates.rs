//! Whom agents believe, as certificates and clocks change.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;
use towpath_control::authority::Authorities;
use towpath_control::client::Config;
use towpath_control::server::{Limits, Version};

use crate::harness::{Map, Operator, Start, soon};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

fn now() -> SystemTime {
    SystemTime::now()
}

fn authorities(at: SystemTime) -> Authorities {
    let mut authorities = Authorities::default();
    assert!(authorities.turn(at).unwrap());
    authorities
}

/// A clock that is wrong by some seconds.
#[derive(Debug)]
struct Skewed(i64);

impl TimeProvider for Skewed {
    fn current_time(&self) -> Option<UnixTime> {
        let now = UnixTime::now().as_secs().saturating_add_signed(self.0);
        Some(UnixTime::since_unix_epoch(Duration::from_secs(now)))
    }
}

#[tokio::test]
async fn a_replica_that_nobody_vouches_for_is_not_followed() {
    let operator = Operator::start().await;
    let mut impostor = Operator::start().await;
    impostor.authorities = operator.authorities.clone();
    let agent = Start::new("n1").go(&Map::of(&[&impostor]));
    soon(agent.metrics.failures.reach(2)).await;
    assert_eq!(agent.metrics.streams.get(), 0);
    assert_eq!(impostor.metrics.agents.get(), 0);
}

#[tokio::test]
async fn an_expired_certificate_is_not_believed() {
    let old = authorities(now() - 3 * DAY);
    let operator = Operator::signed_by(old, now() - 2 * DAY, Limits::default()).await;
    let agent = Start::new("n1").go(&Map::of(&[&operator]));
    soon(agent.metrics.failures.reach(2)).await;
    assert_eq!(agent.metrics.streams.get(), 0);
}

#[tokio::test]
async fn a_clock_that_is_some_minutes_behind_does_no_harm_and_one_that_is_days_wrong_is_noticed() {
    let mut operator = Operator::start().await;
    let map = Map::of(&[&operator]);
    let behind = Start { config: |config| Config { clock: Arc::new(Skewed(-3000)), ..config }, ..Start::new("n1") };
    let _agent = behind.go(&map);
    operator.acknowledged(Version(0)).await;
    for config in [
        |config| Config { clock: Arc::new(Skewed(-86_400)), ..config },
        |config| Config { clock: Arc::new(Skewed(3 * 86_400)), ..config },
    ] {
        let agent = Start { config, ..Start::new("n2") }.go(&map);
        soon(agent.metrics.failures.reach(2)).await;
        assert_eq!(agent.metrics.streams.get(), 0);
    }
}

#[tokio::test]
async fn a_renewed_certificate_serves_new_connections_and_ends_none() {
    let mut operator = Operator::signed_by(authorities(now() - DAY), now() - 20 * HOUR, Limits::default()).await;
    let map = Map::of(&[&operator]);
    let first = Start::new("n1").go(&map);
    operator.acknowledged(Version(0)).await;
    assert!(operator.certificates.renew(&operator.authorities, now()).unwrap());
    assert!(!operator.certificates.renew(&operator.authorities, now()).unwrap(), "once is enough");
    let _second = Start::new("n2").go(&map);
    operator.acknowledged(Version(0)).await;
    assert_eq!(first.metrics.failures.get(), 0);
}

#[tokio::test]
async fn an_agent_asks_anew_whom_to_believe_when_it_does_not_believe() {
    let mut operator = Operator::start().await;
    let map = Map::of(&[&operator]);
    let agent = Start::new("n1").go(&map);
    operator.acknowledged(Version(0)).await;
    let (state, folder) = agent.stop().await;

    // Another operator, of other authorities.
    let mut next = Operator::start().await;
    map.set(&[&next]);
    let _agent = Start { state, folder, ..Start::new("n1") }.go(&map);
    next.acknowledged(Version(0)).await;
}

#[tokio::test]
async fn an_agent_that_knows_both_authorities_follows_whichever_signs() {
    let mut both = authorities(now() - 200 * DAY);
    assert!(both.turn(now() - 2 * HOUR).unwrap(), "half of its life is over");
    assert_eq!(both.published().matches("BEGIN CERTIFICATE").count(), 2);
    for signed_at in [now() - HOUR, now() + 23 * HOUR] {
        let mut operator = Operator::signed_by(both.clone(), signed_at, Limits::default()).await;
        let skew: fn(Config) -> Config = if signed_at > now() {
            |config| Config { clock: Arc::new(Skewed(86_400)), ..config }
        } else {
            |config| config
        };
        let _agent = Start { config: skew, ..Start::new("n1") }.go(&Map::of(&[&operator]));
        operator.acknowledged(Version(0)).await;
    }
}
