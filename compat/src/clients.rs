//! Every client library and Kafka's own tools through their scenarios, against one broker.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::broker::Target;
use crate::table::Table;
use crate::tools;

/// Runs all clients; a client that cannot be installed is a failure, not a gap.
pub fn run(table: &mut Table) {
    let target = match Target::open() {
        Ok(target) => target,
        Err(reason) => return table.case("ottla", "starts", || Err(reason)),
    };
    tools::kcat(table, &target.bootstrap);
    match python() {
        Ok(python) => {
            for (client, script) in [("confluent-kafka (Python)", "confluent.py"), ("kafka-python", "kafkapython.py")] {
                let script = folder("python").join(script);
                scenarios(table, client, &target.bootstrap, &|| command(&python).arg_path(&script));
            }
        }
        Err(reason) => table.case("python", "installs", || Err(reason)),
    }
    match java() {
        Ok(class_path) => {
            let java = || java_command(&class_path).arg_str("Scenarios");
            scenarios(table, "kafka-clients 4.3.1 (Java)", &target.bootstrap, &java);
            tools::kafka(table, &target.bootstrap, &class_path);
        }
        Err(reason) => table.case("java", "installs", || Err(reason)),
    }
}

/// The one scenario that may be tried twice: it fails now and then on Apache Kafka too, by what the client does.
const SECOND_TRY: (&str, &str) = ("kafka-python", "group");
/// What it is forgiven, and nothing else: two members that have not shared the partitions in time, when no record exists
/// that could be lost, or a lone one that was given none: whoever leads and has not seen the topic yet gives nobody
/// anything. The words are those of `scenarios.py`.
const FORGIVEN: [&str; 2] =
    [": half of the partitions: 0 records, ", ": what came meanwhile: 0 records, partitions set()"];

/// True when the one thing that was raised is the one that is forgiven. Words elsewhere in a traceback do not count.
fn is_forgiven(client: &str, scenario: &str, failure: &str) -> bool {
    let mut claims = failure.lines().filter(|line| line.starts_with("AssertionError"));
    let is_forgiven = |claim: &str| FORGIVEN.iter().any(|words| claim.contains(words));
    let is_only = claims.next().is_some_and(is_forgiven) && claims.next().is_none();
    (client, scenario) == SECOND_TRY && is_only
}

fn scenarios(table: &mut Table, client: &str, bootstrap: &str, start: &dyn Fn() -> Call) {
    let listed = start().arg_str(bootstrap).arg_str("list").output();
    let listed = match listed {
        Ok(listed) if listed.trim().is_empty() => {
            return table.case(client, "has scenarios", || Err("none".to_owned()));
        }
        Ok(listed) => listed,
        Err(reason) => return table.case(client, "lists its scenarios", || Err(reason)),
    };
    for scenario in listed.lines() {
        let run = || start().arg_str(bootstrap).arg_str(scenario).output();
        match run() {
            Ok(_) => table.case(client, scenario, || Ok(String::new())),
            Err(first) if is_forgiven(client, scenario, &first) => {
                let row = format!("{scenario} (SECOND TRY)");
                table.case(client, &row, || match run() {
                    Ok(_) => Ok(format!("the first failed: {first}")),
                    Err(second) => Err(format!("{first}\nthen: {second}")),
                });
            }
            Err(reason) => table.case(client, scenario, || Err(reason)),
        }
    }
}

/// How long a client may take for one scenario.
const PATIENCE: Duration = Duration::from_secs(300);
/// How long an installation or a build may take.
const BUILD_PATIENCE: Duration = Duration::from_secs(3600);

/// A command that is built up and then run to its end, with its output as the reason when it fails.
pub struct Call {
    command: Command,
    input: Vec<u8>,
    patience: Duration,
}

/// Starts building a command.
pub fn command(program: impl AsRef<Path>) -> Call {
    Call { command: Command::new(program.as_ref()), input: Vec::new(), patience: PATIENCE }
}

impl Call {
    /// Adds an argument.
    pub fn arg_str(mut self, argument: &str) -> Self {
        self.command.arg(argument);
        self
    }

    /// Adds several arguments, split at spaces.
    pub fn args_str(mut self, arguments: &str) -> Self {
        self.command.args(arguments.split_whitespace());
        self
    }

    /// Adds a path.
    pub fn arg_path(mut self, argument: &Path) -> Self {
        self.command.arg(argument);
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: &Path) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs it in a folder.
    pub fn within(mut self, folder: &Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// It installs or builds, which may take long.
    pub fn patient(mut self) -> Self {
        self.patience = BUILD_PATIENCE;
        self
    }

    /// Its standard output with something on its standard input.
    pub fn output_of(mut self, input: &[u8]) -> Result<String, String> {
        self.input = input.to_vec();
        self.output()
    }

    /// Its standard output; an error with both outputs when it exits with anything but 0, or has to be killed because it
    /// takes too long.
    pub fn output(mut self) -> Result<String, String> {
        let name = format!("{:?}", self.command.get_program());
        let piped = self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().map_err(|e| format!("{name}: {e}"))?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or("no pid")?;
        let mut stdin = child.stdin.take().ok_or("no stdin")?;
        let (tell, told) = mpsc::channel();
        let writing = std::thread::spawn(move || stdin.write_all(&self.input));
        // The receiver waits for it in any case.
        let reading = std::thread::spawn(move || tell.send(child.wait_with_output()));
        let output = told.recv_timeout(self.patience);
        let late = output.is_err();
        if late {
            kill_process(pid, Signal::KILL).map_err(|e| format!("{name}: {e}"))?;
        }
        let output = output.or_else(|_| told.recv()).map_err(|e| e.to_string())?.map_err(|e| format!("{name}: {e}"))?;
        reading.join().map_err(|_| "reading panicked")?.map_err(|e| e.to_string())?;
        let written = writing.join().map_err(|_| "writing panicked")?;
        match judge(output) {
            Err(reason) if late => Err(format!("{name} had to be killed after {:?}: {reason}", self.patience)),
            Ok(_) if written.is_err() => Err(format!("{name} did not read its input to the end")),
            judged => judged,
        }
    }
}

fn judge(output: Output) -> Result<String, String> {
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(format!("{}\n{stdout}{stderr}", output.status))
}

/// A folder of this crate.
pub fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Where what is installed is kept between runs.
fn cache() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache/ottla");
    std::env::var_os("OTTLA_CACHE").map_or_else(home, PathBuf::from).join("compat")
}

