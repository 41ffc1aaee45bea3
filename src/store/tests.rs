//! The store against itself: what was written is there after a crash, sentences say what is wrong with a directory.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use bytes::Bytes;

use super::*;
use crate::types::{Offset, Timestamp};

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
    store.create_replicas(&(0..count).map(|partition| (topic, partition)).collect::<Vec<_>>()).unwrap()
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

fn offsets(store: &Store, id: ReplicaId, from: i64, limit: i64) -> Vec<i64> {
    let mut found = Vec::new();
    let range = OffsetRange { from: Offset(from), limit: Offset(limit) };
    store
        .visit_batches(id, range, 1 << 20, &mut |base, _| {
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
    assert!(store.create_replicas(&[(TopicId::ZERO, 0)]).is_err(), "a closed store takes nothing");
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
    store.put_identity(NodeId(1), "alpha").unwrap();
    store.put_identity(NodeId(1), "alpha").unwrap();
    let directory_id = store.identity().unwrap().directory_id;
    let other = store.put_identity(NodeId(1), "beta").unwrap_err().to_string();
    assert!(other.contains("belongs to cluster alpha"), "{other}");
    let other = store.put_identity(NodeId(2), "alpha").unwrap_err().to_string();
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
    store.delete_replicas(&ids).unwrap();
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
    store.delete_replicas(&ids[..1]).unwrap();
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
    let good = batch(0, 1, 100);
    let mut bytes = good.bytes.to_vec();
    bytes[99] ^= 1;
    let damaged = Arc::new(StoredBatch {
        base_offset: good.base_offset,
        end_offset: good.end_offset,
        max_timestamp: good.max_timestamp,
        bytes: Bytes::from(bytes),
    });
    let (listener, heard) = listener();
    let replica = store.replica(id).unwrap();
    store.append(Append { replica, batch: damaged, sync: false, extras: None, listener }).unwrap();
    heard.recv().unwrap().unwrap();
    let range = OffsetRange { from: Offset(0), limit: Offset(1) };
    let error = store.visit_batches(id, range, 100, &mut |_, _| ControlFlow::Continue(())).unwrap_err();
    assert!(error.to_string().contains("does not match its CRC"), "{error}");
    assert!(store.offline().is_none(), "one damaged batch is not the end of the store");
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
