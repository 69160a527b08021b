//! `policy.networking.k8s.io/v1alpha2` `ClusterNetworkPolicy`, as the network policy API v0.2.0 has it: read, and of what is
//! written only conditions.
//!
//! A definition that is newer or older than that may hold what is not known here. So each part is read by itself
//! ([`Part`]), and no field is passed over: what is not understood can be told apart from what is not there.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::ClusterResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, ObjectMeta};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// The name of its definition.
pub const CLUSTER_NETWORK_POLICIES: &str = "clusternetworkpolicies.policy.networking.k8s.io";

/// The version of its API that is read.
pub const CLUSTER_NETWORK_POLICY_VERSION: &str = "v1alpha2";

/// A part of an object that may not be understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part<T> {
    /// It is understood.
    Understood(T),
    /// It is not; why, in words.
    NotUnderstood(String),
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Part<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Ok(T::deserialize(value).map_or_else(|error| Self::NotUnderstood(error.to_string()), Self::Understood))
    }
}

/// A policy of the whole cluster.
#[derive(Clone, Debug, Deserialize)]
pub struct ClusterNetworkPolicy {
    /// Name, uid and the rest.
    pub metadata: ObjectMeta,
    /// What it says.
    pub spec: Part<ClusterPolicySpec>,
    /// What came of it.
    pub status: Option<Part<ClusterPolicyStatus>>,
}

/// What came of a policy.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct ClusterPolicyStatus {
    /// What implementations say, each under types of its own.
    #[serde(default)]
    pub conditions: Vec<Condition>,
}

impl ClusterNetworkPolicy {
    /// What was said of it.
    pub fn conditions(&self) -> &[Condition] {
        match &self.status {
            Some(Part::Understood(status)) => &status.conditions,
            Some(Part::NotUnderstood(_)) | None => &[],
        }
    }
}

impl kube::Resource for ClusterNetworkPolicy {
    type DynamicType = ();
    type Scope = ClusterResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        "ClusterNetworkPolicy".into()
    }

    fn group((): &()) -> Cow<'_, str> {
        "policy.networking.k8s.io".into()
    }

    fn version((): &()) -> Cow<'_, str> {
        CLUSTER_NETWORK_POLICY_VERSION.into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        "clusternetworkpolicies".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// What a policy says. Every field but the rules must be there.
#[derive(Clone, Debug, Deserialize)]
pub struct ClusterPolicySpec {
    /// Before or after `NetworkPolicy`.
    pub tier: Option<Part<Tier>>,
    /// From 0 to 1000, the lowest first.
    pub priority: Option<Part<i32>>,
    /// Which pods it is for.
    pub subject: Option<Part<Subject>>,
    /// What comes in, in order.
    #[serde(default)]
    pub ingress: Vec<Part<IngressRule>>,
    /// What goes out, in order.
    #[serde(default)]
    pub egress: Vec<Part<EgressRule>>,
    /// Fields that are not known.
    #[serde(flatten)]
    pub unknown: BTreeMap<String, Value>,
}

/// When a policy is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Tier {
    /// Before every `NetworkPolicy`.
    Admin,
    /// For what no `NetworkPolicy` decides.
    Baseline,
}

/// Pods; just one of these.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subject {
    /// All pods of these namespaces.
    pub namespaces: Option<LabelSelector>,
    /// Some pods of some namespaces.
    pub pods: Option<NamespacedPods>,
}

/// Some pods of some namespaces.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NamespacedPods {
    /// Of these namespaces.
    pub namespace_selector: LabelSelector,
    /// These pods.
    pub pod_selector: LabelSelector,
}

/// What becomes of what a rule matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Action {
    /// It goes through.
    Accept,
    /// It ends.
    Deny,
    /// The next tier decides.
    Pass,
}

/// A rule for what comes in.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IngressRule {
    /// What it is called.
    #[serde(default)]
    pub name: String,
    /// What becomes of what it matches.
    pub action: Action,
    /// Where it comes from: any of these.
    pub from: Vec<Part<IngressPeer>>,
    /// By what and to which ports; all where this is nothing.
    pub protocols: Option<Vec<Part<Protocols>>>,
}

