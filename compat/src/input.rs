//! Real input, end to end: an access log of a million lines goes through every codec, is read by a group of three of which
//! one is killed in the middle, and every line must come out, byte for byte, in order per key.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};

use crate::broker::Target;
use crate::table::Table;

/// How much goes through, and by which codecs.
#[derive(Clone, Copy)]
pub struct Size {
    lines: usize,
    codecs: &'static [&'static str],
}

/// What the project promises: a million lines by every codec.
pub const FULL: Size = Size { lines: 1_000_000, codecs: &["none", "gzip", "snappy", "lz4", "zstd"] };
/// For CI.
pub const SHORT: Size = Size { lines: 100_000, codecs: &["none", "zstd"] };

const PARTITIONS: usize = 6;
const DEADLINE: Duration = Duration::from_secs(300);
/// A quiet member looks whether it should end, this often.
const POLL: Duration = Duration::from_millis(200);

/// Runs it for each codec.
pub fn run(table: &mut Table, size: Size) {
    let target = match Target::open() {
        Ok(target) => target,
        Err(reason) => return table.case("real input", "the broker starts", || Err(reason)),
    };
    let log: Vec<(String, String)> = (0..size.lines).map(line).collect();
    for codec in size.codecs {
        let what = format!("{} lines, {codec}, a group of three with one member killed", size.lines);
        table.case("real input", &what, || through(&target.bootstrap, codec, &log));
    }
}

/// One line of an access log, with the client's address as its key. The same for the same number.
fn line(number: usize) -> (String, String) {
    let mut state = (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678;
    let mut draw = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    const PATHS: [&str; 6] = ["/", "/index.html", "/api/v1/orders", "/api/v1/users", "/static/app.js", "/søk?q=øl"];
    const AGENTS: [&str; 3] =
        ["curl/8.5.0", "Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/128.0", "Go-http-client/2.0"];
    const STATUS: [u16; 6] = [200, 200, 200, 304, 404, 500];
    let key = format!("10.{}.{}.{}", draw(4), draw(8), draw(32));
    let (hour, minute, second) = (number / 3600 % 24, number / 60 % 60, number % 60);
    let text = format!(
        "{key} - - [21/Nov/2026:{hour:02}:{minute:02}:{second:02} +0000] \"GET {} HTTP/1.1\" {} {} \"-\" \"{}\" #{number}",
        PATHS[draw(6) as usize],
        STATUS[draw(6) as usize],
        draw(100_000),
        AGENTS[draw(3) as usize],
    );
    (key, text)
}

fn through(bootstrap: &str, codec: &str, log: &[(String, String)]) -> Result<String, String> {
    let topic = format!("log-{codec}-{}", std::process::id());
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    make_topic(bootstrap, &topic)?;
    let mut group = Group::start(bootstrap, &topic, folder.path())?;
    // The group reads while the lines are written, and catches up after one of its members was killed.
    let killed_after = std::thread::scope(|scope| {
        let producing = scope.spawn(|| produce(bootstrap, &topic, codec, log));
        let killed_after = group.kill_one_after(log.len() / 10);
        let produced = producing.join().map_err(|_| "the producer panicked".to_owned())?;
        produced.and(killed_after)
    })?;
    group.read_out(log)?;
    Ok(format!("{killed_after} read by the member that was killed"))
}

/// Three members, each a process of its own, that write what they read to a file each.
struct Group {
    members: Vec<Child>,
    files: Vec<PathBuf>,
    told: mpsc::Receiver<(usize, Said)>,
    read: [usize; 3],
}

/// What a member says of itself, on its standard output.
enum Said {
    /// It owns so many partitions now.
    Owns(usize),
    /// It has read, written down and committed so many records.
    Read(usize),
}

impl Group {
    /// Starts the members and waits until each owns its third.
    fn start(bootstrap: &str, topic: &str, folder: &Path) -> Result<Self, String> {
        let files: Vec<_> = (0..3).map(|i| folder.join(format!("member{i}"))).collect();
        let (tell, told) = mpsc::channel();
        let mut group = Self { members: Vec::new(), files, told, read: [0; 3] };
        for number in 0..3 {
            let member = start_member(bootstrap, topic, &group.files[number], number, tell.clone())?;
            group.members.push(member);
        }
        let mut owned = [0; 3];
        let deadline = now() + DEADLINE;
        while owned.iter().any(|count| *count != PARTITIONS / 3) {
            if let (number, Said::Owns(count)) = group.hear(deadline)? {
                owned[number] = count;
            }
        }
        Ok(group)
    }

    fn hear(&mut self, deadline: Instant) -> Result<(usize, Said), String> {
        let said = self.told.recv_timeout(deadline.saturating_duration_since(now()));
        let (number, said) = said.map_err(|_| format!("the group stands still at {:?}", self.read))?;
        if let Said::Read(count) = said {
            self.read[number] = count;
        }
        Ok((number, said))
    }

    /// kill -9 for the first member once it has read more than so many records; how many it had.
    fn kill_one_after(&mut self, records: usize) -> Result<usize, String> {
        let deadline = now() + DEADLINE;
        while self.read[0] <= records {
            self.hear(deadline)?;
        }
        self.members[0].kill().and_then(|()| self.members[0].wait()).map_err(|e| e.to_string())?;
        Ok(self.read[0])
    }

    /// Waits until the members left have read everything, right.
    fn read_out(&mut self, log: &[(String, String)]) -> Result<(), String> {
        let deadline = now() + DEADLINE;
        let mut quiet = [false; 3];
        loop {
            let before = self.read;
            let (number, _) = self.hear(deadline)?;
            // A member says the same number again when it found nothing new: only then is it worth to look.
            quiet[number] = before[number] == self.read[number];
            if !(quiet[1] && quiet[2]) {
                continue;
            }
            quiet = [false; 3];
            match check(&self.files, log)? {
                0 => return Ok(()),
                missing if now() > deadline => return Err(format!("{missing} lines are missing")),
                _ => {}
            }
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for member in &mut self.members {
            // The killed one is gone already; the others have done their work.
            let _ = member.kill();
            let _ = member.wait();
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "other processes are waited for, and they live by the real clock")]
fn now() -> Instant {
    Instant::now()
}

fn make_topic(bootstrap: &str, topic: &str) -> Result<(), String> {
    use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
    use rdkafka::client::DefaultClientContext;
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", bootstrap).create().map_err(|e: KafkaError| e.to_string())?;
    let new = NewTopic::new(topic, PARTITIONS as i32, TopicReplication::Fixed(1));
    let (tell, told) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let runtime = tokio_free_block_on(admin.create_topics(&[new], &AdminOptions::new()));
            // The receiver lives until this scope ends.
            let _ = tell.send(runtime);
        });
    });
    let results = told.recv().map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
    results.into_iter().try_for_each(|result| result.map(|_| ()).map_err(|(name, code)| format!("{name}: {code}")))
}

