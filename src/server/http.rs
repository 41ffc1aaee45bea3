//! `/metrics`, `/healthz` and `/readyz` over HTTP, on `ottla.http.listener`.
//!
//! Read only, without authentication, on the loopback by default: nothing here may show more than counts.

use std::net::TcpListener as StdListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use axum::Router;
use axum::http::{StatusCode, header};
use axum::routing::get;

use crate::metrics::Metrics;

/// A socket for HTTP, listening.
pub struct Http(StdListener);

/// Opens the socket; nothing when the key is empty. The error is a sentence for the operator.
pub fn bind(address: &str) -> Result<Option<Http>, String> {
    if address.is_empty() {
        return Ok(None);
    }
    StdListener::bind(address)
        .and_then(|socket| socket.set_nonblocking(true).map(|()| Some(Http(socket))))
        .map_err(|error| format!("ottla.http.listener: cannot listen on {address}: {error}; \"\" turns it off"))
}

impl Http {
    /// Where it listens.
    pub fn address(&self) -> std::io::Result<std::net::SocketAddr> {
        self.0.local_addr()
    }

    /// Serves until the process ends. `ready` says whether clients are served.
    pub fn serve(self, metrics: Arc<Metrics>, ready: Arc<AtomicBool>) -> std::io::Result<()> {
        let socket = tokio::net::TcpListener::from_std(self.0)?;
        let page = move || {
            let text = metrics.render();
            async move { ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text) }
        };
        let readiness = move || {
            let answer = if ready.load(Relaxed) {
                (StatusCode::OK, "ready\n")
            } else {
                (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
            };
            async move { answer }
        };
        let routes = Router::new()
            .route("/metrics", get(page))
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/readyz", get(readiness));
        tokio::spawn(async move {
            if let Err(error) = axum::serve(socket, routes).await {
                tracing::error!("the HTTP listener ended: {error}");
            }
        });
        Ok(())
    }
}
