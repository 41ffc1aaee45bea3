//! Shell. Groups: who consumes together, and how far they have come.
//!
//! Each partition of `__consumer_offsets` that this node leads has a coordinator shard: a task that owns the state of
//! the groups whose names hash to it. What a group decides is a pure function of its state (`classic/`, `offsets.rs`,
//! `shard.rs`); the task appends what was decided to its partition and releases the answers when that is committed. A
//! handler puts its request into the shard's queue before it returns, so requests of one connection keep their order.
//! Nothing here may answer a commit, hand out an assignment or show an offset that is not in the log.

pub mod census;
pub mod classic;
mod coordinator;
mod load;
pub mod offsets;
pub mod records;
pub mod shard;
mod usage;

use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::config::BrokerConfig;
use crate::controller::image::CONSUMER_OFFSETS;
use crate::controller::{Controller, Listener, MetadataImage};
use crate::error::ErrorCode;
use crate::metrics::Metrics;
use crate::replica::Replicas;
use crate::types::{LeaderEpoch, NodeId, TopicId};
use crate::wire::compress::{Codec, Compression};

use census::Room;
use classic::Rules;
use coordinator::{Coordinator, Event, Settings, Shared};
pub use shard::{Ask, CommitRequest, Group, Reply, Shard};
use usage::Usage;

/// Requests that may wait for one shard; beyond it clients are told to come again. No key: a shard empties its queue in
/// milliseconds, and what counts is the memory, which [`WAITING_BYTES`] bounds for all shards.
const QUEUE: usize = 8192;
/// Bytes of requests that may wait, in a queue or for the log, over all shards. No key: more than a moment's worth waits only
/// when the disk stalls, and clients come again.
const WAITING_BYTES: usize = 64 << 20;
/// Kafka waits five minutes for a client whose first JoinGroup is parked, and has no key for it.
const NEW_MEMBER_TIMEOUT_MS: u64 = 300_000;
/// Logs that are read at once.
const LOADS: usize = 2;

/// A running shard.
#[derive(Clone)]
struct Handed {
    topic: TopicId,
    epoch: LeaderEpoch,
    events: mpsc::Sender<Event>,
}

