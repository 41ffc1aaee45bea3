//! One partition's log: offsets, producers, epochs and segments over the store. Synchronous; it knows no tokio and no
//! clock.
//!
//! A [`Log`] lives inside its partition's lock. Appending and reading the tail do no I/O and wait for nothing; what may
//! wait for the disk leaves as a [`ColdRead`], a [`TimestampLookup`] or a [`RetentionCheck`], to be run elsewhere. Opening
//! and truncating block and belong to setup and recovery. Record bytes are never re-encoded here.

mod cold;
pub mod epochs;
mod open;
pub mod producers;
mod retention;
mod segments;
mod tail;
#[cfg(test)]
mod tests;
pub mod validate;

use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use self::cold::Target;
pub use self::cold::{ColdRead, TimestampLookup, TimestampOffset};
use self::epochs::LeaderEpochs;
use self::producers::{Admission, Duplicate, ProducerStates};
pub use self::retention::{Expired, RetentionCheck};
use self::segments::{Active, Summary};
use self::tail::{Tail, Wanted};
use crate::config::{TimestampType, TopicConfig};
use crate::error::{ErrorCode, StoreError};
use crate::store::{
    Append, AppendExtras, AppendRefused, Change, CommitListener, Replica, Segment, Snapshot, Store, StoredBatch,
};
use crate::types::{LeaderEpoch, Offset, Timestamp};
use crate::wire::batch::{BatchHeader, ProducedBatch};

/// A producer snapshot is taken every so many bytes: the replay after a crash reads no more than this.
const SNAPSHOT_BYTES: u64 = 16 << 20;

/// Whole record batches, one after another, in as few pieces as they lie in memory.
pub type Batches = SmallVec<[Bytes; 4]>;

/// What a read gives.
pub enum Read {
    /// From memory. Empty at the end of what may be read.
    Batches(Batches),
    /// Not in memory: run this on a thread that may block.
    Cold(ColdRead),
    /// Below the log start offset, or beyond the end.
    OutOfRange,
}

/// Where an append went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Appended {
    /// The offset of the first record.
    pub base_offset: Offset,
    /// The offset after the last.
    pub end_offset: Offset,
    /// The broker's time under LogAppendTime, otherwise NONE.
    pub log_append_time: Timestamp,
    /// The log start offset at the time.
    pub log_start_offset: Offset,
    /// True when the batch had been appended before; it may still be pending.
    pub duplicate: bool,
}

/// A partition's log.
pub struct Log {
    store: Arc<Store>,
    replica: Arc<Replica>,
    config: Arc<TopicConfig>,
    log_start: Offset,
    /// The next offset to assign.
    next: Offset,
    /// Everything below is committed.
    committed: Offset,
    /// The high watermark as it was noted last.
    checkpointed: Offset,
    /// Bytes ever appended, pending ones included.
    bytes_end: u64,
    segment: Segment,
    segment_max_timestamp: Timestamp,
    /// The wall clock at the last append to the active segment.
    segment_appended: Timestamp,
    /// The wall clock when the active segment began, or was first appended to since the start; NONE before that.
    segment_created: Timestamp,
    /// The oldest segment, once retention has looked at it.
    oldest: Option<Summary>,
    /// How often the log was truncated.
    truncations: u32,
    producers: ProducerStates,
    epochs: LeaderEpochs,
    snapshot: SnapshotMark,
    tail: Tail,
    /// Records since the last append that waits for a sync.
    unsynced: i64,
}

/// The newest producer snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct SnapshotMark {
    at: Offset,
    bytes_end: u64,
    generation: u32,
}

impl Log {
    /// The first offset that may be read.
    pub fn log_start_offset(&self) -> Offset {
        self.log_start
    }

    /// The next offset to assign; pending appends are below it.
    pub fn next_offset(&self) -> Offset {
        self.next
    }

    /// The committed end, exclusive.
    pub fn log_end_offset(&self) -> Offset {
        self.committed
    }

    /// Bytes of the log that are alive.
    pub fn size(&self) -> u64 {
        self.bytes_end.saturating_sub(self.replica.bytes_dropped())
    }

    /// The topic's configuration.
    pub fn config(&self) -> &Arc<TopicConfig> {
        &self.config
    }

    /// Puts another configuration in force, from the next append on.
    pub fn set_config(&mut self, config: Arc<TopicConfig>) {
        self.config = config;
        self.oldest = None;
    }

