//! What is said about policies that cannot be honoured in full. Pure; client: no.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::core::v1::ObjectReference;
use towpath_crds::conditions::{Claim, ConditionType};
use towpath_net::policy::input::Key;

use super::finding::Finding;
use crate::events::News;
use crate::status::names;

/// The reason of events about a policy.
pub const NOT_HONOURED: &str = "PolicyNotHonoured";

/// What events say first, as a long one is cut.
const CLOSED: &str = "what is not understood lets nothing through";

/// How many events are told at once; the others come with the next look.
const MOST_EVENTS: usize = 20;

/// A kind of policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PolicyKind {
    /// `networking.k8s.io/v1`.
    NetworkPolicy,
    /// `policy.networking.k8s.io/v1alpha2`.
    ClusterNetworkPolicy,
}

impl PolicyKind {
    /// The version of the API.
    pub const fn api_version(self) -> &'static str {
        match self {
            Self::NetworkPolicy => "networking.k8s.io/v1",
            Self::ClusterNetworkPolicy => "policy.networking.k8s.io/v1alpha2",
        }
    }
}

/// A policy of either kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyId {
    /// Its kind.
    pub kind: PolicyKind,
    /// Its namespace, which is empty where it has none, and name.
    pub key: Key,
}

impl fmt::Display for PolicyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} ", self.kind)?;
        if !self.key.namespace.is_empty() {
            write!(f, "{}/", self.key.namespace)?;
        }
        f.write_str(&self.key.name)
    }
}

/// What of a policy cannot be honoured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// `metadata.uid`: tells a policy from a later one of the same name.
    pub uid: String,
    /// What, in the order of the policy.
    pub findings: Vec<Finding>,
}

/// All policies that cannot be honoured in full.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    complaints: BTreeMap<PolicyId, Complaint>,
    is_whole: bool,
}

impl Report {
    /// Every policy was read once.
    pub const fn complete(&mut self) {
        self.is_whole = true;
    }

    /// Whether every policy was read once: before that nothing is to be said of them all.
    pub const fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// What is found in a policy from now on. Answers whether that is other than before.
    pub fn set(&mut self, id: PolicyId, complaint: Option<Complaint>) -> bool {
        match complaint.filter(|complaint| !complaint.findings.is_empty()) {
            Some(complaint) if self.complaints.get(&id) == Some(&complaint) => false,
            Some(complaint) => {
                self.complaints.insert(id, complaint);
                true
            }
            None => self.complaints.remove(&id).is_some(),
        }
    }

    /// The policies, and what is found in them.
    pub fn complaints(&self) -> impl ExactSizeIterator<Item = (&PolicyId, &Complaint)> {
        self.complaints.iter()
    }

    /// What the condition of the network says.
    pub fn claim(&self) -> Claim {
        let about = ConditionType::PoliciesHonoured;
        if self.complaints.is_empty() {
            return Claim::new(about, true, "AllHonoured", "every network policy can be honoured in full");
        }
        let listed: Vec<String> = self.complaints.keys().map(ToString::to_string).collect();
        let message = format!(
            "policies that are not honoured in full ({}): {}. Pods that they select stay isolated, and nothing is let through \
             by what is not understood; see the events of each",
            listed.len(),
            names(listed.iter().map(String::as_str)),
        );
        Claim::new(about, false, NOT_HONOURED, message)
    }
}

/// What was told by events.
#[derive(Clone, Debug, Default)]
pub struct Told(BTreeMap<PolicyId, Complaint>);

impl Told {
    /// What is to be told of a report, and was not before.
    pub fn news(&mut self, report: &Report) -> Vec<(ObjectReference, News)> {
        self.0.retain(|id, told| report.complaints.get(id) == Some(told));
        let new = report.complaints.iter().filter(|(id, _)| !self.0.contains_key(id)).take(MOST_EVENTS);
        let new: Vec<(PolicyId, Complaint)> = new.map(|(id, complaint)| (id.clone(), complaint.clone())).collect();
        let news = new.iter().map(|(id, complaint)| (reference(id, complaint), news(complaint))).collect();
        self.0.extend(new);
        news
    }
}

fn reference(id: &PolicyId, complaint: &Complaint) -> ObjectReference {
    ObjectReference {
        api_version: Some(id.kind.api_version().to_owned()),
        kind: Some(format!("{:?}", id.kind)),
        namespace: Some(id.key.namespace.clone()).filter(|namespace| !namespace.is_empty()),
        name: Some(id.key.name.clone()),
        uid: Some(complaint.uid.clone()),
        ..ObjectReference::default()
    }
}

fn news(complaint: &Complaint) -> News {
    let said: Vec<String> = complaint.findings.iter().map(ToString::to_string).collect();
    News { bad: true, reason: NOT_HONOURED.to_owned(), note: format!("{CLOSED}: {}", said.join(". ")) }
}
