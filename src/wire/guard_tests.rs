//! Claims about kafka-protocol's decoders behind the guard.

use bytes::BytesMut;
use kafka_protocol::messages::{
    ApiVersionsRequest, CreateTopicsRequest, JoinGroupRequest, MetadataRequest, OffsetCommitRequest,
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

#[test]
fn more_than_two_million_strings_are_refused() {
    let count = 2_000_001_u32;
    let mut body = BytesMut::new();
    let mut rest = count + 1;
    while rest >= 0x80 {
        body.extend_from_slice(&[(rest & 0x7f) as u8 | 0x80]);
        rest >>= 7;
    }
    body.extend_from_slice(&[rest as u8]);
    // Metadata 9: topics of an empty name and no tags, then three booleans and no tags.
    for _ in 0..count {
        body.extend_from_slice(&[1, 0]);
    }
    body.extend_from_slice(&[0, 0, 0, 0]);
    assert!(decode::<MetadataRequest>(body.freeze(), 9).is_err());
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100), version in 0..14_i16) {
        // Counts of the old array form are reserved lazily, but not by every allocator that tests run under.
        let bytes = Bytes::from(bytes);
        if version >= 9 {
            let _ = decode::<MetadataRequest>(bytes.clone(), version);
        }
        let _ = decode::<JoinGroupRequest>(bytes.clone(), 6 + version % 4);
        let _ = decode::<OffsetCommitRequest>(bytes, 8 + version % 2);
    }
}
