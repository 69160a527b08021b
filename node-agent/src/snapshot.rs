//! What the worker tells of the node: the input of status, health and metrics.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use towpath_net::device::{Device, transport_of};
use towpath_net::effect::Effect;
use towpath_net::observed::{Observed, Subnet};
use towpath_net::state::{NodeName, NodeSpec, NodeState, Peer, Revision};
use towpath_net::transport::Transport;

use crate::addresses::Addresses;
use crate::drift::DriftLog;
use crate::keys::PublicKeys;
use crate::policy::Receipt;
use crate::rivals::Rivals;

/// A state from a source, with the generation of the object that it came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// The unique id of the `NodeNetwork`: one that was deleted and made anew has told nobody anything yet.
    #[serde(default)]
    pub object: String,
    /// Of the `NodeNetwork`; 0 where the source has none.
    pub generation: i64,
    /// What the node is told.
    pub state: NodeState,
}

impl Assignment {
    /// Takes the node's own part from what came later.
    pub fn take_own(&mut self, own: Own) {
        (self.object, self.generation, self.state.spec) = (own.object, own.generation, own.spec);
    }
}

/// The node's own part of an [`Assignment`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Own {
    /// The unique id of the `NodeNetwork`.
    pub object: String,
    /// Its generation.
    pub generation: i64,
    /// What it says.
    pub spec: NodeSpec,
}

/// What a source tells: the state once, and from then on what becomes of it.
#[derive(Debug)]
pub enum Update {
    /// Everything, from the beginning.
    State(Box<Assignment>),
    /// The node's own part is another one now.
    Own(Box<Own>),
    /// Another node is as told now, or gone.
    Peer(NodeName, Option<Peer>),
    /// Whether there are policies.
    Enforced(bool),
    /// Done when everything that was told before was brought about.
    Receipt(Receipt),
}

/// How the node is; changes only when something worth telling changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Of the assignment that was worked on last; nothing before the first.
    pub applied: Option<Applied>,
    /// Whether the kernel has all that it should have.
    pub programmed: bool,
    /// Whether the CNI configuration file is in place.
    pub cni_installed: bool,
    /// The addresses that the node's own rule finds, where it has one.
    pub node_addresses: Vec<IpAddr>,
    /// What cannot be, in words; empty when all is well.
    pub obstacles: Vec<String>,
    /// What failed in the last attempt, in words.
    pub failures: Vec<String>,
    /// What was put right.
    pub drift: DriftLog,
    /// CNI configurations of other networks.
    pub rivals: Rivals,
    /// The node's addresses.
    pub addresses: Addresses,
    /// The node's WireGuard keys, where it uses that.
    pub keys: Option<PublicKeys>,
}

/// What was worked on, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The unique id of the `NodeNetwork`.
    pub object: String,
    /// The generation of the assignment.
    pub generation: i64,
    /// Its revision.
    pub revision: Revision,
    /// By which transports other nodes are reached, as the kernel has it.
    pub effect: Effect,
    /// The transport that the node prefers, where the kernel has all that it takes.
    pub prefers: Option<Transport>,
    /// Of new pods, in bytes.
    pub mtu: Option<u32>,
    /// This node's pod CIDRs.
    pub pod_cidrs: Vec<IpNet>,
    /// The link that holds the node's address.
    pub uplink: Option<Uplink>,
}

/// The link that holds the node's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uplink {
    /// Its name.
    pub name: String,
    /// The node's addresses there.
    pub addresses: Vec<IpAddr>,
    /// In bytes.
    pub mtu: u32,
}

impl Applied {
    /// By what packets leave to other nodes; while there are none, by what they would.
    pub fn transports(&self) -> Vec<Transport> {
        let paths = &self.effect.paths;
        if paths.is_empty() { self.prefers.into_iter().collect() } else { paths.keys().copied().collect() }
    }

    /// What is to be told of `assignment`, given what the kernel has now.
    pub fn new(assignment: &Assignment, mtu: Option<u32>, seen: &Observed) -> Self {
        let spec = &assignment.state.spec;
        Self {
            object: assignment.object.clone(),
            generation: assignment.generation,
            revision: spec.revision.clone(),
            effect: Effect::of(&assignment.state, seen),
            prefers: spec.transport.prefers.first().copied().filter(|transport| is_there(*transport, seen)),
            mtu,
            pod_cidrs: spec.pod_cidrs.clone(),
            uplink: towpath_net::render::uplink(&assignment.state, &seen.surroundings)
                .map(|subnet| uplink(subnet, &assignment.state, seen)),
        }
    }
}

/// Whether the kernel has what a transport takes.
fn is_there(transport: Transport, seen: &Observed) -> bool {
    let up = |(name, device): (&String, &Device)| device.up && transport_of(name) == Some(transport);
    !transport.is_tunnel() || seen.devices.iter().any(up)
}

fn uplink(subnet: &Subnet, state: &NodeState, seen: &Observed) -> Uplink {
    let here = |address: &&IpAddr| seen.surroundings.holding(**address).is_some_and(|s| s.link == subnet.link);
    Uplink {
        name: subnet.link.clone(),
        addresses: state.spec.addresses.iter().filter(here).copied().collect(),
        mtu: subnet.mtu,
    }
}
