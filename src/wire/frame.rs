//! Pure. Frames: the length before every request and response, and the headers after it.
//!
//! The server owns the socket; this module says what its bytes mean. A frame is handed out only when it is complete, and
//! nothing is reserved for its claimed length: a peer that announces 90 MiB costs what it sends.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::ApiKey;
use kafka_protocol::protocol::StrBytes;
use smallvec::SmallVec;

use super::reader::Reader;
use crate::error::Disconnect;

/// The bytes of the length itself.
pub const LENGTH_BYTES: usize = 4;
/// Key, version, correlation id and a null client id: no request is shorter.
const MIN_HEADER_BYTES: usize = 10;
/// The one key whose response header never has tagged fields, so that any client can read it (KIP-511).
const API_VERSIONS: i16 = 18;
/// What the request of a group with ten thousand members, or for a hundred thousand topics, does not reach.
const LONGEST_LIST: usize = 16 << 20;
/// As much as all members of a group may keep.
const LONGEST_GROUP: usize = 32 << 20;
/// A quarter of a million partitions. Each costs the broker ten times its bytes.
const LONGEST_FETCH: usize = 8 << 20;
/// Requests that list nothing: a few strings of at most 32 KiB each.
const LONGEST_SHORT: usize = 512 << 10;

/// What a peer's first four bytes announce. `limit` is `socket.request.max.bytes`, or less before authentication.
pub fn frame_length(prefix: [u8; LENGTH_BYTES], limit: usize) -> Result<usize, Disconnect> {
    match prefix {
        [0x16, 0x03, ..] => return Err(Disconnect::because("the peer speaks TLS to a plaintext listener")),
        [b'G', b'E', b'T', b' '] | [b'P', b'O', b'S', b'T'] | [b'H', b'E', b'A', b'D'] | [b'P', b'U', b'T', b' '] => {
            return Err(Disconnect::because("the peer speaks HTTP to a Kafka listener"));
        }
        _ => {}
    }
    let length = i32::from_be_bytes(prefix);
    match usize::try_from(length) {
        Ok(0) => Err(Disconnect::because("the peer sent an empty frame")),
        Ok(bytes) if bytes <= limit => Ok(bytes),
        _ => Err(Disconnect(format!("the peer announced a frame of {length} bytes, {limit} are allowed").into())),
    }
}

/// How long a frame of an API may be where `socket.request.max.bytes` allows more. That limit is for records; a request
/// that only lists names costs many times its bytes once it is decoded, and real ones stay far below these bounds.
fn longest(api_key: i16) -> usize {
    use ApiKey as Api;
    match ApiKey::try_from(api_key) {
        Ok(Api::Produce) => usize::MAX,
        Ok(Api::Fetch) => LONGEST_FETCH,
        Ok(Api::JoinGroup | Api::SyncGroup) => LONGEST_GROUP,
        Ok(Api::ApiVersions | Api::DescribeCluster | Api::Heartbeat | Api::InitProducerId | Api::ListGroups) => {
            LONGEST_SHORT
        }
        Ok(_) => LONGEST_LIST,
        Err(()) => LONGEST_SHORT,
    }
}

/// Refuses a frame that is too long for its API, as soon as its first bytes say which.
fn check_length(received: &[u8], length: usize) -> Result<(), Disconnect> {
    if length <= LONGEST_SHORT {
        return Ok(());
    }
    let Some(key) = received.get(LENGTH_BYTES..).and_then(|frame| frame.first_chunk()) else {
        return Ok(());
    };
    let key = i16::from_be_bytes(*key);
    let longest = longest(key);
    if length > longest {
        let why = format!("the peer announced a request of {length} bytes, {longest} are allowed for API key {key}");
        return Err(Disconnect(why.into()));
    }
    Ok(())
}

/// Takes one complete frame, without its length, off the bytes received; `None` when it is not complete yet.
pub fn split_frame(received: &mut BytesMut, limit: usize) -> Result<Option<Bytes>, Disconnect> {
    let Some(prefix) = received.first_chunk::<LENGTH_BYTES>() else {
        return Ok(None);
    };
    let length = frame_length(*prefix, limit)?;
    check_length(received, length)?;
    if received.len() < LENGTH_BYTES + length {
        return Ok(None);
    }
    let mut frame = received.split_to(LENGTH_BYTES + length).freeze();
    Ok(Some(frame.split_off(LENGTH_BYTES)))
}

