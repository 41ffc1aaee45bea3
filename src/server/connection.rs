//! One connection: frames in, answers out, in one task.
//!
//! The task reads and starts every complete request before it touches the answers, so a burst of requests costs one
//! receive and one send. Requests take effect in the order of their arrival, inside the handler; answers leave in that
//! order too, and what a request still waits for is polled when it is the oldest. A connection with enough in flight is
//! not read: that is all the back-pressure there is. It must never hold a lock while it is polled, wait for another
//! connection (but for the budget of request bytes), or let one request's failure reach beyond itself.

use std::borrow::Cow;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::net::TcpStream;

use super::Shared;
use super::budget::Grant;
use super::input::{Input, ReadError};
use super::output::Output;
use super::registry::Pulse;
use crate::api::RequestContext;
use crate::env;
use crate::error::Disconnect;
use crate::metrics::{CloseCause, ListenerMetrics};
use crate::types::Tick;

/// How long a connection that is quiet keeps its buffer.
const REST_AFTER_MS: u64 = 1_000;
/// How long the answers to earlier requests may take once the connection is to end.
const FAREWELL_MS: u64 = 1_000;
/// How long a connection may go beyond the budget of request bytes while others wait for it.
const BEYOND_MS: u64 = 5_000;

/// Why a connection ends, and since when.
#[derive(Clone, Debug)]
pub struct Ending {
    /// What is counted.
    pub cause: CloseCause,
    /// What is logged.
    pub why: Cow<'static, str>,
}

impl Ending {
    fn because(cause: CloseCause, why: impl Into<Cow<'static, str>>) -> Self {
        Self { cause, why: why.into() }
    }
}

/// A connection, as a future of its ending.
pub struct Connection {
    stream: TcpStream,
    shared: Arc<Shared>,
    metrics: Arc<ListenerMetrics>,
    pulse: Arc<Pulse>,
    context: RequestContext,
    input: Input,
    output: Output,
    /// Bytes of the shared budget that the arriving frame holds, and since when beyond the limit.
    charged: usize,
    beyond: Option<Tick>,
    /// When a byte last moved.
    active: Tick,
    /// No more is read; what is owed is sent until this moment.
    ending: Option<(Ending, Tick)>,
}

impl Connection {
    /// A connection that was just accepted.
    pub fn new(stream: TcpStream, shared: Arc<Shared>, pulse: Arc<Pulse>, context: RequestContext) -> Self {
        let metrics = shared.metrics.listener(&context.listener);
        let input = Input::new(shared.settings.max_request_bytes);
        let (output, active) = (Output::new(&shared.metrics.unsent), env::tick());
        Self { stream, shared, metrics, pulse, context, input, output, charged: 0, beyond: None, active, ending: None }
    }

    fn end(&mut self, cause: CloseCause, why: impl Into<Cow<'static, str>>, now: Tick) {
        self.end_by(cause, why, now.plus_ms(FAREWELL_MS));
    }

    fn end_by(&mut self, cause: CloseCause, why: impl Into<Cow<'static, str>>, farewell: Tick) {
        if self.ending.is_none() {
            self.ending = Some((Ending::because(cause, why), farewell));
        }
    }

    fn may_start(&self) -> bool {
        self.ending.is_none() && self.output.has_room()
    }

    /// Starts every complete request, and reads until there is nothing to read. True when a byte came.
    fn receive(&mut self, cx: &mut Context<'_>, now: Tick) -> bool {
        let mut came = false;
        while self.may_start() {
            match self.input.frame() {
                Ok(Some(frame)) => {
                    self.release();
                    self.start(frame, now);
                    continue;
                }
                Ok(None) => {}
                Err(Disconnect(why)) => self.end(CloseCause::Frame, why, now),
            }
            if self.ending.is_some() || !self.is_granted(now) {
                break;
            }
            match self.input.poll_fill(&mut self.stream, cx) {
                Poll::Pending => break,
                Poll::Ready(Ok(0)) if self.input.is_partial() => {
                    self.end(CloseCause::Peer, "the peer closed the connection in the middle of a request", now);
                }
                Poll::Ready(Ok(0)) => self.end(CloseCause::Peer, "the peer closed the connection", now),
                Poll::Ready(Ok(bytes)) => {
                    came = true;
                    self.active = now;
                    self.metrics.bytes_in.add(bytes as u64);
                }
                Poll::Ready(Err(ReadError::Frame(Disconnect(why)))) => self.end(CloseCause::Frame, why, now),
                Poll::Ready(Err(ReadError::Socket(error))) => self.fail(&error, now),
            }
        }
        came
    }

    fn start(&mut self, frame: bytes::Bytes, now: Tick) {
        self.context.received = now;
        self.metrics.requests.add(1);
        let started = self.shared.service.start(&mut self.context, frame).and_then(|call| {
            self.shared.metrics.request(call.row).requested(call.api_version);
            self.output.push(call, now)
        });
        if let Err(Disconnect(why)) = started {
            self.end(CloseCause::Request, why, now);
        }
    }

