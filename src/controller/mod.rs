//! Shell. The controller: decides what the cluster's metadata becomes, and publishes what it is.
//!
//! Requests go in by [`Controller::create_topics`] and its like and wait in one bounded queue. One task takes what is
//! queued, decides against the image after the last proposed entry, and has one entry in flight that carries all of
//! it. The entry travels through the metadata log (openraft, fsynced), is folded into a [`MetadataImage`] and shown to
//! every listener registered with [`Controller::on_image`] before anybody is answered. Nothing here may decide outside
//! that one task, and no answer may leave before its records are applied.

pub mod apply;
pub mod decide;
pub mod image;
mod origin;
pub mod placement;
mod published;
mod raft;
mod raft_log;
pub mod record;
pub mod topics;

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use crate::config::{BrokerConfig, topic};
use crate::env;
use crate::error::{ErrorCode, Refusal, StoreError};
use crate::store::Identity;
use crate::store::metadata::MetadataStore;
use crate::types::{TopicId, kafka_uuid};

use decide::{Answer, Request};
pub use image::{BrokerEndpoint, BrokerRegistration, MetadataImage, PartitionImage, TopicImage};
use origin::Found;
pub use published::Listener;
use published::Published;
use raft::Quorum;
use record::Record;
pub use topics::{Answers, DeleteAnswer, NewTopic, TopicToDelete, validate_name};
use topics::{Chance, Rules};

/// Requests that may wait for the deciding task.
const QUEUE: usize = 1024;
/// Records in one entry after which the rest of the queue waits for the next.
const RECORDS_PER_ENTRY: usize = 10_000;
/// The metadata's directory in its log dir.
const DIRECTORY: &str = "metadata";

/// The handle of the controller.
pub struct Controller {
    published: Arc<Published>,
    queue: mpsc::Sender<Queued>,
    quorum: Quorum,
    config: Arc<BrokerConfig>,
    metadata_id: Uuid,
}

/// Whom to answer.
type Asker = oneshot::Sender<Result<Answer, Refusal>>;

/// A request and whom to answer.
struct Queued {
    request: Request,
    answer: Asker,
}

impl Controller {
    /// Opens the metadata, leads the quorum and registers this broker with its log directory, unless the two do not belong
    /// together. When it returns, the image is complete.
    pub async fn start(config: &Arc<BrokerConfig>, log: &Identity) -> Result<Arc<Self>, StoreError> {
        let dir = directory(config);
        let store = MetadataStore::open(&dir)?;
        let member = raft::identity(&store, config.node_id)?;
        let metadata_id = member.directory;
        origin::check_metadata(log, &Found { dir: &dir, id: metadata_id, version: raft::last_index(&store)? })?;
        let published = Arc::new(Published::default());
        let quorum = Quorum::start(store, member, published.clone()).await?;
        let (queue, requests) = mpsc::channel(QUEUE);
        let decider = Decider { requests, published: published.clone(), quorum: quorum.clone(), rules: rules(config) };
        tokio::spawn(decider.run());
        let controller = Arc::new(Self { published, queue, quorum, config: config.clone(), metadata_id });
        controller.join(&dir, log).await?;
        Ok(controller)
    }

    /// The id that the metadata directory drew when it was first used.
    pub fn metadata_id(&self) -> Uuid {
        self.metadata_id
    }

    /// The newest image that this node's replicas have installed.
    pub fn image(&self) -> Arc<MetadataImage> {
        self.published.load()
    }

    /// Ready when no metadata can be changed any more, because the disk failed or a listener did.
    pub async fn failed(&self) -> StoreError {
        self.quorum.failed().await
    }

    /// Adds a listener: it is called with the newest image now, and with every later one before any request that
    /// caused it is answered. It may block, and must be quick all the same: metadata waits for it.
    pub async fn on_image(&self, listener: Listener) -> Result<(), StoreError> {
        self.published.listen(listener).await
    }

