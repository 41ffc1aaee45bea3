"""confluent-kafka (librdkafka) behind the face that scenarios.py speaks to."""

import time
from collections import namedtuple

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic

import scenarios

Record = namedtuple("Record", "key value offset timestamp headers partition")
DEADLINE = scenarios.DEADLINE


def record(m):
    return Record(m.key(), m.value(), m.offset(), m.timestamp()[1], m.headers() or [], m.partition())


class GroupMember:
    """What scenarios.Member drives."""

    def __init__(self, conf, topic):
        self.consumer = Consumer(conf)
        self.consumer.subscribe([topic])
        self.close = self.consumer.close

    def poll(self):
        messages = self.consumer.consume(num_messages=500, timeout=0.1)
        for message in messages:
            if message.error():
                raise KafkaException(message.error())
        return [record(m) for m in messages]

    def commit(self):
        self.consumer.commit(asynchronous=False)

    def owned(self):
        return {p.partition for p in self.consumer.assignment()}


class Client:
    null_headers = True
    strategies = ["range", "roundrobin", "cooperative-sticky"]

    def __init__(self, bootstrap):
        self.conf = {"bootstrap.servers": bootstrap}
        self.admin_client = AdminClient(self.conf)

    def create_topic(self, topic, partitions, config=None):
        self.admin_client.create_topics([NewTopic(topic, partitions, 1, config=config or {})])[topic].result(DEADLINE)

    def delete_topic(self, topic):
        self.admin_client.delete_topics([topic])[topic].result(DEADLINE)

    def topics(self):
        return set(self.admin_client.list_topics(timeout=DEADLINE).topics)

    def partitions(self, topic):
        return len(self.admin_client.list_topics(topic, timeout=DEADLINE).topics[topic].partitions)

    def topic_config(self, topic, key):
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
        return self.admin_client.describe_configs([resource])[resource].result(DEADLINE)[key].value

    def produce(self, topic, records, codec="none", headers=None, timestamps=None, idempotent=False, acks="all"):
        errors = []
        producer = Producer({
            **self.conf, "compression.type": codec, "acks": acks, "linger.ms": 5, "enable.idempotence": idempotent,
        })
        for i, (key, value) in enumerate(records):
            extra = {"timestamp": timestamps[i]} if timestamps else {}
            while True:
                try:
                    producer.produce(topic, key=key, value=value, headers=headers,
                                     on_delivery=lambda e, m: errors.append(e) if e else None, **extra)
                    break
                except BufferError:
                    producer.poll(0.1)
        assert producer.flush(DEADLINE) == 0, "not everything was delivered"
        assert not errors, errors[0]

    def produce_expecting_error(self, topic, value):
        errors = []
        producer = Producer({**self.conf, "acks": "all"})
        producer.produce(topic, value, on_delivery=lambda e, m: errors.append(e))
        producer.flush(DEADLINE)
        assert errors and errors[0], "no error"
        return errors[0].name()

    def _poll(self, consumer, count):
        got, deadline = [], time.monotonic() + DEADLINE
        while len(got) < count:
            assert time.monotonic() < deadline, f"{len(got)} of {count} records"
            message = consumer.poll(1.0)
            if message is None:
                continue
            if message.error():
                if message.error().code() == KafkaError._PARTITION_EOF:
                    continue
                raise KafkaException(message.error())
            got.append(record(message))
        return got

    def read(self, topic, count, start=0):
        consumer = Consumer({**self.conf, "group.id": scenarios.name("reader"), "enable.auto.commit": False})
        consumer.assign([TopicPartition(topic, 0, start)])
        try:
            return self._poll(consumer, count)
        finally:
            consumer.close()

    def member(self, topic, group_id, strategy):
        return GroupMember({
            **self.conf, "group.id": group_id, "partition.assignment.strategy": strategy,
            "auto.offset.reset": "earliest", "enable.auto.commit": False,
        }, topic)

    def groups(self):
        listed = self.admin_client.list_consumer_groups().result(DEADLINE)
        assert not listed.errors, listed.errors[0]
        return {group.group_id for group in listed.valid}

    def describe_group(self, group_id):
        told = self.admin_client.describe_consumer_groups([group_id])[group_id].result(DEADLINE)
        return told.state.name.lower(), len(told.members)

    def committed(self, group_id, topic):
        told = self.admin_client.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group_id)])[group_id]
        return {p.partition: p.offset for p in told.result(DEADLINE).topic_partitions if p.topic == topic}

    def offset_for_time(self, topic, timestamp):
        consumer = Consumer({**self.conf, "group.id": "times"})
        try:
            return consumer.offsets_for_times([TopicPartition(topic, 0, timestamp)], timeout=DEADLINE)[0].offset
        finally:
            consumer.close()

    def watermarks(self, topic):
        # librdkafka may still remember what the topic was like before it was made again: then it is asked anew.
        deadline = time.monotonic() + DEADLINE
        while True:
            consumer = Consumer({**self.conf, "group.id": "marks"})
            try:
                return tuple(consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=DEADLINE))
            except KafkaException as error:
                unknown = (KafkaError._UNKNOWN_PARTITION, KafkaError._UNKNOWN_TOPIC, KafkaError.UNKNOWN_TOPIC_OR_PART)
                if error.args[0].code() not in unknown or time.monotonic() > deadline:
                    raise
            finally:
                consumer.close()


if __name__ == "__main__":
    scenarios.main(Client)
