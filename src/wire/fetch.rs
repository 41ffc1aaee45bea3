//! Pure. Fetch, key 1, versions 4 to 18: requests in, responses out.
//!
//! A response is envelope bytes with the stored batches between them: record bytes are not copied. Version 5 adds log
//! start offsets, 7 sessions (KIP-227), 9 the leader epoch (KIP-320), 11 the rack (KIP-392), 12 is flexible and adds
//! diverging epochs (KIP-595), 13 names topics by id, 15 moves the replica id into a tagged field (KIP-903), 16 adds
//! node endpoints (KIP-951), 17 the directory id (KIP-853), 18 the follower's high watermark (KIP-1166).

use bytes::Bytes;
use kafka_protocol::protocol::StrBytes;
use smallvec::SmallVec;

use super::frame::{Envelope, Pieces};
use super::produce::{CurrentLeader, NodeEndpoint};
use super::reader::Reader;
use super::writer::Writer;
use crate::error::{Disconnect, ErrorCode};
use crate::types::{LeaderEpoch, NodeId, Offset, ProducerId, TopicId};

/// The API key.
pub const KEY: i16 = 1;
/// The first flexible version.
pub const FLEXIBLE_FROM: i16 = 12;
const TOPIC_IDS_FROM: i16 = 13;

/// A request to read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FetchRequest {
    /// The follower that asks; NONE for a consumer.
    pub replica_id: NodeId,
    /// The follower's broker epoch, or -1; from version 15.
    pub replica_epoch: i64,
    /// How long to wait for `min_bytes`.
    pub max_wait_ms: i32,
    /// How much to wait for.
    pub min_bytes: i32,
    /// How much to send at most, but for a first batch that is larger.
    pub max_bytes: i32,
    /// 1 is read_committed.
    pub isolation_level: i8,
    /// 0 is none; from version 7.
    pub session_id: i32,
    /// 0 begins a session, -1 ends it; from version 7.
    pub session_epoch: i32,
    /// What to read, or with a session what changes. Topics without partitions are left out.
    pub topics: Vec<FetchTopic>,
    /// What a session is to drop; from version 7.
    pub forgotten: Vec<ForgottenTopic>,
    /// The consumer's rack; from version 11.
    pub rack_id: StrBytes,
}

/// A topic to read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FetchTopic {
    /// Up to version 12; empty after.
    pub name: StrBytes,
    /// From version 13; zero before.
    pub topic_id: TopicId,
    /// By partition.
    pub partitions: Vec<FetchPartition>,
}

/// A partition to read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FetchPartition {
    /// The partition.
    pub partition: i32,
    /// The leader that the client believes in, or UNKNOWN; from version 9.
    pub current_leader_epoch: LeaderEpoch,
    /// Where to begin.
    pub fetch_offset: Offset,
    /// The epoch of the follower's last record, or UNKNOWN; from version 12.
    pub last_fetched_epoch: LeaderEpoch,
    /// The follower's log start offset; from version 5.
    pub log_start_offset: Offset,
    /// How much of this partition at most.
    pub partition_max_bytes: i32,
    /// The follower's log directory, or zero; from version 17.
    pub replica_directory_id: uuid::Uuid,
    /// The follower's high watermark, or `Offset(i64::MAX)` when it does not say; from version 18.
    pub high_watermark: Offset,
}

/// Partitions that a session is to drop.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ForgottenTopic {
    /// Up to version 12; empty after.
    pub name: StrBytes,
    /// From version 13; zero before.
    pub topic_id: TopicId,
    /// The partitions.
    pub partitions: Vec<i32>,
}

impl FetchRequest {
    /// Reads a body. What follows it is ignored, as Kafka does.
    pub fn decode(body: Bytes, version: i16) -> Result<Self, Disconnect> {
        let mut reader = Reader::new(body, version >= FLEXIBLE_FROM);
        let reader = &mut reader;
        let mut request = Self {
            replica_id: if version <= 14 { NodeId(reader.i32()?) } else { NodeId::NONE },
            replica_epoch: -1,
            max_wait_ms: reader.i32()?,
            min_bytes: reader.i32()?,
            max_bytes: reader.i32()?,
            isolation_level: reader.i8()?,
            session_id: if version >= 7 { reader.i32()? } else { 0 },
            session_epoch: if version >= 7 { reader.i32()? } else { -1 },
            topics: decode_topics(reader, version)?,
            forgotten: if version >= 7 { decode_forgotten(reader, version)? } else { Vec::new() },
            rack_id: if version >= 11 { reader.string()? } else { StrBytes::default() },
        };
        reader.tags(|tag, value| {
            match tag {
                // The cluster that a KRaft voter means: brokers do not look at it.
                0 => drop(value.nullable_string()?),
                1 if version >= 15 => {
                    request.replica_id = NodeId(value.i32()?);
                    request.replica_epoch = value.i64()?;
                }
                _ => {}
            }
            Ok(())
        })?;
        Ok(request)
    }
}

