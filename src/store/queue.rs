//! The commit queue: everything that changes the store passes through it, in order.
//!
//! Pushing happens under a partition's lock, so it takes no lock and never waits. It is bounded by bytes: callers ask
//! [`CommitQueue::when_room`] before they take more work in; a push far beyond the limit is refused.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::Thread;
use std::time::Duration;

use crossbeam_queue::SegQueue;
use parking_lot::Mutex;

use super::operation::Operation;

/// A push beyond this many times the limit is refused: someone did not ask for room.
const HARD_FACTOR: usize = 4;

/// The queue between the partitions and the committer.
pub struct CommitQueue {
    operations: SegQueue<Operation>,
    bytes: AtomicUsize,
    limit: usize,
    sleeping: AtomicBool,
    committer: OnceLock<Thread>,
    waiters: Mutex<Vec<Box<dyn FnOnce() + Send>>>,
}

impl CommitQueue {
    /// An empty queue with room for about `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            operations: SegQueue::new(),
            bytes: AtomicUsize::new(0),
            limit,
            sleeping: AtomicBool::new(false),
            committer: OnceLock::new(),
            waiters: Mutex::new(Vec::new()),
        }
    }

    /// Makes the calling thread the one that pushes wake.
    pub fn attach_committer(&self) {
        self.committer.set(std::thread::current()).expect("a queue has one committer");
    }

    /// Queues an operation, or gives it back when the queue is far over its limit.
    pub fn push(&self, operation: Operation) -> Result<(), Operation> {
        let cost = operation.cost();
        if self.bytes.load(Ordering::Relaxed).saturating_add(cost) > self.limit.saturating_mul(HARD_FACTOR) {
            return Err(operation);
        }
        self.push_always(operation);
        Ok(())
    }

    /// Queues an operation that takes no memory worth bounding: a request of the store's own threads.
    pub fn push_always(&self, operation: Operation) {
        self.bytes.fetch_add(operation.cost(), Ordering::Relaxed);
        self.operations.push(operation);
        self.wake();
    }

    /// Wakes the committer if it sleeps.
    pub fn wake(&self) {
        // Pairs with the fence in `sleep`: either the committer sees the push, or this sees it asleep.
        std::sync::atomic::fence(Ordering::SeqCst);
        if self.sleeping.load(Ordering::Relaxed)
            && self.sleeping.swap(false, Ordering::AcqRel)
            && let Some(thread) = self.committer.get()
        {
            thread.unpark();
        }
    }

    /// The oldest operation. Only the committer calls this.
    pub fn pop(&self) -> Option<Operation> {
        let operation = self.operations.pop()?;
        self.bytes.fetch_sub(operation.cost(), Ordering::Relaxed);
        Some(operation)
    }

    /// Sleeps until something is pushed, `timeout` is over, or for no reason at all. Only the committer calls this.
    pub fn sleep(&self, timeout: Duration) {
        self.sleeping.store(true, Ordering::Relaxed);
        std::sync::atomic::fence(Ordering::SeqCst);
        if self.operations.is_empty() {
            std::thread::park_timeout(timeout);
        }
        self.sleeping.store(false, Ordering::Relaxed);
    }

    /// True when a caller may take more work in.
    pub fn has_room(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) < self.limit
    }

    /// Calls `wake` as soon as there is room: at once, or from the committer's thread. It must be quick.
    pub fn when_room(&self, wake: Box<dyn FnOnce() + Send>) {
        if self.has_room() {
            return wake();
        }
        self.waiters.lock().push(wake);
        // The committer may have emptied the queue just before the push: then nobody else would look.
        self.wake_waiters();
    }

    /// Wakes those who wait for room, when there is some.
    pub fn wake_waiters(&self) {
        if !self.has_room() {
            return;
        }
        let waiters = std::mem::take(&mut *self.waiters.lock());
        for wake in waiters {
            wake();
        }
    }
}
