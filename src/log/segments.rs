//! Pure. Kafka's segments, presented on top of the store's generations: when one ends, and which may go.
//!
//! Retention works by whole segments, as in Kafka: a record lives until the segment that holds it is past its time or
//! the log without that segment is still large enough. The rules are those of `LogSegment.shouldRoll` and
//! `UnifiedLog.deleteOldSegments`; when even the active segment is past its time it goes too, and a new one begins.
//! Where no record has a timestamp the wall clock stands in: Kafka takes a file's time of last change, and we note it.

use std::ops::ControlFlow;

use crate::config::TopicConfig;
use crate::store::{Segment, SpanRow};
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
    /// The wall clock when the segment began, or when it was first appended to since the start; NONE before that.
    pub created: Timestamp,
    /// The wall clock.
    pub now: Timestamp,
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
    // In the records' own time; where the first batch has none, by the wall clock (`LogSegment.timeWaitedForRoll`).
    let waited = match first >= Timestamp(0) {
        true => active.batch_timestamp.get().saturating_sub(first.get()),
        false if active.created >= Timestamp(0) => active.now.get().saturating_sub(active.created.get()),
        false => 0,
    };
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
    /// The wall clock at the last append; NONE when it is not known.
    pub appended: Timestamp,
}

impl Summary {
    /// A segment of which this is the first span.
    fn of(span: &SpanRow) -> Self {
        Self { end: span.end, bytes: span.bytes, max_timestamp: span.max_timestamp, appended: span.appended }
    }

    /// The time that retention counts from (`LogSegment.largestTimestamp`); NONE when there is none.
    fn largest_timestamp(&self) -> Timestamp {
        if self.max_timestamp >= Timestamp(0) { self.max_timestamp } else { self.appended }
    }
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
        let largest = segment.largest_timestamp();
        let known = largest >= Timestamp(0);
        self.ms.is_some_and(|ms| known && self.now.get().saturating_sub(largest.get()) > ms)
    }

    fn is_superfluous(&self, segment: &Summary) -> bool {
        self.bytes.is_some_and(|bytes| segment.bytes > 0 && self.size.saturating_sub(segment.bytes) >= bytes)
    }
}

/// A walk over the spans of a log, the oldest first, that puts closed segments together until one stays.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Walk {
    retention: Retention,
    log_start: Offset,
    /// Where the active segment begins: it is not judged here.
    active: Offset,
    segment: Option<(Offset, Summary)>,
    reached_active: bool,
    verdict: Verdict,
}

/// What a walk found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Verdict {
    /// The end of the last segment that may go; `None` when none may.
    pub start: Option<Offset>,
    /// Bytes of those that may.
    pub bytes: u64,
    /// The first segment that stays.
    pub kept: Option<Summary>,
    /// All closed segments may go, and all of them were seen: the active one is next.
    pub all_closed: bool,
}

impl Walk {
    /// A walk over a log that begins at `log_start` and whose active segment begins at `active`.
    pub fn new(retention: Retention, log_start: Offset, active: Offset) -> Self {
        Self { retention, log_start, active, segment: None, reached_active: false, verdict: Verdict::default() }
    }

    /// Takes the next span; says whether to go on.
    pub fn add(&mut self, span: &SpanRow) -> ControlFlow<()> {
        if span.end <= self.log_start {
            return ControlFlow::Continue(());
        }
        self.reached_active = span.segment.first >= self.active;
        if self.reached_active || span.is_open() {
            return ControlFlow::Break(());
        }
        if let Some((first, summary)) = &mut self.segment
            && *first == span.segment.first
        {
            summary.end = span.end;
            summary.bytes += span.bytes;
            summary.max_timestamp = summary.max_timestamp.max(span.max_timestamp);
            summary.appended = summary.appended.max(span.appended);
            return ControlFlow::Continue(());
        }
        self.judge()?;
        self.segment = Some((span.segment.first, Summary::of(span)));
        ControlFlow::Continue(())
    }

    /// Judges the segment that is put together by now.
    fn judge(&mut self) -> ControlFlow<()> {
        let Some((_, segment)) = self.segment.take() else { return ControlFlow::Continue(()) };
        if !self.retention.takes(&segment) {
            self.verdict.kept = Some(segment);
            return ControlFlow::Break(());
        }
        self.retention.size = self.retention.size.saturating_sub(segment.bytes);
        self.verdict.start = Some(segment.end);
        self.verdict.bytes += segment.bytes;
        ControlFlow::Continue(())
    }

