//! Deleting what a topic no longer keeps, in two steps, because which segments may go is written in rows of the store
//! and a slow disk must not hold up appends and fetches.
//!
//! Under the partition's lock a log gives out a [`RetentionCheck`], which owns all it needs. It reads without the lock,
//! and what it found comes back as [`Expired`] and is carried out under the lock, if the log still stands where it
//! stood. What no longer fits is dropped: the next check finds it again.

use std::sync::Arc;

use super::Log;
use super::segments::{Retention, Summary, Verdict, Walk};
use crate::config::TopicConfig;
use crate::error::StoreError;
use crate::store::{Replica, Segment, Store};
use crate::types::{Offset, Timestamp};

/// A look at the closed segments, to be run where the disk may be waited for.
pub struct RetentionCheck {
    store: Arc<Store>,
    replica: Arc<Replica>,
    walk: Walk,
    at: Standpoint,
}

/// What a [`RetentionCheck`] found.
pub struct Expired {
    verdict: Verdict,
    at: Standpoint,
}

/// What a check was made of: when any of it has changed, what it found counts for nothing.
struct Standpoint {
    config: Arc<TopicConfig>,
    log_start: Offset,
    segment: Offset,
    truncations: u32,
    now: Timestamp,
}

impl RetentionCheck {
    /// Reads the spans, as far as segments may go; blocks.
    pub fn run(mut self) -> Result<Expired, StoreError> {
        self.store.visit_spans(&self.replica, &mut |span| self.walk.add(span))?;
        Ok(Expired { verdict: self.walk.finish(), at: self.at })
    }
}

impl Log {
    /// What has to be looked at before `retention.ms` and `retention.bytes` may delete anything; `None` when nothing may
    /// go, which is mostly known without a look. Nothing at or beyond the high watermark is deleted.
    pub fn retention_check(&mut self, now: Timestamp, high_watermark: Offset) -> Option<RetentionCheck> {
        self.tail.trim();
        let retention = Retention::of(&self.config, now, high_watermark, self.size())?;
        if self.log_start == self.next || self.oldest.is_some_and(|oldest| !retention.takes(&oldest)) {
            return None;
        }
        // The size counts what an earlier move of the log start has not taken off yet.
        if self.replica.log_start() < self.log_start {
            return None;
        }
        Some(RetentionCheck {
            store: Arc::clone(&self.store),
            replica: Arc::clone(&self.replica),
            walk: Walk::new(retention, self.log_start, self.segment.first),
            at: Standpoint {
                config: Arc::clone(&self.config),
                log_start: self.log_start,
                segment: self.segment.first,
                truncations: self.truncations,
                now,
            },
        })
    }

    /// Deletes what a check found, and the active segment when it is next and past its time too. The new log start
    /// offset when there was anything.
    pub fn delete_expired(&mut self, expired: &Expired, high_watermark: Offset) -> Result<Option<Offset>, StoreError> {
        let Expired { verdict, at } = expired;
        if !self.stands_at(at) {
            return Ok(None);
        }
        let mut start = verdict.start;
        let mut oldest = verdict.kept;
        if verdict.all_closed && self.segment_bytes() > 0 {
            let size = self.size().saturating_sub(verdict.bytes);
            let active = self.active_summary();
            match Retention::of(&self.config, at.now, high_watermark, size) {
                Some(retention) if retention.takes(&active) => start = Some(active.end),
                _ => oldest = Some(active),
            }
        }
        if let Some(start) = start {
            // The high watermark goes back only when another leader's log is shorter.
            if start > high_watermark {
                return Ok(None);
            }
            self.advance_log_start(start)?;
            if start == self.next {
                self.begin_empty_segment();
            }
        }
        self.oldest = oldest;
        Ok(start)
    }

    fn stands_at(&self, at: &Standpoint) -> bool {
        self.log_start == at.log_start
            && self.segment.first == at.segment
            && self.truncations == at.truncations
            && Arc::ptr_eq(&self.config, &at.config)
    }

    fn active_summary(&self) -> Summary {
        Summary {
            end: self.next,
            bytes: self.segment_bytes(),
            max_timestamp: self.segment_max_timestamp,
            appended: self.segment_appended,
        }
    }

    /// Even the active segment went: the next append begins another, as in Kafka, which makes it at once.
    fn begin_empty_segment(&mut self) {
        self.segment = Segment { first: self.next, bytes_before: self.bytes_end, first_timestamp: Timestamp::NONE };
        self.segment_max_timestamp = Timestamp::NONE;
        self.segment_appended = Timestamp::NONE;
        self.segment_created = Timestamp::NONE;
    }
}
