//! Pure. JoinGroup: how a generation comes about.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::member::{Member, Protocol, kept_bytes};
use super::{
    ClassicGroup, Effects, JoinTimer, Now, Replacement, Rules, State, Then, Waiter, Write, millis, pending_bytes,
};
use crate::error::ErrorCode;

/// How long static members that did not come are waited for again, at least: their rebalance time-outs may be nought.
const WAIT_AGAIN_MS: u64 = 1_000;

/// A JoinGroup, with the member id that was drawn for the case that one is needed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JoinRequest {
    /// The id that the member has, or empty.
    pub member_id: Arc<str>,
    /// The id that it gets if it has none.
    pub new_member_id: Arc<str>,
    /// `group.instance.id` (KIP-345).
    pub instance_id: Option<Arc<str>>,
    /// `client.id`.
    pub client_id: Arc<str>,
    /// Where it connected from.
    pub client_host: Arc<str>,
    /// `consumer`, `connect`, or what the members call it.
    pub protocol_type: Arc<str>,
    /// What it can do, the dearest first.
    pub protocols: Vec<Protocol>,
    /// How long it may be silent.
    pub session_timeout_ms: i32,
    /// How long a rebalance waits for it.
    pub rebalance_timeout_ms: i32,
    /// JoinGroup 4 and later: a dynamic member must come back with the id it was given (KIP-394).
    pub needs_member_id: bool,
    /// JoinGroup 9 and later: a static leader can be told to skip the assignment (KIP-814).
    pub skips_assignment: bool,
}

/// The answer to a JoinGroup.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JoinReply {
    /// NONE, or why not.
    pub code: ErrorCode,
    /// The member's id.
    pub member_id: Arc<str>,
    /// The generation, -1 with an error.
    pub generation: i32,
    /// The group's protocol type.
    pub protocol_type: Option<Arc<str>>,
    /// The protocol that was voted for.
    pub protocol: Option<Arc<str>>,
    /// The member that computes assignments.
    pub leader: Option<Arc<str>>,
    /// For a leader that is not to compute one.
    pub skip_assignment: bool,
    /// For the leader: everybody, with what they say.
    pub members: Vec<JoinedMember>,
}

/// A member as the leader sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JoinedMember {
    /// The member's id.
    pub member_id: Arc<str>,
    /// Its instance id.
    pub instance_id: Option<Arc<str>>,
    /// What it says for the chosen protocol.
    pub metadata: Bytes,
}

impl JoinReply {
    /// A refusal.
    pub fn refused(code: ErrorCode, member_id: Arc<str>) -> Self {
        Self {
            code,
            member_id,
            generation: -1,
            protocol_type: None,
            protocol: None,
            leader: None,
            skip_assignment: false,
            members: Vec::new(),
        }
    }
}

impl JoinRequest {
    /// Bytes that the member would keep in memory.
    pub fn bytes(&self) -> usize {
        let names = [&self.new_member_id, &self.client_id].into_iter().chain(&self.instance_id);
        kept_bytes(names, &self.protocols)
    }

    fn into_member(self, id: Arc<str>) -> Member {
        Member {
            id,
            instance_id: self.instance_id,
            client_id: self.client_id,
            client_host: self.client_host,
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            session_timeout_ms: self.session_timeout_ms,
            protocols: self.protocols,
            assignment: Bytes::new(),
            awaiting_join: None,
            awaiting_sync: None,
            deadline: None,
            is_new: true,
        }
    }
}

impl ClassicGroup {
    /// JoinGroup 0–9. The waiter is answered now or in a later event.
    pub fn join(&mut self, now: Now, mut request: JoinRequest, waiter: Waiter, rules: &Rules) -> Effects {
        let mut effects = Effects::default();
        // A name said twice would be counted as two supporters, and no vote could ever succeed.
        let mut names = std::collections::BTreeSet::new();
        request.protocols.retain(|protocol| names.insert(protocol.name.clone()));
        if !self.has_room_for(&request, rules) {
            let refused = JoinReply::refused(ErrorCode::GROUP_MAX_SIZE_REACHED, "".into());
            effects.answers.push((waiter, super::Answer::Join(refused)));
            if self.members.contains_key(&request.member_id) || self.pending_joins.contains_key(&request.member_id) {
                self.dismiss(&request.member_id, &mut effects);
                self.somebody_went(now, &mut effects);
            }
        } else if !self.supports(&request) {
            refuse(&mut effects, waiter, ErrorCode::INCONSISTENT_GROUP_PROTOCOL, request.member_id);
        } else if request.member_id.is_empty() {
            self.join_new(now, request, waiter, rules, &mut effects);
        } else if self.pending_joins.contains_key(&request.member_id) && request.instance_id.is_none() {
            let id = request.member_id.clone();
            self.add_member(now, request, id, waiter, rules, &mut effects);
        } else {
            self.join_again(now, request, waiter, rules, &mut effects);
        }
        effects
    }