    /// CreateTopics: an outcome for every name, in Kafka's order (duplicates last).
    pub async fn create_topics(
        &self,
        topics: Vec<NewTopic>,
        validate_only: bool,
    ) -> Result<Answers<Arc<TopicImage>>, Refusal> {
        let ids = topics.iter().map(|_| TopicId(env::random_uuid())).collect();
        let chance = Chance { ids, placement: env::random_u64() };
        match self.submit(Request::CreateTopics { topics, chance, validate_only }).await? {
            Answer::Created(answers) => Ok(answers),
            other => unreachable!("CreateTopics was answered with {other:?}"),
        }
    }

    /// Creates topics that a client asked for without CreateTopics: `num.partitions` and the broker's defaults, or
    /// what an internal topic needs.
    pub async fn auto_create_topics(&self, names: Vec<String>) -> Result<Answers<Arc<TopicImage>>, Refusal> {
        let topics = names.into_iter().map(|name| self.wanted(name)).collect();
        self.create_topics(topics, false).await
    }

    /// Creates `__consumer_offsets` or another topic of the broker's own, unless it is there.
    pub async fn create_internal_topic(&self, name: &str) -> Result<(), Refusal> {
        if self.image().topic(name).is_some() {
            return Ok(());
        }
        let answers = self.auto_create_topics(vec![name.to_owned()]).await?;
        let refused = answers.into_iter().find_map(|(_, outcome)| outcome.err());
        match refused {
            Some(refusal) if refusal.code != ErrorCode::TOPIC_ALREADY_EXISTS => Err(refusal),
            _ => Ok(()),
        }
    }

    /// DeleteTopics: an outcome for every topic.
    pub async fn delete_topics(&self, topics: Vec<TopicToDelete>) -> Result<Vec<DeleteAnswer>, Refusal> {
        match self.submit(Request::DeleteTopics(topics)).await? {
            Answer::Deleted(answers) => Ok(answers),
            other => unreachable!("DeleteTopics was answered with {other:?}"),
        }
    }

    /// A block of producer ids that nobody was given before, over restarts too.
    pub async fn allocate_producer_ids(&self) -> Result<Range<i64>, Refusal> {
        match self.submit(Request::ProducerIds(self.config.node_id)).await? {
            Answer::ProducerIds(block) => block,
            other => unreachable!("a request for producer ids was answered with {other:?}"),
        }
    }

    /// Stops the quorum member. Later requests are refused.
    pub async fn stop(&self) {
        self.quorum.stop().await;
    }

    async fn submit(&self, request: Request) -> Result<Answer, Refusal> {
        let stopped = || Refusal::new(ErrorCode::NOT_CONTROLLER, "The controller of this broker has stopped.");
        let (answer, answered) = oneshot::channel();
        self.queue.send(Queued { request, answer }).await.map_err(|_| stopped())?;
        answered.await.map_err(|_| stopped())?
    }

    /// Checks that the directories are the cluster's that the configuration means, and registers this broker.
    async fn join(&self, dir: &std::path::Path, log: &Identity) -> Result<(), StoreError> {
        let stored = self.image().cluster_id.clone();
        if let Some(given) = self.config.cluster_id.as_deref().filter(|given| !stored.is_empty() && **given != *stored)
        {
            return Err(StoreError::new(format!(
                "the metadata in {} belongs to the cluster {stored}, but the configuration names the cluster {given}: \
                 set cluster.id (CLUSTER_ID) to {stored} or remove it, or choose another log.dirs",
                dir.display()
            )));
        }
        origin::check_directory(log, dir, &self.image(), self.config.node_id)?;
        let cluster_id = self.config.cluster_id.clone().unwrap_or_else(|| kafka_uuid(&env::random_uuid()));
        let broker = registration(&self.config, log.directory_id);
        if log.unclean {
            tracing::warn!(
                "records may be lost: the partitions led here begin a new leader epoch, which tells clients"
            );
        }
        let request = Request::Join { broker, cluster_id, unclean: log.unclean };
        match self.submit(request).await {
            Ok(_) => Ok(()),
            Err(refusal) => Err(StoreError::new(format!(
                "this broker cannot register: {}",
                refusal.message.unwrap_or_else(|| refusal.code.to_string())
            ))),
        }
    }

