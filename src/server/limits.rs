//! How many connections may be open, from where, and how fast they may come: `max.connections`,
//! `max.connections.per.ip` with its overrides, `max.connection.creation.rate`.
//!
//! As in Kafka, a full broker or too fast a pace delays the next connection, while one too many from one address is
//! closed at once. Nothing here knows sockets.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::types::Tick;

/// Descriptors that connections leave to the store's files and everything else, or half of few.
const RESERVED_DESCRIPTORS: u64 = 1_200;

/// Pure. How many connections a process has room for that may have so many descriptors; `None` is no limit. Beyond it the
/// next connection waits, as with `max.connections`: otherwise whoever opens many could leave the store without a
/// descriptor for its next file, and take the log directory offline.
pub fn room(descriptors: Option<u64>) -> i32 {
    let room = descriptors.map_or(u64::MAX, |most| most - RESERVED_DESCRIPTORS.min(most / 2));
    i32::try_from(room).unwrap_or(i32::MAX)
}

/// The limits, shared by all listeners.
pub struct Limits {
    open: Arc<Semaphore>,
    per_ip: usize,
    per_ip_overrides: HashMap<IpAddr, usize>,
    from: Mutex<HashMap<IpAddr, usize>>,
    pace: Mutex<Pace>,
}

/// One connection's place within the limits; it is free again when this is dropped.
pub struct Seat {
    limits: Arc<Limits>,
    address: IpAddr,
    _permit: OwnedSemaphorePermit,
}

impl Limits {
    /// `resolve` turns an override's host name into its addresses; an override that names nothing is reported by it.
    pub fn new(
        total: i32,
        per_ip: i32,
        overrides: &BTreeMap<String, i32>,
        rate: i32,
        resolve: impl Fn(&str) -> Vec<IpAddr>,
    ) -> Arc<Self> {
        let overrides = overrides.iter().flat_map(|(host, limit)| {
            let limit = usize::try_from(*limit).unwrap_or(0);
            resolve(host).into_iter().map(move |address| (address.to_canonical(), limit))
        });
        Arc::new(Self {
            open: Arc::new(Semaphore::new(usize::try_from(total).unwrap_or(0))),
            per_ip: usize::try_from(per_ip).unwrap_or(0),
            per_ip_overrides: overrides.collect(),
            from: Mutex::default(),
            pace: Mutex::new(Pace::new(rate)),
        })
    }

    /// Waits until the broker has room. `None` when this address has too many connections already.
    pub async fn seat(self: &Arc<Self>, address: IpAddr) -> Option<Seat> {
        let permit = Arc::clone(&self.open).acquire_owned().await.expect("the semaphore is never closed");
        let address = address.to_canonical();
        let allowed = self.per_ip_overrides.get(&address).copied().unwrap_or(self.per_ip);
        let mut from = self.from.lock();
        let count = from.entry(address).or_default();
        if *count >= allowed {
            if *count == 0 {
                from.remove(&address);
            }
            return None;
        }
        *count += 1;
        Some(Seat { limits: Arc::clone(self), address, _permit: permit })
    }

    /// How many milliseconds the connection that comes now is to wait.
    pub fn delay(&self, now: Tick) -> u64 {
        self.pace.lock().delay(now)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut from = self.limits.from.lock();
        if let Some(count) = from.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                from.remove(&self.address);
            }
        }
    }
}

/// Pure. Spaces connections so that no more than so many a second are let in, after a second's worth at once.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Pace {
    rate: u64,
    /// The moment, in microseconds, at which all connections so far would have come one after the other.
    paid_until: u64,
}

impl Pace {
    fn new(rate: i32) -> Self {
        Self { rate: if rate == i32::MAX { 0 } else { u64::try_from(rate).unwrap_or(0).max(1) }, paid_until: 0 }
    }

    fn delay(&mut self, now: Tick) -> u64 {
        if self.rate == 0 {
            return 0;
        }
        let now = now.0.saturating_mul(1_000);
        self.paid_until = self.paid_until.max(now.saturating_sub(1_000_000)) + 1_000_000 / self.rate;
        self.paid_until.saturating_sub(now).div_ceil(1_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_lets_a_second_s_worth_in_and_then_spaces() {
        let mut pace = Pace::new(10);
        let delays: Vec<u64> = (0..12).map(|_| pace.delay(Tick(1_000))).collect();
        assert_eq!(delays, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 100, 200]);
        assert_eq!(pace.delay(Tick(2_000)), 0);
        let mut unlimited = Pace::new(i32::MAX);
        assert!((0..100_000).all(|_| unlimited.delay(Tick(0)) == 0));
    }

    #[test]
    fn connections_leave_descriptors_to_the_store() {
        assert_eq!(room(None), i32::MAX);
        assert_eq!(room(Some(u64::MAX)), i32::MAX);
        assert_eq!(room(Some(1_048_576)), 1_047_376);
        assert_eq!(room(Some(1_024)), 512);
        assert_eq!(room(Some(0)), 0);
    }

    #[tokio::test]
    async fn an_address_has_its_own_limit_and_gets_its_seat_back() {
        let [one, two]: [IpAddr; 2] = [[10, 0, 0, 1].into(), [10, 0, 0, 2].into()];
        let overrides = BTreeMap::from([("10.0.0.2".to_owned(), 0)]);
        let limits = Limits::new(i32::MAX, 1, &overrides, i32::MAX, |host| host.parse().into_iter().collect());
        let seat = limits.seat(one).await;
        assert!(seat.is_some());
        assert!(limits.seat(one).await.is_none());
        assert!(limits.seat(two).await.is_none());
        drop(seat);
        assert!(limits.seat(one).await.is_some());
    }
}
