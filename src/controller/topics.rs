//! Pure. Which topics come and go: requests judged against an image, with Kafka's codes and Kafka's sentences.
//!
//! A decision is records and an answer. Ids and the placement's chance are drawn by the shell and come in with the
//! request, so that a decision can be replayed. Nothing here changes an image or looks at the world.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::apply::topic_records;
use super::image::{MetadataImage, NodeIds, PartitionImage, TopicImage};
use super::placement;
use super::record::{Record, RemoveTopicRecord};
use crate::error::{ErrorCode, Refusal};
use crate::types::{LeaderEpoch, NodeId, PartitionEpoch, TopicId};

/// "Use the default", as `-1` on the wire.
pub const DEFAULT: i32 = -1;
/// What one request may ask for, in partitions as in records (Kafka's `MAX_PARTITIONS_PER_BATCH`).
const MAX_PARTITIONS_PER_REQUEST: i64 = 10_000;
const MAX_RECORDS_PER_REQUEST: usize = 10_000;
/// The longest name of a topic.
const MAX_NAME_LENGTH: usize = 249;
/// Kafka's own metadata log: never a topic of clients.
const CLUSTER_METADATA: &str = "__cluster_metadata";

/// A topic that somebody wants.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// How many partitions; [`DEFAULT`] for `num.partitions`, or when there are assignments.
    pub partitions: i32,
    /// How many replicas; [`DEFAULT`] for `default.replication.factor`, or when there are assignments.
    pub replication_factor: i16,
    /// Partition number and brokers, when the client wants to say so.
    pub assignments: Vec<(i32, Vec<NodeId>)>,
    /// Settings, as the client wrote them.
    pub configs: Vec<(String, Option<String>)>,
}

impl NewTopic {
    /// A topic with the defaults.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            partitions: DEFAULT,
            replication_factor: -1,
            assignments: Vec::new(),
            configs: Vec::new(),
        }
    }
}

/// A check of a topic's settings as a whole.
pub type Validate = Box<dyn Fn(&BTreeMap<String, String>) -> Result<(), String> + Send + Sync>;

/// What a request needs besides the image.
pub struct Rules {
    /// `num.partitions`.
    pub partitions: i32,
    /// `default.replication.factor`.
    pub replication_factor: i16,
    /// Checks a topic's settings; the sentence says what is wrong.
    pub validate_configs: Validate,
}

/// What the shell drew for a request.
pub struct Chance {
    /// One identity for each topic of the request, in its order.
    pub ids: Vec<TopicId>,
    /// Where placement starts.
    pub placement: u64,
}

/// Outcomes, one for each topic of the request that has an answer, in order: the name, and what became of it.
pub type Answers<T> = Vec<(String, Result<T, Refusal>)>;

/// Judges a request to create topics. Names that stand there twice are answered once, at the end.
pub fn create(
    image: &MetadataImage,
    topics: &[NewTopic],
    rules: &Rules,
    chance: &Chance,
) -> (Vec<Record>, Answers<Arc<TopicImage>>) {
    assert_eq!(topics.len(), chance.ids.len(), "every topic needs an identity");
    let twice = duplicates(topics.iter().map(|topic| topic.name.as_str()));
    let wanted: Vec<_> =
        topics.iter().zip(&chance.ids).filter(|(topic, _)| !twice.contains(topic.name.as_str())).collect();
    let too_many = |sentence: &str, answers: &mut Answers<_>| {
        let refusal = Refusal::new(ErrorCode::POLICY_VIOLATION, sentence);
        *answers = wanted.iter().map(|(topic, _)| (topic.name.clone(), Err(refusal.clone()))).collect();
    };

    let mut records = Vec::new();
    let mut answers = Answers::new();
    if wanted.iter().map(|(topic, _)| partitions_asked(topic, rules)).sum::<i64>() > MAX_PARTITIONS_PER_REQUEST {
        too_many("Excessively large number of partitions per request.", &mut answers);
    } else {
        for (topic, id) in &wanted {
            let answer = create_one(image, topic, **id, rules, chance.placement);
            if let Ok(made) = &answer {
                topic_records(made, &mut records);
            }
            answers.push((topic.name.clone(), answer));
        }
        if records.len() > MAX_RECORDS_PER_REQUEST {
            records.clear();
            too_many("Unable to perform excessively large batch operation.", &mut answers);
        }
    }
    let duplicate = Refusal::new(ErrorCode::INVALID_REQUEST, "Duplicate topic name.");
    answers.extend(twice.into_iter().map(|name| (name.to_owned(), Err(duplicate.clone()))));
    (records, answers)
}

