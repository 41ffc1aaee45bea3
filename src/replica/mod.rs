//! Shell. The partitions that this node holds: found by name or id, made, changed and dropped as the metadata image says.
//!
//! Lookups take no lock and copy no name. Images are installed one at a time by [`Replicas::install`], which may block
//! and is called on a thread that may; a partition that cannot be opened is offline and the others serve. Leaders, ISRs
//! and epochs come from the image and from nowhere else. One task sweeps all partitions for retention: no partition
//! has a timer or a task of its own.

pub mod fetch;
pub mod fetch_session;
pub mod isr;
pub mod partition;
pub mod producer_ids;
mod show;
pub mod space;
pub mod wait;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

pub use fetch::FetchSessions;
pub use partition::Partition;
pub use producer_ids::ProducerIds;

use crate::config::{BrokerConfig, TopicConfig, topic};
use crate::controller::Listener;
use crate::controller::image::{MetadataImage, TopicImage};
use crate::env;
use crate::error::{ErrorCode, StoreError};
use crate::log::Log;
use crate::metrics::{Carried, Metrics, TopicMetrics};
use crate::store::{ReplicaId, Store};
use crate::types::{NodeId, Tick, TopicId};
use partition::{Host, Standing};
use space::DiskSpace;

/// Fetches and lookups that may read files at a time; the others wait.
const COLD_READS: usize = 8;
/// How often the disk's free space is looked at: what is written in between must fit `ottla.disk.reserve.bytes`.
const SPACE_INTERVAL: Duration = Duration::from_secs(1);
/// Partitions whose watermarks and producers are noted together; appends pass between two such groups.
const NOTED_TOGETHER: usize = 16;

/// What a producer waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Acks {
    /// Nothing.
    None,
    /// The leader's commit.
    Leader,
    /// The high watermark.
    All,
}

impl Acks {
    /// Kafka's number for it; `None` for any other number.
    pub const fn from_wire(acks: i16) -> Option<Self> {
        match acks {
            0 => Some(Self::None),
            1 => Some(Self::Leader),
            -1 => Some(Self::All),
            _ => None,
        }
    }
}

/// What stands behind a partition's number on this node.
#[derive(Clone, Debug)]
enum Hosted {
    Elsewhere,
    Offline,
    Here(Arc<Partition>),
}

/// A topic as this node serves it.
pub struct Topic {
    /// Its name.
    pub name: Arc<str>,
    /// Its identity.
    pub id: TopicId,
    /// True for topics that the broker keeps for itself: clients may not produce to them.
    pub internal: bool,
    /// Its configuration with every default filled in.
    pub config: Arc<TopicConfig>,
    /// Its counters.
    pub metrics: Arc<TopicMetrics>,
    partitions: Vec<Hosted>,
}

impl Topic {
    /// The partition of that number.
    pub fn partition(&self, index: i32) -> Result<&Arc<Partition>, ErrorCode> {
        let hosted = usize::try_from(index).ok().and_then(|index| self.partitions.get(index));
        match hosted {
            None => Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
            Some(Hosted::Elsewhere) => Err(ErrorCode::NOT_LEADER_OR_FOLLOWER),
            Some(Hosted::Offline) => Err(ErrorCode::KAFKA_STORAGE_ERROR),
            Some(Hosted::Here(partition)) => Ok(partition),
        }
    }

    fn here(&self) -> impl Iterator<Item = &Arc<Partition>> {
        self.partitions.iter().filter_map(|hosted| match hosted {
            Hosted::Here(partition) => Some(partition),
            _ => None,
        })
    }
}

/// The topics by both of their keys. A persistent map: a change copies a path of it, not all.
#[derive(Clone, Default)]
struct Tables {
    by_name: imbl::HashMap<Arc<str>, Arc<Topic>>,
    by_id: imbl::HashMap<TopicId, Arc<Topic>>,
}

/// What has been installed so far, and which replica of the store is which partition.
#[derive(Default)]
struct Installed {
    started: bool,
    /// There are replicas of topics that the metadata do not know: perhaps they are the wrong metadata.
    strays: bool,
    image: Arc<MetadataImage>,
    replicas: HashMap<(TopicId, i32), ReplicaId>,
}

