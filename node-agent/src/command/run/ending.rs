//! Whether the agent ends because it is restarted, or because Towpath is removed.
//!
//! A removal deletes the namespace, the DaemonSet, its account, its rights and the kinds, in an order that nobody
//! promises. So the agent watches its namespace and its DaemonSet for as long as it lives: a watch goes on when rights
//! are taken away. An account or rights that are gone prove nothing by themselves: those of a pod that was deleted by
//! force are gone as well. Without proof the end is a restart, and everything stays.

use std::time::Duration;

use futures::TryStreamExt as _;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::Api;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{Config, DefaultBackoff, Event, watcher};
use kube::{Client, Error, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::watch::{Receiver, Sender, channel};
use tracing::{debug, info};

use crate::args::Pod;
use crate::source::WATCH_SECONDS;

/// How long proof is waited for: well within the time that a pod has to end.
const PATIENCE: Duration = Duration::from_secs(15);
/// How far two questions are apart.
const APART: Duration = Duration::from_millis(250);

/// What one question tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Evidence {
    /// Towpath is being removed.
    Leaves,
    /// Towpath stays.
    Stays,
    /// Nobody may tell us (any more).
    Unclear,
}

/// Watches for the removal of Towpath.
pub struct Removal {
    client: Client,
    namespace: String,
    daemon_set: String,
    seen: Receiver<bool>,
}

impl Removal {
    /// Starts to watch; nothing where it is not known which pod this is.
    pub fn watch(client: Option<&Client>, pod: &Pod) -> Option<Self> {
        let (client, namespace) = (client?.clone(), pod.pod_namespace.clone()?);
        let (sender, seen) = channel(false);
        let daemon_sets: Api<DaemonSet> = Api::namespaced(client.clone(), &namespace);
        tokio::spawn(follow(Api::<Namespace>::all(client.clone()), namespace.clone(), sender.clone()));
        tokio::spawn(follow(daemon_sets, pod.daemon_set.clone(), sender));
        Some(Self { client, namespace, daemon_set: pod.daemon_set.clone(), seen })
    }

    /// Whether Towpath leaves this node; asked when the agent ends.
    pub async fn is_under_way(&mut self) -> bool {
        let asked = tokio::time::timeout(PATIENCE, async {
            loop {
                if *self.seen.borrow() {
                    return true;
                }
                match self.ask().await {
                    Evidence::Leaves => return true,
                    Evidence::Stays => return false,
                    Evidence::Unclear => _ = tokio::time::timeout(APART, self.seen.wait_for(|seen| *seen)).await,
                }
            }
        });
        asked.await.unwrap_or_else(|_| {
            info!("nobody tells whether Towpath is being removed: everything stays");
            false
        })
    }

    async fn ask(&self) -> Evidence {
        let daemon_sets: Api<DaemonSet> = Api::namespaced(self.client.clone(), &self.namespace);
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let set = evidence(daemon_sets.get_opt(&self.daemon_set).await);
        let namespace = evidence(namespaces.get_opt(&self.namespace).await);
        match (set, namespace) {
            (Evidence::Leaves, _) | (_, Evidence::Leaves) => Evidence::Leaves,
            (Evidence::Unclear, _) | (_, Evidence::Unclear) => Evidence::Unclear,
            (Evidence::Stays, Evidence::Stays) => Evidence::Stays,
        }
    }
}

fn evidence<K: Resource>(answer: Result<Option<K>, Error>) -> Evidence {
    match answer {
        Ok(Some(object)) if object.meta().deletion_timestamp.is_none() => Evidence::Stays,
        Ok(_) => Evidence::Leaves,
        Err(Error::Api(status)) if matches!(status.code, 401 | 403) => Evidence::Unclear,
        Err(_) => Evidence::Stays,
    }
}

/// Tells once that an object is going or gone that was there before.
async fn follow<K>(api: Api<K>, name: String, seen: Sender<bool>)
where
    K: Resource + Clone + std::fmt::Debug + DeserializeOwned + Send + 'static,
{
    let events = watcher(api, Config::default().fields(&format!("metadata.name={name}")).timeout(WATCH_SECONDS));
    let events = events.backoff(DefaultBackoff::default());
    futures::pin_mut!(events);
    loop {
        let going = match events.try_next().await {
            Ok(Some(Event::Apply(object) | Event::InitApply(object))) => object.meta().deletion_timestamp.is_some(),
            Ok(Some(Event::Delete(_))) => true,
            Ok(Some(Event::Init | Event::InitDone)) => false,
            Ok(None) => return,
            Err(error) => {
                debug!(%error, name, "cannot watch");
                false
            }
        };
        if going {
            _ = seen.send(true);
            return;
        }
    }
}
