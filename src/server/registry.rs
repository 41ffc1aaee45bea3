//! All open connections, and the sweep that reminds them of their deadlines.
//!
//! A timer per connection would cost each request a change of the timer wheel. Instead a connection writes down when it
//! next wants to be asked, and one task looks at all of them every now and then and wakes those that are due. What is
//! overdue, and what follows from it, the connection decides itself.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::types::Tick;

/// What others may touch of a connection: they can wake it, no more.
#[derive(Debug)]
pub struct Pulse {
    /// The connection's number.
    pub connection: u64,
    due: AtomicU64,
    waker: AtomicWaker,
}

impl Pulse {
    /// A connection that wants to be asked at the next sweep.
    pub fn new(connection: u64) -> Self {
        Self { connection, due: AtomicU64::new(0), waker: AtomicWaker::new() }
    }

    /// Called by the connection's task: who is to be woken.
    pub fn attend(&self, waker: &std::task::Waker) {
        self.waker.register(waker);
    }

    /// When the connection wants to be asked, at the earliest.
    pub fn remind_at(&self, due: Tick) {
        self.due.store(due.0, Relaxed);
    }

    /// Wakes the connection's task.
    pub fn wake(&self) {
        self.waker.wake();
    }
}

/// The open connections.
#[derive(Default)]
pub struct Registry {
    open: Mutex<HashMap<u64, Arc<Pulse>>>,
    emptied: Notify,
}

impl Registry {
    /// Adds a connection.
    pub fn enter(&self, pulse: &Arc<Pulse>) {
        self.open.lock().insert(pulse.connection, Arc::clone(pulse));
    }

    /// Removes a connection.
    pub fn leave(&self, connection: u64) {
        let empty = {
            let mut open = self.open.lock();
            open.remove(&connection);
            open.is_empty()
        };
        if empty {
            self.emptied.notify_waiters();
        }
    }

    /// Wakes every connection whose moment has come.
    pub fn sweep(&self, now: Tick) {
        self.wake_where(|pulse| pulse.due.load(Relaxed) <= now.0);
    }

    /// Wakes every connection.
    pub fn wake_all(&self) {
        self.wake_where(|_| true);
    }

    fn wake_where(&self, due: impl Fn(&Pulse) -> bool) {
        let woken: Vec<_> = self.open.lock().values().filter(|pulse| due(pulse)).map(Arc::clone).collect();
        woken.iter().for_each(|pulse| pulse.wake());
    }

    /// Waits until no connection is open.
    pub async fn empty(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.open.lock().is_empty() {
                return;
            }
            emptied.await;
        }
    }
}
