//! Produce (0): batches that a broker must refuse, one broken thing each.
//!
//! Where two codes are named, the broker may find the fault in its header check or in its records: a client treats
//! both as "this batch will never be accepted".

use ottla_protocol_tests::batch::{Batch, CODECS, CONTROL, Codec, Record, TRANSACTIONAL, at, zigzag};
use ottla_protocol_tests::client::Client;
use ottla_protocol_tests::fetched::batches;
use ottla_protocol_tests::steps::{Topic, create_topic, fetch, log_end, produce, produce_bytes, producer_id};
use ottla_protocol_tests::{broker, code, now_ms};

const HOUR: i64 = 3_600_000;

async fn refuses(client: &mut Client, topic: &Topic, what: &str, records: &[u8], allowed: &[i16]) {
    let before = log_end(client, topic, 0).await;
    let answer = produce_bytes(client, topic, 0, records).await;
    let said = &answer.error_message;
    assert!(allowed.contains(&answer.error_code), "{what}: {} ({said:?}), not one of {allowed:?}", answer.error_code);
    assert_eq!(answer.base_offset, -1, "{what}");
    assert_eq!(log_end(client, topic, 0).await, before, "{what}: something was appended");
}

async fn fresh() -> (Client, Topic) {
    let mut client = broker::connect().await;
    let topic = create_topic(&mut client, 1, &[]).await;
    (client, topic)
}

fn good() -> Batch {
    Batch::of(&["one", "two", "three"])
}

fn patched(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut batch = good().encode();
    batch[at..at + bytes.len()].copy_from_slice(bytes);
    batch
}

#[tokio::test]
async fn a_wrong_crc_is_a_corrupt_message() {
    let (mut client, topic) = fresh().await;
    refuses(&mut client, &topic, "crc", &patched(at::CRC, &[1, 2, 3, 4]), &[code::CORRUPT_MESSAGE]).await;
    let mut flipped = good().encode();
    *flipped.last_mut().expect("bytes") ^= 0x40;
    refuses(&mut client, &topic, "a flipped bit", &flipped, &[code::CORRUPT_MESSAGE]).await;
}

#[tokio::test]
async fn a_magic_other_than_2_is_refused() {
    let (mut client, topic) = fresh().await;
    for magic in [0u8, 1, 3, 127, 255] {
        let allowed = [code::INVALID_RECORD, code::CORRUPT_MESSAGE];
        refuses(&mut client, &topic, &format!("magic {magic}"), &patched(at::MAGIC, &[magic]), &allowed).await;
    }
}

#[tokio::test]
async fn exactly_one_whole_batch_is_expected() {
    let (mut client, topic) = fresh().await;
    let whole = good().encode();
    let twice = [whole.clone(), whole.clone()].concat();
    refuses(&mut client, &topic, "no batch", &[], &[code::INVALID_RECORD]).await;
    refuses(&mut client, &topic, "two batches", &twice, &[code::INVALID_RECORD]).await;
    for cut in [1, 11, 16, 17, 60, 61, whole.len() - 1] {
        let allowed = [code::INVALID_RECORD, code::CORRUPT_MESSAGE];
        refuses(&mut client, &topic, &format!("{cut} bytes of a batch"), &whole[..cut], &allowed).await;
    }
}

#[tokio::test]
async fn a_batch_length_that_is_not_true_is_refused() {
    let (mut client, topic) = fresh().await;
    for length in [i32::MAX, -1, i32::MIN, 0, 13, 48] {
        // Kafka adds twelve to the largest length, overflows, and answers UNKNOWN_SERVER_ERROR.
        let allowed = [code::INVALID_RECORD, code::CORRUPT_MESSAGE, code::UNKNOWN_SERVER_ERROR];
        let broken = patched(at::LENGTH, &length.to_be_bytes());
        refuses(&mut client, &topic, &format!("length {length}"), &broken, &allowed).await;
    }
}

