//! Pure. Incremental fetch (KIP-227): what one fetcher has asked for, what it was told last, and whom to look at next.
//!
//! A fetch looks only at partitions that are *pending*: named or moved by the request, marked because something
//! happened there, or left unfinished by the response before. Whoever answers with records or an error stays pending
//! and goes to the back of the queue, so that no partition starves behind a busy one. A fetch without a session uses
//! a [`Session`] that lives for that request only, and answers all of it.
//!
//! It must never keep a slice of a request: names are copied, or a session would hold whole frames alive.

mod cache;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

pub use cache::{NewSession, SessionCache};

use crate::error::ErrorCode;
use crate::types::{LeaderEpoch, Offset, TopicId};
use crate::wire::batch::BatchHeader;

/// The session id of a fetch without a session.
pub const NO_SESSION: i32 = 0;
/// The epoch that asks for a new session.
pub const INITIAL_EPOCH: i32 = 0;
/// The epoch that asks for a full fetch without a session, and closes the one it names.
pub const FINAL_EPOCH: i32 = -1;

/// How a fetch names a topic: by name up to version 12, by id from version 13 on. One session uses one of the two.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum TopicKey {
    /// By name.
    Name(Arc<str>),
    /// By id (KIP-516).
    Id(TopicId),
}

/// A [`TopicKey`] that borrows from the request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TopicRef<'a> {
    /// By name.
    Name(&'a str),
    /// By id (KIP-516).
    Id(TopicId),
}

impl TopicRef<'_> {
    fn to_key(self) -> TopicKey {
        match self {
            Self::Name(name) => TopicKey::Name(Arc::from(name)),
            Self::Id(id) => TopicKey::Id(id),
        }
    }
}

/// What the fetcher wants of one partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wanted {
    /// Read from here.
    pub fetch_offset: Offset,
    /// At most this many bytes, but for the first batch of a response.
    pub max_bytes: i32,
    /// The epoch the fetcher believes in (KIP-320), or `LeaderEpoch::UNKNOWN`.
    pub current_leader_epoch: LeaderEpoch,
    /// The epoch of the last record it has (KIP-595), or `LeaderEpoch::UNKNOWN`.
    pub last_fetched_epoch: LeaderEpoch,
}

/// What one partition answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// An error, or NONE.
    pub error: ErrorCode,
    /// Exclusive end of what consumers may see.
    pub high_watermark: Offset,
    /// Exclusive end of what read_committed consumers may see.
    pub last_stable_offset: Offset,
    /// The first offset that still exists.
    pub log_start_offset: Offset,
    /// Where the fetcher's log left the leader's: the epoch and its end.
    pub diverging: Option<(LeaderEpoch, Offset)>,
    /// Whole batches, uncopied.
    pub records: SmallVec<[Bytes; 4]>,
    /// There is more to read below the high watermark, but the limits left no room for it.
    pub cut: bool,
}

impl Answer {
    /// Takes what was read below the high watermark.
    pub fn fill(&mut self, batches: SmallVec<[Bytes; 4]>) {
        self.cut = batches.last().is_none_or(|last| end_of(last) < self.high_watermark);
        self.records = batches;
    }

    /// An error and nothing else.
    pub fn error(error: ErrorCode) -> Self {
        Self {
            error,
            high_watermark: Offset::UNKNOWN,
            last_stable_offset: Offset::UNKNOWN,
            log_start_offset: Offset::UNKNOWN,
            diverging: None,
            records: SmallVec::new(),
            cut: false,
        }
    }

    /// The bytes of its records.
    pub fn bytes(&self) -> usize {
        self.records.iter().map(Bytes::len).sum()
    }
}

/// One topic of a response: its partitions, each with its index.
pub type TopicAnswers = (TopicKey, Vec<(i32, Answer)>);

#[derive(Clone, PartialEq, Eq, Debug)]
struct Cached {
    topic: TopicKey,
    index: i32,
    wanted: Wanted,
    /// What the fetcher was told last; unknown until then, so that the first answer always counts as a change.
    sent_high_watermark: Offset,
    sent_log_start_offset: Offset,
    pending: bool,
    /// Its last answer did not say "unknown".
    known: bool,
    answer: Option<Answer>,
}

impl Cached {
    /// Notes what the fetcher is being told, and says whether that is news (FetchSession.maybeUpdateResponseData).
    fn tell(&mut self, answer: &Answer) -> bool {
        let moved =
            self.sent_high_watermark != answer.high_watermark || self.sent_log_start_offset != answer.log_start_offset;
        self.sent_high_watermark = answer.high_watermark;
        self.sent_log_start_offset = answer.log_start_offset;
        if answer.error.is_error() {
            // When the error goes away the partition is sent again, whatever it answers.
            self.sent_high_watermark = Offset::UNKNOWN;
        }
        moved || answer.error.is_error() || !answer.records.is_empty() || answer.diverging.is_some()
    }
}

type Slots = HashMap<i32, u32>;

