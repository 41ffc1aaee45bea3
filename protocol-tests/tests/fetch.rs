//! Fetch (1): what comes back, how much of it, and what a long poll waits for. Sessions are in `fetch_sessions`.

use kafka_protocol::messages::fetch_request::FetchPartition;
use kafka_protocol::messages::{DeleteTopicsRequest, FetchRequest};
use ottla_protocol_tests::batch::{Batch, CODECS};
use ottla_protocol_tests::client::Client;
use ottla_protocol_tests::fetched::{batches, values};
use ottla_protocol_tests::steps::{
    Topic, create_named, create_topic, fetch, fetch_request, fetched_partitions, only_fetched, produce, until,
};
use ottla_protocol_tests::{apis, broker, code, text, unique};
use uuid::Uuid;

const KEY: i16 = 1;

async fn filled(client: &mut Client, batches: &[&[&str]]) -> Topic {
    let topic = create_topic(client, 1, &[]).await;
    for values in batches {
        produce(client, &topic, 0, &Batch::of(values)).await;
    }
    topic
}

#[tokio::test]
async fn every_version_returns_the_records_with_the_fields_it_has() {
    let mut client = broker::connect().await;
    let topic = filled(&mut client, &[&["a", "b"], &["c"]]).await;
    for version in apis::versions(KEY) {
        for isolation in [0, 1] {
            let request = fetch_request(version, &topic, &[(0, 0)]).with_isolation_level(isolation);
            let response = client.call(version, &request).await;
            assert_eq!((response.throttle_time_ms, response.error_code, response.session_id), (0, code::NONE, 0));
            assert!(response.node_endpoints.is_empty());
            let named = &response.responses[0];
            assert_eq!(named.topic.as_str(), if version >= 13 { "" } else { &topic.name });
            assert_eq!(named.topic_id, if version >= 13 { topic.id } else { Uuid::nil() });
            let data = only_fetched(response);
            assert_eq!((data.partition_index, data.error_code, data.high_watermark), (0, code::NONE, 3));
            assert_eq!(data.last_stable_offset, 3, "v{version}");
            assert_eq!(data.log_start_offset, if version >= 5 { 0 } else { -1 });
            assert_eq!((data.diverging_epoch.epoch, data.diverging_epoch.end_offset), (-1, -1));
            assert_eq!((data.current_leader.leader_id.0, data.current_leader.leader_epoch), (-1, -1));
            assert_eq!((data.snapshot_id.end_offset, data.snapshot_id.epoch), (-1, -1));
            assert_eq!(data.preferred_read_replica.0, -1);
            // Null to those who read everything, a list to those who read what is committed.
            assert_eq!(data.aborted_transactions, (isolation == 1).then(Vec::new), "v{version}");
            assert_eq!(values(&data.records.expect("records")), ["a", "b", "c"]);
        }
    }
}

#[tokio::test]
async fn a_fetch_from_the_middle_of_a_batch_returns_the_whole_batch() {
    let mut client = broker::connect().await;
    let topic = create_topic(&mut client, 1, &[]).await;
    for codec in CODECS {
        let base = produce(&mut client, &topic, 0, &Batch::of(&["a", "b", "c"]).compressed(codec)).await;
        let data = fetch(&mut client, &topic, 0, base + 2).await;
        assert_eq!(batches(data.records.expect("records"))[0].base_offset, base, "the client skips what it has");
    }
}

#[tokio::test]
async fn at_the_end_there_is_nothing_and_beyond_it_an_error() {
    let mut client = broker::connect().await;
    let topic = filled(&mut client, &[&["a", "b"]]).await;
    for version in apis::versions(KEY) {
        let data = only_fetched(client.call(version, &fetch_request(version, &topic, &[(0, 2)])).await);
        assert_eq!((data.error_code, data.high_watermark), (code::NONE, 2));
        // Empty, not null: old clients stumble over null.
        assert_eq!(data.records.as_deref(), Some(&b""[..]), "v{version}");
        for offset in [3, 1 << 62, -1, -5, i64::MAX, i64::MIN] {
            let data = only_fetched(client.call(version, &fetch_request(version, &topic, &[(0, offset)])).await);
            assert_eq!(data.error_code, code::OFFSET_OUT_OF_RANGE, "offset {offset} at v{version}");
            assert_eq!((data.high_watermark, data.last_stable_offset, data.log_start_offset), (-1, -1, -1));
            assert_eq!(data.records.as_deref(), Some(&b""[..]));
        }
    }
}

