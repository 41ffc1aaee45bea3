//! Who asks, in which version, over which connection: what a handler knows of a request besides its body.
//!
//! A connection owns one context and overwrites its request fields for each request, so that a request costs no clone.
//! A handler that answers later copies out what it needs. Nothing here may grow with the connection's age.

use std::net::IpAddr;
use std::sync::Arc;

use kafka_protocol::protocol::StrBytes;

use crate::types::Tick;

/// The principal of a peer that did not authenticate.
pub const ANONYMOUS: &str = "User:ANONYMOUS";

/// The header of the request at hand, and the connection it came by.
#[derive(Clone, Debug)]
pub struct RequestContext {
    /// The row's place in the table.
    pub row: usize,
    /// Which API.
    pub api_key: i16,
    /// In which version: one that the table's row serves.
    pub api_version: i16,
    /// The client's number for the request, returned with the answer.
    pub correlation_id: i32,
    /// What the client calls itself. A slice of the frame: copy it before keeping it.
    pub client_id: Option<StrBytes>,
    /// The authenticated principal, `User:ANONYMOUS` without authentication.
    pub principal: Arc<str>,
    /// The name of the listener that the client connected to.
    pub listener: Arc<str>,
    /// The client's address.
    pub client_host: IpAddr,
    /// A number for the connection, never used again in this process.
    pub connection: u64,
    /// When the request was read.
    pub received: Tick,
    /// When the handler of the connection's last request returned.
    pub served: Tick,
}

impl RequestContext {
    /// The context of a new connection; the request fields are overwritten before a handler sees it.
    pub fn of_connection(connection: u64, listener: Arc<str>, client_host: IpAddr) -> Self {
        Self {
            row: 0,
            api_key: -1,
            api_version: -1,
            correlation_id: -1,
            client_id: None,
            principal: ANONYMOUS.into(),
            listener,
            client_host,
            connection,
            received: Tick(0),
            served: Tick(0),
        }
    }

    /// The client's id, empty when it has none.
    pub fn client_id(&self) -> &str {
        self.client_id.as_deref().unwrap_or_default()
    }
}
