//! kill -9 in the middle of load: every acknowledged record must be there after the restart, at its offset, once, and every
//! acknowledged offset commit too. Some rounds are killed during a roll of the store's generation (a new write-ahead file
//! appears). Then a build that acknowledges before it writes must be caught by the same check, or the check is worth nothing.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseRecord, ProducerContext, ThreadedProducer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::broker::{Broker, free_port, now};
use crate::table::Table;

/// How many rounds, of how many acknowledgements each, and how many of them are killed during a roll.
#[derive(Clone, Copy)]
pub struct Size {
    rounds: usize,
    acknowledgements: usize,
    during_roll: usize,
}

/// What the project promises.
pub const FULL: Size = Size { rounds: 20, acknowledgements: 100_000, during_roll: 6 };
/// For CI.
pub const SHORT: Size = Size { rounds: 4, acknowledgements: 50_000, during_roll: 2 };

const TOPIC: &str = "crash";
const GROUP: &str = "crash-group";
const PARTITIONS: i32 = 4;
const DEADLINE: Duration = Duration::from_secs(120);

/// The rounds, then the build that must be caught.
pub fn run(table: &mut Table, size: Size) {
    table.case(
        "crash",
        &format!("{} rounds of kill -9 under load, {} during a roll", size.rounds, size.during_roll),
        || {
            let outcome = rounds(&None, size)?;
            if outcome.lost.is_empty() { Ok(outcome.summary) } else { Err(outcome.lost.join("\n")) }
        },
    );
    table.case("crash", "a build that acknowledges before it writes is caught", || {
        let mutant = Some(build_mutant()?);
        for _ in 0..5 {
            let outcome = rounds(&mutant, Size { rounds: 3, acknowledgements: 20_000, during_roll: 0 })?;
            if let Some(first) = outcome.lost.first() {
                return Ok(first.clone());
            }
        }
        Err("fifteen kills, and nothing was found missing".to_owned())
    });
}

/// Builds the broker with the mutation that the check must catch, in the folder that we were built in.
fn build_mutant() -> Result<PathBuf, String> {
    let root = crate::clients::folder("..");
    let own = std::env::current_exe().map_err(|e| e.to_string())?;
    let release = own.parent().ok_or("no folder of our own")?;
    let target = release.parent().ok_or("no target folder")?;
    let build = |features: &str| {
        let cargo = crate::clients::command("cargo").args_str("build --release --locked -p ottla --bin ottla");
        cargo.args_str(features).env("CARGO_TARGET_DIR", target).within(&root).output()
    };
    let (built, kept) = (release.join("ottla"), release.join("ottla-acknowledges-before-write"));
    build("--features mutation-acknowledges-before-write")?;
    std::fs::copy(&built, &kept).map_err(|e| format!("{}: {e}", built.display()))?;
    // The honest build goes back to its place; cargo has kept it.
    build("")?;
    Ok(kept)
}

struct Outcome {
    summary: String,
    lost: Vec<String>,
}

/// What the broker has promised so far: the value acknowledged at each offset, and the commits acknowledged.
#[derive(Default)]
struct Promises {
    records: HashMap<(i32, i64), u64>,
    commits: HashMap<i32, i64>,
    doubled: Vec<String>,
}

/// Receives the acknowledgements.
#[derive(Clone, Default)]
struct Acknowledged {
    promises: Arc<Mutex<Promises>>,
    count: Arc<AtomicUsize>,
}

impl ClientContext for Acknowledged {}

impl ProducerContext for Acknowledged {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        // A failure promises nothing: the record may or may not be there.
        let Ok(message) = result else { return };
        let value = number_of(message.payload().unwrap_or_default());
        let mut promises = self.promises.lock().unwrap_or_else(|e| e.into_inner());
        let at = (message.partition(), message.offset());
        if let Some(before) = promises.records.insert(at, value)
            && before != value
        {
            promises.doubled.push(format!("{at:?} was acknowledged for {before} and for {value}"));
        }
        self.count.fetch_add(1, Ordering::Relaxed);
    }
}

