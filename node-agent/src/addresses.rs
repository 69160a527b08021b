//! How full a node's pod CIDRs are, and which of them it could do without.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use towpath_net::usage::BlockUsage;
use towpath_net::{Family, PerFamily};

/// The addresses of one family. CIDRs that drain are counted apart: nobody gets an address of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// How many CIDRs the node has.
    pub blocks: usize,
    /// How many addresses pods could have without asking for one.
    pub capacity: u64,
    /// How many addresses pods have.
    pub used: u64,
    /// How many could be given now.
    pub free: u64,
    /// How many addresses pods have of CIDRs that drain.
    pub draining: u64,
    /// How many pods wait for one, or did a moment ago and will again.
    pub wanted: u64,
}

/// The addresses of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// Of each family.
    pub counts: PerFamily<Count>,
    /// CIDRs that no pod has had an address of for a while.
    pub idle: Vec<IpNet>,
    /// CIDRs that drain and may go to another node.
    pub drained: Vec<IpNet>,
}

/// Remembers since when no pod has an address of a CIDR: at the latest since this agent started.
#[derive(Debug, Default)]
pub struct Tracker {
    empty: BTreeMap<IpNet, Instant>,
    wanted: PerFamily<Option<Wanted>>,
}

/// How many pods waited at most, and when that many last did.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    pods: u64,
    /// How many addresses pods had then: whoever got one since waits no more.
    used: u64,
    at: Instant,
}

/// For how long pods count that waited in vain: a runtime gives up after 20 seconds, and its kubelet tries again later.
const PERSISTENCE: Duration = Duration::from_secs(60);

impl Tracker {
    /// The addresses of a node at `now`, where `waiting` pods wait for one. A CIDR is idle once no pod had an address of
    /// it for `grace`, and never without it.
    pub fn look(
        &mut self,
        usages: &[BlockUsage],
        waiting: &PerFamily<u64>,
        grace: Option<Duration>,
        now: Instant,
    ) -> Addresses {
        let counts = PerFamily::from_fn(|family| {
            let count = count(usages, family);
            Count { wanted: self.wanted(family, *waiting.get(family), &count, now), ..count }
        });
        self.empty.retain(|cidr, _| usages.iter().any(|usage| usage.cidr == *cidr && is_empty(usage)));
        for usage in usages.iter().filter(|usage| is_empty(usage)) {
            self.empty.entry(usage.cidr).or_insert(now);
        }
        let since = |usage: &BlockUsage| self.empty.get(&usage.cidr).map(|since| now.duration_since(*since));
        let is_idle = |usage: &&BlockUsage| {
            grace.zip(since(usage)).is_some_and(|(grace, since)| since >= grace) && !usage.draining
        };
        Addresses { counts, idle: usages.iter().filter(is_idle).map(|usage| usage.cidr).collect(), drained: Vec::new() }
    }

    fn wanted(&mut self, family: Family, waiting: u64, count: &Count, now: Instant) -> u64 {
        let last = self.wanted.get_mut(family);
        let lasts = |last: &Wanted| count.free == 0 && now.duration_since(last.at) < PERSISTENCE;
        let left = last.filter(lasts).map_or(0, |last| last.pods.saturating_sub(count.used.saturating_sub(last.used)));
        if waiting >= left {
            *last = (waiting > 0).then_some(Wanted { pods: waiting, used: count.used, at: now });
        }
        waiting.max(left)
    }
}

/// An address that rests still belongs to a pod, as far as others can tell.
const fn is_empty(usage: &BlockUsage) -> bool {
    usage.used == 0 && usage.resting == 0
}

fn count(usages: &[BlockUsage], family: Family) -> Count {
    let of_family = || usages.iter().filter(|usage| Family::of_net(&usage.cidr) == family);
    let sum = |draining, number: fn(&BlockUsage) -> u64| {
        of_family().filter(|usage| usage.draining == draining).map(number).fold(0, u64::saturating_add)
    };
    Count {
        blocks: of_family().count(),
        capacity: sum(false, |usage| usage.capacity),
        used: sum(false, |usage| usage.used),
        free: sum(false, |usage| usage.free),
        draining: sum(true, |usage| usage.used),
        wanted: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(cidr: &str, used: u64, draining: bool) -> BlockUsage {
        let free = if draining { 0 } else { 61 - used };
        BlockUsage { cidr: cidr.parse().unwrap(), capacity: 61, used, free, resting: 0, draining, last_used: None }
    }

    #[test]
    fn a_cidr_is_idle_when_it_was_empty_for_the_grace_without_a_break() {
        let (mut tracker, start) = (Tracker::default(), Instant::now());
        let mut idle = |second: u64, used: u64| {
            let usages = [usage("10.0.0.0/26", used, false), usage("10.0.0.64/26", 1, false)];
            let now = start + Duration::from_secs(second);
            tracker.look(&usages, &PerFamily::default(), Some(Duration::from_secs(60)), now).idle.len()
        };
        assert_eq!([idle(0, 0), idle(59, 0), idle(60, 0)], [0, 0, 1]);
        assert_eq!([idle(61, 1), idle(62, 0), idle(121, 0), idle(122, 0)], [0, 0, 0, 1]);
    }

    #[test]
    fn without_a_grace_and_while_it_drains_no_cidr_is_idle() {
        let (mut tracker, start) = (Tracker::default(), Instant::now());
        let mut idle = |draining, grace, now| {
            tracker.look(&[usage("10.0.0.0/26", 0, draining)], &PerFamily::default(), grace, now).idle.len()
        };
        let later = start + Duration::from_secs(3600);
        assert_eq!(idle(false, None, start), 0);
        assert_eq!([idle(false, None, later), idle(true, Some(Duration::ZERO), later)], [0, 0]);
    }

    #[test]
    fn pods_that_waited_in_vain_count_until_they_are_served_or_nobody_has_tried_for_a_while() {
        let (mut tracker, start) = (Tracker::default(), Instant::now());
        let mut wanted = |second: u64, waiting: u64, used: u64| {
            let waiting = PerFamily { v4: waiting, v6: 0 };
            let now = start + Duration::from_secs(second);
            tracker.look(&[usage("10.0.0.0/26", used, false)], &waiting, None, now).counts.v4.wanted
        };
        assert_eq!([wanted(0, 7, 61), wanted(20, 0, 61), wanted(30, 3, 61), wanted(59, 0, 61)], [7; 4]);
        assert_eq!([wanted(61, 3, 61), wanted(62, 0, 60), wanted(63, 0, 61)], [3, 0, 0]);
        assert_eq!([wanted(70, 3, 58), wanted(71, 0, 61), wanted(72, 2, 61)], [3, 0, 2]);
        assert_eq!([wanted(131, 0, 61), wanted(133, 0, 61)], [2, 0]);
    }

    #[test]
    fn what_drains_counts_as_a_cidr_and_not_as_addresses() {
        let usages = [usage("10.0.0.0/26", 12, false), usage("10.0.0.64/26", 3, true), usage("fd00::/122", 2, false)];
        let waiting = PerFamily { v4: 5, v6: 0 };
        let counts = Tracker::default().look(&usages, &waiting, None, Instant::now()).counts;
        assert_eq!(counts.v4, Count { blocks: 2, capacity: 61, used: 12, free: 49, draining: 3, wanted: 5 });
        assert_eq!(counts.v6, Count { blocks: 1, capacity: 61, used: 2, free: 59, draining: 0, wanted: 0 });
    }
}