/// Which API a frame asks for: its key and version. Nothing else can be read before these are known.
pub fn api_of(frame: &[u8]) -> Result<(i16, i16), Disconnect> {
    if frame.len() < MIN_HEADER_BYTES {
        return Err(Disconnect::because("a frame is shorter than a request header"));
    }
    Ok((i16::from_be_bytes([frame[0], frame[1]]), i16::from_be_bytes([frame[2], frame[3]])))
}

/// The header of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RequestHeader {
    /// Which API.
    pub api_key: i16,
    /// In which version.
    pub api_version: i16,
    /// Goes back with the response.
    pub correlation_id: i32,
    /// What the client calls itself. Pins the frame: copy it before it is kept.
    pub client_id: Option<StrBytes>,
}

impl RequestHeader {
    /// Takes the header off a frame and leaves the body. `flexible`: this version of this API has tagged fields.
    ///
    /// The client id is never compact, even in a flexible header. Any negative length is null.
    pub fn split(frame: Bytes, flexible: bool) -> Result<(Self, Bytes), Disconnect> {
        let (api_key, api_version) = api_of(&frame)?;
        let mut reader = Reader::new(frame.slice(4..), false);
        let correlation_id = reader.i32()?;
        let client_id = reader.nullable_string()?;
        let mut reader = Reader::new(reader.into_rest(), flexible);
        reader.skip_tags()?;
        Ok((Self { api_key, api_version, correlation_id, client_id }, reader.into_rest()))
    }
}

/// What goes before a response's body: the length of all that follows, and the header. `flexible`: as for the request of
/// this API and version.
pub fn response_head(api_key: i16, correlation_id: i32, flexible: bool, body_bytes: usize) -> Bytes {
    let tagged = flexible && api_key != API_VERSIONS;
    let length = 4 + usize::from(tagged) + body_bytes;
    let mut head = BytesMut::with_capacity(9);
    head.put_i32(i32::try_from(length).expect("a response is limited far below 2 GiB"));
    head.put_i32(correlation_id);
    if tagged {
        head.put_u8(0);
    }
    head.freeze()
}

/// The pieces of a response's body, to be written one after another in one go.
pub type Pieces = SmallVec<[Bytes; 4]>;

/// A body under construction: bytes of its own, and shared bytes between them that are not copied.
#[derive(Debug, Default)]
pub struct Envelope {
    own: BytesMut,
    /// Shared bytes and where among our own they belong, in order.
    shared: SmallVec<[(usize, Bytes); 4]>,
}

impl Envelope {
    /// Nothing yet.
    pub fn new() -> Self {
        Self { own: BytesMut::with_capacity(256), shared: SmallVec::new() }
    }

    /// Where our own bytes are written.
    pub fn own(&mut self) -> &mut BytesMut {
        &mut self.own
    }

