//! The four requests that the generator sends, written by hand at one version each: what is measured is the broker.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{MetadataRequest, MetadataResponse, TopicName};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

/// Produce, version 7.
pub const PRODUCE: (i16, i16) = (0, 7);
/// Fetch, version 11, without a session.
pub const FETCH: (i16, i16) = (1, 11);
/// How long a consumer at the tail lets the broker wait for records.
pub const LONG_POLL: Duration = Duration::from_millis(500);

/// A connection to a broker.
pub fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap_or_else(|e| panic!("{address}: {e}"));
    stream.set_nodelay(true).expect("a TCP socket");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a TCP socket");
    stream
}

fn header(out: &mut Vec<u8>, (key, version): (i16, i16), correlation: i32) {
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&key.to_be_bytes());
    out.extend_from_slice(&version.to_be_bytes());
    out.extend_from_slice(&correlation.to_be_bytes());
    text(out, "bench");
}

fn text(out: &mut Vec<u8>, value: &str) {
    out.extend_from_slice(&(value.len() as i16).to_be_bytes());
    out.extend_from_slice(value.as_bytes());
}

fn finish(mut out: Vec<u8>) -> Vec<u8> {
    let length = (out.len() - 4) as i32;
    out[..4].copy_from_slice(&length.to_be_bytes());
    out
}

/// A Produce request with one batch for one partition; the batch stands at the end of the frame.
pub fn produce(topic: &str, partition: i32, acks: i16, batch: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(batch.len() + 64);
    header(&mut out, PRODUCE, 1);
    out.extend_from_slice(&(-1i16).to_be_bytes());
    out.extend_from_slice(&acks.to_be_bytes());
    out.extend_from_slice(&30_000i32.to_be_bytes());
    out.extend_from_slice(&1i32.to_be_bytes());
    text(&mut out, topic);
    out.extend_from_slice(&1i32.to_be_bytes());
    out.extend_from_slice(&partition.to_be_bytes());
    out.extend_from_slice(&(batch.len() as i32).to_be_bytes());
    out.extend_from_slice(batch);
    finish(out)
}

/// A Fetch request of one partition, that may wait for the first byte.
pub fn fetch(topic: &str, partition: i32, offset: i64, wait: Duration) -> Vec<u8> {
    let mut out = Vec::new();
    header(&mut out, FETCH, 1);
    out.extend_from_slice(&(-1i32).to_be_bytes()); // replica
    out.extend_from_slice(&(wait.as_millis() as i32).to_be_bytes());
    out.extend_from_slice(&1i32.to_be_bytes()); // min bytes
    out.extend_from_slice(&(50i32 << 20).to_be_bytes());
    out.push(0); // isolation
    out.extend_from_slice(&0i32.to_be_bytes()); // session
    out.extend_from_slice(&(-1i32).to_be_bytes()); // session epoch: none
    out.extend_from_slice(&1i32.to_be_bytes());
    text(&mut out, topic);
    out.extend_from_slice(&1i32.to_be_bytes());
    out.extend_from_slice(&partition.to_be_bytes());
    out.extend_from_slice(&(-1i32).to_be_bytes()); // leader epoch
    out.extend_from_slice(&offset.to_be_bytes());
    out.extend_from_slice(&(-1i64).to_be_bytes()); // log start
    out.extend_from_slice(&(1i32 << 20).to_be_bytes());
    out.extend_from_slice(&0i32.to_be_bytes()); // forgotten
    text(&mut out, "");
    finish(out)
}

/// Reads one response frame into the buffer (without its length).
pub fn read_frame(stream: &mut impl Read, buffer: &mut Vec<u8>) {
    let mut length = [0; 4];
    stream.read_exact(&mut length).expect("the broker answers");
    let length = u32::from_be_bytes(length) as usize;
    buffer.resize(length, 0);
    stream.read_exact(buffer).expect("the broker answers");
}

/// True when the bytes begin with a whole frame.
pub fn has_frame(bytes: &[u8]) -> bool {
    bytes.first_chunk().is_some_and(|length| bytes.len() - 4 >= u32::from_be_bytes(*length) as usize)
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    *bytes[at..].first_chunk().expect("a whole response")
}

/// The error code of a Produce response to [`produce`].
pub fn produce_error(topic: &str, frame: &[u8]) -> i16 {
    i16::from_be_bytes(number(frame, 4 + 4 + 2 + topic.len() + 4 + 4))
}

