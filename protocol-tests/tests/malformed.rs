//! Hostile frames: each ends its own connection at most.
//!
//! After each, a canary on another connection must be answered. The memory of an Ottla that these tests started is
//! measured too, against the bound that the row names; it is shared with the tests that run beside, so the bounds are
//! checked on brokers of their own.

use bytes::Bytes;
use kafka_protocol::messages::{ApiVersionsRequest, FetchRequest, MetadataRequest, ProduceRequest};
use kafka_protocol::protocol::Request;
use ottla_protocol_tests::batch::Batch;
use ottla_protocol_tests::broker::{self, Broker};
use ottla_protocol_tests::client::{CLIENT_ID, Client, frame_of, request_frame};
use ottla_protocol_tests::group::Member;
use ottla_protocol_tests::steps::{create_topic, fetch_request, produce_request};
use ottla_protocol_tests::writer::Writer;
use ottla_protocol_tests::{apis, code};
use tokio::time::{Duration, timeout};

const MIB: u64 = 1 << 10;
const COUNT: i32 = i32::MAX;

async fn canary() {
    let mut client = broker::connect().await;
    assert_eq!(client.call(0, &ApiVersionsRequest::default()).await.error_code, code::NONE, "the canary");
}

/// Sends the bytes on a connection of their own, which must be closed without an answer.
async fn is_closed_on(what: &str, bytes: &[u8]) {
    let mut client = broker::connect().await;
    // The broker may close while the bytes are still being written.
    let sent = client.send_bytes(bytes).await;
    assert!(sent.is_err() || client.is_closed().await, "{what}: answered");
    canary().await;
}

fn framed(body: &[u8]) -> Vec<u8> {
    [&(body.len() as i32).to_be_bytes()[..], body].concat()
}

/// A frame behind a header of version 1 or 2 (`flexible`).
fn request(key: i16, version: i16, flexible: bool, body: &Writer) -> Bytes {
    request_frame(key, version, if flexible { 2 } else { 1 }, 1, &body.bytes)
}

#[tokio::test]
async fn a_frame_length_that_cannot_be_closes_the_connection() {
    for length in [-1, i32::MIN, i32::MAX, 101 << 20] {
        is_closed_on(&format!("length {length}"), &length.to_be_bytes()).await;
    }
}

#[tokio::test]
async fn a_frame_too_short_for_a_header_closes_the_connection() {
    for length in 0..8 {
        is_closed_on(&format!("{length} bytes"), &framed(&vec![0; length])).await;
    }
}

#[tokio::test]
async fn other_protocols_on_this_port_are_closed() {
    is_closed_on("HTTP", b"GET / HTTP/1.1\r\nHost: kafka\r\n\r\n").await;
    is_closed_on("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a client's hello").await;
    is_closed_on("SSH", b"SSH-2.0-OpenSSH_9.6\r\n").await;
}

#[tokio::test]
async fn an_unknown_api_key_closes_the_connection() {
    for key in [-1, i16::MIN, 4, 5, 6, 7, 95, 1_000, i16::MAX] {
        is_closed_on(&format!("key {key}"), &request(key, 0, false, &Writer::new())).await;
    }
}

#[tokio::test]
async fn a_version_outside_the_row_closes_the_connection() {
    for api in apis::all().into_iter().filter(|api| api.on_brokers && api.key != 18) {
        for version in [-1, i16::MIN, api.versions.end() + 1, i16::MAX] {
            is_closed_on(
                &format!("{} v{version}", api.name),
                &request(api.key, version, true, &Writer::new().no_tags()),
            )
            .await;
        }
        if *api.versions.start() > 0 {
            let version = api.versions.start() - 1;
            is_closed_on(&format!("{} v{version}", api.name), &request(api.key, version, false, &Writer::new())).await;
        }
    }
}

#[tokio::test]
async fn a_key_of_controllers_is_unknown_to_a_broker() {
    for api in apis::all().into_iter().filter(|api| !api.on_brokers) {
        is_closed_on(api.name, &request(api.key, *api.versions.start(), true, &Writer::new())).await;
    }
}

