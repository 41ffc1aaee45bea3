"""The scenarios, written once over a small face that each client library has (see confluent.py and kafkapython.py).

A scenario raises on the first thing that is not as Kafka does it.
"""

import sys
import threading
import time
import traceback
import uuid

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
DEADLINE = 60


def name(prefix):
    return f"{prefix}-{uuid.uuid4().hex[:12]}"


class Member(threading.Thread):
    """A group member on its own thread: polls, keeps what came, commits it. `consumer` is what a client's member() gives."""

    def __init__(self, consumer):
        super().__init__(daemon=True)
        self.consumer, self.got, self.owned, self.error = consumer, [], set(), None
        self.changed, self.stopping = threading.Condition(), False
        self.start()

    def run(self):
        try:
            while not self.stopping:
                records = self.consumer.poll()
                if records:
                    self.consumer.commit()
                owned = self.consumer.owned()
                with self.changed:
                    self.got += records
                    self.owned = owned
                    self.changed.notify_all()
            self.consumer.close()
        except Exception as error:
            with self.changed:
                self.error = error
                self.changed.notify_all()

    def wait(self, what, wanted):
        with self.changed:
            self.changed.wait_for(lambda: self.error or wanted(), DEADLINE)
            if self.error:
                raise self.error
            assert wanted(), f"{what}: {len(self.got)} records, partitions {self.owned}"

    def leave(self):
        self.stopping = True
        self.join(DEADLINE)
        assert not self.is_alive(), "the member does not end"
        if self.error:
            raise self.error


def eventually(what, holds):
    """Asks again until it holds; each question is a round trip to the broker."""
    deadline = time.monotonic() + DEADLINE
    while not holds():
        assert time.monotonic() < deadline, what


def numbered(numbers):
    return [(f"k{i}".encode(), f"{i}".encode()) for i in numbers]


def numbers(records):
    return sorted(int(r.value) for r in records)


def codecs(client):
    for codec in CODECS:
        topic = name("codec-" + codec)
        client.create_topic(topic, 1)
        sent = [(f"k{i}".encode(), (f"value {i} " * 20).encode()) for i in range(1000)]
        client.produce(topic, sent, codec=codec)
        got = client.read(topic, len(sent))
        assert [(r.key, r.value) for r in got] == sent, f"{codec}: records differ"
        assert [r.offset for r in got] == list(range(1000)), f"{codec}: offsets are not dense"
        assert client.watermarks(topic) == (0, 1000), f"{codec}: more records than were sent"


def headers_and_nulls(client):
    topic = name("nulls")
    client.create_topic(topic, 1)
    headers = [("a", b"1"), ("a", b"2"), ("empty", b"")]
    if client.null_headers:
        headers.append(("null", None))
    client.produce(topic, [(None, b"no key"), (b"no value", None), (b"", b"")])
    client.produce(topic, [(b"k", b"v")], headers=headers)
    got = client.read(topic, 4)
    assert [(r.key, r.value) for r in got] == [(None, b"no key"), (b"no value", None), (b"", b""), (b"k", b"v")], got
    assert list(got[3].headers) == headers, got[3].headers


def large(client):
    topic = name("large")
    client.create_topic(topic, 1)
    value = bytes(range(256)) * 3900  # just under the default max.message.bytes
    client.produce(topic, [(b"k", value)])
    assert client.read(topic, 1)[0].value == value


def too_large(client):
    topic = name("toolarge")
    client.create_topic(topic, 1, {"max.message.bytes": "2000"})
    error = client.produce_expecting_error(topic, b"x" * 5000)
    assert "MSG_SIZE_TOO_LARGE" in error or "MessageSizeTooLarge" in error or "RecordTooLarge" in error, error


def offsets(client):
    topic = name("offsets")
    client.create_topic(topic, 1, {"retention.ms": "-1"})  # the records are years old
    base = 1_700_000_000_000
    client.produce(topic, [(None, str(i).encode()) for i in range(100)], timestamps=[base + 1000 * i for i in range(100)])
    assert client.offset_for_time(topic, base + 41_500) == 42
    assert client.offset_for_time(topic, base + 1_000_000) in (None, -1, 100)
    assert client.watermarks(topic) == (0, 100)
    got = client.read(topic, 10, start=57)
    assert [r.offset for r in got] == list(range(57, 67))
    assert got[0].timestamp == base + 57_000, got[0].timestamp


