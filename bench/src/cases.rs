//! What is measured of one broker in one round: each case returns named figures; less is better for all of them.

use std::time::{Duration, Instant};

use crate::batch::{Batch, Codec};
use crate::broker::{Broker, Kind, Workshop};
use crate::load::{Tail, To, closed_loop, on_schedule};
use crate::wire;

/// A figure with its unit in the name.
pub type Figure = (&'static str, f64);

const GIB: f64 = (1u64 << 30) as f64;
const MIB: f64 = (1u64 << 20) as f64;

/// How much load each case makes.
#[derive(Clone)]
pub struct Length {
    /// MiB of 1 KiB records in the main case, and as much before it to warm up.
    pub mib: usize,
    /// Seconds of each paced case.
    pub seconds: u64,
    /// The cases to run; all when empty.
    pub cases: Vec<String>,
}

type Case = fn(&Broker, &Length, &mut Vec<Figure>);

/// The cases by name, in their order.
const CASES: &[(&str, Case)] = &[
    ("tail", produce_and_tail),
    ("compressed", compressed),
    ("unbatched", unbatched),
    ("pipelined", pipelined),
    ("paced", paced),
];

/// Starts a broker, runs the cases, stops it.
pub fn round(kind: Kind, workshop: &Workshop, length: &Length) -> Vec<Figure> {
    let broker = Broker::start(kind, workshop);
    let mut figures = vec![
        ("exec to first acknowledged produce, ms", broker.first_acknowledgement.as_secs_f64() * 1e3),
        ("the same, CPU-s", broker.start_cpu),
    ];
    std::thread::sleep(Duration::from_secs(2));
    let before = broker.read();
    std::thread::sleep(Duration::from_secs(5));
    let idle = broker.since(before);
    figures.push(("idle CPU, %", 100.0 * idle.cpu / idle.seconds));
    figures.push(("resident idle, MiB", broker.resident() / MIB));
    warm_up(&broker, length);
    for (name, case) in CASES {
        if length.cases.is_empty() || length.cases.iter().any(|wanted| wanted == name) {
            case(&broker, length, &mut figures);
        }
    }
    broker.stop();
    figures
}

fn topic(broker: &Broker, name: &str, partitions: usize) -> To {
    let deadline = Instant::now() + Duration::from_secs(30);
    assert!(wire::make_topic(&broker.address, name, deadline), "no topic {name}");
    To { address: broker.address.clone(), topic: name.to_owned(), partitions }
}

/// A Java broker needs its code compiled, every broker its memory touched.
fn warm_up(broker: &Broker, length: &Length) {
    let to = topic(broker, "warm-up", 1);
    let batch = Batch::random(63, 1024);
    let rounds = if broker.kind == Kind::Kafka { 3 } else { 1 };
    let tail = Tail::start(&to, &[0], None);
    let batches = rounds * length.mib * 1024 / 63;
    closed_loop(&to, &batch, 1, 4, batches);
    tail.wait_for((batches * batch.records) as u64);
    tail.stop();
    for (name, batch, count) in [
        ("warm-up-lz4", Batch::json(400, Codec::Lz4), 2000),
        ("warm-up-zstd", Batch::json(400, Codec::Zstd), 2000),
        ("warm-up-small", Batch::random(1, 100), 20_000),
    ] {
        closed_loop(&topic(broker, name, 1), &batch, 1, 8, if broker.kind == Kind::Kafka { count } else { count / 10 });
    }
}

fn settle() {
    rustix::fs::sync();
}

fn produce_and_tail(broker: &Broker, length: &Length, figures: &mut Vec<Figure>) {
    let to = topic(broker, "tail", 1);
    let batch = Batch::random(63, 1024);
    let batches = length.mib * 1024 / 63;
    settle();
    let tail = Tail::start(&to, &[0], None);
    let before = broker.read();
    let took = closed_loop(&to, &batch, 1, 4, batches);
    tail.wait_for((batches * batch.records) as u64);
    let resident = broker.resident();
    let spent = broker.since(before);
    tail.stop();
    settle();
    let disk = broker.since(before).disk;
    let payload = (batches * batch.payload) as f64;
    figures.push(("produce + tail fetch, CPU-s per GiB", spent.cpu / (payload / GIB)));
    figures.push(("resident under load, MiB", resident / MIB));
    figures.push(("disk bytes per user byte", disk / (batches * batch.bytes.len()) as f64));
    figures.push(("seconds per GiB, closed loop", took.as_secs_f64() / (payload / GIB)));
}

fn compressed(broker: &Broker, length: &Length, figures: &mut Vec<Figure>) {
    for (codec, name) in
        [(Codec::Lz4, "lz4 JSON produce, CPU-s per wire GiB"), (Codec::Zstd, "zstd JSON produce, CPU-s per wire GiB")]
    {
        let to = topic(broker, &format!("json-{codec:?}"), 1);
        let batch = Batch::json(600, codec);
        let batches = (length.mib << 20) / 4 / batch.bytes.len();
        let before = broker.read();
        closed_loop(&to, &batch, 1, 4, batches);
        let spent = broker.since(before);
        figures.push((name, spent.cpu / ((batches * batch.bytes.len()) as f64 / GIB)));
    }
}

fn unbatched(broker: &Broker, length: &Length, figures: &mut Vec<Figure>) {
    let to = topic(broker, "unbatched", 1);
    let batch = Batch::random(1, 100);
    let before = broker.read();
    let latencies =
        on_schedule(&to, &batch, Duration::from_micros(200), Duration::from_secs(length.seconds), Instant::now());
    let spent = broker.since(before);
    figures.push(("unbatched produce at 5,000/s, CPU µs per request", spent.cpu * 1e6 / latencies.len() as f64));
    figures.push(("the same, p99 of the acknowledgement, µs", latencies.value_at_quantile(0.99) as f64));
}

fn pipelined(broker: &Broker, length: &Length, figures: &mut Vec<Figure>) {
    let to = topic(broker, "pipelined", 1);
    let batch = Batch::random(1, 100);
    let per_connection = 2000 * length.seconds as usize;
    let before = broker.read();
    closed_loop(&to, &batch, 16, 8, per_connection);
    let spent = broker.since(before);
    figures.push(("pipelined 16 x 8, CPU µs per request", spent.cpu * 1e6 / (16 * per_connection) as f64));
}

fn paced(broker: &Broker, length: &Length, figures: &mut Vec<Figure>) {
    let to = topic(broker, "paced", 1);
    let batch = Batch::random(100, 1024);
    let epoch = Instant::now();
    let tail = Tail::start(&to, &[0], Some((batch.stamp_position(), epoch)));
    let before = broker.read();
    let sent = on_schedule(&to, &batch, Duration::from_millis(5), Duration::from_secs(length.seconds), epoch);
    tail.wait_for(sent.len() * batch.records as u64);
    let spent = broker.since(before);
    let ages = tail.stop();
    figures.push((
        "20,000 records/s in 5 ms batches, CPU µs per record",
        spent.cpu * 1e6 / (sent.len() * batch.records as u64) as f64,
    ));
    figures.push(("the same, p99 end to end, µs", ages.value_at_quantile(0.99) as f64));
}
