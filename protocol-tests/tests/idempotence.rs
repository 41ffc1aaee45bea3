//! InitProducerId (22), and what a partition makes of a producer's sequences.

use kafka_protocol::messages::{InitProducerIdRequest, TransactionalId};
use ottla_protocol_tests::batch::Batch;
use ottla_protocol_tests::client::Client;
use ottla_protocol_tests::fetched::{batches, values};
use ottla_protocol_tests::steps::{
    Topic, create_topic, fetch, init_producer_id, log_end, only_produced, produce, produce_bytes, produce_request,
    producer_id,
};
use ottla_protocol_tests::{apis, broker, code, text};

const KEY: i16 = 22;
const PRODUCE: i16 = 0;

fn init() -> InitProducerIdRequest {
    InitProducerIdRequest::default().with_transactional_id(None).with_transaction_timeout_ms(60_000)
}

async fn fresh() -> (Client, Topic, i64, i16) {
    let mut client = broker::connect().await;
    let topic = create_topic(&mut client, 1, &[]).await;
    let (id, epoch) = producer_id(&mut client).await;
    (client, topic, id, epoch)
}

async fn code_of(client: &mut Client, topic: &Topic, batch: &Batch) -> i16 {
    produce_bytes(client, topic, 0, &batch.encode()).await.error_code
}

#[tokio::test]
async fn every_version_hands_out_a_producer_id_of_its_own() {
    let mut client = broker::connect().await;
    let mut seen = std::collections::BTreeSet::new();
    for version in apis::versions(KEY) {
        for _ in 0..3 {
            let response = init_producer_id(&mut client, version, &init()).await;
            assert_eq!((response.error_code, response.throttle_time_ms), (code::NONE, 0), "v{version}");
            assert_eq!(response.producer_epoch, 0);
            assert!(response.producer_id.0 >= 0);
            assert!(seen.insert(response.producer_id.0), "{} was given twice", response.producer_id.0);
        }
    }
}

#[tokio::test]
async fn many_connections_never_share_a_producer_id() {
    let mut clients = Vec::new();
    for _ in 0..8 {
        clients.push(broker::connect().await);
    }
    let mut seen = std::collections::BTreeSet::new();
    // More than two blocks of a thousand.
    while seen.len() < 2_400 {
        let mut correlations = Vec::new();
        for client in &mut clients {
            correlations.push(client.send(4, &init()).await);
        }
        for (client, correlation) in clients.iter_mut().zip(correlations) {
            let response = client.receive::<InitProducerIdRequest>(4, correlation).await;
            match response.error_code {
                code::NONE => assert!(seen.insert(response.producer_id.0), "an id was given twice"),
                // Kafka's next block is on its way.
                other => assert_eq!(other, code::COORDINATOR_LOAD_IN_PROGRESS),
            }
        }
    }
}

#[tokio::test]
async fn an_old_producer_id_without_transactional_id_is_blindly_replaced() {
    let mut client = broker::connect().await;
    for version in 3..=*apis::versions(KEY).end() {
        let request = init().with_producer_id(77.into()).with_producer_epoch(3);
        let response = init_producer_id(&mut client, version, &request).await;
        assert_eq!((response.error_code, response.producer_epoch), (code::NONE, 0));
        assert_ne!(response.producer_id.0, 77);
    }
}

#[tokio::test]
async fn half_an_identity_is_an_invalid_request() {
    let mut client = broker::connect().await;
    for version in 3..=*apis::versions(KEY).end() {
        for (id, epoch) in [(-1, 3), (77, -1)] {
            let response = client.call(version, &init().with_producer_id(id.into()).with_producer_epoch(epoch)).await;
            assert_eq!(response.error_code, code::INVALID_REQUEST, "v{version}");
            assert_eq!((response.producer_id.0, response.producer_epoch), (-1, -1));
        }
    }
}

#[tokio::test]
async fn an_empty_transactional_id_is_an_invalid_request() {
    let mut client = broker::connect().await;
    for version in apis::versions(KEY) {
        let request = init().with_transactional_id(Some(TransactionalId(text(""))));
        assert_eq!(client.call(version, &request).await.error_code, code::INVALID_REQUEST, "v{version}");
    }
}

