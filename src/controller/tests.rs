//! Claims about the running controller: one voter, a real store in a directory of its own.

use std::path::Path;

use parking_lot::Mutex;

use super::*;
use crate::config::MOST_OFFSETS_PARTITIONS;
use crate::types::NodeId;

fn config(dir: &Path) -> BrokerConfig {
    BrokerConfig { log_dirs: vec![dir.to_path_buf()], ..BrokerConfig::default() }
}

/// A log directory that has never been used.
fn unused(config: &BrokerConfig) -> Identity {
    Identity {
        dir: config.log_dirs[0].clone(),
        node_id: None,
        cluster_id: None,
        directory_id: Uuid::nil(),
        metadata: None,
        replicas: 0,
        unclean: false,
    }
}

/// Runs one life of a broker: when it is over, every task is gone and the directory is free.
fn life<T>(config: BrokerConfig, work: impl AsyncFnOnce(Arc<Controller>) -> T) -> Result<T, StoreError> {
    let log = unused(&config);
    life_over(&log, config, work)
}

fn life_over<T>(
    log: &Identity,
    config: BrokerConfig,
    work: impl AsyncFnOnce(Arc<Controller>) -> T,
) -> Result<T, StoreError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let controller = Controller::start(&Arc::new(config), log).await?;
        Ok(work(controller).await)
    })
}

fn topic(name: &str, partitions: i32) -> NewTopic {
    NewTopic { partitions, ..NewTopic::named(name) }
}

#[test]
fn topics_ids_and_the_cluster_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let before = life(config(dir.path()), async |controller| {
        let made = controller.create_topics(vec![topic("a", 3), topic("b", 1)], false).await.unwrap();
        assert!(made.iter().all(|(_, outcome)| outcome.is_ok()));
        let image = controller.image();
        let gone = controller.delete_topics(vec![TopicToDelete { name: Some("b".into()), id: TopicId::ZERO }]).await;
        assert!(gone.unwrap()[0].outcome.is_ok());
        assert_eq!(image.topics().len(), 2, "an image never changes");
        controller.image()
    });
    let before = before.unwrap();
    let after = life(config(dir.path()), async |controller| controller.image()).unwrap();
    assert_eq!(after.topics().collect::<Vec<_>>(), before.topics().collect::<Vec<_>>());
    assert_eq!(after.cluster_id, before.cluster_id);
    assert_eq!(after.cluster_id.len(), 22);
    assert!(after.brokers[&NodeId(1)].epoch > before.brokers[&NodeId(1)].epoch);
}

#[test]
fn a_topic_made_again_has_another_id() {
    let dir = tempfile::tempdir().unwrap();
    let ids = life(config(dir.path()), async |controller| {
        let mut ids = Vec::new();
        for _ in 0..2 {
            let made = controller.create_topics(vec![topic("a", 1)], false).await.unwrap();
            ids.push(made[0].1.as_ref().unwrap().id);
            controller.delete_topics(vec![TopicToDelete { name: Some("a".into()), id: TopicId::ZERO }]).await.unwrap();
        }
        ids
    });
    let ids = ids.unwrap();
    assert_ne!(ids[0], ids[1]);
}

#[test]
fn producer_ids_are_never_given_twice_over_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let mut next = 0;
    for _ in 0..3 {
        let blocks = life(config(dir.path()), async |controller| {
            let (one, two) = tokio::join!(controller.allocate_producer_ids(), controller.allocate_producer_ids());
            [one.unwrap(), two.unwrap()]
        });
        for block in blocks.unwrap() {
            assert_eq!(block, next..next + 1000);
            next = block.end;
        }
    }
}

#[test]
fn listeners_have_seen_a_topic_before_its_creation_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    life(config(dir.path()), async |controller| {
        let seen: Arc<Mutex<Vec<Arc<MetadataImage>>>> = Arc::default();
        let log = seen.clone();
        controller.on_image(Box::new(move |image| log.lock().push(image.clone()))).await.unwrap();
        assert_eq!(seen.lock().len(), 1, "the newest image is shown at once");
        controller.create_topics(vec![topic("a", 1)], false).await.unwrap();
        assert!(seen.lock().last().unwrap().topic("a").is_some());
    })
    .unwrap();
}