fn partitions_asked(topic: &NewTopic, rules: &Rules) -> i64 {
    if topic.assignments.is_empty() {
        let count = if topic.partitions == DEFAULT { rules.partitions } else { topic.partitions };
        i64::from(count.max(0))
    } else {
        i64::try_from(topic.assignments.len()).unwrap_or(i64::MAX)
    }
}

fn duplicates<'a>(names: impl Iterator<Item = &'a str>) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    names.filter(|name| !seen.insert(*name)).collect()
}

fn create_one(
    image: &MetadataImage,
    topic: &NewTopic,
    id: TopicId,
    rules: &Rules,
    chance: u64,
) -> Result<Arc<TopicImage>, Refusal> {
    if topic.name == CLUSTER_METADATA {
        let sentence = format!("Creation of internal topic {CLUSTER_METADATA} is prohibited.");
        return Err(Refusal::new(ErrorCode::INVALID_REQUEST, sentence));
    }
    validate_name(&topic.name)?;
    if image.topic(&topic.name).is_some() {
        let sentence = format!("Topic '{}' already exists.", topic.name);
        return Err(Refusal::new(ErrorCode::TOPIC_ALREADY_EXISTS, sentence));
    }
    if let Some(other) = image.colliding(&topic.name) {
        let sentence = format!("Topic '{}' collides with existing topic: {other}", topic.name);
        return Err(Refusal::new(ErrorCode::INVALID_TOPIC_EXCEPTION, sentence));
    }
    let configs = configs(topic, rules)?;
    let replicas =
        if topic.assignments.is_empty() { placed(image, topic, rules, chance)? } else { assigned(image, topic)? };
    let partitions = replicas.into_iter().map(|replicas| partition(image, replicas)).collect();
    Ok(Arc::new(TopicImage { id, name: topic.name.as_str().into(), partitions, configs: Arc::new(configs) }))
}

/// Kafka's rule for names of topics.
pub fn validate_name(name: &str) -> Result<(), Refusal> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let wrong = if name.is_empty() {
        "the empty string is not allowed".to_owned()
    } else if name == "." || name == ".." {
        format!("'{name}' is not allowed")
    } else if name.encode_utf16().count() > MAX_NAME_LENGTH {
        format!("the length of '{name}' is longer than the max allowed length {MAX_NAME_LENGTH}")
    } else if !name.bytes().all(legal) {
        format!("'{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'")
    } else {
        return Ok(());
    };
    Err(Refusal::new(ErrorCode::INVALID_TOPIC_EXCEPTION, format!("Topic name is invalid: {wrong}")))
}

fn configs(topic: &NewTopic, rules: &Rules) -> Result<BTreeMap<String, String>, Refusal> {
    let null: Vec<_> = topic.configs.iter().filter(|(_, value)| value.is_none()).map(|(key, _)| key.as_str()).collect();
    if !null.is_empty() {
        let sentence = format!("Null value not supported for topic configs: {}", null.join(","));
        return Err(Refusal::new(ErrorCode::INVALID_CONFIG, sentence));
    }
    let configs =
        topic.configs.iter().filter_map(|(key, value)| Some((key.clone(), value.clone()?))).collect::<BTreeMap<_, _>>();
    (rules.validate_configs)(&configs).map_err(|sentence| Refusal::new(ErrorCode::INVALID_CONFIG, sentence))?;
    Ok(configs)
}

