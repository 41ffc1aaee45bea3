//! Claims about which topics come and go. The sentences are Kafka 4.3.1's, read off a running one.

use super::*;
use crate::controller::apply::apply;
use crate::controller::image::BrokerRegistration;

fn checked(configs: &BTreeMap<String, String>) -> Result<(), String> {
    match configs.keys().find(|key| *key != "retention.ms") {
        Some(key) => Err(format!("Unknown topic config name: {key}")),
        None => Ok(()),
    }
}

fn rules() -> Rules {
    Rules { partitions: 2, replication_factor: 1, validate_configs: Box::new(checked) }
}

fn image_with(topics: &[&str]) -> MetadataImage {
    let broker = |id: i32, fenced| {
        Record::RegisterBroker(BrokerRegistration {
            id: NodeId(id),
            epoch: 0,
            incarnation: uuid::Uuid::nil(),
            endpoints: Vec::new(),
            rack: None,
            fenced,
            log_dirs: Vec::new(),
        })
    };
    let image = apply(&MetadataImage::default(), 1, &[broker(1, false), broker(3, true)]);
    let wanted: Vec<_> = topics.iter().map(|name| NewTopic::named(*name)).collect();
    let (records, _) = create(&image, &wanted, &rules(), &chance(topics.len(), 100));
    apply(&image, 2, &records)
}

fn id(number: u128) -> TopicId {
    TopicId(uuid::Uuid::from_u128(number))
}

fn chance(count: usize, first: u128) -> Chance {
    Chance { ids: (first..).take(count).map(id).collect(), placement: 0 }
}

fn refusal(image: &MetadataImage, topic: NewTopic) -> (ErrorCode, String) {
    let (records, answers) = create(image, &[topic], &rules(), &chance(1, 900));
    assert!(records.is_empty(), "a refused topic leaves no record");
    let refusal = answers.into_iter().next().unwrap().1.unwrap_err();
    (refusal.code, refusal.message.unwrap())
}

fn assigned_to(assignments: &[(i32, &[i32])]) -> NewTopic {
    let assignments =
        assignments.iter().map(|(index, ids)| (*index, ids.iter().copied().map(NodeId).collect())).collect();
    NewTopic { assignments, ..NewTopic::named("t") }
}

#[test]
fn a_topic_gets_the_defaults_and_the_identity_that_was_drawn() {
    let image = image_with(&[]);
    let (records, answers) = create(&image, &[NewTopic::named("t")], &rules(), &chance(1, 7));
    let made = answers[0].1.as_ref().unwrap();
    let image = apply(&image, 3, &records);
    assert_eq!(image.topic("t").unwrap(), made, "the answer is what the records say");
    assert_eq!((made.id, made.partitions.len(), made.replication_factor()), (id(7), 2, 1));
    let partition = &made.partitions[1];
    assert_eq!((partition.leader, partition.isr.to_vec()), (NodeId(1), vec![NodeId(1)]));
}

#[test]
fn one_bad_topic_does_not_spoil_its_neighbours() {
    let image = image_with(&["there"]);
    let wanted = ["a", "there", "b"].map(NewTopic::named);
    let (records, answers) = create(&image, &wanted, &rules(), &chance(3, 7));
    let ok: Vec<_> = answers.iter().map(|(name, outcome)| (name.as_str(), outcome.is_ok())).collect();
    assert_eq!(ok, [("a", true), ("there", false), ("b", true)]);
    assert_eq!(apply(&image, 3, &records).topics().len(), 3);
}

#[test]
fn a_name_given_twice_is_refused_once_and_last() {
    let wanted = ["b", "a", "b", "b"].map(NewTopic::named);
    let (_, answers) = create(&image_with(&[]), &wanted, &rules(), &chance(4, 7));
    assert_eq!(answers.len(), 2);
    assert_eq!((answers[0].0.as_str(), answers[0].1.is_ok()), ("a", true));
    let twice = Refusal::new(ErrorCode::INVALID_REQUEST, "Duplicate topic name.");
    assert_eq!(answers[1], ("b".into(), Err(twice)));
}

#[test]
fn names_are_judged_as_kafka_judges_them() {
    let image = image_with(&[]);
    let said = |name: &str| {
        let (code, sentence) = refusal(&image, NewTopic::named(name));
        assert_eq!(code, ErrorCode::INVALID_TOPIC_EXCEPTION);
        sentence
    };
    assert_eq!(said(""), "Topic name is invalid: the empty string is not allowed");
    assert_eq!(said(".."), "Topic name is invalid: '..' is not allowed");
    assert_eq!(
        said("a/b"),
        "Topic name is invalid: 'a/b' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
    );
    assert!(said(&"x".repeat(250)).ends_with("' is longer than the max allowed length 249"));
    assert!(validate_name(&"x".repeat(249)).is_ok());
    assert!(said("ä").starts_with("Topic name is invalid: 'ä' contains"));
}

