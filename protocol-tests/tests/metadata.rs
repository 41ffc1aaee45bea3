//! Metadata (3): brokers, topics by name and by id, creation on demand.

use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::{DeleteTopicsRequest, MetadataRequest, MetadataResponse, TopicName};
use ottla_protocol_tests::client::Client;
use ottla_protocol_tests::steps::{Topic, create_named, create_topic, until};
use ottla_protocol_tests::{apis, broker, code, text, unique};
use uuid::Uuid;

const KEY: i16 = 3;
const NOT_ASKED: i32 = i32::MIN;

fn named(version: i16, names: &[&str], create: bool) -> MetadataRequest {
    let topic = |name: &&str| MetadataRequestTopic::default().with_name(Some(TopicName(text(name))));
    let request = MetadataRequest::default().with_topics(Some(names.iter().map(topic).collect()));
    if version >= 4 { request.with_allow_auto_topic_creation(create) } else { request }
}

fn by_id(id: Uuid) -> MetadataRequest {
    MetadataRequest::default()
        .with_topics(Some(vec![MetadataRequestTopic::default().with_name(None).with_topic_id(id)]))
}

fn only(response: MetadataResponse) -> MetadataResponseTopic {
    assert_eq!(response.topics.len(), 1);
    response.topics.into_iter().next().expect("one topic")
}

fn everything(version: i16) -> MetadataRequest {
    // Version 0 has no null: there an empty list means all topics.
    MetadataRequest::default().with_topics(if version == 0 { Some(Vec::new()) } else { None })
}

async fn delete(client: &mut Client, topic: &Topic) {
    let request = DeleteTopicsRequest::default().with_topic_names(vec![topic.topic_name()]).with_timeout_ms(30_000);
    assert_eq!(client.call(5, &request).await.responses[0].error_code, code::NONE);
}

#[tokio::test]
async fn every_version_tells_of_the_broker_and_of_a_topic_what_it_has_fields_for() {
    let mut client = broker::connect().await;
    let topic = create_topic(&mut client, 3, &[]).await;
    for version in apis::versions(KEY) {
        let response = client.call(version, &named(version, &[&topic.name], false)).await;
        let known = response.brokers[0].clone();
        assert_eq!(response.brokers.len(), 1);
        assert_eq!(known.node_id.0, 1);
        assert_eq!(known.host.as_str(), broker::shared().host(), "the advertised host");
        assert_eq!(known.port, broker::shared().port());
        assert_eq!(known.rack.as_deref(), None, "v{version}");
        assert_eq!(response.throttle_time_ms, 0);
        assert_eq!(response.cluster_id.as_deref().is_some_and(|id| id.len() == 22), version >= 2, "v{version}");
        assert_eq!(response.controller_id.0, if version >= 1 { 1 } else { -1 });
        assert_eq!(response.cluster_authorized_operations, NOT_ASKED);
        assert_eq!(response.error_code, code::NONE);

        let described = only(response);
        assert_eq!(described.error_code, code::NONE);
        assert_eq!(described.name, Some(topic.topic_name()));
        assert_eq!(described.topic_id, if version >= 10 { topic.id } else { Uuid::nil() }, "v{version}");
        assert!(!described.is_internal);
        assert_eq!(described.topic_authorized_operations, NOT_ASKED);
        let mut indexes: Vec<i32> = described.partitions.iter().map(|partition| partition.partition_index).collect();
        indexes.sort_unstable();
        assert_eq!(indexes, [0, 1, 2]);
        for partition in &described.partitions {
            assert_eq!((partition.error_code, partition.leader_id.0), (code::NONE, 1));
            assert_eq!(partition.leader_epoch, if version >= 7 { 0 } else { -1 }, "v{version}");
            assert_eq!(partition.replica_nodes.iter().map(|node| node.0).collect::<Vec<_>>(), [1]);
            assert_eq!(partition.isr_nodes.iter().map(|node| node.0).collect::<Vec<_>>(), [1]);
            assert!(partition.offline_replicas.is_empty());
        }
    }
}

#[tokio::test]
async fn all_topics_are_listed_for_null_and_none_for_an_empty_list_but_in_version_0() {
    let mut client = broker::connect().await;
    let topic = create_topic(&mut client, 1, &[]).await;
    for version in apis::versions(KEY) {
        let all = client.call(version, &everything(version)).await;
        assert!(all.topics.iter().any(|known| known.name == Some(topic.topic_name())), "v{version}");
        if version >= 1 {
            let none = client.call(version, &named(version, &[], false)).await;
            assert!(none.topics.is_empty() && none.brokers.len() == 1, "v{version}");
        }
    }
}

#[tokio::test]
async fn an_unknown_topic_stays_unknown_where_creation_is_not_allowed() {
    let mut client = broker::connect().await;
    let name = unique("absent");
    for version in 4..=*apis::versions(KEY).end() {
        let topic = only(client.call(version, &named(version, &[&name], false)).await);
        assert_eq!(topic.error_code, code::UNKNOWN_TOPIC_OR_PARTITION);
        assert_eq!(topic.name, Some(TopicName(text(&name))));
        assert_eq!(topic.topic_id, Uuid::nil());
        assert!(topic.partitions.is_empty());
    }
}

