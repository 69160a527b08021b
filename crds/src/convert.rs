//! From what the API holds to the domain's inputs, and back.

mod transport;

use ipnet::IpNet;
use towpath_net::intent::{self, Draft, DraftIpam, DraftMtu, DraftPool};
use towpath_net::policy::settings;
use towpath_net::state::{self, Addressing, NodeSpec, Revision};
use towpath_net::transport::Transport;
use towpath_net::{PerFamily, effect, intent::parse};
use transport::addresses;

use crate::{
    Allocation, AttachmentMode, ClusterNetworkSpec, CniConflict, Encryption, Ipam, IpamMode, MasqueradeMode, Mtu,
    NodeAddressing, NodeMasquerade, NodeNetworkSpec, NodeRequirement, NodeSelector, PolicyEstablished, PolicyLogDenied,
    PolicySpec, PolicyStartup, Pool, SelectorOperator,
};

/// Why a `NodeNetwork.spec` is not one that the operator wrote; the schema refuses all of these.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// An address that is none.
    #[error("spec.{field} {value:?} is not an IP address")]
    Address {
        /// The field.
        field: &'static str,
        /// What it holds.
        value: String,
    },
    /// A CIDR that is none.
    #[error("spec.{field} {value:?} {problem}; {}", problem.remedy())]
    Cidr {
        /// The field.
        field: &'static str,
        /// What it holds.
        value: String,
        /// What is wrong with that.
        problem: intent::Problem,
    },
    /// An MTU that is none.
    #[error("spec.mtu {0:?} is neither Auto nor a number of bytes")]
    Mtu(String),
    /// A number that cannot be.
    #[error("spec.transport.tunnels.{field} {value} is out of range")]
    Number {
        /// The field.
        field: &'static str,
        /// What it holds.
        value: i32,
    },
    /// A rule for addresses that says nothing, or several things.
    #[error("spec.addressRule has not just one of interfaces, cidrs and canReach")]
    AddressRule,
}

/// Two enums that say the same, each in its own crate.
macro_rules! same {
    ($($ours:ty, $theirs:ty: $($variant:ident)|+;)*) => {
        $(
            impl From<$ours> for $theirs {
                fn from(ours: $ours) -> Self {
                    match ours { $(<$ours>::$variant => Self::$variant),+ }
                }
            }
            impl From<$theirs> for $ours {
                fn from(theirs: $theirs) -> Self {
                    match theirs { $(<$theirs>::$variant => Self::$variant),+ }
                }
            }
        )*
    };
}

same! {
    Allocation, intent::Allocation: Adopt | Allocate;
    AttachmentMode, state::Attachment: Routed | LinkLocal | Bridge;
    MasqueradeMode, state::MasqueradeMode: LeavingCluster | Off;
    CniConflict, state::CniConflict: Report | Rename;
    Encryption, effect::Encryption: None | Partial | Full;
    PolicyStartup, settings::Startup: Wait | Strict | Async;
    PolicyEstablished, settings::Established: Cut | Keep;
    PolicyLogDenied, settings::LogDenied: None | Flows;
    SelectorOperator, intent::Operator: In | NotIn | Exists | DoesNotExist;
}

impl From<IpamMode> for intent::IpamMode {
    fn from(mode: IpamMode) -> Self {
        match mode {
            IpamMode::NodeCIDR => Self::NodeCidr,
            IpamMode::Pools => Self::Pools,
        }
    }
}

impl From<&Ipam> for DraftIpam {
    fn from(ipam: &Ipam) -> Self {
        let masks = ipam.node_mask_size.clone().unwrap_or_default();
        Self {
            mode: ipam.mode.into(),
            allocation: ipam.allocation.map(Into::into),
            pod_cidrs: ipam.pod_cidrs.clone().unwrap_or_default(),
            node_mask_size: PerFamily { v4: masks.ipv4.map(i64::from), v6: masks.ipv6.map(i64::from) },
            pools: ipam.pools.iter().flatten().map(Into::into).collect(),
            block_grace_period: ipam.block_grace_period.clone(),
        }
    }
}

impl From<&Pool> for DraftPool {
    fn from(pool: &Pool) -> Self {
        Self {
            name: pool.name.clone(),
            cidr: pool.cidr.clone(),
            block_size: pool.block_size.into(),
            selector: pool.node_selector.as_ref().map(Into::into).unwrap_or_default(),
            reserved: pool.reserved.clone().unwrap_or_default(),
            disabled: pool.disabled.unwrap_or_default(),
        }
    }
}

impl From<&NodeSelector> for intent::Selector {
    fn from(selector: &NodeSelector) -> Self {
        let requirement = |written: &NodeRequirement| intent::Requirement {
            key: written.key.clone(),
            operator: written.operator.into(),
            values: written.values.clone().unwrap_or_default(),
        };
        Self {
            labels: selector.match_labels.clone().unwrap_or_default(),
            expressions: selector.match_expressions.iter().flatten().map(requirement).collect(),
        }
    }
}