#[test]
fn an_existing_name_is_refused_before_a_colliding_one() {
    let image = image_with(&["t.x"]);
    assert_eq!(
        refusal(&image, NewTopic::named("t.x")),
        (ErrorCode::TOPIC_ALREADY_EXISTS, "Topic 't.x' already exists.".into())
    );
    assert_eq!(
        refusal(&image, NewTopic::named("t_x")),
        (ErrorCode::INVALID_TOPIC_EXCEPTION, "Topic 't_x' collides with existing topic: t.x".into())
    );
}

#[test]
fn the_log_of_kafkas_own_metadata_is_no_topic() {
    assert_eq!(
        refusal(&image_with(&[]), NewTopic::named(CLUSTER_METADATA)),
        (ErrorCode::INVALID_REQUEST, "Creation of internal topic __cluster_metadata is prohibited.".into())
    );
}

#[test]
fn counts_below_one_are_refused() {
    let image = image_with(&[]);
    for partitions in [0, -2] {
        assert_eq!(
            refusal(&image, NewTopic { partitions, ..NewTopic::named("t") }),
            (ErrorCode::INVALID_PARTITIONS, "Number of partitions was set to an invalid non-positive value.".into())
        );
    }
    for replication_factor in [0, -2] {
        assert_eq!(
            refusal(&image, NewTopic { replication_factor, partitions: 0, ..NewTopic::named("t") }),
            (
                ErrorCode::INVALID_REPLICATION_FACTOR,
                "Replication factor must be larger than 0, or -1 to use the default value.".into()
            )
        );
    }
}

#[test]
fn more_replicas_than_brokers_are_refused() {
    let (code, sentence) = refusal(&image_with(&[]), NewTopic { replication_factor: 32767, ..NewTopic::named("t") });
    assert_eq!(code, ErrorCode::INVALID_REPLICATION_FACTOR);
    assert_eq!(
        sentence,
        "Unable to replicate the partition 32767 time(s): The target replication factor of 32767 cannot be reached \
         because only 2 broker(s) are registered or some brokers have all their log directories cordoned."
    );
}

#[test]
fn a_request_for_too_much_is_refused_whole() {
    let image = image_with(&[]);
    let all = |counts: &[i32]| {
        let wanted: Vec<_> = counts
            .iter()
            .enumerate()
            .map(|(at, &partitions)| NewTopic { partitions, ..NewTopic::named(format!("t{at}")) })
            .collect();
        let (records, answers) = create(&image, &wanted, &rules(), &chance(counts.len(), 7));
        let said: Vec<_> = answers.into_iter().map(|(_, outcome)| outcome.err().and_then(|no| no.message)).collect();
        (records.len(), said)
    };
    let excessive = |sentence: &str| Some(sentence.to_owned());
    let partitions = excessive("Excessively large number of partitions per request.");
    assert_eq!(all(&[1_000_000]), (0, vec![partitions.clone()]));
    assert_eq!(all(&[6000, 1, 6000]), (0, vec![partitions; 3]));
    assert_eq!(all(&[10_000]), (0, vec![excessive("Unable to perform excessively large batch operation.")]));
    assert_eq!(all(&[9_999]), (10_000, vec![None]));
}

#[test]
fn manual_assignments_are_taken_or_refused_with_the_reason() {
    let image = image_with(&[]);
    let said = |assignments: &[(i32, &[i32])]| {
        let (code, sentence) = refusal(&image, assigned_to(assignments));
        assert_eq!(code, ErrorCode::INVALID_REPLICA_ASSIGNMENT);
        sentence
    };
    assert_eq!(
        said(&[(0, &[2])]),
        "The manual partition assignment includes broker 2, but no such broker is registered."
    );
    assert_eq!(said(&[(0, &[1, 1])]), "The manual partition assignment includes the broker 1 more than once.");
    assert_eq!(said(&[(0, &[])]), "The manual partition assignment includes an empty replica list.");
    assert_eq!(said(&[(1, &[1])]), "partitions should be a consecutive 0-based integer sequence");
    assert_eq!(said(&[(0, &[1]), (0, &[1])]), "Found multiple manual partition assignments for partition 0");
    assert_eq!(
        said(&[(0, &[1]), (1, &[1, 3])]),
        "The manual partition assignment includes a partition with 2 replica(s), but this is not consistent with \
         previous partitions, which have 1 replica(s)."
    );
    assert!(said(&[(0, &[3])]).ends_with("are fenced or in controlled shutdown."));

    let (_, answers) = create(&image, &[assigned_to(&[(1, &[1, 3]), (0, &[3, 1])])], &rules(), &chance(1, 7));
    let made = answers[0].1.as_ref().unwrap();
    assert_eq!(made.partitions[0].replicas.to_vec(), [NodeId(3), NodeId(1)]);
    assert_eq!((made.partitions[0].leader, made.partitions[0].isr.len()), (NodeId(1), 1), "only who serves is in sync");
}

