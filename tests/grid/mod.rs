//! What a grid of one node does.

mod linearizability;
mod maps;
mod retries;
mod scan;
mod smoke;
mod ttl;
