//! The operator, behind the double of the Kubernetes API server, and grids of pods that it looks after.

mod failures;
mod grids;
mod maps_and_functions;
mod observer;
mod operated;
mod upgrades;
