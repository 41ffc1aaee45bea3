//! JoinGroup 0–9: a member comes into a classic group, or back into it. Answered when the generation is complete.
//!
//! Order of checks as Kafka's: group id, session time-out, then what depends on the group. What is kept of the request
//! is copied: a member must not pin the frame that it came in. A member may know a thousand protocols; Kafka has no such
//! limit, and clients know a handful.

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::{JoinGroupRequest, JoinGroupResponse};

use super::group_words::{self, text, wire_text};
use super::{Reply, RequestContext};
use crate::broker::Broker;
use crate::config::BrokerConfig;
use crate::env;
use crate::error::ErrorCode;
use crate::group::classic::{JoinReply, JoinRequest, JoinedMember, Protocol};
use crate::group::{Ask, Reply as Answer};

/// From this version on a member without id is given one and has to come back with it (KIP-394).
const NEEDS_MEMBER_ID: i16 = 4;
/// From this version on the protocol of an answer may be null.
const NULLABLE_PROTOCOL: i16 = 7;
/// From this version on a leader can be told to skip the assignment (KIP-814).
const SKIPS_ASSIGNMENT: i16 = 9;
/// Protocols of one member: every vote and every comparison with the member looks at each.
const MOST_PROTOCOLS: usize = 1_000;
/// A member id is what it is made from, a dash and a uuid.
const MEMBER_ID_SUFFIX: usize = 37;

/// Answers JoinGroup.
pub fn handle(broker: &Arc<Broker>, context: &RequestContext, request: JoinGroupRequest) -> Reply<JoinGroupResponse> {
    let version = context.api_version;
    if let Some(code) = refusal(&broker.config, context, &request) {
        let reply = JoinReply::refused(code, text(&request.member_id));
        return Reply::Now(response(reply, version));
    }
    let group = request.group_id.clone();
    let answer = broker.groups.ask(&group, Ask::Join(convert(context, request)));
    Reply::later(async move {
        match answer.await {
            Answer::Join(reply) => response(reply, version),
            other => unreachable!("JoinGroup was answered with {other:?}"),
        }
    })
}

fn refusal(config: &BrokerConfig, context: &RequestContext, request: &JoinGroupRequest) -> Option<ErrorCode> {
    let session = config.group_min_session_timeout_ms..=config.group_max_session_timeout_ms;
    if let Err(code) = group_words::check_group_id(&request.group_id) {
        return Some(code);
    }
    if !session.contains(&request.session_timeout_ms) {
        return Some(ErrorCode::INVALID_SESSION_TIMEOUT);
    }
    if request.protocols.len() > MOST_PROTOCOLS {
        return Some(ErrorCode::INVALID_REQUEST);
    }
    // These are written with lengths of two bytes.
    let kept = [context.client_id(), request.group_instance_id.as_deref().unwrap_or_default()];
    let names = request.protocols.iter().map(|protocol| &*protocol.name).chain([&*request.protocol_type]);
    let too_long = kept.iter().any(|text| text.len() + MEMBER_ID_SUFFIX > group_words::MAX_TEXT)
        || names.into_iter().any(|name| name.len() > group_words::MAX_TEXT);
    too_long.then_some(ErrorCode::INVALID_REQUEST)
}

fn convert(context: &RequestContext, request: JoinGroupRequest) -> JoinRequest {
    let version = context.api_version;
    let instance_id = request.group_instance_id.as_ref().map(text);
    let stem = instance_id.as_deref().unwrap_or_else(|| context.client_id());
    let protocol = |protocol: &kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol| Protocol {
        name: text(&protocol.name),
        metadata: Bytes::copy_from_slice(&protocol.metadata),
    };
    JoinRequest {
        member_id: text(&request.member_id),
        new_member_id: format!("{stem}-{}", env::random_uuid()).into(),
        client_id: context.client_id().into(),
        client_host: group_words::host(context.client_host).into(),
        protocol_type: text(&request.protocol_type),
        protocols: request.protocols.iter().map(protocol).collect(),
        session_timeout_ms: request.session_timeout_ms,
        // Version 0 knows only one time-out.
        rebalance_timeout_ms: if version == 0 { request.session_timeout_ms } else { request.rebalance_timeout_ms },
        needs_member_id: version >= NEEDS_MEMBER_ID,
        skips_assignment: version >= SKIPS_ASSIGNMENT,
        instance_id,
    }
}

fn response(reply: JoinReply, version: i16) -> JoinGroupResponse {
    let member = |member: JoinedMember| {
        JoinGroupResponseMember::default()
            .with_member_id(wire_text(&member.member_id))
            // Clients before KIP-345 know nothing of it.
            .with_group_instance_id(member.instance_id.as_deref().map(wire_text).filter(|_| version >= 5))
            .with_metadata(member.metadata)
    };
    let protocol = reply.protocol.as_deref().map(wire_text);
    JoinGroupResponse::default()
        .with_error_code(reply.code.get())
        .with_generation_id(reply.generation)
        .with_protocol_type(reply.protocol_type.as_deref().map(wire_text).filter(|_| version >= NULLABLE_PROTOCOL))
        .with_protocol_name(if version >= NULLABLE_PROTOCOL { protocol } else { Some(protocol.unwrap_or_default()) })
        .with_leader(reply.leader.as_deref().map(wire_text).unwrap_or_default())
        .with_skip_assignment(reply.skip_assignment && version >= SKIPS_ASSIGNMENT)
        .with_member_id(wire_text(&reply.member_id))
        .with_members(reply.members.into_iter().map(member).collect())
}

#[cfg(test)]
mod tests {
    use kafka_protocol::protocol::StrBytes;

    use super::*;

    #[test]
    fn an_answer_before_version_seven_has_an_empty_protocol_for_none() {
        let refused = || JoinReply::refused(ErrorCode::UNKNOWN_MEMBER_ID, "m".into());
        assert_eq!(response(refused(), 6).protocol_name, Some(StrBytes::default()));
        assert_eq!(response(refused(), 7).protocol_name, None);
        assert_eq!(response(refused(), 7).generation_id, -1);
    }
}