#[tokio::test]
async fn a_client_id_that_does_not_fit_closes_the_connection() {
    for length in [1_000, i16::MAX] {
        let header = Writer::new().i16(18).i16(0).i32(1).i16(length).raw(b"short");
        is_closed_on(&format!("client id of {length}"), &framed(&header.bytes)).await;
    }
}

#[tokio::test]
async fn a_client_id_of_another_negative_length_than_null_harms_nobody() {
    // Kafka takes any negative length for null; a stricter broker may close the connection.
    for length in [-2i16, i16::MIN] {
        let mut client = broker::connect().await;
        let header = Writer::new().i16(18).i16(0).i32(1).i16(length);
        client.send_bytes(&framed(&header.bytes)).await.expect("send");
        if let Ok(frame) = client.receive_frame().await {
            assert_eq!(frame[..4], 1i32.to_be_bytes(), "the correlation id");
        }
        canary().await;
    }
}

#[tokio::test]
async fn a_client_id_may_be_null_empty_or_no_utf_8() {
    let ids: [(i16, &[u8]); 3] = [(-1, b""), (0, b""), (4, b"\xff\xfe\xc3\x28")];
    for (length, id) in ids {
        let mut client = broker::connect().await;
        let header = Writer::new().i16(18).i16(0).i32(1).i16(length).raw(id);
        client.send_bytes(&framed(&header.bytes)).await.expect("send");
        assert_eq!(client.receive::<ApiVersionsRequest>(0, 1).await.error_code, code::NONE, "{id:?}");
    }
}

#[tokio::test]
async fn tagged_fields_that_are_unknown_are_skipped() {
    let mut client = broker::connect().await;
    let header = Writer::new().i16(18).i16(3).i32(1).string(CLIENT_ID).varint(2);
    let header = header.varint(7).varint(3).raw(b"abc").varint(99).varint(0);
    let body = header.compact_string("conformance").compact_string("1").varint(1).varint(5).varint(2).raw(b"xy");
    client.send_bytes(&framed(&body.bytes)).await.expect("send");
    assert_eq!(client.receive::<ApiVersionsRequest>(3, 1).await.error_code, code::NONE);
}

#[tokio::test]
async fn tagged_fields_that_are_not_true_close_the_connection() {
    let start = || Writer::new().i16(18).i16(3).i32(1).string(CLIENT_ID);
    for (what, frame) in [
        ("2^31 tags in a header", start().varint(1 << 31)),
        ("2^32-1 tags in a header", start().varint(u64::from(u32::MAX))),
        ("a size past the end", start().varint(1).varint(1).varint(1_000_000).raw(b"xy")),
        ("a varint of twelve bytes", start().raw(&[0xff; 12])),
        ("tags in a body", start().no_tags().compact_string("a").compact_string("1").varint((1 << 31) - 1)),
    ] {
        is_closed_on(what, &framed(&frame.bytes)).await;
    }
}

