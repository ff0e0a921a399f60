//! Metrics and probes over HTTP/1.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use tonic::Status;
use wattle_core::control::grid::PartitionState;

use super::metrics::Metrics;
use super::safety::{Unsafe, check_copies, check_safe};
use crate::entrance::is_grpc;
use crate::grid::Grid;

#[derive(Debug, Clone)]
struct Observed {
    grid: Arc<Grid>,
    metrics: Arc<Metrics>,
    /// Ready once is ready for good: who serves goes on when the control group is out of reach.
    is_ready: Arc<AtomicBool>,
}

/// `/metrics`, `/livez`, `/readyz` and `/safez`.
pub(crate) fn router(grid: Arc<Grid>, metrics: Arc<Metrics>) -> Router {
    Router::new()
        .route("/metrics", get(metrics_text))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/safez", get(safe))
        .fallback(not_found)
        .with_state(Observed { grid, metrics, is_ready: Arc::default() })
}

/// A node that answers has loaded its functions. That the partitions have their backups is waited for: so who restarts nodes one after the
/// other waits, too. What is lost does not come back by waiting.
async fn ready(State(observed): State<Observed>) -> Response {
    if observed.is_ready.load(Ordering::Relaxed) {
        return "ok\n".into_response();
    }
    let ready = check_copies(&observed.grid, &[PartitionState::Lost]).await;
    observed.is_ready.fetch_or(ready.is_ok(), Ordering::Relaxed);
    told(ready.map(|_| ()))
}

async fn safe(State(observed): State<Observed>) -> Response {
    told(check_safe(&observed.grid).await)
}

fn told(checked: Result<(), Unsafe>) -> Response {
    match checked {
        Ok(()) => "ok\n".into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

/// Where nothing is. A call of a service that is unknown here is told so as the framework does it.
pub(crate) async fn not_found(request: Request) -> Response {
    if is_grpc(&request) {
        return Status::unimplemented("").into_http();
    }
    (StatusCode::NOT_FOUND, "not found: /metrics, /livez, /readyz and /safez are here\n").into_response()
}

async fn metrics_text(State(observed): State<Observed>) -> Response {
    match observed.metrics.text(&observed.grid).await {
        Ok(text) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(failure) => (StatusCode::SERVICE_UNAVAILABLE, format!("{failure}\n")).into_response(),
    }
}
