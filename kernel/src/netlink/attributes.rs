//! Writing netlink attributes (`struct nlattr`, `linux/netlink.h`).

use std::net::IpAddr;

/// `NLA_F_NESTED`.
const NESTED: u16 = 0x8000;

/// The attributes of a message, one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes(Vec<u8>);

impl Attributes {
    /// No attributes yet, behind `header`, the protocol's own header.
    pub fn after(header: &[u8]) -> Self {
        Self(header.to_vec())
    }

    /// Adds an attribute. `value` must be shorter than 64 KiB less four bytes, which is what the length field holds.
    pub fn put(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// Adds a number.
    pub fn put_number(&mut self, kind: u16, value: u32) -> &mut Self {
        self.put(kind, &value.to_ne_bytes())
    }

    /// Adds a number in network byte order, as netfilter has them.
    pub fn put_number_be(&mut self, kind: u16, value: u32) -> &mut Self {
        self.put(kind, &value.to_be_bytes())
    }

    /// Adds a text, with the zero that ends it.
    pub fn put_text(&mut self, kind: u16, text: &str) -> &mut Self {
        let start = self.begin(kind);
        self.0.extend(text.as_bytes());
        self.0.push(0);
        self.end(start)
    }

    /// Adds an address in the size of its family.
    pub fn put_address(&mut self, kind: u16, address: IpAddr) -> &mut Self {
        match address {
            IpAddr::V4(address) => self.put(kind, &address.octets()),
            IpAddr::V6(address) => self.put(kind, &address.octets()),
        }
    }

    /// Adds an attribute that holds attributes.
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.begin(kind | NESTED);
        fill(self);
        self.end(start)
    }

    /// Begins an attribute whose length is not known yet.
    fn begin(&mut self, kind: u16) -> usize {
        let start = self.0.len();
        self.0.extend([0; 2]);
        self.0.extend(kind.to_ne_bytes());
        start
    }

    /// Ends the attribute that began at `start`.
    fn end(&mut self, start: usize) -> &mut Self {
        let length = u16::try_from(self.0.len() - start).unwrap_or(u16::MAX);
        if let Some(written) = self.0.get_mut(start..start + 2) {
            written.copy_from_slice(&length.to_ne_bytes());
        }
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// Adds attributes that were written apart.
    pub fn append(&mut self, others: &Self) -> &mut Self {
        self.0.extend(&others.0);
        self
    }

    /// How much was written, in bytes.
    pub fn length(&self) -> usize {
        self.0.len()
    }

    /// All that was written so far, to be sent.
    pub(super) fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }

    /// All that was written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_nested() {
        let mut attributes = Attributes::after(&[9, 9, 9, 9]);
        attributes.put(1, &[7]).nest(2, |inner| {
            inner.put(3, &[1, 2, 3, 4]);
        });
        let expected = [9, 9, 9, 9, 5, 0, 1, 0, 7, 0, 0, 0, 12, 0, 2, 0x80, 8, 0, 3, 0, 1, 2, 3, 4];
        assert_eq!(attributes.into_bytes(), expected);
    }
}