#[tokio::test]
async fn sequences_that_follow_are_appended_and_kept_in_the_batch() {
    let (mut client, topic, id, epoch) = fresh().await;
    let mut end = 0;
    for version in apis::versions(PRODUCE) {
        let batch = Batch::of(&["a", "b"]).by(id, epoch, end);
        let answer =
            only_produced(client.call(version, &produce_request(version, &topic, 0, -1, &batch.encode())).await);
        assert_eq!((answer.error_code, answer.base_offset), (code::NONE, i64::from(end)), "v{version}");
        end += 2;
    }
    let fetched = batches(fetch(&mut client, &topic, 0, 0).await.records.expect("records"));
    assert!(fetched.iter().all(|batch| (batch.producer_id, batch.producer_epoch) == (id, epoch)));
    assert!(fetched.iter().all(|batch| i64::from(batch.base_sequence) == batch.base_offset));
}

#[tokio::test]
async fn a_duplicate_of_the_last_five_is_answered_with_its_first_offset_at_every_version() {
    let (mut client, topic, id, epoch) = fresh().await;
    for sequence in 0..6 {
        produce(&mut client, &topic, 0, &Batch::of(&["x"]).by(id, epoch, sequence)).await;
    }
    for version in apis::versions(PRODUCE) {
        for sequence in 1..6 {
            let batch = Batch::of(&["x"]).by(id, epoch, sequence);
            let request = produce_request(version, &topic, 0, -1, &batch.encode());
            let answer = only_produced(client.call(version, &request).await);
            assert_eq!((answer.error_code, answer.base_offset), (code::NONE, i64::from(sequence)), "v{version}");
        }
    }
    // The sixth from the end is forgotten, and then it is merely out of order.
    let forgotten = Batch::of(&["x"]).by(id, epoch, 0);
    assert_eq!(code_of(&mut client, &topic, &forgotten).await, code::OUT_OF_ORDER_SEQUENCE_NUMBER);
    assert_eq!(log_end(&mut client, &topic, 0).await, 6);
}

#[tokio::test]
async fn a_gap_is_out_of_order_at_every_version() {
    let (mut client, topic, id, epoch) = fresh().await;
    produce(&mut client, &topic, 0, &Batch::of(&["0"]).by(id, epoch, 0)).await;
    for version in apis::versions(PRODUCE) {
        for sequence in [2, 100, i32::MAX] {
            let batch = Batch::of(&["x"]).by(id, epoch, sequence);
            let request = produce_request(version, &topic, 0, -1, &batch.encode());
            let answer = only_produced(client.call(version, &request).await);
            assert_eq!(answer.error_code, code::OUT_OF_ORDER_SEQUENCE_NUMBER, "v{version} sequence {sequence}");
            assert_eq!(answer.base_offset, -1);
        }
    }
    produce(&mut client, &topic, 0, &Batch::of(&["1"]).by(id, epoch, 1)).await;
}

#[tokio::test]
async fn a_batch_that_only_overlaps_an_earlier_one_is_out_of_order() {
    let (mut client, topic, id, epoch) = fresh().await;
    produce(&mut client, &topic, 0, &Batch::of(&["0", "1", "2"]).by(id, epoch, 0)).await;
    for (values, sequence) in [(&["1", "2"][..], 1), (&["0", "1"][..], 0), (&["2", "3"][..], 2)] {
        let batch = Batch::of(values).by(id, epoch, sequence);
        assert_eq!(code_of(&mut client, &topic, &batch).await, code::OUT_OF_ORDER_SEQUENCE_NUMBER, "{values:?}");
    }
    assert_eq!(log_end(&mut client, &topic, 0).await, 3);
}

