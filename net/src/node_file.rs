//! `node.json`: what the agent renders for the CNI binary.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::state::{Addressing, Attachment, NodeState, Revision};

/// Everything that the CNI binary needs to know of its node. Written by atomic rename.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeFile {
    /// The format; a reader refuses one that it does not know.
    pub version: u32,
    /// Of the `ClusterNetwork` that this came from.
    pub revision: Revision,
    /// How pods are attached.
    pub attachment: Attachment,
    /// The MTU of new pods, in bytes.
    pub mtu: u32,
    /// Out of which pods get their addresses: at least one of each family that pods have.
    #[serde(rename = "podCIDRs")]
    pub pod_cidrs: Vec<IpNet>,
    /// How addresses are given out of them.
    #[serde(default)]
    pub addressing: Addressing,
}

impl NodeFile {
    /// The format that this code reads and writes.
    pub const VERSION: u32 = 1;

    /// Renders the file for a node whose pods have an MTU of `mtu` bytes.
    pub fn render(state: &NodeState, mtu: u32) -> Self {
        Self {
            version: Self::VERSION,
            revision: state.spec.revision.clone(),
            attachment: state.spec.attachment,
            mtu,
            pod_cidrs: state.spec.pod_cidrs.clone(),
            addressing: state.spec.addressing.clone(),
        }
    }
}
