//! Claims about Produce, with kafka-protocol's codec as the second opinion.

use bytes::{Buf, BytesMut};
use kafka_protocol::messages as kp;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response as kpr;
use kafka_protocol::protocol::{Decodable, Encodable};
use proptest::prelude::*;

use super::*;

const VERSIONS: std::ops::RangeInclusive<i16> = 3..=13;

fn text() -> impl Strategy<Value = String> {
    "[a-z.é]{0,20}"
}

fn request() -> impl Strategy<Value = ProduceRequest> {
    let records = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200));
    let partition = (any::<i32>(), records)
        .prop_map(|(index, records)| ProducePartition { index, records: records.map(Into::into) });
    let topic =
        (text(), any::<u128>(), proptest::collection::vec(partition, 1..4)).prop_map(|(name, id, partitions)| {
            ProduceTopic { name: StrBytes::from_string(name), topic_id: TopicId(uuid::Uuid::from_u128(id)), partitions }
        });
    (proptest::option::of(text()), any::<i16>(), any::<i32>(), proptest::collection::vec(topic, 0..4)).prop_map(
        |(transactional_id, acks, timeout_ms, topics)| ProduceRequest {
            transactional_id: transactional_id.map(StrBytes::from_string),
            acks,
            timeout_ms,
            topics,
        },
    )
}

fn encoded(request: &ProduceRequest, version: i16) -> Bytes {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            PartitionProduceData::default().with_index(partition.index).with_records(partition.records.clone())
        });
        let topic_data = TopicProduceData::default().with_partition_data(partitions.collect());
        match version >= 13 {
            true => topic_data.with_topic_id(topic.topic_id.0),
            false => topic_data.with_name(topic.name.clone().into()),
        }
    });
    let theirs = kp::ProduceRequest::default()
        .with_transactional_id(request.transactional_id.clone().map(Into::into))
        .with_acks(request.acks)
        .with_timeout_ms(request.timeout_ms)
        .with_topic_data(topics.collect());
    let mut out = BytesMut::new();
    theirs.encode(&mut out, version).unwrap();
    out.freeze()
}

fn response() -> impl Strategy<Value = ProduceResponse> {
    let leader = (any::<i32>(), any::<i32>())
        .prop_map(|(id, epoch)| CurrentLeader { leader_id: NodeId(id), leader_epoch: LeaderEpoch(epoch) });
    let record_error =
        (any::<i32>(), text()).prop_map(|(batch_index, message)| RecordError { batch_index, message: message.into() });
    let partition = (
        (any::<i32>(), 0..130_i16, any::<i64>(), any::<i64>(), any::<i64>()),
        proptest::collection::vec(record_error, 0..3),
        proptest::option::of(text()),
        proptest::option::of(leader),
    )
        .prop_map(|((index, error, base, time, start), record_errors, message, current_leader)| {
            ProducePartitionResponse {
                index,
                error: ErrorCode::from_wire(error),
                base_offset: Offset(base),
                log_append_time: Timestamp(time),
                log_start_offset: Offset(start),
                record_errors,
                error_message: message.map(Into::into),
                current_leader,
            }
        });
    let topic =
        (text(), any::<u128>(), proptest::collection::vec(partition, 0..4)).prop_map(|(name, id, partitions)| {
            ProduceTopicResponse {
                name: StrBytes::from_string(name),
                topic_id: TopicId(uuid::Uuid::from_u128(id)),
                partitions,
            }
        });
    let endpoint = (any::<i32>(), text(), any::<i32>(), proptest::option::of(text()))
        .prop_map(|(id, host, port, rack)| NodeEndpoint { node_id: NodeId(id), host, port, rack });
    (proptest::collection::vec(topic, 0..4), any::<i32>(), proptest::collection::vec(endpoint, 0..3)).prop_map(
        |(topics, throttle_time_ms, node_endpoints)| ProduceResponse { topics, throttle_time_ms, node_endpoints },
    )
}

fn their_partition(partition: &ProducePartitionResponse, version: i16) -> kpr::PartitionProduceResponse {
    let mut theirs = kpr::PartitionProduceResponse::default()
        .with_index(partition.index)
        .with_error_code(partition.error.get())
        .with_base_offset(partition.base_offset.0)
        .with_log_append_time_ms(partition.log_append_time.0);
    if version >= 5 {
        theirs = theirs.with_log_start_offset(partition.log_start_offset.0);
    }
    if version >= 8 {
        let errors = partition.record_errors.iter().map(|error| {
            kpr::BatchIndexAndErrorMessage::default()
                .with_batch_index(error.batch_index)
                .with_batch_index_error_message(Some(StrBytes::from_string(error.message.to_string())))
        });
        let message = partition.error_message.as_ref().map(|message| StrBytes::from_string(message.to_string()));
        theirs = theirs.with_record_errors(errors.collect()).with_error_message(message);
    }
    if let (Some(leader), true) = (partition.current_leader, version >= 10) {
        theirs = theirs.with_current_leader(
            kpr::LeaderIdAndEpoch::default()
                .with_leader_id(leader.leader_id.0.into())
                .with_leader_epoch(leader.leader_epoch.0),
        );
    }
    theirs
}

