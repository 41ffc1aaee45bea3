//! Record batches made in advance, so that the generator's own cost stays out of the figures.

use std::io::Write;

/// Where the first record's value begins, for batches whose keys are null: the generator stamps the time of sending there.
const FIRST_VALUE_SEARCH: usize = 61;

/// How the records of a batch are compressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Codec {
    /// Not at all.
    None,
    /// LZ4 frames.
    Lz4,
    /// Zstandard.
    Zstd,
}

/// A batch, ready to be sent any number of times.
#[derive(Clone)]
pub struct Batch {
    /// The bytes of the batch.
    pub bytes: Vec<u8>,
    /// How many records it holds.
    pub records: usize,
    /// Bytes of their values.
    pub payload: usize,
    stamp_at: Option<usize>,
}

impl Batch {
    /// A batch of `records` records of `size` incompressible bytes each.
    pub fn random(records: usize, size: usize) -> Self {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut value = move || {
            (0..size)
                .map(|_| {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    (state >> 32) as u8
                })
                .collect::<Vec<u8>>()
        };
        Self::of((0..records).map(|_| value()).collect(), Codec::None)
    }

    /// A batch of JSON documents of about 300 bytes, compressed.
    pub fn json(records: usize, codec: Codec) -> Self {
        let document = |i: usize| {
            let (user, price) = (i * 7919 % 10_007, i * 104_729 % 9973);
            format!(
                r#"{{"id":{i},"type":"order","user":{{"id":{user},"name":"user-{user}","country":"{}"}},"items":[{{"sku":"SKU-{price}","price":{price}.99,"count":{}}}],"status":"{}","trace":"{:016x}-{:016x}","at":"2026-11-21T12:{:02}:{:02}Z"}}"#,
                ["NO", "SE", "DE", "US", "JP"][i % 5],
                i % 9 + 1,
                ["new", "paid", "sent"][i % 3],
                (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15),
                (user as u64).wrapping_mul(0xbf58_476d_1ce4_e5b9),
                i % 60,
                i * 13 % 60,
            )
            .into_bytes()
        };
        Self::of((0..records).map(document).collect(), codec)
    }

    fn of(values: Vec<Vec<u8>>, codec: Codec) -> Self {
        let mut records = Vec::new();
        for (delta, value) in values.iter().enumerate() {
            let mut record = vec![0u8]; // attributes
            varint(&mut record, 0); // timestamp delta
            varint(&mut record, delta as i64);
            varint(&mut record, -1); // null key
            varint(&mut record, value.len() as i64);
            record.extend_from_slice(value);
            varint(&mut record, 0); // headers
            varint(&mut records, record.len() as i64);
            records.extend_from_slice(&record);
        }
        let stamp_at = (codec == Codec::None).then(|| {
            let first = &values[0];
            FIRST_VALUE_SEARCH
                + records.windows(first.len().min(64)).position(|w| first.starts_with(w)).expect("it is there")
        });
        let packed = match codec {
            Codec::None => records,
            Codec::Lz4 => {
                let mut encoder = lz4::EncoderBuilder::new()
                    .block_mode(lz4::BlockMode::Independent)
                    .build(Vec::new())
                    .expect("an encoder");
                encoder.write_all(&records).expect("writes to memory");
                let (packed, result) = encoder.finish();
                result.expect("compresses");
                packed
            }
            Codec::Zstd => zstd::bulk::compress(&records, 3).expect("compresses"),
        };
        let attributes: i16 = match codec {
            Codec::None => 0,
            Codec::Lz4 => 3,
            Codec::Zstd => 4,
        };
        let count = values.len() as i32;
        let now = wall_ms();
        let mut bytes = Vec::with_capacity(61 + packed.len());
        bytes.extend_from_slice(&0i64.to_be_bytes());
        bytes.extend_from_slice(&((49 + packed.len()) as i32).to_be_bytes());
        bytes.extend_from_slice(&(-1i32).to_be_bytes());
        bytes.push(2);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&attributes.to_be_bytes());
        bytes.extend_from_slice(&(count - 1).to_be_bytes());
        bytes.extend_from_slice(&now.to_be_bytes());
        bytes.extend_from_slice(&now.to_be_bytes());
        bytes.extend_from_slice(&(-1i64).to_be_bytes());
        bytes.extend_from_slice(&(-1i16).to_be_bytes());
        bytes.extend_from_slice(&(-1i32).to_be_bytes());
        bytes.extend_from_slice(&count.to_be_bytes());
        bytes.extend_from_slice(&packed);
        let mut batch = Self { bytes, records: values.len(), payload: values.iter().map(Vec::len).sum(), stamp_at };
        batch.seal();
        batch
    }

    /// Writes a time into the first record's value and makes the CRC right again.
    pub fn stamp(&mut self, nanos: u64) {
        let at = self.stamp_at.expect("only uncompressed batches are stamped");
        self.bytes[at..at + 8].copy_from_slice(&nanos.to_be_bytes());
        self.seal();
    }

    /// Where the stamp stands within the batch.
    pub fn stamp_position(&self) -> usize {
        self.stamp_at.expect("only uncompressed batches are stamped")
    }

    fn seal(&mut self) {
        let crc = crc32c::crc32c(&self.bytes[21..]);
        self.bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    }
}

fn wall_ms() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64)
}

fn varint(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}
