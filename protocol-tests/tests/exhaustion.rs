//! Peers that mean to use up the broker: its connections, its descriptors, its memory. Whatever they do, others are
//! served meanwhile, and afterwards nothing of it is left.
//!
//! What would use up Apache Kafka too (it has no such bounds) runs against a broker of the test's own only.

use bytes::Bytes;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    ApiVersionsRequest, CreateTopicsRequest, InitProducerIdRequest, JoinGroupRequest, MetadataRequest, TopicName,
    TransactionalId,
};
use ottla_protocol_tests::batch::Batch;
use ottla_protocol_tests::broker::{self, Broker};
use ottla_protocol_tests::client::{CLIENT_ID, Client, frame_of, request_frame};
use ottla_protocol_tests::group::{self, Member};
use ottla_protocol_tests::steps::{
    Topic, create_request, create_topic, fetch_request, only_produced, produce, produce_bytes, produce_request, until,
};
use ottla_protocol_tests::writer::Writer;
use ottla_protocol_tests::{code, text, unique};
use tokio::io::AsyncReadExt;
use tokio::time::{Duration, timeout};

const MIB: u64 = 1 << 10;

async fn is_served(client: &mut Client) {
    assert_eq!(client.call(0, &ApiVersionsRequest::default()).await.error_code, code::NONE, "the canary");
}

async fn canary(of: &Broker) {
    is_served(&mut of.connect().await).await;
}

/// A broker of the test's own that has served somebody, and the most memory that it took so far.
async fn measured() -> Option<(Broker, u64)> {
    let own = broker::own(&[])?;
    canary(&own).await;
    let before = own.peak_kib().expect("its memory");
    Some((own, before))
}

async fn grew_less_than(own: &Broker, before: u64, mib: u64, what: &str) {
    canary(own).await;
    let grown = own.peak_kib().expect("its memory") - before;
    assert!(grown < mib * MIB, "{what}: memory grew by {} MiB, more than {mib}", grown / MIB);
}

fn ask() -> Bytes {
    frame_of(0, &ApiVersionsRequest::default())
}

async fn connect_many(to: &Broker, count: usize) -> Vec<Client> {
    let mut clients = Vec::with_capacity(count);
    for _ in 0..count {
        clients.push(to.connect().await);
    }
    clients
}

#[tokio::test]
async fn two_hundred_requests_that_come_byte_by_byte_are_all_answered() {
    let mut clients = connect_many(broker::shared(), 200).await;
    for byte in ask() {
        for client in &mut clients {
            client.send_bytes(&[byte]).await.expect("send");
        }
        canary(broker::shared()).await;
    }
    for client in &mut clients {
        client.receive::<ApiVersionsRequest>(0, 7).await;
    }
}

/// Sends a byte now and then until the broker has closed the connection.
async fn trickle(client: &mut Client) {
    loop {
        match timeout(Duration::from_millis(200), client.stream().read(&mut [0])).await {
            Ok(Ok(0) | Err(_)) => return,
            Ok(Ok(_)) => panic!("answered"),
            Err(_silence) if client.send_bytes(&[0]).await.is_err() => return,
            Err(_silence) => {}
        }
    }
}

#[tokio::test]
async fn a_request_that_comes_too_slowly_or_not_at_all_loses_its_connection() {
    // Kafka waits for connections.max.idle.ms, and a byte now and then keeps a connection for ever.
    let Some(own) = broker::own(&[]) else { return };
    let started = [&1_000i32.to_be_bytes()[..], &[0, 0]].concat();
    let mut trickling = own.connect().await;
    trickling.send_bytes(&started).await.expect("send");
    let mut stalled = own.connect().await;
    stalled.send_bytes(&started).await.expect("send");
    let mut quiet = own.connect().await;
    let closed = async {
        trickle(&mut trickling).await;
        assert!(stalled.is_closed().await);
    };
    timeout(Duration::from_secs(120), closed).await.expect("both are closed");
    // One that owes nothing may be as quiet as it likes.
    is_served(&mut quiet).await;
}

