//! What a partition's lock protects, and what may be done to it. Nothing here tells anybody anything: whoever is to be
//! told is noted in [`Effects`], which are carried out when the lock is released.

use std::borrow::Cow;
use std::collections::VecDeque;

use smallvec::SmallVec;

use super::Watcher;
use crate::controller::image::PartitionImage;
use crate::error::ErrorCode;
use crate::log::epochs::LeaderEpochs;
use crate::log::{ColdRead, Log, Read, TimestampLookup};
use crate::replica::Acks;
use crate::replica::fetch_session::Answer;
use crate::replica::isr::{Isr, Membership};
use crate::replica::wait::{AckSlot, Notices, Watches};
use crate::types::{LeaderEpoch, NodeId, Offset, PartitionEpoch, Tick, Timestamp};

/// Whether a partition serves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// It does.
    Serving,
    /// Its storage failed, or its state is not to be trusted.
    Offline,
    /// Its topic is gone.
    Deleted,
}

impl Standing {
    fn check(self) -> Result<(), ErrorCode> {
        match self {
            Self::Serving => Ok(()),
            Self::Offline => Err(ErrorCode::KAFKA_STORAGE_ERROR),
            Self::Deleted => Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        }
    }
}

/// Where and how much a fetch reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReadAt {
    /// From here.
    pub offset: Offset,
    /// About this much.
    pub max_bytes: usize,
    /// At least one batch, however large.
    pub min_one: bool,
    /// The epoch that the fetcher believes in.
    pub current_leader_epoch: LeaderEpoch,
    /// The epoch of the last record that it has.
    pub last_fetched_epoch: LeaderEpoch,
}

/// What a fetch got from a partition.
pub enum FetchRead {
    /// All of it.
    Done(Answer),
    /// The batches are in files, and a blocking thread has to read them; the rest is here.
    Cold(Answer, ColdRead),
}

/// What ListOffsets asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lookup {
    /// The log start offset.
    Earliest,
    /// The high watermark.
    Latest,
    /// The record with the largest timestamp.
    MaxTimestamp,
    /// The first record at or after a time.
    Timestamp(Timestamp),
}

/// What ListOffsets finds.
pub enum Found {
    /// One of the ends, with its leader epoch.
    End(Offset, LeaderEpoch),
    /// A blocking thread has to search, in what consumers may see. What it does not find is not there, or, with
    /// `lagging`, not known yet (KIP-207).
    Search {
        /// The search.
        search: TimestampLookup,
        /// The high watermark of a new leader has not reached the start of its epoch.
        lagging: bool,
    },
}

/// A partition at one moment, for metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Glance {
    /// Whether it serves.
    pub standing: Standing,
    /// True when this node leads it.
    pub is_leader: bool,
    /// The first offset that still exists.
    pub log_start_offset: Offset,
    /// Exclusive end of what is committed.
    pub log_end_offset: Offset,
    /// Bytes of the log.
    pub size: u64,
    /// How many replicas it has.
    pub replicas: usize,
    /// How many are in sync.
    pub in_sync: usize,
    /// How many must be for acks=all.
    pub min_in_sync: usize,
}

/// What is done when the lock is released.
#[derive(Default)]
pub struct Effects {
    acknowledged: SmallVec<[(AckSlot, ErrorCode); 4]>,
    pub notices: Notices,
}

impl Effects {
    pub fn carry_out(self) {
        for (slot, outcome) in self.acknowledged {
            slot.tell(outcome);
        }
        self.notices.send();
    }
}

/// Appends that wait for an offset, the lowest first.
type Parked = VecDeque<(Offset, AckSlot)>;

pub struct State {
    /// Set while somebody is at work; found set by the next one when that one panicked.
    inside: bool,
    pub standing: Standing,
    pub log: Log,
    node: NodeId,
    leader: NodeId,
    pub leader_epoch: LeaderEpoch,
    partition_epoch: PartitionEpoch,
    /// Where the log ended when this leader epoch began here.
    epoch_start: Offset,
    pub isr: Isr,
    waiting_for_commit: Parked,
    waiting_for_high_watermark: Parked,
    pub watches: Watches,
}

impl State {
    pub fn new(log: Log, membership: &Membership<'_>, image: &PartitionImage) -> Self {
        let end = log.log_end_offset();
        let mut isr = Isr::new(membership, end, log.log_start_offset());
        isr.advance(Tick(0));
        Self {
            inside: false,
            standing: Standing::Serving,
            log,
            node: membership.node,
            leader: image.leader,
            leader_epoch: image.leader_epoch,
            partition_epoch: image.partition_epoch,
            epoch_start: end,
            isr,
            waiting_for_commit: VecDeque::new(),
            waiting_for_high_watermark: VecDeque::new(),
            watches: Watches::default(),
        }
    }

    /// Begins work under the lock. False when the one before panicked at it: the partition is offline then.
    pub fn enter(&mut self, effects: &mut Effects) -> bool {
        let sound = !std::mem::replace(&mut self.inside, true);
        if !sound {
            self.stop(Standing::Offline, effects);
        }
        sound
    }

