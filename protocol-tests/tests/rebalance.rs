//! Groups of several members, each on a connection of its own, as consumers are.

use kafka_protocol::messages::{JoinGroupRequest, JoinGroupResponse, SyncGroupRequest};
use ottla_protocol_tests::client::Client;
use ottla_protocol_tests::group::{self, Member};
use ottla_protocol_tests::steps::until;
use ottla_protocol_tests::{apis, code, text, unique};

const JOIN: i16 = 11;

/// A member and its connection.
struct Consumer {
    client: Client,
    member: Member,
}

impl Consumer {
    async fn new(member: Member) -> Self {
        Self { client: group::connect().await, member }
    }

    /// Obtains a member id where the version wants one, then sends the join that will wait for the others.
    async fn start_joining(&mut self, version: i16) -> i32 {
        if version >= 4 && self.member.id.is_empty() && self.member.instance.is_none() {
            let first = self.member.join_once(&mut self.client, version).await;
            assert_eq!(first.error_code, code::MEMBER_ID_REQUIRED);
        }
        let request = self.member.join_request(version);
        self.client.send(version, &request).await
    }

    async fn joined(&mut self, version: i16, correlation: i32) -> JoinGroupResponse {
        let response = self.client.receive::<JoinGroupRequest>(version, correlation).await;
        self.member.take(&response);
        response
    }

    async fn await_rebalance(&mut self) {
        let Self { client, member } = self;
        until("the member is told to join again", async || {
            let code = member.heartbeat(client, 4).await;
            assert!([code::NONE, code::REBALANCE_IN_PROGRESS].contains(&code), "{code}");
            (code == code::REBALANCE_IN_PROGRESS).then_some(())
        })
        .await;
    }
}

/// Two members in a stable group; the first is its leader.
async fn pair(group: &str, version: i16) -> (Consumer, Consumer) {
    let mut first = Consumer::new(Member::new(group)).await;
    first.member.join(&mut first.client, version).await;
    first.member.sync(&mut first.client, 5, &[(&first.member.id, "all")]).await;
    let mut second = Consumer::new(Member::new(group)).await;
    let waiting = second.start_joining(version).await;
    first.await_rebalance().await;
    let again = first.start_joining(version).await;
    let led = first.joined(version, again).await;
    let followed = second.joined(version, waiting).await;
    assert_eq!((led.error_code, followed.error_code), (code::NONE, code::NONE));
    assert_eq!((led.generation_id, followed.generation_id), (2, 2));
    (first, second)
}

async fn share(leader: &mut Consumer, follower: &mut Consumer) {
    // The follower asks first, and waits for the leader's assignment.
    let request = follower.member.sync_request(5, &[]);
    let waiting = follower.client.send(5, &request).await;
    let shares = [(leader.member.id.as_str(), "the leader's"), (follower.member.id.as_str(), "the follower's")];
    let own = leader.member.sync(&mut leader.client, 5, &shares).await;
    let other = follower.client.receive::<SyncGroupRequest>(5, waiting).await;
    assert_eq!((own.error_code, &own.assignment[..]), (code::NONE, &b"the leader's"[..]));
    assert_eq!((other.error_code, &other.assignment[..]), (code::NONE, &b"the follower's"[..]));
}

#[tokio::test]
async fn two_members_share_the_work_at_every_version() {
    for version in apis::versions(JOIN) {
        let (mut leader, mut follower) = pair(&unique("pair"), version).await;
        share(&mut leader, &mut follower).await;
        assert_eq!(leader.member.heartbeat(&mut leader.client, 4).await, code::NONE);
        assert_eq!(follower.member.heartbeat(&mut follower.client, 4).await, code::NONE);
    }
}

