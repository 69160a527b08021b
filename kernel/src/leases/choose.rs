//! Which addresses a new lease gets.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use towpath_net::family::host_net;
use towpath_net::lease::{LINK_LOCAL_GATEWAY, LeasedAddress};
use towpath_net::node_file::NodeFile;
use towpath_net::pick::Role;
use towpath_net::state::Attachment;
use towpath_net::{Family, PerFamily, pick};

use super::Store;
use super::error::{Error, NodeError, Refusal};
use super::taken::Taken;
use crate::fs::Error as FileError;

/// What is wanted of a node's addresses.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// The addresses that the pod asked for; of the other families it gets any.
    pub asked: PerFamily<Option<IpAddr>>,
    /// Addresses that the node uses, though no lease says so.
    pub in_use: BTreeSet<IpAddr>,
}

/// What came of it: an address of each family, or none at all.
#[derive(Debug)]
pub(super) enum Choice {
    /// These.
    Chosen {
        addresses: Vec<LeasedAddress>,
        /// How a pod with these is attached.
        mode: Attachment,
        /// The addresses given last, with these; nothing where nothing changes.
        cursor: Option<PerFamily<Option<IpAddr>>>,
    },
    /// No address of some family is free.
    Short(Shortage),
}

/// That no address is free, and whether one will be.
#[derive(Clone, Debug, Default)]
pub(super) struct Shortage {
    /// The blocks that none is free of.
    pub blocks: Vec<IpNet>,
    /// The families that none is free of.
    pub families: PerFamily<bool>,
    /// When freed addresses of all those families have rested.
    pub rest: Option<Duration>,
    /// Whether the node may be given another block.
    pub growing: bool,
}

impl Store {
    /// Reads what the agent rendered for this node.
    pub fn node(&self) -> Result<NodeFile, NodeError> {
        let path = self.node_file();
        let content = crate::fs::read_optional(&path)?.ok_or_else(|| NodeError::Missing(path.clone()))?;
        NodeFile::parse(&content).map_err(|reason| NodeError::Unusable { path, reason })
    }

    /// Tells whether the next ADD would get an address of each family, at once or after a while, without taking it.
    pub fn vacancy(&self) -> Result<(), Error> {
        let node = self.node()?;
        match self.choose(&node, &Wish::default())? {
            Choice::Short(short) if !short.growing && short.rest.is_none() => Err(short.give_up(Duration::ZERO)),
            _ => Ok(()),
        }
    }

    pub(super) fn choose(&self, node: &NodeFile, wish: &Wish) -> Result<Choice, Error> {
        let before = self.read_cursor()?;
        let mut cursor = before;
        let mut addresses = Vec::new();
        let mut short = Shortage { growing: node.addressing.growing, ..Shortage::default() };
        let families = node.families();
        for family in Family::ALL {
            if let Some(address) = *wish.asked.get(family) {
                addresses.push(self.asked(node, address, wish)?);
            } else if families.contains(&family) {
                match self.pick(node, family, *before.get(family), wish) {
                    Ok(leased) => {
                        *cursor.get_mut(family) = Some(leased.address.addr());
                        addresses.push(leased);
                    }
                    Err(rest) => short.note(node, family, rest),
                }
            }
        }
        if !short.blocks.is_empty() {
            return Ok(Choice::Short(short));
        }
        let mode = mode_with(node.attachment, &addresses);
        Ok(Choice::Chosen { addresses, mode, cursor: (cursor != before).then_some(cursor) })
    }

    /// The next free address, or when the first has rested that is only resting.
    fn pick(
        &self,
        node: &NodeFile,
        family: Family,
        last: Option<IpAddr>,
        wish: &Wish,
    ) -> Result<LeasedAddress, Option<Duration>> {
        let offered: Vec<IpNet> = node.blocks(family).filter(|block| node.offers(block)).copied().collect();
        let mut first_rest: Option<Duration> = None;
        let mut taken = Taken::new(self);
        let is_taken = |address: IpAddr| {
            if wish.in_use.contains(&address) || taken.contains(address) {
                return true;
            }
            if offered.iter().any(|block| pick::gateway(block) == address) && self.is_gateway(address) {
                return true;
            }
            let left = self.rest_left(address, node.rest());
            first_rest = [first_rest, left].into_iter().flatten().min();
            left.is_some()
        };
        let chosen = pick::next(&offered, node.attachment, &node.addressing.reserved, last, is_taken);
        let block = |address| offered.iter().find(|block| block.contains(&address));
        chosen.and_then(|address| self.leased(node.attachment, block(address)?, address)).ok_or(first_rest)
    }

