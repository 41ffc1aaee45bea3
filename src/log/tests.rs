//! The log against a model: a vector of batches. Whatever is appended, truncated, dropped by retention, and across
//! stops of both kinds, a read gives the bytes that were appended, and nothing else.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, channel};

use proptest::prelude::*;

use super::*;
use crate::config::{CleanupPolicy, CompressionType};
use crate::store::{ReplicaId, StoreOptions};
use crate::types::{ProducerEpoch, ProducerId, TopicId};
use crate::wire::batch::{self, BatchBuilder};

struct Heard(parking_lot::Mutex<Sender<Offset>>);

impl CommitListener for Heard {
    fn committed(&self, end: Offset) {
        self.0.lock().send(end).unwrap();
    }

    fn failed(&self, error: &StoreError) {
        panic!("{error}");
    }
}

pub(super) fn topic() -> TopicConfig {
    TopicConfig {
        cleanup_policy: CleanupPolicy { delete: true, compact: false },
        compression_gzip_level: -1,
        compression_lz4_level: 9,
        compression_type: CompressionType::Producer,
        compression_zstd_level: 3,
        flush_messages: i64::MAX,
        flush_ms: i64::MAX,
        max_compaction_lag_ms: i64::MAX,
        max_message_bytes: 1_048_588,
        message_timestamp_after_max_ms: 3_600_000,
        message_timestamp_before_max_ms: i64::MAX,
        message_timestamp_type: TimestampType::CreateTime,
        min_compaction_lag_ms: 0,
        min_insync_replicas: 1,
        retention_bytes: -1,
        retention_ms: -1,
        segment_bytes: 1 << 30,
        segment_jitter_ms: 0,
        segment_ms: i64::MAX,
    }
}

/// A log, its store, and who listens.
struct Bench {
    store: Option<Arc<Store>>,
    log: Option<Log>,
    replica: ReplicaId,
    config: Arc<TopicConfig>,
    listener: Arc<dyn CommitListener>,
    heard: Receiver<Offset>,
    dir: tempfile::TempDir,
}

fn open_store(dir: &Path) -> Arc<Store> {
    let options = StoreOptions { tail_cache_bytes: 20_000, generation_bytes: 64 << 10, queue_bytes: 8 << 20 };
    Store::open(dir, options).unwrap().0
}

impl Bench {
    fn new(config: TopicConfig) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = open_store(dir.path());
        let replica = store.create_replicas(&[(TopicId(uuid::Uuid::from_u128(7)), 0)], 1).unwrap()[0];
        let config = Arc::new(config);
        let log = Log::open(&store, replica, Arc::clone(&config)).unwrap();
        let (sender, heard) = channel();
        let listener: Arc<dyn CommitListener> = Arc::new(Heard(parking_lot::Mutex::new(sender)));
        Self { store: Some(store), log: Some(log), replica, config, listener, heard, dir }
    }

    fn log(&mut self) -> &mut Log {
        self.log.as_mut().unwrap()
    }

    fn epoch_end_offset(&mut self, epoch: LeaderEpoch) -> (LeaderEpoch, Offset) {
        let end = self.log().log_end_offset();
        self.log().leader_epochs().end_offset_for(epoch, end)
    }

    fn push(&mut self, batch: ProducedBatch, epoch: i32, now: i64) -> Result<Appended, ErrorCode> {
        let listener = Arc::clone(&self.listener);
        self.log().append(batch, LeaderEpoch(epoch), Timestamp(now), &listener)
    }

    fn settle(&mut self) {
        while self.log().log_end_offset() < self.log().next_offset() {
            let end = self.heard.recv().unwrap();
            self.log().on_committed(end);
        }
    }

    fn append(&mut self, batch: ProducedBatch, epoch: i32, now: i64) -> Appended {
        let appended = self.push(batch, epoch, now).unwrap();
        self.settle();
        appended
    }

    fn reopen(&mut self, clean: bool) {
        self.log = None;
        let store = self.store.take().unwrap();
        if clean {
            store.close();
        }
        drop(store);
        let store = open_store(self.dir.path());
        self.log = Some(Log::open(&store, self.replica, Arc::clone(&self.config)).unwrap());
        self.store = Some(store);
    }

    /// Waits until the store has carried out what was queued.
    fn catch_up(&mut self) {
        let log = self.log.as_ref().unwrap();
        let nothing = Change::LogStart { to: log.log_start_offset(), snapshot: None };
        self.store.as_ref().unwrap().change_and_wait(&log.replica, nothing).unwrap();
    }

    fn check(&mut self, now: i64, high_watermark: i64) -> Option<RetentionCheck> {
        self.catch_up();
        self.log().retention_check(Timestamp(now), Offset(high_watermark))
    }

    /// Retention, both steps at once: the new log start.
    fn expire(&mut self, now: i64, high_watermark: i64) -> Option<i64> {
        let expired = self.check(now, high_watermark)?.run().unwrap();
        self.log().delete_expired(&expired, Offset(high_watermark)).unwrap().map(Offset::get)
    }

    fn read(&mut self, from: i64, max_bytes: usize) -> Option<Vec<u8>> {
        let end = self.log().log_end_offset();
        let batches = match self.log().read(Offset(from), end, max_bytes, true) {
            Read::Batches(batches) => batches,
            Read::Cold(cold) => cold.run().unwrap(),
            Read::OutOfRange => return None,
        };
        Some(batches.concat())
    }
}

