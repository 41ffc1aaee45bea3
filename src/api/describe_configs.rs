//! DescribeConfigs: what a topic's settings come to and where each comes from; what was set of this broker's.
//!
//! Nothing is invented: a resource that this version does not have is refused with a sentence, not answered empty.

use std::sync::Arc;

use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use kafka_protocol::protocol::StrBytes;

use super::{Reply, RequestContext};
use crate::broker::Broker;
use crate::config::topic::{self, ConfigEntry, ConfigSource};
use crate::config::{BrokerConfig, Kind};
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
    let results = request.resources.iter().map(|resource| {
        let result = DescribeConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        match entries(image, config, resource) {
            Ok(entries) => {
                let shown = entries.into_iter().filter(|entry| is_asked_for(resource, entry.name));
                result
                    .with_error_message(Some(StrBytes::default()))
                    .with_configs(shown.map(|entry| described(entry, request)).collect())
            }
            Err(refusal) => result
                .with_error_code(refusal.code.get())
                .with_error_message(Some(refusal.message.map(StrBytes::from_string).unwrap_or_default())),
        }
    });
    DescribeConfigsResponse::default().with_results(results.collect())
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
) -> Result<Vec<ConfigEntry>, Refusal> {
    let name = &*resource.resource_name;
    let invalid = |sentence: String| Refusal::new(ErrorCode::INVALID_REQUEST, sentence);
    match resource.resource_type {
        TOPIC => {
            validate_name(name)?;
            let topic = image.topic(name).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
            Ok(topic::describe(&topic.configs, config))
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

fn broker_id(name: &str) -> Result<i32, Refusal> {
    name.parse().map_err(|_| {
        Refusal::new(ErrorCode::INVALID_REQUEST, format!("Broker id must be an integer, but it is: {name}"))
    })
}
