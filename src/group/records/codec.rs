//! Pure. The few primitives that the records of `__consumer_offsets` are made of. A reader never reads past its end and
//! never allocates by a length that it has not seen the bytes of.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use super::Malformed;

/// Reads one key or value.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Reader<'a> {
    /// Reads `bytes`, which are called `what` in errors.
    pub(super) fn new(bytes: &'a [u8], what: &'static str) -> Self {
        Self { rest: bytes, what }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Malformed::Field(self.what))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        Ok(self.take(N)?.try_into().expect("exactly N bytes were taken"))
    }

    pub(super) fn i16(&mut self) -> Result<i16, Malformed> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    pub(super) fn i32(&mut self) -> Result<i32, Malformed> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    pub(super) fn i64(&mut self) -> Result<i64, Malformed> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    fn varint(&mut self) -> Result<u32, Malformed> {
        let mut value = 0_u32;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array()?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed::Field(self.what))
    }

    /// A length: `None` for null.
    fn length(&mut self, flexible: bool, wide: bool) -> Result<Option<usize>, Malformed> {
        let length = match (flexible, wide) {
            (true, _) => i64::from(self.varint()?) - 1,
            (false, true) => i64::from(self.i32()?),
            (false, false) => i64::from(self.i16()?),
        };
        match length {
            -1 => Ok(None),
            length => usize::try_from(length).map(Some).map_err(|_| Malformed::Field(self.what)),
        }
    }

    pub(super) fn nullable_string_as(&mut self, flexible: bool) -> Result<Option<Arc<str>>, Malformed> {
        let Some(length) = self.length(flexible, false)? else { return Ok(None) };
        let text = std::str::from_utf8(self.take(length)?).map_err(|_| Malformed::Field(self.what))?;
        Ok(Some(Arc::from(text)))
    }

    pub(super) fn string_as(&mut self, flexible: bool) -> Result<Arc<str>, Malformed> {
        self.nullable_string_as(flexible)?.ok_or(Malformed::Field(self.what))
    }

    pub(super) fn string(&mut self) -> Result<Arc<str>, Malformed> {
        self.string_as(false)
    }

    pub(super) fn compact_string(&mut self) -> Result<Arc<str>, Malformed> {
        self.string_as(true)
    }

    /// Bytes, copied: what is kept must not pin the batch it came in.
    pub(super) fn bytes_as(&mut self, flexible: bool) -> Result<Bytes, Malformed> {
        let length = self.length(flexible, true)?.ok_or(Malformed::Field(self.what))?;
        Ok(Bytes::copy_from_slice(self.take(length)?))
    }

    pub(super) fn count_as(&mut self, flexible: bool) -> Result<usize, Malformed> {
        self.length(flexible, true)?.ok_or(Malformed::Field(self.what))
    }

    /// Shows every tagged field to `see`.
    pub(super) fn tagged_fields(&mut self, mut see: impl FnMut(u32, &[u8])) -> Result<(), Malformed> {
        for _ in 0..self.varint()? {
            let tag = self.varint()?;
            let size = self.varint()? as usize;
            see(tag, self.take(size)?);
        }
        Ok(())
    }
}

/// A string with a length of two bytes. Longer ones cannot come off the wire.
pub(super) fn put_string(out: &mut BytesMut, text: &str) {
    out.put_i16(i16::try_from(text.len()).expect("names and ids come off the wire with lengths of two bytes"));
    out.put_slice(text.as_bytes());
}

/// A string, or -1 for none.
pub(super) fn put_nullable_string(out: &mut BytesMut, text: Option<&str>) {
    match text {
        Some(text) => put_string(out, text),
        None => out.put_i16(-1),
    }
}

/// A string with a varint length.
pub(super) fn put_compact_string(out: &mut BytesMut, text: &str) {
    let mut length = u32::try_from(text.len()).expect("a frame is far below 4 GiB") + 1;
    while length >= 0x80 {
        out.put_u8((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    out.put_u8(length as u8);
    out.put_slice(text.as_bytes());
}

/// Bytes with a length of four bytes.
pub(super) fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    out.put_i32(i32::try_from(bytes.len()).expect("a frame is far below 2 GiB"));
    out.put_slice(bytes);
}
