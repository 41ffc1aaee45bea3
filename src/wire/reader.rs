//! Pure. Reads the primitive types of the protocol off a request, in either encoding.
//!
//! Every count is held against the bytes that are there before anything is reserved for it, and all counts of one
//! request together against [`MAX_ENTRIES`]. What breaks the encoding has no answer: the connection is closed.

use bytes::{Buf, Bytes};
use kafka_protocol::protocol::StrBytes;

use crate::error::Disconnect;
use crate::types::TopicId;

/// Elements of all arrays and tagged fields of one request. No client gets near it; a hostile frame
/// would, and each element costs the broker hundreds of bytes.
pub(super) const MAX_ENTRIES: usize = 250_000;

/// The longest string of the protocol, in either encoding (`MessageGenerator` of Kafka refuses longer ones).
pub(super) const MAX_STRING: usize = i16::MAX as usize;

const TRUNCATED: Disconnect = Disconnect::because("a request ends before its last field");
const BAD_LENGTH: Disconnect = Disconnect::because("a request has a length beyond its end");
const NULL: Disconnect = Disconnect::because("a request has null where the protocol has none");
const LONG_STRING: Disconnect = Disconnect::because("a request has a string of more than 32,767 bytes");
const BAD_VARINT: Disconnect = Disconnect::because("a request has a varint of more than five bytes");

/// A request's body being read. Strings and bytes are slices of it.
pub(super) struct Reader {
    bytes: Bytes,
    flexible: bool,
    entries: usize,
}

impl Reader {
    /// Reads `bytes`; `flexible` versions have compact lengths and tagged fields (KIP-482).
    pub(super) fn new(bytes: Bytes, flexible: bool) -> Self {
        Self { bytes, flexible, entries: 0 }
    }

    /// What has not been read.
    pub(super) fn into_rest(self) -> Bytes {
        self.bytes
    }

    pub(super) fn i8(&mut self) -> Result<i8, Disconnect> {
        self.bytes.try_get_i8().map_err(|_| TRUNCATED)
    }

    pub(super) fn i16(&mut self) -> Result<i16, Disconnect> {
        self.bytes.try_get_i16().map_err(|_| TRUNCATED)
    }

    pub(super) fn i32(&mut self) -> Result<i32, Disconnect> {
        self.bytes.try_get_i32().map_err(|_| TRUNCATED)
    }

    pub(super) fn i64(&mut self) -> Result<i64, Disconnect> {
        self.bytes.try_get_i64().map_err(|_| TRUNCATED)
    }

    pub(super) fn topic_id(&mut self) -> Result<TopicId, Disconnect> {
        let id = self.bytes.try_get_u128().map_err(|_| TRUNCATED)?;
        Ok(TopicId(uuid::Uuid::from_u128(id)))
    }

    fn unsigned_varint(&mut self) -> Result<usize, Disconnect> {
        let mut value = 0_u64;
        for i in 0..5 {
            let byte = self.bytes.try_get_u8().map_err(|_| TRUNCATED)?;
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte & 0x80 == 0 {
                return usize::try_from(value).map_err(|_| BAD_LENGTH);
            }
        }
        Err(BAD_VARINT)
    }

    fn take(&mut self, length: usize) -> Result<Bytes, Disconnect> {
        if length > self.bytes.len() {
            return Err(BAD_LENGTH);
        }
        Ok(self.bytes.split_to(length))
    }

    /// A string, possibly null. Bytes that are no UTF-8 are replaced, as Kafka does; what then is too long for an answer to
    /// repeat it is refused.
    pub(super) fn nullable_string(&mut self) -> Result<Option<StrBytes>, Disconnect> {
        let length = match self.flexible {
            true => self.unsigned_varint()?.checked_sub(1),
            false => usize::try_from(self.i16()?).ok(),
        };
        let Some(length) = length else { return Ok(None) };
        let text = if length <= MAX_STRING { lossy(self.take(length)?) } else { return Err(LONG_STRING) };
        if text.len() <= MAX_STRING { Ok(Some(text)) } else { Err(LONG_STRING) }
    }

    pub(super) fn string(&mut self) -> Result<StrBytes, Disconnect> {
        self.nullable_string()?.ok_or(NULL)
    }

    pub(super) fn nullable_bytes(&mut self) -> Result<Option<Bytes>, Disconnect> {
        let length = match self.flexible {
            true => self.unsigned_varint()?.checked_sub(1),
            false => usize::try_from(self.i32()?).ok(),
        };
        length.map(|length| self.take(length)).transpose()
    }

    /// The number of elements of an array, of at least `least` bytes each; `None` is null.
    fn count(&mut self, least: usize) -> Result<Option<usize>, Disconnect> {
        let count = match self.flexible {
            true => self.unsigned_varint()?.checked_sub(1),
            false => usize::try_from(self.i32()?).ok(),
        };
        let Some(count) = count else {
            return Ok(None);
        };
        self.enter(count, least)?;
        Ok(Some(count))
    }

    /// Holds a count against the bytes that are left and against what one request may have.
    fn enter(&mut self, count: usize, least: usize) -> Result<(), Disconnect> {
        if count > self.bytes.len() / least {
            return Err(BAD_LENGTH);
        }
        self.entries = self.entries.saturating_add(count);
        match self.entries > MAX_ENTRIES {
            true => Err(Disconnect::because("a request has more than a quarter of a million elements")),
            false => Ok(()),
        }
    }

    /// An array, shown element by element.
    pub(super) fn each(
        &mut self,
        least: usize,
        mut element: impl FnMut(&mut Self) -> Result<(), Disconnect>,
    ) -> Result<(), Disconnect> {
        for _ in 0..self.count(least)?.ok_or(NULL)? {
            element(self)?;
        }
        Ok(())
    }

