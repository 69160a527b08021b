//! What users declare, parsed once: only [`validate`] can fail, and nothing after it checks again.

mod cidr;
mod exceptions;
mod finding;
mod pools;
mod transport;
mod validate;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use ipnet::IpNet;
use serde::Serialize;
use sha2::{Digest, Sha256};

pub use cidr::{Taken, abridge, join, overlap, parse, reserved};
pub use exceptions::{
    AddressMode, DraftException, DraftNodeAddress, Exception, MOST_EXCEPTIONS, MOST_PLACES, is_interface_pattern,
};
pub use finding::{CrossingProblem, Finding, Problem, Remedy};
pub use pools::{
    BlockPool, DEFAULT_GRACE, LONGEST_GRACE, MOST_POOLS, MOST_RESERVED, Operator, Requirement, Selector, is_dns_label,
    is_label_key, is_label_value, seconds,
};
pub use transport::{Crossing, DraftTransport, DraftTunnel, DraftWireGuard, MOST_VNI, ROTATION};
pub use validate::validate;

use crate::family::{Family, PerFamily};
use crate::policy::settings::PolicySettings;
use crate::state::{AddressRule, Attachment, CniConflict, Masquerade, MasqueradeMode, Mtu, Revision};
use crate::transport::{Transport, Tunnels};

/// The node mask where none is given: what `kube-controller-manager` takes too
/// (`--node-cidr-mask-size-ipv4`, `--node-cidr-mask-size-ipv6`).
pub const DEFAULT_NODE_MASK: PerFamily<u8> = PerFamily { v4: 24, v6: 64 };

/// The longest node mask that leaves room for a gateway and a pod.
pub const LONGEST_NODE_MASK: PerFamily<u8> = PerFamily { v4: 30, v6: 126 };

/// By how many bits a node mask may be longer than its range: 65,536 blocks of one range.
pub const MOST_BLOCK_BITS: u8 = 16;

/// The MTUs that can be asked for, in bytes: what IPv6 needs (RFC 8200, section 5) to what an IP packet can be.
pub const MTU_RANGE: std::ops::RangeInclusive<i64> = 1280..=65535;

/// Who decides about a node's pod CIDRs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocation {
    /// They are taken from `Node.spec.podCIDRs`.
    Adopt,
    /// They are given by the operator.
    Allocate,
}

/// How addresses are organised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IpamMode {
    /// Each node has one CIDR of each family.
    #[default]
    NodeCidr,
    /// Each node has as many blocks of pools as it needs.
    Pools,
}

/// Where addresses come from, as it was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DraftIpam {
    /// How addresses are organised.
    pub mode: IpamMode,
    /// Who decides about pod CIDRs.
    pub allocation: Option<Allocation>,
    /// The ranges of pods.
    pub pod_cidrs: Vec<String>,
    /// The prefix length of one node's part of a pod range.
    pub node_mask_size: PerFamily<Option<i64>>,
    /// The pools.
    pub pools: Vec<DraftPool>,
    /// How long a block has no pod before it goes back.
    pub block_grace_period: Option<String>,
}

/// A pool as it was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DraftPool {
    /// By which people know it.
    pub name: String,
    /// The whole range.
    pub cidr: String,
    /// The prefix length of one block.
    pub block_size: i64,
    /// Which nodes get blocks of it.
    pub selector: Selector,
    /// Addresses and ranges that a pod only gets by asking for them.
    pub reserved: Vec<String>,
    /// Whether its blocks are to come back, and none is given.
    pub disabled: bool,
}

/// A network as it was written, before anything of it is known to make sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// Where addresses come from.
    pub ipam: DraftIpam,
    /// The ranges of Services.
    pub service_cidrs: Vec<String>,
    /// The ranges of nodes' addresses.
    pub node_cidrs: Vec<String>,
    /// How pods are attached.
    pub attachment: Attachment,
    /// How packets cross between nodes.
    pub transport: DraftTransport,
    /// How nodes' addresses are found.
    pub node_address: DraftNodeAddress,
    /// Nodes that are to be other than the rest; the first one that selects a node counts.
    pub exceptions: Vec<DraftException>,
    /// The MTU of pods: a number or the word `Auto`.
    pub mtu: DraftMtu,
    /// When packets are masqueraded.
    pub masquerade: MasqueradeMode,
    /// Destinations that see the pod's own address.
    pub excluded_cidrs: Vec<String>,
    /// What becomes of CNI configurations of other networks.
    pub cni_conflict: CniConflict,
    /// How policies are brought into force.
    pub policy: PolicySettings,
}

impl Draft {
    /// The transports of the cluster and of its exceptions, as they come.
    pub fn modes(&self) -> impl Iterator<Item = Transport> {
        let exceptions = self.exceptions.iter().filter_map(|exception| exception.transport);
        std::iter::once(self.transport.crossing).chain(exceptions).map(|crossing| crossing.mode)
    }
}

/// An MTU as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DraftMtu {
    /// A number of bytes.
    Bytes(i64),
    /// A word.
    Word(String),
}

