//! Produce, key 0, versions 3–13.
//!
//! Appends one batch per partition, in the order of the request, and answers when they are acknowledged: acks=1 when
//! the leader has committed, acks=all when the high watermark is past them, acks=0 never. A partition that refuses
//! leaves the others alone. With acks=0 a refusal closes the connection, since nothing else could tell the producer.
//!
//! There are no transactions in this version: a transactional batch is TRANSACTIONAL_ID_AUTHORIZATION_FAILED, with or
//! without a transactional id: clients give up on it at once and say so, where an unknown error would be retried.
//! Kafka refuses the whole request then; here only the partition that holds the batch.
//! Internal topics are refused always: Kafka lets a client in that calls itself `__admin_client`.
//! Kafka keeps the last of several batches for one partition and drops the others; here each is appended and answered.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use kafka_protocol::protocol::StrBytes;
use smallvec::SmallVec;

use super::fetch::LeaderHints;
use super::outcomes::Counted;
use super::{Frame, Reply, RequestContext};
use crate::broker::Broker;
use crate::config::{BrokerConfig, CompressionType, ProduceValidation, TimestampType, TopicConfig};
use crate::env;
use crate::error::{Disconnect, ErrorCode};
use crate::log::validate::{Refused, Rules, validate_produced};
use crate::replica::wait::AckWait;
use crate::replica::{Acks, Topic};
use crate::types::{Offset, Timestamp};
use crate::wire::batch::{BatchHeader, MAGIC};
use crate::wire::compress::{Codec, Compression};
use crate::wire::produce::{
    ProducePartition, ProducePartitionResponse, ProduceRequest, ProduceResponse, ProduceTopic, ProduceTopicResponse,
};

/// The first version whose clients know zstd (KIP-110).
const ZSTD_FROM: i16 = 7;
/// The first version that carries leader hints (KIP-951).
const HINTS_FROM: i16 = 10;
/// The first version that names topics by id (KIP-516).
const TOPIC_IDS_FROM: i16 = 13;
/// The producer's timeout is for the followers: Kafka counts it from after the local append, which there is done when
/// the handler returns. Here the local commit is waited for too, and gets this much time at least.
const LOCAL_COMMIT_MS: u64 = 1_000;

/// Answers for so many partitions are not kept waiting side by side: each takes hundreds of bytes.
const MANY: usize = 1_000;

/// Appends of one request, and whom to tell of each.
struct Appends<'a> {
    broker: &'a Arc<Broker>,
    version: i16,
    acks: Acks,
    now: Timestamp,
    wait: Arc<AckWait>,
    /// Where in the response each place of the wait stands: topic, partition.
    places: SmallVec<[(usize, usize); 2]>,
}

/// Serves a request.
pub fn serve(broker: &Arc<Broker>, context: &RequestContext, body: Bytes) -> Reply<Frame> {
    let version = context.api_version;
    let request = match ProduceRequest::decode(body, version) {
        Ok(request) => request,
        Err(reason) => return Reply::Close(reason),
    };
    let counted = Counted::of(broker, context);
    let Some(acks) = Acks::from_wire(request.acks) else {
        let refused = refuse_all(request, ErrorCode::INVALID_REQUIRED_ACKS);
        return Reply::Now(encode(&refused, version, &counted));
    };
    let timeout_ms = u64::try_from(request.timeout_ms).unwrap_or(0).max(LOCAL_COMMIT_MS);
    let deadline = context.received.plus_ms(timeout_ms);
    let partitions = request.topics.iter().map(|topic| topic.partitions.len()).sum();
    let mut appends = Appends {
        broker,
        version,
        acks,
        now: env::now(),
        wait: AckWait::new(if acks == Acks::None { 0 } else { partitions }),
        places: SmallVec::new(),
    };
    let mut response = ProduceResponse::default();
    for topic in request.topics {
        appends.append_topic(&mut response, topic);
    }
    if version >= HINTS_FROM {
        hint(broker, context, &mut response);
    }
    if acks == Acks::None {
        return match silent(&response, &counted) {
            // There is no answer that could wait for the commit: the connection waits for room.
            Reply::Silent if !broker.replicas.has_room() => Reply::SilentBarrier(broker.replicas.room().boxed()),
            reply => reply,
        };
    }
    let Appends { wait, places, .. } = appends;
    if wait.is_decided() {
        conclude(&mut response, &wait, &places);
        return Reply::Now(encode(&response, version, &counted));
    }
    let answer = async move {
        // Committed by the connection's own thread, it is decided by now: then there is nothing to time.
        if !wait.is_decided() {
            let left = Duration::from_millis(deadline.since_ms(env::tick()));
            // Over or not, what is decided is answered, and what is not is timed out. Boxed: few need it.
            let _over = tokio::time::timeout(left, wait.decided()).boxed().await;
        }
        conclude(&mut response, &wait, &places);
        encode(&response, version, &counted)
    };
    // The connection's next request waits for this one while the store has more to commit than it should, and where the
    // answer that waits is large.
    if partitions < MANY && broker.replicas.has_room() { Reply::later(answer) } else { Reply::barrier(answer) }
}

