//! Sockets in: listeners, the connections they accept and the limits on them, and the drain at shutdown.
//!
//! A connection is one task (`connection`) that reads frames (`input`), hands them to the API table and sends the answers in
//! order (`output`). It answers for itself only: whatever a peer sends, and whatever a handler does with it, ends at most
//! that connection. The server knows no API: it is given the [`Service`] that starts a request.

mod budget;
mod closes;
mod connection;
pub mod http;
mod input;
mod limits;
mod listen;
mod output;
mod registry;

#[cfg(test)]
mod tests;

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::api::{Call, RequestContext};
use crate::config::BrokerConfig;
use crate::env;
use crate::error::Disconnect;
use crate::metrics::{CloseCause, Metrics};

use budget::Budget;
use closes::Closes;
use connection::{Connection, Ending};
use limits::{Limits, Seat};
pub use listen::{Bound, bind};
use registry::{Pulse, Registry};

/// What the server is given to serve.
pub trait Service: Send + Sync {
    /// Starts the request in a frame (without its length): `api::dispatch` with its broker.
    fn start(&self, context: &mut RequestContext, frame: Bytes) -> Result<Call, Disconnect>;

    /// Runs `receive`, which starts the requests that arrived together on one connection. What they have in common may be
    /// done once, after it.
    fn burst(&self, receive: &mut dyn FnMut()) {
        receive();
    }
}

impl<F: Fn(&mut RequestContext, Bytes) -> Result<Call, Disconnect> + Send + Sync> Service for F {
    fn start(&self, context: &mut RequestContext, frame: Bytes) -> Result<Call, Disconnect> {
        self(context, frame)
    }
}

/// How often deadlines are looked at, at most.
const SWEEP_MS: u64 = 1_000;
/// How long accepting rests when the system has no more sockets.
const ACCEPT_REST: Duration = Duration::from_millis(100);
/// What connections obey.
struct Settings {
    max_request_bytes: usize,
    max_idle_ms: u64,
}

/// What all connections share.
struct Shared {
    service: Arc<dyn Service>,
    metrics: Arc<Metrics>,
    settings: Settings,
    budget: Budget,
    registry: Registry,
    closes: Closes,
    limits: Arc<Limits>,
    next_connection: AtomicU64,
    draining: AtomicBool,
    stopped: AtomicBool,
}

impl Shared {
    fn is_draining(&self) -> bool {
        self.draining.load(Relaxed)
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Relaxed)
    }
}

/// The running server.
pub struct Server {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    /// Where it listens, by listener.
    pub addresses: Vec<(Arc<str>, SocketAddr)>,
}

