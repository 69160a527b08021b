//! The blocks of a node as the model has them, and which of their addresses a pod may have: by counting, not by code of
//! the project.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Value, json};
use towpath_net::state::Attachment;

use crate::chance::Chance;
use crate::support::MODES;

/// Every block that the node may be given.
pub const ALL: [&str; 7] =
    ["10.0.0.0/28", "10.0.1.0/28", "10.0.2.0/29", "10.0.3.0/30", "fd00::/124", "fd00::100/124", "fd00:1::/125"];

/// What may be reserved.
const RESERVABLE: [&str; 4] = ["10.0.0.4/30", "10.0.1.2/32", "fd00::8/125", "fd00:1::2/128"];

/// The blocks, which of them are draining, and what is reserved.
#[derive(Debug)]
pub struct Pools {
    /// The node's blocks.
    pub blocks: BTreeSet<IpNet>,
    /// Those that no pod gets a new address of.
    pub draining: BTreeSet<IpNet>,
    /// Addresses that a pod only gets by asking for them.
    pub reserved: BTreeSet<IpNet>,
    /// How new pods are attached.
    pub mode: Attachment,
}

impl Pools {
    /// One block of each family.
    pub fn new() -> Self {
        let blocks = [ALL[0], ALL[4]].into_iter().map(|text| text.parse().unwrap()).collect();
        Self { blocks, draining: BTreeSet::new(), reserved: BTreeSet::new(), mode: Attachment::Routed }
    }

    /// What the agent would write.
    pub fn node_json(&self) -> Value {
        json!({
            "version": 1, "revision": "7f3a91c", "attachment": self.mode, "mtu": 1450, "quarantine": 0,
            "podCIDRs": self.blocks, "addressing": {"draining": self.draining, "reserved": self.reserved},
        })
    }

    /// Changes something; a block goes only where `is_drained` says so. Each family keeps one.
    pub fn change(&mut self, chance: &mut Chance, is_drained: impl Fn(&IpNet) -> bool) {
        let one: IpNet = chance.one(&ALL).unwrap().parse().unwrap();
        let others = self.blocks.iter().filter(|block| **block != one && is_v4(block) == is_v4(&one)).count();
        match chance.below(5) {
            4 => self.mode = *chance.one(&MODES).unwrap(),
            0 => drop(self.blocks.insert(one)),
            1 if self.blocks.contains(&one) => drop(self.draining.insert(one)),
            2 if self.draining.contains(&one) && others > 0 && is_drained(&one) => {
                self.blocks.remove(&one);
                self.draining.remove(&one);
            }
            2 => drop(self.draining.remove(&one)),
            _ => {
                let one = chance.one(&RESERVABLE).unwrap().parse().unwrap();
                if !self.reserved.insert(one) {
                    self.reserved.remove(&one);
                }
            }
        }
    }

    /// The addresses of a family that a pod may be given, taken or not; nothing where pods get none of it: the node has
    /// no block of it, or drains all of them while it offers one of the other family.
    pub fn given(&self, v4: bool) -> Option<BTreeSet<IpAddr>> {
        let of_family = |block: &&IpNet| is_v4(block) == v4;
        let offered = || self.blocks.iter().filter(|block| !self.draining.contains(*block));
        let is_left = offered().any(|block| of_family(&block)) || offered().next().is_none();
        let is_plain = |address: &IpAddr| !self.reserved.iter().any(|reserved| reserved.contains(address));
        (is_left && self.blocks.iter().any(|block| of_family(&block)))
            .then(|| offered().filter(of_family).flat_map(|block| of_pods(block, self.mode)).filter(is_plain).collect())
    }

    /// Whether an address is the second of a block, which pods have for their gateway unless all are attached without.
    pub fn is_gateway(address: IpAddr) -> bool {
        let mut blocks = ALL.iter().map(|text| text.parse::<IpNet>().unwrap());
        blocks.any(|block| of_pods(&block, Attachment::LinkLocal).first() == Some(&address))
    }

    /// Whether a pod may have an address that it asks for, were it free.
    pub fn may_ask(&self, address: IpAddr) -> bool {
        let offered = self.blocks.iter().filter(|block| !self.draining.contains(*block));
        offered.into_iter().any(|block| of_pods(block, self.mode).contains(&address))
    }
}

/// All but the network's own, the gateway where it is in the block, and for IPv4 the broadcast address.
fn of_pods(block: &IpNet, mode: Attachment) -> Vec<IpAddr> {
    let mut all: Vec<IpAddr> = match block {
        IpNet::V4(net) => (u32::from(net.network())..=net.broadcast().into()).map(|a| IpAddr::V4(a.into())).collect(),
        IpNet::V6(net) => (u128::from(net.network())..=net.broadcast().into()).map(|a| IpAddr::V6(a.into())).collect(),
    };
    if is_v4(block) {
        all.pop();
    }
    all.split_off(if mode == Attachment::LinkLocal { 1 } else { 2 })
}

const fn is_v4(net: &IpNet) -> bool {
    matches!(net, IpNet::V4(_))
}
