//! ListGroups 0–5: the groups of this broker, by state (KIP-518) and by type (KIP-848).

use std::sync::Arc;

use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{ListGroupsRequest, ListGroupsResponse};
use kafka_protocol::protocol::StrBytes;

use super::group_words::wire_text;
use super::{Reply, RequestContext};
use crate::broker::Broker;
use crate::group::Shard;
use crate::group::classic::State;

/// The type of every group that there is.
const CLASSIC: &str = "classic";

/// Answers ListGroups.
pub fn handle(broker: &Arc<Broker>, context: &RequestContext, request: ListGroupsRequest) -> Reply<ListGroupsResponse> {
    let version = context.api_version;
    if !is_wanted(CLASSIC, &request.types_filter) {
        return Reply::Now(ListGroupsResponse::default());
    }
    // Looked at once and not for every group: a filter may be as long as a request.
    let wanted = State::ALL.map(|state| is_wanted(state.name(), &request.states_filter));
    let listed = broker.groups.read_all(move |shard| list(shard, wanted, version));
    Reply::later(async move {
        match listed.await {
            Ok(groups) => ListGroupsResponse::default().with_groups(groups.into_iter().flatten().collect()),
            Err(code) => ListGroupsResponse::default().with_error_code(code.get()),
        }
    })
}

/// No filter lets everything through; a filter is in any case.
fn is_wanted(name: &str, filter: &[StrBytes]) -> bool {
    filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(name))
}

/// `wanted` has each state at its number.
fn list(shard: &Shard, wanted: [bool; State::ALL.len()], version: i16) -> Vec<ListedGroup> {
    let listed = shard.groups().filter(|(_, group)| wanted[group.classic.state() as usize]);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_in_any_case_and_none_lets_everything_through() {
        let filter = ["stable".into(), "NOPE".into()].map(StrBytes::from_string);
        assert_eq!(State::ALL.map(|state| is_wanted(state.name(), &filter)), [false, false, false, true]);
        assert_eq!(State::ALL.map(|state| is_wanted(state.name(), &[])), [true; 4]);
        assert!(!is_wanted(CLASSIC, &filter));
    }
}
