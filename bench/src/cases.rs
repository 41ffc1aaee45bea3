//! What is measured of one broker in one round: each case returns named figures; less is better for all that have a goal.

use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use crate::batch::{Batch, Codec};
use crate::broker::{Broker, Kind, Workshop};
use crate::load::{Tail, To, closed_loop, on_schedule};
use crate::machine::Device;
use crate::wire;

/// A figure with its unit in the name.
pub type Figure = (&'static str, f64);

const GIB: f64 = (1u64 << 30) as f64;
const MIB: f64 = (1u64 << 20) as f64;

/// The names of the figures, as the cases give them and the report asks for them.
pub mod figure {
    pub const START: &str = "exec to first acknowledged produce, ms";
    pub const START_CPU: &str = "exec to first acknowledged produce, CPU-s";
    pub const IDLE_CPU: &str = "idle, CPU in % of a core";
    pub const IDLE_MEMORY: &str = "idle, resident MiB";
    pub const TAIL_CPU: &str = "1 KiB records, 64 KiB batches, acks=all, produce + tail fetch, CPU-s per GiB";
    pub const TAIL_MEMORY: &str = "the same load unpaced, largest resident MiB";
    pub const TAIL_SECONDS: &str = "the same load unpaced, seconds per GiB";
    pub const LZ4_CPU: &str = "lz4 JSON produce, CPU-s per wire GiB";
    pub const ZSTD_CPU: &str = "zstd JSON produce, CPU-s per wire GiB";
    pub const UNBATCHED_CPU: &str = "unbatched produce at 5,000/s, CPU µs per request";
    pub const UNBATCHED_P99: &str = "unbatched produce at 5,000/s, p99 of the acknowledgement, µs";
    pub const PIPELINED_CPU: &str = "pipelined, 16 connections x 8, CPU µs per request";
    pub const PACED_CPU: &str = "20,000 records/s in 5 ms batches, CPU µs per record";
    pub const PACED_P99: &str = "20,000 records/s in 5 ms batches, p99 end to end, µs";
    pub const DISK: &str = "paced at 20 MiB/s and drained, bytes that reached the disk per user byte";
    pub const DISK_RATE: &str = "the rate of that load, MiB/s";
    pub const DISK_BACKGROUND: &str = "what the rest of the machine wrote before or after it, KiB/s";
}

/// How much load each case makes.
#[derive(Clone)]
pub struct Length {
    /// MiB of 1 KiB records in the main case.
    pub mib: usize,
    /// Seconds of each paced case; the disk's takes 30 at least.
    pub seconds: u64,
    /// The cases to run, of [`CASES`]; all when empty.
    pub cases: Vec<String>,
}

impl Length {
    /// Whether a case is to run.
    pub fn wants(&self, name: &str) -> bool {
        self.cases.is_empty() || self.cases.iter().any(|wanted| wanted == name)
    }
}

/// The cases by name, in their order.
pub const CASES: &[&str] = &["start", "tail", "compressed", "unbatched", "pipelined", "paced", "disk"];

type Load = fn(&Broker, &Length, &mut Vec<Figure>);

/// The cases that share one warm broker.
const LOADS: &[(&str, Load)] = &[
    ("tail", produce_and_tail),
    ("compressed", compressed),
    ("unbatched", unbatched),
    ("pipelined", pipelined),
    ("paced", paced),
];

/// MiB of 1 KiB records that a broker gets before it is measured: three million for a Java broker, whose code must be
/// compiled; for the others enough to have touched their memory, several times over.
const WARM_UP_MIB: usize = 1024;
const WARM_UP_MIB_KAFKA: usize = 3 * 1024;
/// What is sent on schedule before it counts: a new topic, new connections.
const LEAD_IN: Duration = Duration::from_secs(2);
/// How long the device is watched while no broker runs.
const BACKGROUND: Duration = Duration::from_secs(5);

/// Runs the cases that are wanted, with the broker in fresh folders.
pub fn round(kind: Kind, workshop: &Workshop, length: &Length) -> Vec<Figure> {
    let mut figures = Vec::new();
    let loads: Vec<Load> = LOADS.iter().filter(|(name, _)| length.wants(name)).map(|(_, load)| *load).collect();
    if length.wants("start") || !loads.is_empty() {
        settle();
        let mut broker = Broker::start(kind, workshop);
        if length.wants("start") {
            start_and_idle(&broker, &mut figures);
        }
        if !loads.is_empty() {
            warm_up(&broker);
        }
        for load in loads {
            settle();
            load(&broker, length, &mut figures);
        }
        broker.stop();
    }
    if length.wants("disk") && kind != Kind::Null {
        disk(kind, workshop, length, &mut figures);
    }
    figures
}

/// Nothing of the case before is left for the kernel to write.
fn settle() {
    rustix::fs::sync();
}

fn start_and_idle(broker: &Broker, figures: &mut Vec<Figure>) {
    figures.push((figure::START, broker.first_acknowledgement.as_secs_f64() * 1e3));
    figures.push((figure::START_CPU, broker.start_cpu));
    std::thread::sleep(Duration::from_secs(2));
    if let Some(share) = broker.idle_share(Duration::from_secs(10)) {
        figures.push((figure::IDLE_CPU, 100.0 * share));
    }
    figures.push((figure::IDLE_MEMORY, broker.resident() / MIB));
}

fn topic(broker: &Broker, name: &str) -> To {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !wire::ask_for_topic(&broker.address, name) || !wire::is_served(&broker.address, name, 0) {
        assert!(Instant::now() < deadline, "no topic {name}");
        std::thread::sleep(Duration::from_millis(5));
    }
    To { address: broker.address.clone(), topic: name.to_owned(), partitions: 1 }
}

/// A batch of 1 KiB records that fills 64 KiB, as a producer's `batch.size` of 65536 does.
fn batch_of_64_kib() -> Batch {
    Batch::random(63, 1024)
}

fn warm_up(broker: &Broker) {
    let to = topic(broker, "warm-up");
    let batch = batch_of_64_kib();
    let (mib, requests) = if broker.kind == Kind::Kafka { (WARM_UP_MIB_KAFKA, 100_000) } else { (WARM_UP_MIB, 2_000) };
    let tail = Tail::start(&to, &[0], None);
    let batches = mib * 1024 / batch.records;
    closed_loop(&to, &batch, 1, 4, batches);
    tail.wait_for((batches * batch.records) as u64);
    tail.stop();
    for (name, codec) in [("warm-up-lz4", Codec::Lz4), ("warm-up-zstd", Codec::Zstd)] {
        closed_loop(&topic(broker, name), &Batch::json(400, codec), 1, 8, requests.min(2_000));
    }
    closed_loop(&topic(broker, "warm-up-small"), &Batch::random(1, 100), 1, 8, requests);
}

/// The largest resident size while something is done.
fn largest_resident<T>(broker: &Broker, work: impl FnOnce() -> T) -> (f64, T) {
    // The watch ends when the sender is gone, also when the work fails.
    let (working, done) = std::sync::mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let watch = scope.spawn(move || {
            let mut largest = broker.resident();
            while done.recv_timeout(Duration::from_millis(50)) == Err(RecvTimeoutError::Timeout) {
                largest = largest.max(broker.resident());
            }
            largest.max(broker.resident())
        });
        let result = work();
        drop(working);
        (watch.join().expect("it only reads"), result)
    })
}