fn placed(image: &MetadataImage, topic: &NewTopic, rules: &Rules, chance: u64) -> Result<Vec<NodeIds>, Refusal> {
    if topic.replication_factor < -1 || topic.replication_factor == 0 {
        let sentence = "Replication factor must be larger than 0, or -1 to use the default value.";
        return Err(Refusal::new(ErrorCode::INVALID_REPLICATION_FACTOR, sentence));
    }
    if topic.partitions < DEFAULT || topic.partitions == 0 {
        let sentence = "Number of partitions was set to an invalid non-positive value.";
        return Err(Refusal::new(ErrorCode::INVALID_PARTITIONS, sentence));
    }
    let partitions = if topic.partitions == DEFAULT { rules.partitions } else { topic.partitions };
    let factor = if topic.replication_factor == -1 { rules.replication_factor } else { topic.replication_factor };
    placement::place(image.brokers.values().map(|broker| &**broker), partitions, factor, chance).map_err(|why| {
        let sentence = format!("Unable to replicate the partition {factor} time(s): {why}");
        Refusal::new(ErrorCode::INVALID_REPLICATION_FACTOR, sentence)
    })
}

fn assigned(image: &MetadataImage, topic: &NewTopic) -> Result<Vec<NodeIds>, Refusal> {
    let invalid = |sentence: String| Refusal::new(ErrorCode::INVALID_REPLICA_ASSIGNMENT, sentence);
    let both = |what: &str| {
        let sentence = format!("A manual partition assignment was specified, but {what} was not set to -1.");
        Refusal::new(ErrorCode::INVALID_REQUEST, sentence)
    };
    if topic.replication_factor != -1 {
        return Err(both("replication factor"));
    }
    if topic.partitions != DEFAULT {
        return Err(both("numPartitions"));
    }
    let mut chosen: BTreeMap<i32, NodeIds> = BTreeMap::new();
    let mut factor = None;
    for (index, brokers) in &topic.assignments {
        if chosen.contains_key(index) {
            return Err(invalid(format!("Found multiple manual partition assignments for partition {index}")));
        }
        assignment(image, brokers, factor).map_err(invalid)?;
        factor = Some(brokers.len());
        if !brokers.iter().any(|id| serving(image, *id)) {
            return Err(invalid(format!(
                "All brokers specified in the manual partition assignment for partition {index} are fenced or in \
                 controlled shutdown."
            )));
        }
        chosen.insert(*index, brokers.iter().copied().collect());
    }
    if !chosen.keys().copied().eq(0..i32::try_from(chosen.len()).unwrap_or(i32::MAX)) {
        return Err(invalid("partitions should be a consecutive 0-based integer sequence".into()));
    }
    Ok(chosen.into_values().collect())
}

fn assignment(image: &MetadataImage, brokers: &[NodeId], factor: Option<usize>) -> Result<(), String> {
    let said = "The manual partition assignment includes";
    if brokers.is_empty() {
        return Err(format!("{said} an empty replica list."));
    }
    let mut sorted = brokers.to_vec();
    sorted.sort_unstable();
    for (at, id) in sorted.iter().enumerate() {
        if !image.brokers.contains_key(id) {
            return Err(format!("{said} broker {id}, but no such broker is registered."));
        }
        if at > 0 && sorted[at - 1] == *id {
            return Err(format!("{said} the broker {id} more than once."));
        }
    }
    match factor {
        Some(factor) if factor != brokers.len() => Err(format!(
            "{said} a partition with {} replica(s), but this is not consistent with previous partitions, which have \
             {factor} replica(s).",
            brokers.len()
        )),
        _ => Ok(()),
    }
}

fn serving(image: &MetadataImage, id: NodeId) -> bool {
    image.brokers.get(&id).is_some_and(|broker| !broker.fenced)
}

fn partition(image: &MetadataImage, replicas: NodeIds) -> PartitionImage {
    let isr: NodeIds = replicas.iter().copied().filter(|id| serving(image, *id)).collect();
    PartitionImage {
        leader: isr.first().copied().unwrap_or(NodeId::NONE),
        isr,
        replicas,
        leader_epoch: LeaderEpoch::ZERO,
        partition_epoch: PartitionEpoch(0),
    }
}

/// How a request names a topic to delete. At most one of the two should be there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicToDelete {
    /// By its name.
    pub name: Option<String>,
    /// By its identity; `TopicId::ZERO` when not given.
    pub id: TopicId,
}

