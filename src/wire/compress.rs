//! Pure. The four codecs of record batches, with a limit on what comes out.
//!
//! Framing is what Kafka's clients write and read: gzip members, xerial's snappy blocks (or one raw block, as librdkafka
//! writes), LZ4 frames of independent blocks, zstd frames. Output is produced as it is read, never by a claimed size.

use std::io::{self, BufRead, BufReader, Read, Write};

use crate::wire::records::RecordsError;

/// What a batch may grow to when it is opened. A batch that is larger is MESSAGE_TOO_LARGE.
pub const MAX_DECOMPRESSED_BYTES: usize = 64 * 1024 * 1024;

/// Xerial's framing of snappy: eight bytes of magic, a version and the oldest version that can read it.
const XERIAL_MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const XERIAL_HEADER_BYTES: usize = 16;
/// The block that xerial's writer uses, and we.
const XERIAL_BLOCK_BYTES: usize = 32 * 1024;
const LZ4_MAGIC: [u8; 4] = 0x184D_2204_u32.to_le_bytes();
const ZSTD_MAGIC: [u8; 4] = 0xFD2F_B528_u32.to_le_bytes();
const GZIP_MAGIC: [u8; 3] = [0x1f, 0x8b, 8];
/// No snappy element makes more than 64 bytes out of three.
const SNAPPY_MAX_RATIO: usize = 22;

/// How the records of a batch are compressed: bits 0 to 2 of its attributes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Codec {
    /// Not at all.
    None,
    /// gzip.
    Gzip,
    /// Snappy.
    Snappy,
    /// LZ4 frames.
    Lz4,
    /// Zstandard.
    Zstd,
}

impl Codec {
    /// The codec of a number in the attributes.
    pub const fn from_id(id: i16) -> Option<Self> {
        match id {
            0 => Some(Self::None),
            1 => Some(Self::Gzip),
            2 => Some(Self::Snappy),
            3 => Some(Self::Lz4),
            4 => Some(Self::Zstd),
            _ => None,
        }
    }

    /// Its number in the attributes.
    pub const fn id(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }
}

/// A codec to compress with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Compression {
    /// The codec.
    pub codec: Codec,
    /// `compression.gzip.level`, `compression.lz4.level` or `compression.zstd.level`; the others have none.
    pub level: i32,
}

/// Refuses a payload whose first bytes cannot be a frame of `codec`.
pub fn check_frame(codec: Codec, payload: &[u8]) -> Result<(), RecordsError> {
    let fine = match codec {
        Codec::None => true,
        Codec::Gzip => payload.starts_with(&GZIP_MAGIC) && payload.len() >= 18,
        Codec::Snappy if payload.starts_with(&XERIAL_MAGIC) => xerial_blocks_fit(payload),
        Codec::Snappy => snappy_length(payload).is_ok(),
        Codec::Lz4 => return check_lz4_frame(payload),
        Codec::Zstd => payload.starts_with(&ZSTD_MAGIC),
    };
    if fine { Ok(()) } else { Err(RecordsError::Malformed("the records are no frame of the batch's codec")) }
}

/// Whether the blocks of xerial's framing fill the payload to its end.
fn xerial_blocks_fit(payload: &[u8]) -> bool {
    let Some(mut rest) = payload.get(XERIAL_HEADER_BYTES..) else { return false };
    while let Some((length, behind)) = rest.split_first_chunk() {
        let Some(next) = usize::try_from(u32::from_be_bytes(*length)).ok().and_then(|length| behind.get(length..))
        else {
            return false;
        };
        rest = next;
    }
    rest.is_empty()
}

/// Kafka reads version 1 of the frame with independent blocks only.
fn check_lz4_frame(payload: &[u8]) -> Result<(), RecordsError> {
    if !payload.starts_with(&LZ4_MAGIC) || payload.len() < 7 {
        return Err(RecordsError::Malformed("the records are no LZ4 frame"));
    }
    let flags = payload[4];
    if flags >> 6 != 1 {
        return Err(RecordsError::Malformed("the LZ4 frame is of an unknown version"));
    }
    if flags & 0x20 == 0 {
        return Err(RecordsError::Malformed("the LZ4 frame has dependent blocks"));
    }
    Ok(())
}