fn number_of(payload: &[u8]) -> u64 {
    payload.first_chunk::<8>().map_or(u64::MAX, |bytes| u64::from_be_bytes(*bytes))
}

fn rounds(binary: &Option<PathBuf>, size: Size) -> Result<Outcome, String> {
    let data = tempfile::tempdir().map_err(|e| e.to_string())?;
    let port = free_port()?;
    let start = || {
        let overrides = ["num.partitions=4"];
        match binary {
            Some(binary) => Broker::start_binary(binary, data.path(), port, &overrides),
            None => Broker::start(data.path(), port, &overrides),
        }
    };
    let acknowledged = Acknowledged::default();
    let mut lost = Vec::new();
    let mut in_roll = 0;
    for round in 0..size.rounds {
        let broker = start()?;
        let acks = if round % 2 == 0 { "1" } else { "all" };
        let want_roll = in_roll < size.during_roll;
        let load = Load::start(&broker.bootstrap(), acks, &acknowledged)?;
        let rolled = load.until(size.acknowledgements, want_roll.then_some(data.path()));
        broker.kill()?;
        load.stop();
        in_roll += usize::from(rolled?);
        let broker = start()?;
        let promises = acknowledged.promises.lock().unwrap_or_else(|e| e.into_inner());
        verify(&broker.bootstrap(), &promises, &mut lost)?;
        drop(promises);
        match broker.stop()? {
            0 => {}
            code => return Err(format!("SIGTERM: exit code {code}")),
        }
        if !lost.is_empty() {
            break;
        }
    }
    if in_roll < size.during_roll {
        return Err(format!("only {in_roll} kills fell into a roll"));
    }
    let promises = acknowledged.promises.lock().unwrap_or_else(|e| e.into_inner());
    lost.extend(promises.doubled.iter().cloned());
    let (records, commits) = (promises.records.len(), promises.commits.get(&0).copied().unwrap_or(0));
    if commits == 0 {
        return Err("no commit was acknowledged".to_owned());
    }
    let summary = format!("{records} acknowledged records, {commits} commits, {in_roll} kills during a roll");
    Ok(Outcome { summary, lost })
}