#[tokio::test]
async fn what_is_unknown_is_refused_in_its_place() {
    let mut client = broker::connect().await;
    let topic = filled(&mut client, &[&["a"]]).await;
    let absent = Topic { name: unique("absent"), id: Uuid::new_v4() };
    for version in apis::versions(KEY) {
        let mut request = fetch_request(version, &topic, &[(0, 0), (1, 0), (-1, 0)]);
        request.topics.extend(fetch_request(version, &absent, &[(0, 0)]).topics);
        let response = client.call(version, &request).await;
        assert_eq!(response.error_code, code::NONE);
        let codes: Vec<Vec<(i32, i16)>> = response
            .responses
            .iter()
            .map(|topic| topic.partitions.iter().map(|data| (data.partition_index, data.error_code)).collect())
            .collect();
        let unknown = code::UNKNOWN_TOPIC_OR_PARTITION;
        let mut flat: Vec<(i32, i16)> = codes.concat();
        flat.sort_unstable();
        let absent_code = if version >= 13 { code::UNKNOWN_TOPIC_ID } else { unknown };
        let mut expected = vec![(-1, unknown), (0, code::NONE), (0, absent_code), (1, unknown)];
        expected.sort_unstable();
        assert_eq!(flat, expected, "v{version}");
        let good = fetched_partitions(&response).into_iter().find(|data| data.error_code == code::NONE);
        assert_eq!(values(good.expect("one").records.as_ref().expect("records")), ["a"]);
    }
}

#[tokio::test]
async fn the_cluster_that_a_client_names_is_not_looked_at() {
    // The field is for voters of KRaft; brokers ignore it.
    let mut client = broker::connect().await;
    let topic = filled(&mut client, &[&["a"]]).await;
    for version in 12..=*apis::versions(KEY).end() {
        let request = fetch_request(version, &topic, &[(0, 0)]).with_cluster_id(Some(text("another")));
        let data = only_fetched(client.call(version, &request).await);
        assert_eq!((data.error_code, values(&data.records.expect("records"))), (code::NONE, vec!["a".to_owned()]));
    }
}

#[tokio::test]
async fn the_first_batch_always_comes_however_small_the_limits_are() {
    let mut client = broker::connect().await;
    let large = "x".repeat(10_000);
    let topic = filled(&mut client, &[&[&large], &["second"]]).await;
    for version in apis::versions(KEY) {
        for (partition_limit, limit) in [(1, 1 << 20), (1 << 20, 1), (1, 1), (0, 1 << 20), (1 << 20, 0)] {
            let mut request = fetch_request(version, &topic, &[(0, 0)]).with_max_bytes(limit);
            request.topics[0].partitions[0].partition_max_bytes = partition_limit;
            let data = only_fetched(client.call(version, &request).await);
            assert_eq!(
                values(&data.records.expect("records")),
                [large.as_str()],
                "v{version} {partition_limit} {limit}"
            );
        }
    }
}

#[tokio::test]
async fn the_byte_limit_of_the_request_is_shared_in_the_order_of_the_partitions() {
    let mut client = broker::connect().await;
    let topic = create_topic(&mut client, 3, &[]).await;
    let kilobyte = "x".repeat(1_000);
    for partition in 0..3 {
        produce(&mut client, &topic, partition, &Batch::of(&[&kilobyte])).await;
    }
    for version in apis::versions(KEY) {
        let request = fetch_request(version, &topic, &[(2, 0), (0, 0), (1, 0)]).with_max_bytes(1_500);
        let response = client.call(version, &request).await;
        let with_records: Vec<i32> = fetched_partitions(&response)
            .into_iter()
            .filter(|data| !batches(data.records.clone().unwrap_or_default()).is_empty())
            .map(|data| data.partition_index)
            .collect();
        // Only the first may exceed what is left; the others get whole batches that fit, or none.
        assert_eq!(with_records, [2], "v{version}");
        assert_eq!(fetched_partitions(&response).len(), 3);
    }
}

#[tokio::test]
async fn the_limit_of_a_partition_stops_at_whole_batches_or_cuts_the_last() {
    let mut client = broker::connect().await;
    let value = "x".repeat(1_000);
    let topic = filled(&mut client, &[&[&value], &[&value], &[&value], &[&value]]).await;
    let one = Batch::of(&[&value]).encode().len() as i32;
    let mut request = fetch_request(12, &topic, &[(0, 0)]);
    request.topics[0].partitions[0].partition_max_bytes = 2 * one + one / 2;
    let data = only_fetched(client.call(12, &request).await);
    let records = data.records.expect("records");
    assert_eq!(batches(records.clone()).len(), 2);
    assert!(records.len() as i32 <= 2 * one + one / 2, "the limit holds once one batch is there");
}

