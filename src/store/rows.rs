//! Pure. The rows of `meta`: the only place that says what is alive.
//!
//! No key of `log` is ever deleted or overwritten. A batch exists when a span covers its offset, and a span exists as
//! long as its row does. Rows carry running totals (bytes ever appended), so that the size of a log and the start of
//! its active segment are known without walking it. Each row starts with its version.

use bytes::{Buf, BufMut};

use super::keys::{Generation, ReplicaId};
use crate::types::{Offset, Timestamp, TopicId};

/// The version that rows of generations are written with.
const VERSION: u8 = 1;
/// The version that rows of spans and replicas are written with. Version 1 lacked the time of the last append.
const DATED: u8 = 2;

/// Kafka's segment, presented on top of generations: retention works by whole segments.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    /// The segment's first offset.
    pub first: Offset,
    /// Bytes appended to the log before the segment began.
    pub bytes_before: u64,
    /// The largest timestamp of the segment's first batch (`segment.ms` counts from it); NONE while the segment is empty.
    pub first_timestamp: Timestamp,
}

impl Segment {
    /// The first segment of a new log.
    pub const FIRST: Self = Self { first: Offset::ZERO, bytes_before: 0, first_timestamp: Timestamp::NONE };
}

/// A run of one replica's batches inside one generation and one segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SpanRow {
    /// Base offset of the first batch. It is the row's key; the value does not repeat it.
    pub first: Offset,
    /// End offset, exclusive; [`SpanRow::OPEN`] in the row of a span that still grows. Batches beyond it in the same
    /// generation were truncated away; a span is closed before it is cut, so an open one has nothing stale behind it.
    pub end: Offset,
    /// Where the batches are.
    pub generation: Generation,
    /// The largest timestamp inside.
    pub max_timestamp: Timestamp,
    /// The wall clock at the last append to the span, for retention of records without a timestamp; NONE when it was
    /// written by a version that did not note it. An open span's row has the time of its first append.
    pub appended: Timestamp,
    /// Bytes appended to the log before the span.
    pub bytes_before: u64,
    /// Bytes of the span's batches.
    pub bytes: u64,
    /// The segment that the span belongs to.
    pub segment: Segment,
}

impl SpanRow {
    /// The end of a span that still grows, as it stands in `meta`.
    pub const OPEN: Offset = Offset(i64::MAX);

    /// True for the row of a span that was not closed.
    pub fn is_open(&self) -> bool {
        self.end == Self::OPEN
    }

    /// The row's value.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(72);
        out.put_u8(DATED);
        out.put_i64(self.end.get());
        out.put_u32(self.generation);
        out.put_i64(self.max_timestamp.get());
        out.put_i64(self.appended.get());
        out.put_u64(self.bytes_before);
        out.put_u64(self.bytes);
        put_segment(&mut out, &self.segment);
        out
    }

    /// Reads a row's value; `None` when it is not one of this version.
    pub fn decode(first: Offset, mut value: &[u8]) -> Option<Self> {
        let from = &mut value;
        let version = dated_version(from)?;
        Some(Self {
            first,
            end: Offset(from.try_get_i64().ok()?),
            generation: from.try_get_u32().ok()?,
            max_timestamp: Timestamp(from.try_get_i64().ok()?),
            appended: get_appended(from, version)?,
            bytes_before: from.try_get_u64().ok()?,
            bytes: from.try_get_u64().ok()?,
            segment: get_segment(from)?,
        })
    }

    /// Bytes appended to the log up to the end of the span.
    pub fn bytes_end(&self) -> u64 {
        self.bytes_before + self.bytes
    }
}

