//! What rules about who may talk to whom say.

use super::{
    A, A1, Comparison, Expr, Header, Meta, Register, RuleBuilder, SYN, Side, TCP, TCP_FLAGS, address_registers,
    load_port,
};

/// `NF_CT_STATE_BIT(IP_CT_ESTABLISHED)` and that of `IP_CT_RELATED` (`linux/netfilter/nf_conntrack_common.h`).
const KNOWN: u32 = 1 << 1 | 1 << 2;
/// The number of `ICMPv6` in the IP header (RFC 4443), and the first and the last type of neighbour discovery but for
/// redirects (RFC 4861, section 4).
const ICMPV6: u8 = 58;
const DISCOVERY: (u8, u8) = (133, 136);
/// Where the hop limit stands (RFC 8200, section 3), and what it is where no router was on the way.
const HOP_LIMIT: (u32, u8) = (7, 255);

impl RuleBuilder {
    /// Does what the map says of the packet's address.
    #[must_use]
    pub fn verdict_of_address(mut self, side: Side, map: &str) -> Self {
        self.exprs.push(self.load_address(side, A));
        self.exprs.push(Expr::VerdictOf { map: map.to_owned(), from: A });
        self
    }

    /// Only packets whose address is, behind `prefix` (whose length is a multiple of 4), in the set.
    #[must_use]
    pub fn prefixed_address_in(mut self, prefix: &[u8], side: Side, set: &str) -> Self {
        let address = self.load_prefix(prefix);
        self.exprs.push(self.load_address(side, address));
        self.look_up(set)
    }

    /// The same for `prefix . destination . protocol . port`.
    #[must_use]
    pub fn prefixed_port_in(mut self, prefix: &[u8], set: &str) -> Self {
        let address = self.load_prefix(prefix);
        let protocol = Register(address.0 + address_registers(self.family));
        self.exprs.push(self.load_address(Side::Destination, address));
        self.exprs.push(Expr::Meta { key: Meta::L4Proto, to: protocol });
        self.exprs.push(load_port(Register(protocol.0 + 1)));
        self.look_up(set)
    }

    /// Only packets whose `source . destination . source port . destination port` is in the set.
    #[must_use]
    pub fn connection_in(mut self, set: &str) -> Self {
        let second = Register(address_registers(self.family));
        let ports = second.0 + second.0;
        self.exprs.push(self.load_address(Side::Source, A));
        self.exprs.push(self.load_address(Side::Destination, second));
        self.exprs.push(Expr::Payload { header: Header::Transport, offset: 0, len: 2, to: Register(ports) });
        self.exprs.push(load_port(Register(ports + 1)));
        self.look_up(set)
    }

    fn look_up(mut self, set: &str) -> Self {
        self.exprs.push(Expr::Lookup { set: set.to_owned(), from: A, to: None, inverted: false });
        self
    }

    /// Loads what is always the same; the register behind it.
    fn load_prefix(&mut self, prefix: &[u8]) -> Register {
        self.exprs.push(Expr::Constant { value: prefix.to_vec(), to: A });
        Register(u8::try_from(prefix.len() / 4).unwrap_or_default())
    }
}

impl<F> RuleBuilder<F> {
    /// Only packets of connections that both sides know of, and errors about them.
    #[must_use]
    pub fn of_known_connection(mut self) -> Self {
        self.exprs.push(Expr::ConnectionState { to: A });
        self.exprs.push(Expr::Mask { from: A, to: A, mask: KNOWN.to_ne_bytes().to_vec() });
        self.exprs.push(Expr::Compare { from: A, op: Comparison::NotEqual, value: vec![0; 4] });
        self
    }

    /// Only packets that came by a link whose name begins with something between these, which are of one length.
    #[must_use]
    pub fn from_links_between(mut self, low: &str, high: &str) -> Self {
        self.exprs.push(Expr::Meta { key: Meta::InputName, to: A });
        self.between(low.as_bytes(), high.as_bytes())
    }

    /// Only packets that leave by such a link.
    #[must_use]
    pub fn to_links_between(mut self, low: &str, high: &str) -> Self {
        self.exprs.push(Expr::Meta { key: Meta::OutputName, to: A });
        self.between(low.as_bytes(), high.as_bytes())
    }

    fn between(mut self, low: &[u8], high: &[u8]) -> Self {
        self.exprs.push(Expr::Between { from: A, low: low.to_vec(), high: high.to_vec() });
        self
    }

    /// Only neighbour discovery of IPv6 on the link itself.
    #[must_use]
    pub fn neighbour_discovery(self) -> Self {
        let mut rule = self.protocol(ICMPV6);
        rule.exprs.push(Expr::Payload { header: Header::Transport, offset: 0, len: 1, to: A });
        let mut rule = rule.between(&[DISCOVERY.0], &[DISCOVERY.1]);
        rule.exprs.push(Expr::Payload { header: Header::Network, offset: HOP_LIMIT.0, len: 1, to: A });
        rule.exprs.push(Expr::Compare { from: A, op: Comparison::Equal, value: vec![HOP_LIMIT.1] });
        rule
    }

    /// Only packets of TCP by which nobody begins a connection.
    #[must_use]
    pub fn amid_connection(self) -> Self {
        let mut rule = self.protocol(TCP);
        rule.exprs.push(Expr::Payload { header: Header::Transport, offset: TCP_FLAGS + 1, len: 1, to: A });
        rule.exprs.push(Expr::Mask { from: A, to: A, mask: vec![SYN] });
        rule.exprs.push(Expr::Compare { from: A, op: Comparison::Equal, value: vec![0] });
        rule
    }

    /// Does what the map says of the packet's `protocol . port`.
    #[must_use]
    pub fn verdict_of_port(mut self, map: &str) -> Self {
        self.exprs.push(Expr::Meta { key: Meta::L4Proto, to: A });
        self.exprs.push(load_port(A1));
        self.exprs.push(Expr::VerdictOf { map: map.to_owned(), from: A });
        self
    }

    /// Only packets of a protocol (IANA) to ports from the first to the last.
    #[must_use]
    pub fn ports_between(self, protocol: u8, first: u16, last: u16) -> Self {
        let mut rule = self.protocol(protocol);
        rule.exprs.push(load_port(A));
        if first == last {
            rule.exprs.push(Expr::Compare { from: A, op: Comparison::Equal, value: first.to_be_bytes().to_vec() });
            return rule;
        }
        rule.between(&first.to_be_bytes(), &last.to_be_bytes())
    }

    /// Counts the packet.
    #[must_use]
    pub fn count(mut self) -> Self {
        self.exprs.push(Expr::Count);
        self
    }

    /// Only as many packets in a second, and at once on top of that.
    #[must_use]
    pub fn at_most(mut self, per_second: u32, burst: u32) -> Self {
        self.exprs.push(Expr::Limit { per_second, burst });
        self
    }

    /// Gives the head of the packet to whoever listens to this group, with a word; it goes on.
    #[must_use]
    pub fn log(mut self, group: u16, prefix: &str, length: u32) -> Self {
        self.exprs.push(Expr::Log { group, prefix: prefix.to_owned(), length });
        self
    }

    /// Goes to another chain for good.
    #[must_use]
    pub fn go_to(mut self, chain: impl Into<String>) -> Self {
        self.exprs.push(Expr::Goto { chain: chain.into() });
        self
    }

    /// Goes on behind the rule that jumped last.
    #[must_use]
    pub fn go_back(mut self) -> Self {
        self.exprs.push(Expr::Return);
        self
    }
}
