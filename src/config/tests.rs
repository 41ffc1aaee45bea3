//! The table against Apache Kafka 4.3.1's own answers, and the configuration as an operator meets it.

use std::collections::BTreeMap;
use std::path::Path;

use super::key::{Key, Kind, Preset, Scope, Support};
use super::topic::{self, ConfigEntry, ConfigSource};
use super::*;

const BROKER_TABLE: &str = include_str!("kafka-4.3.1/broker-configs.tsv");
const TOPIC_TABLE: &str = include_str!("kafka-4.3.1/topic-configs.tsv");

fn rows(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().skip(1).map(|line| line.split('\t').collect())
}

fn settings(pairs: &[(&'static str, &'static str)]) -> Settings {
    pairs.iter().copied().collect()
}

fn loaded(pairs: &[(&'static str, &'static str)]) -> Loaded {
    resolve(&settings(pairs), &Machine::default()).unwrap_or_else(|faults| panic!("{pairs:?}: {faults:?}"))
}

fn faults(pairs: &[(&'static str, &'static str)]) -> Vec<String> {
    match resolve(&settings(pairs), &Machine::default()) {
        Ok(_) => Vec::new(),
        Err(faults) => faults,
    }
}

fn shown(key: &Key) -> Vec<String> {
    let default = match key.preset {
        Preset::Required => "<none>",
        Preset::Null => "null",
        Preset::Text(text) => text,
    };
    let upper = |text: String| text.to_uppercase();
    let columns = [key.name, key.kind.name(), default];
    let mut columns: Vec<String> = columns.iter().map(|text| (*text).to_owned()).collect();
    columns.push(key.allowed.to_string());
    columns.push(upper(format!("{:?}", key.importance)));
    columns
}

fn scope_name(scope: Scope) -> &'static str {
    match scope {
        Scope::ReadOnly => "read-only",
        Scope::PerBroker => "per-broker",
        Scope::ClusterWide => "cluster-wide",
        Scope::Internal => "",
    }
}

#[test]
fn the_broker_table_is_kafkas() {
    let mut known = 0;
    for row in rows(BROKER_TABLE) {
        let key = table::broker_keys().get(row[0]).unwrap_or_else(|| panic!("{} is missing", row[0]));
        let mut ours = shown(key);
        ours.push((key.scope == Scope::Internal).to_string());
        ours.push(scope_name(key.scope).to_owned());
        ours.push(if key.scope == Scope::Internal { String::new() } else { key.sensitive().to_string() });
        ours.push(String::new());
        assert_eq!(ours, row, "{}", row[0]);
        known += 1;
    }
    let own = table::broker_keys().keys().filter(|name| name.starts_with("ottla.") || **name == "cluster.id").count();
    assert_eq!(table::broker_keys().len(), known + own, "every other key is Kafka's");
}

#[test]
fn the_topic_table_is_kafkas() {
    for row in rows(TOPIC_TABLE) {
        let key = table::topic_keys().get(row[0]).unwrap_or_else(|| panic!("{} is missing", row[0]));
        assert_eq!(shown(key), row[..5], "{}", row[0]);
        // Kafka shows one synonym; those that it does not show are times that have several.
        let synonym = key.synonyms.first().map_or("", |(name, _)| *name);
        let hidden = row[5].is_empty() || row[5] == "(not described)";
        assert!(synonym == row[5] || hidden, "{}: {synonym}", row[0]);
    }
    assert_eq!(table::topic_keys().len(), rows(TOPIC_TABLE).count());
}

#[test]
fn every_row_says_something_and_has_a_valid_default() {
    for key in table::broker_keys().values().chain(table::topic_keys().values()) {
        assert!(key.documentation.ends_with('.'), "{}", key.name);
        if let Preset::Text(text) = key.preset {
            assert!(key.parse(text).is_ok(), "{}={text}", key.name);
        }
    }
    for (name, text) in table::OWN_DEFAULTS {
        assert!(table::broker_keys()[name].parse(text).is_ok(), "{name}={text}");
    }
}

