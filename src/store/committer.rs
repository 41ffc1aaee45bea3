//! The committer: whoever holds it writes, and nobody else does.
//!
//! It drains the queue into one write (about half a mebibyte at most), writes, and then publishes each partition's new
//! end once. Many small appends so become few writes without anyone waiting for company. Its own thread does this, and
//! all that may wait: between two writes it rolls the generation, closing the open spans and switching the memtables,
//! and lets the flush run behind. When flushes are late it slows down a little at a time while the open generation still
//! has room, so that no single append waits long. A thread that has queued little, while nobody commits, holds it for
//! one write instead of waking the thread ([`Committer::commit_little`]).

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;
use rocksdb::WriteOptions;

use super::commit::{Commit, Generations};
use super::directory::SequenceFile;
use super::operation::{Append, Operation, StoredBatch};
use super::queue::COMMIT_BYTES;
use super::replica::Replica;
use super::syncer::Publication;
use super::{ABANDON, CLOSE, CommitListener, RUN, Shared, recover};
use crate::env;
use crate::error::StoreError;

/// Bytes of a write and a memtable beside each record batch: key, lengths, the list's node.
const ROW_BYTES: usize = 48;
/// The longest single delay while the flushes are late but the open generation has room.
const PACE_MAX: Duration = Duration::from_millis(8);
/// How often a committer that must wait for a flush looks again.
const FLUSH_POLL: Duration = Duration::from_millis(1);
/// How long an idle committer sleeps when nobody wakes it.
const IDLE: Duration = Duration::from_secs(3600);

/// The state of the committer's thread.
pub struct Committer {
    pub(super) shared: Arc<Shared>,
    sequence: SequenceFile,
    pub(super) generations: Generations,
    generation_bytes: usize,
    /// Replicas with a span in the open generation.
    open: Vec<Arc<Replica>>,
    pub(super) next_replica: u64,
    /// The version of the image that made or deleted replicas last.
    pub(super) image_version: u64,
    commit: u64,
    appends: VecDeque<Append>,
    publications: Vec<Publication>,
    tail: Tail,
    plain: WriteOptions,
}

/// Keeps the batches appended last alive; logs point at them weakly.
struct Tail {
    batches: VecDeque<Arc<StoredBatch>>,
    bytes: usize,
    limit: usize,
}

impl Tail {
    fn push(&mut self, batch: Arc<StoredBatch>) {
        self.bytes += batch.cost();
        self.batches.push_back(batch);
        while self.bytes > self.limit
            && let Some(oldest) = self.batches.pop_front()
        {
            self.bytes -= oldest.cost();
        }
    }
}

impl Committer {
    /// A committer that goes on where recovery ended.
    pub fn new(shared: Arc<Shared>, sequence: SequenceFile, generations: Generations, next_replica: u64) -> Self {
        let limit = shared.options.tail_cache_bytes;
        Self {
            shared,
            sequence,
            generations,
            generation_bytes: 0,
            open: Vec::new(),
            next_replica,
            image_version: 0,
            commit: 0,
            appends: VecDeque::new(),
            publications: Vec::new(),
            tail: Tail { batches: VecDeque::new(), bytes: 0, limit },
            plain: WriteOptions::default(),
        }
    }

    /// Ends the store in one of its two ways, on its own thread. Nobody commits after this.
    fn end(&mut self, how: u8) {
        assert!(how == CLOSE || how == ABANDON, "a store ends in one of two ways");
        // What was pushed before the stop was asked for is in the queue by now.
        while self.drain() {}
        if how == CLOSE
            && let Err(error) = self.close()
        {
            self.shared.go_offline(&error);
        }
        self.shared.refuse_late();
    }

    /// Does what is queued, up to one write's worth. False when there was nothing.
    fn drain(&mut self) -> bool {
        self.guarded(|committer| match committer.take_appends() {
            None if committer.appends.is_empty() => false,
            Some(control) if committer.appends.is_empty() => {
                committer.control(control);
                true
            }
            control => {
                if let Some(control) = control {
                    committer.shared.queue.put_back(control);
                }
                committer.commit_taken();
                true
            }
        })
    }

    /// Commits what is queued on the thread of whoever queued it, if it is little and nothing in it may wait.
    pub(super) fn commit_little(&mut self) {
        let shared = &self.shared;
        let is_full = self.generation_bytes >= shared.options.generation_bytes;
        if is_full || shared.queue.bytes() > COMMIT_BYTES || shared.stop.load(Ordering::Acquire) != RUN {
            return;
        }
        self.guarded(|committer| {
            if let Some(control) = committer.take_appends() {
                committer.shared.queue.put_back(control);
            }
            if !committer.appends.is_empty() {
                committer.commit_taken();
            }
            true
        });
    }

