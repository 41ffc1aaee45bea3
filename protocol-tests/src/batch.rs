//! Builds record batches (magic 2) field by field, honest ones and broken ones.
//!
//! Every header field is public and is written as it stands; only the length and the CRC are computed, so that a test
//! breaks exactly what it names. What must also lie about length or CRC patches the encoded bytes.

use std::io::Write;

/// The offsets of header fields in an encoded batch, for patching.
pub mod at {
    /// The batch's length, INT32.
    pub const LENGTH: usize = 8;
    /// The magic byte.
    pub const MAGIC: usize = 16;
    /// The CRC, UINT32, over everything behind it.
    pub const CRC: usize = 17;
    /// The attributes, INT16: where the CRC's range begins.
    pub const ATTRIBUTES: usize = 21;
}

/// How the records of a batch are compressed: the low three bits of its attributes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Codec {
    /// Not at all.
    None = 0,
    /// RFC 1952.
    Gzip = 1,
    /// Snappy in the framing of xerial's library, which Kafka's clients write.
    Snappy = 2,
    /// LZ4 frames with independent blocks.
    Lz4 = 3,
    /// Zstandard.
    Zstd = 4,
}

/// Every codec.
pub const CODECS: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

/// Attribute bit: timestamps are the broker's.
pub const LOG_APPEND_TIME: i16 = 1 << 3;
/// Attribute bit: part of a transaction.
pub const TRANSACTIONAL: i16 = 1 << 4;
/// Attribute bit: a control batch.
pub const CONTROL: i16 = 1 << 5;

/// A record to be put into a batch.
#[derive(Clone, Default, Debug)]
pub struct Record {
    /// Offset, relative to the batch's.
    pub offset_delta: i64,
    /// Timestamp, relative to the batch's.
    pub timestamp_delta: i64,
    /// Key.
    pub key: Option<Vec<u8>>,
    /// Value.
    pub value: Option<Vec<u8>>,
    /// Headers, in order, duplicates allowed.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Record {
    /// The record as it stands in a batch, its length first.
    pub fn encode(&self) -> Vec<u8> {
        let mut body = vec![0];
        zigzag(&mut body, self.timestamp_delta);
        zigzag(&mut body, self.offset_delta);
        nullable(&mut body, self.key.as_deref());
        nullable(&mut body, self.value.as_deref());
        zigzag(&mut body, self.headers.len() as i64);
        for (name, value) in &self.headers {
            nullable(&mut body, Some(name.as_bytes()));
            nullable(&mut body, value.as_deref());
        }
        let mut record = Vec::new();
        zigzag(&mut record, body.len() as i64);
        record.extend_from_slice(&body);
        record
    }
}

/// A batch, field by field.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Batch {
    pub base_offset: i64,
    pub leader_epoch: i32,
    pub magic: i8,
    pub attributes: i16,
    pub last_offset_delta: i32,
    pub base_timestamp: i64,
    pub max_timestamp: i64,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub count: i32,
    /// The encoded records, not yet compressed.
    pub records: Vec<u8>,
}

impl Batch {
    /// A batch of these records, all header fields true.
    pub fn of_records(base_timestamp: i64, records: &[Record]) -> Self {
        let latest = records.iter().map(|record| record.timestamp_delta).max().unwrap_or(0);
        Self {
            base_offset: 0,
            leader_epoch: -1,
            magic: 2,
            attributes: 0,
            last_offset_delta: records.len() as i32 - 1,
            base_timestamp,
            max_timestamp: base_timestamp + latest,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            count: records.len() as i32,
            records: records.iter().flat_map(Record::encode).collect(),
        }
    }

    /// A batch with these values, stamped now.
    pub fn of(values: &[&str]) -> Self {
        let record = |(index, value): (usize, &&str)| Record {
            offset_delta: index as i64,
            value: Some(value.as_bytes().to_vec()),
            ..Record::default()
        };
        Self::of_records(crate::now_ms(), &values.iter().enumerate().map(record).collect::<Vec<_>>())
    }

