//! Pure. What the cluster is, at one moment: an immutable value that every node computes from the same records.
//!
//! A `MetadataImage` is made by `apply` alone and never changed afterwards: readers hold an `Arc` of it and share all
//! that did not change with the image before. It must never hold anything that the records do not say: no clock, no
//! chance, no counters of this process.

use std::collections::BTreeMap;
use std::sync::Arc;

use imbl::ordmap::DiffItem;
use imbl::{OrdMap, OrdSet};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use uuid::Uuid;

use crate::types::{LeaderEpoch, NodeId, PartitionEpoch, TopicId};

/// A few node ids: three fit without an allocation.
pub type NodeIds = SmallVec<[NodeId; 3]>;

/// The topic of the group coordinators' records.
pub const CONSUMER_OFFSETS: &str = "__consumer_offsets";

/// The topic of the transaction coordinators' records.
pub const TRANSACTION_STATE: &str = "__transaction_state";

/// The topic of the share coordinators' records.
pub const SHARE_GROUP_STATE: &str = "__share_group_state";

/// Every topic, broker and setting of the cluster after one entry of the metadata log.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MetadataImage {
    /// The index of the last applied entry of the metadata log; grows with every image.
    pub version: u64,
    /// Made once, by the first start. Empty only before the first record is applied.
    pub cluster_id: Arc<str>,
    /// The registered brokers.
    pub brokers: OrdMap<NodeId, Arc<BrokerRegistration>>,
    /// The first producer id that nobody was given yet.
    pub next_producer_id: i64,
    pub(super) topics_by_id: OrdMap<TopicId, Arc<TopicImage>>,
    pub(super) topics_by_name: OrdMap<Arc<str>, Arc<TopicImage>>,
    /// Names with `.` or `_`, each behind what metrics make of it.
    pub(super) metric_names: OrdSet<(Arc<str>, Arc<str>)>,
}

/// What became of the topics between two images. A topic made again under its old name is one gone and one new.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TopicChanges {
    /// Topics that are no more.
    pub gone: Vec<TopicId>,
    /// Topics that were not there before.
    pub new: Vec<Arc<TopicImage>>,
    /// Topics that were there and are different now.
    pub changed: Vec<Arc<TopicImage>>,
}

/// A broker as it registered itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BrokerRegistration {
    /// `node.id`.
    pub id: NodeId,
    /// Counts this broker's registrations: the index of the entry that carried it (KIP-903).
    pub epoch: i64,
    /// Drawn by each start of the process.
    pub incarnation: Uuid,
    /// Where it serves, per listener.
    pub endpoints: Vec<BrokerEndpoint>,
    /// `broker.rack`.
    pub rack: Option<String>,
    /// True while it may not lead or be listed to clients.
    pub fenced: bool,
    /// The ids of its log directories (KIP-858). Empty in registrations of record level 1, which lacked them.
    #[serde(default)]
    pub log_dirs: Vec<Uuid>,
}

/// An advertised address.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BrokerEndpoint {
    /// The listener's name.
    pub listener: String,
    /// The advertised host.
    pub host: String,
    /// The advertised port.
    pub port: u16,
}

/// A topic: its identity, its partitions by index, and the settings that differ from the broker's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicImage {
    /// Its identity (KIP-516).
    pub id: TopicId,
    /// Its name.
    pub name: Arc<str>,
    /// The partitions: the index is the partition's number.
    pub partitions: Vec<PartitionImage>,
    /// Topic settings as they were given, key to value.
    pub configs: Arc<BTreeMap<String, String>>,
}

/// Who holds a partition and who leads it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartitionImage {
    /// The assigned brokers, the preferred leader first.
    pub replicas: NodeIds,
    /// Those in sync.
    pub isr: NodeIds,
    /// The leader; `NodeId::NONE` when there is none.
    pub leader: NodeId,
    /// Counts the leaders.
    pub leader_epoch: LeaderEpoch,
    /// Counts the changes.
    pub partition_epoch: PartitionEpoch,
}

