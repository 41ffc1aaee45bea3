//! The broker under test: `TARGET=host:port`, or the `ottla` binary, started once for the whole test process.
//!
//! A broker that the tests start must never outlive them, however they end: a small shell stands between, reads a pipe
//! that only the test process holds, and kills the broker and removes its data when that pipe closes.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use crate::client::Client;

const START_PATIENCE: Duration = Duration::from_secs(30);
/// Lines of a broker's log that are kept.
const KEPT_LINES: usize = 10_000;

// $0 is the directory; the rest is the broker's command line.
const GUARD: &str = r#""$@" & echo "pid $!"; cat >/dev/null; kill -9 $!; wait; rm -rf "$0""#;

/// What the tests give every broker they start; `kafka.sh` gives Apache Kafka the same.
const SETTINGS: &[(&str, &str)] = &[
    ("node.id", "1"),
    ("num.partitions", "1"),
    ("auto.create.topics.enable", "true"),
    ("offsets.topic.replication.factor", "1"),
    ("offsets.topic.num.partitions", "8"),
    ("group.initial.rebalance.delay.ms", "0"),
    ("ottla.http.listener", ""),
];

/// A broker to test.
pub struct Broker {
    address: String,
    process: Option<Guarded>,
}

struct Guarded {
    pid: u32,
    log: Arc<Mutex<Vec<String>>>,
    // Its stdin is the pipe that keeps the broker alive.
    guard: Child,
}

/// The broker that all tests share.
pub fn shared() -> &'static Broker {
    static SHARED: OnceLock<Broker> = OnceLock::new();
    SHARED.get_or_init(|| match std::env::var("TARGET") {
        Ok(address) => Broker { address, process: None },
        Err(_) => Broker::start(&[]),
    })
}

/// A connection to the shared broker.
pub async fn connect() -> Client {
    shared().connect().await
}

/// A broker of the test's own with these settings; `None`, said in a line, when the tests run against `TARGET`.
pub fn own(settings: &[(&str, &str)]) -> Option<Broker> {
    if is_target_set() {
        skip(&format!("it needs a broker of its own with {settings:?}, and TARGET is set"));
        return None;
    }
    Some(Broker::start(settings))
}

/// A broker of the test's own under a limit of the shell's (`ulimit`); `None`, said in a line, when the tests run against
/// `TARGET`.
pub fn own_under(limit: &str) -> Option<Broker> {
    if is_target_set() {
        skip(&format!("it needs a broker of its own under ulimit {limit}, and TARGET is set"));
        return None;
    }
    Some(Broker::launch(&[], &format!("ulimit {limit}; exec \"$@\""), None))
}

/// A directory of the test's own for the data of several brokers, one after another; `None`, said in a line, when the
/// tests run against `TARGET`.
pub fn own_directory() -> Option<tempfile::TempDir> {
    if is_target_set() {
        skip("it needs several brokers over one directory, and TARGET is set");
        return None;
    }
    Some(tempfile::Builder::new().prefix("ottla-restarts-").tempdir().expect("a directory"))
}

/// Starts the `ottla` binary over data that it must refuse: what it says, after it has ended with code 1.
pub fn refused(data: &Path, settings: &[(&str, &str)]) -> String {
    // One that serves after all is ended by `timeout`, with another code.
    let mut command = Command::new("timeout");
    command.args(["--signal=KILL", "60"]).arg(binary());
    arguments(&mut command, &format!("127.0.0.1:{}", free_port()), data, settings);
    let ended = command.stdin(Stdio::null()).output().expect("start the broker");
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    said
}

fn arguments(command: &mut Command, address: &str, data: &Path, settings: &[(&str, &str)]) {
    let own = [("listeners", format!("PLAINTEXT://{address}")), ("log.dirs", data.display().to_string())];
    let given = SETTINGS.iter().chain(settings).map(|(key, value)| format!("{key}={value}"));
    for setting in given.chain(own.iter().map(|(key, value)| format!("{key}={value}"))) {
        command.arg("--override").arg(setting);
    }
}

