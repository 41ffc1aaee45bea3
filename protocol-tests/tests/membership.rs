//! JoinGroup (11), SyncGroup (14), Heartbeat (12), LeaveGroup (13): a member alone, at every version, and what is
//! refused. Several members are in `rebalance`.

use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::{JoinGroupRequest, LeaveGroupRequest, SyncGroupRequest};
use ottla_protocol_tests::client::{CLIENT_ID, Client};
use ottla_protocol_tests::group::{self, CONSUMER, Member};
use ottla_protocol_tests::{apis, code, text, unique};

const JOIN: i16 = 11;
const HEARTBEAT: i16 = 12;
const LEAVE: i16 = 13;
const SYNC: i16 = 14;

/// The first version at which a new member must come back with the id it was given (KIP-394).
const ID_REQUIRED: i16 = 4;

#[tokio::test]
async fn every_version_joins_syncs_beats_and_leaves() {
    let mut client = group::connect().await;
    for version in apis::versions(JOIN) {
        let mut member = Member::new(&unique("whole"));
        let joined = member.join(&mut client, version).await;
        assert_eq!((joined.throttle_time_ms, joined.generation_id), (0, 1), "v{version}");
        assert_eq!(joined.protocol_type.as_deref(), (version >= 7).then_some(CONSUMER), "v{version}");
        assert_eq!(joined.protocol_name.as_deref(), Some("range"));
        assert!(!joined.skip_assignment);
        assert_eq!(joined.leader, joined.member_id);
        assert!(joined.member_id.starts_with(&format!("{CLIENT_ID}-")), "{:?}", joined.member_id);
        assert_eq!(joined.members.len(), 1, "the leader is told of all");
        assert_eq!(joined.members[0].member_id, joined.member_id);
        assert_eq!(joined.members[0].group_instance_id, None);
        assert_eq!(joined.members[0].metadata, member.subscription());

        let sync_version = version.min(*apis::versions(SYNC).end());
        let synced = member.sync(&mut client, sync_version, &[(&member.id, "all")]).await;
        assert_eq!((synced.throttle_time_ms, synced.error_code, &synced.assignment[..]), (0, code::NONE, &b"all"[..]));
        assert_eq!(synced.protocol_type.as_deref(), (sync_version >= 5).then_some(CONSUMER));
        assert_eq!(synced.protocol_name.as_deref(), (sync_version >= 5).then_some("range"));

        let beat_version = version.min(*apis::versions(HEARTBEAT).end());
        assert_eq!(member.heartbeat(&mut client, beat_version).await, code::NONE);
        // A member may ask for its assignment again.
        assert_eq!(&member.sync(&mut client, sync_version, &[]).await.assignment[..], b"all");

        let leave_version = version.min(*apis::versions(LEAVE).end());
        let left = member.leave(&mut client, leave_version).await;
        assert_eq!((left.throttle_time_ms, left.error_code), (0, code::NONE), "v{version}");
        assert_eq!(left.members.len(), usize::from(leave_version >= 3));
        assert_eq!(member.heartbeat(&mut client, beat_version).await, code::UNKNOWN_MEMBER_ID);
    }
}

#[tokio::test]
async fn a_new_member_is_sent_back_with_its_id_from_version_4() {
    let mut client = group::connect().await;
    for version in apis::versions(JOIN) {
        let mut member = Member::new(&unique("new"));
        let first = member.join_once(&mut client, version).await;
        if version < ID_REQUIRED {
            assert_eq!(first.error_code, code::NONE, "v{version}");
            continue;
        }
        assert_eq!((first.error_code, first.generation_id), (code::MEMBER_ID_REQUIRED, -1), "v{version}");
        assert!(!first.member_id.is_empty() && first.members.is_empty());
        assert_eq!(first.leader.as_str(), "");
        assert_eq!(first.protocol_type, None);
        // Null only where the field may be null.
        assert_eq!(first.protocol_name.as_deref(), if version >= 7 { None } else { Some("") }, "v{version}");
        // The id is reserved: nobody else is let in under an id that was made up.
        let mut stranger = Member { id: "made-up".to_owned(), ..Member::new(&member.group) };
        assert_eq!(stranger.join_once(&mut client, version).await.error_code, code::UNKNOWN_MEMBER_ID);
        assert_eq!(member.join_once(&mut client, version).await.error_code, code::NONE);
    }
}

