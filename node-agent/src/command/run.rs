//! `run`: keep the node as it should be, until told to end.

mod ending;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch::channel;
use towpath_net::state::NodeName;
use tracing::{info, warn};

use ending::Removal;

use super::CommandError;
use crate::args::Run;
use crate::memory;
use crate::paths::Paths;
use crate::snapshot::Assignment;
use crate::status::StatusWriter;
use crate::strangers::Search;
use crate::worker::{Task, Worker};
use crate::{health, source};

/// Runs until a signal says to end, or something fails for good.
pub async fn run(args: Run) -> Result<(), CommandError> {
    let paths = args.place.paths(args.cni_binary.clone());
    let worker = Worker::start(paths.clone())?;
    start_from_memory(&paths, &worker)?;
    let (source, client) = super::source(&args.place).await?;
    let (found, strangers) = channel(None);
    if let (Some(client), Some(node)) = (client.clone(), args.place.node()) {
        let search = Search::new(client.clone(), node.clone(), paths.state.clone());
        tokio::spawn(search.follow(worker.snapshots.clone(), found));
        tokio::spawn(StatusWriter::new(client, node).follow(worker.snapshots.clone(), strangers.clone()));
    }
    let mut removal = Removal::watch(client.as_ref(), &args.pod);
    let told = health::Told { snapshots: worker.snapshots.clone(), counts: worker.counts.clone(), strangers };
    let mut served = tokio::spawn(health::serve(args.listen, told));
    let mut followed = tokio::spawn(follow(source, worker.inbox.clone()));
    let mut terminate = signal(SignalKind::terminate()).map_err(CommandError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(CommandError::Signals)?;
    let mut counts = worker.counts.clone();
    let outcome = tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        ended = &mut served => flatten(ended.map(|r| r.map_err(CommandError::from))),
        ended = &mut followed => flatten(ended.map(|r| r.map_err(CommandError::from))),
        () = closed(&mut counts) => Ok(()),
    };
    if outcome.is_ok() && !worker.is_finished() {
        let leaves = match &mut removal {
            Some(removal) => removal.is_under_way().await,
            None => false,
        };
        info!(leaves, "ending");
        worker.inbox.put(if leaves { Task::Leave } else { Task::Stop });
    } else {
        worker.inbox.put(Task::Stop);
    }
    outcome.and(worker.join().map_err(CommandError::from))
}

/// The last state is good until a source says otherwise: the node heals before any API server answers.
fn start_from_memory(paths: &Paths, worker: &Worker) -> Result<(), CommandError> {
    match memory::last_state(paths) {
        Ok(Some(last)) => {
            info!(revision = %last.state.spec.revision, "starting from the last state");
            worker.inbox.put(Task::Assign(Box::new(last)));
        }
        Ok(None) => info!("waiting for this node's state"),
        Err(error @ memory::MemoryError::Damaged { .. }) => warn!(%error, "waiting for this node's state"),
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

async fn follow(source: source::Source, inbox: crate::worker::Inbox) -> Result<(), source::SourceError> {
    let each = |assignment: Assignment| {
        let node: &NodeName = &assignment.state.node;
        info!(%node, revision = %assignment.state.spec.revision, peers = assignment.state.peers.len(), "new state");
        inbox.put(Task::Assign(Box::new(assignment)));
    };
    source.follow(each).await
}

/// Ends when the worker has.
async fn closed(counts: &mut tokio::sync::watch::Receiver<crate::worker::Counts>) {
    while counts.changed().await.is_ok() {}
}

fn flatten(ended: Result<Result<(), CommandError>, tokio::task::JoinError>) -> Result<(), CommandError> {
    ended.unwrap_or(Err(CommandError::Worker(crate::worker::WorkerError::Panicked)))
}
