//! Pure data. Logs, topics and the cleaner.

use super::keys;

keys! {
    "log.dir" List "/tmp/kafka-logs" [Filled] High ReadOnly Honoured
        "Where the data is, when log.dirs is not set; Ottla's default is ./data.";
    "log.dirs" List null [Filled] High ReadOnly Honoured
        "The data directories; this version takes one.";
    "cordoned.log.dirs" List "" [Any] Medium PerBroker NotYet
        "Data directories that get no new partitions.";
    "num.partitions" Int "1" [AtLeast(1.0)] Medium ReadOnly Honoured
        "How many partitions a topic gets when nobody says a number.";
    "auto.create.topics.enable" Boolean "true" [Any] High ReadOnly Honoured
        "Whether asking for a topic that does not exist makes it.";
    "delete.topic.enable" Boolean "true" [Any] High ReadOnly Honoured
        "Whether topics may be deleted.";
    "message.max.bytes" Int "1048588" [AtLeast(0.0)] High ClusterWide Honoured
        "The largest record batch.";
    "compression.type" String "producer" [OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"])] High ClusterWide Honoured
        "The codec of stored batches; producer keeps what was sent.";
    "compression.gzip.level" Int "-1" [GzipLevel] Medium ClusterWide Honoured
        "The gzip level when the broker compresses.";
    "compression.lz4.level" Int "9" [Between(1.0, 17.0)] Medium ClusterWide Honoured
        "The LZ4 level when the broker compresses.";
    "compression.zstd.level" Int "3" [Between(-131072.0, 22.0)] Medium ClusterWide Honoured
        "The Zstandard level when the broker compresses.";
    "log.cleanup.policy" List "delete" [OneOf(&["compact", "delete"])] Medium ClusterWide Honoured
        "Whether old segments are deleted, compacted by key, both, or kept.";
    "log.retention.ms" Long null [Any] High ClusterWide Honoured
        "How long records are kept; -1 is for ever. Goes before log.retention.minutes.";
    "log.retention.minutes" Int null [Any] High ReadOnly Honoured
        "How long records are kept, in minutes. Goes before log.retention.hours.";
    "log.retention.hours" Int "168" [Any] High ReadOnly Honoured
        "How long records are kept, in hours.";
    "log.retention.bytes" Long "-1" [Any] High ClusterWide Honoured
        "How large a partition may grow before its oldest segments go; -1 is without limit.";
    "log.retention.check.interval.ms" Long "300000" [AtLeast(1.0)] Medium ReadOnly Honoured
        "How often old segments are looked for.";
    "log.segment.bytes" Int "1073741824" [AtLeast(1048576.0)] High ClusterWide Honoured
        "How large a segment may grow.";
    "log.segment.delete.delay.ms" Long "60000" [AtLeast(0.0)] High ClusterWide Unneeded
        "How long a dropped file stays on disk; Ottla drops what no reader holds.";
    "log.roll.ms" Long null [Any] High ClusterWide Honoured
        "After how long a segment ends although it is not full. Goes before log.roll.hours.";
    "log.roll.hours" Int "168" [AtLeast(1.0)] High ReadOnly Honoured
        "After how many hours a segment ends although it is not full.";
    "log.roll.jitter.ms" Long null [Any] High ClusterWide Honoured
        "How much earlier a segment may end, by chance. Goes before log.roll.jitter.hours.";
    "log.roll.jitter.hours" Int "0" [AtLeast(0.0)] High ReadOnly Honoured
        "How many hours earlier a segment may end, by chance.";
    "log.flush.interval.messages" Long "9223372036854775807" [AtLeast(1.0)] High ClusterWide Honoured
        "After how many records the log is forced to disk; 1 makes acks=all wait for the disk.";
    "log.flush.interval.ms" Long null [Any] High ClusterWide Honoured
        "After how long a record is forced to disk; unset, log.flush.scheduler.interval.ms.";
    "log.flush.scheduler.interval.ms" Long "9223372036854775807" [Any] High ReadOnly Honoured
        "The default of flush.ms where log.flush.interval.ms is not set; Ottla forces a log to disk when it is due, and need not look for it.";
    "log.flush.offset.checkpoint.interval.ms" Int "60000" [AtLeast(0.0)] High ReadOnly Unneeded
        "How often Kafka writes its recovery point; Ottla's write-ahead log has it.";
    "log.flush.start.offset.checkpoint.interval.ms" Int "60000" [AtLeast(0.0)] High ReadOnly Unneeded
        "How often Kafka writes its log start offsets; Ottla writes them with every change.";
    "log.initial.task.delay.ms" Long "30000" [AtLeast(0.0)] Low Internal Honoured
        "How long after the start the log's housekeeping begins.";
    "log.index.interval.bytes" Int "4096" [AtLeast(0.0)] Medium ClusterWide Unneeded
        "How often Kafka adds to its offset index; Ottla's index is RocksDB's.";
    "log.index.size.max.bytes" Int "10485760" [AtLeast(4.0)] Medium ClusterWide Unneeded
        "How large Kafka's offset index may be; Ottla's index is RocksDB's.";
    "log.preallocate" Boolean "false" [Any] Medium ClusterWide Unneeded
        "Whether Kafka reserves a segment's file beforehand; Ottla's files are RocksDB's.";
    "log.message.timestamp.type" String "CreateTime" [OneOf(&["CreateTime", "LogAppendTime"])] Medium ClusterWide Honoured
        "Whether a record bears the producer's time or the broker's.";
    "log.message.timestamp.before.max.ms" Long "9223372036854775807" [AtLeast(0.0)] Medium ClusterWide Honoured
        "How far a record's time may lie in the past.";
    "log.message.timestamp.after.max.ms" Long "3600000" [AtLeast(0.0)] Medium ClusterWide Honoured
        "How far a record's time may lie in the future.";
    "log.local.retention.bytes" Long "-2" [AtLeast(-2.0)] Medium ClusterWide NotYet
        "How much of a tiered partition stays on local disk; -2 is as log.retention.bytes.";
    "log.local.retention.ms" Long "-2" [AtLeast(-2.0)] Medium ClusterWide NotYet
        "How long a tiered partition stays on local disk; -2 is as log.retention.ms.";
    "log.dir.failure.timeout.ms" Long "30000" [AtLeast(1.0)] Low ReadOnly NotYet
        "How long the broker tries to report a failed data directory before it stops.";
    "log.cleaner.enable" Boolean "true" [Any] Medium ReadOnly NotYet
        "Whether the cleaner runs.";
    "log.cleaner.threads" Int "1" [AtLeast(0.0)] Medium ClusterWide NotYet
        "How many threads clean.";
    "log.cleaner.backoff.ms" Long "15000" [AtLeast(0.0)] Medium ClusterWide NotYet
        "How long the cleaner rests when nothing is dirty.";
    "log.cleaner.dedupe.buffer.size" Long "134217728" [Any] Medium ClusterWide NotYet
        "How much memory the cleaner has to find the newest record of each key.";
    "log.cleaner.io.buffer.size" Int "524288" [AtLeast(0.0)] Medium ClusterWide NotYet
        "How much memory the cleaner has to read and write.";
    "log.cleaner.io.buffer.load.factor" Double "0.9" [Any] Medium ClusterWide NotYet
        "How full the cleaner's table of keys may get.";
    "log.cleaner.io.max.bytes.per.second" Double "1.7976931348623157E308" [Any] Medium ClusterWide NotYet
        "How fast the cleaner may read and write.";
    "log.cleaner.delete.retention.ms" Long "86400000" [AtLeast(0.0)] Medium ClusterWide NotYet
        "How long the mark of a deleted key stays in a compacted topic.";
    "log.cleaner.min.cleanable.ratio" Double "0.5" [Between(0.0, 1.0)] Medium ClusterWide NotYet
        "Which part of a log must be dirty before it is cleaned.";
    "log.cleaner.min.compaction.lag.ms" Long "0" [AtLeast(0.0)] Medium ClusterWide NotYet
        "How long a record stays before it may be compacted away.";
    "log.cleaner.max.compaction.lag.ms" Long "9223372036854775807" [AtLeast(1.0)] Medium ClusterWide NotYet
        "How long a record may stay before it must be compacted.";
    "num.recovery.threads.per.data.dir" Int "2" [AtLeast(1.0)] High ClusterWide Unneeded
        "How many threads recover logs at the start; Ottla recovers one write-ahead log.";
    "create.topic.policy.class.name" Class null [Any] Low ReadOnly Refused
        "A Java class that says which topics may be made.";
    "alter.config.policy.class.name" Class null [Any] Low ReadOnly Refused
        "A Java class that says which configurations may be changed.";
}
