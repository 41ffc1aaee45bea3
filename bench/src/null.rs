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

/// Bytes of batches that it keeps for all partitions.
const CACHE: usize = 64 << 20;

#[derive(Default)]
struct Partition {
    next: i64,
    bytes: usize,
    batches: VecDeque<(i64, Bytes)>,
}

#[derive(Default)]
struct State {
    partitions: Mutex<HashMap<(String, i32), Partition>>,
    appended: Notify,
}

/// Serves until the process is killed.
pub async fn serve(port: u16) -> std::io::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    let state = Arc::new(State::default());
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let state = state.clone();
        tokio::spawn(async move {
            // The peer went away, or sent what this ruler does not measure.
            let _ = connection(stream, &state).await;
        });
    }
}

async fn connection(mut stream: TcpStream, state: &State) -> std::io::Result<()> {
    let mut buffer = BytesMut::with_capacity(256 << 10);
    let mut out: VecDeque<Bytes> = VecDeque::new();
    loop {
        while let Some(frame) = next_frame(&mut buffer) {
            answer(frame, state, &mut out).await;
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

async fn answer(mut frame: Bytes, state: &State, out: &mut VecDeque<Bytes>) {
    let (key, _version, correlation) = (frame.get_i16(), frame.get_i16(), frame.get_i32());
    text(&mut frame);
    match key {
        0 => produce(frame, correlation, state, out),
        1 => fetch(frame, correlation, state, out).await,
        3 => metadata(frame, correlation, out),
        _ => {}
    }
}

fn produce(mut frame: Bytes, correlation: i32, state: &State, out: &mut VecDeque<Bytes>) {
    frame.advance(2 + 2 + 4 + 4);
    let topic = text(&mut frame);
    frame.advance(4);
    let partition = frame.get_i32();
    let length = frame.get_i32() as usize;
    let records = frame.split_to(length);
    let good = u32::from_be_bytes(*records[17..].first_chunk().expect("a batch")) == crc32c::crc32c(&records[21..]);
    let count = i64::from(i32::from_be_bytes(*records[23..].first_chunk().expect("a batch"))) + 1;
    let mut copy = BytesMut::from(&records[..]);
    let mut partitions = state.partitions.lock().expect("no panic inside");
    let log = partitions.entry((topic.clone(), partition)).or_default();
    let base = log.next;
    copy[..8].copy_from_slice(&base.to_be_bytes());
    copy[12..16].copy_from_slice(&0i32.to_be_bytes());
    log.next += count;
    log.bytes += copy.len();
    log.batches.push_back((base, copy.freeze()));
    while log.bytes > CACHE {
        log.bytes -= log.batches.pop_front().map_or(0, |(_, b)| b.len());
    }
    drop(partitions);
    state.appended.notify_waiters();
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

async fn fetch(mut frame: Bytes, correlation: i32, state: &State, out: &mut VecDeque<Bytes>) {
    frame.advance(4 + 4 + 4 + 4 + 1 + 4 + 4 + 4);
    let topic = text(&mut frame);
    frame.advance(4);
    let partition = frame.get_i32();
    frame.advance(4);
    let offset = frame.get_i64();
    frame.advance(8);
    let most = frame.get_i32() as usize;
    let key = (topic, partition);
    let wait = tokio::time::sleep(Duration::from_millis(500));
    tokio::pin!(wait);
    let (next, found) = loop {
        let appended = state.appended.notified();
        tokio::pin!(appended);
        appended.as_mut().enable();
        let (next, found) = read(state, &key, offset, most);
        if !found.is_empty() {
            break (next, found);
        }
        tokio::select! {
            () = &mut appended => {}
            () = &mut wait => break (next, found),
        }
    };
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
    response.put_i16(0);
    response.put_i64(next);
    response.put_i64(next);
    response.put_i64(0);
    response.put_i32(-1);
    response.put_i32(-1);
    response.put_i32(total as i32);
    seal(response, total, out, &found);
}

fn read(state: &State, key: &(String, i32), offset: i64, most: usize) -> (i64, Vec<Bytes>) {
    let partitions = state.partitions.lock().expect("no panic inside");
    let Some(log) = partitions.get(key) else { return (0, Vec::new()) };
    let first = log.batches.partition_point(|(base, _)| *base < offset);
    let mut left = most;
    let fits = |batch: &&(i64, Bytes)| {
        let fits = batch.1.len() <= left;
        left = left.saturating_sub(batch.1.len());
        fits
    };
    (log.next, log.batches.iter().skip(first).take_while(fits).map(|(_, b)| b.clone()).collect())
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