#[test]
fn assignments_and_counts_exclude_each_other() {
    let image = image_with(&[]);
    let with =
        |partitions, replication_factor| NewTopic { partitions, replication_factor, ..assigned_to(&[(0, &[1])]) };
    let (code, sentence) = refusal(&image, with(1, -1));
    assert_eq!(code, ErrorCode::INVALID_REQUEST);
    assert_eq!(sentence, "A manual partition assignment was specified, but numPartitions was not set to -1.");
    let (_, sentence) = refusal(&image, with(1, 1));
    assert_eq!(sentence, "A manual partition assignment was specified, but replication factor was not set to -1.");
}

#[test]
fn settings_without_a_value_or_a_meaning_are_refused() {
    let image = image_with(&[]);
    let with = |configs: &[(&str, Option<&str>)]| NewTopic {
        configs: configs.iter().map(|(key, value)| ((*key).into(), value.map(Into::into))).collect(),
        ..NewTopic::named("t")
    };
    assert_eq!(
        refusal(&image, with(&[("nope", Some("1")), ("retention.ms", None)])),
        (ErrorCode::INVALID_CONFIG, "Null value not supported for topic configs: retention.ms".into())
    );
    assert_eq!(
        refusal(&image, with(&[("nope", Some("1"))])),
        (ErrorCode::INVALID_CONFIG, "Unknown topic config name: nope".into())
    );
    let twice = with(&[("retention.ms", Some("1")), ("retention.ms", Some("2"))]);
    let (_, answers) = create(&image, &[twice], &rules(), &chance(1, 7));
    assert_eq!(answers[0].1.as_ref().unwrap().configs["retention.ms"], "2", "the last one wins");
}

fn named(name: &str) -> TopicToDelete {
    TopicToDelete { name: Some(name.into()), id: TopicId::ZERO }
}

fn identified(id: TopicId) -> TopicToDelete {
    TopicToDelete { name: None, id }
}

type Told = (Option<String>, TopicId, Option<ErrorCode>, String);

fn told(image: &MetadataImage, topics: &[TopicToDelete]) -> (usize, Vec<Told>) {
    let (records, answers) = delete(image, topics);
    let told = answers.into_iter().map(|answer| {
        let refusal = answer.outcome.err();
        let message = refusal.as_ref().and_then(|no| no.message.clone()).unwrap_or_default();
        (answer.name, answer.id, refusal.map(|no| no.code), message)
    });
    (records.len(), told.collect())
}

#[test]
fn a_deleted_topic_is_gone_by_name_and_by_identity() {
    let image = image_with(&["a", "b"]);
    let (records, answers) = delete(&image, &[named("a"), identified(id(101))]);
    assert!(answers.iter().all(|answer| answer.outcome.is_ok()));
    assert_eq!(answers[1].name.as_deref(), Some("b"));
    let image = apply(&image, 3, &records);
    assert_eq!(image.topics().len(), 0);
}

#[test]
fn what_cannot_be_deleted_says_why() {
    let image = image_with(&["a"]);
    let (records, told) = told(&image, &[named("nope"), identified(id(77)), identified(TopicId::ZERO)]);
    assert_eq!(records, 0);
    assert_eq!(told[0].2, Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
    assert_eq!(
        told[1],
        (None, id(77), Some(ErrorCode::UNKNOWN_TOPIC_ID), "This server does not host this topic ID.".into())
    );
    assert_eq!(
        (told[2].2, told[2].3.as_str()),
        (Some(ErrorCode::INVALID_REQUEST), "Neither topic name nor id were specified.")
    );
}

#[test]
fn a_topic_named_twice_in_any_way_is_not_deleted() {
    let image = image_with(&["a"]);
    let a = id(100);
    for (request, count, sentence) in [
        (vec![named("a"), named("a")], 1, "Duplicate topic name."),
        (vec![identified(a), identified(a), identified(a)], 1, "Duplicate topic id."),
        (vec![named("a"), identified(a)], 1, "The provided topic name maps to an ID that was already supplied."),
        (vec![TopicToDelete { name: Some("a".into()), id: a }], 1, "You may not specify both topic name and topic id."),
    ] {
        let (records, told) = told(&image, &request);
        assert_eq!((records, told.len()), (0, count), "{request:?}");
        assert_eq!((told[0].2, told[0].3.as_str()), (Some(ErrorCode::INVALID_REQUEST), sentence));
    }
}
