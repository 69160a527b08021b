//! Which address a pod gets: the one after the last that was given, so that addresses are reused as late as possible.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::family::{Family, bits};
use crate::ranges::{Range, merge};

/// The gateway of a block: its first address after the network's own.
pub fn gateway(block: &IpNet) -> IpAddr {
    Family::of_net(block).address(bits(block.network()).saturating_add(1))
}

/// What an address of a block is for, where it is for no pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The network's own address (IPv6: the subnet-router anycast address, RFC 4291 section 2.6.1).
    Network,
    /// The node's end of every pair.
    Gateway,
    /// The broadcast address, which only IPv4 has.
    Broadcast,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Network => "network address",
            Self::Gateway => "gateway",
            Self::Broadcast => "broadcast address",
        })
    }
}

/// What an address of a block is for; nothing where a pod may have it.
pub fn role(block: &IpNet, address: IpAddr) -> Option<Role> {
    if address == block.network() {
        Some(Role::Network)
    } else if address == gateway(block) {
        Some(Role::Gateway)
    } else if address == block.broadcast() && Family::of(address) == Family::V4 {
        Some(Role::Broadcast)
    } else {
        None
    }
}

/// The addresses of a block that pods may have, as the first and the last; nothing where the block is too small.
pub(crate) fn usable(block: &IpNet) -> Option<(u128, u128)> {
    let broadcast = u128::from(Family::of_net(block) == Family::V4);
    let first = bits(block.network()).checked_add(2)?;
    let last = bits(block.broadcast()).checked_sub(broadcast)?;
    (first <= last).then_some((first, last))
}

/// The first free address after `last`, through the blocks in their order and, behind their end, from the beginning
/// again; nothing where all are taken.
///
/// All blocks are of one family. Addresses in `reserved` are passed over at once, however many they are.
pub fn next(
    blocks: &[IpNet],
    reserved: &[IpNet],
    last: Option<IpAddr>,
    mut is_taken: impl FnMut(IpAddr) -> bool,
) -> Option<IpAddr> {
    let family = Family::of_net(blocks.first()?);
    let reserved = merge(family, reserved);
    let mut free = |(first, end)| first_free(family, first, end, &reserved, &mut is_taken);
    let at = last.and_then(|last| blocks.iter().position(|block| block.contains(&last)).map(|at| (at, bits(last))));
    let Some((at, last)) = at else {
        return blocks.iter().filter_map(usable).find_map(free);
    };
    let (before, rest) = blocks.split_at(at);
    let (current, behind) = rest.split_first()?;
    let current = usable(current);
    let upper = current.and_then(|(first, end)| Some((last.checked_add(1)?.max(first), end)));
    let lower = current.map(|(first, end)| (first, end.min(last)));
    let round = upper.into_iter().chain(behind.iter().filter_map(usable)).chain(before.iter().filter_map(usable));
    round.chain(lower).find_map(&mut free)
}