    /// An address that was asked for does not rest: to have it again is what was asked for.
    fn asked(&self, node: &NodeFile, address: IpAddr, wish: &Wish) -> Result<LeasedAddress, Error> {
        let refused = |reason| Error::Refused { address, reason };
        let family = Family::of(address);
        let outside = || Refusal::Outside { family, blocks: node.blocks(family).copied().collect() };
        let block = node.blocks(family).find(|block| block.contains(&address)).ok_or_else(|| refused(outside()))?;
        if let Some(role) = pick::role(block, node.attachment, address) {
            return Err(refused(Refusal::Role(role, *block)));
        }
        if address == pick::gateway(block) && self.is_gateway(address) {
            return Err(refused(Refusal::Role(Role::Gateway, *block)));
        }
        if let Some(holder) = self.owner(address) {
            return Err(refused(Refusal::Taken(holder)));
        }
        if wish.in_use.contains(&address) {
            return Err(refused(Refusal::InUse));
        }
        if !node.offers(block) {
            return Err(refused(Refusal::Draining(*block)));
        }
        self.leased(node.attachment, block, address).ok_or_else(|| refused(outside()))
    }

    /// An address, and its gateway: its block's where pods have one in it, unless a pod has that address that was
    /// attached when they had not.
    fn leased(&self, mode: Attachment, block: &IpNet, address: IpAddr) -> Option<LeasedAddress> {
        let (own, anywhere) = (pick::gateway(block), *LINK_LOCAL_GATEWAY.get(Family::of(address)));
        if !pick::has_gateway(mode) {
            return Some(LeasedAddress { address: host_net(address), gateway: anywhere });
        }
        let address = IpNet::new(address, block.prefix_len()).ok()?;
        Some(LeasedAddress { address, gateway: if self.claim(own).exists() { anywhere } else { own } })
    }

    fn cursor(&self) -> PathBuf {
        self.folder.join("cursor")
    }

    /// The addresses given last; what cannot be read begins anew.
    fn read_cursor(&self) -> Result<PerFamily<Option<IpAddr>>, FileError> {
        let text = crate::fs::read_optional(&self.cursor())?.and_then(|bytes| String::from_utf8(bytes).ok());
        Ok(PerFamily::first_of(text.unwrap_or_default().lines().filter_map(|line| line.parse().ok())))
    }

    pub(super) fn write_cursor(&self, cursor: &PerFamily<Option<IpAddr>>) -> Result<(), FileError> {
        let lines = super::lines(cursor.iter().filter_map(|(_, last)| *last));
        crate::fs::write_volatile(&self.cursor(), lines.as_bytes(), 0o600)
    }
}

impl Shortage {
    fn note(&mut self, node: &NodeFile, family: Family, rest: Option<Duration>) {
        // Every family is needed.
        self.rest = if self.blocks.is_empty() { rest } else { self.rest.zip(rest).map(|(a, b)| a.max(b)) };
        self.blocks.extend(node.blocks(family));
        *self.families.get_mut(family) = true;
    }
}

/// How a pod with these addresses is attached: a bridge has no gateways but its blocks' own.
fn mode_with(mode: Attachment, addresses: &[LeasedAddress]) -> Attachment {
    let is_anywhere = |leased: &LeasedAddress| *LINK_LOCAL_GATEWAY.get(Family::of(leased.gateway)) == leased.gateway;
    if mode == Attachment::Bridge && addresses.iter().any(is_anywhere) { Attachment::Routed } else { mode }
}
