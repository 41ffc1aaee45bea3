//! Pure data. The node, its role, the metadata quorum.

use super::keys;

keys! {
    "node.id" Int required [AtLeast(0.0)] High ReadOnly Honoured
        "This node's number; Ottla's default is 1.";
    "broker.id" Int "-1" [Any] High ReadOnly Honoured
        "An older name of node.id.";
    "broker.rack" String null [Any] Medium ReadOnly Honoured
        "Where the broker stands; clients and placement see it.";
    "process.roles" List required [SomeOf(&["broker", "controller"])] High ReadOnly Honoured
        "What this node does; this version does both, broker,controller.";
    "controller.listener.names" List required [Filled] High ReadOnly Honoured
        "The listeners of the metadata quorum; a single node does not open them yet.";
    "controller.quorum.voters" List "" [NonEmptyList] High ReadOnly Honoured
        "The metadata quorum as id@host:port; this version takes this node alone.";
    "controller.quorum.bootstrap.servers" List "" [NonEmptyList] High ReadOnly NotYet
        "Where controllers may be found.";
    "controller.quorum.append.linger.ms" Int "25" [AtLeast(0.0)] Medium ReadOnly NotYet
        "How long metadata records are gathered before they are written.";
    "controller.quorum.auto.join.enable" Boolean "false" [Any] Low ReadOnly NotYet
        "Whether a new controller joins the quorum by itself.";
    "controller.quorum.election.backoff.max.ms" Int "1000" [AtLeast(0.0)] High ReadOnly NotYet
        "How long a candidate waits after a lost election, at most.";
    "controller.quorum.election.timeout.ms" Int "1000" [AtLeast(0.0)] High ReadOnly NotYet
        "How long a candidate waits for votes.";
    "controller.quorum.fetch.max.bytes" Int "1048576" [AtLeast(1.0)] Low ReadOnly NotYet
        "How much metadata is read at a time.";
    "controller.quorum.fetch.snapshot.max.bytes" Int "1048576" [AtLeast(1.0)] Low ReadOnly NotYet
        "How much of a metadata snapshot is read at a time.";
    "controller.quorum.fetch.timeout.ms" Int "2000" [AtLeast(0.0)] High ReadOnly NotYet
        "After how long without its leader a controller calls an election.";
    "controller.quorum.request.timeout.ms" Int "2000" [AtLeast(0.0)] Medium ReadOnly NotYet
        "How long a controller waits for an answer.";
    "controller.quorum.retry.backoff.ms" Int "20" [AtLeast(0.0)] Low ReadOnly NotYet
        "How long a controller waits before it tries again.";
    "controller.socket.timeout.ms" Int "30000" [Any] Medium ReadOnly NotYet
        "How long the broker waits for the controller.";
    "controller.performance.always.log.threshold.ms" Long "2000" [AtLeast(0.0)] Medium Internal NotYet
        "From how long a controller event is always logged.";
    "controller.performance.sample.period.ms" Long "60000" [AtLeast(100.0)] Medium Internal NotYet
        "How often slow controller events are summed up.";
    "controlled.shutdown.enable" Boolean "true" [Any] Medium ReadOnly NotYet
        "Whether a broker hands its leaders over before it stops.";
    "broker.heartbeat.interval.ms" Int "2000" [Any] Medium ReadOnly NotYet
        "How often a broker tells the controller that it lives.";
    "broker.session.timeout.ms" Int "9000" [Any] Medium ReadOnly NotYet
        "After how long without heartbeat the controller fences a broker.";
    "initial.broker.registration.timeout.ms" Int "60000" [Any] Medium ReadOnly NotYet
        "How long a starting broker tries to register.";
    "server.max.startup.time.ms" Long "9223372036854775807" [AtLeast(0.0)] Medium Internal NotYet
        "How long a start may take.";
    "metadata.log.dir" String null [Any] High ReadOnly Honoured
        "Where the metadata is; unset, with the data.";
    "metadata.log.max.record.bytes.between.snapshots" Long "20971520" [AtLeast(1.0)] High ReadOnly Unneeded
        "After how many bytes Kafka takes a metadata snapshot; Ottla takes its own, by count.";
    "metadata.log.max.snapshot.interval.ms" Long "3600000" [AtLeast(0.0)] High ReadOnly Unneeded
        "How often Kafka takes a metadata snapshot; Ottla takes its own, by count.";
    "metadata.log.segment.bytes" Int "1073741824" [AtLeast(8388608.0)] High ReadOnly Unneeded
        "The segment size of Kafka's metadata log; Ottla's is a store.";
    "metadata.log.segment.ms" Long "604800000" [Any] High ReadOnly Unneeded
        "After how long a segment of Kafka's metadata log ends; Ottla's is a store.";
    "metadata.max.idle.interval.ms" Int "500" [AtLeast(0.0)] Low ReadOnly Unneeded
        "How often Kafka writes an empty metadata record; Ottla writes none.";
    "metadata.max.retention.bytes" Long "104857600" [Any] High ReadOnly Unneeded
        "How large Kafka's metadata log may grow; Ottla keeps a snapshot and what follows it.";
    "metadata.max.retention.ms" Long "604800000" [Any] High ReadOnly Unneeded
        "How long Kafka keeps old metadata; Ottla keeps a snapshot and what follows it.";
    "internal.metadata.delete.delay.millis" Long "60000" [Any] Low Internal Unneeded
        "How long old metadata files of Kafka's stay on disk.";
    "internal.metadata.log.segment.bytes" Int null [Any] Low Internal Unneeded
        "The segment size of Kafka's metadata log in tests.";
    "internal.metadata.max.batch.size.in.bytes" Int "8388608" [Any] Low Internal Unneeded
        "The largest batch of Kafka's metadata log.";
    "unstable.feature.versions.enable" Boolean "false" [Any] High Internal NotYet
        "Also allows feature levels that are still being made.";
    "config.providers" List "" [Any] Low ClusterWide Refused
        "Java classes that look up ${…} in values.";
}
