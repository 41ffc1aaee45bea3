//! A producer with acks=0 that sends as fast as the socket takes it. Nothing is answered, so all that can slow it down is
//! that the broker does not read; and since nobody else could tell, what was sent must be there.

use kafka_protocol::messages::{DeleteTopicsRequest, TopicName};
use ottla_protocol_tests::batch::{Batch, Record};
use ottla_protocol_tests::broker;
use ottla_protocol_tests::client::{Client, frame_of};
use ottla_protocol_tests::steps::{Topic, create_topic, log_end, produce_request, until};
use ottla_protocol_tests::{code, now_ms, text};

const BATCH_BYTES: usize = 512 << 10;
const MIB: u64 = 1 << 10;

/// Sends so many batches of one record each, and awaits that the log ends behind the last of them.
async fn flood(client: &mut Client, topic: &Topic, batches: i64) {
    let record = Record { value: Some(vec![b'x'; BATCH_BYTES]), ..Record::default() };
    let batch = Batch::of_records(now_ms(), &[record]).encode();
    let frame = frame_of(9, &produce_request(9, topic, 0, 0, &batch));
    for sent in 0..batches {
        client.send_bytes(&frame).await.unwrap_or_else(|error| panic!("closed after {sent} batches: {error}"));
    }
    // On the same connection: answered once everything before it has been appended.
    until("the log ends behind what was sent", async || (log_end(client, topic, 0).await == batches).then_some(()))
        .await;
}

async fn delete(client: &mut Client, topic: &Topic) {
    let request = DeleteTopicsRequest::default().with_topic_names(vec![TopicName(text(&topic.name))]);
    let response = client.call(5, &request.with_timeout_ms(30_000)).await;
    assert_eq!(response.responses[0].error_code, code::NONE);
}

#[tokio::test]
async fn a_flood_with_acks_0_is_slowed_down_and_loses_nothing() {
    let mut client = broker::connect().await;
    let topic = create_topic(&mut client, 1, &[]).await;
    flood(&mut client, &topic, 800).await;
    delete(&mut client, &topic).await;
}

#[tokio::test]
async fn a_flood_with_acks_0_takes_no_more_memory_than_the_store_has_in_hand() {
    let Some(own) = broker::own(&[]) else { return };
    let mut client = own.connect().await;
    let topic = create_topic(&mut client, 1, &[]).await;
    let before = own.peak_kib().expect("its memory");
    // 1 GiB, and a part of it may be in memory: three memtables, the tail, the commit queue.
    flood(&mut client, &topic, 2_048).await;
    let grown = own.peak_kib().expect("its memory") - before;
    assert!(grown < 512 * MIB, "memory grew by {} MiB", grown / MIB);
}
