//! Networks of pods of other nodes, each by itself.
//!
//! They are single keys, in a set for each length: when a range comes or goes the kernel puts all ranges of its set in order
//! anew (`nft_rbtree_commit`), which takes longer than all else that one more node takes.

use std::collections::{BTreeMap, BTreeSet};

use crate::family::{Family, PerFamily};
use crate::nft::build::{RuleBuilder, Side};
use crate::nft::{Element, FieldType, Set, Value};
use crate::ranges::Range;
use crate::state::{NodeName, Peer};

/// How the names of the sets begin.
const NAME: PerFamily<&str> = PerFamily { v4: "cluster-v4", v6: "cluster-v6" };

/// What networks have in common that are in one set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Length {
    family: Family,
    bits: u8,
}

impl Length {
    fn name(self) -> String {
        format!("{}-{}", NAME.get(self.family), self.bits)
    }
}

/// The networks of peers, but for those that lie in a range that is `known`.
#[derive(Debug)]
pub(super) struct Networks(BTreeMap<Length, BTreeSet<Element>>);

impl Networks {
    /// The ranges known of a family are in order, and do not overlap.
    pub fn of(peers: &BTreeMap<NodeName, Peer>, known: &PerFamily<Vec<Range>>) -> Self {
        let mut networks: BTreeMap<Length, Vec<Element>> = BTreeMap::new();
        for cidr in peers.values().flat_map(|peer| &peer.pod_cidrs) {
            let family = Family::of_net(cidr);
            if !is_covered(known.get(family), &Range::from(cidr)) {
                let length = Length { family, bits: cidr.prefix_len() };
                let key = vec![Value::Address(cidr.network())];
                networks.entry(length).or_default().push(Element::Key { key, data: Vec::new() });
            }
        }
        Self(networks.into_iter().map(|(length, elements)| (length, elements.into_iter().collect())).collect())
    }

    /// Their lengths.
    pub fn lengths(&self) -> Vec<Length> {
        self.0.keys().copied().collect()
    }

    /// The sets, by their names.
    pub fn sets(self) -> impl Iterator<Item = (String, Set)> {
        self.0.into_iter().map(|(length, elements)| {
            (length.name(), Set { elements, ..Set::new(&[FieldType::Address(length.family)], &[]) })
        })
    }
}

/// Whether a range lies in one of those that are known, which are in order and do not overlap.
pub(super) fn is_covered(known: &[Range], range: &Range) -> bool {
    let after = known.partition_point(|one| one.first <= range.first);
    after.checked_sub(1).and_then(|at| known.get(at)).is_some_and(|one| one.covers(range))
}

/// Only packets of a family to no such network.
pub(super) fn outside(mut rule: RuleBuilder, family: Family, lengths: &[Length]) -> RuleBuilder {
    for length in lengths.iter().filter(|length| length.family == family) {
        rule = rule.network_in(Side::Destination, length.bits, &length.name(), true);
    }
    rule
}