    /// Appends as the leader: judges the producer's sequence, assigns offsets and the leader epoch, and hands the batch
    /// to the committer and, pending, to the tail cache. `listener` hears when it is committed.
    pub fn append(
        &mut self,
        mut batch: ProducedBatch,
        epoch: LeaderEpoch,
        now: Timestamp,
        listener: &Arc<dyn CommitListener>,
    ) -> Result<Appended, ErrorCode> {
        if let Admission::Duplicate(first) = self.producers.check(&batch.header)? {
            return Ok(self.duplicate(&first));
        }
        let log_append_time = self.config.message_timestamp_type == TimestampType::LogAppendTime;
        if log_append_time {
            batch.stamp_log_append_time(now);
        }
        batch.assign(self.next, epoch);
        let header = batch.header;
        let stored = Arc::new(StoredBatch {
            base_offset: header.base_offset,
            end_offset: header.end_offset(),
            max_timestamp: header.max_timestamp,
            appended: now,
            bytes: batch.bytes.freeze(),
        });
        let (extras, sync) = self.plan(&header, stored.bytes.len() as u64, now);
        let (segment, snapshot) = (extras.segment, extras.snapshot.as_ref().map(|snapshot| snapshot.at));
        let new_epoch = extras.epochs.is_some();
        self.store.append(Append {
            replica: Arc::clone(&self.replica),
            batch: Arc::clone(&stored),
            sync,
            extras: extras.into_option(),
            listener: Arc::clone(listener),
        })?;
        if new_epoch {
            self.epochs.assign(epoch, header.base_offset);
        }
        if let Some(at) = snapshot {
            self.snapshot = SnapshotMark { at, bytes_end: self.bytes_end, generation: self.store.generation() };
        }
        self.grow(segment, &stored, sync, &header);
        Ok(Appended {
            base_offset: header.base_offset,
            end_offset: stored.end_offset,
            log_append_time: if log_append_time { now } else { Timestamp::NONE },
            log_start_offset: self.log_start,
            duplicate: false,
        })
    }

    fn duplicate(&self, first: &Duplicate) -> Appended {
        let log_append_time = self.config.message_timestamp_type == TimestampType::LogAppendTime;
        Appended {
            base_offset: first.base_offset,
            end_offset: first.last_offset.plus(1),
            log_append_time: if log_append_time { first.timestamp } else { Timestamp::NONE },
            log_start_offset: self.log_start,
            duplicate: true,
        }
    }

    /// What goes with an append, and whether it waits for a sync. Changes nothing: the store may refuse the append.
    fn plan(&self, header: &BatchHeader, bytes: u64, now: Timestamp) -> (AppendExtras, bool) {
        let mut extras = AppendExtras::default();
        let active = Active {
            segment: self.segment,
            bytes: self.segment_bytes(),
            batch_bytes: bytes,
            batch_timestamp: header.max_timestamp,
            created: self.segment_created,
            now,
        };
        if segments::should_roll(&active, &self.config) {
            extras.segment =
                Some(Segment { first: self.next, bytes_before: self.bytes_end, first_timestamp: header.max_timestamp });
        }
        let far = self.bytes_end - self.snapshot.bytes_end >= SNAPSHOT_BYTES;
        if self.snapshot.at != self.next && (far || self.snapshot.generation != self.store.generation()) {
            extras.snapshot = Some(self.take_snapshot());
        }
        if self.epochs.latest() != Some(header.leader_epoch) {
            let mut epochs = self.epochs.clone();
            epochs.assign(header.leader_epoch, header.base_offset);
            extras.epochs = Some(encode_epochs(&epochs));
        }
        // With every append: a sync that another topic asked for may have served those before, but not this one.
        extras.flush_ms = u64::try_from(self.config.flush_ms).ok().filter(|_| self.config.flush_ms < i64::MAX);
        (extras, self.unsynced + i64::from(header.record_count) >= self.config.flush_messages)
    }

    fn grow(&mut self, segment: Option<Segment>, stored: &Arc<StoredBatch>, sync: bool, header: &BatchHeader) {
        if let Some(segment) = segment {
            self.segment = segment;
            self.segment_max_timestamp = Timestamp::NONE;
            self.segment_appended = Timestamp::NONE;
            self.segment_created = Timestamp::NONE;
        }
        if self.segment_created == Timestamp::NONE {
            self.segment_created = stored.appended;
        }
        self.segment_max_timestamp = self.segment_max_timestamp.max(stored.max_timestamp);
        self.segment_appended = self.segment_appended.max(stored.appended);
        self.unsynced = if sync { 0 } else { self.unsynced + i64::from(header.record_count) };
        self.bytes_end += stored.bytes.len() as u64;
        self.next = stored.end_offset;
        self.producers.note(header);
        self.tail.push(stored);
    }

    fn segment_bytes(&self) -> u64 {
        self.bytes_end - self.segment.bytes_before
    }

