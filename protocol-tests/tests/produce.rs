//! Produce (0): what is accepted, at every version, and what comes back out of it.

use bytes::Bytes;
use kafka_protocol::messages::ApiVersionsRequest;
use kafka_protocol::messages::produce_request::PartitionProduceData;
use ottla_protocol_tests::batch::{Batch, CODECS, Codec, LOG_APPEND_TIME, Record};
use ottla_protocol_tests::client::frame_of;
use ottla_protocol_tests::fetched::{batches, values};
use ottla_protocol_tests::steps::{
    Topic, create_topic, fetch, log_end, only_produced, produce, produce_bytes, produce_request, until,
};
use ottla_protocol_tests::{apis, broker, code, now_ms, unique};
use uuid::Uuid;

const KEY: i16 = 0;

#[tokio::test]
async fn every_version_appends_and_answers_with_the_fields_it_has() {
    let mut client = broker::connect().await;
    let topic = create_topic(&mut client, 1, &[]).await;
    let mut end = 0;
    for version in apis::versions(KEY) {
        for acks in [1, -1] {
            let request = produce_request(version, &topic, 0, acks, &Batch::of(&["one", "two"]).encode());
            let response = client.call(version, &request).await;
            assert_eq!(response.throttle_time_ms, 0);
            assert!(response.node_endpoints.is_empty());
            let named = &response.responses[0];
            assert_eq!(named.name.as_str(), if version >= 13 { "" } else { &topic.name });
            assert_eq!(named.topic_id, if version >= 13 { topic.id } else { Uuid::nil() });
            let answer = only_produced(response);
            assert_eq!((answer.index, answer.error_code, answer.base_offset), (0, code::NONE, end), "v{version}");
            assert_eq!(answer.log_append_time_ms, -1, "the producer's timestamps stand");
            assert_eq!(answer.log_start_offset, if version >= 5 { 0 } else { -1 }, "v{version}");
            assert!(answer.record_errors.is_empty() && answer.error_message.is_none());
            assert_eq!((answer.current_leader.leader_id.0, answer.current_leader.leader_epoch), (-1, -1));
            end += 2;
        }
    }
    assert_eq!(log_end(&mut client, &topic, 0).await, end);
}

#[tokio::test]
async fn versions_before_3_are_advertised_but_close_the_connection() {
    let topic = create_topic(&mut broker::connect().await, 1, &[]).await;
    for version in [0, 1, 2] {
        let mut client = broker::connect().await;
        let request = produce_request(3, &topic, 0, 1, &Batch::of(&["old"]).encode());
        let mut frame = frame_of(3, &request).to_vec();
        frame[7] = version;
        client.send_bytes(&frame).await.expect("send");
        assert!(client.is_closed().await, "v{version}");
    }
}

#[tokio::test]
async fn acks_0_has_no_answer_and_the_connection_goes_on() {
    let mut client = broker::connect().await;
    let topic = create_topic(&mut client, 1, &[]).await;
    let mut sent = 0;
    for version in apis::versions(KEY) {
        client.send(version, &produce_request(version, &topic, 0, 0, &Batch::of(&["unheard"]).encode())).await;
        sent += 1;
        // Were the Produce request answered, this answer would not be the next one.
        assert_eq!(client.call(0, &ApiVersionsRequest::default()).await.error_code, code::NONE);
    }
    until("all are appended", async || (log_end(&mut client, &topic, 0).await == sent).then_some(())).await;
}

#[tokio::test]
async fn acks_0_that_fails_closes_the_connection() {
    let topic = Topic { name: unique("absent"), id: Uuid::new_v4() };
    for version in [3, 9, 13] {
        let mut client = broker::connect().await;
        client.send(version, &produce_request(version, &topic, 0, 0, &Batch::of(&["lost"]).encode())).await;
        assert!(client.is_closed().await, "the only way to tell a client that expects no answer");
    }
}

#[tokio::test]
async fn every_codec_is_stored_as_it_was_sent() {
    let mut client = broker::connect().await;
    let topic = create_topic(&mut client, 1, &[]).await;
    for (index, codec) in CODECS.into_iter().enumerate() {
        let sent = Batch::of(&["a", "b", "c"]).compressed(codec);
        let base = produce(&mut client, &topic, 0, &sent).await;
        assert_eq!(base, 3 * index as i64);
        let fetched = fetch(&mut client, &topic, 0, base).await.records.expect("records");
        assert_eq!(values(&fetched), ["a", "b", "c"], "{codec:?}");
        // Only the base offset and the leader epoch are the broker's: both stand before the magic byte.
        let (was, is) = (sent.encode(), &batches(fetched)[0].bytes);
        assert_eq!(&is[..8], base.to_be_bytes());
        assert_eq!(&is[12..16], 0i32.to_be_bytes(), "the leader's epoch");
        assert_eq!((&is[8..12], &is[16..]), (&was[8..12], &was[16..]), "{codec:?}");
    }
}

