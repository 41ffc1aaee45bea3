//! kill -9 in the middle of load: every acknowledged record must be there after the restart, at its offset, once, and every
//! acknowledged offset commit too. Of records that retention took, those from the log start on; it must have left
//! `retention.bytes`. Now and then the restart is killed as well. Then a build that acknowledges before it writes must be
//! caught by the same check, or the check is worth nothing.
//!
//! Killed *during a roll* means: the records database had switched its memtable (its folder shows a new write-ahead log)
//! and the flush of the old one had not ended (its manifest says nothing new after the kill).

mod disk;
mod load;
mod power;
mod promises;
mod verify;

use std::path::PathBuf;
use std::time::Duration;

pub use load::committer;

use crate::broker::{Broker, Starting, binary, free_port, now};
use crate::table::Table;
use disk::Records;
use load::{Journal, Load, Moment};
use power::Machine;
use promises::Keeps;

/// How much is done.
#[derive(Clone, Copy)]
pub struct Size {
    /// Rounds of the first case, of how many acknowledgements each.
    rounds: usize,
    acknowledgements: usize,
    /// How many of them must have been killed during a roll.
    during_roll: usize,
    /// Rounds of the second case, of how many acknowledgements each.
    unlinks: usize,
    between_unlinks: usize,
}

/// What the project promises.
pub const FULL: Size =
    Size { rounds: 20, acknowledgements: 100_000, during_roll: 5, unlinks: 5, between_unlinks: 300_000 };
/// For CI.
pub const SHORT: Size =
    Size { rounds: 4, acknowledgements: 50_000, during_roll: 1, unlinks: 2, between_unlinks: 300_000 };
/// For the build that must be caught, several times over.
const MUTANT: Size = Size { rounds: 3, acknowledgements: 20_000, during_roll: 0, unlinks: 0, between_unlinks: 0 };
const MUTANT_RUNS: usize = 5;
const POWER_CUTS: usize = 9;

const TOPIC: &str = "crash";
const GROUP: &str = "crash-group";
const PARTITIONS: i32 = 4;
const DEADLINE: Duration = Duration::from_secs(120);
/// Tables that may stand when all but a few MiB is dead: a generation or two that are alive in part, and those that wait
/// to leave RocksDB's level 0 before they can be dropped.
const TABLE_BYTES: u64 = 256 << 20;

/// What is written to.
struct Topic {
    name: &'static str,
    config: &'static [(&'static str, &'static str)],
    keeps: Keeps,
    /// Acknowledged means on the disk.
    synced: bool,
}

/// A topic that keeps everything.
static LONG_LIVED: Topic = Topic { name: TOPIC, config: &[], keeps: Keeps::All, synced: false };
/// A topic whose log start moves every few seconds.
static SHORT_LIVED: Topic = Topic {
    name: "crash-short-lived",
    config: &[("segment.bytes", "1048576"), ("retention.bytes", "4194304")],
    keeps: Keeps::Bytes(4 << 20),
    synced: false,
};
/// A topic whose records are acknowledged when they are on the disk.
static SYNCED: Topic =
    Topic { name: "crash-synced", config: &[("flush.messages", "1")], keeps: Keeps::All, synced: true };

/// Retention as often as the broker can.
const LOADED: [&str; 2] = ["log.initial.task.delay.ms=0", "log.retention.check.interval.ms=1"];
/// Retention does not run while everything is read.
const QUIET: [&str; 1] = ["log.initial.task.delay.ms=3600000"];

/// The rounds, then the build that must be caught.
pub fn run(table: &mut Table, size: Size) {
    table.case("crash", &format!("{} rounds of kill -9 under load", size.rounds), || {
        let mut crash = Crash::new(binary())?;
        for round in 0..size.rounds {
            let moment = if round.is_multiple_of(2) { Moment::Roll } else { Moment::LogStart };
            crash.round(round, &all_topics(round), size.acknowledgements, moment)?;
        }
        crash.tally.check(size)?;
        Ok(crash.summary())
    });
    table.case("crash", &format!("{} rounds of kill -9 as files of dead generations go", size.unlinks), || {
        let mut crash = Crash::new(binary())?;
        for round in 0..size.unlinks {
            crash.round(round, &[(&SHORT_LIVED, "all")], size.between_unlinks, Moment::Unlink)?;
        }
        let written = (crash.journal.promises().count() * promises::RECORD) as u64;
        let left = disk::table_bytes(&crash.data)?;
        check_freed(written, left)?;
        Ok(format!("{}; {} MiB of tables are left of {} MiB", crash.summary(), left >> 20, written >> 20))
    });
    table.case("crash", "a build that acknowledges before it writes is caught", catch_mutant);
}

/// An error when more tables stand than a store leaves that frees what is dead, or when too little was written to tell
/// such a store from one that frees nothing.
fn check_freed(written: u64, left: u64) -> Result<(), String> {
    if written < 2 * TABLE_BYTES {
        return Err(format!("only {} MiB were written: {} MiB of tables mean nothing", written >> 20, left >> 20));
    }
    if left > TABLE_BYTES {
        return Err(format!("{} MiB of tables are left of {} MiB", left >> 20, written >> 20));
    }
    Ok(())
}

