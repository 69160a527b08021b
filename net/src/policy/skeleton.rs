//! What the table of policies has whatever the policies are.
//!
//! Packets of connections that both sides know of go on. Every other packet of a pod, and to a pod, is looked up by the
//! pod's address: one that is not known gets nothing through. A node reaches its own pods always: of packets that the node
//! itself sends only those of connections that were cut end.
//!
//! Whoever answers on a connection that was cut would begin it anew: the kernel follows a connection of TCP from any of its
//! packets on, and takes who sends that for who began it. So such answers end until nobody sends any more.

use std::collections::BTreeMap;
use std::time::Duration;

use super::latch::{self, PRIORITY};
use super::objects::{Kind, Way, common_set, cut_set, denied, pods_map, self_set};
use super::settings::LogDenied;
use crate::family::Family;
use crate::lease::POD_LINKS;
use crate::nft::build::{RuleBuilder, Side, filter_chain, inner_chain};
use crate::nft::{Chain, FieldType, Hook, Rule};

/// What becomes of packets of pods, and of packets to pods.
const FROM_POD: &str = "from-pod";
const TO_POD: &str = "to-pod";
/// Ends answers of connections that were cut.
const CUT: &str = "cut";
/// For how long: until whoever keeps such a connection alive has given up, which asks after two hours (`tcp_keepalive_time`)
/// and then for eleven minutes.
const ANSWERS: Duration = Duration::from_hours(3);

/// The group of `nfnetlink_log` where packets are told of that are denied.
pub const DENIED_GROUP: u16 = 9471;
/// How much of them: the longest IP headers that are usual, and the ports behind them.
pub const DENIED_LENGTH: u32 = 128;
/// How many of each kind are told of in a second, and at once: the agent looks at every one of them.
const DENIED_PACE: (u32, u32) = (200, 200);

/// The type of `ICMPv6` of a listener report (RFC 3810, section 5.2).
const LISTENER_REPORT: u8 = 143;

/// What elements a set takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// The fields of a key.
    pub key: Vec<FieldType>,
    /// Whether a key leads to a verdict.
    pub has_verdicts: bool,
    /// Whether each element counts the packets that were found in it.
    pub counts: bool,
    /// Whether it holds ranges.
    pub is_interval: bool,
    /// How long elements stay, where they go by themselves.
    pub stay: Option<Duration>,
}

impl Shape {
    /// A set of these keys.
    pub fn of(key: &[FieldType]) -> Self {
        Self { key: key.to_vec(), has_verdicts: false, counts: false, is_interval: false, stay: None }
    }

    /// A set of networks.
    pub fn of_ranges(family: Family) -> Self {
        Self { is_interval: true, ..Self::of(&[FieldType::Address(family)]) }
    }

    /// A map of ports to verdicts.
    pub fn of_ports() -> Self {
        Self { has_verdicts: true, ..Self::of(&[FieldType::Protocol, FieldType::Port]) }
    }
}

/// What is told with a packet that is denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denial {
    /// Of which side the pod is that it is denied to.
    pub way: Way,
    /// Whether the pod is known.
    pub is_known: bool,
}

impl Denial {
    const ALL: [Self; 4] = [
        Self { way: Way::Ingress, is_known: true },
        Self { way: Way::Egress, is_known: true },
        Self { way: Way::Ingress, is_known: false },
        Self { way: Way::Egress, is_known: false },
    ];

    /// As the kernel tells it.
    pub const fn word(self) -> &'static str {
        match (self.way, self.is_known) {
            (Way::Ingress, true) => "towpath ingress",
            (Way::Egress, true) => "towpath egress",
            (Way::Ingress, false) => "towpath ingress unknown",
            (Way::Egress, false) => "towpath egress unknown",
        }
    }

    /// What this word says; nothing where it is none of ours.
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|denial| denial.word() == word)
    }

    /// The rule that tells of it, where that is wanted.
    fn rule(self, log: LogDenied) -> Option<Rule> {
        let (pace, burst) = DENIED_PACE;
        let rule = || RuleBuilder::either("").at_most(pace, burst).log(DENIED_GROUP, self.word(), DENIED_LENGTH).done();
        (log == LogDenied::Flows).then(rule)
    }
}

