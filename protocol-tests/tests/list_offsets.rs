//! ListOffsets (2): where a log begins and ends, and what stands at a time.

use kafka_protocol::messages::list_offsets_request::ListOffsetsPartition;
use ottla_protocol_tests::batch::{Batch, CODECS, Codec};
use ottla_protocol_tests::client::Client;
use ottla_protocol_tests::steps::{
    EARLIEST, LATEST, Topic, create_topic, list_offset, list_offset_at, list_offsets_request, produce,
};
use ottla_protocol_tests::{apis, broker, code, unique};

const KEY: i16 = 2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

async fn at_times(client: &mut Client, times: &[&[i64]]) -> Topic {
    let topic = create_topic(client, 1, &[]).await;
    for times in times {
        produce(client, &topic, 0, &Batch::at_times(times)).await;
    }
    topic
}

#[tokio::test]
async fn every_version_knows_both_ends_and_the_epoch_from_version_4() {
    let mut client = broker::connect().await;
    let topic = at_times(&mut client, &[&[100, 200], &[300]]).await;
    for version in apis::versions(KEY) {
        for (asked, expected) in [(EARLIEST, 0), (LATEST, 3)] {
            let answer = list_offset_at(&mut client, version, &topic, 0, asked).await;
            assert_eq!((answer.error_code, answer.timestamp, answer.offset), (code::NONE, -1, expected), "v{version}");
            assert_eq!(answer.leader_epoch, if version >= 4 { 0 } else { -1 }, "v{version}");
        }
    }
}

#[tokio::test]
async fn an_empty_log_begins_where_it_ends_and_has_nothing_at_any_time() {
    let mut client = broker::connect().await;
    let topic = create_topic(&mut client, 1, &[]).await;
    for version in apis::versions(KEY) {
        for asked in [EARLIEST, LATEST] {
            let answer = list_offset_at(&mut client, version, &topic, 0, asked).await;
            assert_eq!((answer.offset, answer.leader_epoch), (0, if version >= 4 { 0 } else { -1 }), "v{version}");
        }
        for asked in [0, 1_000, i64::MAX] {
            let answer = list_offset_at(&mut client, version, &topic, 0, asked).await;
            assert_eq!((answer.error_code, answer.timestamp, answer.offset), (code::NONE, -1, -1), "v{version}");
        }
    }
}

#[tokio::test]
async fn a_time_finds_the_first_record_that_is_not_older_at_every_version() {
    let mut client = broker::connect().await;
    let topic = at_times(&mut client, &[&[100, 200], &[300, 250, 400]]).await;
    for version in apis::versions(KEY) {
        for (asked, found) in [
            (0, Some((100, 0))),
            (100, Some((100, 0))),
            (101, Some((200, 1))),
            (201, Some((300, 2))),
            (250, Some((300, 2))),
            (301, Some((400, 4))),
            (400, Some((400, 4))),
            (401, None),
        ] {
            let answer = list_offset_at(&mut client, version, &topic, 0, asked).await;
            assert_eq!(answer.error_code, code::NONE);
            assert_eq!((answer.timestamp, answer.offset), found.unwrap_or((-1, -1)), "v{version}, time {asked}");
        }
    }
}

#[tokio::test]
async fn a_time_is_found_exactly_inside_a_compressed_batch() {
    let mut client = broker::connect().await;
    for codec in CODECS {
        let topic = create_topic(&mut client, 1, &[]).await;
        produce(&mut client, &topic, 0, &Batch::at_times(&[10, 20, 30]).compressed(codec)).await;
        produce(&mut client, &topic, 0, &Batch::at_times(&[40, 60, 50]).compressed(codec)).await;
        for (asked, found) in [(11, (20, 1)), (30, (30, 2)), (31, (40, 3)), (45, (60, 4)), (61, (-1, -1))] {
            let answer = list_offset(&mut client, &topic, 0, asked).await;
            assert_eq!((answer.timestamp, answer.offset), found, "{codec:?}, time {asked}");
        }
        let latest = list_offset(&mut client, &topic, 0, MAX_TIMESTAMP).await;
        assert_eq!((latest.timestamp, latest.offset), (60, 4), "{codec:?}");
    }
}

