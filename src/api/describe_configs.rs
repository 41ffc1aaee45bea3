//! DescribeConfigs: what a topic's settings come to and where each comes from; what was set of this broker's.
//!
//! Nothing is invented: a resource that this version does not have is refused with a sentence, not answered empty.

use std::collections::BTreeSet;
use std::sync::Arc;

use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use kafka_protocol::protocol::StrBytes;

use super::{Reply, RequestContext};
use crate::broker::Broker;
use crate::config::BrokerConfig;
use crate::config::topic::{self, ConfigEntry, ConfigSource};
use crate::controller::{MetadataImage, validate_name};
use crate::error::{ErrorCode, Refusal};

/// `ConfigResource.Type` of a topic, a broker, and a broker's loggers.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const BROKER_LOGGER: i8 = 8;
const CLIENT_METRICS: i8 = 16;
const GROUP: i8 = 32;

/// Answers DescribeConfigs.
pub fn handle(
    broker: &Arc<Broker>,
    _context: &RequestContext,
    request: DescribeConfigsRequest,
) -> Reply<DescribeConfigsResponse> {
    Reply::Now(answer(&broker.controller.image(), &broker.config, &request))
}

fn answer(image: &MetadataImage, config: &BrokerConfig, request: &DescribeConfigsRequest) -> DescribeConfigsResponse {
    let mut seen = BTreeSet::new();
    let results = request.resources.iter().map(|resource| {
        // A description is a thousand times larger than a mention. Kafka repeats it; its clients never ask twice.
        let again = !seen.insert((resource.resource_type, &*resource.resource_name));
        let result = DescribeConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        let entries = if again { Err(twice(resource)) } else { entries(image, config, resource) };
        match entries {
            Ok(mut entries) => {
                entries.retain(|entry| is_asked_for(resource, &entry.name));
                entries.iter_mut().for_each(|entry| leave_out(entry, request));
                result.with_error_message(Some(StrBytes::default())).with_configs(entries)
            }
            Err(refusal) => result
                .with_error_code(refusal.code.get())
                .with_error_message(Some(refusal.message.map(StrBytes::from_string).unwrap_or_default())),
        }
    });
    DescribeConfigsResponse::default().with_results(results.collect())
}

fn twice(resource: &DescribeConfigsResource) -> Refusal {
    let sentence = format!("The resource '{}' is asked for more than once.", &*resource.resource_name);
    Refusal::new(ErrorCode::INVALID_REQUEST, sentence)
}

/// No keys, or an empty list of them, asks for all.
fn is_asked_for(resource: &DescribeConfigsResource, name: &str) -> bool {
    match resource.configuration_keys.as_deref() {
        None | Some([]) => true,
        Some(keys) => keys.iter().any(|key| &**key == name),
    }
}

fn entries(
    image: &MetadataImage,
    config: &BrokerConfig,
    resource: &DescribeConfigsResource,
) -> Result<Vec<DescribeConfigsResourceResult>, Refusal> {
    let name = &*resource.resource_name;
    let invalid = |sentence: String| Refusal::new(ErrorCode::INVALID_REQUEST, sentence);
    match resource.resource_type {
        TOPIC => {
            validate_name(name)?;
            let topic = image.topic(name).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
            Ok(topic::describe(&topic.configs, config).into_iter().map(described).collect())
        }
        // The cluster's dynamic defaults: this version has none.
        BROKER if name.is_empty() => Ok(Vec::new()),
        BROKER => match broker_id(name)? {
            id if id == config.node_id.get() => Ok(explicit(config)),
            _ => Err(invalid(format!(
                "Unexpected broker id, expected {} or empty string, but received {name}",
                config.node_id
            ))),
        },
        BROKER_LOGGER | CLIENT_METRICS | GROUP => {
            Err(invalid(format!("Resource type {} is not supported by this version.", resource.resource_type)))
        }
        _ => Err(invalid(
            "This most likely occurs because of a request being malformed by the client library or the message was \
             sent to an incompatible broker. See the broker logs for more details."
                .into(),
        )),
    }
}

fn described(entry: ConfigEntry) -> DescribeConfigsResourceResult {
    let synonyms = entry.synonyms.into_iter().map(|synonym| {
        DescribeConfigsSynonym::default()
            .with_name(StrBytes::from_static_str(synonym.name))
            .with_value(synonym.value.map(StrBytes::from_string))
            .with_source(synonym.source as i8)
    });
    DescribeConfigsResourceResult::default()
        .with_name(StrBytes::from_static_str(entry.name))
        .with_value(entry.value.map(StrBytes::from_string))
        .with_read_only(entry.read_only)
        .with_config_source(entry.source as i8)
        .with_is_sensitive(entry.sensitive)
        .with_synonyms(synonyms.collect())
        .with_config_type(entry.config_type.wire())
        .with_documentation(Some(StrBytes::from_static_str(entry.documentation)))
}

/// What was set of this broker's keys; no secret is among them.
fn explicit(config: &BrokerConfig) -> Vec<DescribeConfigsResourceResult> {
    let source = ConfigSource::StaticBrokerConfig as i8;
    let entries = config.explicit.iter().map(|(key, value)| {
        let (key, value) = (StrBytes::from_string(key.clone()), Some(StrBytes::from_string(value.clone())));
        let own =
            DescribeConfigsSynonym::default().with_name(key.clone()).with_value(value.clone()).with_source(source);
        DescribeConfigsResourceResult::default()
            .with_name(key)
            .with_value(value)
            .with_read_only(true)
            .with_config_source(source)
            .with_synonyms(vec![own])
            .with_documentation(None)
    });
    entries.collect()
}

