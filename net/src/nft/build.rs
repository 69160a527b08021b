//! Rules from what a person would say.

mod marks;
mod senders;
mod tunnels;
mod verdicts;

use std::net::IpAddr;

use super::{Base, Chain, ChainKind, Comparison, Expr, Header, Hook, Meta, Nat, Register, Rule};
use crate::family::Family;

/// Where keys and operands start.
const A: Register = Register(0);
/// Behind a field of 4 bytes in [`A`].
const A1: Register = Register(1);
/// Where data of maps starts: behind the longest key, an IPv6 address with protocol and port.
const B: Register = Register(8);

/// `NF_INET_*` of each family (`linux/netfilter.h`, `NFPROTO_IPV4` and `NFPROTO_IPV6`).
const fn nfproto(family: Family) -> u8 {
    match family {
        Family::V4 => 2,
        Family::V6 => 10,
    }
}

/// Where an address stands in the header of each family, and how long it is (RFC 791 section 3.1, RFC 8200 section 3).
const fn address_place(family: Family, side: Side) -> (u32, u32) {
    match (family, side) {
        (Family::V4, Side::Source) => (12, 4),
        (Family::V4, Side::Destination) => (16, 4),
        (Family::V6, Side::Source) => (8, 16),
        (Family::V6, Side::Destination) => (24, 16),
    }
}

/// How many 4-byte registers an address takes.
const fn address_registers(family: Family) -> u8 {
    family.bits() / 32
}

/// The number of UDP in the IP header (IANA).
const UDP: u8 = 17;
/// The number of TCP.
const TCP: u8 = 6;
/// The word of 4 bytes of TCP that has the flags in its second, and of these SYN and RST (RFC 9293, section 3.1).
const TCP_FLAGS: u32 = 12;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
/// The longest name of a link, with the zero behind it (`IFNAMSIZ`).
const LINK_NAME: usize = 16;

/// `RTN_LOCAL` (`linux/rtnetlink.h`): an address of this node.
const RTN_LOCAL: u32 = 2;
/// `IPS_DST_NAT` (`linux/netfilter/nf_conntrack_common.h`): the destination was rewritten.
const IPS_DST_NAT: u32 = 1 << 5;
/// The kernel keeps such numbers in host byte order.
const fn host_order(value: u32) -> [u8; 4] {
    value.to_ne_bytes()
}

/// Which address of a packet.
#[derive(Clone, Copy)]
pub enum Side {
    /// Its source.
    Source,
    /// Its destination.
    Destination,
}

/// Builds one rule, statement by statement, in the order in which the kernel looks: what most packets are not comes first.
/// Addresses are looked at where the family is known (`F`).
#[derive(Clone)]
pub struct RuleBuilder<F = Family> {
    comment: String,
    family: F,
    exprs: Vec<Expr>,
}

/// That packets may be of either family.
#[derive(Clone, Copy)]
pub struct Either;

impl RuleBuilder<Either> {
    /// A rule for the packets of both families.
    pub fn either(comment: impl Into<String>) -> Self {
        Self { comment: comment.into(), family: Either, exprs: Vec::new() }
    }

    /// Only packets that would have these bytes in an address, from its byte `at` on, if they were of that family. That they
    /// are is to be seen to behind it: this is what costs least, and few packets come past it.
    #[must_use]
    pub fn as_if_address(mut self, family: Family, side: Side, at: u32, bytes: &[u8]) -> Self {
        let (start, _) = address_place(family, side);
        let len = u32::try_from(bytes.len()).unwrap_or_default();
        self.exprs.push(Expr::Payload { header: Header::Network, offset: start + at, len, to: A });
        self.exprs.push(Expr::Compare { from: A, op: Comparison::Equal, value: bytes.to_vec() });
        self
    }

