//! What several nodes of one grid do.

mod answers;
mod arbiter;
mod arrival;
mod bad_peers;
mod behind;
mod chaos;
mod classes;
mod client;
mod failover;
mod full_disk;
mod kubernetes;
mod leaving;
mod load;
mod pods;
mod ports;
mod preparing;
mod readers;
mod recover;
mod recover_control;
mod recover_twice;
mod sent_bytes;
mod signals;
mod watches;
mod wrong_directories;
