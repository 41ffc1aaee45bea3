//! The program: command line, configuration, log lines, signals, exit codes; and the order in which the rooms are
//! opened and closed. No logic of a broker's is here.
//!
//! Every fault of the start is one sentence on stderr and exit code 1. The two lines that container tooling waits for
//! are printed on stdout, only once clients are served.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use clap::Parser;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{oneshot, watch};
use tracing_subscriber::EnvFilter;

use ottla::api::{self, Call, RequestContext};
use ottla::broker::{Broker, MetadataAnswers};
use ottla::config::{BrokerConfig, LogFormat, Notice, source};
use ottla::controller::Controller;
use ottla::error::{Disconnect, StoreError};
use ottla::group::Groups;
use ottla::metrics::Metrics;
use ottla::replica::{FetchSessions, ProducerIds, Replicas};
use ottla::server::http::{self, Http};
use ottla::server::{self, Server, Service};
use ottla::store::{Store, StoreOptions};

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
    #[cfg(feature = "mutation-acknowledges-before-write")]
    tracing::error!("this build acknowledges before it writes: it exists for a test, and loses data");
    for notice in &loaded.notices {
        match notice {
            Notice::Warning(line) => tracing::warn!("{line}"),
            Notice::Info(line) => tracing::info!("{line}"),
        }
    }
    raise_file_limit();
    // Two at least: one of them may be in a commit that the disk delays.
    let workers = thread::available_parallelism().map_or(1, usize::from).max(2);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .thread_name("ottla-worker")
        .enable_all()
        .build()
        .map_err(|error| vec![format!("the worker threads cannot be started: {error}")])?;
    let ended = runtime.block_on(run(loaded.config)).map_err(|sentence| vec![sentence]);
    runtime.shutdown_timeout(STRAGGLERS);
    ended
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

/// How long a stop waits for requests in flight.
const DRAIN: Duration = Duration::from_secs(2);
/// The same after the storage failed: enough for the refusals to leave.
const DRAIN_FAILED: Duration = Duration::from_secs(1);
/// How long the end of the process waits for threads that read files.
const STRAGGLERS: Duration = Duration::from_secs(2);

/// Opens the rooms from the ground up, serves until asked to stop, and closes them from the roof down.
async fn serve(mut config: BrokerConfig, mut stop: watch::Receiver<bool>) -> Result<(), String> {
    let bound = server::bind(&mut config)?;
    let http = bind_http(&config)?;
    announce(&config);
    let config = Arc::new(config);
    let metrics = Metrics::new(api::TABLE.iter().map(|row| (row.name, row.versions.clone())));
    let store = open_store(&config).await?;
    let (fail, failed) = oneshot::channel();
    store.when_offline(move |error| {
        // Nobody listens any more once the broker stops anyway.
        let _stopping = fail.send(error.clone());
    });
    let rooms = Rooms::open(&config, &store, &metrics).await.map_err(|error| error.to_string())?;
    let ready = Arc::new(AtomicBool::new(false));
    if let Some(http) = http {
        http.serve(metrics.clone(), ready.clone()).map_err(|error| format!("ottla.http.listener: {error}"))?;
    }
    let server = Server::start(bound, &config, rooms.service(), metrics)?;
    ready.store(true, Ordering::Relaxed);
    // Container tooling waits for these two lines, word for word.
    println!(
        "[KafkaServer id={}] started, the broker has been unfenced. Transitioning from RECOVERY to RUNNING.",
        config.node_id
    );
    println!("Kafka Server started");
    let failure = tokio::select! {
        asked = stop.wait_for(|asked| *asked) => {
            asked.map_err(|_| "signals are no longer received".to_owned())?;
            None
        }
        error = failed => error.ok(),
        error = rooms.broker.controller.failed() => Some(error),
    };
    ready.store(false, Ordering::Relaxed);
    if let Some(error) = failure {
        server.drain(DRAIN_FAILED).await;
        // As Kafka, which halts when its last log directory has failed, or the one of its metadata.
        return Err(format!("the broker stops, because its storage has failed: {error}"));
    }
    server.drain(DRAIN).await;
    rooms.close().await;
    let closing = store.clone();
    tokio::task::spawn_blocking(move || closing.close())
        .await
        .map_err(|error| format!("the store did not close: {error}"))?;
    if let Some(error) = store.offline() {
        return Err(format!("the broker has stopped, but not cleanly: {error}"));
    }
    tracing::info!("node {} stopped", config.node_id);
    Ok(())
}

