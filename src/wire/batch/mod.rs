//! Pure. A record batch (magic 2) as bytes: its header, the few fields a broker may patch, and a walk over stored ones.
//!
//! A batch travels from the producer to the consumer as it is: nothing here re-encodes a record. Base offset and leader
//! epoch lie outside the checksum and are patched in place; timestamp fields are patched together with the checksum.
//! Bytes are believed only after [`crc_is_valid`], and those of a producer only after the log has looked into them.

mod build;

use bytes::{Buf, Bytes, BytesMut};

pub use build::BatchBuilder;

use super::compress::Codec;
use super::records::{Records, RecordsError};
use crate::types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp};

/// Bytes of the header, up to the first record.
pub const HEADER_BYTES: usize = 61;
/// Base offset and length: what `batch_length` does not count.
pub const LENGTH_OVERHEAD: usize = 12;
/// The only format that is written and served.
pub const MAGIC: i8 = 2;

const LENGTH_AT: usize = 8;
const LEADER_EPOCH_AT: usize = 12;
const MAGIC_AT: usize = 16;
const CRC_AT: usize = 17;
const ATTRIBUTES_AT: usize = 21;
const LAST_OFFSET_DELTA_AT: usize = 23;
const BASE_TIMESTAMP_AT: usize = 27;
const MAX_TIMESTAMP_AT: usize = 35;
const PRODUCER_ID_AT: usize = 43;
const PRODUCER_EPOCH_AT: usize = 51;
const BASE_SEQUENCE_AT: usize = 53;
const RECORD_COUNT_AT: usize = 57;

/// Where the codec stands in the attributes.
pub const CODEC_MASK: i16 = 0x07;
/// Attribute: the timestamps are the broker's.
pub const LOG_APPEND_TIME_BIT: i16 = 0x08;
/// Attribute: a batch of a transaction.
pub const TRANSACTIONAL_BIT: i16 = 0x10;
/// Attribute: a marker.
pub const CONTROL_BIT: i16 = 0x20;

/// "No sequence": a batch without idempotence carries it.
pub const NO_SEQUENCE: i32 = -1;

/// The header of a batch, parsed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchHeader {
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Bytes that follow this field.
    pub batch_length: i32,
    /// The leader that appended the batch.
    pub leader_epoch: LeaderEpoch,
    /// Format version.
    pub magic: i8,
    /// CRC-32C of everything from the attributes on.
    pub crc: u32,
    /// Codec and flags.
    pub attributes: i16,
    /// Offset of the last record, less the base offset. Compaction keeps it when it removes records.
    pub last_offset_delta: i32,
    /// What timestamp deltas count from; with the delete horizon flag, that horizon.
    pub base_timestamp: Timestamp,
    /// The largest timestamp of the batch.
    pub max_timestamp: Timestamp,
    /// The idempotent producer, or NONE.
    pub producer_id: ProducerId,
    /// Its epoch, or NONE.
    pub producer_epoch: ProducerEpoch,
    /// Sequence number of the first record, or [`NO_SEQUENCE`].
    pub base_sequence: i32,
    /// Records in the batch.
    pub record_count: i32,
}

/// The bytes at a place, for a number. `at + N` must lie within.
pub fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("a slice of N bytes is an array of N bytes")
}

