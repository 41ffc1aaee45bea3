//! A response on its way out: the pieces of its body, written one after the other without being joined.
//!
//! Record batches travel in it as the slices they were stored as. The length and the response header are not in it: the
//! connection puts them in front.

use bytes::Bytes;
use smallvec::smallvec;

use crate::wire::frame::Pieces;

/// The body of a response, in pieces.
#[derive(Clone, Debug, Default)]
pub struct Frame(pub Pieces);

impl Frame {
    /// Bytes in all pieces.
    pub fn size(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }
}

impl From<Bytes> for Frame {
    fn from(body: Bytes) -> Self {
        Self(smallvec![body])
    }
}
