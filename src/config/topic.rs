//! Pure. A topic's configuration: what may be set, what it comes to with every default filled in, and how
//! DescribeConfigs shows it.
//!
//! A topic's own value goes first, then the broker keys that supply its default in the order of the table, then the
//! default (`ServerTopicConfigSynonyms`). The sentences of refusal are Kafka's: clients and tools show them as they are.

use std::collections::BTreeMap;

use super::broker::BrokerConfig;
use super::key::{Key, Kind, Scope, Support, Value};
use super::table;
use super::values::FromValue;

/// `cleanup.policy`: both may be set; neither keeps everything.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CleanupPolicy {
    /// Old segments are dropped by time and size.
    pub delete: bool,
    /// The last record of each key is kept.
    pub compact: bool,
}

/// `compression.type`: what the broker stores.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CompressionType {
    /// As the producer sent it.
    Producer,
    /// Decompressed.
    Uncompressed,
    /// gzip.
    Gzip,
    /// Snappy.
    Snappy,
    /// LZ4.
    Lz4,
    /// Zstandard.
    Zstd,
}

/// `message.timestamp.type`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TimestampType {
    /// The producer's clock.
    CreateTime,
    /// The broker's clock, at append.
    LogAppendTime,
}

impl FromValue for CleanupPolicy {
    fn from_value(value: Option<Value>) -> Result<Self, Option<Value>> {
        let items = Vec::<String>::from_value(value)?;
        let has = |name: &str| items.iter().any(|item| item == name);
        Ok(Self { delete: has("delete"), compact: has("compact") })
    }
}

impl FromValue for CompressionType {
    fn from_value(value: Option<Value>) -> Result<Self, Option<Value>> {
        let name = String::from_value(value)?;
        match name.as_str() {
            "producer" => Ok(Self::Producer),
            "uncompressed" => Ok(Self::Uncompressed),
            "gzip" => Ok(Self::Gzip),
            "snappy" => Ok(Self::Snappy),
            "lz4" => Ok(Self::Lz4),
            "zstd" => Ok(Self::Zstd),
            _ => Err(Some(Value::Text(name))),
        }
    }
}

impl FromValue for TimestampType {
    fn from_value(value: Option<Value>) -> Result<Self, Option<Value>> {
        let name = String::from_value(value)?;
        match name.as_str() {
            "CreateTime" => Ok(Self::CreateTime),
            "LogAppendTime" => Ok(Self::LogAppendTime),
            _ => Err(Some(Value::Text(name))),
        }
    }
}

macro_rules! topic_config {
    ($($field:ident: $type:ty,)*) => {
        /// A topic's configuration: one field per key of Kafka's, dots as underscores.
        #[derive(Clone, PartialEq, Debug)]
        pub struct TopicConfig {
            $(#[doc = concat!("The topic key `", stringify!($field), "`, with dots.")] pub $field: $type,)*
        }

        impl TopicConfig {
            /// What a topic with these values of its own comes to on this broker. A value that is not valid (none is
            /// stored) counts as not set.
            pub fn resolve(overrides: &BTreeMap<String, String>, broker: &BrokerConfig) -> Self {
                let read = |field: &str| {
                    let name = field.replace('_', ".");
                    let key = table::topic_keys().get(name.as_str()).unwrap_or_else(|| panic!("{name} is a topic key"));
                    effective(key, overrides, broker)
                };
                let mut config = Self {
                    $($field: FromValue::from_value(read(stringify!($field))).expect("field and table agree"),)*
                };
                let internal = FromValue::from_value(read("internal_segment_bytes")).expect("field and table agree");
                if let Some(bytes) = internal {
                    config.segment_bytes = bytes;
                }
                config
            }
        }
    };
}

topic_config! {
    cleanup_policy: CleanupPolicy,
    compression_gzip_level: i32,
    compression_lz4_level: i32,
    compression_type: CompressionType,
    compression_zstd_level: i32,
    flush_messages: i64,
    flush_ms: i64,
    max_compaction_lag_ms: i64,
    max_message_bytes: i32,
    message_timestamp_after_max_ms: i64,
    message_timestamp_before_max_ms: i64,
    message_timestamp_type: TimestampType,
    min_compaction_lag_ms: i64,
    min_insync_replicas: i32,
    retention_bytes: i64,
    retention_ms: i64,
    segment_bytes: i32,
    segment_jitter_ms: i64,
    segment_ms: i64,
}

fn effective(key: &Key, overrides: &BTreeMap<String, String>, broker: &BrokerConfig) -> Option<Value> {
    let own = overrides.get(key.name).and_then(|text| key.parse(text).ok());
    own.or_else(|| from_broker(key, broker)).or_else(|| key.default_value())
}

/// The first broker key that supplies the default and was set, in the topic's unit.
fn from_broker(key: &Key, broker: &BrokerConfig) -> Option<Value> {
    key.synonyms.iter().find_map(|(name, factor)| {
        let text = broker.explicit.get(*name)?;
        let value = table::broker_keys().get(name)?.parse(text).ok()?;
        Some(match value {
            // A broker says "for ever" by any negative number of milliseconds, minutes or hours, a topic by -1.
            Value::Number(number) if key.name == "retention.ms" && number < 0 => Value::Number(-1),
            Value::Number(number) => Value::Number(number.saturating_mul(*factor)),
            other => other,
        })
    })
}

/// Refuses what Kafka would refuse of one key, in Kafka's words (INVALID_CONFIG).
pub fn validate(name: &str, text: &str) -> Result<(), String> {
    match table::topic_keys().get(name) {
        None => Err(format!("Unknown topic config name: {name}")),
        Some(key) => key.parse(text).map(drop),
    }
}

/// Refuses what Kafka would refuse of a topic's values together, in Kafka's words: unknown names first, then values,
/// then what two keys say of each other.
pub fn validate_all(overrides: &BTreeMap<String, String>, broker: &BrokerConfig) -> Result<(), String> {
    if let Some(name) = overrides.keys().find(|name| !table::topic_keys().contains_key(name.as_str())) {
        return Err(format!("Unknown topic config name: {name}"));
    }
    overrides.iter().try_for_each(|(name, text)| validate(name, text))?;
    if overrides.get("remote.storage.enable").is_some_and(|text| text.trim().eq_ignore_ascii_case("true")) {
        let why = "Tiered Storage functionality is disabled in the broker. \
                   Topic cannot be configured with remote log storage.";
        return Err(why.to_owned());
    }
    let config = TopicConfig::resolve(overrides, broker);
    if config.min_compaction_lag_ms > config.max_compaction_lag_ms {
        return Err(format!(
            "conflict topic config setting min.compaction.lag.ms ({}) > max.compaction.lag.ms ({})",
            config.min_compaction_lag_ms, config.max_compaction_lag_ms
        ));
    }
    Ok(())
}

/// What a topic asks for and this version does not do, as `key=value`; empty when it does all of it.
pub fn without_effect(overrides: &BTreeMap<String, String>) -> Vec<String> {
    let asked = overrides.iter().filter(|(name, text)| {
        let Some(key) = table::topic_keys().get(name.as_str()) else { return false };
        let differs = || key.parse(text).is_ok_and(|value| Some(value) != key.default_value());
        // The policy is honoured but for its one half.
        let compacts = || name.as_str() == "cleanup.policy" && text.contains("compact");
        key.support == Support::NotYet && differs() || compacts()
    });
    asked.map(|(name, text)| format!("{name}={text}")).collect()
}

/// Where a value comes from, as `DescribeConfigsResponse.ConfigSource`. Broker values that change while the broker
/// runs (2, 3) do not exist yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConfigSource {
    /// The topic's own.
    DynamicTopicConfig = 1,
    /// The broker's file, environment or command line.
    StaticBrokerConfig = 4,
    /// Nobody's.
    DefaultConfig = 5,
}

