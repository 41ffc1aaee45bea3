//! The directory around the database: who may use it, whether a recovery reached the end, which boot it is, how full.
//!
//! The sequence file holds RocksDB's sequence numbers of the last commit. It is overwritten in place without a sync:
//! after the death of the process the page cache still has it, so a recovery that ends below it has lost something.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use crate::error::StoreError;

/// The lock on a directory, for as long as it lives.
pub struct DirectoryLock {
    _file: File,
}

impl DirectoryLock {
    /// Makes the directory if it is missing and takes its lock.
    pub fn take(dir: &Path) -> Result<Self, StoreError> {
        std::fs::create_dir_all(dir)
            .map_err(|error| StoreError::new(format!("the log directory {} cannot be made: {error}", dir.display())))?;
        let path = dir.join(".lock");
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(|error| {
            StoreError::new(format!("the log directory {} cannot be written: {error}", dir.display()))
        })?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { _file: file }),
            Err(error) if std::io::Error::from(error).kind() == ErrorKind::WouldBlock => Err(StoreError::new(format!(
                "the log directory {} is in use by another process: stop it, or set another log.dirs",
                dir.display()
            ))),
            Err(error) => {
                Err(StoreError::new(format!("the log directory {} cannot be locked: {error}", dir.display())))
            }
        }
    }
}

/// The file that says how far commits had got.
pub struct SequenceFile {
    file: File,
}

impl SequenceFile {
    /// Opens or makes the file; gives the sequence numbers that it holds, zeros when it is new.
    pub fn open(dir: &Path) -> Result<(Self, [u64; 2]), StoreError> {
        let path = dir.join("committed.sequence");
        let failed = |error| StoreError::new(format!("{} cannot be opened: {error}", path.display()));
        let file =
            OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path).map_err(failed)?;
        let mut bytes = [0; 16];
        match file.read_exact_at(&mut bytes, 0) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => bytes = [0; 16],
            Err(error) => return Err(failed(error)),
        }
        let number = u128::from_le_bytes(bytes);
        #[expect(clippy::cast_possible_truncation, reason = "the two halves")]
        let halves = [number as u64, (number >> 64) as u64];
        Ok((Self { file }, halves))
    }

    /// Notes the sequence numbers of a commit.
    pub fn note(&self, [records, rows]: [u64; 2]) -> Result<(), StoreError> {
        let number = u128::from(records) | u128::from(rows) << 64;
        self.file
            .write_all_at(&number.to_le_bytes(), 0)
            .map_err(|error| StoreError::new(format!("noting the commit's sequence number failed: {error}")))
    }
}

/// True when files of the directory can be opened past the page cache (tmpfs, for one, refuses).
pub fn supports_direct_io(dir: &Path) -> bool {
    let path = dir.join(".direct");
    let supported =
        OpenOptions::new().create(true).truncate(true).write(true).custom_flags(O_DIRECT).open(&path).is_ok();
    if let Err(error) = std::fs::remove_file(&path) {
        tracing::debug!(%error, path = %path.display(), "a probe file was not removed");
    }
    supported
}

#[expect(clippy::cast_possible_wrap, reason = "a flag of the kernel's, far below the sign bit")]
const O_DIRECT: i32 = rustix::fs::OFlags::DIRECT.bits() as i32;

/// The kernel's id of this boot: the same id means that what the kernel was given is still there.
pub fn boot_id() -> String {
    match std::fs::read_to_string("/proc/sys/kernel/random/boot_id") {
        Ok(id) => id.trim().to_owned(),
        // Without the file every start counts as another boot: the careful answer.
        Err(_) => crate::env::random_uuid().to_string(),
    }
}

/// Bytes that the file system of the directory has left for this process.
pub fn free_bytes(dir: &Path) -> Result<u64, StoreError> {
    let stat = rustix::fs::statvfs(dir)
        .map_err(|error| StoreError::new(format!("the free space of {} cannot be read: {error}", dir.display())))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_in_use_gets_a_sentence() {
        let dir = tempfile::tempdir().unwrap();
        let first = DirectoryLock::take(dir.path()).unwrap();
        let refused = DirectoryLock::take(dir.path()).err().unwrap();
        assert!(refused.to_string().contains("in use by another process"), "{refused}");
        drop(first);
        DirectoryLock::take(dir.path()).unwrap();
    }

    #[test]
    fn the_sequence_file_keeps_the_last_number() {
        let dir = tempfile::tempdir().unwrap();
        let (file, before) = SequenceFile::open(dir.path()).unwrap();
        assert_eq!(before, [0, 0]);
        file.note([7, 1]).unwrap();
        file.note([9, u64::MAX]).unwrap();
        drop(file);
        assert_eq!(SequenceFile::open(dir.path()).unwrap().1, [9, u64::MAX]);
    }
}
