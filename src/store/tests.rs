//! The store against itself: what was written is there after a crash, sentences say what is wrong with a directory.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use bytes::Bytes;

use super::*;
use crate::types::{NodeId, Offset, Timestamp};

const METADATA: uuid::Uuid = uuid::Uuid::from_u128(77);

/// Tells a test what a log's owner would hear.
struct Heard(parking_lot::Mutex<Sender<Result<Offset, StoreError>>>);

impl CommitListener for Heard {
    fn committed(&self, end: Offset) {
        self.0.lock().send(Ok(end)).unwrap();
    }

    fn failed(&self, error: &StoreError) {
        self.0.lock().send(Err(error.clone())).unwrap();
    }
}

fn listener() -> (Arc<dyn CommitListener>, Receiver<Result<Offset, StoreError>>) {
    let (sender, receiver) = channel();
    (Arc::new(Heard(parking_lot::Mutex::new(sender))), receiver)
}

/// A batch as far as the store looks into one.
fn batch(base: i64, count: i32, size: usize) -> Arc<StoredBatch> {
    let mut bytes = vec![u8::try_from(base % 251).unwrap(); size.max(61)];
    bytes[..8].copy_from_slice(&base.to_be_bytes());
    bytes[23..27].copy_from_slice(&(count - 1).to_be_bytes());
    bytes[35..43].copy_from_slice(&(1000 + base).to_be_bytes());
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    Arc::new(StoredBatch {
        base_offset: Offset(base),
        end_offset: Offset(base + i64::from(count)),
        max_timestamp: Timestamp(1000 + base),
        appended: Timestamp(2000 + base),
        bytes: Bytes::from(bytes),
    })
}

/// A batch that does not match its CRC.
fn damaged(base: i64, count: i32) -> Arc<StoredBatch> {
    let good = batch(base, count, 100);
    let mut bytes = good.bytes.to_vec();
    bytes[99] ^= 1;
    Arc::new(StoredBatch {
        base_offset: good.base_offset,
        end_offset: good.end_offset,
        max_timestamp: good.max_timestamp,
        appended: good.appended,
        bytes: Bytes::from(bytes),
    })
}

fn small() -> StoreOptions {
    StoreOptions { tail_cache_bytes: 1 << 20, generation_bytes: 256 << 10, queue_bytes: 8 << 20 }
}

fn open(dir: &Path) -> (Arc<Store>, Recovered) {
    Store::open(dir, small()).unwrap()
}

fn make(store: &Store, count: i32) -> Vec<ReplicaId> {
    let topic = TopicId(uuid::Uuid::from_u128(1));
    store.create_replicas(&(0..count).map(|partition| (topic, partition)).collect::<Vec<_>>(), 1).unwrap()
}

/// Appends batches of two records and waits until all are committed.
fn fill(store: &Store, id: ReplicaId, offsets: std::ops::Range<i64>, size: usize) {
    let (listener, heard) = listener();
    let replica = store.replica(id).unwrap();
    for base in offsets.clone().step_by(2) {
        store
            .append(Append {
                replica: Arc::clone(&replica),
                batch: batch(base, 2, size),
                sync: false,
                extras: None,
                listener: Arc::clone(&listener),
            })
            .unwrap();
    }
    while heard.recv().unwrap().unwrap() < Offset(offsets.end) {}
}

/// Appends batches of two records, each in a segment and so in a span of its own.
fn fill_spans(store: &Store, id: ReplicaId, offsets: std::ops::Range<i64>) {
    let (listener, heard) = listener();
    let replica = store.replica(id).unwrap();
    for base in offsets.clone().step_by(2) {
        let segment = Segment { first: Offset(base), ..Segment::FIRST };
        store
            .append(Append {
                replica: Arc::clone(&replica),
                batch: batch(base, 2, 61),
                sync: false,
                extras: Some(Box::new(AppendExtras { segment: Some(segment), ..AppendExtras::default() })),
                listener: Arc::clone(&listener),
            })
            .unwrap();
    }
    while heard.recv().unwrap().unwrap() < Offset(offsets.end) {}
}

