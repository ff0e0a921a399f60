//! What Wattle decides, without doing any of it: the store of a partition, the partition itself with its completion
//! records, how its copies agree, the state of the control group, and who is taken for alive. Nothing here reads a clock,
//! draws randomness, or does IO: times and seeds are arguments, so that the same calls give the same states everywhere.

pub mod control;
pub mod ids;
pub mod limits;
pub mod map;
pub mod membership;
pub mod name;
pub mod partition;
pub mod replication;
pub mod slew;
pub mod store;
