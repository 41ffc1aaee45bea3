//! Bytes of answers that are ready, or being read from files, and that no peer has taken yet.
//!
//! Consumers that ask for much and read slowly would otherwise hold as much memory as they are many. Whoever holds much
//! counts it here; a fetch carries no more than its share of what is left below the limit, so that answers get smaller
//! as memory for them runs short, and nobody waits for anybody.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Less than this is held without being counted, and carried whatever is left.
const FREE_BYTES: usize = 64 << 10;
/// One answer takes no more than this part of what is left: as many may be at work at the same moment.
const PARTS: usize = 16;

/// What all connections hold together.
#[derive(Default, Debug)]
pub struct Unsent(AtomicUsize);

impl Unsent {
    /// How many bytes are counted now.
    pub fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// How much one more answer may carry beyond its first batch, when all together are to stay below `limit`.
    pub fn share(&self, limit: usize) -> usize {
        (limit.saturating_sub(self.bytes()) / PARTS).max(FREE_BYTES)
    }
}

/// What one connection, or one fetch at work, holds of it; let go when this is dropped.
#[derive(Debug)]
pub struct Carried {
    unsent: Arc<Unsent>,
    bytes: usize,
}

impl Carried {
    /// Nothing yet.
    pub fn new(unsent: &Arc<Unsent>) -> Self {
        Self { unsent: Arc::clone(unsent), bytes: 0 }
    }

    /// So many bytes are held from now on.
    pub fn set(&mut self, bytes: usize) {
        let bytes = if bytes < FREE_BYTES { 0 } else { bytes };
        if bytes > self.bytes {
            self.unsent.0.fetch_add(bytes - self.bytes, Ordering::Relaxed);
        } else if bytes < self.bytes {
            self.unsent.0.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        }
        self.bytes = bytes;
    }
}

impl Drop for Carried {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 256 << 20;

    #[test]
    fn little_is_not_counted_and_much_is_until_it_is_let_go() {
        let unsent = Arc::default();
        let (mut one, mut other) = (Carried::new(&unsent), Carried::new(&unsent));
        one.set(FREE_BYTES - 1);
        assert_eq!(unsent.bytes(), 0);
        one.set(1 << 20);
        other.set(2 << 20);
        assert_eq!(unsent.bytes(), 3 << 20);
        one.set(1 << 19);
        assert_eq!(unsent.bytes(), (2 << 20) + (1 << 19));
        drop(other);
        one.set(1);
        assert_eq!(unsent.bytes(), 0);
    }

    #[test]
    fn answers_get_smaller_as_more_is_held_and_never_nothing() {
        let unsent = Arc::default();
        assert_eq!(Unsent::share(&unsent, LIMIT), 16 << 20);
        let mut held = Carried::new(&unsent);
        held.set(LIMIT / 2);
        assert_eq!(unsent.share(LIMIT), 8 << 20);
        held.set(2 * LIMIT);
        assert_eq!(unsent.share(LIMIT), FREE_BYTES);
    }

    #[test]
    fn as_many_as_are_at_work_at_once_stay_below_the_limit_together() {
        let unsent: Arc<Unsent> = Arc::default();
        let mut held: Vec<Carried> = Vec::new();
        for _ in 0..100 {
            let share = unsent.share(LIMIT);
            for _ in 0..PARTS {
                held.push(Carried::new(&unsent));
                held.last_mut().expect("it was pushed").set(share.min(55 << 20));
            }
            let least = held.len() * FREE_BYTES;
            assert!(unsent.bytes() <= LIMIT + least, "{} with {} answers", unsent.bytes(), held.len());
        }
    }
}