/// First offsets of the spans of a replica, wherever a walk would begin.
fn spans(store: &Store, id: ReplicaId) -> Vec<i64> {
    let mut found = Vec::new();
    store
        .shared
        .database
        .visit_spans(id, Offset::ZERO, &mut |span| {
            found.push(span.first.get());
            ControlFlow::Continue(())
        })
        .unwrap();
    found
}

fn offsets(store: &Store, id: ReplicaId, from: i64, limit: i64) -> Vec<i64> {
    let mut found = Vec::new();
    let range = OffsetRange { from: Offset(from), limit: Offset(limit) };
    store
        .visit_batches(id, range, &mut |base, _| {
            found.push(base.get());
            ControlFlow::Continue(())
        })
        .unwrap();
    found
}

fn evens(from: i64, to: i64) -> Vec<i64> {
    (from..to).step_by(2).collect()
}

#[test]
fn what_was_committed_is_there_after_a_stop_without_closing() {
    let dir = tempfile::tempdir().unwrap();
    let (store, recovered) = open(dir.path());
    assert_eq!(recovered, Recovered::default());
    let ids = make(&store, 2);
    // A mebibyte and a half: more than one generation.
    fill(&store, ids[0], 0..200, 10_000);
    fill(&store, ids[1], 0..50, 20_000);
    assert!(store.counters().rolls.load(Ordering::Relaxed) >= 1);
    drop(store);
    let (store, recovered) = open(dir.path());
    assert!(!recovered.unclean, "{recovered:?}");
    assert_eq!(recovered.sentences.len(), 1);
    assert_eq!(offsets(&store, ids[0], 0, 200), evens(0, 200));
    assert_eq!(offsets(&store, ids[1], 0, 200), evens(0, 50));
    let ends: Vec<_> = ids.iter().map(|id| store.replica(*id).unwrap().row()).map(|row| row.end).collect();
    assert_eq!(ends, [Offset(200), Offset(50)]);
    fill(&store, ids[1], 50..60, 100);
    assert_eq!(offsets(&store, ids[1], 41, 56), [40, 42, 44, 46, 48, 50, 52, 54]);
    assert_ne!(make(&store, 1)[0], ids[1], "a replica's number is not used again");
}

#[test]
fn a_closed_store_has_nothing_to_replay() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let ids = make(&store, 1);
    fill(&store, ids[0], 0..20, 100);
    let row = store.replica(ids[0]).unwrap().row();
    store.close();
    assert!(store.create_replicas(&[(TopicId::ZERO, 0)], 1).is_err(), "a closed store takes nothing");
    drop(store);
    let (store, recovered) = open(dir.path());
    assert_eq!(recovered, Recovered::default());
    assert_eq!(store.replica(ids[0]).unwrap().row(), row);
    assert_eq!(offsets(&store, ids[0], 0, 20), evens(0, 20));
}

#[test]
fn a_directory_belongs_to_one_node_of_one_cluster() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    store.put_identity(NodeId(1), "alpha", METADATA).unwrap();
    store.put_identity(NodeId(1), "alpha", METADATA).unwrap();
    let directory_id = store.identity().unwrap().directory_id;
    let other = store.put_identity(NodeId(1), "beta", METADATA).unwrap_err().to_string();
    assert!(other.contains("belongs to cluster alpha"), "{other}");
    let other = store.put_identity(NodeId(2), "alpha", METADATA).unwrap_err().to_string();
    assert!(other.contains("belongs to node 1"), "{other}");
    store.close();
    drop(store);
    let (store, _) = open(dir.path());
    assert_eq!(store.identity().unwrap().directory_id, directory_id);
    assert_eq!(store.identity().unwrap().node_id, Some(NodeId(1)));
}

#[test]
fn a_directory_in_use_or_of_a_newer_version_gets_a_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let refused = Store::open(dir.path(), small()).err().unwrap().to_string();
    assert!(refused.contains("in use by another process"), "{refused}");
    store.put_local(vec![("format.version", "99".to_owned())]).unwrap();
    store.close();
    drop(store);
    let refused = Store::open(dir.path(), small()).err().unwrap().to_string();
    assert!(refused.contains("newer version (format 99"), "{refused}");
}

