//! InitProducerId, key 22, versions 0–5.
//!
//! Gives an idempotent producer an id of its own, never given before, with epoch 0. As in Kafka a producer without a
//! transactional id that sends the id and epoch it had (v3+) gets a new id all the same: its sequences begin anew
//! (TransactionCoordinator.handleInitProducerId).
//!
//! There are no transactions in this version. A transactional id is TRANSACTIONAL_ID_AUTHORIZATION_FAILED: every client
//! takes it as fatal and stops, where COORDINATOR_NOT_AVAILABLE would be retried for ever. The log says why.

use std::sync::Arc;

use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId as WireProducerId};

use super::{Reply, RequestContext};
use crate::broker::Broker;
use crate::error::ErrorCode;
use crate::types::{ProducerEpoch, ProducerId};

/// `transaction.max.timeout.ms`, at its default: a larger demand is refused before the transactional id is looked at.
const TRANSACTION_MAX_TIMEOUT_MS: i32 = 900_000;

/// Serves a request.
pub fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: InitProducerIdRequest,
) -> Reply<InitProducerIdResponse> {
    if let Err(error) = check(context, &request) {
        return Reply::Now(refused(error));
    }
    if let Some(id) = broker.producer_ids.take() {
        return Reply::Now(given(id));
    }
    let producer_ids = Arc::clone(&broker.producer_ids);
    Reply::later(async move {
        match producer_ids.next().await {
            Ok(id) => given(id),
            Err(refusal) => {
                tracing::warn!(code = %refusal.code, message = refusal.message, "no producer id for an idempotent producer");
                // Kafka's answer while no block can be had: clients try again.
                refused(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS)
            }
        }
    })
}

fn check(context: &RequestContext, request: &InitProducerIdRequest) -> Result<(), ErrorCode> {
    // An id without an epoch, or an epoch without an id, means nothing (KafkaApis.handleInitProducerIdRequest).
    if (request.producer_id.0 == ProducerId::NONE.0) != (request.producer_epoch == ProducerEpoch::NONE.0) {
        return Err(ErrorCode::INVALID_REQUEST);
    }
    match request.transactional_id.as_ref().map(|id| id.as_str()) {
        None => Ok(()),
        Some("") => Err(ErrorCode::INVALID_REQUEST),
        Some(_) if !(1..=TRANSACTION_MAX_TIMEOUT_MS).contains(&request.transaction_timeout_ms) => {
            Err(ErrorCode::INVALID_TRANSACTION_TIMEOUT)
        }
        Some(id) => {
            tracing::warn!(
                transactional_id = id,
                client_id = context.client_id(),
                "transactions do not exist in this version: a transactional producer is refused"
            );
            Err(ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED)
        }
    }
}

fn given(id: ProducerId) -> InitProducerIdResponse {
    InitProducerIdResponse::default().with_producer_id(WireProducerId(id.0)).with_producer_epoch(0)
}

fn refused(error: ErrorCode) -> InitProducerIdResponse {
    InitProducerIdResponse::default()
        .with_error_code(error.get())
        .with_producer_id(WireProducerId(ProducerId::NONE.0))
        .with_producer_epoch(ProducerEpoch::NONE.0)
}
