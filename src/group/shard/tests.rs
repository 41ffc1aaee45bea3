//! Claims about what a shard shows, and when.

use super::*;
use crate::group::classic::Protocol;
use crate::types::{LeaderEpoch, Offset, Timestamp};

const DAY: i64 = 86_400_000;
const ROOM: Room = Room { groups: 1_000, bytes: 1 << 20 };

fn rules() -> Rules {
    Rules { initial_rebalance_delay_ms: 0, max_members: 100, new_member_timeout_ms: 300_000, max_group_bytes: 1 << 20 }
}

fn at(tick: u64) -> Now {
    Now { tick: Tick(tick), wall: Timestamp(1_700_000_000_000 + i64::try_from(tick).expect("small")) }
}

fn commit_of(topic: &str, offset: i64, now: Now) -> CommitRequest {
    let value = CommittedOffset {
        offset: Offset(offset),
        leader_epoch: LeaderEpoch::UNKNOWN,
        metadata: "note".into(),
        committed_at: now.wall,
        expires_at: None,
        topic_id: TopicId::ZERO,
    };
    CommitRequest {
        member_id: "".into(),
        instance_id: None,
        generation: -1,
        tells_unknown_groups: true,
        offsets: vec![(topic.into(), 0, value)],
    }
}

fn join_request(member_id: &str, new_id: &str) -> JoinRequest {
    JoinRequest {
        member_id: member_id.into(),
        new_member_id: new_id.into(),
        instance_id: None,
        client_id: "c".into(),
        client_host: "/::1".into(),
        protocol_type: "consumer".into(),
        protocols: vec![Protocol {
            name: "range".into(),
            metadata: bytes::Bytes::from_static(b"\0\x01\0\0\0\x01\0\x01t\xff\xff\xff\xff"),
        }],
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        needs_member_id: false,
        skips_assignment: false,
    }
}

fn committed(shard: &mut Shard, group: &Arc<str>, topic: &str, offset: i64, now: Now) {
    let outcome = shard.ask(now, group, Ask::Commit(commit_of(topic, offset, now)), Waiter(1), ROOM);
    let [append] = <[Append; 1]>::try_from(outcome.appends).expect("one append");
    let answered = shard.appended(now, append, Ok(()));
    assert_eq!(answered.answers, [(Waiter(1), Reply::Commit(Ok(())))]);
}

fn fetched(shard: &Shard, group: &str, topic: &str) -> Option<Offset> {
    shard.group(group).map(|group| group.offsets.fetch(topic, TopicId::ZERO, 0).offset)
}

/// Writes what was decided, and what follows, until nothing follows.
fn write_all(shard: &mut Shard, now: Now, appends: Vec<Append>) -> Vec<Record> {
    let mut written = Vec::new();
    let mut queue = std::collections::VecDeque::from(appends);
    while let Some(append) = queue.pop_front() {
        written.extend(append.records.clone());
        queue.extend(shard.appended(now, append, Ok(())).appends);
    }
    written
}

/// A stable group of one member, by its id "m".
fn stable(shard: &mut Shard, group: &Arc<str>, now: Now) -> Vec<Record> {
    shard.ask(now, group, Ask::Join(join_request("", "m")), Waiter(10), ROOM);
    let joined = shard.expire(now);
    assert!(matches!(&joined.answers[..], [(Waiter(10), Reply::Join(reply))] if !reply.code.is_error()), "{joined:?}");
    let request = SyncRequest {
        member_id: "m".into(),
        instance_id: None,
        generation: shard.group(group).expect("it is there").classic.generation(),
        protocol_type: None,
        protocol: None,
        assignment: BTreeMap::new(),
    };
    let outcome = shard.ask(now, group, Ask::Sync(request), Waiter(11), ROOM);
    write_all(shard, now, outcome.appends)
}

#[test]
fn a_commit_is_answered_and_shown_when_it_is_written_and_not_before() {
    let (mut shard, group) = (Shard::new(rules()), Arc::from("g"));
    let outcome = shard.ask(at(0), &group, Ask::Commit(commit_of("t", 5, at(0))), Waiter(1), ROOM);
    assert!(outcome.answers.is_empty());
    assert_eq!(fetched(&shard, "g", "t"), None);
    let append = outcome.appends.into_iter().next().expect("an append");
    let failed = shard.appended(at(0), append, Err(ErrorCode::NOT_ENOUGH_REPLICAS));
    assert_eq!(failed.answers, [(Waiter(1), Reply::Commit(Err(ErrorCode::COORDINATOR_NOT_AVAILABLE)))]);
    assert_eq!(fetched(&shard, "g", "t"), None, "a failed commit leaves nothing behind");
    committed(&mut shard, &group, "t", 5, at(0));
    assert_eq!(fetched(&shard, "g", "t"), Some(Offset(5)));
}

