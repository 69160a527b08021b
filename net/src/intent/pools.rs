//! Pools: ranges that are cut into blocks, and which nodes get blocks of them.

use std::collections::BTreeMap;

use ipnet::IpNet;
use serde::Serialize;

use super::Range;
use crate::family::Family;
use crate::state::Attachment;
use crate::usage::capacity;

/// The most pools of a network.
pub const MOST_POOLS: usize = 32;

/// The most entries of a pool's list of reserved addresses.
pub const MOST_RESERVED: usize = 16;

/// How long a block has no pod before it goes back, in seconds, where nothing is said: pods that come in waves, as
/// those of jobs do, find their block again.
pub const DEFAULT_GRACE: u32 = 600;

/// The longest such time that can be asked for, in seconds: a week.
pub const LONGEST_GRACE: u32 = 7 * 24 * 3600;

/// A range that is cut into blocks, of which nodes get as many as they need.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BlockPool {
    /// By which people know it.
    pub name: String,
    /// The range, and how it is cut.
    pub range: Range,
    /// Which nodes get blocks of it.
    pub selector: Selector,
    /// Addresses that a pod only gets by asking for them.
    pub reserved: Vec<IpNet>,
    /// Whether its blocks are to come back, and none is given.
    pub disabled: bool,
}

impl BlockPool {
    /// The family of its addresses.
    pub const fn family(&self) -> Family {
        Family::of_net(&self.range.cidr)
    }

    /// Whether `block` is one of those that the pool is cut into.
    pub fn cuts(&self, block: &IpNet) -> bool {
        self.range.node_mask == block.prefix_len() && self.range.cidr.contains(block)
    }

    /// Whether a node with these labels may be given blocks of it.
    pub fn serves(&self, labels: &BTreeMap<String, String>) -> bool {
        !self.disabled && self.selector.selects(labels)
    }

    /// How many pods find an address in `block` without asking for one, however its node attaches them.
    pub fn room(&self, block: &IpNet) -> u64 {
        capacity(block, Attachment::Routed, &self.reserved)
    }

    /// The reserved addresses that lie in `block`.
    pub fn reserved_in(&self, block: IpNet) -> impl Iterator<Item = IpNet> {
        let within = self.reserved.iter().filter(move |reserved| super::overlap(reserved, &block));
        within.map(move |reserved| if reserved.contains(&block) { block } else { *reserved })
    }
}

/// Which nodes are meant, by their labels: all of the conditions hold, as in
/// `metav1.LabelSelector`. The one without any condition selects every node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Selector {
    /// Labels and the value that each must have.
    pub labels: BTreeMap<String, String>,
    /// Other conditions.
    pub expressions: Vec<Requirement>,
}

/// A condition on one label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Requirement {
    /// The label.
    pub key: String,
    /// How it is judged.
    pub operator: Operator,
    /// Against what.
    pub values: Vec<String>,
}

/// How a label is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Operator {
    /// It is there, with one of the values.
    In,
    /// It is not there, or with none of the values.
    NotIn,
    /// It is there.
    Exists,
    /// It is not there.
    DoesNotExist,
}

impl Selector {
    /// Whether a node with these labels is meant.
    pub fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        self.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.expressions.iter().all(|requirement| requirement.holds(labels))
    }
}

impl Requirement {
    fn holds(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.key);
        let listed = value.is_some_and(|value| self.values.contains(value));
        match self.operator {
            Operator::In => listed,
            Operator::NotIn => !listed,
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }

    /// Whether it has as many values as its operator can make use of.
    pub fn is_sound(&self) -> bool {
        match self.operator {
            Operator::In | Operator::NotIn => !self.values.is_empty(),
            Operator::Exists | Operator::DoesNotExist => self.values.is_empty(),
        }
    }
}

/// Whether Kubernetes would take a text as the key of a label: a name of 63 characters at most, maybe after a DNS
/// name of 253 and a slash.
pub fn is_label_key(text: &str) -> bool {
    let (prefix, name) = text.split_once('/').map_or((None, text), |(prefix, name)| (Some(prefix), name));
    let is_domain = |prefix: &str| (1..=253).contains(&prefix.len()) && prefix.split('.').all(is_dns_label);
    !name.is_empty() && is_label_value(name) && prefix.is_none_or(is_domain)
}

/// Whether Kubernetes would take a text as the value of a label.
pub fn is_label_value(text: &str) -> bool {
    let bytes = text.as_bytes();
    let ends = [bytes.first(), bytes.last()].into_iter().flatten().all(u8::is_ascii_alphanumeric);
    bytes.len() <= 63 && ends && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))
}

/// Whether a text is a DNS label (RFC 1123, section 2.1) in small letters.
pub fn is_dns_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    let inner = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
    (1..=63).contains(&bytes.len()) && bytes.iter().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

/// A time as users write it, as in `10m` or `1h30m`, in seconds; nothing where it is none, or shorter than a second,
/// or longer than [`LONGEST_GRACE`].
pub fn seconds(text: &str) -> Option<u32> {
    period(text).filter(|seconds| (1..=LONGEST_GRACE).contains(seconds))
}

/// Any such time, in seconds.
pub(super) fn period(text: &str) -> Option<u32> {
    let mut rest = text;
    let mut sum = 0_u32;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).filter(|end| (1..=6).contains(end))?;
        let (number, after) = rest.split_at_checked(digits)?;
        let unit = match after.as_bytes().first()? {
            b'h' => 3600,
            b'm' => 60,
            b's' => 1,
            _ => return None,
        };
        sum = number.parse::<u32>().ok()?.checked_mul(unit)?.checked_add(sum)?;
        rest = after.get(1..)?;
    }
    (!text.is_empty()).then_some(sum)
}
