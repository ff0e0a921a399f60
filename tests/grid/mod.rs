//! What a grid of one node does.

mod smoke;