fn topic_of(reader: &mut Reader, version: i16) -> Result<(StrBytes, TopicId), Disconnect> {
    match version >= TOPIC_IDS_FROM {
        true => Ok((StrBytes::default(), reader.topic_id()?)),
        false => Ok((reader.string()?, TopicId::ZERO)),
    }
}

fn decode_topics(reader: &mut Reader, version: i16) -> Result<Vec<FetchTopic>, Disconnect> {
    let mut topics = Vec::new();
    reader.each(3, |reader| {
        let (name, topic_id) = topic_of(reader, version)?;
        let partitions = reader.array(16, |reader| decode_partition(reader, version))?;
        reader.skip_tags()?;
        if !partitions.is_empty() {
            topics.push(FetchTopic { name, topic_id, partitions });
        }
        Ok(())
    })?;
    Ok(topics)
}

fn decode_partition(reader: &mut Reader, version: i16) -> Result<FetchPartition, Disconnect> {
    let epoch = |reader: &mut Reader, since| match version >= since {
        true => reader.i32().map(LeaderEpoch),
        false => Ok(LeaderEpoch::UNKNOWN),
    };
    let mut partition = FetchPartition {
        partition: reader.i32()?,
        current_leader_epoch: epoch(reader, 9)?,
        fetch_offset: Offset(reader.i64()?),
        last_fetched_epoch: epoch(reader, 12)?,
        log_start_offset: if version >= 5 { Offset(reader.i64()?) } else { Offset::UNKNOWN },
        partition_max_bytes: reader.i32()?,
        replica_directory_id: uuid::Uuid::nil(),
        high_watermark: Offset(i64::MAX),
    };
    reader.tags(|tag, value| {
        match tag {
            0 if version >= 17 => partition.replica_directory_id = value.topic_id()?.0,
            1 if version >= 18 => partition.high_watermark = Offset(value.i64()?),
            _ => {}
        }
        Ok(())
    })?;
    Ok(partition)
}

fn decode_forgotten(reader: &mut Reader, version: i16) -> Result<Vec<ForgottenTopic>, Disconnect> {
    let mut topics = Vec::new();
    reader.each(3, |reader| {
        let (name, topic_id) = topic_of(reader, version)?;
        let partitions = reader.array(4, Reader::i32)?;
        reader.skip_tags()?;
        if !partitions.is_empty() {
            topics.push(ForgottenTopic { name, topic_id, partitions });
        }
        Ok(())
    })?;
    Ok(topics)
}

/// The answer.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FetchResponse {
    /// How long the client is asked to pause.
    pub throttle_time_ms: i32,
    /// Of the request as a whole; from version 7. `None` is NONE.
    pub error: Option<ErrorCode>,
    /// 0 is none; from version 7.
    pub session_id: i32,
    /// By topic.
    pub topics: Vec<FetchTopicResponse>,
    /// Where the leaders are that the partitions name; from version 16.
    pub node_endpoints: Vec<NodeEndpoint>,
}

/// What was read of a topic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FetchTopicResponse {
    /// As in the request.
    pub name: StrBytes,
    /// As in the request.
    pub topic_id: TopicId,
    /// By partition.
    pub partitions: Vec<FetchPartitionResponse>,
}

