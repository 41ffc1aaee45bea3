//! OffsetCommit (8) and OffsetFetch (9).

use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::{
    GroupId, OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse,
};
use ottla_protocol_tests::client::{Client, decode_whole};
use ottla_protocol_tests::group::{self, Member};
use ottla_protocol_tests::steps::{Topic, create_topic};
use ottla_protocol_tests::writer::Writer;
use ottla_protocol_tests::{apis, code, text, unique};
use uuid::Uuid;

const COMMIT: i16 = 8;
const FETCH: i16 = 9;
/// The first version of both that names topics by id; the codec lacks it.
const BY_ID: i16 = 10;

/// What a fetch tells of a partition: offset, leader epoch, metadata, error.
type Committed = (i64, i32, String, i16);

#[derive(Clone)]
struct Position<'a> {
    partition: i32,
    offset: i64,
    epoch: i32,
    metadata: Option<&'a str>,
}

fn at(offset: i64) -> Position<'static> {
    Position { partition: 0, offset, epoch: -1, metadata: Some("") }
}

/// Commits one position; returns the code of its partition.
async fn commit(client: &mut Client, version: i16, who: &Member, topic: &Topic, position: Position<'_>) -> i16 {
    let response = commit_all(client, version, who, &[(topic, position.clone())]).await;
    assert_eq!((response.throttle_time_ms, response.topics.len()), (0, 1));
    let answer = &response.topics[0];
    assert_eq!(answer.name.as_str(), if version >= BY_ID { "" } else { &topic.name });
    assert_eq!(answer.topic_id, if version >= BY_ID { topic.id } else { Uuid::nil() });
    assert_eq!((answer.partitions.len(), answer.partitions[0].partition_index), (1, position.partition));
    answer.partitions[0].error_code
}