impl From<&ClusterNetworkSpec> for Draft {
    fn from(spec: &ClusterNetworkSpec) -> Self {
        let list = |texts: &Option<Vec<String>>| texts.clone().unwrap_or_default();
        Self {
            ipam: DraftIpam::from(&spec.ipam),
            service_cidrs: list(&spec.service_cidrs),
            node_cidrs: list(&spec.node_cidrs),
            attachment: spec.attachment.mode.into(),
            transport: (&spec.transport).into(),
            node_address: spec.node_address.as_ref().map(Into::into).unwrap_or_default(),
            exceptions: spec.exceptions.iter().flatten().map(Into::into).collect(),
            mtu: spec.mtu.as_ref().map_or_else(|| DraftMtu::Word("Auto".to_owned()), Into::into),
            masquerade: spec.masquerade.mode.into(),
            excluded_cidrs: list(&spec.masquerade.excluded_cidrs),
            cni_conflict: spec.cni_config.as_ref().map_or(CniConflict::Report, |config| config.conflict).into(),
            policy: spec.policy.unwrap_or_default().settings(),
        }
    }
}

/// Transports as one text, each once, in the order in which everything lists them: as in `Direct,VXLAN`.
pub fn transports(list: impl IntoIterator<Item = Transport>) -> String {
    let used: Vec<Transport> = list.into_iter().collect();
    let names = Transport::ALL.into_iter().filter(|transport| used.contains(transport));
    names.map(|transport| transport.to_string()).collect::<Vec<_>>().join(",")
}

fn texts<T: ToString>(values: &[T]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}

/// A list that is left out where nothing is in it.
fn listed<T: ToString>(values: &[T]) -> Option<Vec<String>> {
    (!values.is_empty()).then(|| texts(values))
}

impl NodeAddressing {
    fn from(addressing: &Addressing) -> Option<Self> {
        (!addressing.is_plain()).then(|| Self {
            draining: listed(&addressing.draining),
            reserved: listed(&addressing.reserved),
            growing: addressing.growing.then_some(true),
            grace_seconds: addressing.grace_seconds.map(|seconds| i32::try_from(seconds).unwrap_or(i32::MAX)),
        })
    }
}

impl From<&NodeSpec> for NodeNetworkSpec {
    fn from(spec: &NodeSpec) -> Self {
        let excluded = &spec.masquerade.excluded;
        Self {
            revision: spec.revision.0.clone(),
            addresses: texts(&spec.addresses),
            address_rule: spec.address_rule.as_ref().map(Into::into),
            pod_ranges: listed(&spec.pod_ranges),
            pod_cidrs: texts(&spec.pod_cidrs),
            addressing: NodeAddressing::from(&spec.addressing),
            attachment: spec.attachment.into(),
            transport: (&spec.transport).into(),
            mtu: match spec.mtu {
                state::Mtu::Auto => Mtu::Word("Auto".to_owned()),
                state::Mtu::Bytes(bytes) => Mtu::Bytes(bytes.into()),
            },
            masquerade: NodeMasquerade { mode: spec.masquerade.mode.into(), excluded: listed(excluded) },
            cni_conflict: Some(spec.cni_conflict.into()),
            policy: PolicySpec::of(spec.policy),
        }
    }
}

impl TryFrom<&NodeNetworkSpec> for NodeSpec {
    type Error = SpecError;

    fn try_from(spec: &NodeNetworkSpec) -> Result<Self, SpecError> {
        Ok(Self {
            revision: Revision(spec.revision.clone()),
            addresses: addresses("addresses", &spec.addresses)?,
            address_rule: spec.address_rule.as_ref().map(TryInto::try_into).transpose()?,
            pod_ranges: cidrs("podRanges", spec.pod_ranges.as_deref().unwrap_or_default())?,
            pod_cidrs: cidrs("podCIDRs", &spec.pod_cidrs)?,
            addressing: addressing(spec.addressing.as_ref())?,
            attachment: spec.attachment.into(),
            transport: (&spec.transport).try_into()?,
            mtu: mtu(&spec.mtu)?,
            masquerade: state::Masquerade {
                mode: spec.masquerade.mode.into(),
                excluded: cidrs("masquerade.excluded", spec.masquerade.excluded.as_deref().unwrap_or_default())?,
            },
            cni_conflict: spec.cni_conflict.unwrap_or(CniConflict::Report).into(),
            policy: spec.policy.unwrap_or_default().settings(),
        })
    }
}

fn addressing(written: Option<&NodeAddressing>) -> Result<Addressing, SpecError> {
    let Some(written) = written else { return Ok(Addressing::default()) };
    Ok(Addressing {
        draining: cidrs("addressing.draining", written.draining.as_deref().unwrap_or_default())?,
        reserved: cidrs("addressing.reserved", written.reserved.as_deref().unwrap_or_default())?,
        growing: written.growing.unwrap_or_default(),
        grace_seconds: written.grace_seconds.and_then(|seconds| u32::try_from(seconds).ok()),
    })
}

fn cidrs(field: &'static str, texts: &[String]) -> Result<Vec<IpNet>, SpecError> {
    let read = |text: &String| parse(text).map_err(|problem| SpecError::Cidr { field, value: text.clone(), problem });
    texts.iter().map(read).collect()
}

fn mtu(written: &Mtu) -> Result<state::Mtu, SpecError> {
    match written {
        Mtu::Word(word) if word == "Auto" => Ok(state::Mtu::Auto),
        Mtu::Word(word) => Err(SpecError::Mtu(word.clone())),
        Mtu::Bytes(bytes) => {
            u32::try_from(*bytes).map(state::Mtu::Bytes).map_err(|_| SpecError::Mtu(bytes.to_string()))
        }
    }
}
