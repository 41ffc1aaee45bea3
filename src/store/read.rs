//! Reads: of what the tail cache no longer has. Blocking; called on threads that may wait for the disk.
//!
//! `meta` says which generation holds an offset (one seek), then the batches of one replica in one generation are a
//! bounded range. No block checksum is verified: every batch is checked by its own CRC-32C, and its base offset
//! against its key, before a byte of it is given out; and it must begin where the one before it ended, up to the end that
//! the span's row promises, so that a batch that is not found is an error and never passed over. No read-ahead is asked for: RocksDB's goes past the end of the span
//! into other partitions' batches, and its own and the kernel's find out by themselves when a read is a long one.

use std::ops::ControlFlow;

use rocksdb::{DBRawIterator, ReadOptions};

use super::families::{Database, META};
use super::keys::{self, Generation, ReplicaId};
use super::rows::{SpanRow, batch_extent};
use crate::error::StoreError;
use crate::types::{Offset, Timestamp};

/// Where the checksum of a batch begins to count, and where it stands.
const CRC_FROM: usize = 21;

/// What is wrong at an offset that a span should hold.
const MISSING: &str = "is missing";

/// A range of one replica's offsets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OffsetRange {
    /// The batch that holds this offset is the first; the next span's first, when no span holds it.
    pub from: Offset,
    /// Batches that start here or later are not in the range. Everything below is committed.
    pub limit: Offset,
}

/// Takes a batch's base offset and bytes, and says whether to go on.
pub type BatchVisitor<'a> = &'a mut dyn FnMut(Offset, &[u8]) -> ControlFlow<()>;

/// What a span really holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recounted {
    /// The span up to the last sound batch, told by the headers of its batches.
    pub span: SpanRow,
    /// Sound batches.
    pub batches: u64,
    /// What is wrong with the batch at the span's end, when a damaged one ended the count.
    pub damage: Option<&'static str>,
}

impl Database {
    /// Walks the batches of a range in order, as long as `visit` says so. A batch that is missing is an error.
    pub fn visit_batches(&self, id: ReplicaId, range: OffsetRange, visit: BatchVisitor<'_>) -> Result<(), StoreError> {
        let mut from = range.from;
        while from < range.limit {
            let Some(span) = self.span_at(id, from)? else { return Ok(()) };
            let end = span.end.min(range.limit);
            let flow = self.visit_span(id, &span, OffsetRange { from, limit: end }, visit)?;
            if flow.is_break() || span.is_open() {
                return Ok(());
            }
            from = span.end;
        }
        Ok(())
    }

    fn visit_span(
        &self,
        id: ReplicaId,
        span: &SpanRow,
        range: OffsetRange,
        visit: BatchVisitor<'_>,
    ) -> Result<ControlFlow<()>, StoreError> {
        let mut damaged = None;
        // Everything below is found or was not asked for. The first batch may begin before what was asked for.
        let mut reached = range.from.max(span.first);
        let mut is_first = true;
        let mut checked = |base: Offset, batch: &[u8]| {
            let end = match damage_of(base, batch) {
                None => batch_extent(batch).map(|(end, _)| end).ok_or("has a header that cannot be read"),
                Some(what) => Err(what),
            };
            let follows = base == reached || is_first && base < reached;
            match end {
                Ok(end) if follows && end > reached => {
                    (reached, is_first) = (end, false);
                    visit(base, batch)
                }
                Ok(_) => {
                    damaged = Some((reached, MISSING));
                    ControlFlow::Break(())
                }
                Err(what) => {
                    damaged = Some((base, what));
                    ControlFlow::Break(())
                }
            }
        };
        let flow = self.walk_span(id, span, range, &mut checked)?;
        if flow.is_continue() && reached < span.end.min(range.limit) {
            damaged = Some((reached, MISSING));
        }
        match damaged {
            None => Ok(flow),
            Some((at, what)) => Err(self.corrupt(id, at, what)),
        }
    }

