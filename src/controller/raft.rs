//! Shell. The quorum: openraft with its store, one voter so far.
//!
//! A lone voter has nobody to wait for: it leads again at once after a restart, is elected at once on a new disk, and
//! its timers run so seldom that an idle broker does not notice. What is proposed here is durable and applied when
//! `propose` returns.

use std::sync::Arc;
use std::time::Duration;

use openraft::error::{ClientWriteError, InstallSnapshotError, RPCError, RaftError, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse, VoteRequest,
    VoteResponse,
};
use openraft::storage::RaftLogStorage;
use openraft::{Config, EmptyNode, LogId, Raft, RaftNetwork, RaftNetworkFactory, SnapshotPolicy};

use super::published::Published;
use super::raft_log::{Member, RaftLog, StateMachine, TypeConfig};
use super::record::{self, Record};
use crate::env;
use crate::error::{ErrorCode, Refusal, StoreError};
use crate::store::metadata::{MetadataStore, Slot};
use crate::types::NodeId;

/// Three heartbeats. A lone voter waits for nobody: Kafka's keys for quorums (`controller.quorum.*`) have nothing to say here.
const ELECTION_TIMEOUT_MS: u64 = 1_500;
const HEARTBEAT_MS: u64 = 500;
/// After this many entries the image is written down and the log cut.
const SNAPSHOT_ENTRIES: u64 = 256;
/// Entries kept behind the snapshot, for members that are a little late.
const KEPT_ENTRIES: u64 = 64;
/// A lone voter leads within milliseconds; a disk that needs longer than this is not one to start on.
const LEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// The running quorum member.
#[derive(Clone)]
pub struct Quorum {
    raft: Raft<TypeConfig>,
}

/// Who the store belongs to: read, or drawn when the store is new.
pub fn identity(store: &MetadataStore, node: NodeId) -> Result<Member, StoreError> {
    if let Some(bytes) = store.get(Slot::Identity)? {
        let member: Member = record::decode(&bytes)?;
        if member.node == node {
            return Ok(member);
        }
        return Err(StoreError::new(format!(
            "the metadata in {} belongs to node.id={}, but the configuration says node.id={node}: set node.id={} or \
             choose another log.dirs",
            store.dir().display(),
            member.node,
            member.node
        )));
    }
    let member = Member { node, directory: env::random_uuid() };
    store.put(&[(Slot::Identity, &record::encode(&member))])?;
    Ok(member)
}

/// The index of the last entry in the log, the purged ones included; `None` when there never was one.
pub fn last_index(store: &MetadataStore) -> Result<Option<u64>, StoreError> {
    if let Some((index, _)) = store.last_entry()? {
        return Ok(Some(index));
    }
    let purged = store.get(Slot::Purged)?;
    let purged = purged.map(|marker| record::decode::<LogId<Member>>(&marker)).transpose()?;
    Ok(purged.map(|id| id.index))
}

impl Quorum {
    /// Starts the member and returns when it leads and has applied everything that was committed before.
    pub async fn start(
        store: Arc<MetadataStore>,
        member: Member,
        published: Arc<Published>,
    ) -> Result<Self, StoreError> {
        let machine = StateMachine::load(store.clone(), published)?;
        let mut log = RaftLog::new(store);
        let fatal = |error: &dyn std::fmt::Display| StoreError::new(format!("the metadata log cannot start: {error}"));
        let vote = log.read_vote().await.map_err(|error| fatal(&error))?;
        let led = vote.is_some_and(|vote| vote.is_committed() && vote.leader_id().voted_for() == Some(member));
        let config = Arc::new(config().validate().map_err(|error| fatal(&error))?);
        let raft = Raft::new(member, config, NoPeers, log, machine).await.map_err(|error| fatal(&error))?;
        if !raft.is_initialized().await.map_err(|error| fatal(&error))? {
            let voters = std::collections::BTreeMap::from([(member, EmptyNode {})]);
            raft.initialize(voters).await.map_err(|error| fatal(&error))?;
        } else if !led {
            // The timer would do it too, a second later.
            raft.trigger().elect().await.map_err(|error| fatal(&error))?;
        }
        let elected = raft.wait(Some(LEAD_TIMEOUT)).current_leader(member, "a lone voter leads").await;
        elected.map_err(|error| fatal(&error))?;
        let quorum = Self { raft };
        // Its first own entry: once it is applied, so is everything before it.
        quorum.propose(Vec::new()).await.map_err(|refusal| fatal(&refusal.message.unwrap_or_default()))?;
        Ok(quorum)
    }

