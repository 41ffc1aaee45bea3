//! The brokers under measure, as processes: started fresh, and read through `/proc`.

use std::collections::HashMap;
use std::fs;
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::batch::Batch;
use crate::{machine, wire};

/// How long a broker may take to serve.
const START: Duration = Duration::from_secs(60);
/// How long a broker may take to stop.
const STOP: Duration = Duration::from_secs(60);
/// How often a starting broker is asked.
const POLL: Duration = Duration::from_millis(5);

/// Apache Kafka's java: the heap of this comparison, and what its own start script adds. The compiler's threads stay
/// alive, because their time is left out and a thread that has ended cannot be asked for it.
const JAVA: &[&str] = &[
    "-Xms1g",
    "-Xmx1g",
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
    "-Djava.awt.headless=true",
    "-XX:-UseDynamicNumberOfCompilerThreads",
];

/// Which broker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The one of this repository.
    Ottla,
    /// Another binary of it, in Kafka's place: before a change, say.
    Before,
    /// Apache Kafka 4.3.1, one node, a heap of 1 GiB.
    Kafka,
    /// The ruler.
    Null,
}

/// Which brokers are wanted, and where they run.
#[derive(Default)]
pub struct Wanted {
    /// The broker's binary; `OTTLA_BIN`, or the one beside our own, when it is not given.
    pub ottla: Option<PathBuf>,
    /// Another binary of it, in Kafka's place.
    pub against: Option<PathBuf>,
    /// Apache Kafka is left out.
    pub without_kafka: bool,
    /// The null broker is left out.
    pub without_null: bool,
    /// Brokers on the lower half of the cores, the load on the upper half.
    pub pin: bool,
}

/// What is needed to start any of them.
pub struct Workshop {
    /// The brokers of a round.
    pub kinds: Vec<Kind>,
    /// The broker's binary.
    pub ottla: PathBuf,
    /// The other one, if there is one.
    pub before: Option<PathBuf>,
    /// Where every broker gets its folder.
    pub folder: PathBuf,
    own: PathBuf,
    class_path: String,
    cores: Option<String>,
}

impl Workshop {
    /// Finds the binaries, and Apache Kafka by the script of the protocol tests when it is wanted.
    pub fn open(wanted: Wanted) -> Result<Self, String> {
        let own = std::env::current_exe().map_err(|e| e.to_string())?;
        let named = wanted.ottla.or_else(|| std::env::var_os("OTTLA_BIN").map(PathBuf::from));
        let mut kinds = vec![Kind::Ottla];
        if !wanted.without_null {
            kinds.push(Kind::Null);
        }
        match &wanted.against {
            Some(_) => kinds.push(Kind::Before),
            None if !wanted.without_kafka => kinds.push(Kind::Kafka),
            None => {}
        }
        let class_path = if kinds.contains(&Kind::Kafka) { kafka_class_path()? } else { String::new() };
        Ok(Self {
            class_path,
            ottla: program(&named.unwrap_or_else(|| own.with_file_name("ottla")))?,
            before: wanted.against.map(|path| program(&path)).transpose()?,
            folder: std::env::var_os("BENCH_DIR").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from),
            cores: if wanted.pin { Some(pin_own_process()?) } else { None },
            kinds,
            own,
        })
    }

    /// A command on the cores of the brokers.
    fn command(&self, program: &Path) -> Command {
        let Some(cores) = &self.cores else { return Command::new(program) };
        let mut command = Command::new("taskset");
        command.arg("-c").arg(cores).arg(program);
        command
    }
}

/// A program as an absolute path; an error when it is not there.
fn program(path: &Path) -> Result<PathBuf, String> {
    let found = fs::canonicalize(path).map_err(|e| format!("{}: {e}", path.display()))?;
    if found.is_file() { Ok(found) } else { Err(format!("{} is no program", path.display())) }
}

fn kafka_class_path() -> Result<String, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../protocol-tests/kafka.sh");
    let libs = Command::new("bash").arg(&script).arg("libs").output().map_err(|e| e.to_string())?;
    if !libs.status.success() {
        return Err(format!("{}: {}", script.display(), String::from_utf8_lossy(&libs.stderr)));
    }
    Ok(String::from_utf8_lossy(&libs.stdout).trim().to_owned())
}

