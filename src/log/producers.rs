//! Pure. What a partition remembers of its idempotent producers, so that a retry is neither lost nor written twice.
//!
//! A fold over batch headers: the same headers give the same state, whether they are appended, replicated or replayed
//! after a restart. The rules are those of Kafka's `ProducerStateManager` and `ProducerAppendInfo` for producers without
//! transactions. Nothing is checked on replay: what is in the log has been accepted.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut};
use smallvec::SmallVec;

use crate::error::ErrorCode;
use crate::types::{Offset, ProducerEpoch, ProducerId, Timestamp};
use crate::wire::batch::{BatchHeader, NO_SEQUENCE};

/// Batches remembered of each producer: its window of requests in flight.
pub const REMEMBERED_BATCHES: usize = 5;
/// Producers remembered by a partition. Beyond it those that wrote longest ago are forgotten, an eighth at a time:
/// a forgotten producer goes on unhindered, only a late retry of it is no longer recognised.
pub const MAX_PRODUCERS: usize = 32 * 1024;
const SNAPSHOT_VERSION: u8 = 1;

/// One batch that a producer wrote.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Written {
    last_sequence: i32,
    last_offset: Offset,
    offset_delta: i32,
    timestamp: Timestamp,
}

impl Written {
    fn first_sequence(&self) -> i32 {
        let first = i64::from(self.last_sequence) - i64::from(self.offset_delta);
        i32::try_from(first.rem_euclid(1 << 31)).expect("a remainder of 2^31 fits 31 bits")
    }

    fn base_offset(&self) -> Offset {
        self.last_offset.plus(-i64::from(self.offset_delta))
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Producer {
    epoch: ProducerEpoch,
    last_timestamp: Timestamp,
    last_offset: Offset,
    /// Of this epoch only, oldest first.
    written: SmallVec<[Written; 1]>,
}

impl Producer {
    fn last_sequence(&self) -> i32 {
        self.written.last().map_or(NO_SEQUENCE, |written| written.last_sequence)
    }
}

/// How an append by a producer is to be treated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Admission {
    /// Append it.
    New,
    /// It is in the log already: answer with where.
    Duplicate(Duplicate),
}

/// A batch that had been appended before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Duplicate {
    /// Where it is.
    pub base_offset: Offset,
    /// Where it ends.
    pub last_offset: Offset,
    /// Its largest timestamp.
    pub timestamp: Timestamp,
}

/// The producers of a partition.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ProducerStates {
    producers: BTreeMap<ProducerId, Producer>,
}

