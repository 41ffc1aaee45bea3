//! What is left of the disk: below `ottla.disk.reserve.bytes` appends are refused, while fetches, deletions and retention
//! go on, and by themselves they are taken again when space has returned.
//!
//! A client sees KAFKA_STORAGE_ERROR, which it retries. Topics that the broker keeps for itself may use the upper half of
//! the reserve: consumers that drain a full disk have to commit. Nothing here looks at the disk; whoever does says so.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::Relaxed};

use crate::error::{ErrorCode, StoreError};

/// How much room there is, from plenty to none.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
enum Room {
    /// Everything is taken.
    Plenty,
    /// Only what the broker keeps for itself.
    Reserve,
    /// Nothing.
    Full,
}

impl Room {
    /// With so many bytes free. It is left only when an eighth more than its bound is free, so that a disk at the bound
    /// does not switch with every flush.
    fn after(self, free: u64, reserve: u64) -> Self {
        let bound = |room: Self, bytes: u64| if self >= room { bytes.saturating_add(bytes / 8) } else { bytes };
        if free < bound(Self::Full, reserve / 2) {
            Self::Full
        } else if free < bound(Self::Reserve, reserve) {
            Self::Reserve
        } else {
            Self::Plenty
        }
    }
}

/// The space of the log directory, as it was seen last.
pub struct DiskSpace {
    reserve: u64,
    room: AtomicU8,
    unreadable: AtomicBool,
}

impl DiskSpace {
    /// Plenty, until somebody says otherwise.
    pub fn new(reserve: i64) -> Arc<Self> {
        let reserve = u64::try_from(reserve).unwrap_or(0);
        Arc::new(Self { reserve, room: AtomicU8::new(Room::Plenty as u8), unreadable: AtomicBool::new(false) })
    }

    /// What the appends of a topic pass.
    pub fn gate(space: &Arc<Self>, internal: bool) -> Gate {
        Gate { space: Arc::clone(space), closed_at: if internal { Room::Full } else { Room::Reserve } }
    }

    /// Takes note of how many bytes are free in a directory, and says so once when that changes what is taken.
    pub fn note(&self, free: Result<u64, StoreError>, dir: &Path) {
        let (reserve, dir) = (self.reserve, dir.display());
        let free = match free {
            Ok(free) => free,
            Err(error) => {
                if !self.unreadable.swap(true, Relaxed) {
                    tracing::warn!(%error, "ottla.disk.reserve.bytes cannot be watched over");
                }
                return;
            }
        };
        self.unreadable.store(false, Relaxed);
        let before = self.room();
        let room = before.after(free, reserve);
        if room == before {
            return;
        }
        self.room.store(room as u8, Relaxed);
        match room {
            Room::Plenty => tracing::info!(free, reserve, "the disk of {dir} has room again: appends are taken"),
            Room::Reserve => tracing::error!(
                free,
                reserve,
                "the disk of {dir} is nearly full, below ottla.disk.reserve.bytes: produce is refused until space returns"
            ),
            Room::Full => tracing::error!(
                free,
                reserve,
                "the disk of {dir} is nearly full, below half of ottla.disk.reserve.bytes: offset commits are refused too"
            ),
        }
    }

    fn room(&self) -> Room {
        match self.room.load(Relaxed) {
            0 => Room::Plenty,
            1 => Room::Reserve,
            _ => Room::Full,
        }
    }
}

/// What an append passes.
pub struct Gate {
    space: Arc<DiskSpace>,
    closed_at: Room,
}

impl Gate {
    /// Whether there is room for an append.
    pub fn check(&self) -> Result<(), ErrorCode> {
        match self.space.room() < self.closed_at {
            true => Ok(()),
            false => Err(ErrorCode::KAFKA_STORAGE_ERROR),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a client's topic and an internal one take appends, after each look at the free bytes.
    fn taken(reserve: i64, looks: &[u64]) -> Vec<(bool, bool)> {
        let space = DiskSpace::new(reserve);
        let (topic, internal) = (DiskSpace::gate(&space, false), DiskSpace::gate(&space, true));
        let mut taken = Vec::new();
        for free in looks {
            space.note(Ok(*free), Path::new("data"));
            taken.push((topic.check().is_ok(), internal.check().is_ok()));
        }
        taken
    }

    #[test]
    fn below_the_reserve_clients_are_refused_and_below_its_half_everyone() {
        let expected = [(true, true), (false, true), (false, true), (false, false), (false, false)];
        assert_eq!(taken(800, &[800, 799, 400, 399, 0]), expected);
    }

    #[test]
    fn appends_are_taken_again_when_an_eighth_more_is_free() {
        let expected = [(false, false), (false, false), (false, true), (false, true), (true, true), (true, true)];
        assert_eq!(taken(800, &[0, 449, 450, 899, 900, 800]), expected);
    }

    #[test]
    fn without_a_reserve_nothing_is_refused() {
        assert_eq!(taken(0, &[0]), [(true, true)]);
    }

    #[test]
    fn a_disk_that_cannot_be_asked_changes_nothing() {
        let space = DiskSpace::new(800);
        space.note(Ok(10), Path::new("data"));
        space.note(Err(StoreError::new("gone")), Path::new("data"));
        assert_eq!(DiskSpace::gate(&space, false).check(), Err(ErrorCode::KAFKA_STORAGE_ERROR));
    }
}
