//! Claims about producer state, held against Kafka's rules and against a naive model.

use proptest::prelude::*;

use super::*;
use crate::wire::batch::BatchBuilder;

const DAY: i64 = 86_400_000;

fn header(id: i64, epoch: i16, sequence: i32, records: i32) -> BatchHeader {
    let mut builder = BatchBuilder::new().producer(ProducerId(id), ProducerEpoch(epoch), sequence);
    builder.append(Timestamp(1_000), None, None, &[]);
    let mut header = builder.build().header;
    header.record_count = records;
    header.last_offset_delta = records - 1;
    header
}

fn at(mut header: BatchHeader, offset: i64) -> BatchHeader {
    header.base_offset = Offset(offset);
    header
}

fn states(headers: &[BatchHeader]) -> ProducerStates {
    let mut states = ProducerStates::new();
    for header in headers {
        states.note(header);
    }
    states
}

#[test]
fn a_batch_without_a_producer_is_always_new_and_leaves_no_trace() {
    let mut states = ProducerStates::new();
    let header = header(-1, -1, NO_SEQUENCE, 1);
    assert_eq!(states.check(&header), Ok(Admission::New));
    states.note(&header);
    assert!(states.is_empty());
}

#[test]
fn an_unknown_producer_may_begin_with_any_sequence_but_not_below_epoch_minus_one() {
    let states = ProducerStates::new();
    for sequence in [0, 17, i32::MAX] {
        assert_eq!(states.check(&header(1, 3, sequence, 1)), Ok(Admission::New));
    }
    assert_eq!(states.check(&header(1, -5, 0, 1)), Err(ErrorCode::INVALID_PRODUCER_EPOCH));
}

#[test]
fn the_next_sequence_is_accepted_and_a_gap_is_not() {
    let states = states(&[at(header(1, 0, 0, 5), 100)]);
    assert_eq!(states.check(&header(1, 0, 5, 1)), Ok(Admission::New));
    for sequence in [6, 4, 1, i32::MAX] {
        assert_eq!(states.check(&header(1, 0, sequence, 1)), Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER));
    }
}

#[test]
fn one_of_the_last_five_batches_is_a_duplicate_and_an_older_one_is_out_of_order() {
    let headers: Vec<_> = (0..6).map(|i| at(header(1, 0, i * 10, 10), i64::from(i) * 10 + 1_000)).collect();
    let states = states(&headers);
    assert_eq!(states.check(&headers[0]), Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER));
    for header in &headers[1..] {
        let expected = Duplicate {
            base_offset: header.base_offset,
            last_offset: header.last_offset(),
            timestamp: header.max_timestamp,
        };
        assert_eq!(states.check(header), Ok(Admission::Duplicate(expected)));
    }
    // The same first sequence with another count is no duplicate.
    assert_eq!(states.check(&header(1, 0, 50, 9)), Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER));
}

#[test]
fn an_older_epoch_is_fenced_and_a_newer_one_begins_at_zero() {
    let states = states(&[at(header(1, 3, 0, 5), 0)]);
    assert_eq!(states.check(&header(1, 2, 5, 1)), Err(ErrorCode::INVALID_PRODUCER_EPOCH));
    assert_eq!(states.check(&header(1, 4, 5, 1)), Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER));
    assert_eq!(states.check(&header(1, 4, 0, 1)), Ok(Admission::New));
}

#[test]
fn a_new_epoch_forgets_the_batches_of_the_old() {
    let old = at(header(1, 3, 0, 5), 0);
    let states = states(&[old, at(header(1, 4, 0, 5), 5)]);
    assert_eq!(states.check(&old), Err(ErrorCode::INVALID_PRODUCER_EPOCH));
}

#[test]
fn sequences_wrap_from_two_to_the_31_minus_one_to_zero() {
    let last = at(header(1, 0, i32::MAX - 2, 3), 0);
    assert_eq!(states(&[last]).check(&header(1, 0, 0, 1)), Ok(Admission::New));
    let across = at(header(1, 0, i32::MAX - 1, 5), 10);
    let states = states(&[across]);
    assert_eq!(states.check(&header(1, 0, 3, 1)), Ok(Admission::New));
    assert!(matches!(states.check(&across), Ok(Admission::Duplicate(found)) if found.base_offset == Offset(10)));
}

#[test]
fn producers_expire_by_their_last_batch() {
    let mut states = states(&[at(header(1, 0, 0, 1), 0)]);
    assert_eq!(states.expire(Timestamp(1_000 + DAY - 1), DAY), 0);
    assert_eq!(states.expire(Timestamp(1_000 + DAY), DAY), 1);
    assert!(states.is_empty());
}

