//! Pure. A topic's configuration with every default filled in: what the log asks.

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

macro_rules! topic_config {
    ($($field:ident: $type:ty,)*) => {
        /// A topic's configuration: one field per key of Kafka's, dots as underscores.
        #[derive(Clone, PartialEq, Debug)]
        pub struct TopicConfig {
            $(#[doc = concat!("The topic key `", stringify!($field), "`, with dots.")] pub $field: $type,)*
        }
    };
}

topic_config! {
    cleanup_policy: CleanupPolicy,
    compression_gzip_level: i32,
    compression_lz4_level: i32,
    compression_type: CompressionType,
    compression_zstd_level: i32,
    delete_retention_ms: i64,
    file_delete_delay_ms: i64,
    flush_messages: i64,
    flush_ms: i64,
    max_compaction_lag_ms: i64,
    max_message_bytes: i32,
    message_timestamp_after_max_ms: i64,
    message_timestamp_before_max_ms: i64,
    message_timestamp_type: TimestampType,
    min_cleanable_dirty_ratio: f64,
    min_compaction_lag_ms: i64,
    min_insync_replicas: i32,
    retention_bytes: i64,
    retention_ms: i64,
    segment_bytes: i32,
    segment_jitter_ms: i64,
    segment_ms: i64,
    unclean_leader_election_enable: bool,
}
