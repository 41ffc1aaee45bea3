//! Claims about what a leader accepts, with the codes of Kafka 4.3.1.

use proptest::prelude::*;

use super::*;
use crate::types::{Offset, ProducerEpoch, ProducerId};
use crate::wire::batch::{BatchBuilder, CONTROL_BIT, LOG_APPEND_TIME_BIT, StoredBatch};
use crate::wire::compress::compress;

const NOW: Timestamp = Timestamp(1_700_000_000_000);
const CODECS: [Codec; 4] = [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

fn rules() -> Rules {
    Rules {
        max_message_bytes: 1_048_588,
        compacted: false,
        log_append_time: false,
        timestamp_before_max_ms: i64::MAX,
        timestamp_after_max_ms: 3_600_000,
        compression: None,
        zstd_allowed: true,
        full: false,
        now: NOW,
    }
}

fn batch_at(times: &[i64]) -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    for (i, time) in times.iter().enumerate() {
        builder.append(Timestamp(*time), Some(b"key"), Some(format!("value {i}").as_bytes()), &[("h", Some(b"v"))]);
    }
    builder.build().bytes.to_vec()
}

fn batch(records: usize) -> Vec<u8> {
    batch_at(&vec![NOW.0; records])
}

/// Changes header fields and makes the checksum right again.
fn patched(mut bytes: Vec<u8>, patches: &[(usize, &[u8])]) -> Vec<u8> {
    for (at, patch) in patches {
        bytes[*at..at + patch.len()].copy_from_slice(patch);
    }
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes
}

fn compressed(bytes: &[u8], codec: Codec) -> Vec<u8> {
    let payload = compress(&bytes[HEADER_BYTES..], Compression { codec, level: 3 }).unwrap();
    let mut out = bytes[..HEADER_BYTES].to_vec();
    out.extend_from_slice(&payload);
    let length = i32::try_from(out.len() - LENGTH_OVERHEAD).unwrap();
    let attributes = header(bytes).attributes | codec.id();
    patched(out, &[(8, &length.to_be_bytes()), (21, &attributes.to_be_bytes())])
}

fn header(bytes: &[u8]) -> BatchHeader {
    BatchHeader::parse(bytes).unwrap()
}

fn code(bytes: &[u8], rules: &Rules) -> ErrorCode {
    validate_produced(bytes, rules).map_or_else(|refused| refused.code, |_| ErrorCode::NONE)
}

fn values(batch: &ProducedBatch) -> Vec<Vec<u8>> {
    let stored = StoredBatch::parse(batch.bytes.clone().freeze()).unwrap();
    stored.records(1 << 20).unwrap().map(|record| record.unwrap().value.unwrap().to_vec()).collect()
}

#[test]
fn a_batch_is_copied_as_it_is_into_a_buffer_of_its_size() {
    for bytes in [batch(1), batch(50)].into_iter().chain(CODECS.map(|codec| compressed(&batch(50), codec))) {
        let produced = validate_produced(&bytes, &rules()).unwrap();
        assert_eq!(produced.bytes, bytes);
        assert_eq!(produced.header, header(&bytes));
        assert_eq!(produced.bytes.capacity(), bytes.len());
        assert_eq!(code(&bytes, &Rules { full: true, ..rules() }), ErrorCode::NONE);
    }
}

#[test]
fn a_wrong_checksum_is_corrupt() {
    let mut bytes = batch(3);
    *bytes.last_mut().unwrap() ^= 1;
    assert_eq!(code(&bytes, &rules()), ErrorCode::CORRUPT_MESSAGE);
}

#[test]
fn the_records_must_be_exactly_one_whole_batch() {
    let one = batch(1);
    assert_eq!(code(&[], &rules()), ErrorCode::INVALID_RECORD);
    assert_eq!(code(&one[..one.len() - 1], &rules()), ErrorCode::INVALID_RECORD);
    assert_eq!(code(&[&one[..], &one[..]].concat(), &rules()), ErrorCode::INVALID_RECORD);
    // Kafka trims a partial batch after the first one.
    let produced = validate_produced(&[&one[..], &one[..30]].concat(), &rules()).unwrap();
    assert_eq!(produced.bytes, one);
}

#[test]
fn a_length_that_cannot_be_is_corrupt_or_no_batch() {
    for (length, expected) in [
        (-1, ErrorCode::CORRUPT_MESSAGE),
        (i32::MIN, ErrorCode::CORRUPT_MESSAGE),
        (13, ErrorCode::CORRUPT_MESSAGE),
        (20, ErrorCode::CORRUPT_MESSAGE),
        (i32::MAX, ErrorCode::INVALID_RECORD),
    ] {
        let bytes = patched(batch(1), &[(8, &i32::to_be_bytes(length))]);
        assert_eq!(code(&bytes, &rules()), expected, "{length}");
    }
}

