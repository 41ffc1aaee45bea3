//! The store: RocksDB in a log directory, used as a commit log. The only place that names rocksdb.
//!
//! Everything that changes it passes through one queue to one committer, which writes what is queued as one batch and
//! then tells each partition's listener how far its log reaches. It has a thread of its own; a thread that queued
//! little in a [`Store::burst`] borrows it for one write, if nobody has it, which saves two wake-ups. A second thread
//! syncs for those who ask. Reads never pass through the queue. There is no retry here: a write or a sync that failed
//! takes the store offline, every listener is told, and nothing is acknowledged any more.
//!
//! It knows nothing of tokio, topics' configurations, or the record format beyond three header fields of a batch.

mod commit;
mod committer;
mod control;
mod dead;
mod directory;
mod families;
mod identity;
pub mod keys;
mod memory;
pub mod metadata;
mod operation;
mod queue;
mod read;
mod recover;
mod replica;
pub mod rows;
mod syncer;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use parking_lot::{Mutex, RwLock};

pub use identity::{Identity, MetadataMark};
pub use keys::{Generation, ReplicaId};
pub use operation::{Append, AppendExtras, Change, Snapshot, StoredBatch};
pub use read::OffsetRange;
pub use replica::Replica;
pub use rows::{ReplicaRow, Segment, SpanRow};

use crate::error::StoreError;
use crate::types::{Offset, Timestamp, TopicId};
use committer::Committer;
use directory::DirectoryLock;
use families::Database;
use operation::{Answer, Operation};
use queue::CommitQueue;
use syncer::Syncer;

/// How a store is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StoreOptions {
    /// `ottla.tail.cache.bytes`: the batches appended last are kept in memory up to so many bytes.
    pub tail_cache_bytes: usize,
    /// The size at which the open generation is closed and flushed.
    pub generation_bytes: usize,
    /// How many bytes may wait in the commit queue before [`Store::has_room`] says no.
    pub queue_bytes: usize,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { tail_cache_bytes: 64 << 20, generation_bytes: 32 << 20, queue_bytes: 32 << 20 }
    }
}

impl StoreOptions {
    /// How far a generation may grow when the flushes before it are late: appends slow down on the way there.
    fn generation_limit(&self) -> usize {
        self.generation_bytes + self.generation_bytes / 2
    }

    /// A memtable has room for more than a generation: one that fills first would break the plan.
    fn memtable_bytes(&self) -> usize {
        2 * self.generation_bytes
    }
}

/// What a start found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Recovered {
    /// True when an acknowledged suffix may be gone: the machine stopped, or recovery did not reach the end.
    pub unclean: bool,
    /// What an operator should read.
    pub sentences: Vec<String>,
}

/// What the store tells the owner of a log. Called on the store's own threads, or at the end of a [`Store::burst`], while
/// nobody else can commit; both must be quick and must not wait for the store.
pub trait CommitListener: Send + Sync {
    /// Everything below `end` is committed (and synced, where the append asked for that).
    fn committed(&self, end: Offset);
    /// Nothing that was pending will be committed.
    fn failed(&self, error: &StoreError);
}

/// Why an append was not queued.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AppendRefused {
    /// The store has failed or stopped.
    #[error(transparent)]
    Failed(#[from] StoreError),
    /// Far more waits to be committed than [`Store::has_room`] allows: to be tried again.
    #[error("the commit queue is full")]
    Full,
}

/// Counters for metrics, all since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Writes to RocksDB.
    pub commits: AtomicU64,
    /// Record batches written.
    pub batches: AtomicU64,
    /// Bytes of those batches.
    pub bytes: AtomicU64,
    /// Syncs of the write-ahead log.
    pub syncs: AtomicU64,
    /// Generations closed.
    pub rolls: AtomicU64,
    /// Milliseconds that appends were slowed down or stopped for late flushes.
    pub stalled_ms: AtomicU64,
}

/// Told once why the store is offline.
type OfflineListener = Box<dyn FnOnce(&StoreError) + Send>;

