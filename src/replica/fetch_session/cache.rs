//! Pure. The broker's fetch sessions: their ids and epochs, and who must go when there are too many.
//!
//! A session is *checked out* by the fetch that uses it and checked in when that fetch is answered, so the cache never
//! waits for anybody; a second fetch on the same session meanwhile is a duplicate and refused. It must never drop a
//! session itself: what it removes it hands back, because dropping one takes the locks of partitions.

use std::collections::HashMap;

use super::{FINAL_EPOCH, INITIAL_EPOCH, NO_SESSION};
use crate::error::ErrorCode;
use crate::types::Tick;

/// A session unused for this long may be evicted for any other (FetchSessionCache, MIN_INCREMENTAL_FETCH_SESSION_EVICTION_MS).
const EVICTION_MS: u64 = 120_000;
/// Partitions of all sessions together. Kafka bounds only the number of sessions, and one session can name hundreds of
/// thousands of partitions, whether they exist or not. A fetch that would go beyond is answered without a session.
const MAX_PARTITIONS: usize = 500_000;

#[derive(Clone, PartialEq, Eq, Debug)]
struct Entry<S> {
    /// The epoch that the next fetch must carry.
    epoch: i32,
    by_id: bool,
    /// A follower's session, which outranks consumers'.
    privileged: bool,
    partitions: usize,
    created: Tick,
    last_used: Tick,
    /// Absent while a fetch uses it.
    session: Option<S>,
}

/// What a new session is: how it names topics, whose it is, and how large.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NewSession {
    /// Topics are named by id (version 13 and later).
    pub by_id: bool,
    /// It belongs to a follower.
    pub privileged: bool,
    /// How many partitions it holds.
    pub partitions: usize,
}

/// All fetch sessions of a broker, at most `max.incremental.fetch.session.cache.slots`, and at most [`MAX_PARTITIONS`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionCache<S> {
    entries: HashMap<i32, Entry<S>>,
    slots: usize,
    /// Partitions of all entries.
    partitions: usize,
    evictions: u64,
}

/// The epoch after this one: zero is for new sessions only, so the count wraps to one.
pub const fn next_epoch(epoch: i32) -> i32 {
    if epoch < 0 {
        FINAL_EPOCH
    } else if epoch == i32::MAX {
        INITIAL_EPOCH + 1
    } else {
        epoch + 1
    }
}

impl<S> SessionCache<S> {
    /// An empty cache with room for `slots` sessions.
    pub fn new(slots: usize) -> Self {
        Self { entries: HashMap::new(), slots, partitions: 0, evictions: 0 }
    }

    /// How many sessions there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many partitions all sessions hold together.
    pub fn partitions(&self) -> usize {
        self.partitions
    }

    /// How many sessions have been evicted so far.
    pub fn evictions(&self) -> u64 {
        self.evictions
    }

    /// Takes a session out for an incremental fetch, and moves its epoch on.
    pub fn check_out(&mut self, id: i32, epoch: i32, by_id: bool, now: Tick) -> Result<S, ErrorCode> {
        let entry = self.entries.get_mut(&id).ok_or(ErrorCode::FETCH_SESSION_ID_NOT_FOUND)?;
        if entry.epoch != epoch {
            return Err(ErrorCode::INVALID_FETCH_SESSION_EPOCH);
        }
        if entry.by_id != by_id {
            return Err(ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR);
        }
        // The right epoch, but the fetch before is not answered: its sender cannot know that epoch yet.
        let session = entry.session.take().ok_or(ErrorCode::INVALID_FETCH_SESSION_EPOCH)?;
        entry.epoch = next_epoch(epoch);
        entry.last_used = now;
        Ok(session)
    }

    /// Puts a session back. Gives it back to be dropped when it was closed or evicted meanwhile, or has grown beyond
    /// what there is room for: its fetcher is told next time that it is gone, and begins anew.
    pub fn check_in(&mut self, id: i32, partitions: usize, session: S) -> Option<S> {
        let Some(entry) = self.entries.get_mut(&id).filter(|entry| entry.session.is_none()) else {
            return Some(session);
        };
        let others = self.partitions - entry.partitions;
        if partitions > entry.partitions && others + partitions > MAX_PARTITIONS {
            self.remove(id);
            return Some(session);
        }
        self.partitions = others + partitions;
        entry.partitions = partitions;
        entry.session = Some(session);
        None
    }

    /// Closes a session. The session itself comes back unless a fetch is using it.
    pub fn remove(&mut self, id: i32) -> Option<S> {
        let entry = self.entries.remove(&id)?;
        self.partitions -= entry.partitions;
        entry.session
    }

    /// Makes a session if there is room or somebody may be evicted for it. Gives the id and whom it evicted, or the
    /// session back: the fetch is then answered with session id 0. `chance` is any random number.
    pub fn insert(&mut self, now: Tick, new: NewSession, chance: u64, session: S) -> Result<(i32, Option<S>), S> {
        let mut evicted = None;
        let wanted = self.partitions + new.partitions;
        if self.entries.len() >= self.slots || wanted > MAX_PARTITIONS {
            let Some(victim) = self.victim(now, new) else { return Err(session) };
            if wanted - self.entries[&victim].partitions > MAX_PARTITIONS {
                return Err(session);
            }
            evicted = self.remove(victim);
            self.evictions += 1;
        }
        let mut id = i32::try_from(chance % (i32::MAX as u64)).expect("below i32::MAX");
        while id == NO_SESSION || self.entries.contains_key(&id) {
            id = next_epoch(id);
        }
        let entry = Entry {
            epoch: INITIAL_EPOCH + 1,
            by_id: new.by_id,
            privileged: new.privileged,
            partitions: new.partitions,
            created: now,
            last_used: now,
            session: Some(session),
        };
        self.entries.insert(id, entry);
        self.partitions += new.partitions;
        Ok((id, evicted))
    }

    /// Whom a new session may push out (FetchSessionCache.tryEvict): the one unused longest if it is stale; otherwise
    /// the least valuable that is not young, or not privileged when the new one is, if it is worth no more than that.
    fn victim(&self, now: Tick, new: NewSession) -> Option<i32> {
        let (oldest, entry) = self.entries.iter().min_by_key(|(id, entry)| (entry.last_used, **id))?;
        if now.since_ms(entry.last_used) > EVICTION_MS {
            return Some(*oldest);
        }
        let evictable =
            |entry: &&Entry<S>| now.since_ms(entry.created) > EVICTION_MS || (new.privileged && !entry.privileged);
        let candidates = self.entries.iter().filter(|(_, entry)| evictable(entry));
        let (worth, id) = candidates.map(|(id, entry)| ((entry.privileged, entry.partitions), *id)).min()?;
        ((new.privileged, new.partitions) >= worth).then_some(id)
    }
}
