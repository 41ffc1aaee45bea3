//! Pure. Feeds a stranger's bytes to kafka-protocol's decoders, which believe every count.
//!
//! kafka-protocol 0.18 reserves an array by its declared count. In flexible versions every unsigned varint is a length,
//! a count or a tag, and none of them can exceed the bytes that follow: [`decode`] refuses one that does before
//! the decoder has seen it. The counts of older versions are plain integers and cannot be told from values; for them the
//! allocator's lazy reservation (mimalloc) makes the false count cost nothing, and the decode fails on the missing bytes.
//! The number of strings, byte fields and unknown tags is limited too: each costs many times its bytes.

use bytes::{Buf, Bytes, TryGetError};
use kafka_protocol::protocol::Decodable;
use kafka_protocol::protocol::buf::ByteBuf;

use crate::error::Disconnect;

/// Strings, byte fields and unknown tags in one request.
const MAX_SLICES: usize = 2_000_000;
/// A varint up to this is let through: as a count it is harmless, and a tag may be larger than what follows it.
const HARMLESS: usize = 65_536;
/// Five bytes of seven bits.
const MAX_VARINT_BITS: u32 = 35;

/// Reads a request's body. What follows it is ignored, as Kafka does.
pub fn decode<T: Decodable>(body: Bytes, version: i16) -> Result<T, Disconnect> {
    let mut guarded = Guarded { bytes: body, slices: 0, varint: 0, shift: 0 };
    T::decode(&mut guarded, version).map_err(|error| Disconnect(format!("a request cannot be read: {error}").into()))
}

/// Bytes that refuse a varint larger than what is left of them.
struct Guarded {
    bytes: Bytes,
    slices: usize,
    /// The varint being read. kafka-protocol reads nothing else but booleans as single unsigned bytes; a "boolean" with
    /// the high bit set makes the next varint look larger, never smaller.
    varint: u64,
    shift: u32,
}

impl Buf for Guarded {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
    }

    fn try_get_u8(&mut self) -> Result<u8, TryGetError> {
        let byte = self.bytes.try_get_u8()?;
        self.varint |= u64::from(byte & 0x7f) << self.shift;
        self.shift += 7;
        if byte & 0x80 != 0 && self.shift >= MAX_VARINT_BITS {
            // kafka-protocol would take it as ended.
            return Err(TryGetError { requested: 1, available: 0 });
        }
        if byte & 0x80 == 0 {
            let requested = usize::try_from(std::mem::take(&mut self.varint)).unwrap_or(usize::MAX);
            self.shift = 0;
            // Compact lengths are one more than what they count.
            if requested > (self.bytes.remaining() + 1).max(HARMLESS) {
                return Err(TryGetError { requested, available: self.bytes.remaining() });
            }
        }
        Ok(byte)
    }
}

impl ByteBuf for Guarded {
    fn peek_bytes(&mut self, range: std::ops::Range<usize>) -> Bytes {
        self.bytes.slice(range)
    }

    fn get_bytes(&mut self, size: usize) -> Bytes {
        self.bytes.split_to(size)
    }

    fn try_get_bytes(&mut self, size: usize) -> Result<Bytes, kafka_protocol::protocol::buf::NotEnoughBytesError> {
        self.slices += 1;
        if self.slices > MAX_SLICES || self.bytes.remaining() < size {
            return Err(kafka_protocol::protocol::buf::NotEnoughBytesError);
        }
        Ok(self.get_bytes(size))
    }
}

#[cfg(test)]
#[path = "guard_tests.rs"]
mod tests;
