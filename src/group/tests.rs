//! Claims about the coordinators over a real store: what was answered survives a restart.

use std::path::Path;

use bytes::Bytes;

use super::classic::{JoinReply, JoinRequest, Protocol, SyncRequest};
use super::records::CommittedOffset;
use super::*;
use crate::config::{Machine, Origin, Settings, resolve};
use crate::store::{Store, StoreOptions};
use crate::types::Offset;
use crate::wire::batch::Batches;

/// A node in a directory.
struct Node {
    controller: Arc<Controller>,
    replicas: Arc<Replicas>,
    groups: Arc<Groups>,
    store: Arc<Store>,
}

impl Node {
    async fn start(dir: &Path) -> Self {
        Self::start_with(dir, &[]).await
    }

    async fn start_with(dir: &Path, more: &[(&str, &str)]) -> Self {
        let mut settings = Settings::default();
        let data = dir.to_str().expect("a plain path").to_owned();
        for (key, value) in [
            ("log.dirs", data.as_str()),
            ("offsets.topic.num.partitions", "3"),
            ("group.initial.rebalance.delay.ms", "0"),
        ]
        .into_iter()
        .chain(more.iter().copied())
        {
            settings.set(key, value, Origin::CommandLine);
        }
        let config = Arc::new(resolve(&settings, &Machine::default()).expect("a valid configuration").config);
        // The node before lets go of the directory when the last of its tasks has ended.
        let store = loop {
            match Store::open(dir, StoreOptions::default()) {
                Ok((store, _)) => break store,
                Err(error) => assert!(error.to_string().contains("in use"), "{error}"),
            }
            tokio::task::yield_now().await;
        };
        let controller = loop {
            match Controller::start(&config, &store.identity().expect("an identity")).await {
                Ok(controller) => break controller,
                Err(error) => assert!(error.to_string().to_lowercase().contains("lock"), "{error}"),
            }
            tokio::task::yield_now().await;
        };
        let replicas = Replicas::start(&config, &store, &Metrics::new(std::iter::empty()));
        let groups = Groups::start(&config, &controller, &replicas);
        controller.on_image(replicas.listener()).await.expect("it listens");
        controller.on_image(groups.listener()).await.expect("it listens");
        Self { controller, replicas, groups, store }
    }

    async fn stop(self) {
        self.groups.stop().await;
        self.controller.stop().await;
        self.store.close();
    }

    /// Asks until the shard has read its log.
    async fn ask(&self, group: &str, ask: Ask) -> Reply {
        loop {
            let loading = ask.refused(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS);
            let reply = self.groups.ask(group, ask.clone()).await;
            if reply != loading || matches!(ask, Ask::Heartbeat { .. }) {
                return reply;
            }
            tokio::task::yield_now().await;
        }
    }

    async fn join(&self, group: &str, member_id: &str) -> JoinReply {
        let request = JoinRequest {
            member_id: member_id.into(),
            new_member_id: "m".into(),
            instance_id: None,
            client_id: "c".into(),
            client_host: "/127.0.0.1".into(),
            protocol_type: "consumer".into(),
            protocols: vec![Protocol { name: "range".into(), metadata: Bytes::from_static(b"meta") }],
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 60_000,
            needs_member_id: false,
            skips_assignment: false,
        };
        match self.ask(group, Ask::Join(request)).await {
            Reply::Join(reply) => reply,
            other => panic!("JoinGroup was answered {other:?}"),
        }
    }

    async fn sync(&self, group: &str, generation: i32) -> Bytes {
        let request = SyncRequest {
            member_id: "m".into(),
            instance_id: None,
            generation,
            protocol_type: None,
            protocol: None,
            assignment: [("m".into(), Bytes::from_static(b"share"))].into(),
        };
        match self.ask(group, Ask::Sync(request)).await {
            Reply::Sync(reply) if !reply.code.is_error() => reply.assignment,
            other => panic!("SyncGroup was answered {other:?}"),
        }
    }

