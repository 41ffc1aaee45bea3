//! Claims about sessions and their cache, data in and data out.

use proptest::prelude::*;

use super::cache::{NewSession, next_epoch};
use super::*;
use crate::types::Tick;

fn wanted(offset: i64) -> Wanted {
    Wanted {
        fetch_offset: Offset(offset),
        max_bytes: 1024,
        current_leader_epoch: LeaderEpoch::UNKNOWN,
        last_fetched_epoch: LeaderEpoch::UNKNOWN,
    }
}

fn empty(high_watermark: i64) -> Answer {
    let end = Offset(high_watermark);
    Answer {
        high_watermark: end,
        last_stable_offset: end,
        log_start_offset: Offset(0),
        ..Answer::error(ErrorCode::NONE)
    }
}

fn data(high_watermark: i64) -> Answer {
    Answer { records: SmallVec::from_elem(Bytes::from_static(b"batch"), 1), ..empty(high_watermark) }
}

/// A session over partitions 0..count of topic "t", each fetched once and found empty with a high watermark of 0.
fn settled(count: i32) -> Session {
    let mut session = Session::new(false);
    for index in 0..count {
        session.want(TopicRef::Name("t"), index, wanted(0));
    }
    round(&mut session, |_| empty(0));
    session.respond(true);
    session
}

/// Looks at all that is pending; gives the partitions looked at.
fn round(session: &mut Session, mut look: impl FnMut(i32) -> Answer) -> Vec<i32> {
    let mut seen = Vec::new();
    for _ in 0..session.pending() {
        let Some(slot) = session.next_pending() else { break };
        let index = session.partition(slot).1;
        seen.push(index);
        session.answer(slot, look(index));
    }
    seen
}

fn told(topics: Vec<TopicAnswers>) -> Vec<i32> {
    topics.into_iter().flat_map(|(_, partitions)| partitions).map(|(index, _)| index).collect()
}

#[test]
fn a_full_fetch_answers_every_partition_in_the_order_of_the_request() {
    let mut session = Session::new(false);
    for index in [3, 1, 2] {
        session.want(TopicRef::Name("t"), index, wanted(0));
    }
    session.want(TopicRef::Name("u"), 0, wanted(0));
    round(&mut session, |_| empty(0));
    let topics = session.respond(true);
    assert_eq!(topics.len(), 2);
    assert_eq!(told(topics), [3, 1, 2, 0]);
}

#[test]
fn an_idle_session_looks_at_nothing() {
    let mut session = settled(1000);
    assert_eq!(session.pending(), 0);
    assert!(session.respond(false).is_empty());
}

#[test]
fn only_the_marked_partition_is_looked_at_and_told() {
    let mut session = settled(3);
    session.mark(1);
    session.mark(1);
    assert_eq!(round(&mut session, |_| data(1)), [1]);
    assert_eq!(told(session.respond(false)), [1]);
}

#[test]
fn an_unchanged_partition_is_left_out_of_an_incremental_response() {
    let mut session = settled(2);
    session.want(TopicRef::Name("t"), 0, wanted(5));
    assert_eq!(round(&mut session, |_| empty(0)), [0]);
    assert!(session.respond(false).is_empty());
}

#[test]
fn a_moved_high_watermark_or_log_start_is_told_once() {
    let mut session = settled(1);
    for answer in [empty(4), Answer { log_start_offset: Offset(2), ..empty(4) }] {
        session.mark(0);
        round(&mut session, |_| answer.clone());
        assert_eq!(told(session.respond(false)), [0]);
        session.mark(0);
        round(&mut session, |_| answer.clone());
        assert!(session.respond(false).is_empty());
    }
}

#[test]
fn an_error_is_told_every_time_and_its_end_is_told_too() {
    let mut session = settled(1);
    session.mark(0);
    for _ in 0..2 {
        assert_eq!(round(&mut session, |_| Answer::error(ErrorCode::NOT_LEADER_OR_FOLLOWER)), [0]);
        assert_eq!(told(session.respond(false)), [0]);
    }
    assert_eq!(round(&mut session, |_| empty(0)), [0]);
    assert_eq!(told(session.respond(false)), [0]);
}

#[test]
fn a_partition_that_gave_records_goes_to_the_back_of_the_queue() {
    let mut session = settled(3);
    for slot in 0..3 {
        session.mark(slot);
    }
    let first = session.next_pending().unwrap();
    session.answer(first, data(1));
    let cut = session.next_pending().unwrap();
    session.defer(cut);
    assert_eq!(told(session.respond(false)), [0]);
    assert_eq!(round(&mut session, |_| empty(1)), [1, 2, 0]);
}

#[test]
fn a_forgotten_partition_is_neither_looked_at_nor_told() {
    let mut session = settled(2);
    session.mark(0);
    round(&mut session, |_| data(1));
    assert_eq!(session.forget(TopicRef::Name("t"), 0), Some(0));
    assert_eq!(session.forget(TopicRef::Name("t"), 0), None);
    assert!(session.respond(false).is_empty());
    session.mark(0);
    assert_eq!((session.pending(), session.len()), (0, 1));
    assert_eq!(session.want(TopicRef::Name("u"), 7, wanted(0)), 0, "its slot is used again");
    assert_eq!(round(&mut session, |_| empty(0)), [7]);
}

