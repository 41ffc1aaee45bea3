//! The bytes of requests that all connections together may hold while they arrive (`queued.max.request.bytes`).
//!
//! A connection's first bytes are free, so small requests never come here; beyond them each step of growth is asked for.
//! When nothing is left a connection stops reading and waits. Everybody might then wait for everybody, each with part of a
//! frame: so one connection at a time may go beyond the limit, by its one frame, and whoever sits on that privilege too
//! long loses its connection. Nothing here knows sockets.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

use super::registry::Pulse;

/// What each connection may hold without asking.
pub const FREE_BYTES: usize = 64 << 10;

/// The shared budget.
pub struct Budget {
    limit: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    used: usize,
    beyond: Option<u64>,
    waiting: VecDeque<Arc<Pulse>>,
}

/// How a request for bytes was answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Grant {
    /// Within the limit.
    Within,
    /// Beyond the limit: others wait until these bytes are released.
    Beyond,
    /// Not now: the connection is woken when bytes are released.
    Wait,
}

impl Budget {
    /// A budget of so many bytes.
    pub fn new(limit: usize) -> Self {
        Self { limit, state: Mutex::default() }
    }

    /// Asks for bytes on top of what the connection holds.
    pub fn take(&self, bytes: usize, pulse: &Arc<Pulse>) -> Grant {
        let mut state = self.state.lock();
        let grant = if state.used.saturating_add(bytes) <= self.limit {
            Grant::Within
        } else if state.beyond.is_none_or(|holder| holder == pulse.connection) {
            state.beyond = Some(pulse.connection);
            Grant::Beyond
        } else {
            if !state.waiting.iter().any(|waiting| waiting.connection == pulse.connection) {
                state.waiting.push_back(Arc::clone(pulse));
            }
            return Grant::Wait;
        };
        state.used += bytes;
        grant
    }

    /// True when a connection waits for bytes.
    pub fn is_waited_for(&self) -> bool {
        !self.state.lock().waiting.is_empty()
    }

    /// Gives bytes back, all that the connection holds, and wakes those who wait.
    pub fn release(&self, bytes: usize, pulse: &Pulse) {
        let woken = {
            let mut state = self.state.lock();
            state.used -= bytes;
            if state.beyond == Some(pulse.connection) {
                state.beyond = None;
            }
            std::mem::take(&mut state.waiting)
        };
        woken.iter().for_each(|waiting| waiting.wake());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_connection_at_a_time_goes_beyond_the_limit() {
        let budget = Budget::new(100);
        let [first, second, third] = [1, 2, 3].map(|connection| Arc::new(Pulse::new(connection)));
        assert_eq!(budget.take(60, &first), Grant::Within);
        assert_eq!(budget.take(60, &second), Grant::Beyond);
        assert_eq!(budget.take(60, &second), Grant::Beyond);
        assert!(!budget.is_waited_for());
        assert_eq!(budget.take(60, &third), Grant::Wait);
        assert!(budget.is_waited_for());
        budget.release(120, &second);
        assert!(!budget.is_waited_for());
        assert_eq!(budget.take(60, &third), Grant::Beyond);
        assert_eq!(budget.take(60, &first), Grant::Wait);
        budget.release(60, &third);
        budget.release(60, &first);
        assert_eq!(budget.take(100, &second), Grant::Within);
    }
}
