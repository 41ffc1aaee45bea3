//! Real clients and Kafka's own tools against a broker, all unmodified; a table at the end.
//!
//! `ottla-compat [SUITE]…` where SUITE is `clients` (every client and tool through its scenarios), `input` (a log file of
//! a million lines through every codec and a group of three of which one is killed), `crash` (kill -9 under load, twenty
//! rounds), `power` (cuts the power of a machine made for it; needs root), `fast` (what CI runs: `clients`, and short
//! forms of `input` and `crash`), or `all` (the default: everything but `power`). With `TARGET=host:port` the clients run
//! against that broker, Apache Kafka for example, in place of an Ottla of their own.

mod admin;
mod broker;
mod clients;
mod crash;
mod input;
mod table;
mod tools;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Real clients against Ottla (or TARGET=host:port)")]
struct Arguments {
    #[command(subcommand)]
    suite: Option<Suite>,
}

#[derive(Subcommand, Clone, Copy)]
enum Suite {
    /// Everything, in full length.
    All,
    /// Every client and tool, and short forms of the other suites.
    Fast,
    /// Every client and tool through its scenarios.
    Clients,
    /// A log file of a million lines through every codec, consumed by a group of three with one member killed.
    Input,
    /// kill -9 in the middle of load, twenty rounds; then a build that acknowledges too early, which must be caught.
    Crash,
    /// Cuts of the power under load. Needs root, loop devices, xfsprogs; no other suite contains it.
    Power,
    /// One member of the group that `input` reads with; started by it.
    #[command(hide = true)]
    Member,
    /// Commits on and on while `crash` loads a broker; started by it.
    #[command(hide = true)]
    Committer,
}

fn main() -> ExitCode {
    let suite = Arguments::parse().suite.unwrap_or(Suite::All);
    match suite {
        Suite::Member => return input::member(),
        Suite::Committer => return crash::committer(),
        _ => {}
    }
    let mut table = table::Table::default();
    match suite {
        Suite::Clients | Suite::Fast | Suite::All => clients::run(&mut table),
        _ => {}
    }
    match suite {
        Suite::Input | Suite::All => input::run(&mut table, input::FULL),
        Suite::Fast => input::run(&mut table, input::SHORT),
        _ => {}
    }
    match suite {
        Suite::Crash | Suite::All => crash::run(&mut table, crash::FULL),
        Suite::Fast => crash::run(&mut table, crash::SHORT),
        Suite::Power => crash::run_power(&mut table),
        _ => {}
    }
    table.print();
    if table.failed() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
