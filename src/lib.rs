//! Ottla: a Kafka broker in one binary. This page is the map.
//!
//! ```text
//!  client ── TCP ── server/connection ── api/<one file per API> ── replica/partition ── log ── store (RocksDB)
//!                                           │            │
//!                                         group       controller (openraft) ── MetadataImage, published to every room
//! ```
//!
//! A request comes in at [`server`], which knows sockets and nothing else. The table in [`api`] finds its row: key,
//! versions, handler. A handler works on the rooms below through the [`broker::Broker`] bundle: [`replica`] holds the
//! partitions and carries the hot path, [`group`] the consumer groups, [`controller`] the metadata. A partition appends to
//! its [`log`](mod@log); the one committer of [`store`] writes what all partitions have queued, in one write.
//!
//! Produce crosses eight files and one queue: `server/connection` → `wire/frame` → `api/mod` → `api/produce` → `replica`
//! (lookup) → `replica/partition` → `log` → `store`, whose commit queue is the one.
//!
//! # Rules
//!
//! What can be checked is checked, by `tidy.rs` and clippy.
//!
//! 1. Imports go down only, along the table in `tidy.rs`, and the table itself goes down only: no two rooms know each other.
//!    Formats of bytes are in [`wire`], below all that use them. [`log`](mod@log) knows no tokio. Only [`store`] names
//!    rocksdb, only `controller/raft*.rs` names openraft, only [`env`](mod@env) reads a clock or a source of chance. Types of
//!    kafka-protocol stop at [`api`] and [`wire`].
//! 2. Cores take `now` and data, and return effects; a core can be cloned, compared, replayed. Shells carry out what cores
//!    decide. If a bug needs a socket to reproduce, the logic is in the wrong file.
//! 3. An API is one file, one row in the table, one module of the protocol tests. What is advertised is what the row says.
//! 4. A handler always answers, and one bad partition never spoils its neighbours. A refusal is an
//!    [`error::ErrorCode`] in its place; broken framing ([`error::Disconnect`]) closes that connection; the disk's failure
//!    ([`error::StoreError`]) answers KAFKA_STORAGE_ERROR. A write or sync that failed takes the store and its partitions
//!    offline for good. A read that failed, or found damage, is an error of that fetch, lookup or retention check alone: what
//!    else the partition has can still be read and appended to. A log that cannot be opened at a start is offline, it alone.
//!    Our own mistake is an `assert!`.
//! 5. Leader, ISR and epochs change only by installing a metadata image. Metadata records are outcomes; `apply` folds them
//!    and decides nothing.
//! 6. Record bytes are never re-encoded: a consumer gets what the producer sent, but for base offset, leader epoch and, under
//!    log-append time, the timestamp fields. The one exception is a topic's own `compression.type`.
//! 7. Everything has a limit, by Kafka's name where Kafka has one. Memory is taken by bytes received, never by a count that
//!    somebody declared.
//! 8. At most one lock is held at a time, never across an await, never around I/O on the hot path. The exceptions: whoever
//!    holds the store's committer writes to RocksDB and takes the lock of a replica or a partition inside; nobody takes the
//!    committer under one of those. Whoever installs an image holds [`replica::Replicas`]'s own lock over what that needs
//!    of the store and of partitions; nobody else takes that one. Whoever syncs the rows holds the lock that makes others
//!    wait for the same sync; it takes none inside.
//! 9. No trait with one implementation, no method for tests only, no `unsafe` without its reason.
//!
//! # Here before its time
//!
//! Written and tested, and called by nobody until followers fetch: [`log::Log::truncate_to`] with its part of the tail
//! cache and of the store, [`replica::isr::Isr::on_follower_fetch`] and [`replica::isr::Isr::propose`]. The store's column
//! family `compacted` is empty until the cleaner comes.
//!
//! # Deliberately absent
//!
//! No thread or task per partition, no timer per connection or member, no column family per topic, no channel or queue
//! without a bound, no tracing span per request.

pub mod api;
pub mod broker;
pub mod config;
pub mod controller;
pub mod env;
pub mod error;
pub mod group;
pub mod log;
pub mod metrics;
pub mod replica;
pub mod server;
pub mod store;
#[cfg(test)]
mod tidy;
pub mod types;
pub mod wire;
