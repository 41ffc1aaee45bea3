//! Claims about partitions over a real store: what is appended is acknowledged, seen, fetched, and gone with its topic.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use tempfile::TempDir;

use super::fetch::{Fetched, Limits};
use super::fetch_session::{NO_SESSION, TopicRef, Wanted};
use super::partition::{Found, Lookup};
use super::wait::AckWait;
use super::*;
use crate::config::{Machine, Origin, Settings, resolve};
use crate::controller::apply::apply;
use crate::controller::image::CONSUMER_OFFSETS;
use crate::controller::record::{ConfigRecord, PartitionRecord, Record, RemoveTopicRecord, TopicRecord};
use crate::store::StoreOptions;
use crate::types::{LeaderEpoch, Offset, PartitionEpoch, ProducerEpoch, ProducerId, Timestamp};
use crate::wire::batch::{BatchBuilder, BatchHeader, ProducedBatch};

const NODE: NodeId = NodeId(1);
const HOUR: u64 = 3_600_000;

struct House {
    replicas: Arc<Replicas>,
    sessions: Arc<FetchSessions>,
    store: Arc<Store>,
    image: Arc<MetadataImage>,
}

impl House {
    fn open(dir: &Path, options: StoreOptions) -> Self {
        Self::with_settings(dir, options, &Settings::default())
    }

    fn with_settings(dir: &Path, options: StoreOptions, settings: &Settings) -> Self {
        let (store, _) = Store::open(dir, options).unwrap();
        store.put_identity(NODE, "alpha", uuid::Uuid::from_u128(77)).unwrap();
        Self::over(store, settings)
    }

    fn over(store: Arc<Store>, settings: &Settings) -> Self {
        let config = Arc::new(resolve(settings, &Machine::default()).unwrap().config);
        let replicas = Replicas::start(&config, &store, &Metrics::new(std::iter::empty()));
        Self { replicas, sessions: FetchSessions::new(10), store, image: Arc::default() }
    }

    fn apply(&mut self, records: &[Record]) {
        self.image = Arc::new(apply(&self.image, self.image.version + 1, records));
        self.replicas.install(&self.image);
    }

    fn create(&mut self, name: &str, number: u128, partitions: i32) {
        let id = topic_id(number);
        let mut records = vec![Record::Topic(TopicRecord { id, name: name.to_owned() })];
        records.extend((0..partitions).map(|index| Record::Partition(led_by(id, index, NODE, 0))));
        self.apply(&records);
    }

    fn partition(&self, index: i32) -> Arc<Partition> {
        self.replicas.partition("t", index).unwrap()
    }

    fn full(&self, min_bytes: usize, indices: &[i32], keep: bool) -> fetch::Fetching {
        let mut fetching = self.sessions.full(&self.replicas, false, keep, limits(min_bytes));
        for index in indices {
            fetching.want(TopicRef::Name("t"), *index, wanted(0));
        }
        fetching
    }

    async fn read(&self, index: i32, from: i64) -> Fetched {
        let mut fetching = self.sessions.full(&self.replicas, false, false, limits(0));
        fetching.want(TopicRef::Name("t"), index, wanted(from));
        done(fetching).await
    }
}

/// A store in a directory of its own, and a topic `t` of three partitions.
fn house() -> (TempDir, House) {
    let dir = TempDir::new().unwrap();
    let mut house = House::open(dir.path(), StoreOptions::default());
    house.create("t", 7, 3);
    (dir, house)
}

fn topic_id(number: u128) -> TopicId {
    TopicId(uuid::Uuid::from_u128(number))
}

fn led_by(topic: TopicId, index: i32, leader: NodeId, epoch: i32) -> PartitionRecord {
    PartitionRecord {
        topic,
        index,
        replicas: vec![NODE],
        isr: vec![NODE],
        leader,
        leader_epoch: LeaderEpoch(epoch),
        partition_epoch: PartitionEpoch(epoch),
    }
}

fn limits(min_bytes: usize) -> Limits {
    Limits { min_bytes, max_bytes: 1 << 20, deadline: env::tick().plus_ms(HOUR) }
}

fn wanted(offset: i64) -> Wanted {
    Wanted {
        fetch_offset: Offset(offset),
        max_bytes: 1 << 20,
        current_leader_epoch: LeaderEpoch::UNKNOWN,
        last_fetched_epoch: LeaderEpoch::UNKNOWN,
    }
}

