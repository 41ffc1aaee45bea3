//! Texts that come in and would not fit into an answer: a string of the protocol has 32,767 bytes at most, and bytes that
//! are no UTF-8 grow when they become text.
//!
//! Apache Kafka fails to write such answers and leaves the client without one, so these run against a broker of the test's
//! own. That none of them panics is seen to by `broker.rs`.

use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::{ApiVersionsRequest, CreateTopicsRequest, DescribeConfigsRequest};
use ottla_protocol_tests::broker::{self, Broker};
use ottla_protocol_tests::client::{Client, request_frame};
use ottla_protocol_tests::steps::create_request;
use ottla_protocol_tests::writer::Writer;
use ottla_protocol_tests::{code, text};

const LONGEST: usize = 32_767;
/// DescribeConfigs: what a resource is.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;

async fn is_closed_on(own: &Broker, what: &str, version: i16, key: i16, body: &Writer) {
    let mut client = own.connect().await;
    client.send_bytes(&request_frame(key, version, 1, 1, &body.bytes)).await.expect("send");
    assert!(client.is_closed().await, "{what} v{version}");
    assert_eq!(own.connect().await.call(0, &ApiVersionsRequest::default()).await.error_code, code::NONE);
}

#[tokio::test]
async fn a_name_that_no_answer_could_repeat_closes_the_connection() {
    let Some(own) = broker::own(&[]) else { return };
    for length in [LONGEST / 3 + 1, LONGEST] {
        let name = vec![0xff; length];
        let named = |before: Writer| before.i32(1).i16(length as i16).raw(&name);
        for version in 3..=8 {
            let produce = named(Writer::new().i16(-1).i16(1).i32(1_000)).i32(1).i32(0).i32(-1);
            is_closed_on(&own, "Produce", version, 0, &produce).await;
        }
        let fetch = named(Writer::new().i32(-1).i32(0).i32(0).i32(1_000).i8(0));
        is_closed_on(&own, "Fetch", 4, 1, &fetch.i32(1).i32(0).i64(0).i32(1_000)).await;
    }
}

async fn described(client: &mut Client, kind: i8, name: &str) -> (i16, usize) {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configuration_keys(None);
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
    let result = client.call(1, &request).await.results.remove(0);
    assert_eq!(&*result.resource_name, name);
    (result.error_code, result.error_message.expect("a sentence").len())
}

async fn created(client: &mut Client, request: &CreateTopicsRequest) -> (i16, usize) {
    let result = client.call(2, request).await.topics.remove(0);
    (result.error_code, result.error_message.expect("a sentence").len())
}

#[tokio::test]
async fn a_sentence_that_quotes_a_long_name_is_cut() {
    let Some(own) = broker::own(&[]) else { return };
    let (mut client, long) = (own.connect().await, "x".repeat(LONGEST));
    for (what, (error, length), expected) in [
        ("a topic to describe", described(&mut client, TOPIC, &long).await, code::INVALID_TOPIC_EXCEPTION),
        ("a broker to describe", described(&mut client, BROKER, &long).await, code::INVALID_REQUEST),
        ("a topic", created(&mut client, &create_request(&long, 1, &[])).await, code::INVALID_TOPIC_EXCEPTION),
        ("a key", created(&mut client, &create_request("t", 1, &[(&long, "1")])).await, code::INVALID_CONFIG),
        (
            "a value",
            created(&mut client, &create_request("t", 1, &[("retention.ms", &long)])).await,
            code::INVALID_CONFIG,
        ),
    ] {
        assert_eq!(error, expected, "{what}");
        assert!((100..2_000).contains(&length), "{what}: a sentence of {length} bytes");
    }
}
