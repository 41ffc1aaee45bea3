//! Fetch (1): incremental sessions (KIP-227), from version 7 on.

use kafka_protocol::messages::fetch_request::ForgottenTopic;
use kafka_protocol::messages::{DeleteTopicsRequest, FetchRequest, FetchResponse};
use ottla_protocol_tests::batch::Batch;
use ottla_protocol_tests::client::Client;
use ottla_protocol_tests::fetched::values;
use ottla_protocol_tests::steps::{
    Topic, create_named, create_topic, fetch_request, fetched_partitions, produce, until,
};
use ottla_protocol_tests::{apis, broker, code};

const FIRST: i16 = 7;
/// The epoch that asks for a new session.
const NEW: i32 = 0;
/// The epoch that wants no session, and ends the one it names.
const FINAL: i32 = -1;

fn versions() -> std::ops::RangeInclusive<i16> {
    FIRST..=*apis::versions(1).end()
}

fn in_session(request: FetchRequest, session: i32, epoch: i32) -> FetchRequest {
    request.with_session_id(session).with_session_epoch(epoch)
}

/// Nothing changed: what a client sends in most of its fetches.
fn unchanged(session: i32, epoch: i32) -> FetchRequest {
    in_session(FetchRequest::default().with_max_bytes(1 << 20), session, epoch)
}

fn indexes(response: &FetchResponse) -> Vec<i32> {
    assert_eq!(response.error_code, code::NONE);
    fetched_partitions(response).iter().map(|data| data.partition_index).collect()
}

async fn open(client: &mut Client, version: i16, topic: &Topic, from: &[(i32, i64)]) -> FetchResponse {
    let response = client.call(version, &in_session(fetch_request(version, topic, from), 0, NEW)).await;
    assert_eq!(response.error_code, code::NONE);
    assert_ne!(response.session_id, 0, "a session was asked for");
    response
}

async fn fresh(partitions: i32) -> (Client, Topic) {
    let mut client = broker::connect().await;
    let topic = create_topic(&mut client, partitions, &[]).await;
    (client, topic)
}

#[tokio::test]
async fn a_new_session_tells_all_and_an_incremental_fetch_only_what_changed() {
    let (mut client, topic) = fresh(3).await;
    for (end, version) in (0..).zip(versions()) {
        let first = open(&mut client, version, &topic, &[(0, end), (1, end), (2, end)]).await;
        assert_eq!(indexes(&first), [0, 1, 2], "the empty ones too");
        let session = first.session_id;

        let nothing = client.call(version, &unchanged(session, 1)).await;
        assert_eq!((nothing.session_id, indexes(&nothing).len()), (session, 0), "v{version}");

        produce(&mut client, &topic, 1, &Batch::of(&["news"])).await;
        let news = client.call(version, &unchanged(session, 2)).await;
        assert_eq!(indexes(&news), [1], "v{version}");
        assert_eq!(values(fetched_partitions(&news)[0].records.as_ref().expect("records")), ["news"]);

        // The position in the session does not move by itself: the client must send the new one.
        assert_eq!(indexes(&client.call(version, &unchanged(session, 3)).await), [1], "v{version}");
        let moved = in_session(fetch_request(version, &topic, &[(1, end + 1)]), session, 4);
        assert!(indexes(&client.call(version, &moved).await).is_empty(), "v{version}");
        for partition in [0, 2] {
            produce(&mut client, &topic, partition, &Batch::of(&["x"])).await;
        }
    }
}

#[tokio::test]
async fn partitions_join_a_session_and_are_forgotten() {
    let (mut client, topic) = fresh(2).await;
    for (end, version) in (0..).zip(versions()) {
        let session = open(&mut client, version, &topic, &[(0, end)]).await.session_id;
        let joined = client.call(version, &in_session(fetch_request(version, &topic, &[(1, end)]), session, 1)).await;
        assert_eq!(indexes(&joined), [1], "a partition new to the session is told even if it is empty");
        for partition in [0, 1] {
            produce(&mut client, &topic, partition, &Batch::of(&["x"])).await;
        }
        assert_eq!(indexes(&client.call(version, &unchanged(session, 2)).await), [0, 1], "v{version}");

        let mut forgotten = ForgottenTopic::default().with_partitions(vec![0]);
        if version >= 13 {
            forgotten.topic_id = topic.id;
        } else {
            forgotten.topic = topic.topic_name();
        }
        let forgetting = unchanged(session, 3).with_forgotten_topics_data(vec![forgotten]);
        assert_eq!(indexes(&client.call(version, &forgetting).await), [1], "v{version}");
    }
}

#[tokio::test]
async fn an_unknown_session_and_a_wrong_epoch_are_refused_without_partitions() {
    let (mut client, topic) = fresh(1).await;
    for version in versions() {
        let unknown = client.call(version, &unchanged(123_456_789, 1)).await;
        assert_eq!((unknown.error_code, unknown.session_id), (code::FETCH_SESSION_ID_NOT_FOUND, 0), "v{version}");
        assert!(unknown.responses.is_empty());

        let session = open(&mut client, version, &topic, &[(0, 0)]).await.session_id;
        for epoch in [2, 3, i32::MAX] {
            let wrong = client.call(version, &unchanged(session, epoch)).await;
            assert_eq!(wrong.error_code, code::INVALID_FETCH_SESSION_EPOCH, "v{version} epoch {epoch}");
            assert!(wrong.responses.is_empty());
        }
        // The session still waits for its next epoch.
        assert_eq!(client.call(version, &unchanged(session, 1)).await.error_code, code::NONE);
        let repeated = client.call(version, &unchanged(session, 1)).await;
        assert_eq!(repeated.error_code, code::INVALID_FETCH_SESSION_EPOCH);
    }
}

