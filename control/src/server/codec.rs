//! How messages are written and read: as `tonic_prost` does, with buffers for agents that mostly have nothing to say.

use tonic::codec::{BufferSettings, Codec};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

use crate::wire::schema as wire;

/// How much is set aside for a message, in bytes. A longer one takes more while it is written or read; there are thousands of
/// streams, and what is set aside is set aside for each.
const SET_ASIDE: usize = 512;
/// When what is written is handed on, in bytes: about one part of an update.
const HANDED_ON: usize = 16 * 1024;

/// The operator's side.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Small;

impl Codec for Small {
    type Encode = wire::FromOperator;
    type Decode = wire::FromAgent;
    type Encoder = ProstEncoder<wire::FromOperator>;
    type Decoder = ProstDecoder<wire::FromAgent>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<wire::FromOperator, wire::FromAgent>::raw_encoder(BufferSettings::new(SET_ASIDE, HANDED_ON))
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<wire::FromOperator, wire::FromAgent>::raw_decoder(BufferSettings::new(SET_ASIDE, HANDED_ON))
    }
}