    /// A batch with one record per timestamp.
    pub fn at_times(times: &[i64]) -> Self {
        let record = |(index, time): (usize, &i64)| Record {
            offset_delta: index as i64,
            timestamp_delta: time - times[0],
            value: Some(format!("at {time}").into_bytes()),
            ..Record::default()
        };
        Self::of_records(times[0], &times.iter().enumerate().map(record).collect::<Vec<_>>())
    }

    /// The same batch, of an idempotent producer.
    #[must_use]
    pub fn by(mut self, producer_id: i64, producer_epoch: i16, base_sequence: i32) -> Self {
        (self.producer_id, self.producer_epoch, self.base_sequence) = (producer_id, producer_epoch, base_sequence);
        self
    }

    /// The same batch, compressed.
    #[must_use]
    pub fn compressed(mut self, codec: Codec) -> Self {
        self.attributes = (self.attributes & !7) | codec as i16;
        self
    }

    /// The same batch, changed.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// The batch as it goes over the wire. An unknown codec leaves the records as they are.
    pub fn encode(&self) -> Vec<u8> {
        let codec = CODECS.into_iter().find(|codec| *codec as i16 == self.attributes & 7);
        self.encode_around(&compress(codec.unwrap_or(Codec::None), &self.records))
    }

    /// The batch with these bytes in the place of its compressed records.
    pub fn encode_around(&self, payload: &[u8]) -> Vec<u8> {
        let mut batch = Vec::new();
        batch.extend_from_slice(&self.base_offset.to_be_bytes());
        batch.extend_from_slice(&(payload.len() as i32 + 49).to_be_bytes());
        batch.extend_from_slice(&self.leader_epoch.to_be_bytes());
        batch.push(self.magic as u8);
        batch.extend_from_slice(&[0; 4]);
        batch.extend_from_slice(&self.attributes.to_be_bytes());
        batch.extend_from_slice(&self.last_offset_delta.to_be_bytes());
        batch.extend_from_slice(&self.base_timestamp.to_be_bytes());
        batch.extend_from_slice(&self.max_timestamp.to_be_bytes());
        batch.extend_from_slice(&self.producer_id.to_be_bytes());
        batch.extend_from_slice(&self.producer_epoch.to_be_bytes());
        batch.extend_from_slice(&self.base_sequence.to_be_bytes());
        batch.extend_from_slice(&self.count.to_be_bytes());
        batch.extend_from_slice(payload);
        let crc = crc32c::crc32c(&batch[at::ATTRIBUTES..]);
        batch[at::CRC..at::CRC + 4].copy_from_slice(&crc.to_be_bytes());
        batch
    }
}

/// Compresses as Kafka's own producer does.
pub fn compress(codec: Codec, bytes: &[u8]) -> Vec<u8> {
    match codec {
        Codec::None => bytes.to_vec(),
        Codec::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(bytes).expect("gzip");
            encoder.finish().expect("gzip")
        }
        Codec::Snappy => {
            let block = snap::raw::Encoder::new().compress_vec(bytes).expect("snappy");
            let mut framed = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
            framed.extend_from_slice(&(block.len() as i32).to_be_bytes());
            framed.extend_from_slice(&block);
            framed
        }
        Codec::Lz4 => {
            let mut encoder =
                lz4::EncoderBuilder::new().block_mode(lz4::BlockMode::Independent).build(Vec::new()).expect("lz4");
            encoder.write_all(bytes).expect("lz4");
            let (framed, result) = encoder.finish();
            result.expect("lz4");
            framed
        }
        Codec::Zstd => zstd::encode_all(bytes, 0).expect("zstd"),
    }
}

/// Appends a signed varint.
pub fn zigzag(buffer: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        buffer.push((rest as u8) | 0x80);
        rest >>= 7;
    }
    buffer.push(rest as u8);
}

fn nullable(buffer: &mut Vec<u8>, value: Option<&[u8]>) {
    match value {
        Some(value) => {
            zigzag(buffer, value.len() as i64);
            buffer.extend_from_slice(value);
        }
        None => zigzag(buffer, -1),
    }
}
