//! Shell. A fetch at work: it looks at the partitions that its session says are pending, waits, looks again at those
//! that changed, and makes the answer.
//!
//! A session stays registered at its partitions between fetches, so a fetch costs what changed and not what it watches.
//! While a fetch works, its session belongs to it alone; a fetch that is dropped (its connection is gone) puts the
//! session back. It must never hold the session cache's lock and a partition's lock at once.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use super::Replicas;
use super::fetch_session::{
    Answer, NO_SESSION, NewSession, Session, SessionCache, TopicAnswers, TopicKey, TopicRef, Wanted,
};
use super::partition::{FetchRead, Partition, ReadAt, Watcher};
use super::wait::{DirtyQueue, WatchPlace};
use crate::env;
use crate::error::{ErrorCode, StoreError};
use crate::log::ColdRead;
use crate::metrics::Carried;
use crate::types::Tick;

/// Partitions that all fetches which wait may hold together, each some hundreds of bytes. A fetch beyond it does not wait.
const MAX_WAITING: usize = 1_000_000;

/// All fetch sessions of this broker.
pub struct FetchSessions {
    cache: Mutex<SessionCache<Box<LiveSession>>>,
    /// Partitions that waiting fetches hold.
    waiting: AtomicUsize,
}

/// The partitions of a fetch that waits, counted until this is dropped.
struct Held {
    sessions: Arc<FetchSessions>,
    partitions: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.sessions.waiting.fetch_sub(self.partitions, Relaxed);
    }
}

/// A session and its registrations.
struct LiveSession {
    session: Session,
    queue: Arc<DirtyQueue>,
    /// By slot.
    places: Vec<Option<Place>>,
}

/// A partition that a session has found, and where it is registered there.
struct Place {
    partition: Arc<Partition>,
    watch: Option<WatchPlace>,
}

impl Place {
    fn leave(self) {
        if let Some(watch) = self.watch {
            self.partition.unwatch(watch);
        }
    }
}

impl Drop for LiveSession {
    fn drop(&mut self) {
        for place in self.places.drain(..).flatten() {
            place.leave();
        }
    }
}

/// How much a fetch may carry and how long it may wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Wait for this much.
    pub min_bytes: usize,
    /// Carry about this much at most, but one batch however large.
    pub max_bytes: usize,
    /// Wait no longer than this moment.
    pub deadline: Tick,
}

/// Whose session a fetch uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// Its own, for this fetch only.
    Sessionless,
    /// Its own, to be kept if there is room; true when topics are named by id.
    New(bool),
    /// The one of that id.
    Incremental(i32),
}

/// What a fetch answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fetched {
    /// The session to go on with, 0 for none.
    pub session_id: i32,
    /// The partitions.
    pub topics: Vec<TopicAnswers>,
}

/// A batch range to be read from files for a slot, and the answer it completes.
struct Cold {
    slot: u32,
    answer: Answer,
    read: ColdRead,
}

/// A fetch at work.
pub struct Fetching {
    sessions: Arc<FetchSessions>,
    replicas: Arc<Replicas>,
    limits: Limits,
    kind: Kind,
    live: Option<Box<LiveSession>>,
    cold: VecDeque<Cold>,
    /// The slot whose files are being read: it is neither pending nor answered, nor among the cold ones any more.
    reading: Option<u32>,
    /// What the answer carries by now, counted with what all connections have not sent.
    carried: Carried,
    /// From when it first had to wait.
    held: Option<Held>,
}

impl FetchSessions {
    /// Room for `slots` sessions (`max.incremental.fetch.session.cache.slots`).
    pub fn new(slots: i32) -> Arc<Self> {
        let slots = usize::try_from(slots).unwrap_or(0);
        Arc::new(Self { cache: Mutex::new(SessionCache::new(slots)), waiting: AtomicUsize::new(0) })
    }

    /// Room for a fetch over so many partitions to wait.
    fn hold(self: &Arc<Self>, partitions: usize) -> Option<Held> {
        let held = Held { sessions: Arc::clone(self), partitions };
        let waiting = self.waiting.fetch_add(partitions, Relaxed) + partitions;
        (waiting <= MAX_WAITING).then_some(held)
    }

    /// Closes a session, if there is one of that id.
    pub fn close(&self, id: i32) {
        let closed = self.cache.lock().remove(id);
        // Dropped without the cache's lock: it takes the locks of partitions.
        drop(closed);
    }

    /// For metrics: sessions, the partitions they hold, and evictions so far.
    pub fn counts(&self) -> (usize, usize, u64) {
        let cache = self.cache.lock();
        (cache.len(), cache.partitions(), cache.evictions())
    }