#[test]
fn old_magics_are_invalid_and_unknown_ones_corrupt() {
    for (magic, expected) in [
        (0, ErrorCode::INVALID_RECORD),
        (1, ErrorCode::INVALID_RECORD),
        (3, ErrorCode::CORRUPT_MESSAGE),
        (127, ErrorCode::CORRUPT_MESSAGE),
        (255, ErrorCode::CORRUPT_MESSAGE),
    ] {
        assert_eq!(code(&patched(batch(1), &[(16, &[magic])]), &rules()), expected, "{magic}");
    }
}

#[test]
fn a_header_that_contradicts_itself_is_invalid() {
    let patches: [(usize, &[u8]); 8] = [
        (0, &7_i64.to_be_bytes()),
        (23, &(-1_i32).to_be_bytes()),
        (23, &5_i32.to_be_bytes()),
        (57, &0_i32.to_be_bytes()),
        (57, &(-1_i32).to_be_bytes()),
        (57, &i32::MAX.to_be_bytes()),
        (57, &2_i32.to_be_bytes()),
        (21, &CONTROL_BIT.to_be_bytes()),
    ];
    for patch in patches {
        assert_eq!(code(&patched(batch(3), &[patch]), &rules()), ErrorCode::INVALID_RECORD, "{patch:?}");
    }
}

#[test]
fn a_count_and_a_last_offset_delta_beyond_the_records_are_invalid() {
    let bytes = patched(batch(3), &[(57, &2_000_000_000_i32.to_be_bytes()), (23, &1_999_999_999_i32.to_be_bytes())]);
    assert_eq!(code(&bytes, &rules()), ErrorCode::INVALID_RECORD);
    let bytes = patched(batch(3), &[(57, &2_i32.to_be_bytes()), (23, &1_i32.to_be_bytes())]);
    assert_eq!(code(&bytes, &rules()), ErrorCode::INVALID_RECORD);
    for codec in CODECS {
        assert_eq!(code(&compressed(&bytes, codec), &Rules { full: true, ..rules() }), ErrorCode::INVALID_RECORD);
    }
}

#[test]
fn a_producer_id_needs_a_sequence() {
    let pid = (43, &8_i64.to_be_bytes()[..]);
    let epoch = (51, &0_i16.to_be_bytes()[..]);
    assert_eq!(code(&patched(batch(1), &[pid, epoch]), &rules()), ErrorCode::INVALID_RECORD);
    let sequence = (53, &0_i32.to_be_bytes()[..]);
    let produced = validate_produced(&patched(batch(1), &[pid, epoch, sequence]), &rules()).unwrap();
    assert_eq!(produced.header.producer_id, ProducerId(8));
    assert_eq!(produced.header.producer_epoch, ProducerEpoch(0));
}

#[test]
fn an_unknown_codec_is_refused_and_zstd_needs_version_7() {
    assert_eq!(code(&patched(batch(1), &[(21, &[0, 7])]), &rules()), ErrorCode::UNSUPPORTED_COMPRESSION_TYPE);
    let zstd = compressed(&batch(1), Codec::Zstd);
    let old = Rules { zstd_allowed: false, ..rules() };
    assert_eq!(code(&zstd, &old), ErrorCode::UNSUPPORTED_COMPRESSION_TYPE);
    assert_eq!(code(&compressed(&batch(1), Codec::Gzip), &old), ErrorCode::NONE);
}

#[test]
fn a_codec_on_garbage_is_invalid() {
    for codec in CODECS {
        let bytes = patched(batch(3), &[(21, &codec.id().to_be_bytes())]);
        let full = Rules { full: true, ..rules() };
        assert_eq!(code(&bytes, &full), ErrorCode::INVALID_RECORD, "{codec:?}");
    }
}

#[test]
fn a_batch_above_the_limit_is_too_large() {
    let bytes = batch(10);
    let size = i32::try_from(bytes.len()).unwrap();
    assert_eq!(code(&bytes, &Rules { max_message_bytes: size, ..rules() }), ErrorCode::NONE);
    assert_eq!(code(&bytes, &Rules { max_message_bytes: size - 1, ..rules() }), ErrorCode::MESSAGE_TOO_LARGE);
}

