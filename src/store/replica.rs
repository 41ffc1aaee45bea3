//! One replica as the store sees it: its row, and the span that is open.
//!
//! The committer is the only writer of this state once the replica exists; readers look at it for a moment. The lock is
//! a leaf: nothing is called while it is held.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::keys::{Generation, ReplicaId};
use super::operation::StoredBatch;
use super::rows::{ReplicaRow, Segment, SpanRow};
use crate::types::Offset;

/// A timestamp row is written every so many bytes of a span.
pub const TIMESTAMP_ROW_BYTES: u64 = 1 << 20;

/// A replica of the store. Shared by its log and the committer.
pub struct Replica {
    id: ReplicaId,
    state: Mutex<ReplicaState>,
    /// Publications that wait behind a sync: while there are some, later ones must wait behind them.
    pub(super) syncing: AtomicU32,
    /// `bytes_dropped` of the row, for whoever asks for the size of the log.
    bytes_dropped: AtomicU64,
}

/// What the committer keeps of a replica.
#[derive(Clone, Debug)]
pub struct ReplicaState {
    /// The row as it was last written.
    pub row: ReplicaRow,
    /// The span in the open generation.
    pub open: Option<OpenSpan>,
    /// The commit in which the replica was last seen, and its place among those to be published.
    pub seen: (u64, usize),
    /// True once the replica was deleted: nothing may be appended any more.
    pub deleted: bool,
}

/// A span that still grows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OpenSpan {
    /// As it would be written if it were closed now.
    pub row: SpanRow,
    /// Its bytes up to the last timestamp row.
    pub indexed: u64,
}

/// What an append adds to `meta`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Grown {
    /// A span that this append ended, because a new segment begins.
    pub closed: Option<SpanRow>,
    /// A span that this append opened.
    pub opened: Option<SpanRow>,
    /// A timestamp row is due at the batch's end.
    pub timestamp_row: Option<SpanRow>,
}

impl Replica {
    /// A replica with the row that the store has of it.
    pub fn new(row: ReplicaRow) -> Self {
        let id = row.replica;
        let bytes_dropped = AtomicU64::new(row.bytes_dropped);
        let state = ReplicaState { row, open: None, seen: (0, 0), deleted: false };
        Self { id, state: Mutex::new(state), syncing: AtomicU32::new(0), bytes_dropped }
    }

    /// Bytes of the log that are gone.
    pub fn bytes_dropped(&self) -> u64 {
        self.bytes_dropped.load(Ordering::Relaxed)
    }

    /// The store's number of it.
    pub fn id(&self) -> ReplicaId {
        self.id
    }

    /// The row, with what the open span adds to it.
    pub fn row(&self) -> ReplicaRow {
        let state = self.state.lock();
        let mut row = state.row.clone();
        if let Some(open) = &state.open {
            row.absorb(&open.row);
        }
        row
    }

    /// The end of the log, the open span included.
    pub fn end(&self) -> Offset {
        let state = self.state.lock();
        state.open.map_or(state.row.end, |open| open.row.end)
    }

    /// The span in the open generation.
    pub fn open_span(&self) -> Option<SpanRow> {
        self.state.lock().open.map(|open| open.row)
    }

    /// The log start offset that the store has carried out: a move that was queued a moment ago is not in it yet.
    pub fn log_start(&self) -> Offset {
        self.state.lock().row.log_start
    }

    /// First offset of the oldest span.
    pub fn first_span(&self) -> Offset {
        self.state.lock().row.first_span
    }

    /// Looks at the state, or changes it: only the committer and recovery change it.
    pub fn with_state<T>(&self, look: impl FnOnce(&mut ReplicaState) -> T) -> T {
        let mut state = self.state.lock();
        let seen = look(&mut state);
        self.bytes_dropped.store(state.row.bytes_dropped, Ordering::Relaxed);
        seen
    }
}

impl ReplicaRow {
    /// Takes in a span that is newer than anything the row knows.
    pub fn absorb(&mut self, span: &SpanRow) {
        if self.segment.first != span.segment.first || self.segment.first_timestamp != span.segment.first_timestamp {
            self.segment = span.segment;
            self.segment_max_timestamp = span.max_timestamp;
            self.segment_appended = span.appended;
        } else {
            self.segment_max_timestamp = self.segment_max_timestamp.max(span.max_timestamp);
            self.segment_appended = self.segment_appended.max(span.appended);
        }
        self.end = span.end;
        self.bytes_end = span.bytes_end();
    }
}

impl ReplicaState {
    /// Adds a batch to the open span, or opens one.
    pub fn grow(&mut self, batch: &StoredBatch, generation: Generation, segment: Option<Segment>) -> Grown {
        let mut grown = Grown::default();
        if segment.is_some() {
            grown.closed = self.close();
        }
        if let Some(segment) = segment {
            self.row.segment = segment;
            self.row.segment_max_timestamp = batch.max_timestamp;
            self.row.segment_appended = batch.appended;
        }
        let opening = self.open.is_none();
        let bytes_before = self.row.bytes_end;
        let segment = self.row.segment;
        let open = self.open.get_or_insert(OpenSpan {
            row: SpanRow {
                first: batch.base_offset,
                end: batch.base_offset,
                generation,
                max_timestamp: batch.max_timestamp,
                appended: batch.appended,
                bytes_before,
                bytes: 0,
                segment,
            },
            indexed: 0,
        });
        open.row.end = batch.end_offset;
        open.row.bytes += batch.bytes.len() as u64;
        open.row.max_timestamp = open.row.max_timestamp.max(batch.max_timestamp);
        open.row.appended = open.row.appended.max(batch.appended);
        if open.row.bytes - open.indexed >= TIMESTAMP_ROW_BYTES {
            open.indexed = open.row.bytes;
            grown.timestamp_row = Some(open.row);
        }
        if opening {
            grown.opened = Some(SpanRow { end: SpanRow::OPEN, ..open.row });
        }
        grown
    }

    /// Ends the open span, if there is one: it becomes part of the row.
    pub fn close(&mut self) -> Option<SpanRow> {
        let open = self.open.take()?;
        self.row.absorb(&open.row);
        Some(open.row)
    }
}
