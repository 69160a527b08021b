//! The life of the process: watch, stand for election, reconcile while leading, end in order.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::api::Api;
use kube::{Client, Config};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::args::Args;
use crate::cache::Caches;
use crate::cluster::Cluster;
use crate::control;
use crate::events::Herald;
use crate::http::{Health, listen, serve};
use crate::lease::{Candidate, Leadership};
use crate::metrics::{Metrics, Outcome};
use crate::policy::feed::feed;
use crate::policy::report::Report;
use crate::policy::teller::Teller;
use crate::reconcile::{Context, Memory, Next, reconcile};

/// How long after a change a pass begins, for changes come in bursts; at least four times as long as the last pass
/// took, so that passes over a large cluster take a fifth of a core at most.
const GATHER: Duration = Duration::from_millis(50);
/// What a pass counts for at most in that: changes are followed within a second also where the API server is slow.
const LONGEST_GATHER: Duration = Duration::from_millis(150);
/// The longest time between two looks at whether anything is to be done.
const IDLE: Duration = Duration::from_secs(10);
/// Between two passes without a change: a safety net, as every change is notified.
const RESYNC: Duration = Duration::from_secs(30);
/// The longest that a pass may take; a rollout to 5,000 nodes takes a fraction of it per pass.
const LONGEST_PASS: Duration = Duration::from_mins(2);
/// Between a failure and the next pass, doubling from the first to the second.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// How long a pass that is under way may take when the process is to end.
const GRACE: Duration = Duration::from_secs(5);

/// Why the operator cannot start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Neither a kubeconfig nor a pod's credentials.
    #[error("find the API server: {0}; set KUBECONFIG, or run as a pod with a service account")]
    Config(#[from] kube::config::InferConfigError),
    /// The credentials cannot be used.
    #[error("make a client of the API server: {0}")]
    Client(#[from] kube::Error),
    /// The port is taken.
    #[error("listen on port {port}: {source}; choose another with {option}")]
    Listen {
        /// The port.
        port: u16,
        /// What chooses it.
        option: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The operating system refuses signals.
    #[error("handle signals: {0}")]
    Signal(io::Error),
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
///
/// Only what is wrong at the start; an API server that is away is waited for.
pub async fn run(args: Args) -> Result<(), RunError> {
    let config = Config::infer().await?;
    let client = Client::try_from(config)?;
    let (end, ended) = watch::channel(false);
    let mut terminate = signal(SignalKind::terminate()).map_err(RunError::Signal)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RunError::Signal)?;
    let listener =
        listen(args.port).await.map_err(|source| RunError::Listen { port: args.port, option: "--port", source })?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), port = args.port, namespace = args.namespace, "started");
    let agents = listen(args.control_port).await;
    let agents =
        agents.map_err(|source| RunError::Listen { port: args.control_port, option: "--control-port", source })?;
    let operator = tokio::spawn(operate(client, args, Listeners { web: listener, agents }, ended));
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("ending");
    end.send_replace(true);
    // A panic in it was logged where it happened.
    let _ = operator.await;
    Ok(())
}

/// What is listened on.
struct Listeners {
    web: TcpListener,
    agents: TcpListener,
}

/// Everything but the signals.
async fn operate(client: Client, args: Args, listeners: Listeners, ended: watch::Receiver<bool>) {
    let changed = Arc::new(Notify::new());
    let (shared, counted) = (Arc::new(control::Shared::default()), Arc::default());
    let exported = control::Exported { shared: Arc::clone(&shared), server: Arc::clone(&counted) };
    let metrics = Arc::new(Metrics::default().collecting(Box::new(exported)));
    let health = Arc::new(Health::default());
    let mut watches = JoinSet::new();
    let caches = Caches::watch(&client, &changed, &mut watches);
    let leases = Api::namespaced(client.clone(), &args.namespace);
    let (candidate, leadership) = Candidate::new(leases, &args.identity, Arc::clone(&changed));
    let cluster = Cluster::new(&client, &args.namespace, leadership.clone(), Arc::clone(&metrics));
    let herald = Herald::new(client.clone(), &args.identity);
    let serving = control::Serving {
        listener: listeners.agents,
        leadership: leadership.clone(),
        metrics: counted,
        end: ended.clone(),
    };
    let followed = Followed {
        namespace: args.namespace.clone(),
        shared: Arc::clone(&shared),
        serving,
        metrics: Arc::clone(&metrics),
    };
    let policies = follow_agents(client, followed, &changed, &mut watches);
    let web = tokio::spawn(serve(listeners.web, Arc::clone(&health), Arc::clone(&metrics), over(ended.clone())));
    let (stop_standing, standing) = watch::channel(false);
    let filled = tokio::select! {
        () = fill(&caches, &health) => true,
        () = over(ended.clone()) => false,
    };
    if filled {
        let campaign = tokio::spawn(candidate.campaign(standing));
        let teller =
            Teller::new(cluster.clone(), herald.clone(), Arc::clone(&shared), policies.clone(), Arc::clone(&changed));
        let telling = tokio::spawn(teller.follow());
        let context = Context { caches, cluster, herald, policies, control: shared };
        tokio::select! {
            () = work(&context, &leadership, &changed, &health, ended.clone()) => {}
            () = grace(ended) => {}
        }
        telling.abort();
        let _ = telling.await;
        // Only now, with nothing under way, may another replica lead.
        stop_standing.send_replace(true);
        let _ = campaign.await;
    }
    watches.shutdown().await;
    if let Ok(Ok(Err(error))) = timeout(GRACE, web).await {
        tracing::warn!(%error, "probes were not answered");
    }
    tracing::info!("ended");
}

