//! Side by side with Apache Kafka: a load generator that costs little, brokers under measure, and ratios from one run.
//!
//! Absolute figures differ from machine to machine and from minute to minute; what is printed is the median of ratios of
//! rounds that ran back to back, with the least and the largest. Nothing here asserts: it measures.
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock and waits")]

pub mod batch;
pub mod broker;
pub mod cases;
pub mod load;
pub mod machine;
pub mod null;
pub mod report;
pub mod wire;