fn batch(values: &[&str]) -> ProducedBatch {
    filled(BatchBuilder::new(), values)
}

fn filled(mut builder: BatchBuilder, values: &[&str]) -> ProducedBatch {
    for (value, time) in values.iter().zip(1_000..) {
        builder.append(Timestamp(time), None, Some(value.as_bytes()), &[]);
    }
    builder.build()
}

async fn append(partition: &Arc<Partition>, batch: ProducedBatch) -> i64 {
    let appended = partition.append(batch, Acks::All).unwrap();
    partition.wait_high_watermark(appended.end_offset).await.unwrap();
    appended.base_offset.get()
}

async fn done(mut fetching: fetch::Fetching) -> Fetched {
    if !fetching.look() {
        fetching.wait().await;
    }
    fetching.finish()
}

/// The one partition of an answer: its number, error, and the base offsets of its batches.
fn only(fetched: &Fetched) -> (i32, ErrorCode, Vec<i64>) {
    let [(_, partitions)] = &fetched.topics[..] else { panic!("one topic, not {:?}", fetched.topics) };
    let [(index, answer)] = &partitions[..] else { panic!("one partition, not {partitions:?}") };
    (*index, answer.error, base_offsets(&answer.records))
}

fn base_offsets(records: &[Bytes]) -> Vec<i64> {
    let mut offsets = Vec::new();
    for piece in records {
        let mut rest = &piece[..];
        while let Some(header) = BatchHeader::parse(rest) {
            offsets.push(header.base_offset.get());
            rest = &rest[header.size()..];
        }
    }
    offsets
}

#[tokio::test]
async fn what_is_acknowledged_can_be_fetched() {
    let (_dir, house) = house();
    let partition = house.partition(0);
    assert_eq!(append(&partition, batch(&["a", "b"])).await, 0);
    assert_eq!(append(&partition, batch(&["c"])).await, 2);
    assert_eq!((partition.high_watermark(), partition.log_end_offset()), (Offset(3), Offset(3)));
    assert_eq!(only(&house.read(0, 0).await), (0, ErrorCode::NONE, vec![0, 2]));
    assert_eq!(only(&house.read(0, 1).await), (0, ErrorCode::NONE, vec![0, 2]), "the batch that holds the offset");
    assert_eq!(only(&house.read(0, 3).await), (0, ErrorCode::NONE, vec![]));
}

#[tokio::test]
async fn an_offset_outside_the_log_is_out_of_range() {
    let (_dir, house) = house();
    append(&house.partition(0), batch(&["a"])).await;
    for offset in [-5, 2, 1 << 62] {
        assert_eq!(only(&house.read(0, offset).await).1, ErrorCode::OFFSET_OUT_OF_RANGE, "{offset}");
    }
}

#[tokio::test]
async fn acks_of_the_leader_wait_for_the_commit_too() {
    let (_dir, house) = house();
    let wait = AckWait::new(1);
    let appended =
        house.partition(0).append_and_wait(batch(&["a"]), Acks::Leader, Timestamp(0), Some((&wait, 0))).unwrap();
    wait.decided().await;
    assert_eq!(wait.outcome(0), Some(ErrorCode::NONE));
    assert!(house.partition(0).log_end_offset() >= appended.end_offset);
}

#[tokio::test]
async fn a_repeated_batch_joins_the_wait_of_the_first() {
    let (_dir, house) = house();
    let partition = house.partition(0);
    let idempotent = |sequence| filled(BatchBuilder::new().producer(ProducerId(5), ProducerEpoch(0), sequence), &["a"]);
    let wait = AckWait::new(3);
    let appends: Vec<_> = [0, 1, 0]
        .into_iter()
        .enumerate()
        .map(|(place, sequence)| {
            partition.append_and_wait(idempotent(sequence), Acks::All, Timestamp(0), Some((&wait, place))).unwrap()
        })
        .collect();
    assert_eq!(appends.iter().map(|a| a.base_offset.get()).collect::<Vec<_>>(), [0, 1, 0]);
    assert!(appends[2].duplicate && !appends[1].duplicate);
    wait.decided().await;
    assert!((0..3).all(|place| wait.outcome(place) == Some(ErrorCode::NONE)));
    assert_eq!(partition.append(idempotent(7), Acks::All), Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER));
    assert_eq!(partition.log_end_offset(), Offset(2));
}