#[test]
fn a_topics_default_is_its_brokers() {
    let broker = BrokerConfig::default();
    for key in table::topic_keys().values() {
        let Some((name, factor)) = key.synonyms.last() else { continue };
        let default = table::broker_keys()[name].default_value().map(|value| match value {
            key::Value::Number(number) => key::Value::Number(number * factor),
            other => other,
        });
        assert_eq!(key.default_value(), default, "{}", key.name);
    }
    assert_eq!(TopicConfig::resolve(&BTreeMap::new(), &broker).retention_ms, 604_800_000);
}

#[test]
fn topic_values_are_refused_in_kafkas_words() {
    for row in rows(include_str!("kafka-4.3.1/topic-refusals.tsv")) {
        let (name, text) = row[0].split_once('=').expect("key=value");
        let ours = topic::validate(name, text).err().unwrap_or_default();
        assert_eq!(ours, row[1], "{}", row[0]);
    }
}

#[test]
fn topic_values_together_are_refused_in_kafkas_words() {
    let check = |pairs: &[(&str, &str)]| {
        let map = pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        topic::validate_all(&map, &BrokerConfig::default()).err().unwrap_or_default()
    };
    assert_eq!(check(&[("retention.ms", "-5"), ("foo", "1")]), "Unknown topic config name: foo");
    assert_eq!(
        check(&[("min.compaction.lag.ms", "10"), ("max.compaction.lag.ms", "5")]),
        "conflict topic config setting min.compaction.lag.ms (10) > max.compaction.lag.ms (5)"
    );
    assert_eq!(
        check(&[("remote.storage.enable", "true")]),
        "Tiered Storage functionality is disabled in the broker. Topic cannot be configured with remote log storage."
    );
    assert_eq!(check(&[("cleanup.policy", "compact"), ("retention.ms", "-1")]), "");
}

fn kafka_name(source: ConfigSource) -> &'static str {
    match source {
        ConfigSource::DynamicTopicConfig => "DYNAMIC_TOPIC_CONFIG",
        ConfigSource::StaticBrokerConfig => "STATIC_BROKER_CONFIG",
        ConfigSource::DefaultConfig => "DEFAULT_CONFIG",
    }
}

fn line(entry: &ConfigEntry) -> String {
    let synonyms: String = entry
        .synonyms
        .iter()
        .map(|s| format!("{}={}:{};", s.name, s.value.as_deref().unwrap_or("null"), kafka_name(s.source)))
        .collect();
    let value = entry.value.as_deref().unwrap_or("null");
    let (source, kind) = (kafka_name(entry.source), entry.config_type.name());
    format!("{}\t{value}\t{source}\t{kind}\t{}\t{}\t{synonyms}", entry.name, entry.read_only, entry.sensitive)
}

/// Kafka's line without what its feature eligible.leader.replicas.version adds: a dynamic `min.insync.replicas`.
fn without_elr(line: &str) -> String {
    let mut columns: Vec<&str> = line.split('\t').collect();
    let Some((_, rest)) = columns[6].split_once(":DYNAMIC_DEFAULT_BROKER_CONFIG;") else { return line.to_owned() };
    columns[6] = rest;
    columns[2] = if rest.contains(":STATIC_BROKER_CONFIG;") { "STATIC_BROKER_CONFIG" } else { "DEFAULT_CONFIG" };
    columns.join("\t")
}

