//! Where the node's state comes from: a file, or the operator.

use kube::Client;
use towpath_control::client::{Client as Stream, Config, KubeDirectory};
use tracing::warn;

use super::{CommandError, client};
use crate::args::{Place, Run};
use crate::memory::{Journal, make_folder};
use crate::paths::Paths;
use crate::policy::{self, Worker as PolicyWorker};
use crate::snapshot::Assignment;
use crate::source::{ControlSource, Remembered, Source};

/// The state as it is now: that of the file, or the node's own part now and what was told last of all else.
pub async fn state(place: &Place, paths: &Paths) -> Result<Assignment, CommandError> {
    if let Some(path) = place.file.clone() {
        return Source::fetch(path)?.ok_or(CommandError::NoState);
    }
    let node = place.node().ok_or(CommandError::NoNode)?;
    let mut last = Journal::default().read(paths)?.ok_or(CommandError::NotTold)?;
    if let Some(own) = ControlSource::fetch_own(&client().await?, &node).await? {
        last.take_own(own);
    }
    Ok(last)
}

/// What the worker follows.
pub struct Followed {
    /// Where its state comes from.
    pub source: Source,
    /// The API server, where the state does not come from a file.
    pub client: Option<Client>,
    /// Who keeps policies in force, where the operator tells any.
    pub policies: Option<PolicyWorker>,
}

/// Begins to follow.
pub async fn follow(args: &Run, paths: &Paths) -> Result<Followed, CommandError> {
    if let Some(path) = args.place.file.clone() {
        return Ok(Followed { source: Source::file(path), client: None, policies: None });
    }
    let node = args.place.node().ok_or(CommandError::NoNode)?;
    let client = client().await?;
    let namespace = args.pod.pod_namespace.clone().unwrap_or_else(|| NAMESPACE.to_owned());
    let config = Config::new(node.clone(), args.control_token.clone(), paths.operators());
    let (stream, handle) = Stream::new(config, KubeDirectory::new(client.clone(), &namespace));
    if let Err(error) = make_folder(&paths.kept()) {
        warn!(%error, "nothing will be kept for the next start");
    }
    let policies = PolicyWorker::start(paths, handle.clone(), policy::remembered(paths))?;
    let last = Journal::default().read(paths).ok().flatten();
    if let Some(last) = &last {
        policies.inbox.established(last.state.spec.policy.established);
        policies.inbox.log(last.state.spec.policy.log);
    }
    let remembered = last.map(|last| Remembered { peers: last.state.peers, is_all_known: paths.is_node_known() });
    let source = ControlSource::new(client.clone(), node, (stream, handle), policies.inbox.clone(), remembered);
    Ok(Followed { source: Source::Control(Box::new(source)), client: Some(client), policies: Some(policies) })
}

/// Where the operator is, unless the pod says otherwise.
const NAMESPACE: &str = "towpath-system";
