//! Shell. The metadata log's own store: entries by index, and a few named values (vote, snapshot, identity).
//!
//! A RocksDB of its own, so that its fsync on every write never waits for the record path and never makes that wait.
//! It knows bytes only: what an entry means is the controller's business. It must never return from a write before
//! the write is on stable storage, and never skip over damage: a voter that forgot what it promised could vote twice.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rocksdb::{
    BlockBasedOptions, DB, DBRecoveryMode, Direction, IteratorMode, LogLevel, Options, ReadOptions, WriteBatch,
    WriteOptions,
};

use crate::error::StoreError;

/// Entries live under this byte and their index, big-endian.
const ENTRY: u8 = b'e';
/// Named values live under this byte and their name.
const SLOT: u8 = b's';
/// One memtable: metadata is small, and an idle broker should be too.
const MEMTABLE_BYTES: usize = 1 << 20;
/// WAL files beyond this are flushed away.
const WAL_BYTES: u64 = 8 << 20;

/// A named value beside the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Slot {
    /// Who this store belongs to.
    Identity,
    /// The last vote.
    Vote,
    /// The last entry that was purged from the log's front.
    Purged,
    /// What the snapshot covers.
    SnapshotMeta,
    /// The snapshot.
    Snapshot,
}

impl Slot {
    fn key(self) -> [u8; 2] {
        let name = match self {
            Self::Identity => b'i',
            Self::Vote => b'v',
            Self::Purged => b'p',
            Self::SnapshotMeta => b'm',
            Self::Snapshot => b's',
        };
        [SLOT, name]
    }
}

/// An entry: its index and its bytes.
pub type Entry = (u64, Vec<u8>);

/// The open store. Every write is synced before it returns.
pub struct MetadataStore {
    db: DB,
    dir: PathBuf,
}

fn entry_key(index: u64) -> [u8; 9] {
    let mut key = [ENTRY; 9];
    key[1..].copy_from_slice(&index.to_be_bytes());
    key
}

fn options() -> Options {
    let mut table = BlockBasedOptions::default();
    table.disable_cache();
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_block_based_table_factory(&table);
    options.set_write_buffer_size(MEMTABLE_BYTES);
    options.set_max_write_buffer_number(2);
    options.set_arena_block_size(64 << 10);
    options.set_max_total_wal_size(WAL_BYTES);
    options.set_max_open_files(64);
    options.set_keep_log_file_num(2);
    options.set_log_level(LogLevel::Warn);
    options.set_stats_dump_period_sec(0);
    options.set_skip_stats_update_on_db_open(true);
    // A torn record at the very end was never acknowledged. Damage anywhere else must stop the start.
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    options.set_track_and_verify_wals_in_manifest(true);
    options
}

impl MetadataStore {
    /// Opens the store in `dir`, making it when it is not there.
    pub fn open(dir: &Path) -> Result<Arc<Self>, StoreError> {
        let fail = |error: &dyn std::fmt::Display| {
            StoreError::new(format!(
                "the metadata store in {} cannot be opened: {error}. If another broker uses the directory, stop it or \
                 choose another log.dirs; if the files are damaged, restore the directory from a backup that is as new as \
                 the log directory: an older one is refused, because it does not know the topics made since.",
                dir.display()
            ))
        };
        std::fs::create_dir_all(dir).map_err(|error| fail(&error))?;
        let db = DB::open(&options(), dir).map_err(|error| fail(&error))?;
        Ok(Arc::new(Self { db, dir: dir.to_path_buf() }))
    }

    /// The directory, for sentences.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Appends entries in one synced write.
    pub fn append(&self, entries: &[Entry]) -> Result<(), StoreError> {
        let mut batch = WriteBatch::default();
        for (index, bytes) in entries {
            batch.put(entry_key(*index), bytes);
        }
        self.write(batch)
    }

    /// The entries with `from <= index < end`, in order.
    pub fn entries(&self, from: u64, end: u64) -> Result<Vec<Entry>, StoreError> {
        let mut bounds = ReadOptions::default();
        bounds.set_iterate_upper_bound(entry_key(end));
        let start = entry_key(from);
        let mut found = Vec::new();
        for item in self.db.iterator_opt(IteratorMode::From(&start, Direction::Forward), bounds) {
            let (key, value) = item.map_err(|error| self.failed("read", &error))?;
            found.push((self.index_of(&key)?, value.into_vec()));
        }
        Ok(found)
    }

