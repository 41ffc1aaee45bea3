//! Pure. Records folded into an image, and an image told as records.
//!
//! `apply` never chooses and never validates: two binaries that read the same records hold the same image. A record
//! that contradicts the image is our own mistake, and stops the process before it spreads.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::image::{MetadataImage, PartitionImage, TopicImage};
use super::record::{
    ClusterIdRecord, ConfigRecord, PartitionRecord, ProducerIdsRecord, Record, RemoveTopicRecord, TopicRecord,
};
use crate::types::TopicId;

/// The image after one entry of the metadata log.
#[must_use]
pub fn apply(image: &MetadataImage, version: u64, records: &[Record]) -> MetadataImage {
    let mut fold = Fold { image: image.clone(), open: BTreeMap::new() };
    for record in records {
        fold.record(record);
    }
    fold.finish(version)
}

/// The records that make this image out of an empty one.
pub fn to_records(image: &MetadataImage) -> Vec<Record> {
    let mut records = Vec::new();
    if !image.cluster_id.is_empty() {
        records.push(Record::ClusterId(ClusterIdRecord { cluster_id: image.cluster_id.to_string() }));
    }
    records.extend(image.brokers.values().map(|broker| Record::RegisterBroker((**broker).clone())));
    if image.next_producer_id != 0 {
        // Who was given the last block does not matter any more.
        let broker = crate::types::NodeId::NONE;
        records.push(Record::ProducerIds(ProducerIdsRecord { broker, next: image.next_producer_id }));
    }
    for topic in image.topics() {
        topic_records(topic, &mut records);
    }
    records
}

/// The records that make a topic.
pub fn topic_records(topic: &TopicImage, records: &mut Vec<Record>) {
    records.push(Record::Topic(TopicRecord { id: topic.id, name: topic.name.to_string() }));
    records.extend(topic.configs.iter().map(|(key, value)| {
        Record::Config(ConfigRecord { topic: topic.id, key: key.clone(), value: Some(value.clone()) })
    }));
    let numbered = (0..).zip(&topic.partitions);
    records.extend(numbered.map(|(index, partition)| Record::Partition(partition_record(topic.id, index, partition))));
}

/// The record that makes a partition what it is.
pub fn partition_record(topic: TopicId, index: i32, partition: &PartitionImage) -> PartitionRecord {
    PartitionRecord {
        topic,
        index,
        replicas: partition.replicas.to_vec(),
        isr: partition.isr.to_vec(),
        leader: partition.leader,
        leader_epoch: partition.leader_epoch,
        partition_epoch: partition.partition_epoch,
    }
}

/// An image in the making. Topics that the records touch are taken out once, not copied for every record.
struct Fold {
    image: MetadataImage,
    open: BTreeMap<TopicId, TopicImage>,
}

impl Fold {
    fn record(&mut self, record: &Record) {
        match record {
            Record::ClusterId(record) => self.image.cluster_id = record.cluster_id.as_str().into(),
            Record::RegisterBroker(broker) => {
                self.image.brokers.insert(broker.id, Arc::new(broker.clone()));
            }
            Record::Topic(record) => self.topic(record),
            Record::RemoveTopic(record) => self.remove_topic(record),
            Record::Partition(record) => self.partition(record),
            Record::Config(record) => self.config(record),
            Record::ProducerIds(record) => self.image.next_producer_id = record.next,
        }
    }

    fn topic(&mut self, record: &TopicRecord) {
        let topic = TopicImage {
            id: record.id,
            name: record.name.as_str().into(),
            partitions: Vec::new(),
            configs: Arc::default(),
        };
        let before = self.open.insert(record.id, topic);
        assert!(before.is_none() && self.image.topic_by_id(record.id).is_none(), "topic {} is made twice", record.id);
    }

    fn remove_topic(&mut self, record: &RemoveTopicRecord) {
        let opened = self.open.remove(&record.id);
        let published = self.image.remove_topic(record.id);
        assert!(opened.is_some() || published.is_some(), "topic {} is not there", record.id);
    }