#[tokio::test]
async fn an_unknown_topic_is_created_on_demand_at_every_version() {
    let mut client = broker::connect().await;
    for version in apis::versions(KEY) {
        let name = unique("demanded");
        let topic = until("the topic is created", async || {
            let topic = only(client.call(version, &named(version, &[&name], true)).await);
            // Kafka answers the first request before the topic exists; what it says then is retriable.
            let waiting = [code::UNKNOWN_TOPIC_OR_PARTITION, code::LEADER_NOT_AVAILABLE].contains(&topic.error_code);
            assert!(waiting || topic.error_code == code::NONE, "v{version}: {}", topic.error_code);
            (!waiting).then_some(topic)
        })
        .await;
        assert_eq!(topic.partitions.len(), 1, "num.partitions");
    }
}

#[tokio::test]
async fn an_impossible_name_is_invalid_whether_or_not_creation_is_allowed() {
    let mut client = broker::connect().await;
    let long = "x".repeat(250);
    for version in apis::versions(KEY) {
        for name in ["with blank", "..", ".", "sla/sh", "", &long, "ümlaut"] {
            for create in [true, false] {
                let topic = only(client.call(version, &named(version, &[name], create)).await);
                assert_eq!(topic.error_code, code::INVALID_TOPIC_EXCEPTION, "{name:?} at v{version}, create {create}");
            }
        }
    }
}

#[tokio::test]
async fn one_bad_topic_does_not_spoil_its_neighbours_and_a_repeated_one_is_told_once() {
    let mut client = broker::connect().await;
    let topic = create_topic(&mut client, 1, &[]).await;
    let absent = unique("absent");
    for version in 4..=*apis::versions(KEY).end() {
        let request = named(version, &[&topic.name, &absent, "..", &topic.name], false);
        let response = client.call(version, &request).await;
        let mut answers: Vec<(String, i16)> = response
            .topics
            .into_iter()
            .map(|topic| (topic.name.expect("a name").to_string(), topic.error_code))
            .collect();
        let mut expected = vec![
            (topic.name.clone(), code::NONE),
            (absent.clone(), code::UNKNOWN_TOPIC_OR_PARTITION),
            ("..".to_owned(), code::INVALID_TOPIC_EXCEPTION),
        ];
        answers.sort();
        expected.sort();
        assert_eq!(answers, expected, "v{version}");
    }
}

#[tokio::test]
async fn topics_are_found_by_id_from_version_12_on() {
    let mut client = broker::connect().await;
    let topic = create_topic(&mut client, 1, &[]).await;
    let nobody = Uuid::new_v4();
    for version in 12..=*apis::versions(KEY).end() {
        let found = only(client.call(version, &by_id(topic.id)).await);
        assert_eq!((found.error_code, found.topic_id), (code::NONE, topic.id));
        assert_eq!(found.name, Some(topic.topic_name()));
        let lost = only(client.call(version, &by_id(nobody)).await);
        assert_eq!((lost.error_code, lost.topic_id, lost.name), (code::UNKNOWN_TOPIC_ID, nobody, None));
    }
}

#[tokio::test]
async fn a_topic_id_before_version_12_is_an_invalid_request() {
    let mut client = broker::connect().await;
    let topic = create_topic(&mut client, 1, &[]).await;
    for version in [10, 11] {
        let mut request = named(version, &[&topic.name], false);
        request.topics.as_mut().expect("topics")[0].topic_id = topic.id;
        let answer = only(client.call(version, &request).await);
        assert_eq!(answer.error_code, code::INVALID_REQUEST, "v{version}");
    }
}

#[tokio::test]
async fn authorized_operations_are_told_when_asked_for() {
    let mut client = broker::connect().await;
    let topic = create_topic(&mut client, 1, &[]).await;
    for version in 8..=*apis::versions(KEY).end() {
        let mut request = named(version, &[&topic.name], false).with_include_topic_authorized_operations(true);
        request.include_cluster_authorized_operations = version <= 10;
        let response = client.call(version, &request).await;
        // One bit per AclOperation code; without an authorizer all that the resource type supports.
        let cluster = if version <= 10 { 0b1_1111_1010_0000 } else { NOT_ASKED };
        assert_eq!(response.cluster_authorized_operations, cluster, "v{version}");
        assert_eq!(only(response).topic_authorized_operations, 0b1101_1111_1000, "v{version}");
    }
}

#[tokio::test]
async fn a_deleted_topic_is_gone_by_name_and_by_id_and_its_successor_has_another_id() {
    let mut client = broker::connect().await;
    let old = create_topic(&mut client, 1, &[]).await;
    delete(&mut client, &old).await;
    until("the topic is gone", async || {
        let gone = only(client.call(12, &named(12, &[&old.name], false)).await);
        (gone.error_code == code::UNKNOWN_TOPIC_OR_PARTITION).then_some(())
    })
    .await;
    assert_eq!(only(client.call(12, &by_id(old.id)).await).error_code, code::UNKNOWN_TOPIC_ID);
    let new = create_named(&mut client, &old.name, 1, &[]).await;
    assert_ne!(new.id, old.id);
    assert_eq!(only(client.call(12, &by_id(old.id)).await).error_code, code::UNKNOWN_TOPIC_ID);
    assert_eq!(only(client.call(12, &by_id(new.id)).await).name, Some(new.topic_name()));
}
