//! From the model to messages.

use std::net::IpAddr;

use towpath_net::family::{Family, bits};
use towpath_net::nft::{Chain, Element, Expr, FieldType, Home, Register, Rule, Set, Table, Value};
use towpath_net::ranges::Range;
use towpath_net::render::TABLE;

use super::numbers::{self as n, message, number_of};
use crate::netlink::Step;
use crate::netlink::attributes::Attributes;

/// How many elements go into one message: far less than an attribute's 64 KiB.
const CHUNK: usize = 500;
/// `NLM_F_CREATE`.
const CREATE: u16 = 0x400;
/// `NLM_F_APPEND`: behind the rules that there are.
const APPEND: u16 = 0x800;
/// `NFTNL_UDATA_RULE_COMMENT` of libnftnl: the comment that `nft` shows.
const COMMENT: u8 = 0;
/// The longest name of a link, with the zero behind it (`IFNAMSIZ`).
const LINK_NAME: usize = 16;
/// The longest comment that fits the one byte of its length.
const LONGEST_COMMENT: usize = 127;

/// Writes the steps of one transaction.
#[derive(Default)]
pub struct Encoder {
    steps: Vec<Step>,
    what: Vec<String>,
}

impl Encoder {
    /// The steps, and what each is about.
    pub fn finish(self) -> (Vec<Step>, Vec<String>) {
        (self.steps, self.what)
    }

    fn step(&mut self, home: Home, kind: u16, flags: u16, what: String, fill: impl FnOnce(&mut Attributes)) {
        let message = super::request_in(home, kind, |attributes| {
            attributes.put_text(1, TABLE);
            fill(attributes);
        });
        self.steps.push(Step { message, flags });
        self.what.push(what);
    }

    /// Makes the table; nothing happens where it is already there.
    pub fn new_table(&mut self, home: Home) {
        self.step(home, message::NEW_TABLE, CREATE, format!("table {TABLE}"), |_| {});
    }

    /// Removes the table with all that it holds.
    pub fn delete_table(&mut self, home: Home) {
        self.step(home, message::DELETE_TABLE, 0, format!("table {TABLE}"), |_| {});
    }

    /// Fills a new table. Sets and chains come before the rules that use them.
    pub fn fill(&mut self, table: &Table) {
        for (number, (name, set)) in (1..).zip(&table.sets) {
            self.set(name, set, number);
            self.elements(message::NEW_ELEMENT, name, set.elements.iter());
        }
        for (name, chain) in &table.chains {
            self.chain(name, chain);
        }
        for (name, chain) in &table.chains {
            for rule in &chain.rules {
                self.rule(name, rule);
            }
        }
    }

    fn set(&mut self, name: &str, set: &Set, number: u32) {
        let mut flags = 0;
        if set.interval {
            flags |= n::SET_INTERVAL;
        }
        if !set.data.is_empty() {
            flags |= n::SET_MAP;
        }
        self.step(Home::of(name), message::NEW_SET, CREATE, format!("set {name}"), |w| {
            w.put_text(2, name);
            w.put_number_be(3, flags);
            w.put_number_be(4, type_number(&set.key));
            w.put_number_be(5, length(&set.key));
            if !set.data.is_empty() {
                w.put_number_be(6, type_number(&set.data));
                w.put_number_be(7, length(&set.data));
            }
            w.put_number_be(10, number);
        });
    }

    /// Adds or removes elements of a set.
    pub fn elements<'e>(&mut self, kind: u16, name: &str, elements: impl Iterator<Item = &'e Element>) {
        let encoded: Vec<Encoded> = elements.flat_map(encode).collect();
        for chunk in encoded.chunks(CHUNK) {
            self.step(Home::of(name), kind, CREATE, format!("elements of set {name}"), |w| {
                w.put_text(2, name);
                w.nest(3, |w| chunk.iter().for_each(|element| element.write(w)));
            });
        }
    }

    fn chain(&mut self, name: &str, chain: &Chain) {
        self.step(Home::of(name), message::NEW_CHAIN, CREATE, format!("chain {name}"), |w| {
            w.put_text(3, name);
            base(w, chain);
        });
    }

    fn rule(&mut self, chain: &str, rule: &Rule) {
        let what = format!("rule \"{}\" of chain {chain}", rule.comment);
        self.step(Home::of(chain), message::NEW_RULE, CREATE | APPEND, what, |w| {
            w.put_text(2, chain);
            w.nest(4, |w| rule.exprs.iter().for_each(|expr| expression(w, expr)));
            w.put(7, &comment(&rule.comment));
        });
    }
}

/// Writes where the kernel enters a chain, if it does.
pub(crate) fn base(w: &mut Attributes, chain: &Chain) {
    let Some(base) = chain.base else { return };
    w.nest(4, |w| {
        w.put_number_be(1, number_of(&n::HOOKS, &base.hook));
        w.put(2, &base.priority.to_be_bytes());
    });
    w.put_number_be(5, if base.accepts { n::ACCEPT } else { n::DROP });
    w.put_text(7, number_of(&n::CHAIN_KINDS, &base.kind));
}

