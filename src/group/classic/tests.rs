//! Claims about classic groups, and a random walk that no schedule of joins, syncs, departures and time-outs may break.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

/// A group with a clock and a book of who waits.
struct Bench {
    group: ClassicGroup,
    now: Now,
    rules: Rules,
    next: u64,
    answers: BTreeMap<Waiter, Answer>,
    writes: Vec<Write>,
}

fn rules() -> Rules {
    Rules {
        initial_rebalance_delay_ms: 3_000,
        max_members: 1_000,
        new_member_timeout_ms: 300_000,
        max_group_bytes: 1 << 20,
    }
}

fn request(member_id: &str) -> JoinRequest {
    JoinRequest {
        member_id: member_id.into(),
        new_member_id: "".into(),
        instance_id: None,
        client_id: "client".into(),
        client_host: "/127.0.0.1".into(),
        protocol_type: "consumer".into(),
        protocols: vec![Protocol { name: "range".into(), metadata: Bytes::from_static(b"meta") }],
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        needs_member_id: false,
        skips_assignment: false,
    }
}

fn of_static(instance_id: &str) -> JoinRequest {
    JoinRequest { instance_id: Some(instance_id.into()), ..request("") }
}

fn protocols(names: &[&str]) -> Vec<Protocol> {
    names.iter().map(|name| Protocol { name: (*name).into(), metadata: Bytes::from(format!("of {name}")) }).collect()
}

impl Bench {
    fn new() -> Self {
        Self::with(rules())
    }

    fn with(rules: Rules) -> Self {
        let now = Now { tick: Tick(1_000), wall: Timestamp(1_700_000_000_000) };
        Self { group: ClassicGroup::new(now), now, rules, next: 0, answers: BTreeMap::new(), writes: Vec::new() }
    }

    fn carry_out(&mut self, effects: Effects) {
        for (waiter, answer) in effects.answers {
            assert!(self.answers.insert(waiter, answer).is_none(), "{waiter:?} is answered twice");
        }
        self.writes.extend(effects.writes);
    }

    fn waiter(&mut self) -> Waiter {
        self.next += 1;
        Waiter(self.next)
    }

    fn join(&mut self, mut request: JoinRequest) -> Waiter {
        let waiter = self.waiter();
        request.new_member_id = format!("m{}", waiter.0).into();
        let effects = self.group.join(self.now, request, waiter, &self.rules);
        self.carry_out(effects);
        waiter
    }