#[tokio::test]
async fn a_fetch_that_waits_is_woken_by_an_append() {
    let (_dir, house) = house();
    let mut fetching = house.full(1, &[0, 1, 2], false);
    assert!(!fetching.look());
    let partition = house.partition(1);
    let (fetched, _) = tokio::join!(done(fetching), append(&partition, batch(&["a"])));
    let partitions = &fetched.topics[0].1;
    assert_eq!(partitions.len(), 3, "a fetch without a session answers all");
    let sizes: Vec<usize> = partitions.iter().map(|(_, answer)| answer.records.len()).collect();
    assert_eq!(sizes, [0, 1, 0], "in the order of the request");
    assert_eq!(fetched.session_id, NO_SESSION);
}

#[tokio::test]
async fn a_fetch_waits_for_as_many_bytes_as_it_asked_for() {
    let (_dir, house) = house();
    let one = batch(&["a"]).bytes.len();
    let mut fetching = house.full(2 * one, &[0, 1], false);
    append(&house.partition(0), batch(&["a"])).await;
    assert!(!fetching.look());
    append(&house.partition(1), batch(&["b"])).await;
    let fetched = done(fetching).await;
    let bytes: usize = fetched.topics[0].1.iter().map(|(_, answer)| answer.bytes()).sum();
    assert_eq!(bytes, 2 * one);
}

#[tokio::test]
async fn a_fetch_whose_limit_lets_no_more_through_does_not_wait_for_more() {
    let (_dir, house) = house();
    let one = batch(&["a"]).bytes.len();
    append(&house.partition(0), batch(&["a"])).await;
    append(&house.partition(0), batch(&["b"])).await;
    // It waits for as much as it may carry of the partition, which is not a whole number of batches.
    let mut fetching = house.sessions.full(&house.replicas, false, false, limits(2 * one - 1));
    let most = i32::try_from(2 * one - 1).unwrap();
    fetching.want(TopicRef::Name("t"), 0, Wanted { max_bytes: most, ..wanted(0) });
    assert!(fetching.look(), "there is more than fits");
    assert_eq!(only(&fetching.finish()), (0, ErrorCode::NONE, vec![0]));
    // All there is, and less than it waits for: it waits.
    let mut fetching = house.full(2 * one + 1, &[0], false);
    assert!(!fetching.look());
}

#[tokio::test]
async fn a_session_answers_only_what_is_new() {
    let (_dir, house) = house();
    let mut first = house.full(0, &[0, 1, 2], true);
    assert!(first.look());
    let first = first.finish();
    assert_ne!(first.session_id, NO_SESSION);
    assert_eq!(first.topics[0].1.len(), 3);

    append(&house.partition(2), batch(&["a"])).await;
    let next = house.sessions.incremental(&house.replicas, (first.session_id, 1), false, limits(1)).unwrap();
    let fetched = done(next).await;
    assert_eq!(only(&fetched), (2, ErrorCode::NONE, vec![0]));

    let mut idle = house.sessions.incremental(&house.replicas, (first.session_id, 2), false, limits(0)).unwrap();
    idle.want(TopicRef::Name("t"), 2, wanted(1));
    assert!(done(idle).await.topics.is_empty());
}

#[tokio::test]
async fn a_waiting_fetch_that_is_dropped_gives_its_session_back() {
    let (_dir, house) = house();
    let id = done(house.full(0, &[0], true)).await.session_id;
    let mut dropped = house.sessions.incremental(&house.replicas, (id, 1), false, limits(1)).unwrap();
    assert!(!dropped.look());
    let busy = house.sessions.incremental(&house.replicas, (id, 2), false, limits(1)).err();
    assert_eq!(busy, Some(ErrorCode::INVALID_FETCH_SESSION_EPOCH));
    drop(dropped);
    append(&house.partition(0), batch(&["a"])).await;
    let next = house.sessions.incremental(&house.replicas, (id, 2), false, limits(1)).unwrap();
    assert_eq!(only(&done(next).await), (0, ErrorCode::NONE, vec![0]));
}

