//! gRPC messages that are bytes already.
//!
//! Resources are encoded once and sent to many ([`crate::live::Made`]), so the answers of the stream are [`Bytes`]; what
//! proxies say is decoded as usual. The generated server encodes each message for each stream, which for a change that
//! concerns a thousand proxies is the dearest part of it.

use bytes::{BufMut as _, Bytes};
use outrigger_config::discovery::{ControlMessage, ProxyMessage};
use tonic::{
    Status,
    codec::{Codec, EncodeBuf, Encoder},
};
use tonic_prost::ProstCodec;

/// Encoded messages out, decoded messages in.
#[derive(Debug, Default)]
pub(crate) struct RawCodec;

/// Copies.
#[derive(Debug, Default)]
pub(crate) struct RawEncoder;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = ProxyMessage;
    type Encoder = RawEncoder;
    type Decoder = <ProstCodec<ControlMessage, ProxyMessage> as Codec>::Decoder;

    fn encoder(&mut self) -> Self::Encoder {
        RawEncoder
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<ControlMessage, ProxyMessage>::default().decoder()
    }
}

impl Encoder for RawEncoder {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(item);
        Ok(())
    }
}
