//! Pure. A group to its record and back, and what its members subscribe to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::{Buf, Bytes};

use super::member::{Member, Protocol};
use super::{ClassicGroup, Now, State, millis};
use crate::group::records::{GroupMetadata, MemberMetadata};
use crate::types::Timestamp;

/// The protocol type of consumers: the only one whose metadata the broker can read.
const CONSUMER: &str = "consumer";

impl ClassicGroup {
    /// The group as it is written, with this assignment.
    pub(super) fn record(&self, assignment: &BTreeMap<Arc<str>, Bytes>) -> GroupMetadata {
        let member = |member: &Member| MemberMetadata {
            member_id: member.id.clone(),
            instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            session_timeout_ms: member.session_timeout_ms,
            subscription: member.metadata(self.protocol.as_deref()),
            assignment: assignment.get(&member.id).cloned().unwrap_or_default(),
        };
        GroupMetadata {
            protocol_type: self.protocol_type.clone().unwrap_or_else(|| "".into()),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            state_changed_at: self.state_changed_at,
            members: self.members.values().map(member).collect(),
        }
    }

    /// The group as it was written. Every member's session starts now.
    pub fn from_record(record: GroupMetadata, now: Now) -> Self {
        let mut group = Self::new(now);
        group.protocol_type = Some(record.protocol_type).filter(|kind| !kind.is_empty());
        group.protocol = record.protocol;
        group.generation = record.generation;
        group.leader = record.leader;
        if record.state_changed_at != Timestamp::NONE {
            group.state_changed_at = record.state_changed_at;
        }
        for loaded in record.members {
            let protocol = group.protocol.get_or_insert_with(|| "".into()).clone();
            // Version 0 knew only the session's.
            let rebalance_timeout_ms =
                if loaded.rebalance_timeout_ms < 0 { loaded.session_timeout_ms } else { loaded.rebalance_timeout_ms };
            let member = Member {
                id: loaded.member_id,
                instance_id: loaded.instance_id,
                client_id: loaded.client_id,
                client_host: loaded.client_host,
                rebalance_timeout_ms,
                session_timeout_ms: loaded.session_timeout_ms,
                protocols: vec![Protocol { name: protocol, metadata: loaded.subscription }],
                assignment: loaded.assignment,
                awaiting_join: None,
                awaiting_sync: None,
                deadline: Some(now.tick.plus_ms(millis(loaded.session_timeout_ms))),
                is_new: false,
            };
            group.put(member);
        }
        if !group.leader.as_ref().is_some_and(|leader| group.members.contains_key(leader)) {
            group.leader = group.members.keys().next().cloned();
        }
        group.state = if group.members.is_empty() { State::Empty } else { State::Stable };
        group
    }

    /// True for the protocol of consumers.
    pub fn is_consumer_group(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER)
    }

    /// The topics that the members of a consumer group subscribe to; `None` when that cannot be known.
    pub fn subscribed_topics(&self) -> Option<BTreeSet<Arc<str>>> {
        if !self.is_consumer_group() {
            return None;
        }
        if self.members.is_empty() {
            return Some(BTreeSet::new());
        }
        let protocol = self.protocol.as_deref()?;
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            topics.extend(subscription_topics(&member.metadata(Some(protocol)))?);
        }
        Some(topics)
    }
}

/// The topics of a ConsumerProtocolSubscription: after the version, in every version.
fn subscription_topics(mut metadata: &[u8]) -> Option<Vec<Arc<str>>> {
    let _version = metadata.try_get_i16().ok()?;
    let count = metadata.try_get_i32().ok()?;
    let mut topics = Vec::new();
    for _ in 0..count {
        let length = usize::try_from(metadata.try_get_i16().ok()?).ok()?;
        let (name, rest) = metadata.split_at_checked(length)?;
        metadata = rest;
        topics.push(Arc::from(std::str::from_utf8(name).ok()?));
    }
    Some(topics)
}
