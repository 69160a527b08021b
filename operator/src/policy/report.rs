//! What is said about policies that cannot be honoured in full. Pure; client: no.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Instant;

use k8s_openapi::api::core::v1::ObjectReference;
use towpath_crds::conditions::{Claim, ConditionType};
use towpath_net::budget::Budget;
use towpath_net::policy::compile::PolicyName;
use towpath_net::policy::input::Key;

use super::finding::Finding;
use crate::events::{EVENTS, News};
use crate::status::names;

/// The reason of events about a policy.
pub const NOT_HONOURED: &str = "PolicyNotHonoured";

/// What events say first, as a long one is cut.
const CLOSED: &str = "what is not understood lets nothing through";

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

impl PolicyId {
    /// A `ClusterNetworkPolicy`.
    pub fn of_cluster(name: &str) -> Self {
        let key = Key { namespace: String::new(), name: name.to_owned() };
        Self { kind: PolicyKind::ClusterNetworkPolicy, key }
    }

    /// How the compiler names it.
    pub const fn name(&self) -> PolicyName<'_> {
        match self.kind {
            PolicyKind::NetworkPolicy => PolicyName::Namespaced(&self.key),
            PolicyKind::ClusterNetworkPolicy => PolicyName::Cluster(self.key.name.as_str()),
        }
    }

    /// How events name it, with its `metadata.uid`.
    pub fn reference(&self, uid: &str) -> ObjectReference {
        ObjectReference {
            api_version: Some(self.kind.api_version().to_owned()),
            kind: Some(format!("{:?}", self.kind)),
            namespace: Some(self.key.namespace.clone()).filter(|namespace| !namespace.is_empty()),
            name: Some(self.key.name.clone()),
            uid: Some(uid.to_owned()),
            ..ObjectReference::default()
        }
    }
}

/// How a policy of the cluster is written: what its status is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.generation`.
    pub generation: i64,
    /// What of it cannot be honoured.
    pub findings: Vec<Finding>,
    /// Whether nobody can say whom it is for: then it is not compiled at all.
    pub is_for_nobody: bool,
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
pub struct Told {
    complaints: BTreeMap<PolicyId, Complaint>,
    budget: Budget,
}

impl Told {
    /// What is to be told of a report, and was not before; as much as there is room for, the rest with a later look.
    pub fn news(&mut self, report: &Report, now: Instant) -> Vec<(ObjectReference, News)> {
        self.complaints.retain(|id, told| report.complaints.get(id) == Some(told));
        let new = report.complaints.iter().filter(|(id, _)| !self.complaints.contains_key(id));
        let new = new.take_while(|_| self.budget.take(EVENTS, now));
        let new: Vec<(PolicyId, Complaint)> = new.map(|(id, complaint)| (id.clone(), complaint.clone())).collect();
        let news = new.iter().map(|(id, complaint)| (id.reference(&complaint.uid), news(complaint))).collect();
        self.complaints.extend(new);
        news
    }
}

/// All that is found in a policy, in one text.
pub fn said(findings: &[Finding]) -> String {
    let said: Vec<String> = findings.iter().map(ToString::to_string).collect();
    format!("{CLOSED}: {}", said.join(". "))
}

fn news(complaint: &Complaint) -> News {
    News { bad: true, reason: NOT_HONOURED.to_owned(), note: said(&complaint.findings) }
}
