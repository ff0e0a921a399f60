//! The operator, behind the double of the Kubernetes API server: on a node of the test, and on grids of pods.

mod failures;
mod grids;
mod observer;
mod one_node;
mod operated;
mod upgrades;
