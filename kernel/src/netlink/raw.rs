//! Messages of protocols that nobody decodes for us.

use std::convert::Infallible;

use netlink_packet_core::{NetlinkDeserializable, NetlinkHeader, NetlinkSerializable};

/// A message as its type and the bytes after the netlink header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawMessage {
    /// `nlmsg_type`.
    pub message_type: u16,
    /// Everything after the netlink header.
    pub body: Vec<u8>,
}

impl NetlinkSerializable for RawMessage {
    fn message_type(&self) -> u16 {
        self.message_type
    }

    fn buffer_len(&self) -> usize {
        self.body.len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        buffer.copy_from_slice(&self.body);
    }
}

impl NetlinkDeserializable for RawMessage {
    type Error = Infallible;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, Infallible> {
        Ok(Self { message_type: header.message_type, body: payload.to_vec() })
    }
}
