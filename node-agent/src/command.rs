//! What the subcommands do.

mod look;
mod run;
mod told;

use std::time::Duration;

use thiserror::Error;

use crate::args::Action;
use crate::health::HealthError;
use crate::memory::MemoryError;
use crate::policy::{GateError, PolicyError};
use crate::source::SourceError;
use crate::worker::WorkerError;

/// Why a subcommand ended in failure.
#[derive(Debug, Error)]
pub enum CommandError {
    /// Nobody said which node this is.
    #[error("which node is this? Name it with --node or NODE_NAME, or give its state with --file")]
    NoNode,
    /// No way to the API server.
    #[error("cannot find the API server: {0}")]
    NoApi(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The node was told nothing yet.
    #[error("this node has no NodeNetwork yet: is there a ClusterNetwork, and does the operator run?")]
    NoState,
    /// The operator has told this node nothing yet.
    #[error("the operator has told this node nothing yet: does it run, and does the agent? Its log says why")]
    NotTold,
    /// The source failed.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The worker failed.
    #[error(transparent)]
    Worker(#[from] WorkerError),
    /// Policies cannot be kept in force.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// CNI binaries cannot ask about policies.
    #[error(transparent)]
    Gate(#[from] GateError),
    /// The kernel could not be read.
    #[error(transparent)]
    Kernel(#[from] towpath_kernel::kernel::KernelError),
    /// The leases could not be read.
    #[error(transparent)]
    Leases(#[from] towpath_kernel::fs::Error),
    /// The agent's own files could not be read.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// Nothing could be served.
    #[error(transparent)]
    Health(#[from] HealthError),
    /// Signals could not be listened to.
    #[error("cannot listen to signals: {0}")]
    Signals(std::io::Error),
    /// Something could not be said in YAML.
    #[error("cannot say it in YAML: {0}")]
    Yaml(#[from] serde_yaml_ng::Error),
}

/// Does what the command line says.
pub async fn execute(action: Action) -> Result<(), CommandError> {
    match action {
        Action::Run(args) => run::run(args).await,
        Action::Plan(place) => look::plan(place).await,
        Action::Dump(place) => look::dump(place).await,
    }
}

/// How long the API server may be silent before the connection is given up: one that was made from an address that the
/// node no longer has never says anything again. Watches are ended by the server before ([`crate::source::WATCH_SECONDS`]).
const SILENCE: Duration = Duration::from_secs(40);

async fn client() -> Result<kube::Client, CommandError> {
    let mut config = kube::Config::infer().await.map_err(|error| CommandError::NoApi(error.into()))?;
    config.read_timeout = Some(SILENCE);
    kube::Client::try_from(config).map_err(|error| CommandError::NoApi(error.into()))
}