#[test]
fn rows_that_speak_of_batches_that_never_came_are_corrected() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let ids = make(&store, 3);
    fill(&store, ids[0], 0..40, 10_000);
    fill(&store, ids[1], 0..10, 100);
    // As if the process had died between the rows and the records of one commit.
    let database = &store.shared.database;
    let ahead = |first: i64, end: Offset| SpanRow {
        first: Offset(first),
        end,
        generation: store.generation(),
        max_timestamp: Timestamp(9_999),
        appended: Timestamp(9_999),
        bytes_before: 0,
        bytes: 77,
        segment: Segment { first: Offset(first), bytes_before: 1 << 40, first_timestamp: Timestamp(5) },
    };
    let mut commit = commit::Commit::new(database);
    commit.put_span(ids[0], &ahead(40, Offset(50)));
    commit.put_span(ids[0], &ahead(50, SpanRow::OPEN));
    commit.put_span(ids[2], &ahead(0, SpanRow::OPEN));
    commit.put_timestamp(ids[1], Offset(12), Timestamp(3));
    let mut row = store.replica(ids[1]).unwrap().row();
    commit.put_snapshot(&mut row, &Snapshot { at: Offset(14), state: vec![1] });
    commit.put_replica(&row);
    commit.write(&rocksdb::WriteOptions::default()).unwrap();
    drop(store);
    let (store, _) = open(dir.path());
    let ends: Vec<_> = ids.iter().map(|id| store.replica(*id).unwrap().row().end.get()).collect();
    assert_eq!(ends, [40, 10, 0]);
    assert_eq!(store.replica(ids[0]).unwrap().row().bytes_end, 200_000);
    assert_eq!(store.snapshot_below(ids[1], Offset(99)).unwrap(), None);
    for (id, end) in ids.iter().zip(ends) {
        fill(&store, *id, end..end + 10, 100);
        assert_eq!(offsets(&store, *id, 0, 100), evens(0, end + 10));
    }
    store.delete_replicas(&ids, 2).unwrap();
    drop(store);
    assert!(open(dir.path()).0.replicas().is_empty());
}

#[test]
fn a_recovery_that_ends_too_early_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let ids = make(&store, 1);
    fill(&store, ids[0], 0..20, 100);
    drop(store);
    let (file, noted) = directory::SequenceFile::open(dir.path()).unwrap();
    file.note([noted[0] + 1, noted[1]]).unwrap();
    let (_, recovered) = open(dir.path());
    assert!(recovered.unclean);
    assert!(recovered.sentences[0].contains("stopped early"), "{recovered:?}");
}

#[test]
fn a_stop_of_the_machine_is_told_from_the_death_of_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    store.put_local(vec![(recover::BOOT_ID, "another boot".to_owned())]).unwrap();
    drop(store);
    let (store, recovered) = open(dir.path());
    assert!(recovered.unclean);
    drop(store);
    let (store, recovered) = open(dir.path());
    assert!(recovered.unclean, "until the controller has confirmed the registration");
    store.confirm_boot().unwrap();
    drop(store);
    assert!(!open(dir.path()).1.unclean);
}

#[test]
fn appends_that_ask_for_a_sync_are_published_after_it_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let replica = store.replica(make(&store, 1)[0]).unwrap();
    let (listener, heard) = listener();
    for base in 0..100 {
        store
            .append(Append {
                replica: Arc::clone(&replica),
                batch: batch(base, 1, 100),
                sync: base % 3 == 0,
                extras: None,
                listener: Arc::clone(&listener),
            })
            .unwrap();
    }
    let mut last = Offset(0);
    while last < Offset(100) {
        let end = heard.recv().unwrap().unwrap();
        assert!(end > last, "{end} after {last}");
        last = end;
    }
}

