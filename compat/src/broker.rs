//! An Ottla of our own on a free loopback port with a folder of its own: started, stopped, killed, started again.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

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

/// The clock by which other processes are waited for.
#[expect(clippy::disallowed_methods, reason = "other processes are waited for, and they live by the real clock")]
pub fn now() -> Instant {
    Instant::now()
}

/// Leaves the processor to others for a moment, between two looks at what they have done.
pub fn pause(time: Duration) {
    std::thread::park_timeout(time);
}

/// The broker that `OTTLA_BIN` names, or the one beside our own executable: both are products of one build.
pub fn binary() -> PathBuf {
    match std::env::var_os("OTTLA_BIN") {
        Some(path) => path.into(),
        None => {
            let own = std::env::current_exe().unwrap_or_default();
            own.with_file_name("ottla")
        }
    }
}

/// A broker that was started and has not said yet that it serves.
pub struct Starting {
    broker: Broker,
    told: mpsc::Receiver<()>,
}

impl Starting {
    /// Waits until it serves.
    pub fn serve(mut self) -> Result<Broker, String> {
        match self.told.recv_timeout(START_DEADLINE) {
            Ok(()) => Ok(self.broker),
            Err(mpsc::RecvTimeoutError::Timeout) => Err("the broker did not say that it serves".to_owned()),
            Err(mpsc::RecvTimeoutError::Disconnected) => Err(self.broker.ended()),
        }
    }

    /// Kills it after that time, or as soon as it serves. True when it served.
    pub fn kill_within(mut self, time: Duration) -> Result<bool, String> {
        let served = match self.told.recv_timeout(time) {
            Ok(()) => true,
            Err(mpsc::RecvTimeoutError::Timeout) => false,
            Err(mpsc::RecvTimeoutError::Disconnected) => return Err(self.broker.ended()),
        };
        self.broker.kill().map(|()| served)
    }
}

impl Broker {
    /// Starts the broker that `OTTLA_BIN` names and waits until it serves.
    pub fn start(data: &Path, port: u16, overrides: &[&str]) -> Result<Self, String> {
        Self::launch(&binary(), data, port, overrides)?.serve()
    }

    /// Starts a given build of the broker.
    pub fn launch(binary: &Path, data: &Path, port: u16, overrides: &[&str]) -> Result<Starting, String> {
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
        Ok(Starting { broker: Self { child, port }, told })
    }

    /// `host:port` of its listener.
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Kills it as a power cut of the process does: SIGKILL, no last words. An error when it had ended by itself.
    pub fn kill(mut self) -> Result<(), String> {
        let status = self.child.kill().and_then(|()| self.child.wait()).map_err(|e| e.to_string())?;
        match status.signal() {
            Some(9) => Ok(()),
            _ => Err(format!("the broker had ended by itself: {status}")),
        }
    }

    /// Makes it stand still, for a kill that must fall on an instant.
    pub fn freeze(&self) -> Result<(), String> {
        kill_process(self.pid()?, Signal::STOP).map_err(|e| e.to_string())
    }

    fn pid(&self) -> Result<Pid, String> {
        i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).ok_or_else(|| "no pid".to_owned())
    }

    fn ended(&mut self) -> String {
        match self.child.wait() {
            Ok(status) => format!("the broker ended before it served: {status}"),
            Err(error) => error.to_string(),
        }
    }

    /// Stops it with SIGTERM and returns its exit code.
    pub fn stop(mut self) -> Result<i32, String> {
        kill_process(self.pid()?, Signal::TERM).map_err(|e| e.to_string())?;
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
