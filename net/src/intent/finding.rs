//! What is wrong with a declaration: where, what, and what to do about it.

mod crossing;

use std::borrow::Cow;
use std::fmt;

use ipnet::IpNet;

use crate::family::Family;
use crate::state::NodeName;
pub use crossing::CrossingProblem;

/// Something wrong that can be put right.
pub trait Remedy: fmt::Display {
    /// What to do about it.
    fn remedy(&self) -> Cow<'static, str>;
}

/// One thing that is wrong, of the kinds that there are in declarations or elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Finding<P = Problem> {
    /// The path of the field, as in `spec.ipam.podCIDRs[0]` or `Node.spec.podCIDRs`.
    pub field: String,
    /// What it holds; empty where it holds nothing.
    pub value: String,
    /// What is wrong with that.
    pub problem: P,
}

impl Finding {
    /// A finding about what a field holds.
    pub fn new(field: impl Into<String>, value: impl fmt::Display, problem: impl Into<Problem>) -> Self {
        Self { field: field.into(), value: value.to_string(), problem: problem.into() }
    }

    /// A finding about a field that holds nothing.
    pub fn absent(field: impl Into<String>, problem: impl Into<Problem>) -> Self {
        Self { field: field.into(), value: String::new(), problem: problem.into() }
    }
}

impl<P: Remedy> fmt::Display for Finding<P> {
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
    /// A field that only means something in mode `NodeCIDR`.
    #[error("belongs to mode NodeCIDR, and this is mode Pools")]
    OnlyNodeCidr,
    /// A field that only means something in mode `Pools`.
    #[error("belongs to mode Pools, and this is mode NodeCIDR")]
    OnlyPools,
    /// Nobody decides about pod CIDRs.
    #[error("is missing: nobody decides about the nodes' CIDRs")]
    AllocationMissing,
    /// No pool at all.
    #[error("is missing: there are no addresses to give")]
    NoPools,
    /// More of something than there may be.
    #[error("holds more than {most} entries")]
    TooMany {
        /// How many there may be.
        most: usize,
    },
    /// A name that cannot be.
    #[error("is not a name of small letters, digits and dashes")]
    Name,
    /// Two entries of a list with one name.
    #[error("is the name of an earlier one, too")]
    NameTwice,
    /// A reserved address that is none, or none of its pool.
    #[error("is not an address or CIDR of the pool {pool}")]
    NotOfPool {
        /// The pool's range.
        pool: IpNet,
    },
    /// A label that no node can have.
    #[error("is no label that a node can have")]
    Label,
    /// A condition with too many values, or none.
    #[error("has values where its operator takes none, or none where it needs some")]
    SelectorValues,
    /// A time that cannot be.
    #[error("is not a time from 1s to 168h")]
    Duration,
    /// Something about how packets are to cross between nodes.
    #[error(transparent)]
    Crossing(#[from] CrossingProblem),
    /// A node found no address of a family by its rule.
    #[error("holds no {family} address")]
    NoneFound {
        /// The family.
        family: Family,
    },
    /// Destinations excluded from a masquerading that does not happen.
    #[error("has no effect: nothing is masqueraded with mode Off")]
    ExcludedWithoutEffect,
    /// No pool is for this node.
    #[error("none that is enabled selects the node")]
    NoPoolSelects,
    /// No block of any pool that selects the node is free.
    #[error("no {family} block is left: all {blocks} are in use")]
    PoolsExhausted {
        /// The family.
        family: Family,
        /// How many there are.
        blocks: u32,
    },
    /// A node that has as many blocks as it may have.
    #[error("holds {most} {family} blocks, the most that a node may have")]
    NodeFull {
        /// The family.
        family: Family,
        /// How many it may have.
        most: usize,
    },
    /// A pool that nobody gets anything of.
    #[error("selects no node")]
    SelectsNoNode,
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
        /// Whether the operator allocates.
        allocating: bool,
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

impl Remedy for Problem {
    fn remedy(&self) -> Cow<'static, str> {
        Self::remedy(self).into()
    }
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
            Self::OnlyNodeCidr => "remove it, and say with pools what there is".to_owned(),
            Self::OnlyPools => "remove it, and say with allocation and podCIDRs what there is".to_owned(),
            Self::AllocationMissing => "write Adopt or Allocate".to_owned(),
            Self::NoPools => "give at least one pool, as in {name: main, cidr: 10.244.0.0/16, blockSize: 26}".to_owned(),
            Self::TooMany { .. } => "leave some out".to_owned(),
            Self::Name => "write one of 63 characters at most, as in main or zone-a".to_owned(),
            Self::NameTwice => "give each a name of its own".to_owned(),
            Self::NotOfPool { .. } => "write an address as in 10.244.0.9 or a CIDR without host bits as in 10.244.0.16/28, within the pool".to_owned(),
            Self::Label => "write key and value as a Node's metadata.labels have them".to_owned(),
            Self::SelectorValues => "give In and NotIn at least one value, Exists and DoesNotExist none".to_owned(),
            Self::Duration => "write one as in 10m, 90s or 1h30m".to_owned(),
            Self::Crossing(problem) => problem.remedy(),
            Self::NoneFound { family } => format!("give the node an {family} address that spec.nodeAddress finds, or correct spec.nodeAddress"),
            Self::ExcludedWithoutEffect => "remove it, or set spec.masquerade.mode to LeavingCluster".to_owned(),
            Self::NoPoolSelects => "add a pool, or correct the nodeSelector of one".to_owned(),
            Self::PoolsExhausted { .. } => "add a pool to spec.ipam.pools, or remove Nodes that are no more".to_owned(),
            Self::NodeFull { .. } => "declare a pool with larger blocks, or move pods to other nodes".to_owned(),
            Self::SelectsNoNode => "correct its nodeSelector, unless its nodes are still to come".to_owned(),
            Self::Mtu => "write Auto or such a number".to_owned(),
            Self::ServicesElsewhere { cidr, .. } => {
                format!("add {cidr} to spec.serviceCIDRs, or leave the field out: the cluster's own objects are used then")
            }
            Self::NothingToAdopt => "let kube-controller-manager give it one (--allocate-node-cidrs --cluster-cidr), or set spec.ipam.allocation to Allocate".to_owned(),
            Self::FamilyMissing { allocating: true, .. } => {
                "delete the node's NodeNetwork and restart the node's pods: it is given one of each family then".to_owned()
            }
            Self::FamilyMissing { family, .. } => format!("give the node an {family} pod CIDR, or remove the {family} range from spec.ipam.podCIDRs"),
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
