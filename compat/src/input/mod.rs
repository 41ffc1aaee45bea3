//! Real input, end to end: an access log, a file of a million lines, goes through every codec, is read by a group of three
//! of which one is killed in the middle, and every line must come out, byte for byte, in order per key.

mod check;
mod member;

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock, mpsc};
use std::time::{Duration, Instant};

pub use member::member;

use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{ClientContext, Statistics};

use crate::admin::create_topic;
use crate::broker::{Target, now, pause};
use crate::table::Table;
use check::{check, check_taken_over};

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

/// Runs it for each codec.
pub fn run(table: &mut Table, size: Size) {
    let target = match Target::open() {
        Ok(target) => target,
        Err(reason) => return table.case("real input", "the broker starts", || Err(reason)),
    };
    let log = match Log::write(size.lines) {
        Ok(log) => log,
        Err(reason) => return table.case("real input", "the log file is written", || Err(reason)),
    };
    for codec in size.codecs {
        let what = format!("{} lines, {codec}, a group of three with one member killed", size.lines);
        table.case("real input", &what, || through(&target.bootstrap, codec, &log));
    }
}

/// An access log in a folder of its own.
struct Log {
    path: PathBuf,
    lines: usize,
    /// Of its lines and their keys, as they are sent.
    bytes: usize,
    _folder: tempfile::TempDir,
}

impl Log {
    fn write(lines: usize) -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
        let path = folder.path().join("access.log");
        let failed = |e: std::io::Error| format!("{}: {e}", path.display());
        let mut file = BufWriter::new(File::create(&path).map_err(failed)?);
        let mut bytes = 0;
        for number in 0..lines {
            let text = line(number);
            bytes += key_of(&text).len() + text.len();
            writeln!(file, "{text}").map_err(failed)?;
        }
        file.flush().map_err(failed)?;
        Ok(Self { path, lines, bytes, _folder: folder })
    }

    /// Its lines, read from the file one after the other.
    fn read(&self) -> Result<impl Iterator<Item = Result<String, String>> + use<'_>, String> {
        let failed = |e: std::io::Error| format!("{}: {e}", self.path.display());
        let file = File::open(&self.path).map_err(failed)?;
        Ok(BufReader::new(file).lines().map(move |line| line.map_err(failed)))
    }
}

/// The address of the client stands first in a line; it is the key.
fn key_of(line: &str) -> &str {
    line.split_once(' ').map_or(line, |(address, _)| address)
}

/// One line of an access log. The same for the same number.
fn line(number: usize) -> String {
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
    let address = format!("10.{}.{}.{}", draw(4), draw(8), draw(32));
    let (hour, minute, second) = (number / 3600 % 24, number / 60 % 60, number % 60);
    format!(
        "{address} - - [21/Nov/2026:{hour:02}:{minute:02}:{second:02} +0000] \"GET {} HTTP/1.1\" {} {} \"-\" \"{}\" #{number}",
        PATHS[draw(6) as usize],
        STATUS[draw(6) as usize],
        draw(100_000),
        AGENTS[draw(3) as usize],
    )
}

