//! Pure. What the metadata log says: outcomes, in a form that outlives the binary that wrote them.
//!
//! A record states what is so from now on; it never asks for something. Every stored value starts with the level of
//! the records in it, so that an older binary refuses what it cannot understand instead of guessing. A change of
//! meaning, a new field or a new kind of record raises [`LEVEL`]; nothing here may be reinterpreted in place.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::image::BrokerRegistration;
use crate::error::StoreError;
use crate::types::{LeaderEpoch, NodeId, PartitionEpoch, TopicId};

/// The newest level of records that this binary writes and reads: 2 registers a broker's log directories.
pub const LEVEL: u8 = 2;

/// One outcome.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Record {
    /// The cluster has this id. Written once.
    ClusterId(ClusterIdRecord),
    /// A broker is registered, or registered anew.
    RegisterBroker(BrokerRegistration),
    /// A topic exists.
    Topic(TopicRecord),
    /// A topic, its partitions and its settings are gone.
    RemoveTopic(RemoveTopicRecord),
    /// A partition is as described.
    Partition(PartitionRecord),
    /// A setting has a value, or has none any more.
    Config(ConfigRecord),
    /// Producer ids below the given one are handed out.
    ProducerIds(ProducerIdsRecord),
}

/// The cluster's id.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ClusterIdRecord {
    /// 22 characters of URL-safe base64, or what the operator chose.
    pub cluster_id: String,
}

/// A topic's name and identity.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TopicRecord {
    /// Its identity.
    pub id: TopicId,
    /// Its name.
    pub name: String,
}

/// A topic's end.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RemoveTopicRecord {
    /// Its identity.
    pub id: TopicId,
}

/// A partition's state, whole.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PartitionRecord {
    /// The topic.
    pub topic: TopicId,
    /// The partition's number.
    pub index: i32,
    /// The assigned brokers, the preferred leader first.
    pub replicas: Vec<NodeId>,
    /// Those in sync.
    pub isr: Vec<NodeId>,
    /// The leader, or `NodeId::NONE`.
    pub leader: NodeId,
    /// Counts the leaders.
    pub leader_epoch: LeaderEpoch,
    /// Counts the changes.
    pub partition_epoch: PartitionEpoch,
}

/// A topic's setting.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ConfigRecord {
    /// The topic.
    pub topic: TopicId,
    /// The key.
    pub key: String,
    /// The value; none takes the setting back.
    pub value: Option<String>,
}

/// How far producer ids are handed out.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ProducerIdsRecord {
    /// The broker that was given the block.
    pub broker: NodeId,
    /// The first id that nobody was given yet.
    pub next: i64,
}

/// A value as it is stored: its level, then the value.
pub fn encode(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = vec![LEVEL];
    serde_json::to_writer(&mut bytes, value).expect("records have string keys only, and a Vec takes every byte");
    bytes
}

/// The value of stored bytes. What a newer binary wrote is refused.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, StoreError> {
    match bytes.split_first() {
        Some((&level, json)) if level <= LEVEL => serde_json::from_slice(json)
            .map_err(|error| StoreError::new(format!("the metadata log holds a value that cannot be read: {error}"))),
        Some((&level, _)) => Err(StoreError::new(format!(
            "the metadata log was written by a newer version of Ottla (records of level {level}, this version reads up \
             to {LEVEL}): start the newer version"
        ))),
        None => Err(StoreError::new("the metadata log holds an empty value")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NIL: &str = "00000000-0000-0000-0000-000000000000";

    #[test]
    fn a_newer_level_is_refused_with_a_sentence() {
        let mut bytes = encode(&Record::ClusterId(ClusterIdRecord { cluster_id: "a".into() }));
        assert!(decode::<Record>(&bytes).is_ok());
        bytes[0] = LEVEL + 1;
        let refused = decode::<Record>(&bytes).unwrap_err().to_string();
        assert!(refused.contains("newer version") && refused.contains(&format!("level {}", LEVEL + 1)), "{refused}");
    }

    #[test]
    fn damage_is_an_error_and_not_a_guess() {
        assert!(decode::<Record>(&[]).is_err());
        assert!(decode::<Record>(&[LEVEL, b'{']).is_err());
        assert!(decode::<Record>(b"\x02{\"Unheard\":{}}").is_err());
    }

    #[test]
    fn the_form_of_a_partition_is_fixed_since_level_one() {
        let record = Record::Partition(PartitionRecord {
            topic: TopicId::ZERO,
            index: 3,
            replicas: vec![NodeId(1)],
            isr: vec![NodeId(1)],
            leader: NodeId(1),
            leader_epoch: LeaderEpoch(0),
            partition_epoch: PartitionEpoch(0),
        });
        let stored = b"\x01{\"Partition\":{\"topic\":\"00000000-0000-0000-0000-000000000000\",\"index\":3,\
            \"replicas\":[1],\"isr\":[1],\"leader\":1,\"leader_epoch\":0,\"partition_epoch\":0}}";
        assert_eq!(encode(&record)[1..], stored[1..]);
        assert_eq!(decode::<Record>(stored).unwrap(), record);
    }

    #[test]
    fn a_registration_of_level_one_is_read_without_log_directories() {
        let stored = |level: &str, log_dirs: &str| {
            let text = format!(
                "{level}{{\"RegisterBroker\":{{\"id\":1,\"epoch\":2,\"incarnation\":\"{NIL}\",\"endpoints\":[],\
                 \"rack\":null,\"fenced\":false{log_dirs}}}}}"
            );
            text.into_bytes()
        };
        let mut broker = BrokerRegistration {
            id: NodeId(1),
            epoch: 2,
            incarnation: uuid::Uuid::nil(),
            endpoints: Vec::new(),
            rack: None,
            fenced: false,
            log_dirs: Vec::new(),
        };
        assert_eq!(decode::<Record>(&stored("\x01", "")).unwrap(), Record::RegisterBroker(broker.clone()));
        broker.log_dirs = vec![uuid::Uuid::nil()];
        let written = stored("\x02", &format!(",\"log_dirs\":[\"{NIL}\"]"));
        assert_eq!(encode(&Record::RegisterBroker(broker.clone())), written);
        assert_eq!(decode::<Record>(&written).unwrap(), Record::RegisterBroker(broker));
    }
}