/// Runs a future to its end on this thread; librdkafka wakes it from its own.
fn tokio_free_block_on<F: Future>(future: F) -> F::Output {
    use std::task::{Context, Poll, Wake, Waker};
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(std::sync::Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

fn produce(bootstrap: &str, topic: &str, codec: &str, log: &[(String, String)]) -> Result<(), String> {
    let producer: ThreadedProducer<_> = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("compression.type", codec)
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("linger.ms", "5")
        .create()
        .map_err(|e: KafkaError| e.to_string())?;
    for (key, text) in log {
        let mut record = BaseRecord::to(topic).key(key).payload(text);
        loop {
            match producer.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    producer.flush(Duration::from_millis(50)).ok();
                }
                Err((error, _)) => return Err(error.to_string()),
            }
        }
    }
    producer.flush(DEADLINE).map_err(|e| e.to_string())
}

fn start_member(
    bootstrap: &str,
    topic: &str,
    file: &Path,
    number: usize,
    tell: mpsc::Sender<(usize, Said)>,
) -> Result<Child, String> {
    let own = std::env::current_exe().map_err(|e| e.to_string())?;
    let mut child = Command::new(own)
        .arg("member")
        .env("MEMBER_BOOTSTRAP", bootstrap)
        .env("MEMBER_TOPIC", topic)
        .env("MEMBER_FILE", file)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| e.to_string())?;
    let stdout = child.stdout.take().ok_or("no stdout")?;
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let Some((word, count)) = line.split_once(' ') else { continue };
            let Ok(count) = count.parse() else { continue };
            let said = if word == "owns" { Said::Owns(count) } else { Said::Read(count) };
            // Nobody listens any more once the check has passed.
            let _ = tell.send((number, said));
        }
    });
    Ok(child)
}

/// The process of one group member: writes `assignment partition offset key value` lines to its file, all of them before
/// each commit.
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
    let mut file = BufWriter::new(file);
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
        match consumer.poll(POLL) {
            Some(Ok(message)) => {
                write_down(&mut file, consumer.context().0.load(Ordering::Relaxed), &message)
                    .map_err(|e| e.to_string())?;
                count += 1;
                if count - told < 5000 {
                    continue;
                }
            }
            Some(Err(error)) => eprintln!("member: {error}"),
            None => {}
        }
        if count > told {
            file.flush().map_err(|e| e.to_string())?;
            // A rebalance may refuse the commit: then the records come again, to whoever owns the partition.
            let _ = consumer.commit_consumer_state(CommitMode::Sync);
        }
        told = count;
        println!("read {count}");
    }
}

