//! ListOffsets, key 2, versions 1–11.
//!
//! Finds offsets: the log start (-2, and -4: all of a log is local here), the high watermark (-1), the record with the
//! largest timestamp (-3), the first record at or after a time. What is not there is offset -1 without an error. -5 and
//! -6 ask for tiered storage, which has nothing. A special timestamp that the version does not know, and any other
//! negative one, is UNSUPPORTED_VERSION; a partition that a request names twice is INVALID_REQUEST, both times.
//!
//! v4: leader epochs. v5: OFFSET_NOT_AVAILABLE, before that LEADER_NOT_AVAILABLE. v7: -3. v8: -4. v9: -5. v10: a timeout,
//! for tiered storage only. v11: -6. A replica id means nothing here: a follower would be answered as a consumer.

use std::collections::HashSet;
use std::sync::Arc;

use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};

use super::{Reply, RequestContext};
use crate::broker::Broker;
use crate::error::{ErrorCode, StoreError};
use crate::log::TimestampLookup;
use crate::replica::Replicas;
use crate::replica::partition::{Found, Lookup};
use crate::types::{LeaderEpoch, Offset, Timestamp};
use crate::wire::message::Newer;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

/// The first version that knows OFFSET_NOT_AVAILABLE (KIP-207).
const OFFSET_NOT_AVAILABLE_FROM: i16 = 5;

/// What a partition is answered: now, or after a search on a blocking thread.
enum Outcome {
    Now(ListOffsetsPartitionResponse),
    Search { place: (usize, usize), search: TimestampLookup, lagging: bool },
}

/// Serves a request.
pub fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: Newer<ListOffsetsRequest>,
) -> Reply<Newer<ListOffsetsResponse>> {
    let version = context.api_version;
    let topics = request.0.topics;
    let repeated = repeated(&topics);
    let mut searches = Vec::new();
    let mut answers = Vec::with_capacity(topics.len());
    for (t, topic) in topics.iter().enumerate() {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for (p, asked) in topic.partitions.iter().enumerate() {
            let outcome = if repeated.contains(&(topic.name.as_str(), asked.partition_index)) {
                Outcome::Now(refused(asked.partition_index, ErrorCode::INVALID_REQUEST))
            } else {
                look_up(&broker.replicas, topic, asked, (version, (t, p)))
            };
            partitions.push(match outcome {
                Outcome::Now(answer) => answer,
                search => {
                    searches.push(search);
                    refused(asked.partition_index, ErrorCode::NONE)
                }
            });
        }
        answers.push(ListOffsetsTopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions));
    }
    let mut response = ListOffsetsResponse::default().with_topics(answers);
    if searches.is_empty() {
        return Reply::Now(Newer(response));
    }
    let replicas = Arc::clone(&broker.replicas);
    Reply::later(async move {
        for outcome in searches {
            let Outcome::Search { place: (t, p), search, lagging } = outcome else { continue };
            let answer = &mut response.topics[t].partitions[p];
            *answer = found(answer.partition_index, run(&replicas, search).await, lagging, version);
        }
        Newer(response)
    })
}

/// Partitions that a request names more than once.
fn repeated(topics: &[ListOffsetsTopic]) -> HashSet<(&str, i32)> {
    let mut seen = HashSet::new();
    let names =
        topics.iter().flat_map(|topic| topic.partitions.iter().map(|p| (topic.name.as_str(), p.partition_index)));
    names.filter(|name| !seen.insert(*name)).collect()
}

fn look_up(
    replicas: &Replicas,
    topic: &ListOffsetsTopic,
    asked: &ListOffsetsPartition,
    (version, place): (i16, (usize, usize)),
) -> Outcome {
    let index = asked.partition_index;
    let what = match lookup(asked.timestamp, version) {
        Ok(what) => what,
        Err(error) => return Outcome::Now(refused(index, error)),
    };
    let partition = replicas.partition(&topic.name, index);
    // Who asks for tiered storage is told first, as everybody, when the partition is not there or has another epoch.
    let (local, epoch) = (what.unwrap_or(Lookup::Earliest), LeaderEpoch(asked.current_leader_epoch));
    match partition.and_then(|partition| partition.lookup(local, epoch)) {
        Ok(_) if what.is_none() => Outcome::Now(refused(index, ErrorCode::NONE)),
        Ok(Found::End(offset, epoch)) => Outcome::Now(answer(index, offset, Timestamp::NONE, epoch, version)),
        Ok(Found::Search { search, lagging }) => Outcome::Search { place, search, lagging },
        Err(ErrorCode::OFFSET_NOT_AVAILABLE) => Outcome::Now(refused(index, not_available(version))),
        Err(error) => Outcome::Now(refused(index, error)),
    }
}

