//! The messages of a transaction, written as they are sent.

use std::net::{IpAddr, SocketAddr};

use towpath_net::lease::Protocol;
use towpath_net::nft::{Chain, Rule};
use towpath_net::policy::bundle::{AddressPort, SetId};
use towpath_net::policy::chains::Verdict;
use towpath_net::policy::objects::{TABLE, set_key, set_of_key};
use towpath_net::policy::skeleton::Shape;

use crate::netlink::Batch;
use crate::netlink::attributes::Attributes;
use crate::nft::encode::{base, comment, expression, length, type_number, verdict_data};
use crate::nft::numbers::{self as n, message};

/// `NLM_F_CREATE`.
const CREATE: u16 = 0x400;
/// `NLM_F_APPEND`: behind the rules that there are.
const APPEND: u16 = 0x800;
/// `NFT_SET_TIMEOUT`: elements go by themselves.
const TIMEOUT: u32 = 0x10;
/// How much of one attribute elements take: it ends at 64 KiB.
const ELEMENTS: usize = 32 * 1024;
/// The longest key: two IPv6 addresses and two ports, each padded to 4 bytes.
const LONGEST_KEY: usize = 40;
/// How many elements a set has at most whose elements go by themselves.
pub(super) const MOST: u32 = 1 << 16;

/// The bytes of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    bytes: [u8; LONGEST_KEY],
    length: usize,
}

impl Key {
    const EMPTY: Self = Self { bytes: [0; LONGEST_KEY], length: 0 };
    /// That of the element that is meant where no other is (`*`): none of ours.
    pub const REST: Self = Self::EMPTY;

    /// An address.
    pub fn of(address: IpAddr) -> Self {
        Self::EMPTY.address(address)
    }

    /// An address in a set.
    pub fn member(set: SetId, address: IpAddr) -> Self {
        Self::EMPTY.with(&set_key(set)).address(address)
    }

    /// A port of an address in a set.
    pub fn member_port(set: SetId, at: AddressPort) -> Self {
        Self::member(set, at.address).port(at.protocol, at.port)
    }

    /// An address and itself.
    pub fn twice(address: IpAddr) -> Self {
        Self::of(address).address(address)
    }

    /// A port.
    pub fn of_port(protocol: Protocol, port: u16) -> Self {
        Self::EMPTY.port(protocol, port)
    }

    /// Packets of a connection.
    pub fn of_packets(from: SocketAddr, to: SocketAddr) -> Self {
        let padded = |port: u16| {
            let [high, low] = port.to_be_bytes();
            [high, low, 0, 0]
        };
        Self::of(from.ip()).address(to.ip()).with(&padded(from.port())).with(&padded(to.port()))
    }

    fn address(self, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => self.with(&address.octets()),
            IpAddr::V6(address) => self.with(&address.octets()),
        }
    }

    /// Each field is padded to 4 bytes.
    fn port(self, protocol: Protocol, port: u16) -> Self {
        let [high, low] = port.to_be_bytes();
        self.with(&[protocol.number(), 0, 0, 0, high, low, 0, 0])
    }

    fn with(mut self, more: &[u8]) -> Self {
        let end = self.length + more.len();
        if let Some(place) = self.bytes.get_mut(self.length..end) {
            place.copy_from_slice(more);
            self.length = end;
        }
        self
    }

    /// What the kernel tells, of a set whose keys are as long as ours.
    pub fn read(bytes: &[u8]) -> Self {
        Self::EMPTY.with(bytes)
    }

    /// The set that the member of a common set belongs to, and what is behind that.
    pub fn split(&self) -> Option<(SetId, &[u8])> {
        let (set, rest) = self.as_bytes().split_first_chunk()?;
        Some((set_of_key(*set), rest))
    }

    /// As the kernel takes it.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// An element of a set or map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    /// Its key.
    pub key: Key,
    /// What it maps to.
    pub verdict: Option<Verdict>,
    /// Whether it ends a range.
    pub is_end: bool,
}

impl From<Key> for Element {
    fn from(key: Key) -> Self {
        Self { key, verdict: None, is_end: false }
    }
}

impl Element {
    fn write(&self, w: &mut Attributes) {
        w.nest(1, |w| {
            if self.is_end {
                w.put_number_be(3, n::INTERVAL_END);
            }
            if self.key == Key::REST {
                w.put_number_be(3, n::REST);
            } else {
                w.nest(1, |w| _ = w.put(1, self.key.as_bytes()));
            }
            match self.verdict {
                None => {}
                Some(Verdict::Return) => verdict_data(w, n::RETURN, None),
                Some(Verdict::Goto(chain)) => verdict_data(w, n::GOTO, Some(&chain.to_string())),
            }
        });
    }
}

/// A transaction on the table of policies or another one, and what each of its messages is about.
pub struct Writer<L> {
    table: &'static str,
    pub(super) batch: Batch,
    about: Vec<L>,
    operations: usize,
}

impl<L: Copy> Writer<L> {
    /// Nothing yet.
    pub fn new() -> Self {
        Self { table: TABLE, batch: Batch::new(n::NFTABLES), about: Vec::new(), operations: 0 }
    }

    /// What follows is about this table.
    pub const fn turn_to(&mut self, table: &'static str) {
        self.table = table;
    }

    /// How many things the transaction does: elements and everything else.
    pub const fn operations(&self) -> usize {
        self.operations
    }