/// True when the tests run against a broker that they did not start.
pub fn is_target_set() -> bool {
    std::env::var_os("TARGET").is_some()
}

/// Says, once for each test and with a count, that the calling test, or the rest of it, does not run. The test harness has
/// no such state: it will call the test passed. The line goes past the harness, which shows nothing of a test that passes.
pub fn skip(why: &str) {
    static SKIPPED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    // Tests have threads of their own, named after them.
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    let mut skipped = SKIPPED.lock().expect("the tests that are skipped");
    if skipped.insert(test.to_owned()) {
        let line = format!("skipped ({} so far): {test}: {why}\n", skipped.len());
        std::io::stderr().write_all(line.as_bytes()).expect("stderr takes a line");
    }
}

impl Broker {
    /// Starts the `ottla` binary on a free port of the loopback, its data in a directory of its own.
    pub fn start(settings: &[(&str, &str)]) -> Self {
        Self::launch(settings, "exec \"$@\"", None)
    }

    /// The same over a directory of [`own_directory`], which outlives it.
    pub fn start_in(data: &Path, settings: &[(&str, &str)]) -> Self {
        Self::launch(settings, "exec \"$@\"", Some(data))
    }

    /// Kills it, and waits until it is gone. Only for one that these tests started.
    pub fn kill(self) {
        let mut process = self.process.expect("a broker of the test's own");
        drop(process.guard.stdin.take());
        process.guard.wait().expect("the guard ends");
    }

    /// Asks it to stop, as an operator would. Only for one that these tests started.
    pub fn ask_to_stop(&self) {
        let pid = self.process.as_ref().expect("a broker of the test's own").pid;
        let asked = Command::new("kill").args(["-TERM", &pid.to_string()]).status().expect("kill is there");
        assert!(asked.success());
    }

    // `prelude` is the shell's last word before it becomes the broker.
    fn launch(settings: &[(&str, &str)], prelude: &str, data: Option<&Path>) -> Self {
        let directory = tempfile::Builder::new().prefix("ottla-conformance-").tempdir().expect("a directory").keep();
        let address = format!("127.0.0.1:{}", free_port());
        let mut command = Command::new("sh");
        command.arg("-c").arg(GUARD).arg(&directory).args(["sh", "-c", prelude, "sh"]).arg(binary());
        arguments(&mut command, &address, data.unwrap_or(&directory.join("data")), settings);
        let mut guard = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start the broker");
        let lines = lines_of(&mut guard);
        let (pid, said) = await_start(&lines);
        let log = Arc::new(Mutex::new(said));
        drain(lines, Arc::clone(&log));
        Self { address, process: Some(Guarded { pid, log, guard }) }
    }

    /// A new connection.
    pub async fn connect(&self) -> Client {
        Client::connect(&self.address).await
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The host that clients are told.
    pub fn host(&self) -> &str {
        self.address.rsplit_once(':').expect("host:port").0
    }

    /// The port that clients are told.
    pub fn port(&self) -> i32 {
        self.address.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).expect("host:port")
    }

    /// Resident memory in KiB; `None` for a broker that these tests did not start.
    pub fn resident_kib(&self) -> Option<u64> {
        self.status_kib("VmRSS:")
    }

    /// The most resident memory so far in KiB; `None` for a broker that these tests did not start.
    pub fn peak_kib(&self) -> Option<u64> {
        self.status_kib("VmHWM:")
    }

    /// From now on the peak is that of what comes; the kernel's counts may still fall by a little. Only for a broker that
    /// these tests started.
    pub fn forget_peak(&self) {
        let pid = self.process.as_ref().expect("a broker of the test's own").pid;
        std::fs::write(format!("/proc/{pid}/clear_refs"), "5").expect("the peak of a process of ours is reset");
    }

    fn status_kib(&self, field: &str) -> Option<u64> {
        let status = self.proc("status")?;
        let line = status.lines().find(|line| line.starts_with(field)).expect("the field is told");
        line.split_whitespace().nth(1)?.parse().ok()
    }

