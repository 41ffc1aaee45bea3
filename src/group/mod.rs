//! x
pub mod classic;
pub mod offsets;
pub mod records;
pub mod shard;