/// All partitions of this node.
pub struct Replicas {
    config: Arc<BrokerConfig>,
    store: Arc<Store>,
    metrics: Arc<Metrics>,
    tables: ArcSwap<Tables>,
    installed: Mutex<Installed>,
    space: Arc<DiskSpace>,
    /// Bounds the blocking threads that read files for fetches and lookups.
    pub cold_reads: Arc<Semaphore>,
}

impl Replicas {
    /// No partitions yet: they come with the first image.
    pub fn start(config: &Arc<BrokerConfig>, store: &Arc<Store>, metrics: &Arc<Metrics>) -> Arc<Self> {
        let replicas = store.replicas().into_iter().map(|row| ((row.topic, row.partition), row.replica)).collect();
        let started = Arc::new(Self {
            config: Arc::clone(config),
            store: Arc::clone(store),
            metrics: Arc::clone(metrics),
            tables: ArcSwap::default(),
            installed: Mutex::new(Installed { replicas, ..Installed::default() }),
            space: DiskSpace::new(config.ottla_disk_reserve_bytes),
            cold_reads: Arc::new(Semaphore::new(COLD_READS)),
        });
        started.show_in(metrics);
        started.look_at_space();
        started
    }

    /// The topic of that name.
    pub fn topic(&self, name: &str) -> Option<Arc<Topic>> {
        self.tables.load().by_name.get(name).cloned()
    }

    /// The topic of that identity.
    pub fn topic_by_id(&self, id: TopicId) -> Option<Arc<Topic>> {
        self.tables.load().by_id.get(&id).cloned()
    }

    /// The partition of a topic that is known by name.
    pub fn partition(&self, topic: &str, index: i32) -> Result<Arc<Partition>, ErrorCode> {
        let tables = self.tables.load();
        let topic = tables.by_name.get(topic).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
        topic.partition(index).cloned()
    }

    /// The partition of a topic that is known by id.
    pub fn partition_by_id(&self, id: TopicId, index: i32) -> Result<Arc<Partition>, ErrorCode> {
        let tables = self.tables.load();
        let topic = tables.by_id.get(&id).ok_or(ErrorCode::UNKNOWN_TOPIC_ID)?;
        topic.partition(index).cloned()
    }

    /// False when the store has more to commit than it should: who took a request in takes no further one until then.
    pub fn has_room(&self) -> bool {
        self.store.has_room()
    }

    /// Ready when the store has room.
    pub fn room(&self) -> impl Future<Output = ()> + Send + use<> {
        let (wake, woken) = tokio::sync::oneshot::channel();
        self.store.when_room(move || {
            // Who asked may have gone.
            let _gone = wake.send(());
        });
        // A store that lets go of the promise has ended, and has nothing to make room for.
        woken.map(|_woken| ())
    }

    /// How much one more answer may carry, beyond one batch, so that what consumers have not read stays within bounds.
    pub fn answer_share(&self) -> usize {
        self.metrics.unsent.share(usize::try_from(self.config.ottla_unsent_max_bytes).unwrap_or(usize::MAX))
    }

    /// Nothing yet of an answer that is being put together.
    pub fn begin_answer(&self) -> Carried {
        Carried::new(&self.metrics.unsent)
    }

    /// Runs `work`, in which appends are queued, and commits them together, if possible before this returns.
    pub fn burst<T>(&self, work: impl FnOnce() -> T) -> T {
        self.store.burst(work)
    }

    /// What the controller is to call with every image. It does not keep the partitions open.
    pub fn listener(self: &Arc<Self>) -> Listener {
        let replicas = Arc::downgrade(self);
        Box::new(move |image| {
            if let Some(replicas) = replicas.upgrade() {
                replicas.install(image);
            }
        })
    }

