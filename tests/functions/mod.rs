//! What functions do in a grid of one node.
