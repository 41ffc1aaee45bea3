//! Claims about Produce, Fetch and the APIs beside them, in process: a real controller, a real store, and requests
//! written and read by kafka-protocol's codecs, which are not ours.

use std::net::Ipv4Addr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    BrokerId, FetchRequest, FetchResponse, InitProducerIdRequest, InitProducerIdResponse, ListOffsetsRequest,
    OffsetForLeaderEpochRequest, ProduceRequest, ProduceResponse, TopicName, TransactionalId,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use tempfile::TempDir;

use crate::api::{
    Frame, Reply, RequestContext, TABLE, fetch, init_producer_id, list_offsets, offset_for_leader_epoch, produce,
};
use crate::broker::{Broker, MetadataAnswers};
use crate::config::BrokerConfig;
use crate::controller::image::CONSUMER_OFFSETS;
use crate::controller::{Controller, MetadataImage, NewTopic};
use crate::env;
use crate::error::ErrorCode;
use crate::group::Groups;
use crate::metrics::Metrics;
use crate::replica::{FetchSessions, ProducerIds, Replicas};
use crate::store::{Store, StoreOptions};
use crate::types::{Timestamp, TopicId};
use crate::wire::batch::BatchBuilder;
use crate::wire::message::Newer;

type Serve = fn(&Arc<Broker>, &RequestContext, Bytes) -> Reply<Frame>;

struct Served {
    _dir: TempDir,
    broker: Arc<Broker>,
    id: TopicId,
}

/// A broker with a topic `t` of three partitions.
async fn served() -> Served {
    let dir = TempDir::new().unwrap();
    let config = Arc::new(BrokerConfig { log_dirs: vec![dir.path().to_path_buf()], ..BrokerConfig::default() });
    let metrics = Metrics::new(TABLE.iter().map(|row| (row.name, row.versions.clone())));
    let (store, _) = Store::open(&dir.path().join("log"), StoreOptions::default()).unwrap();
    let controller = Controller::start(&config, &store.identity().unwrap()).await.unwrap();
    let replicas = Replicas::start(&config, &store, &metrics);
    let below = Arc::clone(&replicas);
    controller.on_image(Box::new(move |image: &Arc<MetadataImage>| below.install(image))).await.unwrap();
    let made = controller.create_topics(vec![NewTopic { partitions: 3, ..NewTopic::named("t") }], false).await.unwrap();
    let id = made[0].1.as_ref().unwrap().id;
    let broker = Arc::new(Broker {
        sessions: FetchSessions::new(10),
        producer_ids: ProducerIds::new(&controller),
        metadata_answers: MetadataAnswers::default(),
        groups: Groups::start(&config, &controller, &replicas),
        config,
        metrics,
        controller,
        replicas,
    });
    Served { _dir: dir, broker, id }
}

fn context(version: i16) -> RequestContext {
    let listener = Arc::from("PLAINTEXT");
    let context = RequestContext::of_connection(1, listener, Ipv4Addr::LOCALHOST.into());
    RequestContext { api_version: version, received: env::tick(), ..context }
}

fn start<Q: Encodable>(served: &Served, serve: Serve, version: i16, request: &Q) -> Reply<Frame> {
    let mut body = BytesMut::new();
    request.encode(&mut body, version).unwrap();
    serve(&served.broker, &context(version), body.freeze())
}

async fn ask<Q: Encodable, A: Decodable>(served: &Served, serve: Serve, version: i16, request: &Q) -> A {
    let frame = answer(start(served, serve, version, request)).await;
    let mut body = Bytes::from(frame.0.concat());
    let response = A::decode(&mut body, version).unwrap();
    assert!(body.is_empty(), "nothing is left over");
    response
}

async fn answer<T>(reply: Reply<T>) -> T {
    match reply {
        Reply::Now(answer) => answer,
        Reply::Later(answer) | Reply::Barrier(answer) => answer.await,
        Reply::Silent | Reply::SilentBarrier(_) => panic!("an answer, not silence"),
        Reply::Close(reason) => panic!("an answer, not {reason}"),
    }
}

fn name(topic: &str) -> TopicName {
    TopicName::from(StrBytes::from_string(topic.to_owned()))
}

fn batch(value: &str) -> Bytes {
    let mut builder = BatchBuilder::new();
    builder.append(Timestamp(1_000), Some(b"key"), Some(value.as_bytes()), &[]);
    builder.build().bytes.freeze()
}

fn produce_to(acks: i16, topic: &str, partitions: Vec<(i32, Option<Bytes>)>) -> ProduceRequest {
    let data = partitions
        .into_iter()
        .map(|(index, records)| PartitionProduceData::default().with_index(index).with_records(records))
        .collect();
    let topic = TopicProduceData::default().with_name(name(topic)).with_partition_data(data);
    ProduceRequest::default().with_acks(acks).with_timeout_ms(30_000).with_topic_data(vec![topic])
}

