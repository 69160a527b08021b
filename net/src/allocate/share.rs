//! One node's share of the pools in one family: what stays, what drains, what goes, and how much more it needs.

use ipnet::IpNet;

use crate::facts::NodeFacts;
use crate::family::Family;
use crate::intent::BlockPool;

/// The most blocks of one family that a node has: 64 of both together are what a `NodeNetwork` may hold.
pub const MOST_BLOCKS: usize = 32;

/// One node's share in one family.
#[derive(Debug)]
pub(super) struct Share {
    /// What it keeps, in the order in which it was given.
    pub(super) blocks: Vec<IpNet>,
    /// Those of them that drain.
    pub(super) draining: Vec<IpNet>,
    /// The pools that it may be given blocks of, by their index, in order.
    pub(super) pools: Vec<usize>,
    /// What more it needs.
    pub(super) need: Need,
}

/// What a node needs more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Need {
    /// A first block, or more: room for so many addresses.
    First(u64),
    /// Pods wait: room for so many addresses.
    Waiting(u64),
    /// It runs short: room for so many addresses.
    Soon(u64),
    /// Nothing.
    Nothing,
}

/// How a block stands to the pools.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Of a pool that the node may be given blocks of.
    Good,
    /// Of a pool that does not select the node while no other of the family does either, or of none while no pool
    /// selects the node: what runs, runs on.
    Tolerated,
    /// Of a disabled pool, or of none or of one that leaves the node to others.
    Leaving,
}

/// What is free by the agent's word, brought up to date as decisions are made.
struct Free {
    /// Nothing where the agent's word is about another spec, and does not say enough.
    now: Option<u64>,
    wanted: u64,
    /// A fourth of a block.
    quarter: u64,
}

impl Free {
    fn deficit(&self) -> u64 {
        let target = self.wanted.saturating_add(self.quarter);
        self.now.map_or(0, |free| target.saturating_sub(free))
    }

    fn add(&mut self, room: u64) {
        self.now = self.now.map(|free| free.saturating_add(room));
    }

    fn remove(&mut self, room: u64) {
        self.now = self.now.map(|free| free.saturating_sub(room));
    }
}

/// What a node gets of a family, given the pools that serve it.
pub(super) fn share(family: Family, node: &NodeFacts, pools: &[BlockPool], serving: &[usize]) -> Share {
    Planner { family, node, pools, serving }.share()
}

struct Planner<'a> {
    family: Family,
    node: &'a NodeFacts,
    pools: &'a [BlockPool],
    serving: &'a [usize],
}

