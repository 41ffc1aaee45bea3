//! Fetch, key 1, versions 4–18.
//!
//! Reads whole batches from the tail cache or from files, at most about `max_bytes` and `partition_max_bytes`, the first
//! batch of a response however large. With less than `min_bytes` to send it waits for more until `max_wait_ms` is over.
//! Sessions (KIP-227) name only what changes. Topics are named by id from version 13.
//!
//! Gaps: `rack_id` chooses nothing while a partition has one replica. A fetch with a replica id comes from a follower;
//! there are none in this version, and from a client it must move nothing (CVE-2018-1288): every partition is
//! TOPIC_AUTHORIZATION_FAILED, as Kafka answers without CLUSTER_ACTION.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::protocol::StrBytes;

use super::outcomes::Counted;
use super::{Frame, Reply, RequestContext};
use crate::broker::Broker;
use crate::config::CompressionType;
use crate::controller::MetadataImage;
use crate::error::ErrorCode;
use crate::replica::Topic;
use crate::replica::fetch::{Fetched, Fetching, Limits};
use crate::replica::fetch_session::{Answer, FINAL_EPOCH, INITIAL_EPOCH, NO_SESSION, TopicKey, TopicRef, Wanted};
use crate::types::{NodeId, TopicId};
use crate::wire::fetch::{FetchPartitionResponse, FetchRequest, FetchResponse, FetchTopic, FetchTopicResponse};
use crate::wire::produce::{CurrentLeader, NodeEndpoint};

/// The first version that names topics by id (KIP-516).
const TOPIC_IDS_FROM: i16 = 13;
/// The first version whose clients know zstd (KIP-110).
const ZSTD_FROM: i16 = 10;
/// The first version whose clients know KAFKA_STORAGE_ERROR (KIP-112).
const STORAGE_ERROR_FROM: i16 = 6;
/// The first version that carries leader hints (KIP-951).
const HINTS_FROM: i16 = 16;
/// `isolation_level` of consumers that leave out aborted transactions.
const READ_COMMITTED: i8 = 1;
/// No client waits longer than this: a connection that is idle for ten minutes is closed.
const MAX_WAIT_MS: u64 = 300_000;

/// No answer is asked to carry more: its length is written in 31 bits, and the last batch may go beyond the limit.
const MOST_BYTES: usize = 1 << 30;

/// What the answer depends on besides what was read.
struct Asked {
    counted: Counted,
    version: i16,
    read_committed: bool,
    listener: Arc<str>,
}

/// Serves a request.
pub fn serve(broker: &Arc<Broker>, context: &RequestContext, body: Bytes) -> Reply<Frame> {
    let version = context.api_version;
    let request = match FetchRequest::decode(body, version) {
        Ok(request) => request,
        Err(reason) => return Reply::Close(reason),
    };
    let counted = Counted::of(broker, context);
    if request.replica_id.get() >= 0 {
        return Reply::Now(encode(refuse_follower(request), version, &counted));
    }
    let asked = Asked {
        counted,
        version,
        read_committed: request.isolation_level == READ_COMMITTED,
        listener: Arc::clone(&context.listener),
    };
    let mut fetching = match begin(broker, context, &request) {
        Ok(fetching) => fetching,
        Err(error) => return Reply::Now(encode(error_response(error), version, &asked.counted)),
    };
    drop(request);
    if fetching.look() {
        return Reply::Now(answer(broker, &asked, fetching.finish()));
    }
    let broker = Arc::clone(broker);
    Reply::later(async move {
        fetching.wait().await;
        answer(&broker, &asked, fetching.finish())
    })
}

