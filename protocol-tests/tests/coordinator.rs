//! FindCoordinator (10), ListGroups (16), DescribeGroups (15).

use kafka_protocol::messages::describe_groups_response::DescribedGroup;
use kafka_protocol::messages::{DescribeGroupsRequest, FindCoordinatorRequest, GroupId, ListGroupsRequest};
use ottla_protocol_tests::client::{CLIENT_ID, Client};
use ottla_protocol_tests::group::{self, CONSUMER, Member};
use ottla_protocol_tests::steps::until;
use ottla_protocol_tests::{apis, broker, code, text, unique};

const FIND: i16 = 10;
const DESCRIBE: i16 = 15;
const LIST: i16 = 16;
const GROUP: i8 = 0;

fn find(version: i16, keys: &[&str], kind: i8) -> FindCoordinatorRequest {
    let mut request = FindCoordinatorRequest::default();
    if version >= 1 {
        request.key_type = kind;
    }
    if version >= 4 {
        request.coordinator_keys = keys.iter().map(|key| text(key)).collect();
    } else {
        request.key = text(keys[0]);
    }
    request
}

#[tokio::test]
async fn every_version_finds_this_broker_as_the_coordinator_of_a_group() {
    let mut client = group::connect().await;
    let name = unique("group");
    for version in apis::versions(FIND) {
        let response = client.call(version, &find(version, &[&name], GROUP)).await;
        assert_eq!((response.throttle_time_ms, response.error_code), (0, code::NONE));
        let found = if version >= 4 {
            let found = &response.coordinators[0];
            assert_eq!((found.key.as_str(), found.error_code), (name.as_str(), code::NONE));
            assert_eq!(found.error_message.as_deref(), Some(""), "v{version}");
            (found.node_id.0, found.host.to_string(), found.port)
        } else {
            // Kafka writes "NONE" where it could write nothing, from the version on that has the field.
            assert_eq!(response.error_message.as_deref(), Some(if version >= 1 { "NONE" } else { "" }), "v{version}");
            (response.node_id.0, response.host.to_string(), response.port)
        };
        assert_eq!(found, (1, broker::shared().host().to_owned(), broker::shared().port()), "v{version}");
    }
}

#[tokio::test]
async fn version_4_finds_many_at_once() {
    let mut client = group::connect().await;
    for version in 4..=*apis::versions(FIND).end() {
        let response = client.call(version, &find(version, &["a", "b", "c"], GROUP)).await;
        let keys: Vec<&str> = response.coordinators.iter().map(|found| found.key.as_str()).collect();
        assert_eq!(keys, ["a", "b", "c"]);
        assert!(response.coordinators.iter().all(|found| found.error_code == code::NONE && found.node_id.0 == 1));
        assert!(client.call(version, &find(version, &[], GROUP)).await.coordinators.is_empty());
    }
}

#[tokio::test]
async fn an_unknown_type_of_coordinator_is_an_invalid_request() {
    let mut client = group::connect().await;
    for version in 1..=*apis::versions(FIND).end() {
        for kind in [-1, 9] {
            let response = client.call(version, &find(version, &["a"], kind)).await;
            if version >= 4 {
                let found = &response.coordinators[0];
                assert_eq!(
                    (found.error_code, found.node_id.0, found.port),
                    (code::INVALID_REQUEST, -1, -1),
                    "v{version}"
                );
            } else {
                assert_eq!((response.error_code, response.node_id.0), (code::INVALID_REQUEST, -1), "v{version}");
            }
        }
    }
}

async fn list(
    client: &mut Client,
    version: i16,
    states: &[&str],
    types: &[&str],
) -> Vec<(String, String, String, String)> {
    let mut request = ListGroupsRequest::default();
    if version >= 4 {
        request.states_filter = states.iter().map(|state| text(state)).collect();
    }
    if version >= 5 {
        request.types_filter = types.iter().map(|kind| text(kind)).collect();
    }
    let response = client.call(version, &request).await;
    assert_eq!((response.throttle_time_ms, response.error_code), (0, code::NONE));
    let row = |group: kafka_protocol::messages::list_groups_response::ListedGroup| {
        let [id, kind] = [group.group_id.to_string(), group.protocol_type.to_string()];
        (id, kind, group.group_state.to_string(), group.group_type.to_string())
    };
    response.groups.into_iter().map(row).collect()
}

#[tokio::test]
async fn groups_are_listed_with_state_from_version_4_and_type_from_5() {
    let mut client = group::connect().await;
    let member = Member::alone(&unique("listed"), &mut client).await;
    for version in apis::versions(LIST) {
        let all = list(&mut client, version, &[], &[]).await;
        let found = all.iter().find(|row| row.0 == member.group).unwrap_or_else(|| panic!("v{version}"));
        assert_eq!(found.1, CONSUMER);
        assert_eq!(found.2, if version >= 4 { "Stable" } else { "" });
        assert_eq!(found.3, if version >= 5 { "classic" } else { "" });
    }
}

#[tokio::test]
async fn groups_are_filtered_by_state_and_type_without_regard_to_case() {
    let mut client = group::connect().await;
    let member = Member::alone(&unique("filtered"), &mut client).await;
    let newest = *apis::versions(LIST).end();
    for (version, states, types, expected) in [
        (4, &["Stable"][..], &[][..], true),
        (4, &["stable", "Empty"], &[], true),
        (4, &["Empty"], &[], false),
        (4, &["NoSuchState"], &[], false),
        (newest, &["STABLE"], &["Classic"], true),
        (newest, &[], &["classic"], true),
        (newest, &[], &["consumer"], false),
        (newest, &["Empty"], &["classic"], false),
    ] {
        let found = list(&mut client, version, states, types).await.iter().any(|row| row.0 == member.group);
        assert_eq!(found, expected, "v{version} {states:?} {types:?}");
    }
}

