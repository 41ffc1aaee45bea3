//! Claims about the versions that kafka-protocol does not know, from the layouts of Kafka 4.3.1 and 4.4.0.

use bytes::BufMut;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use proptest::prelude::*;

use super::*;

const TOPIC: u128 = 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef;

fn text(out: &mut BytesMut, text: &str) {
    out.put_u8(u8::try_from(text.len() + 1).unwrap());
    out.put_slice(text.as_bytes());
}

#[test]
fn list_offsets_11_is_read_and_written_as_10() {
    let partition = ListOffsetsPartition::default().with_partition_index(3).with_timestamp(-6);
    let topic =
        ListOffsetsTopic::default().with_name(StrBytes::from_static_str("t").into()).with_partitions(vec![partition]);
    let request = ListOffsetsRequest::default().with_topics(vec![topic]).with_timeout_ms(5);
    let body = request.to_wire(10);
    assert_eq!(Newer::<ListOffsetsRequest>::from_wire(body.clone(), 11), Ok(Newer(request.clone())));
    assert_eq!(Newer::<ListOffsetsRequest>::from_wire(body, 10), Ok(Newer(request)));

    let partition = ListOffsetsPartitionResponse::default().with_offset(7).with_leader_epoch(2);
    let topic = ListOffsetsTopicResponse::default().with_partitions(vec![partition]);
    let response = Newer(ListOffsetsResponse::default().with_topics(vec![topic]));
    assert_eq!(response.to_wire(11), response.0.to_wire(10));
}

#[test]
fn offset_commit_10_has_topic_ids() {
    let mut body = BytesMut::new();
    text(&mut body, "group");
    body.put_i32(4);
    text(&mut body, "member");
    body.put_u8(0);
    body.put_u8(2);
    body.put_u128(TOPIC);
    body.put_u8(2);
    body.put_i32(1);
    body.put_i64(99);
    body.put_i32(6);
    text(&mut body, "meta");
    body.put_slice(&[0, 0, 0]);
    let Newer(request) = Newer::<OffsetCommitRequest>::from_wire(body.clone().freeze(), 10).unwrap();
    assert_eq!((request.group_id.as_str(), request.generation_id_or_member_epoch), ("group", 4));
    assert_eq!((request.member_id.as_str(), request.group_instance_id), ("member", None));
    let topic = &request.topics[0];
    assert_eq!(topic.topic_id.as_u128(), TOPIC);
    let partition = &topic.partitions[0];
    assert_eq!((partition.partition_index, partition.committed_offset), (1, 99));
    assert_eq!(partition.committed_leader_epoch, 6);
    assert_eq!(partition.committed_metadata.as_deref(), Some("meta"));
    for length in 0..body.len() {
        assert!(Newer::<OffsetCommitRequest>::from_wire(body.clone().freeze().slice(..length), 10).is_err());
    }
}

#[test]
fn offset_fetch_10_has_topic_ids_and_null_means_all_topics() {
    let mut body = BytesMut::new();
    body.put_u8(3);
    text(&mut body, "group");
    text(&mut body, "member");
    body.put_i32(4);
    body.put_u8(2);
    body.put_u128(TOPIC);
    body.put_u8(3);
    body.put_i32(0);
    body.put_i32(7);
    body.put_slice(&[0, 0]);
    text(&mut body, "other");
    body.put_u8(0);
    body.put_i32(-1);
    body.put_slice(&[0, 0]);
    body.put_slice(&[1, 0]);
    let Newer(request) = Newer::<OffsetFetchRequest>::from_wire(body.freeze(), 10).unwrap();
    assert!(request.require_stable);
    let topics = request.groups[0].topics.as_ref().unwrap();
    assert_eq!((topics[0].topic_id.as_u128(), &topics[0].partition_indexes[..]), (TOPIC, &[0, 7][..]));
    assert_eq!(request.groups[0].member_id.as_deref(), Some("member"));
    assert_eq!((request.groups[1].topics.as_ref(), request.groups[1].member_epoch), (None, -1));
}

#[test]
fn api_versions_5_names_the_cluster_and_the_node() {
    let mut body = BytesMut::new();
    text(&mut body, "apache-kafka-java");
    text(&mut body, "4.4.0");
    text(&mut body, "cluster");
    body.put_i32(3);
    body.put_u8(0);
    let question = ApiVersionsQuestion::from_wire(body.freeze(), 5).unwrap();
    assert_eq!((question.cluster_id.as_deref(), question.node_id), (Some("cluster"), 3));
    assert_eq!(question.client_software_version.as_str(), "4.4.0");
    let older = ApiVersionsQuestion::from_wire(Bytes::new(), 0).unwrap();
    assert_eq!((older.cluster_id, older.node_id), (None, -1));
}

#[test]
fn older_versions_go_through_kafka_protocol() {
    let request = OffsetCommitRequest::default().with_group_id(StrBytes::from_static_str("g").into());
    assert_eq!(Newer::<OffsetCommitRequest>::from_wire(request.to_wire(9), 9), Ok(Newer(request)));
    let request = OffsetFetchRequest::default().with_require_stable(true);
    assert_eq!(Newer::<OffsetFetchRequest>::from_wire(request.to_wire(9), 9), Ok(Newer(request)));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
        let bytes = Bytes::from(bytes);
        let _ = Newer::<OffsetCommitRequest>::from_wire(bytes.clone(), 10);
        let _ = Newer::<OffsetFetchRequest>::from_wire(bytes.clone(), 10);
        let _ = Newer::<ListOffsetsRequest>::from_wire(bytes.clone(), 11);
        let _ = ApiVersionsQuestion::from_wire(bytes, 5);
    }
}