#[test]
fn a_topic_is_described_as_kafka_describes_it() {
    let tuned_broker = loaded(&[
        ("log.retention.hours", "100"),
        ("log.roll.hours", "10"),
        ("log.flush.scheduler.interval.ms", "77"),
        ("log.segment.bytes", "2000000"),
        ("min.insync.replicas", "2"),
        ("log.roll.jitter.ms", "5"),
        ("log.cleanup.policy", "compact"),
        ("log.retention.minutes", "600"),
        ("message.max.bytes", "5000"),
        ("compression.type", "lz4"),
    ])
    .config;
    let tuned_topic = [
        ("retention.ms", "1000"),
        ("cleanup.policy", "compact,delete"),
        ("flush.ms", "5"),
        ("min.cleanable.dirty.ratio", "0.00001"),
        ("max.message.bytes", " 77 "),
        ("segment.ms", "99"),
        ("unclean.leader.election.enable", "TRUE"),
    ];
    let check = |own: &[(&str, &str)], broker: &BrokerConfig, kafka: &str| {
        let own = own.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        let ours: Vec<String> = topic::describe(&own, broker).iter().map(line).collect();
        let theirs: Vec<String> = kafka.lines().skip(1).map(without_elr).collect();
        assert_eq!(ours, theirs);
    };
    let fresh = BrokerConfig::default();
    check(&[], &fresh, include_str!("kafka-4.3.1/describe-fresh-topic.tsv"));
    check(&tuned_topic, &fresh, include_str!("kafka-4.3.1/describe-tuned-topic.tsv"));
    check(&[], &tuned_broker, include_str!("kafka-4.3.1/describe-fresh-topic-of-a-tuned-broker.tsv"));
    check(&tuned_topic, &tuned_broker, include_str!("kafka-4.3.1/describe-tuned-topic-of-a-tuned-broker.tsv"));
}

#[test]
fn milliseconds_go_before_minutes_and_minutes_before_hours() {
    let retention = |pairs: &[(&'static str, &'static str)]| {
        TopicConfig::resolve(&BTreeMap::new(), &loaded(pairs).config).retention_ms
    };
    let (hours, minutes, ms) =
        (("log.retention.hours", "2"), ("log.retention.minutes", "3"), ("log.retention.ms", "4"));
    assert_eq!(retention(&[hours]), 7_200_000);
    assert_eq!(retention(&[hours, minutes]), 180_000);
    assert_eq!(retention(&[hours, minutes, ms]), 4);
    assert_eq!(retention(&[("log.retention.hours", "-1")]), -1);
}

#[test]
fn the_interval_of_flushes_goes_before_the_schedulers() {
    let flush_ms =
        |pairs: &[(&'static str, &'static str)]| TopicConfig::resolve(&BTreeMap::new(), &loaded(pairs).config).flush_ms;
    let scheduler = ("log.flush.scheduler.interval.ms", "77");
    assert_eq!(flush_ms(&[]), i64::MAX);
    assert_eq!(flush_ms(&[scheduler]), 77);
    assert_eq!(flush_ms(&[scheduler, ("log.flush.interval.ms", "5")]), 5);
}

#[test]
fn an_internal_segment_size_replaces_the_public_one() {
    let own = BTreeMap::from([("internal.segment.bytes".to_owned(), "100".to_owned())]);
    assert_eq!(TopicConfig::resolve(&own, &BrokerConfig::default()).segment_bytes, 100);
}

#[test]
fn what_a_topic_asks_for_in_vain_is_named() {
    let idle = |pairs: &[(&str, &str)]| {
        topic::without_effect(&pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect())
    };
    assert_eq!(idle(&[("retention.ms", "7"), ("cleanup.policy", "delete")]), [] as [String; 0]);
    assert_eq!(idle(&[("cleanup.policy", "compact,delete")]), ["cleanup.policy=compact,delete"]);
    assert_eq!(
        idle(&[("min.compaction.lag.ms", "5"), ("unclean.leader.election.enable", "true")]),
        ["min.compaction.lag.ms=5", "unclean.leader.election.enable=true"]
    );
    assert_eq!(idle(&[("min.compaction.lag.ms", "0")]), [] as [String; 0], "the default asks for nothing");
}

#[test]
fn without_configuration_only_this_machine_is_served() {
    let Loaded { config, notices } = loaded(&[]);
    assert_eq!(notices, []);
    assert_eq!(config.node_id, crate::types::NodeId(1));
    assert_eq!(config.log_dirs, [Path::new("./data")]);
    let [listener] = &config.listeners[..] else { panic!("{:?}", config.listeners) };
    assert_eq!((&*listener.name, listener.host.as_deref(), listener.port), ("PLAINTEXT", Some("localhost"), 9092));
    let advertised = config.advertised("PLAINTEXT").expect("it is advertised");
    assert_eq!((advertised.host.as_str(), advertised.port), ("localhost", 9092));
    assert_eq!(config.queued_max_request_bytes, 256 << 20);
}

