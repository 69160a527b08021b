//! The kinds of Towpath's API: types, schema, and their conversion into the domain's inputs.
//!
//! ```text
//! ClusterNetwork.spec --Draft--> net::intent::validate        (written by users; status by the operator)
//! NodeNetwork.spec <--> net::state::NodeSpec                   (written by the operator; status by the node's agent)
//! cluster_policy::ClusterNetworkPolicy                         (another project's kind: read; status by the operator)
//! ```
//!
//! The rules that can be judged by looking at one object alone are in its schema ([`rules`]); what needs the
//! cluster's facts ends in a condition ([`conditions`]).

mod cluster_network;
pub mod cluster_policy;
pub mod conditions;
mod convert;
pub mod generate;
mod ipam;
mod node_network;
mod node_transport;
mod policy_spec;
mod policy_status;
pub mod rules;
mod schema;
mod transport;
mod wireguard;

pub use cluster_network::{
    Attachment, AttachmentMode, ClusterNetwork, ClusterNetworkSpec, ClusterNetworkStatus, CniConfig, CniConflict,
    Masquerade, MasqueradeMode, Mtu, NodeCounts, PoolStatus,
};
pub use convert::{SpecError, transports};
pub use ipam::{Allocation, Ipam, IpamMode, NodeMaskSize, NodeRequirement, NodeSelector, Pool, SelectorOperator};
pub use node_network::{
    AddressCount, AddressFamily, Drift, NodeAddressing, NodeMasquerade, NodeNetwork, NodeNetworkSpec,
    NodeNetworkStatus, Routes, Uplink,
};
pub use node_transport::{Encryption, NodeAddressRule, NodeTransport, NodeTunnel, NodeTunnels, NodeWireGuard, Path};
pub use policy_spec::{PolicyEstablished, PolicyLog, PolicyLogDenied, PolicySpec, PolicyStartup};
pub use policy_status::PolicyCounts;
pub use transport::{
    Exception, ExceptionTransport, GeneveOptions, NodeAddress, NodeAddressMode, Transport, TransportMode, VxlanOptions,
    WireGuardOptions,
};
pub use wireguard::{KeySlot, WireGuardKey, WireGuardStatus};

/// The name of the only `ClusterNetwork`.
pub const CLUSTER_NETWORK: &str = "default";

/// The field manager of everything that the operator writes.
pub const OPERATOR: &str = "towpath-operator";

/// The field manager of everything that an agent writes.
pub const AGENT: &str = "towpath-agent";