    /// Only packets of one family.
    #[must_use]
    pub fn of_family(mut self, family: Family) -> RuleBuilder {
        self.exprs.push(Expr::Meta { key: Meta::NfProto, to: A });
        self.exprs.push(Expr::Compare { from: A, op: Comparison::Equal, value: vec![nfproto(family)] });
        RuleBuilder { comment: self.comment, family, exprs: self.exprs }
    }
}

impl RuleBuilder {
    /// A rule for the packets of one family.
    pub fn new(family: Family, comment: impl Into<String>) -> Self {
        RuleBuilder::either(comment).of_family(family)
    }

    /// Only packets whose address is in the set (or is not).
    #[must_use]
    pub fn address_in(mut self, side: Side, set: &str, inverted: bool) -> Self {
        self.exprs.push(self.load_address(side, A));
        self.exprs.push(Expr::Lookup { set: set.to_owned(), from: A, to: None, inverted });
        self
    }

    /// Only packets whose address has a network, of so many bits, that is in the set (or is not).
    #[must_use]
    pub fn network_in(mut self, side: Side, length: u8, set: &str, inverted: bool) -> Self {
        self.exprs.push(self.load_address(side, A));
        self.exprs.push(Expr::Mask { from: A, to: A, mask: mask(self.family, length) });
        self.exprs.push(Expr::Lookup { set: set.to_owned(), from: A, to: None, inverted });
        self
    }

    /// Only packets whose source and destination are, as a pair, in the set.
    #[must_use]
    pub fn addresses_in(mut self, set: &str) -> Self {
        let second = Register(address_registers(self.family));
        self.exprs.push(self.load_address(Side::Source, A));
        self.exprs.push(self.load_address(Side::Destination, second));
        self.exprs.push(Expr::Lookup { set: set.to_owned(), from: A, to: None, inverted: false });
        self
    }

    /// Only packets to this address.
    #[must_use]
    pub fn to_address(self, address: IpAddr) -> Self {
        self.with_address(Side::Destination, address)
    }

    /// Only packets from this address.
    #[must_use]
    pub fn from_address(self, address: IpAddr) -> Self {
        self.with_address(Side::Source, address)
    }

    fn with_address(mut self, side: Side, address: IpAddr) -> Self {
        self.exprs.push(self.load_address(side, A));
        let value = match address {
            IpAddr::V4(a) => a.octets().to_vec(),
            IpAddr::V6(a) => a.octets().to_vec(),
        };
        self.exprs.push(Expr::Compare { from: A, op: Comparison::Equal, value });
        self
    }

    /// Sends the packet to the address and port that the map has for its `protocol . port`, where it has one.
    #[must_use]
    pub fn rewrite_by_port(mut self, map: &str) -> Self {
        self.exprs.push(Expr::Meta { key: Meta::L4Proto, to: A });
        self.exprs.push(load_port(A1));
        self.rewrite(map)
    }

    /// The same by `address . protocol . port`.
    #[must_use]
    pub fn rewrite_by_address_and_port(mut self, map: &str) -> Self {
        let after = address_registers(self.family);
        self.exprs.push(self.load_address(Side::Destination, A));
        self.exprs.push(Expr::Meta { key: Meta::L4Proto, to: Register(after) });
        self.exprs.push(load_port(Register(after + 1)));
        self.rewrite(map)
    }

    fn rewrite(mut self, map: &str) -> Self {
        let port = Register(B.0 + address_registers(self.family));
        self.exprs.push(Expr::Lookup { set: map.to_owned(), from: A, to: Some(B), inverted: false });
        self.exprs.push(Expr::Nat { kind: Nat::Destination, family: self.family, address: B, port });
        self
    }

    fn load_address(&self, side: Side, to: Register) -> Expr {
        let (offset, len) = address_place(self.family, side);
        Expr::Payload { header: Header::Network, offset, len, to }
    }
}

impl<F> RuleBuilder<F> {
    /// Only packets that came by a link whose name begins so.
    #[must_use]
    pub fn from_links(mut self, prefix: &str) -> Self {
        self.exprs.push(Expr::Meta { key: Meta::InputName, to: A });
        self.exprs.push(Expr::Compare { from: A, op: Comparison::Equal, value: prefix.as_bytes().to_vec() });
        self
    }