/// A Python with the clients of `requirements.txt`, installed once per content of that file.
fn python() -> Result<PathBuf, String> {
    let requirements = folder("python").join("requirements.txt");
    let wanted = std::fs::read_to_string(&requirements).map_err(|e| e.to_string())?;
    let environment = cache().join("python");
    let python = environment.join("bin/python");
    let mark = environment.join("installed");
    if std::fs::read_to_string(&mark).is_ok_and(|have| have == wanted) {
        return Ok(python);
    }
    command("python3").args_str("-m venv --clear").arg_path(&environment).patient().output()?;
    command(&python).args_str("-m pip install --quiet -r").arg_path(&requirements).patient().output()?;
    std::fs::write(&mark, wanted).map_err(|e| e.to_string())?;
    Ok(python)
}

/// The class path of Apache Kafka with its tools and clients, and our compiled scenarios.
fn java() -> Result<String, String> {
    let sources = folder("java");
    let libs = folder("..").join("protocol-tests/kafka.sh");
    let class_path = command("bash").arg_path(&libs).arg_str("libs").patient().output()?;
    let classes = cache().join("java");
    std::fs::create_dir_all(&classes).map_err(|e| e.to_string())?;
    let class_path = class_path.trim();
    command("javac")
        .args_str("-nowarn -cp")
        .arg_str(class_path)
        .arg_str("-d")
        .arg_path(&classes)
        .arg_path(&sources.join("Scenarios.java"))
        .output()?;
    Ok(format!("{}:{}:{class_path}", classes.display(), sources.display()))
}

/// A Java that starts fast and small.
pub fn java_command(class_path: &str) -> Call {
    command("java").args_str("-Xmx256m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -cp").arg_str(class_path)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the scenario prints when this is raised in its first wait.
    fn traceback(raised: &str) -> String {
        format!(
            "exit status: 1\nTraceback (most recent call last):\n  File \"scenarios.py\", line 137, in group\n    \
             member.wait(f\"{{strategy}}: half of the partitions\", lambda m=member: len(m.owned) == 2)\n{raised}\n"
        )
    }

    const SHARED_LATE: &str = "AssertionError: <class 'kafka.coordinator.assignors.range.RangePartitionAssignor'>: half of \
                               the partitions: 0 records, partitions {0, 1, 2, 3}";

    #[test]
    fn partitions_that_are_shared_too_late_are_forgiven_to_one_scenario_of_one_client() {
        assert!(is_forgiven("kafka-python", "group", &traceback(SHARED_LATE)));
        let given_none = "AssertionError: what came meanwhile: 0 records, partitions set()";
        assert!(is_forgiven("kafka-python", "group", &traceback(given_none)));
        assert!(!is_forgiven("kafka-python", "codecs", &traceback(SHARED_LATE)));
        assert!(!is_forgiven("confluent-kafka (Python)", "group", &traceback(SHARED_LATE)));
    }

    #[test]
    fn a_record_or_an_offset_that_is_lost_is_never_forgiven() {
        for raised in [
            "AssertionError: 400 records: 399 records, partitions {0, 1}",
            "AssertionError: the rest: 499 records, partitions {0, 1, 2, 3}",
            "AssertionError: what came meanwhile: 99 records, partitions {0, 1, 2, 3}",
            "AssertionError: what came meanwhile: 0 records, partitions {0, 1, 2, 3}",
            "AssertionError: all partitions: 200 records, partitions {0, 1}",
            "AssertionError: not each record once",
            "AssertionError: committed offsets: {0: 99, 1: 100, 2: 100, 3: 100}",
            "AssertionError: the committed offsets were not kept",
            "AssertionError",
            "kafka.errors.CorruptRecordError: [Error 2] CorruptRecordError",
            "kafka.errors.OffsetOutOfRangeError: [Error 1] OffsetOutOfRangeError",
            "kafka.errors.CommitFailedError: the group has rebalanced",
        ] {
            assert!(!is_forgiven("kafka-python", "group", &traceback(raised)), "{raised}");
            let both = format!("{SHARED_LATE}\n{raised}");
            let is_claim = raised.starts_with("AssertionError");
            assert!(!is_claim || !is_forgiven("kafka-python", "group", &traceback(&both)), "after another: {raised}");
        }
        assert!(!is_forgiven("kafka-python", "group", "\"python\" had to be killed after 300s: signal: 9 (SIGKILL)\n"));
    }

    #[test]
    fn what_is_forgiven_is_what_the_scenario_says() {
        let scenarios = std::fs::read_to_string(folder("python").join("scenarios.py")).expect("the scenarios");
        assert!(scenarios.contains(r#"member.wait(f"{strategy}: half of the partitions", "#));
        assert!(scenarios.contains(r#"f"{what}: {len(self.got)} records, partitions {self.owned}""#));
    }
}
