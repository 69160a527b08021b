//! What a node is told: its own part of the network, and its peers.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::policy::settings::PolicySettings;
use crate::transport::{Keys, Transport, Transports};

/// The name of a node, as in `Node.metadata.name`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeName(pub String);

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for NodeName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl From<&str> for NodeName {
    fn from(name: &str) -> Self {
        Self(name.to_owned())
    }
}

/// The short hash of one validated `ClusterNetwork` spec.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub String);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How a pod joins its node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Attachment {
    /// A point-to-point veth; the node's end holds the gateway address, and a host route leads to the pod.
    #[default]
    Routed,
    /// A point-to-point veth; the pod has its address alone, and a gateway that is the same on every link.
    LinkLocal,
    /// A veth into a bridge of the node, which holds the gateway address.
    Bridge,
}

impl Attachment {
    /// All that there are, in the order in which everything lists them.
    pub const ALL: [Self; 3] = [Self::Routed, Self::LinkLocal, Self::Bridge];
}

impl fmt::Display for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Routed => "Routed",
            Self::LinkLocal => "LinkLocal",
            Self::Bridge => "Bridge",
        })
    }
}

/// The largest packet of a pod's interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mtu {
    /// The uplink's MTU less the overhead of the transport.
    #[default]
    Auto,
    /// This many bytes.
    #[serde(untagged)]
    Bytes(u32),
}

/// Which packets of pods leave with the node's address instead of the pod's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Masquerade {
    /// When packets are masqueraded.
    pub mode: MasqueradeMode,
    /// Destinations that see the pod's own address, besides all pods of the cluster, and nodes that no tunnel leads to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub excluded: Vec<IpNet>,
}

/// When packets of pods are masqueraded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MasqueradeMode {
    /// When they leave the cluster.
    LeavingCluster,
    /// Never: the network around the cluster routes pod addresses.
    Off,
}

/// How a node gives out the addresses of its pod CIDRs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Addressing {
    /// Those of its pod CIDRs that no pod gets a new address of: they go back when their last pod has gone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub draining: Vec<IpNet>,
    /// Addresses that a pod only gets by asking for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reserved: Vec<IpNet>,
    /// Whether the node is given more pod CIDRs when it runs short.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub growing: bool,
    /// For how many seconds no pod has an address of a pod CIDR before the node reports it as idle; nothing where it
    /// never does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_seconds: Option<u32>,
}

impl Addressing {
    /// Whether every address of every pod CIDR may be given, and there will be no more of them.
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }
}

/// What becomes of a CNI configuration of another network that the runtime would take instead of ours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum CniConflict {
    /// It is told of, and left alone.
    #[default]
    Report,
    /// It is moved aside, and put back when Towpath leaves the node.
    Rename,
}

/// How a node finds the address by which others reach it, where it is no `InternalIP` of its Node: its agent looks, and
/// tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AddressRule {
    /// The first address of the first link that is up and whose name matches: `*` stands for anything.
    Interfaces(Vec<String>),
    /// The first address in one of these.
    Cidrs(Vec<IpNet>),
    /// The source address of packets to these, at most one of each family.
    CanReach(Vec<IpAddr>),
}

/// The part of the network that is one node's: the spec of its `NodeNetwork`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeSpec {
    /// Of the `ClusterNetwork` that this came from.
    pub revision: Revision,
    /// By which the other nodes reach this one; at most one of each family. Empty while [`Self::address_rule`] has not
    /// found any.
    pub addresses: Vec<IpAddr>,
    /// How the agent finds them; nothing where they come from the Node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address_rule: Option<AddressRule>,
    /// The ranges that all pods of the cluster have their addresses of, where they are declared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pod_ranges: Vec<IpNet>,
    /// Out of which its pods get their addresses.
    #[serde(rename = "podCIDRs")]
    pub pod_cidrs: Vec<IpNet>,
    /// How addresses are given out of them.
    #[serde(default, skip_serializing_if = "Addressing::is_plain")]
    pub addressing: Addressing,
    /// How pods are attached.
    pub attachment: Attachment,
    /// How packets cross to and from other nodes.
    pub transport: Transports,
    /// The MTU of pods.
    #[serde(default)]
    pub mtu: Mtu,
    /// Which packets are masqueraded.
    pub masquerade: Masquerade,
    /// What becomes of CNI configurations that the runtime would take instead of ours.
    #[serde(default)]
    pub cni_conflict: CniConflict,
    /// How policies are brought into force.
    #[serde(default, skip_serializing_if = "PolicySettings::is_usual")]
    pub policy: PolicySettings,
}

impl NodeSpec {
    /// A node with these addresses, whose pods have addresses of these CIDRs, and all else as simple as it can be:
    /// routed pods, no tunnel, nothing masqueraded.
    pub fn plain(addresses: Vec<IpAddr>, pod_cidrs: Vec<IpNet>) -> Self {
        Self {
            revision: Revision::default(),
            addresses,
            address_rule: None,
            pod_ranges: Vec::new(),
            pod_cidrs,
            addressing: Addressing::default(),
            attachment: Attachment::Routed,
            transport: Transports::only(Transport::Direct),
            mtu: Mtu::Auto,
            masquerade: Masquerade { mode: MasqueradeMode::Off, excluded: Vec::new() },
            cni_conflict: CniConflict::Report,
            policy: PolicySettings::default(),
        }
    }
}

/// Another node, as one node must know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Peer {
    /// By which it is reached; at most one of each family.
    pub addresses: Vec<IpAddr>,
    /// Of its pods.
    #[serde(rename = "podCIDRs")]
    pub pod_cidrs: Vec<IpNet>,
    /// What it takes packets by.
    pub accepts: Vec<Transport>,
    /// Its WireGuard keys, where it has told any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<Keys>,
}

/// Everything that a node agent needs from outside its node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeState {
    /// Whose state this is.
    pub node: NodeName,
    /// Its own part.
    pub spec: NodeSpec,
    /// The other nodes.
    #[serde(default)]
    pub peers: BTreeMap<NodeName, Peer>,
}

impl NodeState {
    /// The state of `node`, given every node's part and the keys that it told; nothing while it has no part of its own.
    pub fn assemble<'a>(
        node: &NodeName,
        parts: impl IntoIterator<Item = (&'a NodeName, &'a NodeSpec, Option<Keys>)>,
    ) -> Option<Self> {
        let mut own = None;
        let mut peers = BTreeMap::new();
        for (name, spec, keys) in parts {
            if name == node {
                own = Some(spec.clone());
            } else {
                peers.insert(name.clone(), Peer::new(spec, keys));
            }
        }
        own.map(|spec| Self { node: node.clone(), spec, peers })
    }

    /// Sets what is known of another node, or forgets it; tells what was known before.
    pub fn set_peer(&mut self, name: NodeName, peer: Option<Peer>) -> Option<Peer> {
        match peer {
            Some(peer) => self.peers.insert(name, peer),
            None => self.peers.remove(&name),
        }
    }
}

impl Peer {
    /// What others must know of a node.
    pub fn new(spec: &NodeSpec, keys: Option<Keys>) -> Self {
        Self {
            addresses: spec.addresses.clone(),
            pod_cidrs: spec.pod_cidrs.clone(),
            accepts: spec.transport.accepts.clone(),
            keys,
        }
    }
}
