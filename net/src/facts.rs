//! What the cluster is, as far as the network depends on it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::family::PerFamily;
use crate::state::NodeName;

/// What one Node object says, and what its node was given before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeFacts {
    /// `Node.metadata.uid`: a Node that was deleted and made again is another one.
    pub uid: String,
    /// `Node.metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// The addresses of type `InternalIP`, in the order of `Node.status.addresses`.
    pub addresses: Vec<IpAddr>,
    /// `Node.spec.podCIDRs`.
    pub pod_cidrs: Vec<IpNet>,
    /// What was allocated to this very Node: `NodeNetwork.spec.podCIDRs`, or an allocation not yet published.
    pub existing: Vec<IpNet>,
    /// What was promised to it besides, and is not published yet.
    pub promised: Vec<IpNet>,
    /// Those of `existing` that it was told to drain: `NodeNetwork.spec.addressing.draining`.
    pub draining: Vec<IpNet>,
    /// By which its peers were told to reach it: `NodeNetwork.spec.addresses`.
    pub published: Vec<IpAddr>,
    /// The addresses that its agent found by the rule of the network: `NodeNetwork.status.nodeAddresses`.
    pub reported: Vec<IpAddr>,
    /// What its agent said last.
    pub report: Report,
}

/// What a node's agent said of its addresses: of `NodeNetwork.status`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Whether it is about `NodeNetwork.spec` as it is now.
    pub current: bool,
    /// How many addresses there are.
    pub counts: PerFamily<Option<Count>>,
    /// Pod CIDRs without a pod for the grace time.
    pub idle: Vec<IpNet>,
    /// Draining pod CIDRs without a pod, for good.
    pub drained: Vec<IpNet>,
}

/// How many addresses of a family a node has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// How many pods could have without asking for a certain one; those of draining CIDRs do not count.
    pub capacity: u64,
    /// How many of them could be given now.
    pub free: u64,
    /// How many pods wait for one.
    pub wanted: u64,
}

/// CIDRs of somebody who is not a Node any more, and may still use them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldCidrs {
    /// The name of the Node that was.
    pub by: NodeName,
    /// What it had.
    pub cidrs: Vec<IpNet>,
}

/// A range out of which the cluster gives addresses to Services (`networking.k8s.io/v1` `ServiceCIDR`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceRange {
    /// The name of the object.
    pub object: String,
    /// The range.
    pub cidr: IpNet,
}

/// Everything about the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The nodes that are.
    pub nodes: BTreeMap<NodeName, NodeFacts>,
    /// What is held on behalf of nodes that were.
    pub held: Vec<HeldCidrs>,
    /// The ranges of Services.
    pub service_ranges: Vec<ServiceRange>,
}