#[tokio::test]
async fn only_the_leader_is_told_of_the_members() {
    for version in apis::versions(JOIN) {
        let (mut leader, mut follower) = pair(&unique("told"), version).await;
        share(&mut leader, &mut follower).await;
        let again = leader.start_joining(version).await;
        follower.await_rebalance().await;
        let other = follower.start_joining(version).await;
        let led = leader.joined(version, again).await;
        let followed = follower.joined(version, other).await;
        assert_eq!((led.members.len(), followed.members.len()), (2, 0), "v{version}");
        assert_eq!(led.leader.as_str(), leader.member.id);
        assert_eq!(followed.leader.as_str(), leader.member.id);
        assert_eq!(led.generation_id, 3);
    }
}

#[tokio::test]
async fn a_follower_that_joins_again_unchanged_disturbs_nobody() {
    for version in apis::versions(JOIN) {
        let (mut leader, mut follower) = pair(&unique("calm"), version).await;
        share(&mut leader, &mut follower).await;
        let again = follower.start_joining(version).await;
        let response = follower.joined(version, again).await;
        assert_eq!((response.error_code, response.generation_id), (code::NONE, 2), "v{version}");
        assert_eq!(leader.member.heartbeat(&mut leader.client, 4).await, code::NONE);
    }
}

#[tokio::test]
async fn when_a_member_leaves_the_other_takes_over() {
    for version in [0, 3, 9] {
        let (mut leader, mut follower) = pair(&unique("heir"), version).await;
        share(&mut leader, &mut follower).await;
        leader.member.leave(&mut leader.client, 5).await;
        follower.await_rebalance().await;
        // While the group rebalances, the old generation still beats, and is told to join.
        let again = follower.start_joining(version).await;
        let alone = follower.joined(version, again).await;
        assert_eq!((alone.generation_id, alone.members.len()), (3, 1), "v{version}");
        assert_eq!(alone.leader.as_str(), follower.member.id);
    }
}

#[tokio::test]
async fn during_a_rebalance_syncs_are_sent_back_and_heartbeats_of_a_waiting_member_pass() {
    let (mut leader, mut follower) = pair(&unique("early"), 9).await;
    share(&mut leader, &mut follower).await;
    let mut third = Consumer::new(Member::new(&leader.member.group)).await;
    third.start_joining(9).await;
    leader.await_rebalance().await;
    let early = leader.member.sync(&mut leader.client, 5, &[]).await;
    assert_eq!((early.error_code, early.assignment.len()), (code::REBALANCE_IN_PROGRESS, 0));
}

#[tokio::test]
async fn a_sync_that_waits_is_sent_back_when_a_new_member_comes() {
    let (leader, mut follower) = pair(&unique("overtaken"), 9).await;
    let request = follower.member.sync_request(5, &[]);
    let waiting = follower.client.send(5, &request).await;
    let mut third = Consumer::new(Member::new(&leader.member.group)).await;
    third.start_joining(9).await;
    let answer = follower.client.receive::<SyncGroupRequest>(5, waiting).await;
    assert_eq!(answer.error_code, code::REBALANCE_IN_PROGRESS);
}

