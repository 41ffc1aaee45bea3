//! SyncGroup 0–5: the leader brings the assignment, everybody gets its share. Answered when the assignment is written.

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::{SyncGroupRequest, SyncGroupResponse};

use super::group_words::{self, text, wire_text};
use super::{Reply, RequestContext};
use crate::broker::Broker;
use crate::error::ErrorCode;
use crate::group::classic::{SyncReply, SyncRequest};
use crate::group::{Ask, Reply as Answer};

/// From this version on a member says which protocol it takes the group for (KIP-559).
const NAMES_PROTOCOL: i16 = 5;

/// Answers SyncGroup.
pub fn handle(broker: &Arc<Broker>, context: &RequestContext, request: SyncGroupRequest) -> Reply<SyncGroupResponse> {
    let version = context.api_version;
    let nameless = request.protocol_type.is_none() || request.protocol_name.is_none();
    let refusal = match group_words::check_group_id(&request.group_id) {
        _ if version >= NAMES_PROTOCOL && nameless => Some(ErrorCode::INCONSISTENT_GROUP_PROTOCOL),
        Err(code) => Some(code),
        Ok(()) => None,
    };
    if let Some(code) = refusal {
        return Reply::Now(response(SyncReply::refused(code), version));
    }
    let group = request.group_id.clone();
    let answer = broker.groups.ask(&group, Ask::Sync(convert(request)));
    Reply::later(async move {
        match answer.await {
            Answer::Sync(reply) => response(reply, version),
            other => unreachable!("SyncGroup was answered with {other:?}"),
        }
    })
}

fn convert(request: SyncGroupRequest) -> SyncRequest {
    let share = |given: &kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment| {
        (text(&given.member_id), Bytes::copy_from_slice(&given.assignment))
    };
    SyncRequest {
        member_id: text(&request.member_id),
        instance_id: request.group_instance_id.as_ref().map(text),
        generation: request.generation_id,
        protocol_type: request.protocol_type.as_ref().map(text),
        protocol: request.protocol_name.as_ref().map(text),
        assignment: request.assignments.iter().map(share).collect(),
    }
}

fn response(reply: SyncReply, version: i16) -> SyncGroupResponse {
    let named = version >= NAMES_PROTOCOL;
    SyncGroupResponse::default()
        .with_error_code(reply.code.get())
        .with_protocol_type(reply.protocol_type.as_deref().map(wire_text).filter(|_| named))
        .with_protocol_name(reply.protocol.as_deref().map(wire_text).filter(|_| named))
        .with_assignment(reply.assignment)
}