    fn proc(&self, file: &str) -> Option<String> {
        let pid = self.process.as_ref()?.pid;
        Some(std::fs::read_to_string(format!("/proc/{pid}/{file}")).expect("the broker lives"))
    }

    /// Open files and sockets; `None` for a broker that these tests did not start.
    pub fn descriptors(&self) -> Option<usize> {
        let pid = self.process.as_ref()?.pid;
        Some(std::fs::read_dir(format!("/proc/{pid}/fd")).expect("the broker lives").count())
    }

    /// Lets the running broker have so many files and sockets open from now on. Only for one that these tests started.
    pub fn limit_descriptors(&self, most: usize) {
        let pid = self.process.as_ref().expect("a broker of the test's own").pid;
        let limit = format!("--nofile={most}:");
        let done =
            Command::new("prlimit").args(["--pid", &pid.to_string(), &limit]).status().expect("prlimit is there");
        assert!(done.success(), "prlimit {limit}");
    }

    /// How many lines of its log hold these words. Only for a broker that these tests started.
    pub fn said(&self, words: &str) -> usize {
        let process = self.process.as_ref().expect("a broker of the test's own");
        process.log.lock().expect("the log").iter().filter(|line| line.contains(words)).count()
    }
}

/// OTTLA_BIN, or the release build that stands beside this test's own executable.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("OTTLA_BIN") {
        return path.into();
    }
    let test = std::env::current_exe().expect("the path of this test");
    let profile = test.parent().and_then(|deps| deps.parent()).expect("a target directory");
    let path = profile.join("ottla");
    assert!(
        path.exists(),
        "{} is not there: cargo build --release -p ottla, or set OTTLA_BIN or TARGET",
        path.display()
    );
    path
}

/// A port of the loopback that nothing listens on now.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("its address").port()
}

// Both outputs in one stream of lines. The channel is bounded, and a full one only makes the broker's log wait.
fn lines_of(guard: &mut Child) -> Receiver<String> {
    let (sender, receiver) = sync_channel(1_000);
    let outputs: [Box<dyn Read + Send>; 2] =
        [Box::new(guard.stdout.take().expect("stdout")), Box::new(guard.stderr.take().expect("stderr"))];
    for output in outputs {
        let sender = sender.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
    }
    receiver
}

// The broker's pid, and what it said until it served.
fn await_start(lines: &Receiver<String>) -> (u32, Vec<String>) {
    let mut seen = Vec::new();
    let mut pid = None;
    while let Ok(line) = lines.recv_timeout(START_PATIENCE) {
        if let Some(number) = line.strip_prefix("pid ") {
            pid = number.parse().ok();
        }
        if line.contains("Kafka Server started") {
            return (pid.expect("the guard says the pid first"), seen);
        }
        seen.push(line);
    }
    panic!("the broker did not start:\n{}", seen.join("\n"));
}

// The broker's log is kept, its last lines, and goes to the file OTTLA_TEST_LOG when that is set. A panic in it ends the
// tests: it would only close a connection, and hostile tests expect that.
fn drain(lines: Receiver<String>, kept: Arc<Mutex<Vec<String>>>) {
    let log = std::env::var_os("OTTLA_TEST_LOG")
        .map(|path| std::fs::OpenOptions::new().create(true).append(true).open(path).expect("OTTLA_TEST_LOG"));
    std::thread::spawn(move || {
        for line in lines {
            if line.contains("panicked at") {
                // Whatever a test sends, and whether or not it would notice: none may meet a defect.
                eprintln!("a broker that these tests started has panicked: {line}");
                std::process::exit(101);
            }
            if let Some(mut log) = log.as_ref() {
                writeln!(log, "{line}").expect("write OTTLA_TEST_LOG");
            }
            let mut kept = kept.lock().expect("the log");
            if kept.len() >= KEPT_LINES {
                kept.drain(..KEPT_LINES / 2);
            }
            kept.push(line);
        }
    });
}
