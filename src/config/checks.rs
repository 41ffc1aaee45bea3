//! Pure. What keys say of each other, as `KafkaConfig.validateValues` and in its words; and what one node alone cannot do.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::topic;
use super::values::Values;
use crate::types::NodeId;

/// The most partitions that `__consumer_offsets` can be made with: a topic is made in one entry of 10,000 records, and this
/// one has its name and three settings beside its partitions.
pub const MOST_OFFSETS_PARTITIONS: i32 = 9_996;

/// Every fault that takes more than one key to see, but those of listeners.
pub(super) fn check(values: &Values) -> Vec<String> {
    let mut faults = Vec::new();
    node(values, &mut faults);
    logs(values, &mut faults);
    offsets_topic(values, &mut faults);
    replication(values, &mut faults);
    connections(values, &mut faults);
    faults
}

fn require(holds: bool, sentence: &str, faults: &mut Vec<String>) {
    if !holds {
        faults.push(sentence.to_owned());
    }
}

/// `node.id`, or its older name.
pub(super) fn node_id(values: &Values) -> NodeId {
    let older = values.is_set("broker.id") && !values.is_set("node.id");
    NodeId(values.read(if older { "broker.id" } else { "node.id" }))
}

fn node(values: &Values, faults: &mut Vec<String>) {
    let id = node_id(values);
    let older: i32 = values.read("broker.id");
    let same = !values.is_set("broker.id") || older == id.get();
    require(same, "You must set `node.id` to the same value as `broker.id`.", faults);
    if id.get() < 0 {
        faults.push(format!("Invalid value {id} for configuration node.id: Value must be at least 0"));
    }
    let roles: Vec<String> = values.read("process.roles");
    if roles.len() != 2 {
        faults.push(format!(
            "process.roles={} is not for this version: it runs one node alone, which is broker,controller",
            roles.join(",")
        ));
    }
    match voters(values) {
        Err(sentence) => faults.push(sentence),
        Ok(voters) if voters.is_empty() => {}
        Ok(voters) if !voters.contains(&id.get()) => faults.push(format!(
            "If process.roles contains the 'controller' role, the node id {id} must be included in the set of voters \
             controller.quorum.voters={voters:?}"
        )),
        Ok(voters) if voters.len() > 1 => faults
            .push(format!("controller.quorum.voters names {} nodes; this version runs one node alone", voters.len())),
        Ok(_) => {}
    }
}

fn voters(values: &Values) -> Result<Vec<i32>, String> {
    let entries: Vec<String> = values.read("controller.quorum.voters");
    let id = |entry: &String| {
        let (id, place) = entry.split_once('@')?;
        let (host, port) = place.rsplit_once(':')?;
        port.parse::<u16>().ok().filter(|_| !host.is_empty())?;
        id.trim().parse::<i32>().ok()
    };
    entries
        .iter()
        .map(|entry| {
            id(entry).ok_or_else(|| {
                format!(
                    "Failed to parse {entry} for the configuration controller.quorum.voters. Each entry should be in \
                     the form `{{id}}@{{host}}:{{port}}`."
                )
            })
        })
        .collect()
}

/// `log.dirs`, or `log.dir`.
pub(super) fn log_dirs(values: &Values) -> Vec<PathBuf> {
    let key = if values.is_set("log.dirs") { "log.dirs" } else { "log.dir" };
    values.read::<Vec<String>>(key).into_iter().map(PathBuf::from).collect()
}

fn logs(values: &Values, faults: &mut Vec<String>) {
    let roll = values.read::<Option<i64>>("log.roll.ms");
    require(roll.is_none_or(|ms| ms >= 1), "log.roll.ms must be greater than or equal to 1", faults);
    let jitter = values.read::<Option<i64>>("log.roll.jitter.ms");
    require(jitter.is_none_or(|ms| ms >= 0), "log.roll.jitter.ms must be greater than or equal to 0", faults);
    let minutes = || values.read::<Option<i64>>("log.retention.minutes");
    let retention = values
        .read::<Option<i64>>("log.retention.ms")
        .or_else(minutes)
        .unwrap_or_else(|| values.read("log.retention.hours"));
    let sentence = "log.retention.ms must be unlimited (-1) or, greater than or equal to 1";
    require(retention != 0, sentence, faults);
    let threads = values.read::<i64>("log.cleaner.threads").max(1);
    let room = values.read::<i64>("log.cleaner.dedupe.buffer.size") / threads > 1 << 20;
    require(room, "log.cleaner.dedupe.buffer.size must be at least 1MB per cleaner thread.", faults);
    let dirs = log_dirs(values);
    if dirs.len() > 1 {
        faults.push(format!("log.dirs names {} directories; this version takes one", dirs.len()));
    }
}