#[tokio::test]
async fn a_fetch_that_is_dropped_while_it_reads_files_gives_its_partitions_back() {
    let dir = TempDir::new().unwrap();
    let mut house = House::open(dir.path(), StoreOptions { tail_cache_bytes: 0, ..StoreOptions::default() });
    house.create("t", 7, 2);
    let id = done(house.full(0, &[0, 1], true)).await.session_id;
    for index in [0, 1] {
        append(&house.partition(index), batch(&["a"])).await;
    }
    let others = house.replicas.cold_reads.acquire_many(u32::try_from(COLD_READS).unwrap()).await.unwrap();
    // Room for both partitions at once.
    let roomy = || Limits { max_bytes: 4 << 20, ..limits(1) };
    let mut dropped = house.sessions.incremental(&house.replicas, (id, 1), false, roomy()).unwrap();
    assert!(!dropped.look());
    tokio::select! {
        biased;
        () = dropped.wait() => panic!("others read all that may be read at a time"),
        () = std::future::ready(()) => {}
    }
    drop(dropped);
    drop(others);
    let next = house.sessions.incremental(&house.replicas, (id, 2), false, roomy()).unwrap();
    let fetched = tokio::time::timeout(Duration::from_secs(60), done(next)).await.expect("they are pending");
    let indices: Vec<i32> = fetched.topics[0].1.iter().map(|(index, _)| *index).collect();
    assert_eq!(indices, [0, 1]);
}

#[tokio::test]
async fn a_session_that_forgets_everything_is_closed() {
    let (_dir, house) = house();
    let id = done(house.full(0, &[0], true)).await.session_id;
    let mut last = house.sessions.incremental(&house.replicas, (id, 1), false, limits(1)).unwrap();
    last.forget(TopicRef::Name("t"), 0);
    assert_eq!(done(last).await, Fetched { session_id: NO_SESSION, topics: Vec::new() });
    let gone = house.sessions.incremental(&house.replicas, (id, 2), false, limits(1)).err();
    assert_eq!(gone, Some(ErrorCode::FETCH_SESSION_ID_NOT_FOUND));
}

#[tokio::test]
async fn the_first_batch_is_answered_however_large() {
    let (_dir, house) = house();
    let large = "x".repeat(5_000);
    for index in [0, 1] {
        append(&house.partition(index), batch(&[&large])).await;
    }
    let tight = Limits { max_bytes: 100, ..limits(1) };
    let mut fetching = house.sessions.full(&house.replicas, false, false, tight);
    for index in [0, 1] {
        fetching.want(TopicRef::Name("t"), index, wanted(0));
    }
    let fetched = done(fetching).await;
    let counts: Vec<usize> = fetched.topics[0].1.iter().map(|(_, answer)| answer.records.len()).collect();
    assert_eq!(counts, [1, 0]);
}

#[tokio::test]
async fn batches_that_left_the_tail_cache_are_read_from_files() {
    let dir = TempDir::new().unwrap();
    let mut house = House::open(dir.path(), StoreOptions { tail_cache_bytes: 0, ..StoreOptions::default() });
    house.create("t", 7, 1);
    let partition = house.partition(0);
    for value in ["a", "b", "c"] {
        append(&partition, batch(&[value])).await;
    }
    assert_eq!(only(&house.read(0, 1).await), (0, ErrorCode::NONE, vec![1, 2]));
    let blocking = tokio::task::spawn_blocking(move || partition.read_blocking(Offset(0), 1)).await.unwrap().unwrap();
    assert_eq!(base_offsets(&blocking), [0], "one batch at least, and no more than asked for");
}

#[tokio::test]
async fn retention_moves_the_log_start_and_whoever_reads_below_it_is_told() {
    let (_dir, house) = house();
    let partition = house.partition(0);
    append(&partition, batch(&["a", "b"])).await;
    let sweep = |now: i64| {
        let partition = Arc::clone(&partition);
        tokio::task::spawn_blocking(move || partition.delete_expired(Timestamp(now)))
    };
    let week = 7 * 24 * 3_600_000;
    sweep(week + 1_001).await.unwrap();
    assert_eq!(partition.log_start_offset(), Offset(0), "the last record is of 1001");
    sweep(week + 1_002).await.unwrap();
    assert_eq!((partition.log_start_offset(), partition.log_end_offset()), (Offset(2), Offset(2)));
    assert_eq!(only(&house.read(0, 0).await).1, ErrorCode::OFFSET_OUT_OF_RANGE);
    assert_eq!(append(&partition, batch(&["c"])).await, 2);
}

