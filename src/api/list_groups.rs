//! ListGroups 0–5: the groups of this broker, by state (KIP-518) and by type (KIP-848).

use std::sync::Arc;

use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{ListGroupsRequest, ListGroupsResponse};
use kafka_protocol::protocol::StrBytes;

use super::group_words::wire_text;
use super::{Reply, RequestContext};
use crate::broker::Broker;
use crate::group::Shard;

/// The type of every group that there is.
const CLASSIC: &str = "classic";

/// Answers ListGroups.
pub fn handle(broker: &Arc<Broker>, context: &RequestContext, request: ListGroupsRequest) -> Reply<ListGroupsResponse> {
    let version = context.api_version;
    let lower = |names: &[StrBytes]| names.iter().map(|name| name.to_lowercase()).collect::<Vec<_>>();
    let (states, types) = (lower(&request.states_filter), lower(&request.types_filter));
    if !types.is_empty() && !types.iter().any(|kind| kind == CLASSIC) {
        return Reply::Now(ListGroupsResponse::default());
    }
    let listed = broker.groups.read_all(move |shard| list(shard, &states, version));
    Reply::later(async move {
        match listed.await {
            Ok(groups) => ListGroupsResponse::default().with_groups(groups.into_iter().flatten().collect()),
            Err(code) => ListGroupsResponse::default().with_error_code(code.get()),
        }
    })
}

fn list(shard: &Shard, states: &[String], version: i16) -> Vec<ListedGroup> {
    let wanted = |state: &str| states.is_empty() || states.iter().any(|wanted| wanted.eq_ignore_ascii_case(state));
    let listed = shard.groups().filter(|(_, group)| wanted(group.classic.state().name()));
    listed
        .map(|(id, group)| {
            let entry = ListedGroup::default()
                .with_group_id(wire_text(id).into())
                .with_protocol_type(group.classic.protocol_type().map(|kind| wire_text(kind)).unwrap_or_default());
            let entry =
                if version >= 4 { entry.with_group_state(wire_text(group.classic.state().name())) } else { entry };
            if version >= 5 { entry.with_group_type(wire_text(CLASSIC)) } else { entry }
        })
        .collect()
}
