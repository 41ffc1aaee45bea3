//! The bundle that handlers are given: handles to the rooms below, and no logic.
//!
//! It must stay small: a handler that needs something new asks a room for it. It knows no API and no socket.

mod metadata_answers;

use std::sync::Arc;

pub use metadata_answers::{Answer, MetadataAnswers, Question};

use crate::config::BrokerConfig;
use crate::controller::Controller;
use crate::group::Groups;
use crate::metrics::Metrics;
use crate::replica::{FetchSessions, ProducerIds, Replicas};
use crate::types::NodeId;

/// What a handler may reach.
pub struct Broker {
    /// The configuration, with the ports that the sockets really have.
    pub config: Arc<BrokerConfig>,
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// Changes the metadata, and knows the newest image.
    pub controller: Arc<Controller>,
    /// The partitions of this node.
    pub replicas: Arc<Replicas>,
    /// The groups that this node coordinates.
    pub groups: Arc<Groups>,
    /// The fetch sessions.
    pub sessions: Arc<FetchSessions>,
    /// Ids for idempotent producers.
    pub producer_ids: Arc<ProducerIds>,
    /// What was answered to those who want to know all topics.
    pub metadata_answers: MetadataAnswers,
}

impl Broker {
    /// The cluster's id and this node's.
    pub fn identity(&self) -> (Arc<str>, NodeId) {
        (Arc::clone(&self.controller.image().cluster_id), self.config.node_id)
    }
}
