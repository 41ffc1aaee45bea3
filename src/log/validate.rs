//! Pure. What a leader checks of a batch before it gives it an offset, with the codes of Kafka's `LogValidator`.
//!
//! The order of the checks is Kafka's, for a client sees the first one that fails. A compressed batch is opened only
//! when something asks for it ([`Rules::full`], a compacted topic, another codec, suspicious timestamps): its CRC and
//! its frame header are checked always. Nothing is allocated by a number that the bytes claim.

use std::borrow::Cow;
use std::io::BufRead;

use bytes::BytesMut;

use crate::error::ErrorCode;
use crate::types::Timestamp;
use crate::wire::batch::{
    BatchHeader, CODEC_MASK, HEADER_BYTES, LENGTH_OVERHEAD, MAGIC, ProducedBatch, array_at, crc_is_valid,
};
use crate::wire::compress::{
    Codec, Compression, MAX_DECOMPRESSED_BYTES, check_frame, compress, decompress, decompressor,
};
use crate::wire::produce::RecordError;
use crate::wire::records::{RecordShape, RecordsError, walk};

/// Record errors listed in one answer; the batch is refused as a whole in any case.
const MAX_RECORD_ERRORS: usize = 1_000;
/// Size, base offset: what legacy formats have at least.
const LEGACY_MINIMUM: i32 = 14;