def group(client):
    for strategy in client.strategies:
        topic, group_id = name("group"), name("g")
        client.create_topic(topic, 4)
        # A leader that does not see the topic yet gives nobody anything, and some clients look again only minutes later.
        eventually("the topic has no partitions", lambda: client.partitions(topic) == 4)
        one, two = (Member(client.member(topic, group_id, strategy)) for _ in range(2))
        for member in (one, two):
            member.wait(f"{strategy}: half of the partitions", lambda m=member: len(m.owned) == 2)
        assert one.owned | two.owned == {0, 1, 2, 3}, f"{strategy}: {one.owned} {two.owned}"
        state, members = client.describe_group(group_id)
        assert (state, members) == ("stable", 2), f"{state}, {members} members"
        assert group_id in client.groups()
        client.produce(topic, numbered(range(400)))
        one.wait("400 records", lambda: two.error or len(one.got) + len(two.got) >= 400)
        two.leave()
        one.wait("all partitions", lambda: one.owned == {0, 1, 2, 3})
        assert one.got and two.got, "one member had everything"
        assert numbers(one.got + two.got) == list(range(400)), "not each record once"
        assert sum(client.committed(group_id, topic).values()) == 400, f"committed offsets: {client.committed(group_id, topic)}"
        client.produce(topic, numbered(range(400, 500)))
        one.wait("the rest", lambda: len(one.got) + len(two.got) >= 500)
        one.leave()
        assert numbers(one.got + two.got) == list(range(500)), "not each record once after a member left"
        state, members = client.describe_group(group_id)
        assert (state, members) == ("empty", 0), f"{state}, {members} members"
        client.produce(topic, numbered(range(500, 600)))
        later = Member(client.member(topic, group_id, strategy))
        later.wait("what came meanwhile", lambda: len(later.got) >= 100)
        later.leave()
        assert numbers(later.got) == list(range(500, 600)), "the committed offsets were not kept"


def acks(client):
    for level in ["0", "1", "all"]:
        topic = name("acks-" + level)
        client.create_topic(topic, 1)
        client.produce(topic, numbered(range(1000)), acks=level)
        assert [int(r.value) for r in client.read(topic, 1000)] == list(range(1000)), level


def idempotent(client):
    topic = name("idempotent")
    client.create_topic(topic, 1)
    client.produce(topic, [(None, f"{i}".encode()) for i in range(5000)], idempotent=True)
    got = client.read(topic, 5000)
    assert [int(r.value) for r in got] == list(range(5000))
    assert client.watermarks(topic) == (0, 5000), "more records than were sent"


def auto_create(client):
    topic = name("auto")
    client.produce(topic, [(None, b"hello")])
    assert client.read(topic, 1)[0].value == b"hello"


def admin(client):
    topic = name("admin")
    client.create_topic(topic, 3, {"retention.ms": "123456"})
    eventually("the topic is not listed", lambda: topic in client.topics())
    assert client.partitions(topic) == 3
    assert client.topic_config(topic, "retention.ms") == "123456"
    assert client.topic_config(topic, "cleanup.policy") == "delete"
    client.produce(topic, [(b"k", b"v")])
    client.delete_topic(topic)
    eventually("the topic is still listed", lambda: topic not in client.topics())
    client.create_topic(topic, 1)
    assert client.watermarks(topic) == (0, 0), "a topic made again does not start empty"


SCENARIOS = {
    f.__name__: f
    for f in [codecs, headers_and_nulls, large, too_large, offsets, group, acks, idempotent, auto_create, admin]
}


def main(make_client):
    bootstrap, scenario = sys.argv[1], sys.argv[2]
    if scenario == "list":
        print("\n".join(SCENARIOS))
        return
    try:
        SCENARIOS[scenario](make_client(bootstrap))
    except Exception:
        traceback.print_exc()
        sys.exit(1)