    /// Ends the walk. A last segment of which batches may still be on their way to the store is not judged.
    pub fn finish(mut self) -> Verdict {
        if self.verdict.kept.is_none() {
            let complete = self.reached_active || self.segment.is_none_or(|(_, last)| last.end == self.active);
            self.verdict.all_closed = complete && self.judge().is_continue();
        }
        self.verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retention(ms: Option<i64>, bytes: Option<u64>, size: u64) -> Retention {
        Retention { ms, bytes, now: Timestamp(10_000), high_watermark: Offset(100), size }
    }

    fn segment(end: i64, bytes: u64, max_timestamp: i64) -> Summary {
        Summary { end: Offset(end), bytes, max_timestamp: Timestamp(max_timestamp), appended: Timestamp(8_999) }
    }

    /// A span of ten bytes in the segment that begins at `segment`.
    fn span(first: i64, end: i64, segment: i64, max_timestamp: i64) -> SpanRow {
        SpanRow {
            first: Offset(first),
            end: Offset(end),
            generation: 1,
            max_timestamp: Timestamp(max_timestamp),
            appended: Timestamp(9_999),
            bytes_before: 0,
            bytes: 10,
            segment: Segment { first: Offset(segment), ..Segment::FIRST },
        }
    }

    fn walked(retention: Retention, log_start: i64, active: i64, spans: &[SpanRow]) -> Verdict {
        let mut walk = Walk::new(retention, Offset(log_start), Offset(active));
        for span in spans {
            if walk.add(span).is_break() {
                break;
            }
        }
        walk.finish()
    }

    #[test]
    fn a_segment_goes_when_its_largest_timestamp_is_past_the_time() {
        assert!(retention(Some(1_000), None, 50).takes(&segment(10, 50, 8_999)));
        assert!(!retention(Some(1_000), None, 50).takes(&segment(10, 50, 9_000)));
    }

    #[test]
    fn a_segment_without_timestamps_goes_by_the_time_of_its_last_append() {
        assert!(retention(Some(1_000), None, 50).takes(&segment(10, 50, -1)));
        assert!(!retention(Some(1_001), None, 50).takes(&segment(10, 50, -1)));
        let unknown = Summary { appended: Timestamp::NONE, ..segment(10, 50, -1) };
        assert!(!retention(Some(1_000), None, 50).takes(&unknown), "no time at all: it stays");
    }

    #[test]
    fn a_segment_without_timestamps_ends_by_the_wall_clock() {
        let config = TopicConfig { segment_ms: 1_000, ..crate::log::tests::topic() };
        let active = |first: i64, created: i64, now: i64| Active {
            segment: Segment { first_timestamp: Timestamp(first), ..Segment::FIRST },
            bytes: 10,
            batch_bytes: 10,
            batch_timestamp: Timestamp(first),
            created: Timestamp(created),
            now: Timestamp(now),
        };
        assert!(should_roll(&active(-1, 500, 1_501), &config));
        assert!(!should_roll(&active(-1, 500, 1_500), &config));
        assert!(!should_roll(&active(-1, -1, 1_501), &config), "not appended to since the start");
        assert!(!should_roll(&active(7, 500, 1_501), &config), "with a timestamp only that counts");
    }

    #[test]
    fn a_walk_puts_spans_together_and_ends_at_the_first_segment_that_stays() {
        let spans = [span(0, 10, 0, 5), span(10, 20, 0, 8_999), span(20, 30, 20, 9_000), span(30, 40, 30, 5)];
        let verdict = walked(retention(Some(1_000), None, 40), 0, 40, &spans);
        assert_eq!((verdict.start, verdict.bytes, verdict.all_closed), (Some(Offset(20)), 20, false));
        assert_eq!(verdict.kept.map(|kept| kept.end), Some(Offset(30)));
        let verdict = walked(retention(Some(999), None, 40), 0, 40, &spans);
        assert_eq!((verdict.start, verdict.bytes, verdict.all_closed), (Some(Offset(40)), 40, true));
        // By size: three segments of 20, 10 and 10 bytes.
        let verdict = walked(retention(None, Some(20), 40), 0, 40, &spans);
        assert_eq!((verdict.start, verdict.all_closed), (Some(Offset(20)), false));
    }

    #[test]
    fn a_walk_passes_over_what_is_below_the_log_start_and_leaves_the_active_segment_alone() {
        let spans = [span(0, 10, 0, 5), span(10, 20, 10, 5), span(20, 30, 20, 5)];
        let verdict = walked(retention(Some(0), None, 20), 10, 20, &spans);
        assert_eq!((verdict.start, verdict.bytes, verdict.all_closed), (Some(Offset(20)), 10, true));
        let verdict = walked(retention(Some(0), None, 10), 20, 20, &spans);
        assert_eq!((verdict.start, verdict.bytes, verdict.all_closed), (None, 0, true));
    }

    #[test]
    fn a_segment_whose_last_batches_are_on_their_way_is_not_judged() {
        let verdict = walked(retention(Some(0), None, 20), 0, 30, &[span(0, 10, 0, 5), span(10, 20, 10, 5)]);
        assert_eq!((verdict.start, verdict.all_closed), (Some(Offset(10)), false));
        let open = SpanRow { end: SpanRow::OPEN, ..span(20, 30, 20, 5) };
        let verdict = walked(retention(Some(0), None, 20), 0, 40, &[span(0, 20, 0, 5), open]);
        assert_eq!((verdict.start, verdict.all_closed), (None, false));
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