/// Reads a payload decompressed. More than `cap` bytes are an error, and so is anything that does not decompress.
pub fn decompressor<'a>(codec: Codec, payload: &'a [u8], cap: usize) -> Result<impl BufRead + 'a, RecordsError> {
    check_frame(codec, payload)?;
    let broken = |_| RecordsError::Malformed("the compressed records cannot be read");
    let inner: Box<dyn BufRead + 'a> = match codec {
        Codec::None => Box::new(payload),
        Codec::Gzip => Box::new(BufReader::new(flate2::bufread::MultiGzDecoder::new(payload))),
        Codec::Snappy => Box::new(SnappyBlocks::new(payload, cap)),
        Codec::Lz4 => Box::new(BufReader::new(lz4::Decoder::new(payload).map_err(broken)?)),
        Codec::Zstd => Box::new(BufReader::new(zstd::stream::read::Decoder::with_buffer(payload).map_err(broken)?)),
    };
    Ok(Capped { inner, left: cap })
}

/// A whole payload decompressed.
pub fn decompress(codec: Codec, payload: &[u8], cap: usize) -> Result<Vec<u8>, RecordsError> {
    let mut out = Vec::new();
    decompressor(codec, payload, cap)?.read_to_end(&mut out).map_err(|error| RecordsError::from_io(&error, cap))?;
    Ok(out)
}

/// Compresses the records of a batch.
pub fn compress(records: &[u8], with: Compression) -> Result<Vec<u8>, RecordsError> {
    let result = match with.codec {
        Codec::None => Ok(records.to_vec()),
        Codec::Gzip => {
            let level =
                u32::try_from(with.level).map_or_else(|_| flate2::Compression::default(), flate2::Compression::new);
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(records).and_then(|()| encoder.finish())
        }
        Codec::Snappy => compress_snappy(records),
        Codec::Lz4 => compress_lz4(records, with.level),
        Codec::Zstd => zstd::stream::encode_all(records, with.level),
    };
    result.map_err(|_| RecordsError::Malformed("the records cannot be compressed"))
}

fn compress_snappy(records: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = Vec::with_capacity(records.len() / 2 + XERIAL_HEADER_BYTES);
    out.extend_from_slice(&XERIAL_MAGIC);
    out.extend_from_slice(&1_i32.to_be_bytes());
    out.extend_from_slice(&1_i32.to_be_bytes());
    let mut encoder = snap::raw::Encoder::new();
    for block in records.chunks(XERIAL_BLOCK_BYTES) {
        let compressed = encoder.compress_vec(block).map_err(io::Error::other)?;
        let length = u32::try_from(compressed.len()).map_err(io::Error::other)?;
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&compressed);
    }
    Ok(out)
}

fn compress_lz4(records: &[u8], level: i32) -> io::Result<Vec<u8>> {
    let mut encoder = lz4::EncoderBuilder::new()
        .block_size(lz4::BlockSize::Max64KB)
        .block_mode(lz4::BlockMode::Independent)
        .checksum(lz4::ContentChecksum::NoChecksum)
        .level(u32::try_from(level).unwrap_or_default())
        .build(Vec::new())?;
    encoder.write_all(records)?;
    let (out, result) = encoder.finish();
    result.map(|()| out)
}

/// Stops a reader that gives more than it may.
struct Capped<R> {
    inner: R,
    left: usize,
}

impl<R: BufRead> Read for Capped<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let count = available.len().min(out.len());
        out[..count].copy_from_slice(&available[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl<R: BufRead> BufRead for Capped<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let available = self.inner.fill_buf()?;
        if available.len() > self.left {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(available)
    }

    fn consume(&mut self, count: usize) {
        self.left -= count;
        self.inner.consume(count);
    }
}

/// What a raw snappy block claims to hold, refused when no block of its size can.
fn snappy_length(block: &[u8]) -> io::Result<usize> {
    let length = snap::raw::decompress_len(block).map_err(io::Error::other)?;
    if length > block.len().saturating_mul(SNAPPY_MAX_RATIO) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(length)
}

/// Reads snappy in xerial's framing, or as one raw block, block by block.
struct SnappyBlocks<'a> {
    rest: &'a [u8],
    framed: bool,
    block: Vec<u8>,
    position: usize,
    /// What the blocks to come may hold: one that claims more is not made room for.
    left: usize,
}

