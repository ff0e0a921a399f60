//! Commands against the state they meet, and walks of a whole grid.

mod commands;
mod dismiss;
pub(in crate::control) mod fixture;
mod follow;
mod form;
mod health;
mod loss;
mod moves;
mod newcomer;
mod prepare;
mod rebuild;
mod voters;
mod walk;
mod world;