/// What a timestamp asks for; `None` for tiered storage, where there is nothing.
fn lookup(timestamp: i64, version: i16) -> Result<Option<Lookup>, ErrorCode> {
    let (what, from) = match timestamp {
        EARLIEST => (Some(Lookup::Earliest), 1),
        LATEST => (Some(Lookup::Latest), 1),
        MAX_TIMESTAMP => (Some(Lookup::MaxTimestamp), 7),
        EARLIEST_LOCAL => (Some(Lookup::Earliest), 8),
        LATEST_TIERED => (None, 9),
        EARLIEST_PENDING_UPLOAD => (None, 11),
        other if other < 0 => return Err(ErrorCode::UNSUPPORTED_VERSION),
        time => (Some(Lookup::Timestamp(Timestamp(time))), 1),
    };
    if version < from { Err(ErrorCode::UNSUPPORTED_VERSION) } else { Ok(what) }
}

type Searched = Result<Option<crate::log::TimestampOffset>, StoreError>;

async fn run(replicas: &Replicas, search: TimestampLookup) -> Searched {
    let permit = Arc::clone(&replicas.cold_reads).acquire_owned().await.expect("the semaphore is never closed");
    let searched = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        search.run()
    });
    searched.await.map_err(StoreError::from)?
}

fn found(index: i32, searched: Searched, lagging: bool, version: i16) -> ListOffsetsPartitionResponse {
    match searched {
        Ok(Some(found)) => answer(index, found.offset, found.timestamp, found.leader_epoch, version),
        Ok(None) if lagging => refused(index, not_available(version)),
        Ok(None) => refused(index, ErrorCode::NONE),
        Err(error) => {
            tracing::error!(%error, "an offset could not be looked up by its time");
            refused(index, ErrorCode::KAFKA_STORAGE_ERROR)
        }
    }
}

fn not_available(version: i16) -> ErrorCode {
    if version >= OFFSET_NOT_AVAILABLE_FROM { ErrorCode::OFFSET_NOT_AVAILABLE } else { ErrorCode::LEADER_NOT_AVAILABLE }
}

fn answer(
    index: i32,
    offset: Offset,
    time: Timestamp,
    epoch: LeaderEpoch,
    version: i16,
) -> ListOffsetsPartitionResponse {
    let epoch = if version >= 4 { epoch } else { LeaderEpoch::UNKNOWN };
    ListOffsetsPartitionResponse::default()
        .with_partition_index(index)
        .with_timestamp(time.get())
        .with_offset(offset.get())
        .with_leader_epoch(epoch.get())
}

/// An error, or nothing found.
fn refused(index: i32, error: ErrorCode) -> ListOffsetsPartitionResponse {
    answer(index, Offset::UNKNOWN, Timestamp::NONE, LeaderEpoch::UNKNOWN, 0).with_error_code(error.get())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_special_timestamp_needs_the_version_that_brought_it() {
        for (timestamp, from) in [(-1, 1), (-2, 1), (-3, 7), (-4, 8), (-5, 9), (-6, 11)] {
            for version in 1..=11 {
                assert_eq!(lookup(timestamp, version).is_ok(), version >= from, "{timestamp} in version {version}");
            }
        }
        assert_eq!(lookup(-7, 11), Err(ErrorCode::UNSUPPORTED_VERSION));
        assert_eq!(lookup(i64::MIN, 11), Err(ErrorCode::UNSUPPORTED_VERSION));
    }

    #[test]
    fn tiered_storage_has_nothing() {
        assert_eq!(lookup(LATEST_TIERED, 9), Ok(None));
        assert_eq!(lookup(EARLIEST_PENDING_UPLOAD, 11), Ok(None));
    }

    #[test]
    fn a_partition_named_twice_is_noticed() {
        let partition = |index| ListOffsetsPartition::default().with_partition_index(index);
        let name =
            || kafka_protocol::messages::TopicName::from(kafka_protocol::protocol::StrBytes::from_static_str("t"));
        let topic = |partitions| ListOffsetsTopic::default().with_name(name()).with_partitions(partitions);
        let topics = [topic(vec![partition(0), partition(1)]), topic(vec![partition(1)])];
        assert_eq!(repeated(&topics), HashSet::from([("t", 1)]));
    }
}
