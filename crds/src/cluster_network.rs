//! `ClusterNetwork`: what the pod network of a cluster is.

#![allow(clippy::doc_markdown, reason = "kubectl explain shows these comments as they are")]
#![allow(clippy::duplicated_attributes, reason = "the lint does not know that each column has its own")]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ipam::Ipam;
use crate::node_transport::Encryption;
use crate::policy_spec::PolicySpec;
use crate::policy_status::PolicyCounts;
use crate::transport::{Exception, NodeAddress, Transport};
use crate::{rules, schema};

/// What the pod network is. Written by users and their tools only; nothing is ever filled in here, what is in
/// effect is shown in status.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "towpath.dev",
    version = "v1alpha1",
    kind = "ClusterNetwork",
    plural = "clusternetworks",
    shortname = "cnet",
    category = "network",
    status = "ClusterNetworkStatus",
    derive = "PartialEq",
    doc = "The pod network of this cluster: one object, named default. Deleting it changes nothing on the nodes; the running network stays.",
    validation = rules::singleton(),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status", description = "Whether every node has what is declared."),
    printcolumn(name = "Transport", type_ = "string", json_path = ".status.transport", description = "How packets cross between nodes, in effect."),
    printcolumn(name = "Attachment", type_ = "string", json_path = ".status.attachment", description = "How pods are attached, in effect."),
    printcolumn(name = "MTU", type_ = "integer", json_path = ".status.mtu", description = "The lowest MTU of pods in effect, in bytes."),
    printcolumn(name = "Nodes", type_ = "string", json_path = ".status.nodes.readyOfDesired", description = "Ready nodes of all nodes."),
    printcolumn(name = "Updated", type_ = "string", json_path = ".status.nodes.updatedOfDesired", description = "Nodes on the current revision of all nodes."),
    printcolumn(name = "Policies", type_ = "string", json_path = ".status.policies.inForceOfCount", description = "Network policies in force of all."),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Encryption", type_ = "string", json_path = ".status.encryption", priority = 1, description = "Whether packets between nodes are encrypted, in effect."),
    printcolumn(name = "Pod-CIDRs", type_ = "string", json_path = ".status.podCIDRs", priority = 1, description = "The ranges of pods in effect."),
    printcolumn(name = "Revision", type_ = "string", json_path = ".status.revision", priority = 1, description = "The revision that nodes are told."),
    printcolumn(name = "Uncontested", type_ = "string", json_path = ".status.conditions[?(@.type==\"CNIUncontested\")].status", priority = 1, description = "Whether no other network takes pods of any node."),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].message", priority = 1, description = "Why it is ready or not.")
)]
#[x_kube(
    validation = rules::services_apart_from_pods(),
    validation = rules::nodes_apart_from_pods(),
    validation = rules::nodes_apart_from_services(),
    validation = rules::apart_from_pools("serviceCIDRs"),
    validation = rules::apart_from_pools("nodeCIDRs"),
    validation = rules::places_apart("ipam.podCIDRs"),
    validation = rules::places_apart("serviceCIDRs"),
    validation = rules::found_apart_from_pools("cidrs"),
    validation = rules::reached_outside("ipam.podCIDRs"),
    validation = rules::reached_outside("serviceCIDRs"),
    validation = rules::found_apart_from_pools("canReach"),
    validation = rules::options_have_effect("VXLAN", "vxlan"),
    validation = rules::options_have_effect("Geneve", "geneve"),
    validation = rules::options_have_effect("WireGuard", "wireGuard"),
    validation = rules::option_stays("VXLAN", ("vxlan", "vni"), 4096),
    validation = rules::option_stays("VXLAN", ("vxlan", "port"), 4789),
    validation = rules::option_stays("Geneve", ("geneve", "vni"), 4096),
    validation = rules::option_stays("Geneve", ("geneve", "port"), 6081),
    validation = rules::option_stays("WireGuard", ("wireGuard", "port"), 51820),
    validation = rules::ports_differ(("VXLAN", "vxlan", 4789), ("Geneve", "geneve", 6081), false),
    validation = rules::ports_differ(("VXLAN", "vxlan", 4789), ("WireGuard", "wireGuard", 51820), true),
    validation = rules::ports_differ(("Geneve", "geneve", 6081), ("WireGuard", "wireGuard", 51820), true),
    validation = rules::exceptions_encrypt()
)]
#[serde(rename_all = "camelCase")]
pub struct ClusterNetworkSpec {
    /// Where pods get their addresses from. With mode NodeCIDR it cannot be changed while nodes use it; with mode Pools,
    /// pools can come, go, and be disabled at any time.
    #[x_kube(validation = rules::ipam_stays())]
    pub ipam: Ipam,

