//! The log lines of connections that end: all of them at debug level, those that tell of something wrong at info level too
//! but only so many a second, so that a stranger cannot fill the log.

use std::net::IpAddr;

use super::connection::Ending;
use crate::env::lines::Lines;
use crate::metrics::CloseCause;
use crate::types::Tick;

/// The lines at info level.
#[derive(Default)]
pub struct Closes(Lines);

impl Closes {
    /// Logs the end of a connection.
    pub fn log(&self, listener: &str, from: IpAddr, ending: &Ending, now: Tick) {
        let Ending { cause, why } = ending;
        if matches!(cause, CloseCause::Peer | CloseCause::Idle | CloseCause::Shutdown | CloseCause::Socket) {
            tracing::debug!(listener, %from, ?cause, "connection closed: {why}");
            return;
        }
        match self.0.admit(now) {
            Some(0) => tracing::info!(listener, %from, ?cause, "connection closed: {why}"),
            Some(left_out) => tracing::info!(listener, %from, ?cause, left_out, "connection closed: {why}"),
            None => tracing::debug!(listener, %from, ?cause, "connection closed: {why}"),
        }
    }
}
