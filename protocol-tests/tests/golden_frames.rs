//! Frames of real clients: kafka-clients 4.3.1 and kcat (librdkafka) talking to Apache Kafka 4.3.1, captured between them.
//!
//! Each file of `golden/` has one request and its response in hex. What the clients sent must be read as
//! they meant it; what Kafka answered must be what we would write for the same content, byte for byte.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages as kp;
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, StrBytes};
use ottla::api::TABLE;
use ottla::error::ErrorCode;
use ottla::log::validate::{Rules, validate_produced};
use ottla::types::{LeaderEpoch, NodeId, Offset, ProducerId, Timestamp, TopicId};
use ottla::wire::batch::{Batches, crc_is_valid};
use ottla::wire::fetch::{AbortedTransaction, FetchPartitionResponse, FetchRequest, FetchResponse, FetchTopicResponse};
use ottla::wire::frame::{RequestHeader, response_head, split_frame};
use ottla::wire::message::{ApiVersionsQuestion, FromWire, Newer, ToWire};
use ottla::wire::produce::{
    CurrentLeader, NodeEndpoint, ProducePartitionResponse, ProduceRequest, ProduceResponse, ProduceTopicResponse,
};

struct Golden {
    name: String,
    header: RequestHeader,
    body: Bytes,
    answer: Bytes,
}

fn unhex(text: &str) -> Bytes {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(pair).collect()
}

fn request_is_flexible(key: i16, version: i16) -> bool {
    kp::ApiKey::try_from(key).unwrap().request_header_version(version) >= 2
}

/// The frames of one file, headers taken off and checked.
fn golden(path: &Path) -> Golden {
    let name = path.file_stem().unwrap().to_string_lossy().into_owned();
    let text = fs::read_to_string(path).unwrap();
    let (request, response) = text.split_once("\n\n").unwrap();
    let mut received = BytesMut::from(&unhex(request)[..]);
    let frame = split_frame(&mut received, 1 << 20).unwrap().unwrap();
    assert!(received.is_empty(), "{name}: one frame");
    let (key, version) = ottla::wire::frame::api_of(&frame).unwrap();
    let (header, body) = RequestHeader::split(frame, request_is_flexible(key, version)).unwrap();
    let response = unhex(response);
    let flexible = kp::ApiKey::try_from(key).unwrap().response_header_version(version) >= 1;
    let head_bytes = if flexible { 9 } else { 8 };
    let answer = response.slice(head_bytes..);
    assert_eq!(response_head(key, header.correlation_id, flexible, answer.len()), response[..head_bytes], "{name}");
    Golden { name, header, body, answer }
}

fn all() -> Vec<Golden> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| golden(path)).collect()
}

fn of(key: i16) -> Vec<Golden> {
    let found: Vec<_> = all().into_iter().filter(|golden| golden.header.api_key == key).collect();
    assert!(!found.is_empty(), "there are frames of key {key}");
    found
}

fn encoded(message: &impl Encodable, version: i16) -> Bytes {
    let mut out = BytesMut::new();
    message.encode(&mut out, version).unwrap();
    out.freeze()
}

/// Reads a request and a response and writes them again, in a version that kafka-protocol knows.
fn round_trip<Q, A>(golden: &Golden)
where
    Q: FromWire + Encodable + HeaderVersion,
    A: Decodable + Encodable + ToWire,
{
    let version = golden.header.api_version;
    let request = Q::from_wire(golden.body.clone(), version).unwrap_or_else(|error| panic!("{}: {error}", golden.name));
    assert_eq!(encoded(&request, version), golden.body, "{}: the request", golden.name);
    let mut rest = golden.answer.clone();
    let answer = A::decode(&mut rest, version).unwrap_or_else(|error| panic!("{}: {error}", golden.name));
    assert!(!rest.has_remaining(), "{}: the response is read to its end", golden.name);
    assert_eq!(answer.to_wire(version), golden.answer, "{}: the response", golden.name);
}

#[test]
fn every_api_that_is_served_has_frames_of_a_client() {
    let seen: BTreeSet<i16> = all().iter().map(|golden| golden.header.api_key).collect();
    let unseen: Vec<&str> = TABLE.iter().filter(|row| !seen.contains(&row.key)).map(|row| row.name).collect();
    assert!(unseen.is_empty(), "{unseen:?}");
}

