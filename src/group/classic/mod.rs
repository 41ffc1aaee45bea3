//! Pure. A classic consumer group: the state machine behind JoinGroup, SyncGroup, Heartbeat and LeaveGroup.
//!
//! It is given the time and what was asked, and returns [`Effects`]: who is answered now, what is to be written, and
//! when it wants to be woken. It reads no clock, draws no chance (member ids come with the request) and never waits. A
//! member that waits for JoinGroup or SyncGroup is a [`Waiter`] kept here until it is answered; each is answered exactly
//! once, and no longer than the rebalance time-out later.
//!
//! Membership changes at once; a generation becomes Stable only when its record is committed, so an assignment that a
//! member was given survives the broker. Answers and codes follow Kafka's GroupMetadataManager.

mod assign;
mod expire;
mod join;
mod leave;
mod member;
mod record;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use crate::error::ErrorCode;
use crate::types::{Tick, Timestamp};

pub use assign::{SyncReply, SyncRequest, append_code};
pub use join::{JoinReply, JoinRequest, JoinedMember};
pub use leave::{LeaveIdentity, LeaveResult};
pub use member::{Member, Protocol};

use super::records::GroupMetadata;

/// Both clocks, read once per event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Now {
    /// Leases and time-outs.
    pub tick: Tick,
    /// What is written into records.
    pub wall: Timestamp,
}

/// The limits and delays of all groups.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rules {
    /// `group.initial.rebalance.delay.ms`.
    pub initial_rebalance_delay_ms: u64,
    /// `group.max.size`.
    pub max_members: usize,
    /// How long a new member may wait for its first generation: Kafka's five minutes.
    pub new_member_timeout_ms: u64,
    /// What one group may keep in memory (`ottla.group.max.bytes`): for a [`ClassicGroup`], its members' metadata,
    /// assignments and ids.
    pub max_group_bytes: usize,
}

/// Names a request that waits for its answer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Waiter(pub u64);

/// The state of a group, by Kafka's names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// No members; perhaps offsets.
    Empty,
    /// Members are asked to join again.
    PreparingRebalance,
    /// Members have joined; the leader's assignment is awaited or being written.
    CompletingRebalance,
    /// Everybody has an assignment.
    Stable,
}

impl State {
    /// All of them, each at the place of its number.
    pub const ALL: [Self; 4] = [Self::Empty, Self::PreparingRebalance, Self::CompletingRebalance, Self::Stable];

    /// The name that clients see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }
}

/// An answer for a waiter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// To JoinGroup.
    Join(JoinReply),
    /// To SyncGroup.
    Sync(SyncReply),
}

/// Something to write, and what to tell the group when it is committed, or failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Write {
    /// The group as it will be read back.
    pub record: GroupMetadata,
    /// Handed back to [`ClassicGroup::written`].
    pub then: Then,
}

/// What a write was for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Then {
    /// The group is empty now; nobody waits.
    Nothing,
    /// The leader's assignment: on commit it is handed out.
    HandOut {
        /// The generation it is for.
        generation: i32,
        /// Member to assignment; complete.
        assignment: BTreeMap<Arc<str>, Bytes>,
    },
    /// A static member came back under another id without a rebalance.
    Replaced(Box<Replacement>),
}

/// A static member's return in a stable group, until it is written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Replacement {
    /// The id it has now.
    pub new_member_id: Arc<str>,
    /// The member as it was, to return to if the write fails.
    pub old: Member,
    /// The leader before.
    pub old_leader: Option<Arc<str>>,
    /// JoinGroup 9 and later can be told to skip the assignment.
    pub skips_assignment: bool,
}

/// What follows from an event.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Effects {
    /// Who is answered now.
    pub answers: Vec<(Waiter, Answer)>,
    /// What is to be written, in this order.
    pub writes: Vec<Write>,
    /// The earliest deadline that this event set, if any: the group wants [`ClassicGroup::expire`] by then.
    pub wake: Option<Tick>,
}

/// The delay before a group's first generation, or the wait for members to join again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct JoinTimer {
    at: Tick,
    /// Milliseconds that the first generation may still be put off; `None` once the group has had one.
    initial_remaining_ms: Option<u64>,
}