impl Planner<'_> {
    fn share(&self) -> Share {
        let published = self.of_family(&self.node.existing);
        let is_draining = |block: &IpNet| self.node.draining.contains(block);
        let mut draining: Vec<IpNet> = published.iter().copied().filter(is_draining).collect();
        let promised = self.of_family(&self.node.promised);
        let usable = published.iter().filter(|block| !is_draining(block)).chain(&promised);
        let usable: Vec<IpNet> = usable.copied().collect();
        let (leaving, mut staying): (Vec<IpNet>, Vec<IpNet>) =
            usable.iter().copied().partition(|block| self.standing(block) == Standing::Leaving);
        let mut free = self.free(&usable);
        if self.take_back(&mut draining, &mut staying, &mut free) && !self.node.report.current {
            free = self.free(&staying.iter().chain(&leaving).copied().collect::<Vec<_>>());
        }
        if leaving.is_empty() {
            self.let_idle_go(&mut draining, &mut staying, &mut free);
        }
        let need = self.need(&staying, !leaving.is_empty(), &free);
        if !staying.is_empty() || self.serving.is_empty() {
            draining.extend(leaving);
        }
        let mut blocks: Vec<IpNet> = published.into_iter().chain(promised).collect();
        self.drop_drained(&mut blocks, &mut draining);
        draining.sort_by_key(|block| blocks.iter().position(|b| b == block));
        Share { blocks, draining, pools: self.serving.to_vec(), need }
    }

    fn of_family(&self, blocks: &[IpNet]) -> Vec<IpNet> {
        blocks.iter().copied().filter(|block| Family::of_net(block) == self.family).collect()
    }

    fn standing(&self, block: &IpNet) -> Standing {
        match self.pools.iter().position(|pool| pool.cuts(block)) {
            Some(pool) if self.serving.contains(&pool) => Standing::Good,
            Some(pool) if self.serving.is_empty() && !self.pools[pool].disabled => Standing::Tolerated,
            None if !self.pools.iter().any(|pool| pool.serves(&self.node.labels)) => Standing::Tolerated,
            _ => Standing::Leaving,
        }
    }

    /// How many pods find an address in a block; one that is leaving still serves those it has.
    fn room(&self, block: &IpNet) -> u64 {
        self.pools.iter().find(|pool| pool.cuts(block)).map_or(0, |pool| pool.room(block))
    }

    fn rooms(&self, blocks: &[IpNet]) -> u64 {
        blocks.iter().fold(0, |sum, block| sum.saturating_add(self.room(block)))
    }

    /// What is free in the blocks that do not drain, or are promised.
    fn free(&self, usable: &[IpNet]) -> Free {
        let quarter = self.serving.first().map_or(0, |pool| self.pools[*pool].range.block_addresses() / 4);
        let count = self.node.report.counts.get(self.family);
        let now = count.as_ref().and_then(|count| {
            let more = if self.node.report.current {
                self.rooms(&self.of_family(&self.node.promised))
            } else {
                // What it was given since; where it lost something, its next word has to be waited for.
                self.rooms(usable).checked_sub(count.capacity)?
            };
            Some(count.free.saturating_add(more))
        });
        Free { now, wanted: count.map_or(0, |count| count.wanted), quarter }
    }

    /// Rather than be given another block, a node keeps one that drains and could stay.
    ///
    /// Answers whether it keeps one.
    fn take_back(&self, draining: &mut Vec<IpNet>, staying: &mut Vec<IpNet>, free: &mut Free) -> bool {
        let before = draining.len();
        draining.retain(|block| {
            let is_short = free.deficit() > 0 || staying.is_empty();
            let keep = !(is_short && self.standing(block) == Standing::Good);
            if !keep {
                staying.push(*block);
                free.add(self.room(block));
            }
            keep
        });
        draining.len() < before
    }

    /// Blocks without a pod drain, the last first, where twice as much stays free as makes a node short.
    fn let_idle_go(&self, draining: &mut Vec<IpNet>, staying: &mut Vec<IpNet>, free: &mut Free) {
        let report = &self.node.report;
        if !report.current || free.wanted > 0 || !self.node.promised.is_empty() {
            return;
        }
        let idle: Vec<IpNet> = staying.iter().rev().copied().filter(|block| report.idle.contains(block)).collect();
        for block in idle {
            let left = free.now.map_or(0, |free| free.saturating_sub(self.room(&block)));
            if staying.len() > 1 && left >= free.quarter.saturating_mul(2) {
                staying.retain(|other| *other != block);
                draining.push(block);
                free.remove(self.room(&block));
            }
        }
    }

    fn need(&self, staying: &[IpNet], some_leave: bool, free: &Free) -> Need {
        let target = free.wanted.saturating_add(free.quarter);
        match free.deficit() {
            _ if self.serving.is_empty() => Need::Nothing,
            _ if staying.is_empty() => Need::First(target),
            // How much is free in what stays is only known once the rest drains.
            0 => Need::Nothing,
            _ if some_leave => Need::Nothing,
            deficit if free.wanted > 0 => Need::Waiting(deficit),
            deficit => Need::Soon(deficit),
        }
    }

    /// What is drained goes.
    fn drop_drained(&self, blocks: &mut Vec<IpNet>, draining: &mut Vec<IpNet>) {
        let report = &self.node.report;
        let was_told = |block: &IpNet| self.node.draining.contains(block) && draining.contains(block);
        let goes = |block: &IpNet| report.current && was_told(block) && report.drained.contains(block);
        let gone: Vec<IpNet> = blocks.iter().copied().filter(goes).collect();
        blocks.retain(|block| !gone.contains(block));
        draining.retain(|block| !gone.contains(block));
    }
}
