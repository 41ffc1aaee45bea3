//! DescribeConfigs (32) for topics, and DescribeCluster (60).

use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{DescribeConfigsResourceResult, DescribeConfigsResult};
use kafka_protocol::messages::{ApiVersionsRequest, DescribeClusterRequest, DescribeConfigsRequest, MetadataRequest};
use ottla_protocol_tests::client::Client;
use ottla_protocol_tests::steps::create_topic;
use ottla_protocol_tests::{apis, broker, code, text, unique};

const CONFIGS: i16 = 32;
const CLUSTER: i16 = 60;
const TOPIC: i8 = 2;

const FROM_TOPIC: i8 = 1;
const FROM_CLUSTER_DEFAULT: i8 = 3;
const FROM_BROKER_FILE: i8 = 4;
const FROM_DEFAULT: i8 = 5;

const TABLE: &str = include_str!("../tables/topic-configs.tsv");

/// A row of Kafka's table of topic keys.
struct Row {
    name: &'static str,
    kind: i8,
    default: &'static str,
    synonym: &'static str,
}

fn rows() -> Vec<Row> {
    let row = |line: &'static str| {
        let columns: Vec<&str> = line.split('\t').collect();
        let kinds = ["BOOLEAN", "STRING", "INT", "SHORT", "LONG", "DOUBLE", "LIST", "CLASS", "PASSWORD"];
        let kind = kinds.iter().position(|kind| *kind == columns[1]).expect("a type") as i8 + 1;
        Row { name: columns[0], kind, default: columns[2], synonym: columns[5] }
    };
    TABLE.lines().skip(1).map(row).filter(|row| !row.synonym.starts_with('(')).collect()
}

fn request(name: &str, keys: Option<&[&str]>) -> DescribeConfigsRequest {
    let keys = keys.map(|keys| keys.iter().map(|key| text(key)).collect());
    let resource = DescribeConfigsResource::default()
        .with_resource_type(TOPIC)
        .with_resource_name(text(name))
        .with_configuration_keys(keys);
    DescribeConfigsRequest::default().with_resources(vec![resource])
}

async fn describe(client: &mut Client, version: i16, request: &DescribeConfigsRequest) -> DescribeConfigsResult {
    let mut response = client.call(version, request).await;
    assert_eq!((response.throttle_time_ms, response.results.len()), (0, 1));
    response.results.remove(0)
}

fn entry<'a>(result: &'a DescribeConfigsResult, name: &str) -> &'a DescribeConfigsResourceResult {
    result.configs.iter().find(|entry| *entry.name == *name).unwrap_or_else(|| panic!("no entry {name}"))
}

/// With eligible leader replicas (KIP-966) min.insync.replicas is set for the whole cluster, not just defaulted.
async fn has_elr(client: &mut Client) -> bool {
    let request = ApiVersionsRequest::default()
        .with_client_software_name(text("conformance"))
        .with_client_software_version(text("1"));
    let features = client.call(4, &request).await.finalized_features;
    features.iter().any(|feature| *feature.name == *"eligible.leader.replicas.version" && feature.max_version_level > 0)
}

#[tokio::test]
async fn a_fresh_topic_shows_every_key_with_its_default_type_and_source_at_every_version() {
    let mut client = broker::connect().await;
    let elr = has_elr(&mut client).await;
    let topic = create_topic(&mut client, 1, &[]).await;
    for version in apis::versions(CONFIGS) {
        let result = describe(&mut client, version, &request(&topic.name, None).with_include_synonyms(true)).await;
        assert_eq!((result.error_code, result.resource_type), (code::NONE, TOPIC));
        assert_eq!(result.resource_name.as_str(), topic.name);
        let mut names: Vec<&str> = result.configs.iter().map(|entry| entry.name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, rows().iter().map(|row| row.name).collect::<Vec<_>>(), "v{version}");
        for row in rows() {
            let found = entry(&result, row.name);
            let elr = elr && row.name == "min.insync.replicas";
            assert_eq!(found.value.as_deref(), Some(row.default), "{}", row.name);
            assert_eq!(found.config_type, if version >= 3 { row.kind } else { 0 }, "v{version} {}", row.name);
            let source = if elr { FROM_CLUSTER_DEFAULT } else { FROM_DEFAULT };
            assert_eq!(found.config_source, source, "{}", row.name);
            assert!(!found.read_only && !found.is_sensitive, "{}", row.name);
            // Not asked for. The codec's default for a version without the field is the empty string.
            assert_eq!(found.documentation.as_deref(), if version >= 3 { None } else { Some("") });
            let synonyms: Vec<(&str, Option<&str>, i8)> = found
                .synonyms
                .iter()
                .map(|synonym| (synonym.name.as_str(), synonym.value.as_deref(), synonym.source))
                .collect();
            let own = (row.synonym, Some(row.default), FROM_DEFAULT);
            match (elr, row.synonym) {
                (_, "") => assert!(synonyms.is_empty(), "{}: {synonyms:?}", row.name),
                (true, _) => assert_eq!(synonyms, [(row.synonym, Some(row.default), FROM_CLUSTER_DEFAULT), own]),
                (false, _) => assert_eq!(synonyms, [own], "{}", row.name),
            }
        }
    }
}

