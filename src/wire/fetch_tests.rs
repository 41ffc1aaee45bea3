//! Claims about Fetch, with kafka-protocol's codec as the second opinion.

use bytes::{Buf, BytesMut};
use kafka_protocol::messages as kp;
use kafka_protocol::messages::{fetch_request as kpq, fetch_response as kpr};
use kafka_protocol::protocol::{Decodable, Encodable};
use proptest::prelude::*;

use super::*;

const VERSIONS: std::ops::RangeInclusive<i16> = 4..=18;

fn text() -> impl Strategy<Value = StrBytes> {
    "[a-z.é]{0,20}".prop_map(StrBytes::from_string)
}

fn id() -> impl Strategy<Value = TopicId> {
    any::<u128>().prop_map(|id| TopicId(uuid::Uuid::from_u128(id)))
}

fn partition() -> impl Strategy<Value = FetchPartition> {
    let numbers = (any::<i32>(), any::<i32>(), any::<i64>(), any::<i32>(), any::<i64>(), any::<i32>());
    (numbers, id(), any::<i64>()).prop_map(|((partition, epoch, offset, fetched, start, bytes), directory, mark)| {
        FetchPartition {
            partition,
            current_leader_epoch: LeaderEpoch(epoch),
            fetch_offset: Offset(offset),
            last_fetched_epoch: LeaderEpoch(fetched),
            log_start_offset: Offset(start),
            partition_max_bytes: bytes,
            replica_directory_id: directory.0,
            high_watermark: Offset(mark),
        }
    })
}

fn request() -> impl Strategy<Value = FetchRequest> {
    let topic = (text(), id(), proptest::collection::vec(partition(), 1..4))
        .prop_map(|(name, topic_id, partitions)| FetchTopic { name, topic_id, partitions });
    let forgotten = (text(), id(), proptest::collection::vec(any::<i32>(), 1..4))
        .prop_map(|(name, topic_id, partitions)| ForgottenTopic { name, topic_id, partitions });
    let numbers = (any::<i32>(), any::<i64>(), any::<i32>(), any::<i32>(), any::<i32>(), any::<i8>());
    let lists = (proptest::collection::vec(topic, 0..4), proptest::collection::vec(forgotten, 0..3));
    (numbers, (any::<i32>(), any::<i32>()), lists, text()).prop_map(
        |((replica, epoch, wait, min, max, isolation), session, (topics, forgotten), rack_id)| FetchRequest {
            replica_id: NodeId(replica),
            replica_epoch: epoch,
            max_wait_ms: wait,
            min_bytes: min,
            max_bytes: max,
            isolation_level: isolation,
            session_id: session.0,
            session_epoch: session.1,
            topics,
            forgotten,
            rack_id,
        },
    )
}

/// Gives the fields that a version does not have the values that they have without it.
fn without_what_is_newer(mut request: FetchRequest, version: i16) -> FetchRequest {
    let since = |first: i16| version >= first;
    if !since(15) {
        request.replica_epoch = -1;
    }
    if !since(7) {
        (request.session_id, request.session_epoch) = (0, -1);
        request.forgotten.clear();
    }
    if !since(11) {
        request.rack_id = StrBytes::default();
    }
    let names = request.topics.iter_mut().map(|topic| (&mut topic.name, &mut topic.topic_id));
    for (name, id) in names.chain(request.forgotten.iter_mut().map(|topic| (&mut topic.name, &mut topic.topic_id))) {
        match since(13) {
            true => *name = StrBytes::default(),
            false => *id = TopicId::ZERO,
        }
    }
    for partition in request.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
        if !since(5) {
            partition.log_start_offset = Offset::UNKNOWN;
        }
        if !since(9) {
            partition.current_leader_epoch = LeaderEpoch::UNKNOWN;
        }
        if !since(12) {
            partition.last_fetched_epoch = LeaderEpoch::UNKNOWN;
        }
        if !since(17) {
            partition.replica_directory_id = uuid::Uuid::nil();
        }
        if !since(18) {
            partition.high_watermark = Offset(i64::MAX);
        }
    }
    request
}

