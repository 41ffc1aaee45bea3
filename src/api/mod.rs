//! What the wire can ask: one table, one file per API.
//!
//! A row says the key, the versions and the handler; dispatch, ApiVersions, metric labels and the fuzz corpus all follow
//! from it, so what is advertised is what is served. An API that is not there has no row. A handler always answers, and
//! does everything that must happen in arrival order before it returns: the future that it may return only waits.

mod api_versions;
mod context;
mod create_topics;
mod delete_topics;
mod describe_cluster;
mod describe_configs;
mod describe_groups;
mod fetch;
mod find_coordinator;
mod frame;
mod group_words;
mod heartbeat;
mod init_producer_id;
mod join_group;
mod leave_group;
mod list_groups;
mod list_offsets;
mod metadata;
mod offset_commit;
mod offset_fetch;
mod offset_for_leader_epoch;
mod outcomes;
mod produce;
mod sync_group;

use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use kafka_protocol::protocol::HeaderVersion;

use crate::broker::Broker;
use crate::env;
use crate::error::Disconnect;
use crate::types::Tick;
use crate::wire::frame::{RequestHeader, api_of};
use crate::wire::message::{FromWire, ToWire};

pub use context::{ANONYMOUS, RequestContext};
pub use frame::Frame;
use outcomes::{Counted, Outcomes};

