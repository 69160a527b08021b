//! Netlink messages and attributes, byte by byte (`linux/netlink.h`, `linux/netfilter/nfnetlink.h`).
//!
//! All numbers of nftables are in network byte order; those of the message header in the host's.

/// The length of `struct nlmsghdr`.
const MESSAGE_HEADER: usize = 16;
/// The length of `struct nfgenmsg`.
const FAMILY_HEADER: usize = 4;
/// `NLA_F_NESTED`: the attribute holds attributes.
const NESTED: u16 = 1 << 15;
/// `NLA_TYPE_MASK`: the attribute's type without its flags.
const TYPE_MASK: u16 = 0x3fff;

/// Writes messages one after another into one buffer.
#[derive(Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// Writes one message: `kind` and `flags` of its header, the family and resource id of nfnetlink's, and attributes.
    pub fn message(
        &mut self,
        kind: u16,
        flags: u16,
        (family, resource): (u8, u16),
        sequence: u32,
        body: impl FnOnce(&mut Self),
    ) {
        let start = self.bytes.len();
        self.bytes.extend([0; 4]);
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(flags.to_ne_bytes());
        self.bytes.extend(sequence.to_ne_bytes());
        self.bytes.extend([0; 4]);
        self.bytes.push(family);
        self.bytes.push(0);
        self.bytes.extend(resource.to_be_bytes());
        body(self);
        let len = u32::try_from(self.bytes.len() - start).unwrap_or(u32::MAX);
        self.patch(start, &len.to_ne_bytes());
    }

    /// Writes one attribute. `data` is at most 65,531 bytes long: longer lists are written in pieces.
    pub fn attribute(&mut self, kind: u16, data: &[u8]) {
        let start = self.open(kind);
        self.bytes.extend(data);
        self.close(start);
    }

    /// Writes a number.
    pub fn u32(&mut self, kind: u16, value: u32) {
        self.attribute(kind, &value.to_be_bytes());
    }

    /// Writes a string with its final zero.
    pub fn string(&mut self, kind: u16, value: &str) {
        let start = self.open(kind);
        self.bytes.extend(value.as_bytes());
        self.bytes.push(0);
        self.close(start);
    }

    /// Writes an attribute that holds attributes.
    pub fn nest(&mut self, kind: u16, body: impl FnOnce(&mut Self)) {
        let start = self.open(kind | NESTED);
        body(self);
        self.close(start);
    }

    /// What was written.
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }

    fn open(&mut self, kind: u16) -> usize {
        let start = self.bytes.len();
        self.bytes.extend([0; 2]);
        self.bytes.extend(kind.to_ne_bytes());
        start
    }

    fn close(&mut self, start: usize) {
        let len = u16::try_from(self.bytes.len() - start).unwrap_or(u16::MAX);
        self.patch(start, &len.to_ne_bytes());
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn patch(&mut self, at: usize, value: &[u8]) {
        if let Some(place) = self.bytes.get_mut(at..at + value.len()) {
            place.copy_from_slice(value);
        }
    }
}

/// One message that the kernel sent.
#[derive(Clone, Copy)]
pub struct Message<'a> {
    /// Its type.
    pub kind: u16,
    /// Its flags.
    pub flags: u16,
    /// The number of the request that it answers.
    pub sequence: u32,
    /// What follows the header.
    pub payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// The attributes behind nfnetlink's header.
    pub fn attributes(&self) -> Attributes<'a> {
        Attributes(self.payload.get(FAMILY_HEADER..).unwrap_or_default())
    }

    /// The family in nfnetlink's header.
    pub fn family(&self) -> u8 {
        self.payload.first().copied().unwrap_or_default()
    }
}

/// The messages of one datagram. Ends at the first that is cut short.
pub fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let len = usize::try_from(u32::from_ne_bytes(*bytes.first_chunk()?)).ok()?;
        let message = bytes.get(..len).filter(|_| len >= MESSAGE_HEADER)?;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(Message {
            kind: u16::from_ne_bytes([message[4], message[5]]),
            flags: u16::from_ne_bytes([message[6], message[7]]),
            sequence: u32::from_ne_bytes([message[8], message[9], message[10], message[11]]),
            payload: &message[MESSAGE_HEADER..],
        })
    })
}

/// A run of attributes.
#[derive(Clone, Copy)]
pub struct Attributes<'a>(pub &'a [u8]);

impl<'a> Attributes<'a> {
    /// Each attribute: its type and its data.
    pub fn iter(self) -> impl Iterator<Item = (u16, &'a [u8])> {
        let mut bytes = self.0;
        std::iter::from_fn(move || {
            let len = usize::from(u16::from_ne_bytes(*bytes.first_chunk()?));
            let attribute = bytes.get(..len).filter(|_| len >= 4)?;
            bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
            Some((u16::from_ne_bytes([attribute[2], attribute[3]]) & TYPE_MASK, &attribute[4..]))
        })
    }

    /// The data of the first attribute of a type.
    pub fn get(self, kind: u16) -> Option<&'a [u8]> {
        self.iter().find(|(k, _)| *k == kind).map(|(_, data)| data)
    }

    /// The attributes that an attribute holds.
    pub fn nested(self, kind: u16) -> Option<Self> {
        self.get(kind).map(Self)
    }

    /// A number.
    pub fn u32(self, kind: u16) -> Option<u32> {
        self.get(kind)?.first_chunk().map(|b| u32::from_be_bytes(*b))
    }

    /// A string without its final zero.
    pub fn string(self, kind: u16) -> Option<&'a str> {
        std::str::from_utf8(self.get(kind)?).ok().map(|s| s.trim_end_matches('\0'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut writer = Writer::default();
        writer.message(7, 5, (1, 9), 42, |w| {
            w.string(1, "towpath");
            w.nest(2, |w| w.u32(3, 0x0102_0304));
        });
        let bytes = writer.finish();
        let all: Vec<_> = messages(&bytes).collect();
        assert_eq!(all.len(), 1);
        assert_eq!((all[0].kind, all[0].flags, all[0].sequence, all[0].family()), (7, 5, 42, 1));
        let attributes = all[0].attributes();
        assert_eq!(attributes.string(1), Some("towpath"));
        assert_eq!(attributes.nested(2).and_then(|a| a.u32(3)), Some(0x0102_0304));
    }

    #[test]
    fn bytes_that_are_cut_short_end_the_run() {
        let mut writer = Writer::default();
        writer.message(1, 0, (1, 0), 1, |w| w.string(1, "x"));
        let bytes = writer.finish();
        for len in 0..bytes.len() {
            assert_eq!(messages(&bytes[..len]).count(), 0);
        }
    }
}
