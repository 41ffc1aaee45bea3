//! Pure. Feeds a stranger's bytes to kafka-protocol's decoders, which believe every count.
//!
//! kafka-protocol 0.18 reserves an array by its declared count. In flexible versions every unsigned varint is a length,
//! a count or a tag, and none of them can exceed the bytes that follow: [`decode`] refuses one that does before
//! the decoder has seen it. The counts of older versions are plain integers and cannot be told from values; their requests
//! are walked by their shape first. The number of pieces that are read is limited too, numbers, strings and tags alike:
//! what a decoder makes of two bytes can take a hundred. So is the length of a string, which flexible versions do not limit
//! by themselves: what came in one version may have to go out in another, where a string has 32,767 bytes at most.

use bytes::{Buf, Bytes, TryGetError};
use kafka_protocol::protocol::Request;
use kafka_protocol::protocol::buf::ByteBuf;

use super::reader::MAX_STRING;
use super::shape;
use crate::error::Disconnect;

/// The request header of flexible versions.
const FLEXIBLE_HEADER: i16 = 2;
/// Numbers, strings, byte fields and lengths in one request: ten for each of a hundred thousand partitions.
const MAX_PIECES: usize = 1_000_000;
/// A varint up to this is let through: as a count it is harmless, and a tag may be larger than what follows it.
const HARMLESS: usize = 65_536;
/// Requests that have byte fields beside their strings: JoinGroup and SyncGroup. Their handlers look at the lengths of texts
/// that they keep.
const WITH_BYTES: [i16; 2] = [11, 14];
/// Five bytes of seven bits.
const MAX_VARINT_BITS: u32 = 35;

/// Reads a request's body. What follows it is ignored, as Kafka does.
pub fn decode<T: Request>(body: Bytes, version: i16) -> Result<T, Disconnect> {
    if T::header_version(version) < FLEXIBLE_HEADER {
        shape::check(T::KEY, version, &body)?;
    }
    let longest = if WITH_BYTES.contains(&T::KEY) { usize::MAX } else { MAX_STRING };
    let mut guarded = Guarded { bytes: body, longest, pieces: 0, varint: 0, shift: 0 };
    T::decode(&mut guarded, version).map_err(|error| Disconnect(format!("a request cannot be read: {error}").into()))
}

/// Bytes that refuse a varint larger than what is left of them, and end after so many pieces.
struct Guarded {
    bytes: Bytes,
    /// The longest string, byte field or tagged field.
    longest: usize,
    pieces: usize,
    /// The varint being read. kafka-protocol reads nothing else but booleans as single unsigned bytes; a "boolean" with
    /// the high bit set makes the next varint look larger, never smaller.
    varint: u64,
    shift: u32,
}

impl Buf for Guarded {
    fn remaining(&self) -> usize {
        // Every read of a number asks this first.
        if self.pieces > MAX_PIECES { 0 } else { self.bytes.remaining() }
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.pieces += 1;
        self.bytes.advance(count);
    }

    fn try_get_u8(&mut self) -> Result<u8, TryGetError> {
        if self.remaining() == 0 {
            return Err(TryGetError { requested: 1, available: 0 });
        }
        let byte = self.get_u8();
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
        self.pieces += 1;
        if self.remaining() < size || size > self.longest {
            return Err(kafka_protocol::protocol::buf::NotEnoughBytesError);
        }
        Ok(self.get_bytes(size))
    }
}

#[cfg(test)]
#[path = "guard_tests.rs"]
mod tests;