#[test]
fn what_kafka_protocol_codes_is_read_and_written_as_it_was_sent() {
    for golden in all() {
        match (golden.header.api_key, golden.header.api_version) {
            (0 | 1, _) | (2, 11) | (8 | 9, 10) => {} // below
            (2, _) => round_trip::<kp::ListOffsetsRequest, kp::ListOffsetsResponse>(&golden),
            (3, _) => round_trip::<kp::MetadataRequest, kp::MetadataResponse>(&golden),
            (8, _) => round_trip::<kp::OffsetCommitRequest, kp::OffsetCommitResponse>(&golden),
            (9, _) => round_trip::<kp::OffsetFetchRequest, kp::OffsetFetchResponse>(&golden),
            (10, _) => round_trip::<kp::FindCoordinatorRequest, kp::FindCoordinatorResponse>(&golden),
            (11, _) => round_trip::<kp::JoinGroupRequest, kp::JoinGroupResponse>(&golden),
            (12, _) => round_trip::<kp::HeartbeatRequest, kp::HeartbeatResponse>(&golden),
            (13, _) => round_trip::<kp::LeaveGroupRequest, kp::LeaveGroupResponse>(&golden),
            (14, _) => round_trip::<kp::SyncGroupRequest, kp::SyncGroupResponse>(&golden),
            (15, _) => round_trip::<kp::DescribeGroupsRequest, kp::DescribeGroupsResponse>(&golden),
            (16, _) => round_trip::<kp::ListGroupsRequest, kp::ListGroupsResponse>(&golden),
            (18, _) => round_trip::<kp::ApiVersionsRequest, kp::ApiVersionsResponse>(&golden),
            (19, _) => round_trip::<kp::CreateTopicsRequest, kp::CreateTopicsResponse>(&golden),
            (20, _) => round_trip::<kp::DeleteTopicsRequest, kp::DeleteTopicsResponse>(&golden),
            (22, _) => round_trip::<kp::InitProducerIdRequest, kp::InitProducerIdResponse>(&golden),
            (23, _) => round_trip::<kp::OffsetForLeaderEpochRequest, kp::OffsetForLeaderEpochResponse>(&golden),
            (32, _) => round_trip::<kp::DescribeConfigsRequest, kp::DescribeConfigsResponse>(&golden),
            (60, _) => round_trip::<kp::DescribeClusterRequest, kp::DescribeClusterResponse>(&golden),
            (68, _) => {
                round_trip::<kp::ConsumerGroupHeartbeatRequest, kp::ConsumerGroupHeartbeatResponse>(&golden);
            }
            (69, _) => round_trip::<kp::ConsumerGroupDescribeRequest, kp::ConsumerGroupDescribeResponse>(&golden),
            (75, _) => {
                round_trip::<kp::DescribeTopicPartitionsRequest, kp::DescribeTopicPartitionsResponse>(&golden);
            }
            (key, version) => panic!("{}: no codec for {key} version {version}", golden.name),
        }
    }
}