/// A classic group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClassicGroup {
    state: State,
    /// True while the rebalance in progress is the group's first since it was empty.
    initial_rebalance: bool,
    state_changed_at: Timestamp,
    protocol_type: Option<Arc<str>>,
    protocol: Option<Arc<str>>,
    generation: i32,
    leader: Option<Arc<str>>,
    members: BTreeMap<Arc<str>, Member>,
    /// Instance id to member id (KIP-345).
    static_members: BTreeMap<Arc<str>, Arc<str>>,
    /// How many members can do each protocol: a joiner and a vote look here, however many names members know.
    supporters: BTreeMap<Arc<str>, usize>,
    /// Ids that were handed out with MEMBER_ID_REQUIRED and did not come back yet.
    pending_joins: BTreeMap<Arc<str>, Tick>,
    /// Members of this generation that have not sent SyncGroup.
    pending_syncs: BTreeSet<Arc<str>>,
    new_member_added: bool,
    join_timer: Option<JoinTimer>,
    sync_deadline: Option<Tick>,
    /// Bytes kept for members, their assignments and pending ids.
    bytes: usize,
}

impl ClassicGroup {
    /// A group without members, generation 0.
    pub fn new(now: Now) -> Self {
        Self {
            state: State::Empty,
            initial_rebalance: false,
            state_changed_at: now.wall,
            protocol_type: None,
            protocol: None,
            generation: 0,
            leader: None,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            supporters: BTreeMap::new(),
            pending_joins: BTreeMap::new(),
            pending_syncs: BTreeSet::new(),
            new_member_added: false,
            join_timer: None,
            sync_deadline: None,
            bytes: 0,
        }
    }

    /// The state.
    pub fn state(&self) -> State {
        self.state
    }

    /// Counts the rebalances.
    pub fn generation(&self) -> i32 {
        self.generation
    }

    /// What the members call their protocol; `None` for a group that only commits offsets.
    pub fn protocol_type(&self) -> Option<&Arc<str>> {
        self.protocol_type.as_ref()
    }

    /// The protocol that was voted for.
    pub fn protocol(&self) -> Option<&Arc<str>> {
        self.protocol.as_ref()
    }

    /// The member that computes assignments.
    pub fn leader(&self) -> Option<&Arc<str>> {
        self.leader.as_ref()
    }

    /// The members, by id.
    pub fn members(&self) -> impl ExactSizeIterator<Item = &Member> {
        self.members.values()
    }

    /// When the group took its present state.
    pub fn state_changed_at(&self) -> Timestamp {
        self.state_changed_at
    }

    /// Bytes that members, their assignments, pending ids and the protocol type keep in memory.
    pub fn bytes(&self) -> usize {
        self.bytes + self.protocol_type.as_deref().map_or(0, str::len)
    }

    /// True when nobody is in it or about to be: all that is left of it is its generation and its offsets.
    pub fn is_abandoned(&self) -> bool {
        self.state == State::Empty && self.pending_joins.is_empty()
    }

    /// Heartbeat 0–4.
    pub fn heartbeat(
        &mut self,
        now: Now,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
    ) -> (ErrorCode, Effects) {
        let mut effects = Effects::default();
        if let Err(code) = self.check_member(member_id, instance_id) {
            return (code, effects);
        }
        if generation != self.generation {
            return (ErrorCode::ILLEGAL_GENERATION, effects);
        }
        self.touch(now, member_id, &mut effects);
        let code = match self.state {
            State::Empty => ErrorCode::UNKNOWN_MEMBER_ID,
            State::PreparingRebalance => ErrorCode::REBALANCE_IN_PROGRESS,
            State::CompletingRebalance | State::Stable => ErrorCode::NONE,
        };
        (code, effects)
    }

    /// May these offsets be committed? A commit of a member is a sign of life too.
    pub fn check_commit(
        &mut self,
        now: Now,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
    ) -> (Result<(), ErrorCode>, Effects) {
        let mut effects = Effects::default();
        let checked = self.commit_refusal(member_id, instance_id, generation);
        if checked.is_ok() && matches!(self.state, State::Stable | State::PreparingRebalance) {
            self.touch(now, member_id, &mut effects);
        }
        (checked, effects)
    }

    fn commit_refusal(&self, member_id: &str, instance_id: Option<&str>, generation: i32) -> Result<(), ErrorCode> {
        if generation < 0 && self.state == State::Empty {
            // The admin client, or a consumer that assigns its partitions itself.
            return Ok(());
        }
        if generation >= 0 || !member_id.is_empty() || instance_id.is_some() {
            self.check_member(member_id, instance_id)?;
            if generation != self.generation {
                return Err(ErrorCode::ILLEGAL_GENERATION);
            }
        } else if self.state != State::Empty {
            return Err(ErrorCode::UNKNOWN_MEMBER_ID);
        }
        if self.state == State::CompletingRebalance {
            // The member knows the new generation, so it has joined: what it commits belongs to the one before.
            return Err(ErrorCode::REBALANCE_IN_PROGRESS);
        }
        Ok(())
    }

