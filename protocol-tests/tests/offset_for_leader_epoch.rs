//! OffsetForLeaderEpoch (23): where an epoch of a leader ended (KIP-101, KIP-320).

use kafka_protocol::messages::OffsetForLeaderEpochRequest;
use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_protocol::messages::offset_for_leader_epoch_response::EpochEndOffset;
use ottla_protocol_tests::batch::Batch;
use ottla_protocol_tests::client::Client;
use ottla_protocol_tests::steps::{Topic, create_topic, produce};
use ottla_protocol_tests::{apis, broker, code, unique};
use uuid::Uuid;

const KEY: i16 = 23;

/// Asks for the end of `epoch`, claiming to know `current` as the leader's.
async fn ask(client: &mut Client, version: i16, topic: &Topic, current: i32, epoch: i32) -> EpochEndOffset {
    let partition = OffsetForLeaderPartition::default().with_current_leader_epoch(current).with_leader_epoch(epoch);
    let named = OffsetForLeaderTopic::default().with_topic(topic.topic_name()).with_partitions(vec![partition]);
    let mut request = OffsetForLeaderEpochRequest::default().with_topics(vec![named]);
    if version >= 3 {
        request.replica_id = (-1).into();
    }
    let mut response = client.call(version, &request).await;
    assert_eq!(response.throttle_time_ms, 0);
    assert_eq!(response.topics[0].topic, topic.topic_name());
    response.topics.remove(0).partitions.remove(0)
}

async fn filled() -> (Client, Topic) {
    let mut client = broker::connect().await;
    let topic = create_topic(&mut client, 1, &[]).await;
    produce(&mut client, &topic, 0, &Batch::of(&["a", "b", "c"])).await;
    (client, topic)
}

#[tokio::test]
async fn the_current_epoch_ends_at_the_log_end_at_every_version() {
    let (mut client, topic) = filled().await;
    for version in apis::versions(KEY) {
        for current in [-1, 0] {
            let answer = ask(&mut client, version, &topic, current, 0).await;
            assert_eq!((answer.error_code, answer.partition), (code::NONE, 0));
            assert_eq!((answer.leader_epoch, answer.end_offset), (0, 3), "v{version}");
        }
    }
}

#[tokio::test]
async fn an_epoch_of_the_future_or_none_has_no_end() {
    let (mut client, topic) = filled().await;
    for version in apis::versions(KEY) {
        for epoch in [1, i32::MAX, -1] {
            let answer = ask(&mut client, version, &topic, -1, epoch).await;
            assert_eq!(answer.error_code, code::NONE);
            assert_eq!((answer.leader_epoch, answer.end_offset), (-1, -1), "v{version}, epoch {epoch}");
        }
    }
}

#[tokio::test]
async fn an_epoch_from_before_the_first_is_given_back_with_the_start_of_the_first() {
    // What a replica with an older history truncates to. Kafka does not ask whether the epoch can exist.
    let (mut client, topic) = filled().await;
    for version in apis::versions(KEY) {
        let answer = ask(&mut client, version, &topic, -1, -2).await;
        assert_eq!((answer.error_code, answer.leader_epoch, answer.end_offset), (code::NONE, -2, 0), "v{version}");
    }
}

#[tokio::test]
async fn a_client_that_knows_a_newer_leader_is_told_so() {
    let (mut client, topic) = filled().await;
    for version in apis::versions(KEY) {
        let answer = ask(&mut client, version, &topic, 1, 0).await;
        assert_eq!(answer.error_code, code::UNKNOWN_LEADER_EPOCH, "v{version}");
        assert_eq!((answer.leader_epoch, answer.end_offset), (-1, -1));
    }
}

#[tokio::test]
async fn an_unknown_topic_is_refused() {
    let (mut client, _) = filled().await;
    let absent = Topic { name: unique("absent"), id: Uuid::nil() };
    for version in apis::versions(KEY) {
        let answer = ask(&mut client, version, &absent, -1, 0).await;
        assert_eq!(answer.error_code, code::UNKNOWN_TOPIC_OR_PARTITION, "v{version}");
    }
}