    /// An array, kept, possibly null. Room is reserved for elements for which there are bytes.
    pub(super) fn nullable_array<T>(
        &mut self,
        least: usize,
        mut element: impl FnMut(&mut Self) -> Result<T, Disconnect>,
    ) -> Result<Option<Vec<T>>, Disconnect> {
        let Some(count) = self.count(least)? else {
            return Ok(None);
        };
        let mut out = Vec::with_capacity(count);
        for _ in 0..count {
            out.push(element(self)?);
        }
        Ok(Some(out))
    }

    /// An array, kept.
    pub(super) fn array<T>(
        &mut self,
        least: usize,
        element: impl FnMut(&mut Self) -> Result<T, Disconnect>,
    ) -> Result<Vec<T>, Disconnect> {
        self.nullable_array(least, element)?.ok_or(NULL)
    }

    /// The tagged fields that end a structure. `known` is shown the value of each tag that it may know.
    pub(super) fn tags(
        &mut self,
        mut known: impl FnMut(usize, &mut Self) -> Result<(), Disconnect>,
    ) -> Result<(), Disconnect> {
        if !self.flexible {
            return Ok(());
        }
        let count = self.unsigned_varint()?;
        self.enter(count, 2)?;
        for _ in 0..count {
            let tag = self.unsigned_varint()?;
            let size = self.unsigned_varint()?;
            let value = self.take(size)?;
            known(tag, &mut Reader::new(value, true))?;
        }
        Ok(())
    }

    /// Tagged fields of which none is known.
    pub(super) fn skip_tags(&mut self) -> Result<(), Disconnect> {
        self.tags(|_, _| Ok(()))
    }
}

fn lossy(bytes: Bytes) -> StrBytes {
    StrBytes::from_utf8(bytes.clone())
        .unwrap_or_else(|_| StrBytes::from_string(String::from_utf8_lossy(&bytes).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_beyond_the_bytes_closes_the_connection() {
        let mut legacy = Reader::new(Bytes::from_static(&[0x7f, 0xff, 0xff, 0xff]), false);
        assert_eq!(legacy.array(2, Reader::i16), Err(BAD_LENGTH));
        let mut compact = Reader::new(Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0x0f, 1, 2]), true);
        assert_eq!(compact.array(2, Reader::i16), Err(BAD_LENGTH));
    }

    #[test]
    fn null_where_none_may_be_closes_the_connection() {
        assert_eq!(Reader::new(Bytes::from_static(&[0]), true).string(), Err(NULL));
        assert_eq!(Reader::new(Bytes::from_static(&[0xff, 0xff]), false).string(), Err(NULL));
        assert_eq!(Reader::new(Bytes::from_static(&[0]), true).array(1, Reader::i8), Err(NULL));
    }

    #[test]
    fn a_varint_of_twelve_bytes_closes_the_connection() {
        let mut reader = Reader::new(Bytes::from_static(&[0x80; 12]), true);
        assert_eq!(reader.skip_tags(), Err(BAD_VARINT));
    }

    #[test]
    fn bytes_that_are_no_utf8_are_replaced() {
        let mut reader = Reader::new(Bytes::from_static(&[0, 2, 0xff, b'a']), false);
        assert_eq!(reader.string().unwrap().as_str(), "\u{fffd}a");
    }

    #[test]
    fn a_string_that_no_answer_could_repeat_is_refused() {
        let legacy = |count: u16, byte: u8| {
            let bytes = [&count.to_be_bytes()[..], &vec![byte; usize::from(count)]].concat();
            Reader::new(bytes.into(), false).string()
        };
        assert_eq!(legacy(32_767, b'a').map(|text| text.len()), Ok(32_767));
        assert_eq!(legacy(10_922, 0xff).map(|text| text.len()), Ok(32_766), "each bad byte becomes three");
        assert_eq!(legacy(10_923, 0xff), Err(LONG_STRING));
        assert_eq!(legacy(32_767, 0xff), Err(LONG_STRING));
        // 32,768 and 32,769 as varints: one more than the length.
        let compact = |length: [u8; 3]| Reader::new([&length[..], &[b'a'; 40_000]].concat().into(), true).string();
        assert_eq!(compact([0x80, 0x80, 0x02]).map(|text| text.len()), Ok(32_767));
        assert_eq!(compact([0x81, 0x80, 0x02]), Err(LONG_STRING));
    }

    #[test]
    fn unknown_tags_are_skipped_and_a_size_beyond_the_end_is_refused() {
        let mut reader = Reader::new(Bytes::from_static(&[2, 7, 1, 99, 8, 0, 42]), true);
        reader.skip_tags().unwrap();
        assert_eq!(reader.i8(), Ok(42));
        assert_eq!(Reader::new(Bytes::from_static(&[1, 0, 9, 1]), true).skip_tags(), Err(BAD_LENGTH));
    }

    #[test]
    fn a_request_of_too_many_elements_is_refused() {
        let elements = |count: i32| {
            let mut bytes = count.to_be_bytes().to_vec();
            bytes.resize(300_000, 0);
            Reader::new(bytes.into(), false).each(1, |reader| reader.i8().map(|_| ()))
        };
        assert_eq!(elements(250_000), Ok(()));
        assert!(elements(250_001).is_err());
    }

    #[test]
    fn a_request_of_too_many_tagged_fields_is_refused() {
        let tags = |count: [u8; 3]| {
            let mut bytes = count.to_vec();
            bytes.resize(600_000, 0);
            Reader::new(bytes.into(), true).skip_tags()
        };
        // 250,000 and 250,001 as varints.
        assert_eq!(tags([0x90, 0xa1, 0x0f]), Ok(()));
        assert!(tags([0x91, 0xa1, 0x0f]).is_err());
    }
}
