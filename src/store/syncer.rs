//! The second thread: syncs the write-ahead log for those who wait for it, and unlinks generations that are dead.
//!
//! One sync serves every partition that asked before it began (group commit); topics that do not ask are published by
//! the committer and never wait here. A failed sync takes the store offline: it is never retried and believed
//! afterwards, because the kernel may have dropped the pages.

use std::ops::RangeInclusive;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use rocksdb::ReadOptions;

use super::committer::tell;
use super::keys::{self, Generation, ReplicaId};
use super::operation::{Answer, Operation};
use super::replica::Replica;
use super::{CommitListener, Shared};
use crate::env;
use crate::error::StoreError;
use crate::types::{Offset, Tick};

/// What is told to whom after a commit.
pub struct Publication {
    /// Whose log end offset moved.
    pub replica: Arc<Replica>,
    /// Where to.
    pub end: Offset,
    /// Who is told.
    pub listener: Arc<dyn CommitListener>,
    /// True when it waits for a sync.
    pub sync: bool,
}

/// Work for the syncer.
#[derive(Default)]
struct Work {
    publications: Vec<Publication>,
    answers: Vec<Answer<()>>,
    /// The earliest moment by which some topic's `flush.ms` wants a sync.
    sync_by: Option<Tick>,
    /// The rows of a closed generation are to be synced.
    rows: bool,
    /// Generations in which nothing is alive any more.
    dead: Vec<Generation>,
    stop: bool,
}

/// The syncer's inbox.
#[derive(Default)]
pub struct Syncer {
    work: Mutex<Work>,
    wake: Condvar,
}

impl Syncer {
    /// Publishes after the next sync those that wait for one, and in their order those behind them.
    pub fn publish(&self, publications: &mut Vec<Publication>) {
        for publication in publications.iter() {
            publication.replica.syncing.fetch_add(1, Ordering::Relaxed);
        }
        self.work.lock().publications.append(publications);
        self.wake.notify_one();
    }

    /// Answers after the next sync.
    pub fn answer(&self, answer: Answer<()>) {
        self.work.lock().answers.push(answer);
        self.wake.notify_one();
    }

    /// Syncs at some moment up to the given one.
    pub fn sync_by(&self, moment: Tick) {
        let mut work = self.work.lock();
        if work.sync_by.is_none_or(|earlier| moment < earlier) {
            work.sync_by = Some(moment);
            self.wake.notify_one();
        }
    }

    /// Syncs the rows: a generation was closed, and its files will be synced by their flush.
    pub fn sync_rows(&self) {
        self.work.lock().rows = true;
        self.wake.notify_one();
    }

    /// Unlinks the files of dead generations, as far as RocksDB lets go of them.
    pub fn unlink(&self, dead: Vec<Generation>) {
        self.work.lock().dead = dead;
        self.wake.notify_one();
    }

    /// Ends the thread after the work that is there.
    pub fn stop(&self) {
        self.work.lock().stop = true;
        self.wake.notify_one();
    }

    fn next(&self) -> Work {
        let mut work = self.work.lock();
        loop {
            let due = work.sync_by.map(|moment| moment.since_ms(env::tick()));
            let idle = work.publications.is_empty() && work.answers.is_empty() && work.dead.is_empty() && !work.rows;
            if !idle || work.stop || due == Some(0) {
                let stop = work.stop;
                // A sync for any reason serves everybody; without one, the deadline stays.
                let keep = if idle && !stop || work.needs_sync() { None } else { work.sync_by };
                let mut next = std::mem::take(&mut *work);
                work.stop = stop;
                work.sync_by = keep;
                next.sync_by = next.sync_by.filter(|_| keep.is_none());
                return next;
            }
            match due {
                Some(milliseconds) => {
                    self.wake.wait_for(&mut work, Duration::from_millis(milliseconds));
                }
                None => self.wake.wait(&mut work),
            }
        }
    }
}

impl Work {
    fn needs_sync(&self) -> bool {
        !self.answers.is_empty() || !self.dead.is_empty() || self.publications.iter().any(|waiting| waiting.sync)
    }
}

