//! Of `NodeNetwork`: by what a node's packets cross, and how it finds its address.

#![allow(clippy::doc_markdown, reason = "kubectl explain shows these comments as they are")]

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::transport::TransportMode;
use crate::{rules, schema};

/// By what packets cross to and from other nodes.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct NodeTransport {
    /// In the order of preference: a packet goes by the first one that the other node accepts.
    #[schemars(length(min = 1, max = 8))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub prefers: Vec<TransportMode>,

    /// Everything that the node takes packets by.
    #[schemars(length(min = 1, max = 8))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub accepts: Vec<TransportMode>,

    /// Whether packets to a node in a subnet of this one take plain routes, where that node accepts Direct.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cross_subnet_only: Option<bool>,

    /// What both ends of tunnels agree on, of those that are used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tunnels: Option<NodeTunnels>,
}

/// What both ends of tunnels agree on.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct NodeTunnels {
    /// Of VXLAN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vxlan: Option<NodeTunnel>,

    /// Of Geneve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub geneve: Option<NodeTunnel>,

    /// Of WireGuard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wire_guard: Option<NodeWireGuard>,
}

/// What both ends of VXLAN or Geneve agree on.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeTunnel {
    /// The network identifier.
    #[schemars(range(min = 1, max = 16_777_215))]
    pub vni: i32,

    /// The UDP port.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
}

/// What both ends of WireGuard agree on.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct NodeWireGuard {
    /// The first of two UDP ports.
    #[schemars(range(min = 1, max = 65534))]
    pub port: i32,

    /// How old a key becomes, in seconds. Left out: keys stay until the node starts anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub rotation_seconds: Option<i32>,
}

/// How a node finds its address.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[x_kube(validation = rules::one_address_rule())]
#[serde(rename_all = "camelCase")]
pub struct NodeAddressRule {
    /// The address of the first interface that is up and matches; * stands for anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::interfaces")]
    pub interfaces: Option<Vec<String>>,

    /// The address in the first of these that holds one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::places")]
    pub cidrs: Option<Vec<String>>,

    /// The address from which the node would send to these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::addresses")]
    pub can_reach: Option<Vec<String>>,
}

/// By what packets cross to some of the other nodes.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// The transport.
    pub transport: TransportMode,

    /// To how many nodes.
    #[schemars(range(min = 0))]
    pub nodes: i32,
}

/// Whether packets to pods of other nodes are encrypted.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// None of them.
    None,
    /// Those to some nodes.
    Partial,
    /// All of them.
    Full,
}