#[tokio::test]
async fn offsets_and_counts_that_contradict_each_other_are_refused() {
    let (mut client, topic) = fresh().await;
    let cases = [
        ("base offset 5", good().with(|batch| batch.base_offset = 5)),
        ("last offset delta too large", good().with(|batch| batch.last_offset_delta = 3)),
        ("last offset delta too small", good().with(|batch| batch.last_offset_delta = 1)),
        ("last offset delta negative", good().with(|batch| batch.last_offset_delta = -1)),
        ("count 0", good().with(|batch| batch.count = 0)),
        ("count 0 and last delta -1", good().with(|batch| (batch.count, batch.last_offset_delta) = (0, -1))),
        ("count negative", good().with(|batch| batch.count = -3)),
        ("count 2 G", good().with(|batch| (batch.count, batch.last_offset_delta) = (i32::MAX, i32::MAX - 1))),
        ("count larger than the records", good().with(|batch| (batch.count, batch.last_offset_delta) = (4, 3))),
        ("count smaller than the records", good().with(|batch| (batch.count, batch.last_offset_delta) = (2, 1))),
    ];
    for (what, batch) in cases {
        refuses(&mut client, &topic, what, &batch.encode(), &[code::INVALID_RECORD]).await;
    }
}

#[tokio::test]
async fn compressed_batches_with_contradicting_headers_are_refused() {
    let (mut client, topic) = fresh().await;
    for codec in CODECS {
        for (what, batch) in [
            ("base offset 5", good().with(|batch| batch.base_offset = 5)),
            ("last offset delta too large", good().with(|batch| batch.last_offset_delta = 3)),
            ("count negative", good().with(|batch| batch.count = -3)),
        ] {
            let broken = batch.compressed(codec).encode();
            refuses(&mut client, &topic, &format!("{what} {codec:?}"), &broken, &[code::INVALID_RECORD]).await;
        }
    }
}

fn raw_record(change: impl FnOnce(&mut Vec<u8>)) -> Batch {
    good().with(|batch| {
        (batch.count, batch.last_offset_delta) = (1, 0);
        batch.records.clear();
        change(&mut batch.records);
    })
}

#[tokio::test]
async fn record_and_header_lengths_that_are_not_true_are_refused() {
    let (mut client, topic) = fresh().await;
    for length in [i64::from(i32::MAX), -1, 0, 5_000_000] {
        let batch = raw_record(|records| {
            zigzag(records, length);
            records.extend_from_slice(&[0; 16]);
        });
        refuses(&mut client, &topic, &format!("record length {length}"), &batch.encode(), &[code::INVALID_RECORD])
            .await;
    }
    for headers in [i64::from(i32::MAX), -1, 1_000_000] {
        let batch = raw_record(|records| {
            let mut body = vec![0, 0, 0, 1, 1];
            zigzag(&mut body, headers);
            zigzag(records, body.len() as i64);
            records.extend_from_slice(&body);
        });
        let what = format!("{headers} headers");
        refuses(&mut client, &topic, &what, &batch.encode(), &[code::INVALID_RECORD]).await;
    }
}

#[tokio::test]
async fn a_control_batch_is_never_taken_from_a_client() {
    let (mut client, topic) = fresh().await;
    let control = good().with(|batch| batch.attributes = CONTROL);
    refuses(&mut client, &topic, "control", &control.encode(), &[code::INVALID_RECORD]).await;
}

#[tokio::test]
async fn a_transactional_batch_needs_a_transactional_id() {
    let (mut client, topic) = fresh().await;
    let (id, epoch) = producer_id(&mut client).await;
    let batch = good().by(id, epoch, 0).with(|batch| batch.attributes = TRANSACTIONAL);
    let allowed = [code::TRANSACTIONAL_ID_AUTHORIZATION_FAILED];
    refuses(&mut client, &topic, "transactional", &batch.encode(), &allowed).await;
}

#[tokio::test]
async fn an_unknown_codec_and_garbage_in_a_codecs_frame_are_refused() {
    let (mut client, topic) = fresh().await;
    let allowed =
        [code::INVALID_RECORD, code::CORRUPT_MESSAGE, code::UNSUPPORTED_COMPRESSION_TYPE, code::UNKNOWN_SERVER_ERROR];
    for unknown in [5, 6, 7] {
        let batch = good().with(|batch| batch.attributes = unknown);
        refuses(&mut client, &topic, &format!("codec {unknown}"), &batch.encode(), &allowed).await;
    }
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        // Snappy's raw form has no mark of its own: xerial's framing has, and a block that cannot be there.
        let garbage: &[u8] = match codec {
            Codec::Snappy => b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01\x7f\xff\xff\xff garbage",
            _ => b"this is no frame of any codec at all",
        };
        let broken = good().compressed(codec).encode_around(garbage);
        refuses(&mut client, &topic, &format!("{codec:?} garbage"), &broken, &allowed).await;
    }
}

