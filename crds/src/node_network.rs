//! `NodeNetwork`: one node's part of the network, and what its agent made of it.

#![allow(clippy::doc_markdown, reason = "kubectl explain shows these comments as they are")]
#![allow(clippy::duplicated_attributes, reason = "the lint does not know that each column has its own")]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cluster_network::{AttachmentMode, CniConflict, MasqueradeMode, Mtu};
use crate::node_transport::{Encryption, NodeAddressRule, NodeTransport, Path};
use crate::policy_spec::PolicySpec;
use crate::wireguard::WireGuardStatus;
use crate::{rules, schema};

/// What the node is told. Written by the operator only.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "towpath.dev",
    version = "v1alpha1",
    kind = "NodeNetwork",
    plural = "nodenetworks",
    shortname = "nnet",
    category = "network",
    status = "NodeNetworkStatus",
    derive = "PartialEq",
    validation = rules::drained_before_taken(),
    doc = "One node's part of the pod network, named after its Node and deleted with it. The operator writes what the node is told; the node's agent writes what came of it.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether the node's kernel is as it is told."
    ),
    printcolumn(
        name = "Pod-CIDRs",
        type_ = "string",
        json_path = ".status.podCIDRs",
        description = "What the node's pods get addresses of, in effect."
    ),
    printcolumn(
        name = "Transport",
        type_ = "string",
        json_path = ".status.transport",
        description = "How packets cross to other nodes, in effect."
    ),
    printcolumn(
        name = "MTU",
        type_ = "integer",
        json_path = ".status.mtu",
        description = "The MTU of pods in effect, in bytes."
    ),
    printcolumn(
        name = "Revision",
        type_ = "string",
        json_path = ".status.observedRevision",
        description = "The revision that is in the kernel."
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Address",
        type_ = "string",
        json_path = ".spec.addresses[0]",
        priority = 1,
        description = "The first address by which other nodes reach this one."
    ),
    printcolumn(
        name = "Encryption",
        type_ = "string",
        json_path = ".status.encryption",
        priority = 1,
        description = "Whether packets to other nodes are encrypted, in effect."
    ),
    printcolumn(
        name = "Used",
        type_ = "string",
        json_path = ".status.usedAddresses",
        priority = 1,
        description = "Addresses that pods have of all that they could have, for each family; + those of draining CIDRs."
    ),
    printcolumn(
        name = "Uncontested",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"CNIUncontested\")].status",
        priority = 1,
        description = "Whether no other network takes pods of this node."
    ),
    printcolumn(
        name = "Uplink",
        type_ = "string",
        json_path = ".status.uplink.name",
        priority = 1,
        description = "The interface towards other nodes."
    ),
    printcolumn(
        name = "Agent",
        type_ = "string",
        json_path = ".status.agentVersion",
        priority = 1,
        description = "The version of the node's agent."
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1,
        description = "Why it is ready or not."
    )
)]
#[x_kube(validation = rules::draining_is_held(), validation = rules::addresses_or_a_rule())]
// One writes all of it. Field by field, who wrote what would be half of the stored object.
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
#[serde(rename_all = "camelCase")]
pub struct NodeNetworkSpec {
    /// Short hash of the ClusterNetwork spec that this came from.
    #[schemars(length(min = 1, max = 12))]
    pub revision: String,

    /// The addresses by which other nodes reach this one, at most one of each family. None while addressRule has not
    /// found any.
    #[schemars(schema_with = "schema::addresses")]
    pub addresses: Vec<String>,

    /// How the agent finds them; it reports them in status.nodeAddresses. Left out: they come from the Node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address_rule: Option<NodeAddressRule>,

    /// The declared ranges of all pods of the cluster: packets to these are never for somebody outside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::pod_ranges")]
    pub pod_ranges: Option<Vec<String>>,

    /// What the node's pods get addresses of. More may come; one goes only after the agent has reported it as drained.
    /// Delete the NodeNetwork to have the operator allocate anew.
    #[serde(rename = "podCIDRs")]
    #[schemars(schema_with = "schema::blocks")]
    pub pod_cidrs: Vec<String>,

    /// How addresses are given out of podCIDRs. Left out: every address may be given, and there will be no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addressing: Option<NodeAddressing>,

    /// How new pods are attached.
    pub attachment: AttachmentMode,

    /// By what packets cross to and from other nodes.
    pub transport: NodeTransport,

    /// The MTU of pods, in bytes, or Auto: the uplink's less what the transport adds.
    #[schemars(schema_with = "schema::int_or_string")]
    #[x_kube(validation = rules::mtu())]
    pub mtu: Mtu,

    /// Which packets of pods leave with the node's address.
    pub masquerade: NodeMasquerade,

    /// What becomes of CNI configurations of other networks that the container runtime would take instead of
    /// Towpath's. Report: they are told of. Rename: they are moved aside, and put back when Towpath leaves the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cni_conflict: Option<CniConflict>,

    /// How network policies are brought into force. Left out: Wait and Cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicySpec>,
}