    /// Asks the shared budget for what the arriving frame needs next.
    fn is_granted(&mut self, now: Tick) -> bool {
        // A length that cannot be was refused when the frame was looked for.
        let wanted = self.input.beyond_free().unwrap_or(0);
        if wanted <= self.charged {
            return true;
        }
        match self.shared.budget.take(wanted - self.charged, &self.pulse) {
            Grant::Within => {}
            Grant::Beyond => {
                self.beyond.get_or_insert(now);
            }
            Grant::Wait => {
                self.input.excuse();
                return false;
            }
        }
        self.charged = wanted;
        true
    }

    fn release(&mut self) {
        if self.charged > 0 {
            self.shared.budget.release(std::mem::take(&mut self.charged), &self.pulse);
            self.beyond = None;
        }
    }

    /// Sends what is ready. True when room was made for more requests.
    fn send(&mut self, cx: &mut Context<'_>) -> bool {
        if self.output.is_empty() {
            return false;
        }
        let had_room = self.output.has_room();
        let now = env::tick();
        loop {
            let (shared, metrics) = (&self.shared, &self.metrics);
            self.output.gather(cx, |asked| {
                let request = shared.metrics.request(asked.row);
                request.remote_time.record(now.since_ms(asked.served));
                request.total_time.record(now.since_ms(asked.received));
                metrics.responses.add(1);
            });
            if !self.output.is_unsent() {
                break;
            }
            match self.output.poll_write(&mut self.stream, cx) {
                Poll::Pending => break,
                Poll::Ready(Ok(bytes)) => {
                    self.active = now;
                    self.metrics.bytes_out.add(bytes as u64);
                }
                Poll::Ready(Err(error)) => {
                    // Nothing that is owed can be sent any more.
                    self.fail(&error, now);
                    self.output.give_up();
                    break;
                }
            }
        }
        !had_room && self.output.has_room()
    }

    fn fail(&mut self, error: &std::io::Error, now: Tick) {
        self.end(CloseCause::Socket, format!("the socket failed: {error}"), now);
    }

    /// What is overdue at this moment, and the next moment at which something may be.
    fn deadlines(&mut self, now: Tick) -> Result<Tick, Ending> {
        if let Some((ending, farewell)) = &self.ending {
            return if self.output.is_empty() || *farewell <= now { Err(ending.clone()) } else { Ok(*farewell) };
        }
        let mut next = Tick(u64::MAX);
        if self.may_start() {
            if let Some(slow_at) = self.input.slow_at(now) {
                let why = "a request arrives too slowly";
                next = due(next, slow_at, now).ok_or_else(|| Ending::because(CloseCause::Slow, why))?;
            }
            if let Some(since) = self.beyond {
                let why = "a large request arrives too slowly while memory for requests is short";
                // While nobody waits for the memory it may take its time.
                let excused = since.plus_ms(BEYOND_MS) <= now && !self.shared.budget.is_waited_for();
                let since = if excused { now } else { since };
                self.beyond = Some(since);
                next =
                    due(next, since.plus_ms(BEYOND_MS), now).ok_or_else(|| Ending::because(CloseCause::Slow, why))?;
            }
        } else {
            self.input.excuse();
        }
        if self.output.is_empty() || self.output.is_unsent() {
            let why = if self.output.is_empty() { "it was idle" } else { "the peer does not read" };
            let idle = self.active.plus_ms(self.shared.settings.max_idle_ms);
            next = due(next, idle, now).ok_or_else(|| Ending::because(CloseCause::Idle, why))?;
        }
        if self.input.holds() {
            match due(next, self.active.plus_ms(REST_AFTER_MS), now) {
                Some(rest) => next = rest,
                None => self.input.rest(),
            }
        }
        Ok(next)
    }
}

/// The earlier of the two; nothing when `moment` has come.
fn due(next: Tick, moment: Tick, now: Tick) -> Option<Tick> {
    (moment > now).then(|| next.min(moment))
}

impl Future for Connection {
    type Output = Ending;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ending> {
        self.pulse.attend(cx.waker());
        let now = env::tick();
        loop {
            if self.shared.is_draining() {
                // How long is for the drain to say.
                self.end_by(CloseCause::Shutdown, "the broker stops", Tick(u64::MAX));
            }
            let (service, mut received) = (Arc::clone(&self.shared), false);
            service.service.burst(&mut || received = self.receive(cx, now));
            let has_room = self.send(cx);
            if !received && !has_room {
                break;
            }
        }
        if self.shared.is_stopped() {
            return Poll::Ready(Ending::because(CloseCause::Shutdown, "the broker stops and waits no longer"));
        }
        match self.deadlines(now) {
            Ok(next) => {
                self.pulse.remind_at(next);
                Poll::Pending
            }
            Err(ending) => Poll::Ready(ending),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.release();
    }
}
