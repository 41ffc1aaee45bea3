"""The scenarios, written once over a small face that each client library has (see confluent.py and kafkapython.py).

A scenario raises on the first thing that is not as Kafka does it.
"""

import sys
import time
import traceback
import uuid

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]


def name(prefix):
    return f"{prefix}-{uuid.uuid4().hex[:12]}"


def codecs(client):
    for codec in CODECS:
        topic = name("codec-" + codec)
        client.create_topic(topic, 1)
        sent = [(f"k{i}".encode(), (f"value {i} " * 20).encode()) for i in range(1000)]
        client.produce(topic, sent, codec=codec)
        got = client.read(topic, len(sent))
        assert [(r.key, r.value) for r in got] == sent, f"{codec}: records differ"
        assert [r.offset for r in got] == list(range(1000)), f"{codec}: offsets are not dense"


def headers_and_nulls(client):
    topic = name("nulls")
    client.create_topic(topic, 1)
    headers = [("a", b"1"), ("a", b"2"), ("empty", b""), ("null", None)]
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
    client.create_topic(topic, 1)
    base = 1_700_000_000_000
    client.produce(topic, [(None, str(i).encode()) for i in range(100)], timestamps=[base + 1000 * i for i in range(100)])
    assert client.offset_for_time(topic, base + 41_500) == 42
    assert client.offset_for_time(topic, base + 1_000_000) in (None, -1, 100)
    assert client.watermarks(topic) == (0, 100)
    got = client.read(topic, 10, start=57)
    assert [r.offset for r in got] == list(range(57, 67))
    assert got[0].timestamp == base + 57_000, got[0].timestamp


def group(client):
    topic, group_id = name("group"), name("g")
    client.create_topic(topic, 4)
    client.produce(topic, [(f"k{i}".encode(), f"{i}".encode()) for i in range(400)])
    first = client.consume_group(topic, group_id, 400)
    assert sorted(int(r.value) for r in first) == list(range(400))
    client.produce(topic, [(f"k{i}".encode(), f"{i}".encode()) for i in range(400, 500)])
    second = client.consume_group(topic, group_id, 100)
    assert sorted(int(r.value) for r in second) == list(range(400, 500)), "the committed offsets were not kept"


def idempotent(client):
    topic = name("idempotent")
    client.create_topic(topic, 1)
    client.produce(topic, [(None, f"{i}".encode()) for i in range(5000)], idempotent=True)
    got = client.read(topic, 5000)
    assert [int(r.value) for r in got] == list(range(5000))


def auto_create(client):
    topic = name("auto")
    client.produce(topic, [(None, b"hello")])
    assert client.read(topic, 1)[0].value == b"hello"


def admin(client):
    topic = name("admin")
    client.create_topic(topic, 3, {"retention.ms": "123456"})
    assert client.partitions(topic) == 3
    assert client.topic_config(topic, "retention.ms") == "123456"
    assert client.topic_config(topic, "cleanup.policy") == "delete"
    client.produce(topic, [(b"k", b"v")])
    client.delete_topic(topic)
    deadline = time.monotonic() + 30
    while topic in client.topics():
        assert time.monotonic() < deadline, "the topic is still listed"
    client.create_topic(topic, 1)
    assert client.watermarks(topic) == (0, 0), "a topic made again does not start empty"


SCENARIOS = {
    f.__name__: f
    for f in [codecs, headers_and_nulls, large, too_large, offsets, group, idempotent, auto_create, admin]
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
