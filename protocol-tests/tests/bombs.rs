//! Batches that are small as they come and large when they are opened. What opens one: `ottla.produce.validate=full`, a
//! compacted topic, a topic with a codec of its own. The peaks are the kernel's: what was freed before the answer counts.

use std::io::{Read, Write};

use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use ottla_protocol_tests::batch::{self, Batch, Codec};
use ottla_protocol_tests::broker::{self, Broker};
use ottla_protocol_tests::client::Client;
use ottla_protocol_tests::steps::{Topic, create_topic, produce_bytes};
use ottla_protocol_tests::{code, now_ms};

const MIB: usize = 1 << 20;
/// What the records of a bomb come to: far more than what a broker may open.
const OPENED: usize = 300 * MIB;
/// What opening one may cost.
const BOUND_MIB: u64 = 96;

const CODECS: [Codec; 4] = [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];
/// Snappy makes no less than a twentieth of anything.
const LARGE: (&str, &str) = ("max.message.bytes", "67108864");
/// Topics whose batches are opened, whatever the broker's settings.
const OPENING: [&[(&str, &str)]; 3] = [
    &[LARGE, ("cleanup.policy", "compact")],
    &[LARGE, ("compression.type", "uncompressed")],
    &[LARGE, ("cleanup.policy", "compact"), ("message.timestamp.type", "LogAppendTime")],
];

/// The bytes of one record of so many zeros with a key, without building them: its beginning, and how many zeros follow.
fn zeros(count: usize) -> (Vec<u8>, usize) {
    // Attributes, timestamp delta, offset delta, key; no headers at the end, which is one more zero.
    let mut body = vec![0, 0, 0, 2, b'k'];
    batch::zigzag(&mut body, count as i64);
    let mut record = Vec::new();
    batch::zigzag(&mut record, (body.len() + count + 1) as i64);
    record.extend(body);
    (record, count + 1)
}

/// A payload that opens to `start` and then so many zeros.
fn payload(codec: Codec, start: &[u8], zeros: usize) -> Vec<u8> {
    let mut source = start.chain(std::io::repeat(0).take(zeros as u64));
    let mut copy = |into: &mut dyn Write| std::io::copy(&mut source, into).expect("memory takes it");
    match codec {
        Codec::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            copy(&mut encoder);
            encoder.finish().expect("gzip")
        }
        Codec::Lz4 => {
            let blocks = lz4::BlockMode::Independent;
            let mut encoder = lz4::EncoderBuilder::new().block_mode(blocks).build(Vec::new()).expect("lz4");
            copy(&mut encoder);
            let (framed, result) = encoder.finish();
            result.expect("lz4");
            framed
        }
        Codec::Zstd => {
            let mut encoder = zstd::stream::Encoder::new(Vec::new(), 0).expect("zstd");
            // The largest window that a reader takes: all of it would have to be kept.
            encoder.window_log(27).expect("a window");
            copy(&mut encoder);
            encoder.finish().expect("zstd")
        }
        Codec::Snappy => one_snappy_block(start, zeros),
        Codec::None => unreachable!("a bomb is compressed"),
    }
}

/// One block of snappy that holds everything, in xerial's framing: who opens it at its word reserves all of it at once.
fn one_snappy_block(start: &[u8], zeros: usize) -> Vec<u8> {
    let mut block = Vec::new();
    let mut length = start.len() + zeros;
    while length >= 0x80 {
        block.push(length as u8 | 0x80);
        length >>= 7;
    }
    block.push(length as u8);
    // A literal: the start and one zero. Then copies of up to 64 bytes from one byte back.
    block.push((start.len() as u8) << 2);
    block.extend(start);
    block.push(0);
    let mut left = zeros - 1;
    while left > 0 {
        let step = left.min(64);
        block.extend([((step as u8 - 1) << 2) | 2, 1, 0]);
        left -= step;
    }
    framed_block(&block)
}

