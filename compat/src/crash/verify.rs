//! Reads everything back through a client that knows nothing of Ottla, and compares it with what was promised.

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::load::Journal;
use super::promises::{self, Found, Loss, Seen};
use super::{DEADLINE, GROUP, PARTITIONS, TOPIC, Topic};

/// A consumer of the group whose offsets are committed.
pub fn reader(bootstrap: &str) -> Result<BaseConsumer, String> {
    ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", GROUP)
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "error")
        .set("check.crcs", "true")
        .create()
        .map_err(|e: KafkaError| e.to_string())
}

/// What a reading found.
#[derive(Default)]
pub struct Verdict {
    /// What is wrong.
    pub wrong: Vec<String>,
    /// Acknowledged records that the crash was free to take, and took.
    pub taken: usize,
}

/// Reads every partition of these topics from its start, and the group's offsets. After a cut of the power only what was
/// synced must be there; of the rest a suffix may be gone, which is promised no more.
pub fn verify(
    bootstrap: &str,
    topics: &[&'static Topic],
    power_cut: bool,
    journal: &Journal,
) -> Result<Verdict, String> {
    let consumer = reader(bootstrap)?;
    let mut promises = journal.promises();
    let mut verdict = Verdict { wrong: promises.contradictions.clone(), taken: 0 };
    let mut seen = Seen::none_of(journal.sent());
    for topic in topics {
        let loss = if power_cut && !topic.synced { Loss::Suffix } else { Loss::Nothing };
        for partition in 0..PARTITIONS {
            let (at, found) = ((topic.name, partition), read(&consumer, topic.name, partition)?);
            verdict.wrong.extend(promises.judge(at, (topic.keeps, loss), &found, &mut seen));
            if loss == Loss::Suffix {
                verdict.taken += promises.forget_after(at, &found);
            }
        }
    }
    if topics.iter().any(|topic| topic.name == TOPIC) {
        let loss = if power_cut { Loss::Suffix } else { Loss::Nothing };
        let kept = committed(&consumer)?;
        let numbered = (0..PARTITIONS).zip(&kept);
        verdict.wrong.extend(numbered.filter_map(|(partition, kept)| promises.judge_commit(partition, loss, *kept)));
        if loss == Loss::Suffix {
            promises.commit = kept.iter().map(|offset| offset.unwrap_or(0)).min().unwrap_or(0);
        }
    }
    Ok(verdict)
}

/// The group's offset of each partition.
fn committed(consumer: &BaseConsumer) -> Result<Vec<Option<i64>>, String> {
    let mut list = TopicPartitionList::new();
    (0..PARTITIONS).for_each(|partition| {
        list.add_partition(TOPIC, partition);
    });
    let kept = consumer.committed_offsets(list, DEADLINE).map_err(|e| e.to_string())?;
    let offset = |partition| match kept.find_partition(TOPIC, partition)?.offset() {
        Offset::Offset(offset) => Some(offset),
        _ => None,
    };
    Ok((0..PARTITIONS).map(offset).collect())
}

fn read(consumer: &BaseConsumer, topic: &str, partition: i32) -> Result<Found, String> {
    let failed = |reason: String| format!("{topic}-{partition}: {reason}");
    let (low, high) = consumer.fetch_watermarks(topic, partition, DEADLINE).map_err(|e| failed(e.to_string()))?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(low)).map_err(|e| failed(e.to_string()))?;
    consumer.assign(&list).map_err(|e| failed(e.to_string()))?;
    let mut found = Found { start: low, numbers: Vec::new() };
    for next in low..high {
        match consumer.poll(DEADLINE) {
            Some(Ok(message)) if message.offset() == next => {
                found.numbers.push(promises::number_of(message.payload().unwrap_or_default()));
            }
            Some(Ok(message)) => return Err(failed(format!("{} came where {next} was due", message.offset()))),
            Some(Err(error)) => return Err(failed(error.to_string())),
            None => return Err(failed(format!("nothing at {next} of {high}"))),
        }
    }
    Ok(found)
}