/// A producer that sends as fast as it can, and a process that commits and is killed with the broker: a commit that waits
/// for an answer would be sent again after the restart, and hide that an earlier one was lost.
struct Load {
    stopping: Arc<AtomicBool>,
    acknowledged: Acknowledged,
    already: usize,
    committer: Child,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Load {
    fn start(bootstrap: &str, acks: &str, acknowledged: &Acknowledged) -> Result<Self, String> {
        let stopping = Arc::new(AtomicBool::new(false));
        let already = acknowledged.count.load(Ordering::Relaxed);
        let producer: ThreadedProducer<Acknowledged> = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("acks", acks)
            .set("enable.idempotence", if acks == "all" { "true" } else { "false" })
            .set("linger.ms", "1")
            .set("batch.size", "16384")
            .set("message.timeout.ms", "5000")
            .set("queue.buffering.max.messages", "20000")
            .create_with_context(acknowledged.clone())
            .map_err(|e| e.to_string())?;
        let (stop, from) = (stopping.clone(), already as u64);
        let producing = std::thread::spawn(move || {
            let mut payload = [0u8; 1024];
            let mut number = from << 20;
            while !stop.load(Ordering::Relaxed) {
                payload[..8].copy_from_slice(&number.to_be_bytes());
                match producer.send(BaseRecord::<(), [u8]>::to(TOPIC).payload(&payload)) {
                    Ok(()) => number += 1,
                    // The queue is full: what was sent is being acknowledged meanwhile.
                    Err(_) => producer.poll(Duration::from_millis(5)),
                }
            }
        });
        let (committer, listening) = start_committer(bootstrap, acknowledged)?;
        let threads = vec![producing, listening];
        Ok(Self { stopping, acknowledged: acknowledged.clone(), already, committer, threads })
    }

    /// Waits for so many acknowledgements; then, where a roll is wanted, for one to begin. True when it did.
    fn until(&self, acknowledgements: usize, roll_in: Option<&Path>) -> Result<bool, String> {
        // Nothing is ever sent, and the sender lives on: receiving is a pause.
        let (_silent, pause) = std::sync::mpsc::channel::<()>();
        let deadline = now() + DEADLINE;
        let acknowledged = || self.acknowledged.count.load(Ordering::Relaxed) - self.already;
        while acknowledged() < acknowledgements {
            if now() > deadline {
                return Err(format!("the load stands still at {} acknowledgements", acknowledged()));
            }
            let _ = pause.recv_timeout(Duration::from_millis(2));
        }
        let Some(folder) = roll_in else { return Ok(false) };
        let before = newest_log(folder);
        while newest_log(folder) == before {
            if now() > deadline {
                return Err("no roll began".to_owned());
            }
            let _ = pause.recv_timeout(Duration::from_micros(200));
        }
        Ok(true)
    }

    fn stop(mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        // Where it has ended by itself it has printed why.
        let _ = self.committer.kill();
        let _ = self.committer.wait();
        for thread in self.threads {
            // A thread that panicked has printed why; what it promised before stands.
            let _ = thread.join();
        }
    }
}

/// The largest number of a write-ahead file anywhere below the data folder: it grows when a generation is rolled.
fn newest_log(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .map(|entry| {
            let path = entry.path();
            if path.is_dir() {
                return newest_log(&path);
            }
            let is_log = path.extension().is_some_and(|e| e == "log");
            path.file_stem().filter(|_| is_log).and_then(|s| s.to_str()?.parse().ok()).unwrap_or(0)
        })
        .max()
        .unwrap_or(0)
}

/// Starts the process that commits, and a thread that keeps what was acknowledged to it.
fn start_committer(
    bootstrap: &str,
    acknowledged: &Acknowledged,
) -> Result<(Child, std::thread::JoinHandle<()>), String> {
    let promised = acknowledged.promises.clone();
    let first = promised.lock().unwrap_or_else(|e| e.into_inner()).commits.get(&0).copied().unwrap_or(0);
    let own = std::env::current_exe().map_err(|e| e.to_string())?;
    let mut child = Command::new(own)
        .arg("committer")
        .env("COMMITTER_BOOTSTRAP", bootstrap)
        .env("COMMITTER_FIRST", first.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| e.to_string())?;
    let stdout = child.stdout.take().ok_or("no stdout")?;
    let listening = std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let Ok(offset) = line.parse() else { continue };
            let mut promises = promised.lock().unwrap_or_else(|e| e.into_inner());
            (0..PARTITIONS).for_each(|partition| {
                promises.commits.insert(partition, offset);
            });
        }
    });
    Ok((child, listening))
}