impl MetadataImage {
    /// The topic of that name.
    pub fn topic(&self, name: &str) -> Option<&Arc<TopicImage>> {
        self.topics_by_name.get(name)
    }

    /// The topic of that identity.
    pub fn topic_by_id(&self, id: TopicId) -> Option<&Arc<TopicImage>> {
        self.topics_by_id.get(&id)
    }

    /// All topics, by name.
    pub fn topics(&self) -> impl ExactSizeIterator<Item = &Arc<TopicImage>> {
        self.topics_by_name.values()
    }

    /// What became of the topics since `before`. Images share what stayed as it was, so this costs as much as was changed, not
    /// as much as there is.
    pub fn topics_since(&self, before: &Self) -> TopicChanges {
        let mut changes = TopicChanges::default();
        for difference in before.topics_by_id.diff(&self.topics_by_id) {
            match difference {
                DiffItem::Add(_, topic) => changes.new.push(topic.clone()),
                DiffItem::Update { new: (_, topic), .. } => changes.changed.push(topic.clone()),
                DiffItem::Remove(id, _) => changes.gone.push(*id),
            }
        }
        changes
    }

    /// A topic whose name differs from this one only by `.` and `_`: their metrics would be one.
    pub fn colliding(&self, name: &str) -> Option<&Arc<str>> {
        let merged = metric_name(name)?;
        let from = (merged.clone(), Arc::from(""));
        self.metric_names.range(from..).next().filter(|(found, _)| *found == merged).map(|(_, other)| other)
    }

    pub(super) fn insert_topic(&mut self, topic: Arc<TopicImage>) {
        if let Some(merged) = metric_name(&topic.name) {
            self.metric_names.insert((merged, topic.name.clone()));
        }
        self.topics_by_name.insert(topic.name.clone(), topic.clone());
        self.topics_by_id.insert(topic.id, topic);
    }

    pub(super) fn remove_topic(&mut self, id: TopicId) -> Option<Arc<TopicImage>> {
        let topic = self.topics_by_id.remove(&id)?;
        self.topics_by_name.remove(&topic.name);
        if let Some(merged) = metric_name(&topic.name) {
            self.metric_names.remove(&(merged, topic.name.clone()));
        }
        Some(topic)
    }

    /// The brokers that serve clients, by node id.
    pub fn live_brokers(&self) -> impl Iterator<Item = &Arc<BrokerRegistration>> {
        self.brokers.values().filter(|broker| !broker.fenced)
    }
}

impl TopicImage {
    /// True for the topics that the broker keeps for itself.
    pub fn is_internal(&self) -> bool {
        is_internal(&self.name)
    }

    /// The partition of that number.
    pub fn partition(&self, index: i32) -> Option<&PartitionImage> {
        usize::try_from(index).ok().and_then(|index| self.partitions.get(index))
    }

    /// The numbers of the partitions that a node is to hold.
    pub fn held_by(&self, node: NodeId) -> impl Iterator<Item = i32> {
        let numbered = (0..).zip(&self.partitions);
        numbered.filter(move |(_, partition)| partition.replicas.contains(&node)).map(|(index, _)| index)
    }

    /// How many replicas the first partition has: what Kafka shows as the topic's replication factor.
    pub fn replication_factor(&self) -> i16 {
        let replicas = self.partitions.first().map_or(0, |partition| partition.replicas.len());
        i16::try_from(replicas).unwrap_or(i16::MAX)
    }
}

impl BrokerRegistration {
    /// The address that this broker advertises on a listener.
    pub fn endpoint(&self, listener: &str) -> Option<&BrokerEndpoint> {
        self.endpoints.iter().find(|endpoint| endpoint.listener == listener)
    }
}

/// What metrics make of a topic's name, if that is another: they know no `.`, only `_`.
fn metric_name(name: &str) -> Option<Arc<str>> {
    name.contains(['.', '_']).then(|| name.replace('.', "_").into())
}

/// True for the names of topics that the broker keeps for itself.
pub fn is_internal(name: &str) -> bool {
    matches!(name, CONSUMER_OFFSETS | TRANSACTION_STATE | SHARE_GROUP_STATE)
}