fn produce_and_tail(broker: &Broker, length: &Length, figures: &mut Vec<Figure>) {
    let to = topic(broker, "tail");
    let batch = batch_of_64_kib();
    let batches = length.mib * 1024 / batch.records;
    let tail = Tail::start(&to, &[0], None);
    let before = broker.read();
    let (resident, (took, spent)) = largest_resident(broker, || {
        let took = closed_loop(&to, &batch, 1, 4, batches);
        tail.wait_for((batches * batch.records) as u64);
        (took, broker.since(before))
    });
    tail.stop();
    let payload = (batches * batch.payload) as f64;
    figures.push((figure::TAIL_CPU, spent.cpu / (payload / GIB)));
    figures.push((figure::TAIL_MEMORY, resident / MIB));
    figures.push((figure::TAIL_SECONDS, took.as_secs_f64() / (payload / GIB)));
}

fn compressed(broker: &Broker, length: &Length, figures: &mut Vec<Figure>) {
    for (codec, name) in [(Codec::Lz4, figure::LZ4_CPU), (Codec::Zstd, figure::ZSTD_CPU)] {
        let to = topic(broker, &format!("json-{codec:?}"));
        let batch = Batch::json(600, codec);
        let batches = (length.mib << 20) / 4 / batch.bytes.len();
        let before = broker.read();
        closed_loop(&to, &batch, 1, 4, batches);
        let spent = broker.since(before);
        figures.push((name, spent.cpu / ((batches * batch.bytes.len()) as f64 / GIB)));
    }
}

