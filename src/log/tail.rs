//! Pure. Which of the batches appended last are still in memory.
//!
//! The store keeps the newest batches of all partitions alive up to one budget and drops the oldest first; a log only
//! points at its own, weakly. So one budget serves every partition without a lock between them, and a batch that left
//! the budget is simply gone here. Pointers that died are cleared when the log is touched.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use super::Batches;
use crate::store::StoredBatch;
use crate::types::Offset;

/// A log's part of the tail cache.
#[derive(Debug, Default)]
pub struct Tail {
    entries: VecDeque<(Offset, Weak<StoredBatch>)>,
}

/// What is asked of a read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wanted {
    /// The batch that holds this offset comes first.
    pub from: Offset,
    /// No batch that ends beyond this.
    pub limit: Offset,
    /// About so many bytes.
    pub max_bytes: usize,
    /// One batch at least, however large.
    pub min_one: bool,
}

impl Tail {
    /// Adds a batch that goes to the end of the log.
    pub fn push(&mut self, batch: &Arc<StoredBatch>) {
        self.trim();
        self.entries.push_back((batch.base_offset, Arc::downgrade(batch)));
    }

    /// Clears what died, and gives the memory back when nothing is left.
    pub fn trim(&mut self) {
        while self.entries.front().is_some_and(|(_, batch)| batch.strong_count() == 0) {
            self.entries.pop_front();
        }
        if self.entries.is_empty() && self.entries.capacity() > 0 {
            self.entries = VecDeque::new();
        }
    }

    /// Forgets batches that end beyond an offset.
    pub fn truncate(&mut self, to: Offset) {
        while self
            .entries
            .back()
            .is_some_and(|(base, batch)| *base >= to || batch.upgrade().is_some_and(|batch| batch.end_offset > to))
        {
            self.entries.pop_back();
        }
    }

    /// The batches wanted; `None` when the first of them is not in memory any more.
    pub fn read(&self, wanted: Wanted) -> Option<Batches> {
        let above = self.entries.partition_point(|(base, _)| *base <= wanted.from);
        let first = above.checked_sub(1)?;
        let (mut found, mut bytes) = (Batches::new(), 0);
        for (_, batch) in self.entries.range(first..) {
            let Some(batch) = batch.upgrade() else {
                // Gone while we looked: what follows a hole cannot be given, what came before it can.
                return (!found.is_empty()).then_some(found);
            };
            if batch.end_offset <= wanted.from {
                return None;
            }
            if batch.end_offset > wanted.limit {
                break;
            }
            let fits = bytes + batch.bytes.len() <= wanted.max_bytes;
            if !(fits || wanted.min_one && found.is_empty()) {
                break;
            }
            bytes += batch.bytes.len();
            found.push(batch.bytes.clone());
        }
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::types::Timestamp;

    fn batch(base: i64, end: i64) -> Arc<StoredBatch> {
        Arc::new(StoredBatch {
            base_offset: Offset(base),
            end_offset: Offset(end),
            max_timestamp: Timestamp(0),
            appended: Timestamp(0),
            bytes: Bytes::from(vec![u8::try_from(base).unwrap(); 10]),
        })
    }

    fn wanted(from: i64, limit: i64, max_bytes: usize) -> Wanted {
        Wanted { from: Offset(from), limit: Offset(limit), max_bytes, min_one: true }
    }

    fn firsts(batches: &Batches) -> Vec<u8> {
        batches.iter().map(|bytes| bytes[0]).collect()
    }

    #[test]
    fn a_read_begins_with_the_batch_that_holds_the_offset_and_ends_at_the_limit() {
        let batches = [batch(0, 5), batch(5, 8), batch(8, 9)];
        let mut tail = Tail::default();
        batches.iter().for_each(|batch| tail.push(batch));
        assert_eq!(firsts(&tail.read(wanted(3, 9, 1000)).unwrap()), [0, 5, 8]);
        assert_eq!(firsts(&tail.read(wanted(5, 8, 1000)).unwrap()), [5]);
        assert_eq!(firsts(&tail.read(wanted(0, 9, 20)).unwrap()), [0, 5]);
        assert_eq!(firsts(&tail.read(wanted(0, 9, 1)).unwrap()), [0], "one batch at least");
        assert!(tail.read(Wanted { min_one: false, ..wanted(0, 9, 1) }).unwrap().is_empty());
        assert!(tail.read(wanted(5, 6, 1000)).unwrap().is_empty(), "a batch beyond the limit is not given in part");
    }

    #[test]
    fn what_left_the_budget_is_not_found_and_its_pointers_are_cleared() {
        let (old, new) = (batch(0, 5), batch(5, 8));
        let mut tail = Tail::default();
        tail.push(&old);
        tail.push(&new);
        drop(old);
        assert_eq!(tail.read(wanted(2, 8, 1000)), None);
        assert_eq!(firsts(&tail.read(wanted(6, 8, 1000)).unwrap()), [5]);
        tail.trim();
        assert_eq!(tail.entries.len(), 1);
        assert_eq!(tail.read(wanted(2, 8, 1000)), None);
    }

    #[test]
    fn a_truncated_tail_ends_before_the_offset() {
        let batches = [batch(0, 5), batch(5, 8)];
        let mut tail = Tail::default();
        batches.iter().for_each(|batch| tail.push(batch));
        tail.truncate(Offset(5));
        assert_eq!(firsts(&tail.read(wanted(0, 9, 1000)).unwrap()), [0]);
        assert_eq!(tail.entries.len(), 1);
    }
}
