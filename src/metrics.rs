//! What the broker counts, and how it is shown at `/metrics`: Prometheus' text, under the names that the usual
//! jmx_exporter rules give Kafka's metrics, so that dashboards keep working.
//!
//! On the hot path a count is one relaxed addition to a counter that was looked up once: no label is hashed and no string
//! is made per request. Values that a room can compute (partitions, log sizes, lag) are not counted at all: the room adds a
//! source, which is asked when somebody scrapes.

mod samples;
mod times;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

pub use samples::Samples;
pub use times::Times;

/// A number that only grows.
#[derive(Default, Debug)]
pub struct Count(AtomicU64);

impl Count {
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
    /// From the last byte of the request read to its answer handed to the socket.
    pub total_time: Times,
}

impl RequestMetrics {
    fn new(name: &'static str, versions: &RangeInclusive<i16>) -> Self {
        let counts = versions.clone().map(|_| Count::default()).collect();
        Self { name, first_version: *versions.start(), versions: counts, total_time: Times::default() }
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
        if self.total_time.count() > 0 {
            samples.summary("kafka_network_requestmetrics_totaltimems", &[("request", self.name)], &self.total_time);
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

type Source = Box<dyn Fn(&mut Samples) + Send + Sync>;

/// Every counter of the process.
pub struct Metrics {
    requests: Box<[RequestMetrics]>,
    all_topics: Arc<TopicCounts>,
    topics: Mutex<BTreeMap<Arc<str>, Weak<TopicMetrics>>>,
    listeners: Mutex<BTreeMap<Arc<str>, Arc<ListenerMetrics>>>,
    sources: Mutex<Vec<Source>>,
}

impl Metrics {
    /// Counters for these APIs, by their place in the API table.
    pub fn new(apis: impl Iterator<Item = (&'static str, RangeInclusive<i16>)>) -> Arc<Self> {
        Arc::new(Self {
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
        let mut topics = self.topics.lock();
        topics.retain(|_, topic| topic.strong_count() > 0);
        if let Some(topic) = topics.get(name).and_then(Weak::upgrade) {
            return topic;
        }
        let topic = Arc::new(TopicMetrics { topic: TopicCounts::default(), all: Arc::clone(&self.all_topics) });
        topics.insert(Arc::clone(name), Arc::downgrade(&topic));
        topic
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
        for (name, topic) in &*self.topics.lock() {
            if let Some(topic) = topic.upgrade() {
                topic.topic.show(&[("topic", name)], &mut samples);
            }
        }
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
    fn a_source_is_asked_at_every_scrape() {
        let metrics = metrics();
        metrics.add_source(|samples| samples.gauge("kafka_server_replicamanager_partitioncount", &[], 7.0));
        assert!(metrics.render().contains("kafka_server_replicamanager_partitioncount 7"));
    }
}
