//! The program around the broker, as an operator and an orchestrator meet it: command line, environment, file, exit code,
//! the sentence on stderr, the two lines on stdout, signals. It is Ottla's own: with `TARGET` all of it is skipped.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};

use kafka_protocol::messages::{ApiVersionsRequest, MetadataRequest};
use ottla_protocol_tests::batch::{Batch, Record};
use ottla_protocol_tests::broker::{self, binary, free_port};
use ottla_protocol_tests::client::{Client, PATIENCE, frame_of};
use ottla_protocol_tests::steps::{create_request, create_topic, fetch_request, produce, produce_bytes};
use ottla_protocol_tests::{code, now_ms, unique};

/// Becomes the broker's parent: says its process id, kills it when the test's end of stdin closes, ends with its code.
const GUARD: &str = r#"exec 3<&0
"$@" </dev/null 3<&- & broker=$!
{ cat <&3; kill -9 $broker; } >/dev/null 2>&1 & watch=$!
echo "pid $broker"
wait $broker; code=$?
kill $watch
exit $code"#;

/// A line of the program's.
enum Line {
    Out(String),
    Err(String),
}

/// A run of the program, in a folder of its own. Dropping it kills it.
struct Program {
    child: Child,
    // The guard's stdin: what keeps the broker alive.
    hold: Option<ChildStdin>,
    lines: Receiver<Line>,
    pid: Option<u32>,
    stdout: Vec<String>,
    stderr: Vec<String>,
    port: u16,
    folder: tempfile::TempDir,
}

/// How a run ended.
struct Ended {
    code: Option<i32>,
    stdout: Vec<String>,
    stderr: Vec<String>,
}

/// What a run is given beside a free port, a folder for its data and no HTTP listener.
#[derive(Clone, Copy, Default)]
struct Given<'a> {
    file: Option<&'a str>,
    overrides: &'a [&'a str],
    environment: &'a [(&'a str, &'a str)],
    /// The shell's last words before it becomes the broker.
    prelude: &'a str,
}

/// Starts the program; `None`, said in a line, when the tests run against `TARGET`.
fn start(given: Given<'_>) -> Option<Program> {
    if broker::is_target_set() {
        broker::skip("it starts the program itself, and TARGET is set");
        return None;
    }
    let folder = tempfile::Builder::new().prefix("ottla-program-").tempdir().expect("a folder");
    let port = free_port();
    let own = [
        format!("listeners=PLAINTEXT://127.0.0.1:{port}"),
        format!("log.dirs={}", folder.path().join("data").display()),
        "ottla.http.listener=".to_owned(),
    ];
    let mut arguments: Vec<&str> = given.file.into_iter().collect();
    // A file says for itself where the broker listens and where its data is.
    let own = own.iter().map(String::as_str).filter(|_| given.file.is_none());
    arguments.extend(own.chain(given.overrides.iter().copied()).flat_map(|setting| ["--override", setting]));
    Some(Program::run(&arguments, given, (port, folder)))
}

impl Program {
    fn run(arguments: &[&str], given: Given<'_>, (port, folder): (u16, tempfile::TempDir)) -> Self {
        let become_it = format!("{}exec \"$@\"", given.prelude);
        let mut command = Command::new("sh");
        command.args(["-c", GUARD, "guard", "sh", "-c", &become_it, "sh"]).arg(binary()).args(arguments);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.envs(given.environment.iter().copied()).current_dir(folder.path());
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().expect("start the program");
        let (tell, lines) = channel();
        listen(child.stdout.take().expect("stdout"), tell.clone(), Line::Out);
        listen(child.stderr.take().expect("stderr"), tell, Line::Err);
        let hold = child.stdin.take();
        let (stdout, stderr) = (Vec::new(), Vec::new());
        Self { child, hold, lines, pid: None, stdout, stderr, port, folder }
    }