    /// Walks the batches of a span unchecked.
    fn walk_span(
        &self,
        id: ReplicaId,
        span: &SpanRow,
        range: OffsetRange,
        visit: BatchVisitor<'_>,
    ) -> Result<ControlFlow<()>, StoreError> {
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(keys::batch(span.generation, id, span.first));
        options.set_iterate_upper_bound(keys::batch(span.generation, ReplicaId(id.0 + 1), Offset::ZERO));
        options.set_verify_checksums(false);
        options.fill_cache(false);
        let mut rows = self.records().raw_iterator_opt(options);
        rows.seek_for_prev(keys::batch(span.generation, id, range.from.max(span.first)));
        if !rows.valid() {
            rows.seek(keys::batch(span.generation, id, span.first));
        }
        while let Some((key, batch)) = rows.item() {
            let Some((_, _, base)) = keys::parse_batch(key) else {
                return Err(self.corrupt(id, range.from, "has a key of another shape"));
            };
            if base >= range.limit {
                return Ok(ControlFlow::Continue(()));
            }
            if visit(base, batch).is_break() {
                return Ok(ControlFlow::Break(()));
            }
            rows.next();
        }
        self.finish(&rows)?;
        Ok(ControlFlow::Continue(()))
    }

    /// The span that holds an offset, or the next one.
    pub fn span_at(&self, id: ReplicaId, offset: Offset) -> Result<Option<SpanRow>, StoreError> {
        let mut rows = self.spans(id);
        rows.seek_for_prev(keys::span(id, offset));
        if let Some(span) = self.span(id, &rows)?
            && span.end > offset
        {
            return Ok(Some(span));
        }
        rows.seek(keys::span(id, offset));
        self.span(id, &rows)
    }

    /// Walks the spans from the one that starts at `first` on, as long as `visit` says so.
    pub fn visit_spans(
        &self,
        id: ReplicaId,
        first: Offset,
        visit: &mut dyn FnMut(&SpanRow) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let mut rows = self.spans(id);
        rows.seek(keys::span(id, first));
        while let Some(span) = self.span(id, &rows)? {
            if visit(&span).is_break() {
                return Ok(());
            }
            rows.next();
        }
        Ok(())
    }

    /// The spans of a replica in a generation and later ones, in order.
    pub fn spans_since(&self, id: ReplicaId, generation: Generation) -> Result<Vec<SpanRow>, StoreError> {
        let mut found = Vec::new();
        let mut rows = self.spans(id);
        rows.seek_to_last();
        while let Some(span) = self.span(id, &rows)?.filter(|span| span.generation >= generation) {
            found.push(span);
            rows.prev();
        }
        found.reverse();
        Ok(found)
    }

    /// What a span really holds: its end, bytes and largest timestamp from the headers of its batches, up to the first
    /// damaged one. A disk that cannot be read is an error, not damage.
    pub fn recount(&self, id: ReplicaId, span: &SpanRow) -> Result<Recounted, StoreError> {
        let mut found = SpanRow { end: span.first, bytes: 0, max_timestamp: Timestamp::NONE, ..*span };
        let (mut batches, mut damage) = (0, None);
        let mut count = |base: Offset, batch: &[u8]| {
            damage = if base == found.end { damage_of(base, batch) } else { Some(MISSING) };
            let Some((end, largest)) = batch_extent(batch).filter(|_| damage.is_none()) else {
                damage = damage.or(Some("has a header that cannot be read"));
                return ControlFlow::Break(());
            };
            found.end = end;
            found.max_timestamp = found.max_timestamp.max(largest);
            found.bytes += batch.len() as u64;
            batches += 1;
            ControlFlow::Continue(())
        };
        let range = OffsetRange { from: span.first, limit: span.end };
        // Whether it broke off is told by the damage.
        let _flow = self.walk_span(id, span, range, &mut count)?;
        Ok(Recounted { span: found, batches, damage })
    }

    /// The newest generation that holds records.
    pub fn last_generation(&self) -> Result<Option<Generation>, StoreError> {
        let mut rows = self.records().raw_iterator();
        rows.seek_to_last();
        let last = rows.key().and_then(keys::parse_batch).map(|(generation, _, _)| generation);
        self.finish(&rows)?;
        Ok(last)
    }

