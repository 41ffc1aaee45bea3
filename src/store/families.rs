//! Opens RocksDB as a commit log: its options and its column families, each with its reason.
//!
//! Two databases in one directory. `records` holds the record batches and nothing else, in one column family: RocksDB
//! syncs closed write-ahead logs before every flush of a database with several families, which doubled the bytes that
//! reach the disk. `rows` holds `meta`, `compacted` and `local`, small and with a write-ahead log of its own. Rows are
//! written before the records that they speak of, so after a crash the rows may be ahead by one commit, never behind;
//! recovery counts again what the open generation really holds.
//!
//! The plan holds as long as a memtable of `records` never fills before its generation does: then flushed files are
//! disjoint, compaction only renames them, and write-ahead logs are recycled. Not used, because it was measured and
//! lost: BlobDB, blob direct write (loses acknowledged data on kill -9), universal and FIFO compaction, a family or DB
//! per partition, a block cache, several writers, pipelined or unordered writes.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use rocksdb::{
    BlockBasedOptions, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, FlushOptions, LogLevel, Options,
    WriteBatch, WriteOptions, properties,
};

use super::StoreOptions;
use crate::error::StoreError;

/// What is alive: replicas, spans, timestamps, producer snapshots.
pub const META: &str = "meta";
/// Batches that the cleaner wrote.
pub const COMPACTED: &str = "compacted";
/// Facts of this broker and directory.
pub const LOCAL: &str = "local";

/// Unflushed generations that may wait while the open one fills: with it, at most three memtables. More than three, and
/// RocksDB itself makes a switch of memtables wait long before they are full.
pub const UNFLUSHED_MAX: u64 = 2;
/// Rows are few: a memtable of them is small.
const ROWS_MEMTABLE: usize = 8 << 20;

/// The databases and where they are.
pub struct Database {
    records: DB,
    rows: DB,
    /// Rows were written since the last sync of them.
    rows_unsynced: AtomicBool,
    /// Held over a sync of the rows, so that who finds nothing to sync knows that it is done.
    rows_sync: Mutex<()>,
    /// For sentences.
    name: String,
}

impl Database {
    /// Opens or makes the databases in `dir`.
    pub fn open(dir: &Path, options: &StoreOptions, direct_io: bool) -> Result<Self, StoreError> {
        let name = dir.display().to_string();
        let failed =
            |error: rocksdb::Error| StoreError::new(format!("the log directory {name} cannot be opened: {error}"));
        let families =
            [META, COMPACTED, LOCAL].map(|family| ColumnFamilyDescriptor::new(family, row_options(ROWS_MEMTABLE)));
        let rows = DB::open_cf_descriptors(&row_database_options(), dir.join("rows"), families).map_err(failed)?;
        let mut record_options = record_options(options.memtable_bytes());
        record_options.set_use_direct_io_for_flush_and_compaction(direct_io);
        let records = DB::open(&record_options, dir.join("records")).map_err(failed)?;
        Ok(Self { records, rows, rows_unsynced: AtomicBool::new(true), rows_sync: Mutex::new(()), name })
    }

    /// Record batches as they will be served, generation-major. Append only.
    pub fn records(&self) -> &DB {
        &self.records
    }

    /// The rows of all families but the records.
    pub fn rows(&self) -> &DB {
        &self.rows
    }

    /// The handle of a family of rows.
    pub fn family(&self, family: &str) -> &ColumnFamily {
        self.rows.cf_handle(family).expect("every family was opened with the database")
    }

    /// The directory, for sentences.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A RocksDB failure as a sentence.
    pub fn failed(&self, action: &str, error: &rocksdb::Error) -> StoreError {
        StoreError::new(format!("{action} in the log directory {} failed: {error}", self.name))
    }

    /// The value of a row.
    pub fn get(&self, family: &str, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.rows.get_cf(self.family(family), key).map_err(|error| self.failed("a read", &error))
    }

    /// Writes rows.
    pub fn write_rows(&self, batch: WriteBatch, options: &WriteOptions) -> Result<(), StoreError> {
        self.rows.write_opt(batch, options).map_err(|error| self.failed("a write", &error))?;
        // After the write: a sync that ran in between did not cover it.
        self.rows_unsynced.store(true, Ordering::Release);
        Ok(())
    }

    /// Writes records. The rows that they need were written before.
    pub fn write_records(&self, batch: WriteBatch, options: &WriteOptions) -> Result<(), StoreError> {
        self.records.write_opt(batch, options).map_err(|error| self.failed("a write", &error))
    }

    /// Syncs the rows' write-ahead log, if there is news in it.
    pub fn sync_rows(&self) -> Result<(), StoreError> {
        let _one_at_a_time = self.rows_sync.lock();
        if !self.rows_unsynced.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        self.rows.flush_wal(true).map_err(|error| {
            self.rows_unsynced.store(true, Ordering::Release);
            self.failed("a sync of the write-ahead log", &error)
        })
    }

    /// Syncs both write-ahead logs, in the order in which they are written.
    pub fn sync(&self) -> Result<(), StoreError> {
        self.sync_rows()?;
        self.records.flush_wal(true).map_err(|error| self.failed("a sync of the write-ahead log", &error))
    }

