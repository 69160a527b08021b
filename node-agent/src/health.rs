//! Health, readiness and metrics over HTTP.

pub mod policies;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family as Labelled;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::watch::Receiver;
use towpath_net::device::{WIREGUARD, wireguard};

use crate::policy::Admissions;
use crate::snapshot::Snapshot;
use crate::strangers::Strangers;
use crate::worker::Counts;

/// Why nothing is served.
#[derive(Debug, Error)]
#[error("cannot serve health and metrics at {address}: {source}; choose another address with --listen")]
pub struct HealthError {
    address: SocketAddr,
    source: std::io::Error,
}

/// What is served.
#[derive(Clone, Debug)]
pub struct Told {
    /// How the node is.
    pub snapshots: Receiver<Snapshot>,
    /// What was done.
    pub counts: Receiver<Counts>,
    /// Pods that are in another network, where that is known.
    pub strangers: Receiver<Option<Strangers>>,
    /// Pods that waited for their policies.
    pub admissions: Receiver<Admissions>,
    /// Who keeps policies in force, where somebody does.
    pub policies: Option<policies::Source>,
}

/// Serves until it fails.
pub async fn serve(address: SocketAddr, told: Told) -> Result<(), HealthError> {
    let failed = |source| HealthError { address, source };
    let listener = bind(address).await.map_err(failed)?;
    let routes = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(Arc::new(told));
    axum::serve(listener, routes).await.map_err(failed)
}

/// Every address of both families, or of IPv4 alone where the kernel was started without IPv6.
async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Err(error) if address.ip() == Ipv6Addr::UNSPECIFIED && error.kind() != std::io::ErrorKind::AddrInUse => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await
        }
        bound => bound,
    }
}

/// The worker lives as long as it holds its end of the channel.
async fn healthz(State(told): State<Arc<Told>>) -> (StatusCode, &'static str) {
    match told.counts.has_changed() {
        Ok(_) => (StatusCode::OK, "ok\n"),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the thread that owns the kernel has ended\n"),
    }
}

/// Ready is who can take pods: with the configuration file in place, and the kernel as far as it can be.
async fn readyz(State(told): State<Arc<Told>>) -> (StatusCode, String) {
    let snapshot = told.snapshots.borrow();
    if snapshot.cni_installed {
        return (StatusCode::OK, "ok\n".to_owned());
    }
    let why = match snapshot.obstacles.first().or(snapshot.failures.first()) {
        Some(why) => why.clone(),
        None => "waiting for this node's NodeNetwork, or for the operator to tell which policies there are".to_owned(),
    };
    (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n"))
}

async fn metrics(State(told): State<Arc<Told>>) -> Result<String, StatusCode> {
    let strangers = told.strangers.borrow().as_ref().map_or(0, |strangers| strangers.total);
    let counted = match &told.policies {
        Some(source) => policies::Counted::now(source).await,
        None => None,
    };
    let mut registry = registry(*told.counts.borrow(), &told.snapshots.borrow(), strangers, *told.admissions.borrow());
    if let Some(source) = &told.policies {
        policies::register(&mut registry, &source.tally, counted);
    }
    let mut text = String::new();
    encode(&mut text, &registry).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok(text)
}

fn registry(counts: Counts, snapshot: &Snapshot, strangers: usize, admissions: Admissions) -> Registry {
    let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    let mut registry = Registry::with_prefix("towpath_agent");
    let mut set = |name: &str, help: &str, value: u64| {
        let gauge: Gauge = Gauge::default();
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        registry.register(name, help, gauge);
    };
    set("turns", "Comparisons of the kernel with what it should be, since the start", counts.turns);
    set("kernel_writes", "Writes to the kernel since the start", counts.writes);
    set("pods", "Pods of this node that have leases", counts.pods);
    set("drift", "Objects put right since the start that others had altered", snapshot.drift.total());
    set("programmed", "Whether the kernel has all that it should have", u64::from(snapshot.programmed));
    set("obstacles", "Parts of what is declared that cannot be on this node", count(snapshot.obstacles.len()));
    set(
        "foreign_configurations",
        "CNI configurations of other networks that take pods, or keep them from starting",
        count(snapshot.rivals.contesting().count()),
    );
    set("pods_admitted", "Pods whose policies were in force before they started, since the start", admissions.known);
    set("pods_not_waited_for", "Pods whose policies were waited for in vain, since the start", admissions.given_up);
    set(
        "resident_memory_bytes",
        "Memory of the machine that the agent has",
        towpath_control::process::resident_bytes().unwrap_or_default(),
    );
    set("foreign_pods", "Pods of this node that are in another network", count(strangers));
    let peers = "Peers on each WireGuard interface, by their last handshake: Recent where there is a session";
    registry.register("wireguard_peers", peers, handshakes(&counts));
    registry.register("wireguard_key_age_seconds", "How old each WireGuard key of the node is", key_ages(snapshot));
    registry.register("addresses", "Addresses of the node's pod CIDRs, by family and state", addresses(snapshot));
    registry
}

fn handshakes(counts: &Counts) -> Labelled<Vec<(&'static str, &'static str)>, Gauge> {
    let gauges: Labelled<_, Gauge> = Labelled::default();
    for (link, seen) in WIREGUARD.into_iter().zip(counts.handshakes) {
        let Some(seen) = seen else { continue };
        for (last, number) in [("Recent", seen.recent), ("Older", seen.older), ("Never", seen.never)] {
            let gauge = gauges.get_or_create_owned(&vec![("interface", link), ("handshake", last)]);
            gauge.set(i64::try_from(number).unwrap_or(i64::MAX));
        }
    }
    gauges
}

fn key_ages(snapshot: &Snapshot) -> Labelled<Vec<(&'static str, &'static str)>, Gauge> {
    let gauges: Labelled<_, Gauge> = Labelled::default();
    for key in snapshot.keys.iter().flat_map(|keys| &keys.keys) {
        let age = key.since.elapsed().unwrap_or_default().as_secs();
        let gauge = gauges.get_or_create_owned(&vec![("interface", wireguard(key.slot))]);
        gauge.set(i64::try_from(age).unwrap_or(i64::MAX));
    }
    gauges
}

/// `Wanted` are those that pods wait for, `Draining` those that pods have of CIDRs that drain.
fn addresses(snapshot: &Snapshot) -> Labelled<Vec<(&'static str, String)>, Gauge> {
    let gauges: Labelled<_, Gauge> = Labelled::default();
    for (family, count) in snapshot.addresses.counts.iter().filter(|(_, count)| count.blocks > 0) {
        let states =
            [("Used", count.used), ("Free", count.free), ("Draining", count.draining), ("Wanted", count.wanted)];
        for (state, number) in states {
            let labels = vec![("family", family.to_string()), ("state", state.to_owned())];
            gauges.get_or_create(&labels).set(i64::try_from(number).unwrap_or(i64::MAX));
        }
    }
    gauges
}