/// The HTTP listener is a convenience where nobody asked for it: then a taken port is a warning.
fn bind_http(config: &BrokerConfig) -> Result<Option<Http>, String> {
    match http::bind(&config.ottla_http_listener) {
        Ok(http) => Ok(http),
        Err(sentence) if config.is_set("ottla.http.listener") => Err(sentence),
        Err(sentence) => {
            tracing::warn!("{sentence}; going on without /metrics, /healthz and /readyz");
            Ok(None)
        }
    }
}

/// Opens the log dir, off the workers: recovery may read much.
async fn open_store(config: &BrokerConfig) -> Result<Arc<Store>, String> {
    let dir = config.log_dirs.first().cloned().ok_or("log.dirs names no directory")?;
    let options = StoreOptions {
        tail_cache_bytes: usize::try_from(config.ottla_tail_cache_bytes).unwrap_or(0),
        ..StoreOptions::default()
    };
    let opening = tokio::task::spawn_blocking(move || Store::open(&dir, options)).await;
    let (store, recovered) =
        opening.map_err(|error| format!("the store did not open: {error}"))?.map_err(|error| error.to_string())?;
    for sentence in &recovered.sentences {
        tracing::warn!("{sentence}");
    }
    Ok(store)
}

/// The API table, as the server is given it.
struct Requests(Arc<Broker>);

impl Service for Requests {
    fn start(&self, context: &mut RequestContext, frame: Bytes) -> Result<Call, Disconnect> {
        api::dispatch(&self.0, context, frame)
    }

    fn burst(&self, receive: &mut dyn FnMut()) {
        self.0.replicas.burst(receive);
    }
}

/// What stands between the store and the sockets.
struct Rooms {
    broker: Arc<Broker>,
    sweeper: tokio::task::JoinHandle<()>,
}

impl Rooms {
    async fn open(config: &Arc<BrokerConfig>, store: &Arc<Store>, metrics: &Arc<Metrics>) -> Result<Self, StoreError> {
        let controller = Controller::start(config, &store.identity()?).await?;
        let image = controller.image();
        tracing::info!("cluster {}", image.cluster_id);
        store.put_identity(config.node_id, &image.cluster_id, controller.metadata_id())?;
        let replicas = Replicas::start(config, store, metrics);
        let groups = Groups::start(config, &controller, &replicas);
        groups.show_in(metrics);
        controller.on_image(replicas.listener()).await?;
        controller.on_image(groups.listener()).await?;
        // The registration has told the controller whether the last run may have lost records, and the partitions have the
        // epochs that it gave them for that: from now on this boot is the known one.
        store.confirm_boot()?;
        let sweeper = tokio::spawn(replicas.clone().sweep());
        let sessions = FetchSessions::new(config.max_incremental_fetch_session_cache_slots);
        sessions.show_in(metrics);
        let broker = Arc::new(Broker {
            config: config.clone(),
            metrics: metrics.clone(),
            sessions,
            producer_ids: ProducerIds::new(&controller),
            metadata_answers: MetadataAnswers::default(),
            controller,
            replicas,
            groups,
        });
        Ok(Self { broker, sweeper })
    }

    fn service(&self) -> Arc<Requests> {
        Arc::new(Requests(self.broker.clone()))
    }

    async fn close(self) {
        self.broker.groups.stop().await;
        self.sweeper.abort();
        self.broker.replicas.checkpoint(false);
        self.broker.controller.stop().await;
    }
}

#[cfg(test)]
mod tests {
    #![allow(unsafe_code, reason = "what C++ is given can only be asked in C's terms")]

    use std::ffi::c_void;

    unsafe extern "C" {
        /// C++'s `operator new(size_t)`, which RocksDB allocates with.
        #[link_name = "_Znwm"]
        fn operator_new(bytes: usize) -> *mut c_void;
        /// C++'s `operator delete(void*)`.
        #[link_name = "_ZdlPv"]
        fn operator_delete(memory: *mut c_void);
        /// mimalloc: is this memory mine?
        fn mi_is_in_heap_region(memory: *const c_void) -> bool;
    }

    #[test]
    fn rust_and_cpp_have_one_allocator() {
        let of_rust = Box::new([0_u8; 100]);
        let on_the_stack = [0_u8; 100];
        // SAFETY: the second function frees what the first gave, once; the third only looks at an address.
        let found = unsafe {
            let of_cpp = operator_new(100);
            let addresses = [of_cpp.cast_const(), of_rust.as_ptr().cast(), on_the_stack.as_ptr().cast()];
            let found = addresses.map(|address| mi_is_in_heap_region(address));
            operator_delete(of_cpp);
            found
        };
        assert_eq!(found, [true, true, false], "of C++, of Rust, on the stack");
    }
}
