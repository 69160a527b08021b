//! `run`: keep the node as it should be, until told to end.

mod ending;

use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch::{Receiver, channel};
use tokio::task::JoinSet;
use tracing::{info, warn};

use ending::Removal;

use super::CommandError;
use super::told::{Followed, follow};
use crate::args::Run;
use crate::policy::{Admissions, Gate, InForce};
use crate::snapshot::Update;
use crate::status::StatusWriter;
use crate::strangers::Search;
use crate::worker::{End, Inbox, Worker};
use crate::{cni_files, health, source};

/// Runs until a signal says to end, or something fails for good.
pub async fn run(args: Run) -> Result<(), CommandError> {
    let paths = args.place.paths(args.cni_binary.clone());
    let worker = Worker::start(paths.clone())?;
    let Followed { source, client, policies } = follow(&args, &paths).await?;
    let (count, admissions) = channel(Admissions::default());
    // It ends with this.
    let mut gate = JoinSet::new();
    if let Some(policies) = &policies {
        let (in_force, inbox) = (policies.in_force.clone(), policies.inbox.clone());
        gate.spawn(Gate::open(&paths, in_force, count, inbox)?.serve());
        tokio::spawn(tell_enforced(policies.in_force.clone(), worker.inbox.clone()));
    } else {
        worker.inbox.put(Update::Enforced(false));
    }
    let (found, strangers) = channel(None);
    if let (Some(client), Some(node)) = (client.clone(), args.place.node()) {
        let search = Search::new(client.clone(), node.clone(), paths.state.clone());
        tokio::spawn(search.follow(worker.snapshots.clone(), found));
        tokio::spawn(StatusWriter::new(client, node).follow(worker.snapshots.clone(), strangers.clone()));
    }
    let mut removal = Removal::watch(client.as_ref(), &args.pod);
    let told = health::Told {
        snapshots: worker.snapshots.clone(),
        counts: worker.counts.clone(),
        strangers,
        admissions,
        policies: policies
            .as_ref()
            .map(|worker| health::policies::Source { inbox: worker.inbox.clone(), tally: worker.tally.clone() }),
    };
    let mut served = tokio::spawn(health::serve(args.listen, told));
    let mut followed = tokio::spawn(hand_on(source, worker.inbox.clone()));
    let mut terminate = signal(SignalKind::terminate()).map_err(CommandError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(CommandError::Signals)?;
    let mut counts = worker.counts.clone();
    let in_force = policies.as_ref().map(|worker| worker.in_force.clone());
    let outcome = tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        ended = &mut served => flatten(ended.map(|r| r.map_err(CommandError::from))),
        ended = &mut followed => flatten(ended.map(|r| r.map_err(CommandError::from))),
        () = closed(&mut counts) => Ok(()),
        () = without_policies(in_force) => Ok(()),
    };
    let how = if outcome.is_ok() && !worker.is_finished() { how_to_end(removal.as_mut()).await } else { End::Stop };
    gate.shutdown().await;
    let of_policies = policies.map_or(Ok(()), |policies| {
        policies.inbox.end(how);
        policies.join()
    });
    // The last that ends empties the agent's folder, where Towpath leaves.
    worker.inbox.end(how);
    let of_worker = worker.join();
    // Here nobody writes any more.
    if how == End::Leave
        && let Err(error) = cni_files::remove_kept(&paths)
    {
        warn!(%error, "what the agent kept stays");
    }
    outcome.and(of_worker.map_err(CommandError::from)).and(of_policies.map_err(CommandError::from))
}

async fn how_to_end(removal: Option<&mut Removal>) -> End {
    let leaves = match removal {
        Some(removal) => removal.is_under_way().await,
        None => false,
    };
    info!(leaves, "ending");
    if leaves { End::Leave } else { End::Stop }
}

/// Tells the worker when policies begin or cease to be enforced: it tells CNI binaries.
async fn tell_enforced(mut in_force: Receiver<Arc<InForce>>, inbox: Inbox) {
    let mut told = None;
    loop {
        let is_enforced = in_force.borrow_and_update().is_enforced;
        if let Some(is_enforced) = is_enforced.filter(|_| is_enforced != told) {
            inbox.put(Update::Enforced(is_enforced));
            told = Some(is_enforced);
        }
        if in_force.changed().await.is_err() {
            return;
        }
    }
}

async fn hand_on(source: source::Source, inbox: Inbox) -> Result<(), source::SourceError> {
    source.follow(|update| inbox.put(update)).await
}

/// Ends when the thread that tells has.
async fn closed<T: Send + Sync>(told: &mut Receiver<T>) {
    while told.changed().await.is_ok() {}
}

/// Ends when the thread of policies has, where there is one.
async fn without_policies(in_force: Option<Receiver<Arc<InForce>>>) {
    match in_force {
        Some(mut in_force) => closed(&mut in_force).await,
        None => std::future::pending().await,
    }
}

fn flatten(ended: Result<Result<(), CommandError>, tokio::task::JoinError>) -> Result<(), CommandError> {
    ended.unwrap_or(Err(CommandError::Worker(crate::worker::WorkerError::Panicked)))
}