    /// A defect met here leaves the memory's and the disk's views apart: the store goes offline, and who waits is told.
    pub(super) fn guarded(&mut self, work: impl FnOnce(&mut Self) -> bool) -> bool {
        std::panic::catch_unwind(AssertUnwindSafe(|| work(self))).unwrap_or_else(|_| {
            let dir = self.shared.dir.display();
            self.fail_taken(&StoreError::new(format!("a defect of the committer of {dir}: the panic is in the log")));
            true
        })
    }

    /// Takes appends from the queue, up to one write's worth or to what is no append; gives the latter.
    pub(super) fn take_appends(&mut self) -> Option<Operation> {
        let mut bytes = 0;
        while bytes < COMMIT_BYTES {
            match self.shared.queue.pop() {
                Some(Operation::Append(append)) => {
                    bytes += append.cost();
                    self.appends.push_back(append);
                }
                other => return other,
            }
        }
        None
    }

    fn commit_taken(&mut self) {
        if let Err(error) = self.commit_appends() {
            self.fail_taken(&error);
        }
        self.publish();
    }

    fn fail_taken(&mut self, error: &StoreError) {
        self.shared.go_offline(error);
        for publication in self.publications.drain(..) {
            tell(&*publication.listener, |listener| listener.failed(error));
        }
        for append in self.appends.drain(..) {
            tell(&*append.listener, |listener| listener.failed(error));
        }
    }

    fn commit_appends(&mut self) -> Result<(), StoreError> {
        self.shared.check_online()?;
        self.make_room()?;
        self.commit += 1;
        let shared = Arc::clone(&self.shared);
        let bytes: usize = self.appends.iter().map(|append| append.batch.bytes.len() + ROW_BYTES).sum();
        let counters = &shared.counters;
        counters.batches.fetch_add(self.appends.len() as u64, Ordering::Relaxed);
        counters.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        let mut commit = Commit::with_records(&shared.database, bytes);
        let mut sync_by = None;
        while let Some(append) = self.appends.pop_front() {
            let flush_ms = self.add(append, &mut commit);
            sync_by = sync_by.into_iter().chain(flush_ms).min();
        }
        self.generations.write(&mut commit);
        // Proves that the crash test of compat/ can fail.
        #[cfg(feature = "mutation-acknowledges-before-write")]
        {
            self.publish();
            std::thread::park_timeout(std::time::Duration::from_millis(2));
        }
        self.write(commit)?;
        self.generation_bytes += bytes;
        // After the write: a sync that began before it would count for it.
        if let Some(milliseconds) = sync_by {
            shared.syncer.sync_by(env::tick().plus_ms(milliseconds));
        }
        Ok(())
    }

    /// Puts one append into the write. Within how many milliseconds it is to be synced, if it is.
    fn add(&mut self, mut append: Append, commit: &mut Commit<'_>) -> Option<u64> {
        let id = append.replica.id();
        let generation = self.generations.open;
        let extras = append.extras.take().map(|extras| *extras).unwrap_or_default();
        let (number, next) = (self.commit, self.publications.len());
        let added = append.replica.with_state(|state| {
            if state.deleted {
                return None;
            }
            let slot = if state.seen.0 == number { Some(state.seen.1) } else { None };
            state.seen = (number, slot.unwrap_or(next));
            let rewrite = extras.epochs.is_some() || extras.snapshot.is_some();
            if let Some(epochs) = extras.epochs {
                state.row.epochs = epochs;
            }
            if let Some(snapshot) = &extras.snapshot {
                commit.put_snapshot(&mut state.row, snapshot);
            }
            if rewrite {
                commit.put_replica(&state.row);
            }
            Some((state.grow(&append.batch, generation, extras.segment), slot))
        });
        let Some((grown, slot)) = added else {
            let error = StoreError::new(format!("replica {id} was deleted"));
            tell(&*append.listener, |listener| listener.failed(&error));
            return None;
        };
        if let Some(closed) = &grown.closed {
            commit.put_span(id, closed);
            self.generations.add(closed);
        }
        if let Some(opened) = &grown.opened {
            commit.put_span(id, opened);
            // Closed and opened again for a new segment: it is in the list.
            if grown.closed.is_none() {
                self.open.push(Arc::clone(&append.replica));
            }
        }
        if let Some(span) = &grown.timestamp_row {
            commit.put_timestamp(id, span.end, span.max_timestamp);
        }
        commit.put_batch(generation, id, &append.batch);
        self.note_publication(slot, append);
        extras.flush_ms
    }

    fn note_publication(&mut self, slot: Option<usize>, append: Append) {
        let end = append.batch.end_offset;
        self.tail.push(append.batch);
        match slot {
            Some(slot) => {
                let publication = &mut self.publications[slot];
                publication.end = end;
                publication.sync |= append.sync;
                publication.listener = append.listener;
            }
            None => self.publications.push(Publication {
                replica: append.replica,
                end,
                listener: append.listener,
                sync: append.sync,
            }),
        }
    }