#[test]
fn broken_values_are_named_each() {
    let all = faults(&[("num.partitions", "0"), ("message.max.bytes", "x"), ("log.segment.bytes", "14")]);
    assert_eq!(
        all,
        [
            "Invalid value 14 for configuration log.segment.bytes: Value must be at least 1048576",
            "Invalid value x for configuration message.max.bytes: Not a number of type INT",
            "Invalid value 0 for configuration num.partitions: Value must be at least 1",
        ]
    );
}

#[test]
fn keys_that_contradict_each_other_are_refused_in_kafkas_words() {
    let check = |pairs: &[(&'static str, &'static str)], sentence: &str| {
        assert_eq!(faults(pairs), [sentence], "{pairs:?}");
    };
    let (node, voters) = ("node.id", "controller.quorum.voters");
    check(&[(node, "-1")], "Invalid value -1 for configuration node.id: Value must be at least 0");
    check(&[(node, "1"), ("broker.id", "2")], "You must set `node.id` to the same value as `broker.id`.");
    check(
        &[("process.roles", "")],
        "Configuration 'process.roles' must not be empty. Valid values include: [broker, controller]",
    );
    check(
        &[("process.roles", "foo")],
        "Invalid value foo for configuration process.roles: String must be one of: broker, controller",
    );
    check(
        &[("process.roles", "controller")],
        "process.roles=controller is not for this version: it runs one node alone, which is broker,controller",
    );
    check(
        &[(voters, "2@localhost:9093")],
        "If process.roles contains the 'controller' role, the node id 1 must be included in the set of voters controller.quorum.voters=[2]",
    );
    check(&[(voters, "1@a:1,2@b:1")], "controller.quorum.voters names 2 nodes; this version runs one node alone");
    check(&[("log.retention.ms", "0")], "log.retention.ms must be unlimited (-1) or, greater than or equal to 1");
    check(&[("log.retention.hours", "0")], "log.retention.ms must be unlimited (-1) or, greater than or equal to 1");
    check(&[("log.roll.ms", "0")], "log.roll.ms must be greater than or equal to 1");
    check(&[("log.dirs", "a,b")], "log.dirs names 2 directories; this version takes one");
    check(&[("log.dirs", "")], "Configuration 'log.dirs' must not be empty. Valid values include: any non-empty value");
    check(
        &[("offsets.topic.compression.codec", "9")],
        "offsets.topic.compression.codec: Unknown compression type id: 9",
    );
    check(
        &[("offsets.topic.segment.bytes", "65536")],
        "offsets.topic.segment.bytes: __consumer_offsets cannot be made with it: Invalid value 65536 for configuration segment.bytes: Value must be at least 1048576",
    );
    check(
        &[("offsets.topic.num.partitions", "9997")],
        "Invalid value 9997 for configuration offsets.topic.num.partitions: Value must be no more than 9996",
    );
    check(
        &[("offsets.topic.replication.factor", "2")],
        "offsets.topic.replication.factor=2 is not for this version: it runs one node alone, and no group would find its coordinator; set it to 1 or remove it",
    );
    for (key, value) in [
        ("offsets.topic.segment.bytes", "1048576"),
        ("offsets.topic.num.partitions", "9996"),
        ("offsets.topic.replication.factor", "1"),
    ] {
        assert_eq!(faults(&[(key, value)]), [""; 0], "{key}={value}");
    }
    check(
        &[("queued.max.request.bytes", "10")],
        "queued.max.request.bytes must be larger or equal to socket.request.max.bytes",
    );
    check(
        &[("max.connections.per.ip", "0")],
        "max.connections.per.ip can be set to zero only if max.connections.per.ip.overrides property is set.",
    );
    check(
        &[("max.connections.per.ip.overrides", "127.0.0.1")],
        "Error parsing configuration property 'max.connections.per.ip.overrides': `127.0.0.1` is not address:limit",
    );
    check(
        &[("group.coordinator.rebalance.protocols", "consumer")],
        "Disabling the 'classic' protocol is not supported.",
    );
    check(
        &[("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer")],
        "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer: this version does not have it, and running without it would not be what was asked; remove the key",
    );
    assert_eq!(faults(&[("authorizer.class.name", "")]), [""; 0]);
    assert_eq!(faults(&[("broker.id", "7"), (voters, "7@localhost:9093")]), [""; 0]);
}