/// The coordinators of this node.
pub struct Groups {
    shards: ArcSwap<Vec<Option<Handed>>>,
    replicas: Arc<Replicas>,
    shared: Shared,
    rules: Rules,
    node: NodeId,
    runtime: Handle,
    /// The image before: tells which topics are gone. Also keeps images from being installed side by side.
    installed: Mutex<Arc<MetadataImage>>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl Groups {
    /// Without shards: they come with the images that [`Groups::listener`] is shown.
    pub fn start(config: &Arc<BrokerConfig>, controller: &Arc<Controller>, replicas: &Arc<Replicas>) -> Arc<Self> {
        let settings = Settings {
            retention_ms: i64::from(config.offsets_retention_minutes) * 60_000,
            check_interval_ms: u64::try_from(config.offsets_retention_check_interval_ms).unwrap_or(1).max(1),
            load_buffer_bytes: usize::try_from(config.offsets_load_buffer_size).unwrap_or(1),
            max_batch_bytes: usize::try_from(config.message_max_bytes).unwrap_or(0),
            compression: compression(config.offsets_topic_compression_codec),
        };
        let count = |value: i64| usize::try_from(value).unwrap_or(usize::MAX);
        let most = Room {
            groups: count(config.ottla_group_coordinator_max_groups.into()),
            bytes: count(config.ottla_group_coordinator_max_bytes),
        };
        let max_group_bytes = count(config.ottla_group_max_bytes);
        // What one group may say must be able to wait.
        let waiting = WAITING_BYTES.max(max_group_bytes).min(Semaphore::MAX_PERMITS);
        let shared = Shared {
            controller: controller.clone(),
            usage: Arc::new(Usage::new(most)),
            waiting: Arc::new(Semaphore::new(waiting)),
            loads: Arc::new(Semaphore::new(LOADS)),
            settings,
        };
        let rules = Rules {
            initial_rebalance_delay_ms: u64::try_from(config.group_initial_rebalance_delay_ms).unwrap_or(0),
            max_members: usize::try_from(config.group_max_size).unwrap_or(usize::MAX),
            new_member_timeout_ms: NEW_MEMBER_TIMEOUT_MS,
            max_group_bytes,
        };
        Arc::new(Self {
            shards: ArcSwap::default(),
            replicas: replicas.clone(),
            shared,
            rules,
            node: config.node_id,
            runtime: Handle::current(),
            installed: Mutex::default(),
            tasks: Mutex::default(),
        })
    }

    /// Shows what there is of groups at `/metrics`.
    pub fn show_in(&self, metrics: &Metrics) {
        self.shared.usage.show_in(metrics);
    }

    /// What the controller is to call with every image, after the replicas' own. It does not keep the groups alive: they
    /// hold the controller, and nothing of them would ever be freed.
    pub fn listener(self: &Arc<Self>) -> Listener {
        let groups = Arc::downgrade(self);
        Box::new(move |image| {
            if let Some(groups) = groups.upgrade() {
                groups.install(image);
            }
        })
    }

    /// Takes in an image: shards of partitions that this node leads now are started, others end. May block.
    pub fn install(&self, image: &Arc<MetadataImage>) {
        let mut installed = self.installed.lock();
        let before = std::mem::replace(&mut *installed, image.clone());
        let old = self.shards.load_full();
        let mut shards = Vec::new();
        let partitions = image.topic(CONSUMER_OFFSETS).map(|topic| (topic.id, &topic.partitions));
        for (index, partition) in partitions.iter().flat_map(|(_, partitions)| partitions.iter().enumerate()) {
            let topic = partitions.map_or(TopicId::ZERO, |(id, _)| id);
            let running = old.get(index).cloned().flatten();
            let epoch = partition.leader_epoch;
            shards.push(match running {
                _ if partition.leader != self.node => None,
                Some(running) if running.topic == topic && running.epoch == epoch => Some(running),
                _ => self.start_shard(topic, index, epoch),
            });
        }
        self.shards.store(Arc::new(shards));
        drop(old);
        if !image.topics_since(&before).gone.is_empty() {
            for shard in self.shards.load().iter().flatten() {
                // The queue may be full: metadata waits a moment. A shard that has ended needs no news.
                drop(shard.events.blocking_send(Event::TopicsGone(image.clone())));
            }
        }
    }

    fn start_shard(&self, topic: TopicId, index: usize, epoch: LeaderEpoch) -> Option<Handed> {
        let number = i32::try_from(index).ok()?;
        let partition = match self.replicas.partition_by_id(topic, number) {
            Ok(partition) => partition,
            Err(code) => {
                tracing::error!(partition = number, %code, "the groups of this partition have no coordinator");
                return None;
            }
        };
        let (events, queue) = mpsc::channel(QUEUE);
        let shard = Shard::new(self.rules.clone());
        let task = self.runtime.spawn(Coordinator::new(partition, shard, self.shared.clone(), queue).run());
        let mut tasks = self.tasks.lock();
        tasks.retain(|task| !task.is_finished());
        tasks.push(task);
        Some(Handed { topic, epoch, events })
    }

    /// The partition of `__consumer_offsets` that a group lives in; `None` before the topic exists.
    pub fn partition_of(image: &MetadataImage, group: &str) -> Option<i32> {
        let count = i32::try_from(image.topic(CONSUMER_OFFSETS)?.partitions.len()).ok()?;
        Some(records::partition_for(group, count))
    }

    /// Creates `__consumer_offsets` unless it is there. When it returns, this node's shards of it are running.
    pub async fn ensure_topic(&self) -> Result<(), ErrorCode> {
        self.shared.controller.create_internal_topic(CONSUMER_OFFSETS).await.map_err(|refusal| {
            let why = refusal.message.as_deref().unwrap_or("");
            tracing::warn!(code = %refusal.code, why, "{CONSUMER_OFFSETS} cannot be created");
            ErrorCode::COORDINATOR_NOT_AVAILABLE
        })
    }

    /// Puts a request into its group's queue, now; the answer comes when it comes.
    pub fn ask(&self, group: &str, ask: Ask) -> impl Future<Output = Reply> + Send + use<> {
        let lost = ask.refused(ErrorCode::NOT_COORDINATOR);
        let asked = self.enqueue(group, ask);
        async move {
            match asked {
                Err(refused) => refused,
                // A shard that ends, because the node stops or another one leads, answers nobody.
                Ok(answer) => answer.await.unwrap_or(lost),
            }
        }
    }

    /// Puts a request into its group's queue, or says why it cannot wait there.
    fn enqueue(&self, group: &str, ask: Ask) -> Result<oneshot::Receiver<Reply>, Reply> {
        let Some(queue) = self.queue_of(group) else { return Err(ask.refused(ErrorCode::NOT_COORDINATOR)) };
        let size = group.len() + ask.bytes();
        if size > self.rules.max_group_bytes {
            return Err(ask.too_large());
        }
        let busy = |ask: &Ask| ask.refused(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS);
        let permits = u32::try_from(size).map_err(|_| ask.too_large())?;
        let bytes = self.shared.waiting.clone().try_acquire_many_owned(permits).map_err(|_| busy(&ask))?;
        let (reply, answer) = oneshot::channel();
        match queue.try_send(Event::Ask { group: Arc::from(group), ask, reply, bytes }) {
            Ok(()) => Ok(answer),
            Err(TrySendError::Full(Event::Ask { ask, .. })) => Err(busy(&ask)),
            Err(TrySendError::Closed(Event::Ask { ask, .. })) => Err(ask.refused(ErrorCode::NOT_COORDINATOR)),
            Err(_) => unreachable!("the event that was sent comes back"),
        }
    }

    /// Lets `look` see the shard of a group, after what was asked before.
    pub fn read<T: Send + 'static, F: FnOnce(&Shard) -> T + Send + 'static>(
        &self,
        group: &str,
        look: F,
    ) -> impl Future<Output = Result<T, ErrorCode>> + Send + use<T, F> {
        let queue = self.queue_of(group).ok_or(ErrorCode::NOT_COORDINATOR);
        let seen = queue.and_then(|queue| look_into(&queue, look));
        async move { seen?.await.unwrap_or(Err(ErrorCode::NOT_COORDINATOR)) }
    }

    /// Lets `look` see every shard of this node. Those that end meanwhile are left out.
    pub fn read_all<T: Send + 'static, F: Fn(&Shard) -> T + Clone + Send + 'static>(
        &self,
        look: F,
    ) -> impl Future<Output = Result<Vec<T>, ErrorCode>> + Send + use<T, F> {
        let shards = self.shards.load();
        let seen: Vec<_> = shards.iter().flatten().map(|shard| look_into(&shard.events, look.clone())).collect();
        async move {
            let mut all = Vec::with_capacity(seen.len());
            for seen in seen {
                match seen {
                    Ok(seen) => match seen.await {
                        Ok(Ok(found)) => all.push(found),
                        Ok(Err(code)) => return Err(code),
                        Err(_) => {}
                    },
                    Err(ErrorCode::NOT_COORDINATOR) => {}
                    Err(code) => return Err(code),
                }
            }
            Ok(all)
        }
    }

    /// Ends every shard after what is in flight is committed.
    pub async fn stop(&self) {
        self.shards.store(Arc::default());
        let tasks = std::mem::take(&mut *self.tasks.lock());
        for task in tasks {
            if let Err(failed) = task.await {
                tracing::error!(%failed, "a coordinator ended in a panic");
            }
        }
    }

    fn queue_of(&self, group: &str) -> Option<mpsc::Sender<Event>> {
        let shards = self.shards.load();
        let count = i32::try_from(shards.len()).ok().filter(|count| *count > 0)?;
        let index = usize::try_from(records::partition_for(group, count)).ok()?;
        shards.get(index)?.as_ref().map(|shard| shard.events.clone())
    }
}

/// `offsets.topic.compression.codec`, at the level that the codec has by itself; `None` for 0. What is no codec was refused
/// with the configuration.
fn compression(id: i32) -> Option<Compression> {
    let (codec, level) = match id {
        1 => (Codec::Gzip, -1),
        2 => (Codec::Snappy, 0),
        3 => (Codec::Lz4, 9),
        4 => (Codec::Zstd, 3),
        _ => return None,
    };
    Some(Compression { codec, level })
}

type Seen<T> = oneshot::Receiver<Result<T, ErrorCode>>;

/// Puts a look into a shard's queue. A full queue is not a shard that is gone: the client is to come again.
fn look_into<T: Send + 'static>(
    queue: &mpsc::Sender<Event>,
    look: impl FnOnce(&Shard) -> T + Send + 'static,
) -> Result<Seen<T>, ErrorCode> {
    let (sender, seen) = oneshot::channel();
    let look = move |shard: Result<&Shard, ErrorCode>| {
        // Whoever asked may be gone.
        drop(sender.send(shard.map(look)));
    };
    match queue.try_send(Event::Read(Box::new(look))) {
        Ok(()) => Ok(seen),
        Err(TrySendError::Full(_)) => Err(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS),
        Err(TrySendError::Closed(_)) => Err(ErrorCode::NOT_COORDINATOR),
    }
}

#[cfg(test)]
mod tests;