    /// Takes over an image: makes what is missing, changes what changed, drops what is gone. Blocks on the store. What
    /// stayed as it was costs nothing.
    pub fn install(&self, image: &Arc<MetadataImage>) {
        let mut installed = self.installed.lock();
        if !std::mem::replace(&mut installed.started, true) {
            self.judge_strays(&mut installed, image);
        }
        let changes = image.topics_since(&installed.image);
        self.drop_topics(&mut installed, &changes.gone, image.version);
        let made = self.make_replicas(&mut installed, &changes.new, image.version);
        // Wrong metadata must not make the right ones look old.
        if !made && changes.gone.is_empty() && !installed.strays && self.store.is_noted() {
            self.note(image);
        }
        let mut tables = Tables::clone(&self.tables.load());
        for topic in changes.new.iter().chain(&changes.changed) {
            let topic = Arc::new(self.host(&installed, tables.by_id.get(&topic.id), topic));
            tables.by_name.insert(Arc::clone(&topic.name), Arc::clone(&topic));
            tables.by_id.insert(topic.id, topic);
        }
        self.tables.store(Arc::new(tables));
        installed.image = Arc::clone(image);
    }

    /// Topics that the image no longer has. Their partitions refuse first, then their replicas go.
    fn drop_topics(&self, installed: &mut Installed, gone: &[TopicId], version: u64) {
        if gone.is_empty() {
            return;
        }
        let mut tables = Tables::clone(&self.tables.load());
        let mut dropped = Vec::new();
        for id in gone {
            let Some(topic) = tables.by_id.remove(id) else { continue };
            // The name may belong to a topic made again, whose image came with the same install.
            if tables.by_name.get(&topic.name).is_some_and(|named| named.id == *id) {
                tables.by_name.remove(&topic.name);
            }
            let indices = 0..i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
            dropped.extend(indices.filter_map(|index| installed.replicas.remove(&(*id, index))));
            topic.here().for_each(|partition| partition.stop(Standing::Deleted));
        }
        self.tables.store(Arc::new(tables));
        self.delete(&dropped, version);
    }

    fn delete(&self, replicas: &[ReplicaId], version: u64) {
        if let Err(error) = self.store.delete_replicas(replicas, version) {
            tracing::error!(%error, "replicas of deleted topics could not be dropped; the next start goes on with those that were noted");
        }
    }

    /// What the store has and no topic of the first image.
    ///
    /// Those whose deletion had begun, a crash left: they go. The others stay, for metadata that do not know a topic may be
    /// the wrong ones: Kafka renames such logs to `-stray` and leaves them to the operator too (LogManager.loadLog).
    fn judge_strays(&self, installed: &mut Installed, image: &MetadataImage) {
        let is_stray = |id: TopicId| image.topic_by_id(id).is_none();
        let strays: Vec<_> = installed.replicas.extract_if(|(id, _), _| is_stray(*id)).collect();
        let deleting = self.store.was_deleting().unwrap_or_else(|error| {
            tracing::error!(%error, "which partitions were being deleted is not known: they stay");
            BTreeSet::new()
        });
        let (gone, kept): (Vec<_>, Vec<_>) = strays.into_iter().partition(|(_, replica)| deleting.contains(replica));
        let dir = self.store.dir().display();
        if !gone.is_empty() {
            tracing::warn!(topics = topics_of(&gone), "{} partitions in {dir} were being deleted: they go", gone.len());
            let gone: Vec<ReplicaId> = gone.iter().map(|(_, replica)| *replica).collect();
            self.delete(&gone, image.version);
        }
        installed.strays = !kept.is_empty();
        if installed.strays {
            tracing::warn!(
                topics = topics_of(&kept),
                "the metadata do not know {} partitions in {dir}: their records stay, and nobody is served them",
                kept.len()
            );
        } else if !self.store.is_noted() {
            self.note(image);
        }
    }

    /// Notes how new the metadata are, so that older ones are refused.
    fn note(&self, image: &MetadataImage) {
        if let Err(error) = self.store.note_metadata(image.version) {
            tracing::error!(%error, "which metadata the log directory belongs to could not be noted");
        }
    }