#[tokio::test]
async fn the_largest_timestamp_is_found_from_version_7_wherever_it_stands() {
    let mut client = broker::connect().await;
    let topic = at_times(&mut client, &[&[100], &[500, 900, 300], &[200]]).await;
    let empty = create_topic(&mut client, 1, &[]).await;
    for version in 7..=*apis::versions(KEY).end() {
        let answer = list_offset_at(&mut client, version, &topic, 0, MAX_TIMESTAMP).await;
        assert_eq!((answer.error_code, answer.timestamp, answer.offset), (code::NONE, 900, 2), "v{version}");
        assert_eq!(answer.leader_epoch, 0);
        let nothing = list_offset_at(&mut client, version, &empty, 0, MAX_TIMESTAMP).await;
        assert_eq!((nothing.error_code, nothing.timestamp, nothing.offset), (code::NONE, -1, -1), "v{version}");
    }
}

#[tokio::test]
async fn of_several_records_with_the_largest_timestamp_the_first_counts() {
    let mut client = broker::connect().await;
    for codec in [Codec::None, Codec::Lz4] {
        let topic = create_topic(&mut client, 1, &[]).await;
        for times in [&[5, 9, 9][..], &[9, 1]] {
            produce(&mut client, &topic, 0, &Batch::at_times(times).compressed(codec)).await;
        }
        let answer = list_offset(&mut client, &topic, 0, MAX_TIMESTAMP).await;
        assert_eq!((answer.timestamp, answer.offset), (9, 1), "{codec:?}");
    }
}

#[tokio::test]
async fn special_times_are_unsupported_before_their_version() {
    let mut client = broker::connect().await;
    let topic = at_times(&mut client, &[&[100]]).await;
    for version in apis::versions(KEY) {
        for (asked, since) in
            [(MAX_TIMESTAMP, 7), (EARLIEST_LOCAL, 8), (LATEST_TIERED, 9), (EARLIEST_PENDING_UPLOAD, 11)]
        {
            let answer = list_offset_at(&mut client, version, &topic, 0, asked).await;
            let expected = if version >= since { code::NONE } else { code::UNSUPPORTED_VERSION };
            assert_eq!(answer.error_code, expected, "v{version}, time {asked}");
        }
        let unheard_of = list_offset_at(&mut client, version, &topic, 0, -7).await;
        assert_eq!(unheard_of.error_code, code::UNSUPPORTED_VERSION, "v{version}");
    }
}

#[tokio::test]
async fn without_tiered_storage_all_is_local_and_nothing_is_tiered() {
    let mut client = broker::connect().await;
    let topic = at_times(&mut client, &[&[100, 200]]).await;
    for version in 8..=*apis::versions(KEY).end() {
        let local = list_offset_at(&mut client, version, &topic, 0, EARLIEST_LOCAL).await;
        assert_eq!((local.error_code, local.timestamp, local.offset), (code::NONE, -1, 0), "v{version}");
        if version >= 9 {
            let tiered = list_offset_at(&mut client, version, &topic, 0, LATEST_TIERED).await;
            assert_eq!((tiered.error_code, tiered.timestamp, tiered.offset), (code::NONE, -1, -1), "v{version}");
        }
    }
    let pending = list_offset_at(&mut client, 11, &topic, 0, EARLIEST_PENDING_UPLOAD).await;
    assert_eq!((pending.error_code, pending.offset), (code::NONE, -1));
}

