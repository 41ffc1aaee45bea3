//! What no client may do although the protocol has words for it.

use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic, ReplicaState};
use kafka_protocol::messages::write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
use kafka_protocol::messages::{
    ApiVersionsRequest, BrokerId, FetchRequest, InitProducerIdRequest, WriteTxnMarkersRequest,
};
use ottla_protocol_tests::batch::Batch;
use ottla_protocol_tests::client::Client;
use ottla_protocol_tests::steps::{
    Topic, create_request, create_topic, fetch, fetch_request, fetched_partitions, init_producer_id, log_end,
    only_fetched, produce, until,
};
use ottla_protocol_tests::{apis, broker, code, text, unique};

const FETCH: i16 = 1;

async fn filled() -> (Client, Topic) {
    let mut client = broker::connect().await;
    let topic = create_topic(&mut client, 1, &[]).await;
    produce(&mut client, &topic, 0, &Batch::of(&["one", "two"])).await;
    (client, topic)
}

fn as_follower(version: i16, topic: &Topic, offset: i64) -> FetchRequest {
    let request = fetch_request(version, topic, &[(0, offset)]);
    match version {
        ..=14 => request.with_replica_id(BrokerId(1)),
        _ => request.with_replica_state(ReplicaState::default().with_replica_id(BrokerId(1)).with_replica_epoch(0)),
    }
}

#[tokio::test]
async fn a_client_that_says_it_is_a_follower_gets_nothing_and_moves_nothing() {
    let (mut client, topic) = filled().await;
    for version in apis::versions(FETCH) {
        for offset in [0, 2] {
            let response = client.call(version, &as_follower(version, &topic, offset)).await;
            // Without an authorizer Kafka finds that broker 1 is no follower of its own; with one it asks for rights.
            let refusals =
                [code::NOT_LEADER_OR_FOLLOWER, code::TOPIC_AUTHORIZATION_FAILED, code::CLUSTER_AUTHORIZATION_FAILED];
            for partition in fetched_partitions(&response) {
                assert!(refusals.contains(&partition.error_code), "v{version}: {}", partition.error_code);
                assert!(partition.records.as_ref().is_none_or(|records| records.is_empty()), "v{version}");
            }
            let partitions = fetched_partitions(&response).len();
            assert!(partitions == 1 || refusals.contains(&response.error_code), "v{version}");
        }
    }
    let seen = fetch(&mut client, &topic, 0, 0).await;
    assert_eq!((seen.error_code, seen.high_watermark), (code::NONE, 2));
}

#[tokio::test]
async fn a_fetch_that_cannot_be_satisfied_waits_and_one_that_need_not_does_not() {
    let (mut client, topic) = filled().await;
    let at_the_end =
        |min_bytes| fetch_request(12, &topic, &[(0, 2)]).with_max_wait_ms(i32::MAX).with_min_bytes(min_bytes);
    let seen = only_fetched(client.call(12, &at_the_end(0)).await);
    assert_eq!((seen.error_code, seen.high_watermark), (code::NONE, 2));
    let mut waiting = broker::connect().await;
    waiting.send(12, &at_the_end(i32::MAX)).await;
    // Its connection ends while it waits: that is all.
    drop(waiting);
    produce(&mut client, &topic, 0, &Batch::of(&["three"])).await;
    assert_eq!(log_end(&mut client, &topic, 0).await, 3);
}

#[tokio::test]
async fn a_fetch_that_waits_for_ever_ends_with_its_connection() {
    let Some(own) = broker::own(&[]) else { return };
    let mut client = own.connect().await;
    let topic = create_topic(&mut client, 1, &[]).await;
    let before = own.descriptors();
    for end in 0..50 {
        let mut waiting = own.connect().await;
        let request = fetch_request(12, &topic, &[(0, 0)]).with_max_wait_ms(i32::MAX).with_min_bytes(i32::MAX);
        waiting.send(12, &request).await;
        if end % 2 == 0 {
            waiting.reset();
        }
    }
    until("every connection is closed", async || (own.descriptors() <= before).then_some(())).await;
}

#[tokio::test]
async fn a_transaction_timeout_that_cannot_be_is_refused_at_every_version() {
    let mut client = broker::connect().await;
    for version in apis::versions(22).filter(|version| *version <= 5) {
        for timeout in [i32::MAX, 900_001, 0, -1, i32::MIN] {
            let request = InitProducerIdRequest::default()
                .with_transactional_id(Some(text("somebody").into()))
                .with_transaction_timeout_ms(timeout);
            let response = client.call(version, &request).await;
            assert_eq!(response.error_code, code::INVALID_TRANSACTION_TIMEOUT, "v{version}: {timeout} ms");
            assert_eq!(response.producer_id, -1);
        }
        // Without a transactional id there is no transaction to time out.
        let request =
            InitProducerIdRequest::default().with_transactional_id(None).with_transaction_timeout_ms(i32::MAX);
        let response = init_producer_id(&mut client, version, &request).await;
        assert_eq!(response.error_code, code::NONE, "v{version}");
    }
}