const MAP: (&str, &str) = ("listener.security.protocol.map", "A:PLAINTEXT,B:PLAINTEXT,PLAINTEXT:PLAINTEXT,S:SSL");

#[test]
fn listeners_that_contradict_each_other_are_refused_in_kafkas_words() {
    let check = |pairs: &[(&'static str, &'static str)], sentence: &str| {
        assert_eq!(faults(pairs), [sentence], "{pairs:?}");
    };
    check(&[("listeners", "PLAINTEXT")], "Unable to parse a listener name from PLAINTEXT");
    check(
        &[("listeners", "PLAINTEXT://localhost")],
        "Error creating broker listeners from '[PLAINTEXT://localhost]': Unable to parse PLAINTEXT://localhost to a broker endpoint",
    );
    check(
        &[("listeners", "FOO://:1")],
        "Error creating broker listeners from '[FOO://:1]': No security protocol defined for listener FOO",
    );
    check(
        &[("listeners", "PLAINTEXT://a:1,PLAINTEXT://b:2")],
        "Error creating broker listeners from '[PLAINTEXT://a:1, PLAINTEXT://b:2]': Each listener must have a different name, listeners: [PLAINTEXT://a:1, PLAINTEXT://b:2]",
    );
    check(
        &[("listeners", "PLAINTEXT://:1,B://:1"), MAP],
        "Error creating broker listeners from '[PLAINTEXT://:1, B://:1]': Each listener must have a different port, listeners: [PLAINTEXT://:1, B://:1]",
    );
    check(
        &[("listeners", "PLAINTEXT://127.0.0.1:1,B://127.0.0.2:1"), MAP],
        "Error creating broker listeners from '[PLAINTEXT://127.0.0.1:1, B://127.0.0.2:1]': If you have two listeners on the same port then one needs to be IPv4 and the other IPv6, listeners: [PLAINTEXT://127.0.0.1:1, B://127.0.0.2:1], port: 1",
    );
    check(
        &[("listeners", "PLAINTEXT://:99999")],
        "Error creating broker listeners from '[PLAINTEXT://:99999]': the port of PLAINTEXT://:99999 is not between 0 and 65535",
    );
    check(
        &[("listeners", "PLAINTEXT://0.0.0.0:9092")],
        "advertised.listeners cannot use the nonroutable meta-address 0.0.0.0. Use a routable IP address.",
    );
    check(
        &[("listeners", "A://:1"), MAP],
        "inter.broker.listener.name must be a listener name defined in advertised.listeners. The valid options based on currently configured listeners are A",
    );
    check(
        &[("listeners", "PLAINTEXT://:1"), ("controller.listener.names", "CONTROLLER")],
        "controller.listener.names must only contain values appearing in the 'listeners' configuration when running the KRaft controller role",
    );
    check(
        &[("listeners", "CONTROLLER://:1"), ("controller.listener.names", "CONTROLLER")],
        "There must be at least one broker advertised listener. Perhaps all listeners appear in controller.listener.names?",
    );
    check(
        &[("listeners", "PLAINTEXT://:1"), ("advertised.listeners", "PLAINTEXT://x:1,B://x:2"), MAP],
        "advertised.listeners listener names must be equal to or a subset of the ones defined in listeners. Found PLAINTEXT,B. The valid options based on the current configuration are PLAINTEXT",
    );
    check(
        &[("inter.broker.listener.name", "FOO")],
        "Listener with name FOO defined in inter.broker.listener.name not found in listener.security.protocol.map.",
    );
    check(
        &[("inter.broker.listener.name", "PLAINTEXT"), ("security.inter.broker.protocol", "PLAINTEXT")],
        "Only one of inter.broker.listener.name and security.inter.broker.protocol should be set.",
    );
    check(
        &[("listener.security.protocol.map", "PLAINTEXT:FOO")],
        "Invalid security protocol `FOO` defined in listener.security.protocol.map",
    );
    check(&[("listeners", "PLAINTEXT://:1,S://:2"), MAP], "listener S wants SSL, which this version cannot serve");
}

