//! Pure. Whether the metadata and the log directory that a start finds belong together.
//!
//! Both are directories that an operator mounts, copies and restores. Metadata that do not know the topics of a log
//! directory would serve nobody its records; an empty log directory under metadata that know topics would serve them as
//! empty, from offset 0. Each is refused with a sentence before the metadata get another record.

use std::path::Path;

use uuid::Uuid;

use super::image::MetadataImage;
use crate::error::StoreError;
use crate::store::Identity;
use crate::types::NodeId;

/// What a start finds of metadata, before it adds to them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Found<'a> {
    /// The metadata's directory.
    pub dir: &'a Path,
    /// The id that it drew when it was first used.
    pub id: Uuid,
    /// The index of the last entry; `None` when there never was one.
    pub version: Option<u64>,
}

/// Refuses metadata that are not those of the log directory, or older than it. Before the quorum starts, which adds an
/// entry: a start that is tried again and again must not make old metadata look new.
pub fn check_metadata(log: &Identity, found: &Found<'_>) -> Result<(), StoreError> {
    let (dir, metadata, held) = (log.dir.display(), found.dir.display(), log.replicas);
    let remedy = format!(
        "bring back the metadata directory that was used with {dir} last (is its disk mounted? is metadata.log.dir \
         right?), or, to give the records up and begin empty, remove {dir} and {metadata}"
    );
    match log.metadata {
        Some(mark) if mark.metadata != found.id && held > 0 => Err(StoreError::new(format!(
            "the log directory {dir} belongs to other metadata than those in {metadata}: its {held} partitions are \
             unknown to them, and nobody would have been served their records; {remedy}"
        ))),
        Some(mark) if mark.metadata == found.id && found.version < Some(mark.version) => Err(StoreError::new(format!(
            "the metadata in {metadata} are older than the log directory {dir}: they end at version {}, and it \
             has seen version {}: topics made since would have been unknown, topics deleted since would have come back \
             empty, and producer ids would have been given twice; {remedy}",
            found.version.map_or_else(|| "none".to_owned(), |version| version.to_string()),
            mark.version
        ))),
        None if found.version.is_none() && held > 0 => Err(StoreError::new(format!(
            "the metadata in {metadata} are new, but the log directory {dir} holds {held} partitions: their topics are \
             unknown now, and nobody would have been served their records; {remedy}"
        ))),
        _ => Ok(()),
    }
}

