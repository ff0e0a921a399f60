//! Metrics and probes over HTTP/1.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::metrics::Metrics;
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
        .with_state(Observed { grid, metrics })
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
