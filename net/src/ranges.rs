//! Address ranges as the kernel's interval sets hold them: sorted and disjoint.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;

use crate::family::{Family, bits};

/// The addresses from `first` to `last`, both included, of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Range {
    /// The lowest address.
    pub first: IpAddr,
    /// The highest address.
    pub last: IpAddr,
}

impl From<&IpNet> for Range {
    fn from(net: &IpNet) -> Self {
        Self { first: net.network(), last: net.broadcast() }
    }
}

impl Range {
    /// Whether every address of the other is one of this.
    pub fn covers(&self, other: &Self) -> bool {
        self.first <= other.first && other.last <= self.last
    }
}

/// The fewest ranges of `family` that hold exactly the addresses of `nets`.
pub fn merge<'a>(family: Family, nets: impl IntoIterator<Item = &'a IpNet>) -> Vec<Range> {
    let of_family = nets.into_iter().filter(|n| Family::of_net(n) == family).map(Range::from);
    join(of_family.collect(), 1)
}

/// The same addresses in ranges that do not overlap. Adjacent ones stay apart, so that each comes and goes by itself.
pub fn disjoint(ranges: Vec<Range>) -> Vec<Range> {
    join(ranges, 0)
}

/// The fewest ranges that hold the addresses of these, which are of one family.
pub fn unite(ranges: Vec<Range>) -> Vec<Range> {
    join(ranges, 1)
}

/// Joins ranges of one family whose borders are at most `gap` apart.
fn join(mut ranges: Vec<Range>, gap: u128) -> Vec<Range> {
    ranges.sort_unstable();
    let mut merged: Vec<Range> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last_mut() {
            Some(before) if bits(range.first) <= bits(before.last).saturating_add(gap) => {
                before.last = before.last.max(range.last);
            }
            _ => merged.push(range),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(list: &[&str]) -> Vec<IpNet> {
        list.iter().map(|n| n.parse().unwrap()).collect()
    }

    #[test]
    fn overlapping_and_adjacent_ranges_become_one() {
        let merged =
            merge(Family::V4, &nets(&["10.0.2.0/24", "10.0.1.0/24", "10.0.1.128/25", "10.9.0.0/16", "fd00::/8"]));
        let shown: Vec<String> = merged.iter().map(|r| format!("{}-{}", r.first, r.last)).collect();
        assert_eq!(shown, ["10.0.1.0-10.0.2.255", "10.9.0.0-10.9.255.255"]);
    }

    #[test]
    fn adjacent_ranges_stay_apart_where_they_are_only_to_be_disjoint() {
        let list = nets(&["10.0.2.0/24", "10.0.1.0/24", "10.0.1.128/25"]);
        let shown: Vec<String> = disjoint(list.iter().map(Range::from).collect())
            .iter()
            .map(|r| format!("{}-{}", r.first, r.last))
            .collect();
        assert_eq!(shown, ["10.0.1.0-10.0.1.255", "10.0.2.0-10.0.2.255"]);
    }

    #[test]
    fn the_end_of_the_address_space_does_not_overflow() {
        let merged = merge(Family::V6, &nets(&["::/0", "ffff::/16"]));
        assert_eq!(merged, [Range::from(&Family::V6.everything())]);
    }
}