#[test]
fn a_bomb_is_too_large_when_it_is_opened() {
    let mut builder = BatchBuilder::new();
    builder.append(NOW, Some(b"k"), Some(&vec![0; MAX_DECOMPRESSED_BYTES + 1]), &[]);
    let bomb = builder.build().bytes.to_vec();
    for codec in CODECS {
        let bytes = compressed(&bomb, codec);
        let rules = Rules { full: true, max_message_bytes: i32::MAX, ..rules() };
        assert_eq!(code(&bytes, &rules), ErrorCode::MESSAGE_TOO_LARGE, "{codec:?}");
    }
}

#[test]
fn record_lengths_and_header_counts_that_cannot_be_are_invalid() {
    // The one record: length, attributes, timestamp delta, offset delta, key, value, header count.
    let bodies: [&[u8]; 8] = [
        &[0xfe, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0, 1, 1, 0],
        &[0x01, 0, 0, 0, 1, 1, 0],
        &[0x0c, 0, 0, 0, 1, 1, 1],
        &[0x14, 0, 0, 0, 1, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f],
        &[0x0c, 0, 0, 0, 1, 0x7e, 0],
        &[0x0a, 0, 0, 0, 1, 1, 0],
        &[0x0e, 0, 0, 0, 1, 1, 0],
        &[0x0c, 0, 0, 0x02, 1, 1, 0],
    ];
    for body in bodies {
        let mut bytes = batch(1)[..HEADER_BYTES].to_vec();
        bytes.extend_from_slice(body);
        let length = i32::try_from(bytes.len() - LENGTH_OVERHEAD).unwrap();
        let bytes = patched(bytes, &[(8, &length.to_be_bytes())]);
        assert_eq!(code(&bytes, &rules()), ErrorCode::INVALID_RECORD, "{body:x?}");
    }
}

#[test]
fn a_compacted_topic_refuses_the_batch_of_a_record_without_a_key_and_names_the_record() {
    let mut builder = BatchBuilder::new();
    for key in [Some(&b"k"[..]), None, Some(b"k"), None] {
        builder.append(NOW, key, Some(b"v"), &[]);
    }
    let plain = builder.build().bytes.to_vec();
    for bytes in [plain.clone()].into_iter().chain(CODECS.map(|codec| compressed(&plain, codec))) {
        let refused = validate_produced(&bytes, &Rules { compacted: true, ..rules() }).unwrap_err();
        assert_eq!(refused.code, ErrorCode::INVALID_RECORD);
        assert_eq!(refused.record_errors.iter().map(|error| error.batch_index).collect::<Vec<_>>(), [1, 3]);
        assert_eq!(code(&bytes, &rules()), ErrorCode::NONE);
    }
}

#[test]
fn timestamps_out_of_bounds_are_invalid_and_named() {
    let late = NOW.0 + 3_600_001;
    for times in [[NOW.0, late], [NOW.0, i64::MIN], [NOW.0, i64::MAX]] {
        let plain = batch_at_wrapping(times);
        for bytes in [plain.clone()].into_iter().chain(CODECS.map(|codec| compressed(&plain, codec))) {
            let full = Rules { full: true, ..rules() };
            let refused = validate_produced(&bytes, &full).unwrap_err();
            assert_eq!(refused.code, ErrorCode::INVALID_TIMESTAMP, "{times:?}");
            assert_eq!(refused.record_errors[0].batch_index, 1);
        }
    }
    assert_eq!(code(&batch_at(&[NOW.0 + 3_600_000]), &rules()), ErrorCode::NONE);
    let before = Rules { timestamp_before_max_ms: 1_000, ..rules() };
    assert_eq!(code(&batch_at(&[NOW.0 - 1_000]), &before), ErrorCode::NONE);
    assert_eq!(code(&batch_at(&[NOW.0 - 1_001]), &before), ErrorCode::INVALID_TIMESTAMP);
    assert_eq!(code(&batch_at(&[-1]), &before), ErrorCode::NONE);
}

/// Two records whose timestamp delta wraps around.
fn batch_at_wrapping(times: [i64; 2]) -> Vec<u8> {
    let mut records = BytesMut::new();
    for (i, time) in times.into_iter().enumerate() {
        let deltas = (time.wrapping_sub(times[0]), i32::try_from(i).unwrap());
        crate::wire::records::write_record(&mut records, deltas, Some(b"k"), None, &[]);
    }
    let mut bytes = batch_at(&times.map(|_| times[0]))[..HEADER_BYTES].to_vec();
    bytes.extend_from_slice(&records);
    let length = i32::try_from(bytes.len() - LENGTH_OVERHEAD).unwrap();
    patched(bytes, &[(8, &length.to_be_bytes()), (35, &times[1].max(times[0]).to_be_bytes())])
}