    fn has_room_for(&self, request: &JoinRequest, rules: &Rules) -> bool {
        let member = self.members.get(&request.member_id);
        let fits = match self.state {
            State::Empty => true,
            State::PreparingRebalance => {
                let waiting = self.members.values().filter(|member| member.awaiting_join.is_some()).count();
                member.is_some_and(|member| member.awaiting_join.is_some()) || waiting < rules.max_members
            }
            State::CompletingRebalance | State::Stable => member.is_some() || self.members.len() < rules.max_members,
        };
        // The first member says what the group's protocol type is.
        let others = if self.members.is_empty() { self.bytes + request.protocol_type.len() } else { self.bytes() };
        fits && others - member.map_or(0, Member::bytes) + request.bytes() <= rules.max_group_bytes
    }

    fn supports(&self, request: &JoinRequest) -> bool {
        if self.state == State::Empty {
            return !request.protocol_type.is_empty() && !request.protocols.is_empty();
        }
        let common = |protocol: &Protocol| self.is_common(&protocol.name);
        self.protocol_type.as_ref() == Some(&request.protocol_type) && request.protocols.iter().any(common)
    }

    fn join_new(&mut self, now: Now, request: JoinRequest, waiter: Waiter, rules: &Rules, effects: &mut Effects) {
        let new_id = request.new_member_id.clone();
        let bearer = request.instance_id.as_ref().and_then(|instance_id| self.static_members.get(instance_id)).cloned();
        if let Some(old_id) = bearer {
            self.replace_static_member(now, request, &old_id, waiter, effects);
        } else if request.instance_id.is_none() && request.needs_member_id {
            let deadline = now.tick.plus_ms(millis(request.session_timeout_ms));
            self.bytes += pending_bytes(&new_id);
            self.pending_joins.insert(new_id.clone(), deadline);
            effects.wake_at(deadline);
            refuse(effects, waiter, ErrorCode::MEMBER_ID_REQUIRED, new_id);
        } else {
            self.add_member(now, request, new_id, waiter, rules, effects);
        }
    }

    fn join_again(&mut self, now: Now, request: JoinRequest, waiter: Waiter, rules: &Rules, effects: &mut Effects) {
        let id = request.member_id.clone();
        if let Err(code) = self.check_member(&id, request.instance_id.as_deref()) {
            return refuse(effects, waiter, code, id);
        }
        let changed = self.members[&id].protocols != request.protocols;
        match self.state {
            State::Empty => refuse(effects, waiter, ErrorCode::UNKNOWN_MEMBER_ID, id),
            State::CompletingRebalance if !changed => {
                // It did not see the answer: the generation stands.
                let reply = self.join_reply(&id);
                effects.answers.push((waiter, super::Answer::Join(reply)));
            }
            State::Stable if !changed && !self.is_leader(&id) => {
                let reply = self.join_reply(&id);
                effects.answers.push((waiter, super::Answer::Join(reply)));
            }
            State::PreparingRebalance | State::CompletingRebalance | State::Stable => {
                self.update_member(&id, request, waiter, effects);
                self.rebalance_or_complete(now, effects, Some(rules));
            }
        }
    }

    fn add_member(
        &mut self,
        now: Now,
        request: JoinRequest,
        id: Arc<str>,
        waiter: Waiter,
        rules: &Rules,
        effects: &mut Effects,
    ) {
        if self.pending_joins.remove(&id).is_some() {
            self.bytes -= pending_bytes(&id);
        }
        if self.state == State::PreparingRebalance && self.initial_rebalance {
            self.new_member_added = true;
        }
        if self.members.is_empty() {
            self.protocol_type = Some(request.protocol_type.clone());
        }
        let mut member = request.into_member(id.clone());
        member.awaiting_join = Some(waiter);
        // A client that went away while its JoinGroup waits would otherwise keep the group growing (KAFKA-7610).
        let deadline = now.tick.plus_ms(rules.new_member_timeout_ms);
        member.deadline = Some(deadline);
        effects.wake_at(deadline);
        self.leader.get_or_insert(id);
        self.put(member);
        self.rebalance_or_complete(now, effects, Some(rules));
    }

    /// The member joins again with what it says now. A JoinGroup or SyncGroup of it that still waits is told so.
    fn update_member(&mut self, id: &Arc<str>, request: JoinRequest, waiter: Waiter, effects: &mut Effects) {
        self.answer_join(id, JoinReply::refused(ErrorCode::REBALANCE_IN_PROGRESS, id.clone()), effects);
        let mut member = self.take(id).expect("checked by the caller");
        member.protocols = request.protocols;
        member.rebalance_timeout_ms = request.rebalance_timeout_ms;
        member.session_timeout_ms = request.session_timeout_ms;
        member.awaiting_join = Some(waiter);
        self.put(member);
    }

