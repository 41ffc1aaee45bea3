//! The conformance suite: a module per API, each at every version of its row, and one for hostile input.
//!
//! Written against Apache Kafka 4.3.1: an assertion that says something odd says so in a comment, and is what Kafka
//! does.

mod api_versions;
mod idempotence;
mod metadata;
mod produce;
mod produce_refused;
