//! Pure data. Consumer and streams groups, committed offsets.

use super::keys;

keys! {
    "group.min.session.timeout.ms" Int "6000" [Any] Medium ReadOnly Honoured
        "The shortest session timeout that a group member may ask.";
    "group.max.session.timeout.ms" Int "1800000" [Any] Medium ReadOnly Honoured
        "The longest session timeout that a group member may ask.";
    "group.initial.rebalance.delay.ms" Int "3000" [Any] Medium ReadOnly Honoured
        "How long a new group waits for more members before its first rebalance.";
    "group.max.size" Int "2147483647" [AtLeast(1.0)] Medium ReadOnly Honoured
        "How many members a group may have.";
    "group.coordinator.threads" Int "4" [AtLeast(1.0)] High ReadOnly Unneeded
        "Kafka's threads for groups; Ottla runs one worker thread per core.";
    "group.coordinator.background.threads" Int "2" [AtLeast(1.0)] High ReadOnly Unneeded
        "Kafka's background threads for groups; Ottla runs one worker thread per core.";
    "group.coordinator.append.linger.ms" Int "-1" [AtLeast(-1.0)] Medium ReadOnly Unneeded
        "How long Kafka gathers group records into a batch; Ottla's committer gathers by itself.";
    "group.coordinator.cached.buffer.max.bytes" Int "1048588" [AtLeast(524288.0)] Medium ClusterWide Unneeded
        "How large a buffer Kafka keeps for group records.";
    "group.coordinator.rebalance.protocols" List "classic,consumer,streams" [SomeOf(&["consumer", "classic", "share", "streams"])] Medium ReadOnly NotYet
        "Which group protocols are served; this version serves classic.";
    "offset.metadata.max.bytes" Int "4096" [Any] High ReadOnly Honoured
        "The longest note that a commit may carry.";
    "offsets.commit.timeout.ms" Int "5000" [AtLeast(1.0)] High ReadOnly Honoured
        "How long a commit may wait for its replicas.";
    "offsets.load.buffer.size" Int "5242880" [AtLeast(1.0)] High ReadOnly Honoured
        "How much is read at a time when groups are loaded.";
    "offsets.retention.minutes" Int "10080" [AtLeast(1.0)] High ReadOnly Honoured
        "How long the offsets of an empty group are kept.";
    "offsets.retention.check.interval.ms" Long "600000" [AtLeast(1.0)] High ReadOnly Honoured
        "How often old offsets are looked for.";
    "offsets.topic.compression.codec" Int "0" [Any] High ReadOnly Honoured
        "The codec of __consumer_offsets: 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd.";
    "offsets.topic.num.partitions" Int "50" [AtLeast(1.0)] High ReadOnly Honoured
        "How many partitions __consumer_offsets is made with.";
    "offsets.topic.replication.factor" Short "3" [AtLeast(1.0)] High ReadOnly Honoured
        "How many replicas __consumer_offsets is made with; unset, no more than there are brokers.";
    "offsets.topic.segment.bytes" Int "104857600" [AtLeast(1.0)] High ReadOnly Honoured
        "The segment size that __consumer_offsets is made with.";
    "group.consumer.assignment.interval.ms" Int "1000" [AtLeast(0.0)] Medium ClusterWide NotYet
        "The least time between two assignments of a KIP-848 group.";
    "group.consumer.assignors" List "uniform,range" [Filled] Medium ReadOnly NotYet
        "The server-side assignors of KIP-848 groups.";
    "group.consumer.heartbeat.interval.ms" Int "5000" [AtLeast(1.0)] Medium ReadOnly NotYet
        "How often members of KIP-848 groups send heartbeats.";
    "group.consumer.max.assignment.interval.ms" Int "15000" [AtLeast(0.0)] Medium ReadOnly NotYet
        "The highest assignment interval that a group may be given.";
    "group.consumer.max.heartbeat.interval.ms" Int "15000" [AtLeast(1.0)] Medium ReadOnly NotYet
        "The longest heartbeat interval that a group may be given.";
    "group.consumer.max.session.timeout.ms" Int "60000" [AtLeast(1.0)] Medium ReadOnly NotYet
        "The longest session timeout that a KIP-848 group may be given.";
    "group.consumer.max.size" Int "2147483647" [AtLeast(1.0)] Medium ReadOnly NotYet
        "How many members a KIP-848 group may have.";
    "group.consumer.migration.policy" String "bidirectional" [OneOfAnyCase(&["DISABLED", "DOWNGRADE", "UPGRADE", "BIDIRECTIONAL"])] Medium ReadOnly NotYet
        "Whether groups may move between the classic and the KIP-848 protocol.";
    "group.consumer.min.assignment.interval.ms" Int "0" [AtLeast(0.0)] Medium ReadOnly NotYet
        "The lowest assignment interval that a group may be given.";
    "group.consumer.min.heartbeat.interval.ms" Int "5000" [AtLeast(1.0)] Medium ReadOnly NotYet
        "The shortest heartbeat interval that a group may be given.";
    "group.consumer.min.session.timeout.ms" Int "45000" [AtLeast(1.0)] Medium ReadOnly NotYet
        "The shortest session timeout that a KIP-848 group may be given.";
    "group.consumer.regex.refresh.interval.ms" Int "600000" [AtLeast(10000.0)] Medium Internal NotYet
        "How often subscriptions by pattern are matched again.";
    "group.consumer.session.timeout.ms" Int "45000" [AtLeast(1.0)] Medium ReadOnly NotYet
        "After how long without heartbeat a member of a KIP-848 group is removed.";
    "group.streams.assignment.interval.ms" Int "1000" [AtLeast(0.0)] Medium ClusterWide NotYet
        "The least time between two assignments of a streams group.";
    "group.streams.heartbeat.interval.ms" Int "5000" [AtLeast(1.0)] Medium ReadOnly NotYet
        "How often members of streams groups send heartbeats.";
    "group.streams.initial.rebalance.delay.ms" Int "3000" [AtLeast(0.0)] Medium ReadOnly NotYet
        "How long a new streams group waits for more members.";
    "group.streams.max.assignment.interval.ms" Int "15000" [AtLeast(0.0)] Medium ReadOnly NotYet
        "The highest assignment interval that a streams group may be given.";
    "group.streams.max.heartbeat.interval.ms" Int "15000" [AtLeast(1.0)] Medium ReadOnly NotYet
        "The longest heartbeat interval that a streams group may be given.";
    "group.streams.max.session.timeout.ms" Int "60000" [AtLeast(1.0)] Medium ReadOnly NotYet
        "The longest session timeout that a streams group may be given.";
    "group.streams.max.size" Int "2147483647" [AtLeast(1.0)] Medium ReadOnly NotYet
        "How many members a streams group may have.";
    "group.streams.max.standby.replicas" Int "2" [AtLeast(0.0)] Medium ReadOnly NotYet
        "How many standby replicas a streams group may ask.";
    "group.streams.min.assignment.interval.ms" Int "0" [AtLeast(0.0)] Medium ReadOnly NotYet
        "The lowest assignment interval that a streams group may be given.";
    "group.streams.min.heartbeat.interval.ms" Int "5000" [AtLeast(1.0)] Medium ReadOnly NotYet
        "The shortest heartbeat interval that a streams group may be given.";
    "group.streams.min.session.timeout.ms" Int "45000" [AtLeast(1.0)] Medium ReadOnly NotYet
        "The shortest session timeout that a streams group may be given.";
    "group.streams.num.standby.replicas" Int "0" [AtLeast(0.0)] Medium ReadOnly NotYet
        "How many standby replicas each task of a streams group has.";
    "group.streams.session.timeout.ms" Int "45000" [AtLeast(1.0)] Medium ReadOnly NotYet
        "After how long without heartbeat a member of a streams group is removed.";
}