    fn sync(&mut self, member_id: &str, assignment: &[(&str, &'static str)]) -> Waiter {
        let waiter = self.waiter();
        let request = SyncRequest {
            member_id: member_id.into(),
            instance_id: None,
            generation: self.group.generation(),
            protocol_type: None,
            protocol: None,
            assignment: assignment
                .iter()
                .map(|(id, share)| ((*id).into(), Bytes::from_static(share.as_bytes())))
                .collect(),
        };
        let effects = self.group.sync(self.now, request, waiter, &self.rules);
        self.carry_out(effects);
        waiter
    }

    fn leave(&mut self, member_id: &str) -> ErrorCode {
        let identity = LeaveIdentity { member_id: member_id.into(), instance_id: None };
        let (results, effects) = self.group.leave(self.now, vec![identity]);
        self.carry_out(effects);
        results[0].code
    }

    fn heartbeat(&mut self, member_id: &str) -> ErrorCode {
        let (code, effects) = self.group.heartbeat(self.now, member_id, None, self.group.generation());
        self.carry_out(effects);
        code
    }

    /// Time passes, and the group is looked at at each of its deadlines.
    fn wait(&mut self, ms: u64) {
        let end = self.now.tick.plus_ms(ms);
        while let Some(at) = self.group.next_deadline().filter(|at| *at <= end) {
            self.now.tick = at.max(self.now.tick);
            let effects = self.group.expire(self.now, &self.rules);
            self.carry_out(effects);
            let later = self.group.next_deadline().is_none_or(|next| next > self.now.tick);
            assert!(later, "a deadline that has passed is done with");
        }
        self.now.tick = end;
    }

    fn write(&mut self, result: Result<(), ErrorCode>) -> GroupMetadata {
        let write = self.writes.remove(0);
        let effects = self.group.written(self.now, write.then, result);
        self.carry_out(effects);
        write.record
    }

    fn joined(&self, waiter: Waiter) -> &JoinReply {
        match self.answers.get(&waiter) {
            Some(Answer::Join(reply)) => reply,
            other => panic!("{waiter:?} was answered {other:?}"),
        }
    }

    fn synced(&self, waiter: Waiter) -> &SyncReply {
        match self.answers.get(&waiter) {
            Some(Answer::Sync(reply)) => reply,
            other => panic!("{waiter:?} was answered {other:?}"),
        }
    }

    fn waits(&self, waiter: Waiter) -> bool {
        !self.answers.contains_key(&waiter)
    }

    /// A stable group of so many dynamic members, the first the leader; their ids.
    fn stable(members: usize) -> (Self, Vec<Arc<str>>) {
        let mut bench = Self::new();
        let joins: Vec<_> = (0..members).map(|_| bench.join(request(""))).collect();
        bench.wait(6_000);
        let ids: Vec<_> = joins.iter().map(|join| bench.joined(*join).member_id.clone()).collect();
        bench.settle(&ids);
        (bench, ids)
    }

    /// Everybody sends SyncGroup, and the assignment is written.
    fn settle(&mut self, ids: &[Arc<str>]) {
        for id in ids {
            self.sync(id, &[]);
        }
        self.write(Ok(()));
        assert_eq!(self.group.state(), State::Stable);
    }
}

#[test]
fn a_dynamic_member_is_asked_to_come_back_with_the_id_it_is_given() {
    let mut bench = Bench::new();
    let first = bench.join(JoinRequest { needs_member_id: true, ..request("") });
    assert_eq!(bench.joined(first).code, ErrorCode::MEMBER_ID_REQUIRED);
    let id = bench.joined(first).member_id.clone();
    assert!(!id.is_empty());
    let second = bench.join(JoinRequest { needs_member_id: true, ..request(&id) });
    bench.wait(3_000);
    assert_eq!((bench.joined(second).code, bench.joined(second).generation), (ErrorCode::NONE, 1));
    assert_eq!(bench.joined(second).leader.as_ref(), Some(&id));
}

#[test]
fn an_id_that_never_comes_back_is_forgotten_and_costs_nothing() {
    let mut bench = Bench::new();
    bench.join(JoinRequest { needs_member_id: true, ..request("") });
    assert!(bench.group.bytes() > 0 && !bench.group.is_abandoned());
    bench.wait(10_000);
    assert!(bench.group.bytes() == 0 && bench.group.is_abandoned());
}

#[test]
fn a_first_generation_waits_for_members_that_start_together() {
    let mut bench = Bench::new();
    let first = bench.join(request(""));
    bench.wait(2_900);
    let second = bench.join(request(""));
    bench.wait(2_900);
    assert!(bench.waits(first) && bench.waits(second));
    bench.wait(200);
    assert_eq!(bench.joined(first).generation, 1);
    assert_eq!((bench.joined(first).members.len(), bench.joined(second).members.len()), (2, 0));
}

#[test]
fn a_first_generation_waits_no_longer_than_the_rebalance_time_out() {
    let mut bench = Bench::new();
    let patient = |_| JoinRequest { rebalance_timeout_ms: 7_000, ..request("") };
    let first = bench.join(patient(0));
    for n in 1..4 {
        bench.wait(2_000);
        bench.join(patient(n));
    }
    assert!(bench.waits(first));
    bench.wait(1_000);
    assert_eq!(bench.joined(first).code, ErrorCode::NONE);
}

#[test]
fn an_assignment_is_handed_out_when_it_is_written_and_not_before() {
    let mut bench = Bench::new();
    let (a, b) = (bench.join(request("")), bench.join(request("")));
    bench.wait(6_000);
    let (a, b) = (bench.joined(a).member_id.clone(), bench.joined(b).member_id.clone());
    let follower = bench.sync(&b, &[]);
    let leader = bench.sync(&a, &[(&a, "for a"), (&b, "for b"), ("stranger", "for nobody")]);
    assert!(bench.waits(follower) && bench.waits(leader));
    assert_eq!(bench.group.state(), State::CompletingRebalance);
    let record = bench.write(Ok(()));
    assert_eq!(record.members.iter().map(|m| &m.assignment[..]).collect::<Vec<_>>(), [b"for a", b"for b"]);
    assert_eq!(
        (&bench.synced(leader).assignment[..], &bench.synced(follower).assignment[..]),
        (&b"for a"[..], &b"for b"[..])
    );
    assert_eq!(bench.group.state(), State::Stable);
}

#[test]
fn an_assignment_that_cannot_be_written_is_nobodys() {
    let mut bench = Bench::new();
    let join = bench.join(request(""));
    bench.wait(6_000);
    let id = bench.joined(join).member_id.clone();
    let sync = bench.sync(&id, &[(&id, "share")]);
    bench.write(Err(ErrorCode::NOT_ENOUGH_REPLICAS));
    assert_eq!(bench.synced(sync).code, ErrorCode::COORDINATOR_NOT_AVAILABLE);
    assert_eq!(bench.group.state(), State::PreparingRebalance);
    assert_eq!(bench.heartbeat(&id), ErrorCode::REBALANCE_IN_PROGRESS);
}

#[test]
fn an_assignment_of_a_generation_that_has_passed_is_not_handed_out() {
    let mut bench = Bench::new();
    let join = bench.join(request(""));
    bench.wait(6_000);
    let id = bench.joined(join).member_id.clone();
    let sync = bench.sync(&id, &[(&id, "old")]);
    bench.join(request(""));
    assert_eq!(bench.synced(sync).code, ErrorCode::REBALANCE_IN_PROGRESS);
    bench.write(Ok(()));
    assert_eq!(bench.group.state(), State::PreparingRebalance);
}

#[test]
fn a_new_member_makes_the_others_join_again() {
    let (mut bench, ids) = Bench::stable(2);
    let newcomer = bench.join(request(""));
    assert_eq!(bench.heartbeat(&ids[0]), ErrorCode::REBALANCE_IN_PROGRESS);
    let again: Vec<_> = ids.iter().map(|id| bench.join(request(id))).collect();
    assert_eq!(bench.joined(newcomer).generation, 2);
    assert_eq!(bench.joined(again[0]).members.len(), 3);
    assert!(bench.joined(again[1]).members.is_empty());
}

#[test]
fn a_member_that_does_not_join_again_in_time_is_out() {
    let (mut bench, ids) = Bench::stable(2);
    let newcomer = bench.join(request(""));
    let again = bench.join(request(&ids[1]));
    // It still sends heartbeats, so only the rebalance time-out ends its membership.
    for _ in 0..7 {
        assert_eq!(bench.heartbeat(&ids[0]), ErrorCode::REBALANCE_IN_PROGRESS);
        bench.wait(9_000);
    }
    assert_eq!(bench.heartbeat(&ids[0]), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(bench.joined(newcomer).generation, 2);
    let leader = bench.joined(again).leader.clone().expect("a leader");
    assert!(leader == ids[1] || leader == bench.joined(newcomer).member_id);
}

#[test]
fn a_silent_member_is_removed_and_the_others_are_told() {
    let (mut bench, ids) = Bench::stable(2);
    bench.wait(6_000);
    assert_eq!(bench.heartbeat(&ids[0]), ErrorCode::NONE);
    bench.wait(6_000);
    assert_eq!(bench.heartbeat(&ids[1]), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(bench.heartbeat(&ids[0]), ErrorCode::REBALANCE_IN_PROGRESS);
}

#[test]
fn the_last_member_leaves_an_empty_group_that_is_written() {
    let (mut bench, ids) = Bench::stable(1);
    assert_eq!(bench.leave(&ids[0]), ErrorCode::NONE);
    assert_eq!(bench.group.state(), State::Empty);
    let record = bench.write(Ok(()));
    assert_eq!((record.generation, record.members.len(), record.leader), (2, 0, None));
    assert_eq!(record.protocol_type, "consumer".into());
    assert_eq!(bench.leave(&ids[0]), ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn members_that_joined_but_never_ask_for_their_assignment_hold_nobody_up() {
    let mut bench = Bench::new();
    let joins = [bench.join(request("")), bench.join(request(""))];
    bench.wait(6_000);
    let ids = joins.map(|join| bench.joined(join).member_id.clone());
    let follower = bench.sync(&ids[1], &[]);
    for _ in 0..7 {
        bench.heartbeat(&ids[0]);
        bench.wait(9_000);
    }
    assert_eq!(bench.synced(follower).code, ErrorCode::REBALANCE_IN_PROGRESS);
    assert_eq!(bench.heartbeat(&ids[0]), ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn a_member_that_waits_is_not_expired_for_its_silence() {
    let (mut bench, ids) = Bench::stable(2);
    let newcomer = bench.join(request(""));
    let again = bench.join(request(&ids[0]));
    for _ in 0..3 {
        assert_eq!(bench.heartbeat(&ids[1]), ErrorCode::REBALANCE_IN_PROGRESS);
        bench.wait(9_000);
    }
    assert!(bench.waits(again) && bench.waits(newcomer));
    bench.join(request(&ids[1]));
    assert_eq!((bench.joined(again).generation, bench.joined(newcomer).generation), (2, 2));
}

#[test]
fn a_static_member_comes_back_without_a_rebalance_and_fences_its_old_self() {
    let mut bench = Bench::new();
    let join = bench.join(of_static("i1"));
    let other = bench.join(of_static("i2"));
    bench.wait(6_000);
    let ids = [bench.joined(join).member_id.clone(), bench.joined(other).member_id.clone()];
    bench.sync(&ids[0], &[(&ids[0], "one"), (&ids[1], "two")]);
    bench.sync(&ids[1], &[]);
    bench.write(Ok(()));
    let back = bench.join(of_static("i2"));
    assert!(bench.waits(back), "the new id is written first");
    bench.write(Ok(()));
    let new_id = bench.joined(back).member_id.clone();
    assert_eq!((bench.joined(back).code, bench.joined(back).generation), (ErrorCode::NONE, 1));
    assert_eq!(bench.group.state(), State::Stable);
    let share = bench.sync(&new_id, &[]);
    assert_eq!(&bench.synced(share).assignment[..], b"two");
    let (code, _) = bench.group.heartbeat(bench.now, &ids[1], Some("i2"), 1);
    assert_eq!(code, ErrorCode::FENCED_INSTANCE_ID);
    let (refused, _) = bench.group.check_commit(bench.now, &ids[1], Some("i2"), 1);
    assert_eq!(refused, Err(ErrorCode::FENCED_INSTANCE_ID));
    assert_eq!(bench.group.check_commit(bench.now, &new_id, Some("i2"), 1).0, Ok(()));
}

#[test]
fn a_static_leader_that_comes_back_is_told_to_skip_the_assignment() {
    for (skips, skip_assignment) in [(true, true), (false, false)] {
        let mut bench = Bench::new();
        let join = bench.join(of_static("i1"));
        bench.wait(6_000);
        let old = bench.joined(join).member_id.clone();
        bench.settle(std::slice::from_ref(&old));
        let back = bench.join(JoinRequest { skips_assignment: skips, ..of_static("i1") });
        bench.write(Ok(()));
        let reply = bench.joined(back).clone();
        assert_eq!(reply.skip_assignment, skip_assignment);
        // A client that cannot skip is told another leader than itself.
        assert_eq!(reply.leader == Some(reply.member_id.clone()), skips);
        assert_eq!(reply.members.len(), usize::from(skips));
    }
}

#[test]
fn a_static_member_whose_return_cannot_be_written_is_as_before() {
    let mut bench = Bench::new();
    let join = bench.join(of_static("i1"));
    bench.wait(6_000);
    let old = bench.joined(join).member_id.clone();
    bench.settle(std::slice::from_ref(&old));
    let before = bench.group.bytes();
    let back = bench.join(of_static("i1"));
    bench.write(Err(ErrorCode::NOT_LEADER_OR_FOLLOWER));
    assert_eq!(bench.joined(back).code, ErrorCode::NOT_COORDINATOR);
    assert_eq!(bench.group.heartbeat(bench.now, &old, Some("i1"), 1).0, ErrorCode::NONE);
    assert_eq!((bench.group.leader(), bench.group.bytes()), (Some(&old), before));
}

#[test]
fn static_members_keep_their_place_until_their_session_ends() {
    let mut bench = Bench::new();
    let joins = [bench.join(of_static("i1")), bench.join(request(""))];
    bench.wait(6_000);
    let ids = joins.map(|join| bench.joined(join).member_id.clone());
    bench.settle(&ids);
    let again = bench.join(JoinRequest { protocols: protocols(&["range", "sticky"]), ..request(&ids[1]) });
    for _ in 0..7 {
        bench.group.heartbeat(bench.now, &ids[0], Some("i1"), 1);
        bench.wait(9_000);
    }
    assert_eq!(bench.joined(again).generation, 2);
    assert_eq!(bench.group.members().len(), 2, "it did not join in time, and stays");
}

#[test]
fn a_static_member_can_be_sent_away_by_its_instance_id_alone() {
    let mut bench = Bench::new();
    let join = bench.join(of_static("i1"));
    bench.wait(6_000);
    let id = bench.joined(join).member_id.clone();
    bench.settle(&[id]);
    let by = |member_id: &str, instance_id: &str| LeaveIdentity {
        member_id: member_id.into(),
        instance_id: Some(instance_id.into()),
    };
    let identities = vec![by("", "nobody"), by("stranger", "i1"), by("", "i1")];
    let (results, effects) = bench.group.leave(bench.now, identities);
    bench.carry_out(effects);
    let codes: Vec<_> = results.iter().map(|result| result.code).collect();
    assert_eq!(codes, [ErrorCode::UNKNOWN_MEMBER_ID, ErrorCode::FENCED_INSTANCE_ID, ErrorCode::NONE]);
    assert_eq!(bench.group.state(), State::Empty);
}

#[test]
fn members_must_have_a_protocol_in_common() {
    let mut bench = Bench::new();
    for wrong in
        [JoinRequest { protocols: Vec::new(), ..request("") }, JoinRequest { protocol_type: "".into(), ..request("") }]
    {
        let join = bench.join(wrong);
        assert_eq!(bench.joined(join).code, ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    }
    bench.join(JoinRequest { protocols: protocols(&["range", "sticky"]), ..request("") });
    for wrong in [
        JoinRequest { protocols: protocols(&["roundrobin"]), ..request("") },
        JoinRequest { protocol_type: "connect".into(), ..request("") },
    ] {
        let join = bench.join(wrong);
        assert_eq!(bench.joined(join).code, ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    }
    let join = bench.join(JoinRequest { protocols: protocols(&["sticky"]), ..request("") });
    bench.wait(10_000);
    assert_eq!(bench.joined(join).protocol.as_deref(), Some("sticky"));
}

#[test]
fn the_protocol_that_most_members_like_best_wins() {
    let mut bench = Bench::new();
    let joins = [&["a", "b", "c"][..], &["b", "a", "c"], &["b", "c", "a"]]
        .map(|names| bench.join(JoinRequest { protocols: protocols(names), ..request("") }));
    bench.wait(20_000);
    assert_eq!(bench.joined(joins[0]).protocol.as_deref(), Some("b"));
    assert_eq!(&bench.joined(joins[0]).members[2].metadata[..], b"of b");
}

#[test]
fn a_draw_is_decided_by_the_leader() {
    let mut bench = Bench::new();
    let joins = [&["x", "a", "b"][..], &["b", "a"], &["a", "b"], &["b", "y", "a"]]
        .map(|names| bench.join(JoinRequest { protocols: protocols(names), ..request("") }));
    bench.wait(20_000);
    assert_eq!(bench.joined(joins[0]).protocol.as_deref(), Some("a"), "two like a best, two b");
}

#[test]
fn a_vote_over_very_many_names_costs_no_more_than_they_are() {
    let names: Vec<String> = (0..200_000).map(|number| format!("protocol-{number}")).collect();
    let reversed: Vec<&str> = names.iter().rev().map(String::as_str).collect();
    let forth = protocols(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let mut bench = Bench::with(Rules { max_group_bytes: usize::MAX, ..rules() });
    // Each name of one looked for among those of the other would be ten billion comparisons.
    let joins = [forth, protocols(&reversed), protocols(&["protocol-100000"])]
        .map(|protocols| bench.join(JoinRequest { protocols, ..request("") }));
    bench.wait(20_000);
    assert_eq!(bench.joined(joins[1]).protocol.as_deref(), Some("protocol-100000"));
}

#[test]
fn a_static_member_that_does_not_come_is_waited_for_now_and_then_until_its_session_ends() {
    let mut bench = Bench::new();
    let fixed = bench.join(JoinRequest { rebalance_timeout_ms: 0, ..of_static("i1") });
    let dynamic = bench.join(request(""));
    bench.wait(6_000);
    let ids = [fixed, dynamic].map(|join| bench.joined(join).member_id.clone());
    bench.settle(&ids);
    bench.leave(&ids[1]);
    for ms in [500, 1_000, 1_000] {
        bench.wait(ms);
        assert_eq!(bench.group.state(), State::PreparingRebalance);
        let next = bench.group.next_deadline().expect("it is waited for");
        assert!(next.since_ms(bench.now.tick) >= 500, "not without a rest");
    }
    bench.wait(10_000);
    assert_eq!(bench.group.state(), State::Empty);
}

#[test]
fn a_protocol_named_twice_counts_once() {
    let mut bench = Bench::new();
    let join = bench.join(JoinRequest { protocols: protocols(&["a", "a"]), ..request("") });
    bench.wait(10_000);
    assert_eq!((bench.joined(join).code, bench.joined(join).protocol.as_deref()), (ErrorCode::NONE, Some("a")));
}

#[test]
fn a_full_group_takes_nobody_in() {
    let mut bench = Bench::with(Rules { max_members: 1, ..rules() });
    let first = bench.join(request(""));
    let second = bench.join(request(""));
    assert_eq!(bench.joined(second).code, ErrorCode::GROUP_MAX_SIZE_REACHED);
    bench.wait(10_000);
    let id = bench.joined(first).member_id.clone();
    bench.settle(std::slice::from_ref(&id));
    let third = bench.join(request(""));
    assert_eq!(bench.joined(third).code, ErrorCode::GROUP_MAX_SIZE_REACHED);
    assert_eq!(bench.heartbeat(&id), ErrorCode::NONE);
}

#[test]
fn what_members_say_is_bounded() {
    let mut bench = Bench::with(Rules { max_group_bytes: 10_000, ..rules() });
    let long = Protocol { name: "range".into(), metadata: Bytes::from(vec![0; 9_000]) };
    let first = bench.join(JoinRequest { protocols: vec![long.clone()], ..request("") });
    let second = bench.join(JoinRequest { protocols: vec![long], ..request("") });
    assert_eq!(bench.joined(second).code, ErrorCode::GROUP_MAX_SIZE_REACHED);
    assert!(bench.waits(first));
    for _ in 0..100 {
        bench.join(JoinRequest { needs_member_id: true, ..request("") });
    }
    assert!(bench.group.bytes() <= 10_000);
}

#[test]
fn who_may_commit_depends_on_state_and_generation() {
    let (mut bench, ids) = Bench::stable(1);
    let check = |bench: &mut Bench, id: &str, generation| bench.group.check_commit(bench.now, id, None, generation).0;
    assert_eq!(check(&mut bench, &ids[0], 1), Ok(()));
    assert_eq!(check(&mut bench, &ids[0], 0), Err(ErrorCode::ILLEGAL_GENERATION));
    assert_eq!(check(&mut bench, "stranger", 1), Err(ErrorCode::UNKNOWN_MEMBER_ID));
    assert_eq!(check(&mut bench, "", -1), Err(ErrorCode::UNKNOWN_MEMBER_ID));
    bench.join(request(""));
    assert_eq!(check(&mut bench, &ids[0], 1), Ok(()), "while it has not joined again its partitions are its own");
    bench.join(request(&ids[0]));
    assert_eq!(check(&mut bench, &ids[0], 2), Err(ErrorCode::REBALANCE_IN_PROGRESS));
    let mut empty = Bench::new();
    assert_eq!(check(&mut empty, "", -1), Ok(()));
    assert_eq!(check(&mut empty, "anybody", -1), Ok(()));
    assert_eq!(check(&mut empty, "anybody", 3), Err(ErrorCode::UNKNOWN_MEMBER_ID));
}

#[test]
fn a_commit_is_a_sign_of_life() {
    let (mut bench, ids) = Bench::stable(1);
    for _ in 0..3 {
        bench.wait(6_000);
        assert_eq!(bench.group.check_commit(bench.now, &ids[0], None, 1).0, Ok(()));
    }
    assert_eq!(bench.heartbeat(&ids[0]), ErrorCode::NONE);
}

#[test]
fn a_group_comes_back_from_its_record_as_it_was() {
    let mut bench = Bench::new();
    let joins = [bench.join(of_static("i1")), bench.join(request(""))];
    bench.wait(6_000);
    let ids = joins.map(|join| bench.joined(join).member_id.clone());
    let sync = bench.sync(&ids[0], &[(&ids[0], "one"), (&ids[1], "two")]);
    let record = bench.write(Ok(()));
    assert_eq!(bench.synced(sync).code, ErrorCode::NONE);
    let mut loaded = ClassicGroup::from_record(record, bench.now);
    assert_eq!((loaded.state(), loaded.generation()), (State::Stable, 1));
    assert_eq!((loaded.leader(), loaded.protocol()), (bench.group.leader(), bench.group.protocol()));
    assert_eq!(loaded.heartbeat(bench.now, &ids[1], None, 1).0, ErrorCode::NONE);
    assert_eq!(loaded.heartbeat(bench.now, "other", Some("i1"), 1).0, ErrorCode::FENCED_INSTANCE_ID);
    let shares: Vec<_> = loaded.members().map(|member| member.assignment.clone()).collect();
    assert_eq!(shares, [&b"one"[..], b"two"]);
}

#[test]
fn the_topics_of_a_consumer_group_are_known() {
    let mut bench = Bench::new();
    let subscription = Bytes::from_static(b"\0\x01\0\0\0\x02\0\x01a\0\x02bc\xff\xff\xff\xff");
    let protocol = |metadata| vec![Protocol { name: "range".into(), metadata }];
    bench.join(JoinRequest { protocols: protocol(subscription), ..request("") });
    bench.wait(6_000);
    assert_eq!(bench.group.subscribed_topics(), Some(BTreeSet::from(["a".into(), "bc".into()])));
    bench.join(JoinRequest { protocols: protocol(Bytes::from_static(b"\0\x01\x7f\xff\xff\xff")), ..request("m1") });
    assert_eq!(bench.group.subscribed_topics(), None, "what cannot be read says nothing");
}

#[derive(Clone, Debug)]
enum Step {
    Join { who: usize, is_static: bool, needs_id: bool, rebalance_timeout_ms: i32, names: &'static [&'static str] },
    Sync { who: usize },
    Heartbeat { who: usize },
    Leave { who: usize },
    Wait { ms: u64 },
    Written { ok: bool },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let who = 0_usize..5;
    let timeout = prop_oneof![2 => Just(60_000), 1 => prop::sample::select(vec![i32::MIN, -1, 0, 1, 500])];
    let names: [&[&str]; 4] = [&["range"], &["range", "sticky"], &["sticky", "range"], &["sticky", "range", "other"]];
    let names = prop::sample::select(names.to_vec());
    let step = prop_oneof![
        4 => (who.clone(), any::<bool>(), any::<bool>(), timeout, names).prop_map(
            |(who, is_static, needs_id, rebalance_timeout_ms, names)| {
                Step::Join { who, is_static, needs_id, rebalance_timeout_ms, names }
            },
        ),
        4 => who.clone().prop_map(|who| Step::Sync { who }),
        2 => who.clone().prop_map(|who| Step::Heartbeat { who }),
        1 => who.prop_map(|who| Step::Leave { who }),
        2 => (1_u64..20_000).prop_map(|ms| Step::Wait { ms }),
        3 => prop::bool::weighted(0.8).prop_map(|ok| Step::Written { ok }),
    ];
    proptest::collection::vec(step, 1..120)
}

/// What must hold of a group at any moment.
fn check_invariants(bench: &Bench, waiting: &BTreeSet<Waiter>) -> Result<(), TestCaseError> {
    let group = &bench.group;
    let kept: usize = group.members().map(Member::bytes).sum::<usize>()
        + group.pending_joins.keys().map(|id| pending_bytes(id)).sum::<usize>()
        + group.protocol_type().map_or(0, |kind| kind.len());
    prop_assert_eq!(group.bytes(), kept, "the books are right");
    prop_assert_eq!(group.members.is_empty(), group.leader.is_none());
    if let Some(leader) = &group.leader {
        prop_assert!(group.members.contains_key(leader), "the leader is a member");
    }
    for (instance_id, id) in &group.static_members {
        prop_assert_eq!(group.members.get(id).and_then(|member| member.instance_id.as_ref()), Some(instance_id));
    }
    let mut supporters = BTreeMap::new();
    for protocol in group.members().flat_map(|member| &member.protocols) {
        *supporters.entry(protocol.name.clone()).or_insert(0_usize) += 1;
    }
    prop_assert_eq!(&group.supporters, &supporters, "each protocol has its supporters counted");
    prop_assert!(group.pending_syncs.iter().all(|id| group.members.contains_key(id)));
    let parked: BTreeSet<Waiter> =
        group.members().flat_map(|member| [member.awaiting_join, member.awaiting_sync]).flatten().collect();
    prop_assert_eq!(&parked, waiting, "who waits is parked with a member, and nobody else is");
    if !parked.is_empty() && bench.writes.is_empty() {
        prop_assert!(group.next_deadline().is_some(), "nobody waits for ever");
    }
    match group.state {
        State::Empty => prop_assert!(group.members.is_empty()),
        State::Stable => prop_assert!(!group.members.is_empty()),
        State::CompletingRebalance => prop_assert!(group.sync_deadline.is_some() || group.pending_syncs.is_empty()),
        State::PreparingRebalance => prop_assert!(group.join_timer.is_some()),
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn no_schedule_breaks_a_group(steps in steps()) {
        let mut bench = Bench::new();
        let mut ids: Vec<Arc<str>> = vec!["".into(); 5];
        let mut owner: BTreeMap<Waiter, usize> = BTreeMap::new();
        let mut generation = 0;
        let mut leaders: BTreeMap<i32, Arc<str>> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Join { who, is_static, needs_id, rebalance_timeout_ms, names } => {
                    let instance_id = (is_static && who < 2).then(|| Arc::from(format!("i{who}")));
                    // Nobody uses its id both as a static and as a dynamic member.
                    let request = JoinRequest {
                        instance_id,
                        needs_member_id: needs_id,
                        rebalance_timeout_ms,
                        protocols: protocols(names),
                        ..request(&ids[who])
                    };
                    owner.insert(bench.join(request), who);
                }
                Step::Sync { who } => {
                    let id = ids[who].clone();
                    owner.insert(bench.sync(&id, &[]), who);
                }
                Step::Heartbeat { who } => {
                    let id = ids[who].clone();
                    bench.heartbeat(&id);
                }
                Step::Leave { who } => {
                    let id = std::mem::replace(&mut ids[who], "".into());
                    bench.leave(&id);
                }
                Step::Wait { ms } => bench.wait(ms),
                Step::Written { ok } => {
                    if !bench.writes.is_empty() {
                        bench.write(if ok { Ok(()) } else { Err(ErrorCode::REQUEST_TIMED_OUT) });
                    }
                }
            }
            for (waiter, who) in &owner {
                match bench.answers.get(waiter) {
                    Some(Answer::Join(reply)) if reply.code == ErrorCode::UNKNOWN_MEMBER_ID => ids[*who] = "".into(),
                    Some(Answer::Join(reply)) => {
                        if matches!(reply.code, ErrorCode::NONE | ErrorCode::MEMBER_ID_REQUIRED) {
                            ids[*who] = reply.member_id.clone();
                        }
                        // Who is told that it leads a generation: one member, or the one that took its place.
                        if !reply.members.is_empty() && !reply.skip_assignment {
                            let leader = leaders.entry(reply.generation).or_insert_with(|| reply.member_id.clone());
                            prop_assert_eq!(&*leader, &reply.member_id, "two leaders of generation {}", reply.generation);
                        }
                    }
                    _ => {}
                }
            }
            owner.retain(|waiter, _| !bench.answers.contains_key(waiter));
            let waiting = owner.keys().copied().collect();
            check_invariants(&bench, &waiting)?;
            prop_assert!(bench.group.generation() >= generation, "generations only grow");
            generation = bench.group.generation();
        }
        // The disk answers everything and time passes: then nobody waits any more.
        for _ in 0..20 {
            while !bench.writes.is_empty() {
                bench.write(Ok(()));
            }
            bench.wait(400_000);
        }
        prop_assert!(owner.keys().all(|waiter| !bench.waits(*waiter)), "somebody waits for ever");
        prop_assert!(bench.group.is_abandoned());
    }
}
