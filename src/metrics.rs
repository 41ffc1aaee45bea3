//! What the broker counts, and how it is shown at `/metrics`: Prometheus' text, under the names that the usual
//! jmx_exporter rules give Kafka's metrics, so that dashboards keep working.
//!
//! On the hot path a count is one relaxed addition to a counter that was looked up once: no label is hashed and no string
//! is made per request. Values that a room can compute (partitions, log sizes, lag) are not counted at all: the room adds a
//! source, which is asked when somebody scrapes.

mod samples;
mod times;
mod unsent;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

pub use samples::Samples;
pub use times::Times;
pub use unsent::{Carried, Unsent};

use crate::error::ErrorCode;

/// A number that only grows.
#[derive(Default, Debug)]
pub struct Count(AtomicU64);

impl Count {
    /// Zero.
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Counts `n` more.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// How many so far.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// The counters of one API.
pub struct RequestMetrics {
    name: &'static str,
    first_version: i16,
    versions: Box<[Count]>,
    errors: ErrorCounts,
    /// From the moment it was read until its handler was called: requests of a connection are started one by one.
    pub queue_time: Times,
    /// In its handler, until that returned.
    pub local_time: Times,
    /// From there until what it waited for had come, and the answers before it had left.
    pub remote_time: Times,
    /// From the last byte of the request read to its answer handed to the socket.
    pub total_time: Times,
}

/// How many codes there are: -1, and those from 0 on.
const CODES: usize = 160;

/// How often each error code was answered.
struct ErrorCounts([Count; CODES]);

impl ErrorCounts {
    fn add(&self, code: ErrorCode, times: u64) {
        let place = usize::try_from(i32::from(code.get()) + 1).unwrap_or(0);
        // A code that no Kafka has is our own mistake: it counts as the unknown error that clients take it for.
        self.0.get(place).unwrap_or(&self.0[0]).add(times);
    }

    fn show(&self, request: &str, samples: &mut Samples) {
        for (code, count) in (-1..).zip(&self.0) {
            if count.get() > 0 {
                let error = ErrorCode::from_wire(code).name().unwrap_or("UNKNOWN_SERVER_ERROR");
                let labels = [("request", request), ("error", error)];
                samples.counter("kafka_network_requestmetrics_errors_total", &labels, count.get());
            }
        }
    }
}

impl RequestMetrics {
    fn new(name: &'static str, versions: &RangeInclusive<i16>) -> Self {
        let counts = versions.clone().map(|_| Count::default()).collect();
        Self {
            name,
            first_version: *versions.start(),
            versions: counts,
            errors: ErrorCounts([const { Count::new() }; CODES]),
            queue_time: Times::default(),
            local_time: Times::default(),
            remote_time: Times::default(),
            total_time: Times::default(),
        }
    }

    /// Counts an error code that was answered, NONE too, as often as it stands in the answer.
    pub fn answered(&self, code: ErrorCode, times: u64) {
        self.errors.add(code, times);
    }

    /// Counts a request. A version outside the row (ApiVersions answers those) counts as its lowest.
    pub fn requested(&self, version: i16) {
        let index = usize::try_from(version - self.first_version).unwrap_or(0);
        self.versions.get(index).unwrap_or(&self.versions[0]).add(1);
    }

    fn show(&self, samples: &mut Samples) {
        for (version, count) in (self.first_version..).zip(&self.versions) {
            if count.get() > 0 {
                let labels = [("request", self.name), ("version", &version.to_string())];
                samples.counter("kafka_network_requestmetrics_requests_total", &labels, count.get());
            }
        }
        self.errors.show(self.name, samples);
        for (name, times) in [
            ("kafka_network_requestmetrics_requestqueuetimems", &self.queue_time),
            ("kafka_network_requestmetrics_localtimems", &self.local_time),
            ("kafka_network_requestmetrics_remotetimems", &self.remote_time),
            ("kafka_network_requestmetrics_totaltimems", &self.total_time),
        ] {
            if times.count() > 0 {
                samples.summary(name, &[("request", self.name)], times);
            }
        }
    }
}

/// Why a connection ended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum CloseCause {
    /// The peer closed it, between requests.
    Peer,
    /// The socket failed.
    Socket,
    /// A frame that is not Kafka's: a length out of range, TLS on a plaintext port.
    Frame,
    /// A request that cannot be read: unknown API or version, malformed body.
    Request,
    /// Nothing happened for `connections.max.idle.ms`.
    Idle,
    /// Part of a frame came, and then too little for too long.
    Slow,
    /// `max.connections.per.ip`.
    Limit,
    /// The broker stops.
    Shutdown,
    /// A defect of ours.
    Panic,
}

