//! Apache Kafka, Ottla and the null broker in rotated rounds of one run; medians of ratios with the least and the largest.

use std::collections::BTreeMap;

use clap::Parser;
use ottla_bench::broker::{Kind, Workshop};
use ottla_bench::cases::{Length, round};

#[derive(Parser)]
#[command(about = "Ottla beside Apache Kafka and the null broker, in one run")]
struct Arguments {
    /// How many rounds; the order of the brokers turns with each.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// MiB of 1 KiB records in the main case.
    #[arg(long, default_value_t = 1024)]
    mib: usize,
    /// Seconds of each paced case.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Leave Apache Kafka out.
    #[arg(long)]
    without_kafka: bool,
    /// Run these cases only: tail, compressed, unbatched, pipelined, paced.
    #[arg(long, value_delimiter = ',')]
    cases: Vec<String>,
}

/// A goal of the project: the figure, Ottla over Kafka at most, Ottla over the null broker at most, absolute at most.
type Goal = (&'static str, Option<f64>, Option<f64>, Option<f64>);

const GOALS: &[Goal] = &[
    ("exec to first acknowledged produce, ms", None, None, Some(200.0)),
    ("the same, CPU-s", None, None, Some(0.1)),
    ("idle CPU, %", None, None, Some(0.2)),
    ("resident idle, MiB", None, None, Some(40.0)),
    ("produce + tail fetch, CPU-s per GiB", Some(0.45), Some(4.0), None),
    ("resident under load, MiB", Some(0.35), None, None),
    ("disk bytes per user byte", None, None, Some(1.2)),
    ("seconds per GiB, closed loop", None, None, None),
    ("lz4 JSON produce, CPU-s per wire GiB", Some(0.25), None, None),
    ("zstd JSON produce, CPU-s per wire GiB", Some(0.15), None, None),
    ("unbatched produce at 5,000/s, CPU µs per request", Some(0.4), None, None),
    ("the same, p99 of the acknowledgement, µs", None, None, None),
    ("pipelined 16 x 8, CPU µs per request", Some(0.15), None, None),
    ("20,000 records/s in 5 ms batches, CPU µs per record", Some(0.25), None, None),
    ("the same, p99 end to end, µs", Some(1.0), None, None),
];

type Rounds = BTreeMap<&'static str, Vec<f64>>;

fn main() -> Result<(), String> {
    let arguments = Arguments::parse();
    let workshop = Workshop::open()?;
    let length = Length { mib: arguments.mib, seconds: arguments.seconds, cases: arguments.cases };
    let mut kinds = vec![Kind::Ottla, Kind::Null];
    if !arguments.without_kafka {
        kinds.push(Kind::Kafka);
    }
    let mut all: Vec<(Kind, Rounds)> = kinds.iter().map(|kind| (*kind, Rounds::new())).collect();
    for number in 0..arguments.rounds {
        for turn in 0..kinds.len() {
            let kind = kinds[(number + turn) % kinds.len()];
            eprintln!("round {} of {}: {kind:?}", number + 1, arguments.rounds);
            let figures = round(kind, &workshop, &length);
            let (_, rounds) = all.iter_mut().find(|(k, _)| *k == kind).expect("every kind has its rounds");
            for (name, value) in figures {
                rounds.entry(name).or_default().push(value);
            }
        }
    }
    print(&all);
    Ok(())
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Median, least and largest of the ratios of the rounds.
fn ratio(ours: &[f64], theirs: &[f64]) -> Option<(f64, String)> {
    let ratios: Vec<f64> = ours.iter().zip(theirs).map(|(a, b)| a / b).collect();
    let least = ratios.iter().copied().min_by(f64::total_cmp)?;
    let largest = ratios.iter().copied().max_by(f64::total_cmp)?;
    let middle = median(&ratios);
    Some((middle, format!("{middle:.2} ({least:.2}–{largest:.2})")))
}

fn print(all: &[(Kind, Rounds)]) {
    let of = |kind: Kind, name: &str| -> &[f64] {
        all.iter().find(|(k, _)| *k == kind).and_then(|(_, rounds)| rounds.get(name)).map_or(&[], Vec::as_slice)
    };
    println!("| figure | Ottla | Kafka | null | Ottla / Kafka | Ottla / null | goal | |");
    println!("|---|---|---|---|---|---|---|---|");
    for (name, over_kafka, over_null, absolute) in GOALS {
        let (ours, kafka, null) = (of(Kind::Ottla, name), of(Kind::Kafka, name), of(Kind::Null, name));
        let (by_kafka, by_null) = (ratio(ours, kafka), ratio(ours, null));
        let mut goals = Vec::new();
        let mut met = true;
        let mut judge = |goal: &Option<f64>, value: Option<f64>, what: &str| {
            if let (Some(goal), Some(value)) = (goal, value) {
                goals.push(format!("≤ {goal}{what}"));
                met &= value <= *goal;
            }
        };
        judge(over_kafka, by_kafka.as_ref().map(|r| r.0), "× Kafka");
        judge(over_null, by_null.as_ref().map(|r| r.0), "× null");
        judge(absolute, Some(median(ours)), "");
        let verdict = if goals.is_empty() {
            ""
        } else if met {
            "met"
        } else {
            "short"
        };
        let word = |r: Option<(f64, String)>| r.map_or(String::new(), |r| r.1);
        println!(
            "| {name} | {:.2} | {:.2} | {:.2} | {} | {} | {} | {verdict} |",
            median(ours),
            median(kafka),
            median(null),
            word(by_kafka),
            word(by_null),
            goals.join(", "),
        );
    }
}