#[tokio::test]
async fn on_a_nearly_full_disk_produce_is_refused_and_reading_goes_on() {
    let dir = TempDir::new().unwrap();
    let mut house = House::open(dir.path(), StoreOptions::default());
    house.create("t", 7, 1);
    append(&house.partition(0), batch(&["a"])).await;
    let free = house.store.free_bytes().unwrap();
    house.store.close();
    drop(house);
    let reserve_of = |bytes: u64| {
        let mut settings = Settings::default();
        settings.set("ottla.disk.reserve.bytes", &bytes.to_string(), Origin::CommandLine);
        settings
    };
    // Half as much again as there is: below the reserve, but above its half.
    let mut house = House::with_settings(dir.path(), StoreOptions::default(), &reserve_of(free / 2 * 3));
    house.create("t", 7, 1);
    house.create(CONSUMER_OFFSETS, 8, 1);
    let refused = house.partition(0).append(batch(&["b"]), Acks::All).unwrap_err();
    assert_eq!(refused, ErrorCode::KAFKA_STORAGE_ERROR);
    assert_eq!(only(&house.read(0, 0).await), (0, ErrorCode::NONE, vec![0]));
    let commits = house.replicas.partition(CONSUMER_OFFSETS, 0).unwrap();
    assert_eq!(append(&commits, batch(&["c"])).await, 0, "a consumer that drains the disk has to commit");
    house.replicas.space.note(Ok(u64::MAX), dir.path());
    assert_eq!(append(&house.partition(0), batch(&["b"])).await, 1, "space has returned");
}

#[tokio::test]
async fn a_client_of_another_epoch_is_fenced() {
    let (_dir, mut house) = house();
    house.apply(&[Record::Partition(led_by(topic_id(7), 0, NODE, 3))]);
    let partition = house.partition(0);
    append(&partition, batch(&["a"])).await;
    for (epoch, error) in [
        (2, ErrorCode::FENCED_LEADER_EPOCH),
        (3, ErrorCode::NONE),
        (4, ErrorCode::UNKNOWN_LEADER_EPOCH),
        (-1, ErrorCode::NONE),
    ] {
        let mut fetching = house.sessions.full(&house.replicas, false, false, limits(1));
        let wanted = Wanted { current_leader_epoch: LeaderEpoch(epoch), ..wanted(0) };
        fetching.want(TopicRef::Name("t"), 0, wanted);
        assert_eq!(only(&done(fetching).await).1, error, "epoch {epoch}");
        assert_eq!(partition.lookup(Lookup::Latest, LeaderEpoch(epoch)).err(), error.is_error().then_some(error));
    }
    assert_eq!(partition.epoch_end_offset(LeaderEpoch::UNKNOWN, LeaderEpoch(3)), Ok((LeaderEpoch(3), Offset(1))));
}

#[tokio::test]
async fn a_partition_led_elsewhere_refuses_and_its_fetch_is_told() {
    let (_dir, mut house) = house();
    let mut waiting = house.full(1, &[0], false);
    assert!(!waiting.look());
    house.apply(&[Record::Partition(led_by(topic_id(7), 0, NodeId(2), 1))]);
    assert_eq!(only(&done(waiting).await).1, ErrorCode::NOT_LEADER_OR_FOLLOWER);
    let refused = house.partition(0).append(batch(&["a"]), Acks::All);
    assert_eq!(refused, Err(ErrorCode::NOT_LEADER_OR_FOLLOWER));
}