/// Cuts the power of a machine under load, again and again. What is on the disk by promise must be there; of the rest a
/// suffix may be gone. Not part of the other cases: it needs root.
pub fn run_power(table: &mut Table) {
    table.case("crash", &format!("{POWER_CUTS} cuts of the power under load"), || {
        let machine = Machine::start()?;
        let mut crash = Crash::new(machine.broker(&binary())?)?;
        crash.data = machine.data();
        crash.machine = Some(machine);
        for round in 0..POWER_CUTS {
            let moment = [Moment::Roll, Moment::LogStart, Moment::Any][round % 3];
            crash.round(round, &all_topics(round), SHORT.acknowledgements, moment)?;
        }
        match crash.tally.taken {
            0 => Err("nothing was lost that might be: the power was not cut".to_owned()),
            taken => {
                let synced = crash.journal.promises().counts.get(SYNCED.name).copied().unwrap_or(0);
                Ok(format!("{}; {taken} records lost that were not synced, {synced} kept that were", crash.summary()))
            }
        }
    });
}

/// All topics. Idempotent producers and others take turns at those that acknowledge before the disk has it.
fn all_topics(round: usize) -> [(&'static Topic, &'static str); 3] {
    let acks = if round.is_multiple_of(2) { ["1", "all"] } else { ["all", "1"] };
    [(&LONG_LIVED, acks[0]), (&SHORT_LIVED, acks[1]), (&SYNCED, "all")]
}

/// What was found to be missing from the build that acknowledges before it writes.
fn catch_mutant() -> Result<String, String> {
    let mutant = build_mutant()?;
    for _ in 0..MUTANT_RUNS {
        let mut crash = Crash::new(mutant.clone())?;
        for round in 0..MUTANT.rounds {
            let topics = [(&LONG_LIVED, if round.is_multiple_of(2) { "1" } else { "all" })];
            match crash.round(round, &topics, MUTANT.acknowledgements, Moment::Any) {
                Ok(()) => {}
                Err(Fault::Broken(promises)) => return Ok(promises),
                Err(other) => return Err(other.into()),
            }
        }
    }
    Err(format!("{} kills, and nothing was found missing", MUTANT_RUNS * MUTANT.rounds))
}

/// Builds the broker with the mutation that the check must catch, in the folder that we were built in.
fn build_mutant() -> Result<PathBuf, String> {
    let root = crate::clients::folder("..");
    let own = std::env::current_exe().map_err(|e| e.to_string())?;
    let release = own.parent().ok_or("no folder of our own")?;
    let target = release.parent().ok_or("no target folder")?;
    let build = |features: &str| {
        let cargo = crate::clients::command("cargo").args_str("build --release --locked -p ottla --bin ottla");
        cargo.args_str(features).env("CARGO_TARGET_DIR", target).within(&root).patient().output()
    };
    let (built, kept) = (release.join("ottla"), release.join("ottla-acknowledges-before-write"));
    let mutant = build("--features mutation-acknowledges-before-write");
    let copied = mutant.and_then(|_| std::fs::copy(&built, &kept).map_err(|e| format!("{}: {e}", built.display())));
    // The honest build goes back to its place, whatever became of the other; cargo has kept it.
    build("")?;
    copied.map(|_| kept)
}

/// Why a round did not pass.
#[derive(Debug)]
enum Fault {
    /// Promises were broken: what the rounds look for.
    Broken(String),
    /// The round could not be carried out.
    Other(String),
}

impl From<String> for Fault {
    fn from(reason: String) -> Self {
        Self::Other(reason)
    }
}

impl From<Fault> for String {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Broken(reason) | Fault::Other(reason) => reason,
        }
    }
}

/// What the kills fell into.
#[derive(Default)]
struct Tally {
    rolls: usize,
    log_starts: usize,
    unlinks: usize,
    before_serving: usize,
    as_it_served: usize,
    /// Acknowledged records that cuts of the power were free to take, and took.
    taken: usize,
}

impl Tally {
    /// An error when the rounds did not meet what they are there for.
    fn check(&self, size: Size) -> Result<(), String> {
        if self.rolls < size.during_roll {
            return Err(format!("only {} kills fell into a roll, {} should", self.rolls, size.during_roll));
        }
        if self.before_serving == 0 || self.as_it_served == 0 {
            return Err("restarts were not killed both before and as they served".to_owned());
        }
        Ok(())
    }
}

/// One log directory through its rounds.
struct Crash {
    binary: PathBuf,
    /// Where the log directory is, unless it is on a machine.
    _folder: tempfile::TempDir,
    data: PathBuf,
    /// The machine whose power is cut where others only kill.
    machine: Option<Machine>,
    port: u16,
    journal: Journal,
    /// The longest start so far: a restart is killed within it.
    longest_start: Duration,
    tally: Tally,
}