#[test]
fn a_commit_with_a_generation_needs_a_group() {
    let mut shard = Shard::new(rules());
    for (tells, code) in [(true, ErrorCode::GROUP_ID_NOT_FOUND), (false, ErrorCode::ILLEGAL_GENERATION)] {
        let request = CommitRequest { generation: 5, tells_unknown_groups: tells, ..commit_of("t", 5, at(0)) };
        let outcome = shard.ask(at(0), &"g".into(), Ask::Commit(request), Waiter(1), ROOM);
        assert_eq!(outcome.answers, [(Waiter(1), Reply::Commit(Err(code)))]);
    }
    assert_eq!(*shard.census(), Census::default());
}

#[test]
fn a_shard_comes_back_from_its_records() {
    let (mut shard, group, simple) = (Shard::new(rules()), Arc::from("g"), Arc::from("s"));
    let mut log = stable(&mut shard, &group, at(0));
    for (group, topic, offset) in [(&group, "t", 1), (&simple, "t", 2), (&group, "t", 3), (&group, "u", 4)] {
        let request = if **group == *"g" {
            CommitRequest { member_id: "m".into(), generation: 1, ..commit_of(topic, offset, at(1)) }
        } else {
            commit_of(topic, offset, at(1))
        };
        let outcome = shard.ask(at(1), group, Ask::Commit(request), Waiter(1), ROOM);
        log.extend(write_all(&mut shard, at(1), outcome.appends));
    }
    let mut loaded = Shard::new(rules());
    for record in log {
        let (key, value) = record.encode();
        loaded.apply(Record::decode(&key, value.as_deref()).expect("our own"), at(2));
    }
    let outcome = loaded.loaded(at(2));
    assert_eq!(outcome, Outcome::default());
    for (group, topic, offset) in [("g", "t", 3), ("g", "u", 4), ("s", "t", 2)] {
        assert_eq!(fetched(&loaded, group, topic), Some(Offset(offset)));
    }
    let alive = Ask::Heartbeat { member_id: "m".into(), instance_id: None, generation: 1 };
    let outcome = loaded.ask(at(3), &group, alive, Waiter(2), ROOM);
    assert_eq!(outcome.answers, [(Waiter(2), Reply::Heartbeat(ErrorCode::NONE))]);
    assert_eq!(loaded.census(), shard.census());
    // Its session started with the load: silence ends it.
    let outcome = loaded.expire(at(60_000));
    assert_eq!(outcome.appends.len(), 1);
}

#[test]
fn what_left_stays_away_before_it_is_told_so() {
    let (mut shard, group) = (Shard::new(rules()), Arc::from("g"));
    stable(&mut shard, &group, at(0));
    let leave = Ask::Leave(vec![LeaveIdentity { member_id: "m".into(), instance_id: None }]);
    let outcome = shard.ask(at(1), &group, leave, Waiter(3), ROOM);
    assert!(outcome.answers.is_empty());
    let append = outcome.appends.into_iter().next().expect("the empty generation");
    let answered = shard.appended(at(1), append, Ok(()));
    assert!(matches!(&answered.answers[..], [(Waiter(3), Reply::Leave(Ok(results)))] if results.len() == 1));
}

#[test]
fn offsets_of_an_empty_group_expire_from_the_moment_it_became_empty() {
    let (mut shard, group) = (Shard::new(rules()), Arc::from("g"));
    stable(&mut shard, &group, at(0));
    let request = CommitRequest { member_id: "m".into(), generation: 1, ..commit_of("t", 5, at(0)) };
    let outcome = shard.ask(at(0), &group, Ask::Commit(request), Waiter(1), ROOM);
    write_all(&mut shard, at(0), outcome.appends);
    let late = at(u64::try_from(9 * DAY).expect("positive"));
    assert!(shard.clean_up(late, 7 * DAY).is_empty(), "its member subscribes to the topic");
    let leave = Ask::Leave(vec![LeaveIdentity { member_id: "m".into(), instance_id: None }]);
    let outcome = shard.ask(late, &group, leave, Waiter(3), ROOM);
    write_all(&mut shard, late, outcome.appends);
    assert!(shard.clean_up(late, 7 * DAY).is_empty(), "it became empty just now");
    let later = at(u64::try_from(16 * DAY).expect("positive"));
    let tombstones = shard.clean_up(later, 7 * DAY);
    let written = write_all(&mut shard, later, tombstones);
    assert_eq!(written.len(), 2, "the offset, then the group");
    assert_eq!(*shard.census(), Census::default());
}