#[test]
fn a_log_start_drops_spans_and_their_generations_files() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let ids = make(&store, 2);
    fill(&store, ids[0], 0..400, 10_000);
    let replica = store.replica(ids[0]).unwrap();
    store.change_and_wait(&replica, Change::LogStart { to: Offset(301), snapshot: None }).unwrap();
    let row = replica.row();
    assert_eq!(row.log_start, Offset(301));
    // Where a span ends depends on how appends fell into commits.
    assert!(row.first_span <= Offset(301) && row.first_span > Offset(100), "{row:?}");
    assert_eq!(row.bytes_end - row.bytes_dropped, 10_000 * (400 - row.first_span.get()).cast_unsigned() / 2);
    assert_eq!(offsets(&store, ids[0], 301, 400), evens(300, 400));
    // The dropped files hold what is alive of nobody: after a reopening at the latest they are gone.
    store.close();
    drop(store);
    let (store, _) = open(dir.path());
    assert_eq!(offsets(&store, ids[0], 301, 400), evens(300, 400));
    assert_eq!(store.replica(ids[0]).unwrap().row().log_start, Offset(301));
    // Everything goes, the open span too.
    fill(&store, ids[0], 400..410, 100);
    let replica = store.replica(ids[0]).unwrap();
    store.change_and_wait(&replica, Change::LogStart { to: Offset(410), snapshot: None }).unwrap();
    assert_eq!(offsets(&store, ids[0], 410, 420), Vec::<i64>::new());
    fill(&store, ids[0], 410..420, 100);
    drop(store);
    let (store, _) = open(dir.path());
    assert_eq!(offsets(&store, ids[0], 410, 420), evens(410, 420));
    assert_eq!(store.replica(ids[0]).unwrap().row().end, Offset(420));
}

/// Waits for a commit on the committer's own thread, and sends where the walk over another replica's spans begins then.
struct Looks {
    at: Arc<Replica>,
    seen: parking_lot::Mutex<Sender<(Offset, u64)>>,
}

impl CommitListener for Looks {
    fn committed(&self, _: Offset) {
        self.seen.lock().send((self.at.first_span(), self.at.bytes_dropped())).unwrap();
    }

    fn failed(&self, error: &StoreError) {
        panic!("{error}");
    }
}

#[test]
fn appends_do_not_wait_until_thousands_of_dead_spans_are_gone() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let ids = make(&store, 2);
    fill_spans(&store, ids[0], 0..10_000);
    let replica = store.replica(ids[0]).unwrap();
    let other = store.replica(ids[1]).unwrap();
    let (sender, seen) = channel();
    let listener = Arc::new(Looks { at: Arc::clone(&replica), seen: parking_lot::Mutex::new(sender) });
    store.change(&replica, Change::LogStart { to: Offset(9_001), snapshot: None }).unwrap();
    store.append(Append { replica: other, batch: batch(0, 1, 100), sync: false, extras: None, listener }).unwrap();
    let (first_span, dropped) = seen.recv().unwrap();
    assert!(first_span > Offset(0) && first_span < Offset(9_000), "{first_span}");
    assert_eq!(dropped, 61 * 4_500, "the size of the log is right from the beginning");
    // Whoever waits for a log start waits for all of it, also for what an earlier one left.
    store.change_and_wait(&replica, Change::LogStart { to: Offset(9_001), snapshot: None }).unwrap();
    assert_eq!(spans(&store, ids[0]), evens(9_000, 10_000));
    assert_eq!(offsets(&store, ids[0], 9_001, 10_000), evens(9_000, 10_000));
    assert_eq!((replica.first_span(), replica.bytes_dropped()), (Offset(9_000), 61 * 4_500));
    // The open span too.
    store.change_and_wait(&replica, Change::LogStart { to: Offset(10_000), snapshot: None }).unwrap();
    assert_eq!((spans(&store, ids[0]), replica.bytes_dropped()), (vec![], 61 * 5_000));
    fill(&store, ids[0], 10_000..10_010, 100);
    assert_eq!(offsets(&store, ids[0], 10_000, 10_010), evens(10_000, 10_010));
}

#[test]
fn a_deleted_replica_of_thousands_of_spans_is_gone_when_the_deletion_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let ids = make(&store, 2);
    fill_spans(&store, ids[0], 0..10_000);
    fill(&store, ids[1], 0..10, 100);
    store.delete_replicas(&ids[..1], 2).unwrap();
    let (from, to) = (keys::replica(ids[0]), keys::replica(ids[1]));
    assert_eq!(store.shared.database.keys_between(&from, &to).unwrap(), Vec::<Vec<u8>>::new());
    assert_eq!(spans(&store, ids[0]), Vec::<i64>::new());
    assert_eq!(offsets(&store, ids[1], 0, 10), evens(0, 10));
}