    /// Makes the store's replicas of all new topics, in one write. What cannot be made is offline. True when some were
    /// missing.
    fn make_replicas(&self, installed: &mut Installed, topics: &[Arc<TopicImage>], version: u64) -> bool {
        let node = self.config.node_id;
        let wanted = topics.iter().flat_map(|topic| topic.held_by(node).map(|index| (topic.id, index)));
        let missing: Vec<_> = wanted.filter(|key| !installed.replicas.contains_key(key)).collect();
        let some = !missing.is_empty();
        match self.store.create_replicas(&missing, version) {
            Ok(made) => installed.replicas.extend(missing.into_iter().zip(made)),
            Err(error) => {
                tracing::error!(%error, partitions = missing.len(), "replicas could not be made: they are offline")
            }
        }
        some
    }

    /// A topic as its image says, with the partitions that were there before.
    fn host(&self, installed: &Installed, before: Option<&Arc<Topic>>, image: &TopicImage) -> Topic {
        let config = match before {
            Some(before) if installed.image.topic_by_id(image.id).is_some_and(|old| old.configs == image.configs) => {
                Arc::clone(&before.config)
            }
            _ => self.configure(image),
        };
        let mut partitions = Vec::with_capacity(image.partitions.len());
        for (index, partition) in image.partitions.iter().enumerate() {
            let old = before.and_then(|topic| topic.partitions.get(index));
            let hosted = match old {
                Some(Hosted::Here(old)) => {
                    let changed = before.is_some_and(|topic| !Arc::ptr_eq(&topic.config, &config));
                    old.install(partition, changed.then(|| Arc::clone(&config)), config.min_insync_replicas);
                    Hosted::Here(Arc::clone(old))
                }
                _ if !partition.replicas.contains(&self.config.node_id) => Hosted::Elsewhere,
                _ => self.open(installed, image, index, &config),
            };
            partitions.push(hosted);
        }
        let metrics = before.map_or_else(|| self.metrics.topic(&image.name), |before| Arc::clone(&before.metrics));
        let internal = image.is_internal();
        Topic { name: Arc::clone(&image.name), id: image.id, internal, config, metrics, partitions }
    }

    /// What a topic's settings come to; says which of them this version does not honour.
    fn configure(&self, image: &TopicImage) -> Arc<TopicConfig> {
        let idle = topic::without_effect(&image.configs);
        if !idle.is_empty() && !image.is_internal() {
            tracing::warn!(topic = %image.name, "without effect in this version: {}", idle.join(", "));
        }
        Arc::new(TopicConfig::resolve(&image.configs, &self.config))
    }

    fn open(&self, installed: &Installed, topic: &TopicImage, index: usize, config: &Arc<TopicConfig>) -> Hosted {
        let number = i32::try_from(index).expect("a topic has fewer partitions than that");
        let Some(replica) = installed.replicas.get(&(topic.id, number)) else { return Hosted::Offline };
        match Log::open(&self.store, *replica, Arc::clone(config)) {
            Ok(log) => {
                let identity = (Arc::clone(&topic.name), topic.id, number);
                let image = &topic.partitions[index];
                let host = Host {
                    node: self.config.node_id,
                    lag_time_max_ms: self.config.replica_lag_time_max_ms,
                    gate: DiskSpace::gate(&self.space, topic.is_internal()),
                };
                Hosted::Here(Partition::new(identity, host, log, image, config.min_insync_replicas))
            }
            Err(error) => {
                tracing::error!(topic = %topic.name, partition = number, %error, "the log cannot be opened: the partition is offline");
                Hosted::Offline
            }
        }
    }

    /// Every partition that is here.
    pub fn partitions(&self) -> Vec<Arc<Partition>> {
        let tables = self.tables.load();
        tables.by_id.values().flat_map(|topic| topic.here().cloned().collect::<Vec<_>>()).collect()
    }

    /// Partitions that should be here and could not be opened.
    fn unopened(&self) -> u32 {
        let tables = self.tables.load();
        let unopened =
            |topic: &Arc<Topic>| topic.partitions.iter().filter(|hosted| matches!(hosted, Hosted::Offline)).count();
        u32::try_from(tables.by_id.values().map(unopened).sum::<usize>()).unwrap_or(u32::MAX)
    }