#[test]
fn a_slot_forgotten_while_pending_is_used_again_only_after_the_queue_let_go_of_it() {
    let mut session = settled(2);
    session.mark(0);
    session.forget(TopicRef::Name("t"), 0);
    assert_eq!(session.want(TopicRef::Name("u"), 7, wanted(0)), 2);
    assert_eq!(session.next_pending(), Some(2));
    assert_eq!(session.want(TopicRef::Name("u"), 8, wanted(0)), 0);
}

#[test]
fn an_abandoned_fetch_leaves_all_it_looked_at_for_the_next_one() {
    let mut session = settled(2);
    session.mark(1);
    round(&mut session, |_| data(1));
    session.abandon();
    assert_eq!(session.answered_bytes(), 0);
    assert_eq!(round(&mut session, |_| data(1)), [1]);
    assert_eq!(told(session.respond(false)), [1]);
}

#[test]
fn a_second_look_replaces_the_first_answer() {
    let mut session = settled(1);
    session.mark(0);
    round(&mut session, |_| data(1));
    session.mark(0);
    round(&mut session, |_| Answer { records: SmallVec::from_elem(Bytes::from_static(b"batch"), 2), ..empty(2) });
    assert_eq!(session.answered_bytes(), 10);
    let topics = session.respond(false);
    assert_eq!(topics[0].1.len(), 1);
    assert_eq!(topics[0].1[0].1.high_watermark, Offset(2));
}

#[test]
fn a_repeated_partition_of_one_request_is_answered_once() {
    let mut session = Session::new(true);
    let id = TopicId(uuid::Uuid::from_u128(9));
    for offset in 0..100 {
        session.want(TopicRef::Id(id), 0, wanted(offset));
    }
    assert_eq!(session.len(), 1);
    let slot = session.next_pending().unwrap();
    assert_eq!(session.partition(slot).2.fetch_offset, Offset(99));
}

