//! Metadata: the brokers of the listener that was asked, and topics with their partitions and leaders.
//!
//! A topic that is created because somebody asked for it is answered when it serves, not with Kafka's "unknown, ask
//! again": clients save a round trip and lose nothing. The answer is built from one image, so it never contradicts
//! itself; it must never name a broker's address of another listener.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{BrokerId, MetadataRequest, MetadataResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::outcomes::{Counted, Outcomes};
use super::{Frame, Reply, RequestContext};
use crate::broker::{Answer, Broker, Question};
use crate::controller::image::{NodeIds, is_internal};
use crate::controller::{BrokerRegistration, Controller, MetadataImage, PartitionImage, TopicImage, validate_name};
use crate::error::{Disconnect, ErrorCode};
use crate::types::{NodeId, TopicId};
use crate::wire::message::{FromWire, ToWire};

/// What a principal may do to a topic, and to the cluster, where everything is allowed: one bit per `AclOperation`.
const TOPIC_OPERATIONS: i32 = 3576;
const CLUSTER_OPERATIONS: i32 = 8096;
/// "Not asked for", as the schema's default.
const NO_OPERATIONS: i32 = i32::MIN;
/// The first version in which a name may be null.
const NULLABLE_NAMES: i16 = 10;
/// Versions that can name a topic by its id.
const WITH_IDS: i16 = 12;

/// More names than this in one request create nothing: no controller would take them at once.
const MAX_CREATED_BY_ASKING: usize = 10_000;

/// Topics that could not be created, and why.
type Refused = BTreeMap<String, ErrorCode>;

/// Answers Metadata.
pub fn serve(broker: &Arc<Broker>, context: &RequestContext, body: Bytes) -> Reply<Frame> {
    let version = context.api_version;
    let request = match MetadataRequest::from_wire(body, version) {
        Ok(request) => request,
        Err(reason) => return Reply::Close(reason),
    };
    let view = View { version, listener: context.listener.clone(), me: broker.config.node_id };
    let counted = Counted::of(broker, context);
    if view.wants_all(&request) {
        let image = broker.controller.image();
        let write = || view.written(&image, &request);
        let answer = broker.metadata_answers.get(image.version, &view.question(&request), write);
        answer.codes.iter().for_each(|(code, times)| counted.add(*code, *times));
        return Frame::from(answer.body).into();
    }
    some(broker, view, request).map(move |answer| counted.frame(&answer, version))
}

/// Answers a request that names topics.
fn some(broker: &Arc<Broker>, view: View, request: MetadataRequest) -> Reply<MetadataResponse> {
    if view.breaks_the_layout(&request) {
        return Reply::Close(Disconnect::because("a topic without a name in a version that has only names"));
    }
    if let Some(refusal) = view.refusal(&request) {
        return Reply::Now(refusal);
    }
    let image = broker.controller.image();
    let missing = if broker.config.auto_create_topics_enable { view.missing(&image, &request) } else { Vec::new() };
    if missing.is_empty() {
        return Reply::Now(view.answer(&image, &request, &Refused::new()));
    }
    let controller = broker.controller.clone();
    Reply::barrier(async move {
        let refused = create(&controller, missing).await;
        view.answer(&controller.image(), &request, &refused)
    })
}

async fn create(controller: &Controller, missing: Vec<String>) -> Refused {
    match controller.auto_create_topics(missing.clone()).await {
        Ok(answers) => {
            let refused = answers.into_iter().filter_map(|(name, outcome)| Some((name, outcome.err()?.code)));
            refused.filter(|(_, code)| *code != ErrorCode::TOPIC_ALREADY_EXISTS).collect()
        }
        // Retriable for every client, whatever it was that stopped the controller.
        Err(_) => missing.into_iter().map(|name| (name, ErrorCode::LEADER_NOT_AVAILABLE)).collect(),
    }
}

/// Who looks at the image, and in which version.
struct View {
    version: i16,
    listener: Arc<str>,
    me: NodeId,
}

impl View {
    /// The crate reads a null name in every version; before there were ids a name could not be null.
    fn breaks_the_layout(&self, request: &MetadataRequest) -> bool {
        self.version < NULLABLE_NAMES && request.topics.iter().flatten().any(|topic| topic.name.is_none())
    }

    fn wants_all(&self, request: &MetadataRequest) -> bool {
        request.topics.as_ref().is_none_or(|topics| self.version == 0 && topics.is_empty())
    }

