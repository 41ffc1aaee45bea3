//! The load that a broker is killed under: one producer per topic that sends as fast as it can, and a process that commits
//! and is killed with the broker: a commit that waits for an answer would be sent again after the restart, and hide that
//! an earlier one was lost. No producer outlives its broker either, and none sends a record twice on its own account.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseRecord, ProducerContext, ThreadedProducer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::disk::Records;
use super::promises::{self, Promises};
use super::{DEADLINE, PARTITIONS, SHORT_LIVED, TOPIC, Topic};
use crate::broker::{now, pause};

/// What was promised, for everybody who hears a promise.
#[derive(Clone, Default)]
pub struct Journal {
    promises: Arc<Mutex<Promises>>,
    sent: Arc<AtomicU64>,
}

impl Journal {
    /// The promises so far.
    pub fn promises(&self) -> MutexGuard<'_, Promises> {
        self.promises.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// How many records were given a number.
    pub fn sent(&self) -> usize {
        usize::try_from(self.sent.load(Ordering::Relaxed)).unwrap_or(usize::MAX)
    }
}

/// Receives the acknowledgements of one topic.
struct Acknowledgements {
    topic: &'static str,
    journal: Journal,
}

impl ClientContext for Acknowledgements {}

impl ProducerContext for Acknowledgements {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        // A failure promises nothing: the record may or may not be there.
        let Ok(message) = result else { return };
        let number = promises::number_of(message.payload().unwrap_or_default());
        self.journal.promises().acknowledge(self.topic, message.partition(), message.offset(), number);
    }
}

/// The moment at which a broker is killed, once there were enough acknowledgements.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Moment {
    /// At once.
    Any,
    /// As the store rolls its generation.
    Roll,
    /// As retention has moved a log start offset.
    LogStart,
    /// As the files of a dead generation go.
    Unlink,
}

