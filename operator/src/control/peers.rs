//! Nodes as peers of each other, out of their `NodeNetwork`s.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::TryStreamExt;
use kube::api::Api;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{Config, Event, watcher};
use kube::{Client, ResourceExt};
use towpath_crds::NodeNetwork;
use towpath_net::state::{NodeName, NodeSpec, Peer};
use towpath_net::transport::Keys;
use tracing::warn;

use super::serve::Shared;
use crate::cache::{Patience, WATCH_SECONDS};

/// Watches every `NodeNetwork`, for ever.
pub async fn follow_peers(client: Client, shared: Arc<Shared>) {
    let api: Api<NodeNetwork> = Api::all(client);
    let events = watcher(api, Config::default().timeout(WATCH_SECONDS)).backoff(Patience::default());
    futures::pin_mut!(events);
    let mut listed = BTreeSet::new();
    let mut known = BTreeSet::new();
    loop {
        match events.try_next().await {
            Ok(Some(Event::Init)) => listed.clear(),
            Ok(Some(Event::InitApply(object))) => {
                let name = NodeName(object.name_any());
                // Should the list break off, and the node be gone by the next one, it is missed all the same.
                known.insert(name.clone());
                listed.insert(name);
                tell(&shared, &object);
            }
            Ok(Some(Event::InitDone)) => {
                for gone in known.difference(&listed) {
                    shared.core().peer(gone, None);
                }
                known.clone_from(&listed);
                shared.core().know_peers();
            }
            Ok(Some(Event::Apply(object))) => {
                known.insert(NodeName(object.name_any()));
                tell(&shared, &object);
            }
            Ok(Some(Event::Delete(object))) => {
                let name = NodeName(object.name_any());
                known.remove(&name);
                shared.core().peer(&name, None);
            }
            Ok(None) => return,
            Err(error) => warn!(kind = "NodeNetwork", %error, "watch interrupted"),
        }
    }
}

/// One that cannot be read stays as it was told last.
fn tell(shared: &Shared, object: &NodeNetwork) {
    let name = NodeName(object.name_any());
    match NodeSpec::try_from(&object.spec) {
        Ok(spec) => shared.core().peer(&name, Some(Peer::new(&spec, keys(object)))),
        Err(error) => warn!(node = %name, %error, "a NodeNetwork cannot be read: what was told of it stays"),
    }
}

/// The keys that a node tells in its status. One that is bent counts as none: nothing is sent to that node then, instead of
/// in clear.
fn keys(object: &NodeNetwork) -> Option<Keys> {
    let told = object.status.as_ref()?.wire_guard.as_ref()?;
    Keys::try_from(told)
        .inspect_err(|error| warn!(node = object.metadata.name, %error, "a node tells keys that are none"))
        .ok()
}