#[test]
fn a_start_goes_on_with_the_dropping_of_dead_spans() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let ids = make(&store, 1);
    fill_spans(&store, ids[0], 0..10_000);
    // As if the process had died after the first slice, which was empty.
    let mut row = store.replica(ids[0]).unwrap().row();
    row.log_start = Offset(9_001);
    let mut commit = commit::Commit::new(&store.shared.database);
    commit.put_replica(&row);
    commit.write(&rocksdb::WriteOptions::default()).unwrap();
    drop(store);
    let (store, _) = open(dir.path());
    assert_eq!(spans(&store, ids[0]), evens(9_000, 10_000));
    assert_eq!(store.replica(ids[0]).unwrap().first_span(), Offset(9_000));
    assert_eq!(offsets(&store, ids[0], 9_001, 10_000), evens(9_000, 10_000));
}

/// The files of record batches that are in the directory.
fn record_files(dir: &Path) -> std::collections::BTreeSet<String> {
    let names = std::fs::read_dir(dir.join("records")).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter_map(|name| name.into_string().ok()).filter(|name| name.ends_with(".sst")).collect()
}

#[test]
fn the_files_of_a_dead_generation_leave_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let ids = make(&store, 2);
    // Two generations of the first replica alone, then some of the second: RocksDB gives files away one level down.
    fill(&store, ids[0], 0..100, 10_000);
    let mut end = 0;
    let mut more = || {
        let rolls = store.counters().rolls.load(Ordering::Relaxed);
        while store.counters().rolls.load(Ordering::Relaxed) == rolls {
            fill(&store, ids[1], end..end + 10, 10_000);
            end += 10;
        }
        // Answered by the syncer: the second round begins after the first one's files are unlinked.
        store.confirm_boot().unwrap();
        store.confirm_boot().unwrap();
    };
    more();
    let alive = |files: &std::collections::BTreeSet<String>| {
        let now = record_files(dir.path());
        files.iter().filter(|file| now.contains(*file)).count()
    };
    let before = loop {
        let files = record_files(dir.path());
        if !files.is_empty() {
            break files;
        }
        more();
    };
    store.delete_replicas(&ids[..1], 2).unwrap();
    // The first file of all is the first generation's: it holds the deleted replica and nothing else.
    let first = before.first().cloned().into_iter().collect();
    for _ in 0..100 {
        if alive(&first) == 0 {
            let end = end;
            assert_eq!(offsets(&store, ids[1], 0, end), evens(0, end));
            return;
        }
        more();
    }
    panic!("{first:?} is still in {:?}", record_files(dir.path()));
}

#[test]
fn a_log_ends_at_a_damaged_batch_that_a_start_after_a_crash_replays() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let ids = make(&store, 2);
    fill(&store, ids[0], 0..20, 100);
    fill(&store, ids[1], 0..20, 100);
    let replica = store.replica(ids[0]).unwrap();
    let (listener, heard) = listener();
    store
        .append(Append { replica: Arc::clone(&replica), batch: damaged(20, 2), sync: false, extras: None, listener })
        .unwrap();
    heard.recv().unwrap().unwrap();
    fill(&store, ids[0], 22..30, 100);
    store.change_and_wait(&replica, Change::Checkpoint { high_watermark: Offset(26), snapshot: None }).unwrap();
    drop((replica, store));
    let (store, recovered) = open(dir.path());
    assert!(recovered.unclean, "records that were acknowledged may be gone");
    let said = recovered.sentences.join("\n");
    assert!(said.contains("the batch at offset 20 does not match its CRC: the log ends there now"), "{said}");
    assert!(said.contains("consumers could read those below 26"), "{said}");
    let row = store.replica(ids[0]).unwrap().row();
    assert_eq!((row.end, row.high_watermark, row.bytes_end), (Offset(20), Offset(20), 1_000));
    fill(&store, ids[0], 20..40, 100);
    assert_eq!(offsets(&store, ids[0], 0, 100), evens(0, 40));
    assert_eq!(offsets(&store, ids[1], 0, 100), evens(0, 20), "the neighbour is whole");
    drop(store);
    let (store, recovered) = open(dir.path());
    assert!(recovered.unclean, "until the controller has confirmed that it knows");
    assert!(recovered.sentences.join("\n").contains("before clients could be told"), "{recovered:?}");
    store.confirm_boot().unwrap();
    drop(store);
    let (store, recovered) = open(dir.path());
    assert!(!recovered.unclean, "{recovered:?}");
    assert_eq!(offsets(&store, ids[0], 0, 100), evens(0, 40));
}

