//! Events: what a person should know, when it changes and not before.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, PostParams};
use kube::{Client, Resource};
use tokio::time::timeout;
use towpath_crds::conditions::{ConditionType, find, is_true};
use towpath_crds::{ClusterNetwork, ClusterNetworkStatus, OPERATOR};

use crate::status::NODES_NOT_READY;

/// The longest note that the API takes is 1 kB.
const LONGEST_NOTE: usize = 1000;

/// How many may be told at once of objects of which there may be many, and how many a second after that.
pub const EVENTS: (f64, f64) = (20.0, 1.0);

/// How long one may take to be written.
const DEADLINE: Duration = Duration::from_secs(5);

/// One thing to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// Whether it is bad.
    pub bad: bool,
    /// In one word.
    pub reason: String,
    /// In a sentence.
    pub note: String,
}

/// What is new between two statuses. Pure.
pub fn news(before: Option<&ClusterNetworkStatus>, after: &ClusterNetworkStatus) -> Vec<News> {
    let earlier = before.map(|status| status.conditions.as_slice()).unwrap_or_default();
    let mut news = Vec::new();
    if after.revision.is_some() && before.and_then(|status| status.revision.as_ref()) != after.revision.as_ref() {
        let note =
            format!("revision {} is accepted and told to the nodes", after.revision.as_deref().unwrap_or_default());
        news.push(News { bad: false, reason: "RevisionAccepted".to_owned(), note });
    }
    if let Some(stalled) = find(&after.conditions, ConditionType::Stalled).filter(|c| c.status == "True") {
        let said = |c: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition| c.message == stalled.message;
        if !find(earlier, ConditionType::Stalled).is_some_and(said) {
            news.push(News { bad: true, reason: stalled.reason.clone(), note: stalled.message.clone() });
        }
    }
    let (was, is) = (is_true(earlier, ConditionType::Ready), is_true(&after.conditions, ConditionType::Ready));
    if let Some(ready) = find(&after.conditions, ConditionType::Ready).filter(|_| was != is) {
        let stalled = is_true(&after.conditions, ConditionType::Stalled);
        if is {
            news.push(News { bad: false, reason: "Ready".to_owned(), note: ready.message.clone() });
        } else if was && !stalled && ready.reason == NODES_NOT_READY {
            // Nodes that are still being told something are on their way: what is wrong, if anything, they say later.
            news.push(News { bad: true, reason: "NotReady".to_owned(), note: ready.message.clone() });
        }
    }
    news
}

/// What is told when the `ClusterNetwork` is deleted.
pub fn kept() -> News {
    News {
        bad: true,
        reason: "NetworkKept".to_owned(),
        note: "the ClusterNetwork was deleted; the nodes keep the running network, new nodes get none".to_owned(),
    }
}

/// Writes events, each as one of its own: those of the same reason that say something else are not the same.
#[derive(Clone)]
pub struct Herald {
    client: Client,
    identity: String,
}

impl std::fmt::Debug for Herald {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Herald")
    }
}

impl Herald {
    /// Events come from this replica.
    pub fn new(client: Client, identity: &str) -> Self {
        Self { client, identity: identity.to_owned() }
    }

    /// Tells news about an object. That the API server does not take them holds nothing up.
    pub async fn tell(&self, about: &ObjectReference, news: News) {
        let namespace = about.namespace.as_deref().unwrap_or("default");
        let events = Api::<Event>::namespaced(self.client.clone(), namespace);
        let event = self.event(about, namespace, news, Timestamp::now());
        match timeout(DEADLINE, events.create(&PostParams::default(), &event)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(reason = event.reason, %error, "event not written"),
            Err(_) => tracing::warn!(reason = event.reason, "event not written, there was no answer"),
        }
    }

    fn event(&self, about: &ObjectReference, namespace: &str, news: News, now: Timestamp) -> Event {
        let name = format!("{}.{:x}", about.name.as_deref().unwrap_or(OPERATOR), now.as_nanosecond());
        Event {
            metadata: ObjectMeta { name: Some(name), namespace: Some(namespace.to_owned()), ..ObjectMeta::default() },
            type_: Some(if news.bad { "Warning" } else { "Normal" }.to_owned()),
            reason: Some(news.reason),
            note: Some(cut(news.note)),
            action: Some("Reconcile".to_owned()),
            event_time: Some(MicroTime(now)),
            regarding: Some(about.clone()),
            reporting_controller: Some(OPERATOR.to_owned()),
            reporting_instance: Some(self.identity.clone()),
            ..Event::default()
        }
    }
}

fn cut(mut note: String) -> String {
    while note.len() > LONGEST_NOTE {
        note.pop();
    }
    note
}

/// How events name a network.
pub fn reference(network: &ClusterNetwork) -> ObjectReference {
    network.object_ref(&())
}
