//! Sockets in.
