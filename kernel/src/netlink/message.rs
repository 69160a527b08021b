//! Messages as they go over a socket, and what is in them.

use std::net::IpAddr;

use netlink_packet_core::NetlinkBuffer;

/// `struct nlmsghdr`.
const HEADER: usize = 16;
/// `NLA_TYPE_MASK`: without the flags for nested content and for byte order.
const TYPE: u16 = 0x3fff;

/// A message as its type and the bytes behind the netlink header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// `nlmsg_type`.
    pub kind: u16,
    /// The protocol's own header, then attributes.
    pub body: Vec<u8>,
}

impl Message {
    /// The message with a netlink header in front of it.
    pub(super) fn with_header(&self, flags: u16, sequence: u32) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER + self.body.len());
        self.append_to(&mut bytes, flags, sequence);
        bytes
    }

    /// Appends the message, with a netlink header in front of it, at the next place where one may begin.
    pub(super) fn append_to(&self, bytes: &mut Vec<u8>, flags: u16, sequence: u32) {
        let start = bytes.len().next_multiple_of(4);
        bytes.resize(start + HEADER, 0);
        bytes.extend_from_slice(&self.body);
        let length = u32::try_from(HEADER + self.body.len()).unwrap_or(u32::MAX);
        if let Some(written) = bytes.get_mut(start..) {
            let mut header = NetlinkBuffer::new(written);
            header.set_length(length);
            header.set_message_type(self.kind);
            header.set_flags(flags);
            header.set_sequence_number(sequence);
        }
    }

    /// The protocol's own header; nothing where the message is shorter.
    pub fn header<const LENGTH: usize>(&self) -> Option<&[u8; LENGTH]> {
        self.body.first_chunk()
    }

    /// The attributes behind a header of `header` bytes. What is unknown to the reader does no harm.
    pub fn attributes(&self, header: usize) -> impl Iterator<Item = Attribute<'_>> {
        self.content(header).iter()
    }

    /// The same, to be looked up by their kinds.
    pub fn content(&self, header: usize) -> Content<'_> {
        Content(self.body.get(header..).unwrap_or_default())
    }
}

/// Attributes that are looked up by their kinds.
#[derive(Clone, Copy, Debug)]
pub struct Content<'a>(&'a [u8]);

impl<'a> Content<'a> {
    /// None at all.
    pub const EMPTY: Self = Self(&[]);

    /// All of them, in order.
    pub fn iter(self) -> impl Iterator<Item = Attribute<'a>> {
        attributes(self.0)
    }

    /// The first of a kind.
    pub fn get(self, kind: u16) -> Option<Attribute<'a>> {
        self.iter().find(|attribute| attribute.kind == kind)
    }

    /// A number in network byte order.
    pub fn number_be(self, kind: u16) -> Option<u32> {
        self.get(kind)?.value.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
    }

    /// A text.
    pub fn text(self, kind: u16) -> Option<String> {
        self.get(kind).map(|attribute| attribute.text())
    }

    /// The attributes in one.
    pub fn nested(self, kind: u16) -> Option<Self> {
        self.get(kind).map(|attribute| attribute.content())
    }
}

/// One attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// `nla_type`, without its flags.
    pub kind: u16,
    /// Its content.
    pub value: &'a [u8],
}

/// The attributes in the content of a message or of an attribute, up to the first that is cut short.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = Attribute<'_>> {
    std::iter::from_fn(move || {
        let [a, b, c, d] = *bytes.first_chunk()?;
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Attribute { kind: u16::from_ne_bytes([c, d]) & TYPE, value })
    })
}

impl<'a> Attribute<'a> {
    /// The attributes in it.
    pub fn nested(&self) -> impl Iterator<Item = Attribute<'a>> + use<'a> {
        attributes(self.value)
    }

    /// The attributes in it, to be looked up by their kinds.
    pub const fn content(&self) -> Content<'a> {
        Content(self.value)
    }

    /// Its content as a number.
    pub fn number(&self) -> Option<u32> {
        self.value.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
    }

    /// Its content as a text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.value).trim_end_matches('\0').to_owned()
    }

    /// Its content as an address of the family whose addresses are of this size.
    pub fn address(&self) -> Option<IpAddr> {
        let v4 = <[u8; 4]>::try_from(self.value).map(IpAddr::from);
        v4.or_else(|_| <[u8; 16]>::try_from(self.value).map(IpAddr::from)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_short_ends_the_list_and_is_no_panic() {
        let whole = [8, 0, 1, 0, 7, 0, 0, 0, 8, 0, 2, 0, 9, 0, 0, 0];
        let read = |bytes: &[u8]| attributes(bytes).map(|a| (a.kind, a.number())).collect::<Vec<_>>();
        assert_eq!(read(&whole), [(1, Some(7)), (2, Some(9))]);
        for length in 8..16 {
            assert_eq!(read(&whole[..length]), [(1, Some(7))], "{length}");
        }
        assert_eq!(Message { kind: 1, body: vec![1, 2] }.header::<4>(), None);
        assert_eq!(Message { kind: 1, body: vec![1, 2] }.attributes(4).count(), 0);
    }

    #[test]
    fn an_address_is_known_by_its_size() {
        let address = |value: &[u8]| Attribute { kind: 1, value }.address().map(|address| address.to_string());
        assert_eq!(address(&[10, 0, 0, 1]).as_deref(), Some("10.0.0.1"));
        assert_eq!(address(&[0; 16]).as_deref(), Some("::"));
        assert_eq!(address(&[0; 5]), None);
    }
}