    /// Takes the next line; false once the program has ended.
    fn hear(&mut self) -> bool {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(Line::Out(line)) => match line.strip_prefix("pid ") {
                Some(pid) => self.pid = pid.parse().ok(),
                None => self.stdout.push(line),
            },
            Ok(Line::Err(line)) => self.stderr.push(line),
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return false,
            Err(_) => panic!("neither a word nor an end within {PATIENCE:?}:\n{}", self.stderr.join("\n")),
        }
        true
    }

    fn wait_for(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        while !holds(self) {
            assert!(self.hear(), "{what}: the program ended:\n{}", self.stderr.join("\n"));
        }
    }

    /// Waits for the two lines.
    fn serves(mut self) -> Self {
        self.wait_for("it serves", |program| program.stdout.len() >= 2 && program.pid.is_some());
        self
    }

    async fn connect(&self) -> Client {
        Client::connect(&format!("127.0.0.1:{}", self.port)).await
    }

    /// Sends signals, one right after the other.
    fn signal(&self, names: &[&str]) {
        let pid = self.pid.expect("the guard has said it");
        let kills: Vec<String> = names.iter().map(|name| format!("kill -{name} {pid}")).collect();
        let sent = Command::new("sh").args(["-c", &kills.join(" && ")]).status().expect("a shell");
        assert!(sent.success(), "{names:?} for {pid}");
    }

    /// Waits for the end.
    fn ended(mut self) -> Ended {
        while self.hear() {}
        let code = self.child.wait().expect("it has ended").code();
        let (stdout, stderr) = (std::mem::take(&mut self.stdout), std::mem::take(&mut self.stderr));
        Ended { code, stdout, stderr }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.hold.take());
        // Before its folder goes.
        self.child.wait().expect("the guard ends");
    }
}

fn listen(output: impl Read + Send + 'static, tell: Sender<Line>, line: fn(String) -> Line) {
    std::thread::spawn(move || {
        for text in BufReader::new(output).lines().map_while(Result::ok) {
            if tell.send(line(text)).is_err() {
                return;
            }
        }
    });
}

impl Ended {
    /// A fault of the start: code 1, nothing on stdout, and just these sentences as the program's last words.
    fn refused_with(&self, what: &str, sentences: &[&str]) {
        let all = self.stderr.join("\n");
        assert_eq!(self.code, Some(1), "{what}: {all}");
        assert!(self.stdout.is_empty(), "{what}: {:?}", self.stdout);
        let said: Vec<&str> = self.stderr.iter().filter_map(|line| line.strip_prefix("ottla: ")).collect();
        assert_eq!(said.len(), sentences.len(), "{what}: {all}");
        for (said, sentence) in said.iter().zip(sentences) {
            assert!(said.contains(sentence), "{what}: {said}");
        }
        let last = &self.stderr[self.stderr.len() - said.len()..];
        assert!(last.iter().all(|line| line.starts_with("ottla: ")), "{what}: {all}");
    }

    fn says(&self, words: &str) -> bool {
        self.stderr.iter().any(|line| line.contains(words))
    }
}

/// What is set, or a file's, or the environment's, against what the program says of it.
fn refused(what: &str, given: Given<'_>, sentences: &[&str]) {
    if let Some(program) = start(given) {
        program.ended().refused_with(what, sentences);
    }
}

const ZERO_PARTITIONS: &str = "Invalid value 0 for configuration num.partitions: Value must be at least 1";

#[test]
fn a_setting_that_cannot_be_ends_the_program_with_1_and_a_sentence() {
    let set = |overrides| Given { overrides, ..Given::default() };
    refused("out of range", set(&["num.partitions=0"]), &[ZERO_PARTITIONS]);
    let number = "Invalid value many for configuration message.max.bytes: Not a number of type INT";
    refused("two at once", set(&["num.partitions=0", "message.max.bytes=many"]), &[number, ZERO_PARTITIONS]);
    let protocol = "No security protocol defined for listener QUIC";
    refused("a listener's protocol", set(&["listeners=QUIC://127.0.0.1:0"]), &[protocol]);
    let secured = "listener PLAINTEXT wants SSL, which this version cannot serve";
    refused("TLS", set(&["listener.security.protocol.map=PLAINTEXT:SSL"]), &[secured]);
    refused("no key", set(&["num.partitions"]), &["--override num.partitions: write it as key=value"]);
    let environment = Given { environment: &[("KAFKA_NUM_PARTITIONS", "0")], ..Given::default() };
    refused("a variable", environment, &[ZERO_PARTITIONS]);
}