fn batch(count: usize, size: usize, timestamp: i64) -> ProducedBatch {
    let mut builder = BatchBuilder::new();
    for index in 0..count {
        let value = vec![u8::try_from(index % 251).unwrap(); size];
        builder.append(Timestamp(timestamp + i64::try_from(index).unwrap()), None, Some(&value), &[]);
    }
    builder.build()
}

fn sequenced(producer: i64, sequence: i32) -> ProducedBatch {
    let mut builder = BatchBuilder::new().producer(ProducerId(producer), ProducerEpoch(0), sequence);
    builder.append(Timestamp(1), None, Some(b"value"), &[]);
    builder.build()
}

#[derive(Clone, Debug)]
enum Step {
    Append { count: usize, size: usize },
    Read { at: usize, max_bytes: usize },
    Truncate { at: usize },
    AdvanceStart { at: usize },
    Retain { keep: u64 },
    Checkpoint,
    Reopen { clean: bool },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (1..20_usize, 0..3_000_usize).prop_map(|(count, size)| Step::Append { count, size }),
        6 => (0..1_000_usize, 0..60_000_usize).prop_map(|(at, max_bytes)| Step::Read { at, max_bytes }),
        1 => (0..1_000_usize).prop_map(|at| Step::Truncate { at }),
        1 => (0..1_000_usize).prop_map(|at| Step::AdvanceStart { at }),
        1 => (0..200_000_u64).prop_map(|keep| Step::Retain { keep }),
        1 => Just(Step::Checkpoint),
        1 => any::<bool>().prop_map(|clean| Step::Reopen { clean }),
    ]
}

/// What a log should hold: base and end offsets with the bytes between.
#[derive(Default)]
struct Model {
    batches: Vec<(i64, i64, Vec<u8>)>,
    start: i64,
    end: i64,
}

impl Model {
    /// An offset between start and end, scaled from 0..1000.
    fn pick(&self, at: usize) -> i64 {
        self.start + (self.end - self.start) * i64::try_from(at).unwrap() / 1_000
    }

    fn from(&self, offset: i64) -> Vec<u8> {
        self.batches.iter().filter(|(_, end, _)| *end > offset).flat_map(|(_, _, bytes)| bytes.clone()).collect()
    }

    fn truncate(&mut self, to: i64) {
        self.batches.retain(|(_, end, _)| *end <= to);
        let held = self.batches.last().map_or(self.start, |(_, end, _)| (*end).max(self.start));
        // Up to the start of the batch that held the offset.
        self.end = self.end.min(to).min(held.max(self.start)).max(self.start);
    }
}

