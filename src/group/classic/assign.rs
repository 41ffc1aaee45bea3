//! Pure. SyncGroup: how an assignment is handed out, once it is written.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::{Answer, ClassicGroup, Effects, Now, Rules, State, Then, Waiter, Write};
use crate::error::ErrorCode;

/// A SyncGroup.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SyncRequest {
    /// The member's id.
    pub member_id: Arc<str>,
    /// `group.instance.id` (KIP-345).
    pub instance_id: Option<Arc<str>>,
    /// The generation that it joined.
    pub generation: i32,
    /// What it takes the protocol type for (KIP-559).
    pub protocol_type: Option<Arc<str>>,
    /// What it takes the protocol for (KIP-559).
    pub protocol: Option<Arc<str>>,
    /// From the leader: member to assignment.
    pub assignment: BTreeMap<Arc<str>, Bytes>,
}

/// The answer to a SyncGroup.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SyncReply {
    /// NONE, or why not.
    pub code: ErrorCode,
    /// The group's protocol type.
    pub protocol_type: Option<Arc<str>>,
    /// The protocol that was voted for.
    pub protocol: Option<Arc<str>>,
    /// The member's share.
    pub assignment: Bytes,
}

impl SyncReply {
    /// A refusal.
    pub fn refused(code: ErrorCode) -> Self {
        Self { code, protocol_type: None, protocol: None, assignment: Bytes::new() }
    }
}

/// What a group's member is told when its record could not be appended (Kafka's GroupMetadataManager).
pub fn append_code(code: ErrorCode) -> ErrorCode {
    match code {
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION | ErrorCode::NOT_ENOUGH_REPLICAS | ErrorCode::REQUEST_TIMED_OUT => {
            ErrorCode::COORDINATOR_NOT_AVAILABLE
        }
        ErrorCode::NOT_LEADER_OR_FOLLOWER | ErrorCode::KAFKA_STORAGE_ERROR => ErrorCode::NOT_COORDINATOR,
        ErrorCode::MESSAGE_TOO_LARGE | ErrorCode::RECORD_LIST_TOO_LARGE | ErrorCode::INVALID_FETCH_SIZE => {
            ErrorCode::UNKNOWN_SERVER_ERROR
        }
        other => other,
    }
}

impl ClassicGroup {
    /// SyncGroup 0–5. The waiter is answered now or in a later event.
    pub fn sync(&mut self, now: Now, request: SyncRequest, waiter: Waiter, rules: &Rules) -> Effects {
        let mut effects = Effects::default();
        let refusal = self.sync_refusal(&request, rules);
        if let Some(code) = refusal {
            effects.answers.push((waiter, Answer::Sync(SyncReply::refused(code))));
            return effects;
        }
        let id = request.member_id.clone();
        self.pending_syncs.remove(&id);
        if self.pending_syncs.is_empty() {
            self.sync_deadline = None;
        }
        if self.state == State::Stable {
            let reply = self.sync_reply(&id);
            effects.answers.push((waiter, Answer::Sync(reply)));
            return effects;
        }
        // A SyncGroup sent again over another connection takes the place of the first.
        self.answer_sync(&id, SyncReply::refused(ErrorCode::REBALANCE_IN_PROGRESS), &mut effects);
        self.members.get_mut(&id).expect("checked above").awaiting_sync = Some(waiter);
        self.touch(now, &id, &mut effects);
        if self.is_leader(&id) {
            let mut given = request.assignment;
            let complete = self.members.keys().map(|id| (id.clone(), given.remove(id).unwrap_or_default()));
            let assignment: BTreeMap<_, _> = complete.collect();
            let record = self.record(&assignment);
            effects.writes.push(Write { record, then: Then::HandOut { generation: self.generation, assignment } });
        }
        effects
    }

    fn sync_refusal(&self, request: &SyncRequest, rules: &Rules) -> Option<ErrorCode> {
        if let Err(code) = self.check_member(&request.member_id, request.instance_id.as_deref()) {
            return Some(code);
        }
        let differs = |said: &Option<Arc<str>>, is: &Option<Arc<str>>| said.is_some() && is.is_some() && said != is;
        if request.generation != self.generation {
            Some(ErrorCode::ILLEGAL_GENERATION)
        } else if differs(&request.protocol_type, &self.protocol_type) || differs(&request.protocol, &self.protocol) {
            Some(ErrorCode::INCONSISTENT_GROUP_PROTOCOL)
        } else if !self.has_room_for_assignments(&request.assignment, rules) {
            Some(ErrorCode::GROUP_MAX_SIZE_REACHED)
        } else {
            match self.state {
                State::Empty => Some(ErrorCode::UNKNOWN_MEMBER_ID),
                State::PreparingRebalance => Some(ErrorCode::REBALANCE_IN_PROGRESS),
                State::CompletingRebalance | State::Stable => None,
            }
        }
    }

    /// New assignments take the place of those that members have.
    fn has_room_for_assignments(&self, given: &BTreeMap<Arc<str>, Bytes>, rules: &Rules) -> bool {
        let new: usize = given.values().map(Bytes::len).sum();
        let old: usize = self.members.values().map(|member| member.assignment.len()).sum();
        new <= old || self.bytes() - old + new <= rules.max_group_bytes
    }

    /// A write of this group is committed, or failed. Writes are told in the order in which they were asked for.
    pub fn written(&mut self, now: Now, then: Then, result: Result<(), ErrorCode>) -> Effects {
        let mut effects = Effects::default();
        match then {
            Then::Nothing => {}
            Then::Replaced(replacement) => self.static_member_replaced(now, *replacement, result, &mut effects),
            Then::HandOut { generation, assignment } => {
                // A rebalance that began meanwhile has already told everybody.
                if self.state == State::CompletingRebalance && generation == self.generation {
                    self.hand_out(now, assignment, result, &mut effects);
                }
            }
        }
        effects
    }

    fn hand_out(
        &mut self,
        now: Now,
        mut assignment: BTreeMap<Arc<str>, Bytes>,
        result: Result<(), ErrorCode>,
        effects: &mut Effects,
    ) {
        if let Err(code) = result {
            self.take_back_assignments(append_code(code), now, effects);
            return self.prepare_rebalance(now, effects, None);
        }
        for member in self.members.values_mut() {
            let given = assignment.remove(&member.id).unwrap_or_default();
            self.bytes = self.bytes - member.assignment.len() + given.len();
            member.assignment = given;
        }
        self.transition(now, State::Stable);
        let ids: Vec<_> = self.members.keys().cloned().collect();
        for id in ids {
            let reply = self.sync_reply(&id);
            if self.answer_sync(&id, reply, effects) {
                // Its session may have run out while it waited.
                self.touch(now, &id, effects);
            }
        }
    }

    /// Nobody has an assignment any more; those who wait for one are told why.
    pub(super) fn take_back_assignments(&mut self, code: ErrorCode, now: Now, effects: &mut Effects) {
        let ids: Vec<_> = self.members.keys().cloned().collect();
        for id in ids {
            let taken = std::mem::take(&mut self.members.get_mut(&id).expect("its own key").assignment);
            self.bytes -= taken.len();
            if self.answer_sync(&id, SyncReply::refused(code), effects) {
                self.touch(now, &id, effects);
            }
        }
    }

    fn sync_reply(&self, id: &str) -> SyncReply {
        SyncReply {
            code: ErrorCode::NONE,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            assignment: self.members.get(id).map(|member| member.assignment.clone()).unwrap_or_default(),
        }
    }
}
