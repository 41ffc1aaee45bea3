//! What `__consumer_offsets` holds must be what Kafka writes, byte for byte: the golden bytes were read off Kafka 4.3.1.

use proptest::prelude::*;

use super::*;

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).expect("hex")).collect()
}

fn topic_id() -> TopicId {
    TopicId(uuid::Uuid::from_u128(0xe38e_60f5_94e0_4b60_b017_f188_c91e_de50))
}

fn check(key: &str, value: &str, expected: &Record) {
    let decoded = Record::decode(&hex(key), Some(&hex(value))).expect("Kafka's own record");
    assert_eq!(&decoded, expected);
    let (written_key, written_value) = decoded.encode();
    assert_eq!(written_key, hex(key));
    assert_eq!(written_value.expect("not a tombstone"), hex(value));
}

fn offset_key(group: &str, partition: i32) -> Key {
    Key::Offset { group: group.into(), topic: "t1".into(), partition }
}

fn commit(offset: i64, epoch: i32, metadata: &str, at: i64) -> CommittedOffset {
    CommittedOffset {
        offset: Offset(offset),
        leader_epoch: LeaderEpoch(epoch),
        metadata: metadata.into(),
        committed_at: Timestamp(at),
        expires_at: None,
        topic_id: topic_id(),
    }
}

#[test]
fn offset_commits_are_written_as_kafka_writes_them() {
    check(
        "0001000267310002743100000001",
        "000400000000000000030000000001000001a1fe1b48d2010010e38e60f594e04b60b017f188c91ede50",
        &Record { key: offset_key("g1", 1), value: Value::Offset(commit(3, 0, "", 0x1a1_fe1b_48d2)) },
    );
    check(
        "0001000267730002743100000001",
        "0004fffffffffffffffbffffffff0278000001a1fe1c09c4010010e38e60f594e04b60b017f188c91ede50",
        &Record { key: offset_key("gs", 1), value: Value::Offset(commit(-5, -1, "x", 0x1a1_fe1c_09c4)) },
    );
}

#[test]
fn a_retention_asked_for_by_the_client_is_written_as_version_one() {
    let value = CommittedOffset {
        expires_at: Some(Timestamp(0x1a1_fe1c_f3fc)),
        topic_id: TopicId::ZERO,
        ..commit(5, -1, "m", 0x1a1_fe1c_099c)
    };
    check(
        "000100036773320002743100000000",
        "0001000000000000000500016d000001a1fe1c099c000001a1fe1cf3fc",
        &Record { key: offset_key("gs2", 0), value: Value::Offset(value) },
    );
}

#[test]
fn a_generation_is_written_as_kafka_writes_it() {
    let member: Arc<str> = "console-consumer-044d197a-fddf-436f-be2c-37613069af30".into();
    let value = GroupMetadata {
        protocol_type: "consumer".into(),
        generation: 1,
        protocol: Some("range".into()),
        leader: Some(member.clone()),
        state_changed_at: Timestamp(0x1a1_fe1b_47ce),
        members: vec![MemberMetadata {
            member_id: member,
            instance_id: None,
            client_id: "console-consumer".into(),
            client_host: "/127.0.0.1".into(),
            rebalance_timeout_ms: 300_000,
            session_timeout_ms: 45_000,
            subscription: Bytes::from(hex("00030000000100027431ffffffff00000000ffffffffffff")),
            assignment: Bytes::from(hex("00030000000100027431000000020000000000000001ffffffff")),
        }],
    };
    check(
        "000200026731",
        "00030008636f6e73756d657200000001000572616e67650035636f6e736f6c652d636f6e73756d65722d30343464313937612d666464662d\
         343336662d626532632d333736313330363961663330000001a1fe1b47ce000000010035636f6e736f6c652d636f6e73756d65722d303434\
         64313937612d666464662d343336662d626532632d333736313330363961663330ffff0010636f6e736f6c652d636f6e73756d6572000a2f\
         3132372e302e302e31000493e00000afc80000001800030000000100027431ffffffff00000000ffffffffffff0000001a00030000000100\
         027431000000020000000000000001ffffffff",
        &Record { key: Key::Group("g1".into()), value: Value::Group(value) },
    );
}

#[test]
fn an_empty_generation_is_written_as_kafka_writes_it() {
    let value = GroupMetadata {
        protocol_type: "consumer".into(),
        generation: 2,
        protocol: None,
        leader: None,
        state_changed_at: Timestamp(0x1a1_fe1b_48f3),
        members: Vec::new(),
    };
    check(
        "000200026731",
        "00030008636f6e73756d657200000002ffffffff000001a1fe1b48f300000000",
        &Record { key: Key::Group("g1".into()), value: Value::Group(value) },
    );
}