/// Moves this process to the upper half of the cores; returns the lower half, as `taskset` names cores.
fn pin_own_process() -> Result<String, String> {
    let cores = machine::cores();
    if cores < 2 {
        return Err("--pin needs two cores".to_owned());
    }
    let own = format!("{}-{}", cores / 2, cores - 1);
    let id = std::process::id().to_string();
    let status = Command::new("taskset").args(["-a", "-c", "-p", &own, &id]).stdout(Stdio::null()).status();
    match status {
        Ok(status) if status.success() => Ok(format!("0-{}", cores / 2 - 1)),
        Ok(status) => Err(format!("taskset: {status}")),
        Err(error) => Err(format!("taskset: {error}")),
    }
}

/// A running broker.
pub struct Broker {
    child: Child,
    /// Which it is.
    pub kind: Kind,
    /// `host:port`.
    pub address: String,
    /// From exec to the first acknowledged produce.
    pub first_acknowledgement: Duration,
    /// Processor time until then.
    pub start_cpu: f64,
    folder: tempfile::TempDir,
}

/// A moment's readings of a broker.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    at: Instant,
    cpu: f64,
}

/// What passed between two readings.
#[derive(Clone, Copy, Debug)]
pub struct Spent {
    /// Wall-clock seconds.
    pub seconds: f64,
    /// Processor seconds, user and system, a JVM's compiler threads left out.
    pub cpu: f64,
}

fn free_port() -> u16 {
    let probe = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    probe.local_addr().expect("a bound port").port()
}

fn kafka_command(workshop: &Workshop, folder: &Path, port: u16) -> Command {
    let controller = free_port();
    let properties = folder.join("server.properties");
    let text = format!(
        "process.roles=broker,controller\nnode.id=1\nlisteners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
         controller.quorum.bootstrap.servers=127.0.0.1:{controller}\ncontroller.listener.names=CONTROLLER\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port}\nlog.dirs={}\nnum.partitions=1\n\
         offsets.topic.replication.factor=1\ntransaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\n\
         group.initial.rebalance.delay.ms=0\n",
        folder.join("data").display()
    );
    fs::write(&properties, text).expect("a temporary folder");
    let format = ["kafka.tools.StorageTool", "format", "--standalone", "-t", "5L6g3nShT-eMCtK--X86sw", "-c"];
    let mut formatter = Command::new("java");
    formatter.args(["-cp", &workshop.class_path]).args(format).arg(&properties).current_dir(folder);
    let formatted = formatter.stdout(Stdio::null()).stderr(Stdio::null()).status().expect("java runs");
    assert!(formatted.success(), "Kafka's storage could not be formatted");
    let mut command = workshop.command(Path::new("java"));
    command.args(JAVA).args(["-cp", &workshop.class_path, "kafka.Kafka"]).arg(properties);
    command
}

/// A broker of this repository, as it is by default; only its ports and its folder are chosen.
fn ottla_command(workshop: &Workshop, binary: &Path, folder: &Path, port: u16) -> Command {
    let mut command = workshop.command(binary);
    let listener = format!("listeners=PLAINTEXT://127.0.0.1:{port}");
    let data = format!("log.dirs={}", folder.join("data").display());
    for setting in [listener.as_str(), data.as_str(), "ottla.http.listener=127.0.0.1:0"] {
        command.args(["--override", setting]);
    }
    command
}

impl Broker {
    /// Starts one in a folder of its own and waits for its first acknowledged record.
    pub fn start(kind: Kind, workshop: &Workshop) -> Self {
        let folder = tempfile::tempdir_in(&workshop.folder).expect("a folder for the broker");
        let port = free_port();
        let mut command = match kind {
            Kind::Kafka => kafka_command(workshop, folder.path(), port),
            Kind::Null => workshop.command(&workshop.own),
            Kind::Ottla => ottla_command(workshop, &workshop.ottla, folder.path(), port),
            Kind::Before => {
                let binary = workshop.before.as_ref().expect("this kind is only there with a binary");
                ottla_command(workshop, binary, folder.path(), port)
            }
        };
        if kind == Kind::Null {
            command.args(["--serve-null", &port.to_string()]);
        }
        let output = fs::File::create(folder.path().join("output.log")).expect("a file in the broker's folder");
        command.stdout(output.try_clone().expect("a file")).stderr(output).current_dir(folder.path());
        let begin = Instant::now();
        let child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let mut broker = Self {
            child,
            kind,
            address: format!("127.0.0.1:{port}"),
            first_acknowledgement: Duration::ZERO,
            start_cpu: 0.0,
            folder,
        };
        let batch = Batch::random(1, 100);
        while !wire::ask_for_topic(&broker.address, "first")
            || !wire::produce_one(&broker.address, "first", &batch.bytes)
        {
            let ended = broker.child.try_wait().expect("it is our child");
            assert!(ended.is_none() && begin.elapsed() < START, "{kind:?} does not serve\n{}", broker.last_words());
            std::thread::sleep(POLL);
        }
        broker.first_acknowledgement = begin.elapsed();
        broker.start_cpu = broker.cpu();
        broker
    }