    /// Puts bytes after what is written so far, without a copy.
    pub fn share(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.shared.push((self.own.len(), bytes));
        }
    }

    /// The pieces, in order.
    pub fn finish(self) -> Pieces {
        let own = self.own.freeze();
        let mut pieces = Pieces::with_capacity(2 * self.shared.len() + 1);
        let mut written = 0;
        for (position, bytes) in self.shared {
            if position > written {
                pieces.push(own.slice(written..position));
                written = position;
            }
            pieces.push(bytes);
        }
        if written < own.len() {
            pieces.push(own.slice(written..));
        }
        pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 104_857_600;

    #[test]
    fn a_length_that_cannot_be_closes_the_connection() {
        for length in [-1, i32::MIN, i32::MAX, 0, 104_857_601] {
            assert!(frame_length(length.to_be_bytes(), LIMIT).is_err(), "{length}");
        }
        assert_eq!(frame_length(104_857_600_i32.to_be_bytes(), LIMIT), Ok(LIMIT));
    }

    #[test]
    fn tls_and_http_on_a_plaintext_port_are_named() {
        assert!(frame_length(*b"GET ", LIMIT).unwrap_err().0.contains("HTTP"));
        assert!(frame_length([0x16, 0x03, 0x01, 0x00], LIMIT).unwrap_err().0.contains("TLS"));
    }

    #[test]
    fn a_frame_is_handed_out_only_when_it_is_complete() {
        let mut received = BytesMut::new();
        for byte in [0, 0, 0, 3, 1, 2] {
            received.put_u8(byte);
            assert_eq!(split_frame(&mut received, LIMIT), Ok(None));
        }
        received.put_slice(&[3, 0, 0]);
        assert_eq!(split_frame(&mut received, LIMIT), Ok(Some(Bytes::from_static(&[1, 2, 3]))));
        assert_eq!(&received[..], [0, 0]);
    }

    #[test]
    fn a_frame_too_long_for_its_api_is_refused_when_its_key_is_known() {
        let announced = |bytes: usize, key: i16| {
            let length = u32::try_from(bytes).unwrap().to_be_bytes();
            split_frame(&mut BytesMut::from(&[&length[..], &key.to_be_bytes()].concat()[..]), LIMIT)
        };
        let (produce, fetch, metadata, join_group, unknown) = (0, 1, 3, 11, 999);
        assert_eq!(announced(LIMIT, produce), Ok(None));
        for (key, longest) in [
            (fetch, LONGEST_FETCH),
            (metadata, LONGEST_LIST),
            (join_group, LONGEST_GROUP),
            (API_VERSIONS, LONGEST_SHORT),
            (unknown, LONGEST_SHORT),
        ] {
            assert_eq!(announced(longest, key), Ok(None), "{key}");
            assert!(announced(longest + 1, key).is_err(), "{key}");
        }
        let unnamed = BytesMut::from(&[6, 0, 0, 0, 0][..]);
        assert_eq!(split_frame(&mut unnamed.clone(), LIMIT), Ok(None), "nobody knows yet what it is");
    }

    #[test]
    fn a_header_is_read_in_both_forms() {
        let frame = [0, 3, 0, 9, 0, 0, 0, 7, 0, 2, b'm', b'e', 0, 0xaa];
        let (header, body) = RequestHeader::split(Bytes::copy_from_slice(&frame), true).unwrap();
        assert_eq!((header.api_key, header.api_version, header.correlation_id), (3, 9, 7));
        assert_eq!(header.client_id.as_deref(), Some("me"));
        assert_eq!(&body[..], [0xaa]);
        let (_, body) = RequestHeader::split(Bytes::copy_from_slice(&frame), false).unwrap();
        assert_eq!(&body[..], [0, 0xaa]);
    }

    #[test]
    fn a_client_id_of_length_minus_two_is_null_and_one_past_the_end_closes() {
        let frame = |length: [u8; 2]| Bytes::from([&[0, 3, 0, 1, 0, 0, 0, 7][..], &length].concat());
        assert_eq!(RequestHeader::split(frame([0xff, 0xfe]), false).unwrap().0.client_id, None);
        assert!(RequestHeader::split(frame([0x7f, 0xff]), false).is_err());
    }

    #[test]
    fn a_frame_shorter_than_a_header_closes() {
        for length in 0..10 {
            assert!(api_of(&vec![0; length]).is_err());
            assert!(RequestHeader::split(vec![0; length].into(), true).is_err());
        }
    }

    #[test]
    fn tags_of_a_request_header_are_skipped_and_false_counts_refused() {
        let head = [0, 3, 0, 9, 0, 0, 0, 7, 0xff, 0xff];
        let (_, body) = RequestHeader::split(Bytes::from([&head[..], &[1, 5, 2, 8, 8, 0x42]].concat()), true).unwrap();
        assert_eq!(&body[..], [0x42]);
        let false_count = Bytes::from([&head[..], &[0xff, 0xff, 0xff, 0xff, 0x0f]].concat());
        assert!(RequestHeader::split(false_count, true).is_err());
    }

    #[test]
    fn a_response_to_api_versions_has_the_oldest_header() {
        assert_eq!(response_head(18, 5, true, 3)[..], [0, 0, 0, 7, 0, 0, 0, 5]);
        assert_eq!(response_head(3, 5, true, 3)[..], [0, 0, 0, 8, 0, 0, 0, 5, 0]);
        assert_eq!(response_head(3, 5, false, 3)[..], [0, 0, 0, 7, 0, 0, 0, 5]);
    }

    #[test]
    fn shared_bytes_keep_their_place_and_are_not_copied() {
        let records = Bytes::from_static(b"records");
        let mut envelope = Envelope::new();
        envelope.own().put_u8(1);
        envelope.share(records.clone());
        envelope.share(records.clone());
        envelope.own().put_u8(2);
        let pieces = envelope.finish();
        assert_eq!(pieces.concat(), b"\x01recordsrecords\x02");
        assert_eq!(pieces[1].as_ptr(), records.as_ptr());
    }
}