fn framed_block(block: &[u8]) -> Vec<u8> {
    [b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01", &(block.len() as i32).to_be_bytes()[..], block].concat()
}

/// A batch of `count` records whose payload is this.
fn batch_of(codec: Codec, count: i32, payload: &[u8]) -> Vec<u8> {
    let header = Batch::of_records(now_ms(), &[]).compressed(codec);
    header.with(|batch| (batch.count, batch.last_offset_delta) = (count, count - 1)).encode_around(payload)
}

/// A bomb of one record.
fn bomb(codec: Codec) -> Vec<u8> {
    let (start, zeros) = zeros(OPENED);
    batch_of(codec, 1, &payload(codec, &start, zeros))
}

/// Produces, and says by how many MiB memory stood higher meanwhile than when the broker rested.
async fn measured(own: &Broker, client: &mut Client, topic: &Topic, records: &[u8]) -> (i16, u64) {
    let (answer, grown) = measured_answer(own, client, topic, records).await;
    (answer.error_code, grown)
}

async fn measured_answer(
    own: &Broker,
    client: &mut Client,
    topic: &Topic,
    records: &[u8],
) -> (PartitionProduceResponse, u64) {
    own.forget_peak();
    let before = own.peak_kib().expect("its memory");
    let answer = produce_bytes(client, topic, 0, records).await;
    (answer, own.peak_kib().expect("its memory").saturating_sub(before) >> 10)
}

#[tokio::test]
async fn a_bomb_is_too_large_whatever_opens_it_and_costs_no_more_than_its_bound() {
    for (validate, topics) in [("fast", &OPENING[..]), ("full", &[&[LARGE][..]][..])] {
        let Some(own) = broker::own(&[("ottla.produce.validate", validate)]) else { return };
        let mut client = own.connect().await;
        for codec in CODECS {
            let bomb = bomb(codec);
            for config in topics {
                let topic = create_topic(&mut client, 1, config).await;
                let (answer, grown) = measured(&own, &mut client, &topic, &bomb).await;
                let what = format!("{codec:?}, {} bytes, {validate}, {config:?}", bomb.len());
                assert_eq!(answer, code::MESSAGE_TOO_LARGE, "{what}");
                assert!(grown < BOUND_MIB, "{what}: memory grew by {grown} MiB");
            }
        }
    }
}

#[tokio::test]
async fn a_bomb_for_a_topic_of_another_codec_is_too_large_and_costs_no_more_than_its_bound() {
    let Some(own) = broker::own(&[]) else { return };
    let mut client = own.connect().await;
    for (codec, other) in [(Codec::Gzip, "zstd"), (Codec::Snappy, "gzip"), (Codec::Lz4, "snappy"), (Codec::Zstd, "lz4")]
    {
        let topic = create_topic(&mut client, 1, &[LARGE, ("compression.type", other)]).await;
        let (answer, grown) = measured(&own, &mut client, &topic, &bomb(codec)).await;
        assert_eq!(answer, code::MESSAGE_TOO_LARGE, "{codec:?} to {other}");
        assert!(grown < BOUND_MIB, "{codec:?} to {other}: memory grew by {grown} MiB");
    }
}

#[tokio::test]
async fn a_bomb_that_nothing_opens_is_stored_as_it_is() {
    let Some(own) = broker::own(&[]) else { return };
    let mut client = own.connect().await;
    let topic = create_topic(&mut client, 1, &[LARGE]).await;
    for codec in CODECS {
        let (answer, grown) = measured(&own, &mut client, &topic, &bomb(codec)).await;
        assert_eq!(answer, code::NONE, "{codec:?}");
        assert!(grown < BOUND_MIB, "{codec:?}: memory grew by {grown} MiB");
    }
}

/// Twenty million records in about a megabyte: all the same, seven bytes each, so only the first has the right offset.
fn crowd() -> Vec<u8> {
    // Length; attributes, timestamp delta, offset delta, no key, no value, no headers.
    let record = [12, 0, 0, 0, 1, 1, 0];
    let many = record.repeat(100_000);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    for _ in 0..200 {
        encoder.write_all(&many).expect("gzip");
    }
    batch_of(Codec::Gzip, 20_000_000, &encoder.finish().expect("gzip"))
}

#[tokio::test]
async fn twenty_million_records_in_a_megabyte_cost_nothing_by_their_number() {
    let crowd = crowd();
    assert!(crowd.len() < MIB, "{} bytes", crowd.len());
    for (validate, config, expected) in [
        ("fast", &[LARGE][..], code::NONE),
        ("fast", OPENING[0], code::INVALID_RECORD),
        ("fast", OPENING[1], code::INVALID_RECORD),
        ("full", &[LARGE][..], code::INVALID_RECORD),
    ] {
        let Some(own) = broker::own(&[("ottla.produce.validate", validate)]) else { return };
        let mut client = own.connect().await;
        let topic = create_topic(&mut client, 1, config).await;
        let (answer, grown) = measured(&own, &mut client, &topic, &crowd).await;
        assert_eq!(answer, expected, "{validate}, {config:?}");
        assert!(grown < 32, "{validate}, {config:?}: memory grew by {grown} MiB");
    }
}

/// As many true records as may be opened: their offsets are right, they have no keys.
fn true_records(count: i32) -> Vec<u8> {
    let mut records = Vec::new();
    for delta in 0..count {
        let mut body = vec![0, 0];
        batch::zigzag(&mut body, i64::from(delta));
        body.extend([1, 1, 0]);
        records.push(body.len() as u8 * 2);
        records.extend(body);
    }
    batch_of(Codec::Zstd, count, &batch::compress(Codec::Zstd, &records))
}

#[tokio::test]
async fn millions_of_records_that_are_opened_cost_no_more_than_a_few() {
    let Some(own) = broker::own(&[("ottla.produce.validate", "full")]) else { return };
    let mut client = own.connect().await;
    let records = true_records(6_000_000);
    let topic = create_topic(&mut client, 1, &[LARGE]).await;
    let (answer, grown) = measured(&own, &mut client, &topic, &records).await;
    assert_eq!(answer, code::NONE, "{} bytes", records.len());
    assert!(grown < BOUND_MIB, "accepted: memory grew by {grown} MiB");
    // Each of them is refused for its missing key, and only the first are listed.
    let topic = create_topic(&mut client, 1, OPENING[0]).await;
    let (answer, grown) = measured_answer(&own, &mut client, &topic, &records).await;
    assert_eq!(answer.error_code, code::INVALID_RECORD);
    assert!((1..=1_000).contains(&answer.record_errors.len()), "{} are listed", answer.record_errors.len());
    assert!(grown < BOUND_MIB, "refused: memory grew by {grown} MiB");
}
