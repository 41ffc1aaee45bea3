//! Opening a log, and truncating it: both rebuild what is in memory from the store.
//!
//! The producers' state is the newest snapshot below the end, and the headers of the batches after it.

use std::ops::ControlFlow;
use std::sync::{Arc, Once};

use super::epochs::LeaderEpochs;
use super::producers::ProducerStates;
use super::tail::Tail;
use super::{Log, SnapshotMark, encode_epochs};
use crate::config::TopicConfig;
use crate::error::StoreError;
use crate::store::{Change, OffsetRange, Replica, ReplicaId, ReplicaRow, Segment, Store};
use crate::types::{LeaderEpoch, Offset, Timestamp};
use crate::wire::batch::BatchHeader;

/// The offsets topic alone has fifty compacted partitions.
static SAY_NO_CLEANER: Once = Once::new();

impl Log {
    /// Opens a replica's log as the store has it. Blocks; reads headers that no snapshot covers.
    pub fn open(store: &Arc<Store>, replica: ReplicaId, config: Arc<TopicConfig>) -> Result<Self, StoreError> {
        let replica = store
            .replica(replica)
            .ok_or_else(|| StoreError::new(format!("replica {replica} is not in {}", store.dir().display())))?;
        let row = replica.row();
        let mut epochs = match row.epochs.as_slice() {
            [] => LeaderEpochs::new(),
            encoded => LeaderEpochs::decode(encoded)
                .map_err(|error| StoreError::new(format!("replica {}: {error}", replica.id())))?,
        };
        // After a crash the row may speak of an epoch whose first batch never came, or lack one whose batches are here.
        let cut = epochs.truncate_from_end(row.end);
        let Replayed { producers, mark, new_epochs } = replay(store, &replica, &row, Some(&mut epochs))?;
        if cut || new_epochs {
            store.change(&replica, Change::Truncate { to: row.end, epochs: encode_epochs(&epochs) })?;
        }
        let mut log = Self {
            store: Arc::clone(store),
            replica,
            config,
            log_start: row.log_start,
            next: row.end,
            committed: row.end,
            checkpointed: row.high_watermark,
            bytes_end: row.bytes_end,
            segment: active_segment(&row),
            segment_max_timestamp: row.segment_max_timestamp,
            segment_appended: row.segment_appended,
            segment_created: Timestamp::NONE,
            oldest: None,
            truncations: 0,
            producers,
            epochs,
            snapshot: mark,
            tail: Tail::default(),
            unsynced: 0,
        };
        // A start inside an epoch moves the epoch's start, and that is not written at once.
        log.epochs.truncate_from_start(log.log_start);
        if log.config.cleanup_policy.compact {
            SAY_NO_CLEANER.call_once(|| {
                tracing::info!(
                    "cleanup.policy=compact is accepted, but this version has no cleaner: nothing is compacted"
                );
            });
        }
        Ok(log)
    }

    /// Cuts the log off at `to`, or before the batch that holds `to`, but not below the log start; the new end. Blocks, and waits for the committer:
    /// nothing may be pending, so no listener can be on its way to the caller's lock.
    pub fn truncate_to(&mut self, to: Offset) -> Result<Offset, StoreError> {
        assert!(self.committed == self.next, "a log with pending appends is not truncated");
        if to >= self.next {
            return Ok(self.next);
        }
        // A batch that the log start cuts in two cannot be read any more once its end is gone.
        let to = self.batch_boundary(to.max(self.log_start))?.max(self.log_start);
        self.epochs.truncate_from_end(to);
        let change = Change::Truncate { to, epochs: encode_epochs(&self.epochs) };
        self.store.change_and_wait(&self.replica, change)?;
        self.tail.truncate(to);
        let row = self.replica.row();
        let replayed = replay(&self.store, &self.replica, &row, None)?;
        (self.producers, self.snapshot) = (replayed.producers, replayed.mark);
        self.next = row.end;
        self.committed = row.end;
        self.checkpointed = row.high_watermark;
        self.bytes_end = row.bytes_end;
        self.segment = active_segment(&row);
        self.segment_max_timestamp = row.segment_max_timestamp;
        self.segment_appended = row.segment_appended;
        self.segment_created = Timestamp::NONE;
        self.oldest = None;
        self.truncations += 1;
        self.unsynced = 0;
        Ok(row.end)
    }

    /// The base offset of the batch that holds an offset; the offset itself when no batch begins before it.
    fn batch_boundary(&self, offset: Offset) -> Result<Offset, StoreError> {
        let mut boundary = offset;
        let range = OffsetRange { from: offset, limit: offset.plus(1) };
        self.store.visit_batches(self.replica.id(), range, &mut |base, batch| {
            if BatchHeader::parse(batch).is_some_and(|header| header.end_offset() > offset) {
                boundary = base;
            }
            ControlFlow::Break(())
        })?;
        Ok(boundary)
    }
}

/// The active segment: an empty one when nothing of the last is alive.
fn active_segment(row: &ReplicaRow) -> Segment {
    match row.log_start < row.end {
        true => row.segment,
        false => Segment { first: row.end, bytes_before: row.bytes_end, first_timestamp: Timestamp::NONE },
    }
}

/// What the newest snapshot and the batches after it tell.
struct Replayed {
    /// The producers as they were at the end of the log.
    producers: ProducerStates,
    /// The snapshot.
    mark: SnapshotMark,
    /// Batches had leader epochs that were not known.
    new_epochs: bool,
}

/// Rebuilds the producers. Leader epochs are noted with the rows that a snapshot comes after, so that only batches after
/// it can be of an epoch that got lost with the machine: where `epochs` are given, those are put back.
fn replay(
    store: &Store,
    replica: &Replica,
    row: &ReplicaRow,
    mut epochs: Option<&mut LeaderEpochs>,
) -> Result<Replayed, StoreError> {
    let id = replica.id();
    let unreadable = |what: String| StoreError::new(format!("the producers of replica {id} cannot be read: {what}"));
    let (at, mut producers) = match store.snapshot_below(id, row.end)? {
        Some((at, state)) => (at, ProducerStates::decode(&state).map_err(|error| unreadable(error.to_string()))?),
        None => (row.log_start, ProducerStates::new()),
    };
    let (mut replayed, mut new_epochs) = (0, false);
    if at < row.end {
        let range = OffsetRange { from: at.max(row.log_start), limit: row.end };
        store.visit_batches(id, range, &mut |base, batch| {
            if base >= at
                && let Some(header) = BatchHeader::parse(batch)
            {
                producers.note(&header);
                if let Some(epochs) = &mut epochs
                    && header.leader_epoch > epochs.latest().unwrap_or(LeaderEpoch::UNKNOWN)
                {
                    new_epochs |= epochs.assign(header.leader_epoch, base);
                }
                replayed += batch.len() as u64;
            }
            ControlFlow::Continue(())
        })?;
    }
    let mark =
        SnapshotMark { at, bytes_end: row.bytes_end - replayed.min(row.bytes_end), generation: store.generation() };
    Ok(Replayed { producers, mark, new_epochs })
}
