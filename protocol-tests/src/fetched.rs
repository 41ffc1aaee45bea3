//! Reads the batches of a fetch response, strictly: whole batches with a true CRC, and a torn one only at the end.

use std::io::Read;

use bytes::{Buf, Bytes};

/// A batch as it was fetched.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Fetched {
    pub base_offset: i64,
    pub leader_epoch: i32,
    pub attributes: i16,
    pub last_offset_delta: i32,
    pub base_timestamp: i64,
    pub max_timestamp: i64,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub records: Vec<FetchedRecord>,
    /// The batch's own bytes.
    pub bytes: Bytes,
}

/// A record as it was fetched, its offset and timestamp absolute.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct FetchedRecord {
    pub offset: i64,
    pub timestamp: i64,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

/// The whole batches in `records`; Kafka cuts the last one where the byte limit falls.
pub fn batches(mut records: Bytes) -> Vec<Fetched> {
    let mut all = Vec::new();
    while records.len() >= 17 {
        let length = 12 + usize::try_from((&records[8..12]).get_i32()).expect("a batch length");
        if records.len() < length {
            break;
        }
        all.push(batch(records.split_to(length)));
    }
    all
}

/// The values in `records`, in order, as text.
pub fn values(records: &Bytes) -> Vec<String> {
    let records = batches(records.clone()).into_iter().flat_map(|batch| batch.records);
    records.map(|record| String::from_utf8(record.value.unwrap_or_default().to_vec()).expect("text")).collect()
}

fn batch(bytes: Bytes) -> Fetched {
    assert_eq!(bytes[16], 2, "magic");
    let mut rest = bytes.clone();
    let (base_offset, _length, leader_epoch) = (rest.get_i64(), rest.get_i32(), rest.get_i32());
    rest.advance(1);
    assert_eq!(rest.get_u32(), crc32c::crc32c(&bytes[21..]), "CRC of the batch at {base_offset}");
    let attributes = rest.get_i16();
    let last_offset_delta = rest.get_i32();
    let (base_timestamp, max_timestamp) = (rest.get_i64(), rest.get_i64());
    let (producer_id, producer_epoch, base_sequence) = (rest.get_i64(), rest.get_i16(), rest.get_i32());
    let count = rest.get_i32();
    let mut payload = decompress(attributes & 7, &rest);
    let mut records: Vec<FetchedRecord> =
        (0..count).map(|_| record(&mut payload, base_offset, base_timestamp)).collect();
    assert!(payload.is_empty(), "bytes behind the last record");
    if attributes & crate::batch::LOG_APPEND_TIME != 0 {
        records.iter_mut().for_each(|record| record.timestamp = max_timestamp);
    }
    Fetched {
        base_offset,
        leader_epoch,
        attributes,
        last_offset_delta,
        base_timestamp,
        max_timestamp,
        producer_id,
        producer_epoch,
        base_sequence,
        records,
        bytes,
    }
}

fn record(payload: &mut Bytes, base_offset: i64, base_timestamp: i64) -> FetchedRecord {
    let length = usize::try_from(zigzag(payload)).expect("a record length");
    let mut body = payload.split_to(length);
    body.advance(1);
    let timestamp = base_timestamp + zigzag(&mut body);
    let offset = base_offset + zigzag(&mut body);
    let (key, value) = (nullable(&mut body), nullable(&mut body));
    let headers =
        (0..zigzag(&mut body)).map(|_| (nullable(&mut body).expect("a header key"), nullable(&mut body))).collect();
    assert!(body.is_empty(), "bytes behind the last header");
    FetchedRecord { offset, timestamp, key, value, headers }
}

fn nullable(body: &mut Bytes) -> Option<Bytes> {
    usize::try_from(zigzag(body)).ok().map(|length| body.split_to(length))
}

fn zigzag(buffer: &mut Bytes) -> i64 {
    let mut value = 0u64;
    for shift in (0..).step_by(7) {
        let byte = buffer.get_u8();
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

fn decompress(codec: i16, bytes: &[u8]) -> Bytes {
    let mut plain = Vec::new();
    match codec {
        0 => plain.extend_from_slice(bytes),
        1 => {
            flate2::read::GzDecoder::new(bytes).read_to_end(&mut plain).expect("gzip");
        }
        2 => plain = snappy(bytes),
        3 => {
            lz4::Decoder::new(bytes).expect("lz4").read_to_end(&mut plain).expect("lz4");
        }
        4 => plain = zstd::decode_all(bytes).expect("zstd"),
        other => panic!("codec {other}"),
    }
    plain.into()
}

// xerial's framing: a header of 16 bytes, then blocks with their length in front.
fn snappy(mut bytes: &[u8]) -> Vec<u8> {
    assert!(bytes.starts_with(b"\x82SNAPPY\0"), "xerial's framing");
    bytes.advance(16);
    let mut plain = Vec::new();
    while !bytes.is_empty() {
        let length = usize::try_from(bytes.get_i32()).expect("a block length");
        plain.extend(snap::raw::Decoder::new().decompress_vec(&bytes[..length]).expect("snappy"));
        bytes.advance(length);
    }
    plain
}
