//! `ClusterNetwork.spec.transport`, `.nodeAddress` and `.exceptions`: how packets cross between nodes, by which addresses
//! these are reached, and which nodes are other than the rest.

#![allow(clippy::doc_markdown, reason = "kubectl explain shows these comments as they are")]

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cluster_network::{Attachment, Mtu};
use crate::ipam::NodeSelector;
use crate::{rules, schema};

/// How pod packets cross between nodes.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[x_kube(validation = rules::bypass_has_a_tunnel(), validation = rules::mode_stays())]
#[serde(rename_all = "camelCase")]
pub struct Transport {
    /// Direct: plain routes by way of the other node's address, without a tunnel; the nodes share a subnet. IPIP: IP in
    /// IP, and for IPv6 its counterpart; each family travels between node addresses of the same family. VXLAN and
    /// Geneve: virtual Ethernet over UDP. WireGuard: encrypted, over UDP; no packet between pods of different nodes
    /// leaves in clear. These three carry both families between node addresses of either. Cannot be changed while nodes
    /// use it; exceptions move nodes one by one.
    pub mode: TransportMode,

    /// Whether packets to a node in a subnet of this one take plain routes, and the tunnel is for others. Not if left
    /// out. Only for tunnels; with WireGuard such packets are in clear. Can be changed at any time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cross_subnet_only: Option<bool>,

    /// Options of VXLAN. Only where the cluster or an exception has that mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vxlan: Option<VxlanOptions>,

    /// Options of Geneve. Only where the cluster or an exception has that mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub geneve: Option<GeneveOptions>,

    /// Options of WireGuard. Only where the cluster or an exception has that mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wire_guard: Option<WireGuardOptions>,
}

/// How pod packets cross between nodes.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TransportMode {
    /// Plain routes.
    Direct,
    /// IP in IP.
    IPIP,
    /// Virtual Ethernet over UDP.
    VXLAN,
    /// Virtual Ethernet over UDP with room for options.
    Geneve,
    /// Encrypted, over UDP.
    WireGuard,
}

/// Options of VXLAN.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct VxlanOptions {
    /// The network identifier, from 1 to 16777215. 4096 if left out. Cannot be changed while nodes use it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 16_777_215))]
    pub vni: Option<i32>,

    /// The UDP port, from 1 to 65535. 4789 if left out. Cannot be changed while nodes use it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<i32>,
}

/// Options of Geneve.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct GeneveOptions {
    /// The network identifier, from 1 to 16777215. 4096 if left out. Cannot be changed while nodes use it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 16_777_215))]
    pub vni: Option<i32>,

    /// The UDP port, from 1 to 65535. 6081 if left out. Cannot be changed while nodes use it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<i32>,
}

/// Options of WireGuard.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct WireGuardOptions {
    /// The first of two UDP ports, from 1 to 65534; the next one is used too, while keys change. 51820 if left out.
    /// Cannot be changed while nodes use it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65534))]
    pub port: Option<i32>,

    /// How old a node's key becomes before the node takes a new one, from 1m to 8760h, as in 24h or 720h. Left out: keys
    /// stay until the node starts anew. Can be changed at any time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 16))]
    #[x_kube(validation = rules::rotation())]
    pub key_rotation: Option<String>,
}

/// How a node's address is found, by which other nodes reach it.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[x_kube(validation = rules::address_mode_has_its_field(), validation = rules::address_mode_has_no_other_field())]
#[serde(rename_all = "camelCase")]
pub struct NodeAddress {
    /// InternalIP: the first InternalIP of the Node of each family that nodeCIDRs allows. Interface: the address of the
    /// first interface that is up and matches. CIDR: the address in the first of the ranges that holds one. CanReach: the
    /// address from which the node would send to an address outside. Of several, one that is in use stays; else it is
    /// the lowest. All but InternalIP are found by the node's agent, which reports them in its NodeNetwork.
    pub mode: NodeAddressMode,

    /// Names of interfaces, in the order in which they are tried, at most 16, as in eth1 or bond*: * stands for anything.
    /// Only for mode Interface, which needs at least one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::interfaces")]
    pub interfaces: Option<Vec<String>>,

    /// Ranges, in the order in which they are tried, at most 16, as in 172.16.30.0/24. Share no address with pods or
    /// Services. Only for mode CIDR, which needs at least one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::places")]
    pub cidrs: Option<Vec<String>>,

    /// Addresses outside of the cluster, at most one of each family, as that of a router. Nothing is sent to them. Only
    /// for mode CanReach, which needs at least one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::usable_addresses")]
    #[x_kube(validation = rules::one_address_per_family())]
    pub can_reach: Option<Vec<String>>,
}

/// How a node's address is found.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeAddressMode {
    /// It is the Node's InternalIP.
    InternalIP,
    /// By the name of its interface.
    Interface,
    /// By the range that it is in.
    CIDR,
    /// By the route toward another.
    CanReach,
}

/// What is other on some nodes.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(validation = rules::exception_excepts())]
#[serde(rename_all = "camelCase")]
pub struct Exception {
    /// By which people know it, as in migrated or old-kernels. No two exceptions have the same.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,

    /// On which nodes, by their labels.
    pub node_selector: NodeSelector,

    /// How pods are attached on these nodes. As in the cluster if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attachment: Option<Attachment>,

    /// How packets cross to and from these nodes. As in the cluster if left out. All other nodes send to them by this,
    /// and take packets by it. Where the cluster's mode is WireGuard, that cannot be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transport: Option<ExceptionTransport>,

    /// The MTU of pods on these nodes, as spec.mtu. As in the cluster if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::int_or_string")]
    #[x_kube(validation = rules::mtu())]
    pub mtu: Option<Mtu>,
}

/// How packets cross to and from some nodes.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[x_kube(validation = rules::bypass_has_a_tunnel())]
#[serde(rename_all = "camelCase")]
pub struct ExceptionTransport {
    /// As spec.transport.mode; its options are those of spec.transport. Can be changed at any time.
    pub mode: TransportMode,

    /// As spec.transport.crossSubnetOnly. Not if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cross_subnet_only: Option<bool>,
}
