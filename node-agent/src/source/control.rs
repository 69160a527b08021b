//! A node's state from the operator: its own `NodeNetwork` from the API server, all else by the control stream.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use futures::StreamExt as _;
use kube::api::Api;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{Config as WatchConfig, DefaultBackoff, Event, watcher};
use kube::{Client, ResourceExt};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use towpath_control::client::{Follower, Handle, KubeDirectory, Ticket};
use towpath_control::digest::buckets;
use towpath_control::update::{Holdings, State, Update as Told};
use towpath_crds::NodeNetwork;
use towpath_net::policy::bundle::Delta;
use towpath_net::state::{NodeName, NodeSpec, Peer};
use tracing::{info, warn};

use super::gathered::Gathered;
use super::{SourceError, WATCH_SECONDS};
use crate::policy::{Inbox as PolicyInbox, Receipt};
use crate::snapshot::{Own, Update};

/// What becomes of other nodes, with what is to be answered when it is in the kernel.
type News = (BTreeMap<NodeName, Option<Peer>>, Receipt);

/// The operator's stream, and the node's own part.
pub struct ControlSource {
    client: Client,
    node: NodeName,
    stream: towpath_control::client::Client<KubeDirectory>,
    follower: Listener,
    news: UnboundedReceiver<News>,
    gathered: Gathered,
}

/// What an earlier agent was told.
#[derive(Debug)]
pub struct Remembered {
    /// Other nodes.
    pub peers: BTreeMap<NodeName, Peer>,
    /// Whether the worker goes on from there, with the node's own part. It does not where the node started since.
    pub is_all_known: bool,
}

/// Hears what the operator tells.
struct Listener {
    handle: Handle,
    peers: Mutex<State>,
    policies: PolicyInbox,
    news: UnboundedSender<News>,
    /// Whether the next update is a stream's first: what earlier ones brought may not be in the kernel yet.
    is_opening: AtomicBool,
}

/// What a watch tells of the node's own object.
#[derive(Debug, PartialEq, Eq)]
enum Object {
    Is(Box<Own>),
    /// There is none, as far as is known.
    Gone,
    /// Nothing that could be used.
    Same,
}

impl ControlSource {
    /// Follows the operator.
    pub fn new(
        client: Client,
        node: NodeName,
        (stream, handle): (towpath_control::client::Client<KubeDirectory>, Handle),
        policies: PolicyInbox,
        remembered: Option<Remembered>,
    ) -> Self {
        let (tell, news) = unbounded_channel();
        let (peers, gathered) = match remembered {
            Some(Remembered { peers, is_all_known: true }) => (peers, Gathered::Handed),
            Some(Remembered { peers, is_all_known: false }) => (peers.clone(), Gathered::with(node.clone(), peers)),
            None => (BTreeMap::new(), Gathered::nothing(node.clone())),
        };
        let peers = Mutex::new(State { peers, ..State::default() });
        let follower = Listener { handle, peers, policies, news: tell, is_opening: AtomicBool::new(true) };
        Self { client, node, stream, follower, news, gathered }
    }

    /// The node's own part as it is now.
    pub async fn fetch_own(client: &Client, node: &NodeName) -> Result<Option<Own>, SourceError> {
        let api: Api<NodeNetwork> = Api::all(client.clone());
        let object = api.get_opt(&node.0).await.map_err(|error| SourceError::Api(Box::new(error)))?;
        object.as_ref().map(own).transpose()
    }

    /// Hands what it is told to `each`, for as long as the operator is followed, which is for ever. Nothing is handed on before both the node's own part and all other nodes
    /// are known once: what runs, runs on. Of other nodes what an earlier agent was told will do.
    pub async fn follow(self, mut each: impl FnMut(Update) + Send) {
        let Self { client, node, stream, follower, mut news, mut gathered } = self;
        let api: Api<NodeNetwork> = Api::all(client);
        let config = WatchConfig::default().fields(&format!("metadata.name={node}")).timeout(WATCH_SECONDS);
        let events = watcher(api, config).backoff(DefaultBackoff::default());
        futures::pin_mut!(events);
        let policies = follower.policies.clone();
        tokio::spawn(stream.follow(follower));
        loop {
            tokio::select! {
                // It never ends.
                Some(event) = events.next() => match event.map(object) {
                    Ok(Object::Is(own)) => {
                        policies.established(own.spec.policy.established);
                        policies.log(own.spec.policy.log);
                        gathered.own(own, &mut each);
                    }
                    Ok(Object::Gone) => gathered.forget_own(),
                    Ok(Object::Same) => {}
                    Err(error) => info!(%error, "the API server does not answer; what runs, runs on"),
                },
                told = news.recv() => match told {
                    Some((peers, receipt)) => gathered.peers(peers, receipt, &mut each),
                    // Nobody follows the operator any more: only a new agent does.
                    None => return,
                },
            }
        }
    }
}

/// What the node's own object says.
fn own(object: &NodeNetwork) -> Result<Own, SourceError> {
    let node = NodeName(object.name_any());
    let spec = NodeSpec::try_from(&object.spec).map_err(|source| SourceError::Spec { node, source })?;
    let generation = object.metadata.generation.unwrap_or_default();
    Ok(Own { object: object.uid().unwrap_or_default(), generation, spec })
}

fn object(event: Event<NodeNetwork>) -> Object {
    match event {
        Event::Apply(object) | Event::InitApply(object) => match own(&object) {
            Ok(own) => Object::Is(Box::new(own)),
            Err(error) => {
                warn!(%error, "what runs, runs on");
                Object::Same
            }
        },
        Event::Delete(_) => {
            info!("this node has no NodeNetwork any more; what runs, runs on");
            Object::Gone
        }
        // All that there is comes now.
        Event::Init => Object::Gone,
        Event::InitDone => Object::Same,
    }
}

impl Listener {
    fn peers(&self) -> std::sync::MutexGuard<'_, State> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Follower for Listener {
    async fn holdings(&self) -> Holdings {
        let policy = self.policies.digests().await.unwrap_or_default();
        let known = self.peers();
        let peers = if known.peers.is_empty() { Vec::new() } else { buckets(&known.peers) };
        Holdings { peers, policy }
    }

    fn update(&self, ticket: Ticket, told: Told) {
        let receipt = Receipt::new(self.handle.clone(), ticket);
        let Told { buckets, peers, policy } = told;
        let of_peers = Told { buckets, peers, policy: Delta::default() };
        let is_opening = self.is_opening.swap(false, Ordering::Relaxed);
        match self.peers().apply(of_peers) {
            // Nothing for the worker to do: an update of policies alone does not wait for what it is doing.
            Ok(effect) if effect.peers.is_empty() && !is_opening => {}
            // The worker ends before this does.
            Ok(effect) => _ = self.news.send((effect.peers, receipt.share())),
            Err(misfit) => receipt.share().refuse(misfit.to_string()),
        }
        self.policies.put(policy, receipt);
    }

    fn known(&self, uid: String) {
        self.policies.known(uid);
    }

    fn connected(&self, is_connected: bool) {
        info!(is_connected, "the operator's stream");
        self.is_opening.store(true, Ordering::Relaxed);
    }
}
