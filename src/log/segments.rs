//! Pure. Kafka's segments, presented on top of the store's generations: when one ends, and which may go.
//!
//! Retention works by whole segments, as in Kafka: a record lives until the segment that holds it is past its time or
//! the log without that segment is still large enough. The rules are those of `LogSegment.shouldRoll` and
//! `UnifiedLog.deleteOldSegments`; when even the active segment is past its time it goes too, and a new one begins.

use crate::config::TopicConfig;
use crate::store::Segment;
use crate::types::{Offset, Timestamp};

/// The active segment and what goes into it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Active {
    /// Where it begins.
    pub segment: Segment,
    /// Its bytes.
    pub bytes: u64,
    /// Bytes of the batch that is to be appended.
    pub batch_bytes: u64,
    /// The largest timestamp of that batch.
    pub batch_timestamp: Timestamp,
}

/// True when the batch belongs into a new segment.
pub fn should_roll(active: &Active, config: &TopicConfig) -> bool {
    if active.bytes == 0 {
        return true;
    }
    let size_limit = u64::try_from(config.segment_bytes).unwrap_or(0);
    if active.bytes + active.batch_bytes > size_limit {
        return true;
    }
    let first = active.segment.first_timestamp;
    // Kafka counts in the records' own time; records without one never end a segment by time here.
    let waited = if first >= Timestamp(0) { active.batch_timestamp.get().saturating_sub(first.get()) } else { 0 };
    waited > config.segment_ms.saturating_sub(jitter(active.segment.first, config.segment_jitter_ms))
}

/// `segment.jitter.ms`: a different but fixed delay for each segment, so that partitions do not all roll at once.
/// Drawn from the segment's offset: the log has no source of chance.
fn jitter(first: Offset, jitter_ms: i64) -> i64 {
    if jitter_ms <= 0 {
        return 0;
    }
    let mixed = first.get().cast_unsigned().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
    i64::try_from(mixed).expect("31 bits fit") % jitter_ms
}

/// A segment as retention looks at it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Summary {
    /// Its end offset, exclusive.
    pub end: Offset,
    /// Its bytes.
    pub bytes: u64,
    /// The largest timestamp inside.
    pub max_timestamp: Timestamp,
}

/// What retention judges by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Retention {
    /// `retention.ms`; `None` keeps for ever.
    pub ms: Option<i64>,
    /// `retention.bytes`; `None` keeps everything.
    pub bytes: Option<u64>,
    /// The wall clock.
    pub now: Timestamp,
    /// Nothing at or beyond it is deleted.
    pub high_watermark: Offset,
    /// Bytes of the log before this check.
    pub size: u64,
}

impl Retention {
    /// As the topic says; `None` when nothing may be deleted.
    pub fn of(config: &TopicConfig, now: Timestamp, high_watermark: Offset, size: u64) -> Option<Self> {
        let retention = Self {
            ms: (config.retention_ms >= 0).then_some(config.retention_ms),
            bytes: u64::try_from(config.retention_bytes).ok(),
            now,
            high_watermark,
            size,
        };
        (config.cleanup_policy.delete && (retention.ms.is_some() || retention.bytes.is_some())).then_some(retention)
    }

    /// True when the oldest segment may go; the caller then takes its bytes off [`Retention::size`] and asks again.
    pub fn takes(&self, oldest: &Summary) -> bool {
        self.high_watermark >= oldest.end && (self.is_past_time(oldest) || self.is_superfluous(oldest))
    }

    fn is_past_time(&self, segment: &Summary) -> bool {
        let known = segment.max_timestamp >= Timestamp(0);
        self.ms.is_some_and(|ms| known && self.now.get().saturating_sub(segment.max_timestamp.get()) > ms)
    }

    fn is_superfluous(&self, segment: &Summary) -> bool {
        self.bytes.is_some_and(|bytes| segment.bytes > 0 && self.size.saturating_sub(segment.bytes) >= bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retention(ms: Option<i64>, bytes: Option<u64>, size: u64) -> Retention {
        Retention { ms, bytes, now: Timestamp(10_000), high_watermark: Offset(100), size }
    }

    fn segment(end: i64, bytes: u64, max_timestamp: i64) -> Summary {
        Summary { end: Offset(end), bytes, max_timestamp: Timestamp(max_timestamp) }
    }

    #[test]
    fn a_segment_goes_when_its_largest_timestamp_is_past_the_time() {
        assert!(retention(Some(1_000), None, 50).takes(&segment(10, 50, 8_999)));
        assert!(!retention(Some(1_000), None, 50).takes(&segment(10, 50, 9_000)));
        assert!(!retention(Some(1_000), None, 50).takes(&segment(10, 50, -1)), "a segment without time stays");
    }

    #[test]
    fn a_segment_goes_when_the_rest_is_large_enough() {
        assert!(retention(None, Some(50), 100).takes(&segment(10, 50, 0)));
        assert!(!retention(None, Some(51), 100).takes(&segment(10, 50, 0)));
    }

    #[test]
    fn nothing_beyond_the_high_watermark_goes() {
        assert!(!retention(Some(0), Some(0), 50).takes(&segment(101, 50, 0)));
    }

    #[test]
    fn jitter_shortens_a_segment_by_less_than_its_bound() {
        assert_eq!(jitter(Offset(5), 0), 0);
        for first in 0..100 {
            assert!((0..10).contains(&jitter(Offset(first), 10)));
        }
    }
}