fn check(bench: &mut Bench, model: &mut Model, step: Step) {
    match step {
        Step::Append { count, size } => {
            let appended = bench.append(batch(count, size, model.end), 0, model.end);
            assert_eq!((appended.base_offset.get(), appended.duplicate), (model.end, false));
            let bytes = bench.read(model.end, usize::MAX).unwrap();
            model.batches.push((model.end, appended.end_offset.get(), bytes));
            model.end = appended.end_offset.get();
        }
        Step::Read { at, max_bytes } => {
            let from = model.pick(at);
            let (expected, found) = (model.from(from), bench.read(from, max_bytes).unwrap());
            assert!(expected.starts_with(&found), "a read from {from} gives other bytes");
            assert_eq!(found.is_empty(), expected.is_empty(), "a read from {from} of {}", model.end);
        }
        Step::Truncate { at } => {
            let to = model.pick(at);
            model.truncate(to);
            bench.log().truncate_to(Offset(to)).unwrap();
        }
        Step::AdvanceStart { at } => {
            model.start = model.pick(at);
            bench.log().advance_log_start(Offset(model.start)).unwrap();
        }
        Step::Retain { keep } => {
            let config =
                TopicConfig { retention_bytes: i64::try_from(keep).unwrap(), segment_bytes: 30_000, ..topic() };
            bench.log().set_config(Arc::new(config));
            if let Some(start) = bench.expire(0, model.end) {
                assert!(start > model.start && start <= model.end);
                model.start = start;
            }
        }
        Step::Checkpoint => {
            let end = bench.log().log_end_offset();
            bench.log().checkpoint(end).unwrap();
        }
        Step::Reopen { clean } => bench.reopen(clean),
    }
    model.batches.retain(|(_, end, _)| *end > model.start);
    assert_eq!(bench.log().log_start_offset().get(), model.start);
    assert_eq!(bench.log().log_end_offset().get(), model.end);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_log_reads_as_what_was_appended_to_it(steps in prop::collection::vec(step(), 1..60)) {
        let (mut bench, mut model) = (Bench::new(topic()), Model::default());
        for step in steps {
            check(&mut bench, &mut model, step);
        }
        bench.reopen(false);
        assert_eq!(bench.read(model.start, usize::MAX).unwrap_or_default(), model.from(model.start));
    }
}

#[test]
fn a_batch_is_stored_as_it_was_produced_but_for_its_place() {
    let mut bench = Bench::new(topic());
    let produced = batch(3, 100, 5);
    bench.append(batch(2, 10, 5), 0, 0);
    bench.append(produced.clone(), 7, 0);
    let stored = bench.read(2, 1).unwrap();
    assert_eq!(stored[..8], 2_i64.to_be_bytes());
    assert_eq!(stored[12..16], 7_i32.to_be_bytes());
    assert_eq!(stored[16..], produced.bytes[16..]);
    assert_eq!(bench.epoch_end_offset(LeaderEpoch(0)), (LeaderEpoch(0), Offset(2)));
    bench.reopen(false);
    assert_eq!(bench.epoch_end_offset(LeaderEpoch(0)), (LeaderEpoch(0), Offset(2)));
    assert_eq!(bench.epoch_end_offset(LeaderEpoch(7)), (LeaderEpoch(7), Offset(5)));
}

#[test]
fn a_read_outside_the_log_is_out_of_range_and_one_at_its_end_is_empty() {
    let mut bench = Bench::new(topic());
    bench.append(batch(5, 10, 0), 0, 0);
    assert_eq!(bench.read(5, 100), Some(vec![]));
    assert_eq!(bench.read(6, 100), None);
    bench.log().advance_log_start(Offset(3)).unwrap();
    assert_eq!(bench.read(2, 100), None);
    assert!(!bench.read(3, 100).unwrap().is_empty(), "the batch that holds the start is given whole");
}

#[test]
fn a_retried_batch_is_answered_with_its_first_offset_before_and_after_a_crash() {
    let mut bench = Bench::new(topic());
    for sequence in 0..3 {
        bench.append(sequenced(9, sequence), 0, 0);
    }
    for crash in [false, true] {
        if crash {
            bench.reopen(false);
        }
        let retried = bench.push(sequenced(9, 1), 0, 0).unwrap();
        assert_eq!((retried.base_offset, retried.end_offset, retried.duplicate), (Offset(1), Offset(2), true));
        assert_eq!(bench.push(sequenced(9, 7), 0, 0), Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER));
    }
    assert_eq!(bench.log().next_offset(), Offset(3));
}