/// Connects, does something, and ends the connection with a reset: at every stage of a request.
async fn storm(broker: &Broker, topic: &Topic, count: usize) {
    let ask = ask();
    let produce = frame_of(9, &produce_request(9, topic, 0, 1, &Batch::of(&["x"]).encode()));
    let waits = fetch_request(12, topic, &[(0, 0)]).with_max_wait_ms(i32::MAX).with_min_bytes(i32::MAX);
    let waits = frame_of(12, &waits);
    let many = ask.repeat(64);
    let declared = [&(1i32 << 20).to_be_bytes()[..], &[0, 0, 0, 9]].concat();
    let stages: [&[u8]; 9] =
        [&[], &ask[..3], &ask[..9], &ask, &many, &produce[..produce.len() - 1], &produce, &waits, &declared];
    for stage in stages.iter().cycle().take(count) {
        let mut client = broker.connect().await;
        client.send_bytes(stage).await.expect("send");
        client.reset();
    }
}

#[tokio::test]
async fn a_storm_of_resets_is_weathered() {
    let broker = broker::shared();
    let mut client = broker.connect().await;
    let topic = create_topic(&mut client, 1, &[]).await;
    for _ in 0..5 {
        storm(broker, &topic, 180).await;
        canary(broker).await;
        // A connection from before the storm goes on, and so does its topic.
        produce(&mut client, &topic, 0, &Batch::of(&["still here"])).await;
    }
}

#[tokio::test]
async fn a_storm_of_resets_leaves_nothing_behind() {
    let Some((own, before)) = measured().await else { return };
    let mut client = own.connect().await;
    let topic = create_topic(&mut client, 1, &[]).await;
    let open = own.descriptors();
    tokio::join!(storm(&own, &topic, 900), storm(&own, &topic, 900), storm(&own, &topic, 900));
    until("every connection is closed", async || (own.descriptors() <= open).then_some(())).await;
    grew_less_than(&own, before, 64, "resets").await;
}

#[tokio::test]
async fn idle_connections_cost_little() {
    let Some((own, before)) = measured().await else { return };
    let mut clients = connect_many(&own, 500).await;
    for client in &mut clients {
        is_served(client).await;
    }
    grew_less_than(&own, before, 24, "500 idle connections").await;
}

/// A limit of open files, and the connections that it leaves room for: half of so few stays with the store.
const FEW_DESCRIPTORS: &str = "-n 256";
const ROOM: usize = 128;

/// True when something has come for the client that it has not read.
fn has_answer(client: &mut Client) -> bool {
    let nothing = std::io::ErrorKind::WouldBlock;
    !matches!(client.stream().try_read(&mut [0]), Err(error) if error.kind() == nothing)
}

#[tokio::test]
async fn connections_never_take_the_descriptors_that_the_store_needs() {
    let Some(own) = broker::own_under(FEW_DESCRIPTORS) else { return };
    let mut first = own.connect().await;
    let topic = create_topic(&mut first, 1, &[]).await;
    let mut let_in = connect_many(&own, ROOM - 1).await;
    for client in &mut let_in {
        is_served(client).await;
    }
    let mut waiting = own.connect().await;
    waiting.send_bytes(&ask()).await.expect("send");
    // Enough for the store to begin new files, several times.
    let value = "x".repeat(900_000);
    for _ in 0..300 {
        let answer = produce_bytes(&mut first, &topic, 0, &Batch::of(&[&value]).encode()).await;
        assert_eq!(answer.error_code, code::NONE, "{:?}", answer.error_message);
    }
    for client in &mut let_in {
        is_served(client).await;
    }
    assert!(!has_answer(&mut waiting), "one more than there is room for was let in");
    drop(let_in);
    waiting.receive::<ApiVersionsRequest>(0, 7).await;
    canary(&own).await;
}

const CANNOT_ACCEPT: &str = "connections cannot be accepted";

/// True when the client has an answer before the broker says that it can accept no more.
async fn is_let_in(own: &Broker, client: &mut Client) -> bool {
    client.send_bytes(&ask()).await.expect("send");
    tokio::select! {
        biased;
        readable = client.stream().readable() => readable.is_ok(),
        () = until("an answer, or a line", async || (own.said(CANNOT_ACCEPT) > 0).then_some(())) => false,
    }
}

