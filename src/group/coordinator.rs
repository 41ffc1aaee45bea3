//! Shell. The task of one coordinator shard: it owns the shard's state, takes requests in the order in which they came,
//! and carries out what the pure [`Shard`] decides.
//!
//! One round takes everything that is queued, writes all records it led to in as few batches as fit, and goes on; the
//! answers that depend on a batch leave when the high watermark has passed it. So many commits share one append, and
//! nothing is answered before it is safe. The task sleeps until the earliest deadline of any of its groups; without
//! groups it has none. It must never block: a log is read on a blocking thread.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::census::Census;
use super::classic::{Now, Waiter};
use super::load;
use super::shard::{Append, Ask, Outcome, Reply, Shard};
use super::usage::Usage;
use crate::controller::{Controller, MetadataImage};
use crate::env;
use crate::error::ErrorCode;
use crate::log::validate::{Rules, validate_produced};
use crate::replica::{Acks, Partition};
use crate::types::{Offset, Tick};
use crate::wire::batch::{BatchBuilder, ProducedBatch};
use crate::wire::compress::Compression;

/// Events taken in one round.
const ROUND: usize = 256;

/// Looks at a shard's state, or is told why there is none to look at.
pub(super) type Look = Box<dyn FnOnce(Result<&Shard, ErrorCode>) + Send>;

/// What a shard's task is told.
pub(super) enum Event {
    /// A client's request.
    Ask {
        /// The group.
        group: Arc<str>,
        /// What is asked.
        ask: Ask,
        /// Where the answer goes.
        reply: oneshot::Sender<Reply>,
        /// Its bytes, of what may wait.
        bytes: OwnedSemaphorePermit,
    },
    /// A look at the state.
    Read(Look),
    /// Topics are gone.
    TopicsGone(Arc<MetadataImage>),
}

/// What shards share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) controller: Arc<Controller>,
    pub(super) usage: Arc<Usage>,
    /// Bytes of requests that may wait, in a queue or for the log.
    pub(super) waiting: Arc<Semaphore>,
    /// Logs that may be read at once.
    pub(super) loads: Arc<Semaphore>,
    pub(super) settings: Settings,
}

/// What the configuration says, in numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    /// `offsets.retention.minutes`.
    pub(super) retention_ms: i64,
    /// `offsets.retention.check.interval.ms`.
    pub(super) check_interval_ms: u64,
    /// `offsets.load.buffer.size`.
    pub(super) load_buffer_bytes: usize,
    /// `message.max.bytes`.
    pub(super) max_batch_bytes: usize,
    /// `offsets.topic.compression.codec`.
    pub(super) compression: Option<Compression>,
}

/// A batch that is appended and not yet committed.
struct InFlight {
    end: Offset,
    appends: Vec<Append>,
}

/// Whom to answer, and what his request still keeps in memory.
struct Waiting {
    reply: oneshot::Sender<Reply>,
    bytes: Option<OwnedSemaphorePermit>,
}

type Committed = Pin<Box<dyn Future<Output = Result<(), ErrorCode>> + Send>>;

/// The task of one shard.
pub(super) struct Coordinator {
    partition: Arc<Partition>,
    shard: Shard,
    shared: Shared,
    events: mpsc::Receiver<Event>,
    waiters: HashMap<Waiter, Waiting>,
    next_waiter: u64,
    /// Decided in this round, not yet appended.
    decided: Vec<Append>,
    in_flight: VecDeque<InFlight>,
    /// Of the oldest batch in flight.
    committed: Option<Committed>,
    next_clean_up: Tick,
    /// Topics may be gone: an image that says so.
    topics_gone: Option<Arc<MetadataImage>>,
}

fn now() -> Now {
    Now { tick: env::tick(), wall: env::now() }
}

impl Coordinator {
    pub(super) fn new(partition: Arc<Partition>, shard: Shard, shared: Shared, events: mpsc::Receiver<Event>) -> Self {
        let next_clean_up = env::tick().plus_ms(shared.settings.check_interval_ms);
        Self {
            partition,
            shard,
            shared,
            events,
            waiters: HashMap::new(),
            next_waiter: 0,
            decided: Vec::new(),
            in_flight: VecDeque::new(),
            committed: None,
            next_clean_up,
            topics_gone: None,
        }
    }

    /// Loads, serves until nobody can send events any more, and waits for what is in flight.
    pub(super) async fn run(mut self) {
        if self.load().await.is_err() {
            // Whoever asks finds the queue closed and is told NOT_COORDINATOR.
            return;
        }
        let mut round = Vec::new();
        while self.step(&mut round).await {}
        while let Some(committed) = self.committed.take() {
            let result = committed.await;
            self.on_committed(result);
            self.append_decided();
        }
        self.shared.usage.report(self.shard.census(), &Census::default());
    }

