//! Shell. What openraft stores and applies: its log and vote in the metadata store, its state machine the image.
//!
//! The image lives in memory and is made anew at each start from the snapshot and the entries after it; the snapshot
//! is the image told as records. Writes go to a blocking thread, since each waits for the disk. Nothing here decides:
//! entries are folded by `apply` and shown by `published`.
#![expect(clippy::result_large_err, reason = "openraft's error, as its traits want it")]

use std::collections::VecDeque;
use std::fmt;
use std::io::Cursor;
use std::ops::{Bound, RangeBounds};
use std::str::FromStr;
use std::sync::Arc;

use openraft::storage::{LogFlushed, RaftLogStorage, RaftStateMachine};
use openraft::{
    AnyError, EntryPayload, LogId, LogState, OptionalSend, RaftLogReader, RaftSnapshotBuilder, Snapshot, SnapshotMeta,
    StorageError, StorageIOError, StoredMembership, Vote,
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::apply::{apply, to_records};
use super::image::MetadataImage;
use super::published::Published;
use super::record::{self, Record};
use crate::error::StoreError;
use crate::store::metadata::{Entry as StoredEntry, MetadataStore, Slot};
use crate::types::NodeId;

openraft::declare_raft_types!(
    /// openraft's types, ours filled in.
    pub TypeConfig:
        D = Vec<Record>,
        R = (),
        NodeId = Member,
        Node = openraft::EmptyNode,
);

type Result<T> = std::result::Result<T, StorageError<Member>>;
type Meta = SnapshotMeta<Member, openraft::EmptyNode>;

/// A voter: a node and the directory in which it keeps its vote. A node with a new disk is a new voter, so that no
/// voter can forget a vote and cast it twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Member {
    /// `node.id`.
    pub node: NodeId,
    /// Drawn when the directory was first used.
    pub directory: Uuid,
}

impl Default for Member {
    fn default() -> Self {
        Self { node: NodeId(0), directory: Uuid::nil() }
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.node, self.directory)
    }
}

impl From<Member> for String {
    fn from(member: Member) -> Self {
        member.to_string()
    }
}

impl FromStr for Member {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let wrong = || format!("'{text}' is no member: NODE@DIRECTORY is expected");
        let (node, directory) = text.split_once('@').ok_or_else(wrong)?;
        Ok(Self {
            node: NodeId(node.parse().map_err(|_| wrong())?),
            directory: directory.parse().map_err(|_| wrong())?,
        })
    }
}

impl TryFrom<String> for Member {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        text.parse()
    }
}

fn cause(error: &StoreError) -> AnyError {
    AnyError::new(error)
}

fn reading(error: &StoreError) -> StorageError<Member> {
    StorageIOError::read(cause(error)).into()
}

/// A write, on a thread that may wait for the disk.
async fn write<F>(store: &Arc<MetadataStore>, work: F) -> Result<()>
where
    F: FnOnce(&MetadataStore) -> std::result::Result<(), StoreError> + Send + 'static,
{
    let store = store.clone();
    match tokio::task::spawn_blocking(move || work(&store)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(StorageIOError::write(cause(&error)).into()),
        Err(error) => Err(StorageIOError::write(AnyError::new(&error)).into()),
    }
}

fn read<T: serde::de::DeserializeOwned>(store: &MetadataStore, slot: Slot) -> Result<Option<T>> {
    let bytes = store.get(slot).map_err(|error| reading(&error))?;
    bytes.map(|bytes| record::decode(&bytes)).transpose().map_err(|error| reading(&error))
}

fn entry((_, bytes): &StoredEntry) -> Result<openraft::Entry<TypeConfig>> {
    record::decode(bytes).map_err(|error| reading(&error))
}

/// Entries that stay in memory after they are written.
const TAIL_ENTRIES: usize = 64;
/// Records in those entries, beyond which only the last entry stays.
const TAIL_RECORDS: usize = 20_000;

/// The raft log and the vote.
#[derive(Clone)]
pub struct RaftLog {
    store: Arc<MetadataStore>,
    tail: Arc<Mutex<Tail>>,
}

/// The entries written last. What is written is applied next: without them each change would read the store, whose files
/// hold the snapshot beside the log, megabytes with many topics.
#[derive(Default)]
struct Tail {
    entries: VecDeque<openraft::Entry<TypeConfig>>,
    records: usize,
}

