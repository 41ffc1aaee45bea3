//! Shell. How requests wait for a partition: a produce for its acknowledgement, a fetch for something to read.
//!
//! Both are woken after the partition's lock is released. A produce waits once and is told once per partition. A fetch
//! stays registered at its partitions over many polls, and each of them puts its slot into the fetch's queue once, however
//! often it changes, until the fetch has looked.
//!
//! Nothing here is unbounded: a queue holds each slot of a session once, and an acknowledgement has as many places as its
//! request has partitions.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use crossbeam_queue::SegQueue;
use futures_util::task::AtomicWaker;
use smallvec::SmallVec;
use tokio::sync::Notify;

use crate::error::ErrorCode;

/// The place of one append in an [`AckWait`], which the partition keeps until the append is acknowledged or lost.
#[derive(Debug)]
pub struct AckSlot {
    wait: Arc<AckWait>,
    place: usize,
}

impl AckSlot {
    /// The append is safe (NONE), or will not be acknowledged and why.
    pub fn tell(self, outcome: ErrorCode) {
        self.wait.tell(self.place, outcome);
    }
}

/// What a produce request waits for: one outcome per partition that was appended to.
#[derive(Debug)]
pub struct AckWait {
    outcomes: SmallVec<[AtomicI32; 2]>,
    /// Outcomes still to come.
    remaining: AtomicUsize,
    waker: AtomicWaker,
}

/// No error code: they have sixteen bits.
const UNDECIDED: i32 = i32::MIN;

impl AckWait {
    /// A wait for as many outcomes as there are places.
    pub fn new(places: usize) -> Arc<Self> {
        let outcomes = (0..places).map(|_| AtomicI32::new(UNDECIDED)).collect();
        Arc::new(Self { outcomes, remaining: AtomicUsize::new(places), waker: AtomicWaker::new() })
    }

    /// The slot of one place. Each place is told exactly once: by its slot, or by [`AckWait::tell`].
    pub fn slot(self: &Arc<Self>, place: usize) -> AckSlot {
        AckSlot { wait: Arc::clone(self), place }
    }

    /// Decides one place.
    pub fn tell(&self, place: usize, outcome: ErrorCode) {
        let before = self.outcomes[place].swap(i32::from(outcome.get()), Ordering::AcqRel);
        assert_eq!(before, UNDECIDED, "an append is acknowledged once");
        if self.remaining.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.waker.wake();
        }
    }

    /// True when nothing is left to wait for.
    pub fn is_decided(&self) -> bool {
        self.remaining.load(Ordering::Acquire) == 0
    }

    /// What a place was told; `None` while it waits.
    pub fn outcome(&self, place: usize) -> Option<ErrorCode> {
        let outcome = self.outcomes[place].load(Ordering::Acquire);
        i16::try_from(outcome).ok().map(ErrorCode::from_wire)
    }

    /// Ready when every place is decided. One task waits at a time.
    pub fn decided(self: &Arc<Self>) -> Decided {
        Decided(Arc::clone(self))
    }
}

/// See [`AckWait::decided`].
#[derive(Debug)]
pub struct Decided(Arc<AckWait>);