#[tokio::test]
async fn a_topics_own_value_comes_first_among_its_synonyms() {
    let mut client = broker::connect().await;
    let topic = create_topic(&mut client, 1, &[("retention.bytes", "77"), ("cleanup.policy", "compact,delete")]).await;
    for version in apis::versions(CONFIGS) {
        let result = describe(&mut client, version, &request(&topic.name, None).with_include_synonyms(true)).await;
        let own = entry(&result, "retention.bytes");
        assert_eq!((own.value.as_deref(), own.config_source), (Some("77"), FROM_TOPIC));
        let synonyms: Vec<(&str, Option<&str>, i8)> = own
            .synonyms
            .iter()
            .map(|synonym| (synonym.name.as_str(), synonym.value.as_deref(), synonym.source))
            .collect();
        assert_eq!(
            synonyms,
            [("retention.bytes", Some("77"), FROM_TOPIC), ("log.retention.bytes", Some("-1"), FROM_DEFAULT)]
        );
        assert_eq!(entry(&result, "cleanup.policy").value.as_deref(), Some("compact,delete"));
    }
}

#[tokio::test]
async fn a_key_set_in_the_brokers_file_is_the_topics_default() {
    let Some(own) = broker::own(&[("log.retention.bytes", "4711"), ("log.retention.hours", "1")]) else { return };
    let mut client = own.connect().await;
    let topic = create_topic(&mut client, 1, &[]).await;
    let result = describe(&mut client, 4, &request(&topic.name, None).with_include_synonyms(true)).await;
    let bytes = entry(&result, "retention.bytes");
    assert_eq!((bytes.value.as_deref(), bytes.config_source), (Some("4711"), FROM_BROKER_FILE));
    assert_eq!(bytes.synonyms.len(), 2, "the file's and the default's");
    assert_eq!(entry(&result, "retention.ms").value.as_deref(), Some("3600000"));
}

#[tokio::test]
async fn synonyms_and_documentation_come_only_when_asked_for() {
    let mut client = broker::connect().await;
    let topic = create_topic(&mut client, 1, &[]).await;
    for version in apis::versions(CONFIGS) {
        let plain = describe(&mut client, version, &request(&topic.name, None)).await;
        assert!(plain.configs.iter().all(|entry| entry.synonyms.is_empty()), "v{version}");
        if version >= 3 {
            let documented = request(&topic.name, None).with_include_documentation(true);
            let result = describe(&mut client, version, &documented).await;
            for entry in result.configs {
                assert!(entry.documentation.is_some_and(|sentence| sentence.len() > 20), "{:?}", entry.name);
            }
        }
    }
}

#[tokio::test]
async fn only_the_keys_asked_for_are_described_and_unknown_ones_are_left_out() {
    let mut client = broker::connect().await;
    let topic = create_topic(&mut client, 1, &[]).await;
    for version in apis::versions(CONFIGS) {
        let some = request(&topic.name, Some(&["segment.ms", "no.such.key", "flush.ms"]));
        let result = describe(&mut client, version, &some).await;
        let mut names: Vec<&str> = result.configs.iter().map(|entry| entry.name.as_str()).collect();
        names.sort_unstable();
        assert_eq!((result.error_code, names), (code::NONE, vec!["flush.ms", "segment.ms"]), "v{version}");
        let none = describe(&mut client, version, &request(&topic.name, Some(&[]))).await;
        // An empty list is not null: it asks for nothing. Kafka answers with everything all the same.
        assert_eq!(none.configs.len(), rows().len(), "v{version}");
    }
}

