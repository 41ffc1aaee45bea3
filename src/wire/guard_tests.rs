//! Claims about kafka-protocol's decoders behind the guard.

use bytes::BytesMut;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::{
    ApiVersionsRequest, CreateTopicsRequest, JoinGroupRequest, MetadataRequest, OffsetCommitRequest, OffsetFetchRequest,
};
use kafka_protocol::protocol::{Encodable, StrBytes};
use proptest::prelude::*;

use super::*;

fn encoded(request: &impl Encodable, version: i16) -> Bytes {
    let mut out = BytesMut::new();
    request.encode(&mut out, version).unwrap();
    out.freeze()
}

#[test]
fn what_kafka_protocol_wrote_is_read() {
    let request = ApiVersionsRequest::default()
        .with_client_software_name(StrBytes::from_static_str("a-client"))
        .with_client_software_version(StrBytes::from_static_str("1.0"));
    assert_eq!(decode::<ApiVersionsRequest>(encoded(&request, 4), 4).unwrap(), request);
    for version in 0..=13 {
        let request = MetadataRequest::default().with_topics(Some(vec![]));
        let request = if version >= 4 { request } else { request.with_allow_auto_topic_creation(true) };
        assert_eq!(decode::<MetadataRequest>(encoded(&request, version), version).unwrap(), request);
    }
}

#[test]
fn a_false_compact_count_is_refused_before_the_decoder_sees_it() {
    let claims_four_billion = Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0]);
    assert!(decode::<MetadataRequest>(claims_four_billion.clone(), 12).is_err());
    assert!(decode::<CreateTopicsRequest>(claims_four_billion, 7).is_err());
}

#[test]
fn a_false_count_of_an_old_version_is_refused_before_the_decoder_sees_it() {
    let claims_two_billion = Bytes::from_static(&[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
    assert!(decode::<MetadataRequest>(claims_two_billion.clone(), 8).is_err());
    assert!(decode::<CreateTopicsRequest>(claims_two_billion, 4).is_err());
}

#[test]
fn a_varint_that_never_ends_is_refused() {
    assert!(decode::<MetadataRequest>(Bytes::from_static(&[0xff; 40]), 12).is_err());
}

#[test]
fn an_unknown_tag_of_a_high_number_is_no_count() {
    let mut body = encoded(&MetadataRequest::default().with_topics(None), 12).to_vec();
    assert_eq!(body.pop(), Some(0));
    body.extend_from_slice(&[1, 0x90, 0x4e, 1, 7]); // one tag, 10000, of one byte
    assert!(decode::<MetadataRequest>(body.into(), 12).is_ok());
}

/// Metadata 9 for so many topics of an empty name, each of three pieces: the name's length, the name, the number of tags.
fn nameless_topics(count: u32) -> Bytes {
    let mut body = BytesMut::new();
    let mut rest = count + 1;
    while rest >= 0x80 {
        body.extend_from_slice(&[(rest & 0x7f) as u8 | 0x80]);
        rest >>= 7;
    }
    body.extend_from_slice(&[rest as u8]);
    for _ in 0..count {
        body.extend_from_slice(&[1, 0]);
    }
    // Three booleans and no tags.
    body.extend_from_slice(&[0, 0, 0, 0]);
    body.freeze()
}

#[test]
fn a_request_of_more_than_a_million_pieces_is_refused() {
    assert!(decode::<MetadataRequest>(nameless_topics(300_000), 9).is_ok());
    assert!(decode::<MetadataRequest>(nameless_topics(500_001), 9).is_err());
    // OffsetFetch 1 for so many partitions of one topic: numbers only.
    let partitions = |count: i32| {
        let mut body = [&[0, 1, b'g', 0, 0, 0, 1, 0, 1, b't'][..], &count.to_be_bytes()].concat();
        body.resize(body.len() + 4 * usize::try_from(count).unwrap(), 0);
        decode::<OffsetFetchRequest>(body.into(), 1)
    };
    assert!(partitions(900_000).is_ok());
    assert!(partitions(1_000_001).is_err());
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic_and_reserve_nothing_that_is_not_there(
        bytes in proptest::collection::vec(any::<u8>(), 0..100),
        version in 0..14_i16,
    ) {
        // The allocator of these tests ends the process when it is asked for what a false count claims.
        let bytes = Bytes::from(bytes);
        let _ = decode::<MetadataRequest>(bytes.clone(), version);
        let _ = decode::<JoinGroupRequest>(bytes.clone(), version % 10);
        let _ = decode::<OffsetCommitRequest>(bytes.clone(), 2 + version % 8);
        let _ = decode::<CreateTopicsRequest>(bytes, 2 + version % 6);
    }
}

#[test]
fn a_string_that_an_older_answer_could_not_carry_is_refused() {
    let named = |letters: usize| {
        let topic = CreatableTopic::default().with_name(StrBytes::from_string("t".repeat(letters)).into());
        encoded(&CreateTopicsRequest::default().with_topics(vec![topic]), 7)
    };
    assert!(decode::<CreateTopicsRequest>(named(32_767), 7).is_ok());
    assert!(decode::<CreateTopicsRequest>(named(32_768), 7).is_err());
    let metadata = Bytes::from(vec![0; 40_000]);
    let protocol = JoinGroupRequestProtocol::default().with_metadata(metadata);
    let join = JoinGroupRequest::default().with_protocols(vec![protocol]);
    assert!(decode::<JoinGroupRequest>(encoded(&join, 9), 9).is_ok(), "what a member says is no string");
}