#[test]
fn producers_are_remembered_when_retention_took_their_batches() {
    let mut bench = Bench::new(topic());
    bench.append(sequenced(9, 0), 0, 0);
    bench.log().advance_log_start(Offset(1)).unwrap();
    bench.reopen(false);
    assert!(bench.push(sequenced(9, 0), 0, 0).unwrap().duplicate);
    assert_eq!(bench.append(sequenced(9, 1), 0, 0).base_offset, Offset(1));
}

#[test]
fn a_truncation_forgets_what_the_producers_wrote_after_it() {
    let mut bench = Bench::new(topic());
    for sequence in 0..3 {
        bench.append(sequenced(9, sequence), 0, 0);
    }
    assert_eq!(bench.log().truncate_to(Offset(1)).unwrap(), Offset(1));
    let again = bench.append(sequenced(9, 1), 1, 0);
    assert_eq!((again.base_offset, again.duplicate), (Offset(1), false));
    assert_eq!(bench.epoch_end_offset(LeaderEpoch(0)), (LeaderEpoch(0), Offset(1)));
}

#[test]
fn log_append_time_is_the_time_of_the_append() {
    let mut bench = Bench::new(TopicConfig { message_timestamp_type: TimestampType::LogAppendTime, ..topic() });
    let appended = bench.append(batch(2, 10, 5), 0, 777);
    assert_eq!(appended.log_append_time, Timestamp(777));
    let stored = bench.read(0, 1).unwrap();
    assert!(batch::crc_is_valid(&stored));
    assert_eq!(BatchHeader::parse(&stored).unwrap().max_timestamp, Timestamp(777));
}

#[test]
fn an_offset_is_found_by_timestamp_to_the_record() {
    let mut bench = Bench::new(topic());
    for start in (0..10_000).step_by(100) {
        // Ten records, a millisecond apart, three kilobytes each: several spans and generations.
        bench.append(batch(10, 3_000, start), 3, 0);
    }
    for reopened in [false, true] {
        if reopened {
            bench.reopen(false);
        }
        let end = bench.log().log_end_offset();
        let mut find = |target: i64| {
            let found = bench.log().lookup_timestamp(Timestamp(target), end).run().unwrap();
            found.map(|found| (found.timestamp.get(), found.offset.get(), found.leader_epoch.get()))
        };
        assert_eq!(find(0), Some((0, 0, 3)));
        assert_eq!(find(5), Some((5, 5, 3)));
        assert_eq!(find(10), Some((100, 10, 3)));
        assert_eq!(find(7_404), Some((7_404, 744, 3)));
        assert_eq!(find(9_910), None);
        let largest = bench.log().lookup_max_timestamp(end).run().unwrap().unwrap();
        assert_eq!((largest.timestamp, largest.offset), (Timestamp(9_909), Offset(999)));
    }
}

/// Retention of one second, two batches of [`whole`] a segment.
fn one_second() -> TopicConfig {
    TopicConfig { segment_bytes: 10_000, retention_ms: 1_000, ..topic() }
}

/// A batch of one record, of which two fill a segment.
fn whole(timestamp: i64) -> ProducedBatch {
    batch(1, 4_000, timestamp)
}

#[test]
fn whole_segments_past_their_time_are_deleted() {
    let mut bench = Bench::new(one_second());
    for start in 0..10 {
        bench.append(whole(start * 100), 0, 0);
    }
    // The first segment's largest timestamp is 100.
    assert_eq!(bench.expire(1_100, 10), None);
    assert_eq!(bench.expire(1_101, 10), Some(2));
    assert_eq!(bench.expire(1_599, 10), Some(6));
    assert_eq!(bench.expire(9_999, 9), Some(8), "not the watermark's");
}

