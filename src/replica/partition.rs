//! Shell. One partition that this node holds: the hot path of produce and fetch.
//!
//! Everything happens under one short lock: decide, append to the log's queue or take handles of batches, note who
//! waits. No record is copied and nothing is read or written under it, and whoever is to be told something is told
//! after it is released. A write that failed, or a panic under the lock, takes the partition offline: it must never go on
//! with a state that may be half changed. A read that failed is answered as such, and the partition goes on.

mod state;

use std::sync::Arc;

use parking_lot::Mutex;

use state::{Effects, State};
pub use state::{FetchRead, Found, Glance, Lookup, ReadAt, Standing};

use super::Acks;
use super::isr::Membership;
use super::space::Gate;
use super::wait::{AckWait, DirtyQueue, WatchPlace};
use crate::config::TopicConfig;
use crate::controller::image::PartitionImage;
use crate::env;
use crate::error::{ErrorCode, StoreError};
use crate::log::{Appended, Batches, Log, Read, RetentionCheck};
use crate::store::CommitListener;
use crate::types::{LeaderEpoch, NodeId, Offset, Timestamp, TopicId};
use crate::wire::batch::ProducedBatch;

/// The node that holds a partition.
pub struct Host {
    /// Its id.
    pub node: NodeId,
    /// `replica.lag.time.max.ms`.
    pub lag_time_max_ms: i64,
    /// What appends pass.
    pub gate: Gate,
}

/// A partition of a topic on this node.
pub struct Partition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The topic's identity.
    pub topic_id: TopicId,
    /// The partition's number.
    pub index: i32,
    host: Host,
    state: Mutex<State>,
}

/// How a fetch is registered at a partition: its queue, its slot there, and its place here once it has one.
pub struct Watcher<'a> {
    /// Where to tell it.
    pub queue: &'a Arc<DirtyQueue>,
    /// What to tell it.
    pub slot: u32,
    /// Filled by the first look.
    pub place: &'a mut Option<WatchPlace>,
}

impl Partition {
    /// A partition over an open log, as the image describes it. Appends pass the gate.
    pub fn new(
        identity: (Arc<str>, TopicId, i32),
        host: Host,
        log: Log,
        image: &PartitionImage,
        min_in_sync: i32,
    ) -> Arc<Self> {
        let (topic, topic_id, index) = identity;
        let membership = membership(&host, image, min_in_sync);
        let state = State::new(log, &membership, image);
        Arc::new(Self { topic, topic_id, index, host, state: Mutex::new(state) })
    }

    /// Appends a batch. It is acknowledged when [`Partition::wait_high_watermark`] of its end says so.
    pub fn append(self: &Arc<Self>, batch: ProducedBatch, acks: Acks) -> Result<Appended, ErrorCode> {
        self.append_and_wait(batch, acks, env::now(), None)
    }

    /// Appends a batch at a time of the wall clock; on success `place` of the wait is told when the batch is acknowledged or lost. A refusal tells
    /// nobody but the caller.
    pub fn append_and_wait(
        self: &Arc<Self>,
        batch: ProducedBatch,
        acks: Acks,
        now: Timestamp,
        place: Option<(&Arc<AckWait>, usize)>,
    ) -> Result<Appended, ErrorCode> {
        self.host.gate.check()?;
        let listener: Arc<dyn CommitListener> = Arc::<Self>::clone(self);
        self.with(|state, effects| {
            let (log, epoch) = state.leading(acks)?;
            let appended = log.append(batch, epoch, now, &listener)?;
            if let Some((wait, place)) = place {
                state.park(acks, appended.end_offset, wait.slot(place), effects);
            }
            Ok(appended)
        })
    }

    /// Reads for a fetch, and registers it in the same moment, so that nothing that comes later is missed.
    pub fn fetch(&self, at: &ReadAt, watcher: Option<Watcher<'_>>) -> FetchRead {
        self.with(|state, _| {
            if let Some(watcher) = watcher {
                state.watch(watcher);
            }
            state.fetch(at)
        })
    }

    /// The fetch that was registered there is gone.
    pub fn unwatch(&self, place: WatchPlace) {
        self.with(|state, _| state.watches.remove(place));
    }

    /// Exclusive end of what consumers may see.
    pub fn high_watermark(&self) -> Offset {
        self.with(|state, _| state.isr.high_watermark())
    }

    /// Exclusive end of what is committed.
    pub fn log_end_offset(&self) -> Offset {
        self.with(|state, _| state.log.log_end_offset())
    }

    /// The first offset that still exists.
    pub fn log_start_offset(&self) -> Offset {
        self.with(|state, _| state.log.log_start_offset())
    }

    /// What metrics say of it.
    pub fn glance(&self) -> Glance {
        self.with(|state, _| state.glance())
    }

    /// Whether it serves.
    pub fn standing(&self) -> Standing {
        self.with(|state, _| state.standing)
    }

