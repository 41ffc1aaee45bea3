//! The null broker: what a broker costs that does nothing but its sockets. It receives, checks CRCs, assigns offsets, keeps
//! the last batches in memory and serves them; no disk, no metadata but one topic that always exists, no groups.
//!
//! It is the ruler: Ottla's figures over its figures depend on no machine.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// Bytes of batches that it keeps of each partition.
const RING: u64 = 64 << 20;

/// A batch that is kept, and how many bytes of the partition came before it.
struct Kept {
    base: i64,
    position: u64,
    bytes: Bytes,
}

#[derive(Default)]
struct Partition {
    next: i64,
    /// Bytes that were ever appended.
    appended: u64,
    batches: VecDeque<Kept>,
    /// How far each connection that fetches has come, in bytes.
    readers: HashMap<u64, u64>,
}

impl Partition {
    /// Whether a batch may come: no reader is more than half the ring behind. A partition that nobody reads always has room.
    fn has_room(&self, ring: u64) -> bool {
        self.readers.values().all(|position| self.appended - position <= ring / 2)
    }

    /// Patches the batch's offset and keeps it; what is beyond the ring is forgotten.
    fn append(&mut self, mut batch: BytesMut, count: i64, ring: u64) -> i64 {
        let (base, position) = (self.next, self.appended);
        batch[..8].copy_from_slice(&base.to_be_bytes());
        batch[12..16].copy_from_slice(&0i32.to_be_bytes());
        self.next += count;
        self.appended += batch.len() as u64;
        self.batches.push_back(Kept { base, position, bytes: batch.freeze() });
        while self.batches.front().is_some_and(|first| self.appended - first.position > ring) {
            self.batches.pop_front();
        }
        base
    }

    /// The batches from an offset on, of at most so many bytes; `None` when they are forgotten. The reader is noted.
    fn read(&mut self, reader: u64, offset: i64, most: usize) -> Option<Vec<Bytes>> {
        if offset < self.batches.front().map_or(self.next, |first| first.base) {
            return None;
        }
        let first = self.batches.partition_point(|kept| kept.base < offset);
        self.readers.insert(reader, self.batches.get(first).map_or(self.appended, |kept| kept.position));
        let mut left = most;
        let fits = |kept: &&Kept| {
            let fits = kept.bytes.len() <= left;
            left = left.saturating_sub(kept.bytes.len());
            fits
        };
        Some(self.batches.iter().skip(first).take_while(fits).map(|kept| kept.bytes.clone()).collect())
    }
}

type Key = (String, i32);

struct State {
    partitions: Mutex<HashMap<Key, Partition>>,
    ring: u64,
    appended: Notify,
    fetched: Notify,
}

impl State {
    fn new(ring: u64) -> Self {
        Self { partitions: Mutex::default(), ring, appended: Notify::new(), fetched: Notify::new() }
    }

    /// Appends when there is room, else gives the batch back.
    fn try_append(&self, key: &Key, batch: BytesMut, count: i64) -> Result<i64, BytesMut> {
        let mut partitions = self.partitions.lock().expect("no panic inside");
        let log = partition(&mut partitions, key);
        if log.has_room(self.ring) { Ok(log.append(batch, count, self.ring)) } else { Err(batch) }
    }

    /// Appends; waits first while a reader is too far behind, so that none loses what the ring forgets.
    async fn append(&self, key: &Key, batch: BytesMut, count: i64) -> i64 {
        let mut refused = match self.try_append(key, batch, count) {
            Ok(base) => return base,
            Err(batch) => batch,
        };
        loop {
            let fetched = self.fetched.notified();
            tokio::pin!(fetched);
            fetched.as_mut().enable();
            match self.try_append(key, refused, count) {
                Ok(base) => return base,
                Err(batch) => refused = batch,
            }
            fetched.await;
        }
    }

    /// The end of a partition, and its batches from an offset on.
    fn read(&self, key: &Key, reader: u64, offset: i64, most: usize) -> (i64, Option<Vec<Bytes>>) {
        let mut partitions = self.partitions.lock().expect("no panic inside");
        let log = partition(&mut partitions, key);
        let found = log.read(reader, offset, most);
        let next = log.next;
        drop(partitions);
        self.fetched.notify_waiters();
        (next, found)
    }

    /// Nobody waits for a connection that is gone.
    fn forget(&self, reader: u64) {
        for log in self.partitions.lock().expect("no panic inside").values_mut() {
            log.readers.remove(&reader);
        }
        self.fetched.notify_waiters();
    }
}

/// A partition, made when it is first named; an entry would copy the name each time.
fn partition<'a>(partitions: &'a mut HashMap<Key, Partition>, key: &Key) -> &'a mut Partition {
    if !partitions.contains_key(key) {
        partitions.insert(key.clone(), Partition::default());
    }
    partitions.get_mut(key).expect("it was just made")
}

