//! Pure. All groups of one partition of `__consumer_offsets`: what a coordinator shard knows and decides.
//!
//! Requests go in, an [`Outcome`] comes out: answers, records to append, and nothing else happens. Appends are told
//! back in the order in which they were asked for, by [`Shard::appended`]; only then do committed offsets and tombstones
//! take effect. So what a reader is shown is in the log, and a failed append leaves nothing to undo.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::census::{Census, Room, Tally};
use super::classic::{
    self, ClassicGroup, Effects, JoinReply, JoinRequest, LeaveIdentity, LeaveResult, Now, Rules, State, SyncReply,
    SyncRequest, Then, Waiter,
};
use super::offsets::{self, Offsets};
use super::records::{CommittedOffset, Key, Record, Value};
use crate::error::ErrorCode;
use crate::types::{Tick, TopicId};

/// What a group costs in memory beside its name, its members and its offsets.
const GROUP_BYTES: usize = 512;
/// What a request costs in memory beside what it carries.
const ASK_BYTES: usize = 256;

/// One group: members and offsets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Group {
    /// Who is in it.
    pub classic: ClassicGroup,
    /// How far it has come.
    pub offsets: Offsets,
    /// When the shard will look at it again.
    scheduled: Option<Tick>,
}

/// An OffsetCommit whose topics exist and whose metadata is not too long.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommitRequest {
    /// The member's id, or empty.
    pub member_id: Arc<str>,
    /// `group.instance.id` (KIP-345).
    pub instance_id: Option<Arc<str>>,
    /// The generation, or -1 for a consumer without group management.
    pub generation: i32,
    /// OffsetCommit 9 and later: a group that is not there has its own code.
    pub tells_unknown_groups: bool,
    /// Topic, partition, offset.
    pub offsets: Vec<(Arc<str>, i32, CommittedOffset)>,
}

/// What a client asks of a group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ask {
    /// JoinGroup.
    Join(JoinRequest),
    /// SyncGroup.
    Sync(SyncRequest),
    /// Heartbeat.
    Heartbeat {
        /// The member's id.
        member_id: Arc<str>,
        /// `group.instance.id` (KIP-345).
        instance_id: Option<Arc<str>>,
        /// The generation that it is in.
        generation: i32,
    },
    /// LeaveGroup.
    Leave(Vec<LeaveIdentity>),
    /// OffsetCommit.
    Commit(CommitRequest),
}

impl Ask {
    /// The answer when the group cannot be asked at all.
    pub fn refused(&self, code: ErrorCode) -> Reply {
        match self {
            Self::Join(request) => Reply::Join(JoinReply::refused(code, request.member_id.clone())),
            Self::Sync(_) => Reply::Sync(SyncReply::refused(code)),
            // While the coordinator reads its log a member is as good as alive.
            Self::Heartbeat { .. } if code == ErrorCode::COORDINATOR_LOAD_IN_PROGRESS => {
                Reply::Heartbeat(ErrorCode::NONE)
            }
            Self::Heartbeat { .. } => Reply::Heartbeat(code),
            Self::Leave(_) => Reply::Leave(Err(code)),
            Self::Commit(_) => Reply::Commit(Err(code)),
        }
    }

    /// The answer when it carries more than any group may keep.
    pub fn too_large(&self) -> Reply {
        self.refused(match self {
            Self::Join(_) | Self::Sync(_) => ErrorCode::GROUP_MAX_SIZE_REACHED,
            Self::Commit(_) => ErrorCode::INVALID_COMMIT_OFFSET_SIZE,
            Self::Heartbeat { .. } | Self::Leave(_) => ErrorCode::INVALID_REQUEST,
        })
    }