    /// The epoch of its leader.
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.with(|state, _| state.leader_epoch)
    }

    /// True when this node leads it and it serves.
    pub fn is_leader(&self) -> bool {
        self.with(|state, _| state.leading(Acks::Leader).is_ok())
    }

    /// Ready when everything below `end` is below the high watermark, or when it never will be.
    pub async fn wait_high_watermark(&self, end: Offset) -> Result<(), ErrorCode> {
        let wait = AckWait::new(1);
        self.with(|state, effects| state.park(Acks::All, end, wait.slot(0), effects));
        wait.decided().await;
        match wait.outcome(0) {
            Some(ErrorCode::NONE) => Ok(()),
            Some(error) => Err(error),
            None => unreachable!("decided"),
        }
    }

    /// Reads committed batches from `from` on, about `max_bytes` and at least one if there is any. May read files: only
    /// for threads that may block. Empty at the end.
    pub fn read_blocking(&self, from: Offset, max_bytes: usize) -> Result<Batches, ErrorCode> {
        let read = self.with(|state, _| {
            let log = state.serving()?;
            Ok::<_, ErrorCode>(log.read(from, log.log_end_offset(), max_bytes, true))
        })?;
        match read {
            Read::Batches(batches) => Ok(batches),
            Read::Cold(cold) => Ok(cold.run()?),
            Read::OutOfRange => Err(ErrorCode::OFFSET_OUT_OF_RANGE),
        }
    }

    /// ListOffsets: the offset of a time, or of one of the ends. `epoch` fences as in fetch.
    pub fn lookup(&self, what: Lookup, epoch: LeaderEpoch) -> Result<Found, ErrorCode> {
        self.with(|state, _| state.lookup(what, epoch))
    }

    /// OffsetForLeaderEpoch: the largest epoch not above `requested` and where it ends.
    pub fn epoch_end_offset(
        &self,
        current: LeaderEpoch,
        requested: LeaderEpoch,
    ) -> Result<(LeaderEpoch, Offset), ErrorCode> {
        self.with(|state, _| {
            state.check_epoch(current)?;
            state.leading(Acks::Leader)?;
            Ok(state.epoch_end_offset(requested))
        })
    }

    /// Takes over what an image says of it, and the topic's configuration.
    pub fn install(&self, image: &PartitionImage, config: Option<Arc<TopicConfig>>, min_in_sync: i32) {
        let membership = membership(&self.host, image, min_in_sync);
        self.with(|state, effects| {
            if let Some(config) = config {
                state.log.set_config(config);
            }
            state.install(&membership, image, effects);
        });
    }

    /// Applies retention. Blocks on rows of the store, without the lock; appends and fetches go on meanwhile.
    pub fn delete_expired(&self, now: Timestamp) {
        let check = self.with(|state, _| {
            let high_watermark = state.isr.high_watermark();
            state.serving().ok()?.retention_check(now, high_watermark)
        });
        let expired = match check.map(RetentionCheck::run) {
            None => return,
            Some(Ok(expired)) => expired,
            // As with a fetch or a lookup, what cannot be read takes nothing else away: the next check tries again.
            Some(Err(error)) => {
                tracing::error!(topic = %self.topic, partition = self.index, %error, "retention could not read the log");
                return;
            }
        };
        let deleted = self.with(|state, effects| {
            let high_watermark = state.isr.high_watermark();
            let Ok(log) = state.serving() else { return Ok(None) };
            let deleted = log.delete_expired(&expired, high_watermark)?;
            if deleted.is_some() {
                state.watches.touch(&mut effects.notices);
            }
            Ok::<_, StoreError>(deleted)
        });
        match deleted {
            Ok(None) => {}
            Ok(Some(start)) => {
                tracing::info!(topic = %self.topic, partition = self.index, log_start_offset = %start, "retention deleted segments");
            }
            Err(error) => self.failed(&error),
        }
    }

    /// Notes the high watermark and the producers, so that the next start has less to read; forgets producers that
    /// were silent for `expiration_ms`, if that is asked for. True when there was something to note.
    pub fn checkpoint(&self, expire: Option<(Timestamp, i64)>) -> bool {
        let noted = self.with(|state, _| {
            let high_watermark = state.isr.high_watermark();
            let Ok(log) = state.serving() else { return Ok(false) };
            if let Some((now, expiration_ms)) = expire {
                log.expire_producers(now, expiration_ms);
            }
            log.checkpoint(high_watermark)
        });
        noted.unwrap_or_else(|error: StoreError| {
            // Nothing is lost by it but time at the next start.
            tracing::warn!(topic = %self.topic, partition = self.index, %error, "the high watermark could not be noted");
            false
        })
    }

    /// Ends its service, for good: it was deleted, or its storage failed.
    pub fn stop(&self, standing: Standing) {
        self.with(|state, effects| state.stop(standing, effects));
    }

    /// Runs `change` under the lock, and what follows from it after.
    fn with<T>(&self, change: impl FnOnce(&mut State, &mut Effects) -> T) -> T {
        let mut effects = Effects::default();
        let outcome = {
            let mut state = self.state.lock();
            if !state.enter(&mut effects) {
                tracing::error!(topic = %self.topic, partition = self.index, "a panic left this partition half changed: it is offline until a restart");
            }
            let outcome = change(&mut state, &mut effects);
            state.leave();
            outcome
        };
        effects.carry_out();
        outcome
    }
}

impl CommitListener for Partition {
    fn committed(&self, end: Offset) {
        let now = env::tick();
        self.with(|state, effects| state.committed(end, now, effects));
    }

    fn failed(&self, error: &StoreError) {
        tracing::error!(topic = %self.topic, partition = self.index, %error, "storage failed: the partition is offline");
        self.stop(Standing::Offline);
    }
}

fn membership<'a>(host: &Host, image: &'a PartitionImage, min_in_sync: i32) -> Membership<'a> {
    let Host { node, lag_time_max_ms, .. } = *host;
    Membership { node, replicas: &image.replicas, isr: &image.isr, min_in_sync, lag_time_max_ms }
}

impl std::fmt::Debug for Partition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.topic, self.index)
    }
}
