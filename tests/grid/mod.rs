//! What a grid of one node does.

mod retries;
mod smoke;
