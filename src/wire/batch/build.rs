//! Pure. Builds an uncompressed batch out of records: coordinators write theirs with it, and tests.
//!
//! It never touches batches of producers: those are stored as they came.

use bytes::{BufMut, BytesMut};

use super::{BatchHeader, CONTROL_BIT, HEADER_BYTES, LENGTH_OVERHEAD, MAGIC, NO_SEQUENCE, ProducedBatch};
use crate::types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp};
use crate::wire::records::write_record;

/// A batch under construction. The first record's timestamp is the base of the others.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    header: BatchHeader,
    bytes: BytesMut,
}

impl Default for BatchBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl BatchBuilder {
    /// An empty batch at base offset 0, of no producer, with create time.
    pub fn new() -> Self {
        let mut bytes = BytesMut::with_capacity(512);
        bytes.put_bytes(0, HEADER_BYTES);
        let header = BatchHeader {
            base_offset: Offset::ZERO,
            batch_length: 0,
            leader_epoch: LeaderEpoch::UNKNOWN,
            magic: MAGIC,
            crc: 0,
            attributes: 0,
            last_offset_delta: -1,
            base_timestamp: Timestamp::NONE,
            max_timestamp: Timestamp::NONE,
            producer_id: ProducerId::NONE,
            producer_epoch: ProducerEpoch::NONE,
            base_sequence: NO_SEQUENCE,
            record_count: 0,
        };
        Self { header, bytes }
    }

    /// Makes it a batch of an idempotent producer.
    #[must_use]
    pub fn producer(mut self, id: ProducerId, epoch: ProducerEpoch, base_sequence: i32) -> Self {
        self.header.producer_id = id;
        self.header.producer_epoch = epoch;
        self.header.base_sequence = base_sequence;
        self
    }

    /// Makes it a control batch: its one record is a marker.
    #[must_use]
    pub fn control(mut self) -> Self {
        self.header.attributes |= CONTROL_BIT;
        self
    }

    /// Adds a record.
    pub fn append(
        &mut self,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, Option<&[u8]>)],
    ) {
        if self.header.record_count == 0 {
            self.header.base_timestamp = timestamp;
        }
        self.header.max_timestamp = self.header.max_timestamp.max(timestamp);
        self.header.last_offset_delta += 1;
        self.header.record_count += 1;
        let deltas = (timestamp.0 - self.header.base_timestamp.0, self.header.last_offset_delta);
        write_record(&mut self.bytes, deltas, key, value, headers);
    }

    /// Records added so far.
    pub fn len(&self) -> usize {
        usize::try_from(self.header.record_count).expect("a count is not negative")
    }

    /// True when no record was added.
    pub fn is_empty(&self) -> bool {
        self.header.record_count == 0
    }

    /// Bytes of the batch so far.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// The finished batch. A batch without records is our own mistake.
    pub fn build(mut self) -> ProducedBatch {
        assert!(!self.is_empty(), "a batch has at least one record");
        self.header.batch_length =
            i32::try_from(self.bytes.len() - LENGTH_OVERHEAD).expect("a batch we build is far below 2 GiB");
        self.header.write_to(&mut self.bytes[..HEADER_BYTES]);
        let mut batch = ProducedBatch { header: self.header, bytes: self.bytes };
        batch.write_crc();
        batch
    }
}

impl BatchHeader {
    /// Writes all fields to the first bytes of a batch; the checksum as it is in the header.
    pub fn write_to(&self, mut out: &mut [u8]) {
        out.put_i64(self.base_offset.0);
        out.put_i32(self.batch_length);
        out.put_i32(self.leader_epoch.0);
        out.put_i8(self.magic);
        out.put_u32(self.crc);
        out.put_i16(self.attributes);
        out.put_i32(self.last_offset_delta);
        out.put_i64(self.base_timestamp.0);
        out.put_i64(self.max_timestamp.0);
        out.put_i64(self.producer_id.0);
        out.put_i16(self.producer_epoch.0);
        out.put_i32(self.base_sequence);
        out.put_i32(self.record_count);
    }
}