fn through(bootstrap: &str, codec: &str, log: &Log) -> Result<String, String> {
    let topic = format!("log-{codec}-{}", std::process::id());
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    create_topic(bootstrap, &topic, PARTITIONS as i32, &[])?;
    let mut group = Group::start(bootstrap, &topic, folder.path())?;
    // The group reads while the lines are written, and catches up after one of its members was killed.
    let killed_after = std::thread::scope(|scope| {
        let producing = scope.spawn(|| produce(bootstrap, &topic, codec, log));
        let killed_after = group.kill_one_after(log.lines / 10);
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
    killed: bool,
}

/// The member that is killed.
const VICTIM: usize = 0;

/// What a member says of itself, on its standard output.
enum Said {
    /// It owns so many partitions now.
    Owns(usize),
    /// It has read and written down so many records, and tried to commit them.
    Read(usize),
    /// Its process has ended.
    Ended,
}

impl Group {
    /// Starts the members and waits until each owns its third.
    fn start(bootstrap: &str, topic: &str, folder: &Path) -> Result<Self, String> {
        let files: Vec<_> = (0..3).map(|i| folder.join(format!("member{i}"))).collect();
        let (tell, told) = mpsc::channel();
        let mut group = Self { members: Vec::new(), files, told, read: [0; 3], killed: false };
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
        match said {
            Said::Read(count) => self.read[number] = count,
            Said::Ended if number != VICTIM || !self.killed => return Err(format!("member {number} ended by itself")),
            Said::Owns(_) | Said::Ended => {}
        }
        Ok((number, said))
    }

    /// kill -9 for one member once it has read more than so many records; how many it had.
    fn kill_one_after(&mut self, records: usize) -> Result<usize, String> {
        let deadline = now() + DEADLINE;
        while self.read[VICTIM] <= records {
            self.hear(deadline)?;
        }
        self.killed = true;
        let victim = &mut self.members[VICTIM];
        victim.kill().and_then(|()| victim.wait()).map_err(|e| e.to_string())?;
        Ok(self.read[VICTIM])
    }

    /// Waits until the members left have read everything, right.
    fn read_out(&mut self, log: &Log) -> Result<(), String> {
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
            match check(&self.files, log.read()?)? {
                0 => return check_taken_over(&self.files, VICTIM),
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

/// Hears what became of the records, and how many bytes it took.
#[derive(Default)]
struct Deliveries {
    failure: OnceLock<String>,
    /// Records and bytes sent so far.
    sent: Mutex<(i64, i64)>,
}

impl ClientContext for Deliveries {
    fn stats(&self, statistics: Statistics) {
        *self.sent.lock().unwrap_or_else(|e| e.into_inner()) = (statistics.txmsgs, statistics.tx_bytes);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            // The first one tells enough.
            self.failure.get_or_init(|| error.to_string());
        }
    }
}

/// Sends all lines. An error unless all were acknowledged, and by their size on the wire compressed as was asked for.
fn produce(bootstrap: &str, topic: &str, codec: &str, log: &Log) -> Result<(), String> {
    let producer: ThreadedProducer<_> = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("compression.type", codec)
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("linger.ms", "5")
        .set("statistics.interval.ms", "100")
        .create_with_context(Deliveries::default())
        .map_err(|e: KafkaError| e.to_string())?;
    for text in log.read()? {
        let text = text?;
        let mut record = BaseRecord::to(topic).key(key_of(&text)).payload(&text);
        while let Err((error, back)) = producer.send(record) {
            if error != KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) {
                return Err(error.to_string());
            }
            record = back;
            pause(Duration::from_millis(5));
        }
    }
    producer.flush(DEADLINE).map_err(|e| e.to_string())?;
    let deliveries = producer.context();
    if let Some(failure) = deliveries.failure.get() {
        return Err(format!("not everything was delivered: {failure}"));
    }
    let deadline = now() + DEADLINE;
    let sent = loop {
        let (records, bytes) = *deliveries.sent.lock().unwrap_or_else(|e| e.into_inner());
        if usize::try_from(records).is_ok_and(|records| records >= log.lines) {
            break bytes;
        }
        if now() > deadline {
            return Err(format!("the producer counts {records} records sent"));
        }
        pause(Duration::from_millis(20));
    };
    check_size(codec, log.bytes, usize::try_from(sent).unwrap_or(0))
}

/// An access log shrinks to three quarters at most by any codec, and without one it grows by what frames it.
fn check_size(codec: &str, plain: usize, sent: usize) -> Result<(), String> {
    let right = if codec == "none" { sent > plain } else { sent > 0 && sent < plain / 4 * 3 };
    if right { Ok(()) } else { Err(format!("{sent} bytes were sent for {plain}: that is not {codec}")) }
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
        let _ = tell.send((number, Said::Ended));
    });
    Ok(child)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_codec_shows_in_the_bytes_that_were_sent() {
        assert!(check_size("none", 100, 110).is_ok() && check_size("zstd", 100, 40).is_ok());
        assert!(check_size("none", 100, 40).is_err() && check_size("zstd", 100, 110).is_err());
    }
}