impl Server {
    /// Listens on the bound sockets and serves what comes. Needs the runtime. The error is a sentence for the operator.
    pub fn start(
        bound: Vec<Bound>,
        config: &BrokerConfig,
        service: Arc<dyn Service>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, String> {
        let shared = Arc::new(Shared {
            service,
            metrics,
            settings: Settings {
                max_request_bytes: usize::try_from(config.socket_request_max_bytes).unwrap_or(0),
                // Negative: never, as in Kafka.
                max_idle_ms: u64::try_from(config.connections_max_idle_ms).unwrap_or(u64::MAX),
            },
            budget: Budget::new(budget_bytes(config.queued_max_request_bytes)),
            registry: Registry::default(),
            closes: Closes::default(),
            limits: Limits::new(
                config.max_connections.min(room_for_connections()),
                config.max_connections_per_ip,
                &config.max_connections_per_ip_overrides,
                config.max_connection_creation_rate,
                resolve,
            ),
            next_connection: AtomicU64::new(1),
            draining: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
        });
        let (stop, stopping) = watch::channel(false);
        let mut addresses = Vec::with_capacity(bound.len());
        for socket in bound {
            let (listener, socket) = socket.listen(config.socket_listen_backlog_size)?;
            let address = socket.local_addr().map_err(|error| format!("listener {}: {error}", listener.name))?;
            addresses.push((Arc::clone(&listener.name), address));
            tokio::spawn(accept(Arc::clone(&shared), listener.name, socket, stopping.clone()));
        }
        tokio::spawn(sweep(Arc::downgrade(&shared)));
        Ok(Self { shared, stop, addresses })
    }

    /// Stops accepting and starting, lets what is in flight finish for at most so long, and closes every connection.
    pub async fn drain(self, bound: Duration) {
        self.shared.draining.store(true, Relaxed);
        self.stop.send_replace(true);
        self.shared.registry.wake_all();
        if tokio::time::timeout(bound, self.shared.registry.empty()).await.is_err() {
            self.shared.stopped.store(true, Relaxed);
            self.shared.registry.wake_all();
            self.shared.registry.empty().await;
        }
    }
}

/// `queued.max.request.bytes`; not positive is no limit.
fn budget_bytes(configured: i64) -> usize {
    usize::try_from(configured).ok().filter(|bytes| *bytes > 0).unwrap_or(usize::MAX)
}

/// As many connections as the limit of open files leaves room for.
fn room_for_connections() -> i32 {
    let descriptors = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let room = limits::room(descriptors);
    if let Some(descriptors) = descriptors {
        tracing::info!("room for {room} connections at once (limit of open files: {descriptors})");
    }
    room
}

/// The addresses of an override of `max.connections.per.ip`.
fn resolve(host: &str) -> Vec<IpAddr> {
    match (host, 0).to_socket_addrs() {
        Ok(addresses) => addresses.map(|address| address.ip()).collect(),
        Err(error) => {
            tracing::warn!("max.connections.per.ip.overrides: {host} has no effect: {error}");
            Vec::new()
        }
    }
}

/// Accepts until the server stops.
async fn accept(shared: Arc<Shared>, listener: Arc<str>, socket: TcpListener, mut stopping: watch::Receiver<bool>) {
    let serve = async {
        let mut failing = false;
        loop {
            let (stream, address) = match socket.accept().await {
                Ok(accepted) => accepted,
                Err(error) if ended_before_it_began(&error) => {
                    tracing::debug!(%listener, "a connection ended before it was accepted: {error}");
                    continue;
                }
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(%listener, "connections cannot be accepted: {error}; trying again and again");
                    }
                    tokio::time::sleep(ACCEPT_REST).await;
                    continue;
                }
            };
            if std::mem::take(&mut failing) {
                tracing::info!(%listener, "connections are accepted again");
            }
            let delay = shared.limits.delay(env::tick());
            if delay > 0 {
                tokio::time::sleep(Duration::from_millis(delay)).await;
            }
            let from = address.ip().to_canonical();
            let metrics = shared.metrics.listener(&listener);
            metrics.opened.add(1);
            match shared.limits.seat(from).await {
                Some(seat) => open(&shared, &listener, stream, (from, seat)),
                None => close(
                    &shared,
                    &listener,
                    from,
                    &Ending {
                        cause: CloseCause::Limit,
                        why: "the address has as many connections as max.connections.per.ip allows".into(),
                    },
                ),
            }
        }
    };
    tokio::select! {
        () = serve => {}
        _ = stopping.wait_for(|stop| *stop) => {}
    }
}

/// Errors that accept hands on from the connection: the next one may be well.
fn ended_before_it_began(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionReset, HostUnreachable, Interrupted, NetworkDown, NetworkUnreachable, TimedOut,
    };
    let kinds =
        [ConnectionAborted, ConnectionReset, HostUnreachable, Interrupted, NetworkDown, NetworkUnreachable, TimedOut];
    kinds.contains(&error.kind())
}

/// Starts the task of a connection.
fn open(shared: &Arc<Shared>, listener: &Arc<str>, stream: TcpStream, (from, seat): (IpAddr, Seat)) {
    let number = shared.next_connection.fetch_add(1, Relaxed);
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%listener, %from, "cannot set TCP_NODELAY: {error}");
    }
    let pulse = Arc::new(Pulse::new(number));
    shared.registry.enter(&pulse);
    let context = RequestContext::of_connection(number, Arc::clone(listener), from);
    let connection = Connection::new(stream, Arc::clone(shared), pulse, context);
    let (shared, listener) = (Arc::clone(shared), Arc::clone(listener));
    tokio::spawn(async move {
        // The one place where a panic is caught: a defect met by one request ends that request's connection only.
        let ending = AssertUnwindSafe(connection).catch_unwind().await.unwrap_or_else(|_| Ending {
            cause: CloseCause::Panic,
            why: "a request met a defect of this broker; the panic is in the log".into(),
        });
        drop(seat);
        close(&shared, &listener, from, &ending);
        shared.registry.leave(number);
    });
}

/// Counts and logs the end of a connection.
fn close(shared: &Shared, listener: &Arc<str>, from: IpAddr, ending: &Ending) {
    shared.metrics.listener(listener).closed(ending.cause);
    shared.closes.log(listener, from, ending, env::tick());
}

/// Reminds connections of their deadlines for as long as there is a server or a connection.
async fn sweep(shared: Weak<Shared>) {
    let Some(period) = shared.upgrade().map(|shared| (shared.settings.max_idle_ms / 4).clamp(10, SWEEP_MS)) else {
        return;
    };
    let mut every = tokio::time::interval(Duration::from_millis(period));
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        let Some(shared) = shared.upgrade() else { return };
        shared.registry.sweep(env::tick());
    }
}