#[tokio::test]
async fn a_static_member_that_comes_back_keeps_its_share_without_a_rebalance() {
    for version in 5..=*apis::versions(JOIN).end() {
        let group = unique("bounce");
        let mut first = Consumer::new(Member::new(&group).instance("one")).await;
        first.member.join(&mut first.client, version).await;
        first.member.sync(&mut first.client, 5, &[(&first.member.id, "all")]).await;
        let mut second = Consumer::new(Member::new(&group).instance("two")).await;
        let waiting = second.start_joining(version).await;
        first.await_rebalance().await;
        let again = first.start_joining(version).await;
        first.joined(version, again).await;
        second.joined(version, waiting).await;
        share(&mut first, &mut second).await;

        // The process of the follower restarts: no member id, same instance.
        let mut reborn = Consumer::new(Member::new(&group).instance("two")).await;
        let response = reborn.member.join_once(&mut reborn.client, version).await;
        assert_eq!((response.error_code, response.generation_id), (code::NONE, 2), "v{version}");
        assert_ne!(reborn.member.id, second.member.id, "a new id fences the old process");
        let kept = reborn.member.sync(&mut reborn.client, 5, &[]).await;
        assert_eq!(&kept.assignment[..], b"the follower's");
        assert_eq!(first.member.heartbeat(&mut first.client, 4).await, code::NONE, "nobody else notices");
        assert_eq!(second.member.heartbeat(&mut second.client, 4).await, code::FENCED_INSTANCE_ID);

        // And that of the leader: it is told what it needs to lead, and from version 9 not to bother.
        let mut reborn = Consumer::new(Member::new(&group).instance("one")).await;
        let response = reborn.member.join_once(&mut reborn.client, version).await;
        assert_eq!((response.error_code, response.generation_id), (code::NONE, 2), "v{version}");
        assert_eq!(response.skip_assignment, version >= 9, "KIP-814");
        assert_eq!(response.members.len(), if version >= 9 { 2 } else { 0 }, "v{version}");
        let leads = response.leader.as_str() == reborn.member.id;
        // Before version 9 Kafka names the old id, so that the returned leader does not assign anew.
        assert_eq!(leads, version >= 9, "v{version}");
        let kept = reborn.member.sync(&mut reborn.client, 5, &[]).await;
        assert_eq!(&kept.assignment[..], b"the leader's");
    }
}

#[tokio::test]
async fn a_member_that_does_not_join_again_is_left_behind() {
    let group = unique("behind");
    let mut first = Consumer::new(Member { session_ms: 30_000, ..Member::new(&group) }).await;
    let mut request = first.member.join_request(9);
    request.rebalance_timeout_ms = 500;
    let reserved = first.client.call(9, &request).await;
    request.member_id = reserved.member_id.clone();
    first.member.take(&first.client.call(9, &request).await);
    first.member.sync(&mut first.client, 5, &[(&first.member.id, "all")]).await;

    let mut second = Consumer::new(Member::new(&group)).await;
    second.member.session_ms = 30_000;
    let mut request = second.member.join_request(9);
    request.rebalance_timeout_ms = 500;
    request.member_id = second.client.call(9, &request).await.member_id;
    let response = second.client.call(9, &request).await;
    second.member.take(&response);
    assert_eq!((response.error_code, response.members.len()), (code::NONE, 1), "the silent one is out");
    assert_eq!(first.member.heartbeat(&mut first.client, 4).await, code::UNKNOWN_MEMBER_ID);
}

#[tokio::test]
async fn a_static_member_that_no_rebalance_waits_for_is_kept_and_holds_nobody_up() {
    let group = unique("impatient");
    let mut dynamic = Consumer::new(Member::new(&group)).await;
    dynamic.member.join(&mut dynamic.client, 3).await;
    dynamic.member.sync(&mut dynamic.client, 2, &[(&dynamic.member.id, "all")]).await;
    let mut fixed = Consumer::new(Member::new(&group).instance("one")).await;
    let request = fixed.member.join_request(9).with_rebalance_timeout_ms(0);
    let waiting = fixed.client.send(9, &request).await;
    dynamic.await_rebalance().await;
    let again = dynamic.start_joining(3).await;
    dynamic.joined(3, again).await;
    fixed.joined(9, waiting).await;
    share(&mut dynamic, &mut fixed).await;

    // Now the only member is one that did not join, and may be waited for no longer than not at all.
    dynamic.member.leave(&mut dynamic.client, 2).await;
    assert_eq!(fixed.member.heartbeat(&mut fixed.client, 4).await, code::REBALANCE_IN_PROGRESS);
    Member::alone(&unique("neighbour"), &mut dynamic.client).await;
    let again = fixed.client.send(9, &request.with_member_id(text(&fixed.member.id))).await;
    let response = fixed.joined(9, again).await;
    assert_eq!((response.error_code, response.generation_id, response.members.len()), (code::NONE, 3, 1));
}
