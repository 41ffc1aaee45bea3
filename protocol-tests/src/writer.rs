//! Writes request bodies by hand: for versions that the codec crate lacks, and for bodies that no codec would write.

/// A body under construction. Every method appends one field and hands the writer on.
#[derive(Clone, Default)]
pub struct Writer {
    /// What has been written.
    pub bytes: Vec<u8>,
}

impl Writer {
    /// An empty body.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends raw bytes.
    #[must_use]
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// INT8 and BOOLEAN.
    #[must_use]
    pub fn i8(self, value: i8) -> Self {
        self.raw(&value.to_be_bytes())
    }

    /// INT16.
    #[must_use]
    pub fn i16(self, value: i16) -> Self {
        self.raw(&value.to_be_bytes())
    }

    /// INT32, also the length of an array before flexible versions.
    #[must_use]
    pub fn i32(self, value: i32) -> Self {
        self.raw(&value.to_be_bytes())
    }

    /// INT64.
    #[must_use]
    pub fn i64(self, value: i64) -> Self {
        self.raw(&value.to_be_bytes())
    }

    /// An unsigned varint.
    #[must_use]
    pub fn varint(mut self, mut value: u64) -> Self {
        while value >= 0x80 {
            self.bytes.push((value as u8) | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
        self
    }

    /// The length of a compact array: one more than its elements.
    #[must_use]
    pub fn compact_count(self, count: usize) -> Self {
        self.varint(count as u64 + 1)
    }

    /// STRING, with its length in two bytes.
    #[must_use]
    pub fn string(self, value: &str) -> Self {
        self.i16(value.len() as i16).raw(value.as_bytes())
    }

    /// COMPACT_STRING.
    #[must_use]
    pub fn compact_string(self, value: &str) -> Self {
        self.compact_count(value.len()).raw(value.as_bytes())
    }

    /// COMPACT_NULLABLE_STRING.
    #[must_use]
    pub fn compact_nullable(self, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.compact_string(value),
            None => self.varint(0),
        }
    }

    /// UUID.
    #[must_use]
    pub fn uuid(self, id: uuid::Uuid) -> Self {
        self.raw(id.as_bytes())
    }

    /// No tagged fields.
    #[must_use]
    pub fn no_tags(self) -> Self {
        self.varint(0)
    }
}