fn write_down(file: &mut impl Write, assignment: usize, message: &BorrowedMessage<'_>) -> std::io::Result<()> {
    write!(file, "{assignment} {} {} ", message.partition(), message.offset())?;
    file.write_all(message.key().unwrap_or_default())?;
    file.write_all(b"\t")?;
    file.write_all(message.payload().unwrap_or_default())?;
    file.write_all(b"\n")
}

/// A record as a member wrote it down.
struct Seen<'a> {
    assignment: usize,
    at: (i32, i64),
    key: &'a str,
    value: &'a str,
}

impl<'a> Seen<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut parts = line.splitn(4, ' ');
        let assignment = parts.next()?.parse().ok()?;
        let at = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let (key, value) = parts.next()?.split_once('\t')?;
        Some(Self { assignment, at, key, value })
    }
}

/// How many lines are still missing; an error when what was read is wrong.
fn check(files: &[PathBuf], log: &[(String, String)]) -> Result<usize, String> {
    let texts = files.iter().map(|file| whole_lines(file)).collect::<Result<Vec<_>, _>>()?;
    let mut read: BTreeMap<(i32, i64), (&str, &str)> = BTreeMap::new();
    for text in &texts {
        let mut last: HashMap<(usize, i32), i64> = HashMap::new();
        for line in text.lines() {
            let seen = Seen::parse(line).ok_or_else(|| format!("a broken line: {line}"))?;
            let (partition, offset) = seen.at;
            if let Some(before) = last.insert((seen.assignment, partition), offset)
                && before + 1 != offset
            {
                return Err(format!("partition {partition}: {offset} came after {before}"));
            }
            let record = (seen.key, seen.value);
            if read.insert(seen.at, record).is_some_and(|before| before != record) {
                return Err(format!("{partition}@{offset} was read twice with different content"));
            }
        }
    }
    compare(&read, log)
}

/// What a member wrote, without the last line of a killed one, which may be cut.
fn whole_lines(file: &Path) -> Result<String, String> {
    let mut bytes = std::fs::read(file).map_err(|e| e.to_string())?;
    bytes.truncate(bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1));
    String::from_utf8(bytes).map_err(|e| format!("{}: {e}", file.display()))
}

fn compare(read: &BTreeMap<(i32, i64), (&str, &str)>, log: &[(String, String)]) -> Result<usize, String> {
    if read.len() < log.len() {
        return Ok(log.len() - read.len());
    }
    if read.len() > log.len() {
        return Err(format!("{} records for {} lines", read.len(), log.len()));
    }
    let mut by_key: HashMap<&str, Vec<&str>> = HashMap::new();
    for (key, value) in read.values() {
        by_key.entry(key).or_default().push(value);
    }
    let mut wanted: HashMap<&str, Vec<&str>> = HashMap::new();
    for (key, value) in log {
        wanted.entry(key).or_default().push(value);
    }
    if by_key == wanted { Ok(0) } else { Err("lines differ, or stand in another order, for some key".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log() -> Vec<(String, String)> {
        [("a", "1"), ("b", "2"), ("a", "3")].map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec()
    }

    /// What check() says of members that wrote this.
    fn checked(members: &[&str]) -> Result<usize, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |(number, text): (usize, &&str)| {
            let file = folder.path().join(number.to_string());
            std::fs::write(&file, text).expect("written");
            file
        };
        let files: Vec<_> = members.iter().enumerate().map(write).collect();
        check(&files, &log())
    }

    #[test]
    fn what_two_members_read_together_is_complete() {
        assert_eq!(checked(&["1 0 0 a\t1\n1 1 0 b\t2\n", "1 0 0 a\t1\n1 0 1 a\t3\n"]), Ok(0));
    }

    #[test]
    fn a_line_that_was_cut_by_the_kill_is_missing() {
        assert_eq!(checked(&["1 0 0 a\t1\n1 1 0 b\t2\n1 0 1 a\t3"]), Ok(1));
    }

    #[test]
    fn an_order_other_than_the_keys_is_refused() {
        assert!(checked(&["1 0 0 a\t3\n1 0 1 a\t1\n1 1 0 b\t2\n"]).is_err());
    }

    #[test]
    fn a_gap_within_an_assignment_is_refused_and_after_another_is_not() {
        assert!(checked(&["1 0 0 a\t1\n1 0 2 a\t3\n1 1 0 b\t2\n"]).is_err());
        assert_eq!(checked(&["1 0 0 a\t1\n2 0 2 a\t3\n2 1 0 b\t2\n"]), Ok(0));
    }

    #[test]
    fn a_changed_byte_is_refused() {
        assert!(checked(&["1 0 0 a\t1\n1 1 0 b\t9\n1 0 1 a\t3\n"]).is_err());
        assert!(checked(&["1 0 0 a\t1\n1 1 0 b\t2\n1 0 1 a\t3\n2 1 0 b\tx\n"]).is_err());
    }
}