#[test]
fn when_even_the_active_segment_goes_the_log_starts_at_its_end_and_a_new_segment_begins_there() {
    // As Kafka does it (`UnifiedLog.deleteSegments`): it rolls, and the start moves to the new segment's base offset.
    let mut bench = Bench::new(one_second());
    for start in 0..3 {
        bench.append(whole(start * 100), 0, 0);
    }
    assert_eq!(bench.expire(9_999, 3), Some(3));
    assert_eq!((bench.log().log_end_offset(), bench.read(3, 100)), (Offset(3), Some(vec![])));
    assert_eq!(bench.expire(99_999, 3), None, "an empty segment stays");
    assert_eq!(bench.append(batch(1, 10, 2_000), 0, 0).base_offset, Offset(3));
    assert_eq!(bench.log().segment.first, Offset(3));
    assert_eq!(bench.expire(3_000, 4), None, "the new segment has a time of its own");
    bench.reopen(false);
    assert_eq!((bench.log().log_start_offset(), bench.log().log_end_offset()), (Offset(3), Offset(4)));
    assert!(bench.log().size() < 200, "{}", bench.log().size());
    assert_eq!(bench.expire(3_001, 4), Some(4));
}

#[test]
fn records_without_a_timestamp_expire_by_the_time_of_their_last_append() {
    let mut bench = Bench::new(one_second());
    bench.append(whole(-1), 0, 5_000);
    bench.append(whole(-1), 0, 5_500);
    bench.append(whole(-1), 0, 6_000);
    for reopened in [false, true] {
        if reopened {
            bench.reopen(true);
        }
        assert_eq!(bench.expire(6_500, 3), None, "reopened: {reopened}");
    }
    assert_eq!(bench.expire(6_501, 3), Some(2));
    assert_eq!(bench.expire(7_000, 3), None);
    assert_eq!(bench.expire(7_001, 3), Some(3), "the active segment, by what its row says");
}

#[test]
fn after_a_crash_records_without_a_timestamp_count_from_the_start_at_the_latest() {
    let mut bench = Bench::new(one_second());
    bench.append(whole(-1), 0, 5_000);
    bench.reopen(false);
    assert_eq!(bench.expire(7_000, 1), None, "they may have been appended until the crash");
    assert_eq!(bench.expire(i64::MAX / 2, 1), Some(1));
}

#[test]
fn records_without_a_timestamp_end_their_segment_by_the_wall_clock() {
    let mut bench = Bench::new(TopicConfig { segment_ms: 1_000, ..topic() });
    bench.append(batch(1, 10, -1), 0, 5_000);
    bench.append(batch(1, 10, -1), 0, 6_000);
    assert_eq!(bench.log().segment.first, Offset(0));
    bench.append(batch(1, 10, -1), 0, 6_001);
    assert_eq!(bench.log().segment.first, Offset(2));
}

#[test]
fn what_a_retention_check_found_counts_only_where_the_log_still_stands() {
    type Happens = fn(&mut Bench);
    let filled = || {
        let mut bench = Bench::new(one_second());
        for start in 0..5 {
            bench.append(whole(start * 100), 0, 0);
        }
        bench
    };
    let changes: [(&str, Happens, Option<i64>); 5] = [
        ("nothing happened", |_| {}, Some(5)),
        (
            "a fresh record came",
            |bench| assert_eq!(bench.append(batch(1, 10, 5_000), 0, 0).base_offset, Offset(5)),
            Some(4),
        ),
        ("the start moved", |bench| bench.log().advance_log_start(Offset(1)).unwrap(), None),
        (
            "other records stand there",
            |bench| {
                bench.log().truncate_to(Offset(1)).unwrap();
                for _ in 0..4 {
                    bench.append(whole(5_000), 1, 0);
                }
            },
            None,
        ),
        ("the topic keeps more", |bench| bench.log().set_config(Arc::new(topic())), None),
    ];
    for (what, change, expected) in changes {
        let mut bench = filled();
        let check = bench.check(2_000, 5).unwrap();
        change(&mut bench);
        let expired = check.run().unwrap();
        let end = bench.log().log_end_offset();
        let start = bench.log().delete_expired(&expired, end).unwrap();
        assert_eq!(start.map(Offset::get), expected, "{what}");
    }
}

