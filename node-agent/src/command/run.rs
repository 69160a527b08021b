//! `run`: keep the node as it should be, until told to end.

mod ending;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch::channel;
use tracing::info;

use ending::Removal;

use super::CommandError;
use super::told::{Followed, follow};
use crate::args::Run;
use crate::policy::Worker as PolicyWorker;
use crate::status::StatusWriter;
use crate::strangers::Search;
use crate::worker::{End, Inbox, Worker};
use crate::{health, source};

/// Runs until a signal says to end, or something fails for good.
pub async fn run(args: Run) -> Result<(), CommandError> {
    let paths = args.place.paths(args.cni_binary.clone());
    let worker = Worker::start(paths.clone())?;
    let Followed { source, client, policies } = follow(&args, &paths).await?;
    let (found, strangers) = channel(None);
    if let (Some(client), Some(node)) = (client.clone(), args.place.node()) {
        let search = Search::new(client.clone(), node.clone(), paths.state.clone());
        tokio::spawn(search.follow(worker.snapshots.clone(), found));
        tokio::spawn(StatusWriter::new(client, node).follow(worker.snapshots.clone(), strangers.clone()));
    }
    let mut removal = Removal::watch(client.as_ref(), &args.pod);
    let told = health::Told { snapshots: worker.snapshots.clone(), counts: worker.counts.clone(), strangers };
    let mut served = tokio::spawn(health::serve(args.listen, told));
    let mut followed = tokio::spawn(hand_on(source, worker.inbox.clone()));
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
        end(&worker.inbox, policies.as_ref(), if leaves { End::Leave } else { End::Stop });
    } else {
        end(&worker.inbox, policies.as_ref(), End::Stop);
    }
    let of_policies = policies.map_or(Ok(()), PolicyWorker::join);
    outcome.and(worker.join().map_err(CommandError::from)).and(of_policies.map_err(CommandError::from))
}

async fn hand_on(source: source::Source, inbox: Inbox) -> Result<(), source::SourceError> {
    source.follow(|update| inbox.put(update)).await
}

fn end(inbox: &Inbox, policies: Option<&PolicyWorker>, how: End) {
    inbox.end(how);
    if let Some(policies) = policies {
        policies.inbox.end(how);
    }
}

/// Ends when the worker has.
async fn closed(counts: &mut tokio::sync::watch::Receiver<crate::worker::Counts>) {
    while counts.changed().await.is_ok() {}
}

fn flatten(ended: Result<Result<(), CommandError>, tokio::task::JoinError>) -> Result<(), CommandError> {
    ended.unwrap_or(Err(CommandError::Worker(crate::worker::WorkerError::Panicked)))
}
