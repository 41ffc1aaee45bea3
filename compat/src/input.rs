//! Real input, end to end: an access log of a million lines goes through every codec, is read by a group of three of which
//! one is killed in the middle, and every line must come out, byte for byte, in order per key.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
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
    produce(bootstrap, &topic, codec, log)?;
    let files: Vec<_> = (0..3).map(|i| folder.path().join(format!("member{i}"))).collect();
    let mut members = Vec::new();
    let (tell, told) = mpsc::channel();
    for (number, file) in files.iter().enumerate() {
        members.push(start_member(bootstrap, &topic, file, number, tell.clone())?);
    }
    // Each member says how much it has read; the first is killed once it has had a good part.
    let mut read = [0usize; 3];
    let mut killed = false;
    loop {
        let (number, count) = told.recv_timeout(DEADLINE).map_err(|_| format!("the group stands still at {read:?}"))?;
        read[number] = count;
        if !killed && read[0] > log.len() / 10 {
            members[0].kill().and_then(|()| members[0].wait()).map_err(|e| e.to_string())?;
            killed = true;
        }
        if killed && check(&files, log)?.is_none() {
            break;
        }
    }
    for member in &mut members {
        // The killed one is gone already; the others have done their work.
        let _ = member.kill();
        let _ = member.wait();
    }
    Ok(format!("{} lines, {} read by the member that was killed", log.len(), read[0]))
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
    tell: mpsc::Sender<(usize, usize)>,
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
            if let Ok(count) = line.parse() {
                // Nobody listens any more once the check has passed.
                let _ = tell.send((number, count));
            }
        }
    });
    Ok(child)
}

/// The process of one group member: writes `partition offset key value` lines to its file, flushed before each commit.
pub fn member() -> ExitCode {
    match run_member() {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("member: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn run_member() -> Result<(), String> {
    let variable = |name: &str| std::env::var(name).map_err(|e| format!("{name}: {e}"));
    let (bootstrap, topic) = (variable("MEMBER_BOOTSTRAP")?, variable("MEMBER_TOPIC")?);
    let file = std::fs::File::create(variable("MEMBER_FILE")?).map_err(|e| e.to_string())?;
    let mut file = BufWriter::new(file);
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &bootstrap)
        .set("group.id", &topic)
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .set("session.timeout.ms", "6000")
        .create()
        .map_err(|e: KafkaError| e.to_string())?;
    consumer.subscribe(&[&topic]).map_err(|e| e.to_string())?;
    let (mut count, mut told) = (0usize, 0usize);
    loop {
        match consumer.poll(POLL) {
            Some(Ok(message)) => {
                let (key, value) = (message.key().unwrap_or_default(), message.payload().unwrap_or_default());
                let mut put = |bytes: &[u8]| file.write_all(bytes).map_err(|e| e.to_string());
                put(format!("{} {} ", message.partition(), message.offset()).as_bytes())?;
                put(key)?;
                put(b"\t")?;
                put(value)?;
                put(b"\n")?;
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
        println!("{count}");
    }
}

/// `None` when everything has come out right, `Some(what is missing)` while it has not, an error when it is wrong.
fn check(files: &[std::path::PathBuf], log: &[(String, String)]) -> Result<Option<usize>, String> {
    let mut seen: HashMap<(i32, i64), (String, String)> = HashMap::with_capacity(log.len());
    for file in files {
        let text = std::fs::read(file).map_err(|e| e.to_string())?;
        // The last line of a killed member may be cut: it ends without a newline.
        for line in text.split_inclusive(|b| *b == b'\n').filter(|line| line.ends_with(b"\n")) {
            let line = std::str::from_utf8(&line[..line.len() - 1]).map_err(|e| e.to_string())?;
            let mut parts = line.splitn(3, ' ');
            let partition = parts.next().and_then(|p| p.parse().ok()).ok_or("a broken line")?;
            let offset = parts.next().and_then(|p| p.parse().ok()).ok_or("a broken line")?;
            let (key, value) = parts.next().and_then(|rest| rest.split_once('\t')).ok_or("a broken line")?;
            let record = (key.to_owned(), value.to_owned());
            if let Some(before) = seen.insert((partition, offset), record.clone())
                && before != record
            {
                return Err(format!("{partition}@{offset} was read twice with different content"));
            }
        }
    }
    if seen.len() < log.len() {
        return Ok(Some(log.len() - seen.len()));
    }
    if seen.len() > log.len() {
        return Err(format!("{} records for {} lines", seen.len(), log.len()));
    }
    let mut read: Vec<_> = seen.into_iter().collect();
    read.sort_unstable_by_key(|(at, _)| *at);
    let mut by_key: HashMap<&str, Vec<&str>> = HashMap::new();
    for (_, (key, value)) in &read {
        by_key.entry(key).or_default().push(value);
    }
    let mut wanted: HashMap<&str, Vec<&str>> = HashMap::new();
    for (key, value) in log {
        wanted.entry(key).or_default().push(value);
    }
    if by_key == wanted { Ok(None) } else { Err("lines differ, or stand in another order, for some key".to_owned()) }
}
