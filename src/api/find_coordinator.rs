//! FindCoordinator 0–6: which broker looks after a group. From version 4 on many keys at once (KIP-699).
//!
//! The first question for a group creates `__consumer_offsets` and waits until its shards run; Kafka answers
//! COORDINATOR_NOT_AVAILABLE and lets the client ask again. There are no transactions and no share groups yet: their
//! keys are refused with a sentence, so that a producer's `initTransactions` fails at once and says why.

use std::sync::Arc;

use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{BrokerId, FindCoordinatorRequest, FindCoordinatorResponse};
use kafka_protocol::protocol::StrBytes;

use super::{Reply, RequestContext};
use crate::broker::Broker;
use crate::controller::image::CONSUMER_OFFSETS;
use crate::controller::{BrokerEndpoint, MetadataImage};
use crate::error::{ErrorCode, Refusal};
use crate::group::Groups;
use crate::types::NodeId;

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

/// The version from which on there are several keys.
const BATCHED: i16 = 4;

type Found = Result<(NodeId, BrokerEndpoint), Refusal>;

/// Answers FindCoordinator.
pub fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: FindCoordinatorRequest,
) -> Reply<FindCoordinatorResponse> {
    let version = context.api_version;
    let listener = context.listener.clone();
    if request.key_type != GROUP || broker.controller.image().topic(CONSUMER_OFFSETS).is_some() {
        return Reply::Now(answer(&broker.controller.image(), &listener, &request, version));
    }
    let broker = broker.clone();
    Reply::later(async move {
        // Whether it could be created is seen in the image.
        let created = broker.groups.ensure_topic().await;
        if let Err(code) = created {
            tracing::debug!(%code, "the coordinators' topic is not there yet");
        }
        answer(&broker.controller.image(), &listener, &request, version)
    })
}

fn answer(
    image: &MetadataImage,
    listener: &str,
    request: &FindCoordinatorRequest,
    version: i16,
) -> FindCoordinatorResponse {
    let find = |key: &str| coordinator(image, listener, request.key_type, key);
    if version >= BATCHED {
        let each = request.coordinator_keys.iter().map(|key| of_key(key, find(key))).collect();
        return FindCoordinatorResponse::default().with_coordinators(each);
    }
    let found = find(&request.key);
    let message = match &found {
        Ok(_) => "NONE".to_owned(),
        Err(refusal) => sentence(refusal),
    };
    let single = of_key(&request.key, found);
    FindCoordinatorResponse::default()
        .with_error_code(single.error_code)
        .with_error_message(Some(StrBytes::from_string(message)))
        .with_node_id(single.node_id)
        .with_host(single.host)
        .with_port(single.port)
}

fn of_key(key: &StrBytes, found: Found) -> Coordinator {
    let coordinator = Coordinator::default().with_key(key.clone());
    match found {
        Ok((node, endpoint)) => coordinator
            .with_node_id(BrokerId(node.get()))
            .with_host(StrBytes::from_string(endpoint.host))
            .with_port(i32::from(endpoint.port))
            .with_error_message(Some(StrBytes::default())),
        Err(refusal) => coordinator
            .with_node_id(BrokerId(NodeId::NONE.get()))
            .with_port(-1)
            .with_error_code(refusal.code.get())
            .with_error_message(Some(StrBytes::from_string(sentence(&refusal)))),
    }
}

fn sentence(refusal: &Refusal) -> String {
    refusal.message.clone().unwrap_or_else(|| refusal.code.to_string())
}

fn coordinator(image: &MetadataImage, listener: &str, key_type: i8, key: &str) -> Found {
    match key_type {
        GROUP => of_group(image, listener, key)
            .ok_or_else(|| Refusal::new(ErrorCode::COORDINATOR_NOT_AVAILABLE, "The coordinator is not available.")),
        // The one code on which every client gives up at once and says so.
        TRANSACTION => Err(Refusal::new(
            ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
            "This broker does not support transactions yet: remove transactional.id from the producer's configuration.",
        )),
        other => Err(Refusal::new(
            ErrorCode::INVALID_REQUEST,
            format!("There is no coordinator for keys of type {other} on this broker."),
        )),
    }
}

fn of_group(image: &MetadataImage, listener: &str, group: &str) -> Option<(NodeId, BrokerEndpoint)> {
    let index = Groups::partition_of(image, group)?;
    let leader = image.topic(CONSUMER_OFFSETS)?.partition(index)?.leader;
    let broker = image.brokers.get(&leader).filter(|broker| !broker.fenced)?;
    Some((leader, broker.endpoint(listener)?.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_for_transactions_is_told_so_that_no_client_asks_again() {
        let refusal = coordinator(&MetadataImage::default(), "PLAINTEXT", TRANSACTION, "payments").unwrap_err();
        assert_eq!(refusal.code, ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED);
        assert!(refusal.message.is_some_and(|sentence| sentence.contains("remove transactional.id")));
    }
}