    /// Bytes that it keeps in memory.
    pub fn bytes(&self) -> usize {
        let name = |name: &Option<Arc<str>>| name.as_deref().map_or(0, str::len);
        ASK_BYTES
            + match self {
                Self::Join(request) => request.bytes() + request.member_id.len() + request.protocol_type.len(),
                Self::Sync(request) => {
                    let given = request.assignment.iter().map(|(id, given)| id.len() + given.len() + 64);
                    given.sum::<usize>()
                        + request.member_id.len()
                        + name(&request.protocol_type)
                        + name(&request.protocol)
                }
                Self::Heartbeat { member_id, instance_id, .. } => member_id.len() + name(instance_id),
                Self::Leave(identities) => {
                    identities.iter().map(|one| one.member_id.len() + name(&one.instance_id) + 64).sum()
                }
                Self::Commit(request) => request.offsets.iter().map(|(_, _, value)| offsets::kept_bytes(value)).sum(),
            }
    }
}

/// An answer for a waiter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// To JoinGroup.
    Join(JoinReply),
    /// To SyncGroup.
    Sync(SyncReply),
    /// To Heartbeat.
    Heartbeat(ErrorCode),
    /// To LeaveGroup: each member's own, or why nothing could be done.
    Leave(Result<Vec<LeaveResult>, ErrorCode>),
    /// To OffsetCommit.
    Commit(Result<(), ErrorCode>),
}

/// Records that belong together in one batch, and what to do when they are committed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Append {
    /// The records, at least one.
    pub records: Vec<Record>,
    done: Done,
}

impl Append {
    /// Two appends in the place of one that is too large for a batch: only for tombstones, which need not be written
    /// together, so that none is in the way of the others.
    pub fn halves(mut self) -> Result<[Self; 2], Self> {
        match self.done {
            Done::Expired | Done::Applied if self.records.len() > 1 => {
                let records = self.records.split_off(self.records.len() / 2);
                let second = Self { records, done: self.done.clone() };
                Ok([self, second])
            }
            _ => Err(self),
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Done {
    /// Tell the group.
    Group { group: Arc<str>, then: Then },
    /// The group became empty when these left: they are answered when that is written.
    Left { waiter: Waiter, results: Vec<LeaveResult> },
    /// Apply the records, answer the commit. So many bytes were kept free for it.
    Committed { group: Arc<str>, waiter: Waiter, reserved: usize },
    /// Apply the records: offsets whose time is up.
    Expired,
    /// Apply the records.
    Applied,
}

/// What follows from an event.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Outcome {
    /// Who is answered now.
    pub answers: Vec<(Waiter, Reply)>,
    /// What is to be appended, in this order.
    pub appends: Vec<Append>,
}

/// Commits of one group that are on their way to the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Coming {
    commits: usize,
    /// What they will add, at most.
    bytes: usize,
}

/// The groups of one partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shard {
    groups: BTreeMap<Arc<str>, Group>,
    /// Groups with commits on their way. They may not be there yet.
    coming: BTreeMap<Arc<str>, Coming>,
    /// When which group wants to be looked at: one entry for a group, however many members it has.
    deadlines: BTreeSet<(Tick, Arc<str>)>,
    rules: Rules,
    census: Census,
    tally: Tally,
}

impl Group {
    fn new(now: Now) -> Self {
        Self { classic: ClassicGroup::new(now), offsets: Offsets::default(), scheduled: None }
    }

    /// Its share of the books.
    fn census(&self, id: &str) -> Census {
        let mut census = Census { offsets: self.offsets.len(), bytes: self.bytes(id), ..Census::default() };
        census.states[self.classic.state() as usize] = 1;
        census
    }

    fn bytes(&self, id: &str) -> usize {
        new_group_bytes(id) + self.classic.bytes() + self.offsets.bytes()
    }
}

/// What a group without members and offsets keeps.
fn new_group_bytes(id: &str) -> usize {
    GROUP_BYTES + id.len()
}

impl Shard {
    /// No groups.
    pub fn new(rules: Rules) -> Self {
        Self {
            groups: BTreeMap::new(),
            coming: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            rules,
            census: Census::default(),
            tally: Tally::default(),
        }
    }

    /// A group.
    pub fn group(&self, id: &str) -> Option<&Group> {
        self.groups.get(id)
    }

    /// All groups, by id.
    pub fn groups(&self) -> impl ExactSizeIterator<Item = (&Arc<str>, &Group)> {
        self.groups.iter()
    }