#[test]
fn the_number_of_producers_is_bounded_and_the_oldest_go_first() {
    let mut states = ProducerStates::new();
    let count = i64::try_from(MAX_PRODUCERS).unwrap() + 1;
    for id in 0..count {
        states.note(&at(header(id, 0, 0, 1), id));
    }
    assert_eq!(states.len(), MAX_PRODUCERS + 1 - MAX_PRODUCERS / 8);
    assert_eq!(states.check(&header(0, 0, 9, 1)), Ok(Admission::New));
    assert_eq!(states.check(&header(count - 1, 0, 9, 1)), Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER));
}

#[test]
fn a_damaged_snapshot_is_noticed() {
    let mut bytes = Vec::new();
    states(&[at(header(1, 0, 0, 1), 0)]).encode(&mut bytes);
    assert!(ProducerStates::decode(&bytes[..bytes.len() - 1]).is_err());
    assert!(ProducerStates::decode(&[&bytes[..], &[0]].concat()).is_err());
    assert!(ProducerStates::decode(&[]).is_err());
    bytes[0] = 9;
    assert!(ProducerStates::decode(&bytes).is_err());
}

/// Everything ever appended, searched from the end: no window but by counting.
#[derive(Default)]
struct Model {
    log: Vec<BatchHeader>,
}

impl Model {
    fn check(&self, header: &BatchHeader) -> Result<Option<Offset>, ErrorCode> {
        let mut own = self.log.iter().rev().filter(|old| old.producer_id == header.producer_id);
        let Some(last) = own.clone().next() else {
            return Ok(None);
        };
        let same_epoch = own.by_ref().take_while(|old| old.producer_epoch == last.producer_epoch);
        let same = |old: &&BatchHeader| {
            (old.producer_epoch, old.base_sequence, old.record_count)
                == (header.producer_epoch, header.base_sequence, header.record_count)
        };
        if let Some(duplicate) = same_epoch.take(5).find(same) {
            return Ok(Some(duplicate.base_offset));
        }
        if header.producer_epoch < last.producer_epoch {
            return Err(ErrorCode::INVALID_PRODUCER_EPOCH);
        }
        let next = match header.producer_epoch == last.producer_epoch {
            true => (i64::from(last.base_sequence) + i64::from(last.record_count)) % (1 << 31),
            false => 0,
        };
        match i64::from(header.base_sequence) == next {
            true => Ok(None),
            false => Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER),
        }
    }
}

/// Attempts near what is plausible: a producer, an epoch, a step back from the next sequence, a count.
fn attempts() -> impl Strategy<Value = Vec<(i64, i16, i32, i32)>> {
    proptest::collection::vec((0..3_i64, 0..3_i16, -1..12_i32, 1..4_i32), 1..80)
}

proptest! {
    #[test]
    fn the_state_decides_as_the_whole_history_would(attempts in attempts(), first in prop::sample::select(vec![0, i32::MAX - 6])) {
        let mut states = ProducerStates::new();
        let mut model = Model::default();
        let mut next_offset = 0;
        for (id, epoch, back, count) in attempts {
            let last = model.log.iter().rev().find(|old| (old.producer_id.0, old.producer_epoch.0) == (id, epoch));
            let sequence = last.map_or(if epoch == 0 { first } else { 0 }, |old| {
                let next = i64::from(old.base_sequence) + i64::from(old.record_count) - i64::from(back);
                i32::try_from(next.rem_euclid(1 << 31)).unwrap()
            });
            let header = header(id, epoch, sequence, count);
            let expected = model.check(&header);
            let found = states.check(&header).map(|admission| match admission {
                Admission::New => None,
                Admission::Duplicate(duplicate) => Some(duplicate.base_offset),
            });
            prop_assert_eq!(found, expected);
            if expected == Ok(None) {
                let appended = at(header, next_offset);
                next_offset += i64::from(count);
                states.note(&appended);
                model.log.push(appended);
            }
        }
        // Replay, and a snapshot anywhere with a replay of the rest, give the same state.
        prop_assert_eq!(&self::states(&model.log), &states);
        let (before, after) = model.log.split_at(model.log.len() / 2);
        let mut bytes = Vec::new();
        self::states(before).encode(&mut bytes);
        let mut reloaded = ProducerStates::decode(&bytes).unwrap();
        after.iter().for_each(|header| reloaded.note(header));
        prop_assert_eq!(reloaded, states);
    }

    #[test]
    fn any_bytes_decode_to_a_state_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = ProducerStates::decode(&bytes);
    }
}
