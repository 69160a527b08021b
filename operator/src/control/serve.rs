//! The server, and what feeds it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use kube::Client;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc, watch};
use towpath_control::auth::{Authenticator, KubeJudge};
use towpath_control::authority::{Certificates, IssueError, Keeper, KubeStore, server_config};
use towpath_control::message::{Attached, Settled};
use towpath_control::metrics::ServerMetrics;
use towpath_control::server::{Backend, Limits, Opening, Outbox, Server, Unready, Version};
use towpath_control::update::Holdings;
use towpath_net::state::NodeName;

use super::core::Core;
use crate::lease::Leadership;
use crate::metrics::Metrics;
use crate::policy::feed::Fed;

/// The agents' service account.
const AGENT: &str = "towpath-agent";
/// How many changes are taken in before agents are told: what comes together is told together.
const TOGETHER: usize = 1024;

/// What all tasks share. Nobody holds it for longer than a change takes.
#[derive(Debug, Default)]
pub struct Shared {
    core: Mutex<Core>,
    news: Notify,
}

impl Shared {
    /// What is known and told.
    pub fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns once something became of policies.
    pub async fn news(&self) {
        self.news.notified().await;
    }

    /// Does something, and lets know where something became of policies by it.
    fn with<T>(&self, act: impl FnOnce(&mut Core) -> T) -> T {
        let mut core = self.core();
        let done = act(&mut core);
        let has_news = core.has_news();
        drop(core);
        if has_news {
            self.news.notify_one();
        }
        done
    }
}

impl Backend for Shared {
    fn open(&self, node: &NodeName, holdings: &Holdings, outbox: &Arc<Outbox>) -> Result<Opening, Unready> {
        self.core().open(node, holdings, outbox)
    }

    fn report(&self, node: &NodeName, outbox: &Arc<Outbox>) {
        self.core().report(node, outbox);
    }

    fn attachments(&self, node: &NodeName, attached: Vec<Attached>) {
        self.core().attachments(node, attached);
    }

    fn attached(&self, node: &NodeName, attached: Attached) {
        self.core().attached(node, attached);
    }

    fn detached(&self, node: &NodeName, uid: &str) {
        self.core().detached(node, uid);
    }

    fn settled(&self, node: &NodeName, settled: Settled) {
        self.with(|core| core.settled(node, settled));
    }

    fn acknowledged(&self, node: &NodeName, version: Version) {
        self.with(|core| core.acknowledged(node, version));
    }

    fn refused(&self, node: &NodeName, _: Version, reason: &str) {
        self.with(|core| core.refused(node, reason));
    }

    fn closed(&self, node: &NodeName, outbox: &Arc<Outbox>) {
        self.with(|core| core.closed(node, outbox));
    }
}

/// Takes in what policies are compiled from, until nobody tells any more.
pub async fn take_changes(mut changes: mpsc::Receiver<Fed>, shared: Arc<Shared>, metrics: Arc<Metrics>) {
    let mut batch = Vec::with_capacity(TOGETHER);
    while changes.recv_many(&mut batch, TOGETHER).await > 0 {
        let (begun, count) = (Instant::now(), batch.len());
        shared.with(|core| {
            for fed in batch.drain(..) {
                match fed {
                    Fed::Change(change) => core.change(change),
                    Fed::Written(name, written) => core.written(name, written),
                    Fed::Whole => core.know_policies(),
                }
            }
            core.tell();
        });
        metrics.compiled(count, begun.elapsed());
    }
}

/// How agents are served.
#[derive(Debug)]
pub struct Serving {
    /// Where they come.
    pub listener: TcpListener,
    /// Whether this replica leads: the leader alone issues authorities.
    pub leadership: Leadership,
    /// Where it is counted.
    pub metrics: Arc<ServerMetrics>,
    /// Holds when it is to end.
    pub end: watch::Receiver<bool>,
}

/// Serves agents until the end.
///
/// # Errors
///
/// When TLS cannot be set up.
pub async fn serve(client: Client, namespace: &str, shared: Arc<Shared>, serving: Serving) -> Result<(), IssueError> {
    let Serving { listener, leadership, metrics, end } = serving;
    let certificates = Arc::new(Certificates::default());
    let tls = Arc::new(server_config(Arc::clone(&certificates))?);
    let keeper = Keeper::new(KubeStore::new(client.clone(), namespace), certificates, SystemTime::now);
    let user = format!("system:serviceaccount:{namespace}:{AGENT}");
    let authenticator = Arc::new(Authenticator::new(KubeJudge::new(client), user, SystemTime::now));
    let server = Arc::new(Server::new(shared, authenticator, tls, Limits::default()).counting(metrics));
    tokio::select! {
        () = server.serve(listener, end) => {}
        () = keeper.keep(move || leadership.holds()) => {}
    }
    Ok(())
}
