//! The state that all nodes agree on: the grid, maps, functions and their versions; and the commands that change it.
//!
//! A command is decided against the state it meets and either changes it or is refused; the same commands in the same order
//! give the same state on every node. How commands become durable and reach the nodes is not known here.

mod command;
mod function;
pub mod grid;
mod group;
mod state;

pub use command::{Applied, Command, Promote, Refusal};
pub use function::{Function, FunctionKind, FunctionOptions, FunctionState, FunctionVersion};
pub use group::{GroupApplied, GroupCommand, GroupRefusal, GroupState};
pub use state::ControlState;