#[tokio::test]
async fn a_producer_id_without_a_sequence_is_refused() {
    let (mut client, topic) = fresh().await;
    let (id, epoch) = producer_id(&mut client).await;
    refuses(&mut client, &topic, "sequence -1", &good().by(id, epoch, -1).encode(), &[code::INVALID_RECORD]).await;
}

#[tokio::test]
async fn timestamps_beyond_the_topics_bounds_are_refused() {
    let mut client = broker::connect().await;
    let bounds = [("message.timestamp.before.max.ms", "3600000"), ("message.timestamp.after.max.ms", "3600000")];
    let topic = create_topic(&mut client, 1, &bounds).await;
    let now = now_ms();
    for (what, time) in [("old", now - 2 * HOUR), ("future", now + 2 * HOUR)] {
        for codec in [Codec::None, Codec::Gzip] {
            let batch = Batch::at_times(&[time]).compressed(codec);
            refuses(&mut client, &topic, what, &batch.encode(), &[code::INVALID_TIMESTAMP]).await;
        }
    }
    produce(&mut client, &topic, 0, &Batch::at_times(&[now - HOUR / 2, now + HOUR / 2])).await;
}

#[tokio::test]
async fn by_default_the_future_ends_in_an_hour_and_the_past_is_open() {
    let (mut client, topic) = fresh().await;
    let far = Batch::at_times(&[i64::MAX]);
    refuses(&mut client, &topic, "the end of time", &far.encode(), &[code::INVALID_TIMESTAMP]).await;
    let base = produce(&mut client, &topic, 0, &Batch::at_times(&[1, 2])).await;
    let fetched = fetch(&mut client, &topic, 0, base).await.records.expect("records");
    assert_eq!(batches(fetched)[0].max_timestamp, 2);
}

#[tokio::test]
async fn timestamps_at_the_edges_of_their_type_do_no_harm() {
    let (mut client, topic) = fresh().await;
    let mut overflowing = Record { timestamp_delta: i64::MAX, value: Some(b"v".to_vec()), ..Record::default() };
    for base in [i64::MAX, i64::MIN, 0, -1] {
        for delta in [i64::MAX, i64::MIN, 1] {
            overflowing.timestamp_delta = delta;
            let mut batch = Batch::of_records(0, &[overflowing.clone()]);
            (batch.base_timestamp, batch.max_timestamp) = (base, base);
            // Refused or not: one answer, and the partition lives.
            produce_bytes(&mut client, &topic, 0, &batch.encode()).await;
        }
    }
    produce(&mut client, &topic, 0, &good()).await;
}

#[tokio::test]
async fn a_batch_larger_than_the_topics_limit_is_refused() {
    let mut client = broker::connect().await;
    let topic = create_topic(&mut client, 1, &[]).await;
    let large = "x".repeat(2 << 20);
    refuses(&mut client, &topic, "2 MiB", &Batch::of(&[&large]).encode(), &[code::MESSAGE_TOO_LARGE]).await;
    // The size is that of the batch as sent: compressed it passes.
    produce(&mut client, &topic, 0, &Batch::of(&[&large]).compressed(Codec::Zstd)).await;

    let whole = good().encode().len();
    let exact = create_topic(&mut client, 1, &[("max.message.bytes", &whole.to_string())]).await;
    produce(&mut client, &exact, 0, &good()).await;
    let more = Batch::of(&["one", "two", "three+"]).encode();
    refuses(&mut client, &exact, "one byte more", &more, &[code::MESSAGE_TOO_LARGE]).await;
}

#[tokio::test]
async fn a_gap_between_offset_deltas_is_never_stored() {
    let (mut client, topic) = fresh().await;
    let value = Some(b"v".to_vec());
    let records =
        [Record { value: value.clone(), ..Record::default() }, Record { offset_delta: 9, value, ..Record::default() }];
    let batch = Batch::of_records(now_ms(), &records);
    let answer = produce_bytes(&mut client, &topic, 0, &batch.encode()).await;
    // Kafka stores such a batch as it came, and its second record claims an offset that the next batch has too.
    assert!([code::NONE, code::INVALID_RECORD].contains(&answer.error_code), "{}", answer.error_code);
    let end = log_end(&mut client, &topic, 0).await;
    assert_eq!(end, if answer.error_code == code::NONE { 2 } else { 0 });
}
