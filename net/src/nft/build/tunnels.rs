//! What rules about packets in tunnels say.

use super::{A, Expr, Header, Register, RuleBuilder, Side, UDP, address_place, address_registers, mask};
use crate::family::Family;

impl RuleBuilder {
    /// Only packets whose source, together with the network of the source of the packet inside, is in the set. The packet
    /// inside is of family `inner`, begins at byte `at` behind the IP header, and its network has `length` bits.
    #[must_use]
    pub fn tunnelled_from(mut self, inner: Family, at: u32, length: u8, set: &str) -> Self {
        let second = Register(address_registers(self.family));
        let (source, len) = address_place(inner, Side::Source);
        self.exprs.push(self.load_address(Side::Source, A));
        self.exprs.push(Expr::Payload { header: Header::Transport, offset: at + source, len, to: second });
        self.exprs.push(Expr::Mask { from: second, to: second, mask: mask(inner, length) });
        self.exprs.push(Expr::Lookup { set: set.to_owned(), from: A, to: None, inverted: false });
        self
    }
}

impl<F> RuleBuilder<F> {
    /// Only UDP packets to this port, where every packet comes by and most are for another one.
    #[must_use]
    pub fn certain_udp_port(self, port: u16) -> Self {
        self.behind_ip(2, &port.to_be_bytes()).protocol(UDP)
    }

    /// Keeps the packet out of connection tracking.
    #[must_use]
    pub fn untracked(mut self) -> Self {
        self.exprs.push(Expr::Untracked);
        self
    }
}