/// What the store's threads and handles share.
struct Shared {
    database: Database,
    queue: CommitQueue,
    syncer: Syncer,
    replicas: RwLock<HashMap<ReplicaId, Arc<Replica>>>,
    offline: OnceLock<StoreError>,
    when_offline: Mutex<Vec<OfflineListener>>,
    stop: AtomicU8,
    generation: AtomicU32,
    counters: Counters,
    options: StoreOptions,
    dir: PathBuf,
    /// What this start found ([`Recovered::unclean`]).
    unclean: bool,
    /// The id of the metadata that this process serves, once it is known.
    metadata: OnceLock<uuid::Uuid>,
    /// True when the directory has noted that id as its own.
    noted: AtomicBool,
    /// Let go last: after the database is closed.
    _lock: DirectoryLock,
}

/// The threads run.
const RUN: u8 = 0;
/// The threads end after what is queued.
const ABANDON: u8 = 1;
/// The same, and the store is flushed and marked as cleanly stopped.
const CLOSE: u8 = 2;
/// They have ended.
const GONE: u8 = 3;

impl Shared {
    fn check_online(&self) -> Result<(), StoreError> {
        self.offline.get().map_or(Ok(()), |error| Err(error.clone()))
    }

    /// The committer has gone: whatever is pushed from now on is refused, by whoever pushed it.
    fn refuse_late(&self) {
        self.stop.store(GONE, Ordering::SeqCst);
        self.refuse_if_gone();
    }

    fn refuse_if_gone(&self) {
        if self.stop.load(Ordering::SeqCst) != GONE {
            return;
        }
        let error = self.stopped();
        while let Some(operation) = self.queue.pop() {
            control::refuse(operation, error.clone());
        }
    }

    fn stopped(&self) -> StoreError {
        StoreError::new(format!("the store in {} has stopped", self.dir.display()))
    }

    /// The first failure counts; it is for good.
    fn go_offline(&self, error: &StoreError) {
        if self.offline.set(error.clone()).is_ok() {
            tracing::error!(%error, dir = %self.dir.display(), "the log directory is offline");
            self.tell_offline();
        }
    }

    fn tell_offline(&self) {
        if let Some(error) = self.offline.get() {
            let told = std::mem::take(&mut *self.when_offline.lock());
            told.into_iter().for_each(|tell| tell(error));
        }
    }
}