async fn describe(client: &mut Client, version: i16, name: &str) -> DescribedGroup {
    let request = DescribeGroupsRequest::default().with_groups(vec![GroupId(text(name))]);
    let mut response = client.call(version, &request).await;
    assert_eq!((response.throttle_time_ms, response.groups.len()), (0, 1));
    let group = response.groups.remove(0);
    assert_eq!(group.group_id.as_str(), name);
    assert_eq!(group.authorized_operations, i32::MIN, "not asked for");
    group
}

#[tokio::test]
async fn a_stable_group_is_described_with_its_members_at_every_version() {
    let mut client = group::connect().await;
    let mut member = Member::new(&unique("described")).instance("only");
    member.join(&mut client, 9).await;
    member.sync(&mut client, 5, &[(&member.id, "all of it")]).await;
    for version in apis::versions(DESCRIBE) {
        let group = describe(&mut client, version, &member.group).await;
        assert_eq!(group.error_code, code::NONE);
        assert_eq!(group.error_message, None);
        assert_eq!((group.group_state.as_str(), group.protocol_type.as_str()), ("Stable", CONSUMER));
        assert_eq!(group.protocol_data.as_str(), "range");
        let described = &group.members[0];
        assert_eq!(described.member_id.as_str(), member.id);
        assert_eq!(described.group_instance_id.as_deref(), (version >= 4).then_some("only"), "v{version}");
        assert_eq!(described.client_id.as_str(), CLIENT_ID);
        // As Java prints an address.
        assert_eq!(described.client_host.as_str(), "/127.0.0.1");
        assert_eq!(described.member_metadata, member.subscription());
        assert_eq!(&described.member_assignment[..], b"all of it");
    }
}

#[tokio::test]
async fn a_group_that_waits_for_its_leader_shows_neither_protocol_nor_metadata() {
    let mut client = group::connect().await;
    let mut member = Member::new(&unique("waiting"));
    member.join(&mut client, 9).await;
    for version in apis::versions(DESCRIBE) {
        let group = describe(&mut client, version, &member.group).await;
        assert_eq!(
            (group.group_state.as_str(), group.protocol_data.as_str()),
            ("CompletingRebalance", ""),
            "v{version}"
        );
        assert_eq!(group.members.len(), 1);
        assert!(group.members[0].member_metadata.is_empty() && group.members[0].member_assignment.is_empty());
    }
}

#[tokio::test]
async fn a_group_whose_members_left_is_empty() {
    let mut client = group::connect().await;
    let member = Member::alone(&unique("left"), &mut client).await;
    member.leave(&mut client, 5).await;
    for version in apis::versions(DESCRIBE) {
        let group = describe(&mut client, version, &member.group).await;
        assert_eq!((group.error_code, group.group_state.as_str()), (code::NONE, "Empty"), "v{version}");
        assert_eq!((group.protocol_type.as_str(), group.protocol_data.as_str()), (CONSUMER, ""));
        assert!(group.members.is_empty());
    }
    assert!(list(&mut client, 5, &["empty"], &[]).await.iter().any(|row| row.0 == member.group));
}

#[tokio::test]
async fn an_unknown_group_is_dead_until_version_5_and_not_found_from_version_6() {
    let mut client = group::connect().await;
    let name = unique("absent");
    for version in apis::versions(DESCRIBE) {
        let group = describe(&mut client, version, &name).await;
        assert_eq!(group.group_state.as_str(), "Dead");
        if version >= 6 {
            // KIP-1043.
            assert_eq!(group.error_code, code::GROUP_ID_NOT_FOUND);
            assert_eq!(group.error_message.as_deref(), Some(format!("Group {name} not found.").as_str()));
        } else {
            assert_eq!(group.error_code, code::NONE, "v{version}");
        }
        assert!(group.members.is_empty());
    }
}

#[tokio::test]
async fn a_groups_authorized_operations_are_told_when_asked_for() {
    let mut client = group::connect().await;
    let member = Member::alone(&unique("allowed"), &mut client).await;
    for version in 3..=*apis::versions(DESCRIBE).end() {
        let request = DescribeGroupsRequest::default()
            .with_groups(vec![member.group_id()])
            .with_include_authorized_operations(true);
        let response = client.call(version, &request).await;
        assert_eq!(response.groups[0].authorized_operations, 0b1101_0100_1000, "v{version}");
    }
}

#[tokio::test]
async fn many_groups_are_described_in_the_order_asked_for() {
    let mut client = group::connect().await;
    let member = Member::alone(&unique("one"), &mut client).await;
    let absent = GroupId(text(&unique("absent")));
    for version in apis::versions(DESCRIBE) {
        let asked = vec![absent.clone(), member.group_id()];
        let response = client.call(version, &DescribeGroupsRequest::default().with_groups(asked)).await;
        let mut states: Vec<&str> = response.groups.iter().map(|group| group.group_state.as_str()).collect();
        states.sort_unstable();
        assert_eq!(states, ["Dead", "Stable"], "v{version}");
    }
}

#[tokio::test]
async fn an_offsets_topic_exists_once_a_coordinator_was_asked_for() {
    let mut client = group::connect().await;
    let request = kafka_protocol::messages::MetadataRequest::default().with_topics(None);
    until("__consumer_offsets", async || {
        let response = client.call(12, &request).await;
        let topic = response
            .topics
            .into_iter()
            .find(|topic| topic.name.as_deref().map(|n| &**n) == Some("__consumer_offsets"))?;
        assert!(topic.is_internal);
        assert_eq!(topic.partitions.len(), 8, "offsets.topic.num.partitions");
        Some(())
    })
    .await;
}
