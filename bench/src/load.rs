//! The load: producers in closed loop or on a schedule, and a tail consumer that checks offsets and reads the stamps.

use std::io::{BufReader, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::batch::Batch;
use crate::wire;

/// The longest latency that is told apart, in microseconds: ten minutes. A histogram without an upper bound files
/// longer ones under its lowest value.
const LONGEST: u64 = 600_000_000;

/// A histogram of microseconds, to three digits.
fn microseconds() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST, 3).expect("the bounds are in order")
}

/// Where to send.
#[derive(Clone)]
pub struct To {
    /// `host:port`.
    pub address: String,
    /// The topic; it must exist.
    pub topic: String,
    /// How many partitions it has; connection `i` uses partition `i` modulo this.
    pub partitions: usize,
}

/// Sends `batches` batches over each of `connections` connections, `window` in flight on each, and waits for all answers.
/// Returns how long it took.
pub fn closed_loop(to: &To, batch: &Batch, connections: usize, window: usize, batches: usize) -> Duration {
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for connection in 0..connections {
            scope.spawn(move || {
                let partition = (connection % to.partitions) as i32;
                let frame = wire::produce(&to.topic, partition, -1, &batch.bytes);
                let mut stream = wire::connect(&to.address);
                let mut answer = Vec::new();
                let mut answers = BufReader::new(stream.try_clone().expect("a TCP socket"));
                // The window slides: what the answers that have come make room for goes out in one write.
                let frames = frame.repeat(window);
                let (mut sent, mut answered) = (0, 0);
                while answered < batches {
                    let room = (window - (sent - answered)).min(batches - sent);
                    stream.write_all(&frames[..room * frame.len()]).expect("the broker reads");
                    sent += room;
                    loop {
                        wire::read_frame(&mut answers, &mut answer);
                        assert_eq!(wire::produce_error(&to.topic, &answer), 0, "produce is refused");
                        answered += 1;
                        if !wire::has_frame(answers.buffer()) {
                            break;
                        }
                    }
                }
            });
        }
    });
    begin.elapsed()
}

/// Sends one batch every `interval` for `duration`, on schedule whatever the answers do, stamped with its scheduled time.
/// Returns the latencies of the acknowledgements in microseconds.
pub fn on_schedule(to: &To, batch: &Batch, interval: Duration, duration: Duration, epoch: Instant) -> Histogram<u64> {
    let mut histogram = microseconds();
    let mut stream = wire::connect(&to.address);
    let mut reader = stream.try_clone().expect("a TCP socket");
    let (scheduled, due) = std::sync::mpsc::channel::<Instant>();
    std::thread::scope(|scope| {
        let histogram = &mut histogram;
        scope.spawn(move || {
            let mut answer = Vec::new();
            for at in due {
                wire::read_frame(&mut reader, &mut answer);
                assert_eq!(wire::produce_error(&to.topic, &answer), 0, "produce is refused");
                histogram.saturating_record(at.elapsed().as_micros() as u64);
            }
        });
        let mut batch = batch.clone();
        let begin = Instant::now();
        let mut at = begin;
        while at < begin + duration {
            if let Some(wait) = at.checked_duration_since(Instant::now()) {
                std::thread::sleep(wait);
            }
            batch.stamp((at - epoch).as_nanos() as u64);
            scheduled.send(at).expect("the reader lives");
            stream.write_all(&wire::produce(&to.topic, 0, -1, &batch.bytes)).expect("the broker reads");
            at += interval;
        }
        drop(scheduled);
    });
    histogram
}

/// A consumer at the tail of every partition, each on a thread; offsets must come without gaps.
pub struct Tail {
    stopping: Arc<AtomicBool>,
    seen: Arc<AtomicU64>,
    threads: Vec<std::thread::JoinHandle<Histogram<u64>>>,
}

impl Tail {
    /// Starts reading at the offsets given, one for each partition; when it returns, each has read once. With `stamps` it
    /// records the age of each batch when it arrives, in microseconds.
    pub fn start(to: &To, from: &[i64], stamps: Option<(usize, Instant)>) -> Self {
        let stopping = Arc::new(AtomicBool::new(false));
        let seen = Arc::new(AtomicU64::new(0));
        let (began, begins) = std::sync::mpsc::channel();
        let threads = from
            .iter()
            .enumerate()
            .map(|(partition, from)| {
                let (stopping, seen, began) = (stopping.clone(), seen.clone(), began.clone());
                let follower = Follower { to: to.clone(), partition: partition as i32, next: *from, stamps };
                std::thread::spawn(move || follower.follow(began, &stopping, &seen))
            })
            .collect();
        drop(began);
        for _ in from {
            begins.recv().expect("the consumer reads once");
        }
        Self { stopping, seen, threads }
    }

    /// Waits until so many records have been seen in all.
    pub fn wait_for(&self, records: u64) {
        let deadline = Instant::now() + Duration::from_secs(120);
        while self.seen.load(Ordering::Relaxed) < records {
            let failed = self.threads.iter().any(std::thread::JoinHandle::is_finished);
            assert!(
                !failed && Instant::now() < deadline,
                "the tail consumer saw {} of {records}",
                self.seen.load(Ordering::Relaxed)
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Stops and returns the ages.
    pub fn stop(self) -> Histogram<u64> {
        self.stopping.store(true, Ordering::Relaxed);
        let mut all = microseconds();
        for thread in self.threads {
            all.add(thread.join().expect("the consumer did not fail")).expect("the same digits");
        }
        all
    }
}

/// What one thread of a [`Tail`] reads.
struct Follower {
    to: To,
    partition: i32,
    next: i64,
    stamps: Option<(usize, Instant)>,
}

impl Follower {
    fn follow(mut self, began: Sender<()>, stopping: &AtomicBool, seen: &AtomicU64) -> Histogram<u64> {
        let mut ages = microseconds();
        let (mut stream, mut answer) = (wire::connect(&self.to.address), Vec::new());
        let mut first = Some(began);
        while !stopping.load(Ordering::Relaxed) {
            let wait = if first.is_some() { Duration::ZERO } else { wire::LONG_POLL };
            let request = wire::fetch(&self.to.topic, self.partition, self.next, wait);
            stream.write_all(&request).expect("the broker reads");
            wire::read_frame(&mut stream, &mut answer);
            let now = self.stamps.map(|(_, epoch)| epoch.elapsed().as_nanos() as u64);
            let (error, records) = wire::fetched(&self.to.topic, &answer);
            assert_eq!(error, 0, "fetch is refused");
            for (base, batch) in wire::batches(records) {
                assert_eq!(base, self.next, "a gap in the offsets");
                self.next = wire::end_of(base, batch);
                if let (Some((at, _)), Some(now)) = (self.stamps, now) {
                    let stamp = u64::from_be_bytes(*batch[at..].first_chunk().expect("a stamp"));
                    ages.saturating_record(now.saturating_sub(stamp) / 1000);
                }
                seen.fetch_add((self.next - base) as u64, Ordering::Relaxed);
            }
            if let Some(began) = first.take() {
                began.send(()).expect("the starter waits");
            }
        }
        ages
    }
}

#[cfg(test)]
mod tests {
    use super::microseconds;

    #[test]
    fn a_slow_answer_is_filed_as_slow() {
        let mut histogram = microseconds();
        histogram.saturating_record(5_000);
        assert!((5_000..5_010).contains(&histogram.value_at_quantile(0.99)), "{}", histogram.value_at_quantile(0.99));
    }
}
