//! The storage driver: the store alone, beside raw files, in one run.
//!
//! `store` runs everything and prints a table; `store CASE …` runs one case in this process (the table's rows are
//! children, so that CPU and memory are theirs alone). A batch is 16 KiB of incompressible bytes; `append` takes them
//! from a pool without patching offsets, as the raw writer does, so the figures are the store's own cost.
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock and waits")]

use std::fs::File;
use std::io::Write;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hdrhistogram::Histogram;
use ottla::error::StoreError;
use ottla::store::{Append, Change, CommitListener, OffsetRange, Replica, ReplicaId, Store, StoreOptions, StoredBatch};
use ottla::types::{Offset, Timestamp, TopicId};
use ottla_bench::machine::Device;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Fallible<T = ()> = Result<T, Box<dyn std::error::Error>>;

const BATCH: usize = 16 << 10;
const MIB: f64 = 1_048_576.0;

fn main() -> Fallible {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default: usize| arguments.get(at).and_then(|text| text.parse().ok()).unwrap_or(default);
    let scratch = scratch()?;
    let dir = scratch.path();
    match arguments.first().map_or("all", String::as_str) {
        "all" => all(number(1, 2048)),
        "raw" => raw(dir, number(1, 16), number(2, 2048)),
        "append" => append(dir, number(1, 16), number(2, 2048), number(3, 0)),
        "crash" => crash(dir, number(1, 5)),
        "crash-child" => crash_child(Path::new(&arguments[1])),
        "read" => read(dir, number(1, 16), number(2, 1024)),
        "retain" => retain(dir, number(1, 1024)),
        "truncate" => truncate(dir, number(1, 256)),
        "many" => many(dir, number(1, 10_000), number(2, 100)),
        other => Err(format!("{other} is no case: raw append crash read retain truncate many").into()),
    }
}

/// A directory on the disk under test: in `BENCH_DIR`, or in /var/tmp. An error where what reaches the disk cannot be
/// counted, as in memory.
fn scratch() -> Fallible<tempfile::TempDir> {
    let parent = std::env::var_os("BENCH_DIR").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from);
    Device::under(&parent)?;
    Ok(tempfile::Builder::new().prefix("ottla-store-").tempdir_in(parent)?)
}

/// Every case, each in a process of its own; raw and store in turn, three times.
fn all(mib: usize) -> Fallible {
    let mib = mib.to_string();
    for _ in 0..3 {
        for partitions in ["16", "1000"] {
            child(&["raw", partitions, &mib])?;
            child(&["append", partitions, &mib])?;
        }
    }
    for partitions in ["16", "1000"] {
        child(&["append", partitions, &mib, "200"])?;
    }
    for case in [&["read"][..], &["read", "1000"], &["retain"], &["truncate"], &["crash"], &["many"]] {
        child(case)?;
    }
    Ok(())
}

fn child(arguments: &[&str]) -> Fallible {
    let status = Command::new(std::env::current_exe()?).args(arguments).status()?;
    if status.success() { Ok(()) } else { Err(format!("{arguments:?} failed").into()) }
}

/// What a run cost, from its beginning to its end.
struct Cost {
    at: Instant,
    cpu: f64,
    device: Device,
    written: f64,
}

impl Cost {
    fn begin(dir: &Path) -> Fallible<Self> {
        let device = Device::under(dir)?;
        Ok(Self { at: Instant::now(), cpu: cpu_seconds()?, written: device.written(), device })
    }

    fn print(&self, what: &str, mib: f64, drained: Duration) -> Fallible {
        let seconds = self.at.elapsed().as_secs_f64();
        let appended = seconds - drained.as_secs_f64();
        println!(
            "{what:<28} {:>6.0} MiB/s  drained {:>6.0} MiB/s  {:>5.2} ms CPU/MiB  {:>4.2} disk bytes/byte  peak {:>4} MiB",
            mib / appended,
            mib / seconds,
            (cpu_seconds()? - self.cpu) * 1000.0 / mib,
            (self.device.written() - self.written) / MIB / mib,
            peak_mib()?,
        );
        Ok(())
    }
}

/// User and system seconds of this process.
fn cpu_seconds() -> Fallible<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let after = stat.rsplit(')').next().ok_or("no stat")?;
    let ticks: u64 = after.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(ticks as f64 / 100.0)
}

