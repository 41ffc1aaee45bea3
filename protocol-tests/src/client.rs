//! A client that sends exactly what it is told and believes nothing.
//!
//! Every answer must be the right one by correlation id, decode at the version that was asked for, and leave no byte
//! over: so the mere round trip at a version proves which fields stand in it. It must never reconnect or retry.

use std::io;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::text;

/// How long an answer may take before the test is given up: a bound on hanging, not a measure.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The client id that the tests send.
pub const CLIENT_ID: &str = "conformance";

/// One connection.
pub struct Client {
    stream: TcpStream,
    next_correlation: i32,
}

impl Client {
    /// Connects to `host:port`.
    pub async fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address).await.unwrap_or_else(|e| panic!("connect to {address}: {e}"));
        stream.set_nodelay(true).expect("TCP_NODELAY");
        Self { stream, next_correlation: 1 }
    }

    /// Sends a request and awaits its answer.
    pub async fn call<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        self.call_as(version, version, request).await
    }

    /// Sends a request at `version`, encoded as the codec's `codec` version: some newer versions have an old layout.
    pub async fn call_as<R: Request>(&mut self, version: i16, codec: i16, request: &R) -> R::Response {
        let correlation = self.send_as(version, codec, request).await;
        self.receive::<R>(codec, correlation).await
    }

    /// Sends a request without awaiting its answer; returns the correlation id.
    pub async fn send<R: Request>(&mut self, version: i16, request: &R) -> i32 {
        self.send_as(version, version, request).await
    }

    async fn send_as<R: Request>(&mut self, version: i16, codec: i16, request: &R) -> i32 {
        let mut body = BytesMut::new();
        request.encode(&mut body, codec).unwrap_or_else(|e| panic!("encode key {} v{version}: {e}", R::KEY));
        self.send_body(R::KEY, version, R::header_version(codec), &body).await
    }

    /// Sends a hand-written body behind a header of the given version; returns the correlation id.
    pub async fn send_body(&mut self, key: i16, version: i16, header_version: i16, body: &[u8]) -> i32 {
        let correlation = self.next_correlation;
        self.next_correlation += 1;
        let frame = request_frame(key, version, header_version, correlation, body);
        self.send_bytes(&frame).await.expect("send");
        correlation
    }

    /// Sends a hand-written body of a flexible version; returns the response's body.
    pub async fn call_body(&mut self, key: i16, version: i16, body: &[u8]) -> Bytes {
        let correlation = self.send_body(key, version, 2, body).await;
        let mut frame = self.receive_frame().await.expect("an answer");
        assert_eq!(frame.get_i32(), correlation, "correlation id");
        assert_eq!(frame.get_u8(), 0, "tagged fields of the response header");
        frame
    }

    /// Awaits the answer to the request with this correlation id, which must be the next one on the connection.
    pub async fn receive<R: Request>(&mut self, version: i16, correlation: i32) -> R::Response {
        let mut frame = self.receive_frame().await.unwrap_or_else(|e| panic!("key {} v{version}: {e}", R::KEY));
        let header = ResponseHeader::decode(&mut frame, R::Response::header_version(version)).expect("response header");
        assert_eq!(header.correlation_id, correlation, "answers come in the order of the requests");
        decode_whole(frame, version)
    }

    /// Sends bytes as they are.
    pub async fn send_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Awaits the first byte of the next answer and leaves it where it is.
    pub async fn await_byte(&self) {
        let read = timeout(PATIENCE, self.stream.peek(&mut [0])).await;
        let bytes = read.unwrap_or_else(|_| panic!("no byte within {PATIENCE:?}")).expect("an open connection");
        assert_eq!(bytes, 1, "the broker closed the connection");
    }

    /// Receives one frame, without its length prefix.
    pub async fn receive_frame(&mut self) -> io::Result<Bytes> {
        let read = async {
            let length = self.stream.read_i32().await?;
            let mut frame = vec![0; usize::try_from(length).expect("a length")];
            self.stream.read_exact(&mut frame).await?;
            Ok(Bytes::from(frame))
        };
        timeout(PATIENCE, read).await.unwrap_or_else(|_| panic!("no answer within {PATIENCE:?}"))
    }

    /// True once the broker has closed the connection without another byte; a reset counts as closed.
    pub async fn is_closed(&mut self) -> bool {
        let mut byte = [0];
        match timeout(PATIENCE, self.stream.read(&mut byte)).await {
            Ok(Ok(0) | Err(_)) => true,
            Ok(Ok(_)) => false,
            Err(_) => panic!("neither answered nor closed within {PATIENCE:?}"),
        }
    }

    /// Ends the connection with a reset instead of a farewell.
    pub fn reset(self) {
        self.stream.set_zero_linger().expect("SO_LINGER");
    }

    /// The connection itself.
    pub fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }
}

/// Decodes a message that must fill the buffer.
pub fn decode_whole<M: Decodable>(mut body: Bytes, version: i16) -> M {
    let whole = body.clone();
    let message = M::decode(&mut body, version).unwrap_or_else(|e| panic!("decode v{version}: {e}: {whole:02x?}"));
    assert!(body.is_empty(), "{} bytes left over at v{version}: {whole:02x?}", body.len());
    message
}

/// A whole request frame, length prefix and header included.
pub fn request_frame(key: i16, version: i16, header_version: i16, correlation: i32, body: &[u8]) -> Bytes {
    let header = RequestHeader::default()
        .with_request_api_key(key)
        .with_request_api_version(version)
        .with_correlation_id(correlation)
        .with_client_id(Some(text(CLIENT_ID)));
    let mut frame = BytesMut::new();
    frame.put_i32(0);
    header.encode(&mut frame, header_version).expect("request header");
    frame.put_slice(body);
    let length = (frame.len() - 4) as i32;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    frame.freeze()
}

/// A valid request as a whole frame, to be broken by the test.
pub fn frame_of<R: Request>(version: i16, request: &R) -> Bytes {
    let mut body = BytesMut::new();
    request.encode(&mut body, version).expect("encode");
    request_frame(R::KEY, version, R::header_version(version), 7, &body)
}