fn first_free(
    family: Family,
    first: u128,
    end: u128,
    reserved: &[Range],
    is_taken: &mut impl FnMut(IpAddr) -> bool,
) -> Option<IpAddr> {
    let mut at = first;
    while at <= end {
        let address = family.address(at);
        let passed = match reserved.iter().find(|range| (range.first..=range.last).contains(&address)) {
            Some(range) => bits(range.last),
            None if is_taken(address) => at,
            None => return Some(address),
        };
        at = passed.checked_add(1)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn nets(list: &[&str]) -> Vec<IpNet> {
        list.iter().map(|net| net.parse().unwrap()).collect()
    }

    fn pick_of(blocks: &[&str], reserved: &[&str], last: Option<&str>, taken: &[&str]) -> Option<IpAddr> {
        let taken: Vec<IpAddr> = taken.iter().map(|t| ip(t)).collect();
        next(&nets(blocks), &nets(reserved), last.map(ip), |address| taken.contains(&address))
    }

    fn pick(block: &str, last: Option<&str>, taken: &[&str]) -> Option<IpAddr> {
        pick_of(&[block], &[], last, taken)
    }

    #[test]
    fn the_first_pod_gets_the_second_address_after_the_networks_own() {
        assert_eq!(pick("10.244.1.0/24", None, &[]), Some(ip("10.244.1.2")));
        assert_eq!(pick("fd00:1::/64", None, &[]), Some(ip("fd00:1::2")));
        assert_eq!(gateway(&"10.244.1.0/24".parse().unwrap()), ip("10.244.1.1"));
        assert_eq!(gateway(&"fd00:1::/64".parse().unwrap()), ip("fd00:1::1"));
    }

    #[test]
    fn an_address_just_freed_is_not_the_next_one() {
        assert_eq!(pick("10.244.1.0/24", Some("10.244.1.5"), &[]), Some(ip("10.244.1.6")));
        assert_eq!(pick("10.244.1.0/24", Some("10.244.1.5"), &["10.244.1.6", "10.244.1.7"]), Some(ip("10.244.1.8")));
    }

    #[test]
    fn behind_the_end_it_begins_anew_and_leaves_out_the_broadcast_address() {
        assert_eq!(pick("10.244.1.0/24", Some("10.244.1.254"), &[]), Some(ip("10.244.1.2")));
        assert_eq!(pick("fd00::/126", Some("fd00::2"), &[]), Some(ip("fd00::3")));
        assert_eq!(pick("fd00::/126", Some("fd00::3"), &[]), Some(ip("fd00::2")));
    }

    #[test]
    fn a_last_address_of_no_block_does_not_count() {
        assert_eq!(pick("10.244.1.0/24", Some("10.9.0.7"), &[]), Some(ip("10.244.1.2")));
        assert_eq!(pick("10.244.1.0/24", Some("fd00::7"), &[]), Some(ip("10.244.1.2")));
        assert_eq!(pick("10.244.1.0/24", Some("10.244.1.255"), &[]), Some(ip("10.244.1.2")));
        assert_eq!(pick("10.244.1.0/24", Some("10.244.1.0"), &[]), Some(ip("10.244.1.2")));
        assert_eq!(pick("ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffc/126", Some("::"), &[]).unwrap().to_string().len(), 39);
    }

    #[test]
    fn a_full_block_and_one_without_room_give_nothing() {
        assert_eq!(pick("10.244.1.0/30", None, &["10.244.1.2"]), None);
        assert_eq!(pick("10.244.1.0/31", None, &[]), None);
        assert_eq!(pick("fd00::/128", None, &[]), None);
        assert_eq!(pick("10.244.1.0/30", Some("10.244.1.2"), &[]), Some(ip("10.244.1.2")));
        assert_eq!(pick_of(&[], &[], None, &[]), None);
    }

    #[test]
    fn every_block_is_gone_through_before_an_address_is_given_again() {
        let blocks = ["10.244.9.0/29", "10.244.1.0/30", "10.244.2.0/31", "10.244.3.0/29"];
        let mut last: Option<String> = Some("10.244.9.4".to_owned());
        let mut given = Vec::new();
        for _ in 0..12 {
            let next = pick_of(&blocks, &[], last.as_deref(), &["10.244.3.4"]).unwrap().to_string();
            given.push(next.trim_start_matches("10.244.").to_owned());
            last = Some(next);
        }
        let round = ["9.5", "9.6", "1.2", "3.2", "3.3", "3.5", "3.6", "9.2", "9.3", "9.4", "9.5", "9.6"];
        assert_eq!(given, round);
        let all = ["10.244.9.2", "10.244.9.3", "10.244.9.4", "10.244.9.6", "10.244.1.2"];
        assert_eq!(pick_of(&blocks[..2], &[], Some("10.244.9.5"), &all), Some(ip("10.244.9.5")));
    }

    #[test]
    fn reserved_addresses_are_never_picked_and_passed_over_at_once() {
        let reserved = ["10.244.1.0/29", "10.244.1.12/32", "fd00::/65"];
        assert_eq!(pick_of(&["10.244.1.0/24"], &reserved, None, &[]), Some(ip("10.244.1.8")));
        assert_eq!(pick_of(&["10.244.1.0/24"], &reserved, Some("10.244.1.11"), &[]), Some(ip("10.244.1.13")));
        assert_eq!(pick_of(&["fd00::/64"], &reserved, None, &[]), Some(ip("fd00::8000:0:0:0")));
        assert_eq!(pick_of(&["fd00::/64"], &["::/0"], None, &[]), None);
    }

    #[test]
    fn what_is_for_no_pod_has_a_role() {
        let role = |block: &str, address| role(&block.parse().unwrap(), ip(address)).map(|role| role.to_string());
        assert_eq!(role("10.244.1.0/24", "10.244.1.0").as_deref(), Some("network address"));
        assert_eq!(role("10.244.1.0/24", "10.244.1.1").as_deref(), Some("gateway"));
        assert_eq!(role("10.244.1.0/24", "10.244.1.255").as_deref(), Some("broadcast address"));
        assert_eq!(role("10.244.1.0/24", "10.244.1.2"), None);
        assert_eq!(role("fd00::/126", "fd00::3"), None);
        assert_eq!(role("fd00::/126", "fd00::").as_deref(), Some("network address"));
    }
}