    /// A static member that restarted takes its old place under a new id; the old id is fenced (KIP-345).
    fn replace_static_member(
        &mut self,
        now: Now,
        request: JoinRequest,
        old_id: &Arc<str>,
        waiter: Waiter,
        effects: &mut Effects,
    ) {
        let new_id = request.new_member_id.clone();
        let old_leader = self.leader.clone();
        self.answer_join(old_id, JoinReply::refused(ErrorCode::FENCED_INSTANCE_ID, old_id.clone()), effects);
        self.answer_sync(old_id, super::SyncReply::refused(ErrorCode::FENCED_INSTANCE_ID), effects);
        let old = self.take(old_id).expect("static members are members");
        let skips_assignment = request.skips_assignment;
        let mut member = Member { id: new_id.clone(), is_new: false, deadline: None, ..old.clone() };
        member.protocols = request.protocols;
        member.rebalance_timeout_ms = request.rebalance_timeout_ms;
        member.session_timeout_ms = request.session_timeout_ms;
        member.awaiting_join = Some(waiter);
        self.put(member);
        if self.pending_syncs.remove(old_id) {
            self.pending_syncs.insert(new_id.clone());
        }
        if old_leader.as_ref() == Some(old_id) {
            self.leader = Some(new_id.clone());
        }
        self.touch(now, &new_id, effects);
        match self.state {
            State::Stable if self.protocol == Some(self.vote()) => {
                let assignment = self.members().map(|member| (member.id.clone(), member.assignment.clone())).collect();
                let replacement = Replacement { new_member_id: new_id, old, old_leader, skips_assignment };
                let then = Then::Replaced(Box::new(replacement));
                effects.writes.push(Write { record: self.record(&assignment), then });
            }
            State::Stable | State::CompletingRebalance => self.prepare_rebalance(now, effects, None),
            State::PreparingRebalance => self.maybe_complete_join(now, effects),
            State::Empty => unreachable!("an empty group has no static members"),
        }
    }

    /// The replacement is written, or could not be.
    pub(super) fn static_member_replaced(
        &mut self,
        now: Now,
        replacement: Replacement,
        result: Result<(), ErrorCode>,
        effects: &mut Effects,
    ) {
        let id = replacement.new_member_id;
        // Has a rebalance begun meanwhile, then the member waits for it like all others.
        let waits = self.members.get(&id).is_some_and(|member| member.awaiting_join.is_some());
        if self.state != State::Stable || !waits {
            return;
        }
        match result {
            Ok(()) => {
                let mut reply = self.join_reply(&id);
                if replacement.skips_assignment {
                    reply.skip_assignment = self.is_leader(&id);
                } else {
                    // An old client would compute an assignment if it found itself the leader: it is told the id before.
                    reply.leader = replacement.old_leader;
                    reply.members.clear();
                }
                self.answer_join(&id, reply, effects);
            }
            Err(code) => {
                let reply = JoinReply::refused(super::append_code(code), "".into());
                self.answer_join(&id, reply, effects);
                self.remove(&id);
                let old = Member { awaiting_join: None, awaiting_sync: None, ..replacement.old };
                let old_id = old.id.clone();
                self.put(old);
                self.leader = replacement.old_leader;
                self.touch(now, &old_id, effects);
            }
        }
    }

    /// A rebalance begins if one can; one that waits may now be complete.
    pub(super) fn rebalance_or_complete(&mut self, now: Now, effects: &mut Effects, rules: Option<&Rules>) {
        if self.state == State::PreparingRebalance {
            self.maybe_complete_join(now, effects);
        } else {
            self.prepare_rebalance(now, effects, rules);
        }
    }

    /// One or more members are gone: the others need a new generation.
    pub(super) fn somebody_went(&mut self, now: Now, effects: &mut Effects) {
        match self.state {
            State::Stable | State::CompletingRebalance => self.prepare_rebalance(now, effects, None),
            State::PreparingRebalance => self.maybe_complete_join(now, effects),
            State::Empty => {}
        }
    }

    /// Everybody is asked to join again. `rules` are needed when the group is empty: its first generation is put off a
    /// little, so that members which start together come into it together (KIP-134).
    pub(super) fn prepare_rebalance(&mut self, now: Now, effects: &mut Effects, rules: Option<&Rules>) {
        if self.state == State::CompletingRebalance {
            self.take_back_assignments(ErrorCode::REBALANCE_IN_PROGRESS, now, effects);
        }
        self.pending_syncs.clear();
        self.sync_deadline = None;
        self.initial_rebalance = self.state == State::Empty;
        self.new_member_added = false;
        let initial_delay = rules.map_or(0, |rules| rules.initial_rebalance_delay_ms);
        self.transition(now, State::PreparingRebalance);
        if self.initial_rebalance {
            let remaining = self.rebalance_timeout_ms().saturating_sub(initial_delay);
            self.set_join_timer(now, initial_delay, Some(remaining), effects);
        } else if self.has_all_joined() {
            self.complete_join(now, effects);
        } else {
            self.set_join_timer(now, self.rebalance_timeout_ms(), None, effects);
        }
    }