/// Error code and base offset of each partition.
async fn produced(served: &Served, request: &ProduceRequest) -> Vec<(i16, i64)> {
    let response: ProduceResponse = ask(served, produce::serve, 9, request).await;
    let partitions = response.responses.iter().flat_map(|topic| &topic.partition_responses);
    partitions.map(|partition| (partition.error_code, partition.base_offset)).collect()
}

fn fetch_from(partitions: &[(i32, i64)], min_bytes: i32) -> FetchRequest {
    let wanted = partitions.iter().map(|(index, offset)| {
        FetchPartition::default().with_partition(*index).with_fetch_offset(*offset).with_partition_max_bytes(1 << 20)
    });
    let topic = FetchTopic::default().with_topic(name("t")).with_partitions(wanted.collect());
    FetchRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_max_wait_ms(60_000)
        .with_min_bytes(min_bytes)
        .with_max_bytes(50 << 20)
        .with_topics(vec![topic])
}

fn partitions(response: &FetchResponse) -> Vec<&PartitionData> {
    response.responses.iter().flat_map(|topic| &topic.partitions).collect()
}

fn records(partition: &PartitionData) -> &[u8] {
    partition.records.as_deref().unwrap_or_default()
}

/// The value at the end of a batch, before the count of headers.
fn ends_with(records: &[u8], value: &str) -> bool {
    records.len() > value.len() && records[..records.len() - 1].ends_with(value.as_bytes())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_version_of_produce_and_fetch_carries_a_batch() {
    let served = served().await;
    for (offset, version) in (3..=13).enumerate() {
        let mut request = produce_to(-1, "t", vec![(0, Some(batch(&format!("v{version}"))))]);
        if version >= 13 {
            request.topic_data[0].name = TopicName::default();
            request.topic_data[0].topic_id = served.id.0;
        }
        let response: ProduceResponse = ask(&served, produce::serve, version, &request).await;
        let partition = &response.responses[0].partition_responses[0];
        assert_eq!((partition.error_code, partition.base_offset), (0, offset as i64), "version {version}");
    }
    for version in 4..=18 {
        let mut request = fetch_from(&[(0, 10)], 1);
        if version >= 13 {
            request.topics[0].topic = TopicName::default();
            request.topics[0].topic_id = served.id.0;
        }
        let response: FetchResponse = ask(&served, fetch::serve, version, &request).await;
        let found = partitions(&response);
        assert_eq!((found.len(), found[0].error_code, found[0].high_watermark), (1, 0, 11), "version {version}");
        assert!(ends_with(records(found[0]), "v13"), "version {version}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_bad_partition_never_spoils_its_neighbours() {
    let served = served().await;
    let mut corrupt = batch("a").to_vec();
    *corrupt.last_mut().unwrap() ^= 1;
    let mut transactional = batch("a").to_vec();
    transactional[22] |= 0x10;
    let request = produce_to(
        -1,
        "t",
        vec![
            (0, Some(Bytes::from(corrupt))),
            (9, Some(batch("a"))),
            (-1, Some(batch("a"))),
            (1, Some(batch("good"))),
            (2, None),
            (0, Some(Bytes::from(transactional))),
            (1, Some(batch("again"))),
        ],
    );
    let expected = [
        ErrorCode::CORRUPT_MESSAGE,
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode::NONE,
        ErrorCode::INVALID_RECORD,
        ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        ErrorCode::NONE,
    ];
    let answers = produced(&served, &request).await;
    assert_eq!(answers.iter().map(|(code, _)| ErrorCode::from_wire(*code)).collect::<Vec<_>>(), expected);
    assert_eq!(answers.iter().map(|(_, base)| *base).collect::<Vec<_>>(), [-1, -1, -1, 0, -1, -1, 1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_produce_that_may_not_be_is_refused_with_its_code() {
    let served = served().await;
    served.broker.controller.create_internal_topic(CONSUMER_OFFSETS).await.unwrap();
    for (acks, topic, code) in [
        (2, "t", ErrorCode::INVALID_REQUIRED_ACKS),
        (-1, "nowhere", ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        (-1, "../../etc/passwd", ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        (-1, CONSUMER_OFFSETS, ErrorCode::INVALID_TOPIC_EXCEPTION),
    ] {
        let request = produce_to(acks, topic, vec![(0, Some(batch("a")))]);
        assert_eq!(produced(&served, &request).await, [(code.get(), -1)], "{topic} with acks={acks}");
    }
    let mut request = produce_to(-1, "", vec![(0, Some(batch("a")))]);
    request.topic_data[0].topic_id = uuid::Uuid::from_u128(99);
    let response: ProduceResponse = ask(&served, produce::serve, 13, &request).await;
    assert_eq!(response.responses[0].partition_responses[0].error_code, ErrorCode::UNKNOWN_TOPIC_ID.get());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acks_0_is_silent_and_its_failure_closes_the_connection_and_is_counted() {
    let served = served().await;
    let counted = || {
        let page = served.broker.metrics.render();
        let lines = page.lines().filter_map(|line| line.strip_prefix("kafka_network_requestmetrics_errors_total"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let good = start(&served, produce::serve, 9, &produce_to(0, "t", vec![(0, Some(batch("a")))]));
    assert!(matches!(good, Reply::Silent));
    assert_eq!(counted(), [""; 0], "as in Kafka, which counts answers");
    let both = vec![(1, Some(batch("a"))), (9, Some(batch("a")))];
    let bad = start(&served, produce::serve, 9, &produce_to(0, "t", both));
    assert!(matches!(bad, Reply::Close(_)));
    let each = ["NONE", "UNKNOWN_TOPIC_OR_PARTITION"];
    assert_eq!(counted(), each.map(|error| format!("{{request=\"Produce\",error=\"{error}\"}} 1")));
    let response: FetchResponse = ask(&served, fetch::serve, 11, &fetch_from(&[(0, 0)], 1)).await;
    assert!(ends_with(records(partitions(&response)[0]), "a"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_poll_ends_with_the_next_produce() {
    let served = served().await;
    let waiting = start(&served, fetch::serve, 11, &fetch_from(&[(0, 0), (1, 0)], 1));
    assert!(matches!(waiting, Reply::Later(_)));
    let request = produce_to(1, "t", vec![(1, Some(batch("a")))]);
    let (frame, answers) = tokio::join!(answer(waiting), produced(&served, &request));
    assert_eq!(answers, [(0, 0)]);
    let response = FetchResponse::decode(&mut Bytes::from(frame.0.concat()), 11).unwrap();
    let sizes: Vec<usize> = partitions(&response).iter().map(|partition| records(partition).len()).collect();
    assert_eq!(sizes, [0, batch("a").len()]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_goes_on_by_its_id_and_epoch() {
    let served = served().await;
    let first: FetchResponse =
        ask(&served, fetch::serve, 12, &fetch_from(&[(0, 0), (1, 0)], 0).with_session_epoch(0)).await;
    assert!(first.session_id > 0);
    assert_eq!(partitions(&first).len(), 2);
    produced(&served, &produce_to(-1, "t", vec![(1, Some(batch("a")))])).await;
    let next =
        |epoch| fetch_from(&[], 0).with_topics(vec![]).with_session_id(first.session_id).with_session_epoch(epoch);
    let second: FetchResponse = ask(&served, fetch::serve, 12, &next(1)).await;
    let told: Vec<i32> = partitions(&second).iter().map(|partition| partition.partition_index).collect();
    assert_eq!((second.session_id, told), (first.session_id, vec![1]));
    let wrong: FetchResponse = ask(&served, fetch::serve, 12, &next(9)).await;
    assert_eq!(wrong.error_code, ErrorCode::INVALID_FETCH_SESSION_EPOCH.get());
    let by_id: FetchResponse = ask(&served, fetch::serve, 13, &next(2)).await;
    assert_eq!(by_id.error_code, ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR.get());
    let unknown: FetchResponse = ask(&served, fetch::serve, 12, &next(2).with_session_id(first.session_id ^ 1)).await;
    assert_eq!(unknown.error_code, ErrorCode::FETCH_SESSION_ID_NOT_FOUND.get());
    let forget = ForgottenTopic::default().with_topic(name("t")).with_partitions(vec![0, 1]);
    let last: FetchResponse = ask(&served, fetch::serve, 12, &next(2).with_forgotten_topics_data(vec![forget])).await;
    assert_eq!((last.error_code, last.session_id, partitions(&last).len()), (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_with_a_replica_id_reads_nothing() {
    let served = served().await;
    produced(&served, &produce_to(-1, "t", vec![(0, Some(batch("a")))])).await;
    let follower = fetch_from(&[(0, 0)], 1).with_replica_id(BrokerId(1));
    let refused: FetchResponse = ask(&served, fetch::serve, 11, &follower).await;
    assert_eq!(partitions(&refused)[0].error_code, ErrorCode::TOPIC_AUTHORIZATION_FAILED.get());
    assert!(records(partitions(&refused)[0]).is_empty());
}

/// Error code, timestamp and offset of each timestamp asked for.
async fn listed(served: &Served, version: i16, topic: &str, timestamps: &[i64]) -> Vec<(i16, i64, i64)> {
    let mut found = Vec::new();
    for timestamp in timestamps {
        let partition = ListOffsetsPartition::default().with_partition_index(0).with_timestamp(*timestamp);
        let topic = ListOffsetsTopic::default().with_name(name(topic)).with_partitions(vec![partition]);
        let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic]);
        let reply = list_offsets::handle(&served.broker, &context(version), Newer(request));
        let response = answer(reply).await.0;
        let partition = &response.topics[0].partitions[0];
        found.push((partition.error_code, partition.timestamp, partition.offset));
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offsets_are_listed_by_their_ends_and_by_time() {
    let served = served().await;
    for value in ["a", "b"] {
        produced(&served, &produce_to(-1, "t", vec![(0, Some(batch(value)))])).await;
    }
    let found = listed(&served, 11, "t", &[-2, -1, -3, -4, -5, -6, 0, 1_000, 1_001]).await;
    let none = (0, -1, -1);
    assert_eq!(
        found,
        [(0, -1, 0), (0, -1, 2), (0, 1_000, 0), (0, -1, 0), none, none, (0, 1_000, 0), (0, 1_000, 0), none]
    );
    let unsupported = (ErrorCode::UNSUPPORTED_VERSION.get(), -1, -1);
    assert_eq!(listed(&served, 6, "t", &[-3]).await, [unsupported]);
    let unknown = (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.get(), -1, -1);
    assert_eq!(listed(&served, 6, "nowhere", &[-1]).await, [unknown]);
}

async fn init(served: &Served, request: InitProducerIdRequest) -> InitProducerIdResponse {
    answer(init_producer_id::handle(&served.broker, &context(4), request)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_idempotent_producer_gets_an_id_of_its_own() {
    let served = served().await;
    let mut ids = std::collections::BTreeSet::new();
    for _ in 0..1_500 {
        let response = init(&served, InitProducerIdRequest::default().with_transactional_id(None)).await;
        assert_eq!((response.error_code, response.producer_epoch), (0, 0));
        assert!(ids.insert(response.producer_id.0), "an id is given once");
    }
    assert_eq!(ids.len(), 1_500, "over more than one block");
    let had =
        InitProducerIdRequest::default().with_transactional_id(None).with_producer_id(5.into()).with_producer_epoch(3);
    let again = init(&served, had).await;
    assert_eq!((again.error_code, again.producer_epoch), (0, 0));
    assert!(ids.insert(again.producer_id.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transactional_producer_is_told_at_once() {
    let served = served().await;
    let transactional = |id: &'static str, timeout| {
        let id = TransactionalId::from(StrBytes::from_static_str(id));
        InitProducerIdRequest::default().with_transactional_id(Some(id)).with_transaction_timeout_ms(timeout)
    };
    for (request, code) in [
        (transactional("", 60_000), ErrorCode::INVALID_REQUEST),
        (transactional("x", i32::MAX), ErrorCode::INVALID_TRANSACTION_TIMEOUT),
        (transactional("x", 60_000), ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED),
        (
            InitProducerIdRequest::default().with_transactional_id(None).with_producer_epoch(3),
            ErrorCode::INVALID_REQUEST,
        ),
    ] {
        let response = init(&served, request).await;
        assert_eq!(ErrorCode::from_wire(response.error_code), code);
        assert_eq!((response.producer_id.0, response.producer_epoch), (-1, -1));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_epoch_ends_where_the_log_does() {
    let served = served().await;
    produced(&served, &produce_to(-1, "t", vec![(0, Some(batch("a")))])).await;
    let asked = |index, current| {
        OffsetForLeaderPartition::default()
            .with_partition(index)
            .with_current_leader_epoch(current)
            .with_leader_epoch(0)
    };
    let topic = OffsetForLeaderTopic::default().with_topic(name("t")).with_partitions(vec![
        asked(0, -1),
        asked(0, 5),
        asked(9, -1),
    ]);
    let request = OffsetForLeaderEpochRequest::default().with_topics(vec![topic]);
    let response = answer(offset_for_leader_epoch::handle(&served.broker, &context(4), request)).await;
    let found: Vec<_> =
        response.topics[0].partitions.iter().map(|p| (p.error_code, p.leader_epoch, p.end_offset)).collect();
    let refused = |code: ErrorCode| (code.get(), -1, -1);
    let expected =
        [(0, 0, 1), refused(ErrorCode::UNKNOWN_LEADER_EPOCH), refused(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)];
    assert_eq!(found, expected);
}