/// What the store knows of one replica. Written at each roll that the replica took part in, and when a field changes
/// that no replay could find again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReplicaRow {
    /// The row's key; the value does not repeat it.
    pub replica: ReplicaId,
    /// The topic it belongs to.
    pub topic: TopicId,
    /// The partition's index.
    pub partition: i32,
    /// True for a replica that is being moved here from another directory.
    pub future: bool,
    /// The first offset that may be read.
    pub log_start: Offset,
    /// End of the closed spans, exclusive.
    pub end: Offset,
    /// First offset of the oldest span that is alive: where a walk begins.
    pub first_span: Offset,
    /// No generation below this holds anything alive of the replica.
    pub oldest_generation: Generation,
    /// Bytes ever appended, up to `end`.
    pub bytes_end: u64,
    /// Of these, bytes that retention has dropped.
    pub bytes_dropped: u64,
    /// The high watermark when it was last noted.
    pub high_watermark: Offset,
    /// The offset of the newest producer snapshot; UNKNOWN before the first.
    pub snapshot: Offset,
    /// The offset of the snapshot before it, for a truncation; UNKNOWN before the second.
    pub older_snapshot: Offset,
    /// The active segment.
    pub segment: Segment,
    /// The largest timestamp in the active segment.
    pub segment_max_timestamp: Timestamp,
    /// The wall clock at the last append to the active segment; NONE when it is not known.
    pub segment_appended: Timestamp,
    /// The leader epochs, as the log encodes them.
    pub epochs: Vec<u8>,
}

impl ReplicaRow {
    /// The row of a replica that has just been made.
    pub fn new(replica: ReplicaId, topic: TopicId, partition: i32, generation: Generation) -> Self {
        Self {
            replica,
            topic,
            partition,
            future: false,
            log_start: Offset::ZERO,
            end: Offset::ZERO,
            first_span: Offset::ZERO,
            oldest_generation: generation,
            bytes_end: 0,
            bytes_dropped: 0,
            high_watermark: Offset::ZERO,
            snapshot: Offset::UNKNOWN,
            older_snapshot: Offset::UNKNOWN,
            segment: Segment::FIRST,
            segment_max_timestamp: Timestamp::NONE,
            segment_appended: Timestamp::NONE,
            epochs: Vec::new(),
        }
    }

    /// The row's value.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(152 + self.epochs.len());
        out.put_u8(DATED);
        out.put_u128(self.topic.0.as_u128());
        out.put_i32(self.partition);
        out.put_u8(u8::from(self.future));
        out.put_i64(self.log_start.get());
        out.put_i64(self.end.get());
        out.put_i64(self.first_span.get());
        out.put_u32(self.oldest_generation);
        out.put_u64(self.bytes_end);
        out.put_u64(self.bytes_dropped);
        out.put_i64(self.high_watermark.get());
        out.put_i64(self.snapshot.get());
        out.put_i64(self.older_snapshot.get());
        put_segment(&mut out, &self.segment);
        out.put_i64(self.segment_max_timestamp.get());
        out.put_i64(self.segment_appended.get());
        out.put_slice(&self.epochs);
        out
    }

    /// Reads a row's value; `None` when it is not one of this version.
    pub fn decode(replica: ReplicaId, mut value: &[u8]) -> Option<Self> {
        let from = &mut value;
        let version = dated_version(from)?;
        Some(Self {
            replica,
            topic: TopicId(uuid::Uuid::from_u128(from.try_get_u128().ok()?)),
            partition: from.try_get_i32().ok()?,
            future: from.try_get_u8().ok()? != 0,
            log_start: Offset(from.try_get_i64().ok()?),
            end: Offset(from.try_get_i64().ok()?),
            first_span: Offset(from.try_get_i64().ok()?),
            oldest_generation: from.try_get_u32().ok()?,
            bytes_end: from.try_get_u64().ok()?,
            bytes_dropped: from.try_get_u64().ok()?,
            high_watermark: Offset(from.try_get_i64().ok()?),
            snapshot: Offset(from.try_get_i64().ok()?),
            older_snapshot: Offset(from.try_get_i64().ok()?),
            segment: get_segment(from)?,
            segment_max_timestamp: Timestamp(from.try_get_i64().ok()?),
            segment_appended: get_appended(from, version)?,
            epochs: from.to_vec(),
        })
    }
}

/// How much of a closed generation is alive.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct GenerationRow {
    /// Spans that are alive. At zero the generation's files are unlinked.
    pub spans: u32,
    /// Bytes of those spans.
    pub bytes_alive: u64,
    /// Bytes that were written into the generation.
    pub bytes: u64,
}

impl GenerationRow {
    /// The row's value.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(21);
        out.put_u8(VERSION);
        out.put_u32(self.spans);
        out.put_u64(self.bytes_alive);
        out.put_u64(self.bytes);
        out
    }

    /// Reads a row's value; `None` when it is not one of this version.
    pub fn decode(mut value: &[u8]) -> Option<Self> {
        let from = &mut value;
        (from.try_get_u8().ok()? == VERSION).then_some(())?;
        Some(Self {
            spans: from.try_get_u32().ok()?,
            bytes_alive: from.try_get_u64().ok()?,
            bytes: from.try_get_u64().ok()?,
        })
    }
}

