//! Pure. A member of a classic group.

use std::sync::Arc;

use bytes::Bytes;

use super::Waiter;
use crate::types::Tick;

/// What a protocol costs in memory beside its name and metadata: itself, and its count among those that members support.
const PROTOCOL_BYTES: usize = 96;

/// A protocol that a member can do, with what it has to say to the leader.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Protocol {
    /// `range`, `cooperative-sticky`, and so on.
    pub name: Arc<str>,
    /// Opaque to the broker, but for the topics of `consumer` groups.
    pub metadata: Bytes,
}

/// A member. Nothing here may borrow from a request's frame: strings and bytes are copies.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// The member's id.
    pub id: Arc<str>,
    /// `group.instance.id` of a static member (KIP-345).
    pub instance_id: Option<Arc<str>>,
    /// `client.id`.
    pub client_id: Arc<str>,
    /// Where it connected from, with Java's leading slash.
    pub client_host: Arc<str>,
    /// How long a rebalance waits for it.
    pub rebalance_timeout_ms: i32,
    /// How long it may be silent.
    pub session_timeout_ms: i32,
    /// What it can do, the dearest first; each name once.
    pub protocols: Vec<Protocol>,
    /// Its assignment in the present generation.
    pub assignment: Bytes,
    /// The JoinGroup that waits.
    pub awaiting_join: Option<Waiter>,
    /// The SyncGroup that waits.
    pub awaiting_sync: Option<Waiter>,
    /// When its session ends. `None` while it waits beyond it.
    pub deadline: Option<Tick>,
    /// True until its first generation is complete.
    pub is_new: bool,
}

impl Member {
    /// What it has to say for a protocol.
    pub fn metadata(&self, protocol: Option<&str>) -> Bytes {
        let found = self.protocols.iter().find(|candidate| Some(&*candidate.name) == protocol);
        found.map(|protocol| protocol.metadata.clone()).unwrap_or_default()
    }

    /// Bytes it keeps in memory.
    pub fn bytes(&self) -> usize {
        let names = [&self.id, &self.client_id].into_iter().chain(&self.instance_id);
        kept_bytes(names, &self.protocols) + self.assignment.len()
    }

    /// A member that waits for the group is alive, unless it never was in a generation.
    pub(super) fn is_excused(&self) -> bool {
        !self.is_new && (self.awaiting_join.is_some() || self.awaiting_sync.is_some())
    }
}

/// Bytes that a member of these names and protocols keeps in memory before it has an assignment.
pub(super) fn kept_bytes<'a>(names: impl Iterator<Item = &'a Arc<str>>, protocols: &[Protocol]) -> usize {
    let bytes = |protocol: &Protocol| protocol.name.len() + protocol.metadata.len() + PROTOCOL_BYTES;
    let protocols: usize = protocols.iter().map(bytes).sum();
    names.map(|name| name.len()).sum::<usize>() + protocols + 256
}