/// Finds or makes the session, and tells it what the request names and drops.
fn begin(broker: &Arc<Broker>, context: &RequestContext, request: &FetchRequest) -> Result<Fetching, ErrorCode> {
    let by_id = context.api_version >= TOPIC_IDS_FROM;
    let limits = limits(broker, context, request);
    let (sessions, replicas) = (&broker.sessions, &broker.replicas);
    let (id, epoch) = (request.session_id, request.session_epoch);
    let mut fetching = if epoch == INITIAL_EPOCH || epoch == FINAL_EPOCH {
        if id != NO_SESSION {
            sessions.close(id);
        }
        sessions.full(replicas, by_id, epoch == INITIAL_EPOCH, limits)
    } else {
        sessions.incremental(replicas, (id, epoch), by_id, limits)?
    };
    for topic in &request.topics {
        for partition in &topic.partitions {
            let wanted = Wanted {
                fetch_offset: partition.fetch_offset,
                max_bytes: partition.partition_max_bytes,
                current_leader_epoch: partition.current_leader_epoch,
                last_fetched_epoch: partition.last_fetched_epoch,
            };
            fetching.want(topic_ref(by_id, &topic.name, topic.topic_id), partition.partition, wanted);
        }
    }
    for topic in &request.forgotten {
        for partition in &topic.partitions {
            fetching.forget(topic_ref(by_id, &topic.name, topic.topic_id), *partition);
        }
    }
    Ok(fetching)
}

fn topic_ref(by_id: bool, name: &str, id: TopicId) -> TopicRef<'_> {
    if by_id { TopicRef::Id(id) } else { TopicRef::Name(name) }
}

fn limits(broker: &Arc<Broker>, context: &RequestContext, request: &FetchRequest) -> Limits {
    let bytes = |count: i32| usize::try_from(count).unwrap_or(0);
    let max_bytes = bytes(request.max_bytes.min(broker.config.fetch_max_bytes)).min(MOST_BYTES);
    let max_wait_ms = u64::try_from(request.max_wait_ms).unwrap_or(0).min(MAX_WAIT_MS);
    Limits {
        min_bytes: bytes(request.min_bytes).min(max_bytes),
        max_bytes,
        deadline: context.received.plus_ms(max_wait_ms),
    }
}

fn answer(broker: &Arc<Broker>, asked: &Asked, fetched: Fetched) -> Frame {
    let mut hints = LeaderHints::on_listener(broker, Arc::clone(&asked.listener));
    let mut topics = Vec::with_capacity(fetched.topics.len());
    for (key, answers) in fetched.topics {
        let (name, topic_id) = match key {
            TopicKey::Name(name) => (StrBytes::from_string(name.to_string()), TopicId::ZERO),
            TopicKey::Id(id) => (StrBytes::default(), id),
        };
        let topic = if topic_id == TopicId::ZERO {
            broker.replicas.topic(&name)
        } else {
            broker.replicas.topic_by_id(topic_id)
        };
        let zstd_unknown = asked.version < ZSTD_FROM && topic.as_deref().is_some_and(stores_zstd);
        if let Some(topic) = &topic {
            count(topic, &answers);
        }
        let partitions = answers.into_iter().map(|(index, answer)| {
            let mut partition = partition_response(asked, index, answer);
            if zstd_unknown && !partition.error.is_error() {
                partition = FetchPartitionResponse::refused(index, ErrorCode::UNSUPPORTED_COMPRESSION_TYPE);
            }
            let moved = matches!(partition.error, ErrorCode::NOT_LEADER_OR_FOLLOWER | ErrorCode::FENCED_LEADER_EPOCH);
            if moved && asked.version >= HINTS_FROM {
                partition.current_leader = hints.of(&name, topic_id, index);
            }
            partition
        });
        let partitions = partitions.collect();
        topics.push(FetchTopicResponse { name, topic_id, partitions });
    }
    let node_endpoints = hints.endpoints();
    let response = FetchResponse { session_id: fetched.session_id, topics, node_endpoints, ..FetchResponse::default() };
    encode(response, asked.version, &asked.counted)
}

/// Clients that do not know zstd get no batch of a topic that stores it (KafkaApis.maybeConvertFetchedData).
fn stores_zstd(topic: &Topic) -> bool {
    topic.config.compression_type == CompressionType::Zstd
}