#[tokio::test]
async fn a_topic_made_again_is_another_and_starts_empty() {
    let (_dir, mut house) = house();
    append(&house.partition(0), batch(&["a"])).await;
    let mut waiting = house.full(1, &[1], false);
    assert!(!waiting.look());
    let old = house.partition(0);
    house.apply(&[Record::RemoveTopic(RemoveTopicRecord { id: topic_id(7) })]);
    assert_eq!(house.replicas.partition("t", 0).err(), Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
    assert_eq!(house.replicas.partition_by_id(topic_id(7), 0).err(), Some(ErrorCode::UNKNOWN_TOPIC_ID));
    assert_eq!(old.append(batch(&["b"]), Acks::All), Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
    assert_eq!(only(&done(waiting).await).1, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    assert!(house.store.replicas().is_empty());
    house.create("t", 8, 1);
    assert_eq!(house.partition(0).log_end_offset(), Offset(0));
    assert_eq!(only(&house.read(0, 0).await), (0, ErrorCode::NONE, vec![]));
}

#[tokio::test]
async fn a_start_finds_its_partitions_again_and_drops_only_what_was_being_deleted() {
    let dir = TempDir::new().unwrap();
    let (image, made) = {
        let mut house = House::open(dir.path(), StoreOptions::default());
        house.create("t", 7, 2);
        house.create("gone", 8, 2);
        house.create("unknown", 9, 1);
        append(&house.partition(1), batch(&["a", "b"])).await;
        house.replicas.checkpoint(true);
        // As a crash would leave it: the deletion was noted, and nothing is gone yet.
        let replicas = house.store.replicas();
        let going: Vec<_> = replicas.iter().filter(|row| row.topic == topic_id(8)).map(|row| row.replica).collect();
        house.store.note_deletion(&going).unwrap();
        house.store.close();
        let removed = [8, 9].map(|id| Record::RemoveTopic(RemoveTopicRecord { id: topic_id(id) }));
        (apply(&house.image, 9, &removed), replicas.len())
    };
    assert_eq!(made, 5);
    let house = House::open(dir.path(), StoreOptions::default());
    house.replicas.install(&Arc::new(image));
    let mut left: Vec<_> = house.store.replicas().iter().map(|row| row.topic).collect();
    left.sort();
    assert_eq!(left, [7, 7, 9].map(topic_id), "metadata that do not know a topic may be the wrong ones");
    let mark = house.store.identity().unwrap().metadata;
    let image = Arc::clone(&house.replicas.installed.lock().image);
    house.replicas.install(&Arc::new(apply(&image, 1_000, &[])));
    assert_eq!(house.store.identity().unwrap().metadata, mark, "and must not make the right ones look old");
    let partition = house.partition(1);
    assert_eq!((partition.high_watermark(), partition.log_end_offset()), (Offset(2), Offset(2)));
    assert_eq!(append(&partition, batch(&["c"])).await, 2);
    assert_eq!(only(&house.read(1, 0).await), (1, ErrorCode::NONE, vec![0, 2]));
}

#[tokio::test]
async fn in_a_directory_that_has_not_noted_its_metadata_nothing_is_dropped() {
    let dir = TempDir::new().unwrap();
    // As older versions left it: no metadata are noted.
    let unnoted = || House::over(Store::open(dir.path(), StoreOptions::default()).unwrap().0, &Settings::default());
    let mut house = unnoted();
    house.create("t", 7, 2);
    append(&house.partition(1), batch(&["a"])).await;
    house.store.close();
    let known = Arc::clone(&house.image);
    drop(house);
    for _ in 0..2 {
        // Metadata that know nothing of it, and make a topic of their own.
        let mut house = House::open(dir.path(), StoreOptions::default());
        house.apply(&[]);
        house.create("other", 8, 1);
        assert_eq!(house.store.replicas().len(), 3);
        assert!(!house.store.is_noted(), "or the next start would drop what this one has not");
        house.apply(&[Record::RemoveTopic(RemoveTopicRecord { id: topic_id(8) })]);
        house.store.close();
    }
    let mut house = House::open(dir.path(), StoreOptions::default());
    house.image = known;
    house.apply(&[]);
    assert_eq!(only(&house.read(1, 0).await), (1, ErrorCode::NONE, vec![0]));
    assert!(house.store.is_noted(), "they belong together");
}

#[tokio::test]
async fn times_are_looked_up_in_what_consumers_may_see() {
    let (_dir, house) = house();
    let partition = house.partition(0);
    append(&partition, batch(&["a", "b"])).await;
    let end = |what| match partition.lookup(what, LeaderEpoch::UNKNOWN) {
        Ok(Found::End(offset, _)) => offset.get(),
        _ => panic!("an end of the log"),
    };
    assert_eq!((end(Lookup::Earliest), end(Lookup::Latest)), (0, 2));
    let search = |what| match partition.lookup(what, LeaderEpoch::UNKNOWN) {
        Ok(Found::Search { search, lagging: false }) => search.run().unwrap().map(|found| found.offset.get()),
        _ => panic!("a search"),
    };
    assert_eq!(search(Lookup::Timestamp(Timestamp(0))), Some(0));
    assert_eq!(search(Lookup::Timestamp(Timestamp(1_001))), Some(1));
    assert_eq!(search(Lookup::Timestamp(Timestamp(1_002))), None);
    assert_eq!(search(Lookup::MaxTimestamp), Some(1));
}

#[tokio::test]
async fn a_read_that_fails_is_answered_as_such_and_takes_nothing_else_away() {
    let dir = TempDir::new().unwrap();
    let mut house = House::open(dir.path(), StoreOptions { tail_cache_bytes: 0, ..StoreOptions::default() });
    house.create("t", 7, 1);
    let partition = house.partition(0);
    append(&partition, batch(&["a"])).await;
    let mut damaged = batch(&["b", "b"]);
    let last = damaged.bytes.len() - 1;
    damaged.bytes[last] ^= 1;
    append(&partition, damaged).await;
    append(&partition, batch(&["c"])).await;
    assert_eq!(only(&house.read(0, 0).await), (0, ErrorCode::NONE, vec![0]), "what is before the damage");
    assert_eq!(only(&house.read(0, 1).await), (0, ErrorCode::KAFKA_STORAGE_ERROR, vec![]));
    assert_eq!(only(&house.read(0, 3).await), (0, ErrorCode::NONE, vec![3]), "and what is after it");
    let search = |time| match partition.lookup(Lookup::Timestamp(Timestamp(time)), LeaderEpoch::UNKNOWN) {
        Ok(Found::Search { search, .. }) => search.run().map(|found| found.map(|found| found.offset.get())),
        _ => panic!("a search"),
    };
    assert_eq!(search(1_000), Ok(Some(0)), "before the damage");
    assert!(search(1_001).is_err(), "in it");
    assert_eq!(partition.standing(), Standing::Serving);
    assert_eq!(append(&partition, batch(&["d"])).await, 4);
}

/// Overwrites the middle of the largest file of the store's rows.
fn damage_rows(dir: &Path) {
    let files = std::fs::read_dir(dir.join("rows")).unwrap().map(|entry| entry.unwrap());
    let tables = files.filter(|file| file.path().extension().is_some_and(|kind| kind == "sst"));
    let largest = tables.max_by_key(|file| file.metadata().unwrap().len()).unwrap().path();
    let mut bytes = std::fs::read(&largest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 100].fill(0x55);
    std::fs::write(&largest, bytes).unwrap();
}

#[tokio::test]
async fn retention_that_cannot_read_the_log_leaves_it_in_service() {
    let dir = TempDir::new().unwrap();
    let mut house = House::open(dir.path(), StoreOptions::default());
    // A segment, and so a row, for each batch.
    let (id, key) = (topic_id(7), "internal.segment.bytes".to_owned());
    house.apply(&[
        Record::Topic(TopicRecord { id, name: "t".to_owned() }),
        Record::Partition(led_by(id, 0, NODE, 0)),
        Record::Config(ConfigRecord { topic: id, key, value: Some("1".to_owned()) }),
    ]);
    let partition = house.partition(0);
    for _ in 0..1_000 {
        append(&partition, batch(&["a"])).await;
    }
    // The next start reads no more than this.
    house.replicas.checkpoint(false);
    house.store.close();
    let image = Arc::clone(&house.image);
    drop((partition, house));
    damage_rows(dir.path());
    let mut house = House::open(dir.path(), StoreOptions::default());
    house.image = image;
    house.apply(&[]);
    let partition = house.partition(0);
    let sweeping = Arc::clone(&partition);
    tokio::task::spawn_blocking(move || sweeping.delete_expired(Timestamp(i64::MAX / 2))).await.unwrap();
    assert_eq!((partition.log_start_offset(), partition.standing()), (Offset(0), Standing::Serving));
    assert_eq!(append(&partition, batch(&["b"])).await, 1_000);
    assert_eq!(only(&house.read(0, 1_000).await), (0, ErrorCode::NONE, vec![1_000]));
}

#[tokio::test]
async fn a_leaders_epoch_begins_where_the_log_ended_before_it() {
    let (_dir, mut house) = house();
    let partition = house.partition(0);
    let earliest = |partition: &Partition| match partition.lookup(Lookup::Earliest, LeaderEpoch::UNKNOWN) {
        Ok(Found::End(offset, epoch)) => (offset.get(), epoch.get()),
        _ => panic!("an end of the log"),
    };
    let end_of = |partition: &Partition, epoch| {
        let (epoch, end) = partition.epoch_end_offset(LeaderEpoch::UNKNOWN, LeaderEpoch(epoch)).unwrap();
        (epoch.get(), end.get())
    };
    assert_eq!(earliest(&partition), (0, 0), "an empty log");
    append(&partition, batch(&["a", "b"])).await;
    house.apply(&[Record::Partition(led_by(topic_id(7), 0, NODE, 2))]);
    assert_eq!([end_of(&partition, 0), end_of(&partition, 1), end_of(&partition, 2)], [(0, 2), (0, 2), (2, 2)]);
    append(&partition, batch(&["c"])).await;
    assert_eq!([end_of(&partition, 0), end_of(&partition, 1), end_of(&partition, 2)], [(0, 2), (0, 2), (2, 3)]);
    assert_eq!(end_of(&partition, 3), (-1, -1));
    house.apply(&[Record::Partition(led_by(topic_id(7), 0, NODE, 4))]);
    let sweeping = Arc::clone(&partition);
    tokio::task::spawn_blocking(move || sweeping.delete_expired(Timestamp(i64::MAX / 2))).await.unwrap();
    assert_eq!(earliest(&partition), (3, 4), "all of its records are gone");
    assert_eq!([end_of(&partition, 2), end_of(&partition, 4)], [(2, 3), (4, 3)]);
}

#[tokio::test]
async fn a_failed_store_takes_the_partition_offline_and_answers_who_waits() {
    let (_dir, house) = house();
    let partition = house.partition(0);
    let mut waiting = house.full(1, &[0], false);
    assert!(!waiting.look());
    let ack = partition.wait_high_watermark(Offset(1));
    let fail = async { crate::store::CommitListener::failed(&*partition, &StoreError::new("no space")) };
    let (ack, ()) = tokio::join!(ack, fail);
    assert_eq!(ack, Err(ErrorCode::KAFKA_STORAGE_ERROR));
    assert_eq!(only(&done(waiting).await).1, ErrorCode::KAFKA_STORAGE_ERROR);
    assert_eq!(partition.append(batch(&["a"]), Acks::All), Err(ErrorCode::KAFKA_STORAGE_ERROR));
    assert_eq!(partition.standing(), Standing::Offline);
    assert_eq!(house.partition(1).standing(), Standing::Serving);
}

#[tokio::test]
async fn a_panic_under_the_lock_takes_the_partition_offline() {
    let (_dir, house) = house();
    let partition = house.partition(0);
    // A commit beyond what was appended is our own mistake.
    let panicked = catch_unwind(AssertUnwindSafe(|| crate::store::CommitListener::committed(&*partition, Offset(99))));
    assert!(panicked.is_err());
    assert_eq!(partition.append(batch(&["a"]), Acks::All), Err(ErrorCode::KAFKA_STORAGE_ERROR));
    assert_eq!(house.partition(1).append(batch(&["a"]), Acks::All).map(|a| a.base_offset), Ok(Offset(0)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_append_is_missed_by_a_fetch_that_waits_without_end() {
    let (_dir, house) = house();
    let partition = house.partition(0);
    let producer = tokio::spawn(async move {
        for _ in 0..500 {
            append(&partition, batch(&["a"])).await;
        }
    });
    let id = done(house.full(0, &[0], true)).await.session_id;
    let (mut next, mut epoch) = (0, 1);
    while next < 500 {
        let mut fetching = house.sessions.incremental(&house.replicas, (id, epoch), false, limits(1)).unwrap();
        fetching.want(TopicRef::Name("t"), 0, wanted(next));
        let fetched = tokio::time::timeout(Duration::from_secs(60), done(fetching)).await.expect("it is woken");
        for base in only(&fetched).2 {
            assert_eq!(base, next);
            next += 1;
        }
        epoch += 1;
    }
    producer.await.unwrap();
}

#[test]
fn what_is_due_comes_again_after_its_interval_and_never_without_one() {
    let mut due = Due::new(0, 1_000);
    let first = due.next;
    assert!(due.is_due(first) && !due.is_due(first.plus_ms(999)));
    assert!(due.is_due(first.plus_ms(1_000)));
    let mut never = Due::new(0, 0);
    assert!(!never.is_due(first.plus_ms(HOUR)));
}