#[test]
fn many_requests_at_once_are_each_judged_after_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    life(config(dir.path()), async |controller| {
        let tasks: Vec<_> = (0..50)
            .map(|number| {
                let controller = controller.clone();
                tokio::spawn(async move {
                    controller.create_topics(vec![topic(&format!("t{}", number % 10), 2)], false).await.unwrap()
                })
            })
            .collect();
        let mut made = 0;
        for task in tasks {
            match &task.await.unwrap()[0].1 {
                Ok(_) => made += 1,
                Err(refusal) => assert_eq!(refusal.code, ErrorCode::TOPIC_ALREADY_EXISTS),
            }
        }
        assert_eq!((made, controller.image().topics().len()), (10, 10));
    })
    .unwrap();
}

#[test]
fn a_long_log_gives_the_same_image_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let before = life(config(dir.path()), async |controller| {
        for number in 0..200 {
            controller.create_topics(vec![topic(&format!("t{number}"), 2)], false).await.unwrap();
            let delete = TopicToDelete { name: Some(format!("t{}", number / 3 * 2)), id: TopicId::ZERO };
            controller.delete_topics(vec![delete]).await.unwrap();
        }
        controller.allocate_producer_ids().await.unwrap();
        controller.image()
    });
    let before = before.unwrap();
    assert!(before.version > 256, "more than one snapshot's worth of entries");
    let after = life(config(dir.path()), async |controller| controller.image()).unwrap();
    assert_eq!(after.topics().collect::<Vec<_>>(), before.topics().collect::<Vec<_>>());
    assert_eq!(after.next_producer_id, before.next_producer_id);
}

#[test]
fn a_directory_of_another_cluster_is_refused_with_both_ids() {
    let dir = tempfile::tempdir().unwrap();
    let named = |id: &str| BrokerConfig { cluster_id: Some(id.into()), ..config(dir.path()) };
    life(named("first"), async |controller| assert_eq!(&*controller.image().cluster_id, "first")).unwrap();
    let refused = life(named("second"), async |_| ()).unwrap_err().to_string();
    assert!(["first", "second", "CLUSTER_ID", "log.dirs"].iter().all(|word| refused.contains(word)), "{refused}");
    life(named("first"), async |_| ()).unwrap();
    life(config(dir.path()), async |controller| assert_eq!(&*controller.image().cluster_id, "first")).unwrap();
}

#[test]
fn a_directory_of_another_node_is_refused_with_both_ids() {
    let dir = tempfile::tempdir().unwrap();
    life(config(dir.path()), async |_| ()).unwrap();
    let other = BrokerConfig { node_id: NodeId(7), ..config(dir.path()) };
    let refused = life(other, async |_| ()).unwrap_err().to_string();
    assert!(refused.contains("node.id=1") && refused.contains("node.id=7"), "{refused}");
}

#[test]
fn metadata_of_a_newer_version_is_refused_with_a_sentence() {
    use crate::store::metadata::Slot;
    let dir = tempfile::tempdir().unwrap();
    life(config(dir.path()), async |controller| controller.create_topics(vec![topic("a", 1)], false).await)
        .unwrap()
        .unwrap();
    let newer = |store: &MetadataStore| {
        let (index, mut bytes) = store.last_entry().unwrap().unwrap();
        bytes[0] = record::LEVEL + 1;
        store.append(&[(index, bytes)]).unwrap();
    };
    newer(&MetadataStore::open(&dir.path().join(DIRECTORY)).unwrap());
    let refused = life(config(dir.path()), async |_| ()).unwrap_err().to_string();
    assert!(refused.contains("newer version of Ottla"), "{refused}");

    let store = MetadataStore::open(&dir.path().join(DIRECTORY)).unwrap();
    let mut vote = store.get(Slot::Vote).unwrap().unwrap();
    vote[0] = record::LEVEL + 1;
    store.put(&[(Slot::Vote, &vote)]).unwrap();
    drop(store);
    let refused = life(config(dir.path()), async |_| ()).unwrap_err().to_string();
    assert!(refused.contains("newer version of Ottla"), "{refused}");
}

