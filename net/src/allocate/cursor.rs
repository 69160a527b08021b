//! Finding the lowest free block of a range.

use ipnet::IpNet;

use crate::family::{Family, bits};
use crate::intent::{Range, Taken};

/// The lowest place of a range where a free block may be; it only moves up, as nothing is freed while allocating.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    range: &'a Range,
    family: Family,
    at: Option<u128>,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(range: &'a Range) -> Self {
        Self { range, family: Family::of_net(&range.cidr), at: Some(bits(range.cidr.network())) }
    }

    /// The lowest free block that is of use, without taking it.
    pub(super) fn free(&mut self, taken: &Taken, is_useful: impl Fn(&IpNet) -> bool) -> Option<IpNet> {
        let span = u128::MAX >> (128 - u32::from(self.family.bits()) + u32::from(self.range.node_mask));
        let end = bits(self.range.cidr.broadcast());
        loop {
            let first = self.at.filter(|first| *first <= end)?;
            let occupied = taken.end_of_overlap(self.family, first, first | span);
            let block = IpNet::new(self.family.address(first), self.range.node_mask).ok();
            if let Some(block) = block.filter(|block| occupied.is_none() && is_useful(block)) {
                return Some(block);
            }
            self.at = (occupied.unwrap_or(first) | span).checked_add(1);
        }
    }
}
