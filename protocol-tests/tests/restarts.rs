//! Starts over data that an earlier broker left: what belongs together is served as it was, what does not is refused and
//! left alone, and what was lost is told to clients.

use std::fs;
use std::path::{Path, PathBuf};

use kafka_protocol::messages::OffsetForLeaderEpochRequest;
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use ottla_protocol_tests::batch::Batch;
use ottla_protocol_tests::broker::{self, Broker};
use ottla_protocol_tests::client::Client;
use ottla_protocol_tests::code;
use ottla_protocol_tests::fetched::values;
use ottla_protocol_tests::steps::{
    LATEST, Topic, create_topic, fetch, fetch_request, list_offset, log_end, only_fetched, produce, until,
};

/// Moves the metadata out of the log directory, as another disk would hold them.
fn with_metadata_in(dir: &Path) -> Vec<(&'static str, String)> {
    vec![("metadata.log.dir", dir.display().to_string()), ("cluster.id", "a-cluster-of-the-tests".to_owned())]
}

fn texts<'a>(settings: &'a [(&'static str, String)]) -> Vec<(&'static str, &'a str)> {
    settings.iter().map(|(key, value)| (*key, value.as_str())).collect()
}

/// A broker over `data` makes a topic with three records; killed.
async fn filled(data: &Path, settings: &[(&str, &str)]) -> Topic {
    let broker = Broker::start_in(data, settings);
    let mut client = broker.connect().await;
    let topic = create_topic(&mut client, 1, &[]).await;
    for value in ["a", "b", "c"] {
        produce(&mut client, &topic, 0, &Batch::of(&[value])).await;
    }
    broker.kill();
    topic
}

async fn assert_all_there(data: &Path, settings: &[(&str, &str)], topic: &Topic) {
    let broker = Broker::start_in(data, settings);
    let records = fetch(&mut broker.connect().await, topic, 0, 0).await.records.expect("records");
    assert_eq!(values(&records), ["a", "b", "c"]);
    broker.kill();
}

fn assert_names(said: &str, words: &[&Path], more: &str) {
    assert!(words.iter().all(|word| said.contains(&word.display().to_string())) && said.contains(more), "{said}");
}

#[tokio::test]
async fn records_are_not_deleted_for_metadata_that_were_lost() {
    let Some(dir) = broker::own_directory() else { return };
    let (data, metadata, aside) = (dir.path().join("data"), dir.path().join("metadata"), dir.path().join("aside"));
    let settings = with_metadata_in(&metadata);
    let topic = filled(&data, &texts(&settings)).await;
    fs::rename(&metadata, &aside).expect("as if its disk were not mounted");
    // As a supervisor would, again and again.
    for _ in 0..3 {
        let said = broker::refused(&data, &texts(&settings));
        assert_names(&said, &[&data, &metadata], "belongs to other metadata");
    }
    fs::remove_dir_all(&metadata).expect("what the refused starts made");
    fs::rename(&aside, &metadata).expect("it is mounted again");
    assert_all_there(&data, &texts(&settings), &topic).await;
}

#[tokio::test]
async fn records_are_not_deleted_for_metadata_from_an_older_copy() {
    let Some(dir) = broker::own_directory() else { return };
    let (data, metadata, copy) = (dir.path().join("data"), dir.path().join("metadata"), dir.path().join("copy"));
    let settings = with_metadata_in(&metadata);
    Broker::start_in(&data, &texts(&settings)).kill();
    copy_directory(&metadata, &copy);
    let topic = filled(&data, &texts(&settings)).await;
    let newest = dir.path().join("newest");
    fs::rename(&metadata, &newest).expect("moved aside");
    fs::rename(&copy, &metadata).expect("restored from the copy");
    for _ in 0..5 {
        let said = broker::refused(&data, &texts(&settings));
        assert_names(&said, &[&data, &metadata], "are older than the log directory");
    }
    fs::remove_dir_all(&metadata).expect("the older ones");
    fs::rename(&newest, &metadata).expect("the newest ones");
    assert_all_there(&data, &texts(&settings), &topic).await;
}

fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir(to).expect("a directory");
    for entry in fs::read_dir(from).expect("it is there").map(|entry| entry.expect("an entry")) {
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy_directory(&path, &target);
        } else {
            fs::copy(&path, &target).expect("copied");
        }
    }
}

#[tokio::test]
async fn topics_are_not_served_as_empty_from_a_log_directory_that_is_not_theirs() {
    let Some(dir) = broker::own_directory() else { return };
    let (data, metadata, aside) = (dir.path().join("data"), dir.path().join("metadata"), dir.path().join("aside"));
    let settings = with_metadata_in(&metadata);
    let topic = filled(&data, &texts(&settings)).await;
    fs::rename(&data, &aside).expect("as if its disk were not mounted");
    for _ in 0..3 {
        let said = broker::refused(&data, &texts(&settings));
        assert_names(&said, &[&data, &metadata], "live in another log directory");
    }
    fs::remove_dir_all(&data).expect("what the refused starts made");
    fs::rename(&aside, &data).expect("it is mounted again");
    assert_all_there(&data, &texts(&settings), &topic).await;
}

