//! Pure data. Listeners, connections, requests, quotas, metrics.

use super::keys;

keys! {
    "listeners" List "PLAINTEXT://:9092" [Filled] High PerBroker Honoured
        "Where the broker listens: a list of NAME://host:port; an empty host is every interface.";
    "advertised.listeners" List null [Filled] High ReadOnly Honoured
        "Where clients are told to find each listener; unset, the listener's own host, or this machine's name.";
    "listener.security.protocol.map" String "SASL_SSL:SASL_SSL,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT" [Any] Low PerBroker Honoured
        "Which security protocol each listener name stands for.";
    "early.start.listeners" List null [Any] High ReadOnly Unneeded
        "Listeners that open before the broker is ready; Ottla opens all of them when it serves.";
    "num.network.threads" Int "3" [AtLeast(1.0)] High ClusterWide Unneeded
        "Kafka's network threads; Ottla runs one worker thread per core.";
    "num.io.threads" Int "8" [AtLeast(1.0)] High ClusterWide Unneeded
        "Kafka's request handler threads; Ottla runs one worker thread per core.";
    "background.threads" Int "10" [AtLeast(1.0)] High ClusterWide Unneeded
        "Kafka's threads for background work; Ottla runs one worker thread per core.";
    "queued.max.requests" Int "500" [AtLeast(1.0)] High ReadOnly Unneeded
        "Kafka's queue of requests; Ottla bounds the requests in flight per connection.";
    "queued.max.request.bytes" Long "-1" [Any] Medium ReadOnly Honoured
        "How many bytes of requests may be in memory before reading pauses; unset, a quarter of the memory, at most 256 MiB.";
    "request.timeout.ms" Int "30000" [Any] High ReadOnly NotYet
        "How long a client-side request of the broker may take before it counts as failed.";
    "socket.request.max.bytes" Int "104857600" [AtLeast(1.0)] High ReadOnly Honoured
        "The largest request; a longer one closes its connection.";
    "socket.send.buffer.bytes" Int "102400" [Any] High ReadOnly Honoured
        "SO_SNDBUF of client connections; -1 leaves it to the operating system.";
    "socket.receive.buffer.bytes" Int "102400" [Any] High ReadOnly Honoured
        "SO_RCVBUF of client connections; -1 leaves it to the operating system.";
    "socket.listen.backlog.size" Int "50" [AtLeast(1.0)] Medium ReadOnly Honoured
        "How many connections may wait to be accepted.";
    "socket.connection.setup.timeout.ms" Long "10000" [Any] Medium ReadOnly NotYet
        "How long the broker first waits for a connection to another node.";
    "socket.connection.setup.timeout.max.ms" Long "30000" [Any] Medium ReadOnly NotYet
        "How far that wait may grow after failures.";
    "connections.max.idle.ms" Long "600000" [Any] Medium ReadOnly Honoured
        "A connection without a request for this long is closed.";
    "connections.max.reauth.ms" Long "0" [Any] Medium ReadOnly NotYet
        "After this long a SASL connection must authenticate again; 0 never asks.";
    "connection.failed.authentication.delay.ms" Int "100" [AtLeast(0.0)] Low ReadOnly NotYet
        "How long the answer to a failed authentication is held back.";
    "max.connections" Int "2147483647" [AtLeast(0.0)] Medium ClusterWide Honoured
        "How many connections the broker keeps; further ones wait to be accepted.";
    "max.connections.per.ip" Int "2147483647" [AtLeast(0.0)] Medium ClusterWide Honoured
        "How many connections one address may have; further ones are closed.";
    "max.connections.per.ip.overrides" String "" [Any] Medium ClusterWide Honoured
        "Other limits for single addresses, as address:limit between commas.";
    "max.connection.creation.rate" Int "2147483647" [AtLeast(0.0)] Medium ClusterWide Honoured
        "How many connections per second are accepted.";
    "fetch.max.bytes" Int "57671680" [AtLeast(1024.0)] Medium ReadOnly Honoured
        "The most bytes that one Fetch is answered with, whatever it asks.";
    "max.incremental.fetch.session.cache.slots" Int "1000" [AtLeast(0.0)] Medium ReadOnly Honoured
        "How many fetch sessions are kept (KIP-227).";
    "max.request.partition.size.limit" Int "2000" [AtLeast(1.0)] Medium ReadOnly NotYet
        "How many partitions one DescribeTopicPartitions answer may hold.";
    "fetch.purgatory.purge.interval.requests" Int "1000" [Any] Medium ReadOnly Unneeded
        "When Kafka sweeps its waiting fetches; Ottla's waiters leave no litter.";
    "producer.purgatory.purge.interval.requests" Int "1000" [Any] Medium ReadOnly Unneeded
        "When Kafka sweeps its waiting produce requests; Ottla's waiters leave no litter.";
    "delete.records.purgatory.purge.interval.requests" Int "1" [Any] Medium ReadOnly Unneeded
        "When Kafka sweeps its waiting DeleteRecords; Ottla's waiters leave no litter.";
    "share.fetch.purgatory.purge.interval.requests" Int "1000" [Any] Medium ReadOnly Unneeded
        "When Kafka sweeps its waiting share fetches; Ottla's waiters leave no litter.";
    "telemetry.max.bytes" Int "1048576" [AtLeast(1.0)] Low ReadOnly NotYet
        "The largest client telemetry that is taken (KIP-714).";
    "metric.reporters" List "org.apache.kafka.common.metrics.JmxReporter" [Any] Low ClusterWide Unneeded
        "Java classes that export metrics; Ottla serves /metrics over HTTP.";
    "kafka.metrics.reporters" List "" [Any] Low ReadOnly Unneeded
        "Java classes that export the older metrics; Ottla serves /metrics over HTTP.";
    "kafka.metrics.polling.interval.secs" Int "10" [AtLeast(1.0)] Low ReadOnly Unneeded
        "How often those reporters are asked; Ottla's metrics are read when asked for.";
    "metrics.num.samples" Int "2" [AtLeast(1.0)] Low ReadOnly Unneeded
        "How many samples Kafka averages; Prometheus keeps the history.";
    "metrics.recording.level" String "INFO" [Any] Low ReadOnly Unneeded
        "How detailed Kafka's metrics are; Ottla's are always on.";
    "metrics.sample.window.ms" Long "30000" [AtLeast(1.0)] Low ReadOnly Unneeded
        "How long a sample of Kafka's lasts; Prometheus keeps the history.";
    "client.quota.callback.class" Class null [Any] Low ReadOnly Refused
        "A Java class that decides quotas.";
    "quota.window.num" Int "11" [AtLeast(1.0)] Low ReadOnly NotYet
        "How many samples a client quota looks back over.";
    "quota.window.size.seconds" Int "1" [AtLeast(1.0)] Low ReadOnly NotYet
        "How long a sample of a client quota lasts.";
    "controller.quota.window.num" Int "11" [AtLeast(1.0)] Low ReadOnly NotYet
        "How many samples a quota on topic changes looks back over.";
    "controller.quota.window.size.seconds" Int "1" [AtLeast(1.0)] Low ReadOnly NotYet
        "How long a sample of a quota on topic changes lasts.";
    "unstable.api.versions.enable" Boolean "false" [Any] High Internal NotYet
        "Also serves API versions that are still being made.";
}