    /// Only packets that leave by a link whose name begins so.
    #[must_use]
    pub fn to_links(self, prefix: &str) -> Self {
        self.leaves(Comparison::Equal, prefix.as_bytes().to_vec())
    }

    /// Only packets that leave by no link whose name begins so.
    #[must_use]
    pub fn not_to_links(self, prefix: &str) -> Self {
        self.leaves(Comparison::NotEqual, prefix.as_bytes().to_vec())
    }

    /// Only packets that leave by the link of exactly this name.
    #[must_use]
    pub fn to_link(self, name: &str) -> Self {
        let mut whole = name.as_bytes().to_vec();
        whole.resize(LINK_NAME, 0);
        self.leaves(Comparison::Equal, whole)
    }

    fn leaves(mut self, op: Comparison, value: Vec<u8>) -> Self {
        self.exprs.push(Expr::Meta { key: Meta::OutputName, to: A });
        self.exprs.push(Expr::Compare { from: A, op, value });
        self
    }

    /// Only packets of one protocol above IP, by its number (IANA).
    #[must_use]
    pub fn protocol(mut self, number: u8) -> Self {
        self.exprs.push(Expr::Meta { key: Meta::L4Proto, to: A });
        self.exprs.push(Expr::Compare { from: A, op: Comparison::Equal, value: vec![number] });
        self
    }

    /// Only UDP packets to this port.
    #[must_use]
    pub fn udp_port(self, port: u16) -> Self {
        self.protocol(UDP).behind_ip(2, &port.to_be_bytes())
    }

    /// Only UDP packets to a port in the set.
    #[must_use]
    pub fn udp_port_in(self, set: &str) -> Self {
        let mut rule = self.protocol(UDP);
        rule.exprs.push(load_port(A));
        rule.exprs.push(Expr::Lookup { set: set.to_owned(), from: A, to: None, inverted: false });
        rule
    }

    /// Only packets that have these bytes from that byte on behind the IP header.
    #[must_use]
    pub fn behind_ip(self, offset: u32, bytes: &[u8]) -> Self {
        self.compare_behind_ip(offset, Comparison::Equal, bytes)
    }

    /// Only packets that have other bytes there.
    #[must_use]
    pub fn not_behind_ip(self, offset: u32, bytes: &[u8]) -> Self {
        self.compare_behind_ip(offset, Comparison::NotEqual, bytes)
    }

    fn compare_behind_ip(mut self, offset: u32, op: Comparison, bytes: &[u8]) -> Self {
        // Three bytes are loaded as four, for which the kernel has a shorter way.
        let width = bytes.len().next_power_of_two();
        let padded = |mut bytes: Vec<u8>| {
            bytes.resize(width, 0);
            bytes
        };
        let len = u32::try_from(width).unwrap_or_default();
        self.exprs.push(Expr::Payload { header: Header::Transport, offset, len, to: A });
        if width > bytes.len() {
            self.exprs.push(Expr::Mask { from: A, to: A, mask: padded(vec![u8::MAX; bytes.len()]) });
        }
        self.exprs.push(Expr::Compare { from: A, op, value: padded(bytes.to_vec()) });
        self
    }

    /// Only packets that have any of these bits in that byte behind the IP header.
    #[must_use]
    pub fn any_bit_behind_ip(mut self, offset: u32, bits: u8) -> Self {
        self.exprs.push(Expr::Payload { header: Header::Transport, offset, len: 1, to: A });
        self.exprs.push(Expr::Mask { from: A, to: A, mask: vec![bits] });
        self.exprs.push(Expr::Compare { from: A, op: Comparison::NotEqual, value: vec![0] });
        self
    }