#[test]
fn a_truncated_suffix_never_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let ids = make(&store, 2);
    fill(&store, ids[0], 0..100, 10_000);
    fill(&store, ids[1], 0..10, 100);
    let replica = store.replica(ids[0]).unwrap();
    store.change_and_wait(&replica, Change::Truncate { to: Offset(60), epochs: vec![] }).unwrap();
    assert_eq!(offsets(&store, ids[0], 0, 1000), evens(0, 60));
    assert_eq!((replica.row().end, replica.row().bytes_end), (Offset(60), 300_000));
    fill(&store, ids[0], 60..64, 500);
    assert_eq!(offsets(&store, ids[0], 50, 1000), evens(50, 64));
    drop(store);
    let (store, _) = open(dir.path());
    assert_eq!(offsets(&store, ids[0], 50, 1000), evens(50, 64));
    assert_eq!(offsets(&store, ids[1], 0, 1000), evens(0, 10));
}

#[test]
fn a_deleted_replica_is_gone_and_its_neighbours_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let ids = make(&store, 2);
    fill(&store, ids[0], 0..100, 10_000);
    fill(&store, ids[1], 0..10, 100);
    let replica = store.replica(ids[0]).unwrap();
    store.delete_replicas(&ids[..1], 2).unwrap();
    assert!(store.replica(ids[0]).is_none());
    let (listener, heard) = listener();
    store.append(Append { replica, batch: batch(100, 1, 100), sync: false, extras: None, listener }).unwrap();
    assert!(heard.recv().unwrap().unwrap_err().to_string().contains("deleted"));
    drop(store);
    let (store, _) = open(dir.path());
    assert_eq!(store.replicas().len(), 1);
    assert_eq!(offsets(&store, ids[0], 0, 1000), Vec::<i64>::new());
    assert_eq!(offsets(&store, ids[1], 0, 1000), evens(0, 10));
}

#[test]
fn a_damaged_batch_is_not_given_out() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let id = make(&store, 1)[0];
    let damaged = damaged(0, 1);
    let (listener, heard) = listener();
    let replica = store.replica(id).unwrap();
    store.append(Append { replica, batch: damaged, sync: false, extras: None, listener }).unwrap();
    heard.recv().unwrap().unwrap();
    let range = OffsetRange { from: Offset(0), limit: Offset(1) };
    let error = store.visit_batches(id, range, &mut |_, _| ControlFlow::Continue(())).unwrap_err();
    assert!(error.to_string().contains("does not match its CRC"), "{error}");
    assert!(store.offline().is_none(), "one damaged batch is not the end of the store");
}

fn read(store: &Store, id: ReplicaId, from: i64, limit: i64) -> Result<Vec<i64>, String> {
    let mut found = Vec::new();
    let range = OffsetRange { from: Offset(from), limit: Offset(limit) };
    let walked = store.visit_batches(id, range, &mut |base, _| {
        found.push(base.get());
        ControlFlow::Continue(())
    });
    walked.map(|()| found).map_err(|error| error.to_string())
}