/// A rule for what goes out.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EgressRule {
    /// What it is called.
    #[serde(default)]
    pub name: String,
    /// What becomes of what it matches.
    pub action: Action,
    /// Where it goes: any of these.
    pub to: Vec<Part<EgressPeer>>,
    /// By what and to which ports; all where this is nothing.
    pub protocols: Option<Vec<Part<Protocols>>>,
}

/// Where something comes from: the same as who a policy can be for.
pub type IngressPeer = Subject;

/// Where something goes; just one of these.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EgressPeer {
    /// All pods of these namespaces.
    pub namespaces: Option<LabelSelector>,
    /// Some pods of some namespaces.
    pub pods: Option<NamespacedPods>,
    /// The addresses of these nodes (experimental).
    pub nodes: Option<LabelSelector>,
    /// Everyone in these CIDRs.
    pub networks: Option<Vec<String>>,
    /// Whoever has these names in DNS (experimental).
    pub domain_names: Option<Vec<String>>,
}

/// A protocol with its ports, or a port that pods name; just one of these.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Protocols {
    /// TCP.
    pub tcp: Option<Destination>,
    /// UDP.
    pub udp: Option<Destination>,
    /// SCTP.
    pub sctp: Option<Destination>,
    /// The port of the destination's pod that has this name.
    pub destination_named_port: Option<String>,
}

/// What of a protocol is looked at.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Destination {
    /// The port that it goes to; it must be there.
    pub destination_port: Option<Port>,
}

/// A port, or several; just one of these.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// One.
    pub number: Option<i32>,
    /// Several.
    pub range: Option<PortRange>,
}

/// Ports from the first to the last, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortRange {
    /// The first.
    pub start: i32,
    /// The last.
    pub end: i32,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec(spec: &Value) -> Part<ClusterPolicySpec> {
        let object = json!({"metadata": {"name": "p", "uid": "u"}, "spec": spec, "status": {"conditions": []}});
        serde_json::from_value::<ClusterNetworkPolicy>(object).unwrap().spec
    }

    #[test]
    fn all_that_the_api_has_is_read() {
        let some = json!({"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "web"}}});
        let read = spec(&json!({
            "tier": "Baseline", "priority": 1000, "subject": {"pods": some},
            "ingress": [{"name": "in", "action": "Pass", "from": [{"namespaces": {}}, {"pods": some}]}],
            "egress": [{
                "name": "out", "action": "Deny",
                "to": [{"nodes": {}}, {"networks": ["fd00::/8"]}, {"domainNames": ["a.example"]}, {"pods": some}],
                "protocols": [
                    {"tcp": {"destinationPort": {"number": 80}}},
                    {"sctp": {"destinationPort": {"range": {"start": 1, "end": 2}}}},
                    {"destinationNamedPort": "http"},
                ],
            }],
        }));
        let Part::Understood(read) = read else { panic!("{read:?}") };
        assert_eq!(read.tier, Some(Part::Understood(Tier::Baseline)));
        assert_eq!(read.priority, Some(Part::Understood(1000)));
        assert!(read.unknown.is_empty());
        assert!(!format!("{read:?}").contains("NotUnderstood"), "{read:?}");
    }

    #[test]
    fn what_is_not_known_is_told_apart_where_it_is() {
        let Part::Understood(read) = spec(&json!({
            "tier": "Admin", "expires": "never",
            "ingress": [{"action": "Deny", "from": [{"namespaces": {}}, {"galaxies": {}}]}, {"action": "Log", "from": []}],
        })) else {
            panic!("the spec as a whole is an object")
        };
        assert_eq!(read.unknown.keys().collect::<Vec<_>>(), ["expires"]);
        assert!(read.priority.is_none() && read.subject.is_none());
        let Part::Understood(rule) = &read.ingress[0] else { panic!("{:?}", read.ingress) };
        assert!(matches!(rule.from[0], Part::Understood(_)));
        assert!(matches!(&rule.from[1], Part::NotUnderstood(why) if why.contains("galaxies")), "{rule:?}");
        assert!(matches!(&read.ingress[1], Part::NotUnderstood(why) if why.contains("Log")), "{:?}", read.ingress);
        assert!(matches!(spec(&json!("no object")), Part::NotUnderstood(_)));
    }
}
