//! `ClusterNetwork.spec.ipam`: where pods get their addresses from.

#![allow(clippy::doc_markdown, reason = "kubectl explain shows these comments as they are")]

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{rules, schema};

/// Where pods get their addresses from.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(
    validation = rules::mode_has_its_fields(),
    validation = rules::mode_has_only_its_fields(),
    validation = rules::pools_to_allocate_from(),
    validation = rules::mask_fits(4, 24, 30),
    validation = rules::mask_fits(6, 64, 126),
    validation = rules::mask_has_effect(4),
    validation = rules::mask_has_effect(6)
)]
#[serde(rename_all = "camelCase")]
pub struct Ipam {
    /// How addresses are organised. NodeCIDR: each node has one CIDR of each family, and its pods get addresses of it.
    /// Pools: each node has as many blocks of the pools as its pods need; the operator gives more before a node runs
    /// out, and takes back what is not used. Cannot be changed while nodes use it.
    pub mode: IpamMode,

    /// Who decides about a node's CIDRs. Adopt: they are taken from Node.spec.podCIDRs, which
    /// kube-controller-manager or the cloud filled in. Allocate: the operator gives each node the lowest free block of
    /// each range of podCIDRs, whatever Node.spec.podCIDRs says. Only for mode NodeCIDR, which needs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocation: Option<Allocation>,

    /// The ranges of pods, at most one of each family, as in 10.244.0.0/16 and fd00:10:244::/56. Needed for Allocate,
    /// which cuts them into blocks. With Adopt they may be left out; where given, a node's CIDRs must lie in them.
    /// Not masqueraded towards. Only for mode NodeCIDR.
    #[serde(rename = "podCIDRs", default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::pods")]
    #[x_kube(validation = rules::one_per_family())]
    pub pod_cidrs: Option<Vec<String>>,

    /// The prefix length of one node's block. Only for mode NodeCIDR with Allocate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_mask_size: Option<NodeMaskSize>,

    /// The pools that nodes get blocks of, at most 32. A node gets blocks of each family that a pool has which is
    /// enabled and selects it: of the first one in this order that has a free block. Not masqueraded towards. Only for
    /// mode Pools, which needs at least one. A pool that is taken out drains, as a disabled one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_owned()]), validation = rules::pools_disjoint())]
    pub pools: Option<Vec<Pool>>,

    /// For how long no pod has an address of a block before the node gives it back, from 1s to 168h, as in 10m, 90s or
    /// 1h30m. 10m if left out. Only for mode Pools. Can be changed at any time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 16))]
    #[x_kube(validation = rules::period())]
    pub block_grace_period: Option<String>,
}

/// A range that is cut into blocks, and which nodes get blocks of it.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(
    validation = rules::block_fits(),
    validation = rules::reserved_of_pool(),
    validation = rules::pool_stays()
)]
#[serde(rename_all = "camelCase")]
pub struct Pool {
    /// By which people know it, as in main or zone-a. No two pools have the same.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,

    /// The range, as in 10.244.0.0/16 or fd00:10:244::/112. Shares no address with other pools, Services or nodes.
    /// Cannot be changed: add another pool, and disable or remove this one.
    #[schemars(schema_with = "schema::cidr")]
    pub cidr: String,

    /// The prefix length of a block: from that of cidr to 16 more, at most 30 for IPv4 and 126 for IPv6. 26 makes
    /// blocks for 61 pods; a node has at most 32 blocks of each family. Cannot be changed: add another pool, and disable or remove this one.
    #[schemars(range(min = 8, max = 126))]
    pub block_size: i32,

    /// Which nodes get blocks of it, by their labels. All if left out. Can be changed at any time: blocks of nodes
    /// that it does not select any more drain, where another pool selects them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<NodeSelector>,

    /// Addresses and CIDRs of the pool that a pod only gets by asking for them (annotation
    /// towpath.dev/ip-addresses), at most 16. Can be changed at any time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::addresses_and_cidrs")]
    pub reserved: Option<Vec<String>>,

    /// Whether no blocks of it are given any more, and those that were given drain: no pod gets an address of them, and
    /// each goes back when its last pod has gone. Can be changed at any time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
}

/// Which nodes are meant. All of the conditions hold.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct NodeSelector {
    /// Labels and the value that each has, at most 16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::labels")]
    pub match_labels: Option<BTreeMap<String, String>>,

    /// Other conditions on labels, at most 16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub match_expressions: Option<Vec<NodeRequirement>>,
}

/// A condition on one label.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[x_kube(validation = rules::operator_has_its_values())]
pub struct NodeRequirement {
    /// The label.
    #[schemars(length(min = 1, max = 317))]
    pub key: String,

    /// In: it has one of the values. NotIn: it has none of them. Exists: it is there. DoesNotExist: it is not.
    pub operator: SelectorOperator,

    /// The values, at most 32. Only for In and NotIn, which need at least one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::label_values")]
    pub values: Option<Vec<String>>,
}

/// How a label is judged.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum SelectorOperator {
    /// It has one of the values.
    In,
    /// It has none of the values.
    NotIn,
    /// It is there.
    Exists,
    /// It is not there.
    DoesNotExist,
}

/// How addresses are organised.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpamMode {
    /// One CIDR of each family for each node.
    NodeCIDR,
    /// As many blocks for each node as its pods need.
    Pools,
}

/// Who decides about a node's CIDRs.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocation {
    /// `Node.spec.podCIDRs`.
    Adopt,
    /// The operator.
    Allocate,
}

/// The prefix length of one node's block.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct NodeMaskSize {
    /// Of the IPv4 range: from its own prefix length to 16 more, at most 30. 24 if left out: 254 addresses a node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 8, max = 30))]
    pub ipv4: Option<i32>,

    /// Of the IPv6 range: from its own prefix length to 16 more, at most 126. 64 if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 8, max = 126))]
    pub ipv6: Option<i32>,
}