/// The syncer's thread.
pub fn run(shared: &Arc<Shared>) {
    loop {
        let mut work = shared.syncer.next();
        if std::panic::catch_unwind(AssertUnwindSafe(|| carry_out(shared, &mut work))).is_err() {
            let dir = shared.dir.display();
            let error = StoreError::new(format!("a defect of the syncer of {dir}: the panic is in the log"));
            shared.go_offline(&error);
            publish(&mut work, &Err(error));
        }
        if work.stop {
            return;
        }
    }
}

fn carry_out(shared: &Shared, work: &mut Work) {
    let synced = if work.needs_sync() || work.sync_by.is_some() {
        sync(shared)
    } else if work.rows {
        shared.database.sync_rows().inspect_err(|error| shared.go_offline(error))
    } else {
        shared.check_online()
    };
    publish(work, &synced);
    let dead = std::mem::take(&mut work.dead);
    if synced.is_ok() && !dead.is_empty() {
        unlink(shared, dead);
    }
}

fn publish(work: &mut Work, synced: &Result<(), StoreError>) {
    for publication in work.publications.drain(..) {
        tell(&*publication.listener, |listener| match synced {
            Ok(()) => listener.committed(publication.end),
            Err(error) => listener.failed(error),
        });
        publication.replica.syncing.fetch_sub(1, Ordering::Release);
    }
    for answer in work.answers.drain(..) {
        super::reply(&answer, synced.clone());
    }
}

fn sync(shared: &Shared) -> Result<(), StoreError> {
    shared.check_online()?;
    shared.database.sync().inspect_err(|error| shared.go_offline(error))?;
    shared.counters.syncs.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

/// Drops the files that hold nothing but dead generations. What a file shares with a living neighbour, or what is not
/// flushed yet, stays until a later call.
fn unlink(shared: &Shared, dead: Vec<Generation>) {
    let mut gone = Vec::new();
    for run in runs(&dead) {
        match unlink_run(shared, &run) {
            Ok(true) => gone.extend(run),
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "the files of dead generations could not be dropped"),
        }
    }
    if !gone.is_empty() {
        shared.queue.push(Operation::Forget(gone));
    }
}

fn unlink_run(shared: &Shared, run: &RangeInclusive<Generation>) -> Result<bool, StoreError> {
    let database = &shared.database;
    let from = keys::generation_start(*run.start());
    let last = keys::batch(*run.end(), ReplicaId(u64::MAX), Offset(i64::MAX));
    database.records().delete_file_in_range(from, last).map_err(|error| database.failed("dropping files", &error))?;
    let mut options = ReadOptions::default();
    options.set_iterate_upper_bound(last);
    let mut rows = database.records().raw_iterator_opt(options);
    rows.seek(from);
    database.finish(&rows)?;
    Ok(!rows.valid())
}

/// Neighbouring generations as ranges.
fn runs(generations: &[Generation]) -> Vec<RangeInclusive<Generation>> {
    let mut runs: Vec<RangeInclusive<Generation>> = Vec::new();
    for &generation in generations {
        match runs.last_mut() {
            Some(run) if run.end().checked_add(1) == Some(generation) => *run = *run.start()..=generation,
            _ => runs.push(generation..=generation),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_generations_are_dropped_together() {
        assert_eq!(runs(&[1, 2, 3, 7, 9, 10]), [1..=3, 7..=7, 9..=10]);
        assert!(runs(&[]).is_empty());
    }

    #[test]
    fn a_deadline_is_met_by_the_first_sync_that_begins_after_it_was_set() {
        let syncer = Syncer::default();
        let (answer, _answered) = std::sync::mpsc::sync_channel(1);
        let later = Tick(u64::MAX);
        syncer.sync_by(later);
        syncer.answer(answer.clone());
        assert!(syncer.next().needs_sync());
        assert_eq!(syncer.work.lock().sync_by, None, "the sync that begins now serves it");
        syncer.sync_by(later);
        syncer.sync_rows();
        assert!(!syncer.next().needs_sync());
        assert_eq!(syncer.work.lock().sync_by, Some(later), "the rows' sync does not");
        syncer.sync_by(env::tick());
        assert!(syncer.next().sync_by.is_some(), "the earliest deadline counts");
    }
}