    /// What a message is about.
    pub fn about(&self, message: usize) -> Option<L> {
        self.about.get(message).copied()
    }

    /// Forgets what was sent.
    pub fn clear(&mut self) {
        self.about.clear();
        self.operations = 0;
    }

    fn put(&mut self, about: L, kind: u16, flags: u16, fill: impl FnOnce(&mut Attributes)) {
        self.operations += 1;
        self.about.push(about);
        let table = self.table;
        self.batch.message(n::SUBSYSTEM | kind, flags, &n::FAMILY_HEADER, |w| {
            w.put_text(1, table);
            fill(w);
        });
    }

    /// Makes the table; nothing happens where it is.
    pub fn new_table(&mut self, about: L) {
        self.put(about, message::NEW_TABLE, CREATE, |_| {});
    }

    /// Makes the table with these flags (`NFTA_TABLE_FLAGS`), or gives them to it.
    pub fn flagged_table(&mut self, about: L, table_flags: u32) {
        self.put(about, message::NEW_TABLE, CREATE, |w| _ = w.put_number_be(2, table_flags));
    }

    /// Removes the table, which must be there, with all that it has.
    pub fn delete_table(&mut self, about: L) {
        self.put(about, message::DELETE_TABLE, 0, |_| {});
    }

    /// Makes a set or map.
    pub fn new_set(&mut self, about: L, name: &str, shape: &Shape) {
        let number = self.batch.messages();
        self.put(about, message::NEW_SET, CREATE, |w| {
            w.put_text(2, name).put_number_be(3, flags(shape));
            w.put_number_be(4, type_number(&shape.key)).put_number_be(5, length(&shape.key));
            if shape.has_verdicts {
                w.put_number_be(6, n::VERDICTS);
            }
            if shape.stay.is_some() {
                // `NFTA_SET_DESC`, of it `NFTA_SET_DESC_SIZE`.
                w.nest(9, |w| _ = w.put_number_be(1, MOST));
            }
            w.put_number_be(10, number);
            if let Some(stay) = shape.stay {
                // `NFTA_SET_TIMEOUT`, in milliseconds.
                w.put(11, &u64::try_from(stay.as_millis()).unwrap_or(u64::MAX).to_be_bytes());
            }
            if shape.counts {
                // Each element has one of its own (`NFTA_SET_EXPR`).
                w.nest(17, |w| _ = w.put_text(1, "counter").nest(2, |_| {}));
            }
        });
    }

    /// Removes a set or map that no rule looks into, with its elements.
    pub fn delete_set(&mut self, about: L, name: &str) {
        self.put(about, message::DELETE_SET, 0, |w| _ = w.put_text(2, name));
    }

    /// Makes a chain.
    pub fn new_chain(&mut self, about: L, name: &str, chain: &Chain) {
        self.put(about, message::NEW_CHAIN, CREATE, |w| {
            w.put_text(3, name);
            base(w, chain);
        });
    }

    /// Takes the rules of a chain.
    pub fn flush_chain(&mut self, about: L, name: &str) {
        self.put(about, message::DELETE_RULE, 0, |w| _ = w.put_text(2, name));
    }

    /// Removes a chain that nothing leads to.
    pub fn delete_chain(&mut self, about: L, name: &str) {
        self.put(about, message::DELETE_CHAIN, 0, |w| _ = w.put_text(3, name));
    }

    /// Adds a rule to a chain.
    pub fn rule(&mut self, about: L, chain: &str, rule: &Rule) {
        self.put(about, message::NEW_RULE, CREATE | APPEND, |w| {
            w.put_text(2, chain);
            w.nest(4, |w| rule.exprs.iter().for_each(|expr| expression(w, expr)));
            if !rule.comment.is_empty() {
                w.put(7, &comment(&rule.comment));
            }
        });
    }

    /// Takes all elements from a set.
    pub fn flush_set(&mut self, about: L, name: &str) {
        self.put(about, message::DELETE_ELEMENT, 0, |w| _ = w.put_text(2, name));
    }

    /// Adds elements to a set.
    pub fn add(&mut self, about: L, set: &str, elements: impl IntoIterator<Item = Element>) {
        self.elements(about, message::NEW_ELEMENT, set, elements);
    }

    /// Takes elements, all of which must be there, from a set.
    pub fn remove(&mut self, about: L, set: &str, elements: impl IntoIterator<Item = Element>) {
        self.elements(about, message::DELETE_ELEMENT, set, elements);
    }

    fn elements(&mut self, about: L, kind: u16, set: &str, elements: impl IntoIterator<Item = Element>) {
        let mut elements = elements.into_iter().peekable();
        while elements.peek().is_some() {
            let mut count = 0;
            self.put(about, kind, CREATE, |w| {
                w.put_text(2, set).nest(3, |w| {
                    let end = w.length() + ELEMENTS;
                    while w.length() < end
                        && let Some(element) = elements.next()
                    {
                        element.write(w);
                        count += 1;
                    }
                });
            });
            self.operations += count;
        }
    }
}

/// `NFTA_SET_FLAGS`.
pub fn flags(shape: &Shape) -> u32 {
    let mut flags = 0;
    if shape.is_interval {
        flags |= n::SET_INTERVAL;
    }
    if shape.has_verdicts {
        flags |= n::SET_MAP;
    }
    if shape.stay.is_some() {
        flags |= TIMEOUT;
    }
    flags
}