impl BatchHeader {
    /// Reads the header; `None` when there are fewer than [`HEADER_BYTES`]. Believes nothing and checks nothing.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..HEADER_BYTES)?;
        Some(Self {
            base_offset: Offset(i64::from_be_bytes(array_at(bytes, 0))),
            batch_length: i32::from_be_bytes(array_at(bytes, LENGTH_AT)),
            leader_epoch: LeaderEpoch(i32::from_be_bytes(array_at(bytes, LEADER_EPOCH_AT))),
            magic: i8::from_be_bytes(array_at(bytes, MAGIC_AT)),
            crc: u32::from_be_bytes(array_at(bytes, CRC_AT)),
            attributes: i16::from_be_bytes(array_at(bytes, ATTRIBUTES_AT)),
            last_offset_delta: i32::from_be_bytes(array_at(bytes, LAST_OFFSET_DELTA_AT)),
            base_timestamp: Timestamp(i64::from_be_bytes(array_at(bytes, BASE_TIMESTAMP_AT))),
            max_timestamp: Timestamp(i64::from_be_bytes(array_at(bytes, MAX_TIMESTAMP_AT))),
            producer_id: ProducerId(i64::from_be_bytes(array_at(bytes, PRODUCER_ID_AT))),
            producer_epoch: ProducerEpoch(i16::from_be_bytes(array_at(bytes, PRODUCER_EPOCH_AT))),
            base_sequence: i32::from_be_bytes(array_at(bytes, BASE_SEQUENCE_AT)),
            record_count: i32::from_be_bytes(array_at(bytes, RECORD_COUNT_AT)),
        })
    }

    /// Bytes of the whole batch; zero when the length field is absurd.
    pub fn size(&self) -> usize {
        usize::try_from(self.batch_length).map_or(0, |length| length + LENGTH_OVERHEAD)
    }

    /// Offset of the last record.
    pub fn last_offset(&self) -> Offset {
        self.base_offset.plus(i64::from(self.last_offset_delta))
    }

    /// The offset after the batch.
    pub fn end_offset(&self) -> Offset {
        self.last_offset().plus(1)
    }

    /// How the records are compressed; `None` for a number without meaning.
    pub fn codec(&self) -> Option<Codec> {
        Codec::from_id(self.attributes & CODEC_MASK)
    }

    /// True when the broker's clock set the timestamps.
    pub fn is_log_append_time(&self) -> bool {
        self.attributes & LOG_APPEND_TIME_BIT != 0
    }

    /// True for a batch of a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL_BIT != 0
    }

    /// True for markers, which only brokers write.
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL_BIT != 0
    }

    /// True for a batch of an idempotent or transactional producer. Kafka's test: the id is not negative.
    pub fn has_producer_id(&self) -> bool {
        self.producer_id > ProducerId::NONE
    }

    /// Sequence number of the last record. Sequences wrap from 2^31-1 to 0.
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence == NO_SEQUENCE {
            return NO_SEQUENCE;
        }
        let sum = i64::from(self.base_sequence) + i64::from(self.last_offset_delta);
        i32::try_from(sum.rem_euclid(1 << 31)).expect("a remainder of 2^31 fits 31 bits")
    }
}

/// A batch that may be appended, in a buffer of its own of exactly its size.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProducedBatch {
    /// What the bytes say.
    pub header: BatchHeader,
    /// The batch; changed only by the methods below.
    pub bytes: BytesMut,
}

impl ProducedBatch {
    /// Gives the batch its place in the log. Both fields lie outside the checksum.
    pub fn assign(&mut self, base_offset: Offset, leader_epoch: LeaderEpoch) {
        self.bytes[..8].copy_from_slice(&base_offset.0.to_be_bytes());
        self.bytes[LEADER_EPOCH_AT..MAGIC_AT].copy_from_slice(&leader_epoch.0.to_be_bytes());
        self.header.base_offset = base_offset;
        self.header.leader_epoch = leader_epoch;
    }

    /// Marks all records as appended at `now` (`message.timestamp.type=LogAppendTime`). Computes the checksum anew.
    pub fn stamp_log_append_time(&mut self, now: Timestamp) {
        self.set_max_timestamp(true, now);
    }

    /// Sets the largest timestamp and whose clock it is; computes the checksum anew if that changes anything.
    pub fn set_max_timestamp(&mut self, log_append_time: bool, max_timestamp: Timestamp) {
        let attributes = match log_append_time {
            true => self.header.attributes | LOG_APPEND_TIME_BIT,
            false => self.header.attributes & !LOG_APPEND_TIME_BIT,
        };
        if attributes == self.header.attributes && max_timestamp == self.header.max_timestamp {
            return;
        }
        self.header.attributes = attributes;
        self.header.max_timestamp = max_timestamp;
        self.bytes[ATTRIBUTES_AT..LAST_OFFSET_DELTA_AT].copy_from_slice(&attributes.to_be_bytes());
        self.bytes[MAX_TIMESTAMP_AT..PRODUCER_ID_AT].copy_from_slice(&max_timestamp.0.to_be_bytes());
        self.write_crc();
    }

    /// Computes the checksum anew, in header and bytes.
    pub fn write_crc(&mut self) {
        self.header.crc = crc32c::crc32c(&self.bytes[ATTRIBUTES_AT..]);
        self.bytes[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&self.header.crc.to_be_bytes());
    }
}

/// True when the checksum of a whole batch is right. `batch` must be exactly one batch.
pub fn crc_is_valid(batch: &[u8]) -> bool {
    batch.len() >= HEADER_BYTES
        && crc32c::crc32c(&batch[ATTRIBUTES_AT..]) == u32::from_be_bytes(array_at(batch, CRC_AT))
}

/// One batch among stored or fetched bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredBatch {
    /// What the bytes say.
    pub header: BatchHeader,
    /// Exactly the batch.
    pub bytes: Bytes,
}