    pub(super) fn set_join_timer(
        &mut self,
        now: Now,
        delay_ms: u64,
        initial_remaining_ms: Option<u64>,
        effects: &mut Effects,
    ) {
        let at = now.tick.plus_ms(delay_ms);
        self.join_timer = Some(JoinTimer { at, initial_remaining_ms });
        effects.wake_at(at);
    }

    fn has_all_joined(&self) -> bool {
        self.pending_joins.is_empty() && self.members.values().all(|member| member.awaiting_join.is_some())
    }

    pub(super) fn maybe_complete_join(&mut self, now: Now, effects: &mut Effects) {
        if self.state == State::PreparingRebalance && !self.initial_rebalance && self.has_all_joined() {
            self.complete_join(now, effects);
        }
    }

    /// A new generation out of those who joined. Static members keep their place even if they did not.
    pub(super) fn complete_join(&mut self, now: Now, effects: &mut Effects) {
        self.join_timer = None;
        let late = |member: &&Member| member.awaiting_join.is_none() && member.instance_id.is_none();
        let late: Vec<_> = self.members.values().filter(late).map(|member| member.id.clone()).collect();
        for id in late {
            self.remove(&id);
        }
        if !self.members.is_empty() && !self.elect_leader() {
            // Only static members are left and none came: they are waited for again, until their sessions end.
            return self.set_join_timer(now, self.rebalance_timeout_ms().max(WAIT_AGAIN_MS), None, effects);
        }
        self.initial_rebalance = false;
        self.generation += 1;
        self.pending_syncs.clear();
        if self.members.is_empty() {
            self.protocol = None;
            self.transition(now, State::Empty);
            effects.writes.push(Write { record: self.record(&BTreeMap::new()), then: Then::Nothing });
            return;
        }
        self.protocol = Some(self.vote());
        self.transition(now, State::CompletingRebalance);
        let ids: Vec<_> = self.members.keys().cloned().collect();
        for id in ids {
            let reply = self.join_reply(&id);
            self.answer_join(&id, reply, effects);
            self.touch(now, &id, effects);
            if let Some(member) = self.members.get_mut(&id) {
                member.is_new = false;
            }
            self.pending_syncs.insert(id);
        }
        let deadline = now.tick.plus_ms(self.rebalance_timeout_ms());
        self.sync_deadline = Some(deadline);
        effects.wake_at(deadline);
    }

    /// The leader stays if it joined; else one who did takes over. False when nobody did.
    fn elect_leader(&mut self) -> bool {
        let joined = |id: &Arc<str>| self.members.get(id).is_some_and(|member| member.awaiting_join.is_some());
        if self.leader.as_ref().is_some_and(joined) {
            return true;
        }
        let Some(id) = self.members.keys().find(|id| joined(id)).cloned() else { return false };
        self.leader = Some(id);
        true
    }

    /// The protocol that most members like best among those that all can do; the leader's taste decides a tie. Costs what
    /// the members say, and no more: they may know very many names.
    pub(super) fn vote(&self) -> Arc<str> {
        let leader =
            self.leader.as_ref().and_then(|id| self.members.get(id)).expect("a group with members has a leader");
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            let choice = member.protocols.iter().find(|protocol| self.is_common(&protocol.name));
            let choice = choice.expect("a joiner shares a protocol with everybody");
            *votes.entry(&choice.name).or_default() += 1;
        }
        let best = votes.values().max();
        let winner = leader.protocols.iter().find(|protocol| votes.get(&*protocol.name) == best);
        winner.expect("what all can do the leader can do").name.clone()
    }

    /// The present generation, as the answer to a member's JoinGroup.
    fn join_reply(&self, id: &Arc<str>) -> JoinReply {
        let protocol = self.protocol.as_deref();
        let describe = |member: &Member| JoinedMember {
            member_id: member.id.clone(),
            instance_id: member.instance_id.clone(),
            metadata: member.metadata(protocol),
        };
        JoinReply {
            code: ErrorCode::NONE,
            member_id: id.clone(),
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            skip_assignment: false,
            members: if self.is_leader(id) { self.members.values().map(describe).collect() } else { Vec::new() },
        }
    }
}

fn refuse(effects: &mut Effects, waiter: Waiter, code: ErrorCode, member_id: Arc<str>) {
    effects.answers.push((waiter, super::Answer::Join(JoinReply::refused(code, member_id))));
}
