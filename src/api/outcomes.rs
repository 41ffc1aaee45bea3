//! What is counted of an answer: each error code that stands in it, NONE too, as Kafka's `errorCounts` counts them
//! (`ErrorsPerSec` by request and error).

use std::sync::Arc;

use kafka_protocol::messages::{
    CreateTopicsResponse, DeleteTopicsResponse, DescribeClusterResponse, DescribeConfigsResponse,
    DescribeGroupsResponse, FindCoordinatorResponse, HeartbeatResponse, InitProducerIdResponse, JoinGroupResponse,
    LeaveGroupResponse, ListGroupsResponse, ListOffsetsResponse, MetadataResponse, OffsetCommitResponse,
    OffsetFetchResponse, OffsetForLeaderEpochResponse, SyncGroupResponse,
};

use super::{Frame, RequestContext};
use crate::broker::Broker;
use crate::error::ErrorCode;
use crate::metrics::Metrics;
use crate::wire::fetch::FetchResponse;
use crate::wire::message::{Newer, ToWire};
use crate::wire::produce::ProduceResponse;

/// An answer with error codes in it.
pub trait Outcomes {
    /// Tells each of them.
    fn outcomes(&self, tell: impl FnMut(i16));
}

/// Where the answers to a request are counted. An answer may come later: it is taken along.
pub struct Counted {
    metrics: Arc<Metrics>,
    row: usize,
}

impl Counted {
    /// For the request at hand.
    pub fn of(broker: &Broker, context: &RequestContext) -> Self {
        Self { metrics: Arc::clone(&broker.metrics), row: context.row }
    }

    /// Counts an answer.
    pub fn count(&self, answer: &impl Outcomes) {
        let mut fine = 0;
        answer.outcomes(|code| match code {
            0 => fine += 1,
            code => self.add(ErrorCode::from_wire(code), 1),
        });
        self.add(ErrorCode::NONE, fine);
    }

    /// Counts one code as often as it stands in an answer.
    pub fn add(&self, code: ErrorCode, times: u64) {
        if times > 0 {
            self.metrics.request(self.row).answered(code, times);
        }
    }

    /// Counts an answer and writes it.
    pub fn frame<A: Outcomes + ToWire>(&self, answer: &A, version: i16) -> Frame {
        self.count(answer);
        answer.to_wire(version).into()
    }
}

macro_rules! outcomes {
    ($($response:ty, $answer:ident => $codes:expr;)*) => {$(
        impl Outcomes for $response {
            fn outcomes(&self, tell: impl FnMut(i16)) {
                let $answer = self;
                $codes.into_iter().for_each(tell);
            }
        }
    )*};
}

outcomes! {
    ProduceResponse, answer =>
        answer.topics.iter().flat_map(|topic| &topic.partitions).map(|partition| partition.error.get());
    FetchResponse, answer => [answer.error.unwrap_or(ErrorCode::NONE).get()]
        .into_iter()
        .chain(answer.topics.iter().flat_map(|topic| &topic.partitions).map(|partition| partition.error.get()));
    Newer<ListOffsetsResponse>, answer =>
        answer.0.topics.iter().flat_map(|topic| &topic.partitions).map(|partition| partition.error_code);
    MetadataResponse, answer => answer.topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(|partition| partition.error_code).chain([topic.error_code])
    });
    OffsetCommitResponse, answer =>
        answer.topics.iter().flat_map(|topic| &topic.partitions).map(|partition| partition.error_code);
    FindCoordinatorResponse, answer => {
        let alone = answer.coordinators.is_empty().then_some(answer.error_code);
        answer.coordinators.iter().map(|coordinator| coordinator.error_code).chain(alone)
    };
    JoinGroupResponse, answer => [answer.error_code];
    HeartbeatResponse, answer => [answer.error_code];
    LeaveGroupResponse, answer =>
        [answer.error_code].into_iter().chain(answer.members.iter().map(|member| member.error_code));
    SyncGroupResponse, answer => [answer.error_code];
    DescribeGroupsResponse, answer => answer.groups.iter().map(|group| group.error_code);
    ListGroupsResponse, answer => [answer.error_code];
    CreateTopicsResponse, answer => answer.topics.iter().map(|topic| topic.error_code);
    DeleteTopicsResponse, answer => answer.responses.iter().map(|topic| topic.error_code);
    InitProducerIdResponse, answer => [answer.error_code];
    OffsetForLeaderEpochResponse, answer =>
        answer.topics.iter().flat_map(|topic| &topic.partitions).map(|partition| partition.error_code);
    DescribeConfigsResponse, answer => answer.results.iter().map(|result| result.error_code);
    DescribeClusterResponse, answer => [answer.error_code];
}

/// One group has its code for itself, several each beside their partitions'.
impl Outcomes for OffsetFetchResponse {
    fn outcomes(&self, mut tell: impl FnMut(i16)) {
        for group in &self.groups {
            tell(group.error_code);
            group.topics.iter().flat_map(|topic| &topic.partitions).for_each(|partition| tell(partition.error_code));
        }
        if self.groups.is_empty() {
            tell(self.error_code);
            self.topics.iter().flat_map(|topic| &topic.partitions).for_each(|partition| tell(partition.error_code));
        }
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::metadata_response::{MetadataResponsePartition, MetadataResponseTopic};

    use super::*;

    fn told(answer: &impl Outcomes) -> Vec<i16> {
        let mut codes = Vec::new();
        answer.outcomes(|code| codes.push(code));
        codes
    }

    #[test]
    fn topics_count_beside_their_partitions() {
        let partition = |code| MetadataResponsePartition::default().with_error_code(code);
        let topic = MetadataResponseTopic::default().with_partitions(vec![partition(0), partition(5)]);
        let unknown = MetadataResponseTopic::default().with_error_code(3);
        assert_eq!(told(&MetadataResponse::default().with_topics(vec![topic, unknown])), [0, 5, 0, 3]);
    }

    #[test]
    fn a_fetch_that_is_refused_as_a_whole_has_one_code() {
        let refused = FetchResponse { error: Some(ErrorCode::FETCH_SESSION_ID_NOT_FOUND), ..FetchResponse::default() };
        assert_eq!(told(&refused), [70]);
        assert_eq!(told(&FetchResponse::default()), [0]);
    }
}
