//! What the kernel has, read as it is told: nothing is kept but what is asked for.

use std::collections::BTreeMap;
use std::net::IpAddr;

use towpath_net::Family;
use towpath_net::nft::{Base, Expr, Rule};
use towpath_net::policy::chains::Verdict;
use towpath_net::policy::objects::{TABLE, Way, denied, pods_map};
use towpath_net::policy::skeleton::Shape;

use super::encode::{Key, flags};
use super::{Error, PolicyTable};
use crate::netlink::attributes::Attributes;
use crate::netlink::{self, Content, Message, Operation};
use crate::nft::encode::{length, type_number};
use crate::nft::numbers::{self as n, message};
use crate::nft::{decode, request};

/// What an element of a map leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leads {
    /// Nowhere: it is in a set.
    Nowhere,
    /// Back behind the last jump.
    Back,
    /// To the chain of this name.
    To(String),
    /// To something that is not ours.
    Elsewhere,
}

/// An element as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its key; [`Key::REST`] where it has none.
    pub key: Key,
    /// What it maps to.
    pub leads: Leads,
    /// Whether it ends a range.
    pub is_end: bool,
    /// How many packets were found in it.
    pub packets: u64,
}

/// What the kernel says of a set, but for its elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundSet {
    /// `NFTA_SET_FLAGS`.
    pub flags: u32,
    /// `NFTA_SET_KEY_TYPE`, and `NFTA_SET_KEY_LEN`.
    pub key: (u32, u32),
    /// Whether elements count.
    pub counts: bool,
}

/// How many packets that began something were looked at for a pod, and how many of them were ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Packets of the pod.
    pub egress: u64,
    /// Those of them that were ended.
    pub denied_egress: u64,
    /// Packets to the pod.
    pub ingress: u64,
    /// Those of them that were ended.
    pub denied_ingress: u64,
}

/// How many packets a rule of a `ClusterNetworkPolicy` decided about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleCount {
    /// The policy, as much of its name as the rule says.
    pub policy: String,
    /// Whether it let them through.
    pub passes: bool,
    /// How many there were.
    pub packets: u64,
}

impl PolicyTable {
    /// What was counted by rules of a chain, since the chain was made; nothing where there is no such chain.
    pub fn rule_counts(&mut self, chain: &str) -> Result<Vec<RuleCount>, Error> {
        let mut counts = Vec::new();
        self.dump(
            (TABLE, message::GET_RULE),
            || format!("rules of {chain}"),
            |a| _ = a.put_text(2, chain),
            |content| {
                let expressions = || content.nested(4).into_iter().flat_map(Content::iter);
                let counter = expressions().find_map(|one| packets_of(one.content()));
                if let (Some(packets), Some((of, rule))) = (counter, decode::rule(content))
                    && of == chain
                {
                    // Behind a colon stands whom it is for.
                    let policy = rule.comment.split(": ").next().unwrap_or_default().to_owned();
                    counts.push(RuleCount { policy, passes: rule.exprs.last() == Some(&Expr::Return), packets });
                }
            },
        )?;
        Ok(counts)
    }

    /// What was counted for each known address since it became known.
    pub fn counts(&mut self) -> Result<BTreeMap<IpAddr, Count>, Error> {
        let mut counts: BTreeMap<IpAddr, Count> = BTreeMap::new();
        for family in Family::ALL {
            for way in Way::ALL {
                for (is_denied, set) in [(false, pods_map(way, family)), (true, denied(way, family))] {
                    self.each_element(set, |found| {
                        let Some(address) = address(&found.key) else { return };
                        let count = counts.entry(address).or_default();
                        *match (way, is_denied) {
                            (Way::Egress, false) => &mut count.egress,
                            (Way::Egress, true) => &mut count.denied_egress,
                            (Way::Ingress, false) => &mut count.ingress,
                            (Way::Ingress, true) => &mut count.denied_ingress,
                        } = found.packets;
                    })?;
                }
            }
        }
        Ok(counts)
    }

    /// Tells of each element of a set.
    pub(super) fn each_element(&mut self, set: &str, mut tell: impl FnMut(Found)) -> Result<(), Error> {
        self.dump(
            (TABLE, message::GET_ELEMENT),
            || format!("set {set}"),
            |a| _ = a.put_text(2, set),
            |content| {
                let elements = content.nested(3).into_iter().flat_map(Content::iter);
                elements.for_each(|element| tell(found(element.content())));
            },
        )
    }

    /// Tells of each set by name.
    pub(super) fn each_set(&mut self, mut tell: impl FnMut(String, FoundSet)) -> Result<(), Error> {
        self.dump(
            (TABLE, message::GET_SET),
            || "sets".to_owned(),
            |_| {},
            |content| {
                let number = |kind| content.number_be(kind).unwrap_or_default();
                let set = FoundSet { flags: number(3), key: (number(4), number(5)), counts: content.get(17).is_some() };
                tell(content.text(2).unwrap_or_default(), set);
            },
        )
    }