/// Synonyms and documentation are there for those who ask.
fn leave_out(entry: &mut DescribeConfigsResourceResult, request: &DescribeConfigsRequest) {
    if !request.include_synonyms {
        entry.synonyms.clear();
    }
    if !request.include_documentation {
        entry.documentation = None;
    }
}

fn broker_id(name: &str) -> Result<i32, Refusal> {
    name.parse().map_err(|_| {
        Refusal::new(ErrorCode::INVALID_REQUEST, format!("Broker id must be an integer, but it is: {name}"))
    })
}

#[cfg(test)]
mod tests {
    use kafka_protocol::protocol::Encodable;

    use super::*;
    use crate::controller::apply::apply;
    use crate::controller::record::{ConfigRecord, Record, TopicRecord};
    use crate::types::TopicId;

    fn image() -> MetadataImage {
        let id = TopicId(uuid::Uuid::from_u128(1));
        let records = [
            Record::Topic(TopicRecord { id, name: "t".into() }),
            Record::Config(ConfigRecord { topic: id, key: "cleanup.policy".into(), value: Some("compact".into()) }),
        ];
        apply(&MetadataImage::default(), 1, &records)
    }

    fn ask(kind: i8, name: &str, keys: Option<&[&'static str]>) -> DescribeConfigsRequest {
        let keys = keys.map(|keys| keys.iter().map(|key| StrBytes::from_static_str(key)).collect());
        let resource = DescribeConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(StrBytes::from_string(name.into()))
            .with_configuration_keys(keys);
        DescribeConfigsRequest::default().with_resources(vec![resource])
    }

    fn told(request: &DescribeConfigsRequest) -> DescribeConfigsResult {
        answer(&image(), &BrokerConfig::default(), request).results.remove(0)
    }

    fn refused(kind: i8, name: &str) -> (i16, String) {
        let result = told(&ask(kind, name, None));
        assert!(result.configs.is_empty());
        (result.error_code, result.error_message.unwrap().to_string())
    }

    #[test]
    fn a_topic_shows_all_its_settings_or_those_that_are_asked_for() {
        assert_eq!(told(&ask(TOPIC, "t", None)).configs.len(), 33);
        assert_eq!(told(&ask(TOPIC, "t", Some(&[]))).configs.len(), 33);
        let some = told(&ask(TOPIC, "t", Some(&["retention.ms", "nope"])));
        assert_eq!(some.configs.len(), 1);
        assert_eq!((&*some.configs[0].name, some.configs[0].config_source), ("retention.ms", 5));
    }

    #[test]
    fn synonyms_and_documentation_come_when_asked_for() {
        let plain = told(&ask(TOPIC, "t", Some(&["cleanup.policy"]))).configs.remove(0);
        assert_eq!((plain.value.as_deref(), plain.config_source, plain.config_type), (Some("compact"), 1, 7));
        assert!(plain.synonyms.is_empty() && plain.documentation.is_none());
        let request =
            ask(TOPIC, "t", Some(&["cleanup.policy"])).with_include_synonyms(true).with_include_documentation(true);
        let full = told(&request).configs.remove(0);
        let synonyms: Vec<_> = full.synonyms.iter().map(|synonym| (&*synonym.name, synonym.source)).collect();
        assert_eq!(synonyms, [("cleanup.policy", 1), ("log.cleanup.policy", 5)]);
        assert!(full.documentation.is_some());
    }

    #[test]
    fn what_is_not_there_is_refused_as_kafka_refuses_it() {
        assert_eq!(refused(TOPIC, "nope"), (3, String::new()));
        assert_eq!(refused(TOPIC, ""), (17, "Topic name is invalid: the empty string is not allowed".into()));
        assert_eq!(refused(BROKER, "x"), (42, "Broker id must be an integer, but it is: x".into()));
        assert_eq!(
            refused(BROKER, "2"),
            (42, "Unexpected broker id, expected 1 or empty string, but received 2".into())
        );
        assert_eq!(refused(0, "t").0, 42);
        assert_eq!(refused(GROUP, "g").0, 42);
        assert_eq!(told(&ask(BROKER, "", None)).error_code, 0);
    }

    #[test]
    fn a_resource_asked_for_twice_is_described_once() {
        let mut request = ask(TOPIC, "t", None);
        request.resources.push(request.resources[0].clone());
        let results = answer(&image(), &BrokerConfig::default(), &request).results;
        let sizes: Vec<_> = results.iter().map(|result| (result.error_code, result.configs.len())).collect();
        assert_eq!(sizes, [(0, 33), (42, 0)]);
    }

    #[test]
    fn a_broker_shows_what_was_set() {
        let mut config = BrokerConfig::default();
        config.explicit.insert("num.partitions".into(), "3".into());
        let result = answer(&image(), &config, &ask(BROKER, "1", None)).results.remove(0);
        let set = result.configs.iter().find(|entry| &*entry.name == "num.partitions").unwrap();
        assert_eq!((set.value.as_deref(), set.config_source, set.read_only), (Some("3"), 4, true));
    }

    #[test]
    fn every_version_can_carry_the_answer() {
        let request = ask(TOPIC, "t", None).with_include_synonyms(true).with_include_documentation(true);
        for version in 1..=4 {
            let response = answer(&image(), &BrokerConfig::default(), &request);
            response.encode(&mut bytes::BytesMut::new(), version).unwrap();
        }
    }
}