    /// Is this a member, and for a static one the present bearer of its instance id?
    fn check_member(&self, member_id: &str, instance_id: Option<&str>) -> Result<(), ErrorCode> {
        if let Some(instance_id) = instance_id {
            match self.static_members.get(instance_id) {
                None => return Err(ErrorCode::UNKNOWN_MEMBER_ID),
                Some(bearer) if **bearer != *member_id => return Err(ErrorCode::FENCED_INSTANCE_ID),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member_id) { Ok(()) } else { Err(ErrorCode::UNKNOWN_MEMBER_ID) }
    }

    fn transition(&mut self, now: Now, to: State) {
        self.state = to;
        self.state_changed_at = now.wall;
    }

    fn is_leader(&self, member_id: &str) -> bool {
        self.leader.as_deref() == Some(member_id)
    }

    /// The longest rebalance time-out of the members: how long a rebalance waits.
    fn rebalance_timeout_ms(&self) -> u64 {
        self.members.values().map(|member| millis(member.rebalance_timeout_ms)).max().unwrap_or(1)
    }

    /// The session of a member starts again.
    fn touch(&mut self, now: Now, member_id: &str, effects: &mut Effects) {
        if let Some(member) = self.members.get_mut(member_id) {
            let deadline = now.tick.plus_ms(millis(member.session_timeout_ms));
            member.deadline = Some(deadline);
            effects.wake_at(deadline);
        }
    }

    /// A member and what the books say of it.
    fn put(&mut self, member: Member) {
        self.bytes += member.bytes();
        for protocol in &member.protocols {
            *self.supporters.entry(protocol.name.clone()).or_default() += 1;
        }
        if let Some(instance_id) = &member.instance_id {
            self.static_members.insert(instance_id.clone(), member.id.clone());
        }
        self.members.insert(member.id.clone(), member);
    }

    /// Undoes [`ClassicGroup::put`].
    fn take(&mut self, member_id: &str) -> Option<Member> {
        let member = self.members.remove(member_id)?;
        self.bytes -= member.bytes();
        for protocol in &member.protocols {
            let supporters = self.supporters.get_mut(&protocol.name).expect("counted when the member came");
            *supporters -= 1;
            if *supporters == 0 {
                self.supporters.remove(&protocol.name);
            }
        }
        if let Some(instance_id) = &member.instance_id {
            self.static_members.remove(instance_id);
        }
        Some(member)
    }

    /// True for a protocol that every member can do.
    fn is_common(&self, protocol: &str) -> bool {
        self.supporters.get(protocol).copied().unwrap_or(0) == self.members.len()
    }

    /// Takes a member or a pending id out, whatever it is. The waiters of the member must have been answered.
    fn remove(&mut self, member_id: &str) {
        self.take(member_id);
        if self.pending_joins.remove(member_id).is_some() {
            self.bytes -= pending_bytes(member_id);
        }
        self.pending_syncs.remove(member_id);
        if self.is_leader(member_id) {
            self.leader = self.members.keys().next().cloned();
        }
    }

    /// Answers a waiting JoinGroup of a member, if there is one.
    fn answer_join(&mut self, member_id: &str, reply: JoinReply, effects: &mut Effects) {
        if let Some(waiter) = self.members.get_mut(member_id).and_then(|member| member.awaiting_join.take()) {
            effects.answers.push((waiter, Answer::Join(reply)));
        }
    }

    /// Answers a waiting SyncGroup of a member, if there is one.
    fn answer_sync(&mut self, member_id: &str, reply: SyncReply, effects: &mut Effects) -> bool {
        let waiter = self.members.get_mut(member_id).and_then(|member| member.awaiting_sync.take());
        let waited = waiter.is_some();
        effects.answers.extend(waiter.map(|waiter| (waiter, Answer::Sync(reply))));
        waited
    }
}

impl Effects {
    fn wake_at(&mut self, at: Tick) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }
}

/// A time-out off the wire, in milliseconds. At least one: a deadline that is due in the moment in which it is set would be
/// met and set again for ever.
fn millis(value: i32) -> u64 {
    u64::try_from(value).unwrap_or(0).max(1)
}

/// What a pending id costs: itself, its deadline and its place in the map.
fn pending_bytes(member_id: &str) -> usize {
    member_id.len() + 64
}

#[cfg(test)]
mod tests;
