//! What tables and sets have in common with others.

use std::collections::BTreeSet;

use super::{Element, FieldType, Home, Set, Table};
use crate::family::Family;
use crate::ranges::Range;

impl Table {
    /// Whether there is anything in one of the two.
    pub fn has(&self, home: Home) -> bool {
        self.sets.keys().chain(self.chains.keys()).any(|name| Home::of(name) == home)
    }

    /// Whether both have the same sets (apart from what these hold), chains and rules.
    pub fn same_structure(&self, other: &Self) -> bool {
        self.flags == other.flags
            && self.chains == other.chains
            && self.sets.len() == other.sets.len()
            && self.sets.iter().all(|(name, set)| other.sets.get(name).is_some_and(|seen| set.same_type(seen)))
    }
}

impl Set {
    /// An empty set or map.
    pub fn new(key: &[FieldType], data: &[FieldType]) -> Self {
        Self { key: key.to_vec(), data: data.to_vec(), interval: false, elements: BTreeSet::new() }
    }

    /// A set of address ranges of one family.
    pub fn of_ranges(family: Family, ranges: Vec<Range>) -> Self {
        Self {
            key: vec![FieldType::Address(family)],
            data: Vec::new(),
            interval: true,
            elements: ranges.into_iter().map(Element::Range).collect(),
        }
    }

    /// Whether both take the same elements.
    pub fn same_type(&self, other: &Self) -> bool {
        self.key == other.key && self.data == other.data && self.interval == other.interval
    }
}