#[test]
fn a_batch_that_is_missing_is_an_error_and_never_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let id = make(&store, 1)[0];
    fill(&store, id, 0..20, 100);
    let lose = |base: i64| {
        let key = keys::batch(store.generation(), id, Offset(base));
        store.shared.database.records().delete(key).unwrap();
    };
    for (base, first, limit) in [(8, 0, 20), (8, 8, 20), (8, 9, 10), (0, 0, 2), (18, 10, 20), (18, 19, 20)] {
        lose(base);
        let error = read(&store, id, first, limit).unwrap_err();
        assert!(error.contains("is missing"), "{error}");
        let batch = batch(base, 2, 100);
        let key = keys::batch(store.generation(), id, Offset(base));
        store.shared.database.records().put(key, &batch.bytes).unwrap();
        assert_eq!(read(&store, id, first, limit).unwrap().last(), Some(&(limit - 2)));
    }
    lose(8);
    assert_eq!(read(&store, id, 0, 8), Ok(evens(0, 8)), "what is before it can be read");
    assert_eq!(read(&store, id, 11, 20), Ok(evens(10, 20)), "and what is after it");
    assert!(store.offline().is_none());
    // The next recovery ends the log there, as at a damaged batch.
    drop(store);
    let (store, recovered) = open(dir.path());
    assert!(recovered.unclean && recovered.sentences.join("\n").contains("the batch at offset 8 is missing"));
    assert_eq!((store.replica(id).unwrap().row().end, read(&store, id, 0, 20)), (Offset(8), Ok(evens(0, 8))));
}

#[test]
fn whoever_walks_while_the_replica_goes_hears_of_no_damage() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let id = make(&store, 1)[0];
    fill(&store, id, 0..20, 100);
    store.shared.database.records().delete(keys::batch(store.generation(), id, Offset(8))).unwrap();
    let range = OffsetRange { from: Offset(0), limit: Offset(20) };
    let mut seen = 0;
    let walked = store.visit_batches(id, range, &mut |_, _| {
        if seen == 0 {
            store.delete_replicas(&[id], 2).unwrap();
        }
        seen += 1;
        ControlFlow::Continue(())
    });
    assert_eq!((walked, seen), (Ok(()), 4));
}

#[test]
fn a_directory_notes_the_metadata_in_each_commit_that_makes_or_deletes_replicas() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let noted = |store: &Store| store.identity().unwrap().metadata.map(|mark| (mark.metadata, mark.version));
    let make = |store: &Store, partition: i32, version: u64| {
        store.create_replicas(&[(TopicId(uuid::Uuid::from_u128(1)), partition)], version).unwrap()[0]
    };
    store.put_identity(NodeId(1), "alpha", METADATA).unwrap();
    make(&store, 0, 3);
    assert_eq!((noted(&store), store.is_noted()), (None, false), "not before it is known that they belong together");
    store.note_metadata(4).unwrap();
    assert_eq!((noted(&store), store.is_noted()), (Some((METADATA, 4)), true));
    let id = make(&store, 1, 7);
    assert_eq!(noted(&store), Some((METADATA, 7)));
    store.delete_replicas(&[id], 9).unwrap();
    drop(store);
    let (store, _) = open(dir.path());
    assert_eq!((noted(&store), store.identity().unwrap().replicas), (Some((METADATA, 9)), 1));
    store.put_identity(NodeId(1), "alpha", METADATA).unwrap();
    assert!(store.is_noted());
    drop(store);
    let (store, _) = open(dir.path());
    store.put_identity(NodeId(1), "alpha", uuid::Uuid::from_u128(78)).unwrap();
    assert!(!store.is_noted(), "these are other metadata");
}

#[test]
fn room_is_announced_to_those_who_wait_for_it() {
    let queue = queue::CommitQueue::new(1000);
    let (woken, wakes) = channel();
    let replica = Arc::new(Replica::new(ReplicaRow::new(ReplicaId(1), TopicId::ZERO, 0, 0)));
    let push = || {
        let (listener, _heard) = listener();
        let append =
            Append { replica: Arc::clone(&replica), batch: batch(0, 1, 900), sync: false, extras: None, listener };
        let cost = append.batch.cost();
        queue.push(Operation::Append(append));
        cost
    };
    assert!(queue.has_room());
    let cost = push();
    assert!(!queue.has_room());
    queue.when_room(Box::new(move || woken.send(()).unwrap()));
    assert!(wakes.try_recv().is_err());
    push();
    assert!(!queue.is_overfull(cost));
    push();
    assert!(queue.is_overfull(cost), "far beyond the limit an append is refused");
    while queue.pop().is_some() {}
    queue.wake_waiters();
    wakes.try_recv().unwrap();
}