#[test]
fn an_argument_that_nobody_knows_ends_the_program_with_1() {
    let Some(program) = start(Given { file: Some("--nonsense"), ..Given::default() }) else { return };
    let ended = program.ended();
    assert_eq!((ended.code, ended.stdout.len()), (Some(1), 0));
    assert!(ended.says("unexpected argument '--nonsense'"), "{:?}", ended.stderr);
}

#[test]
fn a_file_that_is_missing_or_broken_ends_the_program_with_1_and_names_itself() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    for (name, text, sentence) in [
        ("broker.yaml", "num.partitions: [1", "is no configuration in YAML: "),
        (
            "twice.yaml",
            "num.partitions: 1\nnum:\n  partitions: 2\n",
            "is no configuration in YAML: num.partitions stands in it twice",
        ),
        ("server.properties", "num.partitions=\\u00zz\n", "is no properties file: "),
    ] {
        std::fs::write(path(name), text).expect("written");
        refused(name, Given { file: Some(&path(name)), ..Given::default() }, &[&format!("{} {sentence}", path(name))]);
    }
    let sentence = format!("the configuration file {} cannot be read: ", path("nowhere.properties"));
    refused("missing", Given { file: Some(&path("nowhere.properties")), ..Given::default() }, &[&sentence]);
    std::fs::write(path("fine.properties"), "num.partitions=0\n").expect("written");
    refused(
        "a value of a file",
        Given { file: Some(&path("fine.properties")), ..Given::default() },
        &[ZERO_PARTITIONS],
    );
}

#[test]
fn a_port_that_is_taken_ends_the_program_with_1_and_a_sentence() {
    let taken = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let address = taken.local_addr().expect("its address");
    let listeners = format!("listeners=PLAINTEXT://{address}");
    let sentence = format!("listeners: cannot listen on PLAINTEXT://{address}: another process uses the port");
    refused("clients", Given { overrides: &[&listeners], ..Given::default() }, &[&sentence]);
    let listener = format!("ottla.http.listener={address}");
    let sentence = format!("ottla.http.listener: cannot listen on {address}: ");
    refused("HTTP", Given { overrides: &[&listener], ..Given::default() }, &[&sentence]);
}

#[test]
fn a_data_directory_that_cannot_be_written_ends_the_program_with_1_and_a_sentence() {
    // Below a file, and where the kernel makes no files: permissions would not stop root.
    let file = tempfile::NamedTempFile::new().expect("a file");
    let below = format!("{}/data", file.path().display());
    for (dir, fault) in [(below.as_str(), "cannot be made: "), ("/proc", "cannot be written: ")] {
        let dirs = format!("log.dirs={dir}");
        refused(dir, Given { overrides: &[&dirs], ..Given::default() }, &[&format!("the log directory {dir} {fault}")]);
    }
}

#[tokio::test]
async fn a_data_directory_in_use_is_left_to_the_broker_that_has_it() {
    let Some(first) = start(Given::default()) else { return };
    let first = first.serves();
    let mut client = first.connect().await;
    let topic = create_topic(&mut client, 1, &[]).await;
    let dir = first.folder.path().join("data").display().to_string();
    let sentence = format!("the log directory {dir} is in use by another process: stop it, or set another log.dirs");
    refused("in use", Given { overrides: &[&format!("log.dirs={dir}")], ..Given::default() }, &[&sentence]);
    assert_eq!(produce(&mut client, &topic, 0, &Batch::of(&["still there"])).await, 0);
}

