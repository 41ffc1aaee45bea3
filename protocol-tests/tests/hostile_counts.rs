//! What a few bytes from a stranger may cost: memory in proportion to what was sent, never to what was claimed.
//!
//! Runs under the broker's own allocator: what matters is what it asks of the kernel.

use bytes::Bytes;
use kafka_protocol::messages::{
    CreateTopicsRequest, DeleteTopicsRequest, JoinGroupRequest, ListOffsetsRequest, MetadataRequest,
    OffsetCommitRequest, OffsetFetchRequest,
};
use ottla::wire::fetch::FetchRequest;
use ottla::wire::guard;
use ottla::wire::produce::ProduceRequest;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const MIB: usize = 1024 * 1024;

/// Resident bytes of this process, peak so far.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells a process about itself");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("the peak is told");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<usize>().ok()).expect("a number of KiB") * 1024
}

/// The peak forgets what was before.
fn growth(action: impl FnOnce()) -> usize {
    std::fs::write("/proc/self/clear_refs", "5").expect("a process may reset its own peak");
    let before = peak();
    action();
    peak() - before
}

fn legacy_count(before: &[u8]) -> Bytes {
    Bytes::from([before, &i32::MAX.to_be_bytes(), &[0; 16]].concat())
}

#[test]
fn what_is_claimed_costs_nothing() {
    let grown = growth(|| {
        for _ in 0..100 {
            assert!(guard::decode::<MetadataRequest>(legacy_count(&[]), 0).is_err());
            assert!(guard::decode::<DeleteTopicsRequest>(legacy_count(&[]), 1).is_err());
            assert!(guard::decode::<CreateTopicsRequest>(legacy_count(&[]), 2).is_err());
            assert!(guard::decode::<OffsetFetchRequest>(legacy_count(&[0, 1, b'g']), 1).is_err());
            assert!(guard::decode::<ListOffsetsRequest>(legacy_count(&[0; 4]), 1).is_err());
            let join = [&[0, 1, b'g', 0, 0, 0, 9, 0, 0, 0, 9, 0, 0, 0, 1, b'c'][..]].concat();
            assert!(guard::decode::<JoinGroupRequest>(legacy_count(&join), 1).is_err());
            assert!(
                guard::decode::<OffsetCommitRequest>(
                    legacy_count(&[0, 1, b'g', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
                    2
                )
                .is_err()
            );
            assert!(ProduceRequest::decode(legacy_count(&[0xff, 0xff, 0, 1, 0, 0, 0, 1]), 3).is_err());
            assert!(FetchRequest::decode(legacy_count(&[0; 17]), 4).is_err());
            let compact = Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0]);
            assert!(guard::decode::<MetadataRequest>(compact, 12).is_err());
        }
    });
    assert!(grown < 32 * MIB, "{} MiB", grown / MIB);

    // Five million distinct tagged fields, 25 MiB.
    let mut tags = vec![0, 0, 0]; // Metadata 12: no topics, two booleans
    varint(&mut tags, 5_000_000);
    for tag in 0..5_000_000_u32 {
        varint(&mut tags, tag);
        tags.push(0);
    }
    let grown = growth(|| assert!(guard::decode::<MetadataRequest>(tags.into(), 12).is_err()));
    assert!(grown < 160 * MIB, "{} MiB", grown / MIB);

    // Five million empty topic names, 10 MiB.
    let mut names = 5_000_000_i32.to_be_bytes().to_vec();
    names.resize(10_000_004, 0);
    let grown = growth(|| assert!(guard::decode::<MetadataRequest>(names.into(), 0).is_err()));
    assert!(grown < 400 * MIB, "{} MiB", grown / MIB);

    // Produce with as many topics as the bytes allow, 20 MiB.
    let mut topics = vec![0xff, 0xff, 0, 1, 0, 0, 0, 1];
    topics.extend_from_slice(&2_000_000_i32.to_be_bytes());
    for _ in 0..2_000_000 {
        topics.extend_from_slice(&[0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
    }
    let sent = topics.len();
    let grown = growth(|| assert!(ProduceRequest::decode(topics.into(), 3).is_err()));
    assert!(grown < 8 * sent, "{} MiB", grown / MIB);
}

fn varint(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