    /// A fetch of all it names; `keep` asks for a session.
    pub fn full(self: &Arc<Self>, replicas: &Arc<Replicas>, by_id: bool, keep: bool, limits: Limits) -> Fetching {
        let live =
            LiveSession { session: Session::new(by_id), queue: Arc::new(DirtyQueue::default()), places: Vec::new() };
        let kind = if keep { Kind::New(by_id) } else { Kind::Sessionless };
        self.fetching(replicas, limits, kind, Box::new(live))
    }

    /// The next fetch of a session.
    pub fn incremental(
        self: &Arc<Self>,
        replicas: &Arc<Replicas>,
        (id, epoch): (i32, i32),
        by_id: bool,
        limits: Limits,
    ) -> Result<Fetching, ErrorCode> {
        let live = self.cache.lock().check_out(id, epoch, by_id, env::tick())?;
        Ok(self.fetching(replicas, limits, Kind::Incremental(id), live))
    }

    fn fetching(
        self: &Arc<Self>,
        replicas: &Arc<Replicas>,
        limits: Limits,
        kind: Kind,
        live: Box<LiveSession>,
    ) -> Fetching {
        let (sessions, replicas) = (Arc::clone(self), Arc::clone(replicas));
        Fetching {
            carried: replicas.begin_answer(),
            sessions,
            replicas,
            limits,
            kind,
            live: Some(live),
            cold: VecDeque::new(),
            reading: None,
            held: None,
        }
    }

    fn check_in(&self, id: i32, live: Box<LiveSession>) {
        let partitions = live.session.len();
        let closed = self.cache.lock().check_in(id, partitions, live);
        drop(closed);
    }

    fn keep(&self, by_id: bool, live: Box<LiveSession>) -> i32 {
        let new = NewSession { by_id, privileged: false, partitions: live.session.len() };
        let inserted = self.cache.lock().insert(env::tick(), new, env::random_u64(), live);
        // Whoever is not kept is dropped here, without the cache's lock.
        inserted.map_or(NO_SESSION, |(id, _evicted)| id)
    }
}

impl Fetching {
    /// The request names a partition.
    pub fn want(&mut self, topic: TopicRef<'_>, index: i32, wanted: Wanted) {
        self.live().session.want(topic, index, wanted);
    }

    /// The request drops a partition from its session.
    pub fn forget(&mut self, topic: TopicRef<'_>, index: i32) {
        let live = self.live();
        if let Some(slot) = live.session.forget(topic, index)
            && let Some(place) = live.places.get_mut(slot as usize).and_then(Option::take)
        {
            place.leave();
        }
    }

    /// Looks at what is pending. True when the answer can be made; otherwise [`Fetching::wait`].
    pub fn look(&mut self) -> bool {
        let full = !matches!(self.kind, Kind::Incremental(_));
        let replicas = Arc::clone(&self.replicas);
        let most = self.limits.max_bytes.min(replicas.answer_share());
        // What is still to be read from files has its room already.
        let mut reserved = 0;
        let live = self.live.as_mut().expect("a fetch has its session until it is answered");
        live.mark_dirty();
        for _ in 0..live.session.pending() {
            let Some(slot) = live.session.next_pending() else { break };
            let taken = live.session.answered_bytes() + reserved;
            let room = most.saturating_sub(taken);
            let min_one = taken == 0;
            if room == 0 && !min_one && !full {
                live.session.defer(slot);
                break;
            }
            match live.look_at(slot, &replicas, room, min_one) {
                FetchRead::Done(answer) => live.session.answer(slot, answer),
                FetchRead::Cold(answer, read) => {
                    let (_, _, wanted) = live.session.partition(slot);
                    reserved += room.min(usize::try_from(wanted.max_bytes).unwrap_or(0)).max(1);
                    self.cold.push_back(Cold { slot, answer, read });
                }
            }
        }
        self.carried.set(live.session.answered_bytes());
        self.cold.is_empty() && (self.is_satisfied() || !self.may_wait())
    }

    fn may_wait(&mut self) -> bool {
        if self.held.is_none() {
            let partitions = self.live().session.len();
            self.held = self.sessions.hold(partitions);
        }
        self.held.is_some()
    }

    fn is_satisfied(&self) -> bool {
        let Some(live) = &self.live else { return true };
        let session = &live.session;
        session.answered_bytes() >= self.limits.min_bytes
            || session.must_respond()
            || session.is_empty()
            || env::tick() >= self.limits.deadline
    }

