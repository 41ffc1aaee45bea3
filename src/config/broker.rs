//! Pure. The broker's configuration, typed: what every other room reads.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::checks;
use super::key::Value;
use super::listeners::{self, Endpoint, Listener};
use super::notices::{self, Notice};
use super::settings::Settings;
use super::table;
use super::values::{FromValue, Values};
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

impl FromValue for ProduceValidation {
    fn from_value(value: Option<Value>) -> Result<Self, Option<Value>> {
        match String::from_value(value)?.as_str() {
            "fast" => Ok(Self::Fast),
            "full" => Ok(Self::Full),
            other => Err(Some(Value::Text(other.to_owned()))),
        }
    }
}

impl FromValue for LogFormat {
    fn from_value(value: Option<Value>) -> Result<Self, Option<Value>> {
        match String::from_value(value)?.as_str() {
            "human" => Ok(Self::Human),
            "json" => Ok(Self::Json),
            other => Err(Some(Value::Text(other.to_owned()))),
        }
    }
}

/// What the configuration must know of the machine. Read once by [`super::source`], so that the rest stays pure.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Machine {
    /// Its name, advertised by a listener on every interface that has no advertised address.
    pub hostname: String,
    /// Memory that the process may use, by the smaller of the machine's and its control group's.
    pub memory_bytes: u64,
    /// True when the kernel grants no more memory than there is (`vm.overcommit_memory=2`) or address space is limited.
    pub strict_memory: bool,
}

impl Default for Machine {
    /// A machine of which nothing is known.
    fn default() -> Self {
        Self { hostname: "localhost".to_owned(), memory_bytes: 1 << 30, strict_memory: false }
    }
}

/// A configuration that holds together, and what its owner should be told.
#[derive(Clone, PartialEq, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: BrokerConfig,
    /// To be logged once tracing is up.
    pub notices: Vec<Notice>,
}

/// From texts to a configuration. Every fault is one sentence that names the key, the value and what is allowed;
/// faults of single keys hide those of several keys together, which would only repeat them.
pub fn resolve(settings: &Settings, machine: &Machine) -> Result<Loaded, Vec<String>> {
    let values = Values::parse(settings.iter().map(|(key, setting)| (key, setting.text.as_str())))?;
    let mut errors = notices::refused(&values);
    errors.extend(checks::check(&values));
    let network = listeners::resolve(&values, settings, machine).unwrap_or_else(|faults| {
        errors.extend(faults);
        listeners::Network::default()
    });
    if !errors.is_empty() {
        return Err(errors);
    }
    let config = BrokerConfig::assemble(&values, settings, network, machine);
    let notices = notices::collect(settings, &values, &config, machine);
    Ok(Loaded { config, notices })
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
            /// `max.connections.per.ip.overrides`: address or host name to limit.
            pub max_connections_per_ip_overrides: BTreeMap<String, i32>,
            /// `queued.max.request.bytes`, or a quarter of the memory up to 256 MiB; not positive: no limit.
            pub queued_max_request_bytes: i64,
            /// Every key of the table that was set, as it was written; secrets are left out.
            pub explicit: BTreeMap<String, String>,
        }

        impl BrokerConfig {
            fn assemble(values: &Values, settings: &Settings, network: listeners::Network, machine: &Machine) -> Self {
                Self {
                    $($field: values.read(&stringify!($field).replace('_', ".")),)*
                    listeners: network.listeners,
                    advertised_listeners: network.advertised,
                    log_dirs: checks::log_dirs(values),
                    node_id: checks::node_id(values),
                    max_connections_per_ip_overrides: checks::connection_overrides(values).unwrap_or_default(),
                    queued_max_request_bytes: queued_max_request_bytes(values, machine),
                    explicit: explicit(settings),
                }
            }

            #[cfg(test)]
            pub(super) const FIELDS: &[&str] = &[$(stringify!($field)),*];
        }
    };
}

broker_config! {
    auto_create_topics_enable: bool,
    broker_rack: Option<String>,
    cluster_id: Option<String>,
    connections_max_idle_ms: i64,
    controller_listener_names: Vec<String>,
    default_replication_factor: i32,
    delete_topic_enable: bool,
    fetch_max_bytes: i32,
    group_initial_rebalance_delay_ms: i32,
    group_max_session_timeout_ms: i32,
    group_max_size: i32,
    group_min_session_timeout_ms: i32,
    log_initial_task_delay_ms: i64,
    log_retention_check_interval_ms: i64,
    max_connection_creation_rate: i32,
    max_connections: i32,
    max_connections_per_ip: i32,
    max_incremental_fetch_session_cache_slots: i32,
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
    ottla_group_coordinator_max_bytes: i64,
    ottla_group_coordinator_max_groups: i32,
    ottla_group_max_bytes: i64,
    ottla_http_listener: String,
    ottla_log_format: LogFormat,
    ottla_produce_validate: ProduceValidation,
    ottla_tail_cache_bytes: i64,
    ottla_unsent_max_bytes: i64,
    producer_id_expiration_check_interval_ms: i32,
    producer_id_expiration_ms: i32,
    replica_high_watermark_checkpoint_interval_ms: i64,
    replica_lag_time_max_ms: i64,
    socket_listen_backlog_size: i32,
    socket_receive_buffer_bytes: i32,
    socket_request_max_bytes: i32,
    socket_send_buffer_bytes: i32,
    transaction_max_timeout_ms: i32,
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

impl Default for BrokerConfig {
    /// What a broker without any configuration has.
    fn default() -> Self {
        resolve(&Settings::default(), &Machine::default()).expect("the defaults hold together").config
    }
}

/// Kafka's default is no limit, which lets declared lengths take all memory: ours is on.
fn queued_max_request_bytes(values: &Values, machine: &Machine) -> i64 {
    const CAP: u64 = 256 << 20;
    if values.is_set("queued.max.request.bytes") {
        return values.read("queued.max.request.bytes");
    }
    let share = i64::try_from((machine.memory_bytes / 4).min(CAP)).expect("256 MiB fit");
    share.max(values.read("socket.request.max.bytes"))
}

fn explicit(settings: &Settings) -> BTreeMap<String, String> {
    settings
        .iter()
        .filter(|(name, _)| table::broker_keys().get(name).is_some_and(|key| !key.sensitive()))
        .map(|(name, setting)| (name.to_owned(), setting.text.clone()))
        .collect()
}