fn append_one(store: &Store, id: ReplicaId, base: i64, listener: &Arc<dyn CommitListener>) {
    let (replica, listener) = (store.replica(id).unwrap(), Arc::clone(listener));
    store.append(Append { replica, batch: batch(base, 1, 100), sync: false, extras: None, listener }).unwrap();
}

/// Not a claim about time: a test that would wait for ever fails instead.
fn hear<T>(heard: &Receiver<T>) -> T {
    heard.recv_timeout(std::time::Duration::from_secs(60)).expect("someone commits")
}

#[test]
fn a_burst_is_committed_by_the_thread_that_queued_it_when_nobody_else_commits() {
    struct Where(parking_lot::Mutex<Sender<std::thread::ThreadId>>);
    impl CommitListener for Where {
        fn committed(&self, _: Offset) {
            self.0.lock().send(std::thread::current().id()).unwrap();
        }
        fn failed(&self, error: &StoreError) {
            panic!("{error}");
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let id = make(&store, 1)[0];
    let (sender, heard) = channel();
    let listener: Arc<dyn CommitListener> = Arc::new(Where(parking_lot::Mutex::new(sender)));
    // The committer's thread may still be on its way to sleep, now and then.
    let here = (0..1000).any(|base| {
        store.burst(|| append_one(&store, id, base, &listener));
        hear(&heard) == std::thread::current().id()
    });
    assert!(here);
}

#[test]
fn bursts_of_many_threads_are_all_committed() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let ids = make(&store, 4);
    std::thread::scope(|scope| {
        for &id in &ids {
            let store = &store;
            scope.spawn(move || {
                let (listener, heard) = listener();
                for base in (0..3000).step_by(3) {
                    store.burst(|| (base..base + 3).for_each(|base| append_one(store, id, base, &listener)));
                    while hear(&heard).unwrap() < Offset(base + 3) {}
                }
            });
        }
    });
    for id in ids {
        assert_eq!(offsets(&store, id, 0, 3000), (0..3000).collect::<Vec<_>>());
    }
}

#[test]
fn what_may_wait_is_left_to_the_committers_thread_in_its_order() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let id = make(&store, 1)[0];
    let (listener, heard) = listener();
    let replica = store.replica(id).unwrap();
    for base in 0..100 {
        store.burst(|| {
            append_one(&store, id, 2 * base, &listener);
            let noted = Change::Checkpoint { high_watermark: Offset(2 * base), snapshot: None };
            store.change(&replica, noted).unwrap();
            append_one(&store, id, 2 * base + 1, &listener);
        });
        while hear(&heard).unwrap() < Offset(2 * base + 2) {}
        assert_eq!(replica.row().high_watermark, Offset(2 * base));
    }
}

#[test]
fn what_a_burst_queued_before_it_panicked_is_committed() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let id = make(&store, 1)[0];
    let (listener, heard) = listener();
    let work = std::panic::AssertUnwindSafe(|| {
        store.burst(|| {
            append_one(&store, id, 0, &listener);
            panic!("a handler's defect");
        })
    });
    std::panic::catch_unwind(work).unwrap_err();
    assert_eq!(hear(&heard), Ok(Offset(1)));
    append_one(&store, id, 1, &listener);
    assert_eq!(hear(&heard), Ok(Offset(2)), "the thread's next push wakes the committer again");
}

#[test]
fn a_defect_of_the_committer_takes_the_store_offline_and_everyone_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let id = make(&store, 1)[0];
    let (listener, heard) = listener();
    let (told, tells) = channel();
    store.when_offline(move |error| told.send(error.clone()).unwrap());
    let mut committer = store.committer.lock();
    append_one(&store, id, 0, &listener);
    committer.guarded(|committer| {
        committer.take_appends();
        panic!("a defect");
    });
    drop(committer);
    let error = hear(&heard).unwrap_err();
    assert!(error.to_string().contains("a defect of the committer"), "{error}");
    assert_eq!((store.offline(), hear(&tells)), (Some(&error), error.clone()));
    let (replica, batch) = (store.replica(id).unwrap(), batch(0, 1, 100));
    let refused = store.append(Append { replica, batch, sync: false, extras: None, listener });
    assert_eq!(refused, Err(AppendRefused::Failed(error)));
}
