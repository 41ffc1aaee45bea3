//! Claims about Metadata, on images made of records.

use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::protocol::Encodable;

use super::*;
use crate::controller::BrokerEndpoint;
use crate::controller::apply::apply;
use crate::controller::record::{ClusterIdRecord, PartitionRecord, Record, TopicRecord};
use crate::types::{LeaderEpoch, PartitionEpoch};

const VERSIONS: std::ops::RangeInclusive<i16> = 0..=13;

fn broker(id: i32, listeners: &[&str], fenced: bool) -> Record {
    let endpoint =
        |listener: &&str| BrokerEndpoint { listener: (*listener).into(), host: format!("h{id}"), port: 9092 };
    Record::RegisterBroker(BrokerRegistration {
        id: NodeId(id),
        epoch: 0,
        incarnation: uuid::Uuid::nil(),
        endpoints: listeners.iter().map(endpoint).collect(),
        rack: (id == 1).then(|| "r".into()),
        fenced,
        log_dirs: Vec::new(),
    })
}

fn id(number: u128) -> TopicId {
    TopicId(uuid::Uuid::from_u128(number))
}

fn topic(number: u128, name: &str, leaders: &[i32]) -> Vec<Record> {
    let mut records = vec![Record::Topic(TopicRecord { id: id(number), name: name.into() })];
    records.extend((0..).zip(leaders).map(|(index, leader)| {
        Record::Partition(PartitionRecord {
            topic: id(number),
            index,
            replicas: vec![NodeId(*leader), NodeId(3)],
            isr: vec![NodeId(*leader)],
            leader: NodeId(*leader),
            leader_epoch: LeaderEpoch(4),
            partition_epoch: PartitionEpoch(0),
        })
    }));
    records
}

/// Brokers 1 and 2 serve, 2 not on PLAINTEXT; 3 is fenced.
fn image() -> MetadataImage {
    let mut records = vec![Record::ClusterId(ClusterIdRecord { cluster_id: "c".into() })];
    records.extend([broker(1, &["PLAINTEXT", "INSIDE"], false), broker(2, &["INSIDE"], false)]);
    records.push(broker(3, &["PLAINTEXT", "INSIDE"], true));
    records.extend(topic(1, "a", &[1, 2, 3]));
    records.extend(topic(2, "__consumer_offsets", &[1]));
    apply(&MetadataImage::default(), 1, &records)
}

fn view(version: i16) -> View {
    View { version, listener: "PLAINTEXT".into(), me: NodeId(1) }
}

fn names(names: &[&str]) -> MetadataRequest {
    let named = |name: &&str| MetadataRequestTopic::default().with_name(Some(TopicName(text(name))));
    MetadataRequest::default().with_topics(Some(names.iter().map(named).collect())).with_allow_auto_topic_creation(true)
}

fn ids(ids: &[TopicId]) -> MetadataRequest {
    let by_id = |id: &TopicId| MetadataRequestTopic::default().with_topic_id(id.0).with_name(None);
    MetadataRequest::default().with_topics(Some(ids.iter().map(by_id).collect()))
}

fn ask(version: i16, request: &MetadataRequest) -> MetadataResponse {
    view(version).answer(&image(), request, &Refused::new())
}

fn told(response: &MetadataResponse) -> Vec<(i16, Option<&str>)> {
    response.topics.iter().map(|topic| (topic.error_code, topic.name.as_ref().map(|name| &***name))).collect()
}

#[test]
fn every_version_can_carry_every_answer() {
    for version in VERSIONS {
        let mut request = names(&["a", "nope", "not a name"]);
        request.include_topic_authorized_operations = version >= 8;
        request.include_cluster_authorized_operations = (8..=10).contains(&version);
        let response = ask(version, &request);
        assert_eq!(told(&response), [(0, Some("a")), (3, Some("nope")), (17, Some("not a name"))]);
        response.encode(&mut bytes::BytesMut::new(), version).unwrap();
        let all = MetadataRequest::default().with_topics(None);
        ask(version, &all).encode(&mut bytes::BytesMut::new(), version).unwrap();
        if let Some(refusal) = view(version).refusal(&ids(&[TopicId::ZERO])) {
            refusal.encode(&mut bytes::BytesMut::new(), version).unwrap();
        }
    }
    ask(12, &ids(&[id(1), id(9)])).encode(&mut bytes::BytesMut::new(), 12).unwrap();
}

