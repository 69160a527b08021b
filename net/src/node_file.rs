//! `node.json`: what the agent renders for the CNI binary.

use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::family::Family;
use crate::policy::settings::Startup;
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
    /// How long a freed address is given to no other pod, in seconds: what was on its way to the pod that had it, and
    /// what others remember of it, goes nowhere instead of to a stranger.
    #[serde(default = "quarantine")]
    pub quarantine: u32,
    /// How pods start; nothing while there are no policies, and so nothing to wait for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub startup: Option<Startup>,
}

const fn quarantine() -> u32 {
    NodeFile::QUARANTINE
}

/// Why `node.json` cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// It is not what this format says.
    #[error("{0}")]
    Malformed(String),
    /// It is of another format.
    #[error("its format is {found}, and this plugin reads {}", NodeFile::VERSION)]
    Format {
        /// What it says of its format, as JSON.
        found: String,
    },
    /// No pod could have an address.
    #[error("this node has no pod CIDRs")]
    NoPodCidrs,
}

impl NodeFile {
    /// The format that this code reads and writes.
    pub const VERSION: u32 = 1;
    /// How long a freed address rests unless something else is said, in seconds: longer than kube-proxy and the DNS
    /// take to forget a pod that has gone.
    pub const QUARANTINE: u32 = 10;

    /// Renders the file for a node whose pods have an MTU of `mtu` bytes; `is_enforced` is whether there are policies.
    pub fn render(state: &NodeState, mtu: u32, is_enforced: bool) -> Self {
        Self {
            version: Self::VERSION,
            revision: state.spec.revision.clone(),
            attachment: state.spec.attachment,
            mtu,
            pod_cidrs: state.spec.pod_cidrs.clone(),
            addressing: state.spec.addressing.clone(),
            quarantine: Self::QUARANTINE,
            startup: is_enforced.then_some(state.spec.policy.startup),
        }
    }

    /// Parses the file's content.
    pub fn parse(content: &[u8]) -> Result<Self, Unusable> {
        let node: Self = match serde_json::from_slice(content) {
            Ok(node) => node,
            // A newer format may have anything in it.
            Err(error) => return Err(other_format(content).unwrap_or_else(|| Unusable::Malformed(error.to_string()))),
        };
        if node.version != Self::VERSION {
            return Err(Unusable::Format { found: node.version.to_string() });
        }
        if node.pod_cidrs.is_empty() {
            return Err(Unusable::NoPodCidrs);
        }
        Ok(node)
    }

    /// The families that a new pod gets an address of each: those with a block that is offered, or all that there are
    /// where none is. A family of which all drains while another is offered is on its way out: the operator gives a
    /// node that keeps a family another block before the last one drains.
    pub fn families(&self) -> Vec<Family> {
        let offered = |family: &Family| self.blocks(*family).any(|block| self.offers(block));
        let held = |family: &Family| self.blocks(*family).next().is_some();
        let families: Vec<Family> = Family::ALL.into_iter().filter(offered).collect();
        if families.is_empty() { Family::ALL.into_iter().filter(held).collect() } else { families }
    }

    /// The node's blocks of a family.
    pub fn blocks(&self, family: Family) -> impl Iterator<Item = &IpNet> {
        self.pod_cidrs.iter().filter(move |block| Family::of_net(block) == family)
    }

    /// Whether pods get new addresses of a block.
    pub fn offers(&self, block: &IpNet) -> bool {
        self.pod_cidrs.contains(block) && !self.addressing.draining.contains(block)
    }

    /// How long a freed address rests.
    pub const fn rest(&self) -> Duration {
        Duration::from_secs(self.quarantine as u64)
    }
}

fn other_format(content: &[u8]) -> Option<Unusable> {
    let value: serde_json::Value = serde_json::from_slice(content).ok()?;
    let found = value.get("version").unwrap_or(&serde_json::Value::Null);
    (found.as_u64() != Some(NodeFile::VERSION.into())).then(|| Unusable::Format { found: found.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = r#"{"version": 1, "revision": "x", "attachment": "Routed", "mtu": 1500,
        "podCIDRs": ["10.244.1.0/26", "fd00::/64", "10.244.2.0/26"], "addressing": {"draining": ["10.244.1.0/26"]}}"#;

    #[test]
    fn a_file_is_read_and_tells_what_is_offered() {
        let node = NodeFile::parse(PLAIN.as_bytes()).unwrap();
        assert_eq!(node.families(), Family::ALL);
        let leaving = NodeFile::parse(PLAIN.replace(r#"["10.244.1.0/26"]}"#, r#"["fd00::/64"]}"#).as_bytes()).unwrap();
        assert_eq!(leaving.families(), [Family::V4]);
        let all = r#"["10.244.1.0/26", "10.244.2.0/26", "fd00::/64"]}"#;
        let full = NodeFile::parse(PLAIN.replace(r#"["10.244.1.0/26"]}"#, all).as_bytes()).unwrap();
        assert_eq!(full.families(), Family::ALL);
        let offers = |block: &str| node.offers(&block.parse().unwrap());
        assert!(offers("10.244.2.0/26") && offers("fd00::/64"));
        assert!(!offers("10.244.1.0/26") && !offers("10.244.3.0/26"));
        assert_eq!(node.rest(), Duration::from_secs(10));
    }

    #[test]
    fn what_cannot_be_used_says_why() {
        let why = |content: &str| NodeFile::parse(content.as_bytes()).unwrap_err().to_string();
        assert_eq!(why(r#"{"version": 2, "anything": []}"#), "its format is 2, and this plugin reads 1");
        assert_eq!(why(&PLAIN.replace("\"version\": 1", "\"version\": 3")), "its format is 3, and this plugin reads 1");
        assert_eq!(why("[]"), "its format is null, and this plugin reads 1");
        assert!(why(r#"{"version": 1}"#).contains("missing field"));
        assert!(why("{").contains("EOF"));
        let none = PLAIN.replace(r#""10.244.1.0/26", "fd00::/64", "10.244.2.0/26""#, "");
        assert_eq!(why(&none), "this node has no pod CIDRs");
    }
}
