//! Dead spans leave `meta` from the oldest on, a slice at a time: retention may drop thousands in one step, and nobody
//! should wait behind all of them.
//!
//! A slice is whole: the rows of its spans, their timestamp rows and what the generations count change in one write. So
//! a stop between two slices leaves nothing but spans below the log start, and the next start goes on with them.

use std::ops::ControlFlow;

use super::commit::{Commit, Generations};
use super::families::Database;
use super::keys::{self, ReplicaId};
use super::replica::TIMESTAMP_ROW_BYTES;
use super::rows::{ReplicaRow, SpanRow};
use crate::error::StoreError;
use crate::types::Offset;

/// Rows that one slice takes out, about: a few milliseconds of the committer's time.
const SLICE_ROWS: u64 = 2048;

/// Every span that ends at this offset or below is dead when the whole replica is.
pub const EVERYTHING: Offset = Offset(i64::MAX);

/// One slice of dead spans.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Slice {
    /// Spans that it took out.
    pub spans: u64,
    /// The oldest span that is still there, as its row has it; `None` when no span is left.
    pub oldest: Option<SpanRow>,
    /// That span is dead too: another slice must follow.
    pub more: bool,
}

impl Slice {
    /// Where a walk over the spans begins after it.
    pub fn move_on(&self, row: &mut ReplicaRow, to: Offset) {
        row.first_span = self.oldest.map_or(to, |span| span.first);
        if let Some(oldest) = &self.oldest {
            row.oldest_generation = oldest.generation;
        }
    }
}

/// Puts the deletion of the oldest dead spans of a replica into a commit: of those from `first` on that end at or below
/// `to`, one slice. `closed` is a span that ends in the same commit: its row still says that it is open.
pub fn take_slice(
    database: &Database,
    id: ReplicaId,
    (first, to): (Offset, Offset),
    closed: Option<&SpanRow>,
    (generations, commit): (&mut Generations, &mut Commit<'_>),
) -> Result<Slice, StoreError> {
    let mut slice = Slice::default();
    let (mut rows, mut end) = (0, first);
    database.visit_spans(id, first, &mut |span| {
        let span = closed.filter(|closed| closed.first == span.first).unwrap_or(span);
        let dead = span.end <= to;
        if !dead || rows >= SLICE_ROWS {
            slice.oldest = Some(*span);
            slice.more = dead;
            return ControlFlow::Break(());
        }
        rows += 1 + span.bytes / TIMESTAMP_ROW_BYTES;
        slice.spans += 1;
        end = span.end;
        // An open span was never counted.
        if !span.is_open() {
            generations.remove(span);
        }
        commit.delete_meta(&keys::span(id, span.first));
        ControlFlow::Continue(())
    })?;
    // A row at the very end of the last one belongs to what follows: it is taken with that.
    if slice.spans > 0 {
        for key in database.keys_between(&keys::timestamp(id, first), &keys::timestamp(id, end))? {
            commit.delete_meta(&key);
        }
    }
    Ok(slice)
}