fn count(topic: &Topic, answers: &[(i32, Answer)]) {
    let failed = answers.iter().filter(|(_, answer)| answer.error.is_error()).count();
    let bytes: usize = answers.iter().map(|(_, answer)| answer.bytes()).sum();
    topic.metrics.count(|counts| &counts.fetch_requests, answers.len() as u64);
    topic.metrics.count(|counts| &counts.bytes_out, bytes as u64);
    if failed > 0 {
        topic.metrics.count(|counts| &counts.failed_fetch_requests, failed as u64);
    }
}

fn partition_response(asked: &Asked, index: i32, answer: Answer) -> FetchPartitionResponse {
    let error = match answer.error {
        ErrorCode::KAFKA_STORAGE_ERROR if asked.version < STORAGE_ERROR_FROM => ErrorCode::NOT_LEADER_OR_FOLLOWER,
        error => error,
    };
    FetchPartitionResponse {
        high_watermark: answer.high_watermark,
        last_stable_offset: answer.last_stable_offset,
        log_start_offset: answer.log_start_offset,
        aborted_transactions: (asked.read_committed && !error.is_error()).then(Vec::new),
        records: answer.records,
        diverging_epoch: answer.diverging,
        ..FetchPartitionResponse::refused(index, error)
    }
}

fn error_response(error: ErrorCode) -> FetchResponse {
    FetchResponse { error: Some(error), ..FetchResponse::default() }
}

fn refuse_follower(request: FetchRequest) -> FetchResponse {
    let refused = |index| FetchPartitionResponse::refused(index, ErrorCode::TOPIC_AUTHORIZATION_FAILED);
    let topics = request.topics.into_iter().map(|topic: FetchTopic| FetchTopicResponse {
        partitions: topic.partitions.iter().map(|partition| refused(partition.partition)).collect(),
        name: topic.name,
        topic_id: topic.topic_id,
    });
    FetchResponse { topics: topics.collect(), ..FetchResponse::default() }
}

fn encode(response: FetchResponse, version: i16, counted: &Counted) -> Frame {
    counted.count(&response);
    Frame(response.encode(version))
}

/// KIP-951: who leads the partitions that a client looked for in the wrong place, and where those brokers are.
pub(super) struct LeaderHints<'a> {
    broker: &'a Arc<Broker>,
    listener: Arc<str>,
    /// Loaded for the first partition that needs it: nearly always there is none.
    image: Option<Arc<MetadataImage>>,
    endpoints: BTreeMap<NodeId, NodeEndpoint>,
}

impl<'a> LeaderHints<'a> {
    /// No hints yet, for a client of this listener.
    pub(super) fn new(broker: &'a Arc<Broker>, context: &RequestContext) -> Self {
        Self::on_listener(broker, Arc::clone(&context.listener))
    }

    fn on_listener(broker: &'a Arc<Broker>, listener: Arc<str>) -> Self {
        Self { broker, listener, image: None, endpoints: BTreeMap::new() }
    }

    /// Who leads a partition, as far as this broker knows.
    pub(super) fn of(&mut self, name: &str, id: TopicId, index: i32) -> Option<CurrentLeader> {
        let image = self.image.get_or_insert_with(|| self.broker.controller.image());
        let topic = if id == TopicId::ZERO { image.topic(name) } else { image.topic_by_id(id) };
        let partition = topic?.partition(index)?;
        let leader = image.live_brokers().find(|broker| broker.id == partition.leader);
        if let Some(broker) = leader
            && let Some(endpoint) = broker.endpoint(&self.listener)
        {
            self.endpoints.entry(broker.id).or_insert_with(|| NodeEndpoint {
                node_id: broker.id,
                host: endpoint.host.clone(),
                port: i32::from(endpoint.port),
                rack: broker.rack.clone(),
            });
        }
        Some(CurrentLeader { leader_id: partition.leader, leader_epoch: partition.leader_epoch })
    }

    /// Where the brokers are that were named.
    pub(super) fn endpoints(self) -> Vec<NodeEndpoint> {
        self.endpoints.into_values().collect()
    }
}
