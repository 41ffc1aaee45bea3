//! LeaveGroup 0–5: members leave a classic group, from version 3 on several at once (KIP-345).

use std::sync::Arc;

use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};

use super::group_words::{self, text, wire_text};
use super::{Reply, RequestContext};
use crate::broker::Broker;
use crate::error::ErrorCode;
use crate::group::classic::{LeaveIdentity, LeaveResult};
use crate::group::{Ask, Reply as Answer};

/// The version from which on there are several members.
const BATCHED: i16 = 3;

/// Answers LeaveGroup.
pub fn handle(broker: &Arc<Broker>, context: &RequestContext, request: LeaveGroupRequest) -> Reply<LeaveGroupResponse> {
    let version = context.api_version;
    if let Err(code) = group_words::check_group_id(&request.group_id) {
        return Reply::Now(response(Err(code), version));
    }
    let identities = if version >= BATCHED {
        let identity = |member: &kafka_protocol::messages::leave_group_request::MemberIdentity| LeaveIdentity {
            member_id: text(&member.member_id),
            instance_id: member.group_instance_id.as_ref().map(text),
        };
        request.members.iter().map(identity).collect()
    } else {
        vec![LeaveIdentity { member_id: text(&request.member_id), instance_id: None }]
    };
    let answer = broker.groups.ask(&request.group_id, Ask::Leave(identities));
    Reply::later(async move {
        match answer.await {
            Answer::Leave(results) => response(results, version),
            other => unreachable!("LeaveGroup was answered with {other:?}"),
        }
    })
}

fn response(results: Result<Vec<LeaveResult>, ErrorCode>, version: i16) -> LeaveGroupResponse {
    let results = match results {
        Ok(results) => results,
        Err(code) => return LeaveGroupResponse::default().with_error_code(code.get()),
    };
    if version < BATCHED {
        // One member: its code is the answer's.
        let code = results.first().map_or(ErrorCode::NONE, |result| result.code);
        return LeaveGroupResponse::default().with_error_code(code.get());
    }
    let member = |result: &LeaveResult| {
        MemberResponse::default()
            .with_member_id(wire_text(&result.identity.member_id))
            .with_group_instance_id(result.identity.instance_id.as_deref().map(wire_text))
            .with_error_code(result.code.get())
    };
    LeaveGroupResponse::default().with_members(results.iter().map(member).collect())
}