/// What a handler does with a request.
pub enum Reply<T> {
    /// Here is the answer.
    Now(T),
    /// The request has taken effect in its order; the answer comes when this is done. It is polled when all earlier
    /// requests of the connection have been answered.
    Later(BoxFuture<'static, T>),
    /// As [`Reply::Later`], and the connection starts no further request before it is answered.
    Barrier(BoxFuture<'static, T>),
    /// Nothing is sent: Produce with acks=0.
    Silent,
    /// Nothing is sent, and the connection starts no further request before this is done.
    SilentBarrier(BoxFuture<'static, ()>),
    /// The connection is closed after the earlier answers have been sent.
    Close(Disconnect),
}

impl<T: Send + 'static> Reply<T> {
    /// An answer that is waited for.
    pub fn later(answer: impl Future<Output = T> + Send + 'static) -> Self {
        Self::Later(answer.boxed())
    }

    /// An answer that later requests of the connection wait for.
    pub fn barrier(answer: impl Future<Output = T> + Send + 'static) -> Self {
        Self::Barrier(answer.boxed())
    }

    /// The same reply with its answer transformed.
    pub fn map<U>(self, transform: impl FnOnce(T) -> U + Send + 'static) -> Reply<U> {
        match self {
            Self::Now(answer) => Reply::Now(transform(answer)),
            Self::Later(answer) => Reply::Later(answer.map(transform).boxed()),
            Self::Barrier(answer) => Reply::Barrier(answer.map(transform).boxed()),
            Self::Silent => Reply::Silent,
            Self::SilentBarrier(room) => Reply::SilentBarrier(room),
            Self::Close(reason) => Reply::Close(reason),
        }
    }
}

impl<T> From<T> for Reply<T> {
    fn from(answer: T) -> Self {
        Self::Now(answer)
    }
}

/// One API of the table.
pub struct Row {
    /// The API key.
    pub key: i16,
    /// The API's name, as Kafka's `ApiKeys` writes it.
    pub name: &'static str,
    /// The versions that are served.
    pub versions: RangeInclusive<i16>,
    /// The least version that ApiVersions advertises; below `versions` where clients break on a raised floor.
    pub advertised_from: i16,
    header_version: fn(i16) -> i16,
    serve: fn(&Arc<Broker>, &RequestContext, Bytes) -> Reply<Frame>,
}

impl Row {
    /// True when the headers of this version end with tagged fields.
    pub fn is_flexible(&self, version: i16) -> bool {
        (self.header_version)(version) >= 2
    }
}

/// Each row: key, the crate's request type (its headers and the API's name), versions, the least version advertised where
/// that is another one, and the handler in one of two forms. `typed`: `fn(&Arc<Broker>, &RequestContext, XRequest) ->
/// Reply<XResponse>`, where both are anything that [`FromWire`] and [`ToWire`] know (`Newer<X>` too). `bytes`, with a codec
/// of ours: `fn(&Arc<Broker>, &RequestContext, Bytes) -> Reply<Frame>`, from the request's body to the response's.
macro_rules! apis {
    ($($key:literal $request:ident $min:literal ..= $max:literal $(advertised from $from:literal)?, $form:ident $handler:path;)*) => {
        /// Every API that is served, by ascending key.
        pub static TABLE: &[Row] = &[$(Row {
            key: $key,
            name: api_name(stringify!($request)),
            versions: $min..=$max,
            advertised_from: apis!(@from $min $(, $from)?),
            header_version: <kafka_protocol::messages::$request as HeaderVersion>::header_version,
            serve: apis!(@$form $handler),
        },)*];

        #[cfg(test)]
        const KEYS: &[(i16, i16)] = &[$(($key, <kafka_protocol::messages::$request as kafka_protocol::protocol::Request>::KEY),)*];
    };
    (@from $min:literal) => { $min };
    (@from $min:literal, $from:literal) => { $from };
    (@bytes $handler:path) => { $handler };
    (@typed $handler:path) => {
        |broker, context, body| typed(broker, context, body, |request| $handler(broker, context, request))
    };
}

apis! {
    0 ProduceRequest 3..=13 advertised from 0, bytes produce::serve;
    1 FetchRequest 4..=18, bytes fetch::serve;
    2 ListOffsetsRequest 1..=11, typed list_offsets::handle;
    3 MetadataRequest 0..=13, bytes metadata::serve;
    8 OffsetCommitRequest 2..=10, typed offset_commit::handle;
    9 OffsetFetchRequest 1..=10, typed offset_fetch::handle;
    10 FindCoordinatorRequest 0..=6, typed find_coordinator::handle;
    11 JoinGroupRequest 0..=9, typed join_group::handle;
    12 HeartbeatRequest 0..=4, typed heartbeat::handle;
    13 LeaveGroupRequest 0..=5, typed leave_group::handle;
    14 SyncGroupRequest 0..=5, typed sync_group::handle;
    15 DescribeGroupsRequest 0..=6, typed describe_groups::handle;
    16 ListGroupsRequest 0..=5, typed list_groups::handle;
    18 ApiVersionsRequest 0..=5, bytes api_versions::serve;
    19 CreateTopicsRequest 2..=7, typed create_topics::handle;
    20 DeleteTopicsRequest 1..=6, typed delete_topics::handle;
    22 InitProducerIdRequest 0..=5, typed init_producer_id::handle;
    23 OffsetForLeaderEpochRequest 2..=4, typed offset_for_leader_epoch::handle;
    32 DescribeConfigsRequest 1..=4, typed describe_configs::handle;
    60 DescribeClusterRequest 0..=2, typed describe_cluster::handle;
}

const fn api_name(request: &'static str) -> &'static str {
    request.split_at(request.len() - "Request".len()).0
}

/// The key of ApiVersions, the one API that answers a version it does not know.
pub const API_VERSIONS: i16 = 18;

/// A request of this many bytes that must wait for its answer lets no later one of its connection start before: what it
/// was decoded to is many times its bytes. Produce is left out, whose bytes are records and stay what they are.
const LARGE: usize = 256 << 10;
const PRODUCE: i16 = 0;

/// A request that was started.
pub struct Call {
    /// The row's place in [`TABLE`].
    pub row: usize,
    /// Which API.
    pub api_key: i16,
    /// In which version.
    pub api_version: i16,
    /// The client's number for the request.
    pub correlation_id: i32,
    /// Whether headers of this version end with tagged fields.
    pub flexible: bool,
    /// When the handler returned.
    pub served: Tick,
    /// What the handler made of it.
    pub reply: Reply<Frame>,
}

/// Starts the request in `frame` (without its length prefix), leaving its header in `context`. Everything that has an
/// order has happened when this returns.
pub fn dispatch(broker: &Arc<Broker>, context: &mut RequestContext, frame: Bytes) -> Result<Call, Disconnect> {
    let (api_key, api_version) = api_of(&frame)?;
    let index = TABLE
        .binary_search_by_key(&api_key, |row| row.key)
        .map_err(|_| Disconnect(format!("unknown API key {api_key}").into()))?;
    let row = &TABLE[index];
    if !row.versions.contains(&api_version) && api_key != API_VERSIONS {
        return Err(Disconnect(format!("unsupported version {api_version} of {}", row.name).into()));
    }
    let flexible = row.is_flexible(api_version);
    let named = |Disconnect(why): Disconnect| Disconnect(format!("{} version {api_version}: {why}", row.name).into());
    let is_large = frame.len() >= LARGE && api_key != PRODUCE;
    let (header, body) = RequestHeader::split(frame, flexible).map_err(named)?;
    context.row = index;
    context.api_key = api_key;
    context.api_version = api_version;
    context.correlation_id = header.correlation_id;
    context.client_id = header.client_id;
    let reply = match (row.serve)(broker, context, body) {
        Reply::Close(reason) => Reply::Close(named(reason)),
        Reply::Later(answer) if is_large => Reply::Barrier(answer),
        reply => reply,
    };
    let served = clock(broker, context);
    Ok(Call { row: index, api_key, api_version, correlation_id: context.correlation_id, flexible, served, reply })
}

/// Notes how long the request waited for its turn, and how long its handler took. One look at the clock does for both: the
/// turn came when the request was read, or when the handler before it returned.
fn clock(broker: &Broker, context: &mut RequestContext) -> Tick {
    let turn = context.received.max(context.served);
    let now = env::tick();
    let metrics = broker.metrics.request(context.row);
    metrics.queue_time.record(turn.since_ms(context.received));
    metrics.local_time.record(now.since_ms(turn));
    context.served = now;
    now
}

/// Decodes, lets the handler answer, counts and encodes.
fn typed<Q: FromWire, A: ToWire + Outcomes + Send + 'static>(
    broker: &Broker,
    context: &RequestContext,
    body: Bytes,
    handle: impl FnOnce(Q) -> Reply<A>,
) -> Reply<Frame> {
    let version = context.api_version;
    match Q::from_wire(body, version) {
        Ok(request) => {
            let counted = Counted::of(broker, context);
            handle(request).map(move |answer| counted.frame(&answer, version))
        }
        Err(reason) => Reply::Close(reason),
    }
}

#[cfg(test)]
mod tests;