fn status_mib(field: &str) -> Fallible<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with(field)).ok_or("no such field")?;
    Ok(line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) / 1024)
}

fn peak_mib() -> Fallible<u64> {
    status_mib("VmHWM")
}

/// A pool of incompressible batches.
fn pool() -> Vec<Bytes> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..1024).map(|_| (0..BATCH / 8).flat_map(|_| next().to_le_bytes()).collect::<Vec<u8>>().into()).collect()
}

fn raw(dir: &Path, partitions: usize, mib: usize) -> Fallible {
    let pool = pool();
    let mut files = Vec::new();
    for partition in 0..partitions {
        files.push(File::create(dir.join(partition.to_string()))?);
    }
    let cost = Cost::begin(dir)?;
    let batches = mib * 64;
    for index in 0..batches {
        files[index % partitions].write_all(&pool[index % pool.len()])?;
    }
    let appended = Instant::now();
    for file in &files {
        file.sync_data()?;
    }
    cost.print(&format!("raw {partitions} files"), mib as f64, appended.elapsed())
}

/// Counts what was committed and how long it took.
struct Meter {
    started: Instant,
    committed: AtomicI64,
    last_ns: AtomicU64,
    longest_gap_ns: AtomicU64,
    latency: parking_lot::Mutex<Histogram<u64>>,
}

impl Meter {
    fn new(started: Instant) -> Fallible<Arc<Self>> {
        Ok(Arc::new(Self {
            started,
            latency: parking_lot::Mutex::new(Histogram::new_with_bounds(1, 60_000_000_000, 3)?),
            committed: AtomicI64::new(0),
            last_ns: AtomicU64::new(0),
            longest_gap_ns: AtomicU64::new(0),
        }))
    }
}

/// One partition's listener.
struct Listener {
    meter: Arc<Meter>,
    partition: usize,
    /// Where a crash test notes what was acknowledged.
    acknowledged: Option<Arc<File>>,
    end: AtomicI64,
    sent_ns: parking_lot::Mutex<std::collections::VecDeque<(i64, u64)>>,
}

impl CommitListener for Listener {
    fn committed(&self, end: Offset) {
        let now = nanos(self.meter.started);
        let last = self.meter.last_ns.swap(now, Ordering::Relaxed);
        self.meter.longest_gap_ns.fetch_max(now - last.min(now), Ordering::Relaxed);
        let before = self.end.swap(end.get(), Ordering::Relaxed);
        self.meter.committed.fetch_add(end.get() - before, Ordering::Release);
        if let Some(file) = &self.acknowledged {
            let written = file.write_all_at(&end.get().to_le_bytes(), self.partition as u64 * 8);
            written.expect("an acknowledgement can be noted");
            return;
        }
        let mut latency = self.meter.latency.lock();
        let mut sent = self.sent_ns.lock();
        while let Some(&(offset, at)) = sent.front() {
            if offset >= end.get() {
                break;
            }
            latency.saturating_record(now.saturating_sub(at));
            sent.pop_front();
        }
    }

    fn failed(&self, error: &StoreError) {
        panic!("{error}");
    }
}

