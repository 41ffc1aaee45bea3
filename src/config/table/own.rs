//! Pure data. What only Ottla has.

use super::keys;

keys! {
    "cluster.id" String null [Any] Medium ReadOnly Honoured
        "The cluster that a new data directory is made for, as CLUSTER_ID of Kafka's images; unset, one is made up.";
    "ottla.disk.reserve.bytes" Long "268435456" [AtLeast(0.0)] High ReadOnly Honoured
        "How much disk must stay free: below it produce is refused, while fetch and delete go on.";
    "ottla.group.coordinator.max.bytes" Long "268435456" [AtLeast(1.0)] Medium ReadOnly Honoured
        "How much memory the groups of this broker may keep together: names, members, assignments, offsets. Beyond it members and offsets that are new are refused.";
    "ottla.group.coordinator.max.groups" Int "200000" [AtLeast(1.0)] Medium ReadOnly Honoured
        "How many groups this broker keeps.";
    "ottla.group.max.bytes" Long "33554432" [AtLeast(1.0)] Medium ReadOnly Honoured
        "How much memory one group may keep.";
    "ottla.http.listener" String "127.0.0.1:9644" [Any] Medium ReadOnly Honoured
        "Where /metrics, /healthz and /readyz are served, as host:port; empty, nowhere.";
    "ottla.log.format" String "human" [OneOf(&["human", "json"])] Low ReadOnly Honoured
        "How log lines are written.";
    "ottla.produce.validate" String "fast" [OneOf(&["fast", "full"])] Medium ReadOnly Honoured
        "How far a compressed batch is looked into before it is stored: its frame, CRC and bounds, or every record as Kafka does.";
    "ottla.tail.cache.bytes" Long "67108864" [AtLeast(0.0)] Medium ReadOnly Honoured
        "How much memory holds the newest batches for consumers that keep up.";
    "ottla.unsent.max.bytes" Long "268435456" [AtLeast(1.0)] Medium ReadOnly Honoured
        "About how much memory the answers may take, all together, that peers have not read: as it runs short, a fetch carries less, at least a batch or 64 KiB.";
}