    /// What decides the answer to a request for all topics.
    fn question(&self, request: &MetadataRequest) -> Question {
        Question {
            version: self.version,
            listener: self.listener.clone(),
            topic_operations: request.include_topic_authorized_operations,
            cluster_operations: request.include_cluster_authorized_operations,
        }
    }

    /// The answer to a request for all topics, in bytes.
    fn written(&self, image: &MetadataImage, request: &MetadataRequest) -> Answer {
        let response = self.answer(image, request, &Refused::new());
        let mut codes = BTreeMap::<i16, u64>::new();
        response.outcomes(|code| *codes.entry(code).or_default() += 1);
        let codes = codes.into_iter().map(|(code, times)| (ErrorCode::from_wire(code), times)).collect();
        Answer { body: response.to_wire(self.version), codes }
    }

    /// The answer to a request that names topics in a way its version does not have: an error everywhere.
    fn refusal(&self, request: &MetadataRequest) -> Option<MetadataResponse> {
        let topics = request.topics.as_deref().unwrap_or_default();
        let by_id = |id: uuid::Uuid| !id.is_nil();
        let wrong = topics.iter().any(|topic| {
            let nameless = topic.name.is_none();
            if self.version < WITH_IDS { nameless || by_id(topic.topic_id) } else { nameless && !by_id(topic.topic_id) }
        });
        wrong.then(|| {
            let error = ErrorCode::INVALID_REQUEST.get();
            let topics = topics.iter().map(|topic| {
                let name = topic.name.clone().unwrap_or_default();
                MetadataResponseTopic::default()
                    .with_error_code(error)
                    .with_name(Some(name))
                    .with_topic_id(topic.topic_id)
                    .with_topic_authorized_operations(NO_OPERATIONS)
            });
            MetadataResponse::default()
                .with_cluster_id(None)
                .with_controller_id(BrokerId(NodeId::NONE.get()))
                .with_topics(topics.collect())
                .with_cluster_authorized_operations(NO_OPERATIONS)
                .with_error_code(error)
        })
    }

    /// Names that this request may create.
    fn missing(&self, image: &MetadataImage, request: &MetadataRequest) -> Vec<String> {
        let topics = request.topics.as_deref().unwrap_or_default();
        if !request.allow_auto_topic_creation || self.wants_all(request) || asks_by_id(request) {
            return Vec::new();
        }
        let names = topics.iter().filter_map(|topic| topic.name.as_ref()).map(|name| &***name);
        let creatable = |name: &&str| validate_name(name).is_ok() && !is_made_elsewhere(name);
        let missing: BTreeSet<_> = names.filter(|name| image.topic(name).is_none()).filter(creatable).collect();
        if missing.len() > MAX_CREATED_BY_ASKING {
            return Vec::new();
        }
        missing.into_iter().map(str::to_owned).collect()
    }

    fn answer(&self, image: &MetadataImage, request: &MetadataRequest, refused: &Refused) -> MetadataResponse {
        let operations = if self.version >= 8 && request.include_topic_authorized_operations {
            TOPIC_OPERATIONS
        } else {
            NO_OPERATIONS
        };
        let cluster = (8..=10).contains(&self.version) && request.include_cluster_authorized_operations;
        let brokers = image.live_brokers().filter_map(|broker| self.broker(broker));
        MetadataResponse::default()
            .with_brokers(brokers.collect())
            .with_cluster_id(Some(text(&image.cluster_id)))
            .with_controller_id(BrokerId(self.me.get()))
            .with_topics(self.topics(image, request, refused, operations))
            .with_cluster_authorized_operations(if cluster { CLUSTER_OPERATIONS } else { NO_OPERATIONS })
    }

    fn broker(&self, broker: &BrokerRegistration) -> Option<MetadataResponseBroker> {
        let endpoint = broker.endpoint(&self.listener)?;
        Some(
            MetadataResponseBroker::default()
                .with_node_id(BrokerId(broker.id.get()))
                .with_host(text(&endpoint.host))
                .with_port(i32::from(endpoint.port))
                .with_rack(broker.rack.as_deref().map(text)),
        )
    }