/// Requests whose arrays claim two billion elements: at an old and at a flexible version.
fn huge_counts() -> Vec<(&'static str, Bytes)> {
    let huge = || Writer::new().varint(u64::from(u32::MAX));
    vec![
        ("Metadata v0", request(3, 0, false, &Writer::new().i32(COUNT))),
        ("Metadata v1", request(3, 1, false, &Writer::new().i32(COUNT))),
        ("Metadata v12", request(3, 12, true, &huge())),
        ("Produce v3", request(0, 3, false, &Writer::new().i16(-1).i16(1).i32(1_000).i32(COUNT))),
        ("Produce v9", request(0, 9, true, &Writer::new().varint(0).i16(1).i32(1_000).varint(u64::from(u32::MAX)))),
        ("Fetch v4", request(1, 4, false, &Writer::new().i32(-1).i32(0).i32(0).i32(1_000).i8(0).i32(COUNT))),
        (
            "Fetch v12",
            request(
                1,
                12,
                true,
                &Writer::new().i32(-1).i32(0).i32(0).i32(1_000).i8(0).i32(0).i32(-1).varint(u64::from(u32::MAX)),
            ),
        ),
        (
            "JoinGroup v0",
            request(11, 0, false, &Writer::new().string("g").i32(10_000).string("").string("consumer").i32(COUNT)),
        ),
        (
            "JoinGroup v6",
            request(
                11,
                6,
                true,
                &Writer::new()
                    .compact_string("g")
                    .i32(10_000)
                    .i32(10_000)
                    .compact_string("")
                    .varint(0)
                    .compact_string("consumer")
                    .varint(u64::from(u32::MAX)),
            ),
        ),
        ("OffsetFetch v8", request(9, 8, true, &huge())),
        ("DescribeGroups v0", request(15, 0, false, &Writer::new().i32(COUNT))),
        ("CreateTopics v2", request(19, 2, false, &Writer::new().i32(COUNT))),
        ("DeleteTopics v1", request(20, 1, false, &Writer::new().i32(COUNT))),
        ("DescribeConfigs v1", request(32, 1, false, &Writer::new().i32(COUNT))),
        ("FindCoordinator v4", request(10, 4, true, &Writer::new().i8(0).varint(u64::from(u32::MAX)))),
        ("ListOffsets v1", request(2, 1, false, &Writer::new().i32(-1).i32(COUNT))),
    ]
}

#[tokio::test]
async fn an_array_count_beyond_the_frame_closes_the_connection() {
    for (what, frame) in huge_counts() {
        is_closed_on(what, &frame).await;
    }
}

#[tokio::test]
async fn strings_past_the_end_and_nulls_where_none_may_be_close_the_connection() {
    for (what, frame) in [
        ("a topic name past the end", request(3, 1, false, &Writer::new().i32(1).i16(500).raw(b"short"))),
        ("a null topic name", request(3, 1, false, &Writer::new().i32(1).i16(-1))),
        ("a null compact string", request(10, 3, true, &Writer::new().varint(0).i8(0).no_tags())),
        ("a null group", request(12, 0, false, &Writer::new().i16(-1).i32(1).string("m"))),
        ("a null array", request(15, 0, false, &Writer::new().i32(-1))),
    ] {
        is_closed_on(what, &frame).await;
    }
}

async fn truncations_close<R: Request>(what: &str, version: i16, request: &R) {
    let whole = frame_of(version, request);
    // The header stays whole; every cut of the body is tried.
    let header = 4 + 8 + 2 + CLIENT_ID.len();
    for end in header..whole.len() {
        let cut = framed(&whole[4..end]);
        let mut client = broker::connect().await;
        client.send_bytes(&cut).await.expect("send");
        assert!(client.is_closed().await, "{what} v{version} cut to {end} of {}", whole.len());
    }
    canary().await;
}

#[tokio::test]
async fn a_body_that_ends_early_closes_the_connection() {
    let topic = ottla_protocol_tests::steps::Topic { name: "any".to_owned(), id: uuid::Uuid::nil() };
    for version in [3, 9] {
        let records = Batch::of(&["x"]).encode();
        truncations_close("Produce", version, &produce_request(version, &topic, 0, 1, &records)).await;
    }
    for version in [4, 12] {
        truncations_close("Fetch", version, &fetch_request(version, &topic, &[(0, 0)])).await;
    }
    for version in [0, 9] {
        truncations_close("JoinGroup", version, &Member::new("any").join_request(version)).await;
    }
}

#[tokio::test]
async fn bytes_behind_a_body_are_ignored() {
    let mut client = broker::connect().await;
    for version in [0, 3] {
        let mut request = ApiVersionsRequest::default();
        if version == 3 {
            request.client_software_name = ottla_protocol_tests::text("conformance");
            request.client_software_version = ottla_protocol_tests::text("1");
        }
        let frame = frame_of(version, &request);
        client.send_bytes(&framed(&[&frame[4..], b"and more"].concat())).await.expect("send");
        assert_eq!(client.receive::<ApiVersionsRequest>(version, 7).await.error_code, code::NONE, "v{version}");
    }
}

/// A fixed generator (SplitMix64): a failing run is the same run again.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

