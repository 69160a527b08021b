//! `/healthz`, `/readyz` and `/metrics`.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;

use crate::metrics::Metrics;

/// The loop beats at least every ten seconds, and no pass may take longer than a minute ([`crate::run`]).
const LONGEST_SILENCE: Duration = Duration::from_mins(3);

/// What probes are answered from.
#[derive(Debug)]
pub struct Health {
    started: Instant,
    last_beat: AtomicU64,
    ready: AtomicBool,
}

impl Default for Health {
    fn default() -> Self {
        Self { started: Instant::now(), last_beat: AtomicU64::new(0), ready: AtomicBool::new(false) }
    }
}

impl Health {
    /// The loop is alive.
    pub fn beat(&self) {
        self.last_beat.store(self.started.elapsed().as_secs(), Ordering::Relaxed);
    }

    /// The caches are filled. An API server that goes away later does not make the operator less ready.
    pub fn ready(&self) {
        self.ready.store(true, Ordering::Relaxed);
    }

    fn alive(&self) -> bool {
        let silent = self.started.elapsed().as_secs().saturating_sub(self.last_beat.load(Ordering::Relaxed));
        silent < LONGEST_SILENCE.as_secs()
    }
}

/// Listens on every address of the host, of both families where there are both.
pub async fn listen(port: u16) -> io::Result<TcpListener> {
    match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await
        }
        done => done,
    }
}

/// Answers until `end` is done.
pub async fn serve(
    listener: TcpListener,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    end: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let router = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .with_state(health)
        .merge(Router::new().route("/metrics", get(text)).with_state(metrics));
    axum::serve(listener, router).with_graceful_shutdown(end).await
}

async fn healthz(State(health): State<Arc<Health>>) -> (StatusCode, &'static str) {
    if health.alive() { (StatusCode::OK, "ok\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "the loop stands still\n") }
}

async fn readyz(State(health): State<Arc<Health>>) -> (StatusCode, &'static str) {
    if health.ready.load(Ordering::Relaxed) {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the first lists have not been read yet\n")
    }
}

async fn text(State(metrics): State<Arc<Metrics>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], metrics.text())
}