impl Appends<'_> {
    fn append_topic(&mut self, response: &mut ProduceResponse, request: ProduceTopic) {
        let replicas = &self.broker.replicas;
        let found = match self.version {
            TOPIC_IDS_FROM.. => replicas.topic_by_id(request.topic_id).ok_or(ErrorCode::UNKNOWN_TOPIC_ID),
            _ => replicas.topic(&request.name).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        };
        let found = found.and_then(|topic| match topic.internal {
            true => Err(ErrorCode::INVALID_TOPIC_EXCEPTION),
            false => Ok(topic),
        });
        let rules = found.as_ref().ok().map(|topic| self.rules(&topic.config));
        let at = response.topics.len();
        let mut partitions = Vec::with_capacity(request.partitions.len());
        for partition in request.partitions {
            // A place that is not waited for is decided here and now.
            let place = self.places.len();
            let answer = match (&found, &rules) {
                (Ok(topic), Some(rules)) => self.append(topic, rules, &partition, place),
                (Err(error), _) => Err(Refused { code: *error, message: "".into(), record_errors: Vec::new() }),
                (Ok(_), None) => unreachable!("rules come with a topic"),
            };
            self.places.push((at, partitions.len()));
            if let Ok(topic) = &found {
                count(topic, &partition, answer.is_err());
            }
            if answer.is_err() && self.acks != Acks::None {
                self.wait.tell(place, ErrorCode::NONE);
            }
            partitions.push(answer.unwrap_or_else(|refused| refusal(partition.index, refused)));
        }
        // Copied: a slice would keep the whole frame alive until the answer has left.
        let name = StrBytes::from_string(request.name.to_string());
        response.topics.push(ProduceTopicResponse { name, topic_id: request.topic_id, partitions });
    }

    fn append(
        &self,
        topic: &Topic,
        rules: &Rules,
        request: &ProducePartition,
        place: usize,
    ) -> Result<ProducePartitionResponse, Refused> {
        let refuse = |code: ErrorCode| Refused { code, message: "".into(), record_errors: Vec::new() };
        let records = request.records.as_deref().unwrap_or_default();
        if is_transactional(records) {
            return Err(Refused {
                code: ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
                message: "transactions do not exist in this version".into(),
                record_errors: Vec::new(),
            });
        }
        let partition = topic.partition(request.index).map_err(refuse)?;
        let batch = validate_produced(records, rules)?;
        let (count, bytes) = (batch.header.record_count, batch.bytes.len());
        let place = (self.acks != Acks::None).then_some((&self.wait, place));
        let appended = partition.append_and_wait(batch, self.acks, self.now, place).map_err(refuse)?;
        topic.metrics.count(|counts| &counts.messages_in, u64::try_from(count).unwrap_or(0));
        topic.metrics.count(|counts| &counts.bytes_in, bytes as u64);
        Ok(ProducePartitionResponse {
            base_offset: appended.base_offset,
            log_append_time: appended.log_append_time,
            log_start_offset: appended.log_start_offset,
            ..ProducePartitionResponse::refused(request.index, ErrorCode::NONE)
        })
    }

    fn rules(&self, config: &TopicConfig) -> Rules {
        Rules {
            max_message_bytes: config.max_message_bytes,
            compacted: config.cleanup_policy.compact,
            log_append_time: config.message_timestamp_type == TimestampType::LogAppendTime,
            timestamp_before_max_ms: config.message_timestamp_before_max_ms,
            timestamp_after_max_ms: config.message_timestamp_after_max_ms,
            compression: compression(config),
            zstd_allowed: self.version >= ZSTD_FROM,
            full: is_full(&self.broker.config),
            now: self.now,
        }
    }
}