#[tokio::test]
async fn random_bytes_and_flipped_bits_harm_nobody() {
    let mut dice = Dice(4_3_1);
    let topic = create_topic(&mut broker::connect().await, 1, &[]).await;
    let seeds: Vec<Bytes> = vec![
        frame_of(9, &produce_request(9, &topic, 0, 1, &Batch::of(&["a", "b"]).encode())),
        frame_of(3, &produce_request(3, &topic, 0, -1, &Batch::of(&["a"]).encode())),
        frame_of(12, &fetch_request(12, &topic, &[(0, 0)])),
        frame_of(4, &fetch_request(4, &topic, &[(0, 0)])),
        frame_of(1, &MetadataRequest::default().with_topics(None)),
        frame_of(9, &Member::new("flipped").join_request(9)),
    ];
    for round in 0..600 {
        let mut frame = seeds[dice.below(seeds.len())].to_vec();
        if round % 4 == 0 {
            frame = framed(&(0..dice.below(200)).map(|_| dice.next() as u8).collect::<Vec<_>>());
        } else {
            for _ in 0..=dice.below(4) {
                // Not the length, or the connection would only wait for more.
                let at = 4 + dice.below(frame.len() - 4);
                frame[at] ^= 1 << dice.below(8);
            }
        }
        let mut client = broker::connect().await;
        client.send_bytes(&frame).await.expect("send");
        if round % 50 == 0 {
            canary().await;
        }
    }
    canary().await;
}

#[tokio::test]
async fn two_thousand_pipelined_requests_are_answered_in_their_order() {
    let mut client = broker::connect().await;
    let mut correlations = Vec::new();
    for _ in 0..2_000 {
        correlations.push(client.send(0, &ApiVersionsRequest::default()).await);
    }
    for correlation in correlations {
        let response = client.receive::<ApiVersionsRequest>(0, correlation).await;
        assert_eq!(response.error_code, code::NONE);
    }
}

#[tokio::test]
async fn a_slow_request_does_not_let_a_later_answer_overtake_it() {
    let mut client = broker::connect().await;
    let topic = create_topic(&mut client, 1, &[]).await;
    let request = fetch_request(12, &topic, &[(0, 0)]).with_max_wait_ms(200).with_min_bytes(1);
    let slow = client.send(12, &request).await;
    let quick = client.send(0, &ApiVersionsRequest::default()).await;
    client.receive::<FetchRequest>(12, slow).await;
    client.receive::<ApiVersionsRequest>(0, quick).await;
}

/// A broker whose memory nobody else moves, warmed up, and its peak so far.
async fn measured() -> Option<(Broker, u64)> {
    let own = broker::own(&[])?;
    let mut client = own.connect().await;
    for _ in 0..100 {
        client.call(0, &ApiVersionsRequest::default()).await;
    }
    own.forget_peak();
    let before = own.peak_kib().expect("its memory");
    Some((own, before))
}

/// Its memory never stood higher than so much above `before`, even while nobody looked.
async fn stays_within(own: &Broker, before: u64, mib: u64, what: &str) {
    let mut client = own.connect().await;
    assert_eq!(client.call(0, &ApiVersionsRequest::default()).await.error_code, code::NONE, "the canary");
    let grown = own.peak_kib().expect("its memory").saturating_sub(before);
    assert!(grown < mib * MIB, "{what}: memory grew by {} MiB, more than {mib}", grown / MIB);
}

#[tokio::test]
async fn declared_counts_cost_no_memory() {
    let Some((own, before)) = measured().await else { return };
    for (what, frame) in huge_counts() {
        for _ in 0..20 {
            let mut client = own.connect().await;
            client.send_bytes(&frame).await.ok();
            assert!(client.is_closed().await, "{what}");
        }
        stays_within(&own, before, 32, what).await;
    }
}