#[tokio::test]
async fn a_static_member_needs_no_second_request() {
    let mut client = group::connect().await;
    for version in 5..=*apis::versions(JOIN).end() {
        let mut member = Member::new(&unique("static")).instance("instance");
        let joined = member.join_once(&mut client, version).await;
        assert_eq!((joined.error_code, joined.generation_id), (code::NONE, 1), "v{version}");
        assert!(joined.member_id.starts_with("instance-"), "{:?}", joined.member_id);
        assert_eq!(joined.members[0].group_instance_id.as_deref(), Some("instance"));
    }
}

async fn join_with(client: &mut Client, version: i16, change: impl FnOnce(&mut JoinGroupRequest)) -> i16 {
    let mut request = Member::new(&unique("refused")).join_request(version);
    change(&mut request);
    let response = client.call(version, &request).await;
    assert!(response.error_code != code::NONE, "v{version} was let in");
    assert_eq!(response.generation_id, -1);
    response.error_code
}

#[tokio::test]
async fn impossible_joins_are_refused_at_every_version() {
    let mut client = group::connect().await;
    for version in apis::versions(JOIN) {
        let code = join_with(&mut client, version, |request| request.group_id = text("").into()).await;
        assert_eq!(code, code::INVALID_GROUP_ID, "v{version}");
        for timeout in [0, -1, 1, 5_999, 1_800_001, i32::MAX] {
            let code = join_with(&mut client, version, |request| request.session_timeout_ms = timeout).await;
            assert_eq!(code, code::INVALID_SESSION_TIMEOUT, "v{version} {timeout} ms");
        }
        let code = join_with(&mut client, version, |request| request.member_id = text("stranger")).await;
        assert_eq!(code, code::UNKNOWN_MEMBER_ID, "v{version}");
        let code = join_with(&mut client, version, |request| request.protocols.clear()).await;
        assert_eq!(code, code::INCONSISTENT_GROUP_PROTOCOL, "v{version}");
        // The session timeout is looked at first.
        let code = join_with(&mut client, version, |request| {
            request.protocols.clear();
            request.session_timeout_ms = 0;
        })
        .await;
        assert_eq!(code, code::INVALID_SESSION_TIMEOUT, "v{version}");
        let code = join_with(&mut client, version, |request| request.protocol_type = text("")).await;
        assert_eq!(code, code::INCONSISTENT_GROUP_PROTOCOL, "v{version}");
    }
}

#[tokio::test]
async fn a_member_with_another_kind_of_protocol_is_refused() {
    let mut client = group::connect().await;
    let member = Member::alone(&unique("kinds"), &mut client).await;
    for version in apis::versions(JOIN) {
        let change_group = |request: &mut JoinGroupRequest| request.group_id = member.group_id();
        let code = join_with(&mut client, version, |request| {
            change_group(request);
            request.protocol_type = text("connect");
        })
        .await;
        assert_eq!(code, code::INCONSISTENT_GROUP_PROTOCOL, "v{version}");
        let code = join_with(&mut client, version, |request| {
            change_group(request);
            request.protocols[0].name = text("no-common-one");
        })
        .await;
        assert_eq!(code, code::INCONSISTENT_GROUP_PROTOCOL, "v{version}");
    }
    assert_eq!(member.heartbeat(&mut client, 4).await, code::NONE, "the group did not notice");
}

#[tokio::test]
async fn a_lone_member_that_joins_again_unchanged_keeps_its_id_and_gets_a_new_generation() {
    let mut client = group::connect().await;
    let mut member = Member::alone(&unique("again"), &mut client).await;
    for (round, version) in apis::versions(JOIN).enumerate() {
        let before = member.clone();
        let joined = member.join_once(&mut client, version).await;
        // The leader's join always rebalances: it may have new assignments in mind.
        assert_eq!((joined.error_code, joined.generation_id), (code::NONE, round as i32 + 2), "v{version}");
        assert_eq!(member.id, before.id);
        member.sync(&mut client, 5, &[(&member.id, "all")]).await;
    }
}