#[tokio::test]
async fn zstd_needs_version_7() {
    let mut client = broker::connect().await;
    let topic = create_topic(&mut client, 1, &[]).await;
    let records = Batch::of(&["zstd"]).compressed(Codec::Zstd).encode();
    for version in apis::versions(KEY) {
        let answer = only_produced(client.call(version, &produce_request(version, &topic, 0, 1, &records)).await);
        let expected = if version >= 7 { code::NONE } else { code::UNSUPPORTED_COMPRESSION_TYPE };
        assert_eq!(answer.error_code, expected, "v{version}");
    }
}

#[tokio::test]
async fn keys_headers_and_nulls_come_back_byte_for_byte() {
    let mut client = broker::connect().await;
    let topic = create_topic(&mut client, 1, &[]).await;
    let header = |name: &str, value: Option<&[u8]>| (name.to_owned(), value.map(<[u8]>::to_vec));
    let records = [
        // The same header twice stays twice.
        Record {
            key: Some(b"k".to_vec()),
            value: Some(vec![0, 255]),
            headers: vec![header("h", Some(b"1")), header("h", None), header("", Some(b""))],
            ..Record::default()
        },
        Record { offset_delta: 1, key: Some(Vec::new()), value: None, ..Record::default() },
        Record { offset_delta: 2, key: None, value: Some(Vec::new()), ..Record::default() },
    ];
    let sent = Batch::of_records(now_ms(), &records);
    produce(&mut client, &topic, 0, &sent).await;
    let fetched = fetch(&mut client, &topic, 0, 0).await.records.expect("records");
    let batch = &batches(fetched)[0];
    assert_eq!(batch.bytes[21..], sent.encode()[21..]);
    let first = &batch.records[0];
    assert_eq!(first.headers.len(), 3);
    assert_eq!(first.headers[1], (Bytes::from_static(b"h"), None));
    assert_eq!((batch.records[1].key.as_deref(), batch.records[1].value.as_deref()), (Some(&b""[..]), None));
    assert_eq!((batch.records[2].key.as_deref(), batch.records[2].value.as_deref()), (None, Some(&b""[..])));
}

#[tokio::test]
async fn log_append_time_is_stamped_by_the_broker_and_told() {
    let mut client = broker::connect().await;
    let topic = create_topic(&mut client, 1, &[("message.timestamp.type", "LogAppendTime")]).await;
    for codec in CODECS {
        let batch = Batch::at_times(&[1_000, 2_000]).compressed(codec);
        let answer = produce_bytes(&mut client, &topic, 0, &batch.encode()).await;
        assert_eq!(answer.error_code, code::NONE);
        assert!(answer.log_append_time_ms > 1_600_000_000_000, "{}", answer.log_append_time_ms);
        let fetched = fetch(&mut client, &topic, 0, answer.base_offset).await.records.expect("records");
        let stored = &batches(fetched)[0];
        assert_eq!(stored.attributes, LOG_APPEND_TIME | codec as i16);
        assert_eq!(stored.max_timestamp, answer.log_append_time_ms);
        assert!(stored.records.iter().all(|record| record.timestamp == answer.log_append_time_ms));
    }
}

#[tokio::test]
async fn one_bad_partition_does_not_spoil_its_neighbours() {
    let mut client = broker::connect().await;
    let topic = create_topic(&mut client, 2, &[]).await;
    let good = Batch::of(&["good"]).encode();
    let mut corrupt = good.clone();
    *corrupt.last_mut().expect("bytes") ^= 1;
    for version in apis::versions(KEY) {
        let mut request = produce_request(version, &topic, 0, -1, &good);
        for (index, records) in [(1, &corrupt), (7, &good)] {
            let data =
                PartitionProduceData::default().with_index(index).with_records(Some(Bytes::copy_from_slice(records)));
            request.topic_data[0].partition_data.push(data);
        }
        let mut response = client.call(version, &request).await;
        let mut answers: Vec<(i32, i16)> = response
            .responses
            .iter_mut()
            .flat_map(|topic| topic.partition_responses.drain(..))
            .map(|answer| (answer.index, answer.error_code))
            .collect();
        answers.sort_unstable();
        let expected = [(0, code::NONE), (1, code::CORRUPT_MESSAGE), (7, code::UNKNOWN_TOPIC_OR_PARTITION)];
        assert_eq!(answers, expected, "v{version}");
    }
}

