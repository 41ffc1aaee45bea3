//! The steps that most tests take: make a topic, produce to it, fetch from it, ask for its end.
//!
//! Requests are built here for any version; a field that the version lacks is left out, as a client would.

use bytes::Bytes;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::list_offsets_response::ListOffsetsPartitionResponse;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{
    CreateTopicsRequest, FetchRequest, FetchResponse, InitProducerIdRequest, InitProducerIdResponse,
    ListOffsetsRequest, ProduceRequest, ProduceResponse, TopicName,
};
use tokio::time::{Duration, Instant, sleep};
use uuid::Uuid;

use crate::batch::Batch;
use crate::client::{Client, PATIENCE};
use crate::{code, text, unique};

/// The version at which these steps produce: the newest that names topics.
const PRODUCE_BY_NAME: i16 = 12;
/// The version at which these steps fetch: the newest that names topics.
const FETCH_BY_NAME: i16 = 12;

/// ListOffsets: the log end, or the last stable offset.
pub const LATEST: i64 = -1;
/// ListOffsets: the log start.
pub const EARLIEST: i64 = -2;

/// A topic by both its identities.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Topic {
    pub name: String,
    pub id: Uuid,
}

impl Topic {
    /// The name as the codecs want it.
    pub fn topic_name(&self) -> TopicName {
        TopicName(text(&self.name))
    }
}

/// Asks again until the condition holds. What is polled for is always something that the broker does by itself.
pub async fn until<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = probe().await {
            return value;
        }
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// A CreateTopics request for one topic.
pub fn create_request(name: &str, partitions: i32, configs: &[(&str, &str)]) -> CreateTopicsRequest {
    let config = |(key, value): &(&str, &str)| {
        CreatableTopicConfig::default().with_name(text(key)).with_value(Some(text(value)))
    };
    let topic = CreatableTopic::default()
        .with_name(TopicName(text(name)))
        .with_num_partitions(partitions)
        .with_replication_factor(1)
        .with_configs(configs.iter().map(config).collect());
    CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000)
}

/// A topic of its own for a test, ready to be produced to.
pub async fn create_topic(client: &mut Client, partitions: i32, configs: &[(&str, &str)]) -> Topic {
    create_named(client, &unique("topic"), partitions, configs).await
}

/// A topic with this name, ready to be produced to. Kafka answers CreateTopics before its broker has the partitions.
pub async fn create_named(client: &mut Client, name: &str, partitions: i32, configs: &[(&str, &str)]) -> Topic {
    let response = client.call(7, &create_request(name, partitions, configs)).await;
    let created = &response.topics[0];
    assert_eq!(created.error_code, code::NONE, "create {name}: {:?}", created.error_message);
    let topic = Topic { name: name.to_owned(), id: created.topic_id };
    for partition in 0..partitions {
        until("the partition has a leader", async || {
            (list_offset(client, &topic, partition, LATEST).await.error_code == code::NONE).then_some(())
        })
        .await;
    }
    topic
}

/// A Produce request with one batch.
pub fn produce_request(version: i16, topic: &Topic, partition: i32, acks: i16, records: &[u8]) -> ProduceRequest {
    let data =
        PartitionProduceData::default().with_index(partition).with_records(Some(Bytes::copy_from_slice(records)));
    let mut named = TopicProduceData::default().with_partition_data(vec![data]);
    if version >= 13 {
        named.topic_id = topic.id;
    } else {
        named.name = topic.topic_name();
    }
    ProduceRequest::default().with_acks(acks).with_timeout_ms(30_000).with_topic_data(vec![named])
}

/// The only partition's answer in a Produce response.
pub fn only_produced(mut response: ProduceResponse) -> PartitionProduceResponse {
    assert_eq!((response.responses.len(), response.responses[0].partition_responses.len()), (1, 1));
    response.responses.remove(0).partition_responses.remove(0)
}

/// Produces bytes to a partition with acks=all, whatever they are.
pub async fn produce_bytes(
    client: &mut Client,
    topic: &Topic,
    partition: i32,
    records: &[u8],
) -> PartitionProduceResponse {
    let request = produce_request(PRODUCE_BY_NAME, topic, partition, -1, records);
    only_produced(client.call(PRODUCE_BY_NAME, &request).await)
}