/// A log directory.
pub struct Store {
    shared: Arc<Shared>,
    committer: Arc<Mutex<Committer>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Store {
    /// Opens a directory, making it if it is missing, replays what the last run left, and starts the threads.
    pub fn open(dir: &Path, options: StoreOptions) -> Result<(Arc<Self>, Recovered), StoreError> {
        let lock = DirectoryLock::take(dir)?;
        memory::keep_pages();
        let direct_io = directory::supports_direct_io(dir);
        let (sequence, noted) = directory::SequenceFile::open(dir)?;
        let database = Database::open(dir, &options, direct_io)?;
        let found = recover::recover(&database, noted)?;
        let shared = Arc::new(Shared {
            database,
            queue: CommitQueue::new(options.queue_bytes),
            syncer: Syncer::default(),
            replicas: RwLock::new(found.replicas),
            offline: OnceLock::new(),
            when_offline: Mutex::new(Vec::new()),
            stop: AtomicU8::new(RUN),
            generation: AtomicU32::new(found.generations.open),
            counters: Counters::default(),
            options,
            dir: dir.to_owned(),
            unclean: found.recovered.unclean,
            metadata: OnceLock::new(),
            noted: AtomicBool::new(false),
            _lock: lock,
        });
        let committer = Committer::new(Arc::clone(&shared), sequence, found.generations, found.next_replica);
        let committer = Arc::new(Mutex::new(committer));
        let (committing, syncing, held) = (Arc::clone(&shared), Arc::clone(&shared), Arc::clone(&committer));
        let threads = vec![
            spawn("ottla-commit", move || committer::run(&committing, &held))?,
            spawn("ottla-sync", move || syncer::run(&syncing))?,
        ];
        Ok((Arc::new(Self { shared, committer, threads: Mutex::new(threads) }), found.recovered))
    }

    fn put_local(&self, rows: Vec<(&'static str, String)>) -> Result<(), StoreError> {
        self.ask(|answer| Operation::Local { rows, answer })
    }

    /// The replicas that are here, by their rows.
    pub fn replicas(&self) -> Vec<ReplicaRow> {
        let replicas: Vec<_> = self.shared.replicas.read().values().cloned().collect();
        replicas.iter().map(|replica| replica.row()).collect()
    }

    /// One replica, if it exists.
    pub fn replica(&self, id: ReplicaId) -> Option<Arc<Replica>> {
        self.shared.replicas.read().get(&id).cloned()
    }

    /// Makes replicas as an image of that version says, in one write. Waits for it.
    pub fn create_replicas(&self, partitions: &[(TopicId, i32)], version: u64) -> Result<Vec<ReplicaId>, StoreError> {
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let partitions = partitions.to_vec();
        let rows = self.ask(|answer| Operation::Create { partitions, version, answer })?;
        Ok(rows.iter().map(|row| row.replica).collect())
    }

    /// Forgets replicas and everything in them, as an image of that version says. Waits for it. Their disk space returns
    /// a little later. That they go is noted before the first is gone ([`Store::was_deleting`]).
    pub fn delete_replicas(&self, replicas: &[ReplicaId], version: u64) -> Result<(), StoreError> {
        if replicas.is_empty() {
            return Ok(());
        }
        self.note_deletion(replicas)?;
        for &replica in replicas {
            self.ask(|answer| Operation::Delete { replica, version, answer })?;
        }
        Ok(())
    }

    /// Queues a batch. Never waits; the listener hears of it. A refusal means that nothing was queued.
    pub fn append(&self, append: Append) -> Result<(), AppendRefused> {
        self.check_running()?;
        let operation = Operation::Append(append);
        if self.shared.queue.is_overfull(operation.cost()) {
            return Err(AppendRefused::Full);
        }
        self.shared.queue.push(operation);
        Ok(())
    }

    /// Runs `work`, and commits what it queued before this returns, or soon after on the committer's thread: when it is
    /// more than a little, or someone else commits, or something in it may wait. Never under a lock that a commit
    /// listener takes.
    pub fn burst<T>(&self, work: impl FnOnce() -> T) -> T {
        let queue = &self.shared.queue;
        let burst = queue.burst();
        let done = work();
        burst.end();
        // Whoever holds the committer looks at the queue after letting go, so a queue that is not empty is somebody's.
        if !queue.is_empty()
            && let Some(mut committer) = self.committer.try_lock()
        {
            committer.commit_little();
            drop(committer);
            queue.wake_waiters();
            if !queue.is_empty() {
                queue.wake();
            }
        }
        done
    }

    /// Queues a change of a replica, without waiting for it. Whoever makes many calls [`Store::pass`] in between.
    pub fn change(&self, replica: &Arc<Replica>, change: Change) -> Result<(), StoreError> {
        self.check_running()?;
        self.shared.queue.push(Operation::Change { replica: Arc::clone(replica), change, answer: None });
        Ok(())
    }

    /// Waits until everything that is queued by now is done. Never under a lock that a commit listener takes.
    pub fn pass(&self) -> Result<(), StoreError> {
        self.ask(|answer| Operation::Pass { answer })
    }

    /// Queues a change of a replica and waits for it. Never under a lock that a commit listener takes.
    pub fn change_and_wait(&self, replica: &Arc<Replica>, change: Change) -> Result<(), StoreError> {
        let replica = Arc::clone(replica);
        self.ask(|answer| Operation::Change { replica, change, answer: Some(answer) })
    }

    fn check_running(&self) -> Result<(), StoreError> {
        self.shared.check_online()?;
        // What slips in behind this check is never answered: the process is ending, and a refusal here would call a
        // listener under its own partition's lock.
        if self.shared.stop.load(Ordering::Relaxed) == GONE { Err(self.shared.stopped()) } else { Ok(()) }
    }

    fn ask<T>(&self, operation: impl FnOnce(Answer<T>) -> Operation) -> Result<T, StoreError> {
        self.shared.check_online()?;
        let (answer, answered) = sync_channel(1);
        self.shared.queue.push(operation(answer));
        // It is waited for, in a burst too.
        self.shared.queue.wake();
        self.shared.refuse_if_gone();
        answered.recv().map_err(|_| self.shared.stopped())?
    }

    /// False when the commit queue is full: whoever takes requests in should stop and ask [`Store::when_room`].
    pub fn has_room(&self) -> bool {
        self.shared.queue.has_room()
    }

    /// Calls `wake` once the commit queue has room: at once, or from the committer's thread. It must be quick.
    pub fn when_room(&self, wake: impl FnOnce() + Send + 'static) {
        self.shared.queue.when_room(Box::new(wake));
    }

    /// What took the store offline, if anything has.
    pub fn offline(&self) -> Option<&StoreError> {
        self.shared.offline.get()
    }

    /// Calls `tell` once when the store goes offline, on the thread that found out; at once if it is. It must be quick.
    pub fn when_offline(&self, tell: impl FnOnce(&StoreError) + Send + 'static) {
        self.shared.when_offline.lock().push(Box::new(tell));
        self.shared.tell_offline();
    }

    /// Bytes that the file system of the directory has left for this process, once what waits in memory is written:
    /// records that are only in the write-ahead log and a memtable become a file beside it.
    pub fn free_bytes(&self) -> Result<u64, StoreError> {
        let waiting = self.shared.database.unflushed_bytes()? + self.shared.queue.bytes() as u64;
        Ok(directory::free_bytes(&self.shared.dir)?.saturating_sub(waiting))
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.shared.dir
    }

    /// Counters for metrics.
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// The open generation.
    pub fn generation(&self) -> Generation {
        self.shared.generation.load(Ordering::Relaxed)
    }

    /// Walks the batches of a range in order, as long as `visit` says so. Blocks. Each batch has passed its CRC and follows
    /// the one before; one that should be there and is not is an error. What retention or a deletion takes away meanwhile
    /// is not: then the walk may end early.
    pub fn visit_batches(
        &self,
        id: ReplicaId,
        range: OffsetRange,
        visit: &mut dyn FnMut(Offset, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let Some(replica) = self.replica(id) else { return Ok(()) };
        let limit = range.limit.min(replica.end());
        let walked = self.shared.database.visit_batches(id, OffsetRange { limit, ..range }, visit);
        // The log start moves before the rows and files below it go.
        let is_gone = || replica.log_start() > range.from || self.replica(id).is_none();
        match walked {
            Err(error) if !is_gone() => Err(error),
            _ => Ok(()),
        }
    }

    /// Walks the spans of a replica in order, the open one as far as it has grown. Blocks.
    pub fn visit_spans(
        &self,
        replica: &Replica,
        visit: &mut dyn FnMut(&SpanRow) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let open = replica.open_span();
        self.shared.database.visit_spans(replica.id(), replica.first_span(), &mut |span| {
            visit(open.as_ref().filter(|open| open.first == span.first).unwrap_or(span))
        })
    }

    /// Where in a span a walk for the first batch with a timestamp of at least `target` may begin. Blocks.
    pub fn timestamp_start(&self, id: ReplicaId, span: &SpanRow, target: Timestamp) -> Result<Offset, StoreError> {
        self.shared.database.timestamp_start(id, span, target)
    }

    /// The newest producer snapshot at or below an offset, with the offset that it stands for. Blocks.
    pub fn snapshot_below(&self, id: ReplicaId, at: Offset) -> Result<Option<(Offset, Vec<u8>)>, StoreError> {
        self.shared.database.snapshot_below(id, at)
    }

    /// Commits what is queued, flushes, marks the stop as clean and ends the threads. Later operations are refused.
    pub fn close(&self) {
        self.end(CLOSE);
    }

    fn end(&self, how: u8) {
        let threads = std::mem::take(&mut *self.threads.lock());
        if threads.is_empty() {
            return;
        }
        self.shared.stop.store(how, Ordering::Release);
        self.shared.queue.rouse();
        for thread in threads {
            let name = thread.thread().name().unwrap_or_default().to_owned();
            // The last handle may be let go by a listener, on one of the store's own threads: that one ends by itself.
            let is_this = thread.thread().id() == std::thread::current().id();
            if !is_this && thread.join().is_err() {
                tracing::error!(thread = name, "a thread of the store panicked");
            }
            // The committer goes first: it still hands work to the syncer.
            self.shared.syncer.stop();
        }
    }
}

impl Drop for Store {
    /// A store that was not closed stops as after a crash: the next start replays the open generation.
    fn drop(&mut self) {
        self.end(ABANDON);
    }
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StoreError> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(body)
        .map_err(|error| StoreError::new(format!("the thread {name} cannot be started: {error}")))
}

/// Answers a waiting thread. It may have gone; then nobody needs the answer.
fn reply<T>(answer: &Answer<T>, result: Result<T, StoreError>) {
    if answer.send(result).is_err() {
        tracing::debug!("nobody waits for an answer of the store any more");
    }
}
