//! Pure. The hot codecs of the wire: frames, Produce, Fetch, the records inside a batch; and the few messages that
//! kafka-protocol 0.18 lacks.
//!
//! Bytes come from strangers. No decoder allocates by a declared count, none panics, none keeps what it skips. Nothing
//! here knows a socket, a clock or a topic.

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