/// What was read of a partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FetchPartitionResponse {
    /// The partition.
    pub partition: i32,
    /// NONE when it could be read.
    pub error: ErrorCode,
    /// UNKNOWN with an error.
    pub high_watermark: Offset,
    /// UNKNOWN with an error.
    pub last_stable_offset: Offset,
    /// UNKNOWN with an error; from version 5.
    pub log_start_offset: Offset,
    /// What a read_committed consumer is to leave out; `None` for read_uncommitted.
    pub aborted_transactions: Option<Vec<AbortedTransaction>>,
    /// A replica nearer to the consumer, or NONE; from version 11.
    pub preferred_read_replica: NodeId,
    /// Whole batches, one after another.
    pub records: SmallVec<[Bytes; 4]>,
    /// Where the follower's log parts from the leader's; from version 12.
    pub diverging_epoch: Option<(LeaderEpoch, Offset)>,
    /// Who leads now, with an error that says so; from version 12.
    pub current_leader: Option<CurrentLeader>,
}

/// A transaction whose records are to be left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AbortedTransaction {
    /// Whose.
    pub producer_id: ProducerId,
    /// From where on.
    pub first_offset: Offset,
}

impl FetchPartitionResponse {
    /// A refusal.
    pub fn refused(partition: i32, error: ErrorCode) -> Self {
        Self {
            partition,
            error,
            high_watermark: Offset::UNKNOWN,
            last_stable_offset: Offset::UNKNOWN,
            log_start_offset: Offset::UNKNOWN,
            aborted_transactions: None,
            preferred_read_replica: NodeId::NONE,
            records: SmallVec::new(),
            diverging_epoch: None,
            current_leader: None,
        }
    }

    /// Bytes of its records.
    pub fn records_size(&self) -> usize {
        self.records.iter().map(Bytes::len).sum()
    }
}

impl FetchResponse {
    /// The body; the batches are shared, not copied.
    pub fn encode(self, version: i16) -> Pieces {
        let flexible = version >= FLEXIBLE_FROM;
        let mut envelope = Envelope::new();
        let mut writer = Writer::new(envelope.own(), flexible);
        writer.i32(self.throttle_time_ms);
        if version >= 7 {
            writer.i16(self.error.unwrap_or(ErrorCode::NONE).get());
            writer.i32(self.session_id);
        }
        writer.length(Some(self.topics.len()));
        for topic in self.topics {
            let mut writer = Writer::new(envelope.own(), flexible);
            match version >= TOPIC_IDS_FROM {
                true => writer.topic_id(topic.topic_id),
                false => writer.string(&topic.name),
            }
            writer.length(Some(topic.partitions.len()));
            for partition in topic.partitions {
                partition.encode(&mut envelope, version);
            }
            Writer::new(envelope.own(), flexible).no_tags();
        }
        let mut writer = Writer::new(envelope.own(), flexible);
        if version >= 16 && !self.node_endpoints.is_empty() {
            writer.tag_count(1);
            writer.tag(0, |writer| NodeEndpoint::encode_all(&self.node_endpoints, writer));
        } else {
            writer.no_tags();
        }
        envelope.finish()
    }
}

impl FetchPartitionResponse {
    fn encode(self, envelope: &mut Envelope, version: i16) {
        let flexible = version >= FLEXIBLE_FROM;
        let mut writer = Writer::new(envelope.own(), flexible);
        writer.i32(self.partition);
        writer.i16(self.error.get());
        writer.i64(self.high_watermark.0);
        writer.i64(self.last_stable_offset.0);
        if version >= 5 {
            writer.i64(self.log_start_offset.0);
        }
        writer.length(self.aborted_transactions.as_ref().map(Vec::len));
        for aborted in self.aborted_transactions.iter().flatten() {
            writer.i64(aborted.producer_id.0);
            writer.i64(aborted.first_offset.0);
            writer.no_tags();
        }
        if version >= 11 {
            writer.i32(self.preferred_read_replica.0);
        }
        writer.length(Some(self.records_size()));
        for batches in self.records {
            envelope.share(batches);
        }
        let mut writer = Writer::new(envelope.own(), flexible);
        writer.tag_count(usize::from(self.diverging_epoch.is_some()) + usize::from(self.current_leader.is_some()));
        if !flexible {
            return;
        }
        if let Some((epoch, end_offset)) = self.diverging_epoch {
            writer.tag(0, |writer| {
                writer.i32(epoch.0);
                writer.i64(end_offset.0);
                writer.no_tags();
            });
        }
        if let Some(leader) = self.current_leader {
            writer.tag(1, |writer| leader.encode(writer));
        }
    }
}

#[cfg(test)]
#[path = "fetch_tests.rs"]
mod tests;