    /// What there is, and what it takes up of [`Room`].
    pub fn census(&self) -> &Census {
        &self.census
    }

    /// What became of it since the shard was made.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// A client's request takes effect. Its waiter is answered now or in a later event.
    pub fn ask(&mut self, now: Now, id: &Arc<str>, ask: Ask, waiter: Waiter, room: Room) -> Outcome {
        match ask {
            Ask::Join(request) => self.join(now, id, request, waiter, room),
            Ask::Sync(request) => self.sync(now, id, request, waiter, room),
            Ask::Heartbeat { member_id, instance_id, generation } => {
                self.heartbeat(now, id, (&member_id, instance_id.as_deref(), generation), waiter)
            }
            Ask::Leave(identities) => self.leave(now, id, identities, waiter),
            Ask::Commit(request) => self.commit(now, id, request, waiter, room),
        }
    }

    fn join(&mut self, now: Now, id: &Arc<str>, request: JoinRequest, waiter: Waiter, room: Room) -> Outcome {
        if !self.groups.contains_key(id) {
            let code = match (request.member_id.is_empty(), room.groups) {
                (false, _) => Some(ErrorCode::UNKNOWN_MEMBER_ID),
                (true, 0) => Some(ErrorCode::GROUP_MAX_SIZE_REACHED),
                (true, _) => None,
            };
            if let Some(code) = code {
                return Outcome::answer(waiter, Reply::Join(JoinReply::refused(code, request.member_id)));
            }
        }
        let rules = self.rules_within(id, room);
        self.with_group(now, id, |group| (group.join(now, request, waiter, &rules), ())).0
    }

    fn sync(&mut self, now: Now, id: &Arc<str>, request: SyncRequest, waiter: Waiter, room: Room) -> Outcome {
        if !self.groups.contains_key(id) {
            return Outcome::answer(waiter, Reply::Sync(SyncReply::refused(ErrorCode::UNKNOWN_MEMBER_ID)));
        }
        let rules = self.rules_within(id, room);
        self.with_group(now, id, |group| (group.sync(now, request, waiter, &rules), ())).0
    }

    /// How many bytes a group may have in all: what it has and what the node has left, but no more than any group.
    fn most_bytes(&self, id: &str, room: Room) -> usize {
        let held = self.groups.get(id).map_or(0, |group| group.bytes(id));
        let coming = self.coming.get(id).map_or(0, |coming| coming.bytes);
        self.rules.max_group_bytes.saturating_sub(coming).min(held.saturating_add(room.bytes))
    }

    /// The rules for a group's members: what its name and its offsets keep is not theirs.
    fn rules_within(&self, id: &str, room: Room) -> Rules {
        let others = self.groups.get(id).map_or(new_group_bytes(id), |group| group.bytes(id) - group.classic.bytes());
        Rules { max_group_bytes: self.most_bytes(id, room).saturating_sub(others), ..self.rules.clone() }
    }

    fn heartbeat(&mut self, now: Now, id: &Arc<str>, member: (&str, Option<&str>, i32), waiter: Waiter) -> Outcome {
        if !self.groups.contains_key(id) {
            return Outcome::answer(waiter, Reply::Heartbeat(ErrorCode::UNKNOWN_MEMBER_ID));
        }
        let (member_id, instance_id, generation) = member;
        let (mut outcome, code) = self.with_group(now, id, |group| {
            let (code, effects) = group.heartbeat(now, member_id, instance_id, generation);
            (effects, code)
        });
        outcome.answers.push((waiter, Reply::Heartbeat(code)));
        outcome
    }

