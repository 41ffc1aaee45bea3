//! Pure. The offsets that a group has committed, and when they expire.
//!
//! A commit is applied when its record is committed, never before: what OffsetFetch shows survives the broker, and a
//! failed append leaves nothing to undo. Expiry follows KIP-211: offsets of a group count from the moment it became
//! empty, those of a consumer that assigns its partitions itself from each commit, and those of a topic that a live
//! consumer group no longer subscribes to from their commit.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::classic::{ClassicGroup, State};
use super::records::CommittedOffset;
use crate::types::{LeaderEpoch, Offset, Timestamp, TopicId};

/// What an offset costs in memory beside its note: its numbers, and its place in the tree.
const OFFSET_BYTES: usize = 160;
/// What a topic costs in memory beside its name.
const TOPIC_BYTES: usize = 160;

/// A group's offsets: topic to partition to offset.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Offsets {
    topics: BTreeMap<Arc<str>, BTreeMap<i32, CommittedOffset>>,
    count: usize,
    bytes: usize,
}

/// Bytes that an offset keeps in memory.
pub fn kept_bytes(committed: &CommittedOffset) -> usize {
    OFFSET_BYTES + committed.metadata.len()
}

/// What OffsetFetch says of one partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FetchedOffset {
    /// The partition's index.
    pub partition: i32,
    /// The offset, or UNKNOWN.
    pub offset: Offset,
    /// The leader epoch that was committed with it, or UNKNOWN.
    pub leader_epoch: LeaderEpoch,
    /// What the client wanted kept beside it.
    pub metadata: Arc<str>,
}

impl FetchedOffset {
    /// "Nothing committed", which is not an error.
    pub fn none(partition: i32) -> Self {
        Self { partition, offset: Offset::UNKNOWN, leader_epoch: LeaderEpoch::UNKNOWN, metadata: "".into() }
    }

    fn of(partition: i32, committed: &CommittedOffset) -> Self {
        Self {
            partition,
            offset: committed.offset,
            leader_epoch: committed.leader_epoch,
            metadata: committed.metadata.clone(),
        }
    }
}

impl Offsets {
    /// True when nothing is committed.
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    /// How many offsets there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Bytes that they keep in memory.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many bytes more than now a commit would keep, at most. A new offset in the place of an old one costs what its
    /// note is longer.
    pub fn growth(&self, commit: &[(Arc<str>, i32, CommittedOffset)]) -> usize {
        let mut growth = 0;
        let mut new_topic = None;
        for (topic, partition, value) in commit {
            let partitions = self.topics.get(topic);
            let before = partitions.and_then(|partitions| partitions.get(partition)).map_or(0, kept_bytes);
            growth += kept_bytes(value).saturating_sub(before);
            // A request names the partitions of a topic one after the other.
            if partitions.is_none() && new_topic != Some(topic) {
                growth += topic_bytes(topic);
                new_topic = Some(topic);
            }
        }
        growth
    }

    /// A committed record says so.
    pub fn put(&mut self, topic: &Arc<str>, partition: i32, value: CommittedOffset) {
        let partitions = self.topics.entry(topic.clone()).or_default();
        if partitions.is_empty() {
            self.bytes += topic_bytes(topic);
        }
        self.bytes += kept_bytes(&value);
        match partitions.insert(partition, value) {
            Some(old) => self.bytes -= kept_bytes(&old),
            None => self.count += 1,
        }
    }

    /// A committed tombstone says so.
    pub fn remove(&mut self, topic: &str, partition: i32) {
        let Some(partitions) = self.topics.get_mut(topic) else { return };
        if let Some(old) = partitions.remove(&partition) {
            self.bytes -= kept_bytes(&old);
            self.count -= 1;
        }
        if partitions.is_empty() {
            self.bytes -= topic_bytes(topic);
            self.topics.remove(topic);
        }
    }

    /// One partition's offset. An offset of a deleted topic of the same name is none (KIP-848's topic ids).
    pub fn fetch(&self, topic: &str, topic_id: TopicId, partition: i32) -> FetchedOffset {
        let committed = self.topics.get(topic).and_then(|partitions| partitions.get(&partition));
        match committed {
            Some(committed) if same_topic(committed.topic_id, topic_id) => FetchedOffset::of(partition, committed),
            _ => FetchedOffset::none(partition),
        }
    }

    /// Everything, by topic.
    pub fn fetch_all(&self) -> impl Iterator<Item = (&Arc<str>, Vec<FetchedOffset>)> {
        self.topics.iter().map(|(topic, partitions)| {
            (topic, partitions.iter().map(|(partition, committed)| FetchedOffset::of(*partition, committed)).collect())
        })
    }

    /// What has expired, as the keys of tombstones.
    pub fn expired(&self, group: &ClassicGroup, now: Timestamp, retention_ms: i64) -> Vec<(Arc<str>, i32)> {
        let Some(expiry) = Expiry::of(group) else { return Vec::new() };
        let mut expired = Vec::new();
        for (topic, partitions) in &self.topics {
            if expiry.spares(topic) {
                continue;
            }
            let due = partitions.iter().filter(|(_, committed)| expiry.is_due(committed, now, retention_ms));
            expired.extend(due.map(|(partition, _)| (topic.clone(), *partition)));
        }
        expired
    }

    /// Offsets of topics for which `is_gone` says so, as the keys of tombstones.
    pub fn of_deleted(&self, is_gone: impl Fn(&str, TopicId) -> bool) -> Vec<(Arc<str>, i32)> {
        let each = self.topics.iter().flat_map(|(topic, partitions)| partitions.iter().map(move |p| (topic, p)));
        each.filter(|(topic, (_, committed))| is_gone(topic, committed.topic_id))
            .map(|(topic, (partition, _))| (topic.clone(), *partition))
            .collect()
    }
}

fn topic_bytes(topic: &str) -> usize {
    TOPIC_BYTES + topic.len()
}

/// Topic ids that say something must agree.
fn same_topic(committed: TopicId, asked: TopicId) -> bool {
    committed == TopicId::ZERO || asked == TopicId::ZERO || committed == asked
}

/// From when the offsets of a group count, and which are spared.
struct Expiry {
    /// When the group became empty, for a group that had members.
    empty_since: Option<Timestamp>,
    subscribed: Option<std::collections::BTreeSet<Arc<str>>>,
}

impl Expiry {
    /// `None` while the group is in use in a way that says nothing about its topics: nothing expires.
    fn of(group: &ClassicGroup) -> Option<Self> {
        if group.protocol_type().is_none() {
            return Some(Self { empty_since: None, subscribed: None });
        }
        match group.state() {
            State::Empty => Some(Self { empty_since: Some(group.state_changed_at()), subscribed: None }),
            State::Stable => {
                group.subscribed_topics().map(|topics| Self { empty_since: None, subscribed: Some(topics) })
            }
            State::PreparingRebalance | State::CompletingRebalance => None,
        }
    }

    fn spares(&self, topic: &str) -> bool {
        self.subscribed.as_ref().is_some_and(|topics| topics.contains(topic))
    }

    fn is_due(&self, committed: &CommittedOffset, now: Timestamp, retention_ms: i64) -> bool {
        match committed.expires_at {
            // A client before KIP-211 said itself how long.
            Some(at) => at <= now,
            None => {
                let since = self.empty_since.unwrap_or(committed.committed_at);
                now.0.saturating_sub(since.0) >= retention_ms
            }
        }
    }
}