    fn take_snapshot(&self) -> Snapshot {
        let mut state = Vec::new();
        self.producers.encode(&mut state);
        Snapshot { at: self.next, state }
    }

    /// Takes note that everything below `end` is committed.
    pub fn on_committed(&mut self, end: Offset) {
        assert!(end <= self.next, "committed to {end}, but only appended to {}", self.next);
        self.committed = self.committed.max(end);
    }

    /// Whole batches from the one that holds `from` on, none that ends beyond `limit`, about `max_bytes` of them, with
    /// `min_one` one at least. `limit` must not be above [`Log::log_end_offset`].
    pub fn read(&self, from: Offset, limit: Offset, max_bytes: usize, min_one: bool) -> Read {
        if from < self.log_start || from > self.next {
            return Read::OutOfRange;
        }
        let limit = limit.min(self.committed);
        if from >= limit {
            return Read::Batches(Batches::new());
        }
        let wanted = Wanted { from, limit, max_bytes, min_one };
        match self.tail.read(wanted) {
            Some(batches) => Read::Batches(batches),
            None => Read::Cold(ColdRead { store: Arc::clone(&self.store), replica: self.replica.id(), wanted }),
        }
    }

    /// A search for the first record below `limit` with a timestamp of at least `target`.
    pub fn lookup_timestamp(&self, target: Timestamp, limit: Offset) -> TimestampLookup {
        self.lookup(Target::AtLeast(target), limit)
    }

    /// A search for the first of the records with the largest timestamp (KIP-734).
    pub fn lookup_max_timestamp(&self, limit: Offset) -> TimestampLookup {
        self.lookup(Target::Largest, limit)
    }

    fn lookup(&self, target: Target, limit: Offset) -> TimestampLookup {
        TimestampLookup {
            store: Arc::clone(&self.store),
            replica: Arc::clone(&self.replica),
            target,
            log_start: self.log_start,
            limit: limit.min(self.committed),
        }
    }

    /// The leader epochs of its batches, pending ones included.
    pub fn leader_epochs(&self) -> &LeaderEpochs {
        &self.epochs
    }

    /// Forgets producers that were silent for `producer.id.expiration.ms`.
    pub fn expire_producers(&mut self, now: Timestamp, expiration_ms: i64) {
        self.producers.expire(now, expiration_ms);
    }

    /// Notes the high watermark, and the producers when there is news of them: the next start has less to replay.
    /// Called every few seconds and before the store is closed.
    pub fn checkpoint(&mut self, high_watermark: Offset) -> Result<bool, StoreError> {
        self.tail.trim();
        let idle = self.committed == self.next && self.snapshot.at != self.next;
        if high_watermark == self.checkpointed && !idle {
            return Ok(false);
        }
        let snapshot = idle.then(|| self.take_snapshot());
        self.store.change(&self.replica, Change::Checkpoint { high_watermark, snapshot })?;
        if idle {
            self.snapshot = self.mark_here();
        }
        self.checkpointed = high_watermark;
        Ok(true)
    }

    /// The mark of a snapshot that was taken here.
    fn mark_here(&self) -> SnapshotMark {
        SnapshotMark { at: self.next, bytes_end: self.bytes_end, generation: self.store.generation() }
    }

    /// Moves the log start offset forward; everything below is gone at once, its space a little later.
    pub fn advance_log_start(&mut self, to: Offset) -> Result<(), StoreError> {
        if to <= self.log_start {
            return Ok(());
        }
        assert!(to <= self.committed, "a log start of {to} beyond the committed end {}", self.committed);
        // The newest snapshot must survive what it was made of. Pending appends may be in it: they are queued before.
        let due = self.snapshot.at < to;
        let snapshot = due.then(|| self.take_snapshot());
        // When the store refuses, nothing has changed here.
        self.store.change(&self.replica, Change::LogStart { to, snapshot })?;
        if due {
            self.snapshot = self.mark_here();
        }
        self.log_start = to;
        self.epochs.truncate_from_start(to);
        self.oldest = None;
        self.tail.trim();
        Ok(())
    }
}

impl From<AppendRefused> for ErrorCode {
    /// A queue that is full is no fault of the disk: whoever sent the batch tries again, and nothing was appended.
    fn from(refused: AppendRefused) -> Self {
        match refused {
            AppendRefused::Failed(error) => error.into(),
            AppendRefused::Full => Self::REQUEST_TIMED_OUT,
        }
    }
}

fn encode_epochs(epochs: &LeaderEpochs) -> Vec<u8> {
    let mut encoded = Vec::new();
    epochs.encode(&mut encoded);
    encoded
}