    fn leave(&mut self, now: Now, id: &Arc<str>, identities: Vec<LeaveIdentity>, waiter: Waiter) -> Outcome {
        if !self.groups.contains_key(id) {
            let code = ErrorCode::UNKNOWN_MEMBER_ID;
            let unknown = identities.into_iter().map(|identity| LeaveResult { identity, code }).collect();
            return Outcome::answer(waiter, Reply::Leave(Ok(unknown)));
        }
        let (mut outcome, results) = self.with_group(now, id, |group| {
            let (results, effects) = group.leave(now, identities);
            (effects, results)
        });
        // When the last member left, the empty generation is written first: who has left stays away over a restart.
        match outcome.appends.last_mut() {
            Some(append) => append.done = Done::Left { waiter, results },
            None => outcome.answers.push((waiter, Reply::Leave(Ok(results)))),
        }
        outcome
    }

    fn commit(&mut self, now: Now, id: &Arc<str>, request: CommitRequest, waiter: Waiter, room: Room) -> Outcome {
        let (mut outcome, checked) = if self.groups.contains_key(id) {
            self.with_group(now, id, |group| {
                let instance_id = request.instance_id.as_deref();
                let (checked, effects) = group.check_commit(now, &request.member_id, instance_id, request.generation);
                (effects, checked)
            })
        } else {
            let checked = match (request.generation < 0, room.groups) {
                (true, 0) => Err(ErrorCode::GROUP_MAX_SIZE_REACHED),
                (true, _) => Ok(()),
                (false, _) if request.tells_unknown_groups => Err(ErrorCode::GROUP_ID_NOT_FOUND),
                (false, _) => Err(ErrorCode::ILLEGAL_GENERATION),
            };
            (Outcome::default(), checked)
        };
        let reserved = checked.and_then(|()| self.reserve(id, &request.offsets, room));
        let reserved = match reserved {
            Ok(reserved) if !request.offsets.is_empty() => reserved,
            refused => {
                outcome.answers.push((waiter, Reply::Commit(refused.map(drop))));
                return outcome;
            }
        };
        let record = |(topic, partition, value): (Arc<str>, i32, CommittedOffset)| Record {
            key: Key::Offset { group: id.clone(), topic, partition },
            value: Value::Offset(value),
        };
        let records = request.offsets.into_iter().map(record).collect();
        let done = Done::Committed { group: id.clone(), waiter, reserved };
        outcome.appends.push(Append { records, done });
        outcome
    }

    /// Keeps bytes free for a commit until it is written. A commit that needs more than there was before is refused when
    /// group or node are full; one that replaces offsets always has its place.
    fn reserve(
        &mut self,
        id: &Arc<str>,
        offsets: &[(Arc<str>, i32, CommittedOffset)],
        room: Room,
    ) -> Result<usize, ErrorCode> {
        if offsets.is_empty() {
            return Ok(0);
        }
        let (held, growth) = match self.groups.get(id) {
            Some(group) => (group.bytes(id), group.offsets.growth(offsets)),
            None => (0, new_group_bytes(id) + Offsets::default().growth(offsets)),
        };
        if growth > 0 && held + growth > self.most_bytes(id, room) {
            return Err(ErrorCode::INVALID_COMMIT_OFFSET_SIZE);
        }
        let coming = self.coming.entry(id.clone()).or_default();
        coming.commits += 1;
        coming.bytes += growth;
        self.census.bytes += growth;
        self.census.committing = self.coming.len();
        Ok(growth)
    }

    /// A commit is written, or lost: what was kept free for it no longer is.
    fn release(&mut self, id: &Arc<str>, reserved: usize) {
        let coming = self.coming.get_mut(id).expect("each commit comes once");
        coming.commits -= 1;
        coming.bytes -= reserved;
        if coming.commits == 0 {
            self.coming.remove(id);
        }
        self.census.bytes -= reserved;
        self.census.committing = self.coming.len();
    }