fn dated_version(from: &mut &[u8]) -> Option<u8> {
    from.try_get_u8().ok().filter(|version| (1..=DATED).contains(version))
}

fn get_appended(from: &mut &[u8], version: u8) -> Option<Timestamp> {
    match version {
        1 => Some(Timestamp::NONE),
        _ => from.try_get_i64().ok().map(Timestamp),
    }
}

fn put_segment(out: &mut Vec<u8>, segment: &Segment) {
    out.put_i64(segment.first.get());
    out.put_u64(segment.bytes_before);
    out.put_i64(segment.first_timestamp.get());
}

fn get_segment(from: &mut &[u8]) -> Option<Segment> {
    Some(Segment {
        first: Offset(from.try_get_i64().ok()?),
        bytes_before: from.try_get_u64().ok()?,
        first_timestamp: Timestamp(from.try_get_i64().ok()?),
    })
}

/// What a replay needs to know of a stored batch: the end offset and the largest timestamp of its header.
/// `None` when the bytes are shorter than a header or contradict themselves.
pub fn batch_extent(batch: &[u8]) -> Option<(Offset, Timestamp)> {
    let base = i64::from_be_bytes(*batch.first_chunk::<8>()?);
    let last_delta = i32::from_be_bytes(*batch.get(23..)?.first_chunk::<4>()?);
    let max_timestamp = i64::from_be_bytes(*batch.get(35..)?.first_chunk::<8>()?);
    let end = base.checked_add(i64::from(last_delta))?.checked_add(1)?;
    (base >= 0 && last_delta >= 0).then_some((Offset(end), Timestamp(max_timestamp)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_as_they_were_written() {
        let segment = Segment { first: Offset(5), bytes_before: 70, first_timestamp: Timestamp(9) };
        let span = SpanRow {
            first: Offset(7),
            end: Offset(11),
            generation: 3,
            max_timestamp: Timestamp(-1),
            appended: Timestamp(44),
            bytes_before: 99,
            bytes: 12,
            segment,
        };
        assert_eq!(SpanRow::decode(Offset(7), &span.encode()), Some(span));
        let mut row = ReplicaRow::new(ReplicaId(8), TopicId(uuid::Uuid::from_u128(77)), 3, 4);
        row.segment = segment;
        row.segment_appended = Timestamp(45);
        row.epochs = vec![1, 2, 3];
        assert_eq!(ReplicaRow::decode(ReplicaId(8), &row.encode()), Some(row));
        let generation = GenerationRow { spans: 1, bytes_alive: 2, bytes: 3 };
        assert_eq!(GenerationRow::decode(&generation.encode()), Some(generation));
    }

    #[test]
    fn rows_of_version_1_are_read_without_the_time_of_their_last_append() {
        let mut old = vec![1];
        old.put_i64(11);
        old.put_u32(3);
        old.put_i64(-1);
        old.put_u64(99);
        old.put_u64(12);
        put_segment(&mut old, &Segment::FIRST);
        let span = SpanRow::decode(Offset(7), &old).unwrap();
        assert_eq!((span.end, span.appended, span.bytes), (Offset(11), Timestamp::NONE, 12));
        let mut row = ReplicaRow::new(ReplicaId(8), TopicId(uuid::Uuid::from_u128(77)), 3, 4);
        row.epochs = vec![1, 2, 3];
        let mut old = row.encode();
        old[0] = 1;
        old.drain(old.len() - 11..old.len() - 3);
        assert_eq!(ReplicaRow::decode(ReplicaId(8), &old), Some(row));
    }

    #[test]
    fn a_short_or_newer_row_is_not_read() {
        let span = SpanRow {
            first: Offset(0),
            end: Offset(1),
            generation: 0,
            max_timestamp: Timestamp(0),
            appended: Timestamp::NONE,
            bytes_before: 0,
            bytes: 0,
            segment: Segment::FIRST,
        };
        let mut value = span.encode();
        assert_eq!(SpanRow::decode(Offset(0), &value[..value.len() - 1]), None);
        value[0] = 3;
        assert_eq!(SpanRow::decode(Offset(0), &value), None);
        assert_eq!(batch_extent(&[0; 42]), None);
    }
}
