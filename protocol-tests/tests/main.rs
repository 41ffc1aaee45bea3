//! The conformance suite: a module per API, each at every version of its row; hostile input; and the program around the
//! broker.
//!
//! Written against Apache Kafka 4.3.1: an assertion that says something odd says so in a comment, and is what Kafka
//! does.

mod api_versions;
mod bombs;
mod coordinator;
mod describe;
mod exhaustion;
mod fetch;
mod fetch_sessions;
mod flood;
mod forbidden;
mod harness;
mod idempotence;
mod list_offsets;
mod malformed;
mod membership;
mod metadata;
mod offset_for_leader_epoch;
mod offsets;
mod produce;
mod produce_refused;
mod program;
mod rebalance;
mod restarts;
mod slow_consumers;
mod storage_failure;
mod too_long;
mod topics;