impl CloseCause {
    const ALL: [(Self, &'static str); 9] = [
        (Self::Peer, "peer"),
        (Self::Socket, "socket"),
        (Self::Frame, "frame"),
        (Self::Request, "request"),
        (Self::Idle, "idle"),
        (Self::Slow, "slow"),
        (Self::Limit, "limit"),
        (Self::Shutdown, "shutdown"),
        (Self::Panic, "panic"),
    ];
}

/// The counters of one listener's connections.
#[derive(Default, Debug)]
pub struct ListenerMetrics {
    /// Connections accepted.
    pub opened: Count,
    closed: [Count; CloseCause::ALL.len()],
    /// Bytes read.
    pub bytes_in: Count,
    /// Bytes written.
    pub bytes_out: Count,
    /// Requests read.
    pub requests: Count,
    /// Responses written.
    pub responses: Count,
}

impl ListenerMetrics {
    /// Counts the end of a connection.
    pub fn closed(&self, cause: CloseCause) {
        self.closed[cause as usize].add(1);
    }

    /// How many connections ended for this cause.
    pub fn closed_for(&self, cause: CloseCause) -> u64 {
        self.closed[cause as usize].get()
    }

    /// Connections open now.
    pub fn open(&self) -> u64 {
        let closed: u64 = self.closed.iter().map(Count::get).sum();
        self.opened.get().saturating_sub(closed)
    }

    fn show(&self, listener: &str, samples: &mut Samples) {
        let labels = [("listener", listener), ("network_processor", "0")];
        #[expect(clippy::cast_precision_loss, reason = "connections are few")]
        samples.gauge("kafka_server_socket_server_metrics_connection_count", &labels, self.open() as f64);
        for (name, count) in [
            ("kafka_server_socket_server_metrics_connection_creation_total", &self.opened),
            ("kafka_server_socket_server_metrics_incoming_byte_total", &self.bytes_in),
            ("kafka_server_socket_server_metrics_outgoing_byte_total", &self.bytes_out),
            ("kafka_server_socket_server_metrics_request_total", &self.requests),
            ("kafka_server_socket_server_metrics_response_total", &self.responses),
        ] {
            samples.counter(name, &labels, count.get());
        }
        for ((_, cause), count) in CloseCause::ALL.iter().zip(&self.closed) {
            let labels = [("listener", listener), ("cause", cause)];
            samples.counter("ottla_connections_closed_total", &labels, count.get());
        }
    }
}

/// What is counted per topic, and for all topics together.
#[derive(Default, Debug)]
pub struct TopicCounts {
    /// Records appended.
    pub messages_in: Count,
    /// Bytes appended.
    pub bytes_in: Count,
    /// Bytes given to consumers.
    pub bytes_out: Count,
    /// Bytes of batches that were refused.
    pub bytes_rejected: Count,
    /// Produce requests to a partition.
    pub produce_requests: Count,
    /// Those that were answered with an error.
    pub failed_produce_requests: Count,
    /// Fetch requests to a partition.
    pub fetch_requests: Count,
    /// Those that were answered with an error.
    pub failed_fetch_requests: Count,
}

impl TopicCounts {
    fn show(&self, labels: &[(&str, &str)], samples: &mut Samples) {
        for (name, count) in [
            ("kafka_server_brokertopicmetrics_messagesin_total", &self.messages_in),
            ("kafka_server_brokertopicmetrics_bytesin_total", &self.bytes_in),
            ("kafka_server_brokertopicmetrics_bytesout_total", &self.bytes_out),
            ("kafka_server_brokertopicmetrics_bytesrejected_total", &self.bytes_rejected),
            ("kafka_server_brokertopicmetrics_totalproducerequests_total", &self.produce_requests),
            ("kafka_server_brokertopicmetrics_failedproducerequests_total", &self.failed_produce_requests),
            ("kafka_server_brokertopicmetrics_totalfetchrequests_total", &self.fetch_requests),
            ("kafka_server_brokertopicmetrics_failedfetchrequests_total", &self.failed_fetch_requests),
        ] {
            samples.counter(name, labels, count.get());
        }
    }
}

/// A topic's counters. Held by its partitions; gone from the page when the last of them is.
pub struct TopicMetrics {
    topic: TopicCounts,
    all: Arc<TopicCounts>,
}

impl TopicMetrics {
    /// Counts for the topic and for all topics: `metrics.count(|counts| &counts.bytes_in, 512)`.
    pub fn count(&self, which: impl Fn(&TopicCounts) -> &Count, n: u64) {
        which(&self.topic).add(n);
        which(&self.all).add(n);
    }
}

/// The topics that somebody counts for, by name.
#[derive(Default)]
struct Topics {
    by_name: BTreeMap<Arc<str>, Weak<TopicMetrics>>,
    /// How many there may be before those that are gone are looked for.
    sweep_at: usize,
}

impl Topics {
    /// Fewer names than this are not worth a look.
    const FEW: usize = 64;

