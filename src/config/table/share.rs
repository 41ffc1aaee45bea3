//! Pure data. Share groups and their state.

use super::keys;

keys! {
    "group.share.assignment.interval.ms" Int "1000" [AtLeast(0.0)] Medium ClusterWide NotYet
        "The least time between two assignments of a share group.";
    "group.share.assignors" List "simple" [Filled] Medium ReadOnly NotYet
        "The assignor of share groups.";
    "group.share.delivery.count.limit" Int "5" [Between(2.0, 10.0)] Medium ReadOnly NotYet
        "How often a record is delivered before it is given up.";
    "group.share.heartbeat.interval.ms" Int "5000" [AtLeast(1.0)] Medium ReadOnly NotYet
        "How often members of share groups send heartbeats.";
    "group.share.initialize.retry.interval.ms" Int "30000" [AtLeast(1.0)] Low Internal NotYet
        "How often setting up a share partition is tried again.";
    "group.share.max.assignment.interval.ms" Int "15000" [AtLeast(0.0)] Medium ReadOnly NotYet
        "The highest assignment interval that a share group may be given.";
    "group.share.max.delivery.count.limit" Int "10" [Between(5.0, 25.0)] Medium ReadOnly NotYet
        "The highest delivery count that a share group may be given.";
    "group.share.max.heartbeat.interval.ms" Int "15000" [AtLeast(1.0)] Medium ReadOnly NotYet
        "The longest heartbeat interval that a share group may be given.";
    "group.share.max.partition.max.record.locks" Int "4000" [Between(2000.0, 10000.0)] Medium ReadOnly NotYet
        "The most record locks per partition that a share group may be given.";
    "group.share.max.record.lock.duration.ms" Int "60000" [Between(30000.0, 3600000.0)] Medium ReadOnly NotYet
        "The longest record lock that a share group may be given.";
    "group.share.max.session.timeout.ms" Int "60000" [AtLeast(1.0)] Medium ReadOnly NotYet
        "The longest session timeout that a share group may be given.";
    "group.share.max.share.sessions" Int "2000" [AtLeast(1.0)] Medium ReadOnly NotYet
        "How many share sessions a broker keeps.";
    "group.share.max.size" Int "200" [Between(1.0, 1000.0)] Medium ReadOnly NotYet
        "How many members a share group may have.";
    "group.share.min.assignment.interval.ms" Int "0" [AtLeast(0.0)] Medium ReadOnly NotYet
        "The lowest assignment interval that a share group may be given.";
    "group.share.min.delivery.count.limit" Int "2" [Between(2.0, 5.0)] Medium ReadOnly NotYet
        "The lowest delivery count that a share group may be given.";
    "group.share.min.heartbeat.interval.ms" Int "5000" [AtLeast(1.0)] Medium ReadOnly NotYet
        "The shortest heartbeat interval that a share group may be given.";
    "group.share.min.partition.max.record.locks" Int "100" [Between(100.0, 2000.0)] Medium ReadOnly NotYet
        "The fewest record locks per partition that a share group may be given.";
    "group.share.min.record.lock.duration.ms" Int "15000" [Between(1000.0, 30000.0)] Medium ReadOnly NotYet
        "The shortest record lock that a share group may be given.";
    "group.share.min.session.timeout.ms" Int "45000" [AtLeast(1.0)] Medium ReadOnly NotYet
        "The shortest session timeout that a share group may be given.";
    "group.share.partition.max.record.locks" Int "2000" [Between(100.0, 10000.0)] Medium ReadOnly NotYet
        "How many records of a partition may be locked at once.";
    "group.share.persister.class.name" String "org.apache.kafka.server.share.persister.DefaultStatePersister" [Any] Medium Internal NotYet
        "The Java class that keeps the state of share groups.";
    "group.share.record.lock.duration.ms" Int "30000" [Between(1000.0, 3600000.0)] Medium ReadOnly NotYet
        "How long a consumer may hold a record.";
    "group.share.session.timeout.ms" Int "45000" [AtLeast(1.0)] Medium ReadOnly NotYet
        "After how long without heartbeat a member of a share group is removed.";
    "share.coordinator.append.linger.ms" Int "-1" [AtLeast(-1.0)] Medium ReadOnly NotYet
        "How long records of share state are gathered into a batch.";
    "share.coordinator.cached.buffer.max.bytes" Int "1048588" [AtLeast(524288.0)] Medium ClusterWide NotYet
        "How large a buffer is kept for share state.";
    "share.coordinator.cold.partition.snapshot.interval.ms" Int "300000" [AtLeast(1.0)] Low Internal NotYet
        "How often a share partition at rest is written whole.";
    "share.coordinator.load.buffer.size" Int "5242880" [AtLeast(1.0)] High ReadOnly NotYet
        "How much share state is read at a time.";
    "share.coordinator.snapshot.update.records.per.snapshot" Int "500" [Between(0.0, 500.0)] Medium ReadOnly NotYet
        "After how many changes share state is written whole.";
    "share.coordinator.state.topic.compression.codec" Int "0" [Any] High ReadOnly NotYet
        "The codec of __share_group_state.";
    "share.coordinator.state.topic.min.isr" Short "2" [AtLeast(1.0)] High ReadOnly NotYet
        "How many replicas of __share_group_state must be in sync.";
    "share.coordinator.state.topic.num.partitions" Int "50" [AtLeast(1.0)] High ReadOnly NotYet
        "How many partitions __share_group_state is made with.";
    "share.coordinator.state.topic.prune.interval.ms" Int "300000" [AtLeast(1.0)] Low Internal NotYet
        "How often old share state is dropped.";
    "share.coordinator.state.topic.replication.factor" Short "3" [AtLeast(1.0)] High ReadOnly NotYet
        "How many replicas __share_group_state is made with.";
    "share.coordinator.state.topic.segment.bytes" Int "104857600" [AtLeast(1.0)] High ReadOnly NotYet
        "The segment size that __share_group_state is made with.";
    "share.coordinator.threads" Int "1" [AtLeast(1.0)] Medium ReadOnly NotYet
        "How many threads serve share state.";
    "share.coordinator.write.timeout.ms" Int "5000" [AtLeast(1.0)] High ReadOnly NotYet
        "How long a write of share state may wait for its replicas.";
}
