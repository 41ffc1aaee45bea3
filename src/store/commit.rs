//! One commit while it is being built: record batches, and the rows that say they are alive.

use std::collections::{BTreeMap, BTreeSet};

use rocksdb::{WriteBatch, WriteOptions};

use super::families::{Database, LOCAL, META};
use super::keys::{self, Generation, ReplicaId};
use super::operation::{Snapshot, StoredBatch};
use super::recover;
use super::rows::{GenerationRow, ReplicaRow, SpanRow};
use crate::error::StoreError;
use crate::types::{Offset, Timestamp};

/// Records and rows to be written, rows first.
pub struct Commit<'a> {
    database: &'a Database,
    records: Option<WriteBatch>,
    rows: WriteBatch,
}

impl<'a> Commit<'a> {
    /// An empty one for rows only.
    pub fn new(database: &'a Database) -> Self {
        Self { database, records: None, rows: WriteBatch::new() }
    }

    /// An empty one with room for about `bytes` of records.
    pub fn with_records(database: &'a Database, bytes: usize) -> Self {
        Self { database, records: Some(WriteBatch::with_capacity_bytes(bytes)), rows: WriteBatch::new() }
    }

    /// Writes the rows, then the records: a crash in between leaves rows that recovery corrects, never records that
    /// nothing speaks of.
    pub fn write(self, options: &WriteOptions) -> Result<(), StoreError> {
        if !self.rows.is_empty() {
            self.database.write_rows(self.rows, options)?;
        }
        match self.records {
            Some(records) => self.database.write_records(records, options),
            None => Ok(()),
        }
    }

    /// Adds record bytes.
    pub fn put_batch(&mut self, generation: Generation, id: ReplicaId, batch: &StoredBatch) {
        let records = self.records.as_mut().expect("a commit with records was made with room for them");
        records.put(keys::batch(generation, id, batch.base_offset), &batch.bytes);
    }

    /// Adds or replaces a span's row.
    pub fn put_span(&mut self, id: ReplicaId, span: &SpanRow) {
        self.put_meta(&keys::span(id, span.first), &span.encode());
    }

    /// Notes the largest timestamp of a span up to an offset.
    pub fn put_timestamp(&mut self, id: ReplicaId, end: Offset, largest: Timestamp) {
        self.put_meta(&keys::timestamp(id, end), &largest.get().to_be_bytes());
    }

    /// Adds or replaces a replica's row.
    pub fn put_replica(&mut self, row: &ReplicaRow) {
        self.put_meta(&keys::replica(row.replica), &row.encode());
    }

    /// Adds a producer snapshot and lets the one before the previous go; the row must be written after this.
    pub fn put_snapshot(&mut self, row: &mut ReplicaRow, snapshot: &Snapshot) {
        self.put_meta(&keys::snapshot(row.replica, snapshot.at), &snapshot.state);
        if row.snapshot == snapshot.at {
            return;
        }
        if row.older_snapshot != Offset::UNKNOWN {
            self.delete_meta(&keys::snapshot(row.replica, row.older_snapshot));
        }
        row.older_snapshot = row.snapshot;
        row.snapshot = snapshot.at;
    }

    /// Sets a fact of this broker.
    pub fn put_local(&mut self, key: &str, value: &str) {
        self.rows.put_cf(self.database.family(LOCAL), key, value);
    }

    /// Notes which generation is open.
    pub fn put_open_generation(&mut self, generation: Generation) {
        self.put_local(recover::GENERATION, &generation.to_string());
    }

    /// Deletes a row of `meta`.
    pub fn delete_meta(&mut self, key: &[u8]) {
        self.rows.delete_cf(self.database.family(META), key);
    }

    fn put_meta(&mut self, key: &[u8], value: &[u8]) {
        self.rows.put_cf(self.database.family(META), key, value);
    }
}

/// How much of each generation is alive.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Generations {
    /// The open one.
    pub open: Generation,
    rows: BTreeMap<Generation, GenerationRow>,
    changed: BTreeSet<Generation>,
}

impl Generations {
    /// As the rows say.
    pub fn new(open: Generation, rows: BTreeMap<Generation, GenerationRow>) -> Self {
        Self { open, rows, changed: BTreeSet::new() }
    }

    /// A span was closed.
    pub fn add(&mut self, span: &SpanRow) {
        let row = self.rows.entry(span.generation).or_default();
        row.spans += 1;
        row.bytes_alive += span.bytes;
        row.bytes = row.bytes.max(row.bytes_alive);
        self.changed.insert(span.generation);
    }

    /// A closed span died.
    pub fn remove(&mut self, span: &SpanRow) {
        let row = self.rows.get_mut(&span.generation).expect("a span that was closed is counted");
        row.spans = row.spans.checked_sub(1).expect("a generation loses no more spans than it had");
        row.bytes_alive = row.bytes_alive.saturating_sub(span.bytes);
        self.changed.insert(span.generation);
    }

    /// A closed span lost its end.
    pub fn shrink(&mut self, before: &SpanRow, after: &SpanRow) {
        let row = self.rows.get_mut(&before.generation).expect("a span that was closed is counted");
        row.bytes_alive = row.bytes_alive.saturating_sub(before.bytes - after.bytes);
        self.changed.insert(before.generation);
    }

    /// The files of a generation are gone.
    pub fn forget(&mut self, generation: Generation, commit: &mut Commit<'_>) {
        self.rows.remove(&generation);
        self.changed.remove(&generation);
        commit.delete_meta(&keys::generation(generation));
    }

    /// Writes the rows that changed.
    pub fn write(&mut self, commit: &mut Commit<'_>) {
        for generation in std::mem::take(&mut self.changed) {
            if let Some(row) = self.rows.get(&generation) {
                commit.put_meta(&keys::generation(generation), &row.encode());
            }
        }
    }

    /// Closed generations in which nothing is alive, in order.
    pub fn dead(&self) -> Vec<Generation> {
        let closed = self.rows.range(..self.open);
        closed.filter(|(_, row)| row.spans == 0).map(|(generation, _)| *generation).collect()
    }

    /// Counts generations from `from` on anew, the newest being `open`: recovery adds their spans again.
    pub fn recount(&mut self, from: Generation, open: Generation) {
        self.open = open;
        for generation in from..=open {
            let row = self.rows.entry(generation).or_default();
            *row = GenerationRow { bytes: row.bytes, ..GenerationRow::default() };
            self.changed.insert(generation);
        }
    }

    /// Ends the open generation and opens the next.
    pub fn roll(&mut self, bytes: u64) {
        // A generation in which every span died before the roll still has files to drop.
        let row = self.rows.entry(self.open).or_default();
        row.bytes = row.bytes.max(bytes);
        self.changed.insert(self.open);
        self.open = self.open.checked_add(1).expect("four billion generations are never reached");
    }
}
