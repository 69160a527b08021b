//! Mode `Pools`: each node has as many blocks as its pods need.
//!
//! A node begins with one block of each family that some enabled pool which selects it has: of the first such pool
//! with a free one. By what its agent reports it is given more when less than a fourth of a block is free, or pods
//! wait. What has no pod for the grace time drains where enough stays free without it, and so does what is of no
//! enabled pool that selects the node, once the node has something else; what drained goes. What was short once is
//! dealt to in this order: nodes without any block, nodes whose pods wait, nodes that run short.
//!
//! Decisions about what a node has are made from what it has, never from what it is about to be given: those that
//! only take away can be carried out without the others.

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::cursor::Cursor;
use super::share::{MOST_BLOCKS, Need, Share, share};
use super::{Allocations, own_address, report};
use crate::facts::{Facts, NodeFacts};
use crate::family::{Family, PerFamily};
use crate::intent::{BlockPool, Finding, Intent, Problem, Taken};
use crate::state::{Addressing, NodeName};

/// The field that most findings are about.
const POOLS: &str = "spec.ipam.pools";

/// Gives every node its share.
pub(super) fn share_out(
    intent: &Intent,
    pools: &[BlockPool],
    grace: u32,
    facts: &Facts,
    taken: &mut Taken,
    out: &mut Allocations,
) {
    let mut dealer = Dealer { pools, cursors: pools.iter().map(|pool| Cursor::new(&pool.range)).collect(), taken };
    let mut shares = BTreeMap::new();
    for (name, node) in &facts.nodes {
        // A pool may be declared at any time: what a node has stays, but its address is in the way of new blocks.
        let findings = own_address(intent, node);
        let blocked = !findings.is_empty() && node.existing.is_empty();
        report(out, name, findings);
        let all = shares_of(node, pools);
        if Family::ALL.iter().all(|family| all.get(*family).pools.is_empty()) {
            report(out, name, vec![Finding::absent(POOLS, Problem::NoPoolSelects)]);
        }
        if !blocked {
            shares.insert(name, all);
        }
    }
    out.remarks.extend(unused(pools, facts));
    dealer.begin(facts, &mut shares, out);
    dealer.grow(&mut shares, out, |need| matches!(need, Need::Waiting(_)));
    dealer.grow(&mut shares, out, |need| matches!(need, Need::Soon(_)));
    for (name, all) in shares {
        if let Some(node) = facts.nodes.get(name) {
            settle(name, node, &all, pools, grace, out);
        }
    }
}

fn shares_of(node: &NodeFacts, pools: &[BlockPool]) -> PerFamily<Share> {
    PerFamily::from_fn(|family| {
        let serves = |pool: &BlockPool| pool.family() == family && pool.serves(&node.labels);
        let serving: Vec<usize> = (0..pools.len()).filter(|index| serves(&pools[*index])).collect();
        share(family, node, pools, &serving)
    })
}

/// The pools that could give, and select no node.
fn unused(pools: &[BlockPool], facts: &Facts) -> Vec<Finding> {
    let is_unused = |pool: &BlockPool| {
        !pool.disabled && !facts.nodes.is_empty() && !facts.nodes.values().any(|node| pool.serves(&node.labels))
    };
    let unused = pools.iter().enumerate().filter(|(_, pool)| is_unused(pool));
    unused.map(|(index, pool)| Finding::new(format!("{POOLS}[{index}]"), &pool.name, Problem::SelectsNoNode)).collect()
}

/// Gives blocks.
struct Dealer<'a> {
    pools: &'a [BlockPool],
    cursors: Vec<Cursor<'a>>,
    taken: &'a mut Taken,
}

type Shares<'a> = BTreeMap<&'a NodeName, PerFamily<Share>>;