/// One range of pods and how it is cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Range {
    /// The whole range.
    pub cidr: IpNet,
    /// The prefix length of one node's part.
    pub node_mask: u8,
}

impl Range {
    /// How many parts there are.
    pub fn blocks(&self) -> u32 {
        1_u32 << u32::from(self.node_mask - self.cidr.prefix_len()).min(31)
    }

    /// How many addresses a part has, at most [`u64::MAX`].
    pub fn block_addresses(&self) -> u64 {
        let free = Family::of_net(&self.cidr).bits().saturating_sub(self.node_mask);
        1_u64.checked_shl(free.into()).unwrap_or(u64::MAX)
    }
}

/// Where a node's pod CIDRs come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Ipam {
    /// From `Node.spec.podCIDRs`, which must lie within these where there are any.
    Adopt {
        /// At most one of each family.
        within: Vec<IpNet>,
    },
    /// From the operator, once.
    Allocate {
        /// At most one of each family, at least one.
        pools: Vec<Range>,
    },
    /// From the operator, as many as a node needs.
    Pools {
        /// In the order in which they are tried, at least one.
        pools: Vec<BlockPool>,
        /// For how many seconds a block has no pod before it goes back.
        grace: u32,
    },
}

/// A network that makes sense.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Intent {
    /// Where pod CIDRs come from.
    pub ipam: Ipam,
    /// The ranges of Services, where they were given.
    pub service_cidrs: Vec<IpNet>,
    /// The ranges of nodes' addresses, where they were given.
    pub node_cidrs: Vec<IpNet>,
    /// How pods are attached.
    pub attachment: Attachment,
    /// How packets cross between nodes.
    #[serde(flatten)]
    pub transport: Crossing,
    /// What both ends of tunnels agree on; as usual for those that are not used.
    #[serde(skip_serializing_if = "is_usual")]
    pub tunnels: Tunnels,
    /// How nodes find their addresses; nothing where those come from the Nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address_rule: Option<AddressRule>,
    /// Nodes that are other than the rest; the first one that selects a node counts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exceptions: Vec<Exception>,
    /// The MTU of pods.
    pub mtu: Mtu,
    /// Which packets are masqueraded, as the user wrote it.
    pub masquerade: Masquerade,
    /// What becomes of CNI configurations of other networks.
    #[serde(skip_serializing_if = "is_report")]
    pub cni_conflict: CniConflict,
    /// How policies are brought into force.
    #[serde(skip_serializing_if = "PolicySettings::is_usual")]
    pub policy: PolicySettings,
}

/// What is usual does not show in the revision.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands it over like this")]
fn is_report(conflict: &CniConflict) -> bool {
    *conflict == CniConflict::Report
}

/// What is usual does not show in the revision.
fn is_usual(tunnels: &Tunnels) -> bool {
    *tunnels == Tunnels::default()
}

impl Intent {
    /// The exception that a node with these labels is under.
    pub fn exception(&self, labels: &BTreeMap<String, String>) -> Option<&Exception> {
        self.exceptions.iter().find(|exception| exception.selector.selects(labels))
    }

    /// How packets cross, in the cluster and in its exceptions.
    pub fn crossings(&self) -> impl Iterator<Item = Crossing> {
        std::iter::once(self.transport).chain(self.exceptions.iter().filter_map(|exception| exception.transport))
    }

    /// The first seven digits of the SHA-256 of the canonical JSON of everything in it.
    ///
    /// Field order is that of the type and lists keep theirs, so equal intents have equal revisions.
    pub fn revision(&self) -> Revision {
        let json = serde_json::to_vec(self).unwrap_or_default();
        let digest = Sha256::digest(json);
        let digits = digest.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
        Revision(digits.take(7).filter_map(|digit| char::from_digit(digit.into(), 16)).collect())
    }

    /// The whole ranges that pods get addresses from, as far as they are declared.
    pub fn pod_ranges(&self) -> Vec<IpNet> {
        match &self.ipam {
            Ipam::Adopt { within } => within.clone(),
            Ipam::Allocate { pools } => pools.iter().map(|p| p.cidr).collect(),
            Ipam::Pools { pools, .. } => pools.iter().map(|p| p.range.cidr).collect(),
        }
    }

    /// The field that each of [`Self::pod_ranges`] was written in.
    pub fn pod_range_field(&self, index: usize) -> String {
        match &self.ipam {
            Ipam::Adopt { .. } | Ipam::Allocate { .. } => format!("spec.ipam.podCIDRs[{index}]"),
            Ipam::Pools { .. } => format!("spec.ipam.pools[{index}].cidr"),
        }
    }

    /// Where `address` lies in a declared range of pods.
    pub fn pod_range_of(&self, address: std::net::IpAddr) -> Option<IpNet> {
        self.pod_ranges().into_iter().find(|range| range.contains(&address))
    }

    /// The families that every node's pods must have; none where adopting without a declared range.
    pub fn families(&self) -> Vec<Family> {
        let ranges = self.pod_ranges();
        Family::ALL.into_iter().filter(|f| ranges.iter().any(|r| Family::of_net(r) == *f)).collect()
    }
}
