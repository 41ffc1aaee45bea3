//! A key that is marked as honoured is read by somebody, and what is read is marked so.
//!
//! The fields of the two configurations are public, so no compiler says that one is read by nobody: the sources are
//! searched for it. By the house's custom a configuration is called `config` wherever it is read.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use super::key::{Key, Support};
use super::*;
use crate::tidy;

/// The names of a configuration's fields.
fn fields(config: &impl Debug) -> Vec<String> {
    let shown = format!("{config:#?}");
    let outer = shown.lines().filter_map(|line| line.strip_prefix("    ").filter(|rest| !rest.starts_with(' ')));
    outer.filter_map(|line| line.split_once(": ")).map(|(field, _)| field.to_owned()).collect()
}

/// All production code but the table of keys, which names them all.
fn code() -> Vec<(String, String)> {
    tidy::production().into_iter().filter(|(name, _)| !name.starts_with("config/table/")).collect()
}

/// True when a text reads a field of a configuration: `config.field`, on one line or two, and not to write it.
fn reads(text: &str, field: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices("config").any(|(at, config)| {
        let rest = text[at + config.len()..].trim_start();
        let Some(rest) = rest.strip_prefix('.').and_then(|rest| rest.strip_prefix(field)) else { return false };
        let is_field = !text[..at].ends_with(is_word) && !rest.starts_with(is_word) && !rest.starts_with('(');
        let rest = rest.trim_start();
        is_field && (!rest.starts_with('=') || rest.starts_with("=="))
    })
}

fn unread(fields: &[String]) -> Vec<&String> {
    let code = code();
    fields.iter().filter(|field| !code.iter().any(|(_, text)| reads(text, field))).collect()
}

#[test]
fn a_field_counts_as_read_only_where_it_is() {
    for text in ["config.flush_ms", "(config.flush_ms)", "&self.config.flush_ms;", "config\n    .flush_ms == 7"] {
        assert!(reads(text, "flush_ms"), "{text}");
    }
    for text in [
        "config.flush_ms_more",
        "config.flush_ms()",
        "config.flush_ms = 7",
        "reconfig.flush_ms",
        "extras.flush_ms",
        "flush_ms: i64",
    ] {
        assert!(!reads(text, "flush_ms"), "{text}");
    }
    assert_eq!(unread(&["no_such_field".to_owned()]).len(), 1);
}

#[test]
fn every_typed_field_is_an_honoured_key() {
    for field in BrokerConfig::FIELDS {
        let name = field.replace('_', ".");
        let key = table::broker_keys().get(name.as_str()).unwrap_or_else(|| panic!("{name} is not in the table"));
        assert_eq!(key.support, Support::Honoured, "{name}");
    }
}

#[test]
fn every_field_is_read() {
    let broker = BrokerConfig::default();
    let of_broker = fields(&broker);
    assert!(BrokerConfig::FIELDS.iter().all(|field| of_broker.iter().any(|known| known == field)), "{of_broker:?}");
    assert_eq!(unread(&of_broker), [""; 0]);
    let of_topic = fields(&TopicConfig::resolve(&BTreeMap::new(), &broker));
    assert!(of_topic.iter().any(|field| field == "flush_ms"), "{of_topic:?}");
    assert_eq!(unread(&of_topic), [""; 0]);
}

fn honoured(keys: &BTreeMap<&'static str, &'static Key>) -> Vec<&'static Key> {
    keys.values().copied().filter(|key| key.support == Support::Honoured).collect()
}

/// Keys that come to something only together with others, in another field. That a key is looked at is not enough to stand
/// here: many are checked that do nothing yet.
const TOGETHER: &[&str] = &[
    "advertised.listeners",
    "broker.id",
    "controller.quorum.voters",
    "listener.security.protocol.map",
    "listeners",
    "log.dir",
    "log.dirs",
    "max.connections.per.ip.overrides",
    "node.id",
    "process.roles",
    "queued.max.request.bytes",
];

/// A broker key reaches somebody as a field, as the default of a topic key that does, or together with others. That each
/// field is read, the test before says.
#[test]
fn every_honoured_key_reaches_somebody() {
    let topic_fields = fields(&TopicConfig::resolve(&BTreeMap::new(), &BrokerConfig::default()));
    let mut defaults = BTreeSet::new();
    for key in honoured(table::topic_keys()) {
        // It takes the place of segment.bytes, which a test beside this one shows.
        let is_field = key.name == "internal.segment.bytes" || topic_fields.contains(&key.name.replace('.', "_"));
        assert!(is_field, "the topic key {} is honoured and read by nobody", key.name);
        defaults.extend(key.synonyms.iter().map(|(name, _)| *name));
    }
    let joint: Vec<String> = code()
        .into_iter()
        .filter(|(name, _)| ["config/broker.rs", "config/checks.rs", "config/listeners.rs"].contains(&name.as_str()))
        .map(|(_, text)| text)
        .collect();
    for key in honoured(table::broker_keys()) {
        let is_field = BrokerConfig::FIELDS.contains(&key.name.replace('.', "_").as_str());
        let reaches = is_field || defaults.contains(key.name) || TOGETHER.contains(&key.name);
        assert!(reaches, "the key {} is honoured and read by nobody", key.name);
    }
    for name in TOGETHER {
        assert!(joint.iter().any(|text| text.contains(&format!("\"{name}\""))), "nobody reads {name}");
    }
}
