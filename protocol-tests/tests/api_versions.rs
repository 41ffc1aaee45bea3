//! ApiVersions (18): what a client asks first, and the only API that answers a version it does not know.

use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use kafka_protocol::protocol::StrBytes;
use ottla_protocol_tests::client::{Client, decode_whole};
use ottla_protocol_tests::writer::Writer;
use ottla_protocol_tests::{apis, broker, code, text};

const KEY: i16 = 18;

/// The APIs that this suite holds a broker to.
const REQUIRED: [i16; 20] = [0, 1, 2, 3, 8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 19, 20, 22, 23, 32, 60];

fn request(version: i16) -> ApiVersionsRequest {
    let request = ApiVersionsRequest::default();
    if version < 3 {
        return request;
    }
    request.with_client_software_name(text("conformance")).with_client_software_version(text("1.0"))
}

async fn ask(client: &mut Client, version: i16) -> ApiVersionsResponse {
    client.call(version, &request(version)).await
}

#[tokio::test]
async fn every_version_lists_the_same_apis() {
    let mut client = broker::connect().await;
    let first = ask(&mut client, 0).await;
    for version in apis::versions(KEY) {
        let response = ask(&mut client, version).await;
        assert_eq!(response.error_code, code::NONE);
        assert_eq!(response.throttle_time_ms, 0);
        assert_eq!(response.api_keys, first.api_keys, "v{version}");
    }
}

#[tokio::test]
async fn what_is_advertised_is_what_the_table_says() {
    let advertised = ask(&mut broker::connect().await, 4).await.api_keys;
    for api in &advertised {
        let row = apis::all().into_iter().find(|row| row.key == api.api_key && row.on_brokers);
        let Some(row) = row else { panic!("key {} is not served on a client's listener", api.api_key) };
        // Versions 0 to 2 of Produce are refused but advertised, or old librdkafka switches compression off
        // (KAFKA-18659). ApiVersions has a version 5 from Kafka 4.4 on.
        let min = if api.api_key == 0 { 0 } else { *row.versions.start() };
        assert_eq!(api.min_version, min, "{}", row.name);
        let newest = if api.api_key == KEY { api.max_version.min(4) } else { api.max_version };
        assert_eq!(newest, *row.versions.end(), "{}", row.name);
    }
    for key in REQUIRED {
        assert!(advertised.iter().any(|api| api.api_key == key), "key {key} is missing");
    }
}

#[tokio::test]
async fn ottla_advertises_just_these_and_version_5_of_api_versions() {
    // Apache Kafka has more APIs, and version 5 from 4.4 on.
    let Some(own) = broker::own(&[]) else { return };
    let mut advertised = ask(&mut own.connect().await, 4).await.api_keys;
    advertised.sort_by_key(|api| api.api_key);
    assert_eq!(advertised.iter().map(|api| api.api_key).collect::<Vec<_>>(), REQUIRED);
    let itself = advertised.iter().find(|api| api.api_key == KEY).expect("itself");
    assert_eq!((itself.min_version, itself.max_version), (0, 5));
}

#[tokio::test]
async fn features_appear_from_version_3_and_those_from_level_0_only_in_version_4() {
    let mut client = broker::connect().await;
    for version in 0..3 {
        let response = ask(&mut client, version).await;
        assert!(response.supported_features.is_empty() && response.finalized_features.is_empty());
    }
    // A version 3 client of before Kafka 3.9 fails on a feature whose lowest level is 0 (KIP-1022).
    let third = ask(&mut client, 3).await;
    assert!(third.supported_features.iter().all(|feature| feature.min_version > 0));
    let fourth = ask(&mut client, 4).await;
    for feature in &fourth.finalized_features {
        let supported = fourth.supported_features.iter().find(|supported| supported.name == feature.name);
        let supported = supported.unwrap_or_else(|| panic!("{:?} is finalized but not supported", feature.name));
        assert!((supported.min_version..=supported.max_version).contains(&feature.max_version_level));
    }
    assert!(!fourth.zk_migration_ready);
}

#[tokio::test]
async fn an_unknown_version_is_answered_in_version_0_with_the_range_that_is_known() {
    for version in [6, 500, i16::MAX] {
        let mut client = broker::connect().await;
        let newest = ask(&mut client, 0).await.api_keys.into_iter().find(|api| api.api_key == KEY).expect("itself");
        let correlation = client.send_body(KEY, version, 2, &Writer::new().no_tags().bytes).await;
        let response = client.receive::<ApiVersionsRequest>(0, correlation).await;
        assert_eq!(response.error_code, code::UNSUPPORTED_VERSION);
        assert_eq!(response.api_keys, [newest], "only ApiVersions itself is listed");
        // The connection goes on: the client asks again, lower.
        assert_eq!(ask(&mut client, 4).await.error_code, code::NONE);
    }
}

#[tokio::test]
async fn a_software_name_must_have_a_letter_and_no_blank() {
    let mut client = broker::connect().await;
    for (name, version) in [("", "1.0"), ("con formance", "1.0"), ("-conformance", "1.0"), ("conformance", "")] {
        for at in [3, 4] {
            let request = ApiVersionsRequest::default()
                .with_client_software_name(StrBytes::from_string(name.to_owned()))
                .with_client_software_version(text(version));
            let response = client.call(at, &request).await;
            assert_eq!(response.error_code, code::INVALID_REQUEST, "{name:?} {version:?}");
            assert!(response.api_keys.is_empty());
        }
    }
}

#[tokio::test]
async fn version_5_where_it_is_served_accepts_a_client_that_knows_no_cluster_yet() {
    let mut client = broker::connect().await;
    let all = ask(&mut client, 4).await.api_keys;
    let newest = all.iter().find(|api| api.api_key == KEY).expect("itself").max_version;
    let body = |cluster: Option<&str>, node: i32| {
        let name = Writer::new().compact_string("conformance").compact_string("1.0");
        name.compact_nullable(cluster).i32(node).no_tags().bytes
    };
    if newest < 5 {
        return broker::skip("this broker does not serve version 5 of ApiVersions");
    }
    // Cluster and node come together or not at all: measured on Apache Kafka 4.4.0, the first to serve this version.
    for (cluster, node, expected) in [
        (None, -1, code::NONE),
        (Some("another cluster"), -1, code::INVALID_REQUEST),
        (None, 1, code::INVALID_REQUEST),
        (Some("another cluster"), 1, code::REBOOTSTRAP_REQUIRED),
    ] {
        let correlation = client.send_body(KEY, 5, 2, &body(cluster, node)).await;
        let mut frame = client.receive_frame().await.expect("an answer");
        // The response header has no tagged fields at any version (KIP-511); the body is laid out as in version 4.
        assert_eq!(bytes::Buf::get_i32(&mut frame), correlation);
        let response: ApiVersionsResponse = decode_whole(frame, 4);
        assert_eq!(response.error_code, expected);
    }
}
