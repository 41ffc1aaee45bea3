//! Pure data. Tiered storage.

use super::keys;

keys! {
    "remote.log.storage.system.enable" Boolean "false" [Any] Medium ReadOnly Refused
        "Whether old segments go to tiered storage.";
    "remote.fetch.max.wait.ms" Int "500" [AtLeast(1.0)] Medium ClusterWide NotYet
        "How long a fetch may wait for tiered storage.";
    "remote.list.offsets.request.timeout.ms" Long "30000" [AtLeast(1.0)] Medium ClusterWide NotYet
        "How long ListOffsets may wait for tiered storage.";
    "remote.log.index.file.cache.total.size.bytes" Long "1073741824" [AtLeast(1.0)] Low ClusterWide NotYet
        "How much disk the indexes of tiered segments may take.";
    "remote.log.index.file.cache.ttl.ms" Long "900000" [AtLeast(-1.0)] Low Internal NotYet
        "How long an unused index of a tiered segment is kept.";
    "remote.log.manager.copier.thread.pool.size" Int "10" [AtLeast(1.0)] Medium ClusterWide NotYet
        "How many threads copy to tiered storage.";
    "remote.log.manager.copy.max.bytes.per.second" Long "9223372036854775807" [AtLeast(1.0)] Medium ClusterWide NotYet
        "How fast the broker may copy to tiered storage.";
    "remote.log.manager.copy.quota.window.num" Int "11" [AtLeast(1.0)] Medium ReadOnly NotYet
        "How many samples the copy quota looks back over.";
    "remote.log.manager.copy.quota.window.size.seconds" Int "1" [AtLeast(1.0)] Medium ReadOnly NotYet
        "How long a sample of the copy quota lasts.";
    "remote.log.manager.expiration.thread.pool.size" Int "10" [AtLeast(1.0)] Medium ClusterWide NotYet
        "How many threads delete from tiered storage.";
    "remote.log.manager.fetch.max.bytes.per.second" Long "9223372036854775807" [AtLeast(1.0)] Medium ClusterWide NotYet
        "How fast the broker may read from tiered storage.";
    "remote.log.manager.fetch.quota.window.num" Int "11" [AtLeast(1.0)] Medium ReadOnly NotYet
        "How many samples the fetch quota looks back over.";
    "remote.log.manager.fetch.quota.window.size.seconds" Int "1" [AtLeast(1.0)] Medium ReadOnly NotYet
        "How long a sample of the fetch quota lasts.";
    "remote.log.manager.follower.thread.pool.size" Int "2" [AtLeast(1.0)] Medium ClusterWide NotYet
        "How many threads follow tiered partitions.";
    "remote.log.manager.task.interval.ms" Long "30000" [AtLeast(1.0)] Low ReadOnly NotYet
        "How often tiered storage is tended.";
    "remote.log.manager.task.retry.backoff.max.ms" Long "30000" [AtLeast(1.0)] Low Internal NotYet
        "How long that waits after failures, at most.";
    "remote.log.manager.task.retry.backoff.ms" Long "500" [AtLeast(1.0)] Low Internal NotYet
        "How long that first waits after a failure.";
    "remote.log.manager.task.retry.jitter" Double "0.2" [Between(0.0, 0.5)] Low Internal NotYet
        "Which part of that wait is left to chance.";
    "remote.log.manager.thread.pool.size" Int "2" [AtLeast(1.0)] Medium ReadOnly NotYet
        "How many threads tend tiered storage.";
    "remote.log.metadata.custom.metadata.max.bytes" Int "128" [AtLeast(0.0)] Low ReadOnly NotYet
        "The longest note that a storage plugin may attach to a segment.";
    "remote.log.metadata.manager.class.name" String "org.apache.kafka.server.log.remote.metadata.storage.TopicBasedRemoteLogMetadataManager" [NonEmptyText] Medium ReadOnly NotYet
        "The Java class that keeps what is tiered.";
    "remote.log.metadata.manager.class.path" String null [Any] Medium ReadOnly NotYet
        "Where that class is found.";
    "remote.log.metadata.manager.impl.prefix" String "rlmm.config." [NonEmptyText] Medium ReadOnly NotYet
        "Which keys are handed to that class.";
    "remote.log.metadata.manager.listener.name" String null [NonEmptyText] Medium ReadOnly NotYet
        "The listener that the class connects to.";
    "remote.log.reader.max.pending.tasks" Int "100" [AtLeast(1.0)] Medium ReadOnly NotYet
        "How many reads of tiered storage may wait.";
    "remote.log.reader.threads" Int "10" [AtLeast(1.0)] Medium ClusterWide NotYet
        "How many threads read tiered storage.";
    "remote.log.storage.manager.class.name" String null [NonEmptyText] Medium ReadOnly NotYet
        "The Java class that stores segments elsewhere.";
    "remote.log.storage.manager.class.path" String null [Any] Medium ReadOnly NotYet
        "Where that class is found.";
    "remote.log.storage.manager.impl.prefix" String "rsm.config." [NonEmptyText] Medium ReadOnly NotYet
        "Which keys are handed to that class.";
}
