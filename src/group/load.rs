//! Shell. Reads a partition of `__consumer_offsets` from its start: the last record of a key says what is so.
//!
//! The log may be as long as it likes; what is kept is one state, and one buffer at a time. Runs on a blocking thread.

use super::classic::Now;
use super::records::{Key, Record};
use super::shard::Shard;
use crate::error::ErrorCode;
use crate::replica::Partition;
use crate::types::Offset;
use crate::wire::batch::{Batches, StoredBatch};
use crate::wire::compress::MAX_DECOMPRESSED_BYTES;

/// What a load met.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    records: u64,
    unknown: u64,
    malformed: u64,
}

impl Counts {
    /// Says in the log what happened.
    pub(super) fn tell(&self, partition: &str, groups: usize) {
        tracing::info!(%partition, groups, records = self.records, "groups are loaded");
        if self.unknown + self.malformed > 0 {
            tracing::warn!(
                %partition,
                unknown = self.unknown,
                malformed = self.malformed,
                "records of group types that this version does not know, or that cannot be read, were skipped"
            );
        }
    }
}

/// Applies every record below `end` to the shard.
pub(super) fn load(
    partition: &Partition,
    shard: &mut Shard,
    end: Offset,
    buffer_bytes: usize,
    now: Now,
) -> Result<Counts, ErrorCode> {
    let mut counts = Counts::default();
    let mut from = partition.log_start_offset();
    while from < end {
        let read = partition.read_blocking(from, buffer_bytes)?;
        let before = from;
        for bytes in read {
            for batch in Batches::new(bytes) {
                let batch = batch.map_err(|_| ErrorCode::CORRUPT_MESSAGE)?;
                apply(&batch, from, shard, &mut counts, now)?;
                from = batch.header.end_offset().max(from);
            }
        }
        if from == before {
            // The log promised more than it gives.
            return Err(ErrorCode::KAFKA_STORAGE_ERROR);
        }
    }
    Ok(counts)
}

fn apply(batch: &StoredBatch, from: Offset, shard: &mut Shard, counts: &mut Counts, now: Now) -> Result<(), ErrorCode> {
    // Markers say nothing to a coordinator without transactions.
    if batch.header.is_control() {
        return Ok(());
    }
    for record in batch.records(MAX_DECOMPRESSED_BYTES).map_err(|_| ErrorCode::CORRUPT_MESSAGE)? {
        let record = record.map_err(|_| ErrorCode::CORRUPT_MESSAGE)?;
        if record.offset < from {
            continue;
        }
        counts.records += 1;
        match Record::decode(record.key.as_deref().unwrap_or_default(), record.value.as_deref()) {
            Ok(Record { key: Key::Other(_), .. }) => counts.unknown += 1,
            Ok(record) => shard.apply(record, now),
            Err(_) => counts.malformed += 1,
        }
    }
    Ok(())
}