/// The error code and the record bytes of a Fetch response to [`fetch`].
pub fn fetched<'a>(topic: &str, frame: &'a [u8]) -> (i16, &'a [u8]) {
    let mut at = 4 + 4 + 2 + 4;
    if i32::from_be_bytes(number(frame, at)) == 0 {
        return (i16::from_be_bytes(number(frame, 4 + 4)), &[]);
    }
    at += 4 + 2 + topic.len() + 4 + 4;
    let error = i16::from_be_bytes(number(frame, at));
    at += 2 + 8 + 8 + 8;
    let aborted = i32::from_be_bytes(number(frame, at)).max(0) as usize;
    at += 4 + aborted * 16 + 4;
    let length = i32::from_be_bytes(number(frame, at)).max(0) as usize;
    (error, &frame[at + 4..at + 4 + length])
}

/// The batches of fetched bytes, each with its base offset; a cut one at the end is left out.
pub fn batches(mut records: &[u8]) -> impl Iterator<Item = (i64, &[u8])> {
    std::iter::from_fn(move || {
        let length = i32::from_be_bytes(*records.get(8..)?.first_chunk()?) as usize + 12;
        let (batch, rest) = records.split_at_checked(length)?;
        records = rest;
        Some((i64::from_be_bytes(number(batch, 0)), batch))
    })
}

/// The offset after a batch.
pub fn end_of(base: i64, batch: &[u8]) -> i64 {
    base + i64::from(i32::from_be_bytes(number(batch, 23))) + 1
}

/// Makes a topic by asking for it. False when the broker is not there yet, or when a partition has no leader.
pub fn ask_for_topic(address: &str, topic: &str) -> bool {
    TcpStream::connect(address).ok().and_then(|mut stream| metadata(&mut stream, topic)).unwrap_or(false)
}

fn metadata(stream: &mut TcpStream, topic: &str) -> Option<bool> {
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    let name = TopicName(StrBytes::from_string(topic.to_owned()));
    let request = MetadataRequest::default()
        .with_topics(Some(vec![MetadataRequestTopic::default().with_name(Some(name))]))
        .with_allow_auto_topic_creation(true);
    let mut frame = Vec::new();
    header(&mut frame, (3, 4), 1);
    request.encode(&mut frame, 4).ok()?;
    stream.write_all(&finish(frame)).ok()?;
    let mut length = [0; 4];
    stream.read_exact(&mut length).ok()?;
    let mut body = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut body).ok()?;
    let mut body = bytes::Bytes::from(body).slice(4..);
    let response = MetadataResponse::decode(&mut body, 4).ok()?;
    let found = response.topics.first()?;
    Some(found.error_code == 0 && !found.partitions.is_empty() && found.partitions.iter().all(|p| p.error_code == 0))
}

/// Whether the leader serves a partition: on a new topic Kafka's Metadata names leaders that still answer
/// NOT_LEADER_OR_FOLLOWER. Any other error ends the run.
pub fn is_served(address: &str, topic: &str, partition: i32) -> bool {
    let (mut stream, mut answer) = (connect(address), Vec::new());
    stream.write_all(&fetch(topic, partition, 0, Duration::ZERO)).expect("the broker reads");
    read_frame(&mut stream, &mut answer);
    may_come(fetched(topic, &answer).0)
}

/// Sends one batch to partition 0 and waits for its answer. False when the leader does not serve yet.
pub fn produce_one(address: &str, topic: &str, batch: &[u8]) -> bool {
    let (mut stream, mut answer) = (connect(address), Vec::new());
    stream.write_all(&produce(topic, 0, -1, batch)).expect("the broker reads");
    read_frame(&mut stream, &mut answer);
    may_come(produce_error(topic, &answer))
}

/// Whether an error is none; one of a topic that is being made is false.
fn may_come(error: i16) -> bool {
    const NOT_THERE_YET: [i16; 3] = [3, 5, 6]; // UNKNOWN_TOPIC_OR_PARTITION, LEADER_NOT_AVAILABLE, NOT_LEADER_OR_FOLLOWER
    assert!(error == 0 || NOT_THERE_YET.contains(&error), "error {error} from a topic that is being made");
    error == 0
}