    /// One round. False when the queue is closed.
    async fn step(&mut self, round: &mut Vec<Event>) -> bool {
        let housekeeping = self.housekeeping_is_due();
        if housekeeping && self.in_flight.is_empty() {
            self.keep_house();
            self.append_decided();
            return true;
        }
        // Housekeeping that is due waits for what is in flight, and not for a moment that has passed.
        let wake = self.wake(housekeeping);
        tokio::select! {
            biased;
            result = oldest(&mut self.committed) => self.on_committed(result),
            // While housekeeping is due nothing new is taken in, so that what is in flight comes to an end.
            taken = self.events.recv_many(round, ROUND), if !housekeeping => {
                if taken == 0 {
                    return false;
                }
                for event in round.drain(..) {
                    self.take(event);
                }
            }
            () = sleep_until(wake) => {
                let outcome = self.observed(|shard, now| shard.expire(now));
                self.carry_out(outcome);
            }
        }
        self.append_decided();
        true
    }

    fn wake(&self, housekeeping: bool) -> Option<Tick> {
        let clean_up = (!housekeeping && self.shard.groups().len() > 0).then_some(self.next_clean_up);
        self.shard.next_deadline().into_iter().chain(clean_up).min()
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Ask { group, ask, reply, bytes } => {
                let waiter = Waiter(self.next_waiter);
                self.next_waiter += 1;
                // What a JoinGroup says is the group's from now on; everything else is kept until it is answered.
                let bytes = (!matches!(ask, Ask::Join(_))).then_some(bytes);
                self.waiters.insert(waiter, Waiting { reply, bytes });
                let room = self.shared.usage.room();
                let outcome = self.observed(|shard, now| shard.ask(now, &group, ask, waiter, room));
                self.carry_out(outcome);
            }
            Event::Read(look) => look(Ok(&self.shard)),
            Event::TopicsGone(image) => self.topics_gone = Some(image),
        }
    }

    /// Lets the shard change and reports what it takes up.
    fn observed<T>(&mut self, change: impl FnOnce(&mut Shard, Now) -> T) -> T {
        let (census, tally) = (*self.shard.census(), *self.shard.tally());
        let result = change(&mut self.shard, now());
        self.shared.usage.report(&census, self.shard.census());
        self.shared.usage.count(&tally, self.shard.tally());
        result
    }

    fn carry_out(&mut self, outcome: Outcome) {
        for (waiter, reply) in outcome.answers {
            let Waiting { reply: sender, bytes } = self.waiters.remove(&waiter).expect("each waiter is answered once");
            drop(bytes);
            // The connection may be gone: then nobody wants the answer.
            drop(sender.send(reply));
        }
        self.decided.extend(outcome.appends);
    }

    /// Appends what was decided, in its order, several decisions to a batch.
    fn append_decided(&mut self) {
        while !self.decided.is_empty() {
            let (mut builder, mut members) = (BatchBuilder::new(), Vec::new());
            let mut decided = VecDeque::from(std::mem::take(&mut self.decided));
            while let Some(append) = decided.pop_front() {
                let mut alone = BatchBuilder::new();
                write(&mut alone, &append);
                if alone.size() > self.shared.settings.max_batch_bytes {
                    match append.halves() {
                        Ok(halves) => halves.into_iter().rev().for_each(|half| decided.push_front(half)),
                        Err(append) => self.lost(vec![append], ErrorCode::MESSAGE_TOO_LARGE),
                    }
                    continue;
                }
                if !builder.is_empty() && builder.size() + alone.size() > self.shared.settings.max_batch_bytes {
                    self.append(std::mem::take(&mut builder), std::mem::take(&mut members));
                }
                write(&mut builder, &append);
                members.push(append);
            }
            if !builder.is_empty() {
                self.append(builder, members);
            }
        }
    }

    fn append(&mut self, builder: BatchBuilder, appends: Vec<Append>) {
        let batch = self.finished(builder);
        match batch.and_then(|batch| self.partition.append(batch, Acks::All)) {
            Ok(appended) => {
                self.in_flight.push_back(InFlight { end: appended.end_offset, appends });
                self.await_oldest();
            }
            Err(code) => self.lost(appends, code),
        }
    }

    /// The batch as it is stored.
    fn finished(&self, builder: BatchBuilder) -> Result<ProducedBatch, ErrorCode> {
        let batch = builder.build();
        if self.shared.settings.compression.is_none() {
            return Ok(batch);
        }
        let rules = Rules {
            max_message_bytes: i32::MAX,
            compacted: true,
            log_append_time: false,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: i64::MAX,
            compression: self.shared.settings.compression,
            zstd_allowed: true,
            full: false,
            now: env::now(),
        };
        validate_produced(&batch.bytes, &rules).map_err(|refused| refused.code)
    }

    fn lost(&mut self, appends: Vec<Append>, code: ErrorCode) {
        tracing::warn!(partition = %self.name(), %code, "a group's records could not be appended");
        for append in appends {
            let outcome = self.observed(|shard, now| shard.appended(now, append, Err(code)));
            self.carry_out(outcome);
        }
    }

    fn await_oldest(&mut self) {
        if self.committed.is_none()
            && let Some(oldest) = self.in_flight.front()
        {
            let (partition, end) = (self.partition.clone(), oldest.end);
            self.committed = Some(Box::pin(async move { partition.wait_high_watermark(end).await }));
        }
    }

    /// The oldest batch is committed, and perhaps others with it; or none of them will be.
    fn on_committed(&mut self, result: Result<(), ErrorCode>) {
        self.committed = None;
        let high_watermark = self.partition.high_watermark();
        while self.in_flight.front().is_some_and(|batch| result.is_err() || batch.end <= high_watermark) {
            let batch = self.in_flight.pop_front().expect("there is a front");
            match result {
                Err(code) => self.lost(batch.appends, code),
                Ok(()) => {
                    for append in batch.appends {
                        let outcome = self.observed(|shard, now| shard.appended(now, append, Ok(())));
                        self.carry_out(outcome);
                    }
                }
            }
        }
        self.await_oldest();
    }

    fn housekeeping_is_due(&self) -> bool {
        self.topics_gone.is_some() || (self.next_clean_up <= env::tick() && self.shard.groups().len() > 0)
    }

    fn keep_house(&mut self) {
        let settings = self.shared.settings;
        if self.next_clean_up <= env::tick() {
            self.next_clean_up = env::tick().plus_ms(settings.check_interval_ms);
            let expired = self.shard.clean_up(now(), settings.retention_ms);
            self.decided.extend(expired);
            // A tombstone for an offset of a deleted topic that could not be written is tried again.
            self.topics_gone.get_or_insert_with(|| self.shared.controller.image());
        }
        if let Some(seen) = self.topics_gone.take() {
            // A commit that was let in may know a newer image than the one that said that topics are gone.
            let newest = self.shared.controller.image();
            let image = if newest.version > seen.version { newest } else { seen };
            let gone = self.shard.forget_topics(|name, id| match image.topic(name) {
                None => true,
                Some(topic) => id != crate::types::TopicId::ZERO && id != topic.id,
            });
            self.decided.extend(gone);
        }
    }

    /// Reads the log. Requests that come meanwhile are told so.
    async fn load(&mut self) -> Result<(), ErrorCode> {
        let end = self.partition.log_end_offset();
        if self.partition.log_start_offset() < end {
            let shard = self.shard.clone();
            let reading = read(self.partition.clone(), shard, end, self.shared.clone());
            tokio::pin!(reading);
            self.shard = loop {
                tokio::select! {
                    loaded = &mut reading => break loaded?,
                    event = self.events.recv() => match event {
                        None => return Err(ErrorCode::NOT_COORDINATOR),
                        Some(Event::Ask { ask, reply, .. }) => {
                            drop(reply.send(ask.refused(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS)));
                        }
                        Some(Event::Read(look)) => look(Err(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS)),
                        Some(Event::TopicsGone(image)) => self.topics_gone = Some(image),
                    },
                }
            };
            self.shared.usage.report(&Census::default(), self.shard.census());
            // Topics may have been deleted while this node did not look.
            self.topics_gone.get_or_insert_with(|| self.shared.controller.image());
            let outcome = self.observed(Shard::loaded);
            self.carry_out(outcome);
            self.append_decided();
        }
        Ok(())
    }

    fn name(&self) -> String {
        format!("{}-{}", self.partition.topic, self.partition.index)
    }
}

