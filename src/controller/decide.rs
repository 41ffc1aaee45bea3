//! Pure. The controller's requests, and what an image answers to them.
//!
//! `decide` is the only way from a request to records. It runs against the image after the last proposed entry, on one
//! task; whatever chance a request needs was drawn before it was queued.

use std::ops::Range;
use std::sync::Arc;

use super::apply;
use super::image::{BrokerRegistration, MetadataImage, TopicImage};
use super::record::{ClusterIdRecord, PartitionRecord, ProducerIdsRecord, Record};
use super::topics::{self, Answers, Chance, DeleteAnswer, NewTopic, Rules, TopicToDelete};
use crate::error::{ErrorCode, Refusal};
use crate::types::{LeaderEpoch, NodeId, PartitionEpoch};

/// How many producer ids a broker is given at a time, as Kafka's `PRODUCER_ID_BLOCK_SIZE`.
const PRODUCER_ID_BLOCK: i64 = 1000;

/// Something that somebody asks of the controller.
pub enum Request {
    /// This broker starts: it registers, and a cluster without an id is given one.
    Join {
        /// The broker; its epoch is decided here.
        broker: BrokerRegistration,
        /// The id for a cluster that has none.
        cluster_id: String,
        /// True when records that it acknowledged in its last run may be lost.
        unclean: bool,
    },
    /// CreateTopics.
    CreateTopics {
        /// The topics.
        topics: Vec<NewTopic>,
        /// What was drawn for them.
        chance: Chance,
        /// Judge only.
        validate_only: bool,
    },
    /// DeleteTopics.
    DeleteTopics(Vec<TopicToDelete>),
    /// A broker ran out of producer ids.
    ProducerIds(NodeId),
}

/// What the request's sender is told once the records are applied.
#[derive(Clone, Debug)]
pub enum Answer {
    /// The broker is registered.
    Joined,
    /// One outcome for each topic.
    Created(Answers<Arc<TopicImage>>),
    /// One outcome for each topic.
    Deleted(Vec<DeleteAnswer>),
    /// Ids that nobody else has or will have.
    ProducerIds(Result<Range<i64>, Refusal>),
}

/// Records and answer of a request.
pub fn decide(image: &MetadataImage, request: &Request, rules: &Rules) -> (Vec<Record>, Answer) {
    match request {
        Request::Join { broker, cluster_id, unclean } => {
            let mut records = join(image, broker, cluster_id);
            if *unclean {
                records.extend(led_anew(image, broker.id));
            }
            (records, Answer::Joined)
        }
        Request::CreateTopics { topics, chance, validate_only } => {
            let (records, answers) = topics::create(image, topics, rules, chance);
            (if *validate_only { Vec::new() } else { records }, Answer::Created(answers))
        }
        Request::DeleteTopics(topics) => {
            let (records, answers) = topics::delete(image, topics);
            (records, Answer::Deleted(answers))
        }
        Request::ProducerIds(broker) => producer_ids(image, *broker),
    }
}

fn join(image: &MetadataImage, broker: &BrokerRegistration, cluster_id: &str) -> Vec<Record> {
    let mut records = Vec::new();
    if image.cluster_id.is_empty() {
        records.push(Record::ClusterId(ClusterIdRecord { cluster_id: cluster_id.into() }));
    }
    // At most the index of the entry that will carry this, and above every epoch given out before.
    let epoch = i64::try_from(image.version).unwrap_or(i64::MAX).saturating_add(1);
    records.push(Record::RegisterBroker(BrokerRegistration { epoch, ..broker.clone() }));
    records
}

/// A new leader epoch for every partition that a broker leads whose log may have lost its end. The offsets from there on
/// will be given to other records: a client that had read the lost ones finds out by the epoch (KIP-320).
///
/// Kafka's controller moves the epoch of every partition at every restart of its leader, because fencing takes the leader
/// away and unfencing elects it again (ReplicationControlManager). Here a broker that stopped cleanly, or was killed with
/// its log whole, goes on in the epoch it had: nothing was lost that anybody could have seen, and nothing is written.
fn led_anew(image: &MetadataImage, leader: NodeId) -> Vec<Record> {
    let numbered =
        image.topics().flat_map(|topic| (0..).zip(&topic.partitions).map(move |numbered| (topic.id, numbered)));
    numbered
        .filter(|(_, (_, partition))| partition.leader == leader)
        .map(|(topic, (index, partition))| {
            Record::Partition(PartitionRecord {
                leader_epoch: LeaderEpoch(partition.leader_epoch.0 + 1),
                partition_epoch: PartitionEpoch(partition.partition_epoch.0 + 1),
                ..apply::partition_record(topic, index, partition)
            })
        })
        .collect()
}