#[test]
fn errors_of_the_log_do_not_wait_and_a_partition_that_stays_unknown_does() {
    let unknown = || Answer::error(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    let mut session = settled(1);
    session.want(TopicRef::Name("u"), 0, wanted(0));
    round(&mut session, |_| unknown());
    assert!(!session.must_respond(), "another partition may have something");
    session.mark(0);
    round(&mut session, |_| Answer::error(ErrorCode::OFFSET_OUT_OF_RANGE));
    assert!(session.must_respond());
}

#[test]
fn a_partition_that_goes_away_does_not_wait() {
    let mut session = settled(2);
    session.mark(0);
    round(&mut session, |_| Answer::error(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
    assert!(session.must_respond());
    session.respond(false);
    round(&mut session, |_| Answer::error(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
    assert!(!session.must_respond(), "it was told");
}

#[test]
fn a_fetch_of_unknown_partitions_only_does_not_wait() {
    let mut session = Session::new(false);
    session.want(TopicRef::Name("u"), 0, wanted(0));
    round(&mut session, |_| Answer::error(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
    assert!(session.must_respond());
}

fn new_session(partitions: usize) -> NewSession {
    NewSession { by_id: false, privileged: false, partitions }
}

#[test]
fn a_session_is_fetched_with_the_epoch_after_the_last_one() {
    let mut cache = SessionCache::new(2);
    let (id, evicted) = cache.insert(Tick(0), new_session(1), 5, "s").unwrap();
    assert!(id > 0 && evicted.is_none());
    assert_eq!(cache.check_out(id, 1, false, Tick(1)), Ok("s"));
    assert_eq!(cache.check_out(id, 2, false, Tick(1)), Err(ErrorCode::INVALID_FETCH_SESSION_EPOCH), "in use");
    assert_eq!(cache.check_in(id, 1, "s"), None);
    assert_eq!(cache.check_out(id, 1, false, Tick(1)), Err(ErrorCode::INVALID_FETCH_SESSION_EPOCH));
    assert_eq!(cache.check_out(id, 2, true, Tick(1)), Err(ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR));
    assert_eq!(cache.check_out(id, 2, false, Tick(1)), Ok("s"));
    assert_eq!(cache.check_out(id + 1, 1, false, Tick(1)), Err(ErrorCode::FETCH_SESSION_ID_NOT_FOUND));
}

#[test]
fn a_session_closed_while_in_use_is_given_back_at_check_in() {
    let mut cache = SessionCache::new(2);
    let (id, _) = cache.insert(Tick(0), new_session(1), 5, "s").unwrap();
    cache.check_out(id, 1, false, Tick(1)).unwrap();
    assert_eq!(cache.remove(id), None);
    assert_eq!(cache.check_in(id, 1, "s"), Some("s"));
    assert!(cache.is_empty());
}

#[test]
fn a_full_cache_of_young_sessions_takes_no_new_one() {
    let mut cache = SessionCache::new(1);
    cache.insert(Tick(0), new_session(1), 5, "old").unwrap();
    assert_eq!(cache.insert(Tick(120_000), new_session(100), 6, "new"), Err("new"));
    assert_eq!(cache.len(), 1);
}

#[test]
fn a_stale_session_makes_room() {
    let mut cache = SessionCache::new(1);
    cache.insert(Tick(0), new_session(100), 5, "old").unwrap();
    let (id, evicted) = cache.insert(Tick(120_001), new_session(1), 5, "new").unwrap();
    assert_eq!((id, evicted), (5, Some("old")));
    assert_eq!(cache.evictions(), 1);
}

#[test]
fn a_used_session_gives_way_to_a_larger_one_only_when_it_is_not_young() {
    let mut cache = SessionCache::new(1);
    let (id, _) = cache.insert(Tick(0), new_session(10), 5, "old").unwrap();
    cache.check_out(id, 1, false, Tick(100_000)).unwrap();
    cache.check_in(id, 10, "old");
    assert!(cache.insert(Tick(110_000), new_session(20), 6, "new").is_err(), "young");
    assert!(cache.insert(Tick(130_000), new_session(9), 6, "new").is_err(), "smaller");
    assert!(cache.insert(Tick(130_000), new_session(10), 6, "new").is_ok());
}

#[test]
fn a_follower_pushes_out_a_consumer_but_not_another_follower() {
    let follower = NewSession { by_id: true, privileged: true, partitions: 1 };
    let mut cache = SessionCache::new(1);
    cache.insert(Tick(0), new_session(10), 5, "consumer").unwrap();
    assert_eq!(cache.insert(Tick(1), follower, 6, "follower").unwrap().1, Some("consumer"));
    assert!(cache.insert(Tick(2), follower, 7, "other").is_err());
    assert!(cache.insert(Tick(2), new_session(99), 8, "consumer").is_err());
}

#[test]
fn sessions_hold_half_a_million_partitions_together_and_no_more() {
    let mut cache = SessionCache::new(1_000);
    let (first, _) = cache.insert(Tick(0), new_session(400_000), 5, "first").unwrap();
    assert_eq!(cache.insert(Tick(0), new_session(100_001), 6, "too large"), Err("too large"));
    let (second, _) = cache.insert(Tick(0), new_session(100_000), 7, "second").unwrap();
    assert_eq!(cache.partitions(), 500_000);
    // One that shrinks leaves room, and one that grows beyond it goes.
    cache.check_out(first, 1, false, Tick(1)).unwrap();
    assert_eq!(cache.check_in(first, 300_000, "first"), None);
    cache.check_out(second, 1, false, Tick(1)).unwrap();
    assert_eq!(cache.check_in(second, 200_001, "second"), Some("second"));
    assert_eq!((cache.len(), cache.partitions()), (1, 300_000));
    // A stale one makes room, but not in vain.
    assert_eq!(cache.insert(Tick(200_000), new_session(500_001), 8, "huge"), Err("huge"));
    assert_eq!(cache.insert(Tick(200_000), new_session(500_000), 9, "new").unwrap().1, Some("first"));
}

#[test]
fn epochs_wrap_past_zero_and_ids_never_are_zero() {
    assert_eq!(next_epoch(i32::MAX), 1);
    assert_eq!(next_epoch(0), 1);
    assert_eq!(next_epoch(FINAL_EPOCH), FINAL_EPOCH);
    let mut cache = SessionCache::new(3);
    for expected in [1, 2, 3] {
        assert_eq!(cache.insert(Tick(0), new_session(1), 0, ()).unwrap().0, expected);
    }
}

proptest! {
    /// Whatever is wanted, marked, forgotten and answered, the queue holds each slot at most once, every pending slot
    /// is taken, and the count of answered bytes is what the answers hold.
    #[test]
    fn the_queue_stays_consistent(steps in proptest::collection::vec((0u8..5, 0i32..6), 0..200)) {
        let mut session = Session::new(false);
        for (step, index) in steps {
            match step {
                0 => { session.want(TopicRef::Name("t"), index, wanted(0)); }
                1 => { session.forget(TopicRef::Name("t"), index); }
                2 => session.mark(index as u32),
                3 => { round(&mut session, |i| if i % 2 == 0 { data(1) } else { empty(1) }); }
                _ => { session.respond(index % 2 == 0); }
            }
            let mut queue: Vec<u32> = session.pending.iter().copied().collect();
            queue.sort_unstable();
            queue.dedup();
            prop_assert_eq!(queue.len(), session.pending.len());
            for slot in &queue {
                prop_assert!(session.slots[*slot as usize].as_ref().is_none_or(|cached| cached.pending));
            }
            let held: usize = session.slots.iter().flatten().filter_map(|c| c.answer.as_ref()).map(Answer::bytes).sum();
            prop_assert_eq!(held, session.answered_bytes());
            prop_assert_eq!(session.slots.iter().flatten().count(), session.len());
        }
    }
}