#[tokio::test]
async fn heartbeats_are_answered_by_what_is_wrong_with_them() {
    let mut client = group::connect().await;
    let member = Member::alone(&unique("beating"), &mut client).await;
    for version in apis::versions(HEARTBEAT) {
        assert_eq!(member.heartbeat(&mut client, version).await, code::NONE, "v{version}");
        for generation in [-1, 0, 2, i32::MAX] {
            let stale = Member { generation, ..member.clone() };
            assert_eq!(
                stale.heartbeat(&mut client, version).await,
                code::ILLEGAL_GENERATION,
                "v{version} {generation}"
            );
        }
        let stranger = Member { id: "stranger".to_owned(), ..member.clone() };
        assert_eq!(stranger.heartbeat(&mut client, version).await, code::UNKNOWN_MEMBER_ID, "v{version}");
        let lost = Member { group: unique("absent"), ..member.clone() };
        assert_eq!(lost.heartbeat(&mut client, version).await, code::UNKNOWN_MEMBER_ID, "v{version}");
        let nowhere = Member { group: String::new(), ..member.clone() };
        assert_eq!(nowhere.heartbeat(&mut client, version).await, code::INVALID_GROUP_ID, "v{version}");
    }
}

#[tokio::test]
async fn syncs_are_answered_by_what_is_wrong_with_them() {
    let mut client = group::connect().await;
    let member = Member::alone(&unique("syncing"), &mut client).await;
    for version in apis::versions(SYNC) {
        let stale = Member { generation: 7, ..member.clone() };
        let answer = stale.sync(&mut client, version, &[]).await;
        assert_eq!((answer.error_code, answer.assignment.len()), (code::ILLEGAL_GENERATION, 0), "v{version}");
        assert_eq!((answer.protocol_type, answer.protocol_name), (None, None));
        let stranger = Member { id: "stranger".to_owned(), ..member.clone() };
        assert_eq!(stranger.sync(&mut client, version, &[]).await.error_code, code::UNKNOWN_MEMBER_ID);
        let lost = Member { group: unique("absent"), ..member.clone() };
        assert_eq!(lost.sync(&mut client, version, &[]).await.error_code, code::UNKNOWN_MEMBER_ID);
        let nowhere = Member { group: String::new(), ..member.clone() };
        assert_eq!(nowhere.sync(&mut client, version, &[]).await.error_code, code::INVALID_GROUP_ID);
    }
}

#[tokio::test]
async fn a_sync_that_names_another_protocol_is_inconsistent() {
    let mut client = group::connect().await;
    let member = Member::alone(&unique("naming"), &mut client).await;
    let changes: [fn(&mut SyncGroupRequest); 2] = [
        |request| request.protocol_type = Some(text("connect")),
        |request| request.protocol_name = Some(text("sticky")),
    ];
    for change in changes {
        let mut request = member.sync_request(5, &[]);
        change(&mut request);
        assert_eq!(client.call(5, &request).await.error_code, code::INCONSISTENT_GROUP_PROTOCOL);
    }
    // KIP-559: version 5 must name both.
    let unnamed = member.sync_request(5, &[]).with_protocol_type(None).with_protocol_name(None);
    assert_eq!(client.call(5, &unnamed).await.error_code, code::INCONSISTENT_GROUP_PROTOCOL);
}

