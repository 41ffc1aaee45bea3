//! CreateTopics: the request in the controller's words, and its answers in the wire's.
//!
//! The connection's later requests wait for the answer, so that a client which sends CreateTopics and then Produce
//! finds its topic. The request's timeout is not looked at: nothing here waits for other brokers, the answer comes when
//! the entry is on disk.

use std::sync::Arc;

use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use kafka_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::{Reply, RequestContext};
use crate::broker::Broker;
use crate::config::{BrokerConfig, topic};
use crate::controller::{Answers, NewTopic, TopicImage};
use crate::error::Refusal;
use crate::types::NodeId;

/// Answers CreateTopics.
pub fn handle(
    broker: &Arc<Broker>,
    _context: &RequestContext,
    request: CreateTopicsRequest,
) -> Reply<CreateTopicsResponse> {
    let (controller, config) = (broker.controller.clone(), broker.config.clone());
    Reply::barrier(async move {
        let names: Vec<_> = request.topics.iter().map(|topic| topic.name.to_string()).collect();
        let topics = request.topics.iter().map(wanted).collect();
        let answers = match controller.create_topics(topics, request.validate_only).await {
            Ok(answers) => answers,
            Err(refusal) => names.into_iter().map(|name| (name, Err(refusal.clone()))).collect(),
        };
        answer(answers, &config)
    })
}

fn wanted(topic: &CreatableTopic) -> NewTopic {
    let assignments = topic
        .assignments
        .iter()
        .map(|assignment| (assignment.partition_index, assignment.broker_ids.iter().map(|id| NodeId(id.0)).collect()));
    let configs =
        topic.configs.iter().map(|config| (config.name.to_string(), config.value.as_ref().map(|v| v.to_string())));
    NewTopic {
        name: topic.name.to_string(),
        partitions: topic.num_partitions,
        replication_factor: topic.replication_factor,
        assignments: assignments.collect(),
        configs: configs.collect(),
    }
}

fn answer(answers: Answers<Arc<TopicImage>>, config: &BrokerConfig) -> CreateTopicsResponse {
    let topics = answers.into_iter().map(|(name, outcome)| match outcome {
        Ok(topic) => created(&topic, config),
        Err(refusal) => refused(name, refusal),
    });
    CreateTopicsResponse::default().with_topics(topics.collect())
}

fn created(topic: &TopicImage, config: &BrokerConfig) -> CreatableTopicResult {
    let configs = topic::describe(&topic.configs, config).into_iter().map(|entry| {
        CreatableTopicConfigs::default()
            .with_name(StrBytes::from_static_str(entry.name))
            .with_value(entry.value.map(StrBytes::from_string))
            .with_read_only(entry.read_only)
            .with_config_source(entry.source as i8)
            .with_is_sensitive(entry.sensitive)
    });
    CreatableTopicResult::default()
        .with_name(TopicName(StrBytes::from_string(topic.name.to_string())))
        .with_topic_id(topic.id.0)
        .with_error_message(None)
        .with_num_partitions(i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX))
        .with_replication_factor(topic.replication_factor())
        .with_configs(Some(configs.collect()))
}

fn refused(name: String, refusal: Refusal) -> CreatableTopicResult {
    CreatableTopicResult::default()
        .with_name(TopicName(StrBytes::from_string(name)))
        .with_error_code(refusal.code.get())
        .with_error_message(refusal.message.map(StrBytes::from_string))
        .with_num_partitions(-1)
        .with_replication_factor(-1)
        .with_configs(Some(Vec::new()))
}

#[cfg(test)]
mod tests {
    use kafka_protocol::protocol::Encodable;

    use super::*;
    use crate::error::ErrorCode;

    fn answers() -> Answers<Arc<TopicImage>> {
        let topic = TopicImage {
            id: crate::types::TopicId(uuid::Uuid::from_u128(5)),
            name: "t".into(),
            partitions: Vec::new(),
            configs: Arc::new([("retention.ms".to_owned(), "7".to_owned())].into()),
        };
        let refusal = Refusal::new(ErrorCode::TOPIC_ALREADY_EXISTS, "Topic 'u' already exists.");
        vec![("t".into(), Ok(Arc::new(topic))), ("u".into(), Err(refusal))]
    }

    #[test]
    fn a_created_topic_shows_every_setting_and_where_it_comes_from() {
        let response = answer(answers(), &BrokerConfig::default());
        let configs = response.topics[0].configs.as_ref().unwrap();
        assert_eq!(configs.len(), 33);
        assert!(configs.is_sorted_by_key(|config| config.name.to_string()));
        let source = |name: &str| configs.iter().find(|config| &*config.name == name).unwrap().config_source;
        assert_eq!((source("retention.ms"), source("cleanup.policy")), (1, 5));
    }

    #[test]
    fn every_version_can_carry_an_answer_and_a_refusal() {
        let response = answer(answers(), &BrokerConfig::default());
        assert_eq!(response.topics[1].error_code, 36);
        assert_eq!((response.topics[1].num_partitions, response.topics[1].replication_factor), (-1, -1));
        for version in 2..=7 {
            response.encode(&mut bytes::BytesMut::new(), version).unwrap();
        }
    }
}
