//! Pure data. Every key: broker keys by subject, one file each, and topic keys.
//!
//! A row reads: name, type, Kafka's default (`null`: unset, `required`: Kafka has none), allowed values, importance,
//! where it may be changed, whether this version honours it, and one sentence. What Kafka 4.3.1 itself answers lies
//! beside it in `kafka-4.3.1/`; a test compares the two, so a row cannot drift. Where Ottla's default is another, it
//! stands in [`OWN_DEFAULTS`] with the reason.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use super::key::Key;

mod controller;
mod group;
mod log;
mod network;
mod own;
mod remote;
mod replication;
mod security;
mod share;
mod topic;
mod transaction;

macro_rules! preset {
    (null) => {
        $crate::config::key::Preset::Null
    };
    (required) => {
        $crate::config::key::Preset::Required
    };
    ($text:literal) => {
        $crate::config::key::Preset::Text($text)
    };
}

macro_rules! factor {
    () => {
        1
    };
    ($factor:literal) => {
        $factor
    };
}

macro_rules! keys {
    ($($name:literal $kind:ident $preset:tt [$($allowed:tt)*] $importance:ident $scope:ident $support:ident
       $(from $($synonym:literal $(* $factor:literal)?),+)? $documentation:literal;)*) => {
        pub(super) static KEYS: &[$crate::config::key::Key] = &[$($crate::config::key::Key {
            name: $name,
            kind: $crate::config::key::Kind::$kind,
            preset: $crate::config::table::preset!($preset),
            allowed: $crate::config::key::Allowed::$($allowed)*,
            importance: $crate::config::key::Importance::$importance,
            scope: $crate::config::key::Scope::$scope,
            support: $crate::config::key::Support::$support,
            documentation: $documentation,
            synonyms: &[$($(($synonym, $crate::config::table::factor!($($factor)?))),+)?],
        }),*];
    };
}

use {factor, keys, preset};

/// Where Ottla differs from Kafka's default, because a node without any configuration is a complete broker on this
/// machine alone: Kafka insists on the first three and listens on every interface.
pub const OWN_DEFAULTS: &[(&str, &str)] = &[
    ("node.id", "1"),
    ("process.roles", "broker,controller"),
    ("listeners", "PLAINTEXT://localhost:9092"),
    ("log.dir", "./data"),
];

/// The rows by subject: its title, and its keys in the order of their names.
pub static SUBJECTS: &[(&str, &[Key])] = &[
    ("The node", controller::KEYS),
    ("Listeners, connections, requests", network::KEYS),
    ("Logs and topics", log::KEYS),
    ("Groups and offsets", group::KEYS),
    ("Producers and transactions", transaction::KEYS),
    ("Replication", replication::KEYS),
    ("Security", security::KEYS),
    ("Share groups", share::KEYS),
    ("Tiered storage", remote::KEYS),
    ("Ottla's own", own::KEYS),
];

static BROKER: LazyLock<BTreeMap<&'static str, &'static Key>> =
    LazyLock::new(|| SUBJECTS.iter().flat_map(|(_, keys)| *keys).map(|key| (key.name, key)).collect());

static TOPIC: LazyLock<BTreeMap<&'static str, &'static Key>> =
    LazyLock::new(|| topic::KEYS.iter().map(|key| (key.name, key)).collect());

/// Every broker key, by name.
pub fn broker_keys() -> &'static BTreeMap<&'static str, &'static Key> {
    &BROKER
}

/// Every topic key, by name.
pub fn topic_keys() -> &'static BTreeMap<&'static str, &'static Key> {
    &TOPIC
}

/// What Ottla uses for a broker key that nobody set; `None` is null.
pub fn effective_default(key: &Key) -> Option<&'static str> {
    match OWN_DEFAULTS.iter().find(|(name, _)| *name == key.name) {
        Some((_, text)) => Some(text),
        None => match key.preset {
            super::key::Preset::Text(text) => Some(text),
            super::key::Preset::Null | super::key::Preset::Required => None,
        },
    }
}
