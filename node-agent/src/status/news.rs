//! Events about a node: what a person should know of other networks, when it changes and not before.

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource as _};
use towpath_crds::conditions::{ConditionType, find};
use towpath_crds::{AGENT, NodeNetwork};
use towpath_net::state::NodeName;
use tracing::warn;

use super::contest::PODS;

/// The longest note, in bytes: the API takes 1 kB.
const LONGEST_NOTE: usize = 1000;

/// One thing to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    bad: bool,
    reason: String,
    note: String,
}

/// What is new of other networks. That pods of one go, one by one, is none.
pub fn of(before: &[Condition], after: &[Condition]) -> Option<News> {
    let is = find(after, ConditionType::CNIUncontested)?;
    let was = find(before, ConditionType::CNIUncontested);
    let same = |was: &Condition| {
        let said_before = was.message == is.message || is.reason == PODS;
        (&was.status, &was.reason) == (&is.status, &is.reason) && said_before
    };
    // That there never was another network is no news.
    let told = was.is_some_and(same) || (is.message.is_empty() && was.is_none_or(|was| was.status == is.status));
    (!told).then(|| News {
        bad: is.status != "True",
        reason: is.reason.clone(),
        note: if is.message.is_empty() { "no other network is there any more".to_owned() } else { is.message.clone() },
    })
}

/// Writes events.
pub struct Herald {
    recorder: Recorder,
}

impl Herald {
    /// Events come from the agent of `node`.
    pub fn new(client: Client, node: &NodeName) -> Self {
        let reporter = Reporter { controller: AGENT.to_owned(), instance: Some(node.to_string()) };
        Self { recorder: Recorder::new(client, reporter) }
    }

    /// Tells news about the `NodeNetwork` of `node`, whose unique id is `object`. That the API server does not take
    /// them holds nothing up.
    pub async fn tell(&self, node: &NodeName, object: &str, news: News) {
        let mut text = news.note;
        text.truncate(text.floor_char_boundary(LONGEST_NOTE));
        let event = Event {
            type_: if news.bad { EventType::Warning } else { EventType::Normal },
            reason: news.reason,
            note: Some(text),
            action: "Look".to_owned(),
            secondary: None,
        };
        let about = ObjectReference {
            api_version: Some(NodeNetwork::api_version(&()).into_owned()),
            kind: Some(NodeNetwork::kind(&()).into_owned()),
            name: Some(node.to_string()),
            uid: Some(object.to_owned()),
            ..ObjectReference::default()
        };
        if let Err(error) = self.recorder.publish(&event, &about).await {
            warn!(reason = event.reason, %error, "event not written");
        }
    }
}

#[cfg(test)]
mod tests {
    use towpath_crds::conditions::{Claim, set};

    use super::*;

    fn conditions(so: bool, reason: &'static str, message: &str) -> Vec<Condition> {
        let mut all = Vec::new();
        let claim = Claim::new(ConditionType::CNIUncontested, so, reason, message);
        set(&mut all, &claim, None, k8s_openapi::jiff::Timestamp::UNIX_EPOCH);
        all
    }

    #[test]
    fn news_is_what_changed_and_no_list_of_pods_that_shrinks() {
        let quiet = conditions(true, "Uncontested", "");
        let file = conditions(false, "ForeignConfiguration", "00-a.conf");
        let pods = conditions(false, PODS, "a, b");
        let reasons = |before: &[Condition], after: &[Condition]| of(before, after).map(|news| news.reason);
        assert_eq!(reasons(&[], &quiet), None);
        assert_eq!(reasons(&quiet, &file).as_deref(), Some("ForeignConfiguration"));
        assert_eq!(reasons(&file, &file), None);
        assert_eq!(reasons(&file, &pods).as_deref(), Some(PODS));
        assert_eq!(reasons(&pods, &conditions(false, PODS, "b")), None);
        assert_eq!(reasons(&pods, &quiet).as_deref(), Some("Uncontested"));
        assert_eq!(
            reasons(&quiet, &conditions(true, "Uncontested", "moved aside: 00-a.conf")).as_deref(),
            Some("Uncontested")
        );
    }
}
