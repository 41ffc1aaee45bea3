//! CreateTopics (19) and DeleteTopics (20).

use kafka_protocol::messages::create_topics_request::CreatableReplicaAssignment;
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{CreateTopicsRequest, DeleteTopicsRequest, TopicName};
use ottla_protocol_tests::batch::Batch;
use ottla_protocol_tests::client::Client;
use ottla_protocol_tests::steps::{create_named, create_request, create_topic, log_end, produce, until};
use ottla_protocol_tests::{apis, broker, code, text, unique};
use uuid::Uuid;

const CREATE: i16 = 19;
const DELETE: i16 = 20;

async fn create(client: &mut Client, version: i16, request: &CreateTopicsRequest) -> CreatableTopicResult {
    let mut response = client.call(version, request).await;
    assert_eq!((response.throttle_time_ms, response.topics.len()), (0, 1));
    response.topics.remove(0)
}

/// Refused with this code and sentence at every version; a sentence is never null.
async fn refused(client: &mut Client, request: &CreateTopicsRequest, expected: i16, sentence: &str) {
    for version in apis::versions(CREATE) {
        let answer = create(client, version, request).await;
        assert_eq!(answer.error_code, expected, "v{version}: {:?}", answer.error_message);
        assert_eq!(answer.error_message.as_deref(), Some(sentence), "v{version}");
        assert_eq!(answer.topic_id, Uuid::nil());
        assert_eq!((answer.num_partitions, answer.replication_factor), (-1, -1));
    }
}

fn delete_request(version: i16, name: &str) -> DeleteTopicsRequest {
    let request = DeleteTopicsRequest::default().with_timeout_ms(30_000);
    let name = TopicName(text(name));
    if version >= 6 {
        request.with_topics(vec![DeleteTopicState::default().with_name(Some(name))])
    } else {
        request.with_topic_names(vec![name])
    }
}

async fn delete(client: &mut Client, version: i16, request: &DeleteTopicsRequest) -> DeletableTopicResult {
    let mut response = client.call(version, request).await;
    assert_eq!((response.throttle_time_ms, response.responses.len()), (0, 1));
    response.responses.remove(0)
}

#[tokio::test]
async fn every_version_creates_a_topic_and_tells_what_it_has_fields_for() {
    let mut client = broker::connect().await;
    for version in apis::versions(CREATE) {
        let name = unique("made");
        let request = create_request(&name, 3, &[("retention.ms", "12345")]);
        let made = create(&mut client, version, &request).await;
        assert_eq!(made.name, TopicName(text(&name)));
        assert_eq!((made.error_code, made.error_message), (code::NONE, None), "v{version}");
        assert_eq!(made.topic_id.is_nil(), version < 7, "v{version}");
        let shape = if version >= 5 { (3, 1) } else { (-1, -1) };
        assert_eq!((made.num_partitions, made.replication_factor), shape, "v{version}");
        assert_eq!(made.topic_config_error_code, code::NONE);
        let configs = made.configs.unwrap_or_default();
        if version >= 5 {
            let retention = configs.iter().find(|config| config.name == *"retention.ms").expect("retention.ms");
            assert_eq!(retention.value.as_deref(), Some("12345"));
            // A source of 1 is the topic's own, 5 the default.
            assert_eq!((retention.config_source, retention.read_only, retention.is_sensitive), (1, false, false));
            let segment = configs.iter().find(|config| config.name == *"segment.bytes").expect("segment.bytes");
            assert_eq!((segment.value.as_deref(), segment.config_source), (Some("1073741824"), 5));
        } else {
            assert!(configs.is_empty());
        }
    }
}

#[tokio::test]
async fn a_dry_run_creates_nothing() {
    let mut client = broker::connect().await;
    for version in apis::versions(CREATE) {
        let name = unique("dry");
        let request = create_request(&name, 2, &[]).with_validate_only(true);
        let dry = create(&mut client, version, &request).await;
        assert_eq!(dry.error_code, code::NONE);
        assert_eq!(dry.num_partitions, if version >= 5 { 2 } else { -1 });
        // Kafka draws an id even here; no topic ever has it.
        assert_eq!(dry.topic_id.is_nil(), version < 7, "v{version}");
        create_named(&mut client, &name, 1, &[]).await;
    }
}