#[test]
fn versions_that_kafka_protocol_lacks_are_read_as_they_were_meant() {
    for golden in of(2).iter().filter(|golden| golden.header.api_version == 11) {
        let Newer(request) = Newer::<kp::ListOffsetsRequest>::from_wire(golden.body.clone(), 11).unwrap();
        assert_eq!(encoded(&request, 10), golden.body, "{}", golden.name);
        let answer = kp::ListOffsetsResponse::decode(&mut golden.answer.clone(), 10).unwrap();
        assert_eq!(Newer(answer).to_wire(11), golden.answer, "{}", golden.name);
    }
    for golden in of(8).iter().filter(|golden| golden.header.api_version == 10) {
        let Newer(request) = Newer::<kp::OffsetCommitRequest>::from_wire(golden.body.clone(), 10).unwrap();
        assert_eq!(request.group_id.as_str(), "g2");
        assert!(!request.topics[0].topic_id.is_nil());
        let committed: Vec<_> =
            request.topics[0].partitions.iter().map(|found| (found.partition_index, found.committed_offset)).collect();
        assert!(!committed.is_empty() && committed.iter().all(|(_, offset)| (0..=6).contains(offset)), "{committed:?}");
        let answer = kp::OffsetCommitResponse::decode(&mut golden.answer.clone(), 10).unwrap();
        assert_eq!(answer.topics[0].topic_id, request.topics[0].topic_id);
        assert_eq!(answer.to_wire(10), golden.answer);
    }
    for golden in of(9).iter().filter(|golden| golden.header.api_version == 10) {
        let Newer(request) = Newer::<kp::OffsetFetchRequest>::from_wire(golden.body.clone(), 10).unwrap();
        let group = &request.groups[0];
        assert_eq!(group.group_id.as_str(), "g2");
        assert!(!group.topics.as_ref().unwrap()[0].topic_id.is_nil());
        let answer = kp::OffsetFetchResponse::decode(&mut golden.answer.clone(), 10).unwrap();
        assert_eq!(answer.to_wire(10), golden.answer);
    }
    for golden in of(18) {
        let question = ApiVersionsQuestion::from_wire(golden.body.clone(), golden.header.api_version).unwrap();
        let expected = if golden.name.starts_with("java") { "apache-kafka-java" } else { "librdkafka" };
        assert_eq!(question.client_software_name.as_str(), expected);
    }
}

fn rules() -> Rules {
    Rules {
        max_message_bytes: 1_048_588,
        compacted: false,
        log_append_time: false,
        timestamp_before_max_ms: i64::MAX,
        timestamp_after_max_ms: i64::MAX,
        compression: None,
        zstd_allowed: true,
        full: true,
        now: Timestamp(0),
    }
}

#[test]
fn what_clients_produce_is_read_and_their_batches_are_valid() {
    for golden in of(0) {
        let version = golden.header.api_version;
        let ours = ProduceRequest::decode(golden.body.clone(), version).unwrap();
        let theirs = kp::ProduceRequest::decode(&mut golden.body.clone(), version).unwrap();
        assert_eq!((ours.acks, ours.timeout_ms), (theirs.acks, theirs.timeout_ms), "{}", golden.name);
        assert_eq!(ours.topics.len(), theirs.topic_data.len());
        for (ours, theirs) in ours.topics.iter().zip(&theirs.topic_data) {
            assert_eq!((&ours.name, ours.topic_id.0), (&theirs.name.0, theirs.topic_id));
            for (ours, theirs) in ours.partitions.iter().zip(&theirs.partition_data) {
                assert_eq!((ours.index, &ours.records), (theirs.index, &theirs.records));
                let records = ours.records.clone().unwrap();
                let produced = validate_produced(&records, &rules()).unwrap();
                assert_eq!(produced.bytes, records, "{}: the batch is kept as it came", golden.name);
            }
        }
    }
}

#[test]
fn a_produce_response_is_written_as_kafka_writes_it() {
    for golden in of(0) {
        let version = golden.header.api_version;
        let theirs = kp::ProduceResponse::decode(&mut golden.answer.clone(), version).unwrap();
        let partition = |found: &kp::produce_response::PartitionProduceResponse| ProducePartitionResponse {
            base_offset: Offset(found.base_offset),
            log_append_time: Timestamp(found.log_append_time_ms),
            log_start_offset: Offset(found.log_start_offset),
            current_leader: (found.current_leader.leader_id.0 >= 0).then_some(CurrentLeader {
                leader_id: NodeId(found.current_leader.leader_id.0),
                leader_epoch: LeaderEpoch(found.current_leader.leader_epoch),
            }),
            ..ProducePartitionResponse::refused(found.index, ErrorCode::from_wire(found.error_code))
        };
        let topic = |found: &kp::produce_response::TopicProduceResponse| ProduceTopicResponse {
            name: found.name.0.clone(),
            topic_id: TopicId(found.topic_id),
            partitions: found.partition_responses.iter().map(partition).collect(),
        };
        let ours = ProduceResponse {
            topics: theirs.responses.iter().map(topic).collect(),
            throttle_time_ms: theirs.throttle_time_ms,
            node_endpoints: Vec::new(),
        };
        assert_eq!(ours.encode(version), golden.answer, "{}", golden.name);
    }
}