    /// Writes, and notes how far.
    pub(super) fn write(&mut self, commit: Commit<'_>) -> Result<(), StoreError> {
        commit.write(&self.plain)?;
        self.shared.counters.commits.fetch_add(1, Ordering::Relaxed);
        self.sequence.note(self.shared.database.sequences())
    }

    /// Tells everyone whose log grew, each once; those that wait for a sync, and those behind them, a little later.
    fn publish(&mut self) {
        let mut later = Vec::new();
        for publication in self.publications.drain(..) {
            if publication.sync || publication.replica.syncing.load(Ordering::Acquire) > 0 {
                later.push(publication);
            } else {
                tell(&*publication.listener, |listener| listener.committed(publication.end));
            }
        }
        if !later.is_empty() {
            self.shared.syncer.publish(&mut later);
        }
    }

    /// Rolls when the generation is full. While flushes are late it slows down, and at the limit it waits.
    fn make_room(&mut self) -> Result<(), StoreError> {
        let (full, limit) = (self.shared.options.generation_bytes, self.shared.options.generation_limit());
        if self.generation_bytes < full {
            return Ok(());
        }
        if self.shared.database.may_roll()? {
            return self.roll();
        }
        let started = env::tick();
        if self.generation_bytes < limit {
            let late = (self.generation_bytes - full) as f64 / (limit - full) as f64;
            std::thread::park_timeout(PACE_MAX.mul_f64(late * late));
        } else {
            self.wait_for_flush()?;
            self.roll()?;
        }
        self.shared.counters.stalled_ms.fetch_add(env::tick().since_ms(started), Ordering::Relaxed);
        Ok(())
    }

    /// Waits until there is room for another memtable. A flush that failed makes none: then the store has failed.
    fn wait_for_flush(&self) -> Result<(), StoreError> {
        while !self.shared.database.may_roll()? {
            self.shared.check_online()?;
            self.shared.database.check_flushes()?;
            if self.shared.stop.load(Ordering::Acquire) == ABANDON {
                return Err(self.shared.stopped());
            }
            std::thread::park_timeout(FLUSH_POLL);
        }
        Ok(())
    }

    /// Closes the open spans and the generation, and switches the memtables.
    pub(super) fn roll(&mut self) -> Result<(), StoreError> {
        let shared = Arc::clone(&self.shared);
        let mut commit = Commit::new(&shared.database);
        for replica in std::mem::take(&mut self.open) {
            replica.with_state(|state| {
                if let Some(span) = state.close() {
                    commit.put_span(replica.id(), &span);
                    commit.put_replica(&state.row);
                    self.generations.add(&span);
                }
            });
        }
        self.generations.roll(self.generation_bytes as u64);
        self.generations.write(&mut commit);
        commit.put_open_generation(self.generations.open);
        self.write(commit)?;
        self.generation_bytes = 0;
        shared.generation.store(self.generations.open, Ordering::Relaxed);
        shared.counters.rolls.fetch_add(1, Ordering::Relaxed);
        shared.database.flush_records(false)?;
        shared.syncer.sync_rows();
        self.unlink_dead();
        Ok(())
    }

    /// Rolls now, waiting for a flush if it must, unless the open generation is empty.
    pub(super) fn roll_now(&mut self) -> Result<(), StoreError> {
        if self.generation_bytes == 0 {
            return Ok(());
        }
        self.wait_for_flush()?;
        self.roll()
    }

    /// Hands dead generations to the syncer: it drops their files after a sync.
    pub(super) fn unlink_dead(&self) {
        let dead = self.generations.dead();
        if !dead.is_empty() {
            self.shared.syncer.unlink(dead);
        }
    }

    fn close(&mut self) -> Result<(), StoreError> {
        self.shared.check_online()?;
        self.roll_now()?;
        let shared = Arc::clone(&self.shared);
        // The mark says that everything is on the disk, so everything is there first.
        shared.database.flush_records(true)?;
        shared.database.sync()?;
        let mut commit = Commit::new(&shared.database);
        commit.put_local(recover::STOPPED, recover::CLEAN);
        self.write(commit)?;
        shared.database.flush_rows()?;
        shared.database.sync()
    }
}

/// The body of the committer's thread: until the store ends.
pub(super) fn run(shared: &Shared, committer: &Mutex<Committer>) {
    shared.queue.attach_committer();
    // Generations that died in the last run may have left files.
    committer.lock().unlink_dead();
    loop {
        if committer.lock().drain() {
            shared.queue.wake_waiters();
            continue;
        }
        match shared.stop.load(Ordering::Acquire) {
            RUN => shared.queue.sleep(IDLE),
            how => return committer.lock().end(how),
        }
    }
}

/// Calls a listener. A bug in one partition's owner must not stop the store for all the others.
pub(super) fn tell(listener: &dyn CommitListener, call: impl FnOnce(&dyn CommitListener)) {
    if std::panic::catch_unwind(AssertUnwindSafe(|| call(listener))).is_err() {
        tracing::error!("a commit listener panicked: its partition hears nothing more of this commit");
    }
}
