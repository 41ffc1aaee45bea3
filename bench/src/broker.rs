//! The brokers under measure, as processes: started fresh, and read through `/proc`.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::wire;

/// Which broker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The one of this repository.
    Ottla,
    /// Apache Kafka 4.3.1, one node, a heap of 1 GiB.
    Kafka,
    /// The ruler.
    Null,
}

/// What is needed to start any of them.
pub struct Workshop {
    /// The broker's binary.
    pub ottla: PathBuf,
    /// The null broker's binary.
    pub null: PathBuf,
    /// Java's class path of Apache Kafka.
    pub class_path: String,
}

impl Workshop {
    /// Finds the binaries beside our own, and Kafka by the script of the protocol tests.
    pub fn open() -> Result<Self, String> {
        let own = std::env::current_exe().map_err(|e| e.to_string())?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../protocol-tests/kafka.sh");
        let libs = Command::new("bash").arg(&script).arg("libs").output().map_err(|e| e.to_string())?;
        if !libs.status.success() {
            return Err(format!("{}: {}", script.display(), String::from_utf8_lossy(&libs.stderr)));
        }
        Ok(Self {
            ottla: std::env::var_os("OTTLA_BIN").map_or_else(|| own.with_file_name("ottla"), PathBuf::from),
            null: own.with_file_name("null-broker"),
            class_path: String::from_utf8_lossy(&libs.stdout).trim().to_owned(),
        })
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
    _folder: tempfile::TempDir,
    device: Option<u64>,
}

/// A moment's readings of a broker.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    at: Instant,
    cpu: f64,
    disk: f64,
}

/// What passed between two readings.
#[derive(Clone, Copy, Debug)]
pub struct Spent {
    /// Wall-clock seconds.
    pub seconds: f64,
    /// Processor seconds, user and system, a JVM's compiler threads left out.
    pub cpu: f64,
    /// Bytes that reached the device.
    pub disk: f64,
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
    let java = |arguments: &[&str]| {
        let mut command = Command::new("java");
        command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).current_dir(folder);
        command
    };
    let format = [
        "-cp",
        &workshop.class_path,
        "kafka.tools.StorageTool",
        "format",
        "--standalone",
        "-t",
        "5L6g3nShT-eMCtK--X86sw",
        "-c",
    ];
    let formatted = java(&format).arg(&properties).status().expect("java runs");
    assert!(formatted.success(), "Kafka's storage could not be formatted");
    let mut command = java(&["-Xms1g", "-Xmx1g", "-XX:+UseG1GC", "-cp", &workshop.class_path, "kafka.Kafka"]);
    command.arg(properties);
    command
}

impl Broker {
    /// Starts one in a folder of its own and waits for its first acknowledged record.
    pub fn start(kind: Kind, workshop: &Workshop) -> Self {
        let folder =
            tempfile::tempdir_in(std::env::var_os("BENCH_DIR").unwrap_or_else(|| "/var/tmp".into())).expect("a folder");
        let port = free_port();
        let mut command = match kind {
            Kind::Kafka => kafka_command(workshop, folder.path(), port),
            Kind::Null => {
                let mut command = Command::new(&workshop.null);
                command.arg(port.to_string());
                command
            }
            Kind::Ottla => {
                let mut command = Command::new(&workshop.ottla);
                let listener = format!("listeners=PLAINTEXT://127.0.0.1:{port}");
                let data = format!("log.dirs={}", folder.path().join("data").display());
                for setting in [listener.as_str(), data.as_str(), "ottla.http.listener="] {
                    command.args(["--override", setting]);
                }
                command.stdout(Stdio::null());
                command
            }
        };
        let address = format!("127.0.0.1:{port}");
        let begin = Instant::now();
        let child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let device = fs::metadata(folder.path()).ok().map(|m| m.dev());
        let mut broker = Self {
            child,
            kind,
            address,
            first_acknowledgement: Duration::ZERO,
            start_cpu: 0.0,
            _folder: folder,
            device,
        };
        let topic = "first";
        assert!(wire::make_topic(&broker.address, topic, begin + Duration::from_secs(60)), "{kind:?} does not serve");
        let batch = crate::batch::Batch::random(1, 100);
        let to = crate::load::To { address: broker.address.clone(), topic: topic.into(), partitions: 1 };
        crate::load::closed_loop(&to, &batch, 1, 1, 1);
        broker.first_acknowledgement = begin.elapsed();
        broker.start_cpu = broker.read().cpu;
        broker
    }

    /// The readings now.
    pub fn read(&self) -> Reading {
        Reading { at: Instant::now(), cpu: self.cpu(), disk: self.device.map_or(0.0, device_bytes) }
    }

    /// What was spent since a reading.
    pub fn since(&self, before: Reading) -> Spent {
        let now = self.read();
        Spent { seconds: (now.at - before.at).as_secs_f64(), cpu: now.cpu - before.cpu, disk: now.disk - before.disk }
    }

    /// Processor seconds so far, a JVM's compiler threads left out.
    fn cpu(&self) -> f64 {
        let id = self.child.id();
        let all = ticks(&format!("/proc/{id}/stat"));
        let tasks = fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten();
        let compilers: f64 = tasks
            .filter(|task| {
                let name = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
                name.starts_with("C1 Compiler") || name.starts_with("C2 Compiler")
            })
            .map(|task| ticks(&task.path().join("stat").to_string_lossy()))
            .sum();
        all - compilers
    }

    /// Resident bytes now.
    pub fn resident(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(0.0) * 1024.0
    }

    /// Asks it to end, and kills it when it does not.
    pub fn stop(mut self) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // Gone already: then there is nothing to stop.
            let _ = kill_process(pid, Signal::TERM);
        }
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline {
            if let Ok(Some(_)) = self.child.try_wait() {
                return;
            }
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

fn ticks(stat: &str) -> f64 {
    let text = fs::read_to_string(stat).unwrap_or_default();
    // The name in brackets may hold spaces; user and system time are fields 14 and 15.
    let rest = text.rsplit(") ").next().unwrap_or_default();
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let field = |at: usize| fields.get(at).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
    (field(11) + field(12)) / 100.0
}

/// Bytes written to a block device since it was attached.
fn device_bytes(device: u64) -> f64 {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let text = fs::read_to_string("/proc/diskstats").unwrap_or_default();
    let found = text.lines().find(|line| {
        let mut fields = line.split_whitespace();
        fields.next() == Some(&major.to_string()) && fields.next() == Some(&minor.to_string())
    });
    found.and_then(|line| line.split_whitespace().nth(9)?.parse::<f64>().ok()).unwrap_or(0.0) * 512.0
}