/// The sets and maps that are always there, by name.
pub fn sets() -> BTreeMap<&'static str, Shape> {
    let mut sets = BTreeMap::new();
    for family in Family::ALL {
        let address = FieldType::Address(family);
        let prefix = [FieldType::Mark, FieldType::Mark, address];
        let port = [FieldType::Protocol, FieldType::Port];
        sets.insert(common_set(Kind::Addresses, family), Shape::of(&prefix));
        sets.insert(common_set(Kind::Ports, family), Shape::of(&[&prefix[..], &port].concat()));
        sets.insert(self_set(family), Shape::of(&[address, address]));
        let answers = Shape::of(&[address, address, FieldType::Port, FieldType::Port]);
        sets.insert(cut_set(family), Shape { stay: Some(ANSWERS), ..answers });
        for way in Way::ALL {
            let counted = Shape { counts: true, ..Shape::of(&[address]) };
            sets.insert(denied(way, family), counted.clone());
            sets.insert(pods_map(way, family), Shape { has_verdicts: true, ..counted });
        }
    }
    sets
}

/// The chains that others lead to and that are always there, in an order in which each knows those that it leads to.
pub fn inner_chains(log: LogDenied) -> Vec<(&'static str, Chain)> {
    let denials = Family::ALL
        .into_iter()
        .flat_map(|family| Way::ALL.map(|way| (denied(way, family), inner_chain(denial(way, family, log)))));
    let pods = [(FROM_POD, of_pods(Way::Egress, log)), (TO_POD, of_pods(Way::Ingress, log))];
    denials.chain([(CUT, inner_chain(cut()))]).chain(pods.map(|(name, rules)| (name, inner_chain(rules)))).collect()
}

/// Ends what goes on as if nothing had been cut.
fn cut() -> Vec<Rule> {
    Family::ALL
        .map(|family| {
            let rule = RuleBuilder::new(family, "answers of connections that were cut");
            rule.amid_connection().connection_in(cut_set(family)).drop().done()
        })
        .into()
}

/// The chains by which packets come in.
pub fn base_chains() -> Vec<(&'static str, Chain)> {
    let known = RuleBuilder::either("connections that were let through").of_known_connection().accept().done();
    let judged = RuleBuilder::either("for the latch").set_mark(latch::JUDGED).done();
    let (low, high) = POD_LINKS;
    let from = RuleBuilder::either("pods").from_links_between(low, high).jump(FROM_POD).done();
    let to = RuleBuilder::either("pods").to_links_between(low, high);
    let cut = RuleBuilder::either("").jump(CUT).done();
    let answers = to.clone().jump(CUT).done();
    let to = to.jump(TO_POD).done();
    vec![
        ("forward", filter_chain(Hook::Forward, PRIORITY, vec![known.clone(), judged.clone(), cut, from.clone(), to])),
        ("input", filter_chain(Hook::Input, PRIORITY, vec![known.clone(), judged, from])),
        ("output", filter_chain(Hook::Output, PRIORITY, vec![known, answers])),
    ]
}

/// Every packet of a pod (or to one) that is in no known connection.
fn of_pods(way: Way, log: LogDenied) -> Vec<Rule> {
    let side = side_of_pod(way);
    let by_address = |family| RuleBuilder::new(family, "").verdict_of_address(side, pods_map(way, family)).done();
    let mut rules = vec![
        by_address(Family::V4),
        // Without it no pod reaches anyone, and on a bridge nobody reaches it.
        RuleBuilder::new(Family::V6, "who has which address on the link").neighbour_discovery().accept().done(),
        // They are from addresses of the link, and nobody is asked for groups but by the link's own router.
        RuleBuilder::new(Family::V6, "to which groups it listens").message(LISTENER_REPORT).drop().done(),
        by_address(Family::V6),
    ];
    rules.extend(Denial { way, is_known: false }.rule(log));
    rules.push(RuleBuilder::either("a pod that is not known").count().drop().done());
    rules
}

/// Ends packets, but for those of a pod to itself: it reaches itself also by way of a Service.
fn denial(way: Way, family: Family, log: LogDenied) -> Vec<Rule> {
    let itself = RuleBuilder::new(family, "a pod and itself").addresses_in(self_set(family)).go_back().done();
    let counted = RuleBuilder::new(family, "counted by pod");
    let counted = counted.address_in(side_of_pod(way), denied(way, family), false).drop().done();
    let told = Denial { way, is_known: true }.rule(log);
    std::iter::once(itself).chain(told).chain([counted, RuleBuilder::either("").drop().done()]).collect()
}

const fn side_of_pod(way: Way) -> Side {
    match way {
        Way::Ingress => Side::Destination,
        Way::Egress => Side::Source,
    }
}