#[tokio::test]
async fn a_topic_deleted_before_a_kill_stays_deleted() {
    let Some(dir) = broker::own_directory() else { return };
    let broker = Broker::start_in(dir.path(), &[]);
    let mut client = broker.connect().await;
    let kept = create_topic(&mut client, 1, &[]).await;
    let gone = create_topic(&mut client, 1, &[]).await;
    produce(&mut client, &kept, 0, &Batch::of(&["a", "b", "c"])).await;
    produce(&mut client, &gone, 0, &Batch::of(&["x"])).await;
    let request = kafka_protocol::messages::DeleteTopicsRequest::default()
        .with_topic_names(vec![gone.topic_name()])
        .with_timeout_ms(30_000);
    assert_eq!(client.call(5, &request).await.responses[0].error_code, code::NONE);
    broker.kill();
    assert_all_there(dir.path(), &[], &kept).await;
    let broker = Broker::start_in(dir.path(), &[]);
    let answer = list_offset(&mut broker.connect().await, &gone, 0, LATEST).await;
    assert_eq!(answer.error_code, code::UNKNOWN_TOPIC_OR_PARTITION);
    broker.kill();
}

/// The newest write-ahead log of the record batches.
fn write_ahead_log(data: &Path) -> PathBuf {
    let files = fs::read_dir(data.join("records")).expect("records").map(|entry| entry.expect("an entry").path());
    let logs = files.filter(|file| file.extension().is_some_and(|kind| kind == "log"));
    logs.max_by_key(|log| fs::metadata(log).expect("its size").len()).expect("a write-ahead log")
}

async fn fetch_knowing(client: &mut Client, topic: &Topic, offset: i64, leader: i32, last: i32) -> PartitionData {
    let mut request = fetch_request(12, topic, &[(0, offset)]);
    let partition = &mut request.topics[0].partitions[0];
    (partition.current_leader_epoch, partition.last_fetched_epoch) = (leader, last);
    only_fetched(client.call(12, &request).await)
}

/// Where an epoch ended, for a client that knows the leader by `leader`.
async fn epoch_end(client: &mut Client, topic: &Topic, leader: i32, epoch: i32) -> (i32, i64) {
    let partition = OffsetForLeaderPartition::default().with_current_leader_epoch(leader).with_leader_epoch(epoch);
    let named = OffsetForLeaderTopic::default().with_topic(topic.topic_name()).with_partitions(vec![partition]);
    let request = OffsetForLeaderEpochRequest::default().with_replica_id((-1).into()).with_topics(vec![named]);
    let answer = client.call(4, &request).await.topics.remove(0).partitions.remove(0);
    assert_eq!(answer.error_code, code::NONE);
    (answer.leader_epoch, answer.end_offset)
}

#[tokio::test]
async fn a_consumer_that_had_read_records_which_were_lost_is_told_and_misses_none_in_silence() {
    let Some(dir) = broker::own_directory() else { return };
    let topic = filled(dir.path(), &[]).await;
    // A consumer has read all three and stands at offset 3. The last batch is lost.
    let log = write_ahead_log(dir.path());
    let bytes = fs::metadata(&log).expect("its size").len();
    fs::OpenOptions::new().write(true).open(&log).and_then(|file| file.set_len(bytes - 10)).expect("cut");

    let broker = Broker::start_in(dir.path(), &[]);
    assert_eq!(broker.said("acknowledged records after it are lost here"), 1);
    let mut client = broker.connect().await;
    let end = list_offset(&mut client, &topic, 0, LATEST).await;
    assert_eq!((end.offset, end.leader_epoch), (2, 1));
    assert_eq!(fetch_knowing(&mut client, &topic, 3, 0, -1).await.error_code, code::FENCED_LEADER_EPOCH);
    assert_eq!(epoch_end(&mut client, &topic, 1, 0).await, (0, 2));
    // Offset 2 is given again, and 3: the epoch still tells that the consumer's offset 3 was another.
    for (value, offset) in [("d", 2), ("e", 3)] {
        assert_eq!(produce(&mut client, &topic, 0, &Batch::of(&[value])).await, offset);
    }
    assert_eq!(epoch_end(&mut client, &topic, 1, 0).await, (0, 2));
    let diverging = fetch_knowing(&mut client, &topic, 3, 1, 0).await.diverging_epoch;
    assert_eq!((diverging.epoch, diverging.end_offset), (0, 2));
    broker.kill();

    // Nothing was lost by that: the epoch stays, and so it does over a stop in order.
    let broker = Broker::start_in(dir.path(), &[]);
    let mut client = broker.connect().await;
    assert_eq!(list_offset(&mut client, &topic, 0, LATEST).await.leader_epoch, 1);
    broker.ask_to_stop();
    until("it has stopped", async || (broker.said("node 1 stopped") > 0).then_some(())).await;
    broker.kill();
    let broker = Broker::start_in(dir.path(), &[]);
    let mut client = broker.connect().await;
    assert_eq!(list_offset(&mut client, &topic, 0, LATEST).await.leader_epoch, 1);
    assert_eq!(log_end(&mut client, &topic, 0).await, 4);
    broker.kill();
}
