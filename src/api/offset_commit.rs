//! OffsetCommit 2–10: how far a group has come. Version 10 names topics by id (KIP-848). Answered when it is written.
//!
//! A topic or partition that is not there, or a note that is too long, spoils only its own partition; what is wrong
//! with the group or the member is the answer to all others.

use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse};

use super::group_words::{MAX_TEXT, text};
use super::{Reply, RequestContext};
use crate::broker::Broker;
use crate::controller::{MetadataImage, TopicImage};
use crate::env;
use crate::error::ErrorCode;
use crate::group::classic::append_code;
use crate::group::records::CommittedOffset;
use crate::group::{Ask, CommitRequest, Reply as Answer};
use crate::types::{LeaderEpoch, Offset, Timestamp, TopicId};
use crate::wire::message::Newer;

/// From this version on a group that is not there has a code of its own.
const TELLS_UNKNOWN_GROUPS: i16 = 9;
/// From this version on topics are named by id.
const BY_ID: i16 = 10;
/// "As long as the broker is set to", in the versions that can say otherwise.
const DEFAULT_RETENTION: i64 = -1;

/// A topic of the request; for each partition its own refusal, if it has one.
struct Judged {
    topic: OffsetCommitRequestTopic,
    refusals: Vec<Option<ErrorCode>>,
}

/// Answers OffsetCommit.
pub fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    Newer(request): Newer<OffsetCommitRequest>,
) -> Reply<OffsetCommitResponse> {
    let version = context.api_version;
    let retention = request.retention_time_ms;
    let max_note = usize::try_from(broker.config.offset_metadata_max_bytes).unwrap_or(0).min(MAX_TEXT);
    let image = broker.controller.image();
    let now = env::now();
    let expires_at = (retention != DEFAULT_RETENTION).then(|| Timestamp(now.0.saturating_add(retention)));
    let mut ask = CommitRequest {
        member_id: text(&request.member_id),
        instance_id: request.group_instance_id.as_ref().map(text),
        generation: request.generation_id_or_member_epoch,
        tells_unknown_groups: version >= TELLS_UNKNOWN_GROUPS,
        offsets: Vec::new(),
    };
    let rules = Rules { image: &image, by_id: version >= BY_ID, max_note, now, expires_at };
    let judged: Vec<Judged> = request.topics.into_iter().map(|topic| rules.judge(topic, &mut ask.offsets)).collect();
    if !judged.iter().any(Judged::concerns_the_group) {
        return Reply::Now(response(judged, Ok(()), version));
    }
    if request.group_id.len() > MAX_TEXT {
        return Reply::Now(response(judged, Err(ErrorCode::INVALID_GROUP_ID), version));
    }
    let answer = broker.groups.ask(&request.group_id, Ask::Commit(ask));
    let patience = Duration::from_millis(u64::try_from(broker.config.offsets_commit_timeout_ms).unwrap_or(0));
    Reply::later(async move {
        let outcome = match tokio::time::timeout(patience, answer).await {
            Ok(Answer::Commit(outcome)) => outcome,
            Ok(other) => unreachable!("OffsetCommit was answered with {other:?}"),
            // It may still be written: the client asks again.
            Err(_) => Err(append_code(ErrorCode::REQUEST_TIMED_OUT)),
        };
        response(judged, outcome, version)
    })
}

/// What a partition is judged by.
struct Rules<'a> {
    image: &'a MetadataImage,
    by_id: bool,
    max_note: usize,
    now: Timestamp,
    expires_at: Option<Timestamp>,
}

impl Rules<'_> {
    fn judge(&self, topic: OffsetCommitRequestTopic, offsets: &mut Vec<(Arc<str>, i32, CommittedOffset)>) -> Judged {
        let found = if self.by_id {
            self.image.topic_by_id(TopicId(topic.topic_id)).ok_or(ErrorCode::UNKNOWN_TOPIC_ID)
        } else {
            self.image.topic(&topic.name).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
        };
        let mut refusals = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            refusals.push(match found {
                Err(code) => Some(code),
                Ok(found) => match self.judge_partition(found, partition) {
                    Err(code) => Some(code),
                    Ok(value) => {
                        offsets.push((found.name.clone(), partition.partition_index, value));
                        None
                    }
                },
            });
        }
        Judged { topic, refusals }
    }

    fn judge_partition(
        &self,
        topic: &TopicImage,
        partition: &OffsetCommitRequestPartition,
    ) -> Result<CommittedOffset, ErrorCode> {
        topic.partition(partition.partition_index).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
        let note = partition.committed_metadata.as_deref().unwrap_or_default();
        // Kafka counts as Java does.
        if note.len() > MAX_TEXT || note.encode_utf16().count() > self.max_note {
            return Err(ErrorCode::OFFSET_METADATA_TOO_LARGE);
        }
        Ok(CommittedOffset {
            offset: Offset(partition.committed_offset),
            leader_epoch: LeaderEpoch(partition.committed_leader_epoch),
            metadata: note.into(),
            committed_at: self.now,
            expires_at: self.expires_at,
            topic_id: topic.id,
        })
    }
}

impl Judged {
    /// True when one of its partitions exists.
    fn concerns_the_group(&self) -> bool {
        self.refusals.iter().any(|refusal| matches!(refusal, None | Some(ErrorCode::OFFSET_METADATA_TOO_LARGE)))
    }
}

/// Each partition's own refusal, or what became of the commit.
fn response(judged: Vec<Judged>, outcome: Result<(), ErrorCode>, version: i16) -> OffsetCommitResponse {
    let common = outcome.err();
    let of_topic = |Judged { topic, refusals }: Judged| {
        let of_partition = |(partition, refusal): (&OffsetCommitRequestPartition, Option<ErrorCode>)| {
            // A note that is too long matters only to who may commit.
            let refusal = match refusal {
                Some(ErrorCode::OFFSET_METADATA_TOO_LARGE) | None => common.or(refusal),
                Some(_) => refusal,
            };
            OffsetCommitResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(refusal.unwrap_or(ErrorCode::NONE).get())
        };
        let partitions = topic.partitions.iter().zip(refusals).map(of_partition).collect();
        let answer = OffsetCommitResponseTopic::default().with_partitions(partitions);
        if version >= BY_ID { answer.with_topic_id(topic.topic_id) } else { answer.with_name(topic.name) }
    };
    OffsetCommitResponse::default().with_topics(judged.into_iter().map(of_topic).collect())
}