#[test]
fn a_fetch_request_is_read_as_the_client_meant_it() {
    for golden in of(1) {
        let version = golden.header.api_version;
        let ours = FetchRequest::decode(golden.body.clone(), version).unwrap();
        let theirs = kp::FetchRequest::decode(&mut golden.body.clone(), version).unwrap();
        assert_eq!(ours.replica_id, NodeId::NONE, "{}", golden.name);
        assert_eq!((ours.max_wait_ms, ours.min_bytes), (theirs.max_wait_ms, theirs.min_bytes));
        assert_eq!((ours.max_bytes, ours.isolation_level), (theirs.max_bytes, theirs.isolation_level));
        assert_eq!((ours.session_id, ours.session_epoch), (theirs.session_id, theirs.session_epoch));
        assert_eq!((&ours.rack_id, ours.topics.len()), (&theirs.rack_id, theirs.topics.len()));
        for (ours, theirs) in ours.topics.iter().zip(&theirs.topics) {
            assert_eq!((&ours.name, ours.topic_id.0), (&theirs.topic.0, theirs.topic_id));
            for (ours, theirs) in ours.partitions.iter().zip(&theirs.partitions) {
                assert_eq!((ours.partition, ours.fetch_offset.0), (theirs.partition, theirs.fetch_offset));
                assert_eq!(ours.current_leader_epoch.0, theirs.current_leader_epoch);
                assert_eq!(ours.partition_max_bytes, theirs.partition_max_bytes);
            }
        }
    }
}

#[test]
fn a_fetch_response_is_written_as_kafka_writes_it_and_its_batches_are_walked() {
    let mut records = 0;
    for golden in of(1) {
        let version = golden.header.api_version;
        let theirs = kp::FetchResponse::decode(&mut golden.answer.clone(), version).unwrap();
        let ours = FetchResponse {
            throttle_time_ms: theirs.throttle_time_ms,
            error: Some(ErrorCode::from_wire(theirs.error_code)),
            session_id: theirs.session_id,
            topics: theirs.responses.iter().map(fetched_topic).collect(),
            node_endpoints: theirs.node_endpoints.iter().map(endpoint).collect(),
        };
        for partition in ours.topics.iter().flat_map(|topic| &topic.partitions) {
            for batch in partition.records.iter().flat_map(|bytes| Batches::new(bytes.clone())) {
                let batch = batch.unwrap();
                assert!(crc_is_valid(&batch.bytes), "{}", golden.name);
                let found: Vec<_> = batch.records(1 << 20).unwrap().map(Result::unwrap).collect();
                records += found.len();
            }
        }
        assert_eq!(Bytes::from(ours.encode(version).concat()), golden.answer, "{}", golden.name);
    }
    assert!(records > 3, "the captured responses have records");
}

fn fetched_topic(found: &kp::fetch_response::FetchableTopicResponse) -> FetchTopicResponse {
    FetchTopicResponse {
        name: StrBytes::from_string(found.topic.to_string()),
        topic_id: TopicId(found.topic_id),
        partitions: found.partitions.iter().map(fetched_partition).collect(),
    }
}

fn fetched_partition(found: &kp::fetch_response::PartitionData) -> FetchPartitionResponse {
    let aborted = |found: &kp::fetch_response::AbortedTransaction| AbortedTransaction {
        producer_id: ProducerId(found.producer_id.0),
        first_offset: Offset(found.first_offset),
    };
    FetchPartitionResponse {
        high_watermark: Offset(found.high_watermark),
        last_stable_offset: Offset(found.last_stable_offset),
        log_start_offset: Offset(found.log_start_offset),
        aborted_transactions: found.aborted_transactions.as_ref().map(|list| list.iter().map(aborted).collect()),
        preferred_read_replica: NodeId(found.preferred_read_replica.0),
        records: found.records.iter().cloned().collect(),
        ..FetchPartitionResponse::refused(found.partition_index, ErrorCode::from_wire(found.error_code))
    }
}

fn endpoint(found: &kp::fetch_response::NodeEndpoint) -> NodeEndpoint {
    NodeEndpoint {
        node_id: NodeId(found.node_id.0),
        host: found.host.to_string(),
        port: found.port,
        rack: found.rack.as_ref().map(|rack| rack.to_string()),
    }
}