#[tokio::test]
async fn minus_one_takes_the_brokers_defaults_from_version_4() {
    let mut client = broker::connect().await;
    for version in apis::versions(CREATE) {
        let mut request = create_request(&unique("default"), -1, &[]);
        request.topics[0].replication_factor = -1;
        let made = create(&mut client, version, &request).await;
        // Kafka looks at no version here; clients do.
        assert_eq!(made.error_code, code::NONE, "v{version}: {:?}", made.error_message);
        let shape = if version >= 5 { (1, 1) } else { (-1, -1) };
        assert_eq!((made.num_partitions, made.replication_factor), shape);
    }
}

#[tokio::test]
async fn a_topic_that_exists_is_refused() {
    let mut client = broker::connect().await;
    let topic = create_topic(&mut client, 1, &[]).await;
    let sentence = format!("Topic '{}' already exists.", topic.name);
    refused(&mut client, &create_request(&topic.name, 1, &[]), code::TOPIC_ALREADY_EXISTS, &sentence).await;
    let dry = create_request(&topic.name, 1, &[]).with_validate_only(true);
    refused(&mut client, &dry, code::TOPIC_ALREADY_EXISTS, &sentence).await;
}

#[tokio::test]
async fn names_that_differ_only_in_dot_and_underscore_collide() {
    let mut client = broker::connect().await;
    let base = unique("collide");
    let dotted = format!("{base}.a.b");
    create_named(&mut client, &dotted, 1, &[]).await;
    let other = format!("{base}_a.b");
    let sentence = format!("Topic '{other}' collides with existing topic: {dotted}");
    refused(&mut client, &create_request(&other, 1, &[]), code::INVALID_TOPIC_EXCEPTION, &sentence).await;
}

#[tokio::test]
async fn impossible_names_are_refused_with_the_reason() {
    let mut client = broker::connect().await;
    let long = "x".repeat(250);
    let characters = "contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'";
    for (name, sentence) in [
        ("", "Topic name is invalid: the empty string is not allowed".to_owned()),
        (".", "Topic name is invalid: '.' is not allowed".to_owned()),
        ("..", "Topic name is invalid: '..' is not allowed".to_owned()),
        (&long, format!("Topic name is invalid: the length of '{long}' is longer than the max allowed length 249")),
        ("with blank", format!("Topic name is invalid: 'with blank' {characters}")),
        ("ümlaut", format!("Topic name is invalid: 'ümlaut' {characters}")),
    ] {
        refused(&mut client, &create_request(name, 1, &[]), code::INVALID_TOPIC_EXCEPTION, &sentence).await;
    }
}

#[tokio::test]
async fn impossible_shapes_are_refused_with_the_reason() {
    let mut client = broker::connect().await;
    let name = unique("shape");
    for partitions in [0, -2] {
        let sentence = "Number of partitions was set to an invalid non-positive value.";
        refused(&mut client, &create_request(&name, partitions, &[]), code::INVALID_PARTITIONS, sentence).await;
    }
    for factor in [0, -2] {
        let mut request = create_request(&name, 1, &[]);
        request.topics[0].replication_factor = factor;
        let sentence = "Replication factor must be larger than 0, or -1 to use the default value.";
        refused(&mut client, &request, code::INVALID_REPLICATION_FACTOR, sentence).await;
    }
    for factor in [2, i16::MAX] {
        let mut request = create_request(&name, 1, &[]);
        request.topics[0].replication_factor = factor;
        let sentence = format!(
            "Unable to replicate the partition {factor} time(s): The target replication factor of {factor} cannot be \
             reached because only 1 broker(s) are registered or some brokers have all their log directories cordoned."
        );
        refused(&mut client, &request, code::INVALID_REPLICATION_FACTOR, &sentence).await;
    }
}

#[tokio::test]
async fn a_name_given_twice_is_refused_once() {
    let mut client = broker::connect().await;
    let mut request = create_request(&unique("twice"), 1, &[]);
    let again = request.topics[0].clone();
    request.topics.push(again);
    refused(&mut client, &request, code::INVALID_REQUEST, "Duplicate topic name.").await;
}

fn assigned(name: &str, assignments: &[(i32, &[i32])]) -> CreateTopicsRequest {
    let mut request = create_request(name, -1, &[]);
    request.topics[0].replication_factor = -1;
    let assignment = |(partition, nodes): &(i32, &[i32])| {
        CreatableReplicaAssignment::default()
            .with_partition_index(*partition)
            .with_broker_ids(nodes.iter().map(|node| (*node).into()).collect())
    };
    request.topics[0].assignments = assignments.iter().map(assignment).collect();
    request
}