    fn partition(&mut self, record: &PartitionRecord) {
        let partition = PartitionImage {
            replicas: record.replicas.iter().copied().collect(),
            isr: record.isr.iter().copied().collect(),
            leader: record.leader,
            leader_epoch: record.leader_epoch,
            partition_epoch: record.partition_epoch,
        };
        let partitions = &mut self.opened(record.topic).partitions;
        let index = usize::try_from(record.index).expect("partitions are numbered from zero");
        if index == partitions.len() {
            partitions.push(partition);
        } else {
            partitions[index] = partition;
        }
    }

    fn config(&mut self, record: &ConfigRecord) {
        let configs = Arc::make_mut(&mut self.opened(record.topic).configs);
        match &record.value {
            Some(value) => configs.insert(record.key.clone(), value.clone()),
            None => configs.remove(&record.key),
        };
    }

    fn opened(&mut self, id: TopicId) -> &mut TopicImage {
        let image = &self.image;
        self.open.entry(id).or_insert_with(|| {
            let topic = image.topic_by_id(id).unwrap_or_else(|| panic!("topic {id} is not there"));
            (**topic).clone()
        })
    }

    fn finish(mut self, version: u64) -> MetadataImage {
        for topic in self.open.into_values() {
            self.image.insert_topic(Arc::new(topic));
        }
        self.image.version = version;
        self.image
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::controller::image::{BrokerEndpoint, BrokerRegistration};
    use crate::types::{LeaderEpoch, NodeId, PartitionEpoch};

    fn id(number: u8) -> TopicId {
        TopicId(uuid::Uuid::from_u128(u128::from(number) + 1))
    }

    fn partition(topic: u8, index: i32, leader: i32) -> Record {
        Record::Partition(PartitionRecord {
            topic: id(topic),
            index,
            replicas: vec![NodeId(leader), NodeId(9)],
            isr: vec![NodeId(leader)],
            leader: NodeId(leader),
            leader_epoch: LeaderEpoch(leader),
            partition_epoch: PartitionEpoch(leader),
        })
    }

    fn broker(number: i32, epoch: i64) -> Record {
        Record::RegisterBroker(BrokerRegistration {
            id: NodeId(number),
            epoch,
            incarnation: uuid::Uuid::from_u128(7),
            endpoints: vec![BrokerEndpoint { listener: "PLAINTEXT".into(), host: "h".into(), port: 9092 }],
            rack: None,
            fenced: false,
            log_dirs: Vec::new(),
        })
    }

    /// Steps that are turned into records that fit the image, as decisions would.
    #[derive(Clone, Debug)]
    enum Step {
        Create(u8, u8),
        Remove(u8),
        Configure(u8, Option<String>),
        Lead(u8, i32),
        Register(i32, i64),
        Producers(i64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (0u8..6, 1u8..4).prop_map(|(topic, partitions)| Step::Create(topic, partitions)),
            (0u8..6).prop_map(Step::Remove),
            (0u8..6, proptest::option::of("[a-z]{1,4}")).prop_map(|(topic, value)| Step::Configure(topic, value)),
            (0u8..6, 1i32..5).prop_map(|(topic, leader)| Step::Lead(topic, leader)),
            (1i32..4, 0i64..100).prop_map(|(broker, epoch)| Step::Register(broker, epoch)),
            (1i64..5000).prop_map(Step::Producers),
        ];
        proptest::collection::vec(step, 0..40)
    }

    fn records_of(image: &MetadataImage, step: &Step) -> Vec<Record> {
        let there = |topic: &u8| image.topic_by_id(id(*topic)).is_some();
        match step {
            Step::Create(topic, partitions) if !there(topic) => {
                let mut records = vec![Record::Topic(TopicRecord { id: id(*topic), name: format!("t{topic}") })];
                records.extend((0..i32::from(*partitions)).map(|index| partition(*topic, index, 1)));
                records
            }
            Step::Remove(topic) if there(topic) => vec![Record::RemoveTopic(RemoveTopicRecord { id: id(*topic) })],
            Step::Configure(topic, value) if there(topic) => {
                vec![Record::Config(ConfigRecord { topic: id(*topic), key: "k".into(), value: value.clone() })]
            }
            Step::Lead(topic, leader) if there(topic) => vec![partition(*topic, 0, *leader)],
            Step::Register(number, epoch) => vec![broker(*number, *epoch)],
            Step::Producers(next) => vec![Record::ProducerIds(ProducerIdsRecord { broker: NodeId(1), next: *next })],
            _ => Vec::new(),
        }
    }

    proptest! {
        #[test]
        fn a_snapshot_and_the_log_after_it_give_the_same_image(steps in steps(), cut in 0usize..40) {
            let mut image = MetadataImage::default();
            let mut resumed = MetadataImage::default();
            for (version, step) in (1u64..).zip(&steps) {
                let records = records_of(&image, step);
                image = apply(&image, version, &records);
                resumed = if version as usize == cut {
                    apply(&MetadataImage::default(), version, &to_records(&image))
                } else {
                    apply(&resumed, version, &records)
                };
            }
            prop_assert_eq!(&resumed, &image);
            prop_assert_eq!(apply(&MetadataImage::default(), image.version, &to_records(&image)), image);
        }
    }

    proptest! {
        #[test]
        fn what_became_of_topics_is_what_differs(steps in steps(), cut in 0usize..40) {
            let mut images = vec![MetadataImage::default()];
            for (version, step) in (1u64..).zip(&steps) {
                let image = images.last().expect("there is a first");
                images.push(apply(image, version, &records_of(image, step)));
            }
            let (before, after) = (&images[cut.min(images.len() - 1)], images.last().expect("there is a first"));
            let changes = after.topics_since(before);
            let ids = |image: &MetadataImage| image.topics().map(|topic| topic.id).collect::<BTreeSet<_>>();
            let (old, new) = (ids(before), ids(after));
            let differs = |id: &&TopicId| before.topic_by_id(**id) != after.topic_by_id(**id);
            prop_assert_eq!(changes.gone, old.difference(&new).copied().collect::<Vec<_>>());
            let told = |topics: Vec<Arc<TopicImage>>| topics.iter().map(|topic| topic.id).collect::<Vec<_>>();
            prop_assert_eq!(told(changes.new), new.difference(&old).copied().collect::<Vec<_>>());
            prop_assert_eq!(told(changes.changed), new.intersection(&old).filter(differs).copied().collect::<Vec<_>>());
        }
    }

    #[test]
    fn names_that_metrics_cannot_tell_apart_collide_while_both_are_there() {
        let topic = |number, name: &str| Record::Topic(TopicRecord { id: id(number), name: name.into() });
        let named = [topic(1, "a.b"), topic(2, "a_c"), topic(3, "plain"), topic(4, "a_b_")];
        let image = apply(&MetadataImage::default(), 1, &named);
        let found = |image: &MetadataImage, name: &str| image.colliding(name).map(|name| name.to_string());
        assert_eq!(found(&image, "a_b"), Some("a.b".into()));
        assert_eq!(found(&image, "a.c"), Some("a_c".into()));
        assert_eq!([found(&image, "plain"), found(&image, "a_"), found(&image, "a.b.c")], [None, None, None]);
        let gone = apply(&image, 2, &[Record::RemoveTopic(RemoveTopicRecord { id: id(1) })]);
        assert_eq!(found(&gone, "a_b"), None);
        assert_eq!(apply(&MetadataImage::default(), 2, &to_records(&gone)), gone);
    }

    #[test]
    fn both_maps_show_the_same_topic() {
        let made = [Record::Topic(TopicRecord { id: id(1), name: "t".into() }), partition(1, 0, 1)];
        let image = apply(&MetadataImage::default(), 1, &made);
        assert!(Arc::ptr_eq(image.topic("t").unwrap(), image.topic_by_id(id(1)).unwrap()));
        let gone = apply(&image, 2, &[Record::RemoveTopic(RemoveTopicRecord { id: id(1) })]);
        assert!(gone.topic("t").is_none() && gone.topic_by_id(id(1)).is_none());
        assert!(image.topic("t").is_some(), "an image never changes");
    }

    #[test]
    fn a_topic_made_anew_in_the_same_entry_starts_empty() {
        let made = [Record::Topic(TopicRecord { id: id(1), name: "t".into() }), partition(1, 0, 1)];
        let image = apply(&MetadataImage::default(), 1, &made);
        let again = [
            Record::RemoveTopic(RemoveTopicRecord { id: id(1) }),
            Record::Topic(TopicRecord { id: id(2), name: "t".into() }),
        ];
        let image = apply(&image, 2, &again);
        assert_eq!(image.topic("t").unwrap().id, id(2));
        assert!(image.topic("t").unwrap().partitions.is_empty());
    }
}