pub(crate) fn comment(text: &str) -> Vec<u8> {
    let text: String = text.chars().take(LONGEST_COMMENT).collect();
    let len = u8::try_from(text.len() + 1).unwrap_or(u8::MAX);
    [&[COMMENT, len], text.as_bytes(), &[0]].concat()
}

/// Writes one expression of a rule.
pub(crate) fn expression(w: &mut Attributes, expr: &Expr) {
    w.nest(1, |w| {
        w.put_text(1, super::decode::kernel_name(expr));
        w.nest(2, |w| attributes(w, expr));
    });
}

fn attributes(w: &mut Attributes, expr: &Expr) {
    match expr {
        Expr::Meta { key, to } => {
            w.put_number_be(1, register(*to));
            w.put_number_be(2, number_of(&n::METAS, key));
        }
        Expr::SetMeta { key, from } => {
            w.put_number_be(2, number_of(&n::METAS, key));
            w.put_number_be(3, register(*from));
        }
        Expr::Payload { header, offset, len, to } => {
            w.put_number_be(1, register(*to));
            w.put_number_be(2, number_of(&n::HEADERS, header));
            w.put_number_be(3, *offset);
            w.put_number_be(4, *len);
        }
        Expr::Compare { from, op, value } => {
            w.put_number_be(1, register(*from));
            w.put_number_be(2, number_of(&n::COMPARISONS, op));
            data(w, 3, value);
        }
        Expr::Mask { from, to, mask } => bitwise(w, (*from, *to), mask, &vec![0; mask.len()]),
        Expr::SetBits { from, to, bits } => {
            let others: Vec<u8> = bits.iter().map(|byte| !byte).collect();
            bitwise(w, (*from, *to), &others, bits);
        }
        Expr::Lookup { set, from, to, inverted } => lookup(w, set, *from, *to, *inverted),
        Expr::DestinationType { to } => {
            w.put_number_be(1, register(*to));
            w.put_number_be(2, n::FIB_ADDRESS_TYPE);
            w.put_number_be(3, n::FIB_DESTINATION);
        }
        Expr::ConnectionStatus { to } => load(w, *to, n::CT_STATUS),
        Expr::ConnectionState { to } => load(w, *to, n::CT_STATE),
        Expr::Constant { value, to } => {
            w.put_number_be(1, register(*to));
            data(w, 2, value);
        }
        Expr::Between { from, low, high } => between(w, *from, low, high),
        Expr::VerdictOf { map, from } => verdict_of(w, map, *from),
        Expr::Nat { kind, family, address, port } => {
            w.put_number_be(1, number_of(&n::NATS, kind));
            w.put_number_be(2, number_of(&n::FAMILIES, family));
            w.put_number_be(3, register(*address));
            w.put_number_be(5, register(*port));
        }
        Expr::Masquerade { fully_random } => {
            if *fully_random {
                w.put_number_be(1, n::RANDOM_FULLY);
            }
        }
        Expr::NetworkOrder { from, to } => network_order(w, *from, *to),
        Expr::RouteSegment { to } => load(w, *to, n::ROUTE_SEGMENT),
        Expr::LowerSegment { from } => lower_segment(w, *from),
        Expr::Limit { per_second, burst } => limit(w, *per_second, *burst),
        Expr::Log { group, prefix, length } => log(w, *group, prefix, *length),
        Expr::Drop | Expr::Accept | Expr::Jump { .. } | Expr::Goto { .. } | Expr::Return => ending(w, expr),
        Expr::Count | Expr::Untracked | Expr::Foreign { .. } => {}
    }
}

fn ending(w: &mut Attributes, expr: &Expr) {
    match expr {
        Expr::Drop => verdict(w, n::DROP, None),
        Expr::Accept => verdict(w, n::ACCEPT, None),
        Expr::Jump { chain } => verdict(w, n::JUMP, Some(chain)),
        Expr::Goto { chain } => verdict(w, n::GOTO, Some(chain)),
        Expr::Return => verdict(w, n::RETURN, None),
        _ => {}
    }
}

fn limit(w: &mut Attributes, per_second: u32, burst: u32) {
    w.put(1, &u64::from(per_second).to_be_bytes());
    w.put(2, &n::SECOND.to_be_bytes());
    w.put_number_be(3, burst).put_number_be(4, n::LIMIT_PACKETS).put_number_be(5, 0);
}

fn log(w: &mut Attributes, group: u16, prefix: &str, length: u32) {
    w.put(1, &group.to_be_bytes());
    w.put_text(2, prefix).put_number_be(3, length);
}

fn load(w: &mut Attributes, to: Register, key: u32) {
    w.put_number_be(1, register(to));
    w.put_number_be(2, key);
}