#[tokio::test]
async fn a_fetch_with_enough_to_return_does_not_wait() {
    let mut client = broker::connect().await;
    let topic = filled(&mut client, &[&["a"]]).await;
    for version in apis::versions(KEY) {
        for (wait, least, offset) in [(i32::MAX, 1, 0), (i32::MAX, 0, 1), (0, i32::MAX, 1)] {
            let request = fetch_request(version, &topic, &[(0, offset)]).with_max_wait_ms(wait).with_min_bytes(least);
            let data = only_fetched(client.call(version, &request).await);
            assert_eq!(data.error_code, code::NONE);
        }
    }
}

#[tokio::test]
async fn an_offset_out_of_range_ends_the_wait_of_all() {
    let mut client = broker::connect().await;
    let topic = create_topic(&mut client, 2, &[]).await;
    for version in apis::versions(KEY) {
        let request = fetch_request(version, &topic, &[(0, 0), (1, 99)]).with_max_wait_ms(i32::MAX).with_min_bytes(1);
        let response = client.call(version, &request).await;
        let codes: Vec<i16> = fetched_partitions(&response).iter().map(|data| data.error_code).collect();
        assert_eq!(codes, [code::NONE, code::OFFSET_OUT_OF_RANGE], "v{version}");
    }
}

#[tokio::test]
async fn a_fetch_of_nothing_but_unknown_partitions_does_not_wait() {
    // Beside a known partition Kafka does wait, with the error in its pocket.
    let mut client = broker::connect().await;
    let topic = filled(&mut client, &[&["a"]]).await;
    for version in apis::versions(KEY) {
        let request = fetch_request(version, &topic, &[(8, 0), (9, 0)]).with_max_wait_ms(i32::MAX).with_min_bytes(1);
        let response = client.call(version, &request).await;
        let codes: Vec<i16> = fetched_partitions(&response).iter().map(|data| data.error_code).collect();
        assert_eq!(codes, [code::UNKNOWN_TOPIC_OR_PARTITION; 2], "v{version}");
    }
}

#[tokio::test]
async fn a_long_poll_wakes_on_a_produce_at_every_version() {
    let mut reader = broker::connect().await;
    let mut writer = broker::connect().await;
    let topic = create_topic(&mut writer, 1, &[]).await;
    for (offset, version) in apis::versions(KEY).enumerate() {
        let request =
            fetch_request(version, &topic, &[(0, offset as i64)]).with_max_wait_ms(i32::MAX).with_min_bytes(1);
        let correlation = reader.send(version, &request).await;
        // A few round trips, so that the fetch is most likely waiting; the test holds if it is not.
        for _ in 0..5 {
            fetch(&mut writer, &topic, 0, 0).await;
        }
        produce(&mut writer, &topic, 0, &Batch::of(&["awaited"])).await;
        let data = only_fetched(reader.receive::<FetchRequest>(version, correlation).await);
        assert_eq!(values(&data.records.expect("records")), ["awaited"], "v{version}");
        assert_eq!(data.high_watermark, offset as i64 + 1);
    }
}

#[tokio::test]
async fn a_long_poll_that_gets_too_little_answers_with_what_there_is_when_its_time_is_up() {
    let mut client = broker::connect().await;
    let topic = filled(&mut client, &[&["a"]]).await;
    for version in apis::versions(KEY) {
        for (offset, expected) in [(0, vec!["a"]), (1, vec![])] {
            let request = fetch_request(version, &topic, &[(0, offset)]).with_max_wait_ms(20).with_min_bytes(1 << 20);
            let data = only_fetched(client.call(version, &request).await);
            assert_eq!(values(&data.records.expect("records")), expected, "v{version}");
        }
    }
}

#[tokio::test]
async fn a_long_poll_waits_until_min_bytes_are_there_over_several_partitions() {
    let mut reader = broker::connect().await;
    let mut writer = broker::connect().await;
    let topic = create_topic(&mut writer, 2, &[]).await;
    let batch = Batch::of(&[&"x".repeat(1_000)]);
    let least = 3 * batch.encode().len() as i32;
    let request = fetch_request(12, &topic, &[(0, 0), (1, 0)]).with_max_wait_ms(i32::MAX).with_min_bytes(least);
    let correlation = reader.send(12, &request).await;
    for partition in [0, 1, 0] {
        produce(&mut writer, &topic, partition, &batch).await;
    }
    let response = reader.receive::<FetchRequest>(12, correlation).await;
    let bytes: usize =
        fetched_partitions(&response).iter().map(|data| data.records.as_ref().map_or(0, |r| r.len())).sum();
    assert_eq!(bytes as i32, least);
}