fn their_topics(request: &FetchRequest) -> Vec<kpq::FetchTopic> {
    let partition = |partition: &FetchPartition| {
        kpq::FetchPartition::default()
            .with_partition(partition.partition)
            .with_current_leader_epoch(partition.current_leader_epoch.0)
            .with_fetch_offset(partition.fetch_offset.0)
            .with_last_fetched_epoch(partition.last_fetched_epoch.0)
            .with_log_start_offset(partition.log_start_offset.0)
            .with_partition_max_bytes(partition.partition_max_bytes)
            .with_replica_directory_id(partition.replica_directory_id)
            .with_high_watermark(partition.high_watermark.0)
    };
    let topic = |topic: &FetchTopic| {
        kpq::FetchTopic::default()
            .with_topic(topic.name.clone().into())
            .with_topic_id(topic.topic_id.0)
            .with_partitions(topic.partitions.iter().map(partition).collect())
    };
    request.topics.iter().map(topic).collect()
}

fn encoded(request: &FetchRequest, version: i16) -> Bytes {
    let forgotten = request.forgotten.iter().map(|topic| {
        kpq::ForgottenTopic::default()
            .with_topic(topic.name.clone().into())
            .with_topic_id(topic.topic_id.0)
            .with_partitions(topic.partitions.clone())
    });
    let mut theirs = kp::FetchRequest::default()
        .with_cluster_id(Some(StrBytes::from_static_str("any")).filter(|_| version >= 12))
        .with_max_wait_ms(request.max_wait_ms)
        .with_min_bytes(request.min_bytes)
        .with_max_bytes(request.max_bytes)
        .with_isolation_level(request.isolation_level)
        .with_session_id(request.session_id)
        .with_session_epoch(request.session_epoch)
        .with_topics(their_topics(request))
        .with_forgotten_topics_data(forgotten.collect())
        .with_rack_id(request.rack_id.clone());
    theirs = match version >= 15 {
        true => theirs.with_replica_state(
            kpq::ReplicaState::default()
                .with_replica_id(request.replica_id.0.into())
                .with_replica_epoch(request.replica_epoch),
        ),
        false => theirs.with_replica_id(request.replica_id.0.into()),
    };
    let mut out = BytesMut::new();
    theirs.encode(&mut out, version).unwrap();
    out.freeze()
}

fn partition_response() -> impl Strategy<Value = FetchPartitionResponse> {
    let aborted = (any::<i64>(), any::<i64>())
        .prop_map(|(id, first)| AbortedTransaction { producer_id: ProducerId(id), first_offset: Offset(first) });
    let leader = (any::<i32>(), any::<i32>())
        .prop_map(|(id, epoch)| CurrentLeader { leader_id: NodeId(id), leader_epoch: LeaderEpoch(epoch) });
    let diverging = (any::<i32>(), any::<i64>()).prop_map(|(epoch, end)| (LeaderEpoch(epoch), Offset(end)));
    let batch = proptest::collection::vec(any::<u8>(), 0..100).prop_map(Bytes::from);
    (
        (any::<i32>(), 0..130_i16, any::<i64>(), any::<i64>(), any::<i64>(), any::<i32>()),
        proptest::option::of(proptest::collection::vec(aborted, 0..3)),
        proptest::collection::vec(batch, 0..4),
        (proptest::option::of(diverging), proptest::option::of(leader)),
    )
        .prop_map(|(numbers, aborted_transactions, records, (diverging_epoch, current_leader))| {
            let (partition, error, mark, stable, start, replica) = numbers;
            FetchPartitionResponse {
                partition,
                error: ErrorCode::from_wire(error),
                high_watermark: Offset(mark),
                last_stable_offset: Offset(stable),
                log_start_offset: Offset(start),
                aborted_transactions,
                preferred_read_replica: NodeId(replica),
                records: records.into(),
                diverging_epoch,
                current_leader,
            }
        })
}

fn response() -> impl Strategy<Value = FetchResponse> {
    let topic = (text(), id(), proptest::collection::vec(partition_response(), 0..4))
        .prop_map(|(name, topic_id, partitions)| FetchTopicResponse { name, topic_id, partitions });
    let endpoint = (any::<i32>(), "[a-z]{0,9}", any::<i32>(), proptest::option::of("[a-z]{0,9}"))
        .prop_map(|(id, host, port, rack)| NodeEndpoint { node_id: NodeId(id), host, port, rack });
    let numbers = (any::<i32>(), proptest::option::of(1..130_i16), any::<i32>());
    (numbers, proptest::collection::vec(topic, 0..4), proptest::collection::vec(endpoint, 0..3)).prop_map(
        |((throttle_time_ms, error, session_id), topics, node_endpoints)| FetchResponse {
            throttle_time_ms,
            error: error.map(ErrorCode::from_wire),
            session_id,
            topics,
            node_endpoints,
        },
    )
}