#[tokio::test]
async fn a_broker_without_descriptors_says_so_once_and_accepts_again_when_it_has_some() {
    let Some(own) = broker::own_under(FEW_DESCRIPTORS) else { return };
    let mut first = own.connect().await;
    is_served(&mut first).await;
    let open = own.descriptors().expect("its descriptors");
    own.limit_descriptors(open + 5);
    let mut let_in = Vec::new();
    let mut waiting = loop {
        let mut next = own.connect().await;
        if !is_let_in(&own, &mut next).await {
            break next;
        }
        next.receive::<ApiVersionsRequest>(0, 7).await;
        let_in.push(next);
        // Files of the store come and go.
        assert!(let_in.len() <= 20, "{} let in", let_in.len());
    };
    for client in let_in.iter_mut().chain([&mut first]) {
        for _ in 0..100 {
            is_served(client).await;
        }
    }
    assert_eq!(own.said(CANNOT_ACCEPT), 1, "a line, not one for each attempt");
    own.limit_descriptors(256);
    waiting.receive::<ApiVersionsRequest>(0, 7).await;
    canary(&own).await;
    until("it says so", async || (own.said("connections are accepted again") == 1).then_some(())).await;
}

fn tags(mut body: Writer, count: u64) -> Writer {
    body = body.varint(count);
    for tag in 0..count {
        body = body.varint(tag).varint(0);
    }
    body
}

#[tokio::test]
async fn millions_of_tagged_fields_cost_what_was_sent() {
    let Some((own, before)) = measured().await else { return };
    let header = |key: i16, version: i16| Writer::new().i16(key).i16(version).i32(1).string(CLIENT_ID);
    let produce = |header: Writer| header.varint(0).i16(1).i32(1_000).compact_count(0);
    for (what, body) in [
        ("in the header of Produce", tags(header(0, 9), 5_000_000)),
        ("in the body of Produce", tags(produce(header(0, 9).no_tags()), 5_000_000)),
        ("in the body of Metadata", tags(header(3, 12).no_tags().varint(0).i8(0).i8(0), 3_000_000)),
        ("in the body of Fetch", tags(fetch_of_nothing(header(1, 12).no_tags()), 1_500_000)),
    ] {
        let frame = [&(body.bytes.len() as i32).to_be_bytes()[..], &body.bytes].concat();
        let mut client = own.connect().await;
        let sent = client.send_bytes(&frame).await;
        assert!(sent.is_err() || client.is_closed().await, "{what}");
        grew_less_than(&own, before, 160, what).await;
    }
}

fn fetch_of_nothing(header: Writer) -> Writer {
    let request = header.i32(-1).i32(0).i32(0).i32(1_000).i8(0).i32(0).i32(-1);
    request.compact_count(0).compact_count(0).compact_string("")
}

/// Sends the same frame again and again, and never reads.
async fn shower(own: &Broker, frame: &[u8], times: usize) -> Client {
    let mut client = own.connect().await;
    for _ in 0..times {
        match timeout(Duration::from_secs(1), client.send_bytes(frame)).await {
            // It stopped reading, or it closed the connection.
            Err(_) | Ok(Err(_)) => break,
            Ok(Ok(())) => {}
        }
    }
    client
}

#[tokio::test]
async fn large_requests_that_wait_do_not_pile_up() {
    let Some((own, before)) = measured().await else { return };
    let mut client = own.connect().await;
    let topic = create_topic(&mut client, 1, &[]).await;
    // Fetches that wait: one partition exists, a hundred thousand do not.
    let head = Writer::new().i32(-1).i32(i32::MAX).i32(1 << 20).i32(1 << 20).i8(0).i32(2);
    let exists = head.string(&topic.name).i32(1).i32(0).i64(0).i32(1_000);
    let mut fetch = exists.string("absent").i32(100_000);
    for partition in 0..100_000 {
        fetch = fetch.i32(partition).i64(0).i32(1_000);
    }
    let frame = request_frame(1, 4, 1, 7, &fetch.bytes);
    let mut held = Vec::new();
    for _ in 0..20 {
        held.push(shower(&own, &frame, 10).await);
        canary(&own).await;
    }
    grew_less_than(&own, before, 800, "waiting fetches").await;
    drop(held);
}