    fn topics(
        &self,
        image: &MetadataImage,
        request: &MetadataRequest,
        refused: &Refused,
        operations: i32,
    ) -> Vec<MetadataResponseTopic> {
        if self.wants_all(request) {
            return image.topics().map(|topic| self.topic(image, topic, operations)).collect();
        }
        let topics = request.topics.as_deref().unwrap_or_default();
        if asks_by_id(request) {
            let ids: BTreeSet<_> = topics.iter().map(|topic| TopicId(topic.topic_id)).collect();
            let given = ids.into_iter().filter(|id| *id != TopicId::ZERO);
            return given
                .map(|id| match image.topic_by_id(id) {
                    Some(topic) => self.topic(image, topic, operations),
                    None => unknown_id(id),
                })
                .collect();
        }
        let mut seen = BTreeSet::new();
        let names = topics.iter().filter_map(|topic| topic.name.as_ref()).filter(|name| seen.insert(&***name));
        names
            .map(|name| match image.topic(name) {
                Some(topic) => self.topic(image, topic, operations),
                None => unknown_name(name, refused, operations),
            })
            .collect()
    }

    fn topic(&self, image: &MetadataImage, topic: &TopicImage, operations: i32) -> MetadataResponseTopic {
        let partitions = (0..).zip(&topic.partitions).map(|(index, partition)| self.partition(image, index, partition));
        MetadataResponseTopic::default()
            .with_name(Some(TopicName(text(&topic.name))))
            .with_topic_id(topic.id.0)
            .with_is_internal(topic.is_internal())
            .with_partitions(partitions.collect())
            .with_topic_authorized_operations(operations)
    }

    fn partition(&self, image: &MetadataImage, index: i32, partition: &PartitionImage) -> MetadataResponsePartition {
        let offline = |id: &NodeId| image.brokers.get(id).is_none_or(|broker| broker.fenced);
        let ids = |ids: &NodeIds| -> Vec<_> {
            // Version 0 has no field for replicas that are away: they are left out, and an error says so.
            ids.iter().filter(|id| self.version > 0 || !offline(id)).map(|id| BrokerId(id.get())).collect()
        };
        let away: Vec<_> = partition.replicas.iter().filter(|id| offline(id)).map(|id| BrokerId(id.get())).collect();
        let leader = image.brokers.get(&partition.leader).filter(|broker| !broker.fenced);
        let reached = leader.filter(|leader| leader.endpoint(&self.listener).is_some());
        let error = match (leader, reached) {
            (_, Some(_)) if self.version == 0 && !away.is_empty() => ErrorCode::REPLICA_NOT_AVAILABLE,
            (_, Some(_)) => ErrorCode::NONE,
            (Some(_), None) if self.version >= 6 => ErrorCode::LISTENER_NOT_FOUND,
            _ => ErrorCode::LEADER_NOT_AVAILABLE,
        };
        MetadataResponsePartition::default()
            .with_error_code(error.get())
            .with_partition_index(index)
            .with_leader_id(BrokerId(reached.map_or(NodeId::NONE, |leader| leader.id).get()))
            .with_leader_epoch(partition.leader_epoch.get())
            .with_replica_nodes(ids(&partition.replicas))
            .with_isr_nodes(ids(&partition.isr))
            .with_offline_replicas(away)
    }
}

/// One id makes it a request by ids: names beside it are not looked at, as in Kafka.
fn asks_by_id(request: &MetadataRequest) -> bool {
    request.topics.iter().flatten().any(|topic| !topic.topic_id.is_nil())
}

/// Topics that a coordinator makes when it exists. Made here, they would have the wrong shape.
fn is_made_elsewhere(name: &str) -> bool {
    use crate::controller::image::{CONSUMER_OFFSETS, TRANSACTION_STATE};
    (is_internal(name) && name != CONSUMER_OFFSETS) || name == TRANSACTION_STATE || name == "__cluster_metadata"
}

fn unknown_id(id: TopicId) -> MetadataResponseTopic {
    MetadataResponseTopic::default()
        .with_error_code(ErrorCode::UNKNOWN_TOPIC_ID.get())
        .with_name(None)
        .with_topic_id(id.0)
        .with_topic_authorized_operations(NO_OPERATIONS)
}

fn unknown_name(name: &TopicName, refused: &Refused, operations: i32) -> MetadataResponseTopic {
    let unknown = || match validate_name(name) {
        Ok(()) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        Err(refusal) => refusal.code,
    };
    let error = refused.get(&***name).copied().unwrap_or_else(unknown);
    MetadataResponseTopic::default()
        .with_error_code(error.get())
        .with_name(Some(name.clone()))
        .with_is_internal(is_internal(name))
        .with_topic_authorized_operations(operations)
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

#[cfg(test)]
#[path = "metadata_tests.rs"]
mod tests;