#[test]
fn offsets_of_topics_that_a_live_group_no_longer_reads_expire() {
    let (mut shard, group) = (Shard::new(rules()), Arc::from("g"));
    stable(&mut shard, &group, at(0));
    for topic in ["t", "left"] {
        let request = CommitRequest { member_id: "m".into(), generation: 1, ..commit_of(topic, 5, at(0)) };
        let outcome = shard.ask(at(0), &group, Ask::Commit(request), Waiter(1), ROOM);
        write_all(&mut shard, at(0), outcome.appends);
    }
    let late = at(u64::try_from(8 * DAY).expect("positive"));
    let tombstones = shard.clean_up(late, 7 * DAY);
    write_all(&mut shard, late, tombstones);
    assert_eq!(fetched(&shard, "g", "t"), Some(Offset(5)));
    assert_eq!(fetched(&shard, "g", "left"), Some(Offset::UNKNOWN));
}

#[test]
fn a_client_before_kip_211_says_itself_when_its_offsets_expire() {
    let (mut shard, group) = (Shard::new(rules()), Arc::from("g"));
    let mut request = commit_of("t", 5, at(0));
    request.offsets[0].2.expires_at = Some(at(1_000).wall);
    let outcome = shard.ask(at(0), &group, Ask::Commit(request), Waiter(1), ROOM);
    write_all(&mut shard, at(0), outcome.appends);
    assert!(shard.clean_up(at(999), 7 * DAY).is_empty());
    assert_eq!(shard.clean_up(at(1_000), 7 * DAY).len(), 1);
}

#[test]
fn a_group_that_comes_to_life_again_survives_its_tombstone() {
    let (mut shard, group) = (Shard::new(rules()), Arc::from("g"));
    stable(&mut shard, &group, at(0));
    let leave = Ask::Leave(vec![LeaveIdentity { member_id: "m".into(), instance_id: None }]);
    let outcome = shard.ask(at(1), &group, leave, Waiter(3), ROOM);
    write_all(&mut shard, at(1), outcome.appends);
    let tombstones = shard.clean_up(at(2), 7 * DAY);
    shard.ask(at(2), &group, Ask::Join(join_request("", "n")), Waiter(4), ROOM);
    write_all(&mut shard, at(2), tombstones);
    let joined = shard.expire(at(2));
    assert!(matches!(&joined.answers[..], [(Waiter(4), Reply::Join(reply))] if reply.generation == 3), "{joined:?}");
}

#[test]
fn offsets_of_a_deleted_topic_are_forgotten_and_those_of_its_successor_are_not() {
    let (mut shard, group) = (Shard::new(rules()), Arc::from("g"));
    let (old, new) = (TopicId(uuid::Uuid::from_u128(1)), TopicId(uuid::Uuid::from_u128(2)));
    for (partition, topic_id) in [(0, old), (1, new)] {
        let mut request = commit_of("t", 5, at(0));
        request.offsets[0].1 = partition;
        request.offsets[0].2.topic_id = topic_id;
        let outcome = shard.ask(at(0), &group, Ask::Commit(request), Waiter(1), ROOM);
        write_all(&mut shard, at(0), outcome.appends);
    }
    assert_eq!(shard.group("g").map(|group| group.offsets.fetch("t", new, 0).offset), Some(Offset::UNKNOWN));
    let tombstones = shard.forget_topics(|name, id| name == "t" && id == old);
    write_all(&mut shard, at(1), tombstones);
    let left = shard.group("g").map(|group| (group.offsets.len(), group.offsets.fetch("t", new, 1).offset));
    assert_eq!(left, Some((1, Offset(5))));
}