/// Refuses a log directory in which the partitions that this node is to have cannot be.
pub fn check_directory(log: &Identity, metadata: &Path, image: &MetadataImage, node: NodeId) -> Result<(), StoreError> {
    let held: usize = image.topics().map(|topic| topic.held_by(node).count()).sum();
    let registered = image.brokers.get(&node).map_or(&[][..], |broker| &broker.log_dirs[..]);
    // Older versions have not registered their directories: then one that no broker has used is not the one.
    let is_home = match registered {
        [] => log.node_id.is_some(),
        dirs => dirs.contains(&log.directory_id),
    };
    if held == 0 || is_home {
        return Ok(());
    }
    let (dir, metadata) = (log.dir.display(), metadata.display());
    Err(StoreError::new(format!(
        "the {held} partitions of this node live in another log directory than {dir}, say the metadata in {metadata}: \
         they would have been served as empty; mount the disk that is missing or correct log.dirs, or, to begin empty, \
         remove {metadata} too"
    )))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::controller::apply::apply;
    use crate::controller::image::BrokerRegistration;
    use crate::controller::record::{PartitionRecord, Record, TopicRecord};
    use crate::store::MetadataMark;
    use crate::types::{LeaderEpoch, PartitionEpoch, TopicId};

    const OURS: Uuid = Uuid::from_u128(7);

    fn log(replicas: usize, metadata: Option<(Uuid, u64)>) -> Identity {
        Identity {
            dir: PathBuf::from("/the/log"),
            node_id: Some(NodeId(1)),
            cluster_id: Some("c".into()),
            directory_id: Uuid::from_u128(1),
            metadata: metadata.map(|(metadata, version)| MetadataMark { metadata, version }),
            replicas,
            unclean: false,
        }
    }

    fn refused(log: &Identity, version: Option<u64>) -> Option<String> {
        let found = Found { dir: Path::new("/the/metadata"), id: OURS, version };
        let sentence = check_metadata(log, &found).err()?.to_string();
        assert!(["/the/log", "/the/metadata", "remove"].iter().all(|word| sentence.contains(word)), "{sentence}");
        Some(sentence)
    }

    #[test]
    fn metadata_that_the_log_directory_does_not_belong_to_are_refused() {
        let other = log(3, Some((Uuid::from_u128(8), 5)));
        assert!(refused(&other, Some(100)).unwrap().contains("its 3 partitions"));
        assert!(refused(&other, None).is_some());
        assert_eq!(refused(&Identity { replicas: 0, ..other }, None), None, "there is nothing to lose");
    }

    #[test]
    fn metadata_older_than_the_log_directory_are_refused() {
        let ours = log(3, Some((OURS, 5)));
        assert!(refused(&ours, Some(4)).unwrap().contains("end at version 4"));
        assert!(
            refused(&Identity { replicas: 0, ..ours.clone() }, Some(4)).is_some(),
            "deleted topics would come back"
        );
        assert_eq!([refused(&ours, Some(5)), refused(&ours, Some(6))], [None, None]);
    }

    #[test]
    fn a_log_directory_without_a_note_is_taken_unless_the_metadata_are_new() {
        assert_eq!([refused(&log(3, None), Some(0)), refused(&log(0, None), None)], [None, None]);
        assert!(refused(&log(3, None), None).unwrap().contains("are new"));
    }

    fn image(log_dirs: Vec<Uuid>) -> MetadataImage {
        let broker = BrokerRegistration {
            id: NodeId(1),
            epoch: 1,
            incarnation: Uuid::nil(),
            endpoints: Vec::new(),
            rack: None,
            fenced: false,
            log_dirs,
        };
        apply(&MetadataImage::default(), 1, &[Record::RegisterBroker(broker)])
    }

    fn with_a_topic(image: &MetadataImage, node: i32) -> MetadataImage {
        let (topic, nodes) = (TopicId(Uuid::from_u128(9)), vec![NodeId(node)]);
        let partition = PartitionRecord {
            topic,
            index: 0,
            replicas: nodes.clone(),
            isr: nodes,
            leader: NodeId(node),
            leader_epoch: LeaderEpoch(0),
            partition_epoch: PartitionEpoch(0),
        };
        apply(image, 2, &[Record::Topic(TopicRecord { id: topic, name: "t".into() }), Record::Partition(partition)])
    }

    fn is_home(log: &Identity, image: &MetadataImage) -> bool {
        check_directory(log, Path::new("/the/metadata"), image, NodeId(1)).is_ok()
    }

    #[test]
    fn partitions_are_not_looked_for_in_a_directory_that_is_not_theirs() {
        let (log, elsewhere) = (log(0, None), image(vec![Uuid::from_u128(2)]));
        assert!(is_home(&log, &elsewhere), "no partitions to miss");
        assert!(is_home(&log, &with_a_topic(&elsewhere, 2)), "they are another node's");
        assert!(!is_home(&log, &with_a_topic(&elsewhere, 1)));
        assert!(is_home(&log, &with_a_topic(&image(vec![log.directory_id]), 1)));
    }

    #[test]
    fn under_a_registration_without_directories_a_used_one_is_taken_and_a_new_one_is_not() {
        let image = with_a_topic(&image(Vec::new()), 1);
        assert!(is_home(&log(3, None), &image));
        assert!(!is_home(&Identity { node_id: None, ..log(0, None) }, &image));
    }
}
