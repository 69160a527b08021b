//! A node's state from the API server: its own `NodeNetwork`, and what it must know of the others.

use std::collections::{BTreeMap, BTreeSet};

use futures::TryStreamExt;
use kube::api::{Api, ListParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{Config, Event, watcher};
use kube::{Client, ResourceExt};
use towpath_crds::NodeNetwork;
use towpath_net::state::{NodeName, NodeSpec, NodeState, Peer};
use tracing::{info, warn};

use super::{SourceError, WATCH_SECONDS};
use crate::keys::told_by;
use crate::snapshot::{Assignment, Own, Update};

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
        let mut gathered = Gathered::default();
        for object in list {
            gathered.take(told(&self.node, &object)?);
        }
        Ok(gathered.assignment(&self.node))
    }

    /// Hands the whole state to `each` once every object was seen, and then each object that changes. Nothing is handed
    /// on while this node has no `NodeNetwork` of its own: what runs, runs on.
    pub async fn follow(self, mut each: impl FnMut(Update) + Send) {
        let api: Api<NodeNetwork> = Api::all(self.client.clone());
        let events = watcher(api, Config::default().timeout(WATCH_SECONDS)).default_backoff();
        futures::pin_mut!(events);
        let mut follower = Follower::new(self.node);
        loop {
            match events.try_next().await {
                Ok(Some(event)) => follower.take(event, &mut each),
                Ok(None) => return,
                Err(error) => info!(%error, "the API server does not answer; what runs, runs on"),
            }
        }
    }
}

/// What one object tells.
fn told(node: &NodeName, object: &NodeNetwork) -> Result<Update, SourceError> {
    let name = NodeName(object.name_any());
    let spec = NodeSpec::try_from(&object.spec).map_err(|source| SourceError::Spec { node: name.clone(), source })?;
    Ok(if name == *node {
        let generation = object.metadata.generation.unwrap_or_default();
        Update::Own(Box::new(Own { object: object.uid().unwrap_or_default(), generation, spec }))
    } else {
        Update::Peer(name, Some(Peer::new(&spec, told_by(object))))
    })
}

/// Makes updates of events.
struct Follower {
    node: NodeName,
    /// What was seen so far; nothing once it was handed on.
    gathered: Option<Gathered>,
}

/// Objects, until there is a state.
#[derive(Default)]
struct Gathered {
    own: Option<Own>,
    peers: BTreeMap<NodeName, Peer>,
    /// Those that cannot be read: while there are any, what is known of them stays in force.
    unreadable: BTreeSet<NodeName>,
    complete: bool,
}

impl Follower {
    const fn new(node: NodeName) -> Self {
        Self { node, gathered: None }
    }

    fn take(&mut self, event: Event<NodeNetwork>, each: &mut impl FnMut(Update)) {
        match event {
            Event::Init => self.gathered = Some(Gathered::default()),
            Event::InitDone => {
                if let Some(gathered) = &mut self.gathered {
                    gathered.complete = true;
                }
            }
            Event::InitApply(object) | Event::Apply(object) => match told(&self.node, &object) {
                Ok(update) => self.pass(update, each),
                Err(error) => {
                    warn!(%error, "what runs, runs on");
                    if let Some(gathered) = &mut self.gathered {
                        gathered.unreadable.insert(NodeName(object.name_any()));
                    }
                }
            },
            Event::Delete(object) if object.name_any() == self.node.0 => {
                info!("this node has no NodeNetwork any more; what runs, runs on");
                if let Some(gathered) = &mut self.gathered {
                    gathered.own = None;
                }
            }
            Event::Delete(object) => self.pass(Update::Peer(NodeName(object.name_any()), None), each),
        }
        self.hand_on(each);
    }

    fn pass(&mut self, update: Update, each: &mut impl FnMut(Update)) {
        match &mut self.gathered {
            Some(gathered) => gathered.take(update),
            None => each(update),
        }
    }

    fn hand_on(&mut self, each: &mut impl FnMut(Update)) {
        let is_ready =
            |gathered: &mut Gathered| gathered.complete && gathered.own.is_some() && gathered.unreadable.is_empty();
        if let Some(assignment) = self.gathered.take_if(is_ready).and_then(|gathered| gathered.assignment(&self.node)) {
            each(Update::State(Box::new(assignment)));
        }
    }
}

impl Gathered {
    fn take(&mut self, update: Update) {
        match update {
            Update::Own(own) => self.own = Some(*own),
            Update::Peer(name, peer) => {
                self.unreadable.remove(&name);
                match peer {
                    Some(peer) => _ = self.peers.insert(name, peer),
                    None => _ = self.peers.remove(&name),
                }
            }
            Update::State(_) => {}
        }
    }

    fn assignment(self, node: &NodeName) -> Option<Assignment> {
        let Own { object, generation, spec } = self.own?;
        Some(Assignment { object, generation, state: NodeState { node: node.clone(), spec, peers: self.peers } })
    }
}