/// What the topic's configuration asks of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rules {
    /// `max.message.bytes`.
    pub max_message_bytes: i32,
    /// `cleanup.policy` has compact: records need keys.
    pub compacted: bool,
    /// `message.timestamp.type` is LogAppendTime: the append will stamp the batch.
    pub log_append_time: bool,
    /// `message.timestamp.before.max.ms`.
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`.
    pub timestamp_after_max_ms: i64,
    /// `compression.type` with its level; `None` for `producer`.
    pub compression: Option<Compression>,
    /// False for Produce below version 7.
    pub zstd_allowed: bool,
    /// `ottla.produce.validate=full`: open every compressed batch.
    pub full: bool,
    /// The wall clock.
    pub now: Timestamp,
}

/// A batch that is not appended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refused {
    /// The code.
    pub code: ErrorCode,
    /// What is wrong, for the client.
    pub message: Cow<'static, str>,
    /// The records at fault, where records are.
    pub record_errors: Vec<RecordError>,
}

impl Refused {
    fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), record_errors: Vec::new() }
    }

    fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::INVALID_RECORD, message)
    }

    fn corrupt(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::CORRUPT_MESSAGE, message)
    }
}

impl From<RecordsError> for Refused {
    fn from(error: RecordsError) -> Self {
        let code = match error {
            RecordsError::TooLarge(_) => ErrorCode::MESSAGE_TOO_LARGE,
            RecordsError::Malformed(_) => ErrorCode::INVALID_RECORD,
        };
        Self::new(code, error.to_string())
    }
}

/// Checks one partition's records of a Produce request and copies them into a buffer of their own.
pub fn validate_produced(records: &[u8], rules: &Rules) -> Result<ProducedBatch, Refused> {
    let batch = only_batch(records)?;
    let header = BatchHeader::parse(batch).ok_or_else(|| Refused::corrupt("the batch is shorter than its header"))?;
    if header.codec() == Some(Codec::Zstd) && !rules.zstd_allowed {
        return Err(Refused::new(ErrorCode::UNSUPPORTED_COMPRESSION_TYPE, "zstd needs Produce version 7 or newer"));
    }
    if header.base_offset.0 != 0 {
        return Err(Refused::invalid(format!("the base offset is {}, it must be 0", header.base_offset)));
    }
    check_size(batch.len(), rules)?;
    if !crc_is_valid(batch) {
        return Err(Refused::corrupt("the checksum of the batch is wrong"));
    }
    let codec = header.codec().ok_or_else(|| {
        let id = header.attributes & CODEC_MASK;
        Refused::new(ErrorCode::UNSUPPORTED_COMPRESSION_TYPE, format!("there is no compression codec {id}"))
    })?;
    check_header(&header)?;
    let payload = &batch[HEADER_BYTES..];
    let recompress = rules.compression.filter(|wanted| wanted.codec != codec);
    let mut max_timestamp = header.max_timestamp;
    if codec == Codec::None {
        max_timestamp = check_records(&header, &mut &*payload, rules)?;
    } else {
        check_frame(codec, payload)?;
        if rules.full || rules.compacted || recompress.is_some() || !header_times_are_fine(&header, rules) {
            let mut records = decompressor(codec, payload, MAX_DECOMPRESSED_BYTES)?;
            max_timestamp = check_records(&header, &mut records, rules)?;
        }
    }
    let mut produced = match recompress {
        Some(wanted) => recompressed(&header, payload, codec, wanted)?,
        None => ProducedBatch { header, bytes: BytesMut::from(batch) },
    };
    check_size(produced.bytes.len(), rules)?;
    if !rules.log_append_time {
        produced.set_max_timestamp(false, max_timestamp);
    }
    Ok(produced)
}

/// The one batch that the bytes hold, without a partial one that may follow. Lengths and magics as Kafka reads them.
fn only_batch(records: &[u8]) -> Result<&[u8], Refused> {
    let size = next_batch(records)?.ok_or_else(|| Refused::invalid("there is no record batch"))?;
    let magic = records[16].cast_signed();
    if magic != MAGIC {
        return Err(Refused::invalid(format!("the batch has magic {magic}, Produce 3 and newer takes only magic 2")));
    }
    let (batch, rest) = records.split_at(size);
    match next_batch(rest)? {
        Some(_) => Err(Refused::invalid("there is more than one record batch")),
        None => Ok(batch),
    }
}

/// The size of the batch at the start of `bytes`, `None` when no whole one is there.
fn next_batch(bytes: &[u8]) -> Result<Option<usize>, Refused> {
    if bytes.len() < LENGTH_OVERHEAD {
        return Ok(None);
    }
    let length = i32::from_be_bytes(array_at(bytes, 8));
    if length < LEGACY_MINIMUM {
        return Err(Refused::corrupt(format!("the batch claims a length of {length} bytes")));
    }
    if bytes.len() < 17 {
        return Ok(None);
    }
    let magic = bytes[16].cast_signed();
    if !(0..=MAGIC).contains(&magic) {
        return Err(Refused::corrupt(format!("there is no magic {magic}")));
    }
    let size = usize::try_from(length).expect("a length of at least 14 is positive") + LENGTH_OVERHEAD;
    Ok((size <= bytes.len()).then_some(size))
}

fn check_size(size: usize, rules: &Rules) -> Result<(), Refused> {
    if i64::try_from(size).is_ok_and(|size| size <= i64::from(rules.max_message_bytes)) {
        return Ok(());
    }
    let limit = rules.max_message_bytes;
    Err(Refused::new(
        ErrorCode::MESSAGE_TOO_LARGE,
        format!("the batch has {size} bytes, the topic's max.message.bytes is {limit}"),
    ))
}

fn check_header(header: &BatchHeader) -> Result<(), Refused> {
    if header.last_offset_delta < 0 {
        return Err(Refused::invalid(format!("the last offset delta is {}", header.last_offset_delta)));
    }
    if header.record_count <= 0 {
        return Err(Refused::invalid(format!("the batch claims {} records", header.record_count)));
    }
    if header.last_offset_delta != header.record_count - 1 {
        return Err(Refused::invalid(format!(
            "the batch claims {} records and a last offset delta of {}",
            header.record_count, header.last_offset_delta
        )));
    }
    if header.is_control() {
        return Err(Refused::invalid("clients may not write control records"));
    }
    if header.has_producer_id() && header.base_sequence < 0 {
        return Err(Refused::invalid(format!("the base sequence is {}", header.base_sequence)));
    }
    Ok(())
}

/// What can be said of the timestamps without opening the batch. False only asks for a closer look.
fn header_times_are_fine(header: &BatchHeader, rules: &Rules) -> bool {
    match (rules.log_append_time, header.is_log_append_time()) {
        (true, marked) => !marked,
        (false, true) => false,
        (false, false) => time_is_fine(header.base_timestamp, rules) && time_is_fine(header.max_timestamp, rules),
    }
}

/// Kafka's arithmetic, wrap-around included: it is what makes the smallest timestamp "too far in the future".
fn time_is_fine(timestamp: Timestamp, rules: &Rules) -> bool {
    let behind = rules.now.0.wrapping_sub(timestamp.0);
    timestamp == Timestamp::NONE
        || (behind <= rules.timestamp_before_max_ms && behind.wrapping_neg() <= rules.timestamp_after_max_ms)
}

/// Walks all records; the largest timestamp of them.
fn check_records(header: &BatchHeader, source: &mut impl BufRead, rules: &Rules) -> Result<Timestamp, Refused> {
    let mut errors = RecordErrors::default();
    let mut max_timestamp = Timestamp::NONE;
    let mut index = 0;
    walk(source, header.record_count, |record| {
        if record.offset_delta != index {
            return Err(RecordsError::Malformed("the offset deltas of the records are not 0, 1, 2, …"));
        }
        let timestamp = match header.is_log_append_time() {
            true => header.max_timestamp,
            false => Timestamp(header.base_timestamp.0.wrapping_add(record.timestamp_delta)),
        };
        max_timestamp = max_timestamp.max(timestamp);
        errors.check(index, &record, timestamp, (header, rules));
        index += 1;
        Ok(())
    })?;
    errors.into_result().map(|()| max_timestamp)
}

/// Gathers what is wrong with single records.
#[derive(Default)]
struct RecordErrors {
    count: usize,
    any_timestamp: bool,
    listed: Vec<RecordError>,
}

impl RecordErrors {
    fn check(&mut self, index: i32, record: &RecordShape, time: Timestamp, (header, rules): (&BatchHeader, &Rules)) {
        if rules.compacted && !record.has_key {
            self.add(index, false, || "a compacted topic takes no record without a key".into());
        } else if !rules.log_append_time && time != Timestamp::NONE {
            if !time_is_fine(time, rules) {
                let now = i128::from(rules.now.0);
                let earliest = now - i128::from(rules.timestamp_before_max_ms);
                let latest = now + i128::from(rules.timestamp_after_max_ms);
                let sentence = || format!("timestamp {time} is not within [{earliest}, {latest}]").into();
                self.add(index, true, sentence);
            }
        } else if header.is_log_append_time() {
            self.add(index, true, || "a producer must not set the timestamp type LogAppendTime".into());
        }
    }

    fn add(&mut self, batch_index: i32, is_timestamp: bool, message: impl FnOnce() -> Cow<'static, str>) {
        self.count += 1;
        self.any_timestamp |= is_timestamp;
        if self.listed.len() < MAX_RECORD_ERRORS {
            self.listed.push(RecordError { batch_index, message: message() });
        }
    }

    fn into_result(self) -> Result<(), Refused> {
        if self.count == 0 {
            return Ok(());
        }
        let (code, message) = match self.any_timestamp {
            true => (ErrorCode::INVALID_TIMESTAMP, "one or more records have an invalid timestamp".into()),
            false => {
                let first = self.listed.first().map_or("", |error| &*error.message);
                (ErrorCode::INVALID_RECORD, format!("{} records are refused, the first: {first}", self.count))
            }
        };
        Err(Refused { code, message: message.into(), record_errors: self.listed })
    }
}

/// The same records under the topic's own codec. Record encoding does not depend on the codec.
fn recompressed(
    header: &BatchHeader,
    payload: &[u8],
    codec: Codec,
    wanted: Compression,
) -> Result<ProducedBatch, Refused> {
    let records = decompress(codec, payload, MAX_DECOMPRESSED_BYTES)?;
    let payload = compress(&records, wanted)?;
    let mut header = *header;
    let length = i32::try_from(payload.len() + HEADER_BYTES - LENGTH_OVERHEAD)
        .map_err(|_| Refused::new(ErrorCode::MESSAGE_TOO_LARGE, "the recompressed batch is too large"))?;
    header.batch_length = length;
    header.attributes = (header.attributes & !CODEC_MASK) | wanted.codec.id();
    let mut bytes = BytesMut::zeroed(HEADER_BYTES + payload.len());
    header.write_to(&mut bytes[..HEADER_BYTES]);
    bytes[HEADER_BYTES..].copy_from_slice(&payload);
    let mut batch = ProducedBatch { header, bytes };
    batch.write_crc();
    Ok(batch)
}

#[cfg(test)]
#[path = "validate_tests.rs"]
mod tests;