impl StoredBatch {
    /// Reads one whole batch; `None` when `bytes` is not exactly one of magic 2.
    pub fn parse(bytes: Bytes) -> Option<Self> {
        let header = BatchHeader::parse(&bytes)?;
        (header.magic == MAGIC && header.size() == bytes.len()).then_some(Self { header, bytes })
    }

    /// The records, decompressed to at most `cap` bytes.
    pub fn records(&self, cap: usize) -> Result<Records, RecordsError> {
        Records::of(self, cap)
    }
}

/// Walks bytes that hold whole batches one after another, as a fetch returns them. A partial batch at the end, which a
/// fetch may have, ends the walk. A length or magic that cannot be is an error, once.
#[derive(Clone, Debug)]
pub struct Batches {
    rest: Bytes,
}

/// Stored bytes that are no batches.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no record batch of magic 2 at byte {at_from_end} before the end")]
pub struct NotABatch {
    /// Where, counted from the end of what was walked.
    pub at_from_end: usize,
}

impl Batches {
    /// Walks `bytes`.
    pub fn new(bytes: Bytes) -> Self {
        Self { rest: bytes }
    }
}

impl Iterator for Batches {
    type Item = Result<StoredBatch, NotABatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let header = BatchHeader::parse(&self.rest)?;
        let size = header.size();
        if header.magic != MAGIC || size < HEADER_BYTES {
            let at_from_end = self.rest.len();
            self.rest.clear();
            return Some(Err(NotABatch { at_from_end }));
        }
        if size > self.rest.remaining() {
            self.rest.clear();
            return None;
        }
        Some(Ok(StoredBatch { header, bytes: self.rest.split_to(size) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(values: &[&str]) -> ProducedBatch {
        let mut builder = BatchBuilder::new();
        for value in values {
            builder.append(Timestamp(1_000), Some(b"k"), Some(value.as_bytes()), &[]);
        }
        builder.build()
    }

    #[test]
    fn a_header_is_read_back_as_it_was_built() {
        let batch = batch(&["a", "b", "c"]);
        let header = BatchHeader::parse(&batch.bytes).unwrap();
        assert_eq!(header, batch.header);
        assert_eq!(header.size(), batch.bytes.len());
        assert_eq!((header.record_count, header.last_offset_delta), (3, 2));
        assert_eq!(header.end_offset(), Offset(3));
        assert!(crc_is_valid(&batch.bytes));
    }

    #[test]
    fn assigning_an_offset_leaves_the_checksum_valid() {
        let mut batch = batch(&["a"]);
        batch.assign(Offset(77), LeaderEpoch(5));
        assert!(crc_is_valid(&batch.bytes));
        assert_eq!(BatchHeader::parse(&batch.bytes), Some(batch.header));
        assert_eq!((batch.header.base_offset, batch.header.leader_epoch), (Offset(77), LeaderEpoch(5)));
    }

    #[test]
    fn log_append_time_marks_the_batch_and_renews_the_checksum() {
        let mut batch = batch(&["a"]);
        batch.stamp_log_append_time(Timestamp(9_999));
        assert!(batch.header.is_log_append_time());
        assert_eq!(batch.header.max_timestamp, Timestamp(9_999));
        assert!(crc_is_valid(&batch.bytes));
        assert_eq!(BatchHeader::parse(&batch.bytes), Some(batch.header));
    }

    #[test]
    fn sequences_wrap_after_two_to_the_31() {
        let mut header = batch(&["a", "b", "c"]).header;
        header.base_sequence = i32::MAX - 1;
        assert_eq!(header.last_sequence(), 0);
        header.base_sequence = NO_SEQUENCE;
        assert_eq!(header.last_sequence(), NO_SEQUENCE);
    }

    #[test]
    fn a_walk_yields_whole_batches_and_stops_at_a_partial_one() {
        let (one, two) = (batch(&["a"]), batch(&["b", "c"]));
        let mut bytes = one.bytes.to_vec();
        bytes.extend_from_slice(&two.bytes);
        bytes.extend_from_slice(&one.bytes[..40]);
        let found: Vec<_> = Batches::new(bytes.into()).map(|batch| batch.unwrap().header).collect();
        assert_eq!(found, [one.header, two.header]);
    }

    #[test]
    fn a_walk_reports_bytes_that_are_no_batch_once() {
        let mut bytes = batch(&["a"]).bytes.to_vec();
        bytes[16] = 1;
        let found: Vec<_> = Batches::new(Bytes::from(bytes.clone())).collect();
        assert_eq!(found, [Err(NotABatch { at_from_end: bytes.len() })]);
    }
}