#[tokio::test]
async fn a_leader_epoch_of_the_future_is_unknown() {
    let mut client = broker::connect().await;
    let topic = filled(&mut client, &[&["a"]]).await;
    for version in 9..=*apis::versions(KEY).end() {
        for (epoch, expected) in [(0, code::NONE), (-1, code::NONE), (1, code::UNKNOWN_LEADER_EPOCH)] {
            let mut request = fetch_request(version, &topic, &[(0, 0)]);
            request.topics[0].partitions[0].current_leader_epoch = epoch;
            let data = only_fetched(client.call(version, &request).await);
            assert_eq!(data.error_code, expected, "v{version} epoch {epoch}");
        }
    }
}

#[tokio::test]
async fn a_position_that_the_last_fetched_epoch_never_had_diverges() {
    let mut client = broker::connect().await;
    let topic = filled(&mut client, &[&["a", "b"]]).await;
    for version in 12..=*apis::versions(KEY).end() {
        let mut request = fetch_request(version, &topic, &[(0, 7)]);
        request.topics[0].partitions[0].last_fetched_epoch = 0;
        let data = only_fetched(client.call(version, &request).await);
        // KIP-595: no error; the client is told where the epoch really ended, and truncates itself.
        assert_eq!(data.error_code, code::NONE);
        assert_eq!((data.diverging_epoch.epoch, data.diverging_epoch.end_offset), (0, 2), "v{version}");
        assert_eq!(data.records.as_deref(), Some(&b""[..]));

        let mut agreeing = fetch_request(version, &topic, &[(0, 2)]);
        agreeing.topics[0].partitions[0].last_fetched_epoch = 0;
        let data = only_fetched(client.call(version, &agreeing).await);
        assert_eq!((data.error_code, data.diverging_epoch.epoch), (code::NONE, -1));
    }
}

#[tokio::test]
async fn a_partition_asked_for_twice_is_answered() {
    let mut client = broker::connect().await;
    let topic = filled(&mut client, &[&["a"]]).await;
    for version in apis::versions(KEY) {
        let mut request = fetch_request(version, &topic, &[(0, 0)]);
        let again: FetchPartition = request.topics[0].partitions[0].clone();
        request.topics[0].partitions.push(again);
        let response = client.call(version, &request).await;
        assert!(fetched_partitions(&response).iter().all(|data| data.error_code == code::NONE));
    }
}

#[tokio::test]
async fn a_topic_made_again_starts_empty_and_its_old_id_is_unknown() {
    let mut client = broker::connect().await;
    let old = filled(&mut client, &[&["of the old one"]]).await;
    let request = DeleteTopicsRequest::default().with_topic_names(vec![old.topic_name()]).with_timeout_ms(30_000);
    assert_eq!(client.call(5, &request).await.responses[0].error_code, code::NONE);
    until("the id is unknown", async || {
        let response = client.call(13, &fetch_request(13, &old, &[(0, 0)])).await;
        (fetched_partitions(&response)[0].error_code == code::UNKNOWN_TOPIC_ID).then_some(())
    })
    .await;
    let new = create_named(&mut client, &old.name, 1, &[]).await;
    let empty = fetch(&mut client, &new, 0, 0).await;
    assert_eq!((empty.error_code, empty.high_watermark), (code::NONE, 0));
    produce(&mut client, &new, 0, &Batch::of(&["of the new one"])).await;
    for version in 13..=*apis::versions(KEY).end() {
        let stale = only_fetched(client.call(version, &fetch_request(version, &old, &[(0, 0)])).await);
        assert_eq!(stale.error_code, code::UNKNOWN_TOPIC_ID);
        let data = only_fetched(client.call(version, &fetch_request(version, &new, &[(0, 0)])).await);
        assert_eq!(values(&data.records.expect("records")), ["of the new one"]);
    }
}

#[tokio::test]
async fn one_request_over_two_topics_returns_both() {
    let mut client = broker::connect().await;
    let (first, second) = (filled(&mut client, &[&["a"]]).await, filled(&mut client, &[&["b"]]).await);
    for version in apis::versions(KEY) {
        let mut request = fetch_request(version, &first, &[(0, 0)]);
        request.topics.extend(fetch_request(version, &second, &[(0, 0)]).topics);
        let response = client.call(version, &request).await;
        let all: Vec<String> = fetched_partitions(&response)
            .iter()
            .flat_map(|data| values(data.records.as_ref().expect("records")))
            .collect();
        assert_eq!(all, ["a", "b"], "v{version}");
    }
}
