//! A node's state from the operator: its own `NodeNetwork` from the API server, all else by the control stream.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures::TryStreamExt;
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
use towpath_net::state::{NodeName, NodeSpec, NodeState, Peer};
use tracing::{info, warn};

use super::{SourceError, WATCH_SECONDS};
use crate::policy::{Inbox as PolicyInbox, Receipt};
use crate::snapshot::{Assignment, Own, Update};

/// What becomes of other nodes, with what is to be answered when it is in the kernel.
type News = (BTreeMap<NodeName, Option<Peer>>, Arc<Receipt>);

/// The operator's stream, and the node's own part.
pub struct ControlSource {
    client: Client,
    node: NodeName,
    stream: towpath_control::client::Client<KubeDirectory>,
    follower: Listener,
    news: UnboundedReceiver<News>,
    /// What is known of other nodes, until the worker was told of it.
    gathered: Option<BTreeMap<NodeName, Peer>>,
    /// Whether all other nodes were told of, to whichever agent.
    is_told: bool,
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
    /// Whether the worker was told of other nodes, were it that there are none.
    is_told: AtomicBool,
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
        let is_told = remembered.is_some();
        let (peers, gathered) = match remembered {
            Some(Remembered { peers, is_all_known: true }) => (peers, None),
            Some(Remembered { peers, is_all_known: false }) => (peers.clone(), Some(peers)),
            None => (BTreeMap::new(), Some(BTreeMap::new())),
        };
        let peers = State { peers, ..State::default() };
        let follower =
            Listener { handle, peers: Mutex::new(peers), policies, news: tell, is_told: AtomicBool::new(false) };
        Self { client, node, stream, follower, news, gathered, is_told }
    }

    /// The node's own part as it is now.
    pub async fn fetch_own(client: &Client, node: &NodeName) -> Result<Option<Own>, SourceError> {
        let api: Api<NodeNetwork> = Api::all(client.clone());
        let object = api.get_opt(&node.0).await.map_err(|error| SourceError::Api(Box::new(error)))?;
        object.as_ref().map(own).transpose()
    }

    /// Hands what it is told to `each`, for ever. Nothing is handed on before both the node's own part and all other nodes
    /// are known once: what runs, runs on. Of other nodes what an earlier agent was told will do.
    pub async fn follow(self, mut each: impl FnMut(Update) + Send) {
        let Self { client, node, stream, follower, mut news, mut gathered, mut is_told } = self;
        let api: Api<NodeNetwork> = Api::all(client);
        let config = WatchConfig::default().fields(&format!("metadata.name={node}")).timeout(WATCH_SECONDS);
        let events = watcher(api, config).backoff(DefaultBackoff::default());
        futures::pin_mut!(events);
        let policies = follower.policies.clone();
        tokio::spawn(stream.follow(follower));
        let (mut last, mut owed) = (None, Vec::new());
        loop {
            tokio::select! {
                event = events.try_next() => match event {
                    Ok(Some(event)) => {
                        let Some(own) = own_of(event) else { continue };
                        policies.established(own.spec.policy.established);
                        policies.log(own.spec.policy.log);
                        match gathered {
                            Some(_) => last = Some(own),
                            None => each(Update::Own(Box::new(own))),
                        }
                    }
                    Ok(None) => pending().await,
                    Err(error) => info!(%error, "the API server does not answer; what runs, runs on"),
                },
                Some((peers, receipt)) = news.recv() => {
                    is_told = true;
                    if let Some(known) = &mut gathered {
                        take(known, peers);
                        owed.push(receipt);
                    } else {
                        for (name, peer) in peers {
                            each(Update::Peer(name, peer));
                        }
                        each(Update::Receipt(receipt));
                    }
                }
            }
            if is_told
                && let Some(Own { object, generation, spec }) = last.take_if(|_| gathered.is_some())
                && let Some(peers) = gathered.take()
            {
                let state = NodeState { node: node.clone(), spec, peers };
                each(Update::State(Box::new(Assignment { object, generation, state })));
                owed.drain(..).for_each(|receipt| each(Update::Receipt(receipt)));
            }
        }
    }
}

fn take(known: &mut BTreeMap<NodeName, Peer>, changes: BTreeMap<NodeName, Option<Peer>>) {
    for (name, peer) in changes {
        match peer {
            Some(peer) => _ = known.insert(name, peer),
            None => _ = known.remove(&name),
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

fn own_of(event: Event<NodeNetwork>) -> Option<Own> {
    match event {
        Event::Apply(object) | Event::InitApply(object) => {
            own(&object).inspect_err(|error| warn!(%error, "what runs, runs on")).ok()
        }
        Event::Delete(_) => {
            info!("this node has no NodeNetwork any more; what runs, runs on");
            None
        }
        Event::Init | Event::InitDone => None,
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
        let receipt = Arc::new(Receipt::new(self.handle.clone(), ticket));
        let Told { buckets, peers, policy } = told;
        let of_peers = Told { buckets, peers, policy: Delta::default() };
        match self.peers().apply(of_peers) {
            // Nothing for the worker to do: an update of policies alone does not wait for what it is doing.
            Ok(effect) if effect.peers.is_empty() && self.is_told.load(Ordering::Relaxed) => {}
            Ok(effect) => {
                self.is_told.store(true, Ordering::Relaxed);
                // The worker ends before this does.
                _ = self.news.send((effect.peers, Arc::clone(&receipt)));
            }
            Err(misfit) => receipt.refuse(misfit.to_string()),
        }
        self.policies.put(policy, receipt);
    }

    fn known(&self, uid: String) {
        self.policies.known(uid);
    }

    fn connected(&self, is_connected: bool) {
        info!(is_connected, "the operator's stream");
    }
}