/// One of the places that a value could come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigSynonym {
    /// The key there.
    pub name: &'static str,
    /// Its value there.
    pub value: Option<String>,
    /// Which place.
    pub source: ConfigSource,
}

/// One key as DescribeConfigs answers it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigEntry {
    /// The key.
    pub name: &'static str,
    /// The value; never that of a sensitive key.
    pub value: Option<String>,
    /// Where the value comes from.
    pub source: ConfigSource,
    /// The type; [`Kind::wire`] is its number in the response.
    pub config_type: Kind,
    /// Every place that has a value, first wins.
    pub synonyms: Vec<ConfigSynonym>,
    /// One sentence.
    pub documentation: &'static str,
    /// Whether it cannot be changed while the broker runs.
    pub read_only: bool,
    /// Whether its value is a secret.
    pub sensitive: bool,
}

/// A topic's configuration as Kafka's `ConfigHelper` describes it: every key, internal ones only when set.
pub fn describe(overrides: &BTreeMap<String, String>, broker: &BrokerConfig) -> Vec<ConfigEntry> {
    table::topic_keys()
        .values()
        .filter(|key| key.scope != Scope::Internal || overrides.contains_key(key.name))
        .map(|key| describe_key(key, overrides, broker))
        .collect()
}

fn describe_key(key: &'static Key, overrides: &BTreeMap<String, String>, broker: &BrokerConfig) -> ConfigEntry {
    let value = effective(key, overrides, broker).map(|value| value.to_string());
    let mut synonyms = broker_synonyms(key, broker);
    if overrides.contains_key(key.name) {
        let own = ConfigSynonym { name: key.name, value: value.clone(), source: ConfigSource::DynamicTopicConfig };
        synonyms.insert(0, own);
    }
    ConfigEntry {
        name: key.name,
        value,
        source: synonyms.first().map_or(ConfigSource::DefaultConfig, |synonym| synonym.source),
        config_type: key.kind,
        synonyms,
        documentation: key.documentation,
        read_only: false,
        sensitive: key.sensitive(),
    }
}

/// What was set of the broker keys, then their defaults; nothing when the first of them is in neither list. That is
/// `ConfigHelper.configSynonyms`, which drops what stands before the key's own name: a topic's `retention.ms` does not
/// show `log.retention.hours` unless `log.retention.ms` was set.
fn broker_synonyms(key: &Key, broker: &BrokerConfig) -> Vec<ConfigSynonym> {
    let set = key.synonyms.iter().filter_map(|(name, _)| {
        let row = table::broker_keys().get(name)?;
        let text = broker.explicit.get(*name)?;
        let value = row.parse(text).ok()?.to_string();
        Some(ConfigSynonym { name: row.name, value: Some(value), source: ConfigSource::StaticBrokerConfig })
    });
    let defaults = key.synonyms.iter().filter_map(|(name, _)| {
        let row = table::broker_keys().get(name)?;
        let value = row.default_value()?.to_string();
        Some(ConfigSynonym { name: row.name, value: Some(value), source: ConfigSource::DefaultConfig })
    });
    let primary = key.synonyms.first().map(|(name, _)| *name);
    set.chain(defaults).skip_while(|synonym| Some(synonym.name) != primary).collect()
}