impl Future for Decided {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.0.is_decided() {
            return Poll::Ready(());
        }
        self.0.waker.register(context.waker());
        // Decided between the look and the registration: nobody would wake us.
        if self.0.is_decided() { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// The slots of a fetch's partitions where something happened since it looked.
#[derive(Debug, Default)]
pub struct DirtyQueue {
    /// Filled under the partitions' locks, so without a lock of its own.
    slots: SegQueue<u32>,
    changed: Notify,
}

impl DirtyQueue {
    /// The next slot to look at.
    pub fn pop(&self) -> Option<u32> {
        self.slots.pop()
    }

    /// Waits until something happens. What happened since the last wait is not lost; it may have been looked at.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }
}

#[derive(Debug)]
struct Watch {
    queue: Arc<DirtyQueue>,
    slot: u32,
    dirty: bool,
}

/// The fetches that are registered at one partition. Lives under the partition's lock.
#[derive(Debug, Default)]
pub struct Watches {
    places: Vec<Option<Watch>>,
    free: Vec<u32>,
}

/// Where a fetch is registered at a partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WatchPlace(u32);

/// Whom to wake, once the partition's lock is released.
#[derive(Debug, Default)]
pub struct Notices(SmallVec<[Arc<DirtyQueue>; 4]>);

impl Notices {
    /// Wakes them. Must not be called under the lock of a partition.
    pub fn send(self) {
        for queue in self.0 {
            queue.changed.notify_one();
        }
    }
}

impl Watches {
    /// Registers a fetch that is looking now.
    pub fn add(&mut self, queue: &Arc<DirtyQueue>, slot: u32) -> WatchPlace {
        let watch = Some(Watch { queue: Arc::clone(queue), slot, dirty: false });
        match self.free.pop() {
            Some(place) => {
                self.places[place as usize] = watch;
                WatchPlace(place)
            }
            None => {
                self.places.push(watch);
                WatchPlace(u32::try_from(self.places.len() - 1).expect("fewer fetches than that"))
            }
        }
    }

    /// The fetch is looking now: what happened before is seen, what happens next is news.
    pub fn seen(&mut self, place: WatchPlace) {
        if let Some(watch) = &mut self.places[place.0 as usize] {
            watch.dirty = false;
        }
    }

    /// The fetch is gone.
    pub fn remove(&mut self, place: WatchPlace) {
        if self.places[place.0 as usize].take().is_some() {
            self.free.push(place.0);
        }
    }

    /// Something happened. Everyone who does not know it yet has it in his queue before the partition's lock is released:
    /// who has seen a record acknowledged and fetches then finds it. Waking them can wait.
    pub fn touch(&mut self, notices: &mut Notices) {
        for watch in self.places.iter_mut().flatten() {
            if !std::mem::replace(&mut watch.dirty, true) {
                watch.queue.slots.push(watch.slot);
                notices.0.push(Arc::clone(&watch.queue));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn drained(queue: &DirtyQueue) -> Vec<u32> {
        std::iter::from_fn(|| queue.pop()).collect()
    }

    fn touch(watches: &mut Watches) {
        let mut notices = Notices::default();
        watches.touch(&mut notices);
        notices.send();
    }

    #[test]
    fn a_watcher_is_told_once_until_it_has_looked() {
        let (queue, mut watches) = (Arc::new(DirtyQueue::default()), Watches::default());
        let place = watches.add(&queue, 7);
        touch(&mut watches);
        touch(&mut watches);
        assert_eq!(drained(&queue), [7]);
        touch(&mut watches);
        assert_eq!(drained(&queue), [] as [u32; 0], "it has not looked yet");
        watches.seen(place);
        touch(&mut watches);
        assert_eq!(drained(&queue), [7]);
    }

    #[test]
    fn a_removed_watcher_is_told_nothing_and_its_place_is_used_again() {
        let (queue, mut watches) = (Arc::new(DirtyQueue::default()), Watches::default());
        let place = watches.add(&queue, 1);
        watches.remove(place);
        watches.remove(place);
        touch(&mut watches);
        assert_eq!(drained(&queue), [] as [u32; 0]);
        assert_eq!(watches.add(&queue, 2), place);
        assert_ne!(watches.add(&queue, 3), place);
    }

    #[test]
    fn a_wait_is_over_when_every_place_is_decided() {
        let wait = AckWait::new(2);
        let mut decided = Box::pin(wait.decided());
        let mut context = Context::from_waker(Waker::noop());
        assert!(decided.as_mut().poll(&mut context).is_pending());
        wait.slot(1).tell(ErrorCode::NONE);
        assert!(decided.as_mut().poll(&mut context).is_pending());
        assert_eq!((wait.outcome(0), wait.outcome(1)), (None, Some(ErrorCode::NONE)));
        wait.tell(0, ErrorCode::KAFKA_STORAGE_ERROR);
        assert!(decided.as_mut().poll(&mut context).is_ready());
        assert_eq!(wait.outcome(0), Some(ErrorCode::KAFKA_STORAGE_ERROR));
    }

    #[tokio::test]
    async fn what_happens_between_two_waits_is_not_lost() {
        let (queue, mut watches) = (Arc::new(DirtyQueue::default()), Watches::default());
        watches.add(&queue, 4);
        touch(&mut watches);
        queue.changed().await;
        assert_eq!(drained(&queue), [4]);
    }

    #[test]
    fn a_slot_is_in_the_queue_before_anybody_is_woken() {
        let (queue, mut watches) = (Arc::new(DirtyQueue::default()), Watches::default());
        watches.add(&queue, 4);
        let mut notices = Notices::default();
        watches.touch(&mut notices);
        assert_eq!(drained(&queue), [4]);
        notices.send();
    }
}
