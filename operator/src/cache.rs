//! What the cluster holds, as the last watch events told it.

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use kube::api::Api;
use kube::runtime::reflector::{self, Store};
use kube::runtime::utils::Backoff;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use towpath_crds::{ClusterNetwork, NodeNetwork};

/// How long one watch call may last, in seconds; a silently dead connection is noticed 5 s later.
pub const WATCH_SECONDS: u32 = 60;

/// Everything that is watched.
#[derive(Clone, Debug)]
pub struct Caches {
    nodes: Store<Node>,
    networks: Store<ClusterNetwork>,
    node_networks: Store<NodeNetwork>,
    service_ranges: Store<ServiceCIDR>,
}

/// Everything that was watched, at one moment.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// All Nodes.
    pub nodes: Vec<Arc<Node>>,
    /// All networks; the API server lets at most one be.
    pub networks: Vec<Arc<ClusterNetwork>>,
    /// All parts of nodes.
    pub node_networks: Vec<Arc<NodeNetwork>>,
    /// All ranges of Services.
    pub service_ranges: Vec<Arc<ServiceCIDR>>,
}

impl Caches {
    /// Starts watching; `changed` is notified of everything.
    pub fn watch(client: &Client, changed: &Arc<Notify>, tasks: &mut JoinSet<()>) -> Self {
        Self {
            nodes: follow(Api::all(client.clone()), "Node", forget_images, changed, tasks),
            networks: follow(Api::all(client.clone()), "ClusterNetwork", |_| (), changed, tasks),
            node_networks: follow(Api::all(client.clone()), "NodeNetwork", |_| (), changed, tasks),
            service_ranges: follow(Api::all(client.clone()), "ServiceCIDR", |_| (), changed, tasks),
        }
    }

    /// Returns once each kind was listed in full.
    pub async fn filled(&self) {
        // An error would say that the writer is gone, which is when the process ends.
        let _ = tokio::join!(
            self.nodes.wait_until_ready(),
            self.networks.wait_until_ready(),
            self.node_networks.wait_until_ready(),
            self.service_ranges.wait_until_ready(),
        );
    }

    /// What is known now.
    pub fn seen(&self) -> Seen {
        Seen {
            nodes: self.nodes.state(),
            networks: self.networks.state(),
            node_networks: self.node_networks.state(),
            service_ranges: self.service_ranges.state(),
        }
    }
}

/// Images are most of a Node, and of no interest.
fn forget_images(node: &mut Node) {
    if let Some(status) = &mut node.status {
        status.images = None;
    }
}

fn follow<K>(
    api: Api<K>,
    kind: &'static str,
    shrink: fn(&mut K),
    changed: &Arc<Notify>,
    tasks: &mut JoinSet<()>,
) -> Store<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    K::DynamicType: Eq + Hash,
{
    let (store, writer) = reflector::store();
    let config = watcher::Config::default().timeout(WATCH_SECONDS);
    let shrink = move |object: &mut K| {
        object.managed_fields_mut().clear();
        shrink(object);
    };
    let events = watcher(api, config).backoff(Patience::default()).modify(shrink).reflect(writer);
    let changed = Arc::clone(changed);
    tasks.spawn(events.for_each(move |event| {
        match event {
            Ok(_) => changed.notify_one(),
            Err(error) => tracing::warn!(kind, %error, "watch interrupted"),
        }
        std::future::ready(())
    }));
    store
}

/// How long to wait before watching again: from a quarter of a second to five, for an API server that is back is to
/// be noticed soon, and there are two operators, not thousands.
#[derive(Clone, Debug)]
pub struct Patience(Duration);

impl Patience {
    const LEAST: Duration = Duration::from_millis(250);
    const MOST: Duration = Duration::from_secs(5);
}

impl Default for Patience {
    fn default() -> Self {
        Self(Self::LEAST)
    }
}

impl Iterator for Patience {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let now = self.0;
        self.0 = (now * 2).min(Self::MOST);
        Some(now)
    }
}

impl Backoff for Patience {
    fn reset(&mut self) {
        self.0 = Self::LEAST;
    }
}