#[test]
fn groups_that_never_lived_cost_nothing_once_their_ids_are_forgotten() {
    let mut shard = Shard::new(rules());
    for n in 0..100 {
        let request = JoinRequest { needs_member_id: true, ..join_request("", &format!("m{n}")) };
        shard.ask(at(0), &format!("g{n}").into(), Ask::Join(request), Waiter(n), ROOM);
    }
    assert_eq!(shard.census().groups(), 100);
    shard.expire(at(10_000));
    assert_eq!((*shard.census(), shard.next_deadline()), (Census::default(), None));
}

#[test]
fn a_node_that_is_full_takes_no_new_groups_and_keeps_the_old() {
    let (mut shard, group) = (Shard::new(rules()), Arc::from("g"));
    committed(&mut shard, &group, "t", 1, at(0));
    let full = Room { groups: 0, bytes: 1 << 20 };
    let outcome = shard.ask(at(0), &"h".into(), Ask::Commit(commit_of("t", 1, at(0))), Waiter(1), full);
    assert_eq!(outcome.answers, [(Waiter(1), Reply::Commit(Err(ErrorCode::GROUP_MAX_SIZE_REACHED)))]);
    let outcome = shard.ask(at(0), &"h".into(), Ask::Join(join_request("", "m")), Waiter(2), full);
    assert!(
        matches!(&outcome.answers[..], [(_, Reply::Join(reply))] if reply.code == ErrorCode::GROUP_MAX_SIZE_REACHED)
    );
    let outcome = shard.ask(at(0), &group, Ask::Commit(commit_of("t", 2, at(0))), Waiter(3), full);
    assert_eq!(outcome.appends.len(), 1);
}

#[test]
fn one_deadline_stands_for_a_group_however_many_members_send_heartbeats() {
    let (mut shard, group) = (Shard::new(rules()), Arc::from("g"));
    stable(&mut shard, &group, at(0));
    for tick in 1..1_000 {
        let alive = Ask::Heartbeat { member_id: "m".into(), instance_id: None, generation: 1 };
        shard.ask(at(tick), &group, alive, Waiter(2), ROOM);
    }
    assert_eq!(shard.deadlines.len(), 1);
}

/// A commit of so many partitions with notes of so many bytes.
fn large_commit(partitions: i32, note: usize) -> CommitRequest {
    let mut request = commit_of("t", 1, at(0));
    let value = CommittedOffset { metadata: "n".repeat(note).into(), ..request.offsets[0].2.clone() };
    request.offsets = (0..partitions).map(|partition| ("t".into(), partition, value.clone())).collect();
    request
}

fn answer_to(shard: &mut Shard, group: &Arc<str>, request: CommitRequest, room: Room) -> Result<(), ErrorCode> {
    let outcome = shard.ask(at(0), group, Ask::Commit(request), Waiter(9), room);
    let mut answers = outcome.answers;
    for append in outcome.appends {
        answers.extend(shard.appended(at(0), append, Ok(())).answers);
    }
    match answers.pop() {
        Some((Waiter(9), Reply::Commit(outcome))) => outcome,
        other => panic!("OffsetCommit was answered {other:?}"),
    }
}

#[test]
fn the_offsets_of_a_group_are_bounded_by_their_bytes() {
    let (mut shard, group) = (Shard::new(rules()), Arc::from("g"));
    let room = Room { groups: 10, bytes: 1 << 30 };
    assert_eq!(answer_to(&mut shard, &group, large_commit(100, 4_096), room), Ok(()));
    let refused = Err(ErrorCode::INVALID_COMMIT_OFFSET_SIZE);
    assert_eq!(answer_to(&mut shard, &group, large_commit(1_000, 4_096), room), refused);
    assert_eq!(answer_to(&mut shard, &"h".into(), large_commit(1_000, 4_096), room), refused);
    assert_eq!((shard.census().states.iter().sum::<usize>(), shard.census().offsets), (1, 100));
    assert!(shard.census().bytes > 400 << 10 && shard.census().bytes < 1 << 20, "{:?}", shard.census());
}

