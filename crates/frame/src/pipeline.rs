//! The frames of `MapService.Pipeline`, between a client and a node: operations in, one result for each of them out.
//! They mean what the messages of the same names in `proto/wattle/v1/map.proto` mean.
//!
//! Names are said once per frame and pointed to by their place, and values are copied once, from where they are
//! into the frame: that is what makes it faster than a list of protobuf messages.

mod facts;
mod operation;
mod operations;
mod result;
mod results;

pub use facts::Facts;
pub use operation::{Condition, NameIndex, Operation, TtlChange};
pub use operations::{MAX_NAMES, Operations, OperationsWriter};
pub use result::{Failure, OperationResult, Outcome};
pub use results::{Results, ResultsWriter};
