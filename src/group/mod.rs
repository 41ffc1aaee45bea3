//! Groups: who consumes together, and how far they have come.

pub mod classic;
pub mod offsets;
pub mod records;
pub mod shard;