/// `to = (from & mask) ^ xor`.
fn bitwise(w: &mut Attributes, (from, to): (Register, Register), mask: &[u8], xor: &[u8]) {
    w.put_number_be(1, register(from));
    w.put_number_be(2, register(to));
    w.put_number_be(3, u32::try_from(mask.len()).unwrap_or_default());
    data(w, 4, mask);
    data(w, 5, xor);
}

fn between(w: &mut Attributes, from: Register, low: &[u8], high: &[u8]) {
    w.put_number_be(1, register(from));
    w.put_number_be(2, n::WITHIN);
    data(w, 3, low);
    data(w, 4, high);
}

fn verdict_of(w: &mut Attributes, map: &str, from: Register) {
    w.put_text(1, map);
    w.put_number_be(2, register(from));
    w.put_number_be(3, n::REGISTER_VERDICT);
}

fn network_order(w: &mut Attributes, from: Register, to: Register) {
    w.put_number_be(1, register(from));
    w.put_number_be(2, register(to));
    w.put_number_be(3, n::TO_NETWORK_ORDER);
    // Both what there is in all, and each number.
    w.put_number_be(4, 2);
    w.put_number_be(5, 2);
}

fn lookup(w: &mut Attributes, set: &str, from: Register, to: Option<Register>, inverted: bool) {
    w.put_text(1, set);
    w.put_number_be(2, register(from));
    if let Some(to) = to {
        w.put_number_be(3, register(to));
    }
    w.put_number_be(5, if inverted { n::LOOKUP_INVERTED } else { 0 });
}

fn lower_segment(w: &mut Attributes, from: Register) {
    let (kind, offset, len) = n::SEGMENT_OPTION;
    w.put(2, &[kind]);
    w.put_number_be(3, offset);
    w.put_number_be(4, len);
    w.put_number_be(6, n::TCP_OPTION);
    w.put_number_be(7, register(from));
}

fn verdict(w: &mut Attributes, code: u32, chain: Option<&str>) {
    w.put_number_be(1, n::REGISTER_VERDICT);
    verdict_data(w, code, chain);
}

/// A verdict as data, which an element of a map has in the same place.
pub(crate) fn verdict_data(w: &mut Attributes, code: u32, chain: Option<&str>) {
    w.nest(2, |w| {
        w.nest(2, |w| {
            w.put_number_be(1, code);
            if let Some(chain) = chain {
                w.put_text(2, chain);
            }
        });
    });
}

fn data(w: &mut Attributes, kind: u16, value: &[u8]) {
    w.nest(kind, |w| _ = w.put(1, value));
}

fn register(register: Register) -> u32 {
    n::REGISTER_0 + u32::from(register.0)
}

/// The number of a concatenation's type: the types of its fields, 6 bits each.
pub fn type_number(fields: &[FieldType]) -> u32 {
    fields.iter().fold(0, |number, f| (number << n::TYPE_BITS) | n::field(*f).0)
}

/// The length of a key: in a concatenation each field is padded to 4 bytes.
pub(crate) fn length(fields: &[FieldType]) -> u32 {
    match fields {
        [one] => n::field(*one).1,
        many => many.iter().map(|f| n::field(*f).1.next_multiple_of(4)).sum(),
    }
}

struct Encoded {
    key: Vec<u8>,
    data: Vec<u8>,
    end: bool,
}

impl Encoded {
    fn write(&self, w: &mut Attributes) {
        w.nest(1, |w| {
            if self.end {
                w.put_number_be(3, n::INTERVAL_END);
            }
            data(w, 1, &self.key);
            if !self.data.is_empty() {
                data(w, 2, &self.data);
            }
        });
    }
}

/// A range is two elements, its first address and the one behind its last; the end of the address space needs none.
fn encode(element: &Element) -> Vec<Encoded> {
    match element {
        Element::Key { key, data } => {
            vec![Encoded { key: values(key), data: values(data), end: false }]
        }
        Element::Range(range) => {
            let start = Encoded { key: address(range.first), data: Vec::new(), end: false };
            let end = behind(range).map(|end| Encoded { key: address(end), data: Vec::new(), end: true });
            std::iter::once(start).chain(end).collect()
        }
    }
}

/// The address behind a range; none behind the end of the address space.
pub(crate) fn behind(range: &Range) -> Option<IpAddr> {
    let family = Family::of(range.last);
    let behind = bits(range.last).checked_add(1).filter(|b| family == Family::V6 || *b <= u128::from(u32::MAX));
    behind.map(|b| family.address(b))
}

fn values(values: &[Value]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for value in values {
        match value {
            Value::Address(a) => bytes.extend(address(*a)),
            Value::Protocol(protocol) => bytes.push(protocol.number()),
            Value::Port(port) => bytes.extend(port.to_be_bytes()),
            Value::Link(name) => {
                bytes.extend(name.bytes());
                bytes.resize(bytes.len().next_multiple_of(LINK_NAME), 0);
            }
            Value::Mac(mac) => bytes.extend(mac.0),
        }
        if values.len() > 1 {
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
    }
    bytes
}

fn address(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}