fn their_response(response: &ProduceResponse, version: i16) -> kp::ProduceResponse {
    let topics = response.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| their_partition(partition, version)).collect();
        let theirs = kpr::TopicProduceResponse::default().with_partition_responses(partitions);
        match version >= 13 {
            true => theirs.with_topic_id(topic.topic_id.0),
            false => theirs.with_name(topic.name.clone().into()),
        }
    });
    let mut theirs = kp::ProduceResponse::default()
        .with_responses(topics.collect())
        .with_throttle_time_ms(response.throttle_time_ms);
    if version >= 10 {
        let endpoints = response.node_endpoints.iter().map(|endpoint| {
            kpr::NodeEndpoint::default()
                .with_node_id(endpoint.node_id.0.into())
                .with_host(StrBytes::from_string(endpoint.host.clone()))
                .with_port(endpoint.port)
                .with_rack(endpoint.rack.clone().map(StrBytes::from_string))
        });
        theirs = theirs.with_node_endpoints(endpoints.collect());
    }
    theirs
}

proptest! {
    #[test]
    fn every_version_of_a_request_is_read_as_kafka_protocol_wrote_it(request in request(), version in VERSIONS) {
        let body = encoded(&request, version);
        let decoded = ProduceRequest::decode(body.clone(), version).unwrap();
        let mut expected = request;
        for topic in &mut expected.topics {
            match version >= 13 {
                true => topic.name = StrBytes::default(),
                false => topic.topic_id = TopicId::ZERO,
            }
        }
        prop_assert_eq!(&decoded, &expected);
        // Bytes that follow are ignored; bytes that are missing are not.
        let longer = Bytes::from([&body[..], b"more"].concat());
        prop_assert_eq!(ProduceRequest::decode(longer, version).unwrap(), expected);
        for length in 0..body.len() {
            prop_assert!(ProduceRequest::decode(body.slice(..length), version).is_err());
        }
    }

    #[test]
    fn every_version_of_a_response_is_written_as_kafka_protocol_writes_it(response in response(), version in VERSIONS) {
        let ours = response.encode(version);
        let mut theirs = BytesMut::new();
        their_response(&response, version).encode(&mut theirs, version).unwrap();
        prop_assert_eq!(&ours, &theirs.freeze());
        let mut rest = ours.clone();
        kp::ProduceResponse::decode(&mut rest, version).unwrap();
        prop_assert!(!rest.has_remaining());
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), version in VERSIONS) {
        let _ = ProduceRequest::decode(bytes.into(), version);
    }

    #[test]
    fn a_damaged_request_never_panics(
        request in request(),
        version in VERSIONS,
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut body = encoded(&request, version).to_vec();
        for (at, byte) in damage {
            let at = at.index(body.len());
            body[at] = byte;
        }
        let _ = ProduceRequest::decode(body.into(), version);
    }
}

#[test]
fn records_are_slices_of_the_request() {
    let records = Some(Bytes::from_static(b"a batch"));
    let request = ProduceRequest {
        transactional_id: None,
        acks: -1,
        timeout_ms: 1,
        topics: vec![ProduceTopic {
            name: StrBytes::from_static_str("t"),
            topic_id: TopicId::ZERO,
            partitions: vec![ProducePartition { index: 0, records }],
        }],
    };
    let body = encoded(&request, 9);
    let decoded = ProduceRequest::decode(body.clone(), 9).unwrap();
    let slice = decoded.topics[0].partitions[0].records.clone().unwrap();
    assert!(body.as_ptr_range().contains(&slice.as_ptr()));
}

#[test]
fn a_topic_without_partitions_is_left_out() {
    let topic = ProduceTopic { name: StrBytes::from_static_str("t"), topic_id: TopicId::ZERO, partitions: vec![] };
    let request = ProduceRequest { transactional_id: None, acks: 1, timeout_ms: 1, topics: vec![topic] };
    assert!(ProduceRequest::decode(encoded(&request, 3), 3).unwrap().topics.is_empty());
}

#[test]
fn a_false_count_closes_the_connection() {
    // Transactional id null, acks, timeout, then 2^31-1 topics.
    let legacy = [0xff, 0xff, 0, 1, 0, 0, 0, 1, 0x7f, 0xff, 0xff, 0xff];
    assert!(ProduceRequest::decode(Bytes::copy_from_slice(&legacy), 3).is_err());
    let compact = [0, 0, 1, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0x0f];
    assert!(ProduceRequest::decode(Bytes::copy_from_slice(&compact), 9).is_err());
}