    /// The topic's counters, or those that `make` makes. The names that are gone are dropped whenever there are twice as many
    /// as were left the last time: each topic pays for one look at another.
    fn get(&mut self, name: &Arc<str>, make: impl FnOnce() -> TopicMetrics) -> Arc<TopicMetrics> {
        if let Some(topic) = self.by_name.get(name).and_then(Weak::upgrade) {
            return topic;
        }
        if self.by_name.len() >= self.sweep_at.max(Self::FEW) {
            self.sweep();
        }
        let topic = Arc::new(make());
        self.by_name.insert(Arc::clone(name), Arc::downgrade(&topic));
        topic
    }

    fn sweep(&mut self) {
        self.by_name.retain(|_, topic| topic.strong_count() > 0);
        self.sweep_at = 2 * self.by_name.len();
    }
}

type Source = Box<dyn Fn(&mut Samples) + Send + Sync>;

/// Every counter of the process.
pub struct Metrics {
    /// What peers have not taken of their answers.
    pub unsent: Arc<Unsent>,
    requests: Box<[RequestMetrics]>,
    all_topics: Arc<TopicCounts>,
    topics: Mutex<Topics>,
    listeners: Mutex<BTreeMap<Arc<str>, Arc<ListenerMetrics>>>,
    sources: Mutex<Vec<Source>>,
}

impl Metrics {
    /// Counters for these APIs, by their place in the API table.
    pub fn new(apis: impl Iterator<Item = (&'static str, RangeInclusive<i16>)>) -> Arc<Self> {
        Arc::new(Self {
            unsent: Arc::default(),
            requests: apis.map(|(name, versions)| RequestMetrics::new(name, &versions)).collect(),
            all_topics: Arc::default(),
            topics: Mutex::default(),
            listeners: Mutex::default(),
            sources: Mutex::default(),
        })
    }

    /// The counters of the API at this place in the table.
    pub fn request(&self, row: usize) -> &RequestMetrics {
        &self.requests[row]
    }

    /// The counters of a topic, made by the first who asks.
    pub fn topic(&self, name: &Arc<str>) -> Arc<TopicMetrics> {
        let make = || TopicMetrics { topic: TopicCounts::default(), all: Arc::clone(&self.all_topics) };
        self.topics.lock().get(name, make)
    }

    /// The counters of a listener, made by the first who asks.
    pub fn listener(&self, name: &Arc<str>) -> Arc<ListenerMetrics> {
        Arc::clone(self.listeners.lock().entry(Arc::clone(name)).or_default())
    }

    /// Adds what is to be asked at every scrape. It runs while others add and look up, and must not call back here.
    pub fn add_source(&self, source: impl Fn(&mut Samples) + Send + Sync + 'static) {
        self.sources.lock().push(Box::new(source));
    }

    /// The page.
    pub fn render(&self) -> String {
        let mut samples = Samples::default();
        self.requests.iter().for_each(|request| request.show(&mut samples));
        for (name, listener) in &*self.listeners.lock() {
            listener.show(name, &mut samples);
        }
        self.all_topics.show(&[], &mut samples);
        for (name, topic) in &self.topics.lock().by_name {
            if let Some(topic) = topic.upgrade() {
                topic.topic.show(&[("topic", name)], &mut samples);
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "far fewer bytes than a float counts exactly")]
        samples.gauge("ottla_unsent_response_bytes", &[], self.unsent.bytes() as f64);
        self.sources.lock().iter().for_each(|source| source(&mut samples));
        samples.render()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics() -> Arc<Metrics> {
        Metrics::new([("Produce", 3..=13)].into_iter())
    }

    #[test]
    fn causes_stand_at_their_own_place() {
        for (place, (cause, _)) in CloseCause::ALL.iter().enumerate() {
            assert_eq!(*cause as usize, place);
        }
    }

    #[test]
    fn a_request_is_shown_under_the_name_that_dashboards_know() {
        let metrics = metrics();
        metrics.request(0).requested(11);
        metrics.request(0).total_time.record(3);
        let page = metrics.render();
        assert!(
            page.contains("kafka_network_requestmetrics_requests_total{request=\"Produce\",version=\"11\"} 1"),
            "{page}"
        );
        assert!(
            page.contains("kafka_network_requestmetrics_totaltimems{request=\"Produce\",quantile=\"0.99\"} 3"),
            "{page}"
        );
        assert!(page.contains("kafka_network_requestmetrics_totaltimems_count{request=\"Produce\"} 1"), "{page}");
    }

    #[test]
    fn a_topic_counts_for_itself_and_for_all_and_leaves_with_its_last_partition() {
        let metrics = metrics();
        let topic = metrics.topic(&"t".into());
        assert!(Arc::ptr_eq(&topic, &metrics.topic(&"t".into())));
        topic.count(|counts| &counts.messages_in, 5);
        let page = metrics.render();
        assert!(page.contains("kafka_server_brokertopicmetrics_messagesin_total{topic=\"t\"} 5"), "{page}");
        assert!(page.contains("kafka_server_brokertopicmetrics_messagesin_total 5"), "{page}");
        drop(topic);
        let page = metrics.render();
        assert!(!page.contains("topic=\"t\""), "{page}");
        assert!(page.contains("kafka_server_brokertopicmetrics_messagesin_total 5"), "{page}");
    }

    #[test]
    fn names_that_are_gone_are_dropped_and_looked_for_seldom() {
        let metrics = metrics();
        let name = |n: usize| Arc::from(format!("t{n}"));
        (0..10_000).for_each(|n| drop(metrics.topic(&name(n))));
        assert!(metrics.topics.lock().by_name.len() <= Topics::FEW);
        let kept: Vec<_> = (0..10_000).map(|n| metrics.topic(&name(n))).collect();
        let topics = metrics.topics.lock();
        assert_eq!(topics.by_name.len(), kept.len());
        assert!(topics.sweep_at > kept.len(), "the next {} topics look at nobody", topics.sweep_at - kept.len());
    }

    #[test]
    fn an_answer_counts_under_its_error_by_kafkas_name() {
        let metrics = metrics();
        metrics.request(0).answered(ErrorCode::NONE, 2);
        metrics.request(0).answered(ErrorCode::UNKNOWN_SERVER_ERROR, 1);
        metrics.request(0).answered(ErrorCode::NOT_LEADER_OR_FOLLOWER, 1);
        metrics.request(0).answered(ErrorCode::from_wire(i16::MAX), 1);
        let page = metrics.render();
        for (error, count) in [("NONE", 2), ("UNKNOWN_SERVER_ERROR", 2), ("NOT_LEADER_OR_FOLLOWER", 1)] {
            let line =
                format!("kafka_network_requestmetrics_errors_total{{request=\"Produce\",error=\"{error}\"}} {count}");
            assert!(page.contains(&line), "{line} is not in\n{page}");
        }
    }

    #[test]
    fn a_source_is_asked_at_every_scrape() {
        let metrics = metrics();
        metrics.add_source(|samples| samples.gauge("kafka_server_replicamanager_partitioncount", &[], 7.0));
        assert!(metrics.render().contains("kafka_server_replicamanager_partitioncount 7"));
    }
}