#[tokio::test]
async fn a_leave_that_fits_nobody_is_refused_in_its_place() {
    let mut client = group::connect().await;
    let member = Member::alone(&unique("leaving"), &mut client).await;
    for version in apis::versions(LEAVE) {
        let stranger = Member { id: "stranger".to_owned(), ..member.clone() };
        let answer = stranger.leave(&mut client, version).await;
        if version >= 3 {
            assert_eq!((answer.error_code, answer.members[0].error_code), (code::NONE, code::UNKNOWN_MEMBER_ID));
            assert_eq!(answer.members[0].member_id.as_str(), "stranger");
        } else {
            assert_eq!(answer.error_code, code::UNKNOWN_MEMBER_ID, "v{version}");
        }
        let nowhere = Member { group: String::new(), ..member.clone() };
        assert_eq!(nowhere.leave(&mut client, version).await.error_code, code::INVALID_GROUP_ID, "v{version}");
        let lost = Member { group: unique("absent"), ..member.clone() };
        let answer = lost.leave(&mut client, version).await;
        if version >= 3 {
            assert_eq!((answer.error_code, answer.members[0].error_code), (code::NONE, code::UNKNOWN_MEMBER_ID));
        } else {
            assert_eq!(answer.error_code, code::UNKNOWN_MEMBER_ID, "v{version}");
        }
    }
    assert_eq!(member.heartbeat(&mut client, 4).await, code::NONE);
}

#[tokio::test]
async fn an_admin_removes_static_members_by_their_instance_alone() {
    let mut client = group::connect().await;
    for version in 3..=*apis::versions(LEAVE).end() {
        let mut member = Member::new(&unique("removed")).instance("instance");
        member.join(&mut client, 9).await;
        let identity = |id: &str, instance: &str| {
            MemberIdentity::default().with_member_id(text(id)).with_group_instance_id(Some(text(instance)))
        };
        let members = vec![identity("", "instance"), identity("", "another"), identity("wrong", "instance")];
        let request = LeaveGroupRequest::default().with_group_id(member.group_id()).with_members(members);
        let answer = client.call(version, &request).await;
        assert_eq!(answer.error_code, code::NONE);
        let codes: Vec<i16> = answer.members.iter().map(|member| member.error_code).collect();
        // The third comes too late: the instance has just gone.
        assert_eq!(codes, [code::NONE, code::UNKNOWN_MEMBER_ID, code::UNKNOWN_MEMBER_ID], "v{version}");
        assert_eq!(answer.members[0].group_instance_id.as_deref(), Some("instance"));
    }
}

#[tokio::test]
async fn a_member_id_that_is_not_the_instances_is_fenced() {
    let mut client = group::connect().await;
    let mut member = Member::new(&unique("fenced")).instance("instance");
    member.join(&mut client, 9).await;
    member.sync(&mut client, 5, &[(&member.id, "all")]).await;
    let impostor = Member { id: "impostor".to_owned(), ..member.clone() };
    for version in 3..=*apis::versions(HEARTBEAT).end() {
        assert_eq!(impostor.heartbeat(&mut client, version).await, code::FENCED_INSTANCE_ID, "v{version}");
    }
    for version in 3..=*apis::versions(SYNC).end() {
        assert_eq!(impostor.sync(&mut client, version, &[]).await.error_code, code::FENCED_INSTANCE_ID, "v{version}");
    }
    for version in 3..=*apis::versions(LEAVE).end() {
        assert_eq!(impostor.leave(&mut client, version).await.members[0].error_code, code::FENCED_INSTANCE_ID);
    }
    for version in 5..=*apis::versions(JOIN).end() {
        let mut again = impostor.clone();
        assert_eq!(again.join_once(&mut client, version).await.error_code, code::FENCED_INSTANCE_ID, "v{version}");
    }
}

#[tokio::test]
async fn a_member_that_falls_silent_is_forgotten() {
    let mut client = group::connect().await;
    let mut member = Member { session_ms: 6_000, ..Member::new(&unique("silent")) };
    member.join(&mut client, 9).await;
    member.sync(&mut client, 5, &[(&member.id, "all")]).await;
    // Heartbeats would keep it alive, so somebody else looks.
    ottla_protocol_tests::steps::until("the group is empty", async || {
        let request = kafka_protocol::messages::DescribeGroupsRequest::default().with_groups(vec![member.group_id()]);
        let response = client.call(5, &request).await;
        (response.groups[0].group_state.as_str() == "Empty").then_some(())
    })
    .await;
    assert_eq!(member.heartbeat(&mut client, 4).await, code::UNKNOWN_MEMBER_ID);
}
