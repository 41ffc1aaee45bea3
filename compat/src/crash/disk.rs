//! What the folder of the records database shows from outside, and what that proves.
//!
//! A roll of the generation switches the memtable: a write-ahead log with a larger number appears. The closed memtable is
//! then written to a table, and the roll is over when the manifest says so. As long as the manifest has not grown since
//! before the new log appeared, that flush has not ended.

use std::collections::BTreeSet;
use std::path::Path;

/// One look at the folder.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Records {
    /// Number and length of the newest manifest. Read before the rest.
    manifest: (u64, u64),
    newest_log: u64,
    tables: BTreeSet<u64>,
}

impl Records {
    /// Looks at `records` in a log directory.
    pub fn look(data: &Path) -> Result<Self, String> {
        let mut seen = Self::default();
        let folder = data.join("records");
        for name in names(&folder)? {
            if let Some(number) = name.strip_prefix("MANIFEST-").and_then(|number| number.parse().ok())
                && number > seen.manifest.0
            {
                let file = folder.join(&name);
                let length = std::fs::metadata(&file).map_err(|e| format!("{}: {e}", file.display()))?.len();
                seen.manifest = (number, length);
            }
        }
        for name in names(&folder)? {
            if let Some(number) = numbered(&name, ".log") {
                seen.newest_log = seen.newest_log.max(number);
            }
            seen.tables.extend(numbered(&name, ".sst"));
        }
        Ok(seen)
    }

    /// True when a roll began since `before`.
    pub fn rolled_since(&self, before: &Self) -> bool {
        self.newest_log > before.newest_log
    }

    /// True when a roll began since `before` and its flush has not ended.
    pub fn is_rolling_since(&self, before: &Self) -> bool {
        self.rolled_since(before) && self.manifest == before.manifest
    }

    /// True when tables that were there before are gone. Compaction renames them only, so these were dropped.
    pub fn dropped_since(&self, before: &Self) -> bool {
        !before.tables.is_subset(&self.tables)
    }
}

/// Bytes of all tables in `records` of a log directory.
pub fn table_bytes(data: &Path) -> Result<u64, String> {
    let folder = data.join("records");
    let tables = names(&folder)?.into_iter().filter(|name| name.ends_with(".sst"));
    // A table that goes while it is looked at has no bytes.
    Ok(tables.filter_map(|name| std::fs::metadata(folder.join(name)).ok()).map(|file| file.len()).sum())
}

fn names(folder: &Path) -> Result<Vec<String>, String> {
    let entries = std::fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    Ok(entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
}

fn numbered(name: &str, ending: &str) -> Option<u64> {
    name.strip_suffix(ending)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(files: &[(&str, usize)]) -> Records {
        let data = tempfile::tempdir().expect("a folder");
        for (name, length) in files {
            let file = data.path().join(name);
            std::fs::create_dir_all(file.parent().expect("a parent")).expect("made");
            std::fs::write(file, vec![0; *length]).expect("written");
        }
        Records::look(data.path()).expect("seen")
    }

    const BEFORE: [(&str, usize); 3] =
        [("records/MANIFEST-000005", 90), ("records/000010.log", 7), ("records/000009.sst", 1)];

    #[test]
    fn a_new_log_is_a_roll_until_the_manifest_grows() {
        let before = look(&BEFORE);
        let rolling = look(&[("records/MANIFEST-000005", 90), ("records/000011.log", 0), ("records/000009.sst", 1)]);
        assert!(rolling.rolled_since(&before) && rolling.is_rolling_since(&before));
        let flushed = look(&[("records/MANIFEST-000005", 130), ("records/000011.log", 0), ("records/000012.sst", 1)]);
        assert!(flushed.rolled_since(&before) && !flushed.is_rolling_since(&before));
    }

    #[test]
    fn the_logs_of_other_databases_are_no_roll() {
        let mut files = BEFORE.to_vec();
        files.extend([("rows/000044.log", 3), ("raft/000099.log", 3), ("records/LOG", 5)]);
        assert!(!look(&files).rolled_since(&look(&BEFORE)));
    }

    #[test]
    fn a_table_that_is_gone_was_dropped_and_a_new_one_was_not() {
        let before = look(&BEFORE);
        let mut files = BEFORE.to_vec();
        files.push(("records/000012.sst", 1));
        assert!(!look(&files).dropped_since(&before));
        assert!(look(&BEFORE[..2]).dropped_since(&before));
    }
}
