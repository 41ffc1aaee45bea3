//! Pure. Produce, key 0, versions 3 to 13: requests in, responses out.
//!
//! Records stay slices of the frame. Version 3 is the oldest (KIP-896), 4 only renames an error, 5 adds the log start
//! offset to the response, 7 allows zstd, 8 adds record errors (KIP-467), 9 is flexible, 10 adds leader hints (KIP-951),
//! 11 and 12 change transactions only, 13 names topics by id (KIP-516).

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};
use kafka_protocol::protocol::StrBytes;

use super::reader::Reader;
use super::writer::Writer;
use crate::error::{Disconnect, ErrorCode};
use crate::types::{LeaderEpoch, NodeId, Offset, Timestamp, TopicId};

/// The API key.
pub const KEY: i16 = 0;
/// The first flexible version.
pub const FLEXIBLE_FROM: i16 = 9;
const TOPIC_IDS_FROM: i16 = 13;

/// A request to append.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProduceRequest {
    /// Of a transactional producer.
    pub transactional_id: Option<StrBytes>,
    /// 0, 1 or -1, unchecked.
    pub acks: i16,
    /// How long the producer waits for followers.
    pub timeout_ms: i32,
    /// By topic. Topics without partitions are left out.
    pub topics: Vec<ProduceTopic>,
}

/// What goes to one topic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProduceTopic {
    /// Up to version 12; empty after.
    pub name: StrBytes,
    /// From version 13; zero before.
    pub topic_id: TopicId,
    /// By partition.
    pub partitions: Vec<ProducePartition>,
}

/// What goes to one partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProducePartition {
    /// The partition.
    pub index: i32,
    /// One record batch, unchecked; a slice of the request.
    pub records: Option<Bytes>,
}

impl ProduceRequest {
    /// Reads a body. What follows it is ignored, as Kafka does.
    pub fn decode(body: Bytes, version: i16) -> Result<Self, Disconnect> {
        let mut reader = Reader::new(body, version >= FLEXIBLE_FROM);
        let transactional_id = reader.nullable_string()?;
        let acks = reader.i16()?;
        let timeout_ms = reader.i32()?;
        let mut topics = Vec::new();
        // A topic has at least a name, an array and, when flexible, the number of tags.
        reader.each(3, |reader| {
            let topic = decode_topic(reader, version)?;
            if !topic.partitions.is_empty() {
                topics.push(topic);
            }
            Ok(())
        })?;
        reader.skip_tags()?;
        Ok(Self { transactional_id, acks, timeout_ms, topics })
    }
}

fn decode_topic(reader: &mut Reader, version: i16) -> Result<ProduceTopic, Disconnect> {
    let (name, topic_id) = match version >= TOPIC_IDS_FROM {
        true => (StrBytes::default(), reader.topic_id()?),
        false => (reader.string()?, TopicId::ZERO),
    };
    let partitions = reader.array(6, |reader| {
        let partition = ProducePartition { index: reader.i32()?, records: reader.nullable_bytes()? };
        reader.skip_tags()?;
        Ok(partition)
    })?;
    reader.skip_tags()?;
    Ok(ProduceTopic { name, topic_id, partitions })
}

/// The answer.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ProduceResponse {
    /// By topic.
    pub topics: Vec<ProduceTopicResponse>,
    /// How long the client is asked to pause.
    pub throttle_time_ms: i32,
    /// Where the leaders are that the partitions name; from version 10.
    pub node_endpoints: Vec<NodeEndpoint>,
}

/// What became of one topic's batches.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProduceTopicResponse {
    /// As in the request.
    pub name: StrBytes,
    /// As in the request.
    pub topic_id: TopicId,
    /// By partition.
    pub partitions: Vec<ProducePartitionResponse>,
}

