//! Pure. The records of `__consumer_offsets`, in Kafka's own format: tools that read the topic keep working, and a log
//! written by Kafka can be loaded.
//!
//! What is written is what Kafka 4.3 writes: keys of version 1 (offset) and 2 (group), group values of version 3, offset
//! values of version 4 with the topic's id, 1 when the client asked for its own retention, and 3 when no id is known.
//! Every version is read. Bytes off the log are never trusted: a record that does not decode is an error, not a panic.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use crate::types::{LeaderEpoch, Offset, Timestamp, TopicId};

mod codec;

use codec::{Reader, put_bytes, put_compact_string, put_nullable_string, put_string};

/// What a record of the topic is about.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Key {
    /// The offset that a group committed for a partition.
    Offset {
        /// The group.
        group: Arc<str>,
        /// The topic's name.
        topic: Arc<str>,
        /// The partition's index.
        partition: i32,
    },
    /// A classic group's generation.
    Group(Arc<str>),
    /// A key type that this version does not know: KIP-848, share and streams groups. Skipped by a load.
    Other(i16),
}

/// A committed offset.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommittedOffset {
    /// Where the group goes on.
    pub offset: Offset,
    /// The leader epoch that the consumer saw, or UNKNOWN.
    pub leader_epoch: LeaderEpoch,
    /// What the client wanted kept beside it.
    pub metadata: Arc<str>,
    /// When it was committed.
    pub committed_at: Timestamp,
    /// When it expires, for clients before KIP-211 that say so themselves.
    pub expires_at: Option<Timestamp>,
    /// The topic's identity, ZERO when the record does not say.
    pub topic_id: TopicId,
}

/// A classic group's generation with its assignment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupMetadata {
    /// `consumer`, `connect`, or what the members call it. Empty before the first generation.
    pub protocol_type: Arc<str>,
    /// Counts the rebalances.
    pub generation: i32,
    /// The protocol that was voted for.
    pub protocol: Option<Arc<str>>,
    /// The member that computes assignments.
    pub leader: Option<Arc<str>>,
    /// When the group took its present state, or NONE.
    pub state_changed_at: Timestamp,
    /// The members with their assignments.
    pub members: Vec<MemberMetadata>,
}

/// A member of a [`GroupMetadata`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberMetadata {
    /// The member's id.
    pub member_id: Arc<str>,
    /// `group.instance.id` of a static member (KIP-345).
    pub instance_id: Option<Arc<str>>,
    /// `client.id`.
    pub client_id: Arc<str>,
    /// The address that it connected from, with Java's leading slash.
    pub client_host: Arc<str>,
    /// How long a rebalance waits for it. -1: as long as the session.
    pub rebalance_timeout_ms: i32,
    /// How long it may be silent.
    pub session_timeout_ms: i32,
    /// Its metadata for the chosen protocol.
    pub subscription: Bytes,
    /// Its assignment.
    pub assignment: Bytes,
}

/// A record that says something to the coordinator.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// What it is about.
    pub key: Key,
    /// What is so from now on.
    pub value: Value,
}

/// The value of a [`Record`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Value {
    /// Under [`Key::Offset`].
    Offset(CommittedOffset),
    /// Under [`Key::Group`].
    Group(GroupMetadata),
    /// Gone: the record has no value.
    Tombstone,
}

