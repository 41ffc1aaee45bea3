//! Opens RocksDB as a commit log: its options and its column families, each with its reason.
//!
//! The plan holds as long as a memtable never fills before its generation does and every family is flushed at each
//! roll: then flushed files are disjoint, compaction only renames them, and write-ahead logs are recycled. Not used,
//! because it was measured and lost: BlobDB, blob direct write (loses acknowledged data on kill -9), universal and
//! FIFO compaction, a family or DB per partition, a block cache, several writers, pipelined or unordered writes.

use std::path::Path;

use rocksdb::{
    BlockBasedOptions, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, FlushOptions, LogLevel, Options,
    properties,
};

use super::StoreOptions;
use crate::error::StoreError;

/// Record batches as they will be served, generation-major. Append only.
pub const LOG: &str = "log";
/// What is alive: replicas, spans, timestamps, producer snapshots.
pub const META: &str = "meta";
/// Batches that the cleaner wrote.
pub const COMPACTED: &str = "compacted";
/// Facts of this broker and directory.
pub const LOCAL: &str = "local";

const FAMILIES: [&str; 4] = [LOG, META, COMPACTED, LOCAL];

/// Unflushed generations that may wait while the open one fills: with it, at most three memtables.
const UNFLUSHED_MAX: u64 = 2;

/// The database and where it is.
pub struct Database {
    db: DB,
    /// For sentences.
    name: String,
}

impl Database {
    /// Opens or makes the database in `dir`.
    pub fn open(dir: &Path, options: &StoreOptions, direct_io: bool) -> Result<Self, StoreError> {
        let name = dir.display().to_string();
        let families = FAMILIES.map(|family| ColumnFamilyDescriptor::new(family, family_options(family, options)));
        let db = DB::open_cf_descriptors(&database_options(options, direct_io), dir, families)
            .map_err(|error| StoreError::new(format!("the log directory {name} cannot be opened: {error}")))?;
        Ok(Self { db, name })
    }

    /// RocksDB itself.
    pub fn db(&self) -> &DB {
        &self.db
    }

    /// The handle of a family.
    pub fn family(&self, family: &str) -> &ColumnFamily {
        self.db.cf_handle(family).expect("every family was opened with the database")
    }

    /// The directory, for sentences.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A RocksDB failure as a sentence.
    pub fn failed(&self, action: &str, error: &rocksdb::Error) -> StoreError {
        StoreError::new(format!("{action} in the log directory {} failed: {error}", self.name))
    }

    /// The value of a key.
    pub fn get(&self, family: &str, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.db.get_cf(self.family(family), key).map_err(|error| self.failed("a read", &error))
    }

    /// True when another switch of the memtables would not wait for a flush.
    pub fn may_roll(&self) -> Result<bool, StoreError> {
        for family in [LOG, META] {
            let waiting = self
                .db
                .property_int_value_cf(self.family(family), properties::NUM_IMMUTABLE_MEM_TABLE)
                .map_err(|error| self.failed("reading a property", &error))?;
            if waiting.unwrap_or(0) >= UNFLUSHED_MAX {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Switches the memtables of all families, so that no idle one pins a write-ahead log, and starts their flushes.
    pub fn flush(&self, wait: bool) -> Result<(), StoreError> {
        let mut options = FlushOptions::default();
        options.set_wait(wait);
        for family in FAMILIES {
            self.db.flush_cf_opt(self.family(family), &options).map_err(|error| self.failed("a flush", &error))?;
        }
        Ok(())
    }
}

fn database_options(options: &StoreOptions, direct_io: bool) -> Options {
    let mut db = Options::default();
    db.create_if_missing(true);
    db.create_missing_column_families(true);
    // One flush and one (renaming) compaction.
    db.set_max_background_jobs(2);
    // Recycled logs overwrite pages that exist: 13-15 % of the CPU of an append.
    db.set_recycle_log_file_num(4);
    // Flushed data does not pass through the page cache, which the write-ahead log needs: 23-30 % of the CPU.
    db.set_use_direct_io_for_flush_and_compaction(direct_io);
    // A roll switches them all long before; this only bounds what a bug could pin.
    db.set_max_total_wal_size(8 * options.memtable_bytes() as u64);
    db.set_max_open_files(1000);
    // One writer thread: nothing to gain from the concurrent path's atomics.
    db.set_allow_concurrent_memtable_write(false);
    db.set_enable_write_thread_adaptive_yield(false);
    // An idle broker stays idle, and its directory small.
    db.set_stats_dump_period_sec(0);
    db.set_stats_persist_period_sec(0);
    db.set_log_level(LogLevel::Warn);
    db.set_keep_log_file_num(4);
    db.set_max_log_file_size(4 << 20);
    db.set_manifest_preallocation_size(256 << 10);
    db
}

fn family_options(family: &str, options: &StoreOptions) -> Options {
    let mut cf = Options::default();
    // Clients compress.
    cf.set_compression_type(DBCompressionType::None);
    cf.set_write_buffer_size(options.memtable_bytes());
    cf.set_max_write_buffer_number(3);
    cf.set_level_compaction_dynamic_level_bytes(false);
    let mut table = BlockBasedOptions::default();
    table.disable_cache();
    if family == LOG {
        // A log scan has no reuse; large blocks make it cheap.
        table.set_block_size(64 << 10);
        // Files leave level 0 by renaming (deleting files in a range does not look there) and never leave level 1.
        cf.set_level_zero_file_num_compaction_trigger(2);
        cf.set_level_zero_slowdown_writes_trigger(64);
        cf.set_level_zero_stop_writes_trigger(128);
        cf.set_max_bytes_for_level_base(1 << 50);
        cf.set_target_file_size_base(4 * options.memtable_bytes() as u64);
        cf.set_soft_pending_compaction_bytes_limit(0);
        cf.set_hard_pending_compaction_bytes_limit(0);
    } else {
        table.set_block_size(8 << 10);
        table.set_bloom_filter(10.0, false);
    }
    cf.set_block_based_table_factory(&table);
    cf
}