fn unbatched(broker: &Broker, length: &Length, figures: &mut Vec<Figure>) {
    let to = topic(broker, "unbatched");
    let batch = Batch::random(1, 100);
    let interval = Duration::from_micros(200);
    on_schedule(&to, &batch, interval, LEAD_IN, Instant::now());
    let before = broker.read();
    let latencies = on_schedule(&to, &batch, interval, Duration::from_secs(length.seconds), Instant::now());
    let spent = broker.since(before);
    figures.push((figure::UNBATCHED_CPU, spent.cpu * 1e6 / latencies.len() as f64));
    figures.push((figure::UNBATCHED_P99, latencies.value_at_quantile(0.99) as f64));
}

fn pipelined(broker: &Broker, length: &Length, figures: &mut Vec<Figure>) {
    let to = topic(broker, "pipelined");
    let batch = Batch::random(1, 100);
    let per_connection = 2000 * length.seconds as usize;
    let before = broker.read();
    closed_loop(&to, &batch, 16, 8, per_connection);
    let spent = broker.since(before);
    figures.push((figure::PIPELINED_CPU, spent.cpu * 1e6 / (16 * per_connection) as f64));
}

fn paced(broker: &Broker, length: &Length, figures: &mut Vec<Figure>) {
    let to = topic(broker, "paced");
    let batch = Batch::random(100, 1024);
    let interval = Duration::from_millis(5);
    let epoch = Instant::now();
    let stamps = Some((batch.stamp_position(), epoch));
    let tail = Tail::start(&to, &[0], stamps);
    let led_in = on_schedule(&to, &batch, interval, LEAD_IN, epoch).len() * batch.records as u64;
    tail.wait_for(led_in);
    tail.stop();
    let tail = Tail::start(&to, &[led_in as i64], stamps);
    let before = broker.read();
    let sent = on_schedule(&to, &batch, interval, Duration::from_secs(length.seconds), epoch);
    let records = sent.len() * batch.records as u64;
    tail.wait_for(records);
    let spent = broker.since(before);
    let ages = tail.stop();
    figures.push((figure::PACED_CPU, spent.cpu * 1e6 / records as f64));
    figures.push((figure::PACED_P99, ages.value_at_quantile(0.99) as f64));
}

/// Bytes that reach the device from the start of a broker in an empty folder until it has stopped cleanly and all dirty
/// pages are written. The counters are the machine's: what the machine writes anyway is measured before the broker
/// starts, so that a broker's own idle writes are not subtracted, and once more after it has stopped: where either is
/// much, the figure says nothing.
fn disk(kind: Kind, workshop: &Workshop, length: &Length, figures: &mut Vec<Figure>) {
    let device = Device::under(&workshop.folder).unwrap_or_else(|why| panic!("{why}"));
    device.settle();
    let background = device.background(BACKGROUND);
    let (begin, before) = (Instant::now(), device.written());
    let mut broker = Broker::start(kind, workshop);
    let to = topic(&broker, "disk");
    let batch = Batch::random(64, 1024);
    let load = Instant::now();
    // 64 KiB every 3 ms are 20.8 MiB/s.
    let sent =
        on_schedule(&to, &batch, Duration::from_millis(3), Duration::from_secs(length.seconds.max(30)), Instant::now());
    let seconds = load.elapsed().as_secs_f64();
    broker.stop();
    device.settle();
    let written = device.written() - before - background * begin.elapsed().as_secs_f64();
    let user_bytes = (sent.len() * batch.payload as u64) as f64;
    figures.push((figure::DISK, written / user_bytes));
    figures.push((figure::DISK_RATE, user_bytes / MIB / seconds));
    figures.push((figure::DISK_BACKGROUND, background.max(device.background(BACKGROUND)) / 1024.0));
}