    /// Ends work under the lock.
    pub fn leave(&mut self) {
        self.inside = false;
    }

    pub fn serving(&mut self) -> Result<&mut Log, ErrorCode> {
        self.standing.check()?;
        Ok(&mut self.log)
    }

    pub fn glance(&self) -> Glance {
        let (replicas, in_sync, min_in_sync) = self.isr.sizes();
        Glance {
            standing: self.standing,
            is_leader: self.leader == self.node,
            log_start_offset: self.log.log_start_offset(),
            log_end_offset: self.log.log_end_offset(),
            size: self.log.size(),
            replicas,
            in_sync,
            min_in_sync,
        }
    }

    /// The log to append to, and the epoch to stamp; an error when this node may not append.
    pub fn leading(&mut self, acks: Acks) -> Result<(&mut Log, LeaderEpoch), ErrorCode> {
        self.standing.check()?;
        if self.leader != self.node {
            return Err(ErrorCode::NOT_LEADER_OR_FOLLOWER);
        }
        if acks == Acks::All && !self.isr.enough_in_sync() {
            return Err(ErrorCode::NOT_ENOUGH_REPLICAS);
        }
        Ok((&mut self.log, self.leader_epoch))
    }

    /// KIP-320: the client and this broker believe in the same leader.
    pub fn check_epoch(&self, current: LeaderEpoch) -> Result<(), ErrorCode> {
        self.standing.check()?;
        if current == LeaderEpoch::UNKNOWN || current == self.leader_epoch {
            Ok(())
        } else if current < self.leader_epoch {
            Err(ErrorCode::FENCED_LEADER_EPOCH)
        } else {
            Err(ErrorCode::UNKNOWN_LEADER_EPOCH)
        }
    }

    /// Parks an append until it is acknowledged, which may be now.
    pub fn park(&mut self, acks: Acks, end: Offset, slot: AckSlot, effects: &mut Effects) {
        let (reached, parked) = match acks {
            Acks::None => return effects.acknowledged.push((slot, ErrorCode::NONE)),
            Acks::Leader => (self.log.log_end_offset(), &mut self.waiting_for_commit),
            Acks::All => (self.isr.high_watermark(), &mut self.waiting_for_high_watermark),
        };
        if let Err(error) = self.standing.check() {
            effects.acknowledged.push((slot, error));
        } else if end <= reached {
            effects.acknowledged.push((slot, ErrorCode::NONE));
        } else if parked.back().is_none_or(|(last, _)| *last <= end) {
            parked.push_back((end, slot));
        } else {
            // A repeated batch that is still pending joins the wait for the first one's offset.
            let at = parked.partition_point(|(other, _)| *other <= end);
            parked.insert(at, (end, slot));
        }
    }

    /// The log is committed up to `end`.
    pub fn committed(&mut self, end: Offset, now: Tick, effects: &mut Effects) {
        if self.standing != Standing::Serving {
            return;
        }
        self.log.on_committed(end);
        release(&mut self.waiting_for_commit, end, ErrorCode::NONE, effects);
        self.isr.on_leader_end(end);
        self.advance_high_watermark(now, effects);
    }

    fn advance_high_watermark(&mut self, now: Tick, effects: &mut Effects) {
        if self.isr.advance(now) {
            release(&mut self.waiting_for_high_watermark, self.isr.high_watermark(), ErrorCode::NONE, effects);
            self.watches.touch(&mut effects.notices);
        }
    }

    /// Registers the fetch that is looking now.
    pub fn watch(&mut self, watcher: Watcher<'_>) {
        match *watcher.place {
            Some(place) => self.watches.seen(place),
            None => *watcher.place = Some(self.watches.add(watcher.queue, watcher.slot)),
        }
    }

    pub fn fetch(&mut self, at: &ReadAt) -> FetchRead {
        // With an error Kafka says nothing else: all offsets are -1 (ReplicaManager.createLogReadResult).
        self.try_fetch(at).unwrap_or_else(|error| FetchRead::Done(Answer::error(error)))
    }

    fn try_fetch(&mut self, at: &ReadAt) -> Result<FetchRead, ErrorCode> {
        self.check_epoch(at.current_leader_epoch)?;
        self.leading(Acks::Leader)?;
        let high_watermark = self.isr.high_watermark();
        let mut answer = Answer {
            high_watermark,
            // Without transactions nothing is unstable.
            last_stable_offset: high_watermark,
            log_start_offset: self.log.log_start_offset(),
            ..Answer::error(ErrorCode::NONE)
        };
        if at.last_fetched_epoch != LeaderEpoch::UNKNOWN {
            answer.diverging = self.diverging(at)?;
            if answer.diverging.is_some() {
                return Ok(FetchRead::Done(answer));
            }
        }
        if at.offset < answer.log_start_offset || at.offset > self.log.log_end_offset() {
            return Err(ErrorCode::OFFSET_OUT_OF_RANGE);
        }
        if at.offset >= high_watermark {
            return Ok(FetchRead::Done(answer));
        }
        if at.max_bytes == 0 && !at.min_one {
            answer.cut = true;
            return Ok(FetchRead::Done(answer));
        }
        match self.log.read(at.offset, high_watermark, at.max_bytes, at.min_one) {
            Read::Batches(batches) => {
                answer.fill(batches);
                Ok(FetchRead::Done(answer))
            }
            Read::Cold(cold) => Ok(FetchRead::Cold(answer, cold)),
            Read::OutOfRange => Err(ErrorCode::OFFSET_OUT_OF_RANGE),
        }
    }

