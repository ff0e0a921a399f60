//! Metrics and probes over HTTP/1.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use tonic::Status;

use super::metrics::Metrics;
use crate::entrance::is_grpc;
use crate::grid::Grid;

#[derive(Debug, Clone)]
struct Observed {
    grid: Arc<Grid>,
    metrics: Arc<Metrics>,
}

/// `/metrics`, `/livez` and `/readyz`.
pub(crate) fn router(grid: Arc<Grid>, metrics: Arc<Metrics>) -> Router {
    Router::new()
        .route("/metrics", get(metrics_text))
        .route("/livez", get(|| async { "ok\n" }))
        // A node that answers has loaded its functions and serves all partitions.
        .route("/readyz", get(|| async { "ok\n" }))
        .fallback(not_found)
        .with_state(Observed { grid, metrics })
}

/// Where nothing is. A call of a service that is unknown here is told so as the framework does it.
pub(crate) async fn not_found(request: Request) -> Response {
    if is_grpc(&request) {
        return Status::unimplemented("").into_http();
    }
    (StatusCode::NOT_FOUND, "not found: /metrics, /livez and /readyz are here\n").into_response()
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
