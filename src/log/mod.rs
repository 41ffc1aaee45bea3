//! (being built)
pub mod batch;
pub mod epochs;
pub mod producers;
