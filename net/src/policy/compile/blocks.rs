//! `ipBlock`s as ranges of addresses.

use ipnet::IpNet;

use crate::family::{Family, bits};
use crate::policy::input::Block;
use crate::ranges::{Range, unite};

/// What is in any of the ranges: sorted, disjoint, not adjacent, of both families.
pub fn united(ranges: impl IntoIterator<Item = Range>) -> Vec<Range> {
    let all: Vec<Range> = ranges.into_iter().collect();
    let of = |family| all.iter().filter(|range| Family::of(range.first) == family).copied().collect();
    Family::ALL.into_iter().flat_map(|family| unite(of(family))).collect()
}

/// The addresses of a block: those of its CIDR but for those of its exceptions.
pub fn of_block(block: &Block) -> Vec<Range> {
    let family = Family::of_net(&block.cidr);
    let whole = Range::from(&block.cidr);
    let except = unite(block.except.iter().filter(|net| Family::of_net(net) == family).map(Range::from).collect());
    let (mut next, end) = (Some(bits(whole.first)), bits(whole.last));
    let mut left = Vec::with_capacity(except.len() + 1);
    for hole in except {
        let Some(start) = next.filter(|start| *start <= end) else { break };
        let (first, last) = (bits(hole.first), bits(hole.last));
        if last < start {
            continue;
        }
        if first > start {
            left.push((start, end.min(first - 1)));
        }
        next = last.checked_add(1);
    }
    if let Some(start) = next.filter(|start| *start <= end) {
        left.push((start, end));
    }
    left.into_iter().map(|(first, last)| Range { first: family.address(first), last: family.address(last) }).collect()
}

/// The addresses of a CIDR.
pub fn of_net(net: &IpNet) -> Range {
    Range::from(net)
}

/// Whether an address is in one of sorted disjoint ranges.
pub fn contain(ranges: &[Range], address: std::net::IpAddr) -> bool {
    let at = ranges.partition_point(|range| range.first <= address);
    at > 0 && address <= ranges[at - 1].last
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use proptest::prelude::*;

    use super::*;

    fn block(cidr: &str, except: &[&str]) -> Block {
        Block { cidr: cidr.parse().unwrap(), except: except.iter().map(|net| net.parse().unwrap()).collect() }
    }

    fn shown(block: &Block) -> Vec<String> {
        of_block(block).iter().map(|range| format!("{}-{}", range.first, range.last)).collect()
    }

    #[test]
    fn exceptions_may_overlap_touch_reach_outside_and_be_of_the_other_family() {
        let all = ["10.0.0.64/26", "10.0.0.64/27", "10.0.0.128/25", "10.0.1.0/24", "fd00::/8"];
        assert_eq!(shown(&block("10.0.0.0/24", &all)), ["10.0.0.0-10.0.0.63"]);
        assert_eq!(shown(&block("10.0.0.0/24", &["10.0.0.0/25"])), ["10.0.0.128-10.0.0.255"]);
        assert!(shown(&block("10.0.0.0/24", &["10.0.0.0/8"])).is_empty());
    }

    #[test]
    fn the_ends_of_the_address_space_do_not_overflow() {
        assert_eq!(shown(&block("0.0.0.0/0", &["255.255.255.255/32"])), ["0.0.0.0-255.255.255.254"]);
        assert!(shown(&block("::/0", &["::/1", "8000::/1"])).is_empty());
        assert_eq!(shown(&block("::/0", &["8000::/1"])), ["::-7fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"]);
        assert_eq!(shown(&block("::1/128", &[])), ["::1-::1"]);
    }

    proptest! {
        #[test]
        fn an_address_is_in_a_block_if_it_is_in_the_cidr_and_in_no_exception(
            cidr in (any::<u8>(), 24..=32_u8),
            except in proptest::collection::vec((any::<u8>(), 24..=32_u8), 0..5),
        ) {
            let net = |(last, length): (u8, u8)| {
                IpNet::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)), length).unwrap()
            };
            let block = Block { cidr: net(cidr), except: except.into_iter().map(net).collect() };
            let ranges = united(of_block(&block));
            for last in 0..=255 {
                let address = IpAddr::V4(Ipv4Addr::new(10, 0, 0, last));
                let is_in = block.cidr.contains(&address) && !block.except.iter().any(|net| net.contains(&address));
                prop_assert_eq!(contain(&ranges, address), is_in);
            }
        }
    }
}
