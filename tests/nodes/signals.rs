//! What a process does that is told to end before it serves.

use rustix::process::Signal;

use crate::harness::grid::free_addresses;
use crate::harness::process::Starting;

/// The first process of a container is not ended by the system: it has to listen by itself. Who does says so, and that it is no failure.
#[tokio::test]
async fn a_process_that_waits_for_a_grid_ends_when_it_is_told_to() {
    for signal in [Signal::TERM, Signal::INT] {
        let nobody = free_addresses(1).remove(0);
        let mut waiting = Starting::with(&["--join", &nobody]);
        waiting.says("waiting for a grid").await.expect("it waits");
        waiting.signal(signal);
        let stopping = "stopping before this node serves; a second signal ends at once";
        assert!(waiting.says(stopping).await.is_some(), "{signal:?}");
        assert!(waiting.says("stopped").await.is_some(), "{signal:?}");
        assert_eq!(waiting.exit_code().await, Some(0), "{signal:?}");
    }
}
