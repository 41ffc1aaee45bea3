//! A disk that fails under the broker, here by a limit on the size of a file: what it cannot write it does not
//! acknowledge, and it ends, as Apache Kafka does when its last log directory has failed.

use bytes::Buf;
use kafka_protocol::messages::{CreateTopicsResponse, ProduceResponse};
use ottla_protocol_tests::batch::{Batch, Record};
use ottla_protocol_tests::client::{decode_whole, frame_of};
use ottla_protocol_tests::steps::{create_request, create_topic, only_produced, produce_request, until};
use ottla_protocol_tests::{broker, code, now_ms, unique};
use tokio::net::TcpStream;

#[tokio::test]
async fn a_broker_whose_disk_failed_acknowledges_nothing_more_and_ends() {
    // Files of at most 8 MiB; without the trap the signal that goes with the error would end the process.
    let Some(own) = broker::own_under("-f 16384; trap '' XFSZ") else { return };
    let mut client = own.connect().await;
    let topic = create_topic(&mut client, 1, &[]).await;
    let record = Record { value: Some(vec![b'x'; 500_000]), ..Record::default() };
    let frame = frame_of(9, &produce_request(9, &topic, 0, -1, &Batch::of_records(now_ms(), &[record]).encode()));
    let mut acknowledged = 0;
    let error = loop {
        client.send_bytes(&frame).await.expect("a broker that fails still answers what it was sent before");
        let mut answer = client.receive_frame().await.expect("an answer");
        // The correlation id and the tagged fields of the header.
        answer.advance(5);
        let answer = only_produced(decode_whole::<ProduceResponse>(answer, 9));
        match answer.error_code {
            code::NONE => acknowledged += 1,
            error => break error,
        }
    };
    assert_eq!(error, code::KAFKA_STORAGE_ERROR);
    assert!((1..20).contains(&acknowledged), "{acknowledged} batches fit the file");
    until("the broker ends", async || TcpStream::connect(own.address()).await.is_err().then_some(())).await;
    until("it says why", async || {
        (own.said("the broker stops, because its storage has failed: a write") > 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_broker_whose_metadata_cannot_be_written_ends() {
    // Files of at most 2 MiB, and topics of 64 KiB that are nowhere but in the metadata: its log, later its tables. No
    // string of the protocol is longer than 32 KiB.
    let Some(own) = broker::own_under("-f 4096; trap '' XFSZ") else { return };
    let mut client = own.connect().await;
    let throttled = vec!["0:1"; 8_000].join(",");
    let configs = ["leader.replication.throttled.replicas", "follower.replication.throttled.replicas"];
    let configs = configs.map(|key| (key, throttled.as_str()));
    let mut created = 0;
    loop {
        let request = create_request(&unique("large"), 1, &configs);
        client
            .send_bytes(&frame_of(7, &request))
            .await
            .expect("a broker that fails still answers what it was sent before");
        let mut answer = client.receive_frame().await.expect("an answer");
        answer.advance(5);
        let answer: CreateTopicsResponse = decode_whole(answer, 7);
        if answer.topics[0].error_code != code::NONE {
            break;
        }
        created += 1;
    }
    assert!((1..1000).contains(&created), "{created} topics fit the files");
    until("the broker ends", async || TcpStream::connect(own.address()).await.is_err().then_some(())).await;
    let words = "the broker stops, because its storage has failed: the metadata log";
    until("it says why", async || (own.said(words) > 0).then_some(())).await;
}
