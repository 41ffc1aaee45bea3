//! OffsetFetch 1–10: how far groups have come. From version 8 on several groups (KIP-709), from 10 on topics by id.
//!
//! A group or partition without offset is -1 without an error. Without transactions no offset is ever pending, so
//! `require_stable` is always satisfied. A group that is named again is INVALID_REQUEST the second time: Kafka repeats it.

use std::sync::Arc;

use futures_util::future::join_all;
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{OffsetFetchRequest, OffsetFetchResponse};

use super::group_words::{Mentions, wire_text};
use super::{Reply, RequestContext};
use crate::broker::Broker;
use crate::controller::MetadataImage;
use crate::error::{Disconnect, ErrorCode};
use crate::group::Shard;
use crate::group::offsets::FetchedOffset;
use crate::types::TopicId;
use crate::wire::message::Newer;

/// From this version on the group as a whole has an error code, and a client can ask for all topics.
const GROUP_CODE: i16 = 2;
/// From this version on there are several groups.
const BATCHED: i16 = 8;
/// From this version on topics are named by id.
const BY_ID: i16 = 10;

/// Answers OffsetFetch.
pub fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    Newer(request): Newer<OffsetFetchRequest>,
) -> Reply<OffsetFetchResponse> {
    let version = context.api_version;
    if version < GROUP_CODE && request.topics.is_none() {
        return Reply::Close(Disconnect::because("OffsetFetch 1 cannot ask for all topics"));
    }
    let groups = if version >= BATCHED { request.groups } else { vec![single(request)] };
    let image = broker.controller.image();
    let mut mentions = Mentions::default();
    let looks: Vec<_> = groups
        .into_iter()
        .map(|group| {
            let first = mentions.check(&group.group_id);
            let (asked, seen) = (group.clone(), image.clone());
            let look = move |shard: &Shard| offsets(shard, &asked, &seen, version);
            let look = first.map(|()| broker.groups.read(&group.group_id, look));
            let found = async move { look?.await };
            async move { found.await.unwrap_or_else(|code| refused(group, code, version)) }
        })
        .collect();
    Reply::later(async move { response(join_all(looks).await, version) })
}

/// The group of the versions that have one.
fn single(request: OffsetFetchRequest) -> OffsetFetchRequestGroup {
    let topic = |topic: OffsetFetchRequestTopic| {
        OffsetFetchRequestTopics::default().with_name(topic.name).with_partition_indexes(topic.partition_indexes)
    };
    OffsetFetchRequestGroup::default()
        .with_group_id(request.group_id)
        .with_topics(request.topics.map(|topics| topics.into_iter().map(topic).collect()))
}

fn offsets(
    shard: &Shard,
    asked: &OffsetFetchRequestGroup,
    image: &MetadataImage,
    version: i16,
) -> OffsetFetchResponseGroup {
    let committed = shard.group(&asked.group_id).map(|group| &group.offsets);
    let answer = OffsetFetchResponseGroup::default().with_group_id(asked.group_id.clone());
    let Some(topics) = &asked.topics else {
        let all = committed.into_iter().flat_map(|offsets| offsets.fetch_all());
        let all = all.filter_map(|(name, offsets)| {
            let topic = OffsetFetchResponseTopics::default().with_partitions(offsets.iter().map(partition).collect());
            if version < BY_ID {
                return Some(topic.with_name(wire_text(name).into()));
            }
            // A topic that is gone has no id to be named by.
            image.topic(name).map(|found| topic.with_topic_id(found.id.0))
        });
        return answer.with_topics(all.collect());
    };
    let topic = |asked: &OffsetFetchRequestTopics| {
        let (name, id) = if version >= BY_ID {
            match image.topic_by_id(TopicId(asked.topic_id)) {
                Some(found) => (&*found.name, found.id),
                None => return topic_refused(asked, ErrorCode::UNKNOWN_TOPIC_ID, version),
            }
        } else {
            (&**asked.name, image.topic(&asked.name).map_or(TopicId::ZERO, |found| found.id))
        };
        let fetch = |index: &i32| match committed {
            Some(offsets) => partition(&offsets.fetch(name, id, *index)),
            None => partition(&FetchedOffset::none(*index)),
        };
        named(asked, version).with_partitions(asked.partition_indexes.iter().map(fetch).collect())
    };
    answer.with_topics(topics.iter().map(topic).collect())
}

fn named(asked: &OffsetFetchRequestTopics, version: i16) -> OffsetFetchResponseTopics {
    let topic = OffsetFetchResponseTopics::default();
    if version >= BY_ID { topic.with_topic_id(asked.topic_id) } else { topic.with_name(asked.name.clone()) }
}

fn partition(fetched: &FetchedOffset) -> OffsetFetchResponsePartitions {
    OffsetFetchResponsePartitions::default()
        .with_partition_index(fetched.partition)
        .with_committed_offset(fetched.offset.get())
        .with_committed_leader_epoch(fetched.leader_epoch.get())
        .with_metadata(Some(wire_text(&fetched.metadata)))
}

fn topic_refused(asked: &OffsetFetchRequestTopics, code: ErrorCode, version: i16) -> OffsetFetchResponseTopics {
    let refused = |index: &i32| partition(&FetchedOffset::none(*index)).with_error_code(code.get());
    named(asked, version).with_partitions(asked.partition_indexes.iter().map(refused).collect())
}

/// Version 1 has no place for a group's code but its partitions.
fn refused(group: OffsetFetchRequestGroup, code: ErrorCode, version: i16) -> OffsetFetchResponseGroup {
    let answer = OffsetFetchResponseGroup::default().with_group_id(group.group_id).with_error_code(code.get());
    if version >= GROUP_CODE {
        return answer;
    }
    let topics = group.topics.unwrap_or_default();
    answer.with_topics(topics.iter().map(|topic| topic_refused(topic, code, version)).collect())
}

fn response(mut groups: Vec<OffsetFetchResponseGroup>, version: i16) -> OffsetFetchResponse {
    if version >= BATCHED {
        return OffsetFetchResponse::default().with_groups(groups);
    }
    let group = groups.swap_remove(0);
    let partition = |partition: OffsetFetchResponsePartitions| {
        OffsetFetchResponsePartition::default()
            .with_partition_index(partition.partition_index)
            .with_committed_offset(partition.committed_offset)
            .with_committed_leader_epoch(if version >= 5 { partition.committed_leader_epoch } else { -1 })
            .with_metadata(partition.metadata)
            .with_error_code(partition.error_code)
    };
    let topic = |topic: OffsetFetchResponseTopics| {
        OffsetFetchResponseTopic::default()
            .with_name(topic.name)
            .with_partitions(topic.partitions.into_iter().map(partition).collect())
    };
    OffsetFetchResponse::default()
        .with_topics(group.topics.into_iter().map(topic).collect())
        .with_error_code(if version >= GROUP_CODE { group.error_code } else { 0 })
}