#[tokio::test]
async fn produce_requests_of_many_partitions_do_not_pile_up() {
    let Some((own, before)) = measured().await else { return };
    let mut client = own.connect().await;
    let topic = create_topic(&mut client, 1, &[]).await;
    // One partition that is appended to, a hundred thousand that are refused.
    let batch = Batch::of(&["x"]).encode();
    let head = Writer::new().i16(-1).i16(-1).i32(30_000).i32(2);
    let mut body = head.string(&topic.name).i32(1).i32(0).i32(batch.len() as i32).raw(&batch);
    body = body.string("absent").i32(100_000);
    for partition in 0..100_000 {
        body = body.i32(partition).i32(-1);
    }
    let client = shower(&own, &request_frame(0, 3, 1, 7, &body.bytes), 300).await;
    grew_less_than(&own, before, 200, "produce requests of many partitions").await;
    drop(client);
}

#[tokio::test]
async fn commits_of_many_offsets_do_not_pile_up() {
    let Some((own, before)) = measured().await else { return };
    let mut client = group::connect_to(&own).await;
    let topic = create_topic(&mut client, 1, &[]).await;
    let head = Writer::new().string("commits").i32(-1).string("").i64(-1).i32(1);
    let mut body = head.string(&topic.name).i32(100_000);
    for offset in 0..100_000 {
        body = body.i32(0).i64(offset).i16(-1);
    }
    let mut held = Vec::new();
    for _ in 0..10 {
        held.push(shower(&own, &request_frame(8, 2, 1, 7, &body.bytes), 20).await);
    }
    grew_less_than(&own, before, 400, "commits of many offsets").await;
    drop(held);
}

#[tokio::test]
async fn answers_that_list_thousands_of_topics_do_not_pile_up() {
    let Some((own, before)) = measured().await else { return };
    let mut client = own.connect().await;
    let all =
        (0..2_000).map(|number| create_request(&format!("topic-of-a-long-name-{number}"), 1, &[]).topics.remove(0));
    let create = CreateTopicsRequest::default().with_topics(all.collect()).with_timeout_ms(60_000);
    let created = client.call(7, &create).await;
    assert!(created.topics.iter().all(|topic| topic.error_code == code::NONE));
    let everything = frame_of(1, &MetadataRequest::default().with_topics(None));
    let mut client = shower(&own, &everything, 2_000).await;
    grew_less_than(&own, before, 128, "unread lists of topics").await;
    for _ in 0..200 {
        client.receive::<MetadataRequest>(1, 7).await;
    }
}

fn join(group: &str, version: i16, metadata: &Bytes) -> JoinGroupRequest {
    let protocol = JoinGroupRequestProtocol::default().with_name(text("range")).with_metadata(metadata.clone());
    let request = Member::new(group).join_request(version).with_session_timeout_ms(60_000);
    request.with_protocols(vec![protocol])
}

/// Many new groups at once; the codes of the answers.
async fn join_many(client: &mut Client, version: i16, count: usize) -> Vec<i16> {
    let (prefix, metadata) = (unique("mass"), Member::new("any").subscription());
    let mut codes = Vec::with_capacity(count);
    for first in (0..count).step_by(500) {
        let some = first..(first + 500).min(count);
        let mut correlations = Vec::new();
        for number in some {
            correlations.push(client.send(version, &join(&format!("{prefix}-{number}"), version, &metadata)).await);
        }
        for correlation in correlations {
            codes.push(client.receive::<JoinGroupRequest>(version, correlation).await.error_code);
        }
    }
    codes
}

#[tokio::test]
async fn two_thousand_new_groups_are_served() {
    let mut client = group::connect().await;
    let codes = join_many(&mut client, 4, 2_000).await;
    assert!(codes.iter().all(|answer| *answer == code::MEMBER_ID_REQUIRED));
    Member::alone(&unique("after"), &mut client).await;
}