/// Commits a position of each topic.
async fn commit_all(
    client: &mut Client,
    version: i16,
    who: &Member,
    positions: &[(&Topic, Position<'_>)],
) -> OffsetCommitResponse {
    if version >= BY_ID {
        return commit_by_id(client, who, positions).await;
    }
    let mut request = commit_request(version, who, positions[0].0, &positions[0].1);
    for (topic, position) in &positions[1..] {
        request.topics.extend(commit_request(version, who, topic, position).topics);
    }
    client.call(version, &request).await
}

fn commit_request(version: i16, who: &Member, topic: &Topic, position: &Position<'_>) -> OffsetCommitRequest {
    let mut partition = OffsetCommitRequestPartition::default()
        .with_partition_index(position.partition)
        .with_committed_offset(position.offset)
        .with_committed_metadata(position.metadata.map(text));
    if version >= 6 {
        partition.committed_leader_epoch = position.epoch;
    }
    let named = OffsetCommitRequestTopic::default().with_name(topic.topic_name()).with_partitions(vec![partition]);
    let mut request = OffsetCommitRequest::default()
        .with_group_id(who.group_id())
        .with_generation_id_or_member_epoch(who.generation)
        .with_member_id(text(&who.id))
        .with_topics(vec![named]);
    if version >= 7 {
        request.group_instance_id = who.instance.as_deref().map(text);
    }
    request
}

async fn commit_by_id(client: &mut Client, who: &Member, positions: &[(&Topic, Position<'_>)]) -> OffsetCommitResponse {
    let head = Writer::new().compact_string(&who.group).i32(who.generation).compact_string(&who.id);
    let mut body = head.compact_nullable(who.instance.as_deref()).compact_count(positions.len());
    for (topic, position) in positions {
        body = body.uuid(topic.id).compact_count(1).i32(position.partition).i64(position.offset).i32(position.epoch);
        body = body.compact_nullable(position.metadata).no_tags().no_tags();
    }
    decode_whole(client.call_body(COMMIT, BY_ID, &body.no_tags().bytes).await, BY_ID)
}

/// Fetches one partition's committed offset.
async fn committed(client: &mut Client, version: i16, group: &str, topic: &Topic, partition: i32) -> Committed {
    let response = fetch(client, version, &[(group, Some((topic, partition)))], false).await;
    assert_eq!((response.throttle_time_ms, response.error_code), (0, code::NONE));
    if version < 8 {
        let data = &response.topics[0].partitions[0];
        assert_eq!(data.partition_index, partition);
        let metadata = data.metadata.as_deref().expect("metadata is never null").to_owned();
        return (data.committed_offset, data.committed_leader_epoch, metadata, data.error_code);
    }
    let answered = &response.groups[0];
    assert_eq!((answered.group_id.as_str(), answered.error_code), (group, code::NONE));
    assert_eq!(answered.topics[0].topic_id, if version >= BY_ID { topic.id } else { Uuid::nil() });
    let data = &answered.topics[0].partitions[0];
    assert_eq!(data.partition_index, partition);
    let metadata = data.metadata.as_deref().expect("metadata is never null").to_owned();
    (data.committed_offset, data.committed_leader_epoch, metadata, data.error_code)
}

/// What is asked of a group: one partition, or with `None` all that it has.
type Asked<'a> = (&'a str, Option<(&'a Topic, i32)>);

/// Fetches for several groups; below version 8 for one.
async fn fetch(client: &mut Client, version: i16, asked: &[Asked<'_>], stable: bool) -> OffsetFetchResponse {
    if version >= BY_ID {
        return fetch_by_id(client, asked, stable).await;
    }
    let mut request = fetch_request(version, asked[0]).with_require_stable(stable);
    for other in &asked[1..] {
        request.groups.extend(fetch_request(version, *other).groups);
    }
    client.call(version, &request).await
}

fn fetch_request(version: i16, (group, only): Asked<'_>) -> OffsetFetchRequest {
    let mut request = OffsetFetchRequest::default();
    if version < 8 {
        let topic = |(topic, partition): (&Topic, i32)| {
            let named = OffsetFetchRequestTopic::default().with_name(topic.topic_name());
            vec![named.with_partition_indexes(vec![partition])]
        };
        return request.with_group_id(GroupId(text(group))).with_topics(only.map(topic));
    }
    let topic = |(topic, partition): (&Topic, i32)| {
        let named = OffsetFetchRequestTopics::default().with_name(topic.topic_name());
        vec![named.with_partition_indexes(vec![partition])]
    };
    let asked = OffsetFetchRequestGroup::default().with_group_id(GroupId(text(group))).with_topics(only.map(topic));
    request.groups = vec![asked];
    request
}

async fn fetch_by_id(client: &mut Client, asked: &[Asked<'_>], stable: bool) -> OffsetFetchResponse {
    let mut body = Writer::new().compact_count(asked.len());
    for (group, only) in asked {
        let (no_member, no_epoch) = (None, -1);
        body = body.compact_string(group).compact_nullable(no_member).i32(no_epoch);
        body = match only {
            Some((topic, partition)) => {
                body.compact_count(1).uuid(topic.id).compact_count(1).i32(*partition).no_tags().no_tags()
            }
            None => body.varint(0).no_tags(),
        };
    }
    decode_whole(client.call_body(FETCH, BY_ID, &body.i8(i8::from(stable)).no_tags().bytes).await, BY_ID)
}

/// The versions of OffsetFetch from one on.
fn fetches_from(first: i16) -> std::ops::RangeInclusive<i16> {
    first..=*apis::versions(FETCH).end()
}

async fn fresh() -> (Client, Topic, Member) {
    let mut client = group::connect().await;
    let topic = create_topic(&mut client, 2, &[]).await;
    (client, topic, Member::new(&unique("offsets")))
}

const NOTHING: (i64, i32, &str, i16) = (-1, -1, "", code::NONE);

fn is_nothing(found: &Committed) -> bool {
    (found.0, found.1, found.2.as_str(), found.3) == NOTHING
}

#[tokio::test]
async fn what_one_version_commits_every_version_fetches() {
    let (mut client, topic, nobody) = fresh().await;
    for writing in apis::versions(COMMIT) {
        let offset = 1_000 + i64::from(writing);
        let position = Position { partition: 1, offset, epoch: 0, metadata: Some("note") };
        assert_eq!(commit(&mut client, writing, &nobody, &topic, position).await, code::NONE, "v{writing}");
        for reading in apis::versions(FETCH) {
            let found = committed(&mut client, reading, &nobody.group, &topic, 1).await;
            // The epoch is committed from version 6 on and told from version 5 on.
            let epoch = if writing >= 6 && reading >= 5 { 0 } else { -1 };
            assert_eq!(found, (offset, epoch, "note".to_owned(), code::NONE), "v{writing}, then v{reading}");
        }
    }
}

#[tokio::test]
async fn null_metadata_comes_back_empty() {
    let (mut client, topic, nobody) = fresh().await;
    for version in apis::versions(COMMIT) {
        let position = Position { metadata: None, ..at(7) };
        assert_eq!(commit(&mut client, version, &nobody, &topic, position).await, code::NONE);
        for version in apis::versions(FETCH) {
            assert_eq!(committed(&mut client, version, &nobody.group, &topic, 0).await.2, "", "v{version}");
        }
    }
}

#[tokio::test]
async fn a_group_or_a_partition_without_commits_has_no_offset_and_no_error() {
    let (mut client, topic, nobody) = fresh().await;
    for version in apis::versions(FETCH) {
        let absent = unique("absent");
        assert!(is_nothing(&committed(&mut client, version, &absent, &topic, 0).await), "v{version}");
    }
    commit(&mut client, 9, &nobody, &topic, at(5)).await;
    for version in apis::versions(FETCH) {
        for partition in [1, 99] {
            assert!(is_nothing(&committed(&mut client, version, &nobody.group, &topic, partition).await), "v{version}");
        }
        if version < BY_ID {
            let unknown = Topic { name: unique("absent"), id: Uuid::nil() };
            assert!(is_nothing(&committed(&mut client, version, &nobody.group, &unknown, 0).await), "v{version}");
        }
    }
}

#[tokio::test]
async fn all_of_a_groups_offsets_are_fetched_with_null_topics() {
    let (mut client, topic, nobody) = fresh().await;
    for version in fetches_from(2) {
        let response = fetch(&mut client, version, &[(&unique("absent"), None)], false).await;
        assert!(response.topics.is_empty() && response.groups.iter().all(|group| group.topics.is_empty()));
    }
    for partition in [0, 1] {
        commit(&mut client, 9, &nobody, &topic, Position { partition, ..at(50) }).await;
    }
    for version in fetches_from(2) {
        let response = fetch(&mut client, version, &[(&nobody.group, None)], false).await;
        let mut found: Vec<(i32, i64)> = if version < 8 {
            assert_eq!(response.topics[0].name, topic.topic_name());
            response.topics[0].partitions.iter().map(|data| (data.partition_index, data.committed_offset)).collect()
        } else {
            let answered = &response.groups[0].topics[0];
            assert_eq!(answered.name.as_str(), if version >= BY_ID { "" } else { &topic.name }, "v{version}");
            assert_eq!(answered.topic_id, if version >= BY_ID { topic.id } else { Uuid::nil() }, "v{version}");
            answered.partitions.iter().map(|data| (data.partition_index, data.committed_offset)).collect()
        };
        found.sort_unstable();
        assert_eq!(found, [(0, 50), (1, 50)], "v{version}");
    }
}

#[tokio::test]
async fn version_8_and_newer_fetch_for_several_groups_at_once() {
    let (mut client, topic, first) = fresh().await;
    let second = Member::new(&unique("offsets"));
    commit(&mut client, 9, &first, &topic, at(1)).await;
    commit(&mut client, 9, &second, &topic, at(2)).await;
    for version in fetches_from(8) {
        let asked: [Asked<'_>; 2] = [(&first.group, Some((&topic, 0))), (&second.group, None)];
        let response = fetch(&mut client, version, &asked, false).await;
        let found: Vec<(&str, i64)> = response
            .groups
            .iter()
            .map(|group| (group.group_id.as_str(), group.topics[0].partitions[0].committed_offset))
            .collect();
        assert_eq!(found, [(first.group.as_str(), 1), (second.group.as_str(), 2)], "v{version}");
    }
}

#[tokio::test]
async fn a_stable_fetch_sees_offsets_that_no_transaction_holds() {
    let (mut client, topic, nobody) = fresh().await;
    commit(&mut client, 9, &nobody, &topic, at(3)).await;
    for version in fetches_from(7) {
        let response = fetch(&mut client, version, &[(&nobody.group, Some((&topic, 0)))], true).await;
        let offset = match version {
            7 => response.topics[0].partitions[0].committed_offset,
            _ => response.groups[0].topics[0].partitions[0].committed_offset,
        };
        assert_eq!(offset, 3, "v{version}");
    }
}

#[tokio::test]
async fn a_topic_or_partition_that_does_not_exist_takes_no_commit() {
    let (mut client, topic, nobody) = fresh().await;
    for version in apis::versions(COMMIT) {
        let absent = Topic { name: unique("absent"), id: Uuid::new_v4() };
        let expected = if version >= BY_ID { code::UNKNOWN_TOPIC_ID } else { code::UNKNOWN_TOPIC_OR_PARTITION };
        assert_eq!(commit(&mut client, version, &nobody, &absent, at(1)).await, expected, "v{version}");
        let beyond = Position { partition: 7, ..at(1) };
        let code = commit(&mut client, version, &nobody, &topic, beyond).await;
        assert_eq!(code, code::UNKNOWN_TOPIC_OR_PARTITION, "v{version}");
    }
}

#[tokio::test]
async fn a_fetch_by_an_unknown_id_is_refused_in_its_place() {
    let (mut client, _, nobody) = fresh().await;
    let absent = Topic { name: String::new(), id: Uuid::new_v4() };
    let found = committed(&mut client, BY_ID, &nobody.group, &absent, 0).await;
    assert_eq!(found, (-1, -1, String::new(), code::UNKNOWN_TOPIC_ID));
}

#[tokio::test]
async fn one_bad_topic_does_not_spoil_its_neighbours() {
    let (mut client, topic, nobody) = fresh().await;
    for version in apis::versions(COMMIT) {
        let absent = Topic { name: unique("absent"), id: Uuid::new_v4() };
        let positions = [(&topic, at(i64::from(version))), (&absent, at(1))];
        let response = commit_all(&mut client, version, &nobody, &positions).await;
        let mut codes: Vec<i16> = response.topics.iter().map(|topic| topic.partitions[0].error_code).collect();
        codes.sort_unstable();
        let refused = if version >= BY_ID { code::UNKNOWN_TOPIC_ID } else { code::UNKNOWN_TOPIC_OR_PARTITION };
        assert_eq!(codes, [code::NONE, refused], "v{version}");
        assert_eq!(committed(&mut client, 9, &nobody.group, &topic, 0).await.0, i64::from(version));
    }
}

#[tokio::test]
async fn metadata_larger_than_the_limit_is_refused_and_the_limit_itself_fits() {
    let (mut client, topic, nobody) = fresh().await;
    let (fits, large) = ("x".repeat(4_096), "x".repeat(4_097));
    for version in apis::versions(COMMIT) {
        let position = Position { metadata: Some(&fits), ..at(1) };
        assert_eq!(commit(&mut client, version, &nobody, &topic, position).await, code::NONE, "v{version}");
        let position = Position { metadata: Some(&large), ..at(2) };
        let code = commit(&mut client, version, &nobody, &topic, position).await;
        assert_eq!(code, code::OFFSET_METADATA_TOO_LARGE, "v{version}");
        assert_eq!(committed(&mut client, 9, &nobody.group, &topic, 0).await.0, 1);
    }
}

#[tokio::test]
async fn a_negative_offset_is_taken_as_it_is() {
    // Kafka checks nothing here; -1 then reads like "no offset".
    let (mut client, topic, nobody) = fresh().await;
    for version in apis::versions(COMMIT) {
        for offset in [-5, -1] {
            assert_eq!(commit(&mut client, version, &nobody, &topic, at(offset)).await, code::NONE);
            assert_eq!(committed(&mut client, 9, &nobody.group, &topic, 0).await.0, offset, "v{version}");
        }
    }
}

#[tokio::test]
async fn the_group_without_a_name_may_keep_offsets() {
    // For consumers without a group, from before there were groups. No other API takes the empty name.
    let (mut client, topic, _) = fresh().await;
    let nameless = Member::new("");
    for version in apis::versions(COMMIT) {
        let offset = i64::from(version);
        assert_eq!(commit(&mut client, version, &nameless, &topic, at(offset)).await, code::NONE, "v{version}");
        let reading = version.min(9);
        assert_eq!(committed(&mut client, reading, "", &topic, 0).await.0, offset, "v{version}");
    }
}

#[tokio::test]
async fn only_the_current_generation_commits_at_every_version() {
    let (mut client, topic, _) = fresh().await;
    let member = Member::alone(&unique("generation"), &mut client).await;
    for version in apis::versions(COMMIT) {
        assert_eq!(commit(&mut client, version, &member, &topic, at(10)).await, code::NONE, "v{version}");
        for generation in [0, 2] {
            let stale = Member { generation, ..member.clone() };
            let code = commit(&mut client, version, &stale, &topic, at(11)).await;
            assert_eq!(code, code::ILLEGAL_GENERATION, "v{version} generation {generation}");
        }
        let stranger = Member { id: "stranger".to_owned(), ..member.clone() };
        let code = commit(&mut client, version, &stranger, &topic, at(12)).await;
        assert_eq!(code, code::UNKNOWN_MEMBER_ID, "v{version}");
        // Without a generation it is a commit from outside, which a group with members refuses.
        let outside = Member::new(&member.group);
        let code = commit(&mut client, version, &outside, &topic, at(13)).await;
        assert_eq!(code, code::UNKNOWN_MEMBER_ID, "v{version}");
        assert_eq!(committed(&mut client, 9, &member.group, &topic, 0).await.0, 10);
    }
}

#[tokio::test]
async fn a_generation_of_a_group_that_does_not_exist_is_illegal() {
    let (mut client, topic, _) = fresh().await;
    for version in apis::versions(COMMIT) {
        let member = Member { generation: 3, id: "gone".to_owned(), ..Member::new(&unique("absent")) };
        let code = commit(&mut client, version, &member, &topic, at(1)).await;
        let expected = if version >= 9 { code::GROUP_ID_NOT_FOUND } else { code::ILLEGAL_GENERATION };
        assert_eq!(code, expected, "v{version}");
    }
}

#[tokio::test]
async fn a_static_members_old_process_is_fenced_from_version_7() {
    let (mut client, topic, _) = fresh().await;
    let mut member = Member::new(&unique("fenced")).instance("instance");
    member.join(&mut client, 9).await;
    member.sync(&mut client, 5, &[(&member.id, "all")]).await;
    let impostor = Member { id: "impostor".to_owned(), ..member.clone() };
    for version in 7..=*apis::versions(COMMIT).end() {
        assert_eq!(
            commit(&mut client, version, &impostor, &topic, at(1)).await,
            code::FENCED_INSTANCE_ID,
            "v{version}"
        );
        assert_eq!(commit(&mut client, version, &member, &topic, at(2)).await, code::NONE, "v{version}");
    }
}

#[tokio::test]
async fn offsets_outlive_the_members_and_a_rebalance_keeps_them() {
    let (mut client, topic, _) = fresh().await;
    let member = Member::alone(&unique("outlive"), &mut client).await;
    commit(&mut client, 9, &member, &topic, at(42)).await;
    member.leave(&mut client, 5).await;
    assert_eq!(committed(&mut client, 9, &member.group, &topic, 0).await.0, 42);
    let next = Member::alone(&member.group, &mut client).await;
    assert_eq!(committed(&mut client, 9, &next.group, &topic, 0).await.0, 42);
    // A group that is empty takes commits from outside again.
    next.leave(&mut client, 5).await;
    assert_eq!(commit(&mut client, 9, &Member::new(&next.group), &topic, at(7)).await, code::NONE);
}

#[tokio::test]
async fn a_commit_while_the_group_waits_for_its_leader_is_sent_back() {
    let (mut client, topic, _) = fresh().await;
    let mut member = Member::new(&unique("completing"));
    member.join(&mut client, 9).await;
    for version in apis::versions(COMMIT) {
        let code = commit(&mut client, version, &member, &topic, at(1)).await;
        assert_eq!(code, code::REBALANCE_IN_PROGRESS, "v{version}");
    }
}