#[derive(Clone, PartialEq, Eq, Debug)]
enum Topics {
    ByName(HashMap<Arc<str>, Slots>),
    ById(HashMap<TopicId, Slots>),
}

impl Topics {
    fn slots(&self, topic: TopicRef<'_>) -> Option<&Slots> {
        match (self, topic) {
            (Self::ByName(map), TopicRef::Name(name)) => map.get(name),
            (Self::ById(map), TopicRef::Id(id)) => map.get(&id),
            _ => None,
        }
    }

    fn insert(&mut self, topic: &TopicKey, index: i32, slot: u32) {
        let slots = match (self, topic) {
            (Self::ByName(map), TopicKey::Name(name)) => map.entry(Arc::clone(name)).or_default(),
            (Self::ById(map), TopicKey::Id(id)) => map.entry(*id).or_default(),
            _ => unreachable!("one session names topics in one way"),
        };
        slots.insert(index, slot);
    }

    fn remove(&mut self, topic: TopicRef<'_>, index: i32) -> Option<u32> {
        let (slot, empty) = match (&mut *self, topic) {
            (Self::ByName(map), TopicRef::Name(name)) => take(map.get_mut(name)?, index),
            (Self::ById(map), TopicRef::Id(id)) => take(map.get_mut(&id)?, index),
            _ => return None,
        };
        if empty {
            match (self, topic) {
                (Self::ByName(map), TopicRef::Name(name)) => drop(map.remove(name)),
                (Self::ById(map), TopicRef::Id(id)) => drop(map.remove(&id)),
                _ => {}
            }
        }
        slot
    }
}

fn take(slots: &mut Slots, index: i32) -> (Option<u32>, bool) {
    let slot = slots.remove(&index);
    (slot, slots.is_empty())
}

/// The partitions of one fetcher. Each has a slot number, which the shell uses to keep its own things beside it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Session {
    topics: Topics,
    slots: Vec<Option<Cached>>,
    free: Vec<u32>,
    pending: VecDeque<u32>,
    answered: Vec<u32>,
    answered_bytes: usize,
    len: usize,
    /// An answer since the last response that ends the wait.
    urgent: bool,
    /// The limits left no room for all there is.
    cut: bool,
    /// An answer since the last response that does not say "unknown".
    known: bool,
}

impl Session {
    /// An empty session whose fetcher names topics by id or by name.
    pub fn new(by_id: bool) -> Self {
        let topics = if by_id { Topics::ById(HashMap::new()) } else { Topics::ByName(HashMap::new()) };
        Self {
            topics,
            slots: Vec::new(),
            free: Vec::new(),
            pending: VecDeque::new(),
            answered: Vec::new(),
            answered_bytes: 0,
            len: 0,
            urgent: false,
            cut: false,
            known: false,
        }
    }

    /// How many partitions it holds.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True when nothing is left to fetch.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The request names a partition: it is added or its position moved, and it is pending.
    pub fn want(&mut self, topic: TopicRef<'_>, index: i32, wanted: Wanted) -> u32 {
        let known = self.topics.slots(topic).and_then(|slots| slots.get(&index)).copied();
        let slot = known.unwrap_or_else(|| self.add(topic, index, wanted));
        self.cached(slot).wanted = wanted;
        self.mark(slot);
        slot
    }