#[test]
fn a_full_node_takes_commits_that_replace_offsets_and_no_others() {
    let (mut shard, group) = (Shard::new(rules()), Arc::from("g"));
    assert_eq!(answer_to(&mut shard, &group, large_commit(3, 10), ROOM), Ok(()));
    let full = Room { groups: 10, bytes: 0 };
    let refused = Err(ErrorCode::INVALID_COMMIT_OFFSET_SIZE);
    assert_eq!(answer_to(&mut shard, &group, large_commit(3, 10), full), Ok(()));
    assert_eq!(answer_to(&mut shard, &group, large_commit(3, 11), full), refused);
    assert_eq!(answer_to(&mut shard, &group, large_commit(4, 10), full), refused);
    assert_eq!(answer_to(&mut shard, &"h".into(), large_commit(1, 0), full), refused);
    let before = *shard.census();
    assert_eq!(answer_to(&mut shard, &group, large_commit(2, 0), full), Ok(()));
    assert_eq!(before.bytes - shard.census().bytes, 20, "what is shorter gives room back");
}

#[test]
fn commits_on_their_way_take_their_place_and_give_it_back_when_they_are_lost() {
    let (mut shard, group) = (Shard::new(rules()), Arc::from("g"));
    let ask = |shard: &mut Shard, name: &Arc<str>| {
        shard.ask(at(0), name, Ask::Commit(large_commit(150, 4_096)), Waiter(1), ROOM)
    };
    let first = ask(&mut shard, &group);
    assert_eq!((first.appends.len(), shard.census().groups()), (1, 1));
    assert!(shard.census().bytes > 600 << 10, "{:?}", shard.census());
    let second = ask(&mut shard, &group);
    assert_eq!(second.answers, [(Waiter(1), Reply::Commit(Err(ErrorCode::INVALID_COMMIT_OFFSET_SIZE)))]);
    for append in first.appends {
        shard.appended(at(0), append, Err(ErrorCode::NOT_ENOUGH_REPLICAS));
    }
    assert_eq!(*shard.census(), Census::default());
    assert_eq!(ask(&mut shard, &group).appends.len(), 1);
}

#[test]
fn names_of_groups_count() {
    let mut shard = Shard::new(rules());
    let long: Arc<str> = "g".repeat(30_000).into();
    assert_eq!(answer_to(&mut shard, &long, large_commit(1, 0), ROOM), Ok(()));
    assert!(shard.census().bytes > 30_000);
    let little = Room { groups: 10, bytes: 20_000 };
    let other: Arc<str> = "h".repeat(30_000).into();
    let refused = Err(ErrorCode::INVALID_COMMIT_OFFSET_SIZE);
    assert_eq!(answer_to(&mut shard, &other, large_commit(1, 0), little), refused);
    let joining = shard.ask(at(0), &other, Ask::Join(join_request("", "m")), Waiter(2), little);
    let code = ErrorCode::GROUP_MAX_SIZE_REACHED;
    assert!(matches!(&joining.answers[..], [(_, Reply::Join(reply))] if reply.code == code), "{joining:?}");
}

#[test]
fn what_members_call_their_protocol_counts_for_as_long_as_it_is_kept() {
    let (mut shard, group) = (Shard::new(rules()), Arc::from("g"));
    let long = JoinRequest { protocol_type: "p".repeat(30_000).into(), ..join_request("", "m") };
    let little = Room { groups: 10, bytes: 20_000 };
    let joining = shard.ask(at(0), &group, Ask::Join(long.clone()), Waiter(1), little);
    let code = ErrorCode::GROUP_MAX_SIZE_REACHED;
    assert!(matches!(&joining.answers[..], [(_, Reply::Join(reply))] if reply.code == code), "{joining:?}");
    shard.ask(at(0), &group, Ask::Join(long), Waiter(2), ROOM);
    shard.expire(at(0));
    assert!(shard.census().bytes > 30_000);
    let leave = Ask::Leave(vec![LeaveIdentity { member_id: "m".into(), instance_id: None }]);
    shard.ask(at(1), &group, leave, Waiter(3), ROOM);
    assert_eq!(shard.census().states[State::Empty as usize], 1);
    assert!(shard.census().bytes > 30_000, "an empty group has its type");
}