    /// Writes an entry and waits until it is committed, applied and shown.
    pub async fn propose(&self, records: Vec<Record>) -> Result<(), Refusal> {
        match self.raft.client_write(records).await {
            Ok(_) => Ok(()),
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_))) => Err(ErrorCode::NOT_CONTROLLER.into()),
            Err(error) => {
                tracing::error!("the metadata log has stopped: {error}");
                let sentence = format!("The metadata log of this broker has stopped: {error}");
                Err(Refusal::new(ErrorCode::KAFKA_STORAGE_ERROR, sentence))
            }
        }
    }

    /// Ready when the log has stopped for good: its storage failed, or what applies it did. openraft does not try again.
    pub async fn failed(&self) -> StoreError {
        let mut metrics = self.raft.metrics();
        loop {
            let fatal = metrics.borrow_and_update().running_state.clone().err();
            if let Some(fatal) = fatal {
                return StoreError::new(format!("the metadata log has stopped: {fatal}"));
            }
            if metrics.changed().await.is_err() {
                return StoreError::new("the metadata log has stopped");
            }
        }
    }

    /// Stops. What was proposed and answered is on disk already.
    pub async fn stop(&self) {
        if let Err(error) = self.raft.shutdown().await {
            tracing::error!("the metadata log did not stop in order: {error}");
        }
    }
}

fn config() -> Config {
    Config {
        cluster_name: "ottla".into(),
        heartbeat_interval: HEARTBEAT_MS,
        election_timeout_min: ELECTION_TIMEOUT_MS,
        election_timeout_max: 2 * ELECTION_TIMEOUT_MS,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(SNAPSHOT_ENTRIES),
        max_in_snapshot_log_to_keep: KEPT_ENTRIES,
        ..Config::default()
    }
}

/// The network of a lone voter. There is no wire between controllers yet; a member that is asked for is unreachable.
struct NoPeers;

impl RaftNetworkFactory<TypeConfig> for NoPeers {
    type Network = NoPeer;

    async fn new_client(&mut self, target: Member, _node: &EmptyNode) -> NoPeer {
        NoPeer { target }
    }
}

/// A member that cannot be reached.
struct NoPeer {
    target: Member,
}

type Unanswered<E> = RPCError<Member, EmptyNode, RaftError<Member, E>>;

impl NoPeer {
    fn unreachable<E: std::error::Error>(&self) -> Unanswered<E> {
        let error =
            StoreError::new(format!("controllers do not talk to each other yet, so {} is not there", self.target));
        RPCError::Unreachable(Unreachable::new(&error))
    }
}

impl RaftNetwork<TypeConfig> for NoPeer {
    async fn append_entries(
        &mut self,
        _request: AppendEntriesRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<Member>, Unanswered<openraft::error::Infallible>> {
        Err(self.unreachable())
    }

    async fn install_snapshot(
        &mut self,
        _request: InstallSnapshotRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<InstallSnapshotResponse<Member>, Unanswered<InstallSnapshotError>> {
        Err(self.unreachable())
    }

    async fn vote(
        &mut self,
        _request: VoteRequest<Member>,
        _option: RPCOption,
    ) -> Result<VoteResponse<Member>, Unanswered<openraft::error::Infallible>> {
        Err(self.unreachable())
    }
}
