//! The shell of configuration: reads the file and what must be known of the machine. The readers of the three formats
//! are pure and take text.
//!
//! Never resolves `${…}` and never logs a value.

use std::fs;
use std::path::Path;

use super::broker::{Loaded, Machine, resolve};
use super::notices::Notice;
use super::settings::{Origin, Settings};

/// Variables of Kafka's images that are not keys.
const NOT_KEYS: &[&str] = &[
    "KAFKA_VERSION",
    "KAFKA_HEAP_OPTS",
    "KAFKA_LOG4J_OPTS",
    "KAFKA_OPTS",
    "KAFKA_JMX_OPTS",
    "KAFKA_JMX_PORT",
    "KAFKA_JMX_HOSTNAME",
    "KAFKA_JVM_PERFORMANCE_OPTS",
    "KAFKA_GC_LOG_OPTS",
    "KAFKA_LOG4J_ROOT_LOGLEVEL",
    "KAFKA_LOG4J_LOGGERS",
    "KAFKA_TOOLS_LOG4J_LOGLEVEL",
];

/// Everything an operator said, put together: the file, `environment`, and `key=value` texts of the command line.
pub fn load(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
    overrides: &[String],
) -> Result<Loaded, Vec<String>> {
    let mut settings = Settings::default();
    let mut errors = Vec::new();
    if let Some(path) = file {
        match read_file(path) {
            Ok(pairs) => pairs.iter().for_each(|(key, text)| settings.set(key, text, Origin::File)),
            Err(sentence) => errors.push(sentence),
        }
    }
    let skipped = from_environment(environment, &mut settings);
    for text in overrides {
        match text.split_once('=') {
            Some((key, value)) => settings.set(key.trim(), value, Origin::CommandLine),
            None => errors.push(format!("--override {text}: write it as key=value")),
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let mut loaded = resolve(&settings, &Machine::read())?;
    if !skipped.is_empty() {
        let names = skipped.join(", ");
        loaded.notices.push(Notice::Info(format!("variables of Kubernetes service links are ignored: {names}")));
    }
    Ok(loaded)
}

fn read_file(path: &Path) -> Result<Vec<(String, String)>, String> {
    let name = path.display();
    let bytes = fs::read(path).map_err(|error| format!("the configuration file {name} cannot be read: {error}"))?;
    let yaml = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
    if !yaml {
        return from_properties(&bytes).map_err(|why| format!("{name} is no properties file: {why}"));
    }
    let text = String::from_utf8(bytes).map_err(|_| format!("{name} is not text in UTF-8"))?;
    from_yaml(&text).map_err(|why| format!("{name} is no configuration in YAML: {why}"))
}

fn from_properties(bytes: &[u8]) -> Result<Vec<(String, String)>, String> {
    let map = java_properties::read(bytes).map_err(|error| error.to_string())?;
    Ok(map.into_iter().map(|(key, text)| (key, text.trim_end().to_owned())).collect())
}

/// `key: value`; maps within maps are joined by dots, lists by commas; a key without a value is not set.
fn from_yaml(text: &str) -> Result<Vec<(String, String)>, String> {
    let value: serde_yaml::Value = serde_yaml::from_str(text).map_err(|error| error.to_string())?;
    let mut pairs = Vec::new();
    flatten("", &value, &mut pairs)?;
    for (index, (key, _)) in pairs.iter().enumerate() {
        if pairs[..index].iter().any(|(known, _)| known == key) {
            return Err(format!("{key} stands in it twice"));
        }
    }
    Ok(pairs)
}

fn flatten(prefix: &str, value: &serde_yaml::Value, pairs: &mut Vec<(String, String)>) -> Result<(), String> {
    use serde_yaml::Value as Yaml;
    match value {
        Yaml::Null => Ok(()),
        Yaml::Mapping(map) => map.iter().try_for_each(|(key, value)| {
            let key = scalar(key).ok_or_else(|| format!("a name below `{prefix}` is not a word"))?;
            let name = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
            flatten(&name, value, pairs)
        }),
        _ if prefix.is_empty() => Err("it is not a list of `key: value`".to_owned()),
        Yaml::Sequence(items) => {
            let texts: Option<Vec<String>> = items.iter().map(scalar).collect();
            let texts = texts.ok_or_else(|| format!("{prefix} holds more than words and numbers"))?;
            pairs.push((prefix.to_owned(), texts.join(",")));
            Ok(())
        }
        other => {
            let text = scalar(other).ok_or_else(|| format!("{prefix} is neither text nor a number"))?;
            pairs.push((prefix.to_owned(), text));
            Ok(())
        }
    }
}

fn scalar(value: &serde_yaml::Value) -> Option<String> {
    match value {
        serde_yaml::Value::String(text) => Some(text.clone()),
        serde_yaml::Value::Number(number) => Some(number.to_string()),
        serde_yaml::Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

/// `KAFKA_*` by the rule of Kafka's images, and their `CLUSTER_ID`. Returns what was left out because Kubernetes, not
/// a person, set it.
fn from_environment(variables: impl IntoIterator<Item = (String, String)>, settings: &mut Settings) -> Vec<String> {
    let mut skipped = Vec::new();
    let mut sorted: Vec<(String, String)> = variables.into_iter().collect();
    sorted.sort_unstable();
    for (name, text) in sorted {
        if name == "CLUSTER_ID" {
            settings.set("cluster.id", &text, Origin::Environment);
        } else if name.starts_with("KAFKA_") && is_service_link(&name, &text) {
            skipped.push(name);
        } else if name.starts_with("KAFKA_") && !NOT_KEYS.contains(&name.as_str()) {
            settings.set(&property(&name), &text, Origin::Environment);
        }
    }
    skipped
}

/// `KAFKA_A_B` is `a.b`, `__` is `_`, `___` is `-`, in the order in which the images' wrapper replaces.
fn property(variable: &str) -> String {
    let name = variable.replace("KAFKA_", "").to_lowercase();
    name.replace('_', ".").replace("...", "-").replace("..", "_")
}

/// A pod in a namespace with a service named kafka finds `KAFKA_PORT=tcp://…` and its like in its environment.
fn is_service_link(name: &str, text: &str) -> bool {
    let address = text.starts_with("tcp://") || text.starts_with("udp://");
    let of_port = |part: &str| part.contains("_TCP_") || part.contains("_UDP_");
    (name.ends_with("_PORT") && address)
        || (name.contains("_PORT_") && (address || of_port(name)))
        || name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT")
        || name.contains("_SERVICE_PORT_")
}

impl Machine {
    /// Asks the operating system. What it does not say has a careful default.
    pub fn read() -> Self {
        let unknown = Self::default();
        let word = |path: &str| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
        let group = word("/sys/fs/cgroup/memory.max").and_then(|text| text.parse().ok()).unwrap_or(u64::MAX);
        let total = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total_memory(&text));
        let address_space = rustix::process::getrlimit(rustix::process::Resource::As).current;
        Self {
            hostname: word("/proc/sys/kernel/hostname").filter(|name| !name.is_empty()).unwrap_or(unknown.hostname),
            memory_bytes: total.unwrap_or(unknown.memory_bytes).min(group),
            strict_memory: word("/proc/sys/vm/overcommit_memory").as_deref() == Some("2") || address_space.is_some(),
        }
    }
}

fn total_memory(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect()
    }

    #[test]
    fn yaml_joins_maps_by_dots_and_lists_by_commas() {
        let text = "num.partitions: 3\nlog:\n  retention:\n    ms: -1\n  dirs: [a, b]\nauto.create.topics.enable: false\nbroker.rack:\n";
        let expected = [
            ("num.partitions", "3"),
            ("log.retention.ms", "-1"),
            ("log.dirs", "a,b"),
            ("auto.create.topics.enable", "false"),
        ];
        assert_eq!(from_yaml(text), Ok(pairs(&expected)));
        assert_eq!(from_yaml(""), Ok(Vec::new()));
        assert_eq!(from_yaml("a.b: 1\na:\n  b: 2\n"), Err("a.b stands in it twice".to_owned()));
        assert_eq!(from_yaml("just words"), Err("it is not a list of `key: value`".to_owned()));
        assert!(from_yaml("a: [[1]]").is_err());
        assert!(from_yaml("a: {").is_err());
    }

    #[test]
    fn properties_are_javas() {
        let text = b"# note\nnum.partitions = 3\nlisteners:PLAINTEXT://\\\n  :9092\nlast=1\nlast=2 \n";
        let mut read = from_properties(text).expect("it is valid");
        read.sort();
        assert_eq!(read, pairs(&[("last", "2"), ("listeners", "PLAINTEXT://:9092"), ("num.partitions", "3")]));
    }

    #[test]
    fn variables_become_keys_as_in_kafkas_images() {
        assert_eq!(property("KAFKA_NUM_PARTITIONS"), "num.partitions");
        assert_eq!(property("KAFKA_A__B___C_D"), "a_b-c.d");
        let name = property("KAFKA_LISTENER_NAME_SECURE_SCRAM___SHA___256_SASL_JAAS_CONFIG");
        assert_eq!(name, "listener.name.secure.scram-sha-256.sasl.jaas.config");
    }

    #[test]
    fn what_is_no_key_is_left_out_of_the_environment() {
        let mut settings = Settings::default();
        let variables = [
            ("KAFKA_HEAP_OPTS", "-Xmx1g"),
            ("KAFKA_PORT", "tcp://10.0.0.1:9092"),
            ("KAFKA_SERVICE_HOST", "10.0.0.1"),
            ("KAFKA_SERVICE_PORT_CLIENT", "9092"),
            ("KAFKA_PORT_9092_TCP_ADDR", "10.0.0.1"),
            ("KAFKA_BROKER_RACK", ""),
            ("HOME", "/"),
            ("CLUSTER_ID", "abc"),
        ];
        let skipped = from_environment(pairs(&variables), &mut settings);
        assert_eq!(
            skipped,
            ["KAFKA_PORT", "KAFKA_PORT_9092_TCP_ADDR", "KAFKA_SERVICE_HOST", "KAFKA_SERVICE_PORT_CLIENT"]
        );
        let set: Vec<(&str, &str)> = settings.iter().map(|(key, setting)| (key, setting.text.as_str())).collect();
        assert_eq!(set, [("broker.rack", ""), ("cluster.id", "abc")]);
    }

    #[test]
    fn the_command_line_goes_before_the_environment_and_that_before_the_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("server.properties");
        fs::write(&path, "num.partitions=2\nmessage.max.bytes=2\nfetch.max.bytes=2000\n").expect("it can be written");
        let environment = pairs(&[("KAFKA_NUM_PARTITIONS", "3"), ("KAFKA_MESSAGE_MAX_BYTES", "3")]);
        let overrides = ["num.partitions=4".to_owned()];
        let config = load(Some(&path), environment, &overrides).expect("it is valid").config;
        assert_eq!((config.num_partitions, config.message_max_bytes, config.fetch_max_bytes), (4, 3, 2000));
    }

    #[test]
    fn every_fault_of_the_sources_is_a_sentence() {
        let overrides = ["num.partitions".to_owned()];
        let faults = load(Some(Path::new("/nowhere/x.yaml")), [], &overrides).expect_err("neither is valid");
        assert_eq!(faults.len(), 2);
        assert!(faults[0].starts_with("the configuration file /nowhere/x.yaml cannot be read: "), "{}", faults[0]);
        assert_eq!(faults[1], "--override num.partitions: write it as key=value");
    }

    #[test]
    fn memory_is_read_off_meminfo() {
        assert_eq!(total_memory("MemTotal:       24642 kB\nMemFree: 1 kB\n"), Some(24642 * 1024));
        assert_eq!(total_memory("nothing"), None);
    }
}