    /// The last entry.
    pub fn last_entry(&self) -> Result<Option<Entry>, StoreError> {
        let mut bounds = ReadOptions::default();
        bounds.set_iterate_lower_bound([ENTRY]);
        let end = entry_key(u64::MAX);
        match self.db.iterator_opt(IteratorMode::From(&end, Direction::Reverse), bounds).next() {
            Some(item) => {
                let (key, value) = item.map_err(|error| self.failed("read", &error))?;
                Ok(Some((self.index_of(&key)?, value.into_vec())))
            }
            None => Ok(None),
        }
    }

    /// Removes all entries from `index` on.
    pub fn truncate_from(&self, index: u64) -> Result<(), StoreError> {
        let mut batch = WriteBatch::default();
        batch.delete_range(entry_key(index), entry_key(u64::MAX));
        self.write(batch)
    }

    /// Removes all entries up to and with `index`, and remembers `marker` as what was purged last.
    pub fn purge_to(&self, index: u64, marker: &[u8]) -> Result<(), StoreError> {
        let mut batch = WriteBatch::default();
        batch.delete_range(entry_key(0), entry_key(index.saturating_add(1)));
        batch.put(Slot::Purged.key(), marker);
        self.write(batch)
    }

    /// Reads a named value.
    pub fn get(&self, slot: Slot) -> Result<Option<Vec<u8>>, StoreError> {
        self.db.get(slot.key()).map_err(|error| self.failed("read", &error))
    }

    /// Writes named values, all or none.
    pub fn put(&self, values: &[(Slot, &[u8])]) -> Result<(), StoreError> {
        let mut batch = WriteBatch::default();
        for (slot, value) in values {
            batch.put(slot.key(), value);
        }
        self.write(batch)
    }

    fn write(&self, batch: WriteBatch) -> Result<(), StoreError> {
        let mut options = WriteOptions::default();
        options.set_sync(true);
        self.db.write_opt(batch, &options).map_err(|error| self.failed("written", &error))
    }

    fn index_of(&self, key: &[u8]) -> Result<u64, StoreError> {
        key.get(1..)
            .and_then(|index| index.try_into().ok())
            .map(u64::from_be_bytes)
            .ok_or_else(|| self.failed("read", &"an entry's key is not nine bytes long"))
    }

    fn failed(&self, what: &str, error: &dyn std::fmt::Display) -> StoreError {
        StoreError::new(format!("the metadata store in {} cannot be {what}: {error}", self.dir.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(range: std::ops::Range<u64>) -> Vec<Entry> {
        range.map(|index| (index, index.to_string().into_bytes())).collect()
    }

    #[test]
    fn entries_and_slots_survive_a_reopen() {
        let dir = tempfile::tempdir().unwrap();
        let store = MetadataStore::open(dir.path()).unwrap();
        store.append(&entries(0..300)).unwrap();
        store.put(&[(Slot::Vote, b"vote".as_slice())]).unwrap();
        drop(store);
        let store = MetadataStore::open(dir.path()).unwrap();
        assert_eq!(store.entries(250, 400).unwrap(), entries(250..300));
        assert_eq!(store.last_entry().unwrap().unwrap().0, 299);
        assert_eq!(store.get(Slot::Vote).unwrap().unwrap(), b"vote");
        assert_eq!(store.get(Slot::Snapshot).unwrap(), None);
    }

    #[test]
    fn truncating_and_purging_cut_the_two_ends() {
        let dir = tempfile::tempdir().unwrap();
        let store = MetadataStore::open(dir.path()).unwrap();
        assert_eq!(store.last_entry().unwrap(), None);
        store.append(&entries(0..10)).unwrap();
        store.truncate_from(7).unwrap();
        store.purge_to(2, b"two").unwrap();
        assert_eq!(store.entries(0, 100).unwrap(), entries(3..7));
        assert_eq!(store.get(Slot::Purged).unwrap().unwrap(), b"two");
        store.purge_to(6, b"six").unwrap();
        assert_eq!(store.last_entry().unwrap(), None);
    }

    #[test]
    fn a_store_in_use_is_refused_with_a_sentence() {
        let dir = tempfile::tempdir().unwrap();
        let _first = MetadataStore::open(dir.path()).unwrap();
        let refused = MetadataStore::open(dir.path()).err().unwrap().to_string();
        assert!(refused.contains(&dir.path().display().to_string()) && refused.contains("another broker"), "{refused}");
    }
}