/// The process that commits one offset after another for every partition and prints each that was acknowledged.
pub fn committer() -> ExitCode {
    match commit_on_and_on() {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("committer: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn commit_on_and_on() -> Result<(), String> {
    let variable = |name: &str| std::env::var(name).map_err(|e| format!("{name}: {e}"));
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", variable("COMMITTER_BOOTSTRAP")?)
        .set("group.id", GROUP)
        .set("enable.auto.commit", "false")
        .create()
        .map_err(|e: KafkaError| e.to_string())?;
    let mut next: i64 = variable("COMMITTER_FIRST")?.parse().map_err(|e| format!("{e}"))?;
    loop {
        next += 1;
        let mut list = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            list.add_partition_offset(TOPIC, partition, Offset::Offset(next)).map_err(|e| e.to_string())?;
        }
        // The topic may not be there yet: then nothing is promised.
        if consumer.commit(&list, CommitMode::Sync).is_ok() {
            println!("{next}");
        }
    }
}

/// Reads every partition from its start and compares with what was promised.
fn verify(bootstrap: &str, promises: &Promises, lost: &mut Vec<String>) -> Result<(), String> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", GROUP)
        .set("enable.auto.commit", "false")
        .set("check.crcs", "true")
        .create()
        .map_err(|e: KafkaError| e.to_string())?;
    let mut found = HashMap::new();
    for partition in 0..PARTITIONS {
        read_partition(&consumer, partition, &mut found)?;
    }
    lost.extend(compare(&promises.records, &found));
    let mut list = TopicPartitionList::new();
    (0..PARTITIONS).for_each(|partition| {
        list.add_partition(TOPIC, partition);
    });
    let committed = consumer.committed_offsets(list, DEADLINE).map_err(|e| e.to_string())?;
    for (partition, promised) in &promises.commits {
        let kept = committed.find_partition(TOPIC, *partition).map(|found| found.offset());
        if !matches!(kept, Some(Offset::Offset(offset)) if offset >= *promised) {
            lost.push(format!("partition {partition}: offset {promised} was committed, {kept:?} is kept"));
        }
    }
    Ok(())
}

/// What is wrong with what was found: an acknowledged record that is not at its offset, or that stands at another one too.
fn compare(acknowledged: &HashMap<(i32, i64), u64>, found: &HashMap<(i32, i64), u64>) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut missing: Vec<_> = acknowledged.iter().filter(|(at, value)| found.get(at) != Some(value)).collect();
    missing.sort_unstable();
    if let (Some((first, _)), Some((last, _))) = (missing.first(), missing.last()) {
        wrong.push(format!(
            "{} acknowledged records are not at their offsets, from {first:?} to {last:?}",
            missing.len()
        ));
    }
    let places: HashMap<u64, (i32, i64)> = acknowledged.iter().map(|(at, value)| (*value, *at)).collect();
    for (at, value) in found {
        if let Some(promised) = places.get(value)
            && promised != at
        {
            wrong.push(format!("the record acknowledged at {promised:?} stands at {at:?} too"));
        }
    }
    wrong
}

fn read_partition(consumer: &BaseConsumer, partition: i32, found: &mut HashMap<(i32, i64), u64>) -> Result<(), String> {
    let (low, high) = consumer.fetch_watermarks(TOPIC, partition, DEADLINE).map_err(|e| e.to_string())?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(TOPIC, partition, Offset::Offset(low)).map_err(|e| e.to_string())?;
    consumer.assign(&list).map_err(|e| e.to_string())?;
    let mut next = low;
    while next < high {
        match consumer.poll(DEADLINE) {
            Some(Ok(message)) if message.offset() == next => {
                found.insert((partition, next), number_of(message.payload().unwrap_or_default()));
                next += 1;
            }
            Some(Ok(message)) => {
                return Err(format!("partition {partition}: {} came where {next} was due", message.offset()));
            }
            Some(Err(error)) => return Err(format!("partition {partition}: {error}")),
            None => return Err(format!("partition {partition}: nothing at {next} of {high}")),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(places: &[(i32, i64, u64)]) -> HashMap<(i32, i64), u64> {
        places.iter().map(|(partition, offset, value)| ((*partition, *offset), *value)).collect()
    }

    #[test]
    fn records_that_nobody_acknowledged_are_no_fault() {
        assert!(compare(&at(&[(0, 0, 7)]), &at(&[(0, 0, 7), (0, 1, 8)])).is_empty());
    }

    #[test]
    fn an_acknowledged_record_that_is_gone_or_replaced_is_a_loss() {
        assert_eq!(compare(&at(&[(0, 0, 7), (0, 1, 8)]), &at(&[(0, 0, 9)])).len(), 1);
    }

    #[test]
    fn an_acknowledged_record_that_stands_twice_is_a_fault() {
        assert_eq!(compare(&at(&[(0, 0, 7)]), &at(&[(0, 0, 7), (1, 4, 7)])).len(), 1);
    }
}
