//! DescribeGroups 0–6: state, protocol and members of classic groups.
//!
//! A group that is named again is INVALID_REQUEST the second time: Kafka repeats it.

use std::sync::Arc;

use futures_util::future::join_all;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse, GroupId};

use super::group_words::{self, Mentions, wire_text};
use super::{Reply, RequestContext};
use crate::broker::Broker;
use crate::error::ErrorCode;
use crate::group::Shard;
use crate::group::classic::{ClassicGroup, Member, State};

/// What a principal may do to a group where everything is allowed: one bit per `AclOperation`.
const GROUP_OPERATIONS: i32 = 3400;
/// "Not asked for".
const NO_OPERATIONS: i32 = i32::MIN;
/// From this version on a group that is not there is an error (KIP-1043).
const TELLS_UNKNOWN: i16 = 6;

/// Answers DescribeGroups.
pub fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: DescribeGroupsRequest,
) -> Reply<DescribeGroupsResponse> {
    let version = context.api_version;
    let operations = if request.include_authorized_operations { GROUP_OPERATIONS } else { NO_OPERATIONS };
    let mut mentions = Mentions::default();
    let looks: Vec<_> = request
        .groups
        .into_iter()
        .map(|id| {
            let name = id.clone();
            let first = mentions.check(&id);
            let look = first.map(|()| broker.groups.read(&id, move |shard| describe(shard, &name, version)));
            let found = async move { look?.await };
            async move {
                let failed = |code: ErrorCode| described(&id).with_error_code(code.get());
                let found = found.await.unwrap_or_else(failed);
                let allowed = if found.error_code == 0 { operations } else { NO_OPERATIONS };
                found.with_authorized_operations(allowed)
            }
        })
        .collect();
    Reply::later(async move { DescribeGroupsResponse::default().with_groups(join_all(looks).await) })
}

fn described(id: &GroupId) -> DescribedGroup {
    DescribedGroup::default().with_group_id(id.clone()).with_authorized_operations(NO_OPERATIONS)
}

fn describe(shard: &Shard, id: &GroupId, version: i16) -> DescribedGroup {
    match shard.group(id) {
        Some(group) => describe_classic(&group.classic, id, version),
        None => {
            let dead = described(id).with_group_state(wire_text("Dead"));
            if version < TELLS_UNKNOWN {
                return dead;
            }
            dead.with_error_code(ErrorCode::GROUP_ID_NOT_FOUND.get())
                .with_error_message(Some(wire_text(&format!("Group {} not found.", &**id))))
        }
    }
}

fn describe_classic(group: &ClassicGroup, id: &GroupId, version: i16) -> DescribedGroup {
    // What members say has a meaning only once a protocol is settled.
    let protocol = group.protocol().filter(|_| group.state() == State::Stable);
    let member = |member: &Member| {
        DescribedGroupMember::default()
            .with_member_id(wire_text(&member.id))
            .with_group_instance_id(member.instance_id.as_deref().map(wire_text).filter(|_| version >= 4))
            .with_client_id(wire_text(&member.client_id))
            .with_client_host(wire_text(&member.client_host))
            .with_member_metadata(protocol.map(|protocol| member.metadata(Some(protocol))).unwrap_or_default())
            .with_member_assignment(member.assignment.clone())
    };
    described(id)
        .with_group_state(group_words::wire_text(group.state().name()))
        .with_protocol_type(group.protocol_type().map(|kind| wire_text(kind)).unwrap_or_default())
        .with_protocol_data(protocol.map(|protocol| wire_text(protocol)).unwrap_or_default())
        .with_members(group.members().map(member).collect())
}
