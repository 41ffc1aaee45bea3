"""kafka-python (pure Python) behind the face that scenarios.py speaks to."""

import time
from collections import namedtuple

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, NewTopic

import scenarios

Record = namedtuple("Record", "key value offset timestamp headers partition")
DEADLINE = 60


def record(m):
    return Record(m.key, m.value, m.offset, m.timestamp, m.headers, m.partition)


class Client:
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
            return len(consumer.partitions_for_topic(topic))
        finally:
            consumer.close()

    def topic_config(self, topic, key):
        admin = self.admin()
        try:
            found = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
            return find_config(found, key)
        finally:
            admin.close()

    def produce(self, topic, records, codec="none", headers=None, timestamps=None, idempotent=False):
        extra = {"enable_idempotence": idempotent}
        producer = KafkaProducer(
            **self.conf, compression_type=None if codec == "none" else codec, acks="all", linger_ms=5, **extra)
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
            return self._poll([consumer], count, commit=False)
        finally:
            consumer.close()

    def _poll(self, consumers, count, commit):
        got, deadline = [], time.monotonic() + DEADLINE
        while len(got) < count:
            assert time.monotonic() < deadline, f"{len(got)} of {count} records"
            for consumer in consumers:
                for records in consumer.poll(timeout_ms=100, max_records=count - len(got) or 1).values():
                    got.extend(record(r) for r in records)
                    if commit:
                        consumer.commit()
        return got

    def consume_group(self, topic, group_id, count):
        consumers = [
            KafkaConsumer(topic, **self.conf, group_id=group_id, auto_offset_reset="earliest", enable_auto_commit=False)
        ]
        try:
            return self._poll(consumers, count, commit=True)
        finally:
            for consumer in consumers:
                consumer.close()

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


def find_config(found, key):
    """The value of a key in what describe_configs gives: a mapping in newer versions, responses in older ones."""
    if isinstance(found, dict):
        for value in found.values():
            if key in value:
                entry = value[key]
                return entry["value"] if isinstance(entry, dict) else getattr(entry, "value", entry)
            hit = find_config(value, key) if isinstance(value, dict) else None
            if hit is not None:
                return hit
        return None
    for response in found:
        for resource in response.resources:
            for entry in resource[4]:
                if entry[0] == key:
                    return entry[1]
    return None


if __name__ == "__main__":
    scenarios.main(Client)