    /// An append is committed, or failed. Appends are told in their order.
    pub fn appended(&mut self, now: Now, append: Append, result: Result<(), ErrorCode>) -> Outcome {
        match append.done {
            Done::Group { group, then } if self.groups.contains_key(&group) => {
                self.with_group(now, &group, |classic| (classic.written(now, then, result), ())).0
            }
            Done::Group { .. } => Outcome::default(),
            Done::Left { waiter, results } => {
                Outcome::answer(waiter, Reply::Leave(result.map(|()| results).map_err(classic::append_code)))
            }
            Done::Committed { group, waiter, reserved } => {
                self.release(&group, reserved);
                if result.is_ok() {
                    self.tally.commits += append.records.len() as u64;
                    self.apply_all(append.records, now);
                }
                Outcome::answer(waiter, Reply::Commit(result.map_err(classic::append_code)))
            }
            Done::Expired => {
                if result.is_ok() {
                    let offsets = append.records.iter().filter(|record| matches!(record.key, Key::Offset { .. }));
                    self.tally.expirations += offsets.count() as u64;
                    self.apply_all(append.records, now);
                }
                Outcome::default()
            }
            Done::Applied => {
                if result.is_ok() {
                    self.apply_all(append.records, now);
                }
                Outcome::default()
            }
        }
    }

    /// What is due is done.
    pub fn expire(&mut self, now: Now) -> Outcome {
        let mut outcome = Outcome::default();
        let rules = self.rules.clone();
        // Each group is looked at once: one that wants to be looked at again now has its turn in the next round.
        let later = self.deadlines.split_off(&(now.tick.plus_ms(1), "".into()));
        for (_, id) in std::mem::replace(&mut self.deadlines, later) {
            if let Some(group) = self.groups.get_mut(&id) {
                group.scheduled = None;
                outcome.absorb(self.with_group(now, &id, |group| (group.expire(now, &rules), ())).0);
            }
        }
        outcome
    }

    /// When [`Shard::expire`] has something to do.
    pub fn next_deadline(&self) -> Option<Tick> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Tombstones for what has outlived `offsets.retention.minutes`, and for groups of which nothing is left. Only right
    /// while no append is in flight: a commit on its way would be buried under a tombstone decided before it.
    pub fn clean_up(&self, now: Now, retention_ms: i64) -> Vec<Append> {
        let mut records = Vec::new();
        for (id, group) in &self.groups {
            let expired = group.offsets.expired(&group.classic, now.wall, retention_ms);
            let left = group.offsets.len() - expired.len();
            records.extend(expired.into_iter().map(|offset| offset_tombstone(id, offset)));
            if left == 0 && group.classic.is_abandoned() {
                records.push(Record::tombstone(Key::Group(id.clone())));
            }
        }
        in_batches(records, &Done::Expired)
    }

    /// Tombstones for the offsets of deleted topics. Like [`Shard::clean_up`] only right while nothing is in flight.
    pub fn forget_topics(&self, is_gone: impl Fn(&str, TopicId) -> bool) -> Vec<Append> {
        let each = self.groups.iter().flat_map(|(id, group)| {
            group.offsets.of_deleted(&is_gone).into_iter().map(move |offset| offset_tombstone(id, offset))
        });
        in_batches(each.collect(), &Done::Applied)
    }

    /// A record off the log takes effect.
    pub fn apply(&mut self, record: Record, now: Now) {
        match (record.key, record.value) {
            (Key::Offset { group, topic, partition }, Value::Offset(value)) => {
                self.change(now, &group, |group| group.offsets.put(&topic, partition, value));
            }
            (Key::Offset { group, topic, partition }, _) => {
                if self.groups.contains_key(&group) {
                    self.change(now, &group, |group| group.offsets.remove(&topic, partition));
                }
            }
            (Key::Group(id), Value::Group(value)) => {
                self.change(now, &id, |group| group.classic = ClassicGroup::from_record(value, now));
            }
            (Key::Group(id), _) => {
                // The group may have come to life again after its end was decided: then the record of its next
                // generation follows this one.
                if self.groups.get(&id).is_some_and(|group| group.classic.is_abandoned() && group.offsets.is_empty()) {
                    self.drop_group(&id);
                }
            }
            (Key::Other(_), _) => {}
        }
    }

    /// The log is read: every member's session starts now.
    pub fn loaded(&mut self, now: Now) -> Outcome {
        let mut outcome = Outcome::default();
        let rules = self.rules.clone();
        let ids: Vec<_> = self.groups.keys().cloned().collect();
        for id in ids {
            outcome.absorb(self.with_group(now, &id, |group| (group.loaded(now, &rules), ())).0);
        }
        outcome
    }

