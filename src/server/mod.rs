//! The operator's own server: `/live`, `/ready` and `/metrics`. Does I/O; shows no secret, names no object.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;

use crate::controller::Cache;
use crate::controller::metrics::Metrics;

/// The media type of the Prometheus text format that is written.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Access ends all the same: no reason to be called not ready.
const UNPROVED: &str = "- nothing is issued: the admission policies were not seen to hold\n";

/// What the server shows.
pub struct Shown {
    /// Of what `/ready` speaks.
    pub cache: Arc<Cache>,
    /// What was counted.
    pub metrics: Metrics,
    /// What `/metrics` holds.
    pub registry: Registry,
}

/// Takes the address.
///
/// # Errors
/// When it can't be had: it is in use, or not of this machine.
pub async fn bind(listen: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(listen)
        .await
        .with_context(|| format!("--listen {listen} can't be used: choose a free address"))
}

/// Serves until it fails.
///
/// # Errors
/// When the server ends.
pub async fn serve(listener: TcpListener, shown: Shown) -> anyhow::Result<()> {
    let app = Router::new()
        .route("/live", get(|| async { "live\n" }))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .with_state(Arc::new(shown));
    axum::serve(listener, app).await.context("the server ended")
}

async fn ready(State(shown): State<Arc<Shown>>) -> (StatusCode, String) {
    let missing = shown.cache.missing();
    if missing.is_empty() {
        let held = if shown.metrics.is_proved() { "" } else { UNPROVED };
        let uninstalling = shown.cache.uninstalling();
        let uninstalling = uninstalling.map_or_else(String::new, |words| format!("- {words}\n"));
        return (StatusCode::OK, format!("ready\n{held}{uninstalling}"));
    }
    let mut text = String::from("not ready\n");
    for line in missing {
        // Writing to a String can't fail.
        let _ = writeln!(text, "- {line}");
    }
    (StatusCode::SERVICE_UNAVAILABLE, text)
}

async fn metrics(State(shown): State<Arc<Shown>>) -> Response {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &shown.registry) {
        Ok(()) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "the metrics could not be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