#[tokio::test]
async fn declared_counts_are_harmless_where_memory_is_not_overcommitted() {
    // 4 GiB of address space: none of the counts could be reserved.
    let Some(own) = broker::own_under("-v 4194304") else { return };
    for (what, frame) in huge_counts() {
        let mut client = own.connect().await;
        client.send_bytes(&frame).await.ok();
        assert!(client.is_closed().await, "{what}");
        let mut client = own.connect().await;
        assert_eq!(client.call(0, &ApiVersionsRequest::default()).await.error_code, code::NONE, "{what}");
    }
}

#[tokio::test]
async fn five_million_empty_topic_names_stay_bounded() {
    let Some((own, before)) = measured().await else { return };
    let mut body = Writer::new().i32(5_000_000);
    body.bytes.resize(4 + 10_000_000, 0);
    let mut client = own.connect().await;
    let sent = client.send_bytes(&request(3, 1, false, &body)).await;
    assert!(sent.is_err() || client.is_closed().await, "they were taken");
    stays_within(&own, before, 400, "5 M topics").await;
}

/// A Fetch of a topic with so many partitions, all the same and unknown.
fn fetch_of_partitions(count: usize) -> Bytes {
    let mut body = Writer::new().i32(-1).i32(0).i32(0).i32(1_000).i8(0).i32(1).string("absent").i32(count as i32);
    body.bytes.resize(body.bytes.len() + count * 16, 0);
    request(1, 4, false, &body)
}

#[tokio::test]
async fn hundreds_of_thousands_of_repeated_fetch_partitions_stay_bounded() {
    let Some((own, before)) = measured().await else { return };
    // With the topic, as many as a request may list.
    let mut client = own.connect().await;
    client.send_bytes(&fetch_of_partitions(249_999)).await.expect("send");
    let answer = client.receive::<FetchRequest>(4, 1).await;
    let answered = answer.responses.iter().map(|topic| topic.partitions.len()).sum::<usize>();
    assert_eq!(answered, 1, "it is one partition, however often it is named");
    stays_within(&own, before, 100, "250 k partitions").await;
    let sent = client.send_bytes(&fetch_of_partitions(250_000)).await;
    assert!(sent.is_err() || client.is_closed().await, "one more was taken");
    stays_within(&own, before, 100, "one more").await;
}

#[tokio::test]
async fn a_peer_that_never_reads_stops_being_read() {
    let Some((own, before)) = measured().await else { return };
    let mut client = own.connect().await;
    let frame = frame_of(0, &ApiVersionsRequest::default());
    let many: Vec<u8> = std::iter::repeat_n(&frame[..], 1_000).flatten().copied().collect();
    // Each request is 30 bytes and each answer several hundred: the peer may write only while it is read.
    let mut stopped = false;
    for _ in 0..2_000 {
        stopped = timeout(Duration::from_millis(500), client.send_bytes(&many)).await.is_err();
        if stopped {
            break;
        }
    }
    assert!(stopped, "60 MB of requests were read while no answer was");
    stays_within(&own, before, 64, "unread answers").await;
}

#[tokio::test]
async fn two_hundred_frames_declared_but_not_sent_cost_what_was_received() {
    let Some((own, before)) = measured().await else { return };
    let mut clients: Vec<Client> = Vec::new();
    for _ in 0..200 {
        let mut client = own.connect().await;
        let declared = (90i32 << 20).to_be_bytes();
        client.send_bytes(&[&declared[..], &[0; 1_024]].concat()).await.expect("send");
        clients.push(client);
    }
    stays_within(&own, before, 256, "200 declared frames").await;
}

#[tokio::test]
async fn a_produce_request_of_two_billion_records_costs_no_memory() {
    let Some((own, before)) = measured().await else { return };
    let mut client = own.connect().await;
    let topic = create_topic(&mut client, 1, &[]).await;
    let batch = Batch::of(&["x"]).with(|batch| (batch.count, batch.last_offset_delta) = (i32::MAX, i32::MAX - 1));
    for _ in 0..20 {
        let request: ProduceRequest = produce_request(9, &topic, 0, 1, &batch.encode());
        let answer = ottla_protocol_tests::steps::only_produced(client.call(9, &request).await);
        assert_eq!(answer.error_code, code::INVALID_RECORD);
    }
    stays_within(&own, before, 32, "2 G records").await;
}
