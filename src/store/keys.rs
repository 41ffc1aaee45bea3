//! Pure. The keys of the column families.
//!
//! A log's natural unit is time, not partition, so the keys of `log` start with the generation: a flushed file is a
//! disjoint range of keys, compaction only renames it, and dropping a generation is an unlink. The keys of `meta` start
//! with a kind, so that a start reads one dense range (the replica rows) and nothing else. Every number is big-endian:
//! the order of the bytes is the order of the numbers. Nothing here may ever change without a new format version.

use std::fmt;

use crate::types::Offset;

/// The store's own number for one replica of one topic id. Never used again once the replica is gone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ReplicaId(pub u64);

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The store's own segment: everything appended between two switches of the memtable, of all partitions.
pub type Generation = u32;

/// `meta`: replica → [`ReplicaRow`](super::rows::ReplicaRow).
const REPLICA: u8 = 1;
/// `meta`: replica, first offset → [`SpanRow`](super::rows::SpanRow).
const SPAN: u8 = 2;
/// `meta`: replica, end offset → the largest timestamp of its span up to there.
const TIMESTAMP: u8 = 3;
/// `meta`: replica, offset → the producer state of everything below the offset.
const SNAPSHOT: u8 = 4;
/// `meta`: generation → [`GenerationRow`](super::rows::GenerationRow).
const GENERATION: u8 = 5;

/// A key of `log`: where one record batch lives.
pub type BatchKey = [u8; 20];
/// A key of `meta` that starts with a replica and ends with an offset.
pub type OffsetKey = [u8; 17];

/// The key of a record batch.
pub fn batch(generation: Generation, replica: ReplicaId, base_offset: Offset) -> BatchKey {
    let mut key = [0; 20];
    key[..4].copy_from_slice(&generation.to_be_bytes());
    key[4..12].copy_from_slice(&replica.0.to_be_bytes());
    key[12..].copy_from_slice(&unsigned(base_offset).to_be_bytes());
    key
}

/// The parts of a batch's key; `None` when it has another length than ours.
pub fn parse_batch(key: &[u8]) -> Option<(Generation, ReplicaId, Offset)> {
    let key: &BatchKey = key.try_into().ok()?;
    let (generation, rest) = key.split_first_chunk::<4>()?;
    let (replica, rest) = rest.split_first_chunk::<8>()?;
    let (offset, _) = rest.split_first_chunk::<8>()?;
    Some((u32::from_be_bytes(*generation), ReplicaId(u64::from_be_bytes(*replica)), signed(*offset)))
}

/// The first possible key of a generation.
pub fn generation_start(generation: Generation) -> BatchKey {
    batch(generation, ReplicaId(0), Offset::ZERO)
}

/// The key of a replica's row.
pub fn replica(id: ReplicaId) -> [u8; 9] {
    let mut key = [REPLICA; 9];
    key[1..].copy_from_slice(&id.0.to_be_bytes());
    key
}

/// The replica that a replica row's key names; `None` when the key is of another kind.
pub fn parse_replica(key: &[u8]) -> Option<ReplicaId> {
    let key: &[u8; 9] = key.try_into().ok()?;
    let (kind, id) = key.split_first_chunk::<1>()?;
    let id: [u8; 8] = id.try_into().ok()?;
    (kind[0] == REPLICA).then(|| ReplicaId(u64::from_be_bytes(id)))
}

/// The key of the span that starts at an offset.
pub fn span(id: ReplicaId, first: Offset) -> OffsetKey {
    with_offset(SPAN, id, first)
}

/// The key of the timestamp row that ends at an offset.
pub fn timestamp(id: ReplicaId, end: Offset) -> OffsetKey {
    with_offset(TIMESTAMP, id, end)
}

/// The key of a producer snapshot.
pub fn snapshot(id: ReplicaId, at: Offset) -> OffsetKey {
    with_offset(SNAPSHOT, id, at)
}