    /// How far both have got: the sequence numbers of the last writes to records and rows.
    pub fn sequences(&self) -> [u64; 2] {
        [self.records.latest_sequence_number(), self.rows.latest_sequence_number()]
    }

    /// True when another switch of the records' memtable would not wait for a flush.
    pub fn may_roll(&self) -> Result<bool, StoreError> {
        Ok(self.property(properties::NUM_IMMUTABLE_MEM_TABLE)? < UNFLUSHED_MAX)
    }

    /// Bytes of the records' memtables, which will be files.
    pub fn unflushed_bytes(&self) -> Result<u64, StoreError> {
        self.property(properties::CUR_SIZE_ALL_MEM_TABLES)
    }

    /// An error when a flush in the background failed since the database was opened.
    pub fn check_flushes(&self) -> Result<(), StoreError> {
        match self.property(properties::BACKGROUND_ERRORS)? {
            0 => Ok(()),
            _ => Err(StoreError::new(format!(
                "a flush in the log directory {} failed: its LOG file says why; is the disk full or broken?",
                self.name
            ))),
        }
    }

    fn property(&self, name: &properties::PropName) -> Result<u64, StoreError> {
        let value = self.records.property_int_value(name).map_err(|error| self.failed("reading a property", &error))?;
        Ok(value.unwrap_or(0))
    }

    /// Switches the memtable of the records and starts its flush.
    pub fn flush_records(&self, wait: bool) -> Result<(), StoreError> {
        let mut options = FlushOptions::default();
        options.set_wait(wait);
        self.records.flush_opt(&options).map_err(|error| self.failed("a flush", &error))
    }

    /// Flushes the rows and waits for it: the next start has nothing to replay.
    pub fn flush_rows(&self) -> Result<(), StoreError> {
        for family in [META, COMPACTED, LOCAL] {
            self.rows.flush_cf(self.family(family)).map_err(|error| self.failed("a flush", &error))?;
        }
        Ok(())
    }
}

/// What both databases have in common.
fn common_options() -> Options {
    let mut db = Options::default();
    db.create_if_missing(true);
    db.create_missing_column_families(true);
    // One flush and one (renaming) compaction.
    db.set_max_background_jobs(2);
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
    // Clients compress.
    db.set_compression_type(DBCompressionType::None);
    db.set_level_compaction_dynamic_level_bytes(false);
    db
}

fn record_options(memtable_bytes: usize) -> Options {
    let mut db = common_options();
    // A recycled log overwrites pages that exist: 15 % of the CPU of an append. But its pages stay dirty from use to
    // use, so the kernel writes each recycled log every half minute: more than one would double the disk's work at low
    // rates, where a log that is deleted in time never reaches the disk at all.
    db.set_recycle_log_file_num(1);
    db.set_write_buffer_size(memtable_bytes);
    db.set_max_write_buffer_number(1 + i32::try_from(UNFLUSHED_MAX).expect("a few"));
    // Files leave level 0 by renaming (deleting files in a range does not look there) and never leave level 1.
    db.set_level_zero_file_num_compaction_trigger(2);
    db.set_level_zero_slowdown_writes_trigger(64);
    db.set_level_zero_stop_writes_trigger(128);
    db.set_max_bytes_for_level_base(1 << 50);
    db.set_target_file_size_base(4 * memtable_bytes as u64);
    db.set_soft_pending_compaction_bytes_limit(0);
    db.set_hard_pending_compaction_bytes_limit(0);
    // A log scan has no reuse; large blocks make it cheap.
    let mut table = BlockBasedOptions::default();
    table.disable_cache();
    table.set_block_size(64 << 10);
    db.set_block_based_table_factory(&table);
    db
}

fn row_database_options() -> Options {
    let mut db = common_options();
    // No idle family pins more than this.
    db.set_max_total_wal_size(4 * ROWS_MEMTABLE as u64);
    db
}

fn row_options(memtable_bytes: usize) -> Options {
    let mut cf = Options::default();
    cf.set_compression_type(DBCompressionType::None);
    cf.set_write_buffer_size(memtable_bytes);
    cf.set_max_write_buffer_number(3);
    let mut table = BlockBasedOptions::default();
    table.disable_cache();
    table.set_block_size(8 << 10);
    table.set_bloom_filter(10.0, false);
    cf.set_block_based_table_factory(&table);
    cf
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RocksDB checks every block and every record of its write-ahead log. Compiled without the flags of
    /// `.cargo/config.toml`, which RUSTFLAGS in the environment replace without a word, it does so many times slower.
    #[cfg(target_arch = "x86_64")]
    #[test]
    fn the_processor_computes_rocksdbs_checksums() {
        let dir = tempfile::tempdir().expect("a directory");
        drop(Database::open(dir.path(), &StoreOptions::default(), false).expect("it opens"));
        for database in ["records", "rows"] {
            let log = std::fs::read_to_string(dir.path().join(database).join("LOG")).expect("RocksDB's own log");
            let told = log.lines().find_map(|line| line.split_once("Fast CRC32 supported: ")).map(|(_, told)| told);
            assert_eq!(told, Some("Supported on x86"), "{database}:\n{log}");
        }
    }
}