fn records_of(entry: &openraft::Entry<TypeConfig>) -> usize {
    if let EntryPayload::Normal(records) = &entry.payload { records.len() } else { 0 }
}

impl Tail {
    fn push(&mut self, entry: openraft::Entry<TypeConfig>) {
        self.records += records_of(&entry);
        self.entries.push_back(entry);
        while self.entries.len() > TAIL_ENTRIES || (self.records > TAIL_RECORDS && self.entries.len() > 1) {
            self.drop_first();
        }
    }

    fn drop_first(&mut self) {
        if let Some(first) = self.entries.pop_front() {
            self.records -= records_of(&first);
        }
    }

    fn purge_to(&mut self, index: u64) {
        while self.entries.front().is_some_and(|first| first.log_id.index <= index) {
            self.drop_first();
        }
    }

    fn truncate_from(&mut self, index: u64) {
        while self.entries.back().is_some_and(|last| last.log_id.index >= index) {
            let last = self.entries.pop_back().expect("there is one");
            self.records -= records_of(&last);
        }
    }

    /// The entries from `from` to before `end`, if that is the tail's to say.
    fn range(&self, from: u64, end: u64) -> Option<Vec<openraft::Entry<TypeConfig>>> {
        let first = self.entries.front()?.log_id.index;
        let within = |entry: &&openraft::Entry<TypeConfig>| (from..end).contains(&entry.log_id.index);
        (from >= first).then(|| self.entries.iter().filter(within).cloned().collect())
    }
}

impl RaftLog {
    /// The log in this store.
    pub fn new(store: Arc<MetadataStore>) -> Self {
        Self { store, tail: Arc::default() }
    }
}

impl RaftLogReader<TypeConfig> for RaftLog {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + fmt::Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<openraft::Entry<TypeConfig>>> {
        let from = match range.start_bound() {
            Bound::Included(&from) => from,
            Bound::Excluded(&from) => from.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(&end) => end.saturating_add(1),
            Bound::Excluded(&end) => end,
            Bound::Unbounded => u64::MAX,
        };
        if let Some(entries) = self.tail.lock().range(from, end) {
            return Ok(entries);
        }
        let stored = self.store.entries(from, end).map_err(|error| reading(&error))?;
        stored.iter().map(entry).collect()
    }
}

impl RaftLogStorage<TypeConfig> for RaftLog {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>> {
        let purged: Option<LogId<Member>> = read(&self.store, Slot::Purged)?;
        let last = self.store.last_entry().map_err(|error| reading(&error))?;
        let last = last.as_ref().map(entry).transpose()?.map(|entry| entry.log_id);
        Ok(LogState { last_purged_log_id: purged, last_log_id: last.or(purged) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote<Member>) -> Result<()> {
        let bytes = record::encode(vote);
        write(&self.store, move |store| store.put(&[(Slot::Vote, &bytes)])).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote<Member>>> {
        read(&self.store, Slot::Vote)
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<TypeConfig>) -> Result<()>
    where
        I: IntoIterator<Item = openraft::Entry<TypeConfig>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<_> = entries.into_iter().collect();
        let stored: Vec<_> = entries.iter().map(|entry| (entry.log_id.index, record::encode(entry))).collect();
        write(&self.store, move |store| store.append(&stored)).await?;
        let mut tail = self.tail.lock();
        entries.into_iter().for_each(|entry| tail.push(entry));
        drop(tail);
        callback.log_io_completed(Ok(()));
        Ok(())
    }

    async fn truncate(&mut self, log_id: LogId<Member>) -> Result<()> {
        self.tail.lock().truncate_from(log_id.index);
        write(&self.store, move |store| store.truncate_from(log_id.index)).await
    }

    async fn purge(&mut self, log_id: LogId<Member>) -> Result<()> {
        let marker = record::encode(&log_id);
        self.tail.lock().purge_to(log_id.index);
        write(&self.store, move |store| store.purge_to(log_id.index, &marker)).await
    }
}

/// The image, and how far it is.
pub struct StateMachine {
    state: State,
    published: Arc<Published>,
}

/// What a snapshot is taken of.
#[derive(Clone)]
pub struct State {
    store: Arc<MetadataStore>,
    image: Arc<MetadataImage>,
    applied: Option<LogId<Member>>,
    membership: StoredMembership<Member, openraft::EmptyNode>,
}

impl StateMachine {
    /// The state of the store's snapshot; the log's entries follow by `apply`.
    pub fn load(store: Arc<MetadataStore>, published: Arc<Published>) -> std::result::Result<Self, StoreError> {
        let empty = State {
            store: store.clone(),
            image: Arc::default(),
            applied: None,
            membership: StoredMembership::default(),
        };
        let bytes = (store.get(Slot::SnapshotMeta)?, store.get(Slot::Snapshot)?);
        let state = match bytes {
            (Some(meta), Some(snapshot)) => empty.restored(&record::decode(&meta)?, &snapshot)?,
            _ => empty,
        };
        Ok(Self { state, published })
    }
}

impl State {
    fn restored(self, meta: &Meta, snapshot: &[u8]) -> std::result::Result<Self, StoreError> {
        let records: Vec<Record> = record::decode(snapshot)?;
        let version = meta.last_log_id.map_or(0, |id| id.index);
        Ok(Self {
            image: Arc::new(apply(&MetadataImage::default(), version, &records)),
            applied: meta.last_log_id,
            membership: meta.last_membership.clone(),
            ..self
        })
    }