    fn add(&mut self, topic: TopicRef<'_>, index: i32, wanted: Wanted) -> u32 {
        // Partitions of one topic come one after another and share its name.
        let neighbour = self.slots.last().and_then(Option::as_ref).map(|cached| &cached.topic);
        let key = match (topic, neighbour) {
            (TopicRef::Name(name), Some(TopicKey::Name(last))) if **last == *name => TopicKey::Name(Arc::clone(last)),
            _ => topic.to_key(),
        };
        let cached = Cached {
            topic: key.clone(),
            index,
            wanted,
            sent_high_watermark: Offset::UNKNOWN,
            sent_log_start_offset: Offset::UNKNOWN,
            pending: false,
            known: false,
            answer: None,
        };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = Some(cached);
                slot
            }
            None => {
                self.slots.push(Some(cached));
                u32::try_from(self.slots.len() - 1).expect("a frame cannot name that many partitions")
            }
        };
        self.topics.insert(&key, index, slot);
        self.len += 1;
        slot
    }

    /// The request forgets a partition. Its slot is free once no entry of the queue names it any more: looking for
    /// that entry would cost a walk for each partition that a hostile request forgets.
    pub fn forget(&mut self, topic: TopicRef<'_>, index: i32) -> Option<u32> {
        let slot = self.topics.remove(topic, index)?;
        let cached = self.slots[slot as usize].take().expect("an indexed slot is taken");
        self.answered_bytes -= cached.answer.map_or(0, |answer| answer.bytes());
        self.len -= 1;
        if !cached.pending {
            self.free.push(slot);
        }
        Some(slot)
    }

    /// Something happened at the partition of this slot. A slot that is free is ignored, one that has been given to
    /// another partition costs that one a look.
    pub fn mark(&mut self, slot: u32) {
        if let Some(Some(cached)) = self.slots.get_mut(slot as usize)
            && !std::mem::replace(&mut cached.pending, true)
        {
            self.pending.push_back(slot);
        }
    }

    /// How many partitions are to be looked at, at most.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// The next partition to look at.
    pub fn next_pending(&mut self) -> Option<u32> {
        loop {
            let slot = self.pending.pop_front()?;
            let Some(cached) = &mut self.slots[slot as usize] else {
                self.free.push(slot);
                continue;
            };
            cached.pending = false;
            self.answered_bytes -= cached.answer.take().map_or(0, |answer| answer.bytes());
            return Some(slot);
        }
    }

    /// The limits left no room to look at this one: it is first next time.
    pub fn defer(&mut self, slot: u32) {
        self.cut = true;
        if !std::mem::replace(&mut self.cached(slot).pending, true) {
            self.pending.push_front(slot);
        }
    }

    /// What stands in a slot: topic, partition, and what is wanted of it.
    pub fn partition(&self, slot: u32) -> (&TopicKey, i32, Wanted) {
        let cached = self.slots[slot as usize].as_ref().expect("a pending slot is taken");
        (&cached.topic, cached.index, cached.wanted)
    }

    /// Keeps what a partition answered until the response is made. An answer replaces the one before.
    pub fn answer(&mut self, slot: u32, answer: Answer) {
        self.answered_bytes += answer.bytes();
        let known = !is_unknown(answer.error);
        self.known |= known;
        let cached = self.cached(slot);
        let was_known = std::mem::replace(&mut cached.known, known);
        let urgent = answer.diverging.is_some() || (answer.error.is_error() && (known || was_known));
        let cut = answer.cut;
        cached.answer = Some(answer);
        self.urgent |= urgent;
        self.cut |= cut;
        self.answered.push(slot);
    }

    /// The bytes of records that the response would carry now.
    pub fn answered_bytes(&self) -> usize {
        self.answered_bytes
    }

    /// Makes the response: everything that was looked at (`full`), or only what is news to the fetcher. Partitions
    /// that gave records or errors, or were cut, are pending for the next fetch.
    pub fn respond(&mut self, full: bool) -> Vec<TopicAnswers> {
        let mut topics: Vec<TopicAnswers> = Vec::new();
        for slot in std::mem::take(&mut self.answered) {
            // A slot looked at twice stands twice in the list, and a forgotten one has no answer any more.
            let Some(Some(cached)) = self.slots.get_mut(slot as usize) else { continue };
            let Some(answer) = cached.answer.take() else { continue };
            let again =
                answer.cut || answer.error.is_error() || !answer.records.is_empty() || answer.diverging.is_some();
            let news = cached.tell(&answer);
            if full || news {
                match topics.last_mut() {
                    Some((topic, partitions)) if *topic == cached.topic => partitions.push((cached.index, answer)),
                    _ => topics.push((cached.topic.clone(), vec![(cached.index, answer)])),
                }
            }
            if again {
                self.mark(slot);
            }
        }
        self.clear_round();
        topics
    }

    /// The fetch will not be answered: what was looked at is to be looked at again by the next one.
    pub fn abandon(&mut self) {
        for slot in std::mem::take(&mut self.answered) {
            if let Some(Some(cached)) = self.slots.get_mut(slot as usize) {
                cached.answer = None;
                self.mark(slot);
            }
        }
        self.clear_round();
    }

    fn clear_round(&mut self) {
        self.answered_bytes = 0;
        self.urgent = false;
        self.cut = false;
        self.known = false;
    }

    /// True when waiting any longer makes no sense whatever the bytes: an error of a log, a diverging epoch, no room for
    /// what there is, or none of the partitions known at all. A partition that stays unknown beside known ones is told when the wait is over,
    /// as Kafka does (KafkaApis.handleFetchRequest): its fetcher would come back at once, again and again.
    pub fn must_respond(&self) -> bool {
        let is_full = self.cut && self.answered_bytes > 0;
        self.urgent || is_full || (!self.known && !self.answered.is_empty() && self.answered.len() >= self.len)
    }

    fn cached(&mut self, slot: u32) -> &mut Cached {
        self.slots[slot as usize].as_mut().expect("a slot in use")
    }
}

/// Where the last of these batches ends, exclusive.
fn end_of(mut batches: &[u8]) -> Offset {
    let mut end = Offset::UNKNOWN;
    while let Some(header) = BatchHeader::parse(batches) {
        end = header.end_offset();
        // A length that is absurd ends it.
        batches = batches.get(header.size()..).filter(|_| header.size() > 0).unwrap_or_default();
    }
    end
}

/// Errors of metadata rather than of a log.
fn is_unknown(error: ErrorCode) -> bool {
    matches!(error, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION | ErrorCode::UNKNOWN_TOPIC_ID)
}

#[cfg(test)]
mod tests;
