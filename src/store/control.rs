//! What the committer does beside appends: making and deleting replicas, moving log starts, truncating.
//!
//! These are rare and may read `meta`; each is a write of its own, after the appends that were queued before it.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::commit::Commit;
use super::committer::Committer;
use super::dead::{self, EVERYTHING};
use super::keys::{self, ReplicaId};
use super::operation::{Answer, Change, Operation, Snapshot};
use super::replica::Replica;
use super::rows::{ReplicaRow, Segment, SpanRow};
use super::{MetadataMark, recover, reply};
use crate::error::StoreError;
use crate::types::{Offset, Timestamp, TopicId};

impl Committer {
    /// Does one operation that is no append, and answers who waits for it.
    pub(super) fn control(&mut self, operation: Operation) {
        if let Err(error) = self.shared.check_online() {
            return refuse(operation, error);
        }
        match operation {
            Operation::Append(_) => unreachable!("appends are drained together"),
            Operation::Change { replica, change, answer } => {
                self.carry_out(replica, change, answer);
            }
            Operation::Create { partitions, version, answer } => {
                let made = self.create(&partitions, version);
                reply(&answer, self.judge(made));
            }
            Operation::Delete { replica, version, answer } => {
                self.image_version = version;
                self.delete(replica, answer);
            }
            Operation::Pass { answer } => reply(&answer, Ok(())),
            Operation::Local { rows, answer } => {
                let mut shared_error = None;
                if let Err(error) = self.put_local(&rows) {
                    shared_error = self.judge::<()>(Err(error)).err();
                }
                match shared_error {
                    Some(error) => reply(&answer, Err(error)),
                    None => self.shared.syncer.answer(answer),
                }
            }
            Operation::Forget(generations) => {
                let shared = Arc::clone(&self.shared);
                let mut commit = Commit::new(&shared.database);
                for generation in generations {
                    self.generations.forget(generation, &mut commit);
                }
                let done = self.write(commit);
                if let Err(error) = self.judge(done) {
                    tracing::debug!(%error, "dropped generations were not forgotten");
                }
            }
        }
    }

    /// Whatever fails here left the memory's and the disk's views apart: the store is offline.
    fn judge<T>(&self, done: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(error) = &done {
            self.shared.go_offline(error);
        }
        done
    }