/// The keys of the `server.properties` that comes with Apache Kafka 4.3, with places of the test's own.
fn stock_properties(folder: &Path, port: u16) -> String {
    let (controller, data) = (free_port(), folder.join("kraft-combined-logs"));
    let listeners = format!("PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}");
    let protocols = "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL";
    [
        ("process.roles", "broker,controller"),
        ("node.id", "1"),
        ("controller.quorum.bootstrap.servers", &format!("127.0.0.1:{controller}")),
        ("listeners", &listeners),
        ("inter.broker.listener.name", "PLAINTEXT"),
        ("advertised.listeners", &listeners),
        ("controller.listener.names", "CONTROLLER"),
        ("listener.security.protocol.map", protocols),
        ("num.network.threads", "3"),
        ("num.io.threads", "8"),
        ("socket.send.buffer.bytes", "102400"),
        ("socket.receive.buffer.bytes", "102400"),
        ("socket.request.max.bytes", "104857600"),
        ("log.dirs", &data.display().to_string()),
        ("num.partitions", "1"),
        ("num.recovery.threads.per.data.dir", "1"),
        ("offsets.topic.replication.factor", "1"),
        ("share.coordinator.state.topic.replication.factor", "1"),
        ("share.coordinator.state.topic.min.isr", "1"),
        ("transaction.state.log.replication.factor", "1"),
        ("transaction.state.log.min.isr", "1"),
        ("log.retention.hours", "168"),
        ("log.segment.bytes", "1073741824"),
        ("log.retention.check.interval.ms", "300000"),
    ]
    .iter()
    .map(|(key, value)| format!("{key}={value}\n"))
    .collect()
}

/// The partitions that a topic gets when nobody says how many.
async fn default_partitions(client: &mut Client) -> i32 {
    let answer = client.call(7, &create_request(&unique("default"), -1, &[])).await;
    assert_eq!(answer.topics[0].error_code, code::NONE, "{:?}", answer.topics[0].error_message);
    answer.topics[0].num_partitions
}

#[tokio::test]
async fn kafkas_own_server_properties_start_a_broker_and_variables_and_the_command_line_go_before_them() {
    let given: [Given<'_>; 3] = [
        Given { overrides: &["ottla.http.listener="], ..Given::default() },
        Given {
            overrides: &["ottla.http.listener="],
            environment: &[("KAFKA_NUM_PARTITIONS", "2")],
            ..Given::default()
        },
        Given {
            overrides: &["ottla.http.listener=", "log.retention.hours=24", "num.partitions=3"],
            environment: &[("KAFKA_NUM_PARTITIONS", "2")],
            ..Given::default()
        },
    ];
    for (partitions, given) in (1..).zip(given) {
        let (folder, port) = (tempfile::tempdir().expect("a folder"), free_port());
        let file = folder.path().join("server.properties").display().to_string();
        std::fs::write(&file, stock_properties(folder.path(), port)).expect("written");
        let Some(program) = start(Given { file: Some(&file), ..given }) else { return };
        let mut program = program.serves();
        program.port = port;
        let mut client = program.connect().await;
        assert_eq!(default_partitions(&mut client).await, partitions);
        let told = client.call(9, &MetadataRequest::default().with_topics(None)).await;
        let brokers: Vec<(i32, &str, i32)> =
            told.brokers.iter().map(|broker| (broker.node_id.0, broker.host.as_str(), broker.port)).collect();
        assert_eq!(brokers, [(1, "127.0.0.1", i32::from(port))]);
        let topic = create_topic(&mut client, 1, &[]).await;
        assert_eq!(produce(&mut client, &topic, 0, &Batch::of(&["served"])).await, 0);
        program.signal(&["TERM"]);
        let ended = program.ended();
        assert_eq!(ended.code, Some(0), "{:?}", ended.stderr);
        assert!(!ended.says("unknown key") && !ended.says("was removed"), "{:?}", ended.stderr);
    }
}

