//! Pure but for [`source`], which reads one file. What an operator may say, and what it means.
//!
//! There is one table ([`table`]): every key of Kafka's broker, topic and group configuration and our own, with type,
//! default, range, documentation and how far this version honours it. Loading, validation, `config/broker.yaml`,
//! DescribeConfigs and the typed [`BrokerConfig`] and [`TopicConfig`] all come from it, so they cannot disagree.
//! Nothing here opens a socket, resolves a name or reads a clock, and no key is taken and silently ignored: a key
//! without effect in this version is named in a warning when it is set.

mod broker;
mod checks;
#[cfg(test)]
mod honoured_tests;
mod key;
mod listeners;
mod notices;
mod settings;
pub mod source;
mod table;
#[cfg(test)]
mod tests;
pub mod topic;
mod values;

pub use broker::{BrokerConfig, Loaded, LogFormat, Machine, ProduceValidation, resolve};
pub use checks::MOST_OFFSETS_PARTITIONS;
pub use key::Kind;
pub use listeners::{Endpoint, Listener, SecurityProtocol};
pub use notices::Notice;
pub use settings::{Origin, Setting, Settings};
pub use topic::{CleanupPolicy, CompressionType, TimestampType, TopicConfig};