#[tokio::test]
async fn a_client_writes_no_transaction_markers() {
    // Kafka without an authorizer writes them for anybody; where nothing is between brokers and clients, nobody may.
    let Some(own) = broker::own(&[]) else { return };
    let mut client = own.connect().await;
    let topic = create_topic(&mut client, 1, &[]).await;
    produce(&mut client, &topic, 0, &Batch::of(&["one"])).await;
    let marker =
        WritableTxnMarker::default().with_producer_id(7.into()).with_transaction_result(true).with_topics(vec![
            WritableTxnMarkerTopic::default().with_name(topic.topic_name()).with_partition_indexes(vec![0]),
        ]);
    let mut other = own.connect().await;
    other.send(1, &WriteTxnMarkersRequest::default().with_markers(vec![marker])).await;
    assert!(other.is_closed().await);
    assert_eq!(log_end(&mut client, &topic, 0).await, 1);
}

#[tokio::test]
async fn a_million_partitions_are_too_many_for_one_request() {
    let mut client = broker::connect().await;
    let name = unique("enormous");
    let response = client.call(7, &create_request(&name, 1_000_000, &[])).await;
    assert_eq!(response.topics[0].error_code, code::POLICY_VIOLATION, "{:?}", response.topics[0].error_message);
    let topic = Topic { name, id: uuid::Uuid::nil() };
    assert_eq!(fetch(&mut client, &topic, 0, 0).await.error_code, code::UNKNOWN_TOPIC_OR_PARTITION);
}

#[tokio::test]
async fn more_sessions_than_there_is_room_for_are_answered_without_one() {
    let Some(own) = broker::own(&[("max.incremental.fetch.session.cache.slots", "50")]) else { return };
    let mut client = own.connect().await;
    let topic = create_topic(&mut client, 1, &[]).await;
    produce(&mut client, &topic, 0, &Batch::of(&["one"])).await;
    let mut sessions = Vec::new();
    for _ in 0..200 {
        let response = client.call(12, &fetch_request(12, &topic, &[(0, 0)]).with_session_epoch(0)).await;
        sessions.extend(Some(response.session_id).filter(|id| *id != 0));
        assert!(only_fetched(response).records.is_some_and(|records| !records.is_empty()));
    }
    assert_eq!(sessions.len(), 50);
    // Those that have one go on with it, and one that ends makes room.
    let going_on = FetchRequest::default().with_max_bytes(1 << 20).with_session_id(sessions[0]).with_session_epoch(1);
    assert_eq!(client.call(12, &going_on).await.session_id, sessions[0]);
    let ends = fetch_request(12, &topic, &[(0, 0)]).with_session_id(sessions[1]).with_session_epoch(-1);
    assert_eq!(client.call(12, &ends).await.error_code, code::NONE);
    let response = client.call(12, &fetch_request(12, &topic, &[(0, 0)]).with_session_epoch(0)).await;
    assert_ne!(response.session_id, 0);
}

#[tokio::test]
async fn a_session_forgets_a_hundred_thousand_partitions_that_it_never_had() {
    let (mut client, topic) = filled().await;
    let response = client.call(12, &fetch_request(12, &topic, &[(0, 0)]).with_session_epoch(0)).await;
    let session = response.session_id;
    assert_ne!(session, 0);
    let absent = ForgottenTopic::default().with_topic(text("absent").into()).with_partitions((0..100_000).collect());
    let request = FetchRequest::default()
        .with_max_bytes(1 << 20)
        .with_session_id(session)
        .with_session_epoch(1)
        .with_forgotten_topics_data(vec![absent]);
    let response = client.call(12, &request).await;
    assert_eq!((response.error_code, response.session_id), (code::NONE, session));
    let ends = fetch_request(12, &topic, &[(0, 0)]).with_session_id(session).with_session_epoch(-1);
    assert_eq!(client.call(12, &ends).await.error_code, code::NONE);
}

#[tokio::test]
async fn sessions_over_partitions_that_do_not_exist_stay_bounded() {
    let Some(own) = broker::own(&[]) else { return };
    let mut client = own.connect().await;
    client.call(0, &ApiVersionsRequest::default()).await;
    let before = own.peak_kib().expect("its memory");
    let partitions = (0..100_000).map(|index| FetchPartition::default().with_partition(index)).collect();
    let absent = FetchTopic::default().with_topic(text("absent").into()).with_partitions(partitions);
    let request = FetchRequest::default().with_max_bytes(1 << 20).with_topics(vec![absent]).with_session_epoch(0);
    let mut kept = 0;
    for _ in 0..40 {
        let response = client.call(12, &request).await;
        assert_eq!(fetched_partitions(&response).len(), 100_000);
        kept += usize::from(response.session_id != 0);
    }
    let grown = own.peak_kib().expect("its memory") - before;
    assert!(kept > 0 && grown < 400 << 10, "{kept} sessions, memory grew by {} MiB", grown >> 10);
}