/// Produces a batch that must be accepted; returns its base offset.
pub async fn produce(client: &mut Client, topic: &Topic, partition: i32, batch: &Batch) -> i64 {
    let response = produce_bytes(client, topic, partition, &batch.encode()).await;
    assert_eq!(response.error_code, code::NONE, "{:?}", response.error_message);
    response.base_offset
}

/// A Fetch request for these partitions and offsets of one topic, that does not wait.
pub fn fetch_request(version: i16, topic: &Topic, from: &[(i32, i64)]) -> FetchRequest {
    let partition = |(partition, offset): &(i32, i64)| {
        FetchPartition::default()
            .with_partition(*partition)
            .with_fetch_offset(*offset)
            .with_partition_max_bytes(1 << 20)
    };
    let mut named = FetchTopic::default().with_partitions(from.iter().map(partition).collect());
    if version >= 13 {
        named.topic_id = topic.id;
    } else {
        named.topic = topic.topic_name();
    }
    FetchRequest::default().with_max_bytes(50 << 20).with_topics(vec![named])
}

/// The only partition's answer in a Fetch response.
pub fn only_fetched(mut response: FetchResponse) -> PartitionData {
    assert_eq!(response.error_code, code::NONE);
    assert_eq!((response.responses.len(), response.responses[0].partitions.len()), (1, 1));
    response.responses.remove(0).partitions.remove(0)
}

/// Fetches everything of a partition from an offset on.
pub async fn fetch(client: &mut Client, topic: &Topic, partition: i32, offset: i64) -> PartitionData {
    let response = client.call(FETCH_BY_NAME, &fetch_request(FETCH_BY_NAME, topic, &[(partition, offset)])).await;
    only_fetched(response)
}

/// The partitions of a fetch response, of whatever topic.
pub fn fetched_partitions(response: &FetchResponse) -> Vec<&PartitionData> {
    response.responses.iter().flat_map(|topic: &FetchableTopicResponse| &topic.partitions).collect()
}

/// A ListOffsets request for one partition.
pub fn list_offsets_request(topic: &str, partition: i32, timestamp: i64) -> ListOffsetsRequest {
    let partition = ListOffsetsPartition::default().with_partition_index(partition).with_timestamp(timestamp);
    let topic = ListOffsetsTopic::default().with_name(TopicName(text(topic))).with_partitions(vec![partition]);
    ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![topic])
}

/// Looks up one offset at a version of the test's choice. Version 11 has version 10's layout, which the codec knows.
pub async fn list_offset_at(
    client: &mut Client,
    version: i16,
    topic: &Topic,
    partition: i32,
    timestamp: i64,
) -> ListOffsetsPartitionResponse {
    let request = list_offsets_request(&topic.name, partition, timestamp);
    let mut response = client.call_as(version, version.min(10), &request).await;
    assert_eq!(response.topics[0].name, topic.topic_name());
    let answer = response.topics.remove(0).partitions.remove(0);
    assert_eq!(answer.partition_index, partition);
    answer
}

/// Looks up one offset.
pub async fn list_offset(
    client: &mut Client,
    topic: &Topic,
    partition: i32,
    timestamp: i64,
) -> ListOffsetsPartitionResponse {
    list_offset_at(client, 10, topic, partition, timestamp).await
}

/// The log end offset of a partition.
pub async fn log_end(client: &mut Client, topic: &Topic, partition: i32) -> i64 {
    let answer = list_offset(client, topic, partition, LATEST).await;
    assert_eq!(answer.error_code, code::NONE);
    answer.offset
}

/// Asks for a producer id until the broker has one: Kafka fetches blocks of ids in the background, and says meanwhile
/// that its coordinator loads.
pub async fn init_producer_id(
    client: &mut Client,
    version: i16,
    request: &InitProducerIdRequest,
) -> InitProducerIdResponse {
    until("a block of producer ids", async || {
        let response = client.call(version, request).await;
        (response.error_code != code::COORDINATOR_LOAD_IN_PROGRESS).then_some(response)
    })
    .await
}

/// A new producer id, and its epoch.
pub async fn producer_id(client: &mut Client) -> (i64, i16) {
    let request = InitProducerIdRequest::default().with_transactional_id(None).with_transaction_timeout_ms(60_000);
    let response = init_producer_id(client, 4, &request).await;
    assert_eq!(response.error_code, code::NONE);
    (response.producer_id.0, response.producer_epoch)
}