    /// The ranges of Service addresses, at most 8, as in 10.96.0.0/16. Not masqueraded towards, and never overlapping
    /// pods or nodes. May be left out: the cluster's ServiceCIDR objects are respected in any case; where given, it
    /// must hold all of them. Can be changed at any time.
    #[serde(rename = "serviceCIDRs", default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::services")]
    #[x_kube(validation = rules::disjoint())]
    pub service_cidrs: Option<Vec<String>>,

    /// The ranges that a node's address is chosen from, at most 16, as in 172.16.30.0/24. For each family that is
    /// listed, a node's address is its first InternalIP in one of these; for a family that is not, its first
    /// InternalIP. Where nodeAddress has another mode than InternalIP, that chooses instead. Not masqueraded towards. Can be changed at any time; nodes follow within a second.
    #[serde(rename = "nodeCIDRs", default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::nodes")]
    #[x_kube(validation = rules::disjoint())]
    pub node_cidrs: Option<Vec<String>>,

    /// How a pod joins its node. Can be changed at any time; pods that run stay as they are until they are restarted.
    pub attachment: Attachment,

    /// How pod packets cross between nodes.
    pub transport: Transport,

    /// By which addresses other nodes reach a node: its InternalIPs, as nodeCIDRs allows, if left out. Can be changed at
    /// any time; while a node looks for its address anew, it keeps the one that it had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_address: Option<NodeAddress>,

    /// Nodes that are other than the rest, at most 16 kinds: those that are on their way from one network to another,
    /// or have an older kernel. The first one whose nodeSelector selects a node counts. Can be changed at any time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_owned()]))]
    pub exceptions: Option<Vec<Exception>>,

    /// The largest packet of a pod's interface, in bytes: a number from 1280 to 65535, or Auto, which is also what
    /// leaving it out means: the node's uplink less what the transport adds. Can be changed at any time; pods that
    /// run keep theirs until they are restarted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::int_or_string")]
    #[x_kube(validation = rules::mtu())]
    pub mtu: Option<Mtu>,

    /// Which packets of pods leave a node with the node's address instead of the pod's. Can be changed at any time.
    #[x_kube(validation = rules::excluded_has_effect())]
    pub masquerade: Masquerade,

    /// How CNI configurations of other networks on the nodes are handled. Can be changed at any time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cni_config: Option<CniConfig>,

    /// How network policies are brought into force. Can be changed at any time; pods that start from then on start so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicySpec>,
}

/// How a pod joins its node.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Routed: each pod has a point-to-point veth; the node's end holds the gateway address, and a host route leads
    /// to the pod. LinkLocal: the same, but the pod has its address alone (/32 or /128), and its gateway is 169.254.1.1
    /// and fe80::1 on every link. Bridge: a bridge of the node holds the gateway address, and pods are its ports.
    pub mode: AttachmentMode,
}

/// How a pod joins its node.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachmentMode {
    /// A point-to-point veth and a host route.
    Routed,
    /// A point-to-point veth, the pod's address alone, and a gateway that is the same on every link.
    LinkLocal,
    /// A veth into a bridge of the node.
    Bridge,
}

/// `Auto` or a number of bytes.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(untagged)]
pub enum Mtu {
    /// A number of bytes.
    Bytes(i64),
    /// A word; the schema lets only `Auto` through.
    Word(String),
}

/// Which packets of pods leave with the node's address.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Masquerade {
    /// LeavingCluster: those to an address that is no pod, no node and in none of the declared ranges. Off: none; the
    /// network around the cluster routes pod addresses.
    pub mode: MasqueradeMode,

    /// Destinations outside the cluster that see the pod's own address all the same, at most 64 CIDRs.
    #[serde(rename = "excludedCIDRs", default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::excluded")]
    pub excluded_cidrs: Option<Vec<String>>,
}