impl Dealer<'_> {
    /// First blocks: a new node gets one of each of its families, or none.
    fn begin(&mut self, facts: &Facts, shares: &mut Shares<'_>, out: &mut Allocations) {
        for (name, all) in shares.iter_mut() {
            let is_new = facts.nodes.get(*name).is_some_and(|node| node.existing.is_empty());
            let needed = |all: &PerFamily<Share>, family: Family| match all.get(family).need {
                Need::First(room) => Some((family, room)),
                _ => None,
            };
            let needed: Vec<(Family, u64)> = Family::ALL.iter().filter_map(|family| needed(all, *family)).collect();
            let lacking = |dealer: &mut Self, family: Family| dealer.next(all.get(family)).is_none();
            let lacking: Vec<Family> = needed.iter().map(|(f, _)| *f).filter(|f| lacking(self, *f)).collect();
            report(out, name, lacking.iter().map(|family| self.exhausted(*family, all.get(*family))).collect());
            if is_new && !lacking.is_empty() {
                continue;
            }
            for (family, room) in needed {
                self.deal(name, all.get_mut(family), room);
            }
        }
    }

    /// More blocks, for those whose need is of a certain kind.
    fn grow(&mut self, shares: &mut Shares<'_>, out: &mut Allocations, is_due: impl Fn(Need) -> bool) {
        for (name, all) in shares.iter_mut() {
            for family in Family::ALL {
                let share = all.get_mut(family);
                let (Need::Waiting(room) | Need::Soon(room)) = share.need else { continue };
                if !is_due(share.need) {
                    continue;
                }
                let lacking = self.deal(name, share, room);
                if lacking > 0 && matches!(share.need, Need::Waiting(_)) {
                    report(out, name, vec![self.exhausted(family, share)]);
                }
            }
        }
    }

    /// Gives a node room for so many more addresses, and answers how many of them it could not be given.
    fn deal(&mut self, name: &NodeName, share: &mut Share, mut room: u64) -> u64 {
        while room > 0
            && let Some((pool, block)) = self.next(share)
        {
            self.taken.take(&block, name);
            share.blocks.push(block);
            room = room.saturating_sub(self.pools[pool].room(&block));
        }
        room
    }

    /// The lowest free block of the first pool that has one, without taking it.
    fn next(&mut self, share: &Share) -> Option<(usize, IpNet)> {
        let allowed = share.pools.iter().take_while(|_| share.blocks.len() < MOST_BLOCKS);
        allowed.copied().find_map(|index| {
            let pool = &self.pools[index];
            self.cursors[index].free(self.taken, |block| pool.room(block) > 0).map(|block| (index, block))
        })
    }

    fn exhausted(&self, family: Family, share: &Share) -> Finding {
        if share.blocks.len() >= MOST_BLOCKS {
            return Finding::absent("NodeNetwork.spec.podCIDRs", Problem::NodeFull { family, most: MOST_BLOCKS });
        }
        let pools = || share.pools.iter().map(|index| &self.pools[*index]);
        let names = pools().map(|pool| pool.name.as_str()).collect::<Vec<_>>().join(",");
        let blocks = pools().map(|pool| pool.range.blocks()).fold(0, u32::saturating_add);
        Finding::new(POOLS, names, Problem::PoolsExhausted { family, blocks })
    }
}

/// Puts both shares of a node together: what it had in its order, then what is new.
fn settle(
    name: &NodeName,
    node: &NodeFacts,
    all: &PerFamily<Share>,
    pools: &[BlockPool],
    grace: u32,
    out: &mut Allocations,
) {
    let has = |block: &IpNet| all.iter().any(|(_, share)| share.blocks.contains(block));
    let mut blocks: Vec<IpNet> = node.existing.iter().copied().filter(has).collect();
    for (_, share) in all.iter() {
        let new: Vec<IpNet> = share.blocks.iter().copied().filter(|block| !blocks.contains(block)).collect();
        blocks.extend(new);
    }
    let mut draining: Vec<IpNet> = all.iter().flat_map(|(_, share)| &share.draining).copied().collect();
    if blocks.is_empty() {
        // Its part has to hold something; nothing is given of it.
        blocks.extend(node.existing.first());
        draining.clone_from(&blocks);
    }
    if blocks.is_empty() {
        return;
    }
    let reserved = blocks.iter().flat_map(|block| pools.iter().flat_map(|pool| pool.reserved_in(*block)));
    let mut reserved: Vec<IpNet> = reserved.collect();
    reserved.sort_unstable();
    reserved.dedup();
    let growing = all.iter().any(|(_, share)| !share.pools.is_empty());
    let addressing = Addressing { draining, reserved, growing, grace_seconds: Some(grace) };
    if node.existing.is_empty() {
        out.fresh.insert(name.clone());
    }
    out.blocks.insert(name.clone(), blocks);
    out.addressing.insert(name.clone(), addressing);
}