    /// The topic that is made when nobody said how.
    fn wanted(&self, name: String) -> NewTopic {
        if name != image::CONSUMER_OFFSETS {
            return NewTopic::named(name);
        }
        let config = &self.config;
        let set = |key: &str, value: String| (key.to_owned(), Some(value));
        // While the quorum has one voter and nobody asked for more, a topic of our own must not wait for brokers that
        // will never come.
        let clamp = !config.is_set("offsets.topic.replication.factor");
        let live = i16::try_from(self.image().live_brokers().count()).unwrap_or(i16::MAX);
        let asked = config.offsets_topic_replication_factor;
        NewTopic {
            partitions: config.offsets_topic_num_partitions,
            replication_factor: if clamp { asked.min(live) } else { asked },
            configs: vec![
                set("cleanup.policy", "compact".into()),
                set("compression.type", "producer".into()),
                set("segment.bytes", config.offsets_topic_segment_bytes.to_string()),
            ],
            ..NewTopic::named(name)
        }
    }
}

/// `metadata.log.dir`, or the first log dir.
fn directory(config: &BrokerConfig) -> PathBuf {
    let dir = config.metadata_log_dir.as_ref().map(PathBuf::from).or_else(|| config.log_dirs.first().cloned());
    dir.unwrap_or_else(|| PathBuf::from("data")).join(DIRECTORY)
}

fn registration(config: &BrokerConfig, log_dir: Uuid) -> BrokerRegistration {
    let endpoints = config.advertised_listeners.iter().map(|endpoint| BrokerEndpoint {
        listener: endpoint.listener_name.to_string(),
        host: endpoint.host.clone(),
        port: endpoint.port,
    });
    BrokerRegistration {
        id: config.node_id,
        // Decided by the controller.
        epoch: -1,
        incarnation: env::random_uuid(),
        endpoints: endpoints.collect(),
        rack: config.broker_rack.clone(),
        fenced: false,
        log_dirs: vec![log_dir],
    }
}

fn rules(config: &Arc<BrokerConfig>) -> Rules {
    let broker = config.clone();
    Rules {
        partitions: config.num_partitions,
        replication_factor: i16::try_from(config.default_replication_factor).unwrap_or(i16::MAX),
        validate_configs: Box::new(move |configs| topic::validate_all(configs, &broker)),
    }
}

/// The one task that decides.
struct Decider {
    requests: mpsc::Receiver<Queued>,
    published: Arc<Published>,
    quorum: Quorum,
    rules: Rules,
}

impl Decider {
    async fn run(mut self) {
        while let Some(first) = self.requests.recv().await {
            let (records, answers) = self.decide(first);
            let outcome = if records.is_empty() { Ok(()) } else { self.quorum.propose(records).await };
            for (answer, sender) in answers {
                // Whoever asked may be gone; what was decided stays decided.
                drop(sender.send(outcome.clone().map(|()| answer)));
            }
        }
    }

    /// Everything that is queued, each request judged after the one before it.
    fn decide(&mut self, first: Queued) -> (Vec<Record>, Vec<(Answer, Asker)>) {
        let mut image = self.published.load();
        let mut records = Vec::new();
        let mut answers = Vec::new();
        let mut next = Some(first);
        while let Some(queued) = next {
            let (made, answer) = decide::decide(&image, &queued.request, &self.rules);
            if !made.is_empty() {
                image = Arc::new(apply::apply(&image, image.version, &made));
                records.extend(made);
            }
            answers.push((answer, queued.answer));
            next = if records.len() < RECORDS_PER_ENTRY { self.requests.try_recv().ok() } else { None };
        }
        (records, answers)
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
