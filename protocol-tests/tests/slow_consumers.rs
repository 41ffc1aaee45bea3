//! Consumers that ask for much and do not read what they get: each may hold an answer, all together not all memory.

use kafka_protocol::messages::FetchRequest;
use ottla_protocol_tests::batch::{Batch, Record};
use ottla_protocol_tests::broker;
use ottla_protocol_tests::client::Client;
use ottla_protocol_tests::steps::{Topic, create_topic, fetch_request, only_fetched, produce};
use ottla_protocol_tests::{code, now_ms};

const FETCH: i16 = 12;
const BATCH_BYTES: usize = 128 << 10;
const MIB: u64 = 1 << 10;

/// Asks for all of the only partition from an offset on.
fn greedy(topic: &Topic, from: i64) -> FetchRequest {
    let mut request = fetch_request(FETCH, topic, &[(0, from)]);
    request.max_bytes = 128 << 20;
    request.topics[0].partitions[0].partition_max_bytes = 128 << 20;
    request
}

async fn produce_batches(client: &mut Client, topic: &Topic, batches: usize) {
    let record = Record { value: Some(vec![b'x'; BATCH_BYTES]), ..Record::default() };
    for _ in 0..batches {
        produce(client, topic, 0, &Batch::of_records(now_ms(), std::slice::from_ref(&record))).await;
    }
}

/// Each gets a batch at least, whatever the others hold.
async fn everybody_is_served(consumers: Vec<(Client, i32)>) {
    for (mut consumer, correlation) in consumers {
        let fetched = only_fetched(consumer.receive::<FetchRequest>(FETCH, correlation).await);
        assert_eq!(fetched.error_code, code::NONE);
        assert!(fetched.records.is_some_and(|records| records.len() > BATCH_BYTES));
    }
}

#[tokio::test]
async fn consumers_of_old_records_that_do_not_read_hold_little_together() {
    let settings = [("ottla.unsent.max.bytes", "67108864"), ("ottla.tail.cache.bytes", "0")];
    let Some(own) = broker::own(&settings) else { return };
    let mut client = own.connect().await;
    let topic = create_topic(&mut client, 1, &[]).await;
    produce_batches(&mut client, &topic, 512).await;
    let (request, before) = (greedy(&topic, 0), own.peak_kib().expect("its memory"));
    let mut consumers: Vec<(Client, i32)> = Vec::new();
    for _ in 0..200 {
        let mut consumer = own.connect().await;
        let correlation = consumer.send(FETCH, &request).await;
        consumers.push((consumer, correlation));
    }
    for (consumer, _) in &consumers {
        consumer.await_byte().await;
    }
    // Each asked for 64 MiB: 12 GiB. The limit, a batch for each, and what is being read.
    let grown = own.peak_kib().expect("its memory").saturating_sub(before);
    assert!(grown < 192 * MIB, "memory grew by {} MiB", grown / MIB);
    everybody_is_served(consumers).await;
}

#[tokio::test]
async fn consumers_at_the_tail_that_do_not_read_hold_little_together() {
    let settings = [("ottla.unsent.max.bytes", "33554432"), ("ottla.tail.cache.bytes", "16777216")];
    let Some(own) = broker::own(&settings) else { return };
    let mut client = own.connect().await;
    let topic = create_topic(&mut client, 1, &[]).await;
    // All that is written may be in memory a few times: first what that comes to.
    produce_batches(&mut client, &topic, 1_600).await;
    let before = own.peak_kib().expect("its memory");
    let mut consumers: Vec<(Client, i32)> = Vec::new();
    for round in 1..=40 {
        produce_batches(&mut client, &topic, 128).await;
        let mut consumer = own.connect().await;
        // What is in the tail cache now, and will not be in it a round later.
        let correlation = consumer.send(FETCH, &greedy(&topic, 1_600 + 128 * round - 112)).await;
        consumer.await_byte().await;
        consumers.push((consumer, correlation));
    }
    // Each asked for 14 MiB: 560 MiB. The limit, and a batch for each.
    let grown = own.peak_kib().expect("its memory").saturating_sub(before);
    assert!(grown < 128 * MIB, "memory grew by {} MiB", grown / MIB);
    everybody_is_served(consumers).await;
}