impl Crash {
    fn new(binary: PathBuf) -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
        Ok(Self {
            binary,
            data: folder.path().join("data"),
            _folder: folder,
            machine: None,
            port: free_port()?,
            journal: Journal::default(),
            longest_start: Duration::ZERO,
            tally: Tally::default(),
        })
    }

    /// Load and a kill; perhaps a kill of the restart; then everything is read. Odd rounds end with a clean stop, even
    /// ones with one more kill: the next load then meets what recovery left.
    fn round(
        &mut self,
        round: usize,
        topics: &[(&'static Topic, &str)],
        count: usize,
        moment: Moment,
    ) -> Result<(), Fault> {
        let broker = self.start(&LOADED)?;
        let bootstrap = broker.bootstrap();
        if round == 0 {
            for (topic, _) in topics {
                crate::admin::create_topic(&bootstrap, topic.name, PARTITIONS, topic.config)?;
            }
        }
        let load = Load::start(&bootstrap, topics, &self.journal)?;
        let before = load.until(count, moment, &bootstrap, &self.data);
        let cut = self.machine.as_mut().map_or(Ok(()), |machine| broker.freeze().and_then(|()| machine.cut()));
        let killed = broker.kill();
        load.stop()?;
        killed.and(cut)?;
        self.note(moment, before?.as_ref())?;
        if let Some(machine) = &mut self.machine {
            machine.power_on()?;
        }
        self.kill_restart(round)?;
        let broker = self.start(&QUIET)?;
        let topics: Vec<&'static Topic> = topics.iter().map(|(topic, _)| *topic).collect();
        let verdict = verify::verify(&bootstrap, &topics, self.machine.is_some(), &self.journal)?;
        self.tally.taken += verdict.taken;
        if !verdict.wrong.is_empty() {
            return Err(Fault::Broken(format!("round {round}: {}", verdict.wrong.join("\n"))));
        }
        if round.is_multiple_of(2) {
            return Ok(broker.kill()?);
        }
        match broker.stop()? {
            0 => Ok(()),
            code => Err(Fault::Other(format!("SIGTERM: exit code {code}"))),
        }
    }

    fn launch(&self, settings: &[&str]) -> Result<Starting, String> {
        Broker::launch(&self.binary, &self.data, self.port, settings)
    }

    fn start(&mut self, settings: &[&str]) -> Result<Broker, String> {
        let started = now();
        let broker = self.launch(settings)?.serve()?;
        self.longest_start = self.longest_start.max(started.elapsed());
        Ok(broker)
    }

    /// What the broker was doing when it was killed, as its disk shows it.
    fn note(&mut self, moment: Moment, before: Option<&Records>) -> Result<(), String> {
        match (moment, before) {
            (Moment::Roll, Some(before)) => {
                self.tally.rolls += usize::from(Records::look(&self.data)?.is_rolling_since(before));
            }
            (Moment::LogStart, _) => self.tally.log_starts += 1,
            (Moment::Unlink, _) => self.tally.unlinks += 1,
            _ => {}
        }
        Ok(())
    }

    /// In every second round the restart is killed: within the time that it takes, or as soon as it serves.
    fn kill_restart(&mut self, round: usize) -> Result<(), String> {
        let within = match round % 4 {
            // An early part of it first; and never the same part twice in a row.
            1 => self.longest_start.mul_f64([0.2, 0.8, 0.4, 0.6][round / 4 % 4]),
            3 => DEADLINE,
            _ => return Ok(()),
        };
        let served = self.launch(&LOADED)?.kill_within(within)?;
        self.tally.as_it_served += usize::from(served);
        self.tally.before_serving += usize::from(!served);
        Ok(())
    }

    fn summary(&self) -> String {
        let (promises, tally) = (self.journal.promises(), &self.tally);
        let restarts = (tally.before_serving, tally.as_it_served);
        format!(
            "{} acknowledged records, {} commits; killed during a roll {}, after a log start moved {}, as files went {}; restarts killed {} before they served, {} as they did",
            promises.count(),
            promises.commit,
            tally.rolls,
            tally.log_starts,
            tally.unlinks,
            restarts.0,
            restarts.1,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The most that one table of a generation has.
    const GENERATION: u64 = 48 << 20;

    #[test]
    fn a_store_that_frees_only_the_files_that_were_waited_for_is_caught_at_either_size() {
        for size in [FULL, SHORT] {
            let written = (size.unlinks * size.between_unlinks * promises::RECORD) as u64;
            let freed = size.unlinks as u64 * GENERATION;
            assert!(check_freed(written, written - freed).is_err());
            assert_eq!(check_freed(written, GENERATION), Ok(()));
        }
    }

    #[test]
    fn what_was_too_little_to_tell_is_no_pass() {
        assert!(check_freed(144 << 20, 81 << 20).is_err());
    }
}