#[test]
fn a_controller_listener_is_left_out_and_said_so() {
    let pairs = [
        ("listeners", "PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093"),
        ("controller.listener.names", "CONTROLLER"),
        ("advertised.listeners", "plaintext://Host:19092,CONTROLLER://localhost:9093,"),
    ];
    let Loaded { config, notices } = loaded(&pairs);
    assert_eq!(config.listeners.len(), 1);
    assert_eq!(config.advertised("PLAINTEXT").map(|e| (e.host.as_str(), e.port)), Some(("Host", 19092)));
    assert!(matches!(&notices[..], [Notice::Info(line)] if line.contains("CONTROLLER is not opened")), "{notices:?}");
}

#[test]
fn an_address_family_each_may_share_a_port() {
    let config = loaded(&[("listeners", "PLAINTEXT://127.0.0.1:1,B://[::1]:1"), MAP]).config;
    assert_eq!(config.listeners[1].host.as_deref(), Some("::1"));
}

#[test]
fn images_listen_where_they_advertise() {
    let mut settings = Settings::default();
    settings.set("advertised.listeners", "PLAINTEXT://outside:29092", Origin::Environment);
    let listeners = resolve(&settings, &Machine::default()).expect("it holds together").config.listeners;
    assert_eq!((listeners[0].host.as_deref(), listeners[0].port), (None, 29092));
    let config = loaded(&[("advertised.listeners", "PLAINTEXT://outside:29092")]).config;
    assert_eq!((config.listeners[0].host.as_deref(), config.listeners[0].port), (None, 9092));
}

#[test]
fn a_listener_on_every_interface_is_advertised_by_the_machines_name_and_warned_of() {
    let machine = Machine { hostname: "ox".to_owned(), ..Machine::default() };
    let Loaded { config, notices } =
        resolve(&settings(&[("listeners", "PLAINTEXT://:9092")]), &machine).expect("valid");
    assert_eq!(config.advertised_listeners[0].host, "ox");
    assert!(matches!(&notices[..], [Notice::Warning(line)] if line.starts_with("unsafe: ")), "{notices:?}");
}

#[test]
fn a_machine_that_does_not_overcommit_memory_is_warned_of() {
    let machine = Machine { strict_memory: true, ..Machine::default() };
    let notices = resolve(&settings(&[]), &machine).expect("valid").notices;
    assert!(matches!(&notices[..], [Notice::Warning(line)] if line.contains("not overcommitted")), "{notices:?}");
}

#[test]
fn names_that_mean_nothing_are_warned_of() {
    let check = |name: &'static str, text: &'static str, line: &str| {
        assert_eq!(loaded(&[(name, text)]).notices, [Notice::Warning(line.to_owned())]);
    };
    check("num.partitons", "3", "unknown key num.partitons (--override) is ignored; did you mean num.partitions?");
    check("wholly.different", "3", "unknown key wholly.different (--override) is ignored");
    check("zookeeper.connect", "x", "zookeeper.connect (--override) was removed in Kafka 4 and is ignored");
    check(
        "log.message.format.version",
        "3.0",
        "log.message.format.version (--override) was removed in Kafka 4 and is ignored",
    );
    check(
        "listener.name.a.ssl.key.password",
        "x",
        "listener.name.a.ssl.key.password (--override) is without effect in this version",
    );
    check("ssl.keystore.location", "x", "without effect in this version: ssl.keystore.location");
    check(
        "flush.messages",
        "1",
        "flush.messages (--override) is a topic's key and is ignored; for all topics: log.flush.interval.messages",
    );
    assert_eq!(loaded(&[("num.io.threads", "8"), ("log.cleaner.threads", "1")]).notices, []);
    let idle = Notice::Info("not needed here and without effect: num.io.threads".to_owned());
    assert_eq!(loaded(&[("num.io.threads", "16")]).notices, [idle]);
}