    async fn commit(&self, group: &str, member: Option<i32>, offset: i64) -> Result<(), ErrorCode> {
        let topic_id = self.controller.image().topic("t").map_or(TopicId::ZERO, |topic| topic.id);
        let value = CommittedOffset {
            offset: Offset(offset),
            leader_epoch: LeaderEpoch(0),
            metadata: "note".into(),
            // Now: a commit of 1970 would be past its retention already.
            committed_at: crate::env::now(),
            expires_at: None,
            topic_id,
        };
        let request = CommitRequest {
            member_id: if member.is_some() { "m".into() } else { "".into() },
            instance_id: None,
            generation: member.unwrap_or(-1),
            tells_unknown_groups: true,
            offsets: vec![("t".into(), 0, value)],
        };
        match self.ask(group, Ask::Commit(request)).await {
            Reply::Commit(outcome) => outcome,
            other => panic!("OffsetCommit was answered {other:?}"),
        }
    }

    async fn committed(&self, group: &str) -> Result<Option<Offset>, ErrorCode> {
        loop {
            let name = group.to_owned();
            let look =
                move |shard: &Shard| shard.group(&name).map(|group| group.offsets.fetch("t", TopicId::ZERO, 0).offset);
            match self.groups.read(group, look).await {
                Err(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS) => tokio::task::yield_now().await,
                found => return found,
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_topic_nobody_coordinates() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path()).await;
    assert_eq!(node.commit("g", None, 5).await, Err(ErrorCode::NOT_COORDINATOR));
    assert_eq!(node.committed("g").await, Err(ErrorCode::NOT_COORDINATOR));
    assert_eq!(node.groups.read_all(|shard| *shard.census()).await, Ok(Vec::new()));
    node.groups.ensure_topic().await.expect("one node is enough");
    node.groups.ensure_topic().await.expect("it is there");
    assert_eq!(node.commit("g", None, 5).await, Ok(()));
    assert_eq!(node.committed("g").await, Ok(Some(Offset(5))));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_assignments_and_offsets_survive_a_restart() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path()).await;
    node.groups.ensure_topic().await.expect("one node is enough");
    // Offsets of a topic that is not there would be forgotten.
    node.controller.auto_create_topics(vec!["t".to_owned()]).await.expect("one node is enough");
    let joined = node.join("g", "").await;
    assert_eq!((joined.code, joined.generation, &*joined.member_id), (ErrorCode::NONE, 1, "m"));
    assert_eq!(node.sync("g", 1).await, &b"share"[..]);
    for offset in 0..500 {
        assert_eq!(node.commit("g", Some(1), offset).await, Ok(()));
    }
    assert_eq!(node.commit("simple", None, 7).await, Ok(()));
    node.stop().await;

    let node = Node::start(dir.path()).await;
    assert_eq!(node.committed("g").await, Ok(Some(Offset(499))));
    assert_eq!(node.committed("simple").await, Ok(Some(Offset(7))));
    assert_eq!(node.commit("g", Some(0), 1).await, Err(ErrorCode::ILLEGAL_GENERATION));
    assert_eq!(node.commit("g", Some(1), 500).await, Ok(()));
    assert_eq!(node.sync("g", 1).await, &b"share"[..]);
    assert_eq!(node.join("g", "m").await.generation, 2);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_that_arrive_together_are_all_answered() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path()).await;
    node.groups.ensure_topic().await.expect("one node is enough");
    let each = (0..1_000).map(|n| node.commit(if n % 2 == 0 { "a" } else { "b" }, None, n));
    let outcomes = futures_util::future::join_all(each).await;
    assert!(outcomes.iter().all(Result::is_ok));
    assert_eq!(node.committed("a").await, Ok(Some(Offset(998))));
    assert_eq!(node.committed("b").await, Ok(Some(Offset(999))));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_go_with_their_topic() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path()).await;
    node.groups.ensure_topic().await.expect("one node is enough");
    node.controller.auto_create_topics(vec!["t".to_owned()]).await.expect("it is created");
    assert_eq!(node.commit("g", None, 5).await, Ok(()));
    let id = node.controller.image().topic("t").expect("it is there").id;
    node.controller
        .delete_topics(vec![crate::controller::TopicToDelete { name: None, id }])
        .await
        .expect("it is deleted");
    while node.committed("g").await != Ok(Some(Offset::UNKNOWN)) {
        tokio::task::yield_now().await;
    }
    node.stop().await;
    let node = Node::start(dir.path()).await;
    // Its tombstone is in the log; without offsets and members the group is nothing.
    assert!(matches!(node.committed("g").await, Ok(None | Some(Offset::UNKNOWN))));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_when_the_node_stops_is_told_to_look_elsewhere() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path()).await;
    node.groups.ensure_topic().await.expect("one node is enough");
    node.join("g", "").await;
    node.sync("g", 1).await;
    let request = JoinRequest {
        member_id: "".into(),
        new_member_id: "n".into(),
        instance_id: None,
        client_id: "c".into(),
        client_host: "/127.0.0.1".into(),
        protocol_type: "consumer".into(),
        protocols: vec![Protocol { name: "range".into(), metadata: Bytes::new() }],
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        needs_member_id: false,
        skips_assignment: false,
    };
    let waiting = node.groups.ask("g", Ask::Join(request));
    node.stop().await;
    assert_eq!(waiting.await, Reply::Join(JoinReply::refused(ErrorCode::NOT_COORDINATOR, "".into())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stopped_is_freed() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path()).await;
    node.groups.ensure_topic().await.expect("one node is enough");
    assert_eq!(node.commit("g", None, 5).await, Ok(()));
    let (controller, replicas) = (Arc::downgrade(&node.controller), Arc::downgrade(&node.replicas));
    let groups = Arc::downgrade(&node.groups);
    node.stop().await;
    assert_eq!((controller.strong_count(), groups.strong_count(), replicas.strong_count()), (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_records_of_groups_are_compressed_as_configured_and_read_again() {
    let dir = tempfile::tempdir().expect("a directory");
    for (id, offset) in (0..=4).zip(10..) {
        let codec = id.to_string();
        let node = Node::start_with(dir.path(), &[("offsets.topic.compression.codec", &codec)]).await;
        node.groups.ensure_topic().await.expect("one node is enough");
        node.controller.auto_create_topics(vec!["t".to_owned()]).await.expect("one node is enough");
        assert_eq!(node.commit("g", None, offset).await, Ok(()));
        let index = Groups::partition_of(&node.controller.image(), "g").expect("the topic is there");
        let partition = node.replicas.partition(CONSUMER_OFFSETS, index).expect("it is here");
        let read = partition.read_blocking(Offset(0), 1 << 20).expect("it is there");
        let last = read.into_iter().flat_map(Batches::new).last().expect("a batch").expect("it is whole");
        assert_eq!(last.header.codec(), Codec::from_id(id));
        node.stop().await;
    }
    let node = Node::start(dir.path()).await;
    assert_eq!(node.committed("g").await, Ok(Some(Offset(14))));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_node_refuses_what_is_new_and_keeps_what_it_has() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start_with(dir.path(), &[("ottla.group.coordinator.max.bytes", "1500")]).await;
    node.groups.ensure_topic().await.expect("one node is enough");
    assert_eq!(node.commit("a", None, 1).await, Ok(()));
    let refused = loop {
        let name = format!("g{}", node.groups.shared.usage.room().bytes);
        if let Err(code) = node.commit(&name, None, 1).await {
            break code;
        }
    };
    assert_eq!(refused, ErrorCode::INVALID_COMMIT_OFFSET_SIZE);
    assert_eq!(node.commit("a", None, 2).await, Ok(()));
    assert_eq!(node.join("new", "").await.code, ErrorCode::GROUP_MAX_SIZE_REACHED);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_bounded_by_its_bytes_and_what_no_group_may_keep_does_not_wait() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path()).await;
    node.groups.ensure_topic().await.expect("one node is enough");
    assert_eq!(node.commit("g", None, 1).await, Ok(()));
    let sync = |bytes: usize| {
        Ask::Sync(SyncRequest {
            member_id: "m".into(),
            instance_id: None,
            generation: 1,
            protocol_type: None,
            protocol: None,
            assignment: [("m".into(), Bytes::from(vec![0; bytes]))].into(),
        })
    };
    let code = |reply: Reply| match reply {
        Reply::Sync(reply) => reply.code,
        other => panic!("SyncGroup was answered {other:?}"),
    };
    assert_eq!(code(node.groups.ask("g", sync(33 << 20)).await), ErrorCode::GROUP_MAX_SIZE_REACHED);
    let all = node.groups.shared.waiting.available_permits();
    let held =
        node.groups.shared.waiting.clone().try_acquire_many_owned(u32::try_from(all).expect("few")).expect("all");
    assert_eq!(code(node.groups.ask("g", sync(1)).await), ErrorCode::COORDINATOR_LOAD_IN_PROGRESS);
    drop(held);
    assert_eq!(code(node.groups.ask("g", sync(1)).await), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(node.groups.shared.waiting.available_permits(), all, "who was answered no longer waits");
    node.stop().await;
}

/// On one thread, where a shard takes nothing in until somebody waits.
#[tokio::test]
async fn a_shard_with_a_full_queue_is_busy_and_not_gone() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path()).await;
    node.groups.ensure_topic().await.expect("one node is enough");
    assert_eq!(node.commit("g", None, 1).await, Ok(()));
    let waiting: Vec<_> = (0..QUEUE).map(|_| node.groups.ask("g", Ask::Leave(Vec::new()))).collect();
    let busy = ErrorCode::COORDINATOR_LOAD_IN_PROGRESS;
    let asked = node.groups.ask("g", Ask::Leave(Vec::new()));
    let (one, all) = (node.groups.read("g", |_| ()), node.groups.read_all(|_| ()));
    assert_eq!(asked.await, Reply::Leave(Err(busy)));
    assert_eq!((one.await, all.await), (Err(busy), Err(busy)));
    assert_eq!(futures_util::future::join_all(waiting).await.len(), QUEUE);
    node.stop().await;
}

/// A commit of so many partitions that expires at once.
fn expiring(topic: &str, count: i32) -> Ask {
    let value = CommittedOffset {
        offset: Offset(1),
        leader_epoch: LeaderEpoch(0),
        metadata: "".into(),
        committed_at: crate::env::now(),
        expires_at: Some(crate::env::now()),
        topic_id: TopicId::ZERO,
    };
    Ask::Commit(CommitRequest {
        member_id: "".into(),
        instance_id: None,
        generation: -1,
        tells_unknown_groups: true,
        offsets: (0..count).map(|partition| (topic.into(), partition, value.clone())).collect(),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_expire_however_many_and_long_named_they_are() {
    let dir = tempfile::tempdir().expect("a directory");
    // Tombstones of a thousand offsets, or of two groups with the longest names, fit no batch.
    let settings = [
        ("message.max.bytes", "40000"),
        ("offsets.topic.num.partitions", "1"),
        ("offsets.retention.check.interval.ms", "200"),
    ];
    let node = Node::start_with(dir.path(), &settings).await;
    node.groups.ensure_topic().await.expect("one node is enough");
    node.controller.auto_create_topics(vec!["t".to_owned()]).await.expect("it is created");
    let long = ["a", "b"].map(|letter| letter.repeat(32_767));
    for group in long.iter().map(String::as_str).chain(["neighbour"]) {
        assert_eq!(node.ask(group, expiring("t", 1)).await, Reply::Commit(Ok(())));
    }
    for number in 0..10 {
        assert_eq!(node.ask(&format!("g{number}"), expiring("t", 200)).await, Reply::Commit(Ok(())));
    }
    while node.groups.read_all(|shard| shard.groups().len()).await != Ok(vec![0]) {
        tokio::task::yield_now().await;
    }
    node.stop().await;
}
