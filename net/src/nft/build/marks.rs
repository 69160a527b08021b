//! What rules say of the mark of a packet.

use super::{A, Comparison, Expr, Meta, RuleBuilder};

impl<F> RuleBuilder<F> {
    /// Sets these bits of the packet's mark, and leaves the others.
    #[must_use]
    pub fn set_mark(mut self, bits: u32) -> Self {
        self.exprs.push(Expr::Meta { key: Meta::Mark, to: A });
        self.exprs.push(Expr::SetBits { from: A, to: A, bits: bits.to_ne_bytes().to_vec() });
        self.exprs.push(Expr::SetMeta { key: Meta::Mark, from: A });
        self
    }

    /// Only packets whose mark has any of these bits.
    #[must_use]
    pub fn marked(mut self, bits: u32) -> Self {
        self.exprs.push(Expr::Meta { key: Meta::Mark, to: A });
        self.exprs.push(Expr::Mask { from: A, to: A, mask: bits.to_ne_bytes().to_vec() });
        self.exprs.push(Expr::Compare { from: A, op: Comparison::NotEqual, value: vec![0; 4] });
        self
    }

    /// Takes these bits from the packet's mark, and leaves the others.
    #[must_use]
    pub fn clear_mark(mut self, bits: u32) -> Self {
        self.exprs.push(Expr::Meta { key: Meta::Mark, to: A });
        self.exprs.push(Expr::Mask { from: A, to: A, mask: (!bits).to_ne_bytes().to_vec() });
        self.exprs.push(Expr::SetMeta { key: Meta::Mark, from: A });
        self
    }
}
