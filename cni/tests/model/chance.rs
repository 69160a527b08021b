//! Chance that can be had again: a seed gives the same choices each time.

use std::env;

/// Choices from a seed (`SplitMix64`).
pub struct Chance(u64);

impl Chance {
    /// Of the seed in `TOWPATH_SEED`, or of one that no other run has; it is printed.
    pub fn begin(operations: usize) -> (Self, usize) {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let number = |name: &str| env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
        let seed = number("TOWPATH_SEED").unwrap_or(u64::from(now.subsec_nanos()));
        let operations = number("TOWPATH_OPERATIONS").map_or(operations, |number| number.try_into().unwrap());
        println!("again by: TOWPATH_SEED={seed} TOWPATH_OPERATIONS={operations}");
        (Self(seed), operations)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end).unwrap()).unwrap()
    }

    /// One of a list; nothing of an empty one.
    pub fn one<'a, T>(&mut self, list: &'a [T]) -> Option<&'a T> {
        if list.is_empty() { None } else { list.get(self.below(list.len())) }
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}
