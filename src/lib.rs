//! Ottla: a Kafka broker in one binary.
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
pub mod types;
pub mod wire;