/// The status of an HTTP answer.
fn status(address: &str, path: &str) -> String {
    let mut stream = std::net::TcpStream::connect(address).expect("HTTP is served");
    stream.set_read_timeout(Some(PATIENCE)).expect("a bound on hanging");
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).expect("asked");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer.lines().next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn the_two_lines_come_when_clients_are_served_and_sigterm_or_sigint_ends_it_with_0() {
    for signal in ["TERM", "INT"] {
        let http = format!("127.0.0.1:{}", free_port());
        let listener = format!("ottla.http.listener={http}");
        let Some(program) = start(Given { overrides: &["node.id=7", &listener], ..Given::default() }) else { return };
        let program = program.serves();
        // At once: neither the connection nor readiness is asked for again.
        let mut client = program.connect().await;
        assert_eq!(client.call(0, &ApiVersionsRequest::default()).await.error_code, code::NONE);
        assert_eq!(status(&http, "/readyz"), "HTTP/1.0 200 OK");
        program.signal(&[signal]);
        let ended = program.ended();
        assert_eq!(ended.code, Some(0), "{:?}", ended.stderr);
        assert!(ended.says(&format!("SIG{signal}: stopping")) && ended.says("node 7 stopped"), "{:?}", ended.stderr);
        let lines = [
            "[KafkaServer id=7] started, the broker has been unfenced. Transitioning from RECOVERY to RUNNING.",
            "Kafka Server started",
        ];
        assert_eq!(ended.stdout, lines);
    }
}

#[tokio::test]
async fn a_second_signal_ends_the_program_at_once_with_the_code_of_such_a_death() {
    let Some(program) = start(Given::default()) else { return };
    let program = program.serves();
    let mut client = program.connect().await;
    let topic = create_topic(&mut client, 1, &[]).await;
    // A stop waits a while for a request in flight. Both are read, and begun, together.
    let waits = fetch_request(12, &topic, &[(0, 0)]).with_max_wait_ms(i32::MAX).with_min_bytes(1);
    let both = [frame_of(0, &ApiVersionsRequest::default()), frame_of(12, &waits)].concat();
    client.send_bytes(&both).await.expect("send");
    client.receive::<ApiVersionsRequest>(0, 7).await;
    // Two that nothing comes between; which of them is seen first is open.
    program.signal(&["STOP", "TERM", "INT", "CONT"]);
    let ended = program.ended();
    let (name, code) = if ended.says("SIGTERM: stopping") { ("SIGINT", 130) } else { ("SIGTERM", 143) };
    assert_eq!(ended.code, Some(code), "{:?}", ended.stderr);
    assert!(ended.says(&format!("{name} again: exiting at once")), "{:?}", ended.stderr);
    assert!(!ended.says("node 1 stopped"), "{:?}", ended.stderr);
}

#[test]
fn log_lines_are_for_people_or_one_json_object_each() {
    for format in ["human", "json"] {
        let setting = format!("ottla.log.format={format}");
        // An unknown key: there is a warning among the lines.
        let Some(program) = start(Given { overrides: &[&setting, "num.partitons=1"], ..Given::default() }) else {
            return;
        };
        let program = program.serves();
        program.signal(&["TERM"]);
        let ended = program.ended();
        assert!(ended.stderr.len() > 3, "{:?}", ended.stderr);
        for line in &ended.stderr {
            let parsed: Result<serde_json::Map<String, serde_json::Value>, _> = serde_json::from_str(line);
            let fields = parsed.map(|fields| ["timestamp", "level", "message"].map(|name| fields[name].is_string()));
            assert_eq!(fields.ok(), (format == "json").then_some([true; 3]), "{format}: {line}");
        }
        let warning =
            if format == "json" { "\"level\":\"WARN\",\"message\":\"unknown key" } else { " WARN unknown key" };
        assert!(ended.says(warning), "{format}: {:?}", ended.stderr);
    }
}

#[tokio::test]
async fn a_broker_whose_storage_failed_ends_with_1_and_says_why() {
    // Files of at most 8 MiB; without the trap the signal that goes with the error would end the process.
    let given = Given { prelude: "ulimit -f 16384; trap '' XFSZ; ", ..Given::default() };
    let Some(program) = start(given) else { return };
    let program = program.serves();
    let mut client = program.connect().await;
    let topic = create_topic(&mut client, 1, &[]).await;
    let record = Record { value: Some(vec![b'x'; 500_000]), ..Record::default() };
    let batch = Batch::of_records(now_ms(), &[record]).encode();
    while produce_bytes(&mut client, &topic, 0, &batch).await.error_code == code::NONE {}
    let ended = program.ended();
    assert_eq!(ended.code, Some(1), "{:?}", ended.stderr);
    let last = ended.stderr.last().expect("it says why");
    assert!(last.starts_with("ottla: the broker stops, because its storage has failed: "), "{last}");
}
