//! What a node tells about itself: logs, metrics, probes.

mod http;
mod logs;
mod metrics;
mod safety;

pub(crate) use http::router;
pub use logs::start_logs;
pub(crate) use metrics::Metrics;
