//! Pure. The records inside a batch: a walk that keeps nothing, an iterator that slices, and a writer.
//!
//! A record is a length, attributes, two deltas, key, value and headers, all in zigzag varints. Headers keep their order
//! and their duplicates. The walk reads a stream, so a compressed batch is checked in constant memory.

use std::io::{self, BufRead};
use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};

use crate::types::{Offset, Timestamp};
use crate::wire::batch::{HEADER_BYTES, StoredBatch};
use crate::wire::compress::{Codec, MAX_DECOMPRESSED_BYTES, decompress};

/// Records that cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RecordsError {
    /// The bytes are no records.
    #[error("{0}")]
    Malformed(&'static str),
    /// They decompress to more than the cap, which is given.
    #[error("the records are more than {0} bytes when decompressed")]
    TooLarge(usize),
}

impl RecordsError {
    /// What a decompressor's failure means; `cap` is its cap.
    pub(crate) fn from_io(error: &io::Error, cap: usize) -> Self {
        match error.kind() {
            io::ErrorKind::FileTooLarge => Self::TooLarge(cap),
            io::ErrorKind::UnexpectedEof => Self::Malformed("the records end too early"),
            _ => Self::Malformed("the compressed records cannot be read"),
        }
    }
}

const BAD_VARINT: RecordsError = RecordsError::Malformed("a varint in the records is too long");
const BAD_LENGTH: RecordsError = RecordsError::Malformed("a length in the records is impossible");
const BAD_SIZE: RecordsError = RecordsError::Malformed("a record's length does not match its fields");
const TOO_SHORT: RecordsError = RecordsError::Malformed("the records end too early");

/// What a walk tells of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecordShape {
    /// Its timestamp less the base timestamp.
    pub timestamp_delta: i64,
    /// Its offset less the base offset.
    pub offset_delta: i32,
    /// False when the key is null.
    pub has_key: bool,
}

/// Reads exactly `count` records, which must be all there is, and shows each to `visit`.
pub fn walk(
    source: &mut impl BufRead,
    count: i32,
    mut visit: impl FnMut(RecordShape) -> Result<(), RecordsError>,
) -> Result<(), RecordsError> {
    for _ in 0..count {
        let shape = walk_record(source)?;
        visit(shape)?;
    }
    match source.fill_buf() {
        Ok([]) => Ok(()),
        Ok(_) => Err(RecordsError::Malformed("there are more records than the batch claims")),
        Err(error) => Err(stream_error(&error)),
    }
}

fn stream_error(error: &io::Error) -> RecordsError {
    RecordsError::from_io(error, MAX_DECOMPRESSED_BYTES)
}

/// Reads one record: off the buffer when it is there as a whole, as most are, else as a stream.
fn walk_record<R: BufRead>(source: &mut R) -> Result<RecordShape, RecordsError> {
    let available = source.fill_buf().map_err(|error| stream_error(&error))?;
    let mut cursor = Cursor { bytes: available, position: 0 };
    let whole = cursor.varint().ok().and_then(|length| cursor.take(usize::try_from(length).ok()?).ok());
    let Some(body) = whole else {
        return stream_record(source);
    };
    let end = body.end;
    let shape = buffered_record(&available[body])?;
    source.consume(end);
    Ok(shape)
}

/// Reads one record whose bytes after the length are `body`.
fn buffered_record(body: &[u8]) -> Result<RecordShape, RecordsError> {
    let mut cursor = Cursor { bytes: body, position: 1 };
    let timestamp_delta = cursor.varlong()?;
    let offset_delta = cursor.varint()?;
    let has_key = cursor.field()?.is_some();
    cursor.field()?;
    let headers = usize::try_from(cursor.varint()?).map_err(|_| BAD_LENGTH)?;
    if headers > body.len() {
        return Err(BAD_LENGTH);
    }
    for _ in 0..headers {
        cursor.field()?.ok_or(BAD_LENGTH)?;
        cursor.field()?;
    }
    match cursor.position == body.len() {
        true => Ok(RecordShape { timestamp_delta, offset_delta, has_key }),
        false => Err(BAD_SIZE),
    }
}