#[test]
fn a_topics_key_given_to_the_broker_is_warned_of_with_the_brokers_name_for_it() {
    for key in table::topic_keys().values().filter(|key| !table::broker_keys().contains_key(key.name)) {
        let notices = loaded(&[(key.name, "1")]).notices;
        let [Notice::Warning(line)] = &notices[..] else { panic!("{}: {notices:?}", key.name) };
        let broker = key.synonyms.first().map_or("set it for each topic", |(name, _)| *name);
        assert!(line.contains("is a topic's key") && line.ends_with(broker), "{line}");
    }
}

#[test]
fn what_the_readme_promises_of_stable_storage_is_one_key_for_the_broker_and_another_for_a_topic() {
    let readme = include_str!("../../README.md");
    assert!(readme.contains("With `log.flush.interval.messages=1` on the broker, or `flush.messages=1` on a topic"));
    let broker = loaded(&[("log.flush.interval.messages", "1")]).config;
    assert_eq!(TopicConfig::resolve(&BTreeMap::new(), &broker).flush_messages, 1);
    let topic = BTreeMap::from([("flush.messages".to_owned(), "1".to_owned())]);
    assert_eq!(TopicConfig::resolve(&topic, &loaded(&[]).config).flush_messages, 1);
    assert_eq!(loaded(&[("log.flush.interval.messages", "1")]).notices, []);
}

#[test]
fn secrets_are_not_kept() {
    let config = loaded(&[("ssl.key.password", "hush"), ("listener.name.a.sasl.jaas.config", "hush")]).config;
    assert!(!format!("{config:?}").contains("hush"));
    assert!(table::broker_keys()["ssl.key.password"].sensitive());
    assert_eq!(Kind::Password.wire(), 9);
}

/// `config/broker.yaml` as the table has it.
fn broker_yaml() -> String {
    let is_internal = |key: &&Key| key.support == Support::Honoured && key.scope == Scope::Internal;
    let internal: Vec<&str> =
        table::SUBJECTS.iter().flat_map(|(_, keys)| keys.iter().filter(is_internal)).map(|key| key.name).collect();
    let mut text = format!(
        "# Every key that this version of Ottla honours, with its default, ready to be uncommented. The names are Kafka's\n\
         # (server.properties). A file may be YAML, as this one, or Java properties; KAFKA_* variables go before it, and\n\
         # --override key=value before both. Honoured and not listed are keys that are internal in Kafka:\n# {}.\n",
        internal.join(", ")
    );
    for (subject, keys) in table::SUBJECTS {
        let honoured: Vec<&Key> =
            keys.iter().filter(|key| key.support == Support::Honoured && key.scope != Scope::Internal).collect();
        if honoured.is_empty() {
            continue;
        }
        text.push_str(&format!("\n# --- {subject}\n"));
        for key in honoured {
            let default = match table::effective_default(key) {
                None => String::new(),
                Some("") => " \"\"".to_owned(),
                Some(default) => format!(" {default}"),
            };
            text.push_str(&format!("\n# {}\n#{}:{default}\n", key.documentation, key.name));
        }
    }
    text
}

#[test]
fn broker_yaml_is_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/broker.yaml");
    if std::env::var_os("OTTLA_WRITE").is_some() {
        std::fs::write(&path, broker_yaml()).expect("config/broker.yaml can be written");
    }
    let file = std::fs::read_to_string(&path).expect("config/broker.yaml is there");
    assert!(file == broker_yaml(), "config/broker.yaml is old: run this test with OTTLA_WRITE=1");
}

#[test]
fn broker_yaml_uncommented_changes_nothing() {
    let text: String = broker_yaml()
        .lines()
        .filter_map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')))
        // Three defaults stand for "not set", which their text does not.
        .filter(|line| {
            let names = ["broker.id", "queued.max.request.bytes", "offsets.topic.replication.factor"];
            !names.iter().any(|name| line.starts_with(name))
        })
        .map(|line| format!("{line}\n"))
        .collect();
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("broker.yaml");
    std::fs::write(&path, text).expect("the file can be written");
    let mut config = source::load(Some(&path), [], &[]).expect("it is valid").config;
    config.explicit.clear();
    assert_eq!(config, source::load(None, [], &[]).expect("it is valid").config);
}
