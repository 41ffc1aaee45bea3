//! DeleteTopics: by name, and from version 6 by id.
//!
//! As with CreateTopics, later requests of the connection wait and the timeout is not needed. Kafka shuffles the
//! answers to hide which topics exist from those who may not know; that belongs to authorization, which is not here.

use std::sync::Arc;

use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::{Reply, RequestContext};
use crate::broker::Broker;
use crate::controller::{DeleteAnswer, TopicToDelete};
use crate::error::{ErrorCode, Refusal};
use crate::types::TopicId;

/// Answers DeleteTopics.
pub fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: DeleteTopicsRequest,
) -> Reply<DeleteTopicsResponse> {
    let topics = named(&request);
    if !broker.config.delete_topic_enable {
        return Reply::Now(answer(all(topics, &disabled(context.api_version))));
    }
    let controller = broker.controller.clone();
    Reply::barrier(async move {
        let answers = match controller.delete_topics(topics.clone()).await {
            Ok(answers) => answers,
            Err(refusal) => all(topics, &refusal),
        };
        answer(answers)
    })
}

fn named(request: &DeleteTopicsRequest) -> Vec<TopicToDelete> {
    let by_name =
        request.topic_names.iter().map(|name| TopicToDelete { name: Some(name.to_string()), id: TopicId::ZERO });
    let states = request.topics.iter().map(|topic| TopicToDelete {
        name: topic.name.as_ref().map(|name| name.to_string()),
        id: TopicId(topic.topic_id),
    });
    by_name.chain(states).collect()
}

/// `delete.topic.enable=false`. The code of its own came with version 3.
fn disabled(version: i16) -> Refusal {
    let code = if version < 3 { ErrorCode::INVALID_REQUEST } else { ErrorCode::TOPIC_DELETION_DISABLED };
    Refusal::new(code, "Topic deletion is disabled.")
}

fn all(topics: Vec<TopicToDelete>, refusal: &Refusal) -> Vec<DeleteAnswer> {
    topics
        .into_iter()
        .map(|topic| DeleteAnswer { name: topic.name, id: topic.id, outcome: Err(refusal.clone()) })
        .collect()
}

fn answer(answers: Vec<DeleteAnswer>) -> DeleteTopicsResponse {
    let responses = answers.into_iter().map(|answer| {
        let refusal = answer.outcome.err();
        DeletableTopicResult::default()
            .with_name(answer.name.map(|name| TopicName(StrBytes::from_string(name))))
            .with_topic_id(answer.id.0)
            .with_error_code(refusal.as_ref().map_or(ErrorCode::NONE, |refusal| refusal.code).get())
            .with_error_message(refusal.and_then(|refusal| refusal.message).map(StrBytes::from_string))
    });
    DeleteTopicsResponse::default().with_responses(responses.collect())
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
    use kafka_protocol::protocol::Encodable;

    use super::*;

    #[test]
    fn both_ways_of_naming_a_topic_are_read() {
        let name = || TopicName(StrBytes::from_static_str("a"));
        let old = DeleteTopicsRequest::default().with_topic_names(vec![name()]);
        assert_eq!(named(&old), [TopicToDelete { name: Some("a".into()), id: TopicId::ZERO }]);
        let id = uuid::Uuid::from_u128(3);
        let states = vec![
            DeleteTopicState::default().with_name(Some(name())),
            DeleteTopicState::default().with_name(None).with_topic_id(id),
        ];
        let named = named(&DeleteTopicsRequest::default().with_topics(states));
        assert_eq!(named[1], TopicToDelete { name: None, id: TopicId(id) });
    }

    #[test]
    fn deletion_that_is_switched_off_is_said_in_the_words_of_the_version() {
        let topics = || vec![TopicToDelete { name: Some("a".into()), id: TopicId::ZERO }];
        for version in 1..=6 {
            let response = answer(all(topics(), &disabled(version)));
            assert_eq!(response.responses[0].error_code, if version < 3 { 42 } else { 73 });
            response.encode(&mut bytes::BytesMut::new(), version).unwrap();
        }
    }
}