fn their_partition(partition: &FetchPartitionResponse, version: i16) -> kpr::PartitionData {
    let aborted = partition.aborted_transactions.as_ref().map(|aborted| {
        let theirs = aborted.iter().map(|aborted| {
            kpr::AbortedTransaction::default()
                .with_producer_id(aborted.producer_id.0.into())
                .with_first_offset(aborted.first_offset.0)
        });
        theirs.collect()
    });
    let mut theirs = kpr::PartitionData::default()
        .with_partition_index(partition.partition)
        .with_error_code(partition.error.get())
        .with_high_watermark(partition.high_watermark.0)
        .with_last_stable_offset(partition.last_stable_offset.0)
        .with_log_start_offset(partition.log_start_offset.0)
        .with_aborted_transactions(aborted)
        .with_records(Some(partition.records.concat().into()));
    if version >= 11 {
        theirs = theirs.with_preferred_read_replica(partition.preferred_read_replica.0.into());
    }
    if let (Some((epoch, end)), true) = (partition.diverging_epoch, version >= 12) {
        theirs = theirs.with_diverging_epoch(kpr::EpochEndOffset::default().with_epoch(epoch.0).with_end_offset(end.0));
    }
    if let (Some(leader), true) = (partition.current_leader, version >= 12) {
        theirs = theirs.with_current_leader(
            kpr::LeaderIdAndEpoch::default()
                .with_leader_id(leader.leader_id.0.into())
                .with_leader_epoch(leader.leader_epoch.0),
        );
    }
    theirs
}

fn their_response(response: &FetchResponse, version: i16) -> kp::FetchResponse {
    let topics = response.topics.iter().map(|topic| {
        kpr::FetchableTopicResponse::default()
            .with_topic(topic.name.clone().into())
            .with_topic_id(topic.topic_id.0)
            .with_partitions(topic.partitions.iter().map(|partition| their_partition(partition, version)).collect())
    });
    let mut theirs =
        kp::FetchResponse::default().with_throttle_time_ms(response.throttle_time_ms).with_responses(topics.collect());
    if version >= 7 {
        theirs = theirs.with_session_id(response.session_id).with_error_code(response.error.map_or(0, ErrorCode::get));
    }
    if version >= 16 {
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
        let request = without_what_is_newer(request, version);
        let body = encoded(&request, version);
        prop_assert_eq!(&FetchRequest::decode(body.clone(), version).unwrap(), &request);
        let longer = Bytes::from([&body[..], b"more"].concat());
        prop_assert_eq!(FetchRequest::decode(longer, version).unwrap(), request);
        for length in 0..body.len() {
            prop_assert!(FetchRequest::decode(body.slice(..length), version).is_err());
        }
    }

    #[test]
    fn every_version_of_a_response_is_written_as_kafka_protocol_writes_it(response in response(), version in VERSIONS) {
        let mut theirs = BytesMut::new();
        their_response(&response, version).encode(&mut theirs, version).unwrap();
        let ours = Bytes::from(response.encode(version).concat());
        prop_assert_eq!(&ours, &theirs.freeze());
        let mut rest = ours.clone();
        kp::FetchResponse::decode(&mut rest, version).unwrap();
        prop_assert!(!rest.has_remaining());
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), version in VERSIONS) {
        let _ = FetchRequest::decode(bytes.into(), version);
    }

    #[test]
    fn a_damaged_request_never_panics(
        request in request(),
        version in VERSIONS,
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut body = encoded(&without_what_is_newer(request, version), version).to_vec();
        for (at, byte) in damage {
            let at = at.index(body.len());
            body[at] = byte;
        }
        let _ = FetchRequest::decode(body.into(), version);
    }
}

#[test]
fn batches_are_not_copied_into_the_response() {
    let batches = [Bytes::from_static(b"first batch"), Bytes::from_static(b"second batch")];
    let mut partition = FetchPartitionResponse::refused(0, ErrorCode::NONE);
    partition.records = batches.iter().cloned().collect();
    let topic = FetchTopicResponse {
        name: StrBytes::from_static_str("t"),
        topic_id: TopicId::ZERO,
        partitions: vec![partition],
    };
    let pieces = FetchResponse { topics: vec![topic], ..FetchResponse::default() }.encode(12);
    for batch in &batches {
        assert!(pieces.iter().any(|piece| piece.as_ptr() == batch.as_ptr() && piece == batch));
    }
}