#[tokio::test]
async fn replicas_may_be_assigned_by_hand() {
    let mut client = broker::connect().await;
    for version in apis::versions(CREATE) {
        let request = assigned(&unique("assigned"), &[(0, &[1]), (1, &[1])]);
        let made = create(&mut client, version, &request).await;
        assert_eq!(made.error_code, code::NONE, "{:?}", made.error_message);
        let shape = if version >= 5 { (2, 1) } else { (-1, -1) };
        assert_eq!((made.num_partitions, made.replication_factor), shape);
    }
}

#[tokio::test]
async fn an_impossible_assignment_is_refused_with_the_reason() {
    let mut client = broker::connect().await;
    let name = unique("assigned");
    let invalid = code::INVALID_REPLICA_ASSIGNMENT;
    for (assignments, sentence) in [
        (&[(0, &[][..])][..], "The manual partition assignment includes an empty replica list."),
        (&[(0, &[7])], "The manual partition assignment includes broker 7, but no such broker is registered."),
        (&[(0, &[1, 1])], "The manual partition assignment includes the broker 1 more than once."),
        (&[(0, &[1]), (2, &[1])], "partitions should be a consecutive 0-based integer sequence"),
        (&[(0, &[1]), (0, &[1])], "Found multiple manual partition assignments for partition 0"),
    ] {
        refused(&mut client, &assigned(&name, assignments), invalid, sentence).await;
    }
    let mut both = assigned(&name, &[(0, &[1])]);
    both.topics[0].num_partitions = 1;
    let sentence = "A manual partition assignment was specified, but numPartitions was not set to -1.";
    refused(&mut client, &both, code::INVALID_REQUEST, sentence).await;
    both.topics[0].num_partitions = -1;
    both.topics[0].replication_factor = 1;
    let sentence = "A manual partition assignment was specified, but replication factor was not set to -1.";
    refused(&mut client, &both, code::INVALID_REQUEST, sentence).await;
}

#[tokio::test]
async fn bad_topic_configurations_are_refused_with_the_reason() {
    let mut client = broker::connect().await;
    let name = unique("config");
    for (key, value, sentence) in [
        ("no.such.key", "1", "Unknown topic config name: no.such.key"),
        ("retention.ms", "soon", "Invalid value soon for configuration retention.ms: Not a number of type LONG"),
        ("retention.ms", "-2", "Invalid value -2 for configuration retention.ms: Value must be at least -1"),
        ("segment.bytes", "1", "Invalid value 1 for configuration segment.bytes: Value must be at least 1048576"),
        (
            "cleanup.policy",
            "burn",
            "Invalid value burn for configuration cleanup.policy: String must be one of: compact, delete",
        ),
        (
            "compression.type",
            "rar",
            "Invalid value rar for configuration compression.type: \
             String must be one of: uncompressed, zstd, lz4, snappy, gzip, producer",
        ),
        (
            "preallocate",
            "maybe",
            "Invalid value maybe for configuration preallocate: Expected value to be either true or false",
        ),
    ] {
        refused(&mut client, &create_request(&name, 1, &[(key, value)]), code::INVALID_CONFIG, sentence).await;
    }
    let mut null = create_request(&name, 1, &[("retention.ms", "1")]);
    null.topics[0].configs[0].value = None;
    let sentence = "Null value not supported for topic configs: retention.ms";
    refused(&mut client, &null, code::INVALID_CONFIG, sentence).await;
}

#[tokio::test]
async fn one_bad_topic_does_not_spoil_its_neighbours() {
    let mut client = broker::connect().await;
    for version in apis::versions(CREATE) {
        let good = unique("good");
        let mut request = create_request(&good, 1, &[]);
        request.topics.extend(create_request("..", 1, &[]).topics);
        let response = client.call(version, &request).await;
        let mut answers: Vec<(&str, i16)> =
            response.topics.iter().map(|topic| (topic.name.as_str(), topic.error_code)).collect();
        answers.sort_unstable();
        assert_eq!(answers, [("..", code::INVALID_TOPIC_EXCEPTION), (good.as_str(), code::NONE)], "v{version}");
    }
}

#[tokio::test]
async fn every_version_deletes_by_name() {
    let mut client = broker::connect().await;
    for version in apis::versions(DELETE) {
        let topic = create_topic(&mut client, 1, &[]).await;
        let gone = delete(&mut client, version, &delete_request(version, &topic.name)).await;
        assert_eq!((gone.error_code, gone.error_message), (code::NONE, None), "v{version}");
        assert_eq!(gone.name, Some(topic.topic_name()));
        assert_eq!(gone.topic_id, if version >= 6 { topic.id } else { Uuid::nil() });
        let again = delete(&mut client, version, &delete_request(version, &topic.name)).await;
        assert_eq!(again.error_code, code::UNKNOWN_TOPIC_OR_PARTITION, "v{version}");
        let sentence = "This server does not host this topic-partition.";
        assert_eq!(again.error_message.as_deref(), (version >= 5).then_some(sentence), "v{version}");
    }
}

