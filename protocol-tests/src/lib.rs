//! What the wire conformance suite is made of: a raw client, hand-built record batches, and the broker under test.
//!
//! The tests (`tests/main.rs`) were written against Apache Kafka 4.3.1 and hold there: `TARGET=host:port` runs them
//! against a broker that is up (`kafka.sh start` makes one), otherwise they start the `ottla` binary. They know nothing
//! of Ottla's code: what they say is what a client sees. Nothing here may retry or repair an answer; a helper that
//! hides a difference between two brokers hides a bug.

pub mod apis;
pub mod batch;
pub mod broker;
pub mod client;
pub mod code;
pub mod fetched;
pub mod group;
pub mod steps;
pub mod writer;

use kafka_protocol::protocol::StrBytes;

/// A string as the codecs want it.
pub fn text(value: &str) -> StrBytes {
    StrBytes::from_string(value.to_owned())
}

/// A name that no other test and no earlier run has used: tests share one broker.
pub fn unique(prefix: &str) -> String {
    format!("{prefix}-{}", uuid::Uuid::new_v4().simple())
}

/// Wall-clock milliseconds, as a producer stamps its records.
pub fn now_ms() -> i64 {
    #[expect(
        clippy::disallowed_methods,
        reason = "the tests stand outside the broker: they stamp records as clients do"
    )]
    let now = std::time::SystemTime::now();
    now.duration_since(std::time::UNIX_EPOCH).map_or(0, |age| age.as_millis() as i64)
}
