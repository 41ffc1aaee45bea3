//! Pure. LeaveGroup: members go by themselves, or an administrator sends static ones away.

use std::sync::Arc;

use super::{ClassicGroup, Effects, JoinReply, Now, SyncReply};
use crate::error::ErrorCode;

/// Who is to leave.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeaveIdentity {
    /// The member's id, or empty when the instance id says who.
    pub member_id: Arc<str>,
    /// `group.instance.id` (KIP-345).
    pub instance_id: Option<Arc<str>>,
}

/// What became of one identity.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeaveResult {
    /// As it was asked.
    pub identity: LeaveIdentity,
    /// NONE, or why not.
    pub code: ErrorCode,
}

impl ClassicGroup {
    /// LeaveGroup 0–5. Not all may be able to leave: each gets its own answer.
    pub fn leave(&mut self, now: Now, identities: Vec<LeaveIdentity>) -> (Vec<LeaveResult>, Effects) {
        let mut effects = Effects::default();
        let mut results = Vec::with_capacity(identities.len().min(1024));
        for identity in identities {
            let code = match self.find_leaving(&identity) {
                Ok(id) => {
                    self.dismiss(&id, &mut effects);
                    ErrorCode::NONE
                }
                Err(code) => code,
            };
            results.push(LeaveResult { identity, code });
        }
        if results.iter().any(|result| !result.code.is_error()) {
            self.somebody_went(now, &mut effects);
        }
        (results, effects)
    }

    fn find_leaving(&self, identity: &LeaveIdentity) -> Result<Arc<str>, ErrorCode> {
        if identity.member_id.is_empty() {
            let bearer = identity.instance_id.as_ref().and_then(|instance_id| self.static_members.get(instance_id));
            return bearer.cloned().ok_or(ErrorCode::UNKNOWN_MEMBER_ID);
        }
        if !self.pending_joins.contains_key(&identity.member_id) {
            self.check_member(&identity.member_id, identity.instance_id.as_deref())?;
        }
        Ok(identity.member_id.clone())
    }

    /// Takes a member out and answers what still waits for it.
    pub(super) fn dismiss(&mut self, id: &Arc<str>, effects: &mut Effects) {
        self.answer_join(id, JoinReply::refused(ErrorCode::UNKNOWN_MEMBER_ID, "".into()), effects);
        self.answer_sync(id, SyncReply::refused(ErrorCode::UNKNOWN_MEMBER_ID), effects);
        self.remove(id);
    }
}
