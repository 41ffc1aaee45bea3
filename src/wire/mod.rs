//! Pure. The hot codecs of the wire: frames, Produce, Fetch, record batches and the records inside; and the few messages
//! that kafka-protocol 0.18 lacks.
//!
//! Bytes come from strangers. No decoder allocates by a declared count, none panics, none keeps what it skips. Nothing
//! here knows a socket, a clock or a topic.

pub mod batch;
pub mod compress;
pub mod fetch;
pub mod frame;
pub mod guard;
pub mod message;
pub mod produce;
mod reader;
pub mod records;
mod shape;
mod writer;