#[test]
fn a_late_maximum_in_the_header_is_enough_to_open_a_compressed_batch() {
    let plain = batch_at(&[NOW.0, NOW.0 + 3_600_001, NOW.0]);
    for codec in CODECS {
        let refused = validate_produced(&compressed(&plain, codec), &rules()).unwrap_err();
        assert_eq!(refused.code, ErrorCode::INVALID_TIMESTAMP);
        assert_eq!(refused.record_errors[0].batch_index, 1);
    }
}

#[test]
fn a_maximum_timestamp_that_the_records_belie_is_corrected() {
    let bytes = patched(batch_at(&[NOW.0 - 5, NOW.0 - 9]), &[(35, &NOW.0.to_be_bytes())]);
    let produced = validate_produced(&bytes, &rules()).unwrap();
    assert_eq!(produced.header.max_timestamp, Timestamp(NOW.0 - 5));
    assert!(crc_is_valid(&produced.bytes));
}

#[test]
fn a_producer_that_marks_log_append_time_is_refused_there_and_unmarked_elsewhere() {
    let marked = patched(batch(2), &[(21, &LOG_APPEND_TIME_BIT.to_be_bytes())]);
    let append_time = Rules { log_append_time: true, ..rules() };
    assert_eq!(code(&marked, &append_time), ErrorCode::INVALID_TIMESTAMP);
    assert_eq!(code(&compressed(&marked, Codec::Zstd), &append_time), ErrorCode::INVALID_TIMESTAMP);
    let produced = validate_produced(&marked, &rules()).unwrap();
    assert!(!produced.header.is_log_append_time());
    assert!(crc_is_valid(&produced.bytes));
}

#[test]
fn log_append_time_does_not_look_at_the_producers_timestamps() {
    let append_time = Rules { log_append_time: true, ..rules() };
    assert_eq!(code(&batch_at(&[NOW.0 * 2]), &append_time), ErrorCode::NONE);
}

#[test]
fn a_topics_own_codec_recompresses_and_keeps_the_records() {
    let plain = batch(20);
    let expected = values(&validate_produced(&plain, &rules()).unwrap());
    for from in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let bytes = if from == Codec::None { plain.clone() } else { compressed(&plain, from) };
        for to in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let wanted = Rules { compression: Some(Compression { codec: to, level: 3 }), ..rules() };
            let produced = validate_produced(&bytes, &wanted).unwrap();
            assert_eq!(produced.header.codec(), Some(to));
            assert!(crc_is_valid(&produced.bytes));
            assert_eq!(BatchHeader::parse(&produced.bytes), Some(produced.header));
            assert_eq!(values(&produced), expected, "{from:?} to {to:?}");
            assert_eq!(from == to, produced.bytes == bytes);
        }
    }
}

#[test]
fn record_errors_are_listed_up_to_a_limit() {
    let mut builder = BatchBuilder::new();
    for _ in 0..MAX_RECORD_ERRORS + 5 {
        builder.append(NOW, None, Some(b"v"), &[]);
    }
    let refused = validate_produced(&builder.build().bytes, &Rules { compacted: true, ..rules() }).unwrap_err();
    assert_eq!(refused.record_errors.len(), MAX_RECORD_ERRORS);
    assert!(refused.message.starts_with("1005 records are refused"));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = validate_produced(&bytes, &rules());
    }

    #[test]
    fn a_damaged_batch_never_panics_and_what_passes_is_consistent(
        records in 1_usize..6,
        codec in 0_usize..5,
        damage in proptest::collection::vec((12_usize..150, any::<u8>()), 0..4),
        full in any::<bool>(),
        compacted in any::<bool>(),
    ) {
        let plain = batch(records);
        let mut bytes = if codec == 0 { plain } else { compressed(&plain, CODECS[codec - 1]) };
        for (at, byte) in damage {
            let at = at % bytes.len();
            if !(8..17).contains(&at) {
                bytes[at] = byte;
            }
        }
        let bytes = patched(bytes, &[]);
        if let Ok(produced) = validate_produced(&bytes, &Rules { full, compacted, ..rules() }) {
            prop_assert!(crc_is_valid(&produced.bytes));
            prop_assert_eq!(BatchHeader::parse(&produced.bytes), Some(produced.header));
            prop_assert_eq!(produced.header.base_offset, Offset::ZERO);
            let stored = StoredBatch::parse(produced.bytes.freeze()).unwrap();
            if full || compacted || stored.header.codec() == Some(Codec::None) {
                let found: Result<Vec<_>, _> = stored.records(1 << 20).unwrap().collect();
                prop_assert_eq!(found.unwrap().len(), usize::try_from(stored.header.record_count).unwrap());
            }
        }
    }
}