    /// Only packets by which either side begins a TCP connection. The flags are loaded with what is around them: the kernel
    /// has the shortest way for words of 4 bytes (`nft_payload_fast`, `nft_bitwise_fast`).
    #[must_use]
    pub fn begins_connection(mut self) -> Self {
        self.exprs.push(Expr::Payload { header: Header::Transport, offset: TCP_FLAGS, len: 4, to: A });
        self.exprs.push(Expr::Mask { from: A, to: A, mask: vec![0, SYN | RST, 0, 0] });
        self.exprs.push(Expr::Compare { from: A, op: Comparison::Equal, value: vec![0, SYN, 0, 0] });
        self.protocol(TCP)
    }

    /// Lowers the segment size that a TCP connection begins with to what the way there and back carries.
    #[must_use]
    pub fn lower_segment(mut self) -> Self {
        self.exprs.push(Expr::RouteSegment { to: A });
        self.exprs.push(Expr::NetworkOrder { from: A, to: A });
        self.exprs.push(Expr::LowerSegment { from: A });
        self
    }

    /// Only packets to an address of this node.
    #[must_use]
    pub fn to_this_node(mut self) -> Self {
        self.exprs.push(Expr::DestinationType { to: A });
        self.exprs.push(Expr::Compare { from: A, op: Comparison::Equal, value: host_order(RTN_LOCAL).to_vec() });
        self
    }

    /// Only packets of connections whose destination was rewritten.
    #[must_use]
    pub fn destination_rewritten(mut self) -> Self {
        let mask = host_order(IPS_DST_NAT).to_vec();
        self.exprs.push(Expr::ConnectionStatus { to: A });
        self.exprs.push(Expr::Mask { from: A, to: A, mask });
        self.exprs.push(Expr::Compare { from: A, op: Comparison::NotEqual, value: vec![0; 4] });
        self
    }

    /// Gives the packet the node's address and a random port.
    #[must_use]
    pub fn masquerade(mut self) -> Self {
        self.exprs.push(Expr::Masquerade { fully_random: true });
        self
    }

    /// Drops the packet.
    #[must_use]
    pub fn drop(mut self) -> Self {
        self.exprs.push(Expr::Drop);
        self
    }

    /// Lets the packet go on to other chains.
    #[must_use]
    pub fn accept(mut self) -> Self {
        self.exprs.push(Expr::Accept);
        self
    }

    /// Goes through another chain.
    #[must_use]
    pub fn jump(mut self, chain: &str) -> Self {
        self.exprs.push(Expr::Jump { chain: chain.to_owned() });
        self
    }

    /// The finished rule.
    pub fn done(self) -> Rule {
        Rule { comment: self.comment, exprs: self.exprs }
    }
}

/// The destination port: the third and fourth byte of TCP, UDP and SCTP alike.
fn load_port(to: Register) -> Expr {
    Expr::Payload { header: Header::Transport, offset: 2, len: 2, to }
}

/// The bits of a network's address, as bytes.
fn mask(family: Family, length: u8) -> Vec<u8> {
    let bytes = family.bits() / 8;
    let ones = |byte: u8| u32::from(length.saturating_sub(byte * 8).min(8));
    (0..bytes).map(|byte| u8::MAX.checked_shl(8 - ones(byte)).unwrap_or(0)).collect()
}

/// A chain that others jump to.
pub const fn inner_chain(rules: Vec<Rule>) -> Chain {
    Chain { base: None, rules }
}

/// A base chain of type `filter` that lets pass what no rule of it drops.
pub fn filter_chain(hook: Hook, priority: i32, rules: Vec<Rule>) -> Chain {
    Chain { base: Some(Base { kind: ChainKind::Filter, hook, priority, accepts: true }), rules }
}

/// A base chain of type `nat`.
pub fn nat_chain(hook: Hook, priority: i32, rules: Vec<Rule>) -> Chain {
    Chain { base: Some(Base { kind: ChainKind::Nat, hook, priority, accepts: true }), rules }
}
