//! What several nodes of one grid do.

mod answers;
mod arrival;
mod failover;
