//! Heartbeat 0–4: a member of a classic group is alive, and learns of rebalances.

use std::sync::Arc;

use kafka_protocol::messages::{HeartbeatRequest, HeartbeatResponse};

use super::group_words::{self, text};
use super::{Reply, RequestContext};
use crate::broker::Broker;
use crate::error::ErrorCode;
use crate::group::{Ask, Reply as Answer};

/// Answers Heartbeat.
pub fn handle(broker: &Arc<Broker>, _context: &RequestContext, request: HeartbeatRequest) -> Reply<HeartbeatResponse> {
    if let Err(code) = group_words::check_group_id(&request.group_id) {
        return Reply::Now(response(code));
    }
    let ask = Ask::Heartbeat {
        member_id: text(&request.member_id),
        instance_id: request.group_instance_id.as_ref().map(text),
        generation: request.generation_id,
    };
    let answer = broker.groups.ask(&request.group_id, ask);
    Reply::later(async move {
        match answer.await {
            Answer::Heartbeat(code) => response(code),
            other => unreachable!("Heartbeat was answered with {other:?}"),
        }
    })
}

fn response(code: ErrorCode) -> HeartbeatResponse {
    HeartbeatResponse::default().with_error_code(code.get())
}
