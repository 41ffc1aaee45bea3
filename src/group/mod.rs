//! Groups: who consumes together, and how far they have come.

pub mod classic;
pub mod records;