fn count(topic: &Topic, request: &ProducePartition, failed: bool) {
    topic.metrics.count(|counts| &counts.produce_requests, 1);
    if failed {
        let bytes = request.records.as_ref().map_or(0, Bytes::len);
        topic.metrics.count(|counts| &counts.failed_produce_requests, 1);
        topic.metrics.count(|counts| &counts.bytes_rejected, bytes as u64);
    }
}

fn is_full(config: &BrokerConfig) -> bool {
    config.ottla_produce_validate == ProduceValidation::Full
}

/// What `compression.type` asks for; `None` for `producer`.
fn compression(config: &TopicConfig) -> Option<Compression> {
    let (codec, level) = match config.compression_type {
        CompressionType::Producer => return None,
        CompressionType::Uncompressed => (Codec::None, 0),
        CompressionType::Gzip => (Codec::Gzip, config.compression_gzip_level),
        CompressionType::Snappy => (Codec::Snappy, 0),
        CompressionType::Lz4 => (Codec::Lz4, config.compression_lz4_level),
        CompressionType::Zstd => (Codec::Zstd, config.compression_zstd_level),
    };
    Some(Compression { codec, level })
}

/// True for a batch of a transaction, before anything else of it is believed.
fn is_transactional(records: &[u8]) -> bool {
    BatchHeader::parse(records).is_some_and(|header| header.magic == MAGIC && header.is_transactional())
}

fn refusal(index: i32, refused: Refused) -> ProducePartitionResponse {
    ProducePartitionResponse {
        record_errors: refused.record_errors,
        error_message: (!refused.message.is_empty()).then_some(refused.message),
        ..ProducePartitionResponse::refused(index, refused.code)
    }
}

fn refuse_all(request: ProduceRequest, error: ErrorCode) -> ProduceResponse {
    let topics = request.topics.into_iter().map(|topic| ProduceTopicResponse {
        partitions: topic.partitions.iter().map(|p| ProducePartitionResponse::refused(p.index, error)).collect(),
        name: topic.name,
        topic_id: topic.topic_id,
    });
    ProduceResponse { topics: topics.collect(), ..ProduceResponse::default() }
}

/// KIP-951: a producer that came to the wrong broker is told the right one.
fn hint(broker: &Arc<Broker>, context: &RequestContext, response: &mut ProduceResponse) {
    let mut hints = LeaderHints::new(broker, context);
    for topic in &mut response.topics {
        for partition in &mut topic.partitions {
            if partition.error == ErrorCode::NOT_LEADER_OR_FOLLOWER {
                partition.current_leader = hints.of(&topic.name, topic.topic_id, partition.index);
            }
        }
    }
    response.node_endpoints = hints.endpoints();
}

/// acks=0: nothing is answered, and a failure closes the connection (KafkaApis.handleProduceRequest). As in Kafka, an answer
/// that fails is counted although nobody gets it, and one that does not is not.
fn silent(response: &ProduceResponse, counted: &Counted) -> Reply<Frame> {
    let mut partitions =
        response.topics.iter().flat_map(|topic| topic.partitions.iter().map(move |p| (&topic.name, p)));
    match partitions.find(|(_, partition)| partition.error.is_error()) {
        None => Reply::Silent,
        Some((name, partition)) => {
            counted.count(response);
            let (index, error) = (partition.index, partition.error);
            Reply::Close(Disconnect(format!("a produce with acks=0 to {}-{index} failed: {error}", &**name).into()))
        }
    }
}

/// Fills in how the waiting ended.
fn conclude(response: &mut ProduceResponse, wait: &AckWait, places: &[(usize, usize)]) {
    for (place, (topic, partition)) in places.iter().enumerate() {
        let answer = &mut response.topics[*topic].partitions[*partition];
        match wait.outcome(place) {
            Some(ErrorCode::NONE) => {}
            // As Kafka: what timed out or lost its replicas keeps its offset, since it is in the log.
            None => answer.error = ErrorCode::REQUEST_TIMED_OUT,
            Some(ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND) => {
                answer.error = ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND;
            }
            Some(error) => {
                answer.error = error;
                answer.base_offset = Offset::UNKNOWN;
                answer.log_append_time = Timestamp::NONE;
            }
        }
    }
}

fn encode(response: &ProduceResponse, version: i16, counted: &Counted) -> Frame {
    counted.count(response);
    response.encode(version).into()
}

#[cfg(test)]
#[path = "hot_path_tests.rs"]
mod tests;