/// What became of a topic that was to be deleted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeleteAnswer {
    /// Its name, as far as the client may know it.
    pub name: Option<String>,
    /// Its identity, or zero.
    pub id: TopicId,
    /// The outcome.
    pub outcome: Result<(), Refusal>,
}

/// Judges a request to delete topics.
pub fn delete(image: &MetadataImage, topics: &[TopicToDelete]) -> (Vec<Record>, Vec<DeleteAnswer>) {
    let by_name = topics.iter().filter(|topic| topic.id == TopicId::ZERO).filter_map(|topic| topic.name.as_deref());
    let names_twice = duplicates(by_name.clone());
    let names = by_name.collect();
    let mut ids = BTreeSet::new();
    let by_id = topics.iter().filter(|topic| topic.name.is_none() && topic.id != TopicId::ZERO);
    let ids_twice: BTreeSet<_> = by_id.clone().map(|topic| topic.id).filter(|id| !ids.insert(*id)).collect();

    let mut judge = Deletion { image, records: Vec::new(), answers: Vec::new(), ids, names, told: BTreeSet::new() };
    for topic in topics {
        match (topic.name.as_deref(), topic.id) {
            (None, TopicId::ZERO) => judge.invalid(None, topic.id, "Neither topic name nor id were specified."),
            (Some(_), id) if id != TopicId::ZERO => {
                judge.invalid(topic.name.as_deref(), id, "You may not specify both topic name and topic id.");
            }
            (Some(name), _) if names_twice.contains(name) => judge.twice(Some(name), TopicId::ZERO),
            (None, id) if ids_twice.contains(&id) => judge.twice(None, id),
            (Some(name), _) => judge.by_name(name),
            (None, id) => judge.by_id(id),
        }
    }
    (judge.records, judge.answers)
}

struct Deletion<'a> {
    image: &'a MetadataImage,
    records: Vec<Record>,
    answers: Vec<DeleteAnswer>,
    /// Identities that stand in the request alone.
    ids: BTreeSet<TopicId>,
    /// Names that stand in the request alone.
    names: BTreeSet<&'a str>,
    /// What was already answered as standing there twice.
    told: BTreeSet<(Option<String>, TopicId)>,
}

impl Deletion<'_> {
    fn answer(&mut self, name: Option<&str>, id: TopicId, outcome: Result<(), Refusal>) {
        self.answers.push(DeleteAnswer { name: name.map(Into::into), id, outcome });
    }

    fn invalid(&mut self, name: Option<&str>, id: TopicId, sentence: &str) {
        self.answer(name, id, Err(Refusal::new(ErrorCode::INVALID_REQUEST, sentence)));
    }

    fn twice(&mut self, name: Option<&str>, id: TopicId) {
        if self.told.insert((name.map(Into::into), id)) {
            let sentence = if name.is_some() { "Duplicate topic name." } else { "Duplicate topic id." };
            self.invalid(name, id, sentence);
        }
    }

    fn by_name(&mut self, name: &str) {
        match self.image.topic(name) {
            None => {
                let sentence = "This server does not host this topic-partition.";
                self.answer(
                    Some(name),
                    TopicId::ZERO,
                    Err(Refusal::new(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, sentence)),
                );
            }
            Some(topic) if self.ids.contains(&topic.id) => {
                let sentence = "The provided topic name maps to an ID that was already supplied.";
                self.invalid(Some(name), topic.id, sentence);
            }
            Some(topic) => self.remove(topic),
        }
    }

    /// An identity is given. When the same request also gives that topic's name, the name's answer says so and
    /// nothing is deleted.
    fn by_id(&mut self, id: TopicId) {
        let Some(topic) = self.image.topic_by_id(id) else {
            let refusal = Refusal::new(ErrorCode::UNKNOWN_TOPIC_ID, "This server does not host this topic ID.");
            return self.answer(None, id, Err(refusal));
        };
        if !self.names.contains(&*topic.name) {
            self.remove(topic);
        }
    }

    fn remove(&mut self, topic: &TopicImage) {
        self.records.push(Record::RemoveTopic(RemoveTopicRecord { id: topic.id }));
        self.answer(Some(&topic.name), topic.id, Ok(()));
    }
}

#[cfg(test)]
#[path = "topics_tests.rs"]
mod tests;
