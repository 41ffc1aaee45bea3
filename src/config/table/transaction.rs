//! Pure data. Idempotent and transactional producers.

use super::keys;

keys! {
    "producer.id.expiration.ms" Int "86400000" [AtLeast(1.0)] Low ClusterWide Honoured
        "How long a partition remembers an idempotent producer that went silent.";
    "producer.id.expiration.check.interval.ms" Int "600000" [AtLeast(1.0)] Low Internal Honoured
        "How often silent producers are looked for.";
    "add.partitions.to.txn.retry.backoff.ms" Int "20" [AtLeast(1.0)] High ReadOnly NotYet
        "How long the broker waits before it verifies a partition of a transaction again.";
    "add.partitions.to.txn.retry.backoff.max.ms" Int "100" [AtLeast(0.0)] High ReadOnly NotYet
        "How long it goes on trying.";
    "transaction.abort.timed.out.transaction.cleanup.interval.ms" Int "10000" [AtLeast(1.0)] Low ReadOnly NotYet
        "How often transactions that took too long are looked for.";
    "transaction.max.timeout.ms" Int "900000" [AtLeast(1.0)] High ReadOnly Honoured
        "The longest transaction that a producer may ask.";
    "transaction.partition.verification.enable" Boolean "true" [Any] Low ClusterWide NotYet
        "Whether a transactional batch is checked against its transaction (KIP-890).";
    "transaction.remove.expired.transaction.cleanup.interval.ms" Int "3600000" [AtLeast(1.0)] Low ReadOnly NotYet
        "How often forgotten transactional ids are looked for.";
    "transaction.state.log.load.buffer.size" Int "5242880" [AtLeast(1.0)] High ReadOnly NotYet
        "How much transaction state is read at a time.";
    "transaction.state.log.min.isr" Int "2" [AtLeast(1.0)] High ReadOnly NotYet
        "How many replicas of __transaction_state must be in sync.";
    "transaction.state.log.num.partitions" Int "50" [AtLeast(1.0)] High ReadOnly NotYet
        "How many partitions __transaction_state is made with.";
    "transaction.state.log.replication.factor" Short "3" [AtLeast(1.0)] High ReadOnly NotYet
        "How many replicas __transaction_state is made with.";
    "transaction.state.log.segment.bytes" Int "104857600" [AtLeast(1.0)] High ReadOnly NotYet
        "The segment size that __transaction_state is made with.";
    "transaction.two.phase.commit.enable" Boolean "false" [Any] Low ReadOnly NotYet
        "Whether a transaction may be prepared and never time out (KIP-939).";
    "transactional.id.expiration.ms" Int "604800000" [AtLeast(1.0)] High ReadOnly NotYet
        "How long an unused transactional id is remembered.";
}