#[test]
fn assignments_are_bounded_by_group_and_node() {
    let (mut shard, group) = (Shard::new(rules()), Arc::from("g"));
    shard.ask(at(0), &group, Ask::Join(join_request("", "m")), Waiter(10), ROOM);
    shard.expire(at(0));
    let sync = |bytes: usize| {
        Ask::Sync(SyncRequest {
            member_id: "m".into(),
            instance_id: None,
            generation: 1,
            protocol_type: None,
            protocol: None,
            assignment: [("m".into(), bytes::Bytes::from(vec![7; bytes]))].into(),
        })
    };
    let code = |outcome: &Outcome| match &outcome.answers[..] {
        [(_, Reply::Sync(reply))] => Some(reply.code),
        _ => None,
    };
    let most = ErrorCode::GROUP_MAX_SIZE_REACHED;
    assert_eq!(
        code(&shard.ask(at(0), &group, sync(1 << 20), Waiter(11), Room { groups: 1, bytes: 1 << 30 })),
        Some(most)
    );
    assert_eq!(code(&shard.ask(at(0), &group, sync(5_000), Waiter(12), Room { groups: 1, bytes: 4_000 })), Some(most));
    let before = shard.census().bytes;
    let outcome = shard.ask(at(0), &group, sync(5_000), Waiter(13), ROOM);
    write_all(&mut shard, at(0), outcome.appends);
    assert_eq!(shard.census().bytes - before, 5_000);
}

#[test]
fn what_became_of_groups_is_counted() {
    let (mut shard, group) = (Shard::new(rules()), Arc::from("g"));
    stable(&mut shard, &group, at(0));
    assert_eq!(shard.census().states[State::Stable as usize], 1);
    let mut request = CommitRequest { member_id: "m".into(), generation: 1, ..commit_of("left", 5, at(0)) };
    request.offsets.push(("t".into(), 1, request.offsets[0].2.clone()));
    let outcome = shard.ask(at(0), &group, Ask::Commit(request), Waiter(1), ROOM);
    write_all(&mut shard, at(0), outcome.appends);
    let late = at(u64::try_from(8 * DAY).expect("positive"));
    let tombstones = shard.clean_up(late, 7 * DAY);
    write_all(&mut shard, late, tombstones);
    assert_eq!(*shard.tally(), Tally { rebalances: 1, commits: 2, expirations: 1 });
    assert_eq!(shard.census().offsets, 1);
}

/// What made a shard look at the same group for ever: a static member that no rebalance waits for, left alone.
#[test]
fn a_group_that_is_due_again_at_once_has_its_turn_in_the_next_round() {
    let (mut shard, group) = (Shard::new(rules()), Arc::from("g"));
    let fixed = JoinRequest { instance_id: Some("i".into()), rebalance_timeout_ms: 0, ..join_request("", "s") };
    shard.ask(at(0), &group, Ask::Join(fixed), Waiter(1), ROOM);
    shard.ask(at(0), &group, Ask::Join(join_request("", "m")), Waiter(2), ROOM);
    shard.expire(at(1));
    shard.expire(at(2));
    let identity = LeaveIdentity { member_id: "m".into(), instance_id: None };
    shard.ask(at(3), &group, Ask::Leave(vec![identity]), Waiter(3), ROOM);
    for tick in 4..20_000 {
        let outcome = shard.expire(at(tick));
        write_all(&mut shard, at(tick), outcome.appends);
        let next = shard.next_deadline();
        assert!(next.is_none_or(|next| next > Tick(tick)), "{next:?} at {tick}");
    }
    assert_eq!(shard.group("g").map(|group| group.classic.state()), Some(State::Empty));
}

#[test]
fn only_tombstones_may_be_written_apart() {
    let (mut shard, group) = (Shard::new(rules()), Arc::from("g"));
    for topic in ["a", "b", "c"] {
        committed(&mut shard, &group, topic, 1, at(0));
    }
    let [append] = <[Append; 1]>::try_from(shard.clean_up(at(1), 0)).expect("one append");
    let all = append.records.clone();
    assert_eq!(all.len(), 4, "three offsets and the group");
    let [first, second] = append.halves().expect("tombstones");
    assert_eq!([first.records.clone(), second.records.clone()].concat(), all);
    write_all(&mut shard, at(1), vec![first, second]);
    assert!(shard.group("g").is_none());
    assert_eq!(shard.tally().expirations, 3);
    let commit = commit_of("t", 1, at(2));
    let two = CommitRequest { offsets: [commit.offsets.clone(), commit.offsets].concat(), ..commit_of("t", 1, at(2)) };
    let outcome = shard.ask(at(2), &group, Ask::Commit(two), Waiter(1), ROOM);
    let append = outcome.appends.into_iter().next().expect("an append");
    assert!(append.halves().is_err(), "a commit is written as a whole");
}