#[tokio::test]
async fn the_final_epoch_is_a_full_fetch_that_ends_its_session() {
    let (mut client, topic) = fresh(1).await;
    produce(&mut client, &topic, 0, &Batch::of(&["a"])).await;
    for version in versions() {
        let session = open(&mut client, version, &topic, &[(0, 0)]).await.session_id;
        let last = client.call(version, &in_session(fetch_request(version, &topic, &[(0, 0)]), session, FINAL)).await;
        assert_eq!((last.session_id, indexes(&last)), (0, vec![0]), "v{version}");
        let gone = client.call(version, &unchanged(session, 1)).await;
        assert_eq!(gone.error_code, code::FETCH_SESSION_ID_NOT_FOUND, "v{version}");
    }
}

#[tokio::test]
async fn epoch_0_with_an_old_session_replaces_it() {
    let (mut client, topic) = fresh(1).await;
    for version in versions() {
        let old = open(&mut client, version, &topic, &[(0, 0)]).await.session_id;
        let new = client.call(version, &in_session(fetch_request(version, &topic, &[(0, 0)]), old, NEW)).await;
        assert_eq!((new.error_code, indexes(&new)), (code::NONE, vec![0]));
        assert!(new.session_id != 0 && new.session_id != old);
        let gone = client.call(version, &unchanged(old, 1)).await;
        assert_eq!(gone.error_code, code::FETCH_SESSION_ID_NOT_FOUND);
    }
}

#[tokio::test]
async fn a_session_belongs_to_no_connection() {
    let (mut client, topic) = fresh(1).await;
    let mut other = broker::connect().await;
    for version in versions() {
        let session = open(&mut client, version, &topic, &[(0, 0)]).await.session_id;
        assert_eq!(other.call(version, &unchanged(session, 1)).await.error_code, code::NONE, "v{version}");
    }
}

#[tokio::test]
async fn an_error_is_told_again_in_every_incremental_fetch() {
    let (mut client, topic) = fresh(1).await;
    for version in versions() {
        let session = open(&mut client, version, &topic, &[(0, 0), (7, 0)]).await.session_id;
        for epoch in [1, 2] {
            let response = client.call(version, &unchanged(session, epoch)).await;
            assert_eq!(indexes(&response), [7], "v{version}");
            assert_eq!(fetched_partitions(&response)[0].error_code, code::UNKNOWN_TOPIC_OR_PARTITION);
        }
    }
}

#[tokio::test]
async fn a_change_between_names_and_ids_within_a_session_is_refused() {
    let (mut client, topic) = fresh(1).await;
    for (first, second) in [(12, 13), (7, 18), (13, 12), (18, 7)] {
        let session = open(&mut client, first, &topic, &[(0, 0)]).await.session_id;
        let response = client.call(second, &in_session(fetch_request(second, &topic, &[(0, 0)]), session, 1)).await;
        assert_eq!(response.error_code, code::FETCH_SESSION_TOPIC_ID_ERROR, "v{first}, then v{second}");
    }
}

#[tokio::test]
async fn a_long_poll_in_a_session_wakes_for_its_partitions() {
    let (mut client, topic) = fresh(2).await;
    let mut writer = broker::connect().await;
    for (round, version) in versions().enumerate() {
        let end = round as i64;
        let session = open(&mut client, version, &topic, &[(0, end), (1, 0)]).await.session_id;
        let waiting = unchanged(session, 1).with_max_wait_ms(i32::MAX).with_min_bytes(1);
        let correlation = client.send(version, &waiting).await;
        produce(&mut writer, &topic, 0, &Batch::of(&["awaited"])).await;
        let response = client.receive::<FetchRequest>(version, correlation).await;
        assert_eq!(indexes(&response), [0], "v{version}");
    }
}

#[tokio::test]
async fn a_deleted_topic_in_a_session_is_an_error_of_its_partition() {
    for version in [7, 12, 13, 18] {
        let (mut client, topic) = fresh(1).await;
        let session = open(&mut client, version, &topic, &[(0, 0)]).await.session_id;
        let delete = DeleteTopicsRequest::default().with_topic_names(vec![topic.topic_name()]).with_timeout_ms(30_000);
        assert_eq!(client.call(5, &delete).await.responses[0].error_code, code::NONE);
        let mut epoch = 0;
        let told = until("the session tells of the deletion", async || {
            epoch += 1;
            let response = client.call(version, &unchanged(session, epoch)).await;
            assert_eq!(response.error_code, code::NONE);
            fetched_partitions(&response).first().map(|data| data.error_code)
        })
        .await;
        // Kafka remembers in the session which name the id had, and so even a fetch by id says that the name is
        // unknown. Clients take both answers as "ask for metadata".
        let by_id = version >= 13 && told == code::UNKNOWN_TOPIC_ID;
        assert!(by_id || told == code::UNKNOWN_TOPIC_OR_PARTITION, "v{version}: {told}");

        let again = create_named(&mut client, &topic.name, 1, &[]).await;
        produce(&mut client, &again, 0, &Batch::of(&["of the new topic"])).await;
        epoch += 1;
        let response = client.call(version, &unchanged(session, epoch)).await;
        let data = fetched_partitions(&response)[0];
        if version >= 13 {
            assert!(
                [code::UNKNOWN_TOPIC_ID, code::INCONSISTENT_TOPIC_ID].contains(&data.error_code),
                "v{version}: a session by id never slips into the new topic: {}",
                data.error_code
            );
        } else {
            assert_eq!(values(data.records.as_ref().expect("records")), ["of the new topic"], "by name it does");
        }
    }
}
