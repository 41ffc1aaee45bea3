//! How long things took: a histogram of milliseconds whose buckets grow by a quarter of a power of two.
//!
//! Recording is two relaxed additions; quantiles are worked out by whoever looks, off by at most a quarter.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Up to 2³² milliseconds, four buckets to a power of two.
const BUCKETS: usize = 128;

/// Durations in milliseconds.
#[derive(Debug)]
pub struct Times {
    buckets: [AtomicU64; BUCKETS],
    sum: AtomicU64,
}

impl Default for Times {
    fn default() -> Self {
        Self { buckets: [const { AtomicU64::new(0) }; BUCKETS], sum: AtomicU64::new(0) }
    }
}

impl Times {
    /// Records one duration.
    pub fn record(&self, milliseconds: u64) {
        self.buckets[bucket(milliseconds)].fetch_add(1, Relaxed);
        // Most are far below a millisecond.
        if milliseconds > 0 {
            self.sum.fetch_add(milliseconds, Relaxed);
        }
    }

    /// How many were recorded.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.load(Relaxed)).sum()
    }

    /// All of them together.
    pub fn sum(&self) -> u64 {
        self.sum.load(Relaxed)
    }

    /// For each quantile the least duration of its bucket.
    pub fn quantiles<const N: usize>(&self, quantiles: &[f64; N]) -> [u64; N] {
        let counts: Vec<u64> = self.buckets.iter().map(|bucket| bucket.load(Relaxed)).collect();
        let total: u64 = counts.iter().sum();
        quantiles.map(|quantile| {
            #[expect(
                clippy::cast_precision_loss,
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "an estimate"
            )]
            let rank = ((total as f64 * quantile).ceil() as u64).max(1);
            let mut seen = 0;
            let place = counts.iter().position(|count| {
                seen += count;
                seen >= rank
            });
            place.map_or(0, least)
        })
    }
}

/// 0 to 7 have a bucket each; from there the leading three bits name it.
fn bucket(milliseconds: u64) -> usize {
    if milliseconds < 8 {
        return usize::try_from(milliseconds).unwrap_or(0);
    }
    let power = milliseconds.ilog2();
    let quarter = (milliseconds >> (power - 2)) & 3;
    let place = 8 + u64::from(power - 3) * 4 + quarter;
    usize::try_from(place).map_or(BUCKETS - 1, |place| place.min(BUCKETS - 1))
}

/// The least duration of a bucket.
fn least(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < 8 {
        return bucket;
    }
    let (power, quarter) = ((bucket - 8) / 4 + 3, (bucket - 8) % 4);
    (4 + quarter) << (power - 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bucket_starts_where_the_one_before_ends() {
        for place in 0..BUCKETS {
            assert_eq!(bucket(least(place)), place);
            assert!(place == 0 || bucket(least(place) - 1) == place - 1);
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_where_the_durations_are() {
        let times = Times::default();
        (0..99).for_each(|_| times.record(2));
        times.record(1000);
        assert_eq!(times.quantiles(&[0.5, 0.99, 0.999]), [2, 2, 896]);
        assert_eq!((times.count(), times.sum()), (100, 1198));
    }
}