#[test]
fn all_topics_are_asked_for_by_nothing_and_in_version_zero_by_an_empty_list() {
    let all = MetadataRequest::default().with_topics(None);
    let none = MetadataRequest::default().with_topics(Some(Vec::new()));
    assert_eq!(told(&ask(1, &all)), [(0, Some("__consumer_offsets")), (0, Some("a"))]);
    assert_eq!(ask(0, &none).topics.len(), 2);
    assert_eq!(ask(1, &none).topics.len(), 0);
    let internal: Vec<_> = ask(9, &all).topics.iter().map(|topic| topic.is_internal).collect();
    assert_eq!(internal, [true, false]);
}

#[test]
fn only_serving_brokers_of_the_listener_are_shown() {
    let response = ask(9, &names(&[]));
    let brokers: Vec<_> = response.brokers.iter().map(|broker| (broker.node_id.0, &*broker.host)).collect();
    assert_eq!(brokers, [(1, "h1")]);
    assert_eq!(response.brokers[0].rack.as_deref(), Some("r"));
    assert_eq!((response.cluster_id.as_deref(), response.controller_id.0), (Some("c"), 1));
    let inside = View { listener: "INSIDE".into(), ..view(9) };
    assert_eq!(inside.answer(&image(), &names(&[]), &Refused::new()).brokers.len(), 2);
}

#[test]
fn a_partition_says_why_its_leader_cannot_be_reached() {
    let errors = |version| -> Vec<_> {
        let response = ask(version, &names(&["a"]));
        response.topics[0].partitions.iter().map(|partition| (partition.error_code, partition.leader_id.0)).collect()
    };
    assert_eq!(errors(9), [(0, 1), (72, -1), (5, -1)]);
    assert_eq!(errors(5), [(0, 1), (5, -1), (5, -1)]);
    assert_eq!(errors(0), [(9, 1), (5, -1), (5, -1)]);
}

#[test]
fn replicas_that_are_away_are_offline_and_in_version_zero_left_out() {
    let of = |version| ask(version, &names(&["a"])).topics[0].partitions[0].clone();
    assert_eq!(of(9).replica_nodes, [BrokerId(1), BrokerId(3)]);
    assert_eq!(of(9).offline_replicas, [BrokerId(3)]);
    assert_eq!((of(9).leader_epoch, of(0).replica_nodes), (4, vec![BrokerId(1)]));
}

#[test]
fn a_topic_is_found_by_its_id_and_names_beside_ids_are_not_looked_at() {
    let mut request = ids(&[id(1), id(1), id(9)]);
    request.topics.as_mut().unwrap().push(MetadataRequestTopic::default().with_name(Some(TopicName(text("nope")))));
    assert!(view(12).refusal(&request).is_none());
    assert_eq!(told(&ask(12, &request)), [(0, Some("a")), (100, None)]);
    assert_eq!(view(12).missing(&image(), &request), Vec::<String>::new());
}

#[test]
fn a_version_without_ids_refuses_them_and_a_topic_without_either_is_refused() {
    for version in [10, 11] {
        let refusal = view(version).refusal(&ids(&[id(1)])).unwrap();
        assert_eq!((told(&refusal), refusal.brokers.len()), (vec![(42, Some(""))], 0));
    }
    assert!(view(13).refusal(&ids(&[TopicId::ZERO])).is_some());
    assert!(view(13).refusal(&names(&["a"])).is_none());
}

#[test]
fn only_names_that_can_be_topics_are_created_by_asking() {
    let request = names(&["b", "a", "b", "no name", "__transaction_state", "__cluster_metadata"]);
    assert_eq!(view(4).missing(&image(), &request), ["b"]);
    let refusing = request.clone().with_allow_auto_topic_creation(false);
    assert!(view(4).missing(&image(), &refusing).is_empty());
    assert!(view(0).missing(&image(), &names(&[])).is_empty());
}

#[test]
fn a_topic_that_could_not_be_created_says_why() {
    let refused = Refused::from([("b".to_owned(), ErrorCode::INVALID_REPLICATION_FACTOR)]);
    let response = view(9).answer(&image(), &names(&["b", "c"]), &refused);
    assert_eq!(told(&response), [(38, Some("b")), (3, Some("c"))]);
}

#[test]
fn operations_are_told_when_asked_for() {
    let mut request = names(&["a"]);
    assert_eq!(ask(9, &request).topics[0].topic_authorized_operations, i32::MIN);
    request.include_topic_authorized_operations = true;
    request.include_cluster_authorized_operations = true;
    let response = ask(9, &request);
    assert_eq!(response.topics[0].topic_authorized_operations, 3576);
    assert_eq!(response.cluster_authorized_operations, 8096);
}
