//! Pure data. Replicas and what passes between brokers.

use super::keys;

keys! {
    "default.replication.factor" Int "1" [Any] Medium ReadOnly Honoured
        "How many replicas a topic gets when nobody says a number.";
    "min.insync.replicas" Int "1" [AtLeast(1.0)] High ClusterWide Honoured
        "How many replicas must be in sync for acks=all; no more than a topic has.";
    "unclean.leader.election.enable" Boolean "false" [Any] High ClusterWide NotYet
        "Whether a replica that is not in sync may lead when no other is left, losing records.";
    "unclean.leader.election.interval.ms" Long "300000" [AtLeast(1.0)] Medium Internal NotYet
        "How often such elections are tried.";
    "auto.leader.rebalance.enable" Boolean "true" [Any] High ReadOnly NotYet
        "Whether leadership goes back to the preferred replicas by itself.";
    "leader.imbalance.check.interval.seconds" Long "300" [AtLeast(1.0)] High ReadOnly NotYet
        "How often the balance of leaders is looked at.";
    "num.replica.fetchers" Int "1" [AtLeast(1.0)] High ClusterWide NotYet
        "How many connections a follower fetches over, per leader.";
    "num.replica.alter.log.dirs.threads" Int null [Any] High ReadOnly NotYet
        "How many threads move replicas between data directories.";
    "replica.fetch.backoff.ms" Int "1000" [AtLeast(0.0)] Medium ReadOnly NotYet
        "How long a follower waits after a failed fetch.";
    "replica.fetch.max.bytes" Int "1048576" [AtLeast(0.0)] Medium ReadOnly NotYet
        "How much of one partition a follower asks at a time.";
    "replica.fetch.min.bytes" Int "1" [Any] High ReadOnly NotYet
        "How much a leader gathers before it answers a follower.";
    "replica.fetch.response.max.bytes" Int "10485760" [AtLeast(0.0)] Medium ReadOnly NotYet
        "How much a follower asks at a time.";
    "replica.fetch.wait.max.ms" Int "500" [Any] High ReadOnly NotYet
        "How long a leader may hold a follower's fetch.";
    "replica.high.watermark.checkpoint.interval.ms" Long "5000" [Any] High ReadOnly Honoured
        "How often high watermarks are noted, so that a start has less to read; not positive, only at a clean stop.";
    "replica.lag.time.max.ms" Long "30000" [Any] High ReadOnly Honoured
        "How long a follower may stay behind before it leaves the in-sync set.";
    "replica.selector.class" String null [Any] Medium ReadOnly NotYet
        "The Java class that chooses the replica a consumer fetches from.";
    "replica.socket.receive.buffer.bytes" Int "65536" [Any] High ReadOnly NotYet
        "SO_RCVBUF of a follower's connections.";
    "replica.socket.timeout.ms" Int "30000" [Any] High ReadOnly NotYet
        "How long a follower waits for an answer.";
    "replication.quota.window.num" Int "11" [AtLeast(1.0)] Low ReadOnly NotYet
        "How many samples a replication quota looks back over.";
    "replication.quota.window.size.seconds" Int "1" [AtLeast(1.0)] Low ReadOnly NotYet
        "How long a sample of a replication quota lasts.";
    "alter.log.dirs.replication.quota.window.num" Int "11" [AtLeast(1.0)] Low ReadOnly NotYet
        "How many samples the quota on moves between directories looks back over.";
    "alter.log.dirs.replication.quota.window.size.seconds" Int "1" [AtLeast(1.0)] Low ReadOnly NotYet
        "How long a sample of that quota lasts.";
    "inter.broker.listener.name" String null [Any] Medium ReadOnly NotYet
        "The listener that brokers use among themselves.";
    "security.inter.broker.protocol" String "PLAINTEXT" [OneOf(&["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"])] Medium ReadOnly NotYet
        "The security protocol among brokers, when inter.broker.listener.name is not set.";
    "follower.fetch.last.tiered.offset.enable" Boolean "false" [Any] Medium ClusterWide NotYet
        "Whether a new follower starts behind what is already tiered.";
}
