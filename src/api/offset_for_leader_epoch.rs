//! OffsetForLeaderEpoch, key 23, versions 2–4.
//!
//! Tells where a leader epoch ended in this log, so that a consumer finds out whether what it has read was truncated
//! (KIP-320). Answers the largest epoch that is not above the one asked for; -1 and -1 when there is none.
//! v3: replica id, which means nothing here: a follower is answered as a consumer. v4: flexible.

use std::sync::Arc;

use kafka_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use kafka_protocol::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use kafka_protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};

use super::{Reply, RequestContext};
use crate::broker::Broker;
use crate::error::ErrorCode;
use crate::types::{LeaderEpoch, Offset};

/// Serves a request.
pub fn handle(
    broker: &Arc<Broker>,
    _context: &RequestContext,
    request: OffsetForLeaderEpochRequest,
) -> Reply<OffsetForLeaderEpochResponse> {
    let topics = request.topics.into_iter().map(|topic| {
        let answer = |asked| end_offset(broker, &topic.topic, asked);
        let partitions = topic.partitions.iter().map(answer).collect();
        OffsetForLeaderTopicResult::default().with_topic(topic.topic.clone()).with_partitions(partitions)
    });
    Reply::Now(OffsetForLeaderEpochResponse::default().with_topics(topics.collect()))
}

fn end_offset(broker: &Arc<Broker>, topic: &str, asked: &OffsetForLeaderPartition) -> EpochEndOffset {
    let found = broker.replicas.partition(topic, asked.partition).and_then(|partition| {
        partition.epoch_end_offset(LeaderEpoch(asked.current_leader_epoch), LeaderEpoch(asked.leader_epoch))
    });
    let (error, (epoch, end)) = match found {
        Ok(found) => (ErrorCode::NONE, found),
        Err(error) => (error, (LeaderEpoch::UNKNOWN, Offset::UNKNOWN)),
    };
    EpochEndOffset::default()
        .with_error_code(error.get())
        .with_partition(asked.partition)
        .with_leader_epoch(epoch.get())
        .with_end_offset(end.get())
}