impl<'a> SnappyBlocks<'a> {
    fn new(payload: &'a [u8], cap: usize) -> Self {
        let framed = payload.starts_with(&XERIAL_MAGIC);
        let rest = if framed { payload.get(XERIAL_HEADER_BYTES..).unwrap_or_default() } else { payload };
        Self { rest, framed, block: Vec::new(), position: 0, left: cap }
    }

    fn next_block(&mut self) -> io::Result<&'a [u8]> {
        if !self.framed {
            return Ok(std::mem::take(&mut self.rest));
        }
        let truncated = || io::Error::from(io::ErrorKind::UnexpectedEof);
        let (length, rest) = self.rest.split_first_chunk::<4>().ok_or_else(truncated)?;
        let length = usize::try_from(i32::from_be_bytes(*length)).map_err(io::Error::other)?;
        let (block, rest) = rest.split_at_checked(length).ok_or_else(truncated)?;
        self.rest = rest;
        Ok(block)
    }
}

impl Read for SnappyBlocks<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let count = available.len().min(out.len());
        out[..count].copy_from_slice(&available[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for SnappyBlocks<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.position == self.block.len() && !self.rest.is_empty() {
            let block = self.next_block()?;
            let length = snappy_length(block)?;
            self.left = self.left.checked_sub(length).ok_or(io::ErrorKind::FileTooLarge)?;
            self.block.clear();
            self.block.resize(length, 0);
            self.position = 0;
            snap::raw::Decoder::new().decompress(block, &mut self.block).map_err(io::Error::other)?;
        }
        Ok(&self.block[self.position..])
    }

    fn consume(&mut self, count: usize) {
        self.position += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

    fn sample(size: usize) -> Vec<u8> {
        (0..size).map(|i| u8::try_from(i * i % 251 / 7).unwrap()).collect()
    }

    #[test]
    fn every_codec_gives_back_what_it_was_given() {
        for codec in ALL {
            for size in [0, 1, 100, 32 * 1024, 200_000] {
                let records = sample(size);
                let payload = compress(&records, Compression { codec, level: 3 }).unwrap();
                assert_eq!(decompress(codec, &payload, 1 << 20).as_deref(), Ok(&*records), "{codec:?} {size}");
            }
        }
    }

    #[test]
    fn what_grows_beyond_the_cap_is_refused() {
        let records = vec![0; 8 * 1024 * 1024];
        for codec in ALL {
            let payload = compress(&records, Compression { codec, level: 3 }).unwrap();
            assert_eq!(decompress(codec, &payload, 1 << 20), Err(RecordsError::TooLarge(1 << 20)), "{codec:?}");
        }
    }

    #[test]
    fn a_raw_snappy_block_is_read_without_framing() {
        let records = sample(10_000);
        let payload = snap::raw::Encoder::new().compress_vec(&records).unwrap();
        assert_eq!(decompress(Codec::Snappy, &payload, 1 << 20), Ok(records));
    }

    #[test]
    fn a_raw_snappy_block_that_claims_four_gigabytes_is_refused_before_it_is_allocated() {
        let payload = [0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0];
        assert!(check_frame(Codec::Snappy, &payload).is_err());
        assert!(decompress(Codec::Snappy, &payload, usize::MAX).is_err());
    }

    #[test]
    fn an_lz4_frame_of_dependent_blocks_is_refused_as_kafka_does() {
        let mut encoder = lz4::EncoderBuilder::new().block_mode(lz4::BlockMode::Linked).build(Vec::new()).unwrap();
        encoder.write_all(&sample(100_000)).unwrap();
        let payload = encoder.finish().0;
        let refused = Err(RecordsError::Malformed("the LZ4 frame has dependent blocks"));
        assert_eq!(check_frame(Codec::Lz4, &payload), refused);
    }

    #[test]
    fn garbage_is_refused_by_every_codec() {
        for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            assert!(decompress(codec, &[0xff; 100], 1 << 20).is_err(), "{codec:?}");
            assert!(decompress(codec, &[], 1 << 20).is_err() || codec == Codec::Snappy, "{codec:?}");
        }
    }

    #[test]
    fn a_truncated_payload_never_gives_the_whole_back() {
        let records = sample(100_000);
        for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let payload = compress(&records, Compression { codec, level: 3 }).unwrap();
            let cut = &payload[..payload.len() / 2];
            assert_ne!(decompress(codec, cut, 1 << 20), Ok(records.clone()), "{codec:?}");
        }
    }
}