/// A record of the topic that cannot be read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Malformed {
    /// A key or value ends before its fields do.
    #[error("the {0} is cut off or not valid")]
    Field(&'static str),
    /// A version that no Kafka wrote.
    #[error("version {1} of the {0} is not known")]
    Version(&'static str, i16),
}

/// The partition of `__consumer_offsets` that a group lives in: Java's `String.hashCode`, over UTF-16 code units.
pub fn partition_for(group: &str, partitions: i32) -> i32 {
    assert!(partitions > 0, "the offsets topic has partitions");
    let hash = group.encode_utf16().fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    // Kafka's Utils.abs: the one value without a positive twin counts as zero, and masking the sign differs from it.
    (if hash == i32::MIN { 0 } else { hash.abs() }) % partitions
}

impl Record {
    /// A record that says its key is gone.
    pub fn tombstone(key: Key) -> Self {
        Self { key, value: Value::Tombstone }
    }

    /// Key and value as Kafka writes them; no value for a tombstone.
    pub fn encode(&self) -> (Bytes, Option<Bytes>) {
        let value = match &self.value {
            Value::Offset(value) => Some(encode_offset(value)),
            Value::Group(value) => Some(encode_group(value)),
            Value::Tombstone => None,
        };
        (encode_key(&self.key), value)
    }

    /// Reads a record off the log.
    pub fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Self, Malformed> {
        let key = decode_key(key)?;
        let value = match (value, &key) {
            (None, _) | (_, Key::Other(_)) => Value::Tombstone,
            (Some(value), Key::Offset { .. }) => Value::Offset(decode_offset(value)?),
            (Some(value), Key::Group(_)) => Value::Group(decode_group(value)?),
        };
        Ok(Self { key, value })
    }
}

fn encode_key(key: &Key) -> Bytes {
    let mut out = BytesMut::with_capacity(64);
    match key {
        Key::Offset { group, topic, partition } => {
            out.put_i16(1);
            put_string(&mut out, group);
            put_string(&mut out, topic);
            out.put_i32(*partition);
        }
        Key::Group(group) => {
            out.put_i16(2);
            put_string(&mut out, group);
        }
        Key::Other(kind) => out.put_i16(*kind),
    }
    out.freeze()
}

fn encode_offset(value: &CommittedOffset) -> Bytes {
    let mut out = BytesMut::with_capacity(64);
    match (value.expires_at, value.topic_id) {
        (Some(expires_at), _) => {
            out.put_i16(1);
            out.put_i64(value.offset.0);
            put_string(&mut out, &value.metadata);
            out.put_i64(value.committed_at.0);
            out.put_i64(expires_at.0);
        }
        (None, TopicId::ZERO) => {
            out.put_i16(3);
            out.put_i64(value.offset.0);
            out.put_i32(value.leader_epoch.0);
            put_string(&mut out, &value.metadata);
            out.put_i64(value.committed_at.0);
        }
        (None, topic_id) => {
            out.put_i16(4);
            out.put_i64(value.offset.0);
            out.put_i32(value.leader_epoch.0);
            put_compact_string(&mut out, &value.metadata);
            out.put_i64(value.committed_at.0);
            // One tagged field: tag 0, sixteen bytes.
            out.put_slice(&[1, 0, 16]);
            out.put_slice(topic_id.0.as_bytes());
        }
    }
    out.freeze()
}

fn encode_group(value: &GroupMetadata) -> Bytes {
    let mut out = BytesMut::with_capacity(256);
    out.put_i16(3);
    put_string(&mut out, &value.protocol_type);
    out.put_i32(value.generation);
    put_nullable_string(&mut out, value.protocol.as_deref());
    put_nullable_string(&mut out, value.leader.as_deref());
    out.put_i64(value.state_changed_at.0);
    out.put_i32(i32::try_from(value.members.len()).expect("group.max.size is an i32"));
    for member in &value.members {
        put_string(&mut out, &member.member_id);
        put_nullable_string(&mut out, member.instance_id.as_deref());
        put_string(&mut out, &member.client_id);
        put_string(&mut out, &member.client_host);
        out.put_i32(member.rebalance_timeout_ms);
        out.put_i32(member.session_timeout_ms);
        put_bytes(&mut out, &member.subscription);
        put_bytes(&mut out, &member.assignment);
    }
    out.freeze()
}

fn decode_key(bytes: &[u8]) -> Result<Key, Malformed> {
    let mut key = Reader::new(bytes, "key");
    Ok(match key.i16()? {
        0 | 1 => Key::Offset { group: key.string()?, topic: key.string()?, partition: key.i32()? },
        2 => Key::Group(key.string()?),
        other => Key::Other(other),
    })
}

fn decode_offset(bytes: &[u8]) -> Result<CommittedOffset, Malformed> {
    let mut value = Reader::new(bytes, "offset value");
    let version = value.i16()?;
    if !(0..=4).contains(&version) {
        return Err(Malformed::Version("offset value", version));
    }
    let offset = Offset(value.i64()?);
    let leader_epoch = if version >= 3 { LeaderEpoch(value.i32()?) } else { LeaderEpoch::UNKNOWN };
    let metadata = if version >= 4 { value.compact_string()? } else { value.string()? };
    let committed_at = Timestamp(value.i64()?);
    // Kafka's "use the default" is -1 here.
    let expires_at = if version == 1 { Some(Timestamp(value.i64()?)).filter(|at| at.0 >= 0) } else { None };
    let mut topic_id = TopicId::ZERO;
    if version >= 4 {
        value.tagged_fields(|tag, field| {
            if let (0, Ok(id)) = (tag, <[u8; 16]>::try_from(field)) {
                topic_id = TopicId(uuid::Uuid::from_bytes(id));
            }
        })?;
    }
    Ok(CommittedOffset { offset, leader_epoch, metadata, committed_at, expires_at, topic_id })
}

fn decode_group(bytes: &[u8]) -> Result<GroupMetadata, Malformed> {
    let mut value = Reader::new(bytes, "group value");
    let version = value.i16()?;
    if !(0..=4).contains(&version) {
        return Err(Malformed::Version("group value", version));
    }
    let flexible = version >= 4;
    let protocol_type = value.string_as(flexible)?;
    let generation = value.i32()?;
    let protocol = value.nullable_string_as(flexible)?;
    let leader = value.nullable_string_as(flexible)?;
    let state_changed_at = if version >= 2 { Timestamp(value.i64()?) } else { Timestamp::NONE };
    let count = value.count_as(flexible)?;
    // The count is only a claim: the vector grows with what is really there.
    let mut members = Vec::new();
    for _ in 0..count {
        members.push(decode_member(&mut value, version)?);
    }
    if flexible {
        value.tagged_fields(|_, _| {})?;
    }
    Ok(GroupMetadata { protocol_type, generation, protocol, leader, state_changed_at, members })
}

fn decode_member(value: &mut Reader<'_>, version: i16) -> Result<MemberMetadata, Malformed> {
    let flexible = version >= 4;
    let member_id = value.string_as(flexible)?;
    let instance_id = if version >= 3 { value.nullable_string_as(flexible)? } else { None };
    let client_id = value.string_as(flexible)?;
    let client_host = value.string_as(flexible)?;
    let rebalance_timeout_ms = if version >= 1 { value.i32()? } else { -1 };
    let session_timeout_ms = value.i32()?;
    let subscription = value.bytes_as(flexible)?;
    let assignment = value.bytes_as(flexible)?;
    if flexible {
        value.tagged_fields(|_, _| {})?;
    }
    Ok(MemberMetadata {
        member_id,
        instance_id,
        client_id,
        client_host,
        rebalance_timeout_ms,
        session_timeout_ms,
        subscription,
        assignment,
    })
}

#[cfg(test)]
mod tests;