    fn meta(&self) -> Meta {
        let id = self.applied.map_or_else(|| "empty".to_owned(), |id| id.to_string());
        Meta { last_log_id: self.applied, last_membership: self.membership.clone(), snapshot_id: id }
    }
}

impl RaftSnapshotBuilder<TypeConfig> for State {
    async fn build_snapshot(&mut self) -> Result<Snapshot<TypeConfig>> {
        let meta = self.meta();
        let snapshot = record::encode(&to_records(&self.image));
        save(&self.store, &meta, snapshot.clone()).await?;
        Ok(Snapshot { meta, snapshot: Box::new(Cursor::new(snapshot)) })
    }
}

async fn save(store: &Arc<MetadataStore>, meta: &Meta, snapshot: Vec<u8>) -> Result<()> {
    let meta = record::encode(meta);
    write(store, move |store| store.put(&[(Slot::SnapshotMeta, &meta), (Slot::Snapshot, &snapshot)])).await
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotBuilder = State;

    async fn applied_state(
        &mut self,
    ) -> Result<(Option<LogId<Member>>, StoredMembership<Member, openraft::EmptyNode>)> {
        Ok((self.state.applied, self.state.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<()>>
    where
        I: IntoIterator<Item = openraft::Entry<TypeConfig>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut answers = Vec::new();
        let mut image = (*self.state.image).clone();
        for entry in entries {
            self.state.applied = Some(entry.log_id);
            let records = match entry.payload {
                EntryPayload::Normal(records) => records,
                EntryPayload::Blank => Vec::new(),
                EntryPayload::Membership(membership) => {
                    self.state.membership = StoredMembership::new(Some(entry.log_id), membership);
                    Vec::new()
                }
            };
            image = apply(&image, entry.log_id.index, &records);
            answers.push(());
        }
        self.show(image).await?;
        Ok(answers)
    }

    async fn get_snapshot_builder(&mut self) -> State {
        self.state.clone()
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Cursor<Vec<u8>>>> {
        Ok(Box::default())
    }

    async fn install_snapshot(&mut self, meta: &Meta, snapshot: Box<Cursor<Vec<u8>>>) -> Result<()> {
        let snapshot = snapshot.into_inner();
        let restored = self.state.clone().restored(meta, &snapshot).map_err(|error| reading(&error))?;
        save(&self.state.store, meta, snapshot).await?;
        let image = (*restored.image).clone();
        self.state = restored;
        self.show(image).await
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<TypeConfig>>> {
        let meta = read(&self.state.store, Slot::SnapshotMeta)?;
        let snapshot = self.state.store.get(Slot::Snapshot).map_err(|error| reading(&error))?;
        Ok(meta.zip(snapshot).map(|(meta, bytes)| Snapshot { meta, snapshot: Box::new(Cursor::new(bytes)) }))
    }
}

impl StateMachine {
    async fn show(&mut self, image: MetadataImage) -> Result<()> {
        self.state.image = Arc::new(image);
        let shown = self.published.publish(self.state.image.clone()).await;
        shown.map_err(|error| StorageIOError::write_state_machine(cause(&error)).into())
    }
}

#[cfg(test)]
mod tests {
    use openraft::testing::{StoreBuilder, Suite};

    use super::*;

    /// The suite counts its nodes.
    impl From<u64> for Member {
        fn from(number: u64) -> Self {
            Self { node: NodeId(i32::try_from(number).unwrap()), directory: Uuid::nil() }
        }
    }

    struct OnDisk;

    impl StoreBuilder<TypeConfig, RaftLog, StateMachine, tempfile::TempDir> for OnDisk {
        async fn build(&self) -> Result<(tempfile::TempDir, RaftLog, StateMachine)> {
            let dir = tempfile::tempdir().unwrap();
            let store = MetadataStore::open(dir.path()).unwrap();
            let machine = StateMachine::load(store.clone(), Arc::default()).unwrap();
            Ok((dir, RaftLog::new(store), machine))
        }
    }

    #[test]
    fn the_store_passes_openrafts_own_suite() {
        Suite::test_all(OnDisk).unwrap();
    }

    fn entry_of(index: u64, records: Vec<Record>) -> openraft::Entry<TypeConfig> {
        let log_id = LogId::new(openraft::CommittedLeaderId::new(1, Member::default()), index);
        openraft::Entry { log_id, payload: EntryPayload::Normal(records) }
    }

    #[test]
    fn the_tail_tells_what_it_has_and_nothing_else() {
        let mut tail = Tail::default();
        let told = |tail: &Tail, from, end| -> Option<Vec<u64>> {
            tail.range(from, end).map(|entries| entries.iter().map(|entry| entry.log_id.index).collect())
        };
        assert_eq!(told(&tail, 1, u64::MAX), None);
        (1..=100).for_each(|index| tail.push(entry_of(index, Vec::new())));
        assert_eq!(told(&tail, 36, 40), None);
        assert_eq!(told(&tail, 37, 40), Some(vec![37, 38, 39]));
        assert_eq!(told(&tail, 100, u64::MAX), Some(vec![100]));
        assert_eq!(told(&tail, 101, u64::MAX), Some(Vec::new()));
        tail.truncate_from(99);
        assert_eq!(told(&tail, 97, u64::MAX), Some(vec![97, 98]));
        let large =
            vec![Record::ProducerIds(record::ProducerIdsRecord { broker: NodeId(1), next: 1 }); TAIL_RECORDS + 1];
        tail.push(entry_of(99, large));
        assert_eq!((told(&tail, 98, u64::MAX), told(&tail, 99, u64::MAX)), (None, Some(vec![99])));
        tail.push(entry_of(100, Vec::new()));
        tail.purge_to(99);
        assert_eq!((tail.records, told(&tail, 99, 101), told(&tail, 100, 101)), (0, None, Some(vec![100])));
        tail.truncate_from(1);
        assert_eq!(told(&tail, 100, 101), None);
    }

    #[tokio::test]
    async fn a_snapshot_and_the_entries_behind_it_survive_a_cut_of_the_log() {
        let entries = (1..20).map(|index| {
            let topic = crate::types::TopicId(Uuid::from_u128(u128::from(index)));
            entry_of(index, vec![Record::Topic(record::TopicRecord { id: topic, name: format!("t{index}") })])
        });
        let entries: Vec<_> = entries.collect();
        let dir = tempfile::tempdir().unwrap();
        let store = MetadataStore::open(dir.path()).unwrap();
        let published = Arc::new(Published::default());
        let mut log = RaftLog::new(store.clone());
        let mut machine = StateMachine::load(store.clone(), published.clone()).unwrap();
        openraft::storage::RaftLogStorageExt::blocking_append(&mut log, entries.clone()).await.unwrap();
        machine.apply(entries[..9].to_vec()).await.unwrap();
        machine.get_snapshot_builder().await.build_snapshot().await.unwrap();
        machine.apply(entries[9..].to_vec()).await.unwrap();
        log.purge(entries[5].log_id).await.unwrap();

        let shown = Arc::new(Published::default());
        let mut restarted = StateMachine::load(store, shown.clone()).unwrap();
        let (applied, _) = restarted.applied_state().await.unwrap();
        let rest = log.try_get_log_entries(applied.unwrap().index + 1..).await.unwrap();
        assert_eq!(rest.len(), 10);
        restarted.apply(rest).await.unwrap();
        assert_eq!(*shown.load(), *published.load());
    }

    #[test]
    fn a_member_is_a_node_and_its_directory() {
        let member = Member { node: NodeId(3), directory: Uuid::from_u128(7) };
        assert_eq!(member.to_string().parse(), Ok(member));
        assert!("3".parse::<Member>().is_err() && "x@y".parse::<Member>().is_err());
    }
}
