//! What is wrong with a declaration: where, what, and what to do about it.

use std::fmt;

use ipnet::IpNet;

use crate::family::Family;
use crate::state::NodeName;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The path of the field, as in `spec.ipam.podCIDRs[0]` or `Node.spec.podCIDRs`.
    pub field: String,
    /// What it holds; empty where it holds nothing.
    pub value: String,
    /// What is wrong with that.
    pub problem: Problem,
}

impl Finding {
    /// A finding about what a field holds.
    pub fn new(field: impl Into<String>, value: impl fmt::Display, problem: Problem) -> Self {
        Self { field: field.into(), value: value.to_string(), problem }
    }

    /// A finding about a field that holds nothing.
    pub fn absent(field: impl Into<String>, problem: Problem) -> Self {
        Self { field: field.into(), value: String::new(), problem }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.field)?;
        if !self.value.is_empty() {
            write!(f, " {:?}", self.value)?;
        }
        write!(f, ": {}; {}", self.problem, self.problem.remedy())
    }
}

/// What can be wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Problem {
    /// Not a CIDR.
    #[error("is not a CIDR")]
    NotCidr,
    /// A CIDR with bits set beyond its prefix.
    #[error("has bits set beyond its prefix length")]
    HostBits {
        /// The CIDR that was probably meant.
        canonical: IpNet,
    },
    /// No address of it can be used.
    #[error("touches {range}, whose addresses no pod, Service or node can have")]
    Reserved {
        /// The unusable range.
        range: IpNet,
    },
    /// A second CIDR of a family that may have one.
    #[error("is a second {family} range beside {first}")]
    SecondOfFamily {
        /// The family.
        family: Family,
        /// The range that came first.
        first: String,
    },
    /// Two ranges share addresses.
    #[error("overlaps {other} of {of}")]
    Overlap {
        /// The other range or address.
        other: String,
        /// The field or object that holds it.
        of: String,
    },
    /// A field that is needed here is missing.
    #[error("is missing: the operator has nothing to allocate from")]
    NothingToAllocateFrom,
    /// A node mask without effect.
    #[error("has no effect here")]
    MaskWithoutRange,
    /// A node mask that does not fit its range.
    #[error("does not fit the range {range}: {least} to {most} would")]
    MaskDoesNotFit {
        /// The range.
        range: IpNet,
        /// The least mask that fits.
        least: u8,
        /// The greatest mask that fits.
        most: u8,
    },
    /// An MTU that cannot be.
    #[error("is neither Auto nor a number from 1280 to 65535")]
    Mtu,
    /// The cluster hands out Service addresses beyond what was declared.
    #[error("does not hold {cidr} of ServiceCIDR {object}")]
    ServicesElsewhere {
        /// The range that is missing.
        cidr: IpNet,
        /// The object that has it.
        object: String,
    },
    /// A node has no pod CIDR to adopt.
    #[error("holds no CIDR to adopt")]
    NothingToAdopt,
    /// A node has no pod CIDR of a family that was declared.
    #[error("holds no {family} CIDR, though spec.ipam.podCIDRs declares one")]
    FamilyMissing {
        /// The family.
        family: Family,
    },
    /// A node's pod CIDR is not within what was declared.
    #[error("is not within {ranges} of spec.ipam.podCIDRs")]
    OutsideRange {
        /// The declared ranges.
        ranges: String,
    },
    /// A node's pod CIDR has no room for a gateway and a pod.
    #[error("has no room for a gateway and a pod")]
    TooSmall,
    /// What the node has is not what its Node object says.
    #[error("is not what Node.spec.podCIDRs says: {says}")]
    NotAsAdopted {
        /// What it says.
        says: String,
    },
    /// Another node has addresses of this.
    #[error("shares addresses with node {node}")]
    TakenBy {
        /// The other node.
        node: NodeName,
    },
    /// No block is free.
    #[error("has no /{mask} block left: all {blocks} are in use")]
    Exhausted {
        /// The prefix length of a block.
        mask: u8,
        /// How many there are.
        blocks: u32,
    },
    /// A node has no address by which others reach it.
    #[error("holds no {family} InternalIP that can be used")]
    NoInternalIp {
        /// The family.
        family: Family,
        /// The ranges that addresses are chosen from; empty where any will do.
        within: String,
    },
    /// The ranges of nodes hold no node.
    #[error("holds the {family} InternalIP of no node")]
    NoNodeWithin {
        /// The family.
        family: Family,
    },
    /// A node's address is one that a pod could get.
    #[error("lies in the pod range {range}")]
    AddressOfPods {
        /// The range.
        range: IpNet,
    },
}

impl Problem {
    /// What to do about it.
    pub fn remedy(&self) -> String {
        match self {
            Self::NotCidr => "write an address and a prefix length, as in 10.244.0.0/16 or fd00:10:244::/56".to_owned(),
            Self::HostBits { canonical } => format!("write {canonical}"),
            Self::Reserved { .. } => "choose a private range, as in 10.244.0.0/16 or fd00:10:244::/56".to_owned(),
            Self::SecondOfFamily { family, .. } => format!("leave one {family} range"),
            Self::Overlap { .. } => "choose ranges that share no address".to_owned(),
            Self::NothingToAllocateFrom => "give at least one range, or set spec.ipam.allocation to Adopt".to_owned(),
            Self::MaskWithoutRange => "remove it: it only cuts a podCIDR of its family with allocation Allocate".to_owned(),
            Self::MaskDoesNotFit { .. } => "choose a mask between the two, or another range".to_owned(),
            Self::Mtu => "write Auto or such a number".to_owned(),
            Self::ServicesElsewhere { cidr, .. } => {
                format!("add {cidr} to spec.serviceCIDRs, or leave the field out: the cluster's own objects are used then")
            }
            Self::NothingToAdopt => "let kube-controller-manager give it one (--allocate-node-cidrs --cluster-cidr), or set spec.ipam.allocation to Allocate".to_owned(),
            Self::FamilyMissing { family } => format!("give the node an {family} pod CIDR, or remove the {family} range from spec.ipam.podCIDRs"),
            Self::OutsideRange { .. } | Self::NotAsAdopted { .. } => {
                "to move the node, delete its NodeNetwork and restart its pods; to keep it, declare a range that holds it".to_owned()
            }
            Self::TooSmall => "give the node at least a /30 (IPv4) or a /126 (IPv6)".to_owned(),
            Self::TakenBy { .. } => "give the nodes ranges of their own: delete the NodeNetwork of the wrong one and restart its pods".to_owned(),
            Self::Exhausted { .. } => "remove Nodes that are no more, or declare a larger range or a longer node mask in a new ClusterNetwork".to_owned(),
            Self::NoInternalIp { family, within } if within.is_empty() => {
                format!("give the kubelet an {family} --node-ip")
            }
            Self::NoInternalIp { within, .. } => format!("give the node an address in {within}, or correct spec.nodeCIDRs"),
            Self::NoNodeWithin { .. } => {
                "write ranges that hold the nodes' addresses, or leave the field out".to_owned()
            }
            Self::AddressOfPods { .. } => "choose pod ranges that hold no node's address, or readdress the node".to_owned(),
        }
    }
}