    fn put_local(&mut self, rows: &[(&'static str, String)]) -> Result<(), StoreError> {
        let shared = Arc::clone(&self.shared);
        let mut commit = Commit::new(&shared.database);
        for (key, value) in rows {
            commit.put_local(key, value);
        }
        self.write(commit)
    }

    fn create(&mut self, partitions: &[(TopicId, i32)], version: u64) -> Result<Vec<ReplicaRow>, StoreError> {
        let shared = Arc::clone(&self.shared);
        let mut commit = Commit::new(&shared.database);
        let mut rows = Vec::with_capacity(partitions.len());
        for &(topic, partition) in partitions {
            let row = ReplicaRow::new(ReplicaId(self.next_replica), topic, partition, self.generations.open);
            self.next_replica += 1;
            commit.put_replica(&row);
            rows.push(row);
        }
        commit.put_local(recover::NEXT_REPLICA, &self.next_replica.to_string());
        self.image_version = version;
        self.note_metadata(&mut commit);
        self.write(commit)?;
        let made = rows.iter().map(|row| (row.replica, Arc::new(Replica::new(row.clone()))));
        shared.replicas.write().extend(made);
        Ok(rows)
    }

    /// Says in a commit that makes or deletes replicas which metadata asked for it.
    fn note_metadata(&self, commit: &mut Commit<'_>) {
        if let Some(&metadata) = self.shared.metadata.get().filter(|_| self.shared.noted.load(Ordering::Acquire)) {
            for (key, value) in (MetadataMark { metadata, version: self.image_version }).rows() {
                commit.put_local(key, &value);
            }
        }
    }

    /// Nothing finds the replica any more, and nothing is appended to it; then a slice at a time goes.
    fn delete(&mut self, id: ReplicaId, answer: Answer<()>) {
        let replica = self.shared.replicas.write().remove(&id);
        let Some(replica) = replica else { return reply(&answer, Ok(())) };
        replica.with_state(|state| {
            state.deleted = true;
            state.close()
        });
        self.carry_out(replica, Change::DropDead, Some(answer));
    }

    /// Does a change, or the first slice of it: the rest waits behind what is queued by now.
    fn carry_out(&mut self, replica: Arc<Replica>, change: Change, answer: Option<Answer<()>>) {
        let done = self.change(&replica, change);
        match self.judge(done) {
            Ok(Some(change)) => self.shared.queue.push(Operation::Change { replica, change, answer }),
            done => {
                if let Some(answer) = answer {
                    reply(&answer, done.map(|_| ()));
                }
            }
        }
    }

    /// Does a change; what is left of it.
    fn change(&mut self, replica: &Arc<Replica>, change: Change) -> Result<Option<Change>, StoreError> {
        let deleted = replica.with_state(|state| state.deleted);
        match change {
            Change::DropDead => self.drop_dead(replica),
            _ if deleted => Ok(None),
            Change::LogStart { to, snapshot } => self.move_log_start(replica, to, snapshot.as_ref()),
            Change::Checkpoint { high_watermark, snapshot } => {
                let shared = Arc::clone(&self.shared);
                let mut commit = Commit::new(&shared.database);
                replica.with_state(|state| {
                    state.row.high_watermark = high_watermark;
                    if let Some(snapshot) = &snapshot {
                        commit.put_snapshot(&mut state.row, snapshot);
                    }
                    commit.put_replica(&state.row);
                });
                self.write(commit).map(|()| None)
            }
            Change::Truncate { to, epochs } => self.truncate(replica, to, epochs).map(|()| None),
        }
    }

    /// Moves the log start at once, and takes out the rows of what died by it: a slice here, the rest in later operations.
    fn move_log_start(
        &mut self,
        replica: &Arc<Replica>,
        to: Offset,
        snapshot: Option<&Snapshot>,
    ) -> Result<Option<Change>, StoreError> {
        let shared = Arc::clone(&self.shared);
        let (database, id) = (&shared.database, replica.id());
        let mut commit = Commit::new(database);
        // An open span that ends below the new start dies with the others: it is closed first, so that it is counted.
        let closed = replica.with_state(|state| match state.open {
            Some(open) if open.row.end <= to => state.close(),
            _ => None,
        });
        if let Some(span) = &closed {
            self.generations.add(span);
            commit.put_span(id, span);
        }
        let to = to.max(replica.log_start());
        let open = replica.open_span();
        let range = (replica.first_span(), to);
        let slice = dead::take_slice(database, id, range, closed.as_ref(), (&mut self.generations, &mut commit))?;
        // The size of the log is right from the first slice on.
        let alive = match slice.more {
            false => slice.oldest,
            true => database.span_at(id, to)?.filter(|span| closed.is_none_or(|closed| closed.first != span.first)),
        };
        replica.with_state(|state| {
            state.row.log_start = to;
            let bytes_end = open.map_or(state.row.bytes_end, |open| open.bytes_end());
            state.row.bytes_dropped = alive.map_or(bytes_end, |span| span.bytes_before);
            slice.move_on(&mut state.row, to);
            if let Some(snapshot) = snapshot {
                commit.put_snapshot(&mut state.row, snapshot);
            }
            commit.put_replica(&state.row);
        });
        self.generations.write(&mut commit);
        self.write(commit)?;
        if slice.spans > 0 {
            self.unlink_dead();
        }
        Ok(slice.more.then_some(Change::DropDead))
    }

    /// Takes out the next slice of what is dead: below the log start, or everything of a deleted replica, whose own row
    /// goes last.
    fn drop_dead(&mut self, replica: &Arc<Replica>) -> Result<Option<Change>, StoreError> {
        let shared = Arc::clone(&self.shared);
        let (database, id) = (&shared.database, replica.id());
        let mut commit = Commit::new(database);
        let (deleted, log_start) = replica.with_state(|state| (state.deleted, state.row.log_start));
        let to = if deleted { EVERYTHING } else { log_start };
        let range = (replica.first_span(), to);
        let slice = dead::take_slice(database, id, range, None, (&mut self.generations, &mut commit))?;
        let row = replica.with_state(|state| {
            slice.move_on(&mut state.row, to);
            state.row.clone()
        });
        if deleted {
            self.note_metadata(&mut commit);
        } else {
            commit.put_replica(&row);
        }
        if deleted && slice.oldest.is_none() {
            for (from, to) in keys::remains(id, range.0) {
                for key in database.keys_between(&from, &to)? {
                    commit.delete_meta(&key);
                }
            }
            commit.delete_meta(&keys::replica(id));
        }
        self.generations.write(&mut commit);
        self.write(commit)?;
        self.unlink_dead();
        Ok(slice.more.then_some(Change::DropDead))
    }

    fn truncate(&mut self, replica: &Arc<Replica>, to: Offset, epochs: Vec<u8>) -> Result<(), StoreError> {
        // A stale suffix can never come back: the generation that may hold one is closed before its rows are cut.
        if replica.open_span().is_some() {
            self.roll_now()?;
        }
        let shared = Arc::clone(&self.shared);
        let (database, id) = (&shared.database, replica.id());
        let mut commit = Commit::new(database);
        let mut spans = Vec::new();
        let from = database.span_at(id, to)?.map_or(to, |span| span.first);
        database.visit_spans(id, from, &mut |span| {
            spans.push(*span);
            ControlFlow::Continue(())
        })?;
        for span in &spans {
            if span.first >= to {
                self.generations.remove(span);
                commit.delete_meta(&keys::span(id, span.first));
            } else if span.end > to {
                let cut = self.cut(id, span, to)?;
                self.generations.shrink(span, &cut);
                commit.put_span(id, &cut);
            }
        }
        for key in database
            .keys_between(&keys::timestamp(id, to.plus(1)), &keys::timestamp(ReplicaId(id.0 + 1), Offset::ZERO))?
        {
            commit.delete_meta(&key);
        }
        // What ends at the log start or below is dead, and only its row may be there still.
        let last = self.last_before(replica, to)?.filter(|span| span.end > replica.log_start());
        let newest = self.newest_in_segment(id, last.as_ref())?;
        replica.with_state(|state| {
            let row = &mut state.row;
            for at in [&mut row.snapshot, &mut row.older_snapshot] {
                if *at > to {
                    commit.delete_meta(&keys::snapshot(id, *at));
                    *at = Offset::UNKNOWN;
                }
            }
            if row.snapshot == Offset::UNKNOWN {
                std::mem::swap(&mut row.snapshot, &mut row.older_snapshot);
            }
            row.end = to;
            row.epochs = epochs;
            row.high_watermark = row.high_watermark.min(to);
            row.log_start = row.log_start.min(to);
            row.bytes_end = last.map_or(row.bytes_dropped, |span| span.bytes_end());
            row.segment = last.map_or(Segment { first: to, ..Segment::FIRST }, |span| span.segment);
            (row.segment_max_timestamp, row.segment_appended) = newest;
            commit.put_replica(row);
        });
        self.generations.write(&mut commit);
        self.write(commit)?;
        // What was cut away must not come back with the next start, whatever stops this one.
        shared.database.sync_rows()?;
        self.unlink_dead();
        Ok(())
    }

    /// The newest span that begins below an offset, as it is once it is cut there.
    fn last_before(&self, replica: &Replica, to: Offset) -> Result<Option<SpanRow>, StoreError> {
        let Some(before) = to.get().checked_sub(1).filter(|offset| *offset >= 0) else { return Ok(None) };
        match self.shared.database.span_at(replica.id(), Offset(before))? {
            Some(span) if span.first < to && span.end > to => self.cut(replica.id(), &span, to).map(Some),
            found => Ok(found.filter(|span| span.first < to)),
        }
    }

    /// The largest timestamp and the last append in the segment that ends with a span.
    fn newest_in_segment(&self, id: ReplicaId, last: Option<&SpanRow>) -> Result<(Timestamp, Timestamp), StoreError> {
        let Some(last) = last else { return Ok((Timestamp::NONE, Timestamp::NONE)) };
        let mut newest = (last.max_timestamp, last.appended);
        self.shared.database.visit_spans(id, last.segment.first, &mut |span| {
            if span.first >= last.first {
                return ControlFlow::Break(());
            }
            newest = (newest.0.max(span.max_timestamp), newest.1.max(span.appended));
            ControlFlow::Continue(())
        })?;
        Ok(newest)
    }

    /// What remains of a closed span below an offset.
    fn cut(&self, id: ReplicaId, span: &SpanRow, to: Offset) -> Result<SpanRow, StoreError> {
        let counted = self.shared.database.recount(id, &SpanRow { end: to, ..*span })?;
        match counted.damage {
            None => Ok(SpanRow { end: to, ..counted.span }),
            Some(what) => Err(self.shared.database.corrupt(id, counted.span.end, what)),
        }
    }
}

/// Tells whoever waits for an operation that it will not be done.
pub(super) fn refuse(operation: Operation, error: StoreError) {
    match operation {
        Operation::Append(append) => append.listener.failed(&error),
        Operation::Change { answer: Some(answer), .. } => reply(&answer, Err(error)),
        Operation::Create { answer, .. } => reply(&answer, Err(error)),
        Operation::Delete { answer, .. } | Operation::Local { answer, .. } | Operation::Pass { answer } => {
            reply(&answer, Err(error));
        }
        Operation::Change { answer: None, .. } | Operation::Forget(_) => {
            tracing::debug!(%error, "a change was dropped: the store is offline");
        }
    }
}