/// How agents are served.
struct Followed {
    namespace: String,
    shared: Arc<control::Shared>,
    serving: control::Serving,
    metrics: Arc<Metrics>,
}

/// Tells agents what they must know, whether this replica leads or not. Gives what of policies cannot be honoured; `changed` is
/// notified when that is new.
fn follow_agents(
    client: Client,
    followed: Followed,
    changed: &Arc<Notify>,
    tasks: &mut JoinSet<()>,
) -> watch::Receiver<Report> {
    let Followed { namespace, shared, serving, metrics } = followed;
    let feed = feed(&client, tasks);
    tasks.spawn(control::take_changes(feed.changes, Arc::clone(&shared), metrics));
    tasks.spawn(control::follow_peers(client.clone(), Arc::clone(&shared)));
    tasks.spawn(async move {
        if let Err(error) = control::serve(client, &namespace, shared, serving).await {
            tracing::error!(%error, "agents cannot be served");
        }
    });
    let (mut report, changed) = (feed.report.clone(), Arc::clone(changed));
    tasks.spawn(async move {
        while report.changed().await.is_ok() {
            changed.notify_one();
        }
    });
    feed.report
}

/// Returns when the process is to end; an error would say that the sender is gone, which is an end too.
async fn over(mut ended: watch::Receiver<bool>) {
    let _ = ended.wait_for(|ended| *ended).await;
}

/// Returns when whatever is under way has had its time after the end.
async fn grace(ended: watch::Receiver<bool>) {
    over(ended).await;
    sleep(GRACE).await;
}

async fn fill(caches: &Caches, health: &Health) {
    let filled = caches.filled();
    tokio::pin!(filled);
    loop {
        health.beat();
        tokio::select! {
            () = &mut filled => break,
            () = sleep(IDLE) => tracing::info!("waiting for the first lists from the API server"),
        }
    }
    health.ready();
    tracing::info!("caches filled");
}

/// Passes, as often as something changes and while this replica leads, until the process is to end.
async fn work(
    context: &Context,
    leadership: &Leadership,
    changed: &Notify,
    health: &Health,
    ended: watch::Receiver<bool>,
) {
    let mut memory = Memory::default();
    let mut led = false;
    let mut last: Option<Instant> = None;
    let mut retry = RETRY.0;
    let mut pause = Duration::ZERO;
    let mut took = Duration::ZERO;
    while !*ended.borrow() {
        let notified = tokio::select! {
            () = changed.notified() => true,
            () = sleep(pause) => false,
            () = over(ended.clone()) => break,
        };
        health.beat();
        let leads = leadership.holds();
        context.cluster.metrics().leads(leads);
        let due = notified || !led || pause < IDLE || last.is_none_or(|last| last.elapsed() >= RESYNC);
        if !leads || !due {
            (led, pause) = (leads, IDLE);
            continue;
        }
        led = true;
        if notified {
            sleep(GATHER.max(took * 4)).await;
        }
        let begun = Instant::now();
        last = Some(begun);
        (pause, retry) = match pass(context, &mut memory).await {
            (Outcome::Done, Next::Wait) => (IDLE, RETRY.0),
            (Outcome::Done, Next::Again(after)) => (after, RETRY.0),
            (_, _) => (retry, (retry * 2).min(RETRY.1)),
        };
        took = begun.elapsed().min(LONGEST_GATHER);
    }
}

async fn pass(context: &Context, memory: &mut Memory) -> (Outcome, Next) {
    let begun = Instant::now();
    let (outcome, next) = match timeout(LONGEST_PASS, reconcile(context, memory)).await {
        Ok(Ok(next)) => (Outcome::Done, next),
        Ok(Err(error)) if error.is_conflict() => {
            tracing::debug!(%error, "somebody else wrote, looking again");
            (Outcome::Conflict, Next::Wait)
        }
        Ok(Err(error)) => {
            tracing::warn!(%error, "pass failed, trying again");
            (Outcome::Failed, Next::Wait)
        }
        Err(_) => {
            tracing::warn!(seconds = LONGEST_PASS.as_secs(), "pass took too long, trying again");
            (Outcome::Failed, Next::Wait)
        }
    };
    context.cluster.metrics().passed(outcome, begun.elapsed());
    (outcome, next)
}
