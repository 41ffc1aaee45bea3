//! What a connection has received and not yet started: a buffer that grows with the bytes that came, never by the length
//! that a peer claims.
//!
//! The first step is as large as the last frames were, so that a busy producer's frame is received in one piece and never
//! moved; a frame that is longer doubles the buffer as it arrives. An idle connection holds no buffer.

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use std::io;
use std::pin::pin;
use std::task::{Context, Poll, ready};

use super::budget::FREE_BYTES;
use crate::error::Disconnect;
use crate::types::Tick;
use crate::wire::frame::{LENGTH_BYTES, frame_length, split_frame};

/// What is read at once on a connection that sends small requests.
const SMALL_READ: usize = 16 << 10;
/// The largest frame that is expected to come again.
const LARGEST_EXPECTED: usize = 1 << 20;
/// A frame that gains less than this in [`SLOW_AFTER_MS`] is given up.
const PROGRESS_BYTES: usize = 4 << 10;
/// How long a frame may make no progress.
const SLOW_AFTER_MS: u64 = 30_000;

/// The received bytes of one connection.
pub struct Input {
    buffer: BytesMut,
    limit: usize,
    /// The size of the frame that came last: what to make room for next.
    expected: usize,
    /// Where the frame that is arriving stood when it last made progress.
    progress: Option<(Tick, usize)>,
    /// True while there is memory behind the buffer.
    holds: bool,
}

impl Input {
    /// Nothing yet. `limit`: the longest frame allowed.
    pub fn new(limit: usize) -> Self {
        Self { buffer: BytesMut::new(), limit, expected: 0, progress: None, holds: false }
    }

    /// Takes the next complete frame.
    pub fn frame(&mut self) -> Result<Option<Bytes>, Disconnect> {
        let frame = split_frame(&mut self.buffer, self.limit)?;
        if let Some(frame) = &frame {
            self.expected = frame.len() + LENGTH_BYTES;
            self.progress = None;
        }
        Ok(frame)
    }

    /// True when part of a frame has arrived.
    pub fn is_partial(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// How many bytes the next read asks for.
    fn step(&self) -> Result<usize, Disconnect> {
        let have = self.buffer.len();
        let Some(prefix) = self.buffer.first_chunk::<LENGTH_BYTES>() else {
            return Ok(self.expected.clamp(SMALL_READ, LARGEST_EXPECTED) - have);
        };
        let missing = LENGTH_BYTES + frame_length(*prefix, self.limit)? - have;
        if missing <= SMALL_READ / 4 {
            return Ok(SMALL_READ);
        }
        // No further than the frame's end: the next one then starts in a buffer of its own.
        Ok(missing.min(have.max(FREE_BYTES)))
    }

    /// What the connection will hold after the next read, beyond what every connection may hold.
    pub fn beyond_free(&self) -> Result<usize, Disconnect> {
        let frame_known = self.buffer.len() >= LENGTH_BYTES;
        let after = if frame_known { self.buffer.len() + self.step()? } else { 0 };
        Ok(after.saturating_sub(FREE_BYTES + SMALL_READ))
    }

    /// Reads once; 0 is the end of what the peer sends.
    pub fn poll_fill(&mut self, stream: &mut TcpStream, cx: &mut Context<'_>) -> Poll<Result<usize, ReadError>> {
        let step = self.step()?;
        if self.buffer.capacity() == 0 {
            // Nothing is reserved until there is something to read.
            ready!(stream.poll_read_ready(cx))?;
        }
        let spare = self.buffer.capacity() - self.buffer.len();
        let small = step <= SMALL_READ;
        if spare < if small { SMALL_READ / 4 } else { step } {
            self.buffer.reserve(step);
            self.holds = true;
        }
        let room = if small { self.buffer.capacity() - self.buffer.len() } else { step };
        let mut target = (&mut self.buffer).limit(room);
        let read = ready!(pin!(stream.read_buf(&mut target)).poll(cx))?;
        Poll::Ready(Ok(read))
    }

    /// Notes how far the frame that is arriving has come; the moment at which it is too slow.
    pub fn slow_at(&mut self, now: Tick) -> Option<Tick> {
        if self.buffer.is_empty() {
            self.progress = None;
            return None;
        }
        let (since, bytes) = *self.progress.get_or_insert((now, self.buffer.len()));
        if self.buffer.len() >= bytes + PROGRESS_BYTES {
            self.progress = Some((now, self.buffer.len()));
            return Some(now.plus_ms(SLOW_AFTER_MS));
        }
        Some(since.plus_ms(SLOW_AFTER_MS))
    }

    /// It is we who do not read at present: the peer is not slow.
    pub fn excuse(&mut self) {
        self.progress = None;
    }

    /// Gives the buffer's memory back, between frames.
    pub fn rest(&mut self) {
        if self.holds && self.buffer.is_empty() {
            *self = Self::new(self.limit);
        }
    }

    /// True while there is memory that [`Input::rest`] would give back.
    pub fn holds(&self) -> bool {
        self.holds && self.buffer.is_empty()
    }
}

/// Why a read failed.
pub enum ReadError {
    /// The peer announced a frame that cannot be.
    Frame(Disconnect),
    /// The socket.
    Socket(io::Error),
}

impl From<Disconnect> for ReadError {
    fn from(reason: Disconnect) -> Self {
        Self::Frame(reason)
    }
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Socket(error)
    }
}
