//! How full the blocks of a node are.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use crate::family::{Family, bits};
use crate::pick;
use crate::ranges::merge;
use crate::state::{Addressing, Attachment};

/// How full a block is. Counts are of addresses, and end at the largest number that fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockUsage {
    /// The block.
    pub cidr: IpNet,
    /// How many addresses pods may be given without asking for them.
    pub capacity: u64,
    /// How many addresses pods have, those included that they had to ask for.
    pub used: u64,
    /// How many addresses would be given now: none of a block that is drained.
    pub free: u64,
    /// How many freed addresses may not be given yet.
    pub resting: u64,
    /// Whether no new address of it is given.
    pub draining: bool,
    /// How long ago one of its addresses was freed last, as far as that is remembered.
    pub last_used: Option<Duration>,
}

/// An address that was freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freed {
    /// The address.
    pub address: IpAddr,
    /// How long ago.
    pub age: Duration,
    /// Whether it may not be given yet.
    pub resting: bool,
}

/// How full each block is where new pods are attached by `mode`, given the addresses that pods have and those that were
/// freed.
pub fn usage(
    blocks: &[IpNet],
    mode: Attachment,
    addressing: &Addressing,
    taken: &[IpAddr],
    freed: &[Freed],
) -> Vec<BlockUsage> {
    blocks.iter().map(|block| usage_of(block, mode, addressing, taken, freed)).collect()
}

fn usage_of(block: &IpNet, mode: Attachment, addressing: &Addressing, taken: &[IpAddr], freed: &[Freed]) -> BlockUsage {
    let is_plain = |address: &IpAddr| !addressing.reserved.iter().any(|reserved| reserved.contains(address));
    let inside = || taken.iter().filter(|address| block.contains(*address));
    let gone = || freed.iter().filter(|freed| block.contains(&freed.address));
    let resting = gone().filter(|freed| freed.resting && is_plain(&freed.address)).count();
    let occupied = inside().filter(|address| is_plain(address)).count().saturating_add(resting);
    let draining = addressing.draining.contains(block);
    let capacity = capacity(block, mode, &addressing.reserved);
    let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    BlockUsage {
        cidr: *block,
        capacity,
        used: count(inside().count()),
        free: if draining { 0 } else { capacity.saturating_sub(count(occupied)) },
        resting: count(resting),
        draining,
        last_used: gone().map(|freed| freed.age).min(),
    }
}

/// How many addresses of a block pods that are attached by `mode` may be given without asking for them.
pub(crate) fn capacity(block: &IpNet, mode: Attachment, reserved: &[IpNet]) -> u64 {
    let Some((first, last)) = pick::usable(block, mode) else { return 0 };
    let within = |low: u128, high: u128| if low <= high { (high - low).saturating_add(1) } else { 0 };
    let reserved = merge(Family::of_net(block), reserved).into_iter().map(|range| {
        let (from, to) = (bits(range.first), bits(range.last));
        within(from.max(first), to.min(last))
    });
    let left = within(first, last).saturating_sub(reserved.sum());
    u64::try_from(left).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(list: &[&str]) -> Vec<IpNet> {
        list.iter().map(|net| net.parse().unwrap()).collect()
    }

    fn ips(list: &[&str]) -> Vec<IpAddr> {
        list.iter().map(|ip| ip.parse().unwrap()).collect()
    }

    #[test]
    fn a_block_has_fewer_addresses_for_pods_than_its_size() {
        let capacity =
            |block: &str, reserved: &[&str]| capacity(&block.parse().unwrap(), Attachment::Routed, &nets(reserved));
        assert_eq!(capacity("10.244.1.0/24", &[]), 253);
        assert_eq!(capacity("10.244.1.0/31", &[]), 0);
        assert_eq!(capacity("fd00::/122", &[]), 62);
        assert_eq!(capacity("fd00::/64", &[]), u64::MAX - 1);
        assert_eq!(capacity("::/0", &[]), u64::MAX);
        assert_eq!(capacity("10.244.1.0/24", &["10.244.1.0/28", "10.244.1.8/29", "10.9.0.0/16"]), 239);
        assert_eq!(capacity("10.244.1.0/24", &["10.0.0.0/8"]), 0);
    }

    #[test]
    fn a_gateway_outside_of_the_block_leaves_room_for_one_more() {
        let capacity = |block: &str, mode| capacity(&block.parse().unwrap(), mode, &[]);
        for (block, plain) in [("10.244.205.192/26", 61), ("fd00::/122", 62)] {
            assert_eq!(capacity(block, Attachment::Bridge), plain);
            assert_eq!(capacity(block, Attachment::LinkLocal), plain + 1);
        }
    }

    #[test]
    fn what_is_taken_rests_or_drains_is_not_free() {
        let blocks = nets(&["10.244.1.0/29", "10.244.2.0/29", "fd00::/64"]);
        let addressing = Addressing {
            draining: nets(&["10.244.2.0/29"]),
            reserved: nets(&["10.244.1.2/32"]),
            ..Addressing::default()
        };
        let freed = |address: &str, seconds, resting| Freed {
            address: address.parse().unwrap(),
            age: Duration::from_secs(seconds),
            resting,
        };
        let freed = [freed("10.244.1.5", 3, true), freed("10.244.2.3", 900, false), freed("10.244.2.4", 950, false)];
        let all =
            usage(&blocks, Attachment::Routed, &addressing, &ips(&["10.244.1.2", "10.244.1.3", "10.244.2.2"]), &freed);
        let shown: Vec<_> = all.iter().map(|u| (u.capacity.min(99), u.used, u.free.min(99), u.resting)).collect();
        assert_eq!(shown, [(4, 2, 2, 1), (5, 1, 0, 0), (99, 0, 99, 0)]);
        let last: Vec<_> = all.iter().map(|u| u.last_used.map(|age| age.as_secs())).collect();
        assert_eq!(last, [Some(3), Some(900), None]);
    }
}