/// What became of one batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProducePartitionResponse {
    /// The partition.
    pub index: i32,
    /// NONE when it was appended.
    pub error: ErrorCode,
    /// Where; UNKNOWN with an error.
    pub base_offset: Offset,
    /// The broker's time, under LogAppendTime; else NONE.
    pub log_append_time: Timestamp,
    /// The partition's log start offset; from version 5.
    pub log_start_offset: Offset,
    /// The records at fault; from version 8.
    pub record_errors: Vec<RecordError>,
    /// What is wrong; from version 8.
    pub error_message: Option<Cow<'static, str>>,
    /// Who leads now, with NOT_LEADER_OR_FOLLOWER; from version 10.
    pub current_leader: Option<CurrentLeader>,
}

impl ProducePartitionResponse {
    /// A refusal.
    pub fn refused(index: i32, error: ErrorCode) -> Self {
        Self {
            index,
            error,
            base_offset: Offset::UNKNOWN,
            log_append_time: Timestamp::NONE,
            log_start_offset: Offset::UNKNOWN,
            record_errors: Vec::new(),
            error_message: None,
            current_leader: None,
        }
    }
}

/// One record that made its batch be refused (KIP-467).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecordError {
    /// Which record of the batch, from zero.
    pub batch_index: i32,
    /// What is wrong with it.
    pub message: Cow<'static, str>,
}

/// Leader hint of KIP-951.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CurrentLeader {
    /// The leader, or NONE.
    pub leader_id: NodeId,
    /// Its epoch.
    pub leader_epoch: LeaderEpoch,
}

impl CurrentLeader {
    pub(super) fn encode(self, writer: &mut Writer<'_>) {
        writer.i32(self.leader_id.0);
        writer.i32(self.leader_epoch.0);
        writer.no_tags();
    }
}

/// Where a broker is, with a leader hint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeEndpoint {
    /// The broker.
    pub node_id: NodeId,
    /// Its advertised host on the listener asked.
    pub host: String,
    /// Its advertised port.
    pub port: i32,
    /// `broker.rack`.
    pub rack: Option<String>,
}

impl NodeEndpoint {
    pub(super) fn encode_all(endpoints: &[Self], writer: &mut Writer<'_>) {
        writer.length(Some(endpoints.len()));
        for endpoint in endpoints {
            writer.i32(endpoint.node_id.0);
            writer.string(&endpoint.host);
            writer.i32(endpoint.port);
            writer.nullable_string(endpoint.rack.as_deref());
            writer.no_tags();
        }
    }
}

impl ProduceResponse {
    /// The body.
    pub fn encode(&self, version: i16) -> Bytes {
        let mut out = BytesMut::with_capacity(128);
        let mut writer = Writer::new(&mut out, version >= FLEXIBLE_FROM);
        writer.length(Some(self.topics.len()));
        for topic in &self.topics {
            match version >= TOPIC_IDS_FROM {
                true => writer.topic_id(topic.topic_id),
                false => writer.string(&topic.name),
            }
            writer.length(Some(topic.partitions.len()));
            for partition in &topic.partitions {
                partition.encode(&mut writer, version);
            }
            writer.no_tags();
        }
        writer.i32(self.throttle_time_ms);
        if version >= 10 && !self.node_endpoints.is_empty() {
            writer.tag_count(1);
            writer.tag(0, |writer| NodeEndpoint::encode_all(&self.node_endpoints, writer));
        } else {
            writer.no_tags();
        }
        out.freeze()
    }
}

impl ProducePartitionResponse {
    fn encode(&self, writer: &mut Writer<'_>, version: i16) {
        writer.i32(self.index);
        writer.i16(self.error.get());
        writer.i64(self.base_offset.0);
        writer.i64(self.log_append_time.0);
        if version >= 5 {
            writer.i64(self.log_start_offset.0);
        }
        if version >= 8 {
            writer.length(Some(self.record_errors.len()));
            for error in &self.record_errors {
                writer.i32(error.batch_index);
                writer.nullable_string(Some(&error.message));
                writer.no_tags();
            }
            writer.nullable_string(self.error_message.as_deref());
        }
        match self.current_leader {
            Some(leader) if version >= 10 => {
                writer.tag_count(1);
                writer.tag(0, |writer| leader.encode(writer));
            }
            _ => writer.no_tags(),
        }
    }
}

#[cfg(test)]
#[path = "produce_tests.rs"]
mod tests;
