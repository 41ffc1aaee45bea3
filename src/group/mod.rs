//! Shell. Groups: who consumes together, and how far they have come.
//!
//! Each partition of `__consumer_offsets` that this node leads has a coordinator shard: a task that owns the state of
//! the groups whose names hash to it. What a group decides is a pure function of its state (`classic/`, `offsets.rs`,
//! `shard.rs`); the task appends what was decided to its partition and releases the answers when that is committed. A
//! handler puts its request into the shard's queue before it returns, so requests of one connection keep their order.
//! Nothing here may answer a commit, hand out an assignment or show an offset that is not in the log.

pub mod classic;
mod coordinator;
mod load;
pub mod offsets;
pub mod records;
pub mod shard;

use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::config::BrokerConfig;
use crate::controller::image::CONSUMER_OFFSETS;
use crate::controller::{Controller, MetadataImage};
use crate::error::ErrorCode;
use crate::replica::Replicas;
use crate::types::{LeaderEpoch, NodeId, TopicId};

use classic::Rules;
use coordinator::{Coordinator, Event, Settings, Shared, Usage};
use shard::Room;
pub use shard::{Ask, CommitRequest, Group, Reply, Shard};

/// Requests that may wait for one shard. Beyond it clients are told to come again.
const QUEUE: usize = 8192;
/// Kafka's `group.coordinator` waits five minutes for a client whose first JoinGroup is parked.
const NEW_MEMBER_TIMEOUT_MS: u64 = 300_000;
/// Groups on this node.
const MAX_GROUPS: usize = 200_000;
/// Bytes that members of all groups of this node keep: ids, metadata.
const MAX_BYTES: usize = 256 << 20;
/// Bytes that the members of one group keep.
const MAX_GROUP_BYTES: usize = 32 << 20;
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
    /// Without shards: they come with the images that [`Groups::install`] is shown. Register it as a listener after the
    /// replicas.
    pub fn start(config: &Arc<BrokerConfig>, controller: &Arc<Controller>, replicas: &Arc<Replicas>) -> Arc<Self> {
        if config.offsets_topic_compression_codec != 0 {
            tracing::warn!("offsets.topic.compression.codec is not honoured: the records of groups are not compressed");
        }
        let settings = Settings {
            retention_ms: i64::from(config.offsets_retention_minutes) * 60_000,
            check_interval_ms: u64::try_from(config.offsets_retention_check_interval_ms).unwrap_or(1).max(1),
            load_buffer_bytes: usize::try_from(config.offsets_load_buffer_size).unwrap_or(1),
            max_batch_bytes: usize::try_from(config.message_max_bytes).unwrap_or(0),
        };
        let shared = Shared {
            controller: controller.clone(),
            usage: Arc::new(Usage::new(Room { groups: MAX_GROUPS, bytes: MAX_BYTES })),
            loads: Arc::new(Semaphore::new(LOADS)),
            settings,
        };
        let rules = Rules {
            initial_rebalance_delay_ms: u64::try_from(config.group_initial_rebalance_delay_ms).unwrap_or(0),
            max_members: usize::try_from(config.group_max_size).unwrap_or(usize::MAX),
            new_member_timeout_ms: NEW_MEMBER_TIMEOUT_MS,
            max_group_bytes: MAX_GROUP_BYTES,
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
        let gone = before.topics().any(|topic| image.topic_by_id(topic.id).is_none());
        if gone {
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
        let (reply, answer) = oneshot::channel();
        let refused = match self.queue_of(group) {
            None => Some(lost.clone()),
            Some(queue) => match queue.try_send(Event::Ask { group: Arc::from(group), ask, reply }) {
                Ok(()) => None,
                Err(mpsc::error::TrySendError::Closed(_)) => Some(lost.clone()),
                Err(mpsc::error::TrySendError::Full(Event::Ask { ask, .. })) => {
                    Some(ask.refused(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS))
                }
                Err(mpsc::error::TrySendError::Full(_)) => unreachable!("the event that was sent comes back"),
            },
        };
        async move {
            match refused {
                Some(refused) => refused,
                // A shard that ends, because the node stops or another one leads, answers nobody.
                None => answer.await.unwrap_or(lost),
            }
        }
    }

    /// Lets `look` see the shard of a group, after what was asked before.
    pub fn read<T: Send + 'static, F: FnOnce(&Shard) -> T + Send + 'static>(
        &self,
        group: &str,
        look: F,
    ) -> impl Future<Output = Result<T, ErrorCode>> + Send + use<T, F> {
        let seen = self.queue_of(group).and_then(|queue| look_into(&queue, look));
        async move {
            match seen {
                None => Err(ErrorCode::NOT_COORDINATOR),
                Some(seen) => seen.await.unwrap_or(Err(ErrorCode::NOT_COORDINATOR)),
            }
        }
    }

    /// Lets `look` see every shard of this node. Those that end meanwhile are left out.
    pub fn read_all<T: Send + 'static, F: Fn(&Shard) -> T + Clone + Send + 'static>(
        &self,
        look: F,
    ) -> impl Future<Output = Result<Vec<T>, ErrorCode>> + Send + use<T, F> {
        let shards = self.shards.load();
        let seen: Vec<_> = shards.iter().flatten().filter_map(|shard| look_into(&shard.events, look.clone())).collect();
        async move {
            let mut all = Vec::with_capacity(seen.len());
            for seen in seen {
                match seen.await {
                    Ok(Ok(found)) => all.push(found),
                    Ok(Err(code)) => return Err(code),
                    Err(_) => {}
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

type Seen<T> = oneshot::Receiver<Result<T, ErrorCode>>;

fn look_into<T: Send + 'static>(
    queue: &mpsc::Sender<Event>,
    look: impl FnOnce(&Shard) -> T + Send + 'static,
) -> Option<Seen<T>> {
    let (sender, seen) = oneshot::channel();
    let look = move |shard: Result<&Shard, ErrorCode>| {
        // Whoever asked may be gone.
        drop(sender.send(shard.map(look)));
    };
    queue.try_send(Event::Read(Box::new(look))).ok().map(|()| seen)
}

#[cfg(test)]
mod tests;
