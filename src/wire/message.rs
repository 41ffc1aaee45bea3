//! Pure. One way to read any request and to write any response of the table, whoever wrote its codec.
//!
//! kafka-protocol 0.18 stops below Kafka 4.3 for a few messages whose types it has: [`Newer`] adds those versions to its
//! types. Requests are read through [`guard`](super::guard) in every case.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::{
    ApiVersionsRequest, ListOffsetsRequest, ListOffsetsResponse, OffsetCommitRequest, OffsetFetchRequest,
};
use kafka_protocol::protocol::{Encodable, Request, StrBytes};

use super::guard;
use super::reader::Reader;
use crate::error::Disconnect;

/// A request that can be read.
pub trait FromWire: Sized {
    /// Reads the body; what follows it is ignored, as Kafka does.
    fn from_wire(body: Bytes, version: i16) -> Result<Self, Disconnect>;
}

/// A response that can be written.
pub trait ToWire {
    /// The body. A response that its version cannot express is our own mistake, and panics.
    fn to_wire(&self, version: i16) -> Bytes;
}

impl<T: Request> FromWire for T {
    fn from_wire(body: Bytes, version: i16) -> Result<Self, Disconnect> {
        guard::decode(body, version)
    }
}

impl<T: Encodable> ToWire for T {
    fn to_wire(&self, version: i16) -> Bytes {
        let mut body = BytesMut::with_capacity(256);
        if let Err(error) = self.encode(&mut body, version) {
            panic!("{} in version {version}: {error}", std::any::type_name::<T>());
        }
        body.freeze()
    }
}

/// A message of kafka-protocol's in versions that kafka-protocol does not know.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Newer<T>(pub T);

/// ListOffsets 11 (KIP-1023) looks like 10: it allows one more special timestamp.
const LIST_OFFSETS_KNOWN: i16 = 10;

impl FromWire for Newer<ListOffsetsRequest> {
    fn from_wire(body: Bytes, version: i16) -> Result<Self, Disconnect> {
        guard::decode(body, version.min(LIST_OFFSETS_KNOWN)).map(Self)
    }
}

impl ToWire for Newer<ListOffsetsResponse> {
    fn to_wire(&self, version: i16) -> Bytes {
        self.0.to_wire(version.min(LIST_OFFSETS_KNOWN))
    }
}

/// OffsetCommit 10 names topics by id (KIP-848). Its response is known to kafka-protocol.
impl FromWire for Newer<OffsetCommitRequest> {
    fn from_wire(body: Bytes, version: i16) -> Result<Self, Disconnect> {
        if version <= 9 {
            return guard::decode(body, version).map(Self);
        }
        let mut reader = Reader::new(body, true);
        let request = OffsetCommitRequest::default()
            .with_group_id(reader.string()?.into())
            .with_generation_id_or_member_epoch(reader.i32()?)
            .with_member_id(reader.string()?)
            .with_group_instance_id(reader.nullable_string()?)
            .with_topics(reader.array(18, offset_commit_topic)?);
        reader.skip_tags()?;
        Ok(Self(request))
    }
}

fn offset_commit_topic(reader: &mut Reader) -> Result<OffsetCommitRequestTopic, Disconnect> {
    let topic_id = reader.topic_id()?.0;
    let partitions = reader.array(18, |reader| {
        let partition = OffsetCommitRequestPartition::default()
            .with_partition_index(reader.i32()?)
            .with_committed_offset(reader.i64()?)
            .with_committed_leader_epoch(reader.i32()?)
            .with_committed_metadata(reader.nullable_string()?);
        reader.skip_tags()?;
        Ok(partition)
    })?;
    reader.skip_tags()?;
    Ok(OffsetCommitRequestTopic::default().with_topic_id(topic_id).with_partitions(partitions))
}

/// OffsetFetch 10 names topics by id (KIP-848). Its response is known to kafka-protocol.
impl FromWire for Newer<OffsetFetchRequest> {
    fn from_wire(body: Bytes, version: i16) -> Result<Self, Disconnect> {
        if version <= 9 {
            return guard::decode(body, version).map(Self);
        }
        let mut reader = Reader::new(body, true);
        let groups = reader.array(8, offset_fetch_group)?;
        let request = OffsetFetchRequest::default().with_groups(groups).with_require_stable(reader.i8()? != 0);
        reader.skip_tags()?;
        Ok(Self(request))
    }
}

fn offset_fetch_group(reader: &mut Reader) -> Result<OffsetFetchRequestGroup, Disconnect> {
    let group = OffsetFetchRequestGroup::default()
        .with_group_id(reader.string()?.into())
        .with_member_id(reader.nullable_string()?)
        .with_member_epoch(reader.i32()?)
        .with_topics(reader.nullable_array(18, |reader| {
            let topic = OffsetFetchRequestTopics::default()
                .with_topic_id(reader.topic_id()?.0)
                .with_partition_indexes(reader.array(4, Reader::i32)?);
            reader.skip_tags()?;
            Ok(topic)
        })?);
    reader.skip_tags()?;
    Ok(group)
}

/// ApiVersions, key 18, with the cluster and node that the client expects (KIP-1242, version 5 of Kafka 4.4).
#[derive(Clone, PartialEq, Debug)]
pub struct ApiVersionsQuestion {
    /// From version 3.
    pub client_software_name: StrBytes,
    /// From version 3.
    pub client_software_version: StrBytes,
    /// The cluster that the client means to talk to, if it knows.
    pub cluster_id: Option<StrBytes>,
    /// The node that the client means to talk to, or -1.
    pub node_id: i32,
}

impl FromWire for ApiVersionsQuestion {
    fn from_wire(body: Bytes, version: i16) -> Result<Self, Disconnect> {
        if version <= 4 {
            let request: ApiVersionsRequest = guard::decode(body, version)?;
            return Ok(Self {
                client_software_name: request.client_software_name,
                client_software_version: request.client_software_version,
                cluster_id: None,
                node_id: -1,
            });
        }
        let mut reader = Reader::new(body, true);
        let question = Self {
            client_software_name: reader.string()?,
            client_software_version: reader.string()?,
            cluster_id: reader.nullable_string()?,
            node_id: reader.i32()?,
        };
        reader.skip_tags()?;
        Ok(question)
    }
}

/// ApiVersionsResponse 5 looks like 4.
pub fn api_versions_response(response: &kafka_protocol::messages::ApiVersionsResponse, version: i16) -> Bytes {
    response.to_wire(version.min(4))
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
