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
use crate::env;
use crate::env::lines::Lines;
use crate::error::ErrorCode;
use crate::types::{ProducerEpoch, ProducerId, Tick};

/// How much of an id a line of the log shows.
const SHOWN_LETTERS: usize = 100;

/// Serves a request.
pub fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: InitProducerIdRequest,
) -> Reply<InitProducerIdResponse> {
    if let Err(error) = check(context, &request, broker.config.transaction_max_timeout_ms) {
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

/// A transaction that would take too long is refused before its transactional id is looked at.
fn check(context: &RequestContext, request: &InitProducerIdRequest, max_timeout_ms: i32) -> Result<(), ErrorCode> {
    // An id without an epoch, or an epoch without an id, means nothing (KafkaApis.handleInitProducerIdRequest).
    if (request.producer_id.0 == ProducerId::NONE.0) != (request.producer_epoch == ProducerEpoch::NONE.0) {
        return Err(ErrorCode::INVALID_REQUEST);
    }
    match request.transactional_id.as_ref().map(|id| id.as_str()) {
        None => Ok(()),
        Some("") => Err(ErrorCode::INVALID_REQUEST),
        Some(_) if !(1..=max_timeout_ms).contains(&request.transaction_timeout_ms) => {
            Err(ErrorCode::INVALID_TRANSACTION_TIMEOUT)
        }
        Some(id) => {
            tell(id, context.client_id(), env::tick());
            Err(ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED)
        }
    }
}

/// The log says why, but no stranger can fill it.
fn tell(transactional_id: &str, client_id: &str, now: Tick) {
    static LINES: Lines = Lines::new();
    let cut = |id: &str| id.chars().take(SHOWN_LETTERS).collect::<String>();
    if let Some(left_out) = LINES.admit(now) {
        tracing::warn!(
            transactional_id = cut(transactional_id),
            client_id = cut(client_id),
            left_out,
            "transactions do not exist in this version: a transactional producer is refused"
        );
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

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::TransactionalId;
    use kafka_protocol::protocol::StrBytes;

    use super::*;

    #[test]
    fn a_transaction_may_take_as_long_as_the_broker_is_set_to() {
        let context = RequestContext::of_connection(1, "PLAINTEXT".into(), std::net::Ipv4Addr::LOCALHOST.into());
        let asked = |timeout_ms| {
            InitProducerIdRequest::default()
                .with_transactional_id(Some(TransactionalId(StrBytes::from_static_str("t"))))
                .with_producer_id(WireProducerId(ProducerId::NONE.0))
                .with_producer_epoch(ProducerEpoch::NONE.0)
                .with_transaction_timeout_ms(timeout_ms)
        };
        for (timeout_ms, code) in [
            (0, ErrorCode::INVALID_TRANSACTION_TIMEOUT),
            (1, ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED),
            (5_000, ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED),
            (5_001, ErrorCode::INVALID_TRANSACTION_TIMEOUT),
        ] {
            assert_eq!(check(&context, &asked(timeout_ms), 5_000), Err(code), "{timeout_ms} ms");
        }
    }
}
