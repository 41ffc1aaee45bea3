//! Reads that may wait for the disk: of batches that left the tail cache, and of offsets by timestamp.
//!
//! A cold read owns all it needs, so it runs on a blocking thread without the partition's lock. It sees what was
//! committed when it was made; when retention took the start away meanwhile it finds nothing, and the next read says so.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::Batches;
use super::tail::Wanted;
use crate::error::StoreError;
use crate::store::{OffsetRange, Replica, ReplicaId, SpanRow, Store};
use crate::types::{LeaderEpoch, Offset, Timestamp};
use crate::wire::batch::{self, BatchHeader};
use crate::wire::compress::MAX_DECOMPRESSED_BYTES;

/// A buffer is not made larger than this before there is something to put into it.
const FIRST_BUFFER: usize = 1 << 20;

/// A read of batches that are not in the tail cache.
pub struct ColdRead {
    pub(super) store: Arc<Store>,
    pub(super) replica: ReplicaId,
    pub(super) wanted: Wanted,
}

impl ColdRead {
    /// The same read of about so many bytes at most.
    pub fn at_most(mut self, bytes: usize) -> Self {
        self.wanted.max_bytes = self.wanted.max_bytes.min(bytes);
        self
    }

    /// Reads; blocks. The batches lie in one buffer, each checked by its CRC. Empty when nothing is there any more. What
    /// cannot be read is an error of the read that begins there: one that begins before it gets what is before it.
    pub fn run(self) -> Result<Batches, StoreError> {
        let wanted = self.wanted;
        let mut buffer = BytesMut::with_capacity(wanted.max_bytes.min(FIRST_BUFFER));
        let range = OffsetRange { from: wanted.from, limit: wanted.limit };
        let walked = self.store.visit_batches(self.replica, range, &mut |_, batch| {
            let Some(end) = BatchHeader::parse(batch).map(|header| header.end_offset()) else {
                return ControlFlow::Break(());
            };
            if end <= wanted.from {
                return ControlFlow::Continue(());
            }
            let fits = buffer.len() + batch.len() <= wanted.max_bytes;
            if end > wanted.limit || !(fits || wanted.min_one && buffer.is_empty()) {
                return ControlFlow::Break(());
            }
            buffer.extend_from_slice(batch);
            ControlFlow::Continue(())
        });
        if buffer.is_empty() {
            walked?;
        }
        let mut batches = Batches::new();
        // What retention took away meanwhile must not be passed over in silence.
        let is_gone = self.store.replica(self.replica).is_none_or(|replica| replica.log_start() > wanted.from);
        if !is_gone && !buffer.is_empty() {
            batches.push(buffer.freeze());
        }
        Ok(batches)
    }
}

/// A record found by its timestamp.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimestampOffset {
    /// The record's timestamp.
    pub timestamp: Timestamp,
    /// Its offset.
    pub offset: Offset,
    /// The leader epoch of its batch.
    pub leader_epoch: LeaderEpoch,
}

/// Which record a lookup wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Target {
    /// The first with a timestamp of at least this.
    AtLeast(Timestamp),
    /// The first of those with the largest timestamp.
    Largest,
}

/// A search for an offset by timestamp.
pub struct TimestampLookup {
    pub(super) store: Arc<Store>,
    pub(super) replica: Arc<Replica>,
    pub(super) target: Target,
    pub(super) log_start: Offset,
    pub(super) limit: Offset,
}

impl TimestampLookup {
    /// Searches; blocks. `None` when no record below the limit qualifies.
    pub fn run(self) -> Result<Option<TimestampOffset>, StoreError> {
        match self.target {
            Target::AtLeast(target) => self.first_at_least(target),
            Target::Largest => match self.largest()? {
                Some(largest) => self.first_at_least(largest),
                None => Ok(None),
            },
        }
    }

    fn first_at_least(&self, target: Timestamp) -> Result<Option<TimestampOffset>, StoreError> {
        for span in self.spans()? {
            if span.max_timestamp < target {
                continue;
            }
            let start = self.store.timestamp_start(self.replica.id(), &span, target)?.max(self.log_start);
            if let Some(found) = self.search(OffsetRange { from: start, limit: span.end.min(self.limit) }, target)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The first record in a range with a timestamp of at least `target`: by headers, then inside the batch.
    fn search(&self, range: OffsetRange, target: Timestamp) -> Result<Option<TimestampOffset>, StoreError> {
        let mut found = None;
        self.store.visit_batches(self.replica.id(), range, &mut |_, bytes| {
            let Some(header) = BatchHeader::parse(bytes) else { return ControlFlow::Continue(()) };
            if header.max_timestamp < target || header.end_offset() <= self.log_start {
                return ControlFlow::Continue(());
            }
            found = self.search_batch(&header, bytes, target);
            match &found {
                None => ControlFlow::Continue(()),
                Some(_) => ControlFlow::Break(()),
            }
        })?;
        Ok(found)
    }

    fn search_batch(&self, header: &BatchHeader, bytes: &[u8], target: Timestamp) -> Option<TimestampOffset> {
        // A producer may have sent what cannot be opened: then the batch answers as a whole, by its header.
        let whole = TimestampOffset {
            timestamp: header.max_timestamp,
            offset: header.base_offset.max(self.log_start),
            leader_epoch: header.leader_epoch,
        };
        let Some(batch) = batch::StoredBatch::parse(Bytes::copy_from_slice(bytes)) else { return Some(whole) };
        let Ok(records) = batch.records(MAX_DECOMPRESSED_BYTES) else { return Some(whole) };
        for record in records {
            let Ok(record) = record else { return Some(whole) };
            if record.timestamp >= target && record.offset >= self.log_start && record.offset < self.limit {
                return Some(TimestampOffset { timestamp: record.timestamp, offset: record.offset, ..whole });
            }
        }
        None
    }

    /// The largest timestamp of a batch that is readable.
    fn largest(&self) -> Result<Option<Timestamp>, StoreError> {
        let mut largest = Timestamp::NONE;
        for span in self.spans()? {
            if span.max_timestamp <= largest {
                continue;
            }
            let below = if span.end <= self.limit { span.max_timestamp } else { self.largest_below_limit(&span)? };
            largest = largest.max(below);
        }
        Ok(Some(largest).filter(|timestamp| *timestamp >= Timestamp(0)))
    }

    /// The same of a span that has grown beyond the limit: its headers tell.
    fn largest_below_limit(&self, span: &SpanRow) -> Result<Timestamp, StoreError> {
        let mut largest = Timestamp::NONE;
        let range = OffsetRange { from: span.first, limit: self.limit };
        self.store.visit_batches(self.replica.id(), range, &mut |_, bytes| {
            if let Some(header) = BatchHeader::parse(bytes).filter(|header| header.end_offset() <= self.limit) {
                largest = largest.max(header.max_timestamp);
            }
            ControlFlow::Continue(())
        })?;
        Ok(largest)
    }

    /// All spans below the limit of which something is above the log start, the open one as the store knows it.
    fn spans(&self) -> Result<Vec<SpanRow>, StoreError> {
        let mut spans = Vec::new();
        self.store.visit_spans(&self.replica, &mut |span| {
            if span.first < self.limit && span.end > self.log_start {
                spans.push(*span);
            }
            ControlFlow::Continue(())
        })?;
        Ok(spans)
    }
}
