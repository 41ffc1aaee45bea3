//! Who a log directory belongs to: a node, a cluster, and the metadata that know its topics.
//!
//! Records without their metadata are only bytes that nobody is served. So the directory notes which metadata its replicas
//! were made by, and how new those are: in the commit that makes or deletes replicas, and whenever they change.
//! A start compares before it changes anything (see `controller/origin.rs`).

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use uuid::Uuid;

use super::{ReplicaId, Store, directory, recover};
use crate::error::StoreError;
use crate::types::NodeId;

/// Which metadata made a directory what it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MetadataMark {
    /// The id that the metadata directory drew when it was first used.
    pub metadata: Uuid,
    /// The version of the newest image that was installed here.
    pub version: u64,
}

/// Who a directory belongs to, and how the last run left it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// Where it is.
    pub dir: PathBuf,
    /// The node that wrote it; `None` before [`Store::put_identity`].
    pub node_id: Option<NodeId>,
    /// The cluster it belongs to; `None` before [`Store::put_identity`].
    pub cluster_id: Option<String>,
    /// The directory's own id (KIP-858).
    pub directory_id: Uuid,
    /// The metadata it belongs to; `None` in a new directory, and in one that only older versions have used.
    pub metadata: Option<MetadataMark>,
    /// How many partitions have records here.
    pub replicas: usize,
    /// True when this start found that acknowledged records may be gone ([`super::Recovered::unclean`]).
    pub unclean: bool,
}

impl Store {
    /// Who the directory belongs to.
    pub fn identity(&self) -> Result<Identity, StoreError> {
        let shared = &self.shared;
        let owner = recover::read_owner(&shared.database)?;
        Ok(Identity {
            dir: shared.dir.clone(),
            node_id: owner.node_id,
            cluster_id: owner.cluster_id,
            directory_id: owner.directory_id,
            metadata: owner.metadata,
            replicas: shared.replicas.read().len(),
            unclean: shared.unclean,
        })
    }

    /// Gives a new directory its node and cluster, synced; refuses one that belongs to another, with a sentence.
    /// `metadata` is what replicas are noted to belong to from now on, if anything is noted ([`Store::note_metadata`]).
    pub fn put_identity(&self, node_id: NodeId, cluster_id: &str, metadata: Uuid) -> Result<(), StoreError> {
        let identity = self.identity()?;
        let dir = self.shared.dir.display();
        if let Some(other) = identity.cluster_id.filter(|other| other != cluster_id) {
            return Err(StoreError::new(format!(
                "the log directory {dir} belongs to cluster {other}, not {cluster_id}: set another log.dirs, or the cluster.id that it had"
            )));
        }
        if let Some(other) = identity.node_id.filter(|other| *other != node_id) {
            return Err(StoreError::new(format!(
                "the log directory {dir} belongs to node {other}, not {node_id}: set node.id={other}, or another log.dirs"
            )));
        }
        // A second call says the same: the process has one metadata directory.
        let metadata = *self.shared.metadata.get_or_init(|| metadata);
        let same = identity.metadata.is_some_and(|mark| mark.metadata == metadata);
        self.shared.noted.store(same, Ordering::Release);
        self.put_local(vec![(recover::NODE_ID, node_id.to_string()), (recover::CLUSTER_ID, cluster_id.to_owned())])
    }

    /// Notes that these replicas are to go, synced.
    pub fn note_deletion(&self, replicas: &[ReplicaId]) -> Result<(), StoreError> {
        let numbers: Vec<String> = replicas.iter().map(|replica| replica.0.to_string()).collect();
        self.put_local(vec![(recover::DELETING, numbers.join(" "))])
    }

    /// The replicas that were being deleted last: those of them that are still there, a stop left.
    pub fn was_deleting(&self) -> Result<BTreeSet<ReplicaId>, StoreError> {
        recover::read_deleting(&self.shared.database)
    }

    /// True when the directory has noted the metadata of [`Store::put_identity`] as its own.
    pub fn is_noted(&self) -> bool {
        self.shared.noted.load(Ordering::Acquire)
    }

    /// Notes the metadata of [`Store::put_identity`] as the directory's own, synced. From now on each commit that makes
    /// or deletes replicas says of which version it is.
    pub fn note_metadata(&self, version: u64) -> Result<(), StoreError> {
        let Some(metadata) = self.shared.metadata.get() else { return Ok(()) };
        self.shared.noted.store(true, Ordering::Release);
        self.put_local(MetadataMark { metadata: *metadata, version }.rows().to_vec())
    }

    /// Notes that the controller knows of this start: only now may the next one believe this boot's id, and that nothing
    /// that was lost is left to be told.
    pub fn confirm_boot(&self) -> Result<(), StoreError> {
        self.put_local(vec![(recover::BOOT_ID, directory::boot_id()), (recover::LOSS, recover::TOLD.to_owned())])
    }
}

impl MetadataMark {
    /// As it stands in `local`.
    pub(super) fn rows(&self) -> [(&'static str, String); 2] {
        [(recover::METADATA_ID, self.metadata.to_string()), (recover::METADATA_VERSION, self.version.to_string())]
    }
}