#[tokio::test]
async fn version_6_deletes_by_id() {
    let mut client = broker::connect().await;
    let topic = create_topic(&mut client, 1, &[]).await;
    let by_id = |id| {
        let state = DeleteTopicState::default().with_name(None).with_topic_id(id);
        DeleteTopicsRequest::default().with_topics(vec![state]).with_timeout_ms(30_000)
    };
    let gone = delete(&mut client, 6, &by_id(topic.id)).await;
    assert_eq!((gone.error_code, gone.name, gone.topic_id), (code::NONE, Some(topic.topic_name()), topic.id));
    let again = delete(&mut client, 6, &by_id(topic.id)).await;
    assert_eq!((again.error_code, again.name, again.topic_id), (code::UNKNOWN_TOPIC_ID, None, topic.id));
    assert_eq!(again.error_message.as_deref(), Some("This server does not host this topic ID."));
}

#[tokio::test]
async fn name_and_id_together_and_neither_are_invalid_requests() {
    let mut client = broker::connect().await;
    let topic = create_topic(&mut client, 1, &[]).await;
    let both = DeleteTopicState::default().with_name(Some(topic.topic_name())).with_topic_id(topic.id);
    let neither = DeleteTopicState::default().with_name(None);
    for (state, sentence) in [
        (both, "You may not specify both topic name and topic id."),
        (neither, "Neither topic name nor id were specified."),
    ] {
        let request = DeleteTopicsRequest::default().with_topics(vec![state]).with_timeout_ms(30_000);
        let answer = delete(&mut client, 6, &request).await;
        assert_eq!(answer.error_code, code::INVALID_REQUEST);
        assert_eq!(answer.error_message.as_deref(), Some(sentence));
    }
    assert_eq!(log_end(&mut client, &topic, 0).await, 0, "it is still there");
}

#[tokio::test]
async fn a_name_given_twice_is_an_invalid_request_and_deletes_nothing() {
    let mut client = broker::connect().await;
    let topic = create_topic(&mut client, 1, &[]).await;
    for version in apis::versions(DELETE) {
        let mut request = delete_request(version, &topic.name);
        if version >= 6 {
            request.topics.push(request.topics[0].clone());
        } else {
            request.topic_names.push(topic.topic_name());
        }
        let answer = delete(&mut client, version, &request).await;
        assert_eq!(answer.error_code, code::INVALID_REQUEST, "v{version}");
        if version >= 5 {
            assert_eq!(answer.error_message.as_deref(), Some("Duplicate topic name."));
        }
    }
}

#[tokio::test]
async fn a_topic_made_again_starts_empty_with_another_id() {
    let mut client = broker::connect().await;
    let mut seen = std::collections::BTreeSet::new();
    let name = unique("again");
    for version in apis::versions(DELETE) {
        let topic = create_named(&mut client, &name, 2, &[]).await;
        assert!(seen.insert(topic.id), "an id came back");
        assert_eq!(log_end(&mut client, &topic, 0).await, 0, "v{version}");
        assert_eq!(log_end(&mut client, &topic, 1).await, 0);
        produce(&mut client, &topic, 0, &Batch::of(&["of this generation"])).await;
        delete(&mut client, version, &delete_request(version, &name)).await;
        until("the name is free", async || {
            let dry = create_request(&name, 1, &[]).with_validate_only(true);
            (create(&mut client, 7, &dry).await.error_code == code::NONE).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_setting_without_effect_is_taken_and_warned_of() {
    let Some(own) = broker::own(&[]) else { return };
    let mut client = own.connect().await;
    let topic = create_topic(&mut client, 2, &[("cleanup.policy", "compact"), ("min.compaction.lag.ms", "7")]).await;
    create_topic(&mut client, 1, &[("retention.ms", "7")]).await;
    let words = "without effect in this version: cleanup.policy=compact, min.compaction.lag.ms=7";
    until("it says so", async || (own.said(words) > 0).then_some(())).await;
    assert_eq!((own.said(words), own.said(&topic.name)), (1, 1), "a line for the topic, and none for the other");
}
