//! What is said about ranges and pools. Pure; client: no.

use std::collections::BTreeSet;

use ipnet::IpNet;
use kube::ResourceExt;
use towpath_crds::{NodeNetwork, PoolStatus};
use towpath_net::intent::{Intent, Ipam, Range, abridge};

use crate::cache::Seen;

/// The longest text of ranges, in bytes.
const LONGEST: usize = 256;

/// The most pools that were taken out and are still told of.
const MOST_GONE: usize = 32;

/// The ranges in one text, and what became of each pool.
pub(super) fn ranges(intent: &Intent, before: &[PoolStatus], seen: &Seen) -> (Option<String>, Vec<PoolStatus>) {
    let pools = pools(intent, before, seen);
    let mut ranges = intent.pod_ranges();
    for pool in &pools {
        ranges.extend(pool.cidr.parse::<IpNet>().ok().filter(|cidr| !ranges.contains(cidr)));
    }
    (Some(abridge(&ranges, LONGEST)).filter(|text| !text.is_empty()), pools)
}

/// One pool's blocks, as they are counted.
struct Tally {
    name: String,
    range: Range,
    blocks: u32,
    nodes: BTreeSet<String>,
    draining: usize,
}

/// The declared pools; then those that were there before, and have blocks yet.
fn pools(intent: &Intent, before: &[PoolStatus], seen: &Seen) -> Vec<PoolStatus> {
    let Ipam::Pools { pools, .. } = &intent.ipam else { return Vec::new() };
    let tally = |name: &str, range: Range| Tally {
        name: name.to_owned(),
        range,
        blocks: 0,
        nodes: BTreeSet::new(),
        draining: 0,
    };
    let mut tallies: Vec<Tally> = pools.iter().map(|pool| tally(&pool.name, pool.range.clone())).collect();
    let gone = before.iter().filter_map(|pool| Some(tally(&pool.name, range(pool)?)));
    let is_declared = |gone: &Tally| pools.iter().any(|p| p.name == gone.name && p.range == gone.range);
    tallies.extend(gone.filter(|gone| !is_declared(gone)));
    for network in &seen.node_networks {
        count(&mut tallies, network);
    }
    let (declared, gone) = tallies.split_at(pools.len());
    let gone = gone.iter().filter(|tally| tally.blocks > 0).take(MOST_GONE);
    declared.iter().chain(gone).map(said).collect()
}

fn count(tallies: &mut [Tally], network: &NodeNetwork) {
    let addressing = network.spec.addressing.as_ref();
    let drains = |text: &String| addressing.and_then(|a| a.draining.as_ref()).is_some_and(|list| list.contains(text));
    for text in &network.spec.pod_cidrs {
        let Ok(block) = text.parse::<IpNet>() else { continue };
        let of = |tally: &&mut Tally| tally.range.cidr.contains(&block) && tally.range.node_mask == block.prefix_len();
        if let Some(tally) = tallies.iter_mut().find(of) {
            tally.blocks += 1;
            tally.nodes.insert(network.name_any());
            tally.draining += usize::from(drains(text));
        }
    }
}

fn said(tally: &Tally) -> PoolStatus {
    let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    PoolStatus {
        name: tally.name.clone(),
        cidr: tally.range.cidr.to_string(),
        blocks: format!("{}/{}", tally.blocks, tally.range.blocks()),
        nodes: number(tally.nodes.len()),
        draining: number(tally.draining),
    }
}

/// The range of a pool as it was told of: the number of its blocks says how it is cut.
fn range(pool: &PoolStatus) -> Option<Range> {
    let cidr: IpNet = pool.cidr.parse().ok()?;
    let (_, blocks) = pool.blocks.split_once('/')?;
    let bits = blocks.parse::<u32>().ok().filter(|blocks| blocks.is_power_of_two())?.ilog2();
    Some(Range { cidr, node_mask: cidr.prefix_len().checked_add(u8::try_from(bits).ok()?)? })
}