fn stream_record<R: BufRead>(source: &mut R) -> Result<RecordShape, RecordsError> {
    let mut length = Stream { source, read: 0 };
    let body = i64::from(length.varint()?);
    let mut stream = Stream { source: length.source, read: 0 };
    stream.byte()?;
    let timestamp_delta = stream.varlong()?;
    let offset_delta = stream.varint()?;
    let key = stream.varint()?;
    stream.skip_field(key, body)?;
    let value = stream.varint()?;
    stream.skip_field(value, body)?;
    let headers = stream.varint()?;
    if headers < 0 || i64::from(headers) > body {
        return Err(BAD_LENGTH);
    }
    for _ in 0..headers {
        let key = stream.varint()?;
        if key < 0 {
            return Err(BAD_LENGTH);
        }
        stream.skip_field(key, body)?;
        let value = stream.varint()?;
        stream.skip_field(value, body)?;
    }
    if stream.read != body {
        return Err(BAD_SIZE);
    }
    Ok(RecordShape { timestamp_delta, offset_delta, has_key: key >= 0 })
}

/// Counts what it reads of a stream.
struct Stream<'a, R> {
    source: &'a mut R,
    read: i64,
}

impl<R: BufRead> Stream<'_, R> {
    fn byte(&mut self) -> Result<u8, RecordsError> {
        let available = self.source.fill_buf().map_err(|error| stream_error(&error))?;
        let byte = *available.first().ok_or(TOO_SHORT)?;
        self.source.consume(1);
        self.read += 1;
        Ok(byte)
    }

    fn varint(&mut self) -> Result<i32, RecordsError> {
        let raw = self.unsigned(5)?;
        let raw = u32::try_from(raw & 0xffff_ffff).expect("masked to 32 bits");
        Ok((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed())
    }

    fn varlong(&mut self) -> Result<i64, RecordsError> {
        let raw = self.unsigned(10)?;
        Ok((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed())
    }

    fn unsigned(&mut self, max_bytes: u32) -> Result<u64, RecordsError> {
        let mut value = 0;
        for i in 0..max_bytes {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(BAD_VARINT)
    }

    /// Skips a key or value of a claimed length; null is -1. `body` is what the whole record claims.
    fn skip_field(&mut self, length: i32, body: i64) -> Result<(), RecordsError> {
        let mut left = usize::try_from(length).unwrap_or_default();
        if i64::from(length) > body {
            return Err(BAD_LENGTH);
        }
        self.read += i64::from(length.max(0));
        while left > 0 {
            let available = self.source.fill_buf().map_err(|error| stream_error(&error))?.len();
            if available == 0 {
                return Err(TOO_SHORT);
            }
            let step = available.min(left);
            self.source.consume(step);
            left -= step;
        }
        Ok(())
    }
}

/// One record, its parts slices of the batch (or of what it decompressed to).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// Its place in the log.
    pub offset: Offset,
    /// Its timestamp: the producer's, or the batch's under LogAppendTime.
    pub timestamp: Timestamp,
    /// The key; `None` is null.
    pub key: Option<Bytes>,
    /// The value; `None` is null, in a compacted topic a tombstone.
    pub value: Option<Bytes>,
    /// The headers, in order, duplicates kept.
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

/// The records of a stored batch, in order. Ends after the first error.
#[derive(Clone, Debug)]
pub struct Records {
    payload: Bytes,
    position: usize,
    left: i32,
    base_offset: Offset,
    base_timestamp: Timestamp,
    log_append_time: Option<Timestamp>,
}

impl Records {
    /// Opens a batch; what it decompresses to may not exceed `cap`.
    pub fn of(batch: &StoredBatch, cap: usize) -> Result<Self, RecordsError> {
        let header = &batch.header;
        let payload = batch.bytes.slice(HEADER_BYTES..);
        let payload = match header.codec() {
            None => return Err(RecordsError::Malformed("the batch has an unknown codec")),
            Some(Codec::None) => payload,
            Some(codec) => decompress(codec, &payload, cap)?.into(),
        };
        Ok(Self {
            payload,
            position: 0,
            left: header.record_count,
            base_offset: header.base_offset,
            base_timestamp: header.base_timestamp,
            log_append_time: header.is_log_append_time().then_some(header.max_timestamp),
        })
    }

    fn read(&mut self) -> Result<Record, RecordsError> {
        let mut cursor = Cursor { bytes: &self.payload, position: self.position };
        let body = usize::try_from(cursor.varint()?).map_err(|_| BAD_LENGTH)?;
        let start = cursor.position;
        let end = start.checked_add(body).filter(|end| *end <= self.payload.len()).ok_or(TOO_SHORT)?;
        cursor.bytes = &self.payload[..end];
        cursor.take(1)?;
        let timestamp_delta = cursor.varlong()?;
        let offset_delta = cursor.varint()?;
        let slice = |range: Option<Range<usize>>| range.map(|range| self.payload.slice(range));
        let key = slice(cursor.field()?);
        let value = slice(cursor.field()?);
        let count = usize::try_from(cursor.varint()?).map_err(|_| BAD_LENGTH)?;
        // A header has at least two bytes.
        let mut headers = Vec::with_capacity(count.min((end - cursor.position) / 2));
        for _ in 0..count {
            let name = slice(cursor.field()?).ok_or(BAD_LENGTH)?;
            headers.push((name, slice(cursor.field()?)));
        }
        if cursor.position != end {
            return Err(BAD_SIZE);
        }
        self.position = end;
        let timestamp = self.log_append_time.unwrap_or(Timestamp(self.base_timestamp.0.wrapping_add(timestamp_delta)));
        Ok(Record { offset: self.base_offset.plus(i64::from(offset_delta)), timestamp, key, value, headers })
    }
}

impl Iterator for Records {
    type Item = Result<Record, RecordsError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left <= 0 {
            return None;
        }
        let record = self.read();
        self.left = if record.is_ok() { self.left - 1 } else { 0 };
        Some(record)
    }
}

struct Cursor<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl Cursor<'_> {
    fn take(&mut self, count: usize) -> Result<Range<usize>, RecordsError> {
        let end = self.position.checked_add(count).filter(|end| *end <= self.bytes.len()).ok_or(TOO_SHORT)?;
        let range = self.position..end;
        self.position = end;
        Ok(range)
    }

    #[inline]
    fn varint(&mut self) -> Result<i32, RecordsError> {
        let raw = self.unsigned::<5>()? as u32;
        Ok((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed())
    }

    #[inline]
    fn varlong(&mut self) -> Result<i64, RecordsError> {
        let raw = self.unsigned::<10>()?;
        Ok((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed())
    }

    #[inline]
    fn unsigned<const MAX_BYTES: usize>(&mut self) -> Result<u64, RecordsError> {
        let rest = &self.bytes[self.position.min(self.bytes.len())..];
        let mut value = 0;
        for (i, byte) in rest.iter().take(MAX_BYTES).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte & 0x80 == 0 {
                self.position += i + 1;
                return Ok(value);
            }
        }
        Err(if rest.len() < MAX_BYTES { TOO_SHORT } else { BAD_VARINT })
    }

    /// A key or value: null for a negative length.
    fn field(&mut self) -> Result<Option<Range<usize>>, RecordsError> {
        match usize::try_from(self.varint()?) {
            Ok(length) => self.take(length).map(Some),
            Err(_) => Ok(None),
        }
    }
}

/// Appends one record. `deltas` are those of its timestamp and offset.
pub fn write_record(
    out: &mut BytesMut,
    deltas: (i64, i32),
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: &[(&str, Option<&[u8]>)],
) {
    let mut body = BytesMut::with_capacity(32 + key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len));
    body.put_i8(0);
    write_varint(&mut body, deltas.0);
    write_varint(&mut body, i64::from(deltas.1));
    write_field(&mut body, key);
    write_field(&mut body, value);
    write_varint(&mut body, i64::try_from(headers.len()).expect("a count of things in memory fits"));
    for (name, value) in headers {
        write_field(&mut body, Some(name.as_bytes()));
        write_field(&mut body, *value);
    }
    write_field(out, Some(&body));
}

fn write_field(out: &mut BytesMut, field: Option<&[u8]>) {
    match field {
        None => write_varint(out, -1),
        Some(bytes) => {
            write_varint(out, i64::try_from(bytes.len()).expect("a length of things in memory fits"));
            out.extend_from_slice(bytes);
        }
    }
}

/// Zigzag, then seven bits a byte.
fn write_varint(out: &mut BytesMut, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while rest >= 0x80 {
        out.put_u8((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.put_u8(rest as u8);
}

#[cfg(test)]
#[path = "records_tests.rs"]
mod tests;