#[tokio::test]
async fn an_older_epoch_is_fenced_and_a_newer_one_starts_at_sequence_0() {
    let (mut client, topic, id, epoch) = fresh().await;
    produce(&mut client, &topic, 0, &Batch::of(&["a"]).by(id, epoch + 1, 0)).await;
    for version in apis::versions(PRODUCE) {
        let batch = Batch::of(&["x"]).by(id, epoch, 1);
        let request = produce_request(version, &topic, 0, -1, &batch.encode());
        let answer = only_produced(client.call(version, &request).await);
        assert_eq!(answer.error_code, code::INVALID_PRODUCER_EPOCH, "v{version}");
    }
    let not_at_0 = Batch::of(&["x"]).by(id, epoch + 2, 1);
    assert_eq!(code_of(&mut client, &topic, &not_at_0).await, code::OUT_OF_ORDER_SEQUENCE_NUMBER);
    produce(&mut client, &topic, 0, &Batch::of(&["b"]).by(id, epoch + 2, 0)).await;
    produce(&mut client, &topic, 0, &Batch::of(&["c"]).by(id, epoch + 2, 1)).await;
    assert_eq!(values(&fetch(&mut client, &topic, 0, 0).await.records.expect("records")), ["a", "b", "c"]);
}

#[tokio::test]
async fn a_producer_that_the_partition_does_not_know_may_start_anywhere() {
    // Retention may have taken its last batch, and with it what the broker knew.
    let (mut client, topic, id, epoch) = fresh().await;
    produce(&mut client, &topic, 0, &Batch::of(&["a"]).by(id, epoch, 41)).await;
    produce(&mut client, &topic, 0, &Batch::of(&["b"]).by(id, epoch, 42)).await;
    assert_eq!(
        code_of(&mut client, &topic, &Batch::of(&["x"]).by(id, epoch, 44)).await,
        code::OUT_OF_ORDER_SEQUENCE_NUMBER
    );
}

#[tokio::test]
async fn sequences_wrap_from_the_largest_to_0() {
    let (mut client, topic, id, epoch) = fresh().await;
    produce(&mut client, &topic, 0, &Batch::of(&["a"]).by(id, epoch, i32::MAX)).await;
    produce(&mut client, &topic, 0, &Batch::of(&["b"]).by(id, epoch, 0)).await;

    let (id, epoch) = producer_id(&mut client).await;
    let across = Batch::of(&["c", "d", "e"]).by(id, epoch, i32::MAX - 1);
    let first = produce(&mut client, &topic, 0, &across).await;
    assert_eq!(produce_bytes(&mut client, &topic, 0, &across.encode()).await.base_offset, first, "a duplicate");
    produce(&mut client, &topic, 0, &Batch::of(&["f"]).by(id, epoch, 1)).await;
    assert_eq!(log_end(&mut client, &topic, 0).await, 6);
}

#[tokio::test]
async fn sequences_are_counted_per_partition() {
    let mut client = broker::connect().await;
    let topic = create_topic(&mut client, 2, &[]).await;
    let (id, epoch) = producer_id(&mut client).await;
    for partition in [0, 1] {
        produce(&mut client, &topic, partition, &Batch::of(&["a"]).by(id, epoch, 0)).await;
        produce(&mut client, &topic, partition, &Batch::of(&["b"]).by(id, epoch, 1)).await;
    }
}

#[tokio::test]
async fn a_pipelined_duplicate_joins_the_batch_that_is_still_under_way() {
    let (mut client, topic, id, epoch) = fresh().await;
    let mut sent = Vec::new();
    for sequence in 0..50 {
        let request = produce_request(9, &topic, 0, -1, &Batch::of(&["x"]).by(id, epoch, sequence).encode());
        sent.push((sequence, client.send(9, &request).await));
        sent.push((sequence, client.send(9, &request).await));
    }
    for (sequence, correlation) in sent {
        let response = client.receive::<kafka_protocol::messages::ProduceRequest>(9, correlation).await;
        let answer = only_produced(response);
        assert_eq!((answer.error_code, answer.base_offset), (code::NONE, i64::from(sequence)));
    }
    assert_eq!(log_end(&mut client, &topic, 0).await, 50);
}