    fn apply_all(&mut self, records: Vec<Record>, now: Now) {
        for record in records {
            self.apply(record, now);
        }
    }

    /// Changes a group, made if need be, and keeps the books.
    fn change<T>(&mut self, now: Now, id: &Arc<str>, change: impl FnOnce(&mut Group) -> T) -> T {
        let group = match self.groups.get_mut(id) {
            Some(group) => {
                self.census.subtract(&group.census(id));
                group
            }
            None => self.groups.entry(id.clone()).or_insert(Group::new(now)),
        };
        let result = change(group);
        self.census.add(&group.census(id));
        result
    }

    fn drop_group(&mut self, id: &Arc<str>) {
        if let Some(group) = self.groups.remove(id) {
            self.census.subtract(&group.census(id));
            if let Some(at) = group.scheduled {
                self.deadlines.remove(&(at, id.clone()));
            }
        }
    }

    /// Lets `event` happen to a group, made if need be: its deadline, and what is to be written.
    fn with_group<T>(
        &mut self,
        now: Now,
        id: &Arc<str>,
        event: impl FnOnce(&mut ClassicGroup) -> (Effects, T),
    ) -> (Outcome, T) {
        let mut never_lived = false;
        let mut rebalanced = false;
        let (effects, result, wake) = self.change(now, id, |group| {
            let before = group.classic.state();
            let (effects, result) = event(&mut group.classic);
            let classic = &group.classic;
            rebalanced = before == State::CompletingRebalance && classic.state() == State::Stable;
            never_lived = classic.is_abandoned() && classic.generation() == 0 && group.offsets.is_empty();
            let wake = if group.scheduled.is_none() { classic.next_deadline() } else { effects.wake };
            (effects, result, wake)
        });
        self.tally.rebalances += u64::from(rebalanced);
        let mut outcome = Outcome::default();
        for (waiter, answer) in effects.answers {
            let reply = match answer {
                classic::Answer::Join(reply) => Reply::Join(reply),
                classic::Answer::Sync(reply) => Reply::Sync(reply),
            };
            outcome.answers.push((waiter, reply));
        }
        for write in effects.writes {
            let record = Record { key: Key::Group(id.clone()), value: Value::Group(write.record) };
            outcome
                .appends
                .push(Append { records: vec![record], done: Done::Group { group: id.clone(), then: write.then } });
        }
        self.schedule(id, wake);
        if never_lived {
            // Nobody ever joined, so nothing of it is in the log.
            self.drop_group(id);
        }
        (outcome, result)
    }

    fn schedule(&mut self, id: &Arc<str>, wake: Option<Tick>) {
        let Some(at) = wake else { return };
        let group = self.groups.get_mut(id).expect("scheduled for a group that is there");
        match group.scheduled {
            // A later look is soon enough: it looks again.
            Some(scheduled) if scheduled <= at => return,
            Some(scheduled) => {
                self.deadlines.remove(&(scheduled, id.clone()));
            }
            None => {}
        }
        group.scheduled = Some(at);
        self.deadlines.insert((at, id.clone()));
    }
}

impl Outcome {
    fn answer(waiter: Waiter, reply: Reply) -> Self {
        Self { answers: vec![(waiter, reply)], appends: Vec::new() }
    }

    fn absorb(&mut self, other: Self) {
        self.answers.extend(other.answers);
        self.appends.extend(other.appends);
    }
}

fn offset_tombstone(group: &Arc<str>, (topic, partition): (Arc<str>, i32)) -> Record {
    Record::tombstone(Key::Offset { group: group.clone(), topic, partition })
}

/// Tombstones need not be written together: see [`Append::halves`].
fn in_batches(records: Vec<Record>, done: &Done) -> Vec<Append> {
    records.chunks(1000).map(|records| Append { records: records.to_vec(), done: done.clone() }).collect()
}

#[cfg(test)]
mod tests;
