//! Pure. The broker's configuration, typed: what every other room reads.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::listeners::{Endpoint, Listener};
use crate::types::NodeId;

/// `ottla.produce.validate`: how far a compressed batch is looked into before it is stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProduceValidation {
    /// Frame header, CRC and bounds.
    Fast,
    /// Every record, as Kafka does.
    Full,
}

/// `ottla.log.format`: how log lines are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogFormat {
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

macro_rules! broker_config {
    ($($field:ident: $type:ty,)*) => {
        /// The broker's configuration: one field per key of Kafka's, dots as underscores, and what follows from several
        /// keys together.
        #[derive(Clone, PartialEq, Debug)]
        pub struct BrokerConfig {
            $(#[doc = concat!("The key `", stringify!($field), "`, with dots.")] pub $field: $type,)*
            /// `listeners`, without those of `controller.listener.names`.
            pub listeners: Vec<Listener>,
            /// `advertised.listeners`: one per listener.
            pub advertised_listeners: Vec<Endpoint>,
            /// `log.dirs`, or `log.dir`, or `./data`.
            pub log_dirs: Vec<PathBuf>,
            /// `node.id`, or `broker.id`, or 1.
            pub node_id: NodeId,
            /// The name of the listener that brokers use among themselves.
            pub inter_broker_listener: String,
            /// `cluster.id` or the environment's `CLUSTER_ID`; without it a new store makes its own.
            pub cluster_id: Option<String>,
            /// `max.connections.per.ip.overrides`: address or host name to limit.
            pub max_connections_per_ip_overrides: BTreeMap<String, i32>,
            /// Every key that was set, by its name, as it was written.
            pub explicit: BTreeMap<String, String>,
        }
    };
}

broker_config! {
    auto_create_topics_enable: bool,
    broker_rack: Option<String>,
    connections_max_idle_ms: i64,
    controller_listener_names: Vec<String>,
    default_replication_factor: i32,
    delete_topic_enable: bool,
    fetch_max_bytes: i32,
    group_initial_rebalance_delay_ms: i32,
    group_max_session_timeout_ms: i32,
    group_max_size: i32,
    group_min_session_timeout_ms: i32,
    log_flush_scheduler_interval_ms: i64,
    log_initial_task_delay_ms: i64,
    log_retention_check_interval_ms: i64,
    max_connection_creation_rate: i32,
    max_connections: i32,
    max_connections_per_ip: i32,
    max_incremental_fetch_session_cache_slots: i32,
    max_request_partition_size_limit: i32,
    message_max_bytes: i32,
    metadata_log_dir: Option<String>,
    num_partitions: i32,
    offset_metadata_max_bytes: i32,
    offsets_commit_timeout_ms: i32,
    offsets_load_buffer_size: i32,
    offsets_retention_check_interval_ms: i64,
    offsets_retention_minutes: i32,
    offsets_topic_compression_codec: i32,
    offsets_topic_num_partitions: i32,
    offsets_topic_replication_factor: i16,
    offsets_topic_segment_bytes: i32,
    ottla_disk_reserve_bytes: i64,
    ottla_http_listener: String,
    ottla_log_format: LogFormat,
    ottla_produce_validate: ProduceValidation,
    ottla_tail_cache_bytes: i64,
    process_roles: Vec<String>,
    producer_id_expiration_check_interval_ms: i32,
    producer_id_expiration_ms: i32,
    queued_max_request_bytes: i64,
    queued_max_requests: i32,
    request_timeout_ms: i32,
    socket_listen_backlog_size: i32,
    socket_receive_buffer_bytes: i32,
    socket_request_max_bytes: i32,
    socket_send_buffer_bytes: i32,
}

impl BrokerConfig {
    /// True when an operator set the key, in whatever way.
    pub fn is_set(&self, key: &str) -> bool {
        self.explicit.contains_key(key)
    }

    /// The advertised endpoint of a listener.
    pub fn advertised(&self, listener_name: &str) -> Option<&Endpoint> {
        self.advertised_listeners.iter().find(|endpoint| &*endpoint.listener_name == listener_name)
    }
}
