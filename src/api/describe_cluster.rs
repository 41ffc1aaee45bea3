//! DescribeCluster: the cluster's id and the brokers of the listener that was asked.

use std::sync::Arc;

use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::{BrokerId, DescribeClusterRequest, DescribeClusterResponse};
use kafka_protocol::protocol::StrBytes;

use super::{Reply, RequestContext};
use crate::broker::Broker;
use crate::controller::MetadataImage;
use crate::error::ErrorCode;
use crate::types::NodeId;

/// `EndpointType`: who is asked about.
const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;
/// What a principal may do to the cluster where everything is allowed: one bit per `AclOperation`.
const CLUSTER_OPERATIONS: i32 = 8096;

/// Answers DescribeCluster.
pub fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: DescribeClusterRequest,
) -> Reply<DescribeClusterResponse> {
    Reply::Now(match refusal(request.endpoint_type) {
        Some(refusal) => refusal,
        None => answer(&broker.controller.image(), broker.config.node_id, &context.listener, &request),
    })
}

fn refusal(endpoint_type: i8) -> Option<DescribeClusterResponse> {
    let (code, sentence) = match endpoint_type {
        BROKERS => return None,
        CONTROLLERS => (
            ErrorCode::MISMATCHED_ENDPOINT_TYPE,
            "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type CONTROLLER".into(),
        ),
        other => (ErrorCode::UNSUPPORTED_ENDPOINT_TYPE, format!("Unsupported endpoint type {other}")),
    };
    let response = DescribeClusterResponse::default()
        .with_error_code(code.get())
        .with_error_message(Some(StrBytes::from_string(sentence)))
        .with_endpoint_type(BROKERS)
        .with_controller_id(BrokerId(NodeId::NONE.get()))
        .with_cluster_authorized_operations(i32::MIN);
    Some(response)
}

fn answer(
    image: &MetadataImage,
    me: NodeId,
    listener: &str,
    request: &DescribeClusterRequest,
) -> DescribeClusterResponse {
    let asked = image.brokers.values().filter(|broker| request.include_fenced_brokers || !broker.fenced);
    let brokers = asked.filter_map(|broker| {
        let endpoint = broker.endpoint(listener)?;
        Some(
            DescribeClusterBroker::default()
                .with_broker_id(BrokerId(broker.id.get()))
                .with_host(StrBytes::from_string(endpoint.host.clone()))
                .with_port(i32::from(endpoint.port))
                .with_rack(broker.rack.clone().map(StrBytes::from_string))
                .with_is_fenced(broker.fenced),
        )
    });
    let operations = if request.include_cluster_authorized_operations { CLUSTER_OPERATIONS } else { i32::MIN };
    DescribeClusterResponse::default()
        .with_error_message(None)
        .with_endpoint_type(BROKERS)
        .with_cluster_id(StrBytes::from_string(image.cluster_id.to_string()))
        .with_controller_id(BrokerId(me.get()))
        .with_brokers(brokers.collect())
        .with_cluster_authorized_operations(operations)
}

#[cfg(test)]
mod tests {
    use kafka_protocol::protocol::Encodable;

    use super::*;
    use crate::controller::apply::apply;
    use crate::controller::record::{ClusterIdRecord, Record};
    use crate::controller::{BrokerEndpoint, BrokerRegistration};

    fn image() -> MetadataImage {
        let broker = |id: i32, fenced| {
            let endpoint = |listener: &str, port| BrokerEndpoint { listener: listener.into(), host: "h".into(), port };
            Record::RegisterBroker(BrokerRegistration {
                id: NodeId(id),
                epoch: 0,
                incarnation: uuid::Uuid::nil(),
                endpoints: vec![endpoint("PLAINTEXT", 9092), endpoint("INSIDE", 9094)],
                rack: Some("r".into()),
                fenced,
                log_dirs: Vec::new(),
            })
        };
        let cluster = Record::ClusterId(ClusterIdRecord { cluster_id: "c".into() });
        apply(&MetadataImage::default(), 1, &[cluster, broker(1, false), broker(2, true)])
    }

    fn ports(listener: &str, request: &DescribeClusterRequest) -> Vec<(i32, i32)> {
        let response = answer(&image(), NodeId(1), listener, request);
        response.brokers.iter().map(|broker| (broker.broker_id.0, broker.port)).collect()
    }

    #[test]
    fn each_listener_is_told_its_own_addresses() {
        let request = DescribeClusterRequest::default();
        assert_eq!(ports("PLAINTEXT", &request), [(1, 9092)]);
        assert_eq!(ports("INSIDE", &request), [(1, 9094)]);
        assert_eq!(ports("NOBODY", &request), []);
        assert_eq!(ports("INSIDE", &request.with_include_fenced_brokers(true)), [(1, 9094), (2, 9094)]);
    }

    #[test]
    fn other_endpoints_are_refused_as_kafka_refuses_them() {
        assert!(refusal(BROKERS).is_none());
        let codes: Vec<_> = [2, 3].into_iter().filter_map(refusal).map(|response| response.error_code).collect();
        assert_eq!(codes, [114, 115]);
    }

    #[test]
    fn every_version_can_carry_the_answer() {
        for version in 0..=2 {
            let request = DescribeClusterRequest::default()
                .with_include_cluster_authorized_operations(true)
                .with_include_fenced_brokers(version >= 2);
            let response = answer(&image(), NodeId(1), "PLAINTEXT", &request);
            assert_eq!((&*response.cluster_id, response.cluster_authorized_operations), ("c", 8096));
            response.encode(&mut bytes::BytesMut::new(), version).unwrap();
            refusal(CONTROLLERS).unwrap().encode(&mut bytes::BytesMut::new(), version).unwrap();
        }
    }
}
