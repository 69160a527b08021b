//! Pods, namespaces and nodes, as far as policies need them. Nothing else of them is even decoded: what is passed over
//! costs neither memory nor most of the time.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::networking::v1 as networking;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::{Deserialize, Deserializer};
use towpath_net::Family;
use towpath_net::policy::identity;
use towpath_net::policy::input::{Key, NamedPort, Namespace, Node, Pod};
use towpath_net::state::NodeName;

use super::parts::{self, protocol};

/// A Namespace.
#[derive(Resource, Deserialize, Clone, Debug)]
#[resource(inherit = core::Namespace)]
pub struct ApiNamespace {
    #[serde(deserialize_with = "metadata")]
    metadata: ObjectMeta,
}

/// A Node.
#[derive(Resource, Deserialize, Clone, Debug)]
#[resource(inherit = core::Node)]
pub struct ApiNode {
    #[serde(deserialize_with = "metadata")]
    metadata: ObjectMeta,
    #[serde(default)]
    status: NodeStatus,
}

/// A Pod.
#[derive(Resource, Deserialize, Clone, Debug)]
#[resource(inherit = core::Pod)]
pub struct ApiPod {
    #[serde(deserialize_with = "metadata")]
    metadata: ObjectMeta,
    #[serde(default)]
    spec: PodSpec,
    #[serde(default)]
    status: PodStatus,
}

/// A `NetworkPolicy`.
#[derive(Resource, Deserialize, Clone, Debug)]
#[resource(inherit = networking::NetworkPolicy)]
pub struct ApiNetworkPolicy {
    #[serde(deserialize_with = "metadata")]
    metadata: ObjectMeta,
    /// What it says.
    #[serde(default)]
    pub spec: networking::NetworkPolicySpec,
}

/// A definition of a kind.
#[derive(Resource, Deserialize, Clone, Debug)]
#[resource(inherit = CustomResourceDefinition)]
pub struct ApiDefinition {
    #[serde(deserialize_with = "metadata")]
    metadata: ObjectMeta,
    spec: DefinitionSpec,
    #[serde(default)]
    status: DefinitionStatus,
}

impl ApiDefinition {
    /// Whether objects of this version are served.
    pub fn serves(&self, version: &str) -> bool {
        let is_served = self.spec.versions.iter().any(|offered| offered.name == version && offered.served);
        let mut conditions = self.status.conditions.iter().flatten();
        is_served && conditions.any(|condition| condition.about == "Established" && condition.status == "True")
    }
}

/// What tells an object from others, and its labels.
fn metadata<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Identity {
        name: Option<String>,
        namespace: Option<String>,
        uid: Option<String>,
        resource_version: Option<String>,
        labels: Option<BTreeMap<String, String>>,
        annotations: Option<Annotations>,
    }
    let Identity { name, namespace, uid, resource_version, labels, annotations } = Identity::deserialize(deserializer)?;
    let mirror = annotations.and_then(|annotations| annotations.mirror);
    let annotations = mirror.map(|hash| BTreeMap::from([(identity::MIRROR.to_owned(), hash)]));
    Ok(ObjectMeta { name, namespace, uid, resource_version, labels, annotations, ..ObjectMeta::default() })
}

/// The annotations that matter.
#[derive(Deserialize)]
struct Annotations {
    /// [`identity::MIRROR`].
    #[serde(rename = "kubernetes.io/config.mirror")]
    mirror: Option<String>,
}

#[derive(Deserialize, Clone, Debug)]
struct DefinitionSpec {
    versions: Vec<DefinitionVersion>,
}

#[derive(Deserialize, Clone, Debug)]
struct DefinitionVersion {
    name: String,
    served: bool,
}

#[derive(Deserialize, Clone, Debug, Default)]
struct DefinitionStatus {
    conditions: Option<Vec<DefinitionCondition>>,
}

#[derive(Deserialize, Clone, Debug)]
struct DefinitionCondition {
    #[serde(rename = "type")]
    about: String,
    status: String,
}

#[derive(Deserialize, Clone, Debug, Default)]
struct NodeStatus {
    addresses: Option<Vec<NodeAddress>>,
}

#[derive(Deserialize, Clone, Debug)]
struct NodeAddress {
    #[serde(rename = "type")]
    of: String,
    address: String,
}