fn producer_ids(image: &MetadataImage, broker: NodeId) -> (Vec<Record>, Answer) {
    let first = image.next_producer_id;
    match first.checked_add(PRODUCER_ID_BLOCK) {
        Some(next) => {
            let record = Record::ProducerIds(ProducerIdsRecord { broker, next });
            (vec![record], Answer::ProducerIds(Ok(first..next)))
        }
        None => {
            let refusal = Refusal::new(ErrorCode::UNKNOWN_SERVER_ERROR, "Exhausted all producerIds");
            (Vec::new(), Answer::ProducerIds(Err(refusal)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::apply::apply;
    use crate::controller::record::TopicRecord;
    use crate::types::TopicId;

    fn rules() -> Rules {
        Rules { partitions: 1, replication_factor: 1, validate_configs: Box::new(|_| Ok(())) }
    }

    fn joining(node: i32) -> Request {
        let broker = BrokerRegistration {
            id: NodeId(node),
            epoch: -1,
            incarnation: uuid::Uuid::nil(),
            endpoints: Vec::new(),
            rack: None,
            fenced: false,
            log_dirs: Vec::new(),
        };
        Request::Join { broker, cluster_id: format!("drawn by {node}"), unclean: false }
    }

    fn after(image: &MetadataImage, version: u64, request: &Request) -> MetadataImage {
        apply(image, version, &decide(image, request, &rules()).0)
    }

    #[test]
    fn the_first_broker_names_the_cluster_and_no_later_one_does() {
        let image = after(&MetadataImage::default(), 3, &joining(1));
        assert_eq!(&*image.cluster_id, "drawn by 1");
        let image = after(&image, 9, &joining(2));
        assert_eq!(&*image.cluster_id, "drawn by 1");
        assert_eq!(image.brokers.len(), 2);
    }

    #[test]
    fn a_broker_that_registers_again_has_a_higher_epoch() {
        let epoch = |image: &MetadataImage| image.brokers[&NodeId(1)].epoch;
        let first = after(&MetadataImage::default(), 3, &joining(1));
        let second = after(&first, 4, &joining(1));
        assert!(epoch(&second) > epoch(&first));
    }

    fn joining_uncleanly(node: i32) -> Request {
        let Request::Join { broker, cluster_id, .. } = joining(node) else { unreachable!() };
        Request::Join { broker, cluster_id, unclean: true }
    }

    #[test]
    fn after_a_loss_the_partitions_that_the_broker_leads_begin_a_new_epoch_and_no_others() {
        let topic = TopicId(uuid::Uuid::from_u128(1));
        let mut records = vec![Record::Topic(TopicRecord { id: topic, name: "t".into() })];
        records.extend((0..).zip([1, 2, 1, -1]).map(|(index, leader)| {
            Record::Partition(PartitionRecord {
                topic,
                index,
                replicas: vec![NodeId(1), NodeId(2)],
                isr: vec![NodeId(1)],
                leader: NodeId(leader),
                leader_epoch: LeaderEpoch(index),
                partition_epoch: PartitionEpoch(10 + index),
            })
        }));
        let image = apply(&after(&MetadataImage::default(), 3, &joining(1)), 4, &records);
        let epochs = |image: &MetadataImage| -> Vec<(i32, i32)> {
            let topic = image.topic_by_id(topic).unwrap();
            topic.partitions.iter().map(|partition| (partition.leader_epoch.0, partition.partition_epoch.0)).collect()
        };
        let lost = after(&image, 5, &joining_uncleanly(1));
        assert_eq!(epochs(&lost), [(1, 11), (1, 11), (3, 13), (3, 13)]);
        assert!(lost.brokers[&NodeId(1)].epoch > image.brokers[&NodeId(1)].epoch, "in the entry that registers it");
        assert_eq!(decide(&image, &joining(1), &rules()).0.len(), 1, "nothing is written when nothing was lost");
    }

    #[test]
    fn blocks_of_producer_ids_never_meet() {
        let mut image = MetadataImage::default();
        let mut seen = 0;
        for version in 1..5 {
            let (records, Answer::ProducerIds(Ok(block))) = decide(&image, &Request::ProducerIds(NodeId(1)), &rules())
            else {
                panic!("there are ids left");
            };
            assert_eq!(block, seen..seen + 1000);
            seen = block.end;
            image = apply(&image, version, &records);
        }
        image.next_producer_id = i64::MAX - 999;
        let (records, answer) = decide(&image, &Request::ProducerIds(NodeId(1)), &rules());
        assert!(records.is_empty() && matches!(answer, Answer::ProducerIds(Err(_))));
    }

    #[test]
    fn validate_only_answers_and_changes_nothing() {
        let image = after(&MetadataImage::default(), 1, &joining(1));
        let request = Request::CreateTopics {
            topics: vec![NewTopic::named("t")],
            chance: Chance { ids: vec![TopicId(uuid::Uuid::from_u128(1))], placement: 0 },
            validate_only: true,
        };
        let (records, Answer::Created(answers)) = decide(&image, &request, &rules()) else { panic!("asked to create") };
        assert!(records.is_empty() && answers[0].1.is_ok());
    }
}