#[tokio::test]
async fn a_hundred_thousand_groups_stay_bounded() {
    let Some((own, before)) = measured().await else { return };
    let mut client = group::connect_to(&own).await;
    for version in [3, 4] {
        let codes = join_many(&mut client, version, 50_000).await;
        let expected = if version >= 4 { code::MEMBER_ID_REQUIRED } else { code::NONE };
        assert!(codes.iter().all(|answer| *answer == expected), "v{version}");
    }
    grew_less_than(&own, before, 400, "100 k groups").await;
    Member::alone("after", &mut client).await;
}

#[tokio::test]
async fn what_members_say_of_themselves_is_bounded() {
    let Some((own, before)) = measured().await else { return };
    let mut client = group::connect_to(&own).await;
    let metadata = Bytes::from(vec![0; 10 << 20]);
    let mut refused = 0;
    for number in 0..60 {
        let answer = client.call(3, &join(&format!("greedy-{number}"), 3, &metadata)).await.error_code;
        assert!([code::NONE, code::GROUP_MAX_SIZE_REACHED].contains(&answer), "{answer}");
        refused += usize::from(answer == code::GROUP_MAX_SIZE_REACHED);
    }
    assert!(refused > 0, "600 MiB were taken");
    grew_less_than(&own, before, 500, "metadata of members").await;
    Member::alone("modest", &mut client).await;
}

#[tokio::test]
async fn members_that_know_two_hundred_thousand_protocols_hold_nobody_up() {
    let mut hostile = Vec::new();
    for number in 0..4 {
        let protocol = |number| JoinGroupRequestProtocol::default().with_name(text(&format!("protocol-{number}")));
        let protocols = (0..200_000).map(protocol).collect();
        let request = Member::new(&unique("polyglot")).join_request(3).with_protocols(protocols);
        let mut client = group::connect().await;
        hostile.push((client.send(3, &request).await, client, number));
    }
    Member::alone(&unique("neighbour"), &mut group::connect().await).await;
    for (correlation, mut client, number) in hostile {
        // Kafka takes as many as somebody names.
        let answer = client.receive::<JoinGroupRequest>(3, correlation).await.error_code;
        assert!([code::NONE, code::INVALID_REQUEST].contains(&answer), "{number}: {answer}");
    }
}

#[tokio::test]
async fn producers_that_are_refused_do_not_fill_the_log() {
    let Some(own) = broker::own(&[]) else { return };
    let mut client = own.connect().await;
    let id = "x".repeat(32_000);
    let request = InitProducerIdRequest::default()
        .with_transactional_id(Some(TransactionalId(text(&id))))
        .with_transaction_timeout_ms(60_000)
        .with_producer_id((-1).into())
        .with_producer_epoch(-1);
    for _ in 0..5_000 {
        let answer = client.call(5, &request).await;
        assert_eq!(answer.error_code, code::TRANSACTIONAL_ID_AUTHORIZATION_FAILED);
    }
    let refusals = own.said("a transactional producer is refused");
    assert!((1..1_000).contains(&refusals), "{refusals} lines");
    assert_eq!(own.said(&id[..200]), 0, "a line shows the beginning of an id");
}

#[tokio::test]
async fn forty_thousand_producers_of_a_partition_stay_bounded() {
    let Some((own, before)) = measured().await else { return };
    let mut client = own.connect().await;
    let topic = create_topic(&mut client, 1, &[]).await;
    for first in (0..40_000).step_by(500) {
        let mut correlations = Vec::new();
        for id in first..first + 500 {
            let batch = Batch::of(&["x"]).by(1_000_000 + id, 0, 0).encode();
            correlations.push(client.send(9, &produce_request(9, &topic, 0, 1, &batch)).await);
        }
        for correlation in correlations {
            let answer =
                only_produced(client.receive::<kafka_protocol::messages::ProduceRequest>(9, correlation).await);
            assert_eq!(answer.error_code, code::NONE);
        }
    }
    grew_less_than(&own, before, 200, "40 k producers").await;
    // The last of them is still known: its retry is a duplicate.
    let again = Batch::of(&["x"]).by(1_039_999, 0, 0);
    assert_eq!(produce(&mut client, &topic, 0, &again).await, 39_999);
}

