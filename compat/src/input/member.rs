//! One member of the group, a process of its own: it can be killed.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};

/// A quiet member says so this often.
const POLL: Duration = Duration::from_millis(200);
/// So many records are read between two commits at most.
const BETWEEN_COMMITS: usize = 5000;

/// The process of one group member: writes down each record as it comes, all of them before each commit, and each commit
/// that was acknowledged.
pub fn member() -> ExitCode {
    match run_member() {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("member: {reason}");
            ExitCode::FAILURE
        }
    }
}

/// Counts the assignments: within one, a partition's records must come without a gap and in order.
#[derive(Default)]
struct Assignments(AtomicUsize);

impl ClientContext for Assignments {}

impl ConsumerContext for Assignments {
    fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(partitions) = rebalance {
            self.0.fetch_add(1, Ordering::Relaxed);
            println!("owns {}", partitions.count());
        }
    }
}

fn run_member() -> Result<(), String> {
    let variable = |name: &str| std::env::var(name).map_err(|e| format!("{name}: {e}"));
    let (bootstrap, topic) = (variable("MEMBER_BOOTSTRAP")?, variable("MEMBER_TOPIC")?);
    let file = std::fs::File::create(variable("MEMBER_FILE")?).map_err(|e| e.to_string())?;
    let mut notes = Notes { file: BufWriter::new(file), assignment: 0, next: BTreeMap::new() };
    let consumer: BaseConsumer<Assignments> = ClientConfig::new()
        .set("bootstrap.servers", &bootstrap)
        .set("group.id", &topic)
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .set("session.timeout.ms", "6000")
        .set("check.crcs", "true")
        .create_with_context(Assignments::default())
        .map_err(|e: KafkaError| e.to_string())?;
    consumer.subscribe(&[&topic]).map_err(|e| e.to_string())?;
    let (mut count, mut told) = (0usize, 0usize);
    loop {
        let message = consumer.poll(POLL).transpose().map_err(|e| e.to_string())?;
        notes.now_in(consumer.context().0.load(Ordering::Relaxed));
        if let Some(message) = message {
            notes.record(&message).map_err(|e| e.to_string())?;
            count += 1;
            if count - told < BETWEEN_COMMITS {
                continue;
            }
        }
        if count > told {
            notes.file.flush().map_err(|e| e.to_string())?;
            match consumer.commit_consumer_state(CommitMode::Sync) {
                Ok(()) => notes.committed().map_err(|e| e.to_string())?,
                // Then the records come again, to whoever owns the partition.
                Err(error) if is_by_rebalance(&error) => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        told = count;
        println!("read {count}");
    }
}

/// True for a commit that is refused because the group is being dealt anew.
fn is_by_rebalance(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{AssignmentLost, IllegalGeneration, NoOffset, RebalanceInProgress, UnknownMemberId};
    matches!(
        error,
        KafkaError::ConsumerCommit(
            AssignmentLost | IllegalGeneration | NoOffset | RebalanceInProgress | UnknownMemberId
        )
    )
}

/// What a member writes down: `R assignment partition offset key<tab>value` for a record, and
/// `C assignment partition offset` for a commit that was acknowledged.
struct Notes {
    file: BufWriter<std::fs::File>,
    assignment: usize,
    /// By partition, the offset after the last record of this assignment.
    next: BTreeMap<i32, i64>,
}

impl Notes {
    fn now_in(&mut self, assignment: usize) {
        if assignment != self.assignment {
            self.assignment = assignment;
            self.next.clear();
        }
    }

    fn record(&mut self, message: &BorrowedMessage<'_>) -> std::io::Result<()> {
        self.next.insert(message.partition(), message.offset() + 1);
        let file = &mut self.file;
        write!(file, "R {} {} {} ", self.assignment, message.partition(), message.offset())?;
        file.write_all(message.key().unwrap_or_default())?;
        file.write_all(b"\t")?;
        file.write_all(message.payload().unwrap_or_default())?;
        file.write_all(b"\n")
    }

    fn committed(&mut self) -> std::io::Result<()> {
        for (partition, next) in &self.next {
            writeln!(self.file, "C {} {partition} {next}", self.assignment)?;
        }
        self.file.flush()
    }
}