    /// Until the process ends: looks at the disk's free space; notes high watermarks and producers, applies retention,
    /// forgets silent producers, each at its own interval. The look never waits for the rest.
    pub async fn sweep(self: Arc<Self>) {
        tokio::join!(Arc::clone(&self).watch_space(), self.sweep_partitions());
    }

    async fn watch_space(self: Arc<Self>) {
        loop {
            tokio::time::sleep(SPACE_INTERVAL).await;
            let replicas = Arc::clone(&self);
            if let Err(error) = tokio::task::spawn_blocking(move || replicas.look_at_space()).await {
                tracing::error!(%error, "a look at the disk's free space failed; the next one tries again");
            }
        }
    }

    async fn sweep_partitions(self: Arc<Self>) {
        let config = Arc::clone(&self.config);
        let noting = config.replica_high_watermark_checkpoint_interval_ms;
        let mut checkpoint = Due::new(noting, noting);
        let mut retention = Due::new(config.log_initial_task_delay_ms, config.log_retention_check_interval_ms);
        let expiring = i64::from(config.producer_id_expiration_check_interval_ms);
        let mut producers = Due::new(expiring, expiring);
        loop {
            let next = checkpoint.next.min(retention.next).min(producers.next);
            tokio::time::sleep(Duration::from_millis(next.since_ms(env::tick()))).await;
            let now = env::tick();
            let (walk, retain, expire) = (checkpoint.is_due(now), retention.is_due(now), producers.is_due(now));
            let replicas = Arc::clone(&self);
            let swept = tokio::task::spawn_blocking(move || {
                if walk || expire {
                    replicas.checkpoint(expire);
                }
                if retain {
                    replicas.delete_expired();
                }
            });
            if let Err(error) = swept.await {
                tracing::error!(%error, "a sweep of the partitions failed; the next one tries again");
            }
        }
    }

    fn look_at_space(&self) {
        self.space.note(self.store.free_bytes(), self.store.dir());
    }

    /// Notes high watermarks and producers. To be called once more before the store is closed.
    pub fn checkpoint(&self, expire_producers: bool) {
        let expire = expire_producers.then(|| (env::now(), i64::from(self.config.producer_id_expiration_ms)));
        for together in self.partitions().chunks(NOTED_TOGETHER) {
            let noted = together.iter().filter(|partition| partition.checkpoint(expire)).count();
            if noted > 0
                && let Err(error) = self.store.pass()
            {
                return tracing::warn!(%error, "high watermarks could not be noted");
            }
        }
    }

    fn delete_expired(&self) {
        for partition in self.partitions() {
            partition.delete_expired(env::now());
        }
    }

    /// This node.
    pub fn node_id(&self) -> NodeId {
        self.config.node_id
    }
}

/// When something that is done now and then is due.
struct Due {
    next: Tick,
    interval_ms: u64,
}

impl Due {
    /// As Kafka's scheduler: an interval that is not positive never comes again.
    fn new(delay_ms: i64, interval_ms: i64) -> Self {
        let never = |ms: u64| if interval_ms > 0 { ms } else { u64::MAX };
        let millis = |ms: i64| never(u64::try_from(ms).unwrap_or(0));
        Self { next: env::tick().plus_ms(millis(delay_ms)), interval_ms: millis(interval_ms) }
    }

    fn is_due(&mut self, now: Tick) -> bool {
        let due = now >= self.next;
        if due {
            self.next = now.plus_ms(self.interval_ms);
        }
        due
    }
}

/// A store that cannot be asked is as good as a failed one.
impl From<tokio::task::JoinError> for StoreError {
    fn from(error: tokio::task::JoinError) -> Self {
        Self::new(format!("a read failed: {error}"))
    }
}

/// The topics of these replicas, for a line of the log.
fn topics_of(replicas: &[((TopicId, i32), ReplicaId)]) -> String {
    let topics: BTreeSet<TopicId> = replicas.iter().map(|((id, _), _)| *id).collect();
    topics.iter().map(TopicId::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