/// How addresses are given out of a node's CIDRs.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct NodeAddressing {
    /// Those of podCIDRs that no pod gets a new address of: they go back when their last pod has gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::blocks")]
    pub draining: Option<Vec<String>>,

    /// Addresses that a pod only gets by asking for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::reserved")]
    pub reserved: Option<Vec<String>>,

    /// Whether the node is given more CIDRs when it runs short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub growing: Option<bool>,

    /// For how many seconds no pod has an address of a CIDR before it is reported as idle. Left out: none ever is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub grace_seconds: Option<i32>,
}

/// Which packets of pods leave with the node's address.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct NodeMasquerade {
    /// LeavingCluster: those to an address that is no pod, no node and not excluded. Off: none.
    pub mode: MasqueradeMode,

    /// Destinations that see the pod's own address: the user's and every declared range of the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::all_excluded")]
    pub excluded: Option<Vec<String>>,
}

/// What came of it. Written by the node's agent only, when something of it changes.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
#[serde(rename_all = "camelCase")]
pub struct NodeNetworkStatus {
    /// The metadata.generation of the spec that all of this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,

    /// Ready: the node's kernel is as it is told, and pods can be attached. Reconciling: it is being changed.
    /// Stalled: somebody has to do something, and the message says what. The others say which part is not ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,

    /// The spec.revision that is in the kernel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 12))]
    pub observed_revision: Option<String>,

    /// By what packets cross to other nodes, as the kernel has it: in one text with commas where it is not the same to
    /// all of them, as in Direct,VXLAN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub transport: Option<String>,

    /// How many nodes are reached by each transport, as the kernel has it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["transport".to_owned()]))]
    pub paths: Vec<Path>,

    /// Whether packets to pods of other nodes are encrypted, as the kernel has it. Full: all of them, and what cannot
    /// be is dropped. Partial: those to some nodes. None: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<Encryption>,

    /// The addresses that spec.addressRule found, at most one of each family: the operator puts them into
    /// spec.addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::addresses")]
    pub node_addresses: Vec<String>,

    /// The MTU that new pods get, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub mtu: Option<i32>,

    /// What pods get addresses of, in one text with commas, as in 10.244.0.0/24,fd00:10:244::/64; where they are many,
    /// the first ones and how many more.
    #[serde(rename = "podCIDRs", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub pod_cidrs: Option<String>,

    /// How many addresses there are and how many of them pods have, for each family. While nothing else changes,
    /// written every few seconds at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["family".to_owned()]))]
    pub addresses: Vec<AddressCount>,

    /// Used of all addresses, one text for each family with commas, as in 12/62,12/62; where pods still have
    /// addresses of draining CIDRs, those are added, as in 12/62+5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub used_addresses: Option<String>,

    /// Those of spec.podCIDRs that no pod has had an address of for a while: the operator may take them back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::blocks")]
    pub idle: Vec<String>,

    /// Those of spec.addressing.draining that no pod has an address of, and none will: they can be given to others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::blocks")]
    pub drained: Vec<String>,

    /// The interface towards other nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uplink: Option<Uplink>,

    /// The version of the agent that wrote this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub agent_version: Option<String>,

    /// The node's WireGuard keys, where it uses that: what others encrypt to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wire_guard: Option<WireGuardStatus>,

    /// The routes that the agent keeps in the kernel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routes: Option<Routes>,

    /// The last things that were changed in the kernel by somebody else and put back, the newest first: ten at most, and
    /// fewer where the object would not stay below 4 kB.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub drift: Vec<Drift>,

    /// How many such things there were since the node started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub drift_total: Option<i64>,
}

/// How many addresses of a family a node has.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct AddressCount {
    /// IPv4 or IPv6.
    pub family: AddressFamily,

    /// How many CIDRs of it the node has.
    #[schemars(range(min = 0))]
    pub blocks: i32,

    /// How many addresses pods could have: those of draining CIDRs, and reserved ones, do not count.
    #[schemars(range(min = 0))]
    pub capacity: i64,

    /// How many of them pods have.
    #[schemars(range(min = 0))]
    pub used: i64,

    /// How many of them could be given now.
    #[schemars(range(min = 0))]
    pub free: i64,

    /// How many addresses pods have of draining CIDRs: those go back when there is none left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub draining: Option<i64>,

    /// How many pods wait for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub wanted: Option<i64>,
}

/// A family of IP addresses.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressFamily {
    /// RFC 791.
    IPv4,
    /// RFC 8200.
    IPv6,
}

/// The interface towards other nodes.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Uplink {
    /// Its name, as in eth0.
    #[schemars(length(max = 15))]
    pub name: String,

    /// Its addresses that other nodes use.
    #[schemars(schema_with = "schema::addresses")]
    pub addresses: Vec<String>,

    /// Its MTU, in bytes.
    #[schemars(range(min = 0))]
    pub mtu: i32,
}

/// The routes that the agent keeps in the kernel.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Routes {
    /// How many there are.
    #[schemars(range(min = 0))]
    pub count: i32,

    /// Short hash of all of them, in order.
    #[schemars(length(max = 64))]
    pub digest: String,
}

/// Something that was changed in the kernel by somebody else and put back.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Drift {
    /// When it was noticed.
    pub time: Time,

    /// What it was, as in route 10.244.1.0/24.
    #[schemars(length(max = 128))]
    pub object: String,

    /// What was done about it, as in add route 10.244.1.0/24 via 172.16.30.4 dev eth0.
    #[schemars(length(max = 256))]
    pub change: String,
}