#[test]
fn an_epoch_whose_first_batch_never_came_is_forgotten_for_good() {
    let mut bench = Bench::new(topic());
    bench.append(batch(4, 10, 0), 2, 0);
    // A commit's rows are written before its records: as if the process had died between the two.
    let mut epochs = bench.log().epochs.clone();
    epochs.assign(LeaderEpoch(5), Offset(4));
    let ahead = Change::Truncate { to: Offset(4), epochs: encode_epochs(&epochs) };
    let replica = Arc::clone(&bench.log().replica);
    bench.store.as_ref().unwrap().change_and_wait(&replica, ahead).unwrap();
    drop(replica);
    bench.reopen(false);
    let unknown = (LeaderEpoch::UNKNOWN, Offset::UNKNOWN);
    assert_eq!(bench.epoch_end_offset(LeaderEpoch(5)), unknown);
    // The row must not bring it back once there are records at its offset.
    bench.append(batch(4, 10, 0), 2, 0);
    bench.reopen(false);
    assert_eq!(bench.epoch_end_offset(LeaderEpoch(5)), unknown);
    assert_eq!(bench.epoch_end_offset(LeaderEpoch(2)), (LeaderEpoch(2), Offset(8)));
}

#[test]
fn an_epoch_that_the_row_lost_is_found_in_its_batches() {
    let mut bench = Bench::new(topic());
    bench.append(batch(4, 10, 0), 2, 0);
    bench.append(batch(4, 10, 0), 5, 0);
    let behind = Change::Truncate { to: Offset(8), epochs: Vec::new() };
    let replica = Arc::clone(&bench.log().replica);
    bench.store.as_ref().unwrap().change_and_wait(&replica, behind).unwrap();
    drop(replica);
    bench.reopen(false);
    assert_eq!(bench.epoch_end_offset(LeaderEpoch(2)), (LeaderEpoch(2), Offset(4)));
    assert_eq!(bench.epoch_end_offset(LeaderEpoch(5)), (LeaderEpoch(5), Offset(8)));
}

#[test]
fn a_compacted_topic_loses_nothing() {
    let policy = CleanupPolicy { delete: false, compact: true };
    let mut bench = Bench::new(TopicConfig { cleanup_policy: policy, retention_ms: 0, retention_bytes: 0, ..topic() });
    bench.append(batch(5, 10, 0), 0, 0);
    assert_eq!(bench.expire(i64::MAX, 5), None);
}

#[test]
fn a_topic_with_flush_messages_is_committed_after_a_sync() {
    let mut bench = Bench::new(TopicConfig { flush_messages: 1, flush_ms: 1, ..topic() });
    let syncs = |bench: &Bench| bench.store.as_ref().unwrap().counters().syncs.load(Ordering::Relaxed);
    for offset in 0..20 {
        let before = syncs(&bench);
        assert_eq!(bench.append(batch(1, 10, 0), 0, offset).base_offset, Offset(offset));
        assert!(syncs(&bench) > before, "{offset}");
    }
    bench.log().set_config(Arc::new(topic()));
    let before = syncs(&bench);
    bench.append(batch(1, 10, 0), 0, 20);
    assert_eq!(syncs(&bench), before, "who does not ask does not wait");
}

#[test]
fn every_append_of_a_topic_with_flush_ms_is_to_be_synced_in_time() {
    let mut bench = Bench::new(TopicConfig { flush_ms: 1000, ..topic() });
    for offset in 0..3 {
        let (base_offset, leader_epoch) = (Offset(offset), LeaderEpoch(0));
        let next = BatchHeader { base_offset, leader_epoch, ..batch(1, 10, 0).header };
        assert_eq!(bench.log().plan(&next, 100, Timestamp(0)).0.flush_ms, Some(1000));
        assert_eq!(bench.append(batch(1, 10, 0), 0, offset).base_offset, Offset(offset));
    }
}

#[test]
fn an_idle_log_is_small() {
    assert!(size_of::<Log>() + size_of::<Replica>() <= 1024, "{} + {}", size_of::<Log>(), size_of::<Replica>());
}
