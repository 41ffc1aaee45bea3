//! What a connection owes its peer: one slot per request, in the order of the requests, and the bytes on their way out.
//!
//! Only the oldest slot is polled; whatever is ready behind it leaves in the same write. A peer that does not read is owed
//! no more than [`UNSENT_LIMIT`] and one answer, because nothing more is started or asked for until it does.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;

use crate::api::{Call, Frame, Reply};
use crate::error::Disconnect;
use crate::metrics::{Carried, Unsent};
use crate::types::Tick;
use crate::wire::frame::response_head;

/// Requests of one connection that are started and not answered.
pub const SLOTS: usize = 64;
/// Bytes that are ready and not sent, above which nothing more is started.
pub const UNSENT_LIMIT: usize = 1 << 20;
/// Pieces of one write.
const PIECES: usize = 64;

/// Which request a slot answers.
#[derive(Clone, Copy)]
pub struct Asked {
    /// The row's place in the table.
    pub row: usize,
    /// When it was read.
    pub received: Tick,
    /// When its handler returned.
    pub served: Tick,
    api_key: i16,
    correlation_id: i32,
    flexible: bool,
}

enum Slot {
    Ready(Asked, Frame),
    Waiting(Asked, BoxFuture<'static, Frame>),
    /// Of a request without an answer, that later ones wait for.
    Silent(BoxFuture<'static, ()>),
}

/// The answers of one connection that have not left.
pub struct Output {
    slots: VecDeque<Slot>,
    /// Each with the size that it had: its memory stays until the last byte has left.
    pieces: VecDeque<(Bytes, usize)>,
    /// Bytes in `pieces`.
    leaving: usize,
    /// Bytes of memory that `pieces` keep.
    kept: usize,
    /// Bytes in ready slots.
    ready: usize,
    barrier: bool,
    /// What of both is counted with that of all connections.
    carried: Carried,
}

impl Output {
    /// Nothing is owed.
    pub fn new(unsent: &Arc<Unsent>) -> Self {
        let (slots, pieces) = (VecDeque::new(), VecDeque::new());
        Self { slots, pieces, leaving: 0, kept: 0, ready: 0, barrier: false, carried: Carried::new(unsent) }
    }

    /// The peer takes nothing more: nothing is owed.
    pub fn give_up(&mut self) {
        (self.leaving, self.kept, self.ready, self.barrier) = (0, 0, 0, false);
        self.slots.clear();
        self.pieces.clear();
        self.count();
    }

    fn count(&mut self) {
        self.carried.set(self.kept + self.ready);
    }

    fn leave(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.leaving += piece.len();
            self.kept += piece.len();
            let size = piece.len();
            self.pieces.push_back((piece, size));
        }
    }

    /// True when another request may be started.
    pub fn has_room(&self) -> bool {
        self.slots.len() < SLOTS && self.leaving + self.ready < UNSENT_LIMIT && !self.barrier
    }

    /// True when nothing is owed.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty() && self.pieces.is_empty()
    }

    /// True when bytes are ready that the peer has not taken.
    pub fn is_unsent(&self) -> bool {
        !self.pieces.is_empty()
    }

    /// Adds the slot of a request that was started.
    pub fn push(&mut self, call: Call, received: Tick) -> Result<(), Disconnect> {
        let Call { row, api_key, correlation_id, flexible, served, reply, .. } = call;
        let asked = Asked { row, received, served, api_key, correlation_id, flexible };
        match reply {
            Reply::Now(frame) => {
                self.ready += frame.size();
                self.slots.push_back(Slot::Ready(asked, frame));
                self.count();
            }
            Reply::Later(answer) => self.slots.push_back(Slot::Waiting(asked, answer)),
            Reply::Barrier(answer) => {
                self.barrier = true;
                self.slots.push_back(Slot::Waiting(asked, answer));
            }
            Reply::Silent => {}
            Reply::SilentBarrier(done) => {
                self.barrier = true;
                self.slots.push_back(Slot::Silent(done));
            }
            Reply::Close(reason) => return Err(reason),
        }
        Ok(())
    }

    /// Moves what is ready, oldest first, to the bytes on their way out. `answered` is told of each.
    pub fn gather(&mut self, cx: &mut Context<'_>, mut answered: impl FnMut(Asked)) {
        while let Some(slot) = self.slots.front_mut() {
            match slot {
                Slot::Ready(..) => {}
                Slot::Waiting(asked, answer) => {
                    if self.leaving >= UNSENT_LIMIT {
                        return;
                    }
                    let Poll::Ready(frame) = answer.poll_unpin(cx) else { return };
                    self.ready += frame.size();
                    *slot = Slot::Ready(*asked, frame);
                    self.carried.set(self.kept + self.ready);
                }
                Slot::Silent(done) => {
                    if done.poll_unpin(cx).is_pending() {
                        return;
                    }
                }
            }
            let Some(Slot::Ready(asked, frame)) = self.slots.pop_front() else { continue };
            let size = frame.size();
            let head = response_head(asked.api_key, asked.correlation_id, asked.flexible, size);
            self.ready -= size;
            self.leave(head);
            frame.0.into_iter().for_each(|piece| self.leave(piece));
            answered(asked);
        }
        self.barrier = false;
    }

    /// Writes as much as the peer takes; how many bytes, at least one.
    pub fn poll_write(&mut self, stream: &mut TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut slices = [IoSlice::new(&[]); PIECES];
        let count = self.pieces.len().min(PIECES);
        for (slice, (piece, _)) in slices.iter_mut().zip(&self.pieces) {
            *slice = IoSlice::new(piece);
        }
        let written = ready!(Pin::new(stream).poll_write_vectored(cx, &slices[..count]))?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.leaving -= written;
        let mut left = written;
        while let Some((piece, size)) = self.pieces.front_mut() {
            if piece.len() > left {
                piece.advance(left);
                break;
            }
            left -= piece.len();
            self.kept -= *size;
            self.pieces.pop_front();
        }
        self.count();
        Poll::Ready(Ok(written))
    }
}
