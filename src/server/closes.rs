//! The log lines of connections that end: all of them at debug level, those that tell of something wrong at info level too
//! but only so many a second, so that a stranger cannot fill the log.

use std::net::IpAddr;

use parking_lot::Mutex;

use super::connection::Ending;
use crate::metrics::CloseCause;
use crate::types::Tick;

/// Lines a second.
const LINES: u32 = 10;

/// What was logged in the present second.
#[derive(Default)]
pub struct Closes(Mutex<Second>);

#[derive(Default)]
struct Second {
    number: u64,
    lines: u32,
    left_out: u64,
}

impl Second {
    /// Whether a line may be written now, and how many were left out before it.
    fn admit(&mut self, now: Tick) -> Option<u64> {
        let number = now.0 / 1_000;
        if number != self.number {
            (self.number, self.lines) = (number, 0);
        }
        if self.lines == LINES {
            self.left_out += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

impl Closes {
    /// Logs the end of a connection.
    pub fn log(&self, listener: &str, from: IpAddr, ending: &Ending, now: Tick) {
        let Ending { cause, why } = ending;
        if matches!(cause, CloseCause::Peer | CloseCause::Idle | CloseCause::Shutdown | CloseCause::Socket) {
            tracing::debug!(listener, %from, ?cause, "connection closed: {why}");
            return;
        }
        let admitted = self.0.lock().admit(now);
        match admitted {
            Some(0) => tracing::info!(listener, %from, ?cause, "connection closed: {why}"),
            Some(left_out) => tracing::info!(listener, %from, ?cause, left_out, "connection closed: {why}"),
            None => tracing::debug!(listener, %from, ?cause, "connection closed: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_beyond_the_rate_are_left_out_and_counted() {
        let mut second = Second::default();
        let admitted = (0..15).filter_map(|_| second.admit(Tick(5_100))).collect::<Vec<_>>();
        assert_eq!(admitted, [0; 10]);
        assert_eq!(second.admit(Tick(6_000)), Some(5));
        assert_eq!(second.admit(Tick(6_001)), Some(0));
    }
}
