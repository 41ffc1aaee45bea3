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
