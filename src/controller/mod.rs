//! Shell. The controller: decides what the cluster's metadata becomes, and publishes what it is.
//!
//! Requests go in by [`Controller::create_topics`] and its like; records come out of pure decisions, travel through
//! the metadata log (openraft, fsynced), are folded into a [`MetadataImage`] and shown to every listener registered
//! with [`Controller::on_image`] before the request is answered. Nothing here may decide outside the one task that
//! owns the decisions.

pub mod apply;
pub mod image;
pub mod placement;
pub mod record;
pub mod topics;

pub use image::{BrokerEndpoint, BrokerRegistration, MetadataImage, PartitionImage, TopicImage};