    /// Tells of each chain by name; whether it is a base chain, and which one where it is one of a kind that is ours.
    pub(super) fn each_chain(
        &mut self,
        table: &str,
        mut tell: impl FnMut(String, bool, Option<Base>),
    ) -> Result<(), Error> {
        self.dump(
            (table, message::GET_CHAIN),
            || "chains".to_owned(),
            |_| {},
            |content| {
                let is_base = content.get(4).is_some();
                if let Some((name, chain)) = decode::chain(content) {
                    tell(name, is_base, chain.base);
                }
            },
        )
    }

    /// Tells of each rule, in the order of its chain.
    pub(super) fn each_rule(&mut self, table: &str, mut tell: impl FnMut(&str, &Rule)) -> Result<(), Error> {
        self.dump(
            (table, message::GET_RULE),
            || "rules".to_owned(),
            |_| {},
            |content| {
                if let Some((chain, rule)) = decode::rule(content) {
                    tell(&chain, &rule);
                }
            },
        )
    }

    /// Asks for all of one kind in a table. Where the list changed meanwhile, what was told is not to be relied on.
    fn dump(
        &mut self,
        (table, kind): (&str, u16),
        what: impl Fn() -> String,
        fill: impl FnOnce(&mut Attributes),
        mut tell: impl FnMut(Content<'_>),
    ) -> Result<(), Error> {
        let request = request(kind, |a| {
            a.put_text(1, table);
            fill(a);
        });
        let take = |answer: &Message| {
            let content = answer.content(n::FAMILY_HEADER.len());
            let is_ours = answer.body.first() == Some(&n::INET) && content.text(1).as_deref() == Some(table);
            if is_ours {
                tell(content);
            }
        };
        let told = self.socket.dump_once(&request, take);
        Ok(told.map_err(|cause| netlink::Error::new(Operation::List, what(), cause))?)
    }

    /// The number of the ruleset's last change (`NFTA_GEN_ID`).
    pub(super) fn generation(&mut self) -> Result<u32, Error> {
        let answer = self.socket.get(&request(message::GET_GENERATION, |_| {}));
        let answer = answer.map_err(|cause| netlink::Error::new(Operation::List, "generation", cause))?;
        Ok(answer.and_then(|answer| answer.content(n::FAMILY_HEADER.len()).number_be(1)).unwrap_or_default())
    }
}

impl FoundSet {
    /// Whether it takes such elements.
    pub fn is(&self, shape: &Shape) -> bool {
        // `NFT_SET_EXPR` (`linux/netfilter/nf_tables.h`) is told of those that count.
        const COUNTS: u32 = 0x100;
        let key = (type_number(&shape.key), length(&shape.key));
        self.flags & !COUNTS == flags(shape) && self.key == key && self.counts == shape.counts
    }

    /// Whether it belongs to one rule, and comes and goes with that.
    pub const fn is_nameless(&self) -> bool {
        self.flags & n::SET_NAMELESS != 0
    }
}

impl Leads {
    /// Whether it leads where it should.
    pub fn is(&self, verdict: Option<Verdict>) -> bool {
        match (self, verdict) {
            (Self::Nowhere, None) | (Self::Back, Some(Verdict::Return)) => true,
            (Self::To(chain), Some(Verdict::Goto(object))) => *chain == object.to_string(),
            _ => false,
        }
    }
}

fn found(element: Content<'_>) -> Found {
    let key = element.nested(1).and_then(|key| key.get(1)).map_or(Key::REST, |key| Key::read(key.value));
    let verdict = element.nested(2).and_then(|data| data.nested(2));
    let leads = match verdict {
        None => Leads::Nowhere,
        Some(verdict) => match (verdict.number_be(1), verdict.text(2)) {
            (Some(n::RETURN), None) => Leads::Back,
            (Some(n::GOTO), Some(chain)) => Leads::To(chain),
            _ => Leads::Elsewhere,
        },
    };
    let is_end = element.number_be(3).unwrap_or_default() & n::INTERVAL_END != 0;
    // `NFTA_SET_ELEM_EXPR`.
    let packets = element.nested(7).and_then(packets_of).unwrap_or_default();
    Found { key, leads, is_end, packets }
}

/// What an expression counted, where it is a counter: `NFTA_EXPR_DATA`, of that `NFTA_COUNTER_PACKETS`.
fn packets_of(expr: Content<'_>) -> Option<u64> {
    if expr.text(1).as_deref() != Some("counter") {
        return None;
    }
    expr.nested(2)?.get(2)?.value.first_chunk().map(|bytes| u64::from_be_bytes(*bytes))
}

fn address(key: &Key) -> Option<IpAddr> {
    let bytes = key.as_bytes();
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}
