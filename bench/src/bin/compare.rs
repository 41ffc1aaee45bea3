//! Apache Kafka, Ottla and the null broker in rotated rounds of one run; medians of ratios with the least and the largest.
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::path::PathBuf;
use std::time::Instant;

use clap::Parser;
use clap::builder::PossibleValuesParser;
use ottla_bench::broker::{Wanted, Workshop};
use ottla_bench::cases::{CASES, Length, round};
use ottla_bench::machine::{Device, facts, load_average};
use ottla_bench::report::Rounds;

// The null broker has the allocator of the broker that it is the ruler of.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(about = "Ottla beside Apache Kafka and the null broker, in one run")]
struct Arguments {
    /// How many rounds; the order of the brokers turns with each.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// MiB of 1 KiB records in the main case.
    #[arg(long, default_value_t = 1024)]
    mib: usize,
    /// Seconds of each paced case (the disk's: 30 at least).
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Run these cases only.
    #[arg(long, value_delimiter = ',', value_parser = PossibleValuesParser::new(CASES))]
    cases: Vec<String>,
    /// Ottla's binary; else OTTLA_BIN, else the one beside this program.
    #[arg(long, value_name = "PATH")]
    ottla: Option<PathBuf>,
    /// Another binary of Ottla in Kafka's place: before a change, say. The ratios are Ottla's over its.
    #[arg(long, value_name = "PATH")]
    against: Option<PathBuf>,
    /// Leave Apache Kafka out.
    #[arg(long)]
    without_kafka: bool,
    /// Leave the null broker out.
    #[arg(long)]
    without_null: bool,
    /// Brokers on the lower half of the cores, the load on the upper half. A Java broker suffers most from few cores.
    #[arg(long)]
    pin: bool,
    /// Be the null broker on this port: how the rounds start it.
    #[arg(long, value_name = "PORT", hide = true)]
    serve_null: Option<u16>,
}

fn main() -> Result<(), String> {
    let arguments = Arguments::parse();
    if let Some(port) = arguments.serve_null {
        return serve_null(port).map_err(|e| e.to_string());
    }
    // Before anything is pinned or started.
    let (begin, machine, busy) = (Instant::now(), facts(), load_average());
    let length = Length { mib: arguments.mib, seconds: arguments.seconds, cases: arguments.cases };
    let workshop = Workshop::open(Wanted {
        ottla: arguments.ottla,
        against: arguments.against,
        without_kafka: arguments.without_kafka,
        without_null: arguments.without_null,
        pin: arguments.pin,
    })?;
    let disk = Device::under(&workshop.folder);
    if length.wants("disk") {
        disk.as_ref().map_err(Clone::clone)?;
    }
    let disk = disk.map_or_else(|_| "no block device".to_owned(), |device| device.name);
    let mut rounds = Rounds::new(&workshop.kinds);
    for number in 0..arguments.rounds {
        for turn in 0..workshop.kinds.len() {
            let kind = workshop.kinds[(number + turn) % workshop.kinds.len()];
            eprintln!("round {} of {}: {kind:?}", number + 1, arguments.rounds);
            let figures = round(kind, &workshop, &length);
            for (name, value) in &figures {
                eprintln!("    {value:>12.3}  {name}");
            }
            rounds.add(kind, figures);
        }
    }
    println!("machine: {machine}; data on {disk} ({})", workshop.folder.display());
    println!(
        "load average at the start: {busy}{}",
        if arguments.pin { "; brokers and load on cores of their own" } else { "" }
    );
    println!("Ottla: {}", workshop.ottla.display());
    if let Some(before) = &workshop.before {
        println!("before: {}", before.display());
    }
    println!(
        "{} rounds, {} MiB in the main case, {} s of each paced case; the whole run took {} s; median (least–largest)\n",
        arguments.rounds,
        length.mib,
        length.seconds,
        begin.elapsed().as_secs()
    );
    print!("{}", rounds.table());
    Ok(())
}

fn serve_null(port: u16) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(ottla_bench::null::serve(port))
}