#[derive(Deserialize, Clone, Debug, Default)]
#[serde(rename_all = "camelCase")]
struct PodSpec {
    node_name: Option<String>,
    host_network: Option<bool>,
    containers: Option<Vec<Container>>,
    init_containers: Option<Vec<Container>>,
}

#[derive(Deserialize, Clone, Debug)]
#[serde(rename_all = "camelCase")]
struct Container {
    restart_policy: Option<String>,
    ports: Option<Vec<ContainerPort>>,
}

#[derive(Deserialize, Clone, Debug)]
struct ContainerPort {
    name: Option<String>,
    protocol: Option<String>,
    #[serde(rename = "containerPort")]
    number: i32,
}

#[derive(Deserialize, Clone, Debug, Default)]
struct PodStatus {
    phase: Option<String>,
    #[serde(rename = "podIP")]
    pod_ip: Option<String>,
    #[serde(rename = "podIPs")]
    pod_ips: Option<Vec<PodIp>>,
}

#[derive(Deserialize, Clone, Debug)]
struct PodIp {
    ip: String,
}

impl From<ApiNamespace> for Namespace {
    fn from(namespace: ApiNamespace) -> Self {
        let ObjectMeta { name, labels, .. } = namespace.metadata;
        Self { name: name.unwrap_or_default(), labels: labels.unwrap_or_default() }
    }
}

impl From<ApiNode> for Node {
    fn from(node: ApiNode) -> Self {
        let ObjectMeta { name, labels, .. } = node.metadata;
        let listed = node.status.addresses.unwrap_or_default().into_iter();
        let own = listed.filter(|address| matches!(address.of.as_str(), "InternalIP" | "ExternalIP"));
        let mut addresses: Vec<IpAddr> = own.filter_map(|address| address.address.parse().ok()).collect();
        addresses.sort_unstable();
        addresses.dedup();
        Self { name: NodeName(name.unwrap_or_default()), labels: labels.unwrap_or_default(), addresses }
    }
}

impl From<ApiPod> for Pod {
    fn from(pod: ApiPod) -> Self {
        let key = key(&pod.metadata);
        let ObjectMeta { uid, labels, annotations, .. } = pod.metadata;
        let mirror = annotations.as_ref().and_then(|annotations| annotations.get(identity::MIRROR));
        let uid = identity::of_object(uid.unwrap_or_default(), mirror.map(String::as_str), &key);
        let PodSpec { node_name, host_network, containers, init_containers } = pod.spec;
        Self {
            key,
            uid,
            labels: labels.unwrap_or_default(),
            node: node_name.filter(|name| !name.is_empty()).map(NodeName),
            addresses: addresses(&pod.status),
            ports: ports(containers.unwrap_or_default(), init_containers.unwrap_or_default()),
            is_host_network: host_network.unwrap_or_default(),
            is_ended: matches!(pod.status.phase.as_deref(), Some("Succeeded" | "Failed")),
        }
    }
}

/// Namespace and name.
pub(super) fn key(metadata: &ObjectMeta) -> Key {
    Key { namespace: metadata.namespace.clone().unwrap_or_default(), name: metadata.name.clone().unwrap_or_default() }
}

/// The first address of each family.
fn addresses(status: &PodStatus) -> Vec<IpAddr> {
    let listed = status.pod_ips.iter().flatten().map(|listed| &listed.ip).chain(&status.pod_ip);
    let all: Vec<IpAddr> = listed.filter_map(|text| text.parse().ok()).collect();
    let first = |family| all.iter().copied().find(|address| Family::of(*address) == family);
    Family::ALL.into_iter().filter_map(first).collect()
}

/// The ports that have names, of containers that run while the pod does: an init container only as a sidecar (KEP-753).
fn ports(containers: Vec<Container>, init_containers: Vec<Container>) -> Vec<NamedPort> {
    let sidecars = init_containers.into_iter().filter(|init| init.restart_policy.as_deref() == Some("Always"));
    let running = containers.into_iter().chain(sidecars);
    let mut ports: Vec<NamedPort> = running.flat_map(|one| one.ports.unwrap_or_default()).filter_map(named).collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

fn named(port: ContainerPort) -> Option<NamedPort> {
    let name = port.name.filter(|name| !name.is_empty())?;
    let protocol = protocol(port.protocol.as_deref().unwrap_or("TCP")).ok()?;
    Some(NamedPort { name, protocol, port: parts::port(port.number).ok()? })
}