/// The offset at the end of a key that has one.
pub fn parse_offset(key: &[u8]) -> Option<Offset> {
    let key: &OffsetKey = key.try_into().ok()?;
    let (offset, _) = key[9..].split_first_chunk::<8>()?;
    Some(signed(*offset))
}

/// The key of a generation's row.
pub fn generation(generation: Generation) -> [u8; 5] {
    let mut key = [GENERATION; 5];
    key[1..].copy_from_slice(&generation.to_be_bytes());
    key
}

/// The generation that a generation row's key names.
pub fn parse_generation(key: &[u8]) -> Option<Generation> {
    let key: &[u8; 5] = key.try_into().ok()?;
    let (kind, generation) = key.split_first_chunk::<1>()?;
    let generation: [u8; 4] = generation.try_into().ok()?;
    (kind[0] == GENERATION).then(|| u32::from_be_bytes(generation))
}

/// All replica rows, as a range with an exclusive end.
pub const REPLICAS: (&[u8], &[u8]) = (&[REPLICA], &[REPLICA + 1]);
/// All generation rows, as a range with an exclusive end.
pub const GENERATIONS: (&[u8], &[u8]) = (&[GENERATION], &[GENERATION + 1]);

/// The keys that a replica has beside its own row and its spans: timestamp rows from an offset on, and all snapshots.
/// Ranges with exclusive ends.
pub fn remains(id: ReplicaId, from: Offset) -> [(OffsetKey, OffsetKey); 2] {
    let next = ReplicaId(id.0 + 1);
    [(timestamp(id, from), timestamp(next, Offset::ZERO)), (snapshot(id, Offset::ZERO), snapshot(next, Offset::ZERO))]
}

fn with_offset(kind: u8, id: ReplicaId, offset: Offset) -> OffsetKey {
    let mut key = [kind; 17];
    key[1..9].copy_from_slice(&id.0.to_be_bytes());
    key[9..].copy_from_slice(&unsigned(offset).to_be_bytes());
    key
}

fn unsigned(offset: Offset) -> u64 {
    u64::try_from(offset.get()).expect("an offset in a log is not negative")
}

fn signed(bytes: [u8; 8]) -> Offset {
    Offset(i64::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_sort_by_generation_then_replica_then_offset() {
        let in_order = [
            batch(1, ReplicaId(9), Offset(500)),
            batch(2, ReplicaId(1), Offset(7)),
            batch(2, ReplicaId(1), Offset(300)),
            batch(2, ReplicaId(256), Offset(0)),
            batch(256, ReplicaId(0), Offset(0)),
        ];
        assert!(in_order.is_sorted());
        assert_eq!(parse_batch(&in_order[2]), Some((2, ReplicaId(1), Offset(300))));
        assert_eq!(parse_batch(&in_order[2][1..]), None);
    }

    #[test]
    fn a_replica_row_is_not_taken_for_another_kind() {
        assert_eq!(parse_replica(&replica(ReplicaId(77))), Some(ReplicaId(77)));
        assert_eq!(parse_replica(&generation(77)), None);
        assert_eq!(parse_generation(&generation(77)), Some(77));
        assert_eq!(parse_offset(&span(ReplicaId(1), Offset(42))), Some(Offset(42)));
    }

    #[test]
    fn the_remains_of_a_replica_hold_its_keys_and_no_neighbours() {
        let ranges = remains(ReplicaId(5), Offset(7));
        let inside = |key: OffsetKey| ranges.iter().any(|(from, to)| *from <= key && key < *to);
        assert!(inside(timestamp(ReplicaId(5), Offset(7))));
        assert!(inside(timestamp(ReplicaId(5), Offset(i64::MAX))));
        assert!(!inside(timestamp(ReplicaId(5), Offset(6))));
        assert!(inside(snapshot(ReplicaId(5), Offset(0))));
        assert!(!inside(snapshot(ReplicaId(6), Offset(0))));
        assert!(!inside(snapshot(ReplicaId(4), Offset(i64::MAX))));
    }
}