    /// Waits until the answer can be made: for files, for something to happen, or for the time to be over.
    pub async fn wait(&mut self) {
        loop {
            while let Some(Cold { slot, answer, read }) = self.cold.pop_front() {
                self.reading = Some(slot);
                let (answer, read) = self.read_cold(answer, read).await;
                self.reading = None;
                self.live().session.answer(slot, answer);
                let carried = self.live().session.answered_bytes();
                self.carried.set(carried);
                drop(read);
            }
            if self.is_satisfied() || !self.may_wait() {
                return;
            }
            // A read from files may have left room for somebody whom the limits had put off.
            if self.live().session.pending() == 0 {
                let left = Duration::from_millis(self.limits.deadline.since_ms(env::tick()));
                let queue = Arc::clone(&self.live().queue);
                // Over or not: what changed is looked at, so that an answer at the last moment is not stale.
                let _over = tokio::time::timeout(left, queue.changed()).await;
            }
            if self.look() {
                return;
            }
        }
    }

    /// Reads files for an answer. What it takes is counted beforehand, for many may be read before one is looked at, and
    /// until the answer as a whole is counted.
    async fn read_cold(&self, mut answer: Answer, read: ColdRead) -> (Answer, Option<Carried>) {
        let permit = Arc::clone(&self.replicas.cold_reads).acquire_owned().await;
        let permit = permit.expect("the semaphore is never closed");
        // Asked again: others may have taken much since this read was planned.
        let share = self.replicas.answer_share().min(self.limits.max_bytes);
        let mut carried = self.replicas.begin_answer();
        carried.set(share);
        let read = read.at_most(share);
        let read = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            read.run().map(|batches| {
                carried.set(batches.iter().map(Bytes::len).sum());
                (batches, carried)
            })
        });
        match read.await.map_err(StoreError::from).and_then(|read| read) {
            Ok((batches, carried)) => {
                answer.fill(batches);
                (answer, Some(carried))
            }
            Err(error) => {
                tracing::error!(%error, "a fetch could not read");
                (Answer::error(ErrorCode::KAFKA_STORAGE_ERROR), None)
            }
        }
    }

    /// Makes the answer, and keeps the session if it has one.
    pub fn finish(mut self) -> Fetched {
        let mut live = self.live.take().expect("a fetch is answered once");
        let topics = live.session.respond(!matches!(self.kind, Kind::Incremental(_)));
        let session_id = match self.kind {
            Kind::Sessionless => NO_SESSION,
            Kind::New(by_id) => self.sessions.keep(by_id, live),
            Kind::Incremental(id) if live.session.is_empty() => {
                // Kafka closes a session that has nothing left (FetchManager.newContext).
                self.sessions.close(id);
                NO_SESSION
            }
            Kind::Incremental(id) => {
                self.sessions.check_in(id, live);
                id
            }
        };
        Fetched { session_id, topics }
    }

    fn live(&mut self) -> &mut LiveSession {
        self.live.as_mut().expect("a fetch has its session until it is answered")
    }
}

impl Drop for Fetching {
    fn drop(&mut self) {
        let Some(mut live) = self.live.take() else { return };
        if let Kind::Incremental(id) = self.kind {
            let unread = self.cold.drain(..).map(|cold| cold.slot);
            self.reading.into_iter().chain(unread).for_each(|slot| live.session.mark(slot));
            live.session.abandon();
            self.sessions.check_in(id, live);
        }
    }
}

impl LiveSession {
    fn mark_dirty(&mut self) {
        while let Some(slot) = self.queue.pop() {
            self.session.mark(slot);
        }
    }

    fn look_at(&mut self, slot: u32, replicas: &Replicas, room: usize, min_one: bool) -> FetchRead {
        let (topic, index, wanted) = self.session.partition(slot);
        let at = ReadAt {
            offset: wanted.fetch_offset,
            max_bytes: room.min(usize::try_from(wanted.max_bytes).unwrap_or(0)),
            min_one,
            current_leader_epoch: wanted.current_leader_epoch,
            last_fetched_epoch: wanted.last_fetched_epoch,
        };
        if self.places.len() <= slot as usize {
            self.places.resize_with(slot as usize + 1, || None);
        }
        let place = &mut self.places[slot as usize];
        if let Some(found) = place {
            let read = found.fetch(&at, &self.queue, slot);
            // Deleted, and perhaps made again under its name: look it up again.
            if !matches!(&read, FetchRead::Done(answer) if answer.error == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION) {
                return read;
            }
            if let Some(deleted) = place.take() {
                deleted.leave();
            }
        }
        let found = match topic {
            TopicKey::Name(name) => replicas.partition(name, index),
            TopicKey::Id(id) => replicas.partition_by_id(*id, index),
        };
        match found {
            Err(error) => FetchRead::Done(Answer::error(error)),
            Ok(partition) => place.insert(Place { partition, watch: None }).fetch(&at, &self.queue, slot),
        }
    }
}

impl Place {
    fn fetch(&mut self, at: &ReadAt, queue: &Arc<DirtyQueue>, slot: u32) -> FetchRead {
        self.partition.fetch(at, Some(Watcher { queue, slot, place: &mut self.watch }))
    }
}
