//! A node's state from the API server: its own `NodeNetwork`, and what it must know of the others.

use futures::TryStreamExt;
use kube::api::{Api, ListParams};
use kube::runtime::watcher::{Config, Event, watcher};
use kube::runtime::{WatchStreamExt, reflector};
use kube::{Client, ResourceExt};
use towpath_crds::NodeNetwork;
use towpath_net::state::{NodeName, NodeSpec, NodeState};
use tracing::{info, warn};

use super::{SourceError, WATCH_SECONDS};
use crate::snapshot::Assignment;

/// Watches every `NodeNetwork`.
pub struct ApiSource {
    client: Client,
    node: NodeName,
}

impl ApiSource {
    /// The state of `node`.
    pub const fn new(client: Client, node: NodeName) -> Self {
        Self { client, node }
    }

    /// Lists once.
    pub async fn fetch(&self) -> Result<Option<Assignment>, SourceError> {
        let api: Api<NodeNetwork> = Api::all(self.client.clone());
        let list = api.list(&ListParams::default()).await.map_err(|error| SourceError::Api(Box::new(error)))?;
        assemble(&self.node, list.items.iter())
    }

    /// Hands each new state to `each`, from the moment that every object was seen once. Nothing is handed on while
    /// this node has no `NodeNetwork` of its own: what runs, runs on.
    pub async fn follow(self, mut each: impl FnMut(Assignment) + Send) {
        let api: Api<NodeNetwork> = Api::all(self.client.clone());
        let (store, writer) = reflector::store();
        let events = reflector(writer, watcher(api, Config::default().timeout(WATCH_SECONDS))).default_backoff();
        futures::pin_mut!(events);
        let mut last = None;
        let mut complete = false;
        loop {
            match events.try_next().await {
                Ok(Some(Event::InitDone)) => complete = true,
                Ok(Some(Event::Init | Event::InitApply(_))) => continue,
                Ok(Some(Event::Apply(_) | Event::Delete(_))) => {}
                Ok(None) => return,
                Err(error) => {
                    info!(%error, "the API server does not answer; what runs, runs on");
                    continue;
                }
            }
            if !complete {
                continue;
            }
            let objects = store.state();
            match assemble(&self.node, objects.iter().map(AsRef::as_ref)) {
                Ok(Some(assignment)) if last.as_ref() != Some(&assignment) => {
                    last = Some(assignment.clone());
                    each(assignment);
                }
                Ok(_) => {}
                Err(error) => warn!(%error, "what runs, runs on"),
            }
        }
    }
}

fn assemble<'a>(
    node: &NodeName,
    objects: impl Iterator<Item = &'a NodeNetwork>,
) -> Result<Option<Assignment>, SourceError> {
    let (mut uid, mut generation) = (String::new(), 0);
    let mut specs: Vec<(NodeName, NodeSpec)> = Vec::new();
    for object in objects {
        let name = NodeName(object.name_any());
        if name == *node {
            uid = object.uid().unwrap_or_default();
            generation = object.metadata.generation.unwrap_or_default();
        }
        let spec =
            NodeSpec::try_from(&object.spec).map_err(|source| SourceError::Spec { node: name.clone(), source })?;
        specs.push((name, spec));
    }
    let state = NodeState::assemble(node, specs.iter().map(|(name, spec)| (name, spec, None)));
    Ok(state.map(|state| Assignment { object: uid, generation, state }))
}
