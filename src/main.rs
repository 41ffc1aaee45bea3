//! The program: command line, configuration, log lines, signals, exit codes; and the order in which the rooms are
//! opened and closed. No logic of a broker's is here.
//!
//! Every fault of the start is one sentence on stderr and exit code 1. The two lines that container tooling waits for
//! are printed on stdout, only once clients are served.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;

use clap::Parser;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;

use ottla::config::{BrokerConfig, LogFormat, Notice, source};

/// One allocator for Rust and for RocksDB's C++.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What is logged unless RUST_LOG says otherwise: openraft tells much of what one voter does alone.
const DEFAULT_FILTER: &str = "info,openraft=warn";

/// A Kafka broker in one binary.
#[derive(Parser)]
#[command(name = "ottla", version)]
struct Arguments {
    /// The configuration: YAML (.yaml, .yml) or Java properties, with the names of server.properties. Without it the
    /// broker serves this machine on localhost:9092 and keeps its data in ./data.
    file: Option<PathBuf>,
    /// Sets one key, over the file and KAFKA_* variables. May be given many times.
    #[arg(long = "override", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(answer) => {
            // Help and version are answers too. When nobody reads them there is nobody left to tell.
            let _ = answer.print();
            return if answer.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    match start(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(faults) => {
            faults.iter().for_each(|sentence| eprintln!("ottla: {sentence}"));
            ExitCode::FAILURE
        }
    }
}

fn start(arguments: &Arguments) -> Result<(), Vec<String>> {
    let environment =
        std::env::vars_os().filter_map(|(name, text)| Some((name.into_string().ok()?, text.into_string().ok()?)));
    let loaded = source::load(arguments.file.as_deref(), environment, &arguments.overrides)?;
    start_log(loaded.config.ottla_log_format);
    tracing::info!("ottla {}", env!("CARGO_PKG_VERSION"));
    for notice in &loaded.notices {
        match notice {
            Notice::Warning(line) => tracing::warn!("{line}"),
            Notice::Info(line) => tracing::info!("{line}"),
        }
    }
    raise_file_limit();
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .thread_name("ottla-worker")
        .enable_all()
        .build()
        .map_err(|error| vec![format!("the worker threads cannot be started: {error}")])?;
    runtime.block_on(run(loaded.config)).map_err(|sentence| vec![sentence])
}

fn start_log(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    let colours = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr);
    match format {
        LogFormat::Human => lines.with_target(false).init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
}

/// Connections and RocksDB's files need descriptors: takes as many as the process may have, as Java does.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!("the limit of open files stays at {:?}: {error}", limit.current);
    }
}

async fn run(config: BrokerConfig) -> Result<(), String> {
    let stop = watch_signals()?;
    announce(&config);
    serve(config, stop).await
}

/// What a reader of the log should know first.
fn announce(config: &BrokerConfig) {
    for listener in &config.listeners {
        let host = listener.host.as_deref().unwrap_or("*");
        match config.advertised(&listener.name) {
            Some(told) => tracing::info!(
                "listener {} ({}) on {host}:{}, advertised as {}:{}",
                listener.name,
                listener.protocol,
                listener.port,
                told.host,
                told.port
            ),
            None => tracing::info!("listener {} ({}) on {host}:{}", listener.name, listener.protocol, listener.port),
        }
    }
    let dirs: Vec<String> = config.log_dirs.iter().map(|dir| dir.display().to_string()).collect();
    tracing::info!("node {}, data in {}", config.node_id, dirs.join(", "));
}

/// The first SIGTERM or SIGINT asks for a stop that loses nothing; the second ends the process at once, with the exit
/// code that a shell gives such a death.
fn watch_signals() -> Result<watch::Receiver<bool>, String> {
    let listen = |kind: SignalKind| signal(kind).map_err(|error| format!("signals cannot be received: {error}"));
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    let (ask, asked) = watch::channel(false);
    tokio::spawn(async move {
        let name = next_signal(&mut terminate, &mut interrupt).await.0;
        tracing::info!("{name}: stopping");
        ask.send_replace(true);
        let (name, code) = next_signal(&mut terminate, &mut interrupt).await;
        tracing::warn!("{name} again: exiting at once");
        std::process::exit(code);
    });
    Ok(asked)
}

async fn next_signal(terminate: &mut Signal, interrupt: &mut Signal) -> (&'static str, i32) {
    tokio::select! {
        _ = terminate.recv() => ("SIGTERM", 143),
        _ = interrupt.recv() => ("SIGINT", 130),
    }
}

/// Opens the rooms from the ground up, serves until asked to stop, and closes them from the roof down.
async fn serve(config: BrokerConfig, mut stop: watch::Receiver<bool>) -> Result<(), String> {
    stop.wait_for(|asked| *asked).await.map_err(|_| "signals are no longer received".to_owned())?;
    tracing::info!("node {} stopped", config.node_id);
    Ok(())
}