#[tokio::test]
async fn requests_as_large_as_real_ones_get_are_answered() {
    let mut client = broker::connect().await;
    let name = |number: usize| TopicName(text(&format!("{}-{number}", "a".repeat(200))));
    let topics = (0..20_000).map(|number| MetadataRequestTopic::default().with_name(Some(name(number))));
    let request = MetadataRequest::default().with_topics(Some(topics.collect())).with_allow_auto_topic_creation(false);
    assert_eq!(client.call(9, &request).await.topics.len(), 20_000);

    let absent = Topic { name: unique("absent"), id: uuid::Uuid::nil() };
    let partitions: Vec<(i32, i64)> = (0..50_000).map(|partition| (partition, 0)).collect();
    let response = client.call(12, &fetch_request(12, &absent, &partitions)).await;
    assert_eq!(response.responses.iter().map(|topic| topic.partitions.len()).sum::<usize>(), 50_000);

    let shape =
        create_request("any", 1, &[("retention.ms", "86400000"), ("cleanup.policy", "delete")]).topics.remove(0);
    let topics = (0..2_000).map(|number| shape.clone().with_name(name(number)));
    let request = CreateTopicsRequest::default().with_topics(topics.collect()).with_validate_only(true);
    let response = client.call(7, &request.with_timeout_ms(30_000)).await;
    assert!(response.topics.iter().all(|topic| topic.error_code == code::NONE));
    assert_eq!(response.topics.len(), 2_000);
}

#[tokio::test]
async fn groups_as_large_as_real_ones_get_are_answered() {
    let mut client = group::connect().await;
    let topic = create_topic(&mut client, 1, &[]).await;
    let group = unique("large");
    // A consumer's subscription, with user data.
    let subscription = |bytes: usize| {
        let start = Writer::new().i16(1).i32(1).string(&topic.name).i32(bytes as i32);
        Bytes::from(start.raw(&vec![7; bytes]).i32(0).bytes)
    };
    let answer = client.call(3, &join(&unique("larger"), 3, &subscription(5 << 20))).await;
    assert_eq!(answer.error_code, code::NONE);
    // What a generation keeps must fit into one record of the offsets topic, in Kafka too.
    let answer = client.call(3, &join(&group, 3, &subscription(256 << 10))).await;
    assert_eq!(answer.error_code, code::NONE);
    let member = Member { id: answer.member_id.to_string(), generation: answer.generation_id, ..Member::new(&group) };
    let share = "s".repeat(512 << 10);
    let synced = member.sync(&mut client, 3, &[(&member.id, &share)]).await;
    assert_eq!((synced.error_code, synced.assignment.len()), (code::NONE, share.len()));
}

#[tokio::test]
async fn a_request_too_long_for_its_api_is_refused_at_its_first_bytes() {
    // Kafka's one limit is for all APIs.
    let Some((own, before)) = measured().await else { return };
    for (what, key, version) in [
        ("Fetch", 1, 4),
        ("ListOffsets", 2, 1),
        ("Metadata", 3, 1),
        ("OffsetCommit", 8, 2),
        ("JoinGroup", 11, 0),
        ("ApiVersions", 18, 0),
        ("CreateTopics", 19, 2),
        ("an API that nobody knows", 999, 0),
    ] {
        let mut client = own.connect().await;
        let start = Writer::new().i32(90 << 20).i16(key).i16(version).i32(1);
        client.send_bytes(&start.bytes).await.expect("send");
        assert!(client.is_closed().await, "{what}");
    }
    let mut client = own.connect().await;
    client.send_bytes(&Writer::new().i32(90 << 20).i16(0).i16(3).i32(1).bytes).await.expect("send");
    grew_less_than(&own, before, 32, "announced requests").await;
    assert!(timeout(Duration::from_millis(200), client.is_closed()).await.is_err(), "Produce may be that long");
}
