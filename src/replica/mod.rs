//! Shell. The partitions that this node holds.
pub mod fetch_session;
pub mod isr;
pub mod wait;