#[tokio::test]
async fn an_unknown_topic_and_an_impossible_one_are_refused() {
    let mut client = broker::connect().await;
    for version in apis::versions(CONFIGS) {
        let absent = unique("absent");
        let unknown = describe(&mut client, version, &request(&absent, None)).await;
        assert_eq!(unknown.error_code, code::UNKNOWN_TOPIC_OR_PARTITION, "v{version}");
        // Kafka has nothing to say here, and says it with an empty string.
        assert_eq!(unknown.error_message.as_deref(), Some(""));
        assert_eq!((unknown.resource_type, unknown.resource_name.as_str()), (TOPIC, absent.as_str()));
        assert!(unknown.configs.is_empty());
        for (name, sentence) in [
            (
                "with blank",
                "Topic name is invalid: 'with blank' contains one or more characters other than ASCII \
                            alphanumerics, '.', '_' and '-'",
            ),
            ("", "Topic name is invalid: the empty string is not allowed"),
        ] {
            let invalid = describe(&mut client, version, &request(name, None)).await;
            assert_eq!(invalid.error_code, code::INVALID_TOPIC_EXCEPTION, "{name:?}");
            assert_eq!(invalid.error_message.as_deref(), Some(sentence), "{name:?}");
        }
    }
}

#[tokio::test]
async fn a_resource_type_that_does_not_exist_is_an_invalid_request() {
    let mut client = broker::connect().await;
    for version in apis::versions(CONFIGS) {
        for kind in [0, 99, -1] {
            let mut request = request("x", None);
            request.resources[0].resource_type = kind;
            let result = describe(&mut client, version, &request).await;
            assert_eq!(result.error_code, code::INVALID_REQUEST, "v{version} type {kind}: {:?}", result.error_message);
        }
    }
}

#[tokio::test]
async fn the_cluster_is_described_at_every_version() {
    let mut client = broker::connect().await;
    let metadata = client.call(12, &MetadataRequest::default().with_topics(Some(Vec::new()))).await;
    for version in apis::versions(CLUSTER) {
        let response = client.call(version, &DescribeClusterRequest::default()).await;
        assert_eq!((response.throttle_time_ms, response.error_code), (0, code::NONE));
        assert_eq!(response.error_message, None);
        assert_eq!(response.endpoint_type, 1);
        assert_eq!(Some(&response.cluster_id), metadata.cluster_id.as_ref());
        assert_eq!(response.controller_id.0, 1);
        assert_eq!(response.cluster_authorized_operations, i32::MIN, "not asked for");
        let known = &response.brokers[0];
        assert_eq!((known.broker_id.0, known.port), (1, broker::shared().port()));
        assert_eq!(known.host.as_str(), broker::shared().host(), "the listener that was asked");
        assert_eq!(known.rack, None);
        assert!(!known.is_fenced);
    }
}

#[tokio::test]
async fn the_clusters_authorized_operations_are_told_when_asked_for() {
    let mut client = broker::connect().await;
    for version in apis::versions(CLUSTER) {
        let request = DescribeClusterRequest::default().with_include_cluster_authorized_operations(true);
        let response = client.call(version, &request).await;
        assert_eq!(response.cluster_authorized_operations, 0b1_1111_1010_0000, "v{version}");
    }
}

#[tokio::test]
async fn fenced_brokers_may_be_asked_for_from_version_2() {
    let mut client = broker::connect().await;
    let request = DescribeClusterRequest::default().with_include_fenced_brokers(true);
    assert_eq!(client.call(2, &request).await.brokers.len(), 1);
}

#[tokio::test]
async fn a_broker_does_not_speak_for_controllers() {
    let mut client = broker::connect().await;
    for version in 1..=*apis::versions(CLUSTER).end() {
        for (kind, expected) in [(2, code::MISMATCHED_ENDPOINT_TYPE), (9, code::UNSUPPORTED_ENDPOINT_TYPE)] {
            let response = client.call(version, &DescribeClusterRequest::default().with_endpoint_type(kind)).await;
            assert_eq!(response.error_code, expected, "v{version}: {:?}", response.error_message);
            assert!(response.brokers.is_empty());
        }
    }
}
