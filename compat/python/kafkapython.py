"""kafka-python (pure Python) behind the face that scenarios.py speaks to."""

import time
from collections import namedtuple

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, NewTopic
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor

import scenarios

Record = namedtuple("Record", "key value offset timestamp headers partition")
DEADLINE = scenarios.DEADLINE


def record(m):
    return Record(m.key, m.value, m.offset, m.timestamp, m.headers, m.partition)


class GroupMember:
    """What scenarios.Member drives."""

    def __init__(self, topic, conf):
        self.consumer = KafkaConsumer(topic, **conf)
        self.commit, self.close = self.consumer.commit, self.consumer.close

    def poll(self):
        return [record(r) for records in self.consumer.poll(timeout_ms=100).values() for r in records]

    def owned(self):
        return {p.partition for p in self.consumer.assignment()}


class Client:
    null_headers = False  # this client refuses them itself
    strategies = [RangePartitionAssignor, RoundRobinPartitionAssignor, CooperativeStickyAssignor]

    def __init__(self, bootstrap):
        self.conf = {"bootstrap_servers": bootstrap}

    def admin(self):
        return KafkaAdminClient(**self.conf)

    def create_topic(self, topic, partitions, config=None):
        admin = self.admin()
        admin.create_topics([NewTopic(topic, partitions, 1, topic_configs=config or {})])
        admin.close()

    def delete_topic(self, topic):
        admin = self.admin()
        admin.delete_topics([topic])
        admin.close()

    def topics(self):
        consumer = KafkaConsumer(**self.conf)
        try:
            return set(consumer.topics())
        finally:
            consumer.close()

    def partitions(self, topic):
        consumer = KafkaConsumer(**self.conf)
        try:
            return len(consumer.partitions_for_topic(topic) or ())
        finally:
            consumer.close()

    def topic_config(self, topic, key):
        admin = self.admin()
        try:
            found = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)], config_filter="all")
            return found["topic"][topic][key]["value"]
        finally:
            admin.close()

    def produce(self, topic, records, codec="none", headers=None, timestamps=None, idempotent=False, acks="all"):
        producer = KafkaProducer(
            **self.conf, compression_type=None if codec == "none" else codec, linger_ms=5,
            acks=acks if acks == "all" else int(acks), enable_idempotence=idempotent)
        futures = [
            producer.send(topic, key=key, value=value, headers=headers,
                          timestamp_ms=timestamps[i] if timestamps else None)
            for i, (key, value) in enumerate(records)
        ]
        producer.flush(DEADLINE)
        for future in futures:
            future.get(DEADLINE)
        producer.close()

    def produce_expecting_error(self, topic, value):
        producer = KafkaProducer(**self.conf, acks="all")
        try:
            producer.send(topic, value).get(DEADLINE)
        except Exception as error:
            return type(error).__name__
        finally:
            producer.close()
        raise AssertionError("no error")

    def read(self, topic, count, start=0):
        consumer = KafkaConsumer(**self.conf, enable_auto_commit=False)
        partition = TopicPartition(topic, 0)
        consumer.assign([partition])
        consumer.seek(partition, start)
        try:
            got, deadline = [], time.monotonic() + DEADLINE
            while len(got) < count:
                assert time.monotonic() < deadline, f"{len(got)} of {count} records"
                got += [record(r) for records in consumer.poll(timeout_ms=100).values() for r in records]
            return got[:count]
        finally:
            consumer.close()

    def member(self, topic, group_id, strategy):
        return GroupMember(topic, {
            **self.conf, "group_id": group_id, "partition_assignment_strategy": [strategy],
            "auto_offset_reset": "earliest", "enable_auto_commit": False,
        })

    def groups(self):
        admin = self.admin()
        try:
            return {group["group_id"] for group in admin.list_groups()}
        finally:
            admin.close()

    def describe_group(self, group_id):
        admin = self.admin()
        try:
            told = admin.describe_groups([group_id])[group_id]
            return told["group_state"].lower(), len(told["members"])
        finally:
            admin.close()

    def committed(self, group_id, topic):
        admin = self.admin()
        try:
            told = admin.list_group_offsets({group_id: None})[group_id]
            return {p.partition: at.offset for p, at in told.items() if p.topic == topic}
        finally:
            admin.close()

    def offset_for_time(self, topic, timestamp):
        consumer = KafkaConsumer(**self.conf)
        try:
            partition = TopicPartition(topic, 0)
            found = consumer.offsets_for_times({partition: timestamp})[partition]
            return found.offset if found else None
        finally:
            consumer.close()

    def watermarks(self, topic):
        consumer = KafkaConsumer(**self.conf)
        try:
            partition = TopicPartition(topic, 0)
            return (consumer.beginning_offsets([partition])[partition], consumer.end_offsets([partition])[partition])
        finally:
            consumer.close()


if __name__ == "__main__":
    scenarios.main(Client)