/// A connection, known to the partitions that it reads until it ends.
struct Reader<'a> {
    state: &'a State,
    id: u64,
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        self.state.forget(self.id);
    }
}

/// Serves until the process is killed.
pub async fn serve(port: u16) -> std::io::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    let state = Arc::new(State::new(RING));
    for id in 0.. {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let state = state.clone();
        tokio::spawn(async move {
            // The peer went away, or sent what this ruler does not measure.
            let _ = connection(stream, &Reader { state: &state, id }).await;
        });
    }
    Ok(())
}

async fn connection(mut stream: TcpStream, reader: &Reader<'_>) -> std::io::Result<()> {
    let mut buffer = BytesMut::with_capacity(256 << 10);
    let mut out: VecDeque<Bytes> = VecDeque::new();
    loop {
        while let Some(frame) = next_frame(&mut buffer) {
            answer(frame, reader, &mut out).await;
        }
        while !out.is_empty() {
            let slices: Vec<std::io::IoSlice<'_>> = out.iter().take(64).map(|b| std::io::IoSlice::new(b)).collect();
            let mut written = stream.write_vectored(&slices).await?;
            while let Some(first) = out.front_mut().filter(|_| written > 0) {
                let step = written.min(first.len());
                first.advance(step);
                written -= step;
                if first.is_empty() {
                    out.pop_front();
                }
            }
        }
        buffer.reserve(128 << 10);
        if stream.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
    }
}

fn next_frame(buffer: &mut BytesMut) -> Option<Bytes> {
    let length = u32::from_be_bytes(*buffer.first_chunk()?) as usize;
    if buffer.len() < 4 + length {
        return None;
    }
    buffer.advance(4);
    Some(buffer.split_to(length).freeze())
}

fn text(frame: &mut Bytes) -> String {
    let length = frame.get_i16().max(0) as usize;
    String::from_utf8_lossy(&frame.split_to(length)).into_owned()
}

async fn answer(mut frame: Bytes, reader: &Reader<'_>, out: &mut VecDeque<Bytes>) {
    let (key, _version, correlation) = (frame.get_i16(), frame.get_i16(), frame.get_i32());
    text(&mut frame);
    match key {
        0 => produce(frame, correlation, reader.state, out).await,
        1 => fetch(frame, correlation, reader, out).await,
        3 => metadata(frame, correlation, out),
        _ => {}
    }
}

async fn produce(mut frame: Bytes, correlation: i32, state: &State, out: &mut VecDeque<Bytes>) {
    frame.advance(2 + 2 + 4 + 4);
    let topic = text(&mut frame);
    frame.advance(4);
    let partition = frame.get_i32();
    let length = frame.get_i32() as usize;
    let records = frame.split_to(length);
    let good = u32::from_be_bytes(*records[17..].first_chunk().expect("a batch")) == crc32c::crc32c(&records[21..]);
    let count = i64::from(i32::from_be_bytes(*records[23..].first_chunk().expect("a batch"))) + 1;
    let key = (topic, partition);
    let base = state.append(&key, BytesMut::from(&records[..]), count).await;
    state.appended.notify_waiters();
    let topic = key.0;
    let mut response = BytesMut::with_capacity(80);
    response.put_i32(0);
    response.put_i32(correlation);
    response.put_i32(1);
    response.put_i16(topic.len() as i16);
    response.put_slice(topic.as_bytes());
    response.put_i32(1);
    response.put_i32(partition);
    response.put_i16(if good { 0 } else { 2 });
    response.put_i64(base);
    response.put_i64(-1);
    response.put_i64(0);
    response.put_i32(0);
    seal(response, 0, out, &[]);
}

async fn fetch(mut frame: Bytes, correlation: i32, reader: &Reader<'_>, out: &mut VecDeque<Bytes>) {
    frame.advance(4);
    let wait = tokio::time::sleep(Duration::from_millis(u64::try_from(frame.get_i32()).unwrap_or(0)));
    frame.advance(4 + 4 + 1 + 4 + 4 + 4);
    let topic = text(&mut frame);
    frame.advance(4);
    let partition = frame.get_i32();
    frame.advance(4);
    let offset = frame.get_i64();
    frame.advance(8);
    let most = frame.get_i32() as usize;
    let key = (topic, partition);
    tokio::pin!(wait);
    let (next, found) = loop {
        let appended = reader.state.appended.notified();
        tokio::pin!(appended);
        appended.as_mut().enable();
        let (next, found) = reader.state.read(&key, reader.id, offset, most);
        if found.as_ref().is_none_or(|found| !found.is_empty()) {
            break (next, found);
        }
        tokio::select! {
            () = &mut appended => {}
            () = &mut wait => break (next, found),
        }
    };
    let error = if found.is_some() { 0 } else { 1 }; // OFFSET_OUT_OF_RANGE
    let found = found.unwrap_or_default();
    let topic = key.0;
    let total: usize = found.iter().map(Bytes::len).sum();
    let mut response = BytesMut::with_capacity(128);
    response.put_i32(0);
    response.put_i32(correlation);
    response.put_i32(0);
    response.put_i16(0);
    response.put_i32(0);
    response.put_i32(1);
    response.put_i16(topic.len() as i16);
    response.put_slice(topic.as_bytes());
    response.put_i32(1);
    response.put_i32(partition);
    response.put_i16(error);
    response.put_i64(next);
    response.put_i64(next);
    response.put_i64(0);
    response.put_i32(-1);
    response.put_i32(-1);
    response.put_i32(total as i32);
    seal(response, total, out, &found);
}