/// Everything that sends at one broker.
pub struct Load {
    stopping: Arc<AtomicBool>,
    journal: Journal,
    /// What each topic and the commits had come to before.
    already: (BTreeMap<&'static str, usize>, i64),
    committer: Option<Child>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts producers for these topics with their `acks`; with the first of all topics among them, also the commits.
    pub fn start(bootstrap: &str, topics: &[(&'static Topic, &str)], journal: &Journal) -> Result<Self, String> {
        let already = {
            let promises = journal.promises();
            let of = |name| promises.counts.get(name).copied().unwrap_or(0);
            (topics.iter().map(|(topic, _)| (topic.name, of(topic.name))).collect(), promises.commit)
        };
        let stopping = Arc::new(AtomicBool::new(false));
        let mut load = Self { stopping, journal: journal.clone(), already, committer: None, threads: Vec::new() };
        if topics.iter().any(|(topic, _)| topic.name == TOPIC) {
            let (committer, listening) = start_committer(bootstrap, journal)?;
            load.committer = Some(committer);
            load.threads.push(listening);
        }
        for (topic, acks) in topics {
            let producer = producer(bootstrap, acks, Acknowledgements { topic: topic.name, journal: journal.clone() })?;
            let (stopping, sent, name) = (load.stopping.clone(), journal.sent.clone(), topic.name);
            load.threads.push(std::thread::spawn(move || produce(&producer, name, &sent, &stopping)));
        }
        Ok(load)
    }

    /// Waits for so many acknowledgements, some of them of each topic and of the commits; then for the moment. What the
    /// disk showed last before a roll began.
    pub fn until(&self, count: usize, moment: Moment, bootstrap: &str, data: &Path) -> Result<Option<Records>, String> {
        wait("the load stands still", Duration::from_millis(2), || {
            let promises = self.journal.promises();
            let committed = self.committer.is_none() || promises.commit > self.already.1;
            let came = self.already.0.iter().map(|(topic, before)| promises.counts.get(topic).unwrap_or(&0) - before);
            let came: Vec<usize> = came.collect();
            Ok((committed && !came.contains(&0) && came.iter().sum::<usize>() >= count).then_some(()))
        })?;
        match moment {
            Moment::Any => Ok(None),
            Moment::Roll => {
                let mut before = Records::look(data)?;
                wait("no roll began", Duration::from_micros(200), || {
                    let look = Records::look(data)?;
                    let rolled = look.rolled_since(&before);
                    if !rolled {
                        before = look;
                    }
                    Ok(rolled.then_some(()))
                })?;
                Ok(Some(before))
            }
            Moment::LogStart => {
                let consumer = super::verify::reader(bootstrap)?;
                let first = log_start(&consumer)?;
                let moved = || Ok((log_start(&consumer)? > first).then_some(()));
                wait("retention moved no log start", Duration::from_millis(5), moved).map(|()| None)
            }
            Moment::Unlink => {
                let mut before = Records::look(data)?;
                let dropped = || {
                    let look = Records::look(data)?;
                    let dropped = look.dropped_since(&before);
                    before = look;
                    Ok(dropped.then_some(()))
                };
                wait("no file of a dead generation went", Duration::from_micros(500), dropped).map(|()| None)
            }
        }
    }

    /// Ends the load of a broker that was killed, when every acknowledgement that was on its way has come.
    pub fn stop(mut self) -> Result<(), String> {
        self.stopping.store(true, Ordering::Relaxed);
        let mut ended = None;
        if let Some(committer) = &mut self.committer {
            ended = committer.try_wait().map_err(|e| e.to_string())?;
            committer.kill().and_then(|()| committer.wait()).map_err(|e| e.to_string())?;
        }
        for thread in self.threads {
            thread.join().map_err(|_| "a thread of the load panicked".to_owned())?;
        }
        ended.map_or(Ok(()), |status| Err(format!("the process that commits had ended by itself: {status}")))
    }
}

/// Asks until there is an answer.
fn wait<T>(
    otherwise: &str,
    between: Duration,
    mut ask: impl FnMut() -> Result<Option<T>, String>,
) -> Result<T, String> {
    let deadline = now() + DEADLINE;
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        if now() > deadline {
            return Err(otherwise.to_owned());
        }
        pause(between);
    }
}

fn log_start(consumer: &BaseConsumer) -> Result<i64, String> {
    let marks = consumer.fetch_watermarks(SHORT_LIVED.name, 0, DEADLINE);
    marks.map(|(low, _)| low).map_err(|e| e.to_string())
}

fn producer(
    bootstrap: &str,
    acks: &str,
    context: Acknowledgements,
) -> Result<ThreadedProducer<Acknowledgements>, String> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        .set("acks", acks)
        .set("linger.ms", "1")
        .set("batch.size", "16384")
        .set("message.timeout.ms", "5000")
        .set("queue.buffering.max.messages", "20000");
    match acks {
        "all" => config.set("enable.idempotence", "true"),
        // A record that is sent again may rightly stand twice.
        _ => config.set("retries", "0"),
    };
    config.create_with_context(context).map_err(|e| e.to_string())
}

fn produce(producer: &ThreadedProducer<Acknowledgements>, topic: &str, sent: &AtomicU64, stopping: &AtomicBool) {
    while !stopping.load(Ordering::Relaxed) {
        let value = promises::value_of(sent.fetch_add(1, Ordering::Relaxed));
        let mut record = BaseRecord::<(), [u8]>::to(topic).payload(&value);
        while let Err((error, back)) = producer.send(record) {
            if error != KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) {
                return eprintln!("producer of {topic}: {error}");
            }
            if stopping.load(Ordering::Relaxed) {
                return;
            }
            // What was sent is being acknowledged meanwhile.
            pause(Duration::from_millis(2));
            record = back;
        }
    }
}

/// Starts the process that commits, and a thread that keeps what was acknowledged to it.
fn start_committer(bootstrap: &str, journal: &Journal) -> Result<(Child, JoinHandle<()>), String> {
    let own = std::env::current_exe().map_err(|e| e.to_string())?;
    let mut child = Command::new(own)
        .arg("committer")
        .env("COMMITTER_BOOTSTRAP", bootstrap)
        .env("COMMITTER_FIRST", journal.promises().commit.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| e.to_string())?;
    let stdout = child.stdout.take().ok_or("no stdout")?;
    let journal = journal.clone();
    let listening = std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            // A line that the kill has cut short is no promise.
            if let Some(offset) = line.strip_suffix(" committed").and_then(|offset| offset.parse().ok()) {
                journal.promises().commit = offset;
            }
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
    let consumer: BaseConsumer = super::verify::reader(&variable("COMMITTER_BOOTSTRAP")?)?;
    let mut next: i64 = variable("COMMITTER_FIRST")?.parse().map_err(|e| format!("{e}"))?;
    next += 1;
    loop {
        let mut list = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            list.add_partition_offset(TOPIC, partition, Offset::Offset(next)).map_err(|e| e.to_string())?;
        }
        // What was refused or not answered promises nothing; it is tried again, so that no commit is skipped.
        if consumer.commit(&list, CommitMode::Sync).is_ok() {
            println!("{next} committed");
            next += 1;
        }
    }
}