    /// Where in a span a walk for the first batch with a timestamp of at least `target` may begin.
    pub fn timestamp_start(&self, id: ReplicaId, span: &SpanRow, target: Timestamp) -> Result<Offset, StoreError> {
        let mut start = span.first;
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(keys::timestamp(id, span.end));
        let mut rows = self.rows().raw_iterator_cf_opt(self.family(META), options);
        rows.seek(keys::timestamp(id, span.first));
        while let Some((key, value)) = rows.item() {
            let (Some(end), Ok(largest)) = (keys::parse_offset(key), <[u8; 8]>::try_from(value)) else {
                return Err(self.corrupt(id, span.first, "has a timestamp row that cannot be read"));
            };
            if i64::from_be_bytes(largest) >= target.get() {
                break;
            }
            start = end;
            rows.next();
        }
        self.finish(&rows)?;
        Ok(start)
    }

    /// The newest producer snapshot at or below an offset, with the offset that it stands for.
    pub fn snapshot_below(&self, id: ReplicaId, at: Offset) -> Result<Option<(Offset, Vec<u8>)>, StoreError> {
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(keys::snapshot(id, Offset::ZERO));
        let mut rows = self.rows().raw_iterator_cf_opt(self.family(META), options);
        rows.seek_for_prev(keys::snapshot(id, at));
        let found = rows.item().and_then(|(key, value)| Some((keys::parse_offset(key)?, value.to_vec())));
        self.finish(&rows)?;
        Ok(found)
    }

    /// All keys of rows in a range, for deleting them one by one.
    pub fn keys_between(&self, from: &[u8], to: &[u8]) -> Result<Vec<Vec<u8>>, StoreError> {
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(to);
        let mut rows = self.rows().raw_iterator_cf_opt(self.family(META), options);
        rows.seek(from);
        let mut found = Vec::new();
        while let Some(key) = rows.key() {
            found.push(key.to_vec());
            rows.next();
        }
        self.finish(&rows)?;
        Ok(found)
    }

    fn spans(&self, id: ReplicaId) -> DBRawIterator<'_> {
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(keys::span(id, Offset::ZERO));
        options.set_iterate_upper_bound(keys::span(ReplicaId(id.0 + 1), Offset::ZERO));
        self.rows().raw_iterator_cf_opt(self.family(META), options)
    }

    fn span(&self, id: ReplicaId, rows: &DBRawIterator<'_>) -> Result<Option<SpanRow>, StoreError> {
        let Some((key, value)) = rows.item() else {
            self.finish(rows)?;
            return Ok(None);
        };
        let row = keys::parse_offset(key).and_then(|first| SpanRow::decode(first, value));
        row.map(Some).ok_or_else(|| self.corrupt(id, Offset::ZERO, "has a span row that cannot be read"))
    }

    /// An iterator that ended without an error has seen everything.
    pub fn finish(&self, rows: &DBRawIterator<'_>) -> Result<(), StoreError> {
        rows.status().map_err(|error| self.failed("a read", &error))
    }

    /// The sentence for data that is not as it was written.
    pub fn corrupt(&self, id: ReplicaId, offset: Offset, what: &str) -> StoreError {
        StoreError::new(format!("replica {id} at offset {offset} in the log directory {}: {what}", self.name()))
    }
}

/// What is wrong with the batch that stands under a base offset, if anything is.
fn damage_of(base: Offset, batch: &[u8]) -> Option<&'static str> {
    let (Some(stored_base), Some(crc), Some(counted)) =
        (batch.first_chunk::<8>(), batch.get(17..CRC_FROM), batch.get(CRC_FROM..))
    else {
        return Some("is shorter than a header");
    };
    if i64::from_be_bytes(*stored_base) != base.get() {
        return Some("carries another base offset");
    }
    (crc32c::crc32c(counted).to_be_bytes() != crc).then_some("does not match its CRC")
}
