//! Pure. What an operator should be told of a configuration that works: keys that mean nothing, nothing any more, or
//! nothing yet, and what is unsafe. Values are not repeated where they could be secrets.

use std::net::IpAddr;

use super::broker::{BrokerConfig, Machine};
use super::key::{Kind, Support};
use super::settings::Settings;
use super::table;
use super::values::Values;

/// One line for the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Notice {
    /// Something the operator should look at.
    Warning(String),
    /// Something good to know.
    Info(String),
}

/// Keys that older Kafka had and Kafka 4 has not.
const REMOVED: &[&str] = &[
    "advertised.host.name",
    "advertised.port",
    "broker.id.generation.enable",
    "control.plane.listener.name",
    "controlled.shutdown.max.retries",
    "controlled.shutdown.retry.backoff.ms",
    "delegation.token.master.key",
    "eligible.leader.replicas.enable",
    "group.coordinator.new.enable",
    "host.name",
    "inter.broker.protocol.version",
    "leader.imbalance.per.broker.percentage",
    "log.message.downconversion.enable",
    "log.message.format.version",
    "log.message.timestamp.difference.max.ms",
    "offsets.commit.required.acks",
    "port",
    "quota.consumer.default",
    "quota.producer.default",
    "reserved.broker.max.id",
];

/// How names begin that belong to something that Kafka has and this version has not.
const NOT_YET: &[&str] = &["listener.name.", "ssl.", "sasl.", "rlmm.config.", "rsm.config.", "super.users"];

/// Keys whose being ignored would break a promise, when they were set to more than their default.
pub(super) fn refused(values: &Values) -> Vec<String> {
    let keys = table::broker_keys().values().filter(|key| key.support == Support::Refused);
    keys.filter(|key| values.is_set(key.name) && differs(key.name, values))
        .map(|key| {
            let value = values.get(key.name).map(|value| value.to_string()).unwrap_or_default();
            let shown = if key.kind == Kind::Password { "[hidden]" } else { &value };
            format!(
                "{}={shown}: this version does not have it, and running without it would not be what was asked; \
                 remove the key",
                key.name
            )
        })
        .collect()
}

fn differs(name: &str, values: &Values) -> bool {
    let key = table::broker_keys()[name];
    let value = values.get(name);
    let empty = value.as_ref().is_some_and(|value| value.to_string().is_empty());
    !empty
        && value != table::effective_default(key).map(|text| key.parse(text).expect("the table's defaults are valid"))
}

/// All lines, warnings about names first.
pub(super) fn collect(settings: &Settings, values: &Values, config: &BrokerConfig, machine: &Machine) -> Vec<Notice> {
    let mut notices: Vec<Notice> = settings
        .iter()
        .filter(|(name, _)| !table::broker_keys().contains_key(name))
        .map(|(name, setting)| Notice::Warning(unknown(name, setting.origin.name())))
        .collect();
    let without_effect = |support: Support| -> Vec<&str> {
        let set = table::broker_keys().values().filter(|key| key.support == support && values.is_set(key.name));
        set.map(|key| key.name).filter(|name| differs(name, values)).collect()
    };
    let waiting = without_effect(Support::NotYet);
    if !waiting.is_empty() {
        notices.push(Notice::Warning(format!("without effect in this version: {}", waiting.join(", "))));
    }
    let idle = without_effect(Support::Unneeded);
    if !idle.is_empty() {
        notices.push(Notice::Info(format!("not needed here and without effect: {}", idle.join(", "))));
    }
    if values.get("log.cleanup.policy").is_some_and(|policy| policy.to_string().contains("compact")) {
        notices.push(Notice::Warning(
            "log.cleanup.policy=compact: this version does not compact yet and keeps all".into(),
        ));
    }
    if !config.controller_listener_names.is_empty() {
        let names = config.controller_listener_names.join(", ");
        let why = "a single node has nobody to speak to on it";
        notices.push(Notice::Info(format!("the controller listener {names} is not opened: {why}")));
    }
    notices.extend(unsafe_listeners(config));
    if machine.strict_memory {
        let why = "the allocator reserves more than it uses, and an allocation that is refused stops the process";
        notices.push(Notice::Warning(format!(
            "memory is not overcommitted here (vm.overcommit_memory, ulimit -v): {why}"
        )));
    }
    notices
}

fn unknown(name: &str, origin: &str) -> String {
    if REMOVED.contains(&name) || name.starts_with("zookeeper.") || name.starts_with("password.encoder.") {
        return format!("{name} ({origin}) was removed in Kafka 4 and is ignored");
    }
    if NOT_YET.iter().any(|prefix| name.starts_with(prefix)) {
        return format!("{name} ({origin}) is without effect in this version");
    }
    if let Some(key) = table::topic_keys().get(name) {
        // The first is the one in the topic key's own unit.
        return match key.synonyms {
            [(broker, _), ..] => {
                format!("{name} ({origin}) is a topic's key and is ignored; for all topics: {broker}")
            }
            [] => format!("{name} ({origin}) is a topic's key and is ignored: set it for each topic"),
        };
    }
    let nearest = table::broker_keys()
        .keys()
        .map(|known| (strsim::normalized_damerau_levenshtein(name, known), *known))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|(likeness, _)| *likeness >= 0.75);
    match nearest {
        Some((_, known)) => format!("unknown key {name} ({origin}) is ignored; did you mean {known}?"),
        None => format!("unknown key {name} ({origin}) is ignored"),
    }
}

/// Whoever reaches such a listener may do everything.
fn unsafe_listeners(config: &BrokerConfig) -> Vec<Notice> {
    let public = config.listeners.iter().filter(|listener| !is_loopback(listener.host.as_deref()));
    public
        .map(|listener| {
            let place = listener.host.as_deref().unwrap_or("every interface");
            Notice::Warning(format!(
                "unsafe: listener {} is plaintext on {place}, port {}: whoever reaches it may read, write and delete \
                 everything",
                listener.name, listener.port
            ))
        })
        .collect()
}

fn is_loopback(host: Option<&str>) -> bool {
    host.is_some_and(|host| host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback()))
}