fn nanos(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// Partitions that are appended to in turn.
struct Writer {
    store: Arc<Store>,
    replicas: Vec<Arc<Replica>>,
    listeners: Vec<Arc<Listener>>,
    ends: Vec<i64>,
    meter: Arc<Meter>,
    sent: i64,
    timed: bool,
}

impl Writer {
    fn new(store: &Arc<Store>, ids: &[ReplicaId], acknowledged: Option<Arc<File>>) -> Fallible<Self> {
        let meter = Meter::new(Instant::now())?;
        let replicas: Option<Vec<_>> = ids.iter().map(|id| store.replica(*id)).collect();
        let replicas = replicas.ok_or("a replica is missing")?;
        let ends: Vec<i64> = replicas.iter().map(|replica| replica.row().end.get()).collect();
        let mut listeners = Vec::new();
        for (partition, end) in ends.iter().enumerate() {
            listeners.push(Arc::new(Listener {
                meter: Arc::clone(&meter),
                partition,
                acknowledged: acknowledged.clone(),
                end: AtomicI64::new(*end),
                sent_ns: parking_lot::Mutex::default(),
            }));
        }
        Ok(Self { store: Arc::clone(store), replicas, listeners, ends, meter, sent: 0, timed: false })
    }

    fn send(&mut self, partition: usize, bytes: Bytes, sync: bool) -> Fallible {
        while !self.store.has_room() {
            let (woken, wake) = std::sync::mpsc::sync_channel(1);
            self.store.when_room(move || {
                // The waiter may have been woken by another way already.
                let _ = woken.send(());
            });
            wake.recv()?;
        }
        let base = self.ends[partition];
        self.ends[partition] += 1;
        self.sent += 1;
        let listener = &self.listeners[partition];
        if self.timed {
            listener.sent_ns.lock().push_back((base, nanos(self.meter.started)));
        }
        let batch = Arc::new(StoredBatch {
            base_offset: Offset(base),
            end_offset: Offset(base + 1),
            max_timestamp: Timestamp(base),
            appended: Timestamp(base),
            bytes,
        });
        let listener: Arc<dyn CommitListener> = Arc::clone(listener) as _;
        self.store.append(Append {
            replica: Arc::clone(&self.replicas[partition]),
            batch,
            sync,
            extras: None,
            listener,
        })?;
        Ok(())
    }

    fn settle(&self) {
        while self.meter.committed.load(Ordering::Acquire) < self.sent {
            std::thread::yield_now();
        }
    }
}

fn make(store: &Store, partitions: usize) -> Fallible<Vec<ReplicaId>> {
    let topic = TopicId(ottla::env::random_uuid());
    let partitions: Result<Vec<_>, _> = (0..partitions).map(|index| Ok((topic, i32::try_from(index)?))).collect();
    Ok(store.create_replicas(&partitions.map_err(|error: std::num::TryFromIntError| error)?, 1)?)
}

fn append(dir: &Path, partitions: usize, mib: usize, mib_per_second: usize) -> Fallible {
    let pool = pool();
    let (store, _) = Store::open(dir, StoreOptions::default())?;
    let ids = make(&store, partitions)?;
    let mut writer = Writer::new(&store, &ids, None)?;
    writer.timed = mib_per_second > 0;
    let cost = Cost::begin(dir)?;
    for index in 0..mib * 64 {
        if let Some(behind) = (index as u64 * 1_000_000_000 / 64).checked_div(mib_per_second as u64)
            && index % 8 == 0
        {
            let due = cost.at + Duration::from_nanos(behind);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        writer.send(index % partitions, pool[index % pool.len()].clone(), false)?;
    }
    writer.settle();
    let appended = Instant::now();
    let stalled = store.counters().stalled_ms.load(Ordering::Relaxed);
    let (rolls, commits) =
        (store.counters().rolls.load(Ordering::Relaxed), store.counters().commits.load(Ordering::Relaxed));
    store.close();
    let paced = if mib_per_second > 0 { format!(" at {mib_per_second} MiB/s") } else { String::new() };
    cost.print(&format!("store {partitions} partitions{paced}"), mib as f64, appended.elapsed())?;
    let gap = writer.meter.longest_gap_ns.load(Ordering::Relaxed) as f64 / 1e6;
    print!("{:<28} {rolls} rolls, {commits} commits, slowed down {stalled} ms in all, longest silence {gap:.1} ms", "");
    if mib_per_second > 0 {
        let latency = writer.meter.latency.lock();
        let at = |quantile: f64| latency.value_at_quantile(quantile) as f64 / 1e6;
        print!(", commit p50 {:.2} p99 {:.2} p99.99 {:.1} max {:.1} ms", at(0.5), at(0.99), at(0.9999), at(1.0));
    }
    println!();
    Ok(())
}

/// A batch as the store checks one when it is read.
fn patched(pool: &[Bytes], index: usize, base: i64) -> Bytes {
    let mut bytes = pool[index % pool.len()].to_vec();
    bytes[..8].copy_from_slice(&base.to_be_bytes());
    bytes[23..27].copy_from_slice(&0_i32.to_be_bytes());
    bytes[35..43].copy_from_slice(&base.to_be_bytes());
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes.into()
}

/// Appends batches that can be read back; how many to each partition.
fn fill(store: &Arc<Store>, ids: &[ReplicaId], mib: usize) -> Fallible {
    let pool = pool();
    let mut writer = Writer::new(store, ids, None)?;
    for index in 0..mib * 64 {
        let partition = index % ids.len();
        let bytes = patched(&pool, index, writer.ends[partition]);
        writer.send(partition, bytes, false)?;
    }
    writer.settle();
    Ok(())
}

fn read(dir: &Path, partitions: usize, mib: usize) -> Fallible {
    let (store, _) = Store::open(dir, StoreOptions::default())?;
    let ids = make(&store, partitions)?;
    fill(&store, &ids, mib)?;
    store.close();
    drop(store);
    let (store, _) = Store::open(dir, StoreOptions::default())?;
    for what in ["cold", "warm"] {
        let (begin, cpu) = (Instant::now(), cpu_seconds()?);
        let mut bytes = 0;
        for id in &ids {
            let end = store.replica(*id).ok_or("missing")?.row().end;
            let mut from = Offset(0);
            // A fetch takes a mebibyte: 64 batches.
            while from < end {
                let range = OffsetRange { from, limit: from.plus(64).min(end) };
                let mut buffer = Vec::with_capacity(1 << 20);
                store.visit_batches(*id, range, &mut |_, batch| {
                    buffer.extend_from_slice(batch);
                    ControlFlow::Continue(())
                })?;
                bytes += buffer.len();
                from = range.limit;
            }
        }
        let read = bytes as f64 / MIB;
        assert_eq!(bytes, mib << 20, "everything is read");
        println!(
            "read {what}, {partitions} partitions{:>8.0} MiB/s  {:>5.2} ms CPU/MiB",
            read / begin.elapsed().as_secs_f64(),
            (cpu_seconds()? - cpu) * 1000.0 / read
        );
    }
    Ok(())
}

fn folder_mib(dir: &Path) -> Fallible<f64> {
    let mut bytes = 0;
    for database in ["records", "rows"] {
        for entry in std::fs::read_dir(dir.join(database))? {
            let metadata = entry?.metadata();
            // A file may be unlinked between the listing and the look.
            bytes += metadata.map_or(0, |metadata| metadata.len());
        }
    }
    Ok(bytes as f64 / MIB)
}

fn retain(dir: &Path, mib: usize) -> Fallible {
    let (store, _) = Store::open(dir, StoreOptions::default())?;
    let ids = make(&store, 16)?;
    fill(&store, &ids, mib)?;
    let full = folder_mib(dir)?;
    let half = i64::try_from(mib * 64 / 32)?;
    for (what, ids) in [("12 of 16", &ids[..12]), ("the other 4", &ids[12..])] {
        let begin = Instant::now();
        for id in ids {
            let replica = store.replica(*id).ok_or("missing")?;
            store.change_and_wait(&replica, Change::LogStart { to: Offset(half), snapshot: None })?;
        }
        let rows = begin.elapsed();
        // A synced row comes after the unlinking that was asked for before it, or beside it: one more to be sure.
        store.confirm_boot()?;
        store.confirm_boot()?;
        println!(
            "retention of half of {what} partitions: {:.1} ms, files gone after {:.0} ms, folder {full:.0} -> {:.0} MiB",
            rows.as_secs_f64() * 1e3,
            begin.elapsed().as_secs_f64() * 1e3,
            folder_mib(dir)?
        );
    }
    Ok(())
}

fn truncate(dir: &Path, mib: usize) -> Fallible {
    let (store, _) = Store::open(dir, StoreOptions::default())?;
    let ids = make(&store, 16)?;
    fill(&store, &ids, mib)?;
    for id in &ids[..3] {
        let replica = store.replica(*id).ok_or("missing")?;
        let to = replica.row().end.plus(-100);
        let begin = Instant::now();
        store.change_and_wait(&replica, Change::Truncate { to, epochs: Vec::new() })?;
        println!("truncation by 100 batches: {:.1} ms", begin.elapsed().as_secs_f64() * 1e3);
    }
    Ok(())
}

/// kill -9 in the middle of appends; everything that was acknowledged must be there.
fn crash(dir: &Path, rounds: usize) -> Fallible {
    let mut total = 0;
    for round in 0..rounds {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["crash-child", &dir.display().to_string()])
            .stdout(Stdio::null())
            .spawn()?;
        std::thread::sleep(Duration::from_millis(700 + 377 * round as u64));
        child.kill()?;
        child.wait()?;
        let begin = Instant::now();
        let (store, recovered) = Store::open(dir, StoreOptions::default())?;
        let opened = begin.elapsed();
        let acknowledged = std::fs::read(dir.join("acknowledged"))?;
        let mut rows = store.replicas();
        rows.sort_by_key(|row| row.partition);
        let mut here = 0;
        for (row, bytes) in rows.iter().zip(acknowledged.chunks_exact(8)) {
            let end = i64::from_le_bytes(bytes.try_into()?);
            let mut expected = 0;
            let range = OffsetRange { from: Offset(0), limit: row.end };
            store.visit_batches(row.replica, range, &mut |base, _| {
                assert_eq!(base.get(), expected, "replica {} has a gap", row.replica);
                expected += 1;
                ControlFlow::Continue(())
            })?;
            assert!(expected >= end, "replica {}: {end} acknowledged, {expected} there", row.replica);
            assert_eq!(expected, row.end.get());
            here += end;
        }
        total = here;
        println!(
            "kill -9, round {round}: {here} batches acknowledged, all there; open {:.0} ms{}",
            opened.as_secs_f64() * 1e3,
            if recovered.unclean { ", UNCLEAN" } else { "" }
        );
    }
    assert!(total > 0, "nothing was acknowledged: the test is vacuous");
    Ok(())
}

fn crash_child(dir: &Path) -> Fallible {
    let (store, _) = Store::open(dir, StoreOptions::default())?;
    let mut ids: Vec<_> = store.replicas().iter().map(|row| (row.partition, row.replica)).collect();
    ids.sort_unstable();
    let mut ids: Vec<_> = ids.into_iter().map(|(_, id)| id).collect();
    if ids.is_empty() {
        ids = make(&store, 16)?;
    }
    let file = File::options().create(true).truncate(false).write(true).open(dir.join("acknowledged"))?;
    let mut writer = Writer::new(&store, &ids, Some(Arc::new(file)))?;
    let pool = pool();
    for index in 0.. {
        let partition = index % ids.len();
        let bytes = patched(&pool, index, writer.ends[partition]);
        writer.send(partition, bytes, partition == 0)?;
    }
    Ok(())
}

/// Opens many partitions with many generations each.
fn many(dir: &Path, partitions: usize, generations: usize) -> Fallible {
    let options = StoreOptions { generation_bytes: partitions * (1024 + 64), ..StoreOptions::default() };
    let (store, _) = Store::open(dir, options)?;
    let begin = Instant::now();
    let ids = make(&store, partitions)?;
    println!("{partitions} partitions made in {:.0} ms", begin.elapsed().as_secs_f64() * 1e3);
    let small: Vec<Bytes> = pool().iter().take(64).map(|bytes| bytes.slice(..1024)).collect();
    let mut writer = Writer::new(&store, &ids, None)?;
    for generation in 0..generations {
        for partition in 0..partitions {
            let bytes = patched(&small, partition + generation, writer.ends[partition]);
            writer.send(partition, bytes, false)?;
        }
    }
    writer.settle();
    println!("{} rolls; folder {:.0} MiB", store.counters().rolls.load(Ordering::Relaxed), folder_mib(dir)?);
    drop(writer);
    drop(store);
    let before = status_mib("VmRSS")?;
    for what in ["after a crash", "again"] {
        let (begin, cpu) = (Instant::now(), cpu_seconds()?);
        let (store, _) = Store::open(dir, options)?;
        let opened = begin.elapsed();
        let rows = store.replicas();
        assert_eq!(rows.len(), partitions);
        assert!(rows.iter().all(|row| row.end.get() == i64::try_from(generations).unwrap_or(0)), "every log is whole");
        println!(
            "open {partitions} partitions x {generations} generations {what}: {:.0} ms, {:.2} s CPU, resident {before} -> {} MiB",
            opened.as_secs_f64() * 1e3,
            cpu_seconds()? - cpu,
            status_mib("VmRSS")?
        );
        let mut read = 0;
        let begin = Instant::now();
        for id in ids.iter().step_by(101) {
            let range = OffsetRange { from: Offset(0), limit: Offset(i64::try_from(generations)?) };
            store.visit_batches(*id, range, &mut |_, _| {
                read += 1;
                ControlFlow::Continue(())
            })?;
        }
        println!(
            "{read} batches of {} partitions read one by one: {:.0} ms",
            ids.len().div_ceil(101),
            begin.elapsed().as_secs_f64() * 1e3
        );
        store.close();
    }
    Ok(())
}
