//! What rules about who a sender says that it is say.

use super::{A, Comparison, Expr, Header, Meta, Register, RuleBuilder, Side};

/// Behind the name of a link, which is as long as four registers, and behind an Ethernet address, which takes two.
const BEHIND_LINK: Register = Register(4);
const BEHIND_MAC: Register = Register(2);
/// How long an Ethernet address is.
const MAC: u32 = 6;
/// Where the source and the type of a frame stand (IEEE 802.3, section 3.2).
const SOURCE: u32 = 6;
const TYPE: u32 = 12;
/// Where ARP has the sender's Ethernet address, its IPv4 address, and the one that is asked for (RFC 826, for these two).
const ARP_MAC: u32 = 8;
const ARP_SENDER: u32 = 14;
const ARP_TARGET: u32 = 24;
/// The number of `ICMPv6` in the IP header (RFC 4443).
const ICMPV6: u8 = 58;
/// Where messages about neighbours have the address that they are about (RFC 4861, sections 4.3 and 4.4).
const TARGET: (u32, u32) = (8, 16);

impl RuleBuilder {
    /// Only packets whose `link . Ethernet source . source` is in the set.
    #[must_use]
    pub fn sender_in(mut self, set: &str) -> Self {
        let address = self.load_sender();
        self.exprs.push(self.load_address(Side::Source, address));
        self.exprs.push(lookup(set));
        self
    }

    /// Only messages about a neighbour whose `link . Ethernet source . target` is in the set.
    #[must_use]
    pub fn neighbour_in(mut self, set: &str) -> Self {
        let to = self.load_sender();
        self.exprs.push(Expr::Payload { header: Header::Transport, offset: TARGET.0, len: TARGET.1, to });
        self.exprs.push(lookup(set));
        self
    }
}

impl<F> RuleBuilder<F> {
    /// Only messages of `ICMPv6` of one type, where every packet comes by and most are none.
    #[must_use]
    pub fn message(self, kind: u8) -> Self {
        self.behind_ip(0, &[kind]).protocol(ICMPV6)
    }

    /// Only `ICMPv6`.
    #[must_use]
    pub fn messages(self) -> Self {
        self.protocol(ICMPV6)
    }

    /// Only frames of a type (IANA, `EtherType` numbers).
    #[must_use]
    pub fn frames(mut self, kind: [u8; 2]) -> Self {
        self.exprs.push(Expr::Payload { header: Header::Link, offset: TYPE, len: 2, to: A });
        self.exprs.push(Expr::Compare { from: A, op: Comparison::Equal, value: kind.to_vec() });
        self
    }

    /// Only ARP of a sender whose `Ethernet source . Ethernet address . address`, as it says that they are, is in the set.
    #[must_use]
    pub fn arp_sender_in(self, set: &str) -> Self {
        self.arp_in(ARP_SENDER, set)
    }

    /// Only ARP of a sender that has no address yet and looks whether somebody has its own (RFC 5227, section 2.1.1).
    #[must_use]
    pub fn arp_probe_in(mut self, set: &str) -> Self {
        self.exprs.push(Expr::Payload { header: Header::Network, offset: ARP_SENDER, len: 4, to: A });
        self.exprs.push(Expr::Compare { from: A, op: Comparison::Equal, value: vec![0; 4] });
        self.arp_in(ARP_TARGET, set)
    }

    fn arp_in(mut self, address: u32, set: &str) -> Self {
        let mac = BEHIND_MAC;
        let behind = Register(mac.0 + BEHIND_MAC.0);
        self.exprs.push(Expr::Payload { header: Header::Link, offset: SOURCE, len: MAC, to: A });
        self.exprs.push(Expr::Payload { header: Header::Network, offset: ARP_MAC, len: MAC, to: mac });
        self.exprs.push(Expr::Payload { header: Header::Network, offset: address, len: 4, to: behind });
        self.exprs.push(lookup(set));
        self
    }

    /// Loads the link and the Ethernet source; the register behind them.
    fn load_sender(&mut self) -> Register {
        self.exprs.push(Expr::Meta { key: Meta::InputName, to: A });
        self.exprs.push(Expr::Payload { header: Header::Link, offset: SOURCE, len: MAC, to: BEHIND_LINK });
        Register(BEHIND_LINK.0 + BEHIND_MAC.0)
    }
}

fn lookup(set: &str) -> Expr {
    Expr::Lookup { set: set.to_owned(), from: A, to: None, inverted: false }
}