#[test]
fn the_offsets_topic_is_made_as_its_keys_say() {
    let dir = tempfile::tempdir().unwrap();
    life(config(dir.path()), async |controller| {
        for _ in 0..2 {
            controller.create_internal_topic(image::CONSUMER_OFFSETS).await.unwrap();
        }
        let image = controller.image();
        let offsets = image.topic(image::CONSUMER_OFFSETS).unwrap();
        assert_eq!(
            (offsets.partitions.len(), offsets.replication_factor()),
            (50, 1),
            "three replicas are not to be had"
        );
        assert_eq!(offsets.configs["cleanup.policy"], "compact");
        assert_eq!(offsets.configs["segment.bytes"], "104857600");
        assert!(offsets.is_internal());
    })
    .unwrap();
}

#[test]
fn the_offsets_topic_can_be_made_at_both_bounds_of_its_keys() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    (config.offsets_topic_num_partitions, config.offsets_topic_segment_bytes) = (MOST_OFFSETS_PARTITIONS, 1 << 20);
    life(config, async |controller| {
        controller.create_internal_topic(image::CONSUMER_OFFSETS).await.unwrap();
        let image = controller.image();
        let made = image.topic(image::CONSUMER_OFFSETS).unwrap().partitions.len();
        assert_eq!(i32::try_from(made), Ok(MOST_OFFSETS_PARTITIONS));
    })
    .unwrap();
}

#[test]
fn asking_for_a_replication_factor_that_cannot_be_had_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.explicit.insert("offsets.topic.replication.factor".into(), "3".into());
    life(config, async |controller| {
        let refused = controller.create_internal_topic(image::CONSUMER_OFFSETS).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::INVALID_REPLICATION_FACTOR);
    })
    .unwrap();
}

#[test]
fn a_stopped_controller_refuses_and_does_not_hang() {
    let dir = tempfile::tempdir().unwrap();
    life(config(dir.path()), async |controller| {
        controller.stop().await;
        assert!(controller.create_topics(vec![topic("a", 1)], false).await.is_err());
        assert!(controller.image().topic("a").is_none());
    })
    .unwrap();
}

#[test]
fn older_metadata_stay_older_however_often_the_start_is_tried() {
    let (dir, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    life(config(dir.path()), async |_| ()).unwrap();
    let files = || std::fs::read_dir(dir.path().join(DIRECTORY)).unwrap().map(|entry| entry.unwrap().path());
    for file in files().filter(|file| file.is_file()) {
        std::fs::copy(&file, copy.path().join(file.file_name().unwrap())).unwrap();
    }
    let (metadata, version) = life(config(dir.path()), async |controller| {
        controller.create_topics(vec![topic("a", 3)], false).await.unwrap();
        (controller.metadata_id(), controller.image().version)
    })
    .unwrap();
    std::fs::remove_dir_all(dir.path().join(DIRECTORY)).unwrap();
    std::fs::rename(copy.path(), dir.path().join(DIRECTORY)).unwrap();
    let used = unused(&config(dir.path()));
    let mark = crate::store::MetadataMark { metadata, version };
    let used = Identity { node_id: Some(NodeId(1)), metadata: Some(mark), replicas: 3, ..used };
    for _ in 0..10 {
        let refused = life_over(&used, config(dir.path()), async |_| ()).unwrap_err().to_string();
        assert!(refused.contains("are older than the log directory"), "{refused}");
    }
}

#[test]
fn a_log_directory_is_known_by_its_id_as_long_as_there_are_partitions() {
    let dir = tempfile::tempdir().unwrap();
    let other = Identity { directory_id: Uuid::from_u128(1), ..unused(&config(dir.path())) };
    life(config(dir.path()), async |_| ()).unwrap();
    let registered = life_over(&other, config(dir.path()), async |controller| {
        controller.create_topics(vec![topic("a", 3)], false).await.unwrap();
        controller.image().brokers[&NodeId(1)].log_dirs.clone()
    });
    assert_eq!(registered.unwrap(), [Uuid::from_u128(1)], "nothing was missed by the change");
    let refused = life(config(dir.path()), async |_| ()).unwrap_err().to_string();
    assert!(refused.contains("the 3 partitions of this node live in another log directory"), "{refused}");
    life_over(&other, config(dir.path()), async |_| ()).unwrap();
}
