//! What there is for clusters: the chart as `helm` renders it, and the manifests made of it, held against Kubernetes' types and rules.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod chart;
mod cluster;
mod helm;
mod manifests;
mod objects;
mod types;
mod values;
