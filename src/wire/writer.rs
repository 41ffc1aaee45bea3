//! Pure. Writes the primitive types of the protocol, in either encoding.

use bytes::{BufMut, BytesMut};

use crate::types::TopicId;

/// A response being written.
pub(super) struct Writer<'a> {
    out: &'a mut BytesMut,
    flexible: bool,
}

impl<'a> Writer<'a> {
    /// Writes to the end of `out`; `flexible` versions have compact lengths and tagged fields (KIP-482).
    pub(super) fn new(out: &'a mut BytesMut, flexible: bool) -> Self {
        Self { out, flexible }
    }

    pub(super) fn i16(&mut self, value: i16) {
        self.out.put_i16(value);
    }

    pub(super) fn i32(&mut self, value: i32) {
        self.out.put_i32(value);
    }

    pub(super) fn i64(&mut self, value: i64) {
        self.out.put_i64(value);
    }

    pub(super) fn topic_id(&mut self, id: TopicId) {
        self.out.put_u128(id.0.as_u128());
    }

    pub(super) fn unsigned_varint(&mut self, value: usize) {
        let mut rest = u32::try_from(value).expect("a length of things in memory");
        while rest >= 0x80 {
            self.out.put_u8((rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        self.out.put_u8(rest as u8);
    }

    /// The length of an array or of bytes; `None` is null.
    pub(super) fn length(&mut self, length: Option<usize>) {
        match self.flexible {
            true => self.unsigned_varint(length.map_or(0, |length| length + 1)),
            false => {
                self.i32(length.map_or(-1, |length| i32::try_from(length).expect("a length of things in memory")));
            }
        }
    }

    pub(super) fn nullable_string(&mut self, value: Option<&str>) {
        match (self.flexible, value) {
            (true, _) => self.unsigned_varint(value.map_or(0, |value| value.len() + 1)),
            (false, None) => self.i16(-1),
            (false, Some(value)) => self.i16(i16::try_from(value.len()).expect("a string of less than 32 KiB")),
        }
        self.out.put_slice(value.unwrap_or_default().as_bytes());
    }

    pub(super) fn string(&mut self, value: &str) {
        self.nullable_string(Some(value));
    }

    /// The number of tagged fields that follow.
    pub(super) fn tag_count(&mut self, count: usize) {
        if self.flexible {
            self.unsigned_varint(count);
        }
    }

    /// A structure without tagged fields ends.
    pub(super) fn no_tags(&mut self) {
        self.tag_count(0);
    }

    /// One tagged field; its size is found by writing it.
    pub(super) fn tag(&mut self, tag: usize, value: impl FnOnce(&mut Writer<'_>)) {
        let mut bytes = BytesMut::new();
        value(&mut Writer::new(&mut bytes, true));
        self.unsigned_varint(tag);
        self.unsigned_varint(bytes.len());
        self.out.put_slice(&bytes);
    }
}
