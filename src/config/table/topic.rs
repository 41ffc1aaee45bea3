//! Pure data. Topics. `from` names the broker keys that supply the default, the first that is set.

use super::keys;

keys! {
    "cleanup.policy" List "delete" [OneOf(&["compact", "delete"])] Medium ClusterWide Honoured from "log.cleanup.policy"
        "Whether old segments are deleted, compacted by key, both, or kept.";
    "compression.gzip.level" Int "-1" [GzipLevel] Medium ClusterWide Honoured from "compression.gzip.level"
        "The gzip level when the broker compresses.";
    "compression.lz4.level" Int "9" [Between(1.0, 17.0)] Medium ClusterWide Honoured from "compression.lz4.level"
        "The LZ4 level when the broker compresses.";
    "compression.type" String "producer" [OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"])] Medium ClusterWide Honoured from "compression.type"
        "The codec of stored batches; producer keeps what was sent.";
    "compression.zstd.level" Int "3" [Between(-131072.0, 22.0)] Medium ClusterWide Honoured from "compression.zstd.level"
        "The Zstandard level when the broker compresses.";
    "delete.retention.ms" Long "86400000" [AtLeast(0.0)] Medium ClusterWide NotYet from "log.cleaner.delete.retention.ms"
        "How long the mark of a deleted key stays in a compacted topic.";
    "file.delete.delay.ms" Long "60000" [AtLeast(0.0)] Medium ClusterWide Unneeded from "log.segment.delete.delay.ms"
        "How long a dropped file stays on disk; Ottla drops what no reader holds.";
    "flush.messages" Long "9223372036854775807" [AtLeast(1.0)] Medium ClusterWide Honoured from "log.flush.interval.messages"
        "After how many records the log is forced to disk; 1 makes acks=all wait for the disk.";
    "flush.ms" Long "9223372036854775807" [AtLeast(0.0)] Medium ClusterWide Honoured from "log.flush.interval.ms", "log.flush.scheduler.interval.ms"
        "After how long a record is forced to disk.";
    "follower.replication.throttled.replicas" List "" [ThrottledReplicas] Medium ClusterWide NotYet
        "Replicas whose fetching is throttled, as partition:broker, or *.";
    "index.interval.bytes" Int "4096" [AtLeast(0.0)] Medium ClusterWide Unneeded from "log.index.interval.bytes"
        "How often Kafka adds to its offset index; Ottla's index is RocksDB's.";
    "internal.segment.bytes" Int null [Any] Medium Internal Honoured
        "The segment size without a lower limit, for tests.";
    "leader.replication.throttled.replicas" List "" [ThrottledReplicas] Medium ClusterWide NotYet
        "Replicas whose serving of followers is throttled, as partition:broker, or *.";
    "local.retention.bytes" Long "-2" [AtLeast(-2.0)] Medium ClusterWide NotYet from "log.local.retention.bytes"
        "How much of a tiered partition stays on local disk; -2 is as retention.bytes.";
    "local.retention.ms" Long "-2" [AtLeast(-2.0)] Medium ClusterWide NotYet from "log.local.retention.ms"
        "How long a tiered partition stays on local disk; -2 is as retention.ms.";
    "max.compaction.lag.ms" Long "9223372036854775807" [AtLeast(1.0)] Medium ClusterWide NotYet from "log.cleaner.max.compaction.lag.ms"
        "How long a record may stay before it must be compacted.";
    "max.message.bytes" Int "1048588" [AtLeast(0.0)] Medium ClusterWide Honoured from "message.max.bytes"
        "The largest record batch.";
    "message.timestamp.after.max.ms" Long "3600000" [AtLeast(0.0)] Medium ClusterWide Honoured from "log.message.timestamp.after.max.ms"
        "How far a record's time may lie in the future.";
    "message.timestamp.before.max.ms" Long "9223372036854775807" [AtLeast(0.0)] Medium ClusterWide Honoured from "log.message.timestamp.before.max.ms"
        "How far a record's time may lie in the past.";
    "message.timestamp.type" String "CreateTime" [OneOf(&["CreateTime", "LogAppendTime"])] Medium ClusterWide Honoured from "log.message.timestamp.type"
        "Whether a record bears the producer's time or the broker's.";
    "min.cleanable.dirty.ratio" Double "0.5" [Between(0.0, 1.0)] Medium ClusterWide NotYet from "log.cleaner.min.cleanable.ratio"
        "Which part of a log must be dirty before it is cleaned.";
    "min.compaction.lag.ms" Long "0" [AtLeast(0.0)] Medium ClusterWide NotYet from "log.cleaner.min.compaction.lag.ms"
        "How long a record stays before it may be compacted away.";
    "min.insync.replicas" Int "1" [AtLeast(1.0)] Medium ClusterWide Honoured from "min.insync.replicas"
        "How many replicas must be in sync for acks=all; no more than the topic has.";
    "preallocate" Boolean "false" [Any] Medium ClusterWide Unneeded from "log.preallocate"
        "Whether Kafka reserves a segment's file beforehand; Ottla's files are RocksDB's.";
    "remote.log.copy.disable" Boolean "false" [Any] Medium ClusterWide NotYet
        "Stops copying to tiered storage and keeps what is there readable.";
    "remote.log.delete.on.disable" Boolean "false" [Any] Medium ClusterWide NotYet
        "Deletes what is tiered when tiered storage is turned off for the topic.";
    "remote.storage.enable" Boolean "false" [Any] Medium ClusterWide NotYet
        "Whether old segments go to tiered storage.";
    "retention.bytes" Long "-1" [Any] Medium ClusterWide Honoured from "log.retention.bytes"
        "How large a partition may grow before its oldest segments go; -1 is without limit.";
    "retention.ms" Long "604800000" [AtLeast(-1.0)] Medium ClusterWide Honoured from "log.retention.ms", "log.retention.minutes" * 60000, "log.retention.hours" * 3600000
        "How long records are kept; -1 is for ever.";
    "segment.bytes" Int "1073741824" [AtLeast(1048576.0)] Medium ClusterWide Honoured from "log.segment.bytes"
        "How large a segment may grow.";
    "segment.index.bytes" Int "10485760" [AtLeast(4.0)] Medium ClusterWide Unneeded from "log.index.size.max.bytes"
        "How large Kafka's offset index may be; Ottla's index is RocksDB's.";
    "segment.jitter.ms" Long "0" [AtLeast(0.0)] Medium ClusterWide Honoured from "log.roll.jitter.ms", "log.roll.jitter.hours" * 3600000
        "How much earlier a segment may end, by chance.";
    "segment.ms" Long "604800000" [AtLeast(1.0)] Medium ClusterWide Honoured from "log.roll.ms", "log.roll.hours" * 3600000
        "After how long a segment ends although it is not full.";
    "unclean.leader.election.enable" Boolean "false" [Any] Medium ClusterWide NotYet from "unclean.leader.election.enable"
        "Whether a replica that is not in sync may lead when no other is left, losing records.";
}
