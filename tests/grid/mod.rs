//! What a grid of one node does.

mod flips;
mod gone;
mod linearizability;
mod maps;
mod overtaken;
mod pipeline;
mod records;
mod reflection;
mod refused;
mod retries;
mod scan;
mod smoke;
mod status;
mod stop;
mod ttl;
mod watch;
