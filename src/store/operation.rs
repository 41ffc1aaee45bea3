//! What travels through the commit queue.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use bytes::Bytes;

use super::CommitListener;
use super::keys::{Generation, ReplicaId};
use super::replica::Replica;
use super::rows::{ReplicaRow, Segment};
use crate::error::StoreError;
use crate::types::{Offset, Timestamp, TopicId};

/// What a queued operation costs beside its record bytes.
const OVERHEAD: usize = 160;

/// One record batch as it will be served. The tail cache and the commit queue share it.
#[derive(Debug)]
pub struct StoredBatch {
    /// Its first offset.
    pub base_offset: Offset,
    /// Its end offset, exclusive.
    pub end_offset: Offset,
    /// Its largest timestamp.
    pub max_timestamp: Timestamp,
    /// The wall clock when it was appended.
    pub appended: Timestamp,
    /// Its bytes, with base offset and leader epoch in place.
    pub bytes: Bytes,
}

impl StoredBatch {
    /// What the batch costs in memory, about.
    pub fn cost(&self) -> usize {
        self.bytes.len() + OVERHEAD
    }
}

/// The producer state of everything below an offset.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Snapshot {
    /// Batches below this offset are in the state.
    pub at: Offset,
    /// The state as the log encodes it; empty when no producer is known.
    pub state: Vec<u8>,
}

/// What goes with an append now and then.
#[derive(Debug, Default)]
pub struct AppendExtras {
    /// The batch starts this segment.
    pub segment: Option<Segment>,
    /// A producer snapshot of what is before the batch.
    pub snapshot: Option<Snapshot>,
    /// The leader epochs including the batch's, when it starts one.
    pub epochs: Option<Vec<u8>>,
    /// The write-ahead log is synced within so many milliseconds (`flush.ms`).
    pub flush_ms: Option<u64>,
}

impl AppendExtras {
    fn cost(&self) -> usize {
        self.snapshot.as_ref().map_or(0, |snapshot| snapshot.state.len()) + self.epochs.as_ref().map_or(0, Vec::len)
    }

    /// Boxed when there is anything.
    pub fn into_option(self) -> Option<Box<Self>> {
        let Self { segment, snapshot, epochs, flush_ms } = &self;
        let nothing = segment.is_none() && snapshot.is_none() && epochs.is_none() && flush_ms.is_none();
        (!nothing).then(|| Box::new(self))
    }
}

/// One append.
pub struct Append {
    /// To which replica.
    pub replica: Arc<Replica>,
    /// What.
    pub batch: Arc<StoredBatch>,
    /// True when the append is published only after the next sync of the write-ahead log.
    pub sync: bool,
    /// Rarely something.
    pub extras: Option<Box<AppendExtras>>,
    /// Who is told.
    pub listener: Arc<dyn CommitListener>,
}

impl Append {
    /// What it costs in memory, about.
    pub fn cost(&self) -> usize {
        self.batch.cost() + self.extras.as_ref().map_or(0, |extras| extras.cost())
    }
}

/// How the answer to a request travels back to a waiting thread.
pub type Answer<T> = SyncSender<Result<T, StoreError>>;

/// A change of a replica's row, or of what of it is alive.
#[derive(Debug)]
pub enum Change {
    /// Everything below the offset is dropped.
    LogStart {
        /// The new log start offset.
        to: Offset,
        /// A producer snapshot, when the newest one would be below the new start.
        snapshot: Option<Snapshot>,
    },
    /// The high watermark is noted, and a producer snapshot when there is news.
    Checkpoint {
        /// The high watermark.
        high_watermark: Offset,
        /// The newest producer state.
        snapshot: Option<Snapshot>,
    },
    /// Everything from the offset on is cut away.
    Truncate {
        /// The new end offset: the base offset of a batch, or the end.
        to: Offset,
        /// The leader epochs that remain.
        epochs: Vec<u8>,
    },
    /// The rows of dead spans go, a slice of them; the store's own, behind what made them die.
    DropDead,
}

impl Change {
    fn cost(&self) -> usize {
        match self {
            Self::LogStart { snapshot, .. } | Self::Checkpoint { snapshot, .. } => {
                snapshot.as_ref().map_or(0, |snapshot| snapshot.state.len())
            }
            Self::Truncate { epochs, .. } => epochs.len(),
            Self::DropDead => 0,
        }
    }
}

/// One entry of the commit queue.
pub enum Operation {
    /// Appends a batch.
    Append(Append),
    /// Changes a replica.
    Change {
        /// Which.
        replica: Arc<Replica>,
        /// How.
        change: Change,
        /// Who waits for it, if anyone.
        answer: Option<Answer<()>>,
    },
    /// Makes replicas.
    Create {
        /// Of which partitions.
        partitions: Vec<(TopicId, i32)>,
        /// The version of the image that wants them.
        version: u64,
        /// Who waits.
        answer: Answer<Vec<ReplicaRow>>,
    },
    /// Forgets a replica and everything in it.
    Delete {
        /// Which.
        replica: ReplicaId,
        /// The version of the image that has its topic no more.
        version: u64,
        /// Who waits.
        answer: Answer<()>,
    },
    /// Sets rows of `local`.
    Local {
        /// Keys and values.
        rows: Vec<(&'static str, String)>,
        /// Who waits; answered after a sync.
        answer: Answer<()>,
    },
    /// Answered when everything that was queued before it is done.
    Pass {
        /// Who waits.
        answer: Answer<()>,
    },
    /// The files of these generations are gone: their rows may go too.
    Forget(Vec<Generation>),
}

impl Operation {
    /// What the operation counts for in the queue's limit and in one commit's size.
    pub fn cost(&self) -> usize {
        match self {
            Self::Append(append) => append.cost(),
            Self::Change { change, .. } => OVERHEAD + change.cost(),
            Self::Delete { .. } | Self::Create { .. } => OVERHEAD,
            Self::Local { .. } | Self::Forget(_) | Self::Pass { .. } => OVERHEAD,
        }
    }
}