fn seal(mut response: BytesMut, more: usize, out: &mut VecDeque<Bytes>, pieces: &[Bytes]) {
    let length = (response.len() - 4 + more) as u32;
    response[..4].copy_from_slice(&length.to_be_bytes());
    out.push_back(response.freeze());
    out.extend(pieces.iter().cloned());
}

/// Version 4: every topic asked for exists, with sixteen partitions.
fn metadata(mut frame: Bytes, correlation: i32, out: &mut VecDeque<Bytes>) {
    frame.advance(4);
    let topic = text(&mut frame);
    let mut response = BytesMut::with_capacity(1024);
    response.put_i32(0);
    response.put_i32(correlation);
    response.put_i32(0);
    response.put_i32(0); // brokers
    response.put_i16(-1); // cluster id
    response.put_i32(0); // controller
    response.put_i32(1);
    response.put_i16(0);
    response.put_i16(topic.len() as i16);
    response.put_slice(topic.as_bytes());
    response.put_u8(0);
    response.put_i32(16);
    for partition in 0..16 {
        response.put_i16(0);
        response.put_i32(partition);
        response.put_i32(0);
        response.put_i32(0);
        response.put_i32(0);
    }
    seal(response, 0, out, &[]);
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    const RING: u64 = 1000;

    fn key() -> Key {
        ("t".to_owned(), 0)
    }

    fn batch() -> BytesMut {
        BytesMut::zeroed(100)
    }

    /// Appends until a batch has to wait; how many came in. Stops at a thousand.
    fn fill(state: &State) -> usize {
        (0..1000).take_while(|_| state.try_append(&key(), batch(), 1).is_ok()).count()
    }

    #[test]
    fn without_a_reader_nothing_waits() {
        let state = State::new(RING);
        assert_eq!(fill(&state), 1000);
    }

    #[test]
    fn a_producer_waits_for_a_reader_that_is_half_a_ring_behind_and_goes_on_when_it_fetched() {
        let state = State::new(RING);
        state.read(&key(), 1, 0, 500);
        assert_eq!(fill(&state), 6);
        let key = key();
        let mut append = pin!(state.append(&key, batch(), 1));
        let mut context = Context::from_waker(Waker::noop());
        assert!(append.as_mut().poll(&mut context).is_pending());
        assert_eq!(state.read(&key, 1, 0, 500).1.map(|found| found.len()), Some(5));
        assert!(append.as_mut().poll(&mut context).is_pending(), "what was handed out may not have arrived");
        assert_eq!(state.read(&key, 1, 5, 500).1.map(|found| found.len()), Some(1));
        assert_eq!(append.as_mut().poll(&mut context), Poll::Ready(6));
    }

    #[test]
    fn a_reader_that_keeps_fetching_sees_every_offset() {
        let state = State::new(RING);
        let mut offset = 0;
        state.read(&key(), 1, 0, 300);
        for _ in 0..100 {
            fill(&state);
            let found = state.read(&key(), 1, offset, 300).1.expect("nothing it waits for is forgotten");
            for batch in found {
                assert_eq!(i64::from_be_bytes(*batch.first_chunk().expect("a batch")), offset);
                offset += 1;
            }
        }
        assert!(offset > 200);
    }

    #[test]
    fn nobody_waits_for_a_reader_that_is_gone() {
        let state = State::new(RING);
        drop(Reader { state: &state, id: 1 });
        state.read(&key(), 1, 0, 500);
        assert_eq!(fill(&state), 6);
        drop(Reader { state: &state, id: 1 });
        assert_eq!(fill(&state), 1000);
    }

    #[test]
    fn what_the_ring_forgot_is_out_of_range_and_no_gap() {
        let state = State::new(RING);
        fill(&state);
        assert_eq!(state.read(&key(), 1, 0, 500).1, None);
    }
}
