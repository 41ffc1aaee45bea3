//! Pure. What an image changes for this node: which topics are gone, new, or changed.
//!
//! Topics are compared by identity first: images share what did not change, so a topic costs a pointer comparison. A
//! topic made again under its old name has another id: it is one gone and one new.

use std::collections::HashMap;
use std::sync::Arc;

use crate::controller::image::{MetadataImage, TopicImage};
use crate::types::{NodeId, TopicId};

/// The difference between what is installed and an image.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Plan {
    /// Topics that the image does not have.
    pub gone: Vec<TopicId>,
    /// Topics that are not installed.
    pub new: Vec<Arc<TopicImage>>,
    /// Topics that are installed in another state.
    pub changed: Vec<Arc<TopicImage>>,
}

impl Plan {
    /// Compares.
    pub fn new(installed: &HashMap<TopicId, Arc<TopicImage>>, image: &MetadataImage) -> Self {
        let mut plan = Self::default();
        let mut kept = 0;
        for topic in image.topics() {
            match installed.get(&topic.id) {
                None => plan.new.push(Arc::clone(topic)),
                Some(old) => {
                    kept += 1;
                    if !Arc::ptr_eq(old, topic) && old != topic {
                        plan.changed.push(Arc::clone(topic));
                    }
                }
            }
        }
        if kept < installed.len() {
            plan.gone.extend(installed.keys().filter(|id| image.topic_by_id(**id).is_none()));
        }
        plan
    }
}

/// The partitions of a topic that a node is to hold.
pub fn local(topic: &TopicImage, node: NodeId) -> impl Iterator<Item = (TopicId, i32)> {
    let numbered = (0i32..).zip(&topic.partitions);
    numbered.filter(move |(_, partition)| partition.replicas.contains(&node)).map(|(index, _)| (topic.id, index))
}
