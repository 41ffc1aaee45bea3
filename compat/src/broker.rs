//! An Ottla of our own on a free loopback port with a folder of its own: started, stopped, killed, started again.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

const START_DEADLINE: Duration = Duration::from_secs(60);

/// A running broker. Dropping it kills it.
pub struct Broker {
    child: Child,
    port: u16,
}

/// The `host:port` that clients are pointed at, and the broker behind it when it is ours.
pub struct Target {
    /// `host:port`.
    pub bootstrap: String,
    _own: Option<(Broker, tempfile::TempDir)>,
}

impl Target {
    /// The broker named by `TARGET`, or an Ottla of our own.
    pub fn open() -> Result<Self, String> {
        if let Ok(bootstrap) = std::env::var("TARGET") {
            return Ok(Self { bootstrap, _own: None });
        }
        let data = tempfile::tempdir().map_err(|e| e.to_string())?;
        let broker = Broker::start(data.path(), free_port()?, &[])?;
        Ok(Self { bootstrap: broker.bootstrap(), _own: Some((broker, data)) })
    }
}

/// A port that nothing listens on now.
pub fn free_port() -> Result<u16, String> {
    let probe = TcpListener::bind(("127.0.0.1", 0)).map_err(|e| e.to_string())?;
    Ok(probe.local_addr().map_err(|e| e.to_string())?.port())
}

fn binary() -> PathBuf {
    match std::env::var_os("OTTLA_BIN") {
        Some(path) => path.into(),
        None => {
            // Beside our own executable: both are products of one build.
            let own = std::env::current_exe().unwrap_or_default();
            own.with_file_name("ottla")
        }
    }
}

impl Broker {
    /// Starts the broker that `OTTLA_BIN` names and waits until it serves.
    pub fn start(data: &Path, port: u16, overrides: &[&str]) -> Result<Self, String> {
        Self::start_binary(&binary(), data, port, overrides)
    }

    /// Starts a given build of the broker and waits until it serves.
    pub fn start_binary(binary: &Path, data: &Path, port: u16, overrides: &[&str]) -> Result<Self, String> {
        let mut command = Command::new(binary);
        let listener = format!("listeners=PLAINTEXT://127.0.0.1:{port}");
        let folder = format!("log.dirs={}", data.display());
        for setting in
            [listener.as_str(), folder.as_str(), "ottla.http.listener=", "group.initial.rebalance.delay.ms=0"]
        {
            command.args(["--override", setting]);
        }
        for setting in overrides {
            command.args(["--override", setting]);
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .map_err(|e| format!("{} does not start: {e}", binary.display()))?;
        let stdout = child.stdout.take().ok_or("no stdout")?;
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || {
            // Reads to the end, so that the broker never blocks on a full pipe.
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if line.contains("Kafka Server started") {
                    // Nobody waits any more when the deadline has passed.
                    let _ = tell.send(());
                }
            }
        });
        let broker = Self { child, port };
        told.recv_timeout(START_DEADLINE).map_err(|_| "the broker did not say that it serves".to_owned())?;
        Ok(broker)
    }

    /// `host:port` of its listener.
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Kills it as a power cut of the process does: SIGKILL, no last words.
    pub fn kill(mut self) -> Result<(), String> {
        self.child.kill().and_then(|()| self.child.wait()).map(|_| ()).map_err(|e| e.to_string())
    }

    /// Stops it with SIGTERM and returns its exit code.
    pub fn stop(mut self) -> Result<i32, String> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).ok_or("no pid")?;
        kill_process(pid, Signal::TERM).map_err(|e| e.to_string())?;
        let status = self.child.wait().map_err(|e| e.to_string())?;
        status.code().ok_or_else(|| format!("ended by a signal: {status}"))
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Already gone after `kill` or `stop`: then both calls fail, and that is as it should be.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
