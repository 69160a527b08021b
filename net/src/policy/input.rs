//! What policies are compiled from: the objects of the API, parsed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::lease::Protocol;
use crate::state::NodeName;

/// Namespace and name of an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

/// A namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Namespace {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: Labels,
}

/// A node, as a peer of cluster-wide policies.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    /// Its name.
    pub name: NodeName,
    /// Its labels.
    pub labels: Labels,
    /// All of its own addresses.
    pub addresses: Vec<IpAddr>,
}

/// A pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pod {
    /// Its namespace and name.
    pub key: Key,
    /// What tells a pod from a later one of the same name ([`super::identity`]): `metadata.uid`, or of a static pod what its
    /// kubelet names it by.
    pub uid: String,
    /// Its labels.
    pub labels: Labels,
    /// Where it was scheduled to.
    pub node: Option<NodeName>,
    /// Its addresses: those of all attachments that its node's agent told first, those of its status otherwise.
    pub addresses: Vec<IpAddr>,
    /// The ports of its containers that have names.
    pub ports: Vec<NamedPort>,
    /// Whether it has the network of its node: no policy selects it, and its address is its node's.
    pub is_host_network: bool,
    /// Whether all of its containers have ended for good (phase `Succeeded` or `Failed`): its addresses may be another's.
    /// A pod that is only being deleted has them still.
    pub is_ended: bool,
}

/// A container's port that has a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamedPort {
    /// Its name.
    pub name: String,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its number.
    pub port: u16,
}

/// `LabelSelector` (`k8s.io/apimachinery` `meta/v1`): all requirements must hold; without any, it selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Selector {
    /// `matchLabels`.
    pub labels: Labels,
    /// `matchExpressions`.
    pub expressions: Vec<Requirement>,
}

/// One of `matchExpressions`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Requirement {
    /// The label's key.
    pub key: String,
    /// What must be true of it.
    pub operator: Operator,
}

/// What must be true of a label.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operator {
    /// It is there with one of these values.
    In(BTreeSet<String>),
    /// It is not there, or has another value.
    NotIn(BTreeSet<String>),
    /// It is there.
    Exists,
    /// It is not there.
    DoesNotExist,
}

/// `networking.k8s.io/v1` `NetworkPolicy`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NetworkPolicy {
    /// Its namespace and name.
    pub key: Key,
    /// Which pods of its namespace it isolates.
    pub pods: Selector,
    /// What may come in; nothing where it does not isolate for ingress (`policyTypes`, by its default rules). An empty
    /// list isolates and allows nothing.
    pub ingress: Option<Vec<Rule>>,
    /// What may go out, in the same way.
    pub egress: Option<Vec<Rule>>,
}

/// One allowing rule of a `NetworkPolicy`: peers and ports must both match.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// The other side; everyone where this is nothing (a missing or empty list).
    pub peers: Option<Vec<Peer>>,
    /// The ports of the destination; all of all protocols where this is nothing (a missing or empty list).
    pub ports: Option<Vec<Port>>,
}

/// One entry of `from` or `to`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    /// Pods.
    Pods {
        /// Of these namespaces; of the policy's own where this is nothing.
        namespaces: Option<Selector>,
        /// With these labels.
        pods: Selector,
    },
    /// `ipBlock`: addresses of a CIDR but for some.
    Block(Block),
}

/// A CIDR without some of its parts. Packets count by the address that they have at the pod's node behind destination NAT.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Block {
    /// The CIDR.
    pub cidr: IpNet,
    /// Parts that do not belong to it; they may overlap.
    pub except: Vec<IpNet>,
}

/// Ports of the destination.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Port {
    /// Every port of a protocol.
    All(Protocol),
    /// The ports from the first to the last, both included (`port` alone, or with `endPort`).
    Range(Protocol, u16, u16),
    /// The port that the destination's pod gives this name for this protocol; none where it has none of the name.
    Named(Protocol, String),
    /// The port of that name whatever its protocol (`ClusterNetworkPolicy`).
    NamedOfAny(String),
}

/// `policy.networking.k8s.io/v1alpha2` `ClusterNetworkPolicy`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClusterPolicy {
    /// Its name; breaks ties of priority: the smaller one first.
    pub name: String,
    /// Before or after `NetworkPolicy`.
    pub tier: Tier,
    /// Lower comes first.
    pub priority: i32,
    /// Which pods it is for.
    pub subject: Subject,
    /// What comes in, in order: the first rule that matches decides.
    pub ingress: Vec<ClusterRule>,
    /// What goes out.
    pub egress: Vec<ClusterRule>,
}

/// When a `ClusterNetworkPolicy` is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// Before every `NetworkPolicy`.
    Admin,
    /// For pods that no `NetworkPolicy` isolates in this direction.
    Baseline,
}

/// The pods that a `ClusterNetworkPolicy` is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Subject {
    /// Of these namespaces.
    pub namespaces: Selector,
    /// With these labels.
    pub pods: Selector,
}

/// What a rule of a `ClusterNetworkPolicy` does with what it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Lets it through, whatever later tiers say.
    Accept,
    /// Ends it.
    Deny,
    /// Leaves it to the next tier.
    Pass,
}

/// One rule of a `ClusterNetworkPolicy`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClusterRule {
    /// What it is called; may be empty.
    pub name: String,
    /// What becomes of what it matches.
    pub action: Action,
    /// The other side: any of these. Nobody where it is empty: what cannot be understood matches nothing that it allows.
    pub peers: Vec<ClusterPeer>,
    /// The ports of the destination; all of all protocols where this is nothing.
    pub ports: Option<Vec<Port>>,
}

/// The other side of a `ClusterNetworkPolicy`'s rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ClusterPeer {
    /// Pods (`namespaces` alone: all of theirs).
    Pods(Subject),
    /// Nodes, by their labels; only where packets go out.
    Nodes(Selector),
    /// A network, whoever is in it; only where packets go out.
    Network(IpNet),
}