    /// KIP-595: where the fetcher's log left this one, if it did (Partition.readRecords).
    fn diverging(&self, at: &ReadAt) -> Result<Option<(LeaderEpoch, Offset)>, ErrorCode> {
        let (epoch, end) = self.epoch_end_offset(at.last_fetched_epoch);
        if epoch == LeaderEpoch::UNKNOWN || end == Offset::UNKNOWN || at.offset < self.log.log_start_offset() {
            return Err(ErrorCode::OFFSET_OUT_OF_RANGE);
        }
        Ok((epoch < at.last_fetched_epoch || end < at.offset).then_some((epoch, end)))
    }

    pub fn epoch_end_offset(&self, requested: LeaderEpoch) -> (LeaderEpoch, Offset) {
        self.epochs().end_offset_for(requested, self.log.log_end_offset())
    }

    /// The log's epochs. It knows an epoch from its first batch on; the leader's own began where the log ended then, as
    /// Kafka notes when a partition gets its leader (Partition.makeLeader).
    fn epochs(&self) -> Cow<'_, LeaderEpochs> {
        let known = self.log.leader_epochs();
        if known.latest() >= Some(self.leader_epoch) {
            return Cow::Borrowed(known);
        }
        let mut known = known.clone();
        known.assign(self.leader_epoch, self.epoch_start);
        Cow::Owned(known)
    }

    pub fn lookup(&mut self, what: Lookup, epoch: LeaderEpoch) -> Result<Found, ErrorCode> {
        self.check_epoch(epoch)?;
        self.leading(Acks::Leader)?;
        let high_watermark = self.isr.high_watermark();
        // KIP-207: a new leader does not know yet how far consumers have read.
        let lagging = self.epoch_start > high_watermark;
        match what {
            Lookup::Earliest => {
                let start = self.log.log_start_offset();
                Ok(Found::End(start, self.epochs().epoch_at(start).unwrap_or(LeaderEpoch::UNKNOWN)))
            }
            Lookup::Latest if lagging => Err(ErrorCode::OFFSET_NOT_AVAILABLE),
            Lookup::Latest => Ok(Found::End(high_watermark, self.leader_epoch)),
            Lookup::MaxTimestamp => {
                Ok(Found::Search { search: self.log.lookup_max_timestamp(high_watermark), lagging })
            }
            Lookup::Timestamp(target) => {
                Ok(Found::Search { search: self.log.lookup_timestamp(target, high_watermark), lagging })
            }
        }
    }

    /// Takes over an image. What it says of an older state is ignored.
    pub fn install(&mut self, membership: &Membership<'_>, image: &PartitionImage, effects: &mut Effects) {
        if self.standing != Standing::Serving || image.partition_epoch < self.partition_epoch {
            return;
        }
        self.partition_epoch = image.partition_epoch;
        let end = self.log.log_end_offset();
        if image.leader_epoch == self.leader_epoch {
            self.isr.install(membership);
        } else {
            let high_watermark = self.isr.high_watermark();
            self.isr = Isr::new(membership, end, high_watermark);
            self.leader_epoch = image.leader_epoch;
            self.epoch_start = end;
            self.watches.touch(&mut effects.notices);
        }
        let led = std::mem::replace(&mut self.leader, image.leader) == self.node;
        if led && self.leader != self.node {
            self.release_all(ErrorCode::NOT_LEADER_OR_FOLLOWER, effects);
        }
        // The ISR may have become smaller: what waited for the one who left may move now.
        self.advance_high_watermark(crate::env::tick(), effects);
    }

    /// Ends its service. A deletion is final; a failure does not undo it.
    pub fn stop(&mut self, standing: Standing, effects: &mut Effects) {
        if self.standing == Standing::Deleted || self.standing == standing {
            return;
        }
        self.standing = standing;
        let error = standing.check().err().unwrap_or(ErrorCode::NONE);
        self.release_all(error, effects);
        self.watches.touch(&mut effects.notices);
    }

    fn release_all(&mut self, outcome: ErrorCode, effects: &mut Effects) {
        release(&mut self.waiting_for_commit, Offset(i64::MAX), outcome, effects);
        release(&mut self.waiting_for_high_watermark, Offset(i64::MAX), outcome, effects);
    }
}

/// Takes out all that waits for an offset up to `reached`.
fn release(parked: &mut Parked, reached: Offset, outcome: ErrorCode, effects: &mut Effects) {
    while let Some((end, _)) = parked.front()
        && *end <= reached
    {
        let Some((_, slot)) = parked.pop_front() else { break };
        effects.acknowledged.push((slot, outcome));
    }
}
