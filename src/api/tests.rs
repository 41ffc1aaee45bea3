//! What the table and dispatch promise, with a whole broker behind them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::{DescribeGroupsRequest, GroupId, OffsetFetchRequest};
use kafka_protocol::protocol::StrBytes;

use super::*;
use crate::broker::MetadataAnswers;
use crate::config::BrokerConfig;
use crate::controller::Controller;
use crate::error::ErrorCode;
use crate::group::Groups;
use crate::metrics::Metrics;
use crate::replica::{FetchSessions, ProducerIds, Replicas};
use crate::store::{Store, StoreOptions};
use crate::wire::message::Newer;

/// Key, name, least and greatest version of Kafka 4.3.1, greatest of 4.4.0.
fn kafka() -> BTreeMap<i16, (&'static str, i16, i16, i16)> {
    let lines = include_str!("apis.tsv").lines().skip(1);
    lines
        .map(|line| line.split('\t').collect::<Vec<_>>())
        .filter(|columns| !columns[2].is_empty())
        .map(|columns| {
            let number = |column: usize| columns[column].parse().expect("a number");
            (number(0), (columns[1], number(2), number(3), number(8)))
        })
        .collect()
}

#[test]
fn the_rows_are_kafkas() {
    let kafka = kafka();
    for row in TABLE {
        let (name, least, greatest, newer) = kafka[&row.key];
        // ApiVersions goes on to Kafka 4.4's version 5, which clients of 4.4 send first.
        let greatest = if row.key == API_VERSIONS { newer } else { greatest };
        assert_eq!((row.name, &row.versions), (name, &(least..=greatest)), "key {}", row.key);
        // librdkafka before 2.11 takes a raised floor of Produce for "no compression" (KAFKA-18659).
        let advertised_from = if row.key == 0 { 0 } else { least };
        assert_eq!(row.advertised_from, advertised_from, "{}", row.name);
    }
}

#[test]
fn the_rows_ascend_and_carry_their_requests_key() {
    assert!(TABLE.windows(2).all(|pair| pair[0].key < pair[1].key));
    assert!(KEYS.iter().all(|(ours, theirs)| ours == theirs), "{KEYS:?}");
}

/// A whole broker in a directory of its own, without sockets.
async fn broker(dir: &Path) -> Arc<Broker> {
    let config = Arc::new(BrokerConfig { log_dirs: vec![dir.to_path_buf()], ..BrokerConfig::default() });
    let (store, _) = Store::open(dir, StoreOptions::default()).expect("a store");
    let controller = Controller::start(&config, &store.identity().expect("an identity")).await.expect("a controller");
    let metrics = Metrics::new(TABLE.iter().map(|row| (row.name, row.versions.clone())));
    let replicas = Replicas::start(&config, &store, &metrics);
    let groups = Groups::start(&config, &controller, &replicas);
    let (sessions, producer_ids) = (FetchSessions::new(10), ProducerIds::new(&controller));
    let metadata_answers = MetadataAnswers::default();
    Arc::new(Broker { config, metrics, controller, replicas, groups, sessions, producer_ids, metadata_answers })
}

/// Dispatches frames, each an API key, a version and what follows the correlation id.
fn check(frames: &[(i16, i16, &[u8])], mut outcome: impl FnMut(Result<Call, Disconnect>)) {
    let dir = tempfile::tempdir().expect("a directory");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let broker = broker(dir.path()).await;
        let mut context = RequestContext::of_connection(1, "PLAINTEXT".into(), IpAddr::V4(Ipv4Addr::LOCALHOST));
        for (key, version, rest) in frames {
            let head = [&key.to_be_bytes()[..], &version.to_be_bytes(), &7_i32.to_be_bytes(), rest].concat();
            outcome(dispatch(&broker, &mut context, head.into()));
        }
    });
}