async fn read(partition: Arc<Partition>, mut shard: Shard, end: Offset, shared: Shared) -> Result<Shard, ErrorCode> {
    let _permit = shared.loads.acquire().await.map_err(|_| ErrorCode::NOT_COORDINATOR)?;
    let reader = partition.clone();
    let buffer = shared.settings.load_buffer_bytes;
    let task = tokio::task::spawn_blocking(move || {
        let loaded = load::load(&reader, &mut shard, end, buffer, now());
        loaded.map(|counts| (shard, counts))
    });
    let name = format!("{}-{}", partition.topic, partition.index);
    match task.await {
        Ok(Ok((shard, counts))) => {
            counts.tell(&name, shard.groups().len());
            // What was read may not be committed everywhere yet: it is not shown before it is.
            partition.wait_high_watermark(end).await?;
            Ok(shard)
        }
        Ok(Err(code)) => {
            tracing::error!(partition = %name, %code, "the groups of this partition cannot be read: their clients are refused");
            Err(code)
        }
        Err(failed) => {
            tracing::error!(partition = %name, %failed, "reading the groups of this partition ended in a panic");
            Err(ErrorCode::NOT_COORDINATOR)
        }
    }
}

fn write(builder: &mut BatchBuilder, append: &Append) {
    let timestamp = env::now();
    for record in &append.records {
        let (key, value) = record.encode();
        builder.append(timestamp, Some(&key), value.as_deref(), &[]);
    }
}

async fn oldest(committed: &mut Option<Committed>) -> Result<(), ErrorCode> {
    match committed {
        Some(committed) => committed.await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(at: Option<Tick>) {
    match at {
        Some(at) => tokio::time::sleep(Duration::from_millis(at.since_ms(env::tick()))).await,
        None => std::future::pending().await,
    }
}
