//! The only clock and the only source of chance. Cores are given what is read here as arguments.

pub mod lines;

use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::types::{Tick, Timestamp};

/// The wall clock: record timestamps and retention only.
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// The monotonic clock: leases and time-outs. Starts near zero with the process.
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
pub fn tick() -> Tick {
    static START: OnceLock<Instant> = OnceLock::new();
    let start = START.get_or_init(Instant::now);
    Tick(u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX))
}

/// Sixty-four random bits from the operating system.
pub fn random_u64() -> u64 {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    u64::from_ne_bytes(bytes)
}

/// A random uuid. Kafka never uses one whose text starts with a dash (it would look like a flag).
pub fn random_uuid() -> uuid::Uuid {
    loop {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
        let id = uuid::Builder::from_random_bytes(bytes).into_uuid();
        if !crate::types::kafka_uuid(&id).starts_with('-') {
            return id;
        }
    }
}