/// `__consumer_offsets` is made at the first need, long after the start: what no topic can be made with must be told now, or
/// no group would ever find its coordinator.
fn offsets_topic(values: &Values, faults: &mut Vec<String>) {
    let codec: i32 = values.read("offsets.topic.compression.codec");
    if !(0..=4).contains(&codec) {
        faults.push(format!("offsets.topic.compression.codec: Unknown compression type id: {codec}"));
    }
    let segment: i32 = values.read("offsets.topic.segment.bytes");
    if let Err(why) = topic::validate("segment.bytes", &segment.to_string()) {
        faults.push(format!("offsets.topic.segment.bytes: __consumer_offsets cannot be made with it: {why}"));
    }
    let partitions: i32 = values.read("offsets.topic.num.partitions");
    if partitions > MOST_OFFSETS_PARTITIONS {
        faults.push(format!(
            "Invalid value {partitions} for configuration offsets.topic.num.partitions: Value must be no more than \
             {MOST_OFFSETS_PARTITIONS}"
        ));
    }
    let factor: i16 = values.read("offsets.topic.replication.factor");
    if values.is_set("offsets.topic.replication.factor") && factor > 1 {
        faults.push(format!(
            "offsets.topic.replication.factor={factor} is not for this version: it runs one node alone, and no group \
             would find its coordinator; set it to 1 or remove it"
        ));
    }
}

fn replication(values: &Values, faults: &mut Vec<String>) {
    let wait: i64 = values.read("replica.fetch.wait.max.ms");
    require(
        wait <= values.read("replica.socket.timeout.ms"),
        "replica.socket.timeout.ms should always be at least replica.fetch.wait.max.ms to prevent unnecessary socket \
         timeouts",
        faults,
    );
    require(
        wait <= values.read("replica.lag.time.max.ms"),
        "replica.fetch.wait.max.ms should always be less than or equal to replica.lag.time.max.ms to prevent frequent \
         changes in ISR",
        faults,
    );
    let protocols: Vec<String> = values.read("group.coordinator.rebalance.protocols");
    let classic = protocols.iter().any(|name| name == "classic");
    require(classic, "Disabling the 'classic' protocol is not supported.", faults);
}

fn connections(values: &Values, faults: &mut Vec<String>) {
    let queued: i64 = values.read("queued.max.request.bytes");
    let request: i64 = values.read("socket.request.max.bytes");
    require(
        queued <= 0 || queued >= request,
        "queued.max.request.bytes must be larger or equal to socket.request.max.bytes",
        faults,
    );
    match connection_overrides(values) {
        Err(sentence) => faults.push(sentence),
        Ok(overrides) => require(
            values.read::<i32>("max.connections.per.ip") > 0 || !overrides.is_empty(),
            "max.connections.per.ip can be set to zero only if max.connections.per.ip.overrides property is set.",
            faults,
        ),
    }
    let idle: i64 = values.read("connections.max.idle.ms");
    let delay: i64 = values.read("connection.failed.authentication.delay.ms");
    if idle >= 0 && delay >= idle {
        faults.push(format!(
            "connection.failed.authentication.delay.ms={delay} should always be less than \
             connections.max.idle.ms={idle} to prevent failed authentication responses from timing out"
        ));
    }
}

/// `max.connections.per.ip.overrides`: `host:limit` between commas; the last colon parts them, so that IPv6 works.
pub(super) fn connection_overrides(values: &Values) -> Result<BTreeMap<String, i32>, String> {
    const KEY: &str = "max.connections.per.ip.overrides";
    let text: String = values.read(KEY);
    let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let parsed = pair.rsplit_once(':').and_then(|(host, limit)| {
                let limit = limit.trim().parse::<i32>().ok().filter(|limit| *limit >= 0)?;
                Some((host.trim().trim_matches(['[', ']']).to_owned(), limit)).filter(|(host, _)| !host.is_empty())
            });
            parsed.ok_or_else(|| format!("Error parsing configuration property '{KEY}': `{pair}` is not address:limit"))
        })
        .collect()
}