/// When packets are masqueraded.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum MasqueradeMode {
    /// When they leave the cluster.
    LeavingCluster,
    /// Never.
    Off,
}

/// How CNI configurations of other networks are handled.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct CniConfig {
    /// What becomes of one that the container runtime would take instead of Towpath's. Report, which is also what
    /// leaving it out means: it is told of in conditions, with its name. Rename: it is moved aside on the node, and put
    /// back when Towpath leaves the node.
    pub conflict: CniConflict,
}

/// What becomes of CNI configurations of other networks that the container runtime would take instead.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum CniConflict {
    /// They are told of.
    Report,
    /// They are moved aside, and put back at the end.
    Rename,
}

/// What is in effect. Written by the operator only, when something of it changes.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ClusterNetworkStatus {
    /// The metadata.generation of the spec that all of this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,

    /// Ready: every node has what is declared. Reconciling: nodes are still on their way. Stalled: somebody has to do
    /// something, and the message says what. Accepted: the spec makes sense in this cluster. CIDRsAllocated: every
    /// node has pod CIDRs and an address. NodesUpdated: every node is on the current revision. CNIUncontested: on no
    /// node does another network take pods. PoliciesHonoured: nothing in network policies is not understood.
    /// PoliciesInForce: every policy is in the kernels of the nodes that have pods of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,

    /// Short hash of the last spec that was accepted; the one that nodes are told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 12))]
    pub revision: Option<String>,

    /// By what packets cross between nodes, as the nodes' kernels have it: in one text with commas where it is not the
    /// same everywhere, as in Direct,VXLAN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub transport: Option<String>,

    /// Whether packets between pods of different nodes are encrypted, as the nodes' kernels have it. Full: all of them.
    /// Partial: some. None: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<Encryption>,

    /// How pods are attached on the nodes that are updated, in one text with commas where it is not the same on all of
    /// them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub attachment: Option<String>,

    /// The lowest MTU of pods of any node, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub mtu: Option<i32>,

    /// The ranges of pods that nodes were given CIDRs from, also those that still drain, in one text with commas; where
    /// they are many, the first ones and how many more.
    #[serde(rename = "podCIDRs", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub pod_cidrs: Option<String>,

    /// What became of each pool, also of those that were taken out and still drain.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_owned(), "cidr".to_owned()]))]
    pub pools: Vec<PoolStatus>,

    /// How many nodes there are, and how many of them have what is declared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<NodeCounts>,

    /// How many network policies there are, and how many of them are in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policies: Option<PolicyCounts>,
}

/// What became of a pool.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PoolStatus {
    /// Its name.
    #[schemars(length(max = 63))]
    pub name: String,

    /// Its range.
    #[schemars(length(max = 43))]
    pub cidr: String,

    /// Blocks that nodes have of all blocks, as in 12/1024.
    #[schemars(length(max = 24))]
    pub blocks: String,

    /// How many nodes have blocks of it.
    #[schemars(range(min = 0))]
    pub nodes: i32,

    /// How many of the blocks that nodes have drain.
    #[schemars(range(min = 0))]
    pub draining: i32,
}

/// How many nodes there are, and how many of them have what is declared.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct NodeCounts {
    /// All Nodes of the cluster.
    #[schemars(range(min = 0))]
    pub desired: i32,

    /// Those whose agent reports the current revision.
    #[schemars(range(min = 0))]
    pub updated: i32,

    /// Those whose NodeNetwork is Ready.
    #[schemars(range(min = 0))]
    pub ready: i32,

    /// Updated of desired, as in 3/3.
    #[schemars(length(max = 24))]
    pub updated_of_desired: String,

    /// Ready of desired, as in 3/3.
    #[schemars(length(max = 24))]
    pub ready_of_desired: String,
}

impl NodeCounts {
    /// Counts with their texts.
    pub fn new(desired: usize, updated: usize, ready: usize) -> Self {
        let number = |count| i32::try_from(count).unwrap_or(i32::MAX);
        Self {
            desired: number(desired),
            updated: number(updated),
            ready: number(ready),
            updated_of_desired: format!("{updated}/{desired}"),
            ready_of_desired: format!("{ready}/{desired}"),
        }
    }
}