/// A snapshot that is not one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the snapshot of producer states cannot be read: {0}")]
pub struct BadSnapshot(&'static str);

impl ProducerStates {
    /// No producer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Producers remembered.
    pub fn len(&self) -> usize {
        self.producers.len()
    }

    /// True when no producer is remembered.
    pub fn is_empty(&self) -> bool {
        self.producers.is_empty()
    }

    /// Judges a batch that a client wants to append. Changes nothing.
    ///
    /// An unknown producer may begin with any sequence: what is known of it may have been deleted by retention.
    pub fn check(&self, header: &BatchHeader) -> Result<Admission, ErrorCode> {
        if !header.has_producer_id() {
            return Ok(Admission::New);
        }
        let Some(producer) = self.producers.get(&header.producer_id) else {
            return match header.producer_epoch < ProducerEpoch::NONE {
                true => Err(ErrorCode::INVALID_PRODUCER_EPOCH),
                false => Ok(Admission::New),
            };
        };
        if let Some(duplicate) = producer.duplicate_of(header) {
            return Ok(Admission::Duplicate(duplicate));
        }
        if header.producer_epoch < producer.epoch {
            return Err(ErrorCode::INVALID_PRODUCER_EPOCH);
        }
        let expected = match header.producer_epoch == producer.epoch {
            true => next_sequence(producer.last_sequence()),
            false => 0,
        };
        if producer.epoch != ProducerEpoch::NONE && header.base_sequence != expected {
            return Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
        }
        Ok(Admission::New)
    }

    /// Takes note of a batch that is in the log at the base offset of its header: appended, fetched or replayed.
    pub fn note(&mut self, header: &BatchHeader) {
        if !header.has_producer_id() {
            return;
        }
        let last_offset = header.last_offset();
        let fresh = || Producer {
            epoch: header.producer_epoch,
            last_timestamp: header.max_timestamp,
            last_offset,
            written: SmallVec::new(),
        };
        let producer = self.producers.entry(header.producer_id).or_insert_with(fresh);
        if producer.epoch != header.producer_epoch {
            producer.epoch = header.producer_epoch;
            producer.written.clear();
        }
        producer.last_timestamp = header.max_timestamp;
        producer.last_offset = last_offset;
        // A marker has no sequence: it only moves the epoch.
        if !header.is_control() {
            if producer.written.len() == REMEMBERED_BATCHES {
                producer.written.remove(0);
            }
            producer.written.push(Written {
                last_sequence: header.last_sequence(),
                last_offset,
                offset_delta: header.last_offset_delta,
                timestamp: header.max_timestamp,
            });
        }
        if self.producers.len() > MAX_PRODUCERS {
            self.forget_oldest(MAX_PRODUCERS / 8);
        }
    }

    fn forget_oldest(&mut self, count: usize) {
        let mut offsets: Vec<Offset> = self.producers.values().map(|producer| producer.last_offset).collect();
        let (_, &mut oldest_kept, _) = offsets.select_nth_unstable(count);
        self.producers.retain(|_, producer| producer.last_offset >= oldest_kept);
    }

    /// Forgets producers whose last batch is `producer.id.expiration.ms` old or older; how many.
    pub fn expire(&mut self, now: Timestamp, expiration_ms: i64) -> usize {
        let before = self.producers.len();
        self.producers.retain(|_, producer| now.0.saturating_sub(producer.last_timestamp.0) < expiration_ms);
        before - self.producers.len()
    }

    /// Writes a snapshot.
    pub fn encode(&self, out: &mut impl BufMut) {
        out.put_u8(SNAPSHOT_VERSION);
        out.put_u32(u32::try_from(self.producers.len()).expect("the number of producers is bounded"));
        for (id, producer) in &self.producers {
            out.put_i64(id.0);
            out.put_i16(producer.epoch.0);
            out.put_i64(producer.last_timestamp.0);
            out.put_i64(producer.last_offset.0);
            out.put_u8(u8::try_from(producer.written.len()).expect("five batches at most"));
            for written in &producer.written {
                out.put_i32(written.last_sequence);
                out.put_i64(written.last_offset.0);
                out.put_i32(written.offset_delta);
                out.put_i64(written.timestamp.0);
            }
        }
    }

    /// Reads a snapshot.
    pub fn decode(mut bytes: &[u8]) -> Result<Self, BadSnapshot> {
        let truncated = |_| BadSnapshot("it is truncated");
        if bytes.try_get_u8().map_err(truncated)? != SNAPSHOT_VERSION {
            return Err(BadSnapshot("it has an unknown version"));
        }
        let count = bytes.try_get_u32().map_err(truncated)?;
        let mut producers = BTreeMap::new();
        for _ in 0..count {
            let (id, producer) = decode_producer(&mut bytes).map_err(truncated)?;
            producers.insert(id, producer);
        }
        match bytes.is_empty() {
            true => Ok(Self { producers }),
            false => Err(BadSnapshot("it has bytes too many")),
        }
    }
}

impl Producer {
    fn duplicate_of(&self, header: &BatchHeader) -> Option<Duplicate> {
        if header.producer_epoch != self.epoch {
            return None;
        }
        let range = (header.base_sequence, header.last_sequence());
        let same = |written: &&Written| (written.first_sequence(), written.last_sequence) == range;
        self.written.iter().find(same).map(|written| Duplicate {
            base_offset: written.base_offset(),
            last_offset: written.last_offset,
            timestamp: written.timestamp,
        })
    }
}

fn next_sequence(last: i32) -> i32 {
    last.checked_add(1).unwrap_or(0)
}

fn decode_producer(bytes: &mut &[u8]) -> Result<(ProducerId, Producer), bytes::TryGetError> {
    let id = ProducerId(bytes.try_get_i64()?);
    let epoch = ProducerEpoch(bytes.try_get_i16()?);
    let last_timestamp = Timestamp(bytes.try_get_i64()?);
    let last_offset = Offset(bytes.try_get_i64()?);
    let mut written = SmallVec::new();
    for _ in 0..bytes.try_get_u8()? {
        written.push(Written {
            last_sequence: bytes.try_get_i32()?,
            last_offset: Offset(bytes.try_get_i64()?),
            offset_delta: bytes.try_get_i32()?,
            timestamp: Timestamp(bytes.try_get_i64()?),
        });
    }
    Ok((id, Producer { epoch, last_timestamp, last_offset, written }))
}

#[cfg(test)]
#[path = "producers_tests.rs"]
mod tests;
