//! Claims about records inside batches.

use proptest::prelude::*;

use super::*;
use crate::wire::batch::BatchBuilder;
use crate::wire::compress::{Compression, compress};

type Header = (String, Option<Vec<u8>>);

#[derive(Clone, Debug)]
struct Wanted {
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<Header>,
}

fn wanted() -> impl Strategy<Value = Wanted> {
    let bytes = || proptest::option::of(proptest::collection::vec(any::<u8>(), 0..300));
    let headers = proptest::collection::vec(("[a-b]{0,2}", bytes()), 0..4);
    (0..4_000_000_000_i64, bytes(), bytes(), headers).prop_map(|(timestamp, key, value, headers)| Wanted {
        timestamp,
        key,
        value,
        headers,
    })
}

fn build(records: &[Wanted], codec: Codec) -> StoredBatch {
    let mut builder = BatchBuilder::new();
    for record in records {
        let headers: Vec<_> = record.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
        builder.append(Timestamp(record.timestamp), record.key.as_deref(), record.value.as_deref(), &headers);
    }
    let batch = builder.build();
    if codec == Codec::None {
        return StoredBatch::parse(batch.bytes.freeze()).unwrap();
    }
    let mut header = batch.header;
    header.attributes |= codec.id();
    let payload = compress(&batch.bytes[HEADER_BYTES..], Compression { codec, level: 3 }).unwrap();
    let bytes = [&batch.bytes[..HEADER_BYTES], &payload].concat().into();
    StoredBatch { header, bytes }
}

proptest! {
    #[test]
    fn records_come_out_as_they_went_in(
        records in proptest::collection::vec(wanted(), 1..10),
        codec in 0_i16..5,
    ) {
        let batch = build(&records, Codec::from_id(codec).unwrap());
        let found: Vec<Record> = batch.records(1 << 20).unwrap().map(Result::unwrap).collect();
        prop_assert_eq!(found.len(), records.len());
        for (i, (found, wanted)) in found.iter().zip(&records).enumerate() {
            prop_assert_eq!(found.offset, Offset(i64::try_from(i).unwrap()));
            prop_assert_eq!(found.timestamp, Timestamp(wanted.timestamp));
            prop_assert_eq!(found.key.as_deref(), wanted.key.as_deref());
            prop_assert_eq!(found.value.as_deref(), wanted.value.as_deref());
            let headers: Vec<_> = wanted.headers.iter().map(|(name, value)| (name.as_bytes(), value.as_deref())).collect();
            let found: Vec<_> = found.headers.iter().map(|(name, value)| (&name[..], value.as_deref())).collect();
            prop_assert_eq!(found, headers);
        }
    }

    #[test]
    fn the_walk_and_the_iterator_agree_on_any_bytes(
        records in proptest::collection::vec(wanted(), 1..4),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        noise in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..80)),
        count in 1..4_i32,
    ) {
        let mut bytes = noise.unwrap_or_else(|| build(&records, Codec::None).bytes[HEADER_BYTES..].to_vec());
        for (at, byte) in damage {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
        }
        let mut seen = Vec::new();
        let walked = walk(&mut &bytes[..], count, |shape| {
            seen.push((shape.offset_delta, shape.has_key));
            Ok(())
        });
        // In bits, so that most records are read as a stream.
        let mut in_bits = Vec::new();
        let streamed = walk(&mut std::io::BufReader::with_capacity(5, &bytes[..]), count, |shape| {
            in_bits.push((shape.offset_delta, shape.has_key));
            Ok(())
        });
        prop_assert_eq!(walked.is_ok(), streamed.is_ok());
        prop_assert!(walked.is_err() || seen == in_bits);
        let mut records = Records {
            payload: bytes.into(),
            position: 0,
            left: count,
            base_offset: Offset::ZERO,
            base_timestamp: Timestamp(0),
            log_append_time: None,
        };
        let read: Result<Vec<_>, _> = records.by_ref().collect();
        let all = read.is_ok() && records.position == records.payload.len();
        prop_assert_eq!(walked.is_ok(), all);
        if let (Ok(()), Ok(read)) = (walked, read) {
            let read: Vec<_> =
                read.iter().map(|record| (i32::try_from(record.offset.0).unwrap(), record.key.is_some())).collect();
            prop_assert_eq!(seen, read);
        }
    }
}

#[test]
fn duplicate_headers_are_kept_in_order() {
    let headers = ["a", "b", "a"].map(|name| (name.to_owned(), None)).to_vec();
    let batch = build(&[Wanted { timestamp: 1, key: None, value: None, headers }], Codec::None);
    let record = batch.records(100).unwrap().next().unwrap().unwrap();
    assert_eq!(record.headers.iter().map(|(name, _)| &name[..]).collect::<Vec<_>>(), [b"a", b"b", b"a"]);
}

#[test]
fn uncompressed_records_are_slices_of_the_batch() {
    let value = vec![7; 100];
    let batch = build(&[Wanted { timestamp: 1, key: None, value: Some(value), headers: vec![] }], Codec::None);
    let record = batch.records(0).unwrap().next().unwrap().unwrap();
    assert!(batch.bytes.as_ptr_range().contains(&record.value.unwrap().as_ptr()));
}

#[test]
fn a_batch_that_decompresses_beyond_the_cap_is_not_opened() {
    let record = Wanted { timestamp: 1, key: None, value: Some(vec![0; 100_000]), headers: vec![] };
    let batch = build(&[record], Codec::Gzip);
    assert_eq!(batch.records(1_000).unwrap_err(), RecordsError::TooLarge(1_000));
}

#[test]
fn log_append_time_overrides_the_records_own() {
    let mut builder = BatchBuilder::new();
    builder.append(Timestamp(5), None, None, &[]);
    let mut batch = builder.build();
    batch.stamp_log_append_time(Timestamp(99));
    let stored = StoredBatch::parse(batch.bytes.freeze()).unwrap();
    assert_eq!(stored.records(0).unwrap().next().unwrap().unwrap().timestamp, Timestamp(99));
}

#[test]
fn an_iterator_ends_after_an_error() {
    let mut batch = build(&[Wanted { timestamp: 1, key: None, value: None, headers: vec![] }], Codec::None);
    batch.header.record_count = i32::MAX;
    let found: Vec<_> = batch.records(0).unwrap().collect();
    assert_eq!((found.len(), found[1].is_err()), (2, true));
}