#[tokio::test]
async fn an_unknown_topic_is_refused_by_name_and_by_id() {
    let mut client = broker::connect().await;
    let records = Batch::of(&["lost"]).encode();
    for id in [Uuid::new_v4(), Uuid::nil()] {
        let absent = Topic { name: unique("absent"), id };
        for version in apis::versions(KEY) {
            let request = produce_request(version, &absent, 0, -1, &records);
            let answer = only_produced(client.call(version, &request).await);
            let expected = if version >= 13 { code::UNKNOWN_TOPIC_ID } else { code::UNKNOWN_TOPIC_OR_PARTITION };
            assert_eq!((answer.error_code, answer.base_offset), (expected, -1), "v{version}, {id}");
            assert_eq!(answer.log_start_offset, -1);
        }
    }
}

#[tokio::test]
async fn acks_other_than_0_1_and_all_are_refused_at_every_version() {
    let mut client = broker::connect().await;
    let topic = create_topic(&mut client, 1, &[]).await;
    let records = Batch::of(&["lost"]).encode();
    for version in apis::versions(KEY) {
        for acks in [2, -2, i16::MAX] {
            let answer =
                only_produced(client.call(version, &produce_request(version, &topic, 0, acks, &records)).await);
            assert_eq!(answer.error_code, code::INVALID_REQUIRED_ACKS, "v{version}");
        }
    }
    assert_eq!(log_end(&mut client, &topic, 0).await, 0);
}

#[tokio::test]
async fn a_keyless_record_for_a_compacted_topic_is_named_by_its_index() {
    let mut client = broker::connect().await;
    let topic = create_topic(&mut client, 1, &[("cleanup.policy", "compact")]).await;
    let keyed = Record { key: Some(b"k".to_vec()), value: Some(b"v".to_vec()), ..Record::default() };
    let keyless = Record { offset_delta: 1, value: Some(b"v".to_vec()), ..Record::default() };
    for codec in CODECS {
        let batch = Batch::of_records(now_ms(), &[keyed.clone(), keyless.clone()]).compressed(codec);
        for version in apis::versions(KEY).filter(|version| codec != Codec::Zstd || *version >= 7) {
            let request = produce_request(version, &topic, 0, -1, &batch.encode());
            let answer = only_produced(client.call(version, &request).await);
            assert_eq!(answer.error_code, code::INVALID_RECORD, "v{version} {codec:?}");
            let named: Vec<i32> = answer.record_errors.iter().map(|error| error.batch_index).collect();
            // KIP-467: from version 8 on the record is named, and the whole batch is refused.
            assert_eq!(named, if version >= 8 { vec![1] } else { vec![] }, "v{version}");
            assert_eq!(answer.error_message.is_some(), version >= 8);
        }
    }
    assert_eq!(log_end(&mut client, &topic, 0).await, 0);
    produce(&mut client, &topic, 0, &Batch::of_records(now_ms(), &[keyed])).await;
}

#[tokio::test]
async fn pipelined_requests_are_appended_and_answered_in_their_order() {
    let mut client = broker::connect().await;
    let topic = create_topic(&mut client, 1, &[]).await;
    let mut correlations = Vec::new();
    for index in 0..200 {
        let batch = Batch::of(&[&format!("{index}")]);
        correlations.push(client.send(9, &produce_request(9, &topic, 0, -1, &batch.encode())).await);
    }
    for (index, correlation) in correlations.into_iter().enumerate() {
        let response = client.receive::<kafka_protocol::messages::ProduceRequest>(9, correlation).await;
        assert_eq!(only_produced(response).base_offset, index as i64);
    }
}

#[tokio::test]
async fn names_that_are_no_topics_are_refused_without_an_answer_that_helps() {
    let mut client = broker::connect().await;
    let records = Batch::of(&["lost"]).encode();
    let long = "x".repeat(32_000);
    for name in ["..", "../../etc/passwd", "", &long, "with blank"] {
        let topic = Topic { name: name.to_owned(), id: Uuid::nil() };
        let answer = produce_bytes(&mut client, &topic, 0, &records).await;
        // Kafka looks the name up before it looks at it: no topic has it.
        assert_eq!(answer.error_code, code::UNKNOWN_TOPIC_OR_PARTITION, "{:.20}", name);
    }
    let topic = create_topic(&mut client, 1, &[]).await;
    for partition in [-1, 1, i32::MAX] {
        let answer = produce_bytes(&mut client, &topic, partition, &records).await;
        assert_eq!((answer.index, answer.error_code), (partition, code::UNKNOWN_TOPIC_OR_PARTITION));
    }
}

#[tokio::test]
async fn a_topic_that_is_the_brokers_own_takes_no_records_from_clients() {
    let mut client = ottla_protocol_tests::group::connect().await;
    let topic = Topic { name: "__consumer_offsets".to_owned(), id: Uuid::nil() };
    let answer = produce_bytes(&mut client, &topic, 0, &Batch::of(&["forged"]).encode()).await;
    assert_eq!(answer.error_code, code::INVALID_TOPIC_EXCEPTION);
}