    /// The end of what it printed.
    fn last_words(&self) -> String {
        let text = fs::read(self.folder.path().join("output.log")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }

    /// The readings now.
    pub fn read(&self) -> Reading {
        Reading { at: Instant::now(), cpu: self.cpu() }
    }

    /// What was spent since a reading.
    pub fn since(&self, before: Reading) -> Spent {
        let now = self.read();
        Spent { seconds: (now.at - before.at).as_secs_f64(), cpu: now.cpu - before.cpu }
    }

    /// Processor seconds so far to the hundredth, threads that have ended included, a JVM's compiler threads left out.
    fn cpu(&self) -> f64 {
        let all = ticks(&format!("/proc/{}/stat", self.child.id()));
        all - self.tasks(true).iter().map(|task| ticks(&task.join("stat").to_string_lossy())).sum::<f64>()
    }

    /// The folders of its threads: the JVM's compilers, or all others.
    fn tasks(&self, compilers: bool) -> Vec<PathBuf> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).into_iter().flatten().flatten();
        let is_compiler = |folder: &Path| {
            let name = fs::read_to_string(folder.join("comm")).unwrap_or_default();
            name.starts_with("C1 Compiler") || name.starts_with("C2 Compiler")
        };
        tasks.map(|task| task.path()).filter(|folder| is_compiler(folder) == compilers).collect()
    }

    /// The share of one core that it uses while nothing happens. The scheduler counts a thread's nanoseconds, where the
    /// hundredths of [`Self::cpu`] would be too coarse; a thread that ends meanwhile is lost. `None` when the kernel does
    /// not say.
    pub fn idle_share(&self, over: Duration) -> Option<f64> {
        let (begin, before) = (Instant::now(), self.nanoseconds()?);
        std::thread::sleep(over);
        let after = self.nanoseconds()?;
        let spent: u64 = after.iter().map(|(id, ns)| ns - before.get(id).copied().unwrap_or(0).min(*ns)).sum();
        Some(spent as f64 / begin.elapsed().as_nanos() as f64)
    }

    fn nanoseconds(&self) -> Option<HashMap<PathBuf, u64>> {
        let mut all = HashMap::new();
        for task in self.tasks(false) {
            match fs::read_to_string(task.join("schedstat")) {
                Ok(text) => all.insert(task, text.split_whitespace().next()?.parse().ok()?),
                Err(_) if !task.exists() => continue,
                Err(_) => return None,
            };
        }
        Some(all)
    }

    /// Resident bytes now.
    pub fn resident(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(0.0) * 1024.0
    }

    /// Asks it to end and waits until it has. Its folder stays until it is dropped.
    pub fn stop(&mut self) {
        let status = self.child.try_wait().expect("it is our child");
        assert!(status.is_none(), "{:?} ended by itself: {status:?}\n{}", self.kind, self.last_words());
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, Signal::TERM).expect("it is our child");
        let begin = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                let by_signal = status.signal() == Some(Signal::TERM.as_raw());
                let clean = status.success() || by_signal || status.code() == Some(128 + Signal::TERM.as_raw());
                assert!(clean, "{:?} did not stop cleanly: {status}\n{}", self.kind, self.last_words());
                return;
            }
            assert!(begin.elapsed() < STOP, "{:?} does not stop\n{}", self.kind, self.last_words());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// User and system seconds of a process or a thread; a clock tick is a hundredth of a second on every Linux.
fn ticks(stat: &str) -> f64 {
    let text = fs::read_to_string(stat).unwrap_or_default();
    // The name in brackets may hold spaces; user and system time are fields 14 and 15.
    let rest = text.rsplit(") ").next().unwrap_or_default();
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let field = |at: usize| fields.get(at).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
    (field(11) + field(12)) / 100.0
}