#[test]
fn an_unknown_api_or_version_and_a_malformed_request_disconnect() {
    let null_client: &[u8] = &[0xff, 0xff];
    // Four thousand million topics; what such a count does in older versions is claimed where the allocator is ours.
    let malformed_metadata: &[u8] = &[0xff, 0xff, 0, 0xff, 0xff, 0xff, 0xff, 0x0f];
    let frames: [(i16, i16, &[u8]); 8] = [
        (-1, 0, null_client),
        (4, 0, null_client),
        (32_767, 0, null_client),
        (3, -1, null_client),
        (3, 14, null_client),
        (3, 9, malformed_metadata),
        (3, 0, &[0x7f, 0xff]),
        (3, 9, null_client),
    ];
    check(&frames, |call| {
        let refused = match call {
            Ok(call) => matches!(call.reply, Reply::Close(_)),
            Err(_) => true,
        };
        assert!(refused);
    });
}

#[test]
fn api_versions_answers_every_version_there_may_be() {
    check(&[(18, 0, &[0xff, 0xff]), (18, -1, &[0xff, 0xff]), (18, 500, &[0xff, 0xff, 0])], |call| {
        let call = call.expect("a call");
        assert_eq!((call.correlation_id, TABLE[call.row].name), (7, "ApiVersions"));
        assert!(matches!(call.reply, Reply::Now(_)));
    });
}

#[test]
fn all_topics_are_written_once_for_each_image_and_every_answer_is_counted() {
    let dir = tempfile::tempdir().expect("a directory");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let broker = broker(dir.path()).await;
        let mut context = RequestContext::of_connection(1, "PLAINTEXT".into(), IpAddr::V4(Ipv4Addr::LOCALHOST));
        let mut ask = |version: i16| {
            let (no_client, all_topics) = ([0xff, 0xff], [0xff, 0xff, 0xff, 0xff]);
            let head =
                [&3_i16.to_be_bytes()[..], &version.to_be_bytes(), &7_i32.to_be_bytes(), &no_client, &all_topics];
            match dispatch(&broker, &mut context, head.concat().into()).expect("a call").reply {
                Reply::Now(Frame(mut pieces)) => pieces.remove(0),
                _ => panic!("nothing is to be waited for"),
            }
        };
        let (first, again, other) = (ask(1), ask(1), ask(2));
        assert_eq!((first.as_ptr(), first.len()), (again.as_ptr(), again.len()), "the same bytes");
        assert_ne!(first, other);
        broker.controller.auto_create_topics(vec!["made".to_owned()]).await.expect("one node is enough");
        let after = ask(1);
        assert!(after.windows(4).any(|name| name == b"made"));
        let line = "kafka_network_requestmetrics_errors_total{request=\"Metadata\",error=\"NONE\"} 2";
        let page = broker.metrics.render();
        // The topic and its partition.
        assert!(page.contains(line), "{line} is not in\n{page}");
        assert!(page.contains("kafka_network_requestmetrics_localtimems_count{request=\"Metadata\"} 4"), "{page}");
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_a_request_names_again_is_not_looked_at_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = broker(dir.path()).await;
    let connection = RequestContext::of_connection(1, "PLAINTEXT".into(), IpAddr::V4(Ipv4Addr::LOCALHOST));
    let groups = ["g", "h", "g", "g"].map(|name| GroupId(StrBytes::from_static_str(name)));
    // Nothing is coordinated here, and whoever looks is told so.
    let looked_at = ErrorCode::NOT_COORDINATOR.get();
    let expected = [looked_at, looked_at, ErrorCode::INVALID_REQUEST.get(), ErrorCode::INVALID_REQUEST.get()];

    let context = RequestContext { api_version: 6, ..connection.clone() };
    let request = DescribeGroupsRequest::default().with_groups(groups.to_vec());
    let Reply::Later(answer) = describe_groups::handle(&broker, &context, request) else { panic!("it looks") };
    let codes: Vec<i16> = answer.await.groups.iter().map(|group| group.error_code).collect();
    assert_eq!(codes, expected);

    let context = RequestContext { api_version: 9, ..connection };
    let asked = groups.map(|group| OffsetFetchRequestGroup::default().with_group_id(group));
    let request = Newer(OffsetFetchRequest::default().with_groups(asked.to_vec()));
    let Reply::Later(answer) = offset_fetch::handle(&broker, &context, request) else { panic!("it looks") };
    let codes: Vec<i16> = answer.await.groups.iter().map(|group| group.error_code).collect();
    assert_eq!(codes, expected);
}