#[test]
fn older_and_newer_versions_of_values_are_read() {
    let key = offset_key("g", 0);
    let (key_bytes, _) = Record::tombstone(key).encode();
    for (value, epoch) in [
        ("0000000000000000000500016d0000000000000009", LeaderEpoch::UNKNOWN),
        ("0002000000000000000500016d0000000000000009", LeaderEpoch::UNKNOWN),
        ("000300000000000000050000000700016d0000000000000009", LeaderEpoch(7)),
    ] {
        let record = Record::decode(&key_bytes, Some(&hex(value))).expect("a version of Kafka");
        let Value::Offset(offset) = record.value else { panic!("an offset") };
        assert_eq!((offset.offset, &*offset.metadata, offset.committed_at), (Offset(5), "m", Timestamp(9)));
        assert_eq!((offset.leader_epoch, offset.topic_id), (epoch, TopicId::ZERO));
    }
    let group = Key::Group("g".into());
    let (key_bytes, _) = Record::tombstone(group).encode();
    let member = |record: Record| {
        let Value::Group(group) = record.value else { panic!("a group") };
        assert_eq!((group.generation, group.members.len()), (3, 1));
        group.members.into_iter().next().expect("one member")
    };
    // Version 0 has neither rebalance time-out nor state timestamp nor instance id; version 4 is flexible.
    let old = hex("000000016300000003000172000161000000010001610001620001630000000500000001730000000174");
    let old = member(Record::decode(&key_bytes, Some(&old)).expect("version 0"));
    assert_eq!((old.rebalance_timeout_ms, old.session_timeout_ms, &*old.client_host), (-1, 5, "c"));
    let new = hex("00040263000000030272026100000000000000090202610269026202630000000600000005027302740000");
    let new = member(Record::decode(&key_bytes, Some(&new)).expect("version 4"));
    assert_eq!((new.rebalance_timeout_ms, new.instance_id.as_deref(), &new.assignment[..]), (6, Some("i"), &b"t"[..]));
}

#[test]
fn a_key_type_of_later_groups_is_told_apart_from_damage() {
    assert_eq!(Record::decode(&[0, 3, 0, 1, b'g'], Some(b"x")).map(|r| r.key), Ok(Key::Other(3)));
    assert_eq!(Record::decode(&[0, 2, 0, 9, b'g'], None), Err(Malformed::Field("key")));
    assert_eq!(Record::decode(&[0, 2, 0, 1, b'g'], Some(&[0, 9])), Err(Malformed::Version("group value", 9)));
}

#[test]
fn groups_live_where_java_puts_them() {
    // Measured with three partitions.
    for (group, partition) in [("", 0), ("g1", 2), ("gs", 2), ("gs2", 1), ("j3", 1), ("j6", 1), ("j7", 2)] {
        assert_eq!(partition_for(group, 3), partition, "{group}");
    }
    // Outside the basic plane Java counts two code units; and one string's hash has no positive twin.
    assert_eq!(partition_for("\u{1f600}", 50), (0xd83d * 31 + 0xde00) % 50);
    assert_eq!(partition_for("polygenelubricants", 50), 0);
}

proptest! {
    #[test]
    fn hostile_bytes_never_panic_and_never_cost_more_than_they_weigh(
        key in proptest::collection::vec(any::<u8>(), 0..40),
        value in proptest::collection::vec(any::<u8>(), 0..200),
        version in 0_u8..6,
        kind in 0_u8..4,
    ) {
        let _ = Record::decode(&key, Some(&value));
        let key = [&[0, kind, 0, 1, b'g', 0, 1, b't', 0, 0, 0, 0][..]].concat();
        let value = [&[0, version][..], &value].concat();
        let _ = Record::decode(&key, Some(&value));
    }

    #[test]
    fn what_is_written_is_read_back(
        offset in any::<i64>(), epoch in -1_i32..100, metadata in ".{0,20}", at in 0_i64..1 << 50, form in 0..3,
    ) {
        let value = CommittedOffset {
            expires_at: (form == 1).then_some(Timestamp(at + 1)),
            topic_id: if form == 2 { topic_id() } else { TopicId::ZERO },
            leader_epoch: if form == 1 { LeaderEpoch::UNKNOWN } else { LeaderEpoch(epoch) },
            ..commit(offset, 0, &metadata, at)
        };
        let record = Record { key: offset_key("a group", 7), value: Value::Offset(value) };
        let (key, bytes) = record.encode();
        prop_assert_eq!(Record::decode(&key, bytes.as_deref()), Ok(record));
    }
}