#[tokio::test]
async fn what_is_unknown_is_refused_in_its_place() {
    let mut client = broker::connect().await;
    let topic = at_times(&mut client, &[&[100]]).await;
    for version in apis::versions(KEY) {
        let mut request = list_offsets_request(&topic.name, 0, LATEST);
        request.topics[0]
            .partitions
            .push(ListOffsetsPartition::default().with_partition_index(5).with_timestamp(LATEST));
        request.topics.extend(list_offsets_request(&unique("absent"), 0, LATEST).topics);
        let response = client.call_as(version, version.min(10), &request).await;
        assert_eq!(response.throttle_time_ms, 0);
        let mut answers: Vec<(i16, i64)> = response
            .topics
            .iter()
            .flat_map(|topic| &topic.partitions)
            .map(|partition| (partition.error_code, partition.offset))
            .collect();
        answers.sort_unstable();
        let unknown = (code::UNKNOWN_TOPIC_OR_PARTITION, -1);
        assert_eq!(answers, [(code::NONE, 1), unknown, unknown], "v{version}");
    }
}

#[tokio::test]
async fn what_is_unknown_is_refused_whatever_end_is_asked_for() {
    let mut client = broker::connect().await;
    let topic = at_times(&mut client, &[&[100]]).await;
    let absent = Topic { name: unique("absent"), id: uuid::Uuid::nil() };
    for asked in [LATEST, EARLIEST, MAX_TIMESTAMP, EARLIEST_LOCAL, LATEST_TIERED, EARLIEST_PENDING_UPLOAD, 50] {
        for (topic, partition) in [(&absent, 0), (&topic, 5)] {
            let answer = list_offset_at(&mut client, 11, topic, partition, asked).await;
            assert_eq!((answer.error_code, answer.offset), (code::UNKNOWN_TOPIC_OR_PARTITION, -1), "time {asked}");
        }
        let mut request = list_offsets_request(&topic.name, 0, asked);
        request.topics[0].partitions[0].current_leader_epoch = 1;
        let response = client.call_as(11, 10, &request).await;
        assert_eq!(response.topics[0].partitions[0].error_code, code::UNKNOWN_LEADER_EPOCH, "time {asked}");
    }
}

#[tokio::test]
async fn a_partition_asked_for_twice_is_an_invalid_request() {
    let mut client = broker::connect().await;
    let topic = at_times(&mut client, &[&[100]]).await;
    for version in apis::versions(KEY) {
        let mut request = list_offsets_request(&topic.name, 0, LATEST);
        let again = request.topics[0].partitions[0].clone().with_timestamp(EARLIEST);
        request.topics[0].partitions.push(again);
        let response = client.call_as(version, version.min(10), &request).await;
        let codes: Vec<i16> = response.topics[0].partitions.iter().map(|partition| partition.error_code).collect();
        assert!(!codes.is_empty() && codes.iter().all(|code| *code == code::INVALID_REQUEST), "v{version}: {codes:?}");
    }
}

#[tokio::test]
async fn a_leader_epoch_of_the_future_is_unknown_from_version_4() {
    let mut client = broker::connect().await;
    let topic = at_times(&mut client, &[&[100]]).await;
    for version in 4..=*apis::versions(KEY).end() {
        for (epoch, expected) in [(0, code::NONE), (-1, code::NONE), (1, code::UNKNOWN_LEADER_EPOCH)] {
            let mut request = list_offsets_request(&topic.name, 0, LATEST);
            request.topics[0].partitions[0].current_leader_epoch = epoch;
            let response = client.call_as(version, version.min(10), &request).await;
            assert_eq!(response.topics[0].partitions[0].error_code, expected, "v{version}, epoch {epoch}");
        }
    }
}

#[tokio::test]
async fn committed_readers_see_the_same_end_while_there_is_no_transaction() {
    let mut client = broker::connect().await;
    let topic = at_times(&mut client, &[&[100, 200]]).await;
    for version in 2..=*apis::versions(KEY).end() {
        let request = list_offsets_request(&topic.name, 0, LATEST).with_isolation_level(1);
        let response = client.call_as(version, version.min(10), &request).await;
        assert_eq!(response.topics[0].partitions[0].offset, 2, "v{version}");
    }
}
