//! Pure. Which leader epoch began at which offset of a partition's log: how a follower or a consumer finds where its
//! log and the leader's part (KIP-101, KIP-279).
//!
//! Epochs and start offsets both grow strictly from entry to entry; an entry that would break this removes those in its
//! way, as Kafka's `LeaderEpochFileCache` does.

use bytes::{Buf, BufMut};

use crate::types::{LeaderEpoch, Offset};

const ENCODING_VERSION: u8 = 1;

/// The first offset of a leader epoch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EpochStart {
    /// The epoch.
    pub epoch: LeaderEpoch,
    /// Its first offset.
    pub start_offset: Offset,
}

/// The leader epochs of a partition, oldest first.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LeaderEpochs {
    entries: Vec<EpochStart>,
}

/// Bytes that are no leader epochs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the leader epochs cannot be read: {0}")]
pub struct BadEpochs(&'static str);

impl LeaderEpochs {
    /// No epoch.
    pub fn new() -> Self {
        Self::default()
    }

    /// The entries, oldest first.
    pub fn entries(&self) -> &[EpochStart] {
        &self.entries
    }

    /// The newest epoch.
    pub fn latest(&self) -> Option<LeaderEpoch> {
        self.entries.last().map(|entry| entry.epoch)
    }

    /// Notes that a batch of `epoch` stands at `start_offset`. True when that is news.
    pub fn assign(&mut self, epoch: LeaderEpoch, start_offset: Offset) -> bool {
        assert!(epoch >= LeaderEpoch::ZERO && start_offset >= Offset::ZERO, "epoch {epoch} at offset {start_offset}");
        let known = |entry: &EpochStart| entry.epoch == epoch && start_offset >= entry.start_offset;
        if self.entries.last().is_some_and(known) {
            return false;
        }
        while self.entries.pop_if(|entry| entry.epoch >= epoch || entry.start_offset >= start_offset).is_some() {}
        self.entries.push(EpochStart { epoch, start_offset });
        true
    }

    /// The largest epoch not above `requested`, and where it ends: where the next one begins, or the log's end.
    ///
    /// An epoch older than all known ones ends where the oldest known begins. Unknown newer ones have no end: both
    /// answers are UNKNOWN.
    pub fn end_offset_for(&self, requested: LeaderEpoch, log_end_offset: Offset) -> (LeaderEpoch, Offset) {
        if requested == LeaderEpoch::UNKNOWN {
            return (LeaderEpoch::UNKNOWN, Offset::UNKNOWN);
        }
        if self.latest() == Some(requested) {
            return (requested, log_end_offset);
        }
        let above = self.entries.partition_point(|entry| entry.epoch <= requested);
        let Some(next) = self.entries.get(above) else {
            return (LeaderEpoch::UNKNOWN, Offset::UNKNOWN);
        };
        let floor = above.checked_sub(1).map_or(requested, |index| self.entries[index].epoch);
        (floor, next.start_offset)
    }

    /// The epoch of the batch at `offset`.
    pub fn epoch_at(&self, offset: Offset) -> Option<LeaderEpoch> {
        let above = self.entries.partition_point(|entry| entry.start_offset <= offset);
        above.checked_sub(1).map(|index| self.entries[index].epoch)
    }

    /// Forgets epochs that begin at or after `end_offset`. True when there were any.
    pub fn truncate_from_end(&mut self, end_offset: Offset) -> bool {
        let keep = self.entries.partition_point(|entry| entry.start_offset < end_offset);
        let cut = keep < self.entries.len();
        self.entries.truncate(keep);
        cut
    }

    /// Forgets epochs that end at or before `start_offset`; the one that holds it begins there now. True when that
    /// changed anything.
    pub fn truncate_from_start(&mut self, start_offset: Offset) -> bool {
        let above = self.entries.partition_point(|entry| entry.start_offset <= start_offset);
        let Some(last) = above.checked_sub(1) else {
            return false;
        };
        if last == 0 && self.entries[0].start_offset == start_offset {
            return false;
        }
        self.entries.drain(..last);
        self.entries[0].start_offset = start_offset;
        true
    }

    /// Writes the entries.
    pub fn encode(&self, out: &mut impl BufMut) {
        out.put_u8(ENCODING_VERSION);
        for entry in &self.entries {
            out.put_i32(entry.epoch.0);
            out.put_i64(entry.start_offset.0);
        }
    }

    /// Reads the entries.
    pub fn decode(mut bytes: &[u8]) -> Result<Self, BadEpochs> {
        if bytes.try_get_u8() != Ok(ENCODING_VERSION) {
            return Err(BadEpochs("unknown version"));
        }
        let mut entries: Vec<EpochStart> = Vec::with_capacity(bytes.len() / 12);
        while let (Ok(epoch), Ok(offset)) = (bytes.try_get_i32(), bytes.try_get_i64()) {
            let entry = EpochStart { epoch: LeaderEpoch(epoch), start_offset: Offset(offset) };
            let ordered = |last: &EpochStart| last.epoch < entry.epoch && last.start_offset < entry.start_offset;
            if !entries.last().is_none_or(ordered) {
                return Err(BadEpochs("they are not in order"));
            }
            entries.push(entry);
        }
        match bytes.is_empty() {
            true => Ok(Self { entries }),
            false => Err(BadEpochs("truncated")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs(entries: &[(i32, i64)]) -> LeaderEpochs {
        let mut epochs = LeaderEpochs::new();
        for &(epoch, offset) in entries {
            epochs.assign(LeaderEpoch(epoch), Offset(offset));
        }
        epochs
    }

    fn listed(epochs: &LeaderEpochs) -> Vec<(i32, i64)> {
        epochs.entries().iter().map(|entry| (entry.epoch.0, entry.start_offset.0)).collect()
    }

    #[test]
    fn an_epoch_is_assigned_once() {
        let mut epochs = epochs(&[(1, 0), (3, 10)]);
        assert!(!epochs.assign(LeaderEpoch(3), Offset(15)));
        assert_eq!(listed(&epochs), [(1, 0), (3, 10)]);
    }

    #[test]
    fn an_entry_removes_those_in_its_way() {
        assert_eq!(listed(&epochs(&[(1, 0), (3, 10), (4, 10)])), [(1, 0), (4, 10)]);
        assert_eq!(listed(&epochs(&[(1, 0), (5, 10), (3, 20)])), [(1, 0), (3, 20)]);
        assert_eq!(listed(&epochs(&[(1, 5), (2, 10), (2, 3)])), [(2, 3)]);
    }

    #[test]
    fn the_latest_epoch_ends_at_the_log_end() {
        let epochs = epochs(&[(1, 0), (3, 10)]);
        assert_eq!(epochs.end_offset_for(LeaderEpoch(3), Offset(42)), (LeaderEpoch(3), Offset(42)));
    }

    #[test]
    fn an_older_epoch_ends_where_the_next_begins() {
        let epochs = epochs(&[(1, 0), (3, 10), (6, 20)]);
        assert_eq!(epochs.end_offset_for(LeaderEpoch(1), Offset(42)), (LeaderEpoch(1), Offset(10)));
        assert_eq!(epochs.end_offset_for(LeaderEpoch(2), Offset(42)), (LeaderEpoch(1), Offset(10)));
        assert_eq!(epochs.end_offset_for(LeaderEpoch(5), Offset(42)), (LeaderEpoch(3), Offset(20)));
    }

    #[test]
    fn an_epoch_older_than_all_ends_where_the_log_begins_and_a_newer_one_has_no_end() {
        let epochs = epochs(&[(3, 10)]);
        assert_eq!(epochs.end_offset_for(LeaderEpoch(1), Offset(42)), (LeaderEpoch(1), Offset(10)));
        let unknown = (LeaderEpoch::UNKNOWN, Offset::UNKNOWN);
        assert_eq!(epochs.end_offset_for(LeaderEpoch(9), Offset(42)), unknown);
        assert_eq!(epochs.end_offset_for(LeaderEpoch::UNKNOWN, Offset(42)), unknown);
        assert_eq!(LeaderEpochs::new().end_offset_for(LeaderEpoch(0), Offset(0)), unknown);
    }

    #[test]
    fn truncation_from_the_end_forgets_epochs_that_begin_there() {
        let mut epochs = epochs(&[(1, 0), (3, 10), (6, 20)]);
        assert!(!epochs.truncate_from_end(Offset(21)));
        assert!(epochs.truncate_from_end(Offset(10)));
        assert_eq!(listed(&epochs), [(1, 0)]);
    }

    #[test]
    fn truncation_from_the_start_moves_the_epoch_that_holds_the_new_start() {
        let mut epochs = epochs(&[(1, 0), (3, 10), (6, 20)]);
        assert!(epochs.truncate_from_start(Offset(15)));
        assert_eq!(listed(&epochs), [(3, 15), (6, 20)]);
        assert!(!epochs.truncate_from_start(Offset(15)));
        assert!(!epochs.truncate_from_start(Offset(3)));
        assert!(epochs.truncate_from_start(Offset(20)));
        assert_eq!(listed(&epochs), [(6, 20)]);
    }

    #[test]
    fn an_offset_has_the_epoch_that_began_before_it() {
        let epochs = epochs(&[(1, 5), (3, 10)]);
        assert_eq!(epochs.epoch_at(Offset(4)), None);
        assert_eq!(epochs.epoch_at(Offset(5)), Some(LeaderEpoch(1)));
        assert_eq!(epochs.epoch_at(Offset(9)), Some(LeaderEpoch(1)));
        assert_eq!(epochs.epoch_at(Offset(99)), Some(LeaderEpoch(3)));
    }

    #[test]
    fn what_is_encoded_is_read_back_and_damage_is_noticed() {
        let epochs = epochs(&[(1, 5), (3, 10)]);
        let mut bytes = Vec::new();
        epochs.encode(&mut bytes);
        assert_eq!(LeaderEpochs::decode(&bytes), Ok(epochs));
        assert!(LeaderEpochs::decode(&bytes[..bytes.len() - 1]).is_err());
        assert!(LeaderEpochs::decode(&[]).is_err());
        assert!(LeaderEpochs::decode(&[9]).is_err());
    }
}
