//! What functions do in a grid of one node, with guests as users build them.

mod all;
mod broken;
mod examples;
mod lifecycle;
mod open_files;
mod restart;
mod suspended;
