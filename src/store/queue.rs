//! The commit queue: everything that changes the store passes through it, in order.
//!
//! Pushing happens under a partition's lock, so it takes no lock and never waits. It is bounded by bytes: callers ask
//! [`CommitQueue::when_room`] before they take more work in; an append far beyond the limit is refused. What is pushed
//! wakes the committer's thread, unless the pushing thread is in a burst and will look after it itself.

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::thread::Thread;
use std::time::Duration;

use crossbeam_queue::SegQueue;
use parking_lot::Mutex;

use super::operation::Operation;

/// An append beyond this many times the limit is refused: someone did not ask for room.
const HARD_FACTOR: usize = 4;
/// Bytes of one write at most, but for a last batch that is larger; and what a thread may commit itself at the end of its
/// burst. More is the committer's, and it starts at once.
pub const COMMIT_BYTES: usize = 512 << 10;

thread_local! {
    /// The queue whose burst the thread is in; null in none. Only compared, never followed.
    static BURST: Cell<*const CommitQueue> = const { Cell::new(std::ptr::null()) };
}

/// The queue between the partitions and the committer.
pub struct CommitQueue {
    operations: SegQueue<Operation>,
    /// What was taken out and not done: it comes before `operations`.
    returned: Mutex<Option<Operation>>,
    has_returned: AtomicBool,
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
            returned: Mutex::new(None),
            has_returned: AtomicBool::new(false),
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

    /// True when so many bytes more would be far over the limit.
    pub fn is_overfull(&self, cost: usize) -> bool {
        self.bytes.load(Ordering::Relaxed).saturating_add(cost) > self.limit.saturating_mul(HARD_FACTOR)
    }

    /// Queues an operation.
    pub fn push(&self, operation: Operation) {
        let cost = operation.cost();
        let bytes = self.bytes.fetch_add(cost, Ordering::Relaxed).saturating_add(cost);
        self.operations.push(operation);
        if bytes > COMMIT_BYTES || !std::ptr::eq(BURST.get(), self) {
            self.wake();
        }
    }

    /// Until the burst is dropped, what this thread pushes wakes nobody while it is little.
    pub fn burst(&self) -> Burst<'_> {
        Burst { queue: self, outer: BURST.replace(self) }
    }

    /// Bytes that wait.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// True when nothing waits. Who has let go of the committer asks this, so that nothing is left to nobody.
    pub fn is_empty(&self) -> bool {
        // Pairs with the fence of who pushed, and then found the committer held or its thread awake.
        fence(Ordering::SeqCst);
        self.operations.is_empty() && !self.has_returned.load(Ordering::Relaxed)
    }

    /// Wakes the committer's thread if it sleeps.
    pub fn wake(&self) {
        // Pairs with the fence in `sleep`: either the committer sees the push, or this sees it asleep.
        fence(Ordering::SeqCst);
        if self.sleeping.load(Ordering::Relaxed)
            && self.sleeping.swap(false, Ordering::AcqRel)
            && let Some(thread) = self.committer.get()
        {
            thread.unpark();
        }
    }

    /// The oldest operation. Only who holds the committer calls this.
    pub fn pop(&self) -> Option<Operation> {
        let returned = if self.has_returned.load(Ordering::Relaxed) { self.returned.lock().take() } else { None };
        if returned.is_some() {
            self.has_returned.store(false, Ordering::Relaxed);
        }
        let operation = returned.or_else(|| self.operations.pop())?;
        self.bytes.fetch_sub(operation.cost(), Ordering::Relaxed);
        Some(operation)
    }

    /// Puts the operation popped last back in its place. Only who holds the committer calls this.
    pub fn put_back(&self, operation: Operation) {
        self.bytes.fetch_add(operation.cost(), Ordering::Relaxed);
        let before = self.returned.lock().replace(operation);
        assert!(before.is_none(), "one operation is put back at a time");
        self.has_returned.store(true, Ordering::Relaxed);
    }

    /// Wakes the committer's thread, or keeps it from its next sleep: for what it does not look for in the queue.
    pub fn rouse(&self) {
        if let Some(thread) = self.committer.get() {
            thread.unpark();
        }
    }

    /// Sleeps until something is pushed, `timeout` is over, or for no reason at all. Only the committer's thread calls
    /// this.
    pub fn sleep(&self, timeout: Duration) {
        self.sleeping.store(true, Ordering::Relaxed);
        if self.is_empty() {
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

/// See [`CommitQueue::burst`].
pub struct Burst<'a> {
    queue: &'a CommitQueue,
    outer: *const CommitQueue,
}

impl Burst<'_> {
    /// Ends the burst without waking anybody: the caller commits.
    pub fn end(self) {
        BURST.set(self.outer);
        std::mem::forget(self);
    }
}

impl Drop for Burst<'_> {
    /// Its work panicked: what it pushed is the committer's.
    fn drop(&mut self) {
        BURST.set(self.outer);
        self.queue.wake();
    }
}
