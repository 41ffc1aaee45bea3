//! Pure. The words of Kafka as types. A newtype stands where a mix-up would compile and corrupt.
//!
//! Ends are exclusive unless a name says `last`. Sentinels have names: no `-1` in logic.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl $name {
            /// The number as it stands on the wire.
            pub const fn get(self) -> $inner {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl From<$inner> for $name {
            fn from(value: $inner) -> Self {
                Self(value)
            }
        }
    };
}

number! {
    /// A position in a partition's log.
    Offset(i64)
}

impl Offset {
    /// The first offset of a new log.
    pub const ZERO: Self = Self(0);
    /// "No offset", as `-1` on the wire.
    pub const UNKNOWN: Self = Self(-1);

    /// The offset `count` records further on. Panics on overflow: a log never gets there.
    #[must_use]
    pub const fn plus(self, count: i64) -> Self {
        Self(self.0.strict_add(count))
    }
}

number! {
    /// Counts the leaders that a partition has had (KIP-101, KIP-320).
    LeaderEpoch(i32)
}

impl LeaderEpoch {
    /// "No epoch", as `-1` on the wire: the client does not ask for fencing.
    pub const UNKNOWN: Self = Self(-1);
    /// The epoch of a partition's first leader.
    pub const ZERO: Self = Self(0);
}

number! {
    /// Counts the changes of a partition's metadata (KIP-497).
    PartitionEpoch(i32)
}

number! {
    /// `node.id`: a broker, a controller, or both.
    NodeId(i32)
}

impl NodeId {
    /// "No leader", as `-1` on the wire.
    pub const NONE: Self = Self(-1);
}

number! {
    /// Names an idempotent or transactional producer (KIP-98).
    ProducerId(i64)
}

impl ProducerId {
    /// A batch without idempotence carries `-1`.
    pub const NONE: Self = Self(-1);
}

number! {
    /// Fences older incarnations of a producer id.
    ProducerEpoch(i16)
}

impl ProducerEpoch {
    /// A batch without idempotence carries `-1`.
    pub const NONE: Self = Self(-1);
}

number! {
    /// Wall-clock milliseconds since 1970 (UTC): record timestamps, retention. Never used for leases or time-outs.
    Timestamp(i64)
}

impl Timestamp {
    /// "No timestamp", as `-1` on the wire.
    pub const NONE: Self = Self(-1);
}

/// Monotonic milliseconds since the process started: leases, time-outs, session expiry.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Tick(pub u64);

impl Tick {
    /// The moment `milliseconds` later. Saturates.
    #[must_use]
    pub const fn plus_ms(self, milliseconds: u64) -> Self {
        Self(self.0.saturating_add(milliseconds))
    }

    /// Milliseconds from `earlier` to this moment; zero when `earlier` is later.
    pub const fn since_ms(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// A topic's identity (KIP-516): a topic made again under the same name has another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TopicId(pub uuid::Uuid);

impl TopicId {
    /// The all-zero id: "not given" on the wire.
    pub const ZERO: Self = Self(uuid::Uuid::nil());
}

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&kafka_uuid(&self.0))
    }
}

/// A uuid as Kafka prints it: 22 characters of unpadded URL-safe base64.
pub fn kafka_uuid(id: &uuid::Uuid) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let bits = id.as_u128();
    // 128 bits are 21 groups of six and one of two, which the low end pads with four zero bits.
    (0..22)
        .map(|i| {
            let index = if i < 21 { (bits >> (122 - 6 * i)) & 63 } else { (bits & 3) << 4 };
            ALPHABET[index as usize] as char
        })
        .collect()
}

/// A partition of a topic, by name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition's index, from zero.
    pub partition: i32,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_prints_as_kafka_prints_it() {
        let id = uuid::Uuid::from_u128(0xe4be_ade1_de27_85e6_b820_b4cc_f9b5_f5c7);
        assert_eq!(kafka_uuid(&id), "5L6t4d4nhea4ILTM-bX1xw");
        assert_eq!(kafka_uuid(&uuid::Uuid::nil()), "AAAAAAAAAAAAAAAAAAAAAA");
    }
}
